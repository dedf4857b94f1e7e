"""How uncertain a figure is: 95 % confidence intervals, by resampling the images (Efron 1979) or in closed form."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from i2i.errors import InputError

LEVEL = 0.95
REPLICATES = 1000
_Z = 1.959963984540054  # of a normal distribution, LEVEL of which lies within ± so many deviations


def bootstrap_mean(values: Tensor, *, replicates: int = REPLICATES, seed: int = 0) -> tuple[float, float]:
    """Interval of the mean of independent values: percentiles of the means of samples drawn with replacement.

    Args:
        values: (N,), one for each image.
        replicates: samples.
        seed: decides them, and nothing else does.

    Returns:
        Both ends; equal where there is but one value.

    Raises:
        InputError: no values.
    """
    if values.ndim != 1 or not len(values):
        raise InputError(f"expected values (N,) of at least one image, got {tuple(values.shape)}")
    values = values.double().cpu()
    means = torch.stack([values[drawn].mean() for drawn in resamples(len(values), replicates=replicates, seed=seed)])
    low, high = torch.quantile(means, torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)).tolist()
    return low, high


def resamples(count: int, *, replicates: int, seed: int = 0) -> Iterator[Tensor]:
    """So many times `count` indices, drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(replicates):
        yield torch.randint(count, (count,), generator=generator)


def around(value: float, replicated: Tensor) -> tuple[float, float]:
    """Interval of a figure that resampling shifts, such as a distance between sets: ± 1.96 of its deviations.

    Samples with replacement hold fewer different images, so that distances are larger between them: their spread says
    how uncertain the figure is, their mean nothing.

    Args:
        value: the figure of the whole set.
        replicated: (R,), of resampled sets; at least two.
    """
    spread = _Z * replicated.double().std().item()
    return value - spread, value + spread


def from_error(value: float, error: float) -> tuple[float, float]:
    """Interval of a figure whose standard error is known: ± 1.96 of them."""
    return value - _Z * error, value + _Z * error


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """Interval of a share (Wilson 1927): within [0, 1], and right for few trials and shares near 0 or 1 too.

    Args:
        successes: how many; a tie may count half.
        trials: of how many, above 0; a fraction where they depend on each other and count for less.
    """
    share = successes / trials
    centre = (share + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
    reach = _Z / (1 + _Z**2 / trials) * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    # The ends of none and of all are exact, which rounding would miss.
    return (centre - reach if share > 0 else 0.0), (centre + reach if share < 1 else 1.0)
