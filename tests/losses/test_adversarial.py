"""Adversarial objectives against the papers' formulas, written with probabilities in NumPy."""

import numpy as np
import pytest
import torch

from i2i.errors import InputError
from i2i.losses.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    Wasserstein,
    make_objective,
)

OBJECTIVES = ["minimax", "non_saturating", "lsgan", "hinge", "wgan", "relativistic_paired", "relativistic_average"]
REAL = torch.tensor([[1.5, -0.3], [0.2, 2.0]], dtype=torch.float64)
FAKE = torch.tensor([[-1.0, 0.4], [0.9, -2.5]], dtype=torch.float64)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


def cross_entropy(scores: np.ndarray, label: float) -> float:
    p = sigmoid(scores)
    return -(label * np.log(p) + (1 - label) * np.log(1 - p)).mean()


R, K = REAL.numpy(), FAKE.numpy()
CLOSED_FORMS = [
    (
        Minimax(),
        -np.log(sigmoid(R)).mean() - np.log(1 - sigmoid(K)).mean(),
        np.log(1 - sigmoid(K)).mean(),
    ),
    (
        Minimax(real_label=0.9),
        cross_entropy(R, 0.9) + cross_entropy(K, 0),
        np.log(1 - sigmoid(K)).mean(),
    ),
    (
        NonSaturating(real_label=0.9, fake_label=0.1),
        cross_entropy(R, 0.9) + cross_entropy(K, 0.1),
        -np.log(sigmoid(K)).mean(),
    ),
    (LeastSquares(), ((R - 1) ** 2).mean() + (K**2).mean(), ((K - 1) ** 2).mean()),
    (
        LeastSquares(real_label=0.8, fake_label=-1.0),
        ((R - 0.8) ** 2).mean() + ((K + 1) ** 2).mean(),
        ((K - 0.8) ** 2).mean(),
    ),
    (Hinge(), np.maximum(0, 1 - R).mean() + np.maximum(0, 1 + K).mean(), -K.mean()),
    (Wasserstein(), K.mean() - R.mean(), -K.mean()),
    (
        RelativisticAverage(),
        cross_entropy(R - K.mean(), 1) + cross_entropy(K - R.mean(), 0),
        cross_entropy(R - K.mean(), 0) + cross_entropy(K - R.mean(), 1),
    ),
    (
        RelativisticAverage(real_label=0.9),
        cross_entropy(R - K.mean(), 0.9) + cross_entropy(K - R.mean(), 0),
        cross_entropy(R - K.mean(), 0) + cross_entropy(K - R.mean(), 1),
    ),
]


@pytest.mark.parametrize(("objective", "discriminator", "generator"), CLOSED_FORMS, ids=str)
def test_closed_forms(objective: AdversarialLoss, discriminator: float, generator: float) -> None:
    assert objective.discriminator_loss(REAL, FAKE).item() == pytest.approx(discriminator, rel=1e-12)
    real = REAL if objective.generator_needs_real else None
    assert objective.generator_loss(FAKE, real).item() == pytest.approx(generator, rel=1e-12)


def test_optimal_discriminator_of_equal_distributions_reaches_minus_log_4() -> None:
    """Goodfellow et al. 2014, theorem 1: the value of the game, found by gradient descent on the scores."""
    scores = torch.randn(50, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([scores], lr=20)
    for _ in range(500):
        optimiser.zero_grad()
        loss = Minimax().discriminator_loss(scores, scores)
        loss.backward()
        optimiser.step()
    assert -loss.item() == pytest.approx(-np.log(4), abs=1e-9)


def test_smoothed_optimum_is_the_label() -> None:
    """One-sided smoothing: D* = label · p_real / (p_real + p_fake) (Salimans et al. 2016, §3.4)."""
    scores = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([scores], lr=2)
    for _ in range(200):
        optimiser.zero_grad()
        NonSaturating(real_label=0.9).discriminator_loss(scores, scores).backward()
        optimiser.step()
    assert torch.sigmoid(scores).item() == pytest.approx(0.9 / 2, abs=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_generator_is_pushed_towards_higher_scores(name: str) -> None:
    objective = make_objective(name)  # type: ignore[arg-type]
    fake = FAKE.clone().requires_grad_()
    objective.generator_loss(fake, REAL).backward()
    assert fake.grad is not None and (fake.grad <= 0).all() and fake.grad.sum() < 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_extreme_and_half_scores_stay_finite(name: str) -> None:
    objective = make_objective(name)  # type: ignore[arg-type]
    for dtype, size in ((torch.float32, 1e4), (torch.bfloat16, 1e4), (torch.float16, 300.0)):
        real = torch.tensor([-size, size], dtype=dtype)
        for loss in (objective.discriminator_loss(real, -real), objective.generator_loss(-real, real)):
            assert loss.shape == () and loss.dtype == torch.float32 and torch.isfinite(loss)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match="pass real_scores"):
        RelativisticAverage().generator_loss(FAKE)
    with pytest.raises(InputError, match="got 'vanilla'"):
        make_objective("vanilla")  # type: ignore[arg-type]
    for objective in (Minimax, NonSaturating, RelativisticAverage):
        with pytest.raises(InputError, match="fake_label < real_label"):
            objective(real_label=1.2)
