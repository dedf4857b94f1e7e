"""Directions: those of known generators are found, and move what they say."""

from typing import Any

import numpy as np
import pytest
import torch
from toy_generators import STYLE_CHANNELS, dcgan, known_noise, known_styles, stylegan

from i2i import Sampler
from i2i.errors import InputError
from i2i.latents import (
    Direction,
    attribute_direction,
    class_direction,
    direction_between,
    direction_sweep,
    principal_directions,
)


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    """Cosine of the angle between two directions."""
    return float(torch.nn.functional.cosine_similarity(one.float(), other.float(), dim=0))


def brightness(image: np.ndarray) -> float:
    return float(image.mean())


@pytest.mark.parametrize("method", ["means", "logistic"])
def test_a_known_attribute_is_found(method: Any) -> None:
    found = attribute_direction(known_noise(), brightness, method=method)
    assert found.space == "z" and found.vector[0] > 0.99 and found.accuracy == 1
    assert found.vector.norm().item() == pytest.approx(1)
    assert found.deviation == pytest.approx(1, abs=0.05)


def test_an_attribute_of_two_values_and_one_of_styles() -> None:
    t = known_styles()
    network: Any = t.generator
    tint = network.tints.sum(dim=0).mean(dim=1)  # brightness is a linear function of w: this
    found = attribute_direction(t, lambda image: image.mean() > 0, samples=4000)
    assert found.space == "w"
    # Points lie along the mapping's covariance: what tells them apart does so in units of their spread.
    spread = (network.mapping.weight @ network.mapping.weight.T).detach()
    assert alike(found.vector, tint) > 0.97
    assert found.deviation == pytest.approx(float((found.vector @ spread @ found.vector).sqrt()), rel=0.05)
    assert found.accuracy is not None and found.accuracy > 0.97


def test_logistic_regression_leaves_out_what_merely_goes_along() -> None:
    """The second value goes along with the first, which alone decides."""
    points = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    points[:, 1] = 0.8 * points[:, 0] + 0.6 * points[:, 1]
    high = points[:, 0] > 0
    means = direction_between(points[~high], points[high], space="z", method="means")
    logistic = direction_between(points[~high], points[high], space="z", method="logistic")
    assert means.vector[1] > 0.5 and abs(logistic.vector[1]) < 0.25
    assert logistic.accuracy is not None and means.accuracy is not None and logistic.accuracy > means.accuracy


def test_means_in_closed_form() -> None:
    low, high = torch.randn(20, 3), torch.randn(30, 3) + torch.tensor([3.0, 0, 0])
    found = direction_between(low, high, space="w", method="means")
    difference = high.mean(dim=0) - low.mean(dim=0)
    torch.testing.assert_close(found.vector, difference / difference.norm())


def test_logistic_regression_is_at_its_minimum() -> None:
    """Against gradient descent on the same loss, by autograd."""
    random = torch.Generator().manual_seed(2)
    points = torch.randn(300, 4, generator=random, dtype=torch.float64) * torch.tensor([1, 5, 0.2, 1])
    truth = (points @ torch.tensor([1.0, 0.1, 2, 0], dtype=torch.float64) + torch.randn(300, generator=random)) > 0
    rows = (points - points.mean(dim=0)) / points.std(dim=0)
    weights = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, tolerance_grad=1e-10)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        scores = rows @ weights[:4] + weights[4]
        value = torch.nn.functional.binary_cross_entropy_with_logits(scores, truth.double())
        value = value + 0.5 * 1e-2 * weights[:4].square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    found = direction_between(points[~truth], points[truth], space="z")
    assert alike(found.vector, weights[:4].detach() / points.std(dim=0)) > 1 - 1e-6


def test_accuracy_is_that_of_points_that_were_not_fitted_to() -> None:
    """In so many dimensions, any labels can be told apart; none of it holds for others."""
    points = torch.randn(200, 150, generator=torch.Generator().manual_seed(1))
    found = direction_between(points[:100], points[100:], space="z")
    assert found.accuracy is not None and 0.25 < found.accuracy < 0.75
    assert direction_between(points[:5], points[100:], space="z").accuracy is None


def test_principal_directions_of_a_known_covariance() -> None:
    t = known_styles()
    network: Any = t.generator
    covariance = (network.mapping.weight @ network.mapping.weight.T).detach().double()
    sizes, axes = (values.numpy() for values in torch.linalg.eigh(covariance))
    found = principal_directions(t, count=3, samples=20_000)
    for place, direction in enumerate(found):
        assert abs(alike(direction.vector, torch.from_numpy(axes[:, -1 - place]))) > 0.99
        assert direction.share == pytest.approx(sizes[-1 - place] / sizes.sum(), rel=0.05)
        assert direction.deviation == pytest.approx(sizes[-1 - place] ** 0.5, rel=0.03)
        assert direction.vector.abs().max() == direction.vector.max()
    stacked = torch.stack([direction.vector for direction in found])
    torch.testing.assert_close(stacked @ stacked.T, torch.eye(3), atol=1e-4, rtol=0)


def test_principal_directions_as_numpy_finds_them() -> None:
    t = stylegan()
    found = principal_directions(t, count=4, samples=500, seed=7)
    z = torch.randn(500, 6, generator=torch.Generator().manual_seed(7))
    sizes, axes = np.linalg.eigh(np.cov(t.styles(latents=z)[:, 0].double().numpy().T))
    for place, direction in enumerate(found):
        assert direction.deviation == pytest.approx(sizes[-1 - place] ** 0.5, rel=1e-3)
        assert abs(axes[:, -1 - place] @ direction.vector.numpy()) == pytest.approx(1, abs=1e-4)


def test_in_z_the_first_layer_says_what_matters() -> None:
    """It scales the values of z by 5, 4, 3, 2 and 1."""
    found = principal_directions(known_noise(), count=3, samples=8000)
    for place, direction in enumerate(found):
        assert direction.space == "z" and direction.vector[place] > 0.97
        assert direction.share == pytest.approx((5 - place) ** 2 / 55, rel=0.1)
        assert direction.deviation == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("t", [dcgan(), dcgan(classes=2), stylegan(classes=2)], ids=["dcgan", "classes", "stylegan"])
def test_in_z_for_real_networks(t: Sampler) -> None:
    found = principal_directions(t, count=2, samples=300, space="z")
    assert all(direction.vector.isfinite().all() and direction.share for direction in found)
    assert found[0].share > found[1].share  # type: ignore[operator]


def test_between_classes() -> None:
    t = known_styles(classes=3)
    found = class_direction(t, source=0, target=2)
    assert found.vector[0] > 0.99
    with pytest.raises(InputError, match="has no styles"):
        class_direction(dcgan(classes=2), source=0, target=1)
    with pytest.raises(InputError, match="no classes"):
        class_direction(known_styles(), source=0, target=1)


def test_points_move_by_deviations() -> None:
    direction = Direction(space="w", vector=torch.tensor([0.6, 0.8]), deviation=2.0)
    points = torch.zeros(3, 2)
    torch.testing.assert_close(direction.apply(points, 1.5), torch.tensor([1.8, 2.4]).expand(3, -1))
    moved = direction.apply(points, torch.tensor([0.0, 1, -1]))
    torch.testing.assert_close(moved, torch.tensor([[0, 0], [1.2, 1.6], [-1.2, -1.6]]))
    layers = direction.apply(torch.zeros(3, 4, 2), 1, layers=[0, 2])
    assert (layers[:, [1, 3]] == 0).all()
    torch.testing.assert_close(layers[1, 2], torch.tensor([1.2, 1.6]))
    with pytest.raises(InputError, match=r"expected 2 channels, got shape \(3, 4\)"):
        direction.apply(torch.zeros(3, 4), 1)
    with pytest.raises(InputError, match="expected layers of points by layer"):
        direction.apply(torch.zeros(3, 4, 2), 1, layers=[4])


def test_a_sweep_makes_images_brighter() -> None:
    t = known_noise()
    sweep = direction_sweep(t, attribute_direction(t, brightness), seeds=[1, 2], strengths=[-2, 0, 2])
    for seed, row in zip((1, 2), sweep.images, strict=True):
        np.testing.assert_allclose(row[1], t(seed=seed), atol=1e-6)
        assert row[2].mean() - row[1].mean() == pytest.approx(0.2, abs=0.03)  # two deviations of 0.1
        assert row[1].mean() - row[0].mean() == pytest.approx(0.2, abs=0.03)
    assert sweep.picture().shape == (2 * 68 + 4 + 14, 72 + 3 * 68 + 4, 3)


def test_a_sweep_of_some_layers() -> None:
    t = known_styles()
    direction = principal_directions(t, count=1)[0]
    coarse = direction_sweep(t, direction, seeds=[1], strengths=[0, 2], layers=[0, 1]).images[0]
    fine = direction_sweep(t, direction, seeds=[1], strengths=[0, 2], layers=[2, 3]).images[0]
    np.testing.assert_allclose(coarse[0].mean(axis=(0, 1)), coarse[1].mean(axis=(0, 1)), atol=0.02)
    change = fine[1] - fine[0]
    assert np.abs(change - change[0, 0])[np.abs(fine[1]).max(axis=2) < 1].max() < 1e-4  # an even tint
    assert np.abs(change).max() > 0.01
    with pytest.raises(InputError, match="leave it out in z"):
        direction_sweep(
            t, Direction(space="z", vector=torch.ones(STYLE_CHANNELS), deviation=1.0), seeds=[1], layers=[1]
        )


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        (lambda image: 1.0, "it is 1 for all of 20 samples"),
        (lambda image: float("nan"), "expected finite numbers"),
        (lambda image: None, "expected a function of an image that gives one number, got None"),
        (lambda image: "bright", "one number, got 'bright'"),
        (lambda image: image, r"one number, got ndarray of shape \(16, 16, 3\)"),
        (lambda image: torch.zeros(3), r"one number, got Tensor of shape \(3,\)"),
    ],
)
def test_attributes_that_say_nothing(attribute: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attribute_direction(known_noise(), attribute, samples=20)


def test_no_directions() -> None:
    with pytest.raises(InputError, match="count: expected from 1 to 5 directions"):
        principal_directions(known_noise(), count=6)
    with pytest.raises(InputError, match="the two classes do not differ"):
        direction_between(torch.ones(3, 2), torch.ones(3, 2), space="z")
    with pytest.raises(InputError, match="at least two points"):
        direction_between(torch.ones(1, 2), torch.ones(3, 2), space="z")
    with pytest.raises(InputError, match='expected "means" or "logistic"'):
        direction_between(torch.randn(3, 2), torch.randn(3, 2), space="z", method="svm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="KnownStyles has no classes to go between; attribute_direction"):
        class_direction(known_styles(), source=0, target=1)
    with pytest.raises(InputError, match=r"attribute: expected a function of an image .* got 5"):
        attribute_direction(known_noise(), 5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="samples: expected at least 4, got 0"):
        attribute_direction(known_noise(), brightness, samples=0)
    with pytest.raises(InputError, match=r"direction: expected one Direction, such as axes\[0\], got list"):
        direction_sweep(known_noise(), principal_directions(known_noise(), count=1), seeds=[1])  # type: ignore[arg-type]
    straight = Direction(space="z", vector=torch.ones(5), deviation=1.0)
    with pytest.raises(InputError, match=r"seeds: expected a list or a range, .* got 5"):
        direction_sweep(known_noise(), straight, seeds=5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"strengths: expected a list or a range, .* got 2"):
        direction_sweep(known_noise(), straight, seeds=[5], strengths=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"layers: expected a list or a range, .* got 1"):
        straight.apply(torch.zeros(4, 5), 1.0, layers=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got 0 and 7"):
        direction_sweep(known_noise(), Direction(space="z", vector=torch.ones(5), deviation=1.0), seeds=[])
