"""The area under the ROC curve against its definition, and its error against simulation and a closed form."""

from typing import Any

import numpy as np
import pytest
import torch

from i2i.errors import InputError
from i2i.metrics.ranking import auroc, auroc_error


def brute_force(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(positives, others): which pairs are in the right order, ties half."""
    first, second = scores[truth][:, None], scores[~truth][None]
    return (first > second) + 0.5 * (first == second)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, with ties where the seed is odd."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, 12, 70).astype(float) if seed % 2 else random.normal(size=70)
    return scores, random.random(70) < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    scores, truth = drawn(seed)
    assert auroc(torch.from_numpy(scores), torch.from_numpy(truth)) == pytest.approx(brute_force(scores, truth).mean())
    assert auroc(scores.tolist(), truth.tolist()) + auroc((-scores).tolist(), truth.tolist()) == pytest.approx(1)


def test_auroc_at_its_ends() -> None:
    assert auroc([0.0, 1, 2], [False, True, True]) == 1
    assert auroc([2.0, 1, 0], [False, True, True]) == 0
    assert auroc([1.0, 1, 1], [False, True, True]) == 0.5
    assert auroc([-float("inf"), float("inf")], [False, True]) == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_error_is_delongs(seed: int) -> None:
    """As DeLong et al. define it, from the table of all pairs."""
    scores, truth = drawn(seed)
    table = brute_force(scores, truth)
    variance = table.mean(1).var(ddof=1) / len(table) + table.mean(0).var(ddof=1) / table.shape[1]
    assert auroc_error(scores.tolist(), truth.tolist()) == pytest.approx(variance**0.5)


def test_the_error_is_how_much_the_figure_varies() -> None:
    random = np.random.default_rng(0)
    truth = [True] * 60 + [False] * 90
    samples = [(random.normal(size=150) + 0.8 * np.array(truth)).tolist() for _ in range(400)]
    spread = np.std([auroc(scores, truth) for scores in samples])
    errors = [auroc_error(scores, truth) for scores in samples]
    assert np.mean(errors) == pytest.approx(spread, rel=0.1)


def test_one_image_of_a_kind_has_no_error() -> None:
    assert np.isnan(auroc_error([1.0, 2, 3], [True, False, False]))


@pytest.mark.parametrize("figure", [auroc, auroc_error])
@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1.0, 2.0], [True, True], "expected positive images and others, got 2 and 0"),
        ([1.0], [True, False], r"as many scores as labels, got \(1,\) and \(2,\)"),
        ([1.0, float("nan")], [True, False], "got NaN"),
    ],
)
def test_no_auroc(figure: Any, scores: Any, truth: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        figure(scores, truth)
