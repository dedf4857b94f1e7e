"""Perceptual loss: images are alike where a network that knows photographs responds to them alike.

Johnson et al. 2016 (arXiv:1603.08155), with VGG19 (Simonyan & Zisserman 2015, arXiv:1409.1556) trained on ImageNet.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.download import cache_folder, download
from i2i.errors import InputError
from i2i.state_dicts import read_state_dict

PIX2PIXHD_LAYERS = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}
"""Layers and weights in the authors' code of pix2pixHD (Wang et al. 2018) and SPADE (Park et al. 2019)."""
ESRGAN_LAYERS = {"conv5_4": 1.0}
"""Of ESRGAN (Wang et al. 2018, arXiv:1809.00219, section 3.2): features before activation."""
REAL_ESRGAN_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
"""Of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833, section 4.1)."""

# Channels and number of the convolutions between two poolings: configuration E of the paper's table 1.
BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))

WEIGHTS_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
WEIGHTS_SHA256 = "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44"
WEIGHTS_BYTES = 574_673_361


class PerceptualLoss(nn.Module):
    """Weighted mean absolute differences between VGG19's features of two sets of images.

    Images are normalised by ImageNet's mean and deviation, as VGG19 was trained. SPADE's and pix2pixHD's own code feeds
    it images in [-1, 1] as they are; this takes the same images, and differs there. No gradient goes into the network
    or the real images.

    Args:
        vgg: from `load_vgg19`; its layers beyond the last that is compared are dropped.
        layers: the layers compared, with their weights: "conv3_4" is the fourth convolution after two poolings, before
            activation, "relu3_4" after it.

    Raises:
        InputError: there is no such layer.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, vgg: nn.Sequential, layers: Mapping[str, float] = PIX2PIXHD_LAYERS) -> None:
        super().__init__()
        names = [name for name, _ in vgg.named_children()]
        if not layers or not set(layers) <= set(names):
            raise InputError(f"expected layers of VGG19 to compare, of {', '.join(names)}; got {', '.join(layers)}")
        self.layers = dict(layers)
        self.vgg = vgg[: 1 + max(names.index(name) for name in layers)].requires_grad_(False)
        self.smallest_px = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.vgg)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Compare images.

        Args:
            fake, real: (N, 3, H, W) in [-1, 1], large enough for the poolings: 16 px with the default layers.

        Returns:
            A scalar, at least 0, in at least float32.

        Raises:
            InputError: the shapes differ, are not those of RGB images, or are too small.
        """
        if fake.shape != real.shape or fake.ndim != 4 or fake.shape[1] != 3:
            raise InputError(
                "the perceptual loss compares batches of RGB images (N, 3, H, W) of one shape, got "
                f"{tuple(fake.shape)} and {tuple(real.shape)}: leave it off for images of other channels"
            )
        if min(fake.shape[2:]) < self.smallest_px:
            raise InputError(
                f"the perceptual loss needs images of at least {self.smallest_px} px, got {tuple(fake.shape[2:])}"
            )
        with torch.no_grad():
            expected = self.features(real)
        losses = [
            self.layers[name] * F.l1_loss(_widen(found), _widen(expected[name]))
            for name, found in self.features(fake).items()
        ]
        return torch.stack(losses).sum()

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """What the compared layers respond to images (N, 3, H, W) in [-1, 1]: (N, channels, h, w) each."""
        maps = ((images.to(self.mean.dtype) + 1) / 2 - self.mean) / self.deviation
        found = {}
        for name, layer in self.vgg.named_children():
            maps = layer(maps)
            if name in self.layers:
                found[name] = maps
        return found


def load_vgg19(path: str | Path | None = None) -> nn.Sequential:
    """VGG19's convolutional part with weights trained on ImageNet, its layers named "conv1_1", "relu1_1", … "pool5".

    Args:
        path: a file with them: torchvision's vgg19-dcbb9e9d.pth, or timm's vgg19.tv_in1k as .safetensors or .bin; other
            tensors in it are ignored. None: torchvision's, fetched once (575 MB) and kept in
            `i2i.download.cache_folder()`.

    Raises:
        InputError: the file cannot be fetched or read, lacks a tensor, or has one of another shape: there are no
            weights then, and never random ones.
    """
    remedy = "or train without the perceptual loss (--perceptual off)"
    if path is None:
        path = cache_folder() / "weights" / Path(WEIGHTS_URL).name
        try:
            download(WEIGHTS_URL, path, sha256=WEIGHTS_SHA256, size_bytes=WEIGHTS_BYTES)
        except InputError as error:
            raise InputError(f"VGG19's weights are missing: {error}, {remedy}") from error
    try:
        found = read_state_dict(Path(path))
    except InputError as error:
        raise InputError(f"VGG19's weights are missing: {error}. Give another file, {remedy}") from error
    with torch.device("meta"):
        vgg = nn.Sequential(_layers())
    # torchvision and timm number the layers where these are named; the order is the same.
    numbers = {name: str(number) for number, (name, _) in enumerate(vgg.named_children())}
    weights = {}
    for key, expected in vgg.state_dict().items():
        layer, kind = key.split(".")
        theirs = f"features.{numbers[layer]}.{kind}"
        shape = tuple(found[theirs].shape) if theirs in found else "nothing"
        if shape != tuple(expected.shape):
            raise InputError(
                f"{path} holds no weights of VGG19: expected {theirs} {tuple(expected.shape)}, found {shape}. Give "
                f"torchvision's {Path(WEIGHTS_URL).name} or timm's vgg19.tv_in1k, {remedy}"
            )
        weights[key] = found[theirs].float()
    vgg.load_state_dict(weights, assign=True)
    return vgg.eval().requires_grad_(False)


def _layers() -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for block, (width, convolutions) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            layers[f"conv{block}_{number}"] = nn.Conv2d(channels, width, 3, padding=1)
            layers[f"relu{block}_{number}"] = nn.ReLU()
            channels = width
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    return layers


def _widen(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))
