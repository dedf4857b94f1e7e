"""The discriminator of progressively grown GANs (Karras et al. 2018, arXiv:1710.10196, table 2).

Classes are told by projection (Miyato & Koyama 2018, arXiv:1802.05637), which the paper does not have.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.classes import check_classes
from i2i.layers.equalised import EqualisedConv2d, EqualisedLinear
from i2i.layers.growing import Growing, blend
from i2i.layers.init import make_embedding
from i2i.layers.minibatch import MinibatchStdDev
from i2i.layers.resample import convolve_and_halve
from i2i.layers.sides import sides_up_to, width_at

SLOPE = 0.2
GAIN = math.sqrt(2)  # He's, before leaky ReLU


class ProgressiveDiscriminator(Growing):
    """(N, in_channels, size, size), usually in [-1, 1], → (N,) raw scores. Other sizes raise InputError.

    One stage of a network that grows, the mirror image of `ProgressiveGenerator`: a block for each halving of the size,
    by the mean of every 2×2 pixels, then one for 4×4 that also sees how much the batch varies. What comes out of the
    newest block, the first, is

        (1 − fade) · what the stage before made of the halved image + fade · the block's output

    With the default arguments it is the paper's network, of 512 channels up to 32 px, but for groups of 4 in the
    minibatch statistics, as in its authors' code. N must be at least 2, for these.

    With classes it also takes the class id of each image, (N,) int64, and the score is y'Vφ(x) + ψ(φ(x)) (Miyato &
    Koyama 2018, eq. 3), V being the `embedding` of the class y, and ψ the linear layer, `head`.

    Args:
        width: channels of the maps up to `widest_px`; larger ones have half as many whenever the size doubles.
        size: side of the image in pixels, a power of two from 4 on, else InputError.
        classes: number of classes; 0: none.
        widest_px: side of the largest map with `width` channels, a power of two from 4 on, else InputError.
    """

    out_channels = 1

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 512,
        size: int = 32,
        classes: int = 0,
        widest_px: int = 32,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.classes = classes
        self.size = size
        self.register_buffer("fade", torch.ones(()))

        sides = sides_up_to(size)
        widths = [width_at(side, width=width, widest_px=widest_px) for side in sides]
        # By the side of the image: the two newest ones, of which the older is faded out.
        self.from_rgb = nn.ModuleDict(
            {
                str(side): EqualisedConv2d(in_channels, channels, 1, gain=GAIN)
                for side, channels in zip(sides[-2:], widths[-2:], strict=True)
            }
        )
        # From 4 px on, as the generator's: a larger stage has another one at the end.
        self.blocks = nn.ModuleList([_LastBlock(widths[0])])
        self.blocks.extend(_DownBlock(*channels) for channels in zip(widths[1:], widths[:-1], strict=True))
        self.head = EqualisedLinear(widths[0], 1)
        self.embedding = make_embedding(classes, widths[0]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        check_images(images, channels=self.in_channels)
        if tuple(images.shape[2:]) != (self.size, self.size):
            raise InputError(
                f"expected images of {self.size} x {self.size} px, got {images.shape[2]} x {images.shape[3]}"
            )
        features = self.blocks[-1](self._enter(images))
        if len(self.blocks) > 1:
            features = blend(self._enter(F.avg_pool2d(images, 2)), features, self.fade)
        for block in reversed(self.blocks[:-1]):
            features = block(features)
        scores = self.head(features).squeeze(1)
        if self.embedding is None:
            return scores
        labels = check_classes(labels, classes=self.classes, count=len(images))
        # The class vectors are of variance 1, and scaled as the head's weights are.
        return scores + (self.embedding(labels) * features).sum(1) * self.head.scale

    def _enter(self, images: Tensor) -> Tensor:
        return F.leaky_relu(self.from_rgb[str(images.shape[-1])](images), SLOPE, inplace=True)


class _DownBlock(nn.Module):
    """Convolves twice, then takes the mean of every 2×2 pixels: (N, in, 2H, 2W) → (N, out, H, W).

    The mean comes before the activation, as in the authors' code, whose convolution does both at once; the paper's
    table has it behind.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualisedConv2d(in_channels, in_channels, 3, gain=GAIN)
        self.conv2 = _DownConv2d(in_channels, out_channels, 3, gain=GAIN)

    def forward(self, features: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            features = F.leaky_relu(conv(features), SLOPE, inplace=True)
        return features


class _DownConv2d(EqualisedConv2d):
    """And the mean of every 2×2 pixels of what comes out: (N, in, 2H, 2W) → (N, out, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        return convolve_and_halve(features, self.weight * self.scale, self.bias)


class _LastBlock(nn.Module):
    """(N, channels, 4, 4) → (N, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.minibatch = MinibatchStdDev(group_size=4)
        self.conv = EqualisedConv2d(channels + 1, channels, 3, gain=GAIN)
        # The paper's 4×4 convolution, which leaves a single place.
        self.dense = EqualisedLinear(channels * 4 * 4, channels, gain=GAIN)

    def forward(self, features: Tensor) -> Tensor:
        features = F.leaky_relu(self.conv(self.minibatch(features)), SLOPE, inplace=True)
        return F.leaky_relu(self.dense(features.flatten(1)), SLOPE)
