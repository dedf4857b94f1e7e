"""Unrolled GANs (Metz et al. 2017, arXiv:1611.02163): the generators look ahead at how discriminators would answer."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from i2i.errors import InputError
from i2i.methods.base import Batch, Losses, Method, Outputs, StandIn, in_full_precision
from i2i.methods.stabilisers import Stabiliser


class Unrolled(Stabiliser):
    """The generators play against discriminators that have already answered them.

        θ_D^{k+1} = θ_D^k − η ∂L_D(θ_G, θ_D^k) / ∂θ_D                            (eq. 7)
        ∂L_G(θ_G, θ_D^K) / ∂θ_G − ∂L_D(θ_G, θ_D^K) / ∂θ_D^K · dθ_D^K / dθ_G      (eq. 9 to 11)

    is the generators' gradient. Its second part goes through the K steps and says how discriminators would answer; the
    term "answer" has it. In the paper L_G = −L_D; here L_G is the method's own, the non-saturating one, say.

    The discriminators learn as ever, from where they were. The steps are eq. 7's plain ones, though the loop's are
    Adam's: those are hardly to be differentiated where a gradient is near 0 (1/√v), and have a memory to carry along.
    So η is a rate of gradient descent, about ten to a thousand times that of Adam.

    Discriminators run in full precision and uncompiled here, as gradients of gradients have to; their buffers (running
    statistics, spectral norm's vectors) and what the method within remembers stay as they were.

    Args:
        steps: K. Each costs about as much as a step of the discriminators, time and memory.
        learning_rate: η.

    Raises:
        InputError: `steps` below 0, a `learning_rate` that is not above 0 and finite; or discriminators with batch norm
            or instance norm under gradient penalties, whose third derivatives PyTorch does not have.
    """

    def __init__(self, method: Method, *, steps: int = 5, learning_rate: float) -> None:
        super().__init__(method)
        if steps < 0:
            raise InputError(f"expected at least 0 unrolled steps, got {steps}")
        if not 0 < learning_rate < math.inf:
            raise InputError(f"expected a learning_rate of unrolled steps above 0 and finite, got {learning_rate}")
        modules = [module for judge in method.discriminators.values() for module in judge.modules()]
        if steps and method.penalties.any and any(isinstance(module, _NormBase) for module in modules):
            raise InputError(
                "unrolled steps need the gradient of a penalty's gradient, which PyTorch's batch and instance norm do "
                "not have: take discriminators without these, no penalties, or no unrolled steps"
            )
        self.steps = steps
        self.learning_rate = learning_rate

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        if not self.steps:
            return super().generator_losses(batch, out, step)
        judges = nn.ModuleDict(self.discriminators)
        weights = {name: weight.detach().requires_grad_() for name, weight in judges.named_parameters()}
        buffers = {name: buffer.clone() for name, buffer in judges.named_buffers()}
        remembered = self.method.state_dict()
        with self.judged_by({name: _precise(judge) for name, judge in judges.items()}):
            for _ in range(self.steps):
                losses = _with(judges, weights | buffers, self.method.discriminator_losses, batch, out, step)
                gradients = torch.autograd.grad(
                    losses.total, list(weights.values()), create_graph=True, materialize_grads=True
                )
                pairs = zip(weights.items(), gradients, strict=True)
                weights = {name: weight - self.learning_rate * gradient for (name, weight), gradient in pairs}  # eq. 7
                self.method.load_state_dict(remembered)  # so that a pool does not hand out what it was just given
            known = {name: value.detach() for name, value in out.items()}
            answer = -_with(judges, weights | buffers, self.method.discriminator_losses, batch, known, step).total
            self.method.load_state_dict(remembered)
            fixed = {name: weight.detach() for name, weight in weights.items()}
            losses = _with(judges, fixed | buffers, self.method.generator_losses, batch, out, step)
        return replace(losses, terms={**losses.terms, "answer": answer})


def _precise(judge: nn.Module) -> StandIn:
    precise = in_full_precision(judge)
    return StandIn(judge, lambda _, *inputs: precise(*inputs))


def _with(networks: nn.Module, tensors: dict[str, Tensor], losses: Callable[..., Losses], *arguments: Any) -> Losses:
    """One side's losses as they would be if `networks` had these weights and buffers. It writes into the buffers."""
    calling = _Calling(networks)
    return functional_call(
        calling, {f"networks.{name}": value for name, value in tensors.items()}, (losses, *arguments)
    )


class _Calling(nn.Module):
    """A function as the forward of a module, so that `functional_call` can exchange what the function relies on."""

    def __init__(self, networks: nn.Module) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)
