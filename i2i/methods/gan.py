"""The plain GAN: noise to samples, with any objective, with or without classes.

Goodfellow et al. 2014 (arXiv:1406.2661). How classes are told to the networks is their business: by concatenation
(Mirza and Osindero 2014, arXiv:1411.1784), class-conditional norm, or projection (Miyato and Koyama 2018,
arXiv:1802.05637).
"""

from typing import cast

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.losses.adversarial import AdversarialLoss, NonSaturating, Wasserstein
from i2i.losses.penalties import Penalties
from i2i.methods.base import Batch, Losses, Method, Outputs, in_full_precision

NO_PENALTIES = Penalties()


class GAN(Method):
    """Draws samples that look like the data.

    Batches hold "real" (N, …) float samples, images in [-1, 1] or points (N, C), and "label" (N,) int64 class
    ids where the networks have classes.

    Args:
        generator: latent vectors (N, latent_channels) from N(0, 1) to samples; with classes, and the class ids.
        discriminator: samples to scores; with classes, as many as the generator's, and the class ids.
        objective: the adversarial loss.
        penalties: on the discriminator's gradient, at samples as it sees them.
        augment: is applied to all samples that the discriminator sees, real and fake, (N, …) to the same.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        objective: AdversarialLoss | None = None,
        penalties: Penalties = NO_PENALTIES,
        augment: nn.Module | None = None,
    ) -> None:
        super().__init__(generators={"generator": generator}, discriminators={"discriminator": discriminator})
        if generator.classes != discriminator.classes:
            raise InputError(
                "expected generator and discriminator of equally many classes, got "
                f"{generator.classes} and {discriminator.classes}"
            )
        self.latent_channels = cast(int, generator.latent_channels)
        self.classes = cast(int, generator.classes)
        self.objective = objective or NonSaturating()
        self.penalties = penalties
        self.augment = augment or nn.Identity()

    def sample(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Samples for latent vectors (N, latent_channels) and, with classes, class ids (N,)."""
        return self.generators["generator"](latents, *self._labels(labels))

    def translate(self, batch: Batch, step: int) -> Outputs:
        return {"sample": self.sample(self._latents(batch["real"]), batch.get("label"))}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        fake = self._judge(self.augment(out["sample"]), batch)
        real = self._judge(self.augment(batch["real"]), batch) if self.objective.generator_needs_real else None
        return Losses(terms={"adversarial": self.objective.generator_loss(fake, real)})

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        real_seen, fake_seen = self.augment(batch["real"]), self.augment(out["sample"])
        real, fake = self._judge(real_seen, batch), self._judge(fake_seen, batch)
        terms = {"discriminator": self.objective.discriminator_loss(real, fake)}
        critic, labels = in_full_precision(self.discriminators["discriminator"]), self._labels(batch.get("label"))
        terms |= self.penalties.terms(lambda x: critic(x, *labels), real=real_seen, fake=fake_seen, step=step)
        if isinstance(self.objective, Wasserstein):
            return Losses(terms=terms)  # a critic's score is no judgement
        return Losses(terms=terms, real_scores=[real], fake_scores=[fake])

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Samples beside real ones; points are drawn as a density over the square that holds the real ones."""
        real = batch["real"]
        sample = self.sample(self._latents(real), batch.get("label"))
        if real.ndim == 2:
            reach = 1.1 * real.abs().max()
            return {
                "sample": density_picture(sample, reach=reach),
                "real": density_picture(real, reach=reach),
            }
        return {"sample": sample, "real": real}

    def _latents(self, real: Tensor) -> Tensor:
        return torch.randn(len(real), self.latent_channels, device=real.device, dtype=real.dtype)

    def _judge(self, samples: Tensor, batch: Batch) -> Tensor:
        return self.discriminators["discriminator"](samples, *self._labels(batch.get("label")))

    def _labels(self, labels: Tensor | None) -> tuple[Tensor, ...]:
        """What networks get beside their first input: class ids, where they have classes."""
        if not self.classes:
            return ()
        if labels is None:
            raise InputError(f'the networks have {self.classes} classes: expected batches with "label" beside "real"')
        return (labels,)


def density_picture(points: Tensor, *, reach: float | Tensor, size: int = 128) -> Tensor:
    """Points (N, 2) in the square [-reach, reach]² as one picture (1, 1, size, size) in [-1, 1], dense bright."""
    cells = ((points / reach + 1) / 2 * size).long()
    inside = ((cells >= 0) & (cells < size)).all(dim=1)
    columns, rows = cells[inside].unbind(dim=1)
    counts = torch.bincount((size - 1 - rows) * size + columns, minlength=size * size).float()
    brightness = torch.log1p(counts) / torch.log1p(counts.max()).clamp(min=1e-6)
    return brightness.reshape(1, 1, size, size) * 2 - 1
