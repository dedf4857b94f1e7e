"""Generators whose latent spaces are known, for tools to find out about."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i import Sampler
from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.generators import DCGANGenerator, StyleGANGenerator

FLOATS = ImageSide(channels=3, dtype="float32", data_range=(-1, 1))
UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
SIZE = 16
STYLE_CHANNELS = 6


class KnownStyles(nn.Module):
    """w = M z + b. The two coarse layers paint a grey pattern of mean 0, the two fine ones an even colour over it.

    With classes the class is added to the first value of w.
    """

    def __init__(self, *, classes: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(4)
        self.latent_channels = self.style_channels = STYLE_CHANNELS
        self.style_layers, self.classes, self.out_channels = 4, classes, 3
        self.mapping = nn.Linear(STYLE_CHANNELS, STYLE_CHANNELS)
        with torch.no_grad():
            self.mapping.weight.copy_(torch.randn(STYLE_CHANNELS, STYLE_CHANNELS, generator=random))
            self.mapping.bias.copy_(torch.randn(STYLE_CHANNELS, generator=random))
        self.register_buffer("mean_style", self.mapping.bias.detach().clone())
        patterns = torch.randn(2, STYLE_CHANNELS, 4, 4, generator=random)
        self.register_buffer("patterns", (patterns - patterns.mean(dim=(2, 3), keepdim=True)) * 0.03)
        self.register_buffer("tints", torch.randn(2, STYLE_CHANNELS, 3, generator=random) * 0.03)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.synthesise(self.styles(latents, labels))

    def styles(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        style = self.mapping(latents)
        if self.classes:
            style = style + 5 * F.one_hot(torch.zeros_like(labels), STYLE_CHANNELS) * labels[:, None]
        return style[:, None].expand(-1, 4, -1)

    def synthesise(self, styles: Tensor) -> Tensor:
        grey = torch.einsum("nlc,lchw->nhw", styles[:, :2], self.patterns)[:, None]
        tint = torch.einsum("nlc,lck->nk", styles[:, 2:], self.tints)[:, :, None, None]
        return F.interpolate(grey, scale_factor=SIZE // 4) + tint


class KnownNoise(nn.Module):
    """The first value of z makes an image brighter, the others draw patterns of mean 0; the first layer scales z."""

    def __init__(self, channels: int = 5) -> None:
        super().__init__()
        self.latent_channels, self.classes, self.out_channels = channels, 0, 3
        self.scale = nn.Linear(channels, channels, bias=False)
        self.scale.weight.data = torch.diag(torch.arange(channels, 0, -1.0))
        patterns = torch.randn(channels, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        patterns = patterns - patterns.mean(dim=(1, 2, 3), keepdim=True)
        patterns[0] = 1
        self.register_buffer("patterns", 0.02 * patterns)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.einsum("nc,cdhw->ndhw", self.scale(latents), self.patterns)


def known_styles(*, classes: int = 0, output: ImageSide = FLOATS) -> Sampler:
    return Sampler(generator=KnownStyles(classes=classes), spec=GeneratorSpec(input=None, output=output))


def known_noise(*, output: ImageSide = FLOATS) -> Sampler:
    return Sampler(generator=KnownNoise(), spec=GeneratorSpec(input=None, output=output))


def dcgan(*, classes: int = 0, size: int = 16, output: ImageSide = UINT8) -> Sampler:
    """As it comes, but for weights that are large enough for images to differ."""
    torch.manual_seed(0)
    network = DCGANGenerator(
        latent_channels=8, width=4, size=size, classes=classes, out_channels=output.channels, upsampling="resize"
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(8)
    latents = torch.randn(64, 8)
    network.train()(latents, *([torch.arange(64) % classes] if classes else []))
    return Sampler(generator=network, spec=GeneratorSpec(input=None, output=output))


def stylegan(*, classes: int = 0) -> Sampler:
    torch.manual_seed(0)
    network = StyleGANGenerator(
        latent_channels=6, style_channels=8, width=8, size=16, mapping_layers=2, mapping_rate=1.0, classes=classes
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "mapping" in name or "style" in name:
                parameter.mul_(math.sqrt(2))
    return Sampler(generator=network, spec=GeneratorSpec(input=None, output=UINT8))
