"""Up-sampling by a factor of two that learns."""

from typing import Literal

from torch import nn

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
            return nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias),
            )
        case _:
            raise InputError(f'expected upsampling to be "transposed" or "resize", got {upsampling!r}')
