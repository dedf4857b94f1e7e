"""Networks that describe images by features, for the figures of `i2i.metrics.distribution`.

Images are resized cleanly (Parmar et al. 2022, arXiv:2104.11222): by an antialiased bicubic filter, without rounding to
8 bits on the way. What cannot be had is an error that says how to get it; there are never random weights.
"""

import difflib
import hashlib
import io
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.download import cache_folder, download, sha256_of
from i2i.errors import InputError, MissingWeights
from i2i.metrics.classifier import Classifier, holds_classifier, load_classifier
from i2i.metrics.segmenter import Segmenter, holds_segmenter, load_segmenter
from i2i.state_dicts import read_state_dict

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
INCEPTION_SHA256_BEGINS = "6726825d"
INCEPTION_PX = 299
# As Stein et al. 2023 (arXiv:2306.04675) compare generators.
DINOV2 = "vit_large_patch14_dinov2.lvd142m"
DINOV2_PX = 224
PIXELS_PX = 16


@dataclass(frozen=True, kw_only=True)
class FeatureExtractor:
    """Describes images by numbers. Nothing in it changes: several threads may call it.

    Attributes:
        slug: what it is called in the names of figures: letters, digits and underscores.
        key: identifies what it computes, with the sha256 of its weights.
        length: D, how many features an image has, of the channels that `load_features` was told.
        classes: how many logits it gives besides; 0: none.
        channels: that images must have; None: any.
        compute: (N, C, H, W) in [-1, 1] to what a call gives.
    """

    slug: str
    key: str
    length: int
    classes: int = 0
    channels: int | None = 3
    compute: Callable[[Tensor], Mapping[str, Tensor]]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Describe images.

        Args:
            images: (N, C, H, W) in [-1, 1], of any size, on the device that it was loaded for.

        Returns:
            "features" (N, D) float32 and, where it has classes, "logits" (N, K) float32.

        Raises:
            InputError: images of other channels.
        """
        if images.ndim != 4 or self.channels not in (None, images.shape[1]):
            raise InputError(
                f"features of {self.slug} need images (N, {self.channels or 'C'}, H, W), got {tuple(images.shape)}: "
                "figures of images that are not RGB come from --features pixels, or from a classifier trained on them"
            )
        return {name: value.float() for name, value in self.compute(images.float().clamp(-1, 1)).items()}


def load_features(
    name: str | Path, *, weights: str | Path | None = None, device: torch.device | str = "cpu", channels: int = 3
) -> FeatureExtractor:
    """A network that describes images, by name.

    Args:
        name: one of
            - "inception": FID's Inception (Szegedy et al. 2015) with torch-fidelity's weights: 2048 features and 1008
              logits;
            - "dinov2": DINOv2 ViT-L/14 at 224 px (Stein et al. 2023): 1024 features;
            - any model of timm, such as "resnet50.a1_in1k", at the size and colours that it was trained with;
            - a file that `save_segmenter` or `save_classifier` wrote;
            - "pixels": no network and no weights: images averaged to 16 × 16. Says whether layout and colours are
              right, and nothing about details.
        weights: a file with the network's weights: for "inception" torch-fidelity's, for a model of timm those that
            its hub has. None: they are fetched once and kept.
        device: where it computes.
        channels: of the images, which decides the length of "pixels"; networks take only their own number.

    Raises:
        MissingWeights: the weights cannot be fetched.
        InputError: no such name, a file that cannot be read or does not fit, or weights where none are needed.
    """
    place = Path(name).expanduser()
    weights = None if weights is None else Path(weights).expanduser()
    own = place.suffix == ".safetensors"
    if weights is not None and (own or name == "pixels"):
        raise InputError(f"features of {name} take no weights, got {weights}: leave them out")
    if own:
        return _load_own(place, device)
    match str(name):
        case "pixels":
            return FeatureExtractor(
                slug="pixels",
                key=f"pixels {PIXELS_PX} {channels}",
                length=channels * PIXELS_PX**2,
                channels=None,
                compute=lambda images: {"features": small_images(images)},
            )
        case "inception":
            return _load_inception(weights, device)
        case "dinov2":
            return replace(_load_timm(DINOV2, weights, device, size_px=DINOV2_PX), slug="dinov2")
        case other:
            return _load_timm(other, weights, device)


def feature_slug(name: str | Path) -> str:
    """What a network that `load_features` knows by that name is called in the names of figures."""
    place = Path(name)
    return re.sub(r"\W+", "_", (place.stem if place.suffix == ".safetensors" else str(name)).lower()).strip("_")


def small_images(images: Tensor) -> Tensor:
    """Images (N, C, H, W) averaged to 16 × 16, as (N, C · 256): their layout and colours, without details."""
    return F.adaptive_avg_pool2d(images.float(), PIXELS_PX).flatten(1)


def clean_resize(images: Tensor, size_px: int | tuple[int, int]) -> Tensor:
    """Resize images (N, C, H, W) in [-1, 1] by an antialiased bicubic filter, as Pillow does with floats; clipped."""
    size = (size_px, size_px) if isinstance(size_px, int) else size_px
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(-1, 1)


def _load_inception(weights: Path | None, device: torch.device | str) -> FeatureExtractor:
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = _fetched_inception() if weights is None else weights
    tensors = _tensors(path, of="FID's Inception")
    buffer = io.BytesIO()  # torch-fidelity reads a file by itself, and would run what is in it
    torch.save(tensors, buffer)
    buffer.seek(0)
    try:
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], buffer)
    except RuntimeError as error:
        difference = textwrap.shorten(str(error), width=200)  # of what may be hundreds of tensors
        raise InputError(
            f"{path} does not hold FID's Inception ({difference}); give the file that {INCEPTION_URL} has"
        ) from error
    network = network.to(device)

    def compute(images: Tensor) -> dict[str, Tensor]:
        pixels = ((clean_resize(images, INCEPTION_PX) + 1) * 127.5).round().to(torch.uint8)
        features = network(pixels)
        # Without its bias, as the Inception Score has been computed ever since.
        return {"features": features, "logits": features @ network.fc.weight.T}

    return FeatureExtractor(
        slug="inception",
        key=f"inception {INCEPTION_PX} {_digest(network)}",
        length=2048,
        classes=1008,
        compute=compute,
    )


def _fetched_inception() -> Path:
    path = cache_folder() / "weights" / INCEPTION_FILE
    reason = f"the weights of FID's Inception are missing: get {INCEPTION_URL} and give it as --feature-weights"
    try:
        download(INCEPTION_URL, path)
    except InputError as error:
        raise MissingWeights(reason, here=str(error)) from error
    if not sha256_of(path).startswith(INCEPTION_SHA256_BEGINS):
        damaged = f"{path} is damaged, or another file than its name says: delete it and try again"
        raise MissingWeights(reason, here=damaged)
    return path


def _load_timm(
    name: str, weights: Path | None, device: torch.device | str, *, size_px: int | None = None
) -> FeatureExtractor:
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*timm.list_models(), "inception", "dinov2", "pixels"], n=3)
        listed = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(
            f"{name} is no network that describes images: expected inception, dinov2, pixels, none, a model of timm, "
            f"or a .safetensors file that i2i has saved{listed}"
        )
    if weights is None:
        network = _fetched_timm(name)
    else:
        network = timm.create_model(name, pretrained=False, num_classes=0)
        _fill(network, weights, name=name)
    settings = timm.data.resolve_data_config({}, model=network)
    size = (size_px, size_px) if size_px else tuple(settings["input_size"][1:])
    if size != tuple(settings["input_size"][1:]):
        network.set_input_size(img_size=size)
    network = network.eval().requires_grad_(False).to(device)
    mean, deviation = (torch.tensor(settings[part], device=device).view(3, 1, 1) for part in ("mean", "std"))

    def compute(images: Tensor) -> dict[str, Tensor]:
        return {"features": network(((clean_resize(images, size) + 1) / 2 - mean) / deviation)}

    with torch.no_grad():
        length = compute(torch.zeros(1, 3, *size, device=device))["features"].shape[1]
    key = f"{name} {size} {settings['mean']} {settings['std']} {_digest(network)}"
    return FeatureExtractor(slug=feature_slug(name), key=key, length=length, compute=compute)


def _fetched_timm(name: str) -> Any:
    """A model with its weights from its hub, which are kept in that library's own cache."""
    import timm

    try:
        return timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # of whatever type the hub's client raises without a connection
        url = f"https://huggingface.co/timm/{name}"
        raise MissingWeights(
            f"the weights of {name} are missing: get model.safetensors of {url} and give it as --feature-weights",
            here=f"{url} cannot be fetched: {str(error).strip().partition(chr(10))[0]}",
        ) from error


def _fill(network: nn.Module, path: Path, *, name: str) -> None:
    """Put the weights of a file into a model without its classifier, each tensor checked."""
    found = _tensors(path, of=name)
    for key, tensor in network.state_dict().items():
        if key not in found or found[key].shape != tensor.shape:
            holds = tuple(found[key].shape) if key in found else "nothing"
            raise InputError(
                f"{path} does not hold timm's {name}: expected {key} {tuple(tensor.shape)}, found {holds}; give "
                f"model.safetensors of https://huggingface.co/timm/{name}"
            )
    network.load_state_dict({key: found[key] for key in network.state_dict()})


def _tensors(path: Path, *, of: str) -> dict[str, Tensor]:
    try:
        return read_state_dict(path)
    except InputError as error:
        raise InputError(f"the weights of {of} cannot be used: {error}") from error


def _load_own(path: Path, device: torch.device | str) -> FeatureExtractor:
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a segmenter or classifier that i2i has saved")
    network: Segmenter | Classifier
    if holds_segmenter(path):
        network = load_segmenter(path).to(device)
        length, classes, channels = network.head.in_channels * 4, 0, 3
    elif holds_classifier(path):
        network = load_classifier(path).to(device)
        length, classes, channels = network.head.in_features, network.classes, network.arguments["channels"]
    else:
        raise InputError(
            f"{path} holds neither a segmenter nor a classifier that i2i has saved; weights of a model of timm are "
            "given beside its name: --features NAME --feature-weights FILE"
        )

    def compute(images: Tensor) -> dict[str, Tensor]:
        features = network.features(images)
        return {"features": features} | ({"logits": network.head(features)} if classes else {})

    return FeatureExtractor(
        slug=feature_slug(path),
        key=f"{type(network).__name__} {network.arguments} {_digest(network)}",
        length=length,
        classes=classes,
        channels=channels,
        compute=compute,
    )


def _digest(network: nn.Module) -> str:
    """sha256 of all weights, whatever file they came in."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
