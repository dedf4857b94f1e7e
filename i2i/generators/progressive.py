"""The generator of progressively grown GANs (Karras et al. 2018, arXiv:1710.10196, table 2)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.layers.checks import check_latents, constructor_arguments
from i2i.layers.classes import check_classes
from i2i.layers.equalised import EqualisedConv2d, EqualisedLinear
from i2i.layers.growing import Growing, blend
from i2i.layers.init import make_embedding
from i2i.layers.norm import PixelNorm
from i2i.layers.resample import double_and_convolve
from i2i.layers.sides import sides_up_to, width_at

SLOPE = 0.2
GAIN = math.sqrt(2)  # He's, before leaky ReLU


class ProgressiveGenerator(Growing):
    """Latent vectors (N, latent_channels), usually from N(0, 1), → (N, out_channels, size, size), roughly in [-1, 1].

    One stage of a network that grows: 4×4 maps, then a block for each doubling of the size. The image is

        (1 − fade) · the image of half the size, every pixel repeated + fade · the image of the newest block

    so that a new block comes in smoothly (section 2, figure 2). Nothing bounds the values, as in the paper: real images
    are in [-1, 1], and what lies beyond is cut off where images are shown. With the default arguments it is the paper's
    network, of 512 channels up to 32 px.

    With classes it also takes the class id of each image, (N,) int64. Each class has a learnt vector, as long as the
    latent ones and joined to them; the paper's networks with classes take one-hot ids instead.

    Args:
        width: channels of the maps up to `widest_px`; larger ones have half as many whenever the size doubles.
        size: side of the image in pixels, a power of two from 4 on, else InputError.
        classes: number of classes to choose from; 0: none.
        widest_px: side of the largest map with `width` channels, a power of two from 4 on, else InputError; 8 leaves a
            CPU a fraction of the work.
    """

    output_range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        latent_channels: int = 512,
        out_channels: int = 3,
        width: int = 512,
        size: int = 32,
        classes: int = 0,
        widest_px: int = 32,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.latent_channels = latent_channels
        self.classes = classes
        self.out_channels = out_channels
        self.size = size
        self.register_buffer("fade", torch.ones(()))

        sides = sides_up_to(size)
        widths = [width_at(side, width=width, widest_px=widest_px) for side in sides]
        self.norm = PixelNorm()
        self.embedding = make_embedding(classes, latent_channels) if classes else None
        self.blocks = nn.ModuleList([_FirstBlock(latent_channels * (2 if classes else 1), widths[0])])
        self.blocks.extend(_UpBlock(*pair) for pair in pairwise(widths))
        # By the side of the image: the two newest ones, of which the older is faded out.
        self.to_rgb = nn.ModuleDict(
            {
                str(side): EqualisedConv2d(channels, out_channels, 1)
                for side, channels in zip(sides[-2:], widths[-2:], strict=True)
            }
        )

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        return [*self.blocks]

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_latents(latents, channels=self.latent_channels)
        features = self.norm(latents)
        if self.embedding is not None:
            labels = check_classes(labels, classes=self.classes, count=len(latents))
            features = torch.cat([features, self.norm(self.embedding(labels))], dim=1)
        for block in self.blocks[:-1]:
            features = block(features)
        newest = self.blocks[-1](features)
        image = self.to_rgb[str(self.size)](newest)
        if len(self.blocks) == 1:
            return image
        older = self.to_rgb[str(self.size // 2)](features)
        return blend(F.interpolate(older, scale_factor=2.0, mode="nearest"), image, self.fade)


class _FirstBlock(nn.Module):
    """(N, in) → (N, out, 4, 4)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # The paper has a 4×4 convolution of a padded 1×1 map, whose fan-in counts the padding's 15 places as well.
        self.project = EqualisedLinear(in_channels, out_channels * 4 * 4, gain=GAIN / 4)
        self.conv = EqualisedConv2d(out_channels, out_channels, 3, gain=GAIN)
        self.norm = PixelNorm()

    def forward(self, latents: Tensor) -> Tensor:
        features = self.norm(F.leaky_relu(self.project(latents).unflatten(1, (-1, 4, 4)), SLOPE))
        return self.norm(F.leaky_relu(self.conv(features), SLOPE, inplace=True))


class _UpBlock(nn.Module):
    """Repeats every pixel 2×2, then convolves twice: (N, in, H, W) → (N, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _UpConv2d(in_channels, out_channels, 3, gain=GAIN)
        self.conv2 = EqualisedConv2d(out_channels, out_channels, 3, gain=GAIN)
        self.norm = PixelNorm()

    def forward(self, features: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            features = self.norm(F.leaky_relu(conv(features), SLOPE, inplace=True))
        return features


class _UpConv2d(EqualisedConv2d):
    """Of a map whose every pixel is repeated 2×2: (N, in, H, W) → (N, out, 2H, 2W)."""

    def forward(self, features: Tensor) -> Tensor:
        return double_and_convolve(features, self.weight * self.scale, self.bias)
