"""What a training objective has to say, and nothing about how it is trained.

A method names its networks and computes losses. It owns no optimiser and no device, never calls
`.backward()` or `.step()`: `i2i.training.loop` does, for every method alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from i2i.losses.adversarial import AdversarialLoss
from i2i.losses.penalties import NO_PENALTIES, Penalties

Batch = dict[str, Tensor]
Outputs = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The weighted, named terms of one side's loss; their sum is what is minimised.

    terms: scalars, weights already applied; names differ between the two sides.
    real_scores, fake_scores: the discriminator's raw scores, any shapes; a higher score means "real".
        They feed the accuracy curve and its alarms. Only the discriminators' side gives them.
    objective: the adversarial loss that these scores were trained by, which says how they are to be read.
    figures: scalars that are logged beside the terms and not minimised, under names of their own.
    """

    terms: dict[str, Tensor]
    real_scores: Sequence[Tensor] = ()
    fake_scores: Sequence[Tensor] = ()
    objective: AdversarialLoss | None = None
    figures: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        return torch.stack(list(self.terms.values())).sum()

    def accuracy(self) -> Tensor | None:
        """The share of (real, fake) pairs of scores that are ranked rightly: 0.5 guesses, 1 always knows.

        Unlike a count against a threshold it means the same for every objective; None for a Wasserstein critic, which
        ranks perfectly when all is well. Ties count half.
        """
        is_critic = self.objective is not None and self.objective.is_critic
        if is_critic or not self.real_scores or not self.fake_scores:
            return None
        real = torch.cat([scores.detach().flatten() for scores in self.real_scores]).float()
        fake = torch.cat([scores.detach().flatten() for scores in self.fake_scores]).float().sort().values
        below = torch.searchsorted(fake, real) + torch.searchsorted(fake, real, right=True)
        return below.float().mean() / (2 * len(fake))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What generators made of held-out items beside real images, for metrics that suit any method.

    generated: (N, C, H, W) in [-1, 1].
    real: (N, C, H, W) likewise, as the generated ones should look; the same ones at each validation.
    truth: what each generated image ought to be, of its shape; None: nobody knows.
    """

    generated: Tensor
    real: Tensor
    truth: Tensor | None = None


HeldOut = Mapping[str, "float | Tensor | Comparison"]
"""What `Method.validate` gives."""

COMPARED = "compared"
"""The name of a `Comparison`, and how those begin whose figures are told from others by how their names end."""


class Method:
    """A training objective: the contract between `i2i.methods` and the training loop.

    generators: trained, averaged (EMA) and exported, each under its name.
    discriminators: trained; may be empty (a stage that only regresses).
    auxiliary: trained with the generators, but neither averaged nor exported (a projector that only losses need).
    frozen: moved to the device, never trained (a perceptual network).
    penalties: those on the discriminators' gradients.

    The loop replaces the values of these dictionaries by networks prepared for the device, precision and
    number of processes, so look a network up at each use and call it through `forward` only. All random
    numbers come from torch's global generator, which the loop seeds for every micro-batch.
    """

    generators: dict[str, nn.Module]
    discriminators: dict[str, nn.Module]
    auxiliary: dict[str, nn.Module]
    frozen: dict[str, nn.Module]
    penalties: Penalties = NO_PENALTIES

    def __init__(
        self,
        *,
        generators: dict[str, nn.Module],
        discriminators: dict[str, nn.Module],
        auxiliary: dict[str, nn.Module] | None = None,
        frozen: dict[str, nn.Module] | None = None,
    ) -> None:
        self.generators = generators
        self.discriminators = discriminators
        self.auxiliary = auxiliary or {}
        self.frozen = frozen or {}

    def check(self, batch: Batch) -> None:
        """Raise InputError for values of a batch that no network can take, such as a class that there is not.

        Asked while the batch is still on the CPU, where looking at it costs nothing.
        """

    def prepare(self, batch: Batch, step: int) -> Batch:
        """What is made of a micro-batch before any network sees it: random degradations on the device, say."""
        return batch

    def translate(self, batch: Batch, step: int) -> Outputs:
        """Run the generators once: what the discriminators will see, as named (N, …) tensors."""
        raise NotImplementedError

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        """The generators' side. The discriminators are frozen meanwhile; generators may be called again."""
        raise NotImplementedError

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        """The discriminators' side; `out` arrives detached. Gradient penalties belong here."""
        raise NotImplementedError

    def stepped(self, step: int, *, critic_only: bool) -> None:
        """The optimisers have stepped: constrain weights in place, or follow them. Called without gradients.

        Not called after a round that was skipped. All processes' weights are alike here, and must stay so.

        critic_only: only the discriminators have stepped, in one of the rounds before the generators' own.
        """

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Named pictures (N, C, H, W) in [-1, 1] for a person to look at, one column each."""
        raise NotImplementedError

    def validate(self, batch: Batch) -> HeldOut:
        """Held-out metrics, each a number that is the mean over the batch's items.

        A tensor is no metric: those of all batches are joined along their first dimension for `distances`. Nor is a
        `Comparison`: of its images the loop takes whatever metrics it was asked for, FID, say. It is called
        `COMPARED`; "compared_b_to_a" gets figures whose names end in "_b_to_a".
        """
        return {}

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        """Held-out metrics that only all items together have, such as how far two sets of images are apart.

        descriptors: the tensors that `validate` gave for all batches in all processes, on the CPU.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What the method remembers from step to step (an image pool, say), per process.

        The loop takes it before every round to undo one that fails, so it must be cheap and stay as it
        was: replace tensors that were handed out, never write into them.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class StandIn(nn.Module):
    """Takes a network's place within a method for a while, to show it something else or to run it otherwise.

    Args:
        network: the one whose place it takes, prepared or a stand-in itself.
        run: calls it, or something like it: (function that the network is, the inputs) to what comes out.
    """

    def __init__(self, network: nn.Module, run: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network
        self.run = run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self.network, *inputs)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, without the wrapper that shares gradients between processes, and behind stand-ins."""
    if isinstance(network, StandIn):
        return unwrapped(network.network)
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def in_full_precision(network: nn.Module) -> Callable[..., Tensor]:
    """`network` as a function that computes in fp32 (or wider) under any mixed precision, and is not compiled.

    Gradient penalties need it: the gradient of a gradient loses too much in 16 bits, and compiled code has none. An
    outer `autocast(enabled=False)` would not do, since mixed precision is set inside the prepared network's own
    forward; so this calls the forward that was there before.
    """
    if isinstance(network, StandIn):
        return partial(network.run, in_full_precision(network.network))
    inner = unwrapped(network)
    forward = getattr(inner, "_original_forward", inner.forward)

    def call(*inputs: Tensor) -> Tensor:
        wide = [value.float() if value.dtype in (torch.float16, torch.bfloat16) else value for value in inputs]
        with torch.autocast(inputs[0].device.type, enabled=False):
            return forward(*wide)

    return call


def with_features(network: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """A discriminator as a function that gives its scores and its features: what goes into its last layer, `head`."""

    def call(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        features: list[Tensor] = []
        head = unwrapped(network).get_submodule("head")
        tap = head.register_forward_pre_hook(lambda module, given: features.append(given[0]))
        try:
            # Compiled code would not know of the tap.
            with torch.compiler.set_stance("force_eager"):
                scores = network(*inputs)
        finally:
            tap.remove()
        return scores, features[0]

    return call
