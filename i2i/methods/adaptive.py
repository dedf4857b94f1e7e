"""Adaptive discriminator augmentation, ADA (Karras et al. 2020, arXiv:2006.06676)."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from i2i.errors import InputError
from i2i.methods.base import Batch, Losses, Method, Outputs
from i2i.methods.stabilisers import Stabiliser


class AdaptiveAugmentation(Stabiliser):
    """Augments as much as the discriminators overfit: ADA (Karras et al. 2020, arXiv:2006.06676, section 3).

    r_t = E[sign(D(real))] is 0 where they cannot tell real samples and 1 where they are sure of all of them, scores D
    being counted from the objective's `decision`: 0 for logits and hinge's, ½ for those of least squares. Every few
    of their steps the probability p of augmentation goes up where r_t is above its target, else down, in [0, 1] and at
    a speed that takes it from 0 to 1 within `ramp_images`. It is logged as "augmentation".

    Args:
        augment: the very module that the method within augments with; its `probability` is what is set.
        target: of r_t, between -1 and 1; the paper's is 0.6.
        ramp_images: real samples shown, over all processes; the paper's is 500 000.
        every_steps: of the discriminators; the paper's is 4.

    Raises:
        InputError: a target, ramp or number of steps that cannot be; or the method gives no scores, or such as say
            nothing by themselves: those of a Wasserstein critic, or of a relativistic objective.
    """

    def __init__(
        self,
        method: Method,
        *,
        augment: nn.Module,
        target: float = 0.6,
        ramp_images: int = 500_000,
        every_steps: int = 4,
    ) -> None:
        super().__init__(method)
        if not -1 < target < 1:
            raise InputError(f"expected target, of a mean of signs, to be between -1 and 1, got {target}")
        if ramp_images < 1 or every_steps < 1:
            raise InputError(
                f"expected ramp_images and every_steps to be at least 1, got {ramp_images} and {every_steps}"
            )
        self.augment = augment
        self.target = target
        self.ramp_images = ramp_images
        self.every_steps = every_steps
        # Since p was set last: Σ sign(D(real)) over real samples, and how many they were; steps of the discriminators.
        self.seen, self.steps = torch.zeros(2), 0

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().discriminator_losses(batch, out, step)
        decision = losses.objective.decision if losses.objective is not None else None
        if decision is None or not losses.real_scores:
            raise InputError(
                "adaptive augmentation goes by how sure the scores of real samples are, and this method's do not say: "
                "take non_saturating, minimax, lsgan or hinge for its objective, or a fixed augmentation"
            )
        scores = torch.cat([scores.detach().flatten() for scores in losses.real_scores]).float()
        signs = (scores - decision).sign()
        images = len(next(iter(batch.values())))
        self.seen = self.seen.to(signs.device) + torch.stack([images * signs.mean(), signs.new_tensor(images)])
        return replace(losses, figures={**losses.figures, "augmentation": signs.new_tensor(self.augment.probability)})

    def stepped(self, step: int, *, critic_only: bool) -> None:
        super().stepped(step, critic_only=critic_only)
        self.steps += 1
        if self.steps < self.every_steps:
            return
        seen = self.seen.clone()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(seen)  # so that p is alike in all processes
        signs, images = seen.tolist()
        change = images / self.ramp_images if signs / images > self.target else -images / self.ramp_images
        self.augment.probability = min(1.0, max(0.0, self.augment.probability + change))
        self.seen, self.steps = torch.zeros(2), 0

    def state_dict(self) -> dict[str, Any]:
        own = {"probability": self.augment.probability, "seen": self.seen, "steps": self.steps}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.augment.probability, self.seen, self.steps = state["probability"], state["seen"], state["steps"]
