"""Penalties on a discriminator's gradient with respect to its input.

`critic` maps (N, …) to scores whose first dimension is N, or N scores; several scores of one sample are
added. It must not let samples influence each other, as batch norm does. Each penalty is a scalar that
can be differentiated again, computed in float32 (float64 stays) with autocast off. A critic that
switches autocast on in its own forward, as accelerate's wrapper does, must be handed over unwrapped.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from i2i.errors import InputError

Critic = Callable[[Tensor], Tensor]


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


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """½ E ‖∇ critic(x)‖₂² over real samples (N, …): Mescheder et al. 2018, eq. 9, without its weight γ."""
    return _input_gradient(critic, _widen(real)).square().flatten(1).sum(dim=1).mean() / 2


def r2_penalty(critic: Critic, fake: Tensor) -> Tensor:
    """½ E ‖∇ critic(x)‖₂² over fake samples (N, …): Mescheder et al. 2018, eq. 10, without its weight γ."""
    return r1_penalty(critic, fake)


def _input_gradient(critic: Critic, samples: Tensor) -> Tensor:
    samples = samples.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(samples.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(critic(samples).sum(), samples, create_graph=True)
    return gradient


def _widen(samples: Tensor) -> Tensor:
    return samples.to(torch.promote_types(samples.dtype, torch.float32))
