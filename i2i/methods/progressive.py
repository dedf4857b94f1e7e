"""One stage of a progressively grown GAN (Karras et al. 2018, arXiv:1710.10196, section 2 and appendix A.1)."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.growing import Growing
from i2i.layers.sides import SMALLEST_PX
from i2i.losses.adversarial import AdversarialLoss
from i2i.losses.penalties import NO_PENALTIES, Penalties
from i2i.methods.base import Batch, HeldOut, Losses, Outputs, StandIn, unwrapped
from i2i.methods.gan import GAN


class ProgressiveGAN(GAN):
    """A GAN at the size of its networks, on images that may be larger, with a newest block that is faded in.

    Batches hold "real" images (N, C, H, W) of any square size that is the networks' or a larger one, by a power of two;
    they are shrunk by the mean of their pixels, and blended with what is left of them at half that size as far as the
    newest block has not been faded in. Previews and figures are of samples enlarged to the size of the batch, every
    pixel repeated: stages can be compared with one another then, and one whose networks and average of weights were
    taken over begins with the figures at which the last one ended.

    Args:
        generator, discriminator: stages of one size, such as `ProgressiveGenerator` and `ProgressiveDiscriminator`.
        fade_steps: over which the newest blocks come in, from 0 to 1; 0: they are there from the first step.
        drift: weight of E D(x)² over real images, which keeps a Wasserstein critic's scores from drifting away from
            zero; the paper's ε_drift is 0.001. 0: none.

    The other arguments are `GAN`'s.

    Raises:
        InputError: networks that do not grow, or of two sizes; `fade_steps` or `drift` below 0 or not finite; and as
            `GAN`.
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
        fade_steps: int = 0,
        drift: float = 0.0,
    ) -> None:
        super().__init__(
            generator=generator,
            discriminator=discriminator,
            class_names=class_names,
            objective=objective,
            penalties=penalties,
            augment=augment,
            feature_matching_weight=feature_matching_weight,
            adversarial_weight=adversarial_weight,
            mismatched_share=mismatched_share,
        )
        if not (isinstance(generator, Growing) and isinstance(discriminator, Growing)):
            raise InputError(
                f"expected networks that grow by stages, got {type(generator).__name__} and "
                f"{type(discriminator).__name__}"
            )
        if generator.size != discriminator.size:
            raise InputError(
                f"expected generator and discriminator of one size, got {generator.size} and {discriminator.size} px"
            )
        if not 0 <= fade_steps < math.inf or not 0 <= drift < math.inf:
            raise InputError(f"expected fade_steps and drift to be at least 0 and finite, got {fade_steps} and {drift}")
        if fade_steps and generator.size == SMALLEST_PX:
            raise InputError(
                f"networks of {SMALLEST_PX} px have no newer block that could be faded in: set fade_steps to 0"
            )
        self.size = generator.size
        self.fade_steps = fade_steps
        self.drift = drift
        self._fade_in(0)

    def prepare(self, batch: Batch, step: int) -> Batch:
        """Real images as the networks should draw them by now. Networks are told how far that is."""
        fade = self._fade_in(step)
        real = self._shrunk(batch["real"])
        if fade < 1:
            coarse = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2.0, mode="nearest")
            real = (1 - fade) * coarse + fade * real
        return {**batch, "real": real}

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().discriminator_losses(batch, out, step)
        if not self.drift:
            return losses
        (scores,) = losses.real_scores
        return replace(losses, terms={**losses.terms, "drift": self.drift * scores.float().square().mean()})

    def stepped(self, step: int, *, critic_only: bool) -> None:
        """After the last step of fading in, what is shown has the new blocks in full."""
        if not critic_only:
            self._fade_in(step + 1)

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        with self._enlarged(batch["real"].shape[-1]):
            return super().preview(batch)

    def validate(self, batch: Batch) -> HeldOut:
        with self._enlarged(batch["real"].shape[-1]):
            return super().validate(batch)

    def _fade_in(self, step: int) -> float:
        """Tell the networks, and say, how far the newest blocks are faded in at a step."""
        fade = min(1.0, step / self.fade_steps) if self.fade_steps else 1.0
        for network in (*self.generators.values(), *self.discriminators.values()):
            growing = unwrapped(network)
            assert isinstance(growing, Growing)
            growing.fade_in(fade)
        return fade

    def _shrunk(self, images: Tensor) -> Tensor:
        factor, rest = divmod(images.shape[-1], self.size)
        if rest or factor.bit_count() != 1 or images.shape[-1] != images.shape[-2]:
            raise InputError(
                f"expected square images of {self.size} px, or larger by a power of two, got {images.shape[-2]} x "
                f"{images.shape[-1]}"
            )
        return F.avg_pool2d(images, factor) if factor > 1 else images

    @contextmanager
    def _enlarged(self, size: int) -> Iterator[None]:
        """Meanwhile samples are of that size."""

        def draw(network: Callable[..., Any], *inputs: Tensor) -> Tensor:
            return F.interpolate(network(*inputs), size=(size, size), mode="nearest")

        before = self.generators
        self.generators = {name: StandIn(network, draw) for name, network in before.items()}
        try:
            yield
        finally:
            self.generators = before
