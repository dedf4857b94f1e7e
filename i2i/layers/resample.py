"""Up-sampling by a factor of two that learns."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError

Upsampling = Literal["transposed", "resize"]


def upsample_conv(
    in_channels: int, out_channels: int, *, kernel_size: Literal[3, 4], upsampling: Upsampling, bias: bool
) -> nn.Module:
    """(N, in, H, W) → (N, out, 2H, 2W).

    "transposed" is a transposed convolution of stride 2 with `kernel_size`. "resize" repeats every pixel
    and convolves by 3×3, whatever `kernel_size`: each output pixel then sees as many inputs as the next,
    which avoids the checkerboard patterns of the transposed one (Odena et al. 2016).
    """
    match upsampling:
        case "transposed":
            return nn.ConvTranspose2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=2,
                padding=1,
                output_padding=kernel_size % 2,
                bias=bias,
            )
        case "resize":
            return ResizeConv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        case _:
            raise InputError(f'expected upsampling to be "transposed" or "resize", got {upsampling!r}')


class ResizeConv2d(nn.Conv2d):
    """Every pixel repeated 2×2, then this 3×3 convolution with padding 1: (N, in, H, W) → (N, out, 2H, 2W).

    Two of the three taps in a row always meet copies of one pixel. Added up beforehand, they make a transposed
    convolution of stride 2 with the same result and 16 products per input pixel instead of 36.
    """

    def forward(self, features: Tensor) -> Tensor:
        if features.numel() < 256 * self.in_channels:  # adding up costs more than it saves on so few pixels
            return super().forward(F.interpolate(features, scale_factor=2.0, mode="nearest"))
        kernel = _merge_taps(_merge_taps(self.weight.transpose(0, 1), 2), 3)
        return F.conv_transpose2d(features, kernel, self.bias, stride=2, padding=1)


def _merge_taps(weight: Tensor, dim: int) -> Tensor:
    first, middle, last = weight.unbind(dim)
    return torch.stack([last, middle + last, first + middle, first], dim)
