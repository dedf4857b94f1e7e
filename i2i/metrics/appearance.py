"""What an image looks like, in a few numbers: light, colour, sharpness, noise, traces of compression, composition."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError

SMALLEST_PX = 3
CHANNELS = 8
"""So many channels have a mean of their own."""
STATISTICS = (
    *("height_px", "width_px", "brightness", "contrast", "saturation", "sharpness", "noise", "blockiness"),
    *("black", "white", *(f"channel_{number}" for number in range(CHANNELS))),
)
COMPOSITION = 100
_NOISE_BLOCK_PX = 16
_JPEG_BLOCK_PX = 8
_HALF_STEP = 0.5 / 255
_NOTHING = 1e-6  # a deviation that is none


def measure_appearance(images: Tensor) -> dict[str, Tensor]:
    """Numbers that say what images look like.

    - height_px, width_px.
    - brightness: mean of all values, from black, 0, to white, 1. channel_0, …: that of each channel.
    - contrast: deviation of the mean of the channels.
    - saturation: mean difference between the largest and the smallest channel.
    - sharpness: root mean square of the steps between neighbours, next to the contrast, so that darker or flatter
      images are no blurrier ones.
    - noise: deviation of noise (Immerkær 1996), in the calmest fifth of blocks of 16 px, where it is not detail.
    - blockiness: steps across the borders of blocks of 8 px next to other steps. 1 is none; JPEG has more.
    - black, white: share of pixels whose channels are all at the end of the range.

    Args:
        images: (N, C, H, W) in [-1, 1].

    Returns:
        By name (N,) float32. Images below 18 px have no blockiness; of more than CHANNELS channels, the first ones have
        means.

    Raises:
        InputError: a side is shorter than 3.
    """
    if images.ndim != 4 or min(images.shape[-2:]) < SMALLEST_PX:
        raise InputError(f"expected images (N, C, H, W) of at least 3 by 3 pixels, got {tuple(images.shape)}")
    values = (images.float() + 1) / 2
    count, channels, height, width = values.shape
    grey = values.mean(dim=1)
    contrast = grey.std(dim=(1, 2), correction=0)
    down, across = grey.diff(dim=1).abs(), grey.diff(dim=2).abs()
    steps = (down.square().mean(dim=(1, 2)) + across.square().mean(dim=(1, 2))).sqrt()
    found = {
        "height_px": torch.full((count,), float(height)),
        "width_px": torch.full((count,), float(width)),
        "brightness": grey.mean(dim=(1, 2)),
        "contrast": contrast,
        "saturation": (values.amax(dim=1) - values.amin(dim=1)).mean(dim=(1, 2)),
        "sharpness": steps / contrast.clamp(min=_NOTHING),
        "noise": _noise(grey),
        "black": (values <= _HALF_STEP).all(dim=1).float().mean(dim=(1, 2)),
        "white": (values >= 1 - _HALF_STEP).all(dim=1).float().mean(dim=(1, 2)),
    }
    found |= {f"channel_{number}": values[:, number].mean(dim=(1, 2)) for number in range(min(channels, CHANNELS))}
    if min(height, width) >= 2 * _JPEG_BLOCK_PX + 2:
        found["blockiness"] = (_at_borders(down.mean(dim=2)) + _at_borders(across.mean(dim=1))) / 2
    return found


def composition(images: Tensor) -> Tensor:
    """Where images are light and dark, and which way their edges run, whatever their brightness, contrast and size.

    A thumbnail of 8 x 8 (mean of the channels) without mean and deviation; in each quarter of the image the share of
    eight directions in its edges, on 64 x 64 px; and how much of the detail lies in each of four scales.

    Args:
        images: (N, C, H, W) in [-1, 1], at least 3 by 3 pixels.

    Returns:
        (N, COMPOSITION) float32.
    """
    grey = F.adaptive_avg_pool2d(images.float().mean(dim=1, keepdim=True), 64)
    small = F.avg_pool2d(grey, 8).flatten(1)
    deviation, mean = torch.std_mean(small, dim=1, keepdim=True, correction=0)
    thumbnail = (small - mean) / deviation.clamp(min=_NOTHING)

    across = grey[:, 0, 1:-1, 2:] - grey[:, 0, 1:-1, :-2]
    down = grey[:, 0, 2:, 1:-1] - grey[:, 0, :-2, 1:-1]
    strength = torch.hypot(across, down)
    direction = (torch.atan2(down, across) / math.pi * 8).round().long() % 8  # of edges, which have no sign
    directions = F.one_hot(direction, 8).permute(0, 3, 1, 2) * strength[:, None]
    quarters = F.adaptive_avg_pool2d(directions, 2)
    quarters = (quarters / quarters.sum(dim=1, keepdim=True).clamp(min=_NOTHING)).flatten(1)

    details = []
    level = grey
    for _ in range(4):
        half = F.avg_pool2d(level, 2)
        details.append((level - F.interpolate(half, scale_factor=2)).square().mean(dim=(1, 2, 3)))
        level = half
    scales = torch.stack(details, dim=1)
    scales = scales / scales.sum(dim=1, keepdim=True).clamp(min=_NOTHING**2)
    return torch.cat([thumbnail, quarters, scales], dim=1)


def _noise(grey: Tensor) -> Tensor:
    """(N, H, W) to (N,): the difference of two Laplacians sees no plane and no straight edge."""
    kernel = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]], device=grey.device)
    response = F.conv2d(grey[:, None], kernel[None, None]).abs()
    sides = [min(_NOISE_BLOCK_PX, side) for side in response.shape[-2:]]
    blocks = F.avg_pool2d(response, sides).flatten(1)
    return math.sqrt(math.pi / 2) / 6 * blocks.quantile(0.2, dim=1)


def _at_borders(steps: Tensor) -> Tensor:
    """(N, L) mean steps between neighbours to (N,): those across block borders next to all others."""
    at_border = torch.arange(steps.shape[1], device=steps.device) % _JPEG_BLOCK_PX == _JPEG_BLOCK_PX - 1
    inside = steps[:, ~at_border].mean(dim=1)
    return (steps[:, at_border].mean(dim=1) + _NOTHING) / (inside + _NOTHING)
