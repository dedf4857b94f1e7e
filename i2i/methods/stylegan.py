"""StyleGAN's game: styles are mixed, and equal steps in W are to change images equally much.

Karras et al. 2019 (arXiv:1812.04948, section 3.1) and 2020 (arXiv:1912.04958, section 3.2).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.losses.adversarial import AdversarialLoss
from i2i.losses.penalties import NO_PENALTIES, Penalties
from i2i.methods.base import Batch, Losses, Outputs, unwrapped
from i2i.methods.gan import GAN


@dataclass(frozen=True, kw_only=True)
class StyleSettings:
    """What StyleGAN asks of its generator beyond a GAN's.

    Attributes:
        mixing: probability that an image takes the styles of a second latent vector from some layer on, which is any
            but the first, all equally likely. No layer can then rely on those before it having the same style.
        path_length: weight of how unequally far images move with w, E (‖J_w' y‖₂ − a)² (2020, eq. 4), y being an image
            of N(0, 1) noise; 0: none. Lengths are root mean squares over the layers' styles, of noise divided by the
            image's side, which makes the papers' weight 2 for all sizes (2020, Appendix B).
        path_length_every_steps: it is computed at every so many steps only, and weighs as much more there (lazy
            regularisation, section 3.1).
        path_length_decay: share of a step's mean length in the running mean a, once that step is done: it is measured
            by what was there before. The first one starts the mean, and costs nothing.
        path_length_shrink: it is computed for one in so many images of a batch.

    Raises:
        InputError: a probability outside [0, 1], a weight that is negative or not finite, a decay outside (0, 1], or a
            count below 1.
    """

    mixing: float = 0.9
    path_length: float = 2.0
    path_length_every_steps: int = 8
    path_length_decay: float = 0.01
    path_length_shrink: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.mixing <= 1:
            raise InputError(f"--mixing must be in [0, 1], and is {self.mixing}.")
        if not 0 <= self.path_length < math.inf:
            raise InputError(f"--path-length must be at least 0 and finite, and is {self.path_length}.")
        if not 0 < self.path_length_decay <= 1:
            raise InputError(f"--path-length-decay must be above 0 and at most 1, and is {self.path_length_decay}.")
        for name in ("path_length_every_steps", "path_length_shrink"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(self, name)}.")


class StyleGAN(GAN):
    """A GAN whose generator has styles. Arguments and batches are `GAN`'s, and besides:

    Args:
        generator: an `i2i.generators.StyleGANGenerator`, or one that has its functions and mixes like it.
        styles: how they are mixed and regularised.

    Raises:
        InputError: a generator without styles; and as `GAN`.

    What is lazily regularised, by path lengths here and by `penalties` in the discriminator, is added to the losses of
    the steps that it is computed at. The authors take steps of their own for it, and make up for these in Adam's
    settings; here there are no more steps with it than without, and nothing to make up for.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        styles: StyleSettings | None = None,
        class_names: Sequence[str] = (),
        objective: AdversarialLoss | None = None,
        penalties: Penalties = NO_PENALTIES,
        augment: nn.Module | None = None,
        feature_matching_weight: float = 0.0,
        adversarial_weight: float = 1.0,
        mismatched_share: float = 0.0,
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
        missing = [name for name in ("style_layers", "styles", "synthesise") if not hasattr(generator, name)]
        if missing:
            raise InputError(
                "expected a generator with styles, such as StyleGANGenerator, got a "
                f"{type(generator).__name__} without {', '.join(missing)}: take GAN for it"
            )
        self.style_layers = cast(int, generator.style_layers)
        self.styles = styles or StyleSettings()
        self.mean_length: Tensor | None = None  # a, from the first lengths on
        self.seen = torch.zeros(2)  # at this step: Σ of lengths, and how many they were

    def translate(self, batch: Batch, step: int) -> Outputs:
        """Samples, some with the styles of two latent vectors."""
        real, labels = batch["real"], batch.get("label")
        if not self.styles.mixing:
            return super().translate(batch, step)
        count, device = len(real), real.device
        crossover = torch.randint(1, self.style_layers, (count,), device=device)
        mixed = torch.rand(count, device=device) < self.styles.mixing
        crossover = torch.where(mixed, crossover, self.style_layers)
        label = self._labels(labels)[0] if self.classes else None
        draw = self.generators["generator"]
        return {"sample": draw(self._latents(real), label, self._latents(real), crossover)}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses, styles = super().generator_losses(batch, out, step), self.styles
        if not styles.path_length or step % styles.path_length_every_steps:
            return losses
        lengths = self._path_lengths(batch)
        known = lengths.detach()
        # Moved after the step, so that micro-batches and processes are all held to the same mean.
        self.seen = self.seen.to(known) + torch.stack([known.sum(), known.new_tensor(len(known))])
        losses = replace(losses, figures={**losses.figures, "mean_path_length": known.mean()})
        if self.mean_length is None:
            return losses
        weight = styles.path_length * styles.path_length_every_steps
        penalty = weight * (lengths - self.mean_length.to(known)).square().mean()
        return replace(losses, terms={**losses.terms, "path_length": penalty})

    def stepped(self, step: int, *, critic_only: bool) -> None:
        super().stepped(step, critic_only=critic_only)
        if critic_only or not self.styles.path_length or step % self.styles.path_length_every_steps:
            return
        seen = self.seen.clone()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(seen)
        mean = seen[0] / seen[1]
        known = mean if self.mean_length is None else self.mean_length.to(mean)
        self.mean_length = torch.lerp(known, mean, self.styles.path_length_decay)
        self.seen = torch.zeros(2)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "mean_length": self.mean_length, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.mean_length, self.seen = state["mean_length"], state["seen"]

    def _path_lengths(self, batch: Batch) -> Tensor:
        """Those of new samples, in full precision: the gradient of a gradient loses too much in 16 bits."""
        count = math.ceil(len(batch["real"]) / self.styles.path_length_shrink)
        latents = self._latents(batch["real"][:count]).float()
        labels = (batch["label"][:count],) if self.classes else ()
        # Mixed precision and compilation are in the prepared network's forward, which neither of these is.
        generator: Any = unwrapped(self.generators["generator"])
        with torch.autocast(latents.device.type, enabled=False):
            return path_lengths(generator.synthesise, generator.styles(latents, *labels))


def path_lengths(synthesise: Callable[[Tensor], Tensor], styles: Tensor) -> Tensor:
    """‖J' y‖₂ of the Jacobian J of images with respect to styles (Karras et al. 2020, eq. 4).

    y are images of N(0, 1) noise, divided by their side. The lengths can be differentiated again.

    Args:
        synthesise: styles to images (N, C, H, W).
        styles: (N, layers, style_channels), which need a gradient.

    Returns:
        (N,): the root mean square over layers.
    """
    images = synthesise(styles)
    noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (slope,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    return torch.linalg.vector_norm(slope.flatten(1), dim=1) / math.sqrt(styles.shape[1])
