"""The plain GAN: noise to samples, with any objective, with or without labels.

Goodfellow et al. 2014 (arXiv:1406.2661); conditioned on labels by concatenation as in Mirza and Osindero 2014
(arXiv:1411.1784); gradient penalty of Gulrajani et al. 2017 (arXiv:1704.00028); R1 of Mescheder et al. 2018
(arXiv:1801.04406), at some steps only where Karras et al. 2020 (arXiv:1912.04958, section 4) have it so.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.losses.adversarial import AdversarialLoss, NonSaturating, Wasserstein
from i2i.losses.penalties import gradient_penalty, r1_penalty
from i2i.methods.base import Batch, Losses, Method, Outputs, in_full_precision


class GAN(Method):
    """Draws samples that look like the data.

    Batches hold "real" (N, …) float samples, images in [-1, 1] or points (N, C), and "label" (N,) int64 class
    ids where `classes` is not 0.

    Args:
        generator: (N, latent_channels + classes) to samples.
        discriminator: samples to scores; with labels it sees `classes` more channels, which hold the one-hot
            label at every position.
        latent_channels: length of the noise vector, drawn from the standard normal distribution.
        classes: number of labels; 0: none.
        objective: the adversarial loss.
        gradient_penalty_weight: λ of WGAN-GP (the paper's is 10); 0: no penalty.
        augment: is applied to all samples that the discriminator sees, real and fake, (N, …) to the same.
        r1_weight: γ of R1, on real samples as the discriminator sees them; 0: no penalty.
        r1_every_steps: the penalty is computed at every so many steps only, and weighs as much more there.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_channels: int,
        classes: int = 0,
        objective: AdversarialLoss | None = None,
        gradient_penalty_weight: float = 0.0,
        augment: nn.Module | None = None,
        r1_weight: float = 0.0,
        r1_every_steps: int = 1,
    ) -> None:
        super().__init__(generators={"generator": generator}, discriminators={"discriminator": discriminator})
        self.latent_channels = latent_channels
        self.classes = classes
        self.objective = objective or NonSaturating()
        self.gradient_penalty_weight = gradient_penalty_weight
        self.augment = augment or nn.Identity()
        self.r1_weight = r1_weight
        self.r1_every_steps = r1_every_steps

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Samples for latent vectors (N, latent_channels) and, with classes, labels (N,)."""
        if self.classes:
            assert label is not None
            latent = torch.cat([latent, F.one_hot(label, self.classes).to(latent.dtype)], dim=1)
        return self.generators["generator"](latent)

    def translate(self, batch: Batch, step: int) -> Outputs:
        return {"sample": self.sample(self._latent(batch["real"]), batch.get("label"))}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        judge = self.discriminators["discriminator"]
        fake = judge(self._seen(out["sample"], batch))
        real = judge(self._seen(batch["real"], batch)) if self.objective.generator_needs_real else None
        return Losses(terms={"adversarial": self.objective.generator_loss(fake, real)})

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        judge = self.discriminators["discriminator"]
        real_inputs, fake_inputs = self._seen(batch["real"], batch), self._seen(out["sample"], batch)
        real, fake = judge(real_inputs), judge(fake_inputs)
        terms = {"discriminator": self.objective.discriminator_loss(real, fake)}
        if self.gradient_penalty_weight:
            terms["gradient_penalty"] = self.gradient_penalty_weight * gradient_penalty(
                in_full_precision(judge), real_inputs, fake_inputs
            )
        if self.r1_weight and step % self.r1_every_steps == 0:
            weight = self.r1_weight * self.r1_every_steps
            terms["r1"] = weight * r1_penalty(in_full_precision(judge), real_inputs)
        if isinstance(self.objective, Wasserstein):
            return Losses(terms=terms)  # a critic's score is no judgement
        return Losses(terms=terms, real_scores=[real], fake_scores=[fake])

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Samples beside real ones; points are drawn as a density over the square that holds the real ones."""
        real = batch["real"]
        sample = self.sample(self._latent(real), batch.get("label"))
        if real.ndim == 2:
            reach = 1.1 * real.abs().max()
            return {
                "sample": density_picture(sample, reach=reach),
                "real": density_picture(real, reach=reach),
            }
        return {"sample": sample, "real": real}

    def _latent(self, real: Tensor) -> Tensor:
        return torch.randn(len(real), self.latent_channels, device=real.device, dtype=real.dtype)

    def _seen(self, samples: Tensor, batch: Batch) -> Tensor:
        """What the discriminator sees of samples: augmented, and labelled where there are labels."""
        samples = self.augment(samples)
        if not self.classes:
            return samples
        label = F.one_hot(batch["label"], self.classes).to(samples.dtype)
        label = label.reshape(*label.shape, *(1,) * (samples.ndim - 2))
        return torch.cat([samples, label.expand(-1, -1, *samples.shape[2:])], dim=1)


def density_picture(points: Tensor, *, reach: float | Tensor, size: int = 128) -> Tensor:
    """Points (N, 2) in the square [-reach, reach]² as one picture (1, 1, size, size) in [-1, 1], dense bright."""
    cells = ((points / reach + 1) / 2 * size).long()
    inside = ((cells >= 0) & (cells < size)).all(dim=1)
    columns, rows = cells[inside].unbind(dim=1)
    counts = torch.bincount((size - 1 - rows) * size + columns, minlength=size * size).float()
    brightness = torch.log1p(counts) / torch.log1p(counts.max()).clamp(min=1e-6)
    return brightness.reshape(1, 1, size, size) * 2 - 1
