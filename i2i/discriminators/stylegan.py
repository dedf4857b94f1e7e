"""StyleGAN's residual discriminator (Karras et al. 2020, arXiv:1912.04958, section 4.1 and figure 7c).

Classes are told by projection (Miyato & Koyama 2018, arXiv:1802.05637), of which the paper has none.
"""

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.classes import check_classes
from i2i.layers.equalised import EqualisedConv2d, EqualisedLinear, ScaledLeakyReLU
from i2i.layers.init import make_embedding
from i2i.layers.minibatch import MinibatchStdDev
from i2i.layers.resample import blur
from i2i.layers.sides import sides_up_to, width_at


class StyleGANDiscriminator(nn.Module):
    """(N, in_channels, size, size), usually in [-1, 1], → (N,) raw scores. Other sizes raise InputError.

    Residual blocks halve the size down to 4 px, then come minibatch statistics, a convolution and two linear layers,
    `head` the last. With classes it also takes the class id of each image, (N,) int64, and y'Vφ(x) is added to the
    score, φ(x) being what goes into `head`, and V the `embedding` of the class y.

    Args:
        width: channels of the maps up to `widest_px`; larger ones have half as many whenever the size doubles.
        size: side of the image in pixels, a power of two from 8 on.
        classes: number of classes; 0: none.
        group_size: samples that minibatch standard deviations are taken over, at least 2; None: there are none, and no
            sample influences another.
        widest_px: side of the largest map with `width` channels, a power of two from 4 on.
    """

    out_channels = 1

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 512,
        size: int = 256,
        classes: int = 0,
        group_size: int | None = 4,
        widest_px: int = 64,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        sides = sides_up_to(size, least=8)[::-1]  # size … 8, 4
        widths = [width_at(side, width=width, widest_px=widest_px) for side in sides]
        self.in_channels = in_channels
        self.size = size
        self.classes = classes

        last = widths[-1]
        self.activation = ScaledLeakyReLU()
        self.from_rgb = EqualisedConv2d(in_channels, widths[0], 1)
        self.blocks = nn.Sequential(*(_DownBlock(*pair) for pair in pairwise(widths)))
        self.minibatch = nn.Identity() if group_size is None else MinibatchStdDev(group_size=group_size)
        self.conv = EqualisedConv2d(last + (group_size is not None), last, 3)
        self.dense = EqualisedLinear(last * 4 * 4, last)
        self.head = EqualisedLinear(last, 1)
        self.embedding = make_embedding(classes, last) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        check_images(images, channels=self.in_channels)
        if tuple(images.shape[2:]) != (self.size, self.size):
            raise InputError(
                f"expected images of {self.size} x {self.size} px, got {images.shape[2]} x {images.shape[3]}"
            )
        features = self.blocks(self.activation(self.from_rgb(images)))
        features = self.activation(self.conv(self.minibatch(features)))
        features = self.activation(self.dense(features.flatten(1)))
        scores = self.head(features).squeeze(1)
        if self.embedding is None:
            return scores
        labels = check_classes(labels, classes=self.classes, count=len(images))
        return scores + (self.embedding(labels) * features).sum(1) / math.sqrt(features.shape[1])


class _DownBlock(nn.Module):
    """A residual block that halves the size, (N, in, H, W) → (N, out, H/2, W/2), and keeps the mean square."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.activation = ScaledLeakyReLU()
        self.conv1 = EqualisedConv2d(in_channels, in_channels, 3)
        self.conv2 = _DownConv2d(in_channels, out_channels)
        self.shortcut = EqualisedConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        residual = self.activation(self.conv2(self.activation(self.conv1(features))))
        return (residual + self.shortcut(blur(features, padding=1, stride=2))) / math.sqrt(2)


class _DownConv2d(EqualisedConv2d):
    """A blur, then a convolution of stride 2: (N, in, H, W) → (N, out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        return F.conv2d(blur(features, padding=2), self.weight * self.scale, self.bias, stride=2)
