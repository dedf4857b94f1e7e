"""Semantic image synthesis: photographs from label maps, by SPADE (Park et al. 2019, arXiv:1903.07291) or pix2pixHD.

    min_G max_D 1/K Σ_k L_GAN(G, D_k) + λ_FM 1/K Σ_k L_FM(G, D_k) + λ_P L_P(G) [+ λ_KL L_KL(E)]        (appendix A)

Discriminators D_k at several scales see label map and image side by side. With a style encoder E (GauGAN), the style of
an image becomes a latent vector whose distribution is held near N(0, 1), so that styles can be drawn as well as taken
from photos. pix2pixHD (Wang et al. 2018, arXiv:1711.11585) is the same with another generator and LSGAN.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from i2i.data.palettes import paint_labels
from i2i.errors import InputError
from i2i.layers.labels import one_hot
from i2i.losses.adversarial import AdversarialLoss, Hinge, over_scales
from i2i.losses.feature_matching import feature_matching
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
    unwrapped,
)
from i2i.methods.shared import describe_sides, side_distance
from i2i.metrics.semantic import SegmentationJudge


class SemanticSynthesis(Method):
    """Adversarial loss at several scales, feature matching, a perceptual loss, and a KL term for styles.

    Batches hold "labels", int64 (N, 1 or 2, H, W): class ids, with `classes` itself for "don't care", and in a second
    channel 1 at the edges of instances; and "image", float (N, 3, H, W) in [-1, 1].

    Args:
        generator: one-hot label maps (N, C, H, W) to images (N, 3, H, W) in [-1, 1]. One with a `style_encoder`
            (`SPADEGenerator`) is trained with the style of the very image that it should paint, and one with
            `latent_channels` but no encoder with styles drawn from N(0, 1).
        discriminator: (images, label map) to a list of scales, each a list of features, the last of them raw scores.
        palette: (classes, 3) uint8 RGB, colours of the classes in previews.
        objective: the adversarial loss; SPADE's is hinge, pix2pixHD's least squares.
        penalties: on the discriminator's gradient with respect to images, its label map held as it is.
        feature_weight: λ_FM; both papers' is 10.
        perceptual: (fake, real) to a scalar; None: no perceptual loss.
        perceptual_weight: λ_P; both papers' is 10.
        kl_weight: λ_KL; the paper's is 0.05, for a sum over latent channels (here with the mean over images).
        judge: reads classes off held-out images; None: nobody does.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        palette: np.ndarray,
        objective: AdversarialLoss | None = None,
        penalties: Penalties = NO_PENALTIES,
        feature_weight: float = 10.0,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 10.0,
        kl_weight: float = 0.05,
        judge: SegmentationJudge | None = None,
    ) -> None:
        super().__init__(
            generators={"generator": generator},
            discriminators={"discriminator": discriminator},
            frozen={} if perceptual is None else {"perceptual": perceptual},
        )
        self.objective = objective or Hinge()
        if self.objective.generator_needs_real:
            raise InputError("semantic synthesis takes no relativistic objective: choose hinge, lsgan or another")
        self.penalties = penalties
        self.palette = palette
        self.feature_weight = feature_weight
        self.perceptual_weight = perceptual_weight
        self.kl_weight = kl_weight
        self.judge = judge

    def translate(self, batch: Batch, step: int) -> Outputs:
        labels = self._readable(batch["labels"])
        if not self.has_style_encoder:
            return {"output": self._paint(labels, self.draw_styles(len(labels)))}
        image, mean, log_variance = self.generators["generator"](labels, style=batch["image"])
        # Of N(mean, variance) from N(0, 1): Kingma & Welling 2014, appendix B.
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).float().sum(dim=1)
        return {"output": image, "kl": divergence}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        real = self._judged(batch["image"], batch)
        fake = self._judged(out["output"], batch)
        terms = {"adversarial": over_scales(self.objective.generator_loss, [scale[-1] for scale in fake])}
        if self.feature_weight:
            terms["features"] = self.feature_weight * feature_matching(real=real, fake=fake)
        if "perceptual" in self.frozen:
            terms["perceptual"] = self.perceptual_weight * self.frozen["perceptual"](out["output"], batch["image"])
        if "kl" in out:
            terms["kl"] = self.kl_weight * out["kl"].mean()
        return Losses(terms=terms)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        fake = [scale[-1] for scale in self._judged(out["output"], batch)]
        real = [scale[-1] for scale in self._judged(batch["image"], batch)]
        terms = {"discriminator": over_scales(self.objective.discriminator_loss, real, fake)}
        judge = in_full_precision(self.discriminators["discriminator"])

        def critic(images: Tensor) -> Tensor:
            """All scores of each image, of all scales."""
            return torch.cat([scale[-1].flatten(1) for scale in judge(images, batch["labels"])], dim=1)

        terms |= self.penalties.terms(critic, real=batch["image"], fake=out["output"], step=step)
        return Losses(terms=terms, real_scores=real, fake_scores=fake, objective=self.objective)

    def paint(self, labels: Tensor, *, styles: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] of label maps, in given styles (N, latent_channels) or the mean one."""
        return self._paint(self._readable(labels), styles)

    @property
    def has_style_encoder(self) -> bool:
        """Whether styles can be taken from photos."""
        return getattr(self._generator, "style_encoder", None) is not None

    def draw_styles(self, count: int) -> Tensor | None:
        """So many latent vectors, drawn from N(0, 1); None where the generator has no styles."""
        channels = getattr(self._generator, "latent_channels", None)
        device = next(self._generator.parameters()).device
        return None if channels is None else torch.randn(count, channels).to(device)

    def styles_of(self, photos: Tensor) -> Tensor:
        """The latent vectors (N, latent_channels) of photos (N, 3, H, W) in [-1, 1]: the encoder's means."""
        mean, _ = self._generator.style_encoder(photos)
        return mean

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Label map, photo in a drawn style, real photo."""
        return {
            "label": paint_labels(batch["labels"], self.palette),
            "fake": self.paint(batch["labels"], styles=self.draw_styles(len(batch["labels"]))),
            "real": batch["image"],
        }

    def validate(self, batch: Batch) -> HeldOut:
        """What `distances` needs, of images in drawn styles and of the real ones.

        In other styles than a photo's, images are far from that photo however good they are.
        """
        labels, real = batch["labels"], batch["image"]
        fake = self.paint(labels, styles=self.draw_styles(len(labels)))
        compared = Comparison(generated=fake, real=real, truth=real)
        measured: dict[str, Tensor | Comparison] = {**describe_sides("image", fake=fake, real=real), COMPARED: compared}
        if self.judge is not None:
            for kind, images in (("fake", fake), ("real", real)):
                described = self.judge.describe(images, labels)
                measured |= {f"{kind}_judged/{name}": value for name, value in described.items()}
        return measured

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        """How far the images are from real ones as sets, and what the judge reads off them."""
        figures = {"swd": side_distance("image", descriptors)}
        if self.judge is not None:
            fake, real = (
                {name.removeprefix(kind): value for name, value in descriptors.items() if name.startswith(kind)}
                for kind in ("fake_judged/", "real_judged/")
            )
            figures = {**self.judge.figures(fake, real), **figures}
        return figures

    @property
    def _generator(self) -> Any:
        return unwrapped(self.generators["generator"])

    def _readable(self, labels: Tensor) -> Tensor:
        """The label map as the generator takes it."""
        takes_ids = getattr(self._generator, "takes_label_ids", False)
        return labels if takes_ids else one_hot(labels, channels=self._generator.in_channels)

    def _paint(self, labels: Tensor, styles: Tensor | None) -> Tensor:
        generator = self.generators["generator"]
        return generator(labels) if styles is None else generator(labels, z=styles)

    def _judged(self, images: Tensor, batch: Batch) -> list[list[Tensor]]:
        return self.discriminators["discriminator"](images, batch["labels"])
