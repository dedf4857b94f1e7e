"""How often people prefer one of two systems, and how certain that is.

A judgement is 1 where A was preferred, 0 where B was, and 1/2 for no difference.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from i2i.errors import InputError
from i2i.metrics.intervals import wilson

FEWEST_RATERS = 5
"""Fewer people say too little about how people differ, so that the interval holds for these ones only."""
_MOST = 1_000_000  # people or pairs that anyone might ask for
_Z = NormalDist().inv_cdf(0.975)
_Z_POWER = NormalDist().inv_cdf(0.8)


@dataclass(frozen=True, kw_only=True)
class Preference:
    """How often A was preferred.

    Attributes:
        share: of judgements; a tie counts half.
        low, high: 95 % confidence interval.
        judgements: how many.
        effective: as how many independent judgements they count. People who judge the same pair, or one person who
            judges many, tend to agree, so that this is less.
        over: what the interval holds for: "pairs" like these (as these people see them), or "pairs and people".
    """

    share: float
    low: float
    high: float
    judgements: int
    effective: float
    over: str


def measure_preference(values: Tensor, *, raters: Tensor, pairs: Tensor) -> Preference:
    """Share and interval.

    One person who judges each pair once: Wilson's interval of all judgements. Otherwise judgements are clustered, by
    pairs and, from FEWEST_RATERS people on, by people as well: the variance is the sandwich estimate of Cameron,
    Gelbach and Miller (2011), V = V_pairs + V_people - V_judgements, and Wilson's interval is that of the effective
    number of judgements, p(1 - p) / V, reduced for the few degrees of freedom (Korn and Graubard 1998). Both p and V
    are taken with one more pair or person who is undecided, after Agresti and Coull (1998): five people who agree in
    everything say little about the variance between people.

    Args:
        values: (N,) judgements.
        raters: (N,) who judged, as integers.
        pairs: (N,) what, as integers.

    Raises:
        InputError: no judgements.
    """
    count = len(values)
    if not count:
        raise InputError("expected at least one judgement, got none")
    values = values.double()
    share = values.mean().item()
    by_people = len(raters.unique()) >= FEWEST_RATERS
    if len(pairs.unique()) == count and not by_people:
        low, high = wilson(values.sum().item(), count)
        return Preference(share=share, low=low, high=high, judgements=count, effective=count, over="pairs")

    residuals = values - share
    variance, different = _cluster_variance(residuals, pairs)
    clusters, over = different, "pairs"
    if by_people:
        between_people, people = _cluster_variance(residuals, raters)
        both = variance + between_people - (residuals**2).sum().item() / count**2
        variance, clusters = max(variance, between_people, both), min(different, people)
        over = "pairs and people"
    effective = _effective(share, variance, clusters=clusters, count=count)
    low, high = wilson(share * effective, effective)
    return Preference(share=share, low=low, high=high, judgements=count, effective=effective, over=over)


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p-value of so many wins and losses where both are equally likely; ties are left out.

    The probability, under a binomial distribution with 1/2, of a split that is at least as uneven. 1 without any.
    """
    trials = wins + losses
    tail = sum(math.comb(trials, most) for most in range(max(wins, losses), trials + 1))
    return min(1.0, 2 * tail / 2**trials)


@dataclass(frozen=True, kw_only=True)
class Further:
    """What would tell a difference as large as the one found, with 80 % certainty: the cheapest of what would.

    Attributes:
        people: further ones, who judge as many pairs each as those before.
        pairs: further ones, judged by as many people each.
        other_would: where only people or only pairs are asked for, whether the other alone would do as well.
    """

    people: int
    pairs: int
    other_would: bool


def what_would_tell(values: Tensor, *, raters: Tensor, pairs: Tensor) -> Further | None:
    """What to add to judgements that tell no difference.

    Where people agree on each pair but pairs differ, more people say nothing more about other pairs; where each person
    has a taste of their own, more pairs say nothing about other people. So the variance is divided (the components of a
    design with both at random, by moments), and from its parts the interval that larger studies would have.

    Args:
        values, raters, pairs: as of `measure_preference`.

    Returns:
        None where no difference was found, or one so small that no study would tell it.
    """
    share = values.double().mean().item()
    difference = abs(share - 0.5)
    if difference < 1e-9:
        return None
    independent = (_Z / 2 + _Z_POWER * math.sqrt(share * (1 - share))) ** 2 / difference**2
    residuals, count = values.double() - share, len(values)
    total = (residuals**2).mean().item()
    of_pairs, at_once_pairs, pairs_now = _component(residuals, pairs)
    of_people, at_once_people, people_now = _component(residuals, raters)
    rest = max(0.0, total - of_pairs - of_people)

    def tells(*, people: int, pairs: int) -> bool:
        more_people, more_pairs = people / people_now, pairs / pairs_now
        judgements = round(count * more_people * more_pairs)
        if people == 1:
            return judgements >= independent
        between_pairs, between_people = of_pairs * at_once_pairs / more_pairs, of_people * at_once_people / more_people
        if people < FEWEST_RATERS:
            variance, clusters = between_pairs + (of_people + rest) / judgements, pairs
        else:
            variance, clusters = between_pairs + between_people + rest / judgements, min(people, pairs)
        return _effective(share, variance, clusters=clusters, count=judgements) >= independent

    # A few people are taken as they are; where more are asked, the interval is to hold for others.
    fewest_people = max(people_now + 1, FEWEST_RATERS)
    people = (
        _least(lambda number: tells(people=number, pairs=pairs_now), start=fewest_people) if people_now > 1 else None
    )
    different = _least(lambda number: tells(people=people_now, pairs=number), start=pairs_now + 1)
    if people is None and different is None:
        ratio = pairs_now / people_now
        both = _least(lambda number: tells(people=number, pairs=math.ceil(number * ratio)), start=fewest_people)
        if both is None:
            return None
        return Further(people=both - people_now, pairs=math.ceil(both * ratio) - pairs_now, other_would=False)
    if different is None or (people is not None and people / people_now < different / pairs_now):
        assert people is not None
        return Further(people=people - people_now, pairs=0, other_would=different is not None)
    return Further(people=0, pairs=different - pairs_now, other_would=people is not None)


def _effective(share: float, variance: float, *, clusters: int, count: int) -> float:
    """As how many independent judgements so many count, see `measure_preference`."""
    cautious = (clusters * share + 0.5) / (clusters + 1)
    variance = variance * (clusters - 1) / (clusters + 1) + ((share - 0.5) / (clusters + 1)) ** 2
    # Where all are ties, there is no variance to see.
    effective = min(count, cautious * (1 - cautious) / variance) if variance > 0 else clusters
    effective *= (_Z / _student(clusters - 1)) ** 2
    return max(effective, 1e-6)  # from one pair alone nothing follows for others: the interval is 0 to 1


def _component(residuals: Tensor, clusters: Tensor) -> tuple[float, float, int]:
    """Variance between clusters; by what it is multiplied in the variance of the mean; and how many clusters."""
    count = len(residuals)
    _, sizes = clusters.unique(return_counts=True)
    at_once = (sizes.double() ** 2).sum().item() / count**2
    variance, different = _cluster_variance(residuals, clusters)
    if at_once <= 1 / count:  # one judgement in each: nothing tells them apart
        return 0.0, at_once, different
    within = (residuals**2).mean().item() / count
    return max(0.0, (variance - within) / (at_once - 1 / count)), at_once, different


def _least(enough: Callable[[int], bool], *, start: int) -> int | None:
    """The least number from `start` on that is enough; None where none below `_MOST` is."""
    high = start
    while not enough(high):
        high *= 2
        if high > _MOST:
            return None
    return bisect_left(range(high + 1), True, lo=max(start, high // 2), key=enough)


def _cluster_variance(residuals: Tensor, clusters: Tensor) -> tuple[float, int]:
    """Of the mean, if residuals depend on each other within clusters only; and how many clusters there are."""
    _, places = clusters.unique(return_inverse=True)
    count = int(places.max()) + 1
    sums = torch.zeros(count, dtype=residuals.dtype).index_add_(0, places, residuals)
    return (sums**2).sum().item() / len(residuals) ** 2 * count / max(count - 1, 1), count


def _student(degrees: int) -> float:
    """97.5 % quantile of Student's t: the normal one, expanded in 1 / degrees (Abramowitz and Stegun 26.7.5)."""
    if degrees < 1:
        return math.inf
    z = _Z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))
