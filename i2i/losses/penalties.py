"""Penalties on a discriminator's gradient with respect to its input.

`critic` maps (N, …) to N scores, or to several scores of each sample, first dimension N, which are added: a map of
scores counts as their sum, whose slope grows with its size. It must not let samples influence each other, as batch norm
does. Each penalty is a scalar that can be differentiated again, computed in float32 (float64 stays) with autocast off,
since the gradient of a gradient loses too much in 16 bits. A critic that switches autocast on in its own forward, as
accelerate's wrapper does, must be handed over unwrapped (`methods.base.in_full_precision`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from i2i.errors import InputError

Critic = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Penalties:
    """Which penalties are added to a discriminator's loss, and how much they weigh; 0: not at all.

    Attributes:
        gradient_penalty: λ of WGAN-GP; the paper's is 10.
        dragan: λ of DRAGAN; the paper's is 10.
        r1: γ of R1, at real samples.
        r2: γ of R2, at generated ones.
        every_steps: penalties are computed at every so many steps only, and weigh as much more there (lazy
            regularisation: Karras et al. 2020, arXiv:1912.04958, section 3.1).

    Raises:
        InputError: a weight is negative or not finite, or `every_steps` below 1.
    """

    gradient_penalty: float = 0.0
    dragan: float = 0.0
    r1: float = 0.0
    r2: float = 0.0
    every_steps: int = 1

    def __post_init__(self) -> None:
        for name in ("gradient_penalty", "dragan", "r1", "r2"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"expected the weight of {name} to be at least 0 and finite, got {getattr(self, name)}"
                )
        if self.every_steps < 1:
            raise InputError(f"expected every_steps to be at least 1, got {self.every_steps}")

    @property
    def any(self) -> bool:
        return any((self.gradient_penalty, self.dragan, self.r1, self.r2))

    def terms(self, critic: Critic, *, real: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        """The weighted penalties of a step, by name: none where none is switched on, or it is not their turn.

        `critic` as above, without mixed precision of its own; `real` and `fake` are (N, …) as the discriminator sees
        them, of one shape where `gradient_penalty` looks between them.
        """
        if step % self.every_steps:
            return {}
        penalties: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "gradient_penalty": (self.gradient_penalty, lambda: gradient_penalty(critic, real, fake)),
            "dragan": (self.dragan, lambda: dragan_penalty(critic, real)),
            "r1": (self.r1, lambda: r1_penalty(critic, real)),
            "r2": (self.r2, lambda: r2_penalty(critic, fake)),
        }
        return {name: weight * self.every_steps * penalty() for name, (weight, penalty) in penalties.items() if weight}


NO_PENALTIES = Penalties()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, *, target: float = 1.0) -> Tensor:
    """E (‖∇ critic(x̂)‖₂ − target)², x̂ uniform between real and fake samples (Gulrajani et al. 2017, eq. 3).

    Without the paper's weight λ. `real` and `fake` are (N, …) of one shape, else InputError.
    """
    if real.shape != fake.shape:
        raise InputError(
            f"expected real and fake samples of one shape, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    real, fake = _widen(real), _widen(fake)
    share = torch.rand(len(real), *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device)
    gradient = _input_gradient(critic, share * real + (1 - share) * fake)
    return (gradient.flatten(1).norm(dim=1) - target).square().mean()


def dragan_penalty(critic: Critic, real: Tensor, *, target: float = 1.0) -> Tensor:
    """E (‖∇ critic(x + δ)‖₂ − target)² near real samples (N, …) (Kodali et al. 2017, arXiv:1705.07215, section 2.3).

    As in the authors' code: x + δ is uniform between a sample and a noisy copy of it, each of whose values is up to
    ½ s larger, s being the deviation of all values in `real`. The paper's δ is Gaussian. Without the paper's weight λ.
    """
    real = _widen(real)
    noisy = real + 0.5 * real.std(correction=0) * torch.rand_like(real)
    return gradient_penalty(critic, real, noisy, target=target)


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """½ E ‖∇ critic(x)‖₂² over real samples (N, …): Mescheder et al. 2018, eq. 9, without its weight γ."""
    return _input_gradient(critic, _widen(real)).square().flatten(1).sum(dim=1).mean() / 2


def r2_penalty(critic: Critic, fake: Tensor) -> Tensor:
    """½ E ‖∇ critic(x)‖₂² over fake samples (N, …): Mescheder et al. 2018, eq. 10, without its weight γ."""
    return r1_penalty(critic, fake)


def _input_gradient(critic: Critic, samples: Tensor) -> Tensor:
    # Within `Unrolled` samples depend on weights, and stay tied to them; the critic's weights may depend on the
    # samples, which is no part of its slope: hence a view, that only the critic sees.
    samples = samples.view_as(samples) if samples.requires_grad else samples.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(samples.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(critic(samples).sum(), samples, create_graph=True)
    return gradient


def _widen(samples: Tensor) -> Tensor:
    return samples.to(torch.promote_types(samples.dtype, torch.float32))
