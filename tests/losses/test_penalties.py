"""Gradient penalties against critics whose gradient is known, and the distance that WGAN-GP estimates."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.errors import InputError
from i2i.losses.adversarial import Wasserstein
from i2i.losses.penalties import Critic, Penalties, dragan_penalty, gradient_penalty, r1_penalty, r2_penalty

Penalty = Callable[[Critic, Tensor], Tensor]

SHAPES = [(6, 2), (4, 3, 5, 7)]


def between_equals(critic: Critic, samples: Tensor) -> Tensor:
    """WGAN-GP's penalty where real and fake samples are the same, so that x̂ is known."""
    return gradient_penalty(critic, samples, samples)


def linear_critic(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    weight = torch.randn(shape[1:], dtype=torch.float64, requires_grad=True)
    return weight, weight.detach().square().sum().sqrt()


@pytest.mark.parametrize("target", [1.0, 0.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_penalty_of_a_linear_critic(shape: tuple[int, ...], target: float) -> None:
    weight, norm = linear_critic(shape)
    real, fake = torch.randn(2, *shape, dtype=torch.float64)
    penalty = gradient_penalty(lambda x: (x * weight).flatten(1).sum(1), real, fake, target=target)
    torch.testing.assert_close(penalty, (norm - target) ** 2)
    # d/dw (|w| − target)² = 2 (|w| − target) w / |w|
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * (norm - target) * weight.detach() / norm)


@pytest.mark.parametrize("target", [1.0, 0.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_dragan_of_a_linear_critic(shape: tuple[int, ...], target: float) -> None:
    weight, norm = linear_critic(shape)
    real = torch.randn(shape, dtype=torch.float64)
    penalty = dragan_penalty(lambda x: (x * weight).flatten(1).sum(1), real, target=target)
    torch.testing.assert_close(penalty, (norm - target) ** 2)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * (norm - target) * weight.detach() / norm)


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
@pytest.mark.parametrize("shape", SHAPES)
def test_r1_and_r2_of_a_linear_critic(shape: tuple[int, ...], penalty: Penalty) -> None:
    weight, norm = linear_critic(shape)
    value = penalty(lambda x: (x * weight).flatten(1).sum(1), torch.randn(shape, dtype=torch.float64))
    torch.testing.assert_close(value, norm**2 / 2)
    value.backward()
    torch.testing.assert_close(weight.grad, weight.detach())


def quadratic_critic(weight: Tensor) -> Critic:
    """½ Σ a x², whose gradient is a x."""
    return lambda x: (weight * x.square()).flatten(1).sum(1) / 2


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
@pytest.mark.parametrize("shape", SHAPES)
def test_r1_and_r2_of_a_quadratic_critic(shape: tuple[int, ...], penalty: Penalty) -> None:
    weight, _ = linear_critic(shape)
    x = torch.randn(shape, dtype=torch.float64)
    value = penalty(quadratic_critic(weight), x)
    torch.testing.assert_close(value, (weight.detach() * x).square().sum() / len(x) / 2)
    value.backward()
    torch.testing.assert_close(weight.grad, weight.detach() * x.square().mean(0))


@pytest.mark.parametrize("penalty", [between_equals, dragan_penalty])
@pytest.mark.parametrize("shape", SHAPES)
def test_penalties_on_the_norm_of_a_quadratic_critics_gradient(shape: tuple[int, ...], penalty: Penalty) -> None:
    """DRAGAN adds nothing to samples that do not vary."""
    weight, _ = linear_critic(shape)
    x = torch.full(shape, 0.7, dtype=torch.float64) if penalty is dragan_penalty else torch.randn(shape).double()
    value = penalty(quadratic_critic(weight), x)
    gradient = weight.detach() * x
    norm = gradient.flatten(1).square().sum(1).sqrt()
    torch.testing.assert_close(value, (norm - 1).square().mean())
    # d/da (|a x| − 1)² = 2 (|a x| − 1) a x² / |a x|
    value.backward()
    scale = (2 * (norm - 1) / norm).reshape(-1, *[1] * (x.ndim - 1))
    torch.testing.assert_close(weight.grad, (scale * gradient * x).mean(0))


class Noted:
    """The critic ½ |x|², which remembers what it was asked about."""

    def __call__(self, x: Tensor) -> Tensor:
        self.seen = x.detach()
        return x.square().flatten(1).sum(1) / 2


def test_each_sample_has_its_own_place_between_real_and_fake() -> None:
    torch.manual_seed(0)
    critic = Noted()
    gradient_penalty(critic, torch.ones(500, 3, 2, 2), torch.zeros(500, 3, 2, 2))
    share = critic.seen[:, 0, 0, 0]
    assert torch.equal(critic.seen, share[:, None, None, None].expand(500, 3, 2, 2))
    assert 0 <= share.min() < 0.05 and 0.95 < share.max() <= 1
    assert share.mean().item() == pytest.approx(0.5, abs=0.05)


def test_dragan_looks_between_samples_and_copies_with_noise_of_half_their_deviation() -> None:
    """As the authors' code: noise within [0, ½ s), a place on the way there for each sample."""
    torch.manual_seed(0)
    critic, real = Noted(), torch.tensor([-1.0, 7.0]).repeat(500, 200)  # s = 4, of all values together
    dragan_penalty(critic, real)
    added = critic.seen - real
    reach = added.amax(dim=1)
    assert added.min() > -1e-5 and reach.min() < 0.05 and 1.95 < reach.max() < 2.001
    assert reach.mean().item() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(added.mean(dim=1), reach / 2, rtol=0.12, atol=1e-3)


def test_scores_of_many_patches_are_added() -> None:
    critic = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(critic.weight, 3)
    value = gradient_penalty(critic, torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4))
    torch.testing.assert_close(value, torch.tensor((3 * 4.0 - 1) ** 2))


@pytest.mark.parametrize("penalty", [between_equals, dragan_penalty, r1_penalty])
def test_a_critic_without_slope_has_a_finite_gradient(penalty: Penalty) -> None:
    weight = torch.zeros(2, requires_grad=True)
    penalty(lambda x: (x * weight).sum(1), torch.randn(4, 2)).backward()
    assert torch.equal(weight.grad, torch.zeros(2))


def test_computed_in_float32_under_autocast_and_without_grad() -> None:
    critic = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))
    real, fake = torch.randn(8, 4), torch.randn(8, 4)
    exact = r1_penalty(critic, real)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(r1_penalty(critic, real), exact, rtol=0, atol=0)
    assert gradient_penalty(critic, real.bfloat16(), fake.bfloat16()).dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(r1_penalty(critic, real), exact, rtol=0, atol=0)
    assert not real.requires_grad and all(parameter.grad is None for parameter in critic.parameters())


@pytest.mark.parametrize("penalty", [between_equals, dragan_penalty, r1_penalty])
def test_steep_critics_under_a_scaler_overflow_no_float16(penalty: Penalty) -> None:
    """Slopes whose squares are beyond 65504, under the 2¹⁶ by which a GradScaler multiplies the loss."""
    weight = torch.tensor([300.0, 400.0], requires_grad=True)
    penalty(lambda x: (x * weight).sum(1), torch.randn(4, 2).half()).mul(2**16).backward()
    expected = torch.tensor([300.0, 400.0]) if penalty is r1_penalty else 2 * 499 * torch.tensor([0.6, 0.8])
    torch.testing.assert_close(weight.grad / 2**16, expected)


def test_samples_that_depend_on_weights_stay_tied_to_them() -> None:
    """R2 of ½ |x|² at x = g z is ½ E |g z|², whose slope by g is g E |z|²."""
    z, g = torch.randn(5, 3, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    r2_penalty(lambda x: x.square().sum(1) / 2, g * z).backward()
    torch.testing.assert_close(g.grad, 2 * z.square().sum(1).mean())


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\) and \(3, 3\)"):
        gradient_penalty(lambda x: x.sum(1), torch.randn(2, 3), torch.randn(3, 3))


def test_penalties_are_weighted_named_and_lazy() -> None:
    real, fake = torch.full((4, 2), 3.0), torch.full((4, 2), 1.0)
    critic = quadratic_critic(torch.ones(2))  # of slope x
    penalties = Penalties(dragan=10.0, r1=3.0, r2=5.0, every_steps=4)
    for step in range(9):
        terms = penalties.terms(critic, real=real, fake=fake, step=step)
        assert list(terms) == ([] if step % 4 else ["dragan", "r1", "r2"])
    expected = {"dragan": 4 * 10 * (18**0.5 - 1) ** 2, "r1": 4 * 3 * 18 / 2, "r2": 4 * 5 * 2 / 2}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-6)

    (between,) = Penalties(gradient_penalty=7.0).terms(critic, real=real, fake=real, step=3).values()
    assert between.item() == pytest.approx(7 * (18**0.5 - 1) ** 2, rel=1e-6)
    assert Penalties().terms(critic, real=real, fake=fake[:1], step=0) == {}


def test_penalties_that_cannot_be_are_refused() -> None:
    for name in ("gradient_penalty", "dragan", "r1", "r2"):
        for weight in (-1.0, float("inf"), float("nan")):
            with pytest.raises(InputError, match=f"weight of {name} to be at least 0 and finite, got {weight}"):
                Penalties(**{name: weight})
    with pytest.raises(InputError, match="every_steps to be at least 1, got 0"):
        Penalties(every_steps=0)


def test_slope_of_the_best_linear_critic() -> None:
    """Of two samples shifted by d, −d s + λ (s − 1)² is smallest at the slope s = 1 + d / 2λ."""
    shift = torch.tensor([3.0, -4.0], dtype=torch.float64)
    for weight_of_penalty in (0.5, 10.0):
        weight = ((1 + 5 / (2 * weight_of_penalty)) * shift / 5).requires_grad_()
        fake = torch.randn(64, 2, dtype=torch.float64)
        loss = Wasserstein().discriminator_loss((fake + shift) @ weight, fake @ weight)
        loss = loss + weight_of_penalty * gradient_penalty(lambda x, w=weight: x @ w, fake + shift, fake)
        loss.backward()
        torch.testing.assert_close(weight.grad, torch.zeros_like(weight))


@pytest.mark.parametrize(("distance", "dimensions"), [(0.5, 2), (2.0, 3), (5.0, 5), (1.0, 8)])
def test_wgan_gp_estimates_how_far_two_gaussians_are_apart(distance: float, dimensions: int) -> None:
    """N(0, 1) and N(shift, 1) are |shift| apart, and a critic of slope 1 along the shift tells so (eq. 2).

    Its slope becomes 1 + d / 2λ, as above: with λ = 50 d it is 1 % too steep, whatever d is. (On a line so large a λ
    would hold a critic that begins with the wrong sign; elsewhere it can turn.)
    """
    torch.manual_seed(0)
    shift = distance * F.normalize(torch.randn(dimensions), dim=0)
    layers = [nn.Linear(dimensions, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)]
    critic, objective, steps = nn.Sequential(*layers), Wasserstein(), 400
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3, betas=(0.5, 0.9))
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, steps)
    for _ in range(steps):
        real, fake = shift + torch.randn(256, dimensions), torch.randn(256, dimensions)
        loss = objective.discriminator_loss(critic(real), critic(fake))
        loss = loss + 50 * distance * gradient_penalty(critic, real, fake)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    noise = torch.randn(20_000, dimensions)  # the same for both, so that chance does not blur their difference
    with torch.no_grad():
        estimate = -objective.discriminator_loss(critic(shift + noise), critic(noise)).item()
    assert estimate == pytest.approx(distance, rel=0.05)
