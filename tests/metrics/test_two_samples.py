"""Tests of two samples: against SciPy, against brute force, and by how often chance deceives them."""

import math

import pytest
import torch
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp

from i2i.errors import InputError
from i2i.metrics.ranking import auroc
from i2i.metrics.two_samples import categories, holm, kolmogorov_smirnov, smallest_seen, told_apart


@pytest.mark.parametrize(
    ("n", "m", "shift"), [(1, 1, 0.0), (2, 9, 1.0), (5, 7, 0.0), (30, 20, 0.5), (80, 80, 0.2), (1000, 300, 0.2)]
)
def test_kolmogorov_smirnov_is_scipys_exact_test(n: int, m: int, shift: float) -> None:
    first, second = torch.randn(n), torch.randn(m) + shift
    found = kolmogorov_smirnov(first, second)
    expected = ks_2samp(first.numpy(), second.numpy(), method="exact")
    assert found.effect == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)


def test_kolmogorov_smirnov_of_many_values_is_scipys_asymptotic_test() -> None:
    first, second = torch.randn(9000), torch.randn(7000) + 0.02
    expected = ks_2samp(first.numpy(), second.numpy(), method="asymp")
    assert kolmogorov_smirnov(first, second).p_value == pytest.approx(expected.pvalue, rel=0.02)


def test_kolmogorov_smirnov_with_ties_and_of_constants() -> None:
    first, second = torch.tensor([1, 1, 2, 2, 3.0]), torch.tensor([1, 2, 2, 3, 3, 3.0])
    assert kolmogorov_smirnov(first, second).effect == pytest.approx(ks_2samp(first.numpy(), second.numpy()).statistic)
    same = kolmogorov_smirnov(torch.ones(20), torch.ones(30))
    assert (same.effect, same.p_value) == (0, 1)
    apart = kolmogorov_smirnov(torch.zeros(400), torch.ones(400))
    assert apart.effect == 1 and 0 < apart.p_value < 1e-14
    with pytest.raises(InputError, match="at least one value"):
        kolmogorov_smirnov(torch.ones(0), torch.ones(3))


def test_smallest_seen_is_where_the_test_begins_to_see() -> None:
    """Two samples of which one lies a share of its values above the other."""
    n, m, level = 200, 300, 0.05 / 14
    least = smallest_seen(n, m, level=level)
    for share, seen in ((least - 0.02, False), (least + 0.02, True)):
        below = torch.arange(n) / n
        above = torch.cat(
            [torch.full((round(share * m),), 2.0), torch.arange(m - round(share * m)) / (m * (1 - share))]
        )
        assert (kolmogorov_smirnov(below, above).p_value < level) == seen
    assert (
        math.isinf(smallest_seen(3, 4, level=level))
        and kolmogorov_smirnov(torch.zeros(3), torch.ones(4)).p_value > level
    )


def test_categories_agree_with_the_chi_square_test() -> None:
    first, second = {"png": 60, "jpeg": 40}, {"png": 45, "jpeg": 50, "tiff": 5}
    found = categories(first, second)
    expected = chi2_contingency([[60, 40, 0], [45, 50, 5]], correction=False)
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.01)
    assert found.effect == pytest.approx(0.15)
    assert categories({"png": 9}, {"png": 4}).p_value == 1
    assert categories({"png": 99}, {"jpeg": 40}).p_value == 1e-5


@pytest.mark.parametrize("live", [{"png": 150, "jpeg": 30}, {"png": 169, "jpeg": 11}, {"png": 171, "jpeg": 9}])
def test_categories_of_two_kinds_are_the_exact_test(live: dict[str, int]) -> None:
    """Fisher's, whose order of tables is that of chi-square where samples are of one size."""
    found = categories({"png": 180}, live)
    exact = fisher_exact([[180, 0], [live["png"], live["jpeg"]]]).pvalue
    assert found.p_value == pytest.approx(max(exact, 1e-5), abs=4 * math.sqrt(exact / 99_999) + 1e-5)


def test_told_apart_leaves_each_row_out() -> None:
    """The closed form against a ridge regression that is fitted anew without each row."""
    first, second = torch.randn(12, 5).double(), torch.randn(9, 5).double() + 0.8
    rows = torch.cat([first, second])
    rows = (rows - rows.mean(0)) / rows.std(0)
    labels = torch.tensor([0.0] * 12 + [1.0] * 9, dtype=torch.float64)
    count = len(rows)
    penalty = count * torch.eye(6, dtype=torch.float64)
    penalty[-1, -1] = 0
    design = torch.cat([rows, torch.ones(count, 1, dtype=torch.float64)], dim=1)
    scores = []
    for index in range(count):
        others = torch.arange(count) != index
        gram = design[others].T @ design[others] + penalty
        weights = torch.linalg.solve(gram, design[others].T @ labels[others])
        scores.append((design[index] @ weights - labels[others].mean()).item())
    assert told_apart(first, second).effect == pytest.approx(auroc(scores, labels > 0), abs=1e-9)


def test_told_apart_sees_a_difference_and_no_more_than_chance_without_one() -> None:
    p_values, areas = [], []
    for seed in range(100):
        found = told_apart(torch.randn(25, 12), torch.randn(40, 12), permutations=999, seed=seed)
        p_values.append(found.p_value)
        areas.append(found.effect)
    assert sum(p < 0.05 for p in p_values) <= 12  # five are expected; 13 and more come once in a thousand
    assert 0.45 < sum(areas) / 100 < 0.55
    found = told_apart(torch.randn(60, 12), torch.randn(60, 12) + 0.7)
    assert found.p_value == 1e-4 and found.effect > 0.8
    few = told_apart(torch.randn(3, 12), torch.randn(2, 12) + 9)
    assert few.p_value >= 0.1  # there are ten ways to choose two of five
    with pytest.raises(InputError, match="at least two rows"):
        told_apart(torch.randn(1, 3), torch.randn(5, 3))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
