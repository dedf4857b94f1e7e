"""How far apart two pictures look: LPIPS, Zhang et al. 2018 (arXiv:1801.03924)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.download import cache_folder, download
from i2i.errors import InputError, MissingWeights
from i2i.state_dicts import read_state_dict


class Lpips(nn.Module):
    """Learned Perceptual Image Patch Similarity: 0 for equal pictures, larger for ones that look less alike.

    A network trained on ImageNet looks at both. The features of each position are scaled to length one, their squared
    differences weighted by what was learned from people's judgements, averaged over positions and summed over layers
    (eq. 1). `load_lpips` has the published weights.

    Args:
        backbone: the network, layer after layer.
        layers: the numbers of the layers whose outputs are compared, ascending.
        heads: for each of them the weights of its channels, (1, channels, 1, 1).
        smallest_px: the shortest side that the network can take.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, *, backbone: nn.Sequential, layers: Sequence[int], heads: Sequence[Tensor], smallest_px: int
    ) -> None:
        super().__init__()
        self.backbone = backbone[: layers[-1] + 1].requires_grad_(False)
        self.layers = tuple(layers)
        self.heads = nn.ParameterList(heads).requires_grad_(False)
        self.smallest_px = smallest_px
        # Of ImageNet, for images in [-1, 1], rounded as the authors did.
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare pictures one by one.

        Args:
            output, target: (N, 3, H, W) in [-1, 1]; of images in [0, 1] twice the value less 1.

        Returns:
            (N,), at least 0.

        Raises:
            InputError: the shapes differ, are not those of RGB images, or are too small.
        """
        if output.shape != target.shape or output.ndim != 4 or output.shape[1] != 3:
            raise InputError(
                "LPIPS compares batches of RGB images (N, 3, H, W) of one shape, got "
                f"{tuple(output.shape)} and {tuple(target.shape)}"
            )
        if min(output.shape[2:]) < self.smallest_px:
            raise InputError(f"LPIPS needs images of at least {self.smallest_px} px, got {tuple(output.shape[2:])}")
        distances = [
            F.conv2d((first - second).square(), head).mean(dim=(1, 2, 3))
            for first, second, head in zip(self._features(output), self._features(target), self.heads, strict=True)
        ]
        return torch.stack(distances).sum(dim=0)

    def _features(self, images: Tensor) -> list[Tensor]:
        maps = (images.to(self.mean.dtype) - self.mean) / self.deviation
        found = []
        for number, layer in enumerate(self.backbone):
            maps = layer(maps)
            if number in self.layers:
                found.append(F.normalize(maps, dim=1, eps=1e-10))
        return found


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """A file as published, and what it is called in the cache."""

    name: str
    url: str
    sha256: str
    size_bytes: int


ALEXNET = _Weights(
    name="alexnet-owt-7be5be79.pth",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    size_bytes=244_408_911,
)
VGG16 = _Weights(
    name="vgg16-397923af.pth",
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    size_bytes=553_433_881,
)
# torchmetrics and the authors' package hold the same files.
HEADS_URL = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1"
ALEXNET_HEADS = _Weights(
    name="lpips-0.1-alex.pth",
    url=f"{HEADS_URL}/alex.pth",
    sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    size_bytes=6009,
)
VGG16_HEADS = _Weights(
    name="lpips-0.1-vgg.pth",
    url=f"{HEADS_URL}/vgg.pth",
    sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    size_bytes=7289,
)


def load_lpips(
    network: Literal["alex", "vgg"] = "alex",
    *,
    backbone_path: str | Path | None = None,
    heads_path: str | Path | None = None,
) -> Lpips:
    """LPIPS, version 0.1, with its published weights.

    Args:
        network: that looks at the pictures: AlexNet, whose figures most papers report, or VGG16.
        backbone_path: a file with its weights on ImageNet: torchvision's alexnet-owt-7be5be79.pth or
            vgg16-397923af.pth, or timm's vgg16.tv_in1k. None: torchvision's, fetched once (244 or 553 MB) and kept in
            `i2i.download.cache_folder()`.
        heads_path: a file with the weights of the channels: the authors' alex.pth or vgg.pth. None: theirs, likewise.

    Raises:
        MissingWeights: a file cannot be fetched: there are no weights then, and never random ones.
        InputError: a file cannot be read, lacks a tensor, or has one of another shape.
    """
    from torchvision.models import alexnet, vgg16  # type: ignore[import-untyped]

    with torch.device("meta"):
        match network:
            case "alex":
                backbone, layers, smallest_px = alexnet(weights=None).features, (1, 4, 7, 9, 11), 31
                weights, head_weights = ALEXNET, ALEXNET_HEADS
            case "vgg":
                backbone, layers, smallest_px = vgg16(weights=None).features, (3, 8, 15, 22, 29), 16
                weights, head_weights = VGG16, VGG16_HEADS
            case _:
                raise InputError(f'expected the network to be "alex" or "vgg", got {network!r}')
    shapes = {f"features.{key}": tensor.shape for key, tensor in backbone.state_dict().items()}
    channels = [backbone[number - 1].out_channels for number in layers]
    head_shapes = {f"lin{index}.model.1.weight": torch.Size((1, width, 1, 1)) for index, width in enumerate(channels)}
    files = [(weights, backbone_path, shapes), (head_weights, heads_path, head_shapes)]
    found: dict[_Weights, dict[str, Tensor]] = {}
    # A file that was handed in and cannot be used shows before the other is fetched, which may take minutes.
    for file, path, needed in sorted(files, key=lambda file: file[1] is None):
        try:
            found[file] = _tensors(file, path, needed)
        except MissingWeights as error:
            others = [other.url for other, path, _ in files if path is None and not _place(other, path).exists()]
            urls = " and ".join(dict.fromkeys([file.url, *others]))
            raise MissingWeights(f"weights of LPIPS are missing: get {urls}", here=error.here) from error
    tensors, heads = (found[file[0]] for file in files)
    backbone.load_state_dict({key.removeprefix("features."): tensor for key, tensor in tensors.items()}, assign=True)
    return Lpips(
        backbone=backbone.eval(),
        layers=layers,
        heads=list(heads.values()),
        smallest_px=smallest_px,
    )


def _place(weights: _Weights, path: str | Path | None) -> Path:
    """Where a file is, or will be once it is fetched."""
    return cache_folder() / "weights" / weights.name if path is None else Path(path).expanduser()


def _tensors(weights: _Weights, path: str | Path | None, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of these names and shapes out of a file, float32."""
    place = _place(weights, path)
    try:
        if path is None:
            download(weights.url, place, sha256=weights.sha256, size_bytes=weights.size_bytes)
        found = read_state_dict(place)
    except InputError as error:
        if path is None:
            raise MissingWeights(f"weights of LPIPS are missing: get {weights.url}", here=str(error)) from error
        raise InputError(f"the weights of LPIPS cannot be used: {error}") from error
    for key, shape in shapes.items():
        if key not in found or found[key].shape != shape:
            holds = tuple(found[key].shape) if key in found else "nothing"
            raise InputError(
                f"{place} does not hold what LPIPS needs: expected {key} {tuple(shape)}, found {holds}; give the file "
                f"that {weights.url} has"
            )
    return {key: found[key].float() for key in shapes}
