"""Transparency beside a network that sees colours only: what it hides, and how it is enlarged."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError

AlphaUpsampler = Literal["auto", "network", "bicubic"]

EDGE_PX = 2  # how far around a pixel others tell whether it lies in an edge
COVERED = 0.25  # mean weight of a block from which its mean colour counts in full
SOFT = 0.15  # share of partly visible pixels among visible ones, far more than cut-outs have at their edges


def check_alpha_upsampler(alpha_upsampler: str) -> None:
    """Raise InputError for a name that is unknown."""
    if alpha_upsampler not in get_args(AlphaUpsampler):
        raise InputError(f"alpha_upsampler: expected one of {get_args(AlphaUpsampler)}, got {alpha_upsampler!r}")


def visibility(alpha: Tensor) -> Tensor:
    """Transparency of any dtype as float32 from 0, transparent, to 1, opaque; floats are so already."""
    return alpha.float() / (1.0 if alpha.dtype.is_floating_point else torch.iinfo(alpha.dtype).max)


def is_soft(visible: Tensor) -> bool:
    """Whether visibility (N, 1, H, W) from 0 to 1 is that of smoke or leaves, which a network would harden."""
    partly = ((visible > 0.05) & (visible < 0.95)).sum()
    return bool(partly > SOFT * (visible > 0.05).sum())


def fill_hidden(colours: Tensor, visible: Tensor) -> Tensor:
    """Continue the visible colours under what transparency hides.

    The colours of transparent pixels are arbitrary, and those in edges mixed with them; a network would draw them into
    what is visible. Each such pixel takes the mean colour, weighted by visibility, of the smallest block of pixels
    around it that has enough to show: push-pull interpolation (Gortler et al. 1996, "The Lumigraph", section 3.4).

    Args:
        colours: (N, C, H, W) float32, in any range.
        visible: (N, 1, H, W) float32 from 0 to 1.

    Returns:
        (N, C, H, W); pixels at least as visible as those around them are as they were, and so is an image in which
        nothing can be seen.
    """
    # In smoke or glass a pixel is about as visible as its neighbours. In an edge it is far less so than the most
    # visible one: at half as much or less, its colour counts for nothing.
    neighbours = F.max_pool2d(visible, 2 * EDGE_PX + 1, stride=1, padding=EDGE_PX)
    trust = (2 * visible / neighbours.clamp(min=1e-6) - 1).clamp(0, 1)
    weight = visible * trust
    nothing_to_see = (weight == 0).flatten(1).all(dim=1)[:, None, None, None]
    filled = _mean_around(colours * weight, weight).lerp(colours, trust)
    return torch.where((trust == 1) | nothing_to_see, colours, filled)


def confine(enlarged: Tensor, alpha: Tensor) -> Tensor:
    """Keep enlarged transparency within that of each pixel's 3 x 3 neighbours of before.

    So opaque areas stay opaque and empty ones empty, without halos beside edges.

    Args:
        enlarged: (N, 1, H', W').
        alpha: (N, 1, H, W), of any dtype.

    Returns:
        (N, 1, H', W') in `alpha`'s dtype.
    """
    values, size = alpha.float(), enlarged.shape[2:]
    highest = F.interpolate(F.max_pool2d(values, 3, stride=1, padding=1), size=size, mode="nearest-exact")
    lowest = F.interpolate(-F.max_pool2d(-values, 3, stride=1, padding=1), size=size, mode="nearest-exact")
    return enlarged.float().clamp(lowest, highest).to(alpha.dtype)


def _mean_around(weighted: Tensor, weight: Tensor) -> Tensor:
    """For each pixel the mean colour of the block that it lies in; where that weighs little, of a larger one."""
    height, width = weight.shape[2:]
    even = (0, width % 2, 0, height % 2)
    weighted, weight = F.avg_pool2d(F.pad(weighted, even), 2), F.avg_pool2d(F.pad(weight, even), 2)
    means = weighted / weight.clamp(min=1e-6)
    if weight.shape[2:] != (1, 1):
        means = _mean_around(weighted, weight).lerp(means, (weight / COVERED).clamp(max=1))
    return F.interpolate(means, scale_factor=2, mode="bilinear")[:, :, :height, :width]
