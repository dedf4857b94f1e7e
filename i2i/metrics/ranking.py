"""How well a score tells two kinds of images apart: the area under the ROC curve."""

from collections.abc import Sequence

import torch
from torch import Tensor

from i2i.errors import InputError


def auroc(scores: Tensor | Sequence[float], positive: Tensor | Sequence[bool]) -> float:
    """Area under the ROC curve: the chance that a positive image scores higher than another one, ties half.

    From the ranks (Mann & Whitney 1947), equal scores sharing their mean rank.

    Args:
        scores: (N,), higher is more likely positive.
        positive: (N,), which of them are.

    Returns:
        From 0 to 1; 0.5 is chance.

    Raises:
        InputError: other lengths, scores that are NaN, or only one kind of images.
    """
    values, chosen = _checked(scores, positive)
    count = int(chosen.sum())
    others = len(chosen) - count
    rank_sum = float(_mean_ranks(values)[chosen].sum())
    return (rank_sum - count * (count + 1) / 2) / (count * others)


def auroc_error(scores: Tensor | Sequence[float], positive: Tensor | Sequence[bool]) -> float:
    """Standard error of `auroc` (DeLong et al. 1988), from ranks (Sun & Xu 2014, equations 10 and 13).

    Args:
        scores, positive: as for `auroc`.

    Returns:
        At least 0; NaN where there is but one image of a kind.

    Raises:
        InputError: as for `auroc`.
    """
    values, chosen = _checked(scores, positive)
    mine, theirs = values[chosen], values[~chosen]
    ranks = _mean_ranks(values)
    # For each image, the share of the other kind that it is above, which `auroc` is the mean of.
    above = (ranks[chosen] - _mean_ranks(mine)) / len(theirs)
    below = 1 - (ranks[~chosen] - _mean_ranks(theirs)) / len(mine)
    if min(len(mine), len(theirs)) < 2:
        return float("nan")
    return float((above.var() / len(mine) + below.var() / len(theirs)).sqrt())


def _checked(scores: Tensor | Sequence[float], positive: Tensor | Sequence[bool]) -> tuple[Tensor, Tensor]:
    values = torch.as_tensor(scores, dtype=torch.float64)
    chosen = torch.as_tensor(positive).bool()
    if values.shape != chosen.shape or values.ndim != 1:
        raise InputError(f"expected as many scores as labels, got {tuple(values.shape)} and {tuple(chosen.shape)}")
    if values.isnan().any():
        raise InputError("scores: expected numbers, got NaN among them")
    count = int(chosen.sum())
    if not 0 < count < len(chosen):
        raise InputError(f"expected positive images and others, got {count} and {len(chosen) - count}")
    return values, chosen


def _mean_ranks(values: Tensor) -> Tensor:
    """(N,) float64 from 1; equal values share the mean of theirs."""
    _, group, sizes = values.unique(return_inverse=True, return_counts=True)
    return (sizes.cumsum(0) - (sizes - 1) / 2).double()[group]
