"""pix2pix: paired image-to-image translation (Isola et al. 2017, arXiv:1611.07004).

    G* = arg min_G max_D  L_cGAN(G, D) + λ · L_L1(G)        (eq. 4)

The discriminator sees input and output side by side (eq. 1), so it judges whether they belong together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.losses.adversarial import AdversarialLoss, NonSaturating
from i2i.losses.penalties import NO_PENALTIES, Penalties
from i2i.methods.base import COMPARED, Batch, Comparison, HeldOut, Losses, Method, Outputs, in_full_precision
from i2i.metrics import paired_metrics


class Pix2Pix(Method):
    """L1 plus a conditional adversarial loss.

    Batches hold "input" (N, C, H, W) and "target" (N, K, H, W), float in [-1, 1].

    Args:
        generator: (N, C, H, W) to (N, K, H, W) in [-1, 1].
        discriminator: (N, C + K, H, W) to scores of any shape.
        objective: the adversarial loss; the paper's is the non-saturating one.
        l1_weight: λ; the paper's is 100.
        augment: is applied to all that the discriminator sees, real and fake, (N, C + K, H, W) to the same.
        penalties: on the discriminator's gradient, at pairs as it sees them.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        objective: AdversarialLoss | None = None,
        l1_weight: float = 100.0,
        augment: nn.Module | None = None,
        penalties: Penalties = NO_PENALTIES,
    ) -> None:
        super().__init__(generators={"generator": generator}, discriminators={"discriminator": discriminator})
        self.objective = objective or NonSaturating()
        self.l1_weight = l1_weight
        self.augment = augment or nn.Identity()
        self.penalties = penalties

    def translate(self, batch: Batch, step: int) -> Outputs:
        return {"output": self.generators["generator"](batch["input"])}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        judge = self.discriminators["discriminator"]
        fake = judge(self._pairs(batch, out["output"]))
        real = judge(self._pairs(batch, batch["target"])) if self.objective.generator_needs_real else None
        return Losses(
            terms={
                "adversarial": self.objective.generator_loss(fake, real),
                "l1": self.l1_weight * F.l1_loss(out["output"], batch["target"]),
            }
        )

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        judge = self.discriminators["discriminator"]
        real_pairs, fake_pairs = self._pairs(batch, batch["target"]), self._pairs(batch, out["output"])
        fake, real = judge(fake_pairs), judge(real_pairs)
        # Halved "to slow down the rate at which D learns relative to G" (section 3.3).
        terms = {"discriminator": 0.5 * self.objective.discriminator_loss(real, fake)}
        terms |= self.penalties.terms(in_full_precision(judge), real=real_pairs, fake=fake_pairs, step=step)
        return Losses(terms=terms, real_scores=[real], fake_scores=[fake], objective=self.objective)

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        output = self.generators["generator"](batch["input"])
        return {"input": batch["input"], "output": output, "truth": batch["target"]}

    def validate(self, batch: Batch) -> HeldOut:
        """Mean over the batch of `paired_metrics`."""
        output, target = self.generators["generator"](batch["input"]), batch["target"]
        return {**paired_metrics(output, target), COMPARED: Comparison(generated=output, real=target, truth=target)}

    def _pairs(self, batch: Batch, image: Tensor) -> Tensor:
        """What the discriminator sees of an output or a target."""
        return self.augment(torch.cat([batch["input"], image], dim=1))
