"""Halving and doubling of feature maps and label maps, and bicubic resizing of images."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError

Upsampling = Literal["transposed", "resize", "bilinear"]


def upsample_conv(
    in_channels: int, out_channels: int, *, kernel_size: Literal[3, 4], upsampling: Upsampling, bias: bool
) -> nn.Module:
    """(N, in, H, W) → (N, out, 2H, 2W).

    "transposed" is a transposed convolution of stride 2 with `kernel_size`. "resize" repeats every pixel
    and convolves by 3×3, whatever `kernel_size`: each output pixel then sees as many inputs as the next,
    which avoids the checkerboard patterns of the transposed one (Odena et al. 2016). "bilinear" interpolates
    and convolves by 3×3, as CUT does.
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
        case "bilinear":
            return nn.Sequential(BlurUpsample(), nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias))
        case _:
            raise InputError(f'expected upsampling to be "transposed", "resize" or "bilinear", got {upsampling!r}')


def upsampling_factors(scale: int) -> list[int]:
    """The steps in which super-resolution networks enlarge: 2 as often as needed for a power of two, or 3 once."""
    if scale == 3:
        return [3]
    if scale < 1 or scale.bit_count() != 1:
        raise InputError(f"expected a scale of 3 or a power of two, got {scale}")
    return [2] * (scale.bit_length() - 1)


class ResizeConv2d(nn.Conv2d):
    """Every pixel repeated 2×2, then this 3×3 convolution with padding 1: (N, in, H, W) → (N, out, 2H, 2W).

    Two of the three taps in a row always meet copies of one pixel. Added up beforehand, they make a transposed
    convolution of stride 2 with the same result and 16 products per input pixel instead of 36.
    """

    def forward(self, features: Tensor) -> Tensor:
        return double_and_convolve(features, self.weight, self.bias)


class PooledConv2d(nn.Conv2d):
    """This 3×3 convolution with padding 1, then the mean of every 2×2 pixels: (N, in, 2H, 2W) → (N, out, H, W).

    Two such results that lie side by side have two taps in common. Added up beforehand, they make a convolution of
    stride 2 with the same result and 16 products per output pixel instead of 36.
    """

    def forward(self, features: Tensor) -> Tensor:
        return convolve_and_halve(features, self.weight, self.bias)


def double_and_convolve(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `ResizeConv2d` does, by a weight (out, in, 3, 3)."""
    if features.numel() < 256 * weight.shape[1]:  # adding up costs more than it saves on so few pixels
        return F.conv2d(F.interpolate(features, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
    kernel = _merge_taps(_merge_taps(weight.transpose(0, 1), 2), 3)
    return F.conv_transpose2d(features, kernel, bias, stride=2, padding=1)


def convolve_and_halve(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `PooledConv2d` does, by a weight (out, in, 3, 3)."""
    kernel = _merge_taps(_merge_taps(weight, 2), 3).flip(2, 3) / 4  # mirrored, as it is not transposed here
    return F.conv2d(features, kernel, bias, stride=2, padding=1)


def _merge_taps(weight: Tensor, dim: int) -> Tensor:
    first, middle, last = weight.unbind(dim)
    return torch.stack([last, middle + last, first + middle, first], dim)


def gaussian_blur(images: Tensor, *, deviation_px: float) -> Tensor:
    """Blur by a Gaussian that is cut off at three deviations: (N, C, H, W) → the same, the border repeated.

    Below 0.2 px, where it would change no pixel by more than a hundred-thousandth, images stay as they are.
    """
    if deviation_px < 0.2:
        return images
    reach = math.ceil(3 * deviation_px)
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.softmax(-(offsets**2) / (2 * deviation_px**2), dim=0)
    planes = F.pad(images, (reach, reach, reach, reach), mode="replicate").flatten(0, 1).unsqueeze(1)
    blurred = F.conv2d(F.conv2d(planes, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
    return blurred.view_as(images)


def bicubic(images: Tensor, *, scale: float | tuple[float, float]) -> Tensor:
    """Resize as MATLAB's `imresize(…, scale, "bicubic")` does, which super-resolution makes its inputs by.

    Keys's cubic convolution kernel (1981, a = −1/2), widened by 1/scale where that shrinks, against aliasing; what lies
    beyond the border is mirrored, the last pixel repeated.

    Args:
        images: (N, C, H, W), floating point, any range.
        scale: above 0; of both sides, or (of the height, of the width).

    Returns:
        (N, C, ⌈scale · H⌉, ⌈scale · W⌉), neither rounded nor clipped.

    Raises:
        InputError: images of another kind, or a scale of 0 or less.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(f"expected images (N, C, H, W) of floats, got {images.dtype} {tuple(images.shape)}")
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    if not all(0 < factor < math.inf for factor in scales):
        raise InputError(f"expected a scale above 0, got {scale}")
    for dim, factor in zip((2, 3), scales, strict=True):
        places, weights = _bicubic_taps(images.shape[dim], factor)
        weights = weights.to(images.dtype).unsqueeze(-1) if dim == 2 else weights.to(images.dtype)
        resized = torch.zeros((), dtype=images.dtype, device=images.device)
        for place, weight in zip(places.to(images.device), weights.to(images.device), strict=True):
            resized = resized + images.index_select(dim, place) * weight
        images = resized
    return images


def _bicubic_taps(length: int, scale: float) -> tuple[Tensor, Tensor]:
    """Where the taps of each output pixel lie, and what they weigh: two of (taps, ⌈scale · length⌉)."""
    shrink = min(scale, 1.0)
    centres = (torch.arange(math.ceil(scale * length), dtype=torch.float64) + 0.5) / scale - 0.5
    count = math.ceil(4 / shrink) + 1
    places = (centres - 2 / shrink).ceil() + torch.arange(count, dtype=torch.float64)[:, None]
    distance = ((centres - places) * shrink).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance <= 2, far, 0.0))
    mirrored = places.long().remainder(2 * length)
    return torch.minimum(mirrored, 2 * length - 1 - mirrored), weights / weights.sum(0)


def blur(features: Tensor, *, padding: int, stride: int = 1) -> Tensor:
    """Filter by [1 3 3 1] / 8 along either axis, as StyleGAN's networks do around resampling, with zeros beyond.

    Of pixels spread out by 2, it makes a quarter of their bilinear interpolation; with stride 2 and padding 1 it halves
    the size by antialiased bilinear interpolation, both but for the border.

    Args:
        features: (N, C, H, W).
        padding: zeros that are added at each side, in pixels.

    Returns:
        (N, C, H + 2 padding − 3, W + 2 padding − 3), of which every `stride`-th pixel.
    """
    tap = torch.arange(4, dtype=features.dtype, device=features.device)
    taps = (tap * (3 - tap) + 1) / 8  # 1 3 3 1, made on the device, which then waits for nothing
    channels = features.shape[1]
    kernel = taps.outer(taps).expand(channels, 1, -1, -1)
    return F.conv2d(features, kernel, stride=stride, padding=padding, groups=channels)


class BlurDownsample(nn.Module):
    """Blur by [1 2 1] / 4 along either axis, then keep every other pixel: (N, C, H, W) → (N, C, ⌈H/2⌉, ⌈W/2⌉).

    Without the blur, what is finer than the coarser grid turns up as patterns that were not there (Zhang 2019). The
    border is mirrored, so H and W must be at least 2.
    """

    def forward(self, features: Tensor) -> Tensor:
        padded = F.pad(features, (1, 1, 1, 1), mode="reflect")
        # The mean of two neighbours, taken twice, weighs three of them by 1 2 1.
        return F.avg_pool2d(F.avg_pool2d(padded, 2, stride=1), 2, stride=2)


class BlurUpsample(nn.Module):
    """Double the size by bilinear interpolation: (N, C, H, W) → (N, C, 2H, 2W).

    Equal to spreading the pixels out and blurring by [1 3 3 1] / 4 along either axis, the border repeated.
    """

    def forward(self, features: Tensor) -> Tensor:
        return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


class PickEvery(nn.Module):
    """Keep one pixel in `factor` along either axis, from the first on: (N, C, H, W) → (N, C, H/factor, W/factor).

    Nearest-neighbour resizing by an integer, as label maps need, whose values must not mix. H and W must be
    multiples of `factor`.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, labels: Tensor) -> Tensor:
        return labels[..., :: self.factor, :: self.factor]
