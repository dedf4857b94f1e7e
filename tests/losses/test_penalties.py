"""Gradient penalties against critics whose gradient is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.losses.penalties import gradient_penalty, r1_penalty, r2_penalty

Penalty = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]

SHAPES = [(6, 2), (4, 3, 5, 7)]


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


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
@pytest.mark.parametrize("shape", SHAPES)
def test_r1_and_r2_of_a_linear_critic(shape: tuple[int, ...], penalty: Penalty) -> None:
    weight, norm = linear_critic(shape)
    value = penalty(lambda x: (x * weight).flatten(1).sum(1), torch.randn(shape, dtype=torch.float64))
    torch.testing.assert_close(value, norm**2 / 2)
    value.backward()
    torch.testing.assert_close(weight.grad, weight.detach())


def test_r1_of_a_quadratic_critic_depends_on_the_samples() -> None:
    """∇ ½|x|² = x, so the penalty is half the mean squared length of the samples."""
    samples = torch.randn(5, 3, 2, 2)
    value = r1_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, samples)
    torch.testing.assert_close(value, samples.square().sum() / 5 / 2)


def test_each_sample_has_its_own_place_between_real_and_fake() -> None:
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square().sum((1, 2, 3))

    gradient_penalty(critic, torch.ones(500, 3, 2, 2), torch.zeros(500, 3, 2, 2))
    share = seen[0][:, 0, 0, 0]
    assert torch.equal(seen[0], share[:, None, None, None].expand(500, 3, 2, 2))
    assert 0 <= share.min() < 0.05 and 0.95 < share.max() <= 1
    assert share.mean().item() == pytest.approx(0.5, abs=0.05)


def test_scores_of_many_patches_are_added() -> None:
    critic = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(critic.weight, 3)
    value = gradient_penalty(critic, torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4))
    torch.testing.assert_close(value, torch.tensor((3 * 4.0 - 1) ** 2))


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


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\) and \(3, 3\)"):
        gradient_penalty(lambda x: x.sum(1), torch.randn(2, 3), torch.randn(3, 3))
