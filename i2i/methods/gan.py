"""The plain GAN: noise to samples, with any objective, with or without classes.

Goodfellow et al. 2014 (arXiv:1406.2661). How classes are told to the networks is their business: by concatenation
(Mirza and Osindero 2014, arXiv:1411.1784), class-conditional norm, or projection (Miyato and Koyama 2018,
arXiv:1802.05637).
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.classes import check_classes
from i2i.losses.adversarial import AdversarialLoss, NonSaturating
from i2i.losses.feature_matching import mean_feature_matching
from i2i.losses.penalties import NO_PENALTIES, Penalties
from i2i.methods.base import (
    COMPARED,
    Batch,
    Comparison,
    HeldOut,
    Losses,
    Method,
    Outputs,
    in_full_precision,
    with_features,
)
from i2i.methods.shared import (
    can_join,
    describe_sides,
    describe_variety,
    mixes_samples,
    relative_variety,
    side_distance,
)

# Of which previews show samples.
SHOWN_CLASSES = 10


class GAN(Method):
    """Draws samples that look like the data.

    Batches hold "real" (N, …) float samples, images in [-1, 1] or points (N, C), and "label" (N,) int64 class
    ids where the networks have classes.

    Args:
        generator: latent vectors (N, latent_channels) from N(0, 1) to samples; with classes, and the class ids.
        discriminator: samples to scores; with classes, as many as the generator's, and the class ids.
        class_names: what previews call the classes; by their ids unless given.
        objective: the adversarial loss.
        penalties: on the discriminator's gradient, at samples as it sees them.
        augment: is applied to all samples that the discriminator sees, real and fake, (N, …) to the same.
        feature_matching_weight: of the distance between what generated and real samples give, on average, before the
            discriminator's last layer (Salimans et al. 2016, arXiv:1606.03498, section 3.1); 0: not computed.
        adversarial_weight: of the generator's adversarial loss; the paper on feature matching does without.
        mismatched_share: with classes, this share of what the discriminator is to tell from real samples are real ones
            under the name of another class, so that it learns early what the classes look like (Reed et al. 2016,
            arXiv:1605.05396, section 4.2, has 0.5, which is a third more of its work); 0: none. They count by it
            in the loss, too. A discriminator that mixes the samples of a batch (batch norm, minibatch statistics) would
            know a smaller batch by its statistics and not look at classes: it is shown all real ones again, whatever
            the share, at the cost of 0.5.

    Raises:
        InputError: the networks differ in their classes; a weight is negative or not finite, or both are 0; or a
            `mismatched_share` outside [0, 1), or with a Wasserstein critic, which would estimate another distance.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        class_names: Sequence[str] = (),
        objective: AdversarialLoss | None = None,
        penalties: Penalties = NO_PENALTIES,
        augment: nn.Module | None = None,
        feature_matching_weight: float = 0.0,
        adversarial_weight: float = 1.0,
        mismatched_share: float = 0.0,
    ) -> None:
        super().__init__(generators={"generator": generator}, discriminators={"discriminator": discriminator})
        if generator.classes != discriminator.classes:
            raise InputError(
                "expected generator and discriminator of equally many classes, got "
                f"{generator.classes} and {discriminator.classes}"
            )
        for name, weight in (
            ("feature_matching_weight", feature_matching_weight),
            ("adversarial_weight", adversarial_weight),
        ):
            if not 0 <= weight < math.inf:
                raise InputError(f"expected {name} to be at least 0 and finite, got {weight}")
        if not feature_matching_weight and not adversarial_weight:
            raise InputError("expected an adversarial_weight or a feature_matching_weight for the generator to go by")
        if not 0 <= mismatched_share < 1:
            raise InputError(f"expected mismatched_share to be at least 0 and below 1, got {mismatched_share}")
        if mismatched_share and objective is not None and objective.is_critic:
            raise InputError(
                "a Wasserstein critic estimates how far samples are from real ones, which real samples under wrong "
                "classes would distort: set mismatched_share to 0, or take another objective"
            )
        self.class_names = class_names
        self.latent_channels = cast(int, generator.latent_channels)
        self.classes = cast(int, generator.classes)
        self.objective = objective or NonSaturating()
        self.penalties = penalties
        self.augment = augment or nn.Identity()
        self.feature_matching_weight = feature_matching_weight
        self.adversarial_weight = adversarial_weight
        self.mismatched_share = mismatched_share if self.classes > 1 else 0.0

    def sample(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Samples for latent vectors (N, latent_channels) and, with classes, class ids (N,)."""
        return self.generators["generator"](latents, *self._labels(labels))

    def check(self, batch: Batch) -> None:
        for labels in self._labels(batch.get("label")):
            check_classes(labels, classes=self.classes, count=len(batch["real"]))

    def translate(self, batch: Batch, step: int) -> Outputs:
        return {"sample": self.sample(self._latents(batch["real"]), batch.get("label"))}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        fake, terms = self.augment(out["sample"]), {}
        real_scores: Tensor | None = None
        if self.feature_matching_weight:
            judge, labels = with_features(self.discriminators["discriminator"]), self._labels(batch.get("label"))
            fake_scores, fake_features = judge(fake, *labels)
            real_scores, real_features = judge(self.augment(batch["real"]), *labels)
            matching = mean_feature_matching(real=real_features, fake=fake_features)
            terms["feature_matching"] = self.feature_matching_weight * matching
        else:
            fake_scores = self._judge(fake, batch)
            if self.objective.generator_needs_real:
                real_scores = self._judge(self.augment(batch["real"]), batch)
        if self.adversarial_weight:
            adversarial = self.objective.generator_loss(fake_scores, real_scores)
            terms["adversarial"] = self.adversarial_weight * adversarial
        return Losses(terms=terms)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        real_seen, fake_seen = self.augment(batch["real"]), self.augment(out["sample"])
        labels, share = self._labels(batch.get("label")), self.mismatched_share
        judged = [(real_seen, *labels), (fake_seen, *labels)]
        if share:
            some = len(real_seen)
            if not mixes_samples(self.discriminators["discriminator"]):
                some = min(some, math.ceil(some * share / (1 - share)))
            judged.append((real_seen[:some], self._other_classes(batch["label"][:some])))
        real, fake, *mismatched = self._judge_each(judged)
        adversarial = self.objective.discriminator_loss(real, fake)
        for wrong in mismatched:
            # With the logistic loss and half each: −log s_r − ½ (log(1 − s_w) + log(1 − s_f)), s_w of wrong classes.
            adversarial = torch.lerp(adversarial, self.objective.discriminator_loss(real[: len(wrong)], wrong), share)
        terms = {"discriminator": adversarial}
        critic = in_full_precision(self.discriminators["discriminator"])
        terms |= self.penalties.terms(lambda x: critic(x, *labels), real=real_seen, fake=fake_seen, step=step)
        # What a critic's scores differ by is its estimate of a distance.
        distance = {"wasserstein": real.float().mean() - fake.float().mean()} if self.objective.is_critic else {}
        return Losses(terms=terms, real_scores=[real], fake_scores=[fake], objective=self.objective, figures=distance)

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Samples beside real ones; images with classes in a column for each class, those of one latent side by side.

        Points are drawn as a density over the square that holds the real ones.
        """
        real = batch["real"]
        latents = self._latents(real)
        if real.ndim == 2:
            reach = 1.1 * real.abs().max()
            return {
                "sample": density_picture(self.sample(latents, batch.get("label")), reach=reach),
                "real": density_picture(real, reach=reach),
            }
        if not self.classes:
            return {"sample": self.sample(latents), "real": real}
        ids = torch.arange(min(self.classes, SHOWN_CLASSES), device=real.device)
        names = self.class_names or [f"class {label}" for label in ids]
        shown = {names[label]: self.sample(latents, label.expand(len(latents))) for label in ids}
        return {**shown, "real": real}

    def validate(self, batch: Batch) -> HeldOut:
        """What `distances` needs: as many samples as real ones, of their classes. Points are not measured."""
        real = batch["real"]
        if real.ndim == 2:
            return {}
        fake = self.sample(self._latents(real), batch.get("label"))
        described = describe_sides("sample", fake=fake, real=real) | describe_variety(fake=fake, real=real)
        return {**described, COMPARED: Comparison(generated=fake, real=real)}

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        """How far samples are from real images as sets, and how they vary next to them."""
        if not descriptors:
            return {}
        return {"swd": side_distance("sample", descriptors), "variety": relative_variety(descriptors)}

    def _latents(self, real: Tensor) -> Tensor:
        return torch.randn(len(real), self.latent_channels, device=real.device, dtype=real.dtype)

    def _other_classes(self, labels: Tensor) -> Tensor:
        """For each class id (N,) another one at random."""
        return (labels + torch.randint_like(labels, 1, self.classes)) % self.classes

    def _judge(self, samples: Tensor, batch: Batch) -> Tensor:
        return self.discriminators["discriminator"](samples, *self._labels(batch.get("label")))

    def _judge_each(self, batches: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
        """The scores of several batches, each of samples and maybe labels: in one pass where they cannot interfere."""
        judge = self.discriminators["discriminator"]
        counts = [len(samples) for samples, *_ in batches]
        if not can_join(judge, [samples for samples, *_ in batches]):
            return [judge(*batch) for batch in batches]
        return list(judge(*map(torch.cat, zip(*batches, strict=True))).split(counts))

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
