"""What steadies adversarial training, each a method that stands around another one.

    Unrolled(HistoricalAveraging(Pix2Pix(...), weight=1.0), steps=5, learning_rate=0.1)

A stabiliser changes what it is named after; networks, losses, previews, figures and memory are otherwise those of the
method within, whichever that is. `unrolled.py` and `adaptive.py` have two more. Others are settings of the loop
(several critic steps, two learning rates, averages of weights), of a network (spectral norm, minibatch statistics), or
of a method (penalties, feature matching, DiffAugment).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.losses.orthogonal import orthogonal_penalty, orthogonal_weights
from i2i.methods.base import Batch, HeldOut, Losses, Method, Outputs, StandIn, unwrapped
from i2i.methods.pool import Pool


class Stabiliser(Method):
    """A method that is another one in all that a subclass leaves as it is."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.penalties = method.penalties

    # The loop puts prepared and averaged networks into these; they belong to the method within.
    @property
    def generators(self) -> dict[str, nn.Module]:
        return self.method.generators

    @generators.setter
    def generators(self, networks: dict[str, nn.Module]) -> None:
        self.method.generators = networks

    @property
    def discriminators(self) -> dict[str, nn.Module]:
        return self.method.discriminators

    @discriminators.setter
    def discriminators(self, networks: dict[str, nn.Module]) -> None:
        self.method.discriminators = networks

    @property
    def auxiliary(self) -> dict[str, nn.Module]:
        return self.method.auxiliary

    @auxiliary.setter
    def auxiliary(self, networks: dict[str, nn.Module]) -> None:
        self.method.auxiliary = networks

    @property
    def frozen(self) -> dict[str, nn.Module]:
        return self.method.frozen

    @frozen.setter
    def frozen(self, networks: dict[str, nn.Module]) -> None:
        self.method.frozen = networks

    def check(self, batch: Batch) -> None:
        self.method.check(batch)

    def prepare(self, batch: Batch, step: int) -> Batch:
        return self.method.prepare(batch, step)

    def translate(self, batch: Batch, step: int) -> Outputs:
        return self.method.translate(batch, step)

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        return self.method.generator_losses(batch, out, step)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        return self.method.discriminator_losses(batch, out, step)

    def stepped(self, step: int, *, critic_only: bool) -> None:
        self.method.stepped(step, critic_only=critic_only)

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.preview(batch)

    def validate(self, batch: Batch) -> HeldOut:
        return self.method.validate(batch)

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        return self.method.distances(descriptors)

    def state_dict(self) -> dict[str, Any]:
        return {"method": self.method.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])

    @contextmanager
    def judged_by(self, judges: dict[str, nn.Module]) -> Iterator[None]:
        """Meanwhile the method within has these discriminators."""
        before = self.method.discriminators
        self.method.discriminators = judges
        try:
            yield
        finally:
            self.method.discriminators = before


class WeightClipping(Stabiliser):
    """Holds every weight of the discriminators in [-limit, limit], and so their slope: WGAN's way.

    w ← clip(w, −c, c) after each of their steps (Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1).

    Args:
        limit: c, above 0, else InputError; the paper's is 0.01.
    """

    def __init__(self, method: Method, *, limit: float = 0.01) -> None:
        super().__init__(method)
        if not limit > 0:
            raise InputError(f"expected weights to be clipped at a limit above 0, got {limit}")
        self.limit = limit

    def stepped(self, step: int, *, critic_only: bool) -> None:
        super().stepped(step, critic_only=critic_only)
        for discriminator in self.discriminators.values():
            for weight in discriminator.parameters():
                weight.clamp_(-self.limit, self.limit)


class HistoricalAveraging(Stabiliser):
    """Both players pay for being far from where they have been on average, so that they circle less.

    Adds ‖θ − 1/t Σ_{i=1}^t θ[i]‖² to each side's loss, θ[i] being its weights after its i-th step (Salimans et al.
    2016, arXiv:1606.03498, section 3.3). Before the first step there is no past, and no term. The mean takes as much
    memory, and room in saved states of each process, as the networks themselves.

    Args:
        weight: of that term, at least 0, else InputError.
    """

    def __init__(self, method: Method, *, weight: float) -> None:
        super().__init__(method)
        if not 0 <= weight < math.inf:
            raise InputError(f"expected the weight of historical averaging to be at least 0 and finite, got {weight}")
        self.weight = weight
        self.past = {"generators": _Mean(), "discriminators": _Mean()}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        return self._with_history("generators", super().generator_losses(batch, out, step))

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        return self._with_history("discriminators", super().discriminator_losses(batch, out, step))

    def stepped(self, step: int, *, critic_only: bool) -> None:
        super().stepped(step, critic_only=critic_only)
        for side in ["discriminators"] if critic_only else self.past:
            self.past[side].add(self._weights(side))

    def state_dict(self) -> dict[str, Any]:
        past = {side: {"count": mean.count, "tensors": mean.tensors} for side, mean in self.past.items()}
        return {**super().state_dict(), "past": past}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.past = {side: _Mean(**saved) for side, saved in state["past"].items()}

    def _with_history(self, side: str, losses: Losses) -> Losses:
        if not self.past[side].count:
            return losses
        distance = self.weight * self.past[side].squared_distance(self._weights(side))
        return replace(losses, terms={**losses.terms, f"history_of_{side}": distance})

    def _weights(self, side: str) -> list[Tensor]:
        networks = self.generators if side == "generators" else self.discriminators
        return [weight for network in networks.values() for weight in network.parameters()]


class _Mean:
    """The mean of `count` lists of tensors; its tensors are replaced, never written into."""

    def __init__(self, count: int = 0, tensors: list[Tensor] | None = None) -> None:
        self.count = count
        self.tensors = tensors or []

    def add(self, tensors: list[Tensor]) -> None:
        self.count += 1
        means = self.tensors or tensors
        # lerp(a, b, 1/t) = a + (b − a) / t
        self.tensors = [
            torch.lerp(mean.to(new.device), new.detach(), 1 / self.count)
            for mean, new in zip(means, tensors, strict=True)
        ]

    def squared_distance(self, tensors: list[Tensor]) -> Tensor:
        pairs = zip(tensors, self.tensors, strict=True)
        return torch.stack([(tensor - mean.to(tensor.device)).square().sum() for tensor, mean in pairs]).sum()


class OrthogonalRegularisation(Stabiliser):
    """The generators pay for filters that are not at right angles, so that they draw well from truncated latents, too.

    Adds β Σ_W ‖WᵀW ⊙ (1 − I)‖²_F to their loss (Brock et al. 2019, arXiv:1809.11096, eq. 3), W being the weight of each
    convolution and linear layer; see `orthogonal_weights`. Computed in fp32 under any precision.

    Args:
        weight: β, at least 0, else InputError; the paper's is 1e-4.
    """

    def __init__(self, method: Method, *, weight: float = 1e-4) -> None:
        super().__init__(method)
        if not 0 <= weight < math.inf:
            raise InputError(f"expected the weight of orthogonality to be at least 0 and finite, got {weight}")
        self.weight = weight

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().generator_losses(batch, out, step)
        weights = [weight for network in self.generators.values() for weight in orthogonal_weights(unwrapped(network))]
        if not weights:
            return losses
        penalty = self.weight * torch.stack([orthogonal_penalty(weight) for weight in weights]).sum()
        return replace(losses, terms={**losses.terms, "orthogonality": penalty})


class Replay(Stabiliser):
    """The discriminators see what the generators made at earlier steps too (Shrivastava et al. 2017, section 2.3).

    Whole items are exchanged, what was made together with the batch it was made for: a label, an input, and the real
    sample beside it. See `Pool` for which. `CycleGAN` has pools of its own.

    Args:
        capacity: items of which each process remembers batch and outputs.
    """

    def __init__(self, method: Method, *, capacity: int = 50) -> None:
        super().__init__(method)
        self.pool = Pool(capacity=capacity)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        shown = self.pool.query({"batch": batch, "out": out})
        return super().discriminator_losses(shown["batch"], shown["out"], step)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pool": self.pool.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.pool.load_state_dict(state["pool"])


class InstanceNoise(Stabiliser):
    """Gaussian noise on all that the discriminators judge, so that real and generated samples overlap from the start.

    Sønderby et al. 2017 (arXiv:1610.04490, section 2.2.1); Arjovsky & Bottou 2017 (arXiv:1701.04862, section 3). It is
    drawn anew at each call, on their first input: not on class ids or label maps given beside, but on an input that is
    joined to the output, as pix2pix does. Penalties see it too: they are taken where the discriminators judge.

    Args:
        deviation: σ of the noise at the first step, at least 0; samples are in [-1, 1].
        steps: over which it falls linearly to 0, at least 1.

    Raises:
        InputError: other values than these.
    """

    def __init__(self, method: Method, *, deviation: float, steps: int) -> None:
        super().__init__(method)
        if not 0 <= deviation < math.inf or steps < 1:
            raise InputError(
                "expected noise of a finite deviation of at least 0, which falls over at least 1 step, got "
                f"{deviation} over {steps}"
            )
        self.deviation = deviation
        self.steps = steps

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        with self._noise(step):
            return super().generator_losses(batch, out, step)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        with self._noise(step):
            return super().discriminator_losses(batch, out, step)

    def _noise(self, step: int) -> AbstractContextManager[None]:
        deviation = self.deviation * (1 - step / self.steps) if step < self.steps else 0.0

        def judge_noisy(judge: Callable[..., Any], samples: Tensor, *others: Tensor) -> Any:
            return judge(samples + deviation * torch.randn_like(samples), *others)

        if not deviation:
            return nullcontext()
        return self.judged_by({name: StandIn(judge, judge_noisy) for name, judge in self.discriminators.items()})
