"""The generator of ESRGAN (Wang et al. 2018, §3.1) and Real-ESRGAN (Wang et al. 2021, §3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.init import init_small
from i2i.layers.resample import upsampling_factors


class RRDBGenerator(nn.Module):
    """Residual-in-residual dense blocks at the input's size, then enlarge.

    (N, in_channels, H, W) → (N, out_channels, scale · H, scale · W), floating point, both with black at 0 and white
    at 1, the output unbounded. H and W must be multiples of `size_multiple` = unshuffle, else InputError.

    Args:
        width: channels between blocks.
        growth: channels that each convolution inside a dense block adds.
        blocks: how many residual-in-residual dense blocks; the papers take 23.
        scale: a power of two, or 3.
        unshuffle: fold each square of so many pixels a side into channels first, which makes the blocks as much
            faster. Real-ESRGAN takes 2 for scale 2 and 4 for scale 1, and enlarges by 4 after the blocks.
        plus: ESRGAN+'s second residual path inside the dense blocks (Rakotonirina & Rasoanaivo 2020, figure 2);
            its noise belongs to training and is left out.
    """

    restores = True
    input_range = (0.0, 1.0)
    output_range = (0.0, 1.0)

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        growth: int = 32,
        blocks: int = 23,
        scale: int = 4,
        unshuffle: int = 1,
        plus: bool = False,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if unshuffle < 1:
            raise InputError(f"expected unshuffle to be at least 1, got {unshuffle}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.scale = scale
        self.size_multiple = unshuffle
        self.factors = upsampling_factors(scale * unshuffle)

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1)

        self.stem = conv(in_channels * unshuffle**2, width)
        self.blocks = nn.Sequential(*(RRDB(width, growth=growth, plus=plus) for _ in range(blocks)))
        self.trunk = conv(width, width)
        self.up = nn.ModuleList(conv(width, width) for _ in self.factors)
        self.refine = conv(width, width)
        self.head = conv(width, out_channels)
        init_small(self.blocks)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels, multiple=self.size_multiple)
        if self.size_multiple > 1:
            images = F.pixel_unshuffle(images, self.size_multiple)
        features = self.stem(images)
        features = features + self.trunk(self.blocks(features))
        for factor, conv in zip(self.factors, self.up, strict=True):
            features = _leaky(conv(F.interpolate(features, scale_factor=factor, mode="nearest")))
        return self.head(_leaky(self.refine(features)))

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        return list(self.blocks)


class RRDB(nn.Module):
    """Residual-in-residual dense block: (N, channels, H, W) → the same."""

    def __init__(self, channels: int, *, growth: int, plus: bool) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth=growth, plus=plus) for _ in range(3)))

    def forward(self, features: Tensor) -> Tensor:
        return self.dense(features) * 0.2 + features


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it made: (N, channels, H, W) → the same."""

    def __init__(self, channels: int, *, growth: int, plus: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels + number * growth, growth if number < 4 else channels, 3, padding=1)
            for number in range(5)
        )
        self.skip = nn.Conv2d(channels, growth, 1, bias=False) if plus else None

    def forward(self, features: Tensor) -> Tensor:
        first, second, third, fourth, last = self.convs
        x1 = _leaky(first(features))
        x2 = _leaky(second(torch.cat([features, x1], 1)))
        if self.skip is not None:
            x2 = x2 + self.skip(features)
        x3 = _leaky(third(torch.cat([features, x1, x2], 1)))
        x4 = _leaky(fourth(torch.cat([features, x1, x2, x3], 1)))
        if self.skip is not None:
            x4 = x4 + x2
        x5 = last(torch.cat([features, x1, x2, x3, x4], 1))
        return x5 * 0.2 + features


def _leaky(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.2, inplace=True)
