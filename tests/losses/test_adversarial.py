"""Adversarial objectives against the papers' formulas, written with probabilities in NumPy."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from i2i.errors import InputError
from i2i.losses.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticPaired,
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
        ((K - 1) ** 2).mean(),  # smoothing is the discriminator's business
    ),
    (
        LeastSquares(real_label=1.0, fake_label=-1.0, generator_label=0.0),  # Mao et al. 2017, eq. 8
        ((R - 1) ** 2).mean() + ((K + 1) ** 2).mean(),
        (K**2).mean(),
    ),
    (Hinge(), np.maximum(0, 1 - R).mean() + np.maximum(0, 1 + K).mean(), -K.mean()),
    (Wasserstein(), K.mean() - R.mean(), -K.mean()),
    (
        RelativisticPaired(),
        -np.log(sigmoid(R - K)).mean(),
        -np.log(sigmoid(K - R)).mean(),
    ),
    (
        RelativisticPaired(real_label=0.9),
        cross_entropy(R - K, 0.9),
        -np.log(sigmoid(K - R)).mean(),
    ),
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


# Two distributions over five outcomes, as counts of 20.
P, Q = np.array([1, 4, 2, 8, 5]), np.array([6, 3, 2, 1, 8])


def expected_loss(objective: AdversarialLoss, scores: Tensor) -> Tensor:
    """The discriminator's loss where outcome i has score i."""
    real, fake = (scores.repeat_interleave(torch.tensor(counts)) for counts in (P, Q))
    return objective.discriminator_loss(real, fake)


def value_and_slope(objective: AdversarialLoss, scores: np.ndarray) -> tuple[float, np.ndarray]:
    at = torch.tensor(scores, requires_grad=True)
    loss = expected_loss(objective, at)
    (slope,) = torch.autograd.grad(loss, at)
    return loss.item(), slope.numpy()


def test_value_of_minimax_at_the_optimal_discriminator_is_the_divergence() -> None:
    """Goodfellow et al. 2014, proposition 1 and theorem 1: D* = p / (p + q), and −log 4 + 2 · JSD(p, q) there."""
    loss, slope = value_and_slope(Minimax(), np.log(P / Q))  # whose sigmoid is P / (P + Q)
    assert -loss == pytest.approx(-np.log(4) + 2 * jensenshannon(P, Q) ** 2, abs=1e-12)
    assert jensenshannon(P, Q) > 0.2
    np.testing.assert_allclose(slope, 0, atol=1e-15)


def test_optimal_discriminator_of_least_squares() -> None:
    """Mao et al. 2017, eq. 5: D* = (b p + a q) / (p + q)."""
    a, b, p, q = -1.0, 0.8, P / 20, Q / 20
    loss, slope = value_and_slope(LeastSquares(real_label=b, fake_label=a), (b * p + a * q) / (p + q))
    assert loss == pytest.approx(((b - a) ** 2 * p * q / (p + q)).sum(), rel=1e-12)
    np.testing.assert_allclose(slope, 0, atol=1e-15)


def test_minimum_of_the_hinge_is_what_the_distributions_share() -> None:
    """At D* = sign(p − q) (Lim & Ye 2017), where the loss is 2 Σ min(p, q) = 2 − 2 · total variation."""
    best = expected_loss(Hinge(), torch.tensor(np.sign(P - Q).astype(float)))
    assert best.item() == pytest.approx(2 * np.minimum(P, Q).sum() / 20, rel=1e-12)
    torch.manual_seed(0)
    assert all(expected_loss(Hinge(), scores) > best for scores in 2 * torch.randn(500, 5, dtype=torch.float64))


def test_gradients_of_pairs() -> None:
    """Each score is moved by how wrongly its own pair is ordered."""
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    objective = RelativisticPaired()
    of_real, of_fake = torch.autograd.grad(objective.discriminator_loss(real, fake), (real, fake))
    np.testing.assert_allclose(of_real, -sigmoid(K - R) / 4, rtol=1e-12)
    np.testing.assert_allclose(of_fake, sigmoid(K - R) / 4, rtol=1e-12)
    of_real, of_fake = torch.autograd.grad(objective.generator_loss(fake, real), (real, fake))
    np.testing.assert_allclose(of_real, sigmoid(R - K) / 4, rtol=1e-12)
    np.testing.assert_allclose(of_fake, -sigmoid(R - K) / 4, rtol=1e-12)


def test_gradients_through_averages() -> None:
    """Each score is moved by its own distance from the others' mean, and as part of the mean for all of the others."""
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    objective = RelativisticAverage()
    of_real, of_fake = torch.autograd.grad(objective.discriminator_loss(real, fake), (real, fake))
    np.testing.assert_allclose(of_real, -(sigmoid(K.mean() - R) + sigmoid(K - R.mean()).mean()) / 4, rtol=1e-12)
    np.testing.assert_allclose(of_fake, (sigmoid(K - R.mean()) + sigmoid(K.mean() - R).mean()) / 4, rtol=1e-12)
    of_real, of_fake = torch.autograd.grad(objective.generator_loss(fake, real), (real, fake))
    np.testing.assert_allclose(of_real, (sigmoid(R - K.mean()) + sigmoid(R.mean() - K).mean()) / 4, rtol=1e-12)
    np.testing.assert_allclose(of_fake, -(sigmoid(R.mean() - K) + sigmoid(R - K.mean()).mean()) / 4, rtol=1e-12)


def test_smoothed_optimum_is_the_label() -> None:
    """One-sided smoothing: D* = label · p_real / (p_real + p_fake) (Salimans et al. 2016, §3.4)."""
    scores = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([scores], lr=2)
    for _ in range(200):
        optimiser.zero_grad()
        NonSaturating(real_label=0.9).discriminator_loss(scores, scores).backward()
        optimiser.step()
    assert torch.sigmoid(scores).item() == pytest.approx(0.9 / 2, abs=1e-9)


@pytest.mark.parametrize(
    "objective",
    [
        Minimax(),
        Minimax(real_label=0.9),
        NonSaturating(real_label=0.8, fake_label=0.1),
        LeastSquares(),
        LeastSquares(real_label=0.9, fake_label=-1),
        Hinge(),
    ],
    ids=str,
)
def test_the_decision_is_where_real_and_generated_samples_are_equally_likely(objective: AdversarialLoss) -> None:
    """There, and nowhere beside it, pulling a score up for a real sample and down for a fake one balances."""
    assert objective.decision is not None
    scores = torch.linspace(-0.999, 0.999, 1001, dtype=torch.float64)
    losses = torch.stack([objective.discriminator_loss(score, score) for score in scores])
    least = scores[(losses - losses.min()) < 1e-12]
    assert (least - objective.decision).abs().min() <= 0.002
    if not isinstance(objective, Hinge):  # whose loss is flat between -1 and 1
        assert len(least) <= 2
    plain = make_objective("lsgan").decision, make_objective("hinge").decision, make_objective("minimax").decision
    assert plain == (0.5, 0, 0)


@pytest.mark.parametrize("name", ["wgan", "relativistic_paired", "relativistic_average"])
def test_some_scores_say_nothing_by_themselves(name: str) -> None:
    """The losses stay as they are, whatever is added to all of the scores."""
    objective = make_objective(name)  # type: ignore[arg-type]
    assert objective.decision is None
    moved = objective.discriminator_loss(REAL + 3, FAKE + 3)
    torch.testing.assert_close(moved, objective.discriminator_loss(REAL, FAKE))


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


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_widened(name: str, dtype: torch.dtype) -> None:
    """Each of the 3,000 scores counts, which a mean in 16 bits would not see; gradients come back in their type."""
    objective = make_objective(name)  # type: ignore[arg-type]
    torch.manual_seed(0)
    real, fake = torch.randn(2, 3000).to(dtype).requires_grad_().unbind()
    for loss, wide in (
        (objective.discriminator_loss(real, fake), objective.discriminator_loss(real.double(), fake.double())),
        (objective.generator_loss(fake, real), objective.generator_loss(fake.double(), real.double())),
    ):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(wide.item(), rel=1e-5)
        assert torch.autograd.grad(loss, fake)[0].dtype == dtype


@pytest.mark.parametrize("name", ["minimax", "non_saturating", "lsgan", "relativistic_paired", "relativistic_average"])
def test_labels_can_be_smoothed_where_there_are_labels(name: str) -> None:
    objective = make_objective(name, real_label=0.9)  # type: ignore[arg-type]
    assert objective == type(objective)(real_label=0.9)  # type: ignore[call-arg]
    assert make_objective(name) == type(objective)(real_label=1.0)  # type: ignore[arg-type, call-arg]


@pytest.mark.parametrize("name", ["hinge", "wgan"])
def test_labels_are_not_smoothed_where_there_are_none(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} has no labels"):
        make_objective(name, real_label=0.9)  # type: ignore[arg-type]


def test_wrong_use_is_refused() -> None:
    for relativistic in (RelativisticPaired(), RelativisticAverage()):
        with pytest.raises(InputError, match="pass real_scores"):
            relativistic.generator_loss(FAKE)
    for loss in (RelativisticPaired().discriminator_loss, RelativisticPaired().generator_loss):
        with pytest.raises(InputError, match="one by one"):
            loss(REAL, FAKE[:1])
    for label in (0.5, 1.2, float("nan")):
        with pytest.raises(InputError, match="fake_label < real_label"):
            RelativisticPaired(real_label=label)
    wrong = ({"real_label": -0.1}, {"fake_label": float("-inf")}, {"real_label": float("nan")})
    for labels in (
        *wrong,
        {"generator_label": -0.1},
        {"generator_label": float("inf")},
        {"generator_label": float("nan")},
    ):
        with pytest.raises(InputError, match="fake_label < real_label"):
            LeastSquares(**labels)
    with pytest.raises(InputError, match="got 'vanilla'"):
        make_objective("vanilla")  # type: ignore[arg-type]
    for objective in (Minimax, NonSaturating, RelativisticAverage):
        with pytest.raises(InputError, match="fake_label < real_label"):
            objective(real_label=1.2)
