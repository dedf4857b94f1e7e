"""Figures of sets of features against torch-fidelity, torchmetrics, clean-fid, prdc, SciPy and closed forms."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
from prdc import compute_prdc
from torch import Tensor, nn
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from i2i.errors import InputError
from i2i.metrics import distribution as module
from i2i.metrics import (
    frechet_distance,
    frechet_influences,
    frechet_of_moments,
    inception_score,
    kernel_distance,
    kernel_error,
    mean_distances,
    neighbour_scores,
)


def two_sets(*, counts: tuple[int, int] = (400, 330), length: int = 24) -> tuple[Tensor, Tensor]:
    """Features that are skewed and depend on each other, at some distance."""
    mixing = torch.randn(length, length) / length**0.5
    first = torch.randn(counts[0], length).exp() @ mixing
    second = (1.2 * torch.randn(counts[1], length)).exp() @ mixing + 0.3
    return first, second


def of_moments(first: Tensor, second: Tensor) -> float:
    first, second = first.double(), second.double()
    return frechet_of_moments(first.mean(0), torch.cov(first.T), second.mean(0), torch.cov(second.T))


class AsFeatures(nn.Module):
    """Lets torchmetrics take features for images."""

    num_features = 24

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


@pytest.mark.parametrize("distance", [frechet_distance, of_moments])
def test_frechet_distance_is_that_of_others(distance: Callable[[Tensor, Tensor], float]) -> None:
    first, second = two_sets()
    found = distance(first, second)
    statistics = [fid_features_to_statistics(features.double()) for features in (first, second)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(expected, rel=1e-6) and found > 0.1
    covariances = [np.cov(features.double().numpy(), rowvar=False) for features in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = (first.double().mean(0) - second.double().mean(0)).square().sum().item()
    assert found == pytest.approx(shift + np.trace(covariances[0] + covariances[1] - 2 * root), rel=1e-9)
    metric = FrechetInceptionDistance(AsFeatures(), input_img_size=(24, 1, 1))
    metric.update(first[..., None, None], real=True)
    metric.update(second[..., None, None], real=False)
    assert found == pytest.approx(metric.compute().item(), rel=1e-3)
    assert distance(second, first) == pytest.approx(found, rel=1e-9)


def test_frechet_distance_between_gaussians_in_closed_form() -> None:
    """Covariances that commute, C = Q Λ Qᵀ: ‖m₁ − m₂‖² + Σ (√λ₁ − √λ₂)². Some λ are 0 in one set or in both."""
    axes, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))
    first = torch.tensor([9.0, 4, 1, 1e-3, 0, 0, 0, 2, 5, 7, 0, 0], dtype=torch.float64)
    second = torch.tensor([4.0, 4, 2, 1e3, 0, 1, 3, 0, 0, 7, 0, 0], dtype=torch.float64)
    means = torch.randn(2, 12, dtype=torch.float64)
    expected = (means[0] - means[1]).square().sum() + (first.sqrt() - second.sqrt()).square().sum()
    found = frechet_of_moments(means[0], axes * first @ axes.T, means[1], axes * second @ axes.T)
    assert found == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_distance_of_samples_nears_that_of_their_gaussians() -> None:
    deviations = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    first, second = (torch.randn(20_000, 6, dtype=torch.float64) for _ in range(2))
    expected = 6 * 0.25 + (deviations - 1).square().sum().item()
    assert frechet_distance(first * deviations, second + 0.5) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("distance", [frechet_distance, of_moments])
def test_frechet_distance_of_fewer_images_than_features(distance: Callable[[Tensor, Tensor], float]) -> None:
    """tr(C₁ + C₂ − 2 (C₁ C₂)^½) = min ‖Q A − B‖² over rotations Q, where AᵀA and BᵀB are the covariances."""
    first, second = torch.randn(5, 12, dtype=torch.float64), torch.randn(5, 12, dtype=torch.float64) * 2 + 1
    centred = [(features - features.mean(0)).numpy() / 2 for features in (first, second)]
    rotation, _ = scipy.linalg.orthogonal_procrustes(centred[0].T, centred[1].T)
    apart = np.square(centred[0].T @ rotation - centred[1].T).sum()
    expected = apart + (first.mean(0) - second.mean(0)).square().sum().item()
    assert distance(first, second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("distance", [frechet_distance, of_moments])
def test_frechet_distance_of_shifted_and_stretched_features(distance: Callable[[Tensor, Tensor], float]) -> None:
    """Features shifted by s and stretched by k about their mean: |s|² + (k − 1)² tr C."""
    features = torch.randn(50, 8, dtype=torch.float64)
    spread = (features - features.mean(0)).square().sum().item() / 49
    mean = features.mean(0)
    assert distance(features, features) == pytest.approx(0, abs=1e-12)
    assert distance(features, features + 2) == pytest.approx(4 * 8, rel=1e-12)
    assert distance(features, mean + 3 * (features - mean)) == pytest.approx(4 * spread, rel=1e-12)
    constant = torch.ones(4, 8)
    assert distance(constant, features) == pytest.approx(spread + (mean - 1).square().sum().item(), rel=1e-9)


@pytest.mark.parametrize("counts", [(40, 33), (10, 17)])
def test_influences_are_derivatives_of_the_frechet_distance(counts: tuple[int, int]) -> None:
    """With an image's weight raised from 1/N by h, all others' lowered; more images than features, and fewer."""
    sets = [features.double() for features in two_sets(counts=counts, length=12)]

    def weighted(features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        mean = weights @ features
        unbiased = len(features) / (len(features) - 1)
        return mean, unbiased * ((features - mean).T * weights) @ (features - mean)

    influences = frechet_influences(*sets)
    for side, features in enumerate(sets):
        found = []
        for image in (0, 3):
            distances = []
            for step in (-1e-5, 1e-5):
                moments = [weighted(one, torch.full((len(one),), 1 / len(one), dtype=torch.float64)) for one in sets]
                weights = torch.full((len(features),), (1 - step) / len(features), dtype=torch.float64)
                weights[image] += step
                moments[side] = weighted(features, weights)
                distances.append(frechet_of_moments(*moments[0], *moments[1]))
            found.append((distances[1] - distances[0]) / 2e-5)
        assert influences[side][[0, 3]].tolist() == pytest.approx(found, rel=1e-4)
        assert influences[side].mean().item() == pytest.approx(0, abs=1e-9)


def gaussian_sets(*, counts: tuple[int, int] = (150, 200), apart: float = 0.5) -> tuple[Tensor, Tensor]:
    scales = torch.linspace(0.2, 2, 12)
    return torch.randn(counts[0], 12) * scales, torch.randn(counts[1], 12) * scales.flip(0) + apart


def test_the_error_of_the_frechet_distance_is_how_much_it_varies() -> None:
    distances, errors = [], []
    for _ in range(150):
        first, second = gaussian_sets()
        distances.append(frechet_distance(first, second))
        of_first, of_second = frechet_influences(first, second)
        errors.append(math.sqrt(of_first.var() / len(first) + of_second.var() / len(second)))
    assert np.mean(errors) == pytest.approx(np.std(distances), rel=0.2)


@pytest.mark.parametrize("apart", [0.0, 0.2, 0.7])
def test_the_error_of_the_kernel_distance_is_how_much_it_varies(apart: float) -> None:
    """For equal distributions too, where resampling images would give 1.7 times as much."""
    distances, errors = [], []
    for _ in range(200):
        first, second = torch.randn(80, 12), torch.randn(130, 12) + apart
        distances.append(kernel_distance(first, second, subset_size=None)[0])
        errors.append(kernel_error(first, second))
    assert np.mean(errors) == pytest.approx(np.std(distances), rel=0.25)


@pytest.mark.parametrize(("subsets", "subset_size"), [(30, 200), (7, 330), (100, 50)])
def test_kernel_distance_is_that_of_others(subsets: int, subset_size: int) -> None:
    first, second = two_sets()
    found = kernel_distance(first, second, subsets=subsets, subset_size=subset_size)
    other = kid_features_to_metric(first, second, kid_subsets=subsets, kid_subset_size=subset_size, verbose=False)
    expected = other["kernel_inception_distance_mean"], other["kernel_inception_distance_std"]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[0] > 0.01


def test_kernel_distance_of_all_images_is_that_of_others() -> None:
    first, second = two_sets(counts=(300, 300))
    found = kernel_distance(first, second, subset_size=None)
    assert found[1] == 0
    metric = KernelInceptionDistance(AsFeatures(), subsets=2, subset_size=300)
    metric.update(first[..., None, None], real=True)
    metric.update(second[..., None, None], real=False)
    assert found[0] == pytest.approx(metric.compute()[0].item(), rel=1e-3)
    from cleanfid.fid import kernel_distance as theirs

    assert found[0] == pytest.approx(theirs(first.double().numpy(), second.double().numpy(), num_subsets=1), rel=1e-9)
    # A set smaller than the subsets: all images of both.
    assert kernel_distance(first, second[:120]) == kernel_distance(first, second[:120], subset_size=None)


def test_kernel_distance_takes_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_sets()
    whole = kernel_distance(first, second, subset_size=100), kernel_error(first, second)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 37)
    assert kernel_distance(first, second, subset_size=100) == pytest.approx(whole[0], rel=1e-10)
    assert kernel_error(first, second) == pytest.approx(whole[1], rel=1e-10)


@pytest.mark.parametrize(("count", "splits"), [(500, 10), (503, 10), (64, 1), (20, 20)])
def test_inception_score_is_torch_fidelitys(count: int, splits: int) -> None:
    logits = 2 * torch.randn(count, 30)
    for seed, shuffle in ((2020, True), (None, False)):
        other = isc_features_to_metric(logits, splits=splits, shuffle=shuffle)
        expected = other["inception_score_mean"], other["inception_score_std"]
        assert inception_score(logits, splits=splits, seed=seed) == pytest.approx(expected, rel=1e-9)


def test_inception_score_in_closed_form() -> None:
    """Sure of one of K classes, all equally often: K. Always of the same class, or never sure: 1."""
    sure = 1e4 * torch.eye(8).repeat(50, 1)
    assert inception_score(sure, splits=1)[0] == pytest.approx(8, rel=1e-9)
    assert inception_score(sure[:1].expand(100, -1))[0] == pytest.approx(1, rel=1e-9)
    assert inception_score(torch.zeros(100, 8))[0] == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("neighbours", [1, 3, 5])
@pytest.mark.parametrize("kind", ["apart", "near", "narrow", "copies"])
def test_neighbour_scores_are_the_authors(kind: str, neighbours: int) -> None:
    generated, real = torch.randn(230, 8), torch.randn(180, 8)
    match kind:
        case "apart":
            generated = generated + 2
        case "narrow":
            generated = 0.3 * generated
        case "copies":
            generated[:60] = real[:60]
    scores = neighbour_scores(generated, real, neighbours=neighbours)
    expected = compute_prdc(real.double().numpy(), generated.double().numpy(), nearest_k=neighbours)
    assert {name: values.mean().item() for name, values in scores.items()} == pytest.approx(expected, abs=1e-12)
    assert {name: len(values) for name, values in scores.items()} == {
        "precision": 230,
        "density": 230,
        "recall": 180,
        "coverage": 180,
    }


def test_neighbour_scores_of_far_away_features_keep_their_digits() -> None:
    """Squared lengths of 1e12 would swallow the distances, were they not taken from the centre."""
    generated, real = torch.randn(100, 4).double(), torch.randn(90, 4).double() + 0.5
    near, far = neighbour_scores(generated, real), neighbour_scores(generated + 1e6, real + 1e6)
    for name, values in near.items():
        assert values.mean().item() == pytest.approx(far[name].mean().item(), abs=1e-6)


def test_neighbour_scores_take_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = torch.randn(230, 8), torch.randn(180, 8) + 0.4
    whole = neighbour_scores(generated, real)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 37)
    blocks = neighbour_scores(generated, real)
    assert all(torch.equal(whole[name], blocks[name]) for name in whole)


def test_sets_are_never_compared_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = torch.addmm

    def noting(*arguments: Tensor, **named: float) -> Tensor:
        found = original(*arguments, **named)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(torch, "addmm", noting)
    neighbour_scores(torch.randn(3000, 4), torch.randn(3000, 4))
    assert len(sizes) == 3 * math.ceil(3000 / module.ROWS_AT_ONCE) and max(sizes) <= module.ROWS_AT_ONCE * 3000


def test_mean_distances_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    features = 3 + torch.randn(40, 6)
    apart = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(features.double().numpy()))
    assert mean_distances(features).numpy() == pytest.approx(apart.sum(1) / 39)
    assert mean_distances(features[:1].expand(5, -1)).tolist() == [0] * 5
    assert mean_distances(features[:1]).tolist() == [0]


@pytest.mark.parametrize("second", [torch.zeros(5, 3), torch.zeros(1, 4), torch.zeros(4)], ids=str)
def test_features_that_cannot_be_compared_are_refused(second: Tensor) -> None:
    for figure in (frechet_distance, kernel_distance, kernel_error, neighbour_scores, frechet_influences):
        with pytest.raises(InputError, match="at least two images each"):
            figure(torch.zeros(5, 4), second)


def test_settings_that_cannot_be_are_refused() -> None:
    first, second = torch.randn(6, 4), torch.randn(5, 4)
    with pytest.raises(InputError, match="more than 5 images in both sets"):
        neighbour_scores(first, second)
    with pytest.raises(InputError, match="at least 1 subset of at least 2 images, got 0 of 3"):
        kernel_distance(first, second, subsets=0, subset_size=3)
    with pytest.raises(InputError, match="as many images as parts"):
        inception_score(first)
    with pytest.raises(InputError, match="of one length"):
        frechet_of_moments(torch.zeros(4), torch.eye(4), torch.zeros(3), torch.eye(3))
