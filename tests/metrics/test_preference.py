"""How often A is preferred: against SciPy, and intervals against simulated people."""

import math
from statistics import NormalDist

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from i2i.errors import InputError
from i2i.metrics.preference import Further, Preference, measure_preference, sign_test, what_would_tell


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (3, 3), (7, 2), (60, 41), (2, 500)])
def test_sign_test_is_scipys(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("wins", "losses"), [(1, 0), (7, 2), (60, 41), (40, 0)])
def test_one_persons_interval_is_wilsons(wins: int, losses: int) -> None:
    count = wins + losses
    values = torch.tensor([1.0] * wins + [0.0] * losses)
    found = measure_preference(values, raters=torch.zeros(count, dtype=torch.int64), pairs=torch.arange(count))
    expected = binomtest(wins, count).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.effective, found.over) == (count, "pairs")


def test_a_tie_counts_half() -> None:
    ties = measure_preference(torch.tensor([1, 0.5, 0.5, 0]), raters=torch.zeros(4), pairs=torch.arange(4))
    assert ties.share == 0.5


def test_the_same_answers_of_more_people_are_not_taken_for_more_knowledge() -> None:
    """Three people who agree in everything say of other pairs what one of them says."""
    one = torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1])
    pairs = torch.arange(20)
    alone = measure_preference(one, raters=torch.zeros(20), pairs=pairs)
    three = measure_preference(one.repeat(3), raters=torch.arange(3).repeat_interleave(20), pairs=pairs.repeat(3))
    assert three.share == alone.share
    assert three.high - three.low >= alone.high - alone.low
    assert three.effective <= 20


@pytest.mark.parametrize(
    ("people", "pairs", "taste", "difficulty"),
    [
        (1, 30, 0.0, 0.7),
        (3, 40, 0.5, 0.7),
        (8, 40, 0.0, 0.0),
        (8, 40, 0.5, 0.7),
        (20, 20, 0.7, 0.0),
        (6, 40, 1.0, 0.5),
        (6, 40, 3.0, 0.0),
    ],
)
@pytest.mark.parametrize("preferred", [0.0, 0.8, 3.0])
def test_intervals_hold_the_truth_in_nineteen_of_twenty_studies(
    people: int, pairs: int, taste: float, difficulty: float, preferred: float
) -> None:
    """People differ in taste, pairs in how clear they are; both are drawn anew each time (a probit model)."""
    normal = NormalDist()
    studies, held = 400, 0
    raters = torch.arange(people)[:, None].expand(people, pairs).flatten()
    which = torch.arange(pairs).expand(people, pairs).flatten()
    for _ in range(studies):
        tastes = taste * torch.randn(people, 1)
        clearness = difficulty * torch.randn(1, pairs)
        chosen = (preferred + tastes + clearness + torch.randn(people, pairs) > 0).double().flatten()
        found = measure_preference(chosen, raters=raters, pairs=which)
        if found.over == "pairs":  # as these people see them
            spread = math.sqrt(1 + difficulty**2)
            truth = sum(normal.cdf((preferred + one) / spread) for one in tastes.flatten().tolist()) / people
        else:
            truth = normal.cdf(preferred / math.sqrt(1 + taste**2 + difficulty**2))
        held += found.low <= truth <= found.high
    assert held / studies > 0.95 - 3 * math.sqrt(0.95 * 0.05 / studies)


@pytest.mark.parametrize("dissent", [0, 1])
def test_few_people_who_agree_are_not_taken_for_as_many_as_their_pairs(dissent: int) -> None:
    """If 0.478 of all people prefer A, five who do are met once in 40 times (0.478 ** 5), however many their pairs."""
    values = torch.ones(5 * 40)
    values[:dissent] = 0
    raters, pairs = torch.arange(5).repeat_interleave(40), torch.arange(40).repeat(5)
    found = measure_preference(values, raters=raters, pairs=pairs)
    assert 0.4 < found.low < 0.7 and found.effective < 10


def test_that_all_say_no_difference_is_not_certainty() -> None:
    raters, pairs = torch.arange(5).repeat_interleave(40), torch.arange(40).repeat(5)
    found = measure_preference(torch.full((200,), 0.5), raters=raters, pairs=pairs)
    assert found.low < 0.3 and found.high > 0.7


def test_from_many_people_for_a_single_pair_nothing_follows_for_others() -> None:
    found = measure_preference(torch.ones(4), raters=torch.arange(4), pairs=torch.zeros(4))
    assert found.low < 0.01 and found.high > 0.99


def test_as_many_pairs_as_one_person_needs_do_tell_the_difference_four_times_in_five() -> None:
    values = torch.tensor([1.0] * 30 + [0.0] * 20)
    further = what_would_tell(values, raters=torch.zeros(50), pairs=torch.arange(50))
    assert further is not None and further.people == 0
    needed = 50 + further.pairs
    studies = 1000
    told = 0
    for _ in range(studies):
        wins = int((torch.rand(needed) < 0.6).sum())
        interval = binomtest(wins, needed).proportion_ci(method="wilson")
        told += interval.low > 0.5
    assert 0.75 < told / studies < 0.85


@pytest.mark.parametrize(
    ("people", "pairs", "taste", "difficulty", "asked"),
    [(30, 12, 0.0, 1.5, "pairs"), (8, 40, 1.0, 0.0, "people"), (10, 10, 1.5, 1.5, "both"), (3, 12, 0.3, 1.5, "pairs")],
)
def test_what_is_asked_for_tells_the_difference_and_as_much_of_the_other_does_not(
    people: int, pairs: int, taste: float, difficulty: float, asked: str
) -> None:
    """Studies that found about as much as there is, and could not tell, go on as they are told to."""
    share = 0.65
    preferred = NormalDist().inv_cdf(share) * math.sqrt(1 + taste**2 + difficulty**2)
    advised, told, told_otherwise, studies = 0, 0, 0, 60
    while advised < studies:
        tastes, clearness = taste * torch.randn(people, 1), difficulty * torch.randn(1, pairs)
        seen = preferred + tastes + clearness + torch.randn(people, pairs)
        found, further = _both(seen)
        if abs(found.share - share) > 0.02 or found.low > 0.5 or further is None:
            continue
        kind = "both" if further.people and further.pairs else "people" if further.people else "pairs"
        if kind != asked:  # the few pairs or people at hand looked more alike than they are
            continue
        advised += 1

        def low(
            more_people: int, more_pairs: int, seen: Tensor = seen, t: Tensor = tastes, c: Tensor = clearness
        ) -> float:
            """Of the study enlarged: nobody judges anew what was judged."""
            t = torch.cat([t, taste * torch.randn(more_people, 1)])
            c = torch.cat([c, difficulty * torch.randn(1, more_pairs)], dim=1)
            larger = preferred + t + c + torch.randn(len(t), c.shape[1])
            larger[: len(seen), : seen.shape[1]] = seen
            return _both(larger)[0].low

        told += low(further.people, further.pairs) > 0.5
        if asked == "pairs" and not further.other_would:
            told_otherwise += low(people * further.pairs // pairs, 0) > 0.5
        if asked == "people" and not further.other_would:
            told_otherwise += low(0, pairs * further.people // people) > 0.5
    assert told / studies > 0.8 - 3 * math.sqrt(0.8 * 0.2 / studies)
    assert told_otherwise / studies < 0.5


def _both(seen: Tensor) -> tuple[Preference, Further | None]:
    """What is found, and what would tell, if A is chosen where a number (people, pairs) is above 0."""
    raters, pairs = torch.meshgrid(*(torch.arange(length) for length in seen.shape), indexing="ij")
    values, where = (seen > 0).double().flatten(), {"raters": raters.flatten(), "pairs": pairs.flatten()}
    return measure_preference(values, **where), what_would_tell(values, **where)


def test_where_there_is_no_difference_nothing_would_tell_it() -> None:
    assert what_would_tell(torch.tensor([1.0, 0.0]), raters=torch.zeros(2), pairs=torch.arange(2)) is None


def test_no_judgements_are_refused() -> None:
    with pytest.raises(InputError, match="at least one judgement"):
        measure_preference(torch.zeros(0), raters=torch.zeros(0), pairs=torch.zeros(0))
