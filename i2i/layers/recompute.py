"""Gradient checkpointing: compute activations again in the backward pass instead of keeping them.

Chen et al. 2016 (arXiv:1604.06174).
"""

from contextlib import nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from i2i.errors import InputError


def recompute_activations(network: nn.Module) -> None:
    """Let each of the network's `stages()` keep no more than its inputs for the backward pass, which runs it again.

    That takes about a third more time and a fraction of the memory. Losses, gradients and buffers stay the same to
    the bit: the second run repeats the first one's random numbers, starts from the same buffers (running statistics,
    spectral norm's vectors) and leaves none behind. Where no gradients are wanted nothing changes.

    `keep_activations` undoes it.

    Raises:
        InputError: the network does not say what its stages are.
    """
    for stage in _stages(network):
        # A method, so that a copy of the network runs the copy's stages.
        stage.forward = MethodType(_forward, stage)


def check_stages(network: nn.Module) -> None:
    """Refuse now what `recompute_activations` would refuse."""
    _stages(network)


def keep_activations(network: nn.Module) -> None:
    """Undo `recompute_activations`."""
    for stage in _stages(network):
        del stage.forward


def _stages(network: Any) -> list[nn.Module]:
    if not hasattr(network, "stages"):
        raise InputError(
            f"--checkpointing needs a generator that names its stages, and {type(network).__name__} has no method "
            "stages(): train without it, or add one that lists the modules to run again"
        )
    return network.stages()


def _forward(stage: nn.Module, *inputs: Tensor) -> Tensor:
    forward = partial(type(stage).forward, stage)
    if not torch.is_grad_enabled():
        return forward(*inputs)
    if torch.compiler.is_compiling():  # the compiler changes buffers once, whatever it computes again
        return checkpoint(forward, *inputs, use_reentrant=False)
    contexts = nullcontext(), _SameBuffers(stage)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=lambda: contexts)


class _SameBuffers:
    """While entered, a module has copies of the buffers that it had when this was made."""

    def __init__(self, module: nn.Module) -> None:
        self.places = [(owner, name) for owner in module.modules() for name, _ in owner.named_buffers(recurse=False)]
        self.values = [getattr(owner, name).clone() for owner, name in self.places]

    def __enter__(self) -> None:
        self.now = self._put([value.clone() for value in self.values])

    def __exit__(self, *error: object) -> None:
        self._put(self.now)

    def _put(self, values: list[Tensor]) -> list[Tensor]:
        """Replaced, not overwritten: what autograd kept elsewhere may be these very tensors."""
        before = [getattr(owner, name) for owner, name in self.places]
        for (owner, name), value in zip(self.places, values, strict=True):
            setattr(owner, name, value)
        return before
