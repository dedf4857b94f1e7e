import numpy as np
import pytest
import torch
from scipy import stats

from i2i.errors import InputError
from i2i.metrics.intervals import around, bootstrap_mean, resamples, wilson


@pytest.mark.parametrize("seed", range(3))
def test_the_bootstrap_of_a_mean_is_scipys(seed: int) -> None:
    values = np.random.default_rng(seed).exponential(size=80)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    low, high = bootstrap_mean(torch.from_numpy(values), replicates=20_000)
    assert low == pytest.approx(expected.low, rel=0.01)
    assert high == pytest.approx(expected.high, rel=0.01)


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        low, high = bootstrap_mean(torch.from_numpy(rng.normal(3.0, 2.0, size=60)), replicates=300)
        held += low <= 3.0 <= high
    assert 0.90 < held / 300 < 0.985


def test_seeds_decide_and_nothing_else() -> None:
    values = torch.linspace(0, 1, 50)
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)
    first, again = (list(resamples(7, replicates=3, seed=5)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert all(drawn.shape == (7,) and drawn.max() < 7 for drawn in first)


def test_one_value_is_its_own_interval_and_none_has_none() -> None:
    assert bootstrap_mean(torch.tensor([4.0])) == (4.0, 4.0)
    with pytest.raises(InputError, match="at least one image"):
        bootstrap_mean(torch.tensor([]))


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (0, 20), (13, 20), (20, 20), (501, 1000)])
def test_wilsons_interval_is_scipys(successes: int, trials: int) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_none_and_all_end_exactly() -> None:
    for trials in (3, 50, 106, 10_000):
        assert wilson(0, trials)[0] == 0
        assert wilson(trials, trials)[1] == 1


def test_a_replicated_figures_interval_lies_around_the_figure() -> None:
    low, high = around(10.0, torch.tensor([13.0, 14.0, 15.0]))  # shifted, with a deviation of 1
    assert (low, high) == pytest.approx((10 - 1.959964, 10 + 1.959964), abs=1e-5)
