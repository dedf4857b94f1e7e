"""CycleGAN: unpaired image-to-image translation (Zhu et al. 2017, arXiv:1703.10593).

    L(G, F, D_A, D_B) = L_GAN(G, D_B) + L_GAN(F, D_A) + λ · L_cyc(G, F)        (eq. 3)

Two generators, G: A → B and F: B → A, whose round trips must lead back: ‖F(G(a)) − a‖₁ + ‖G(F(b)) − b‖₁ (eq. 2).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.errors import InputError
from i2i.layers.resample import gaussian_blur
from i2i.losses.adversarial import AdversarialLoss, LeastSquares
from i2i.losses.penalties import NO_PENALTIES, Penalties
from i2i.methods.base import COMPARED, Batch, Comparison, HeldOut, Losses, Method, Outputs, in_full_precision
from i2i.methods.pool import Pool
from i2i.methods.shared import can_join, describe_sides, side_distance
from i2i.metrics import paired_metrics

Figures = Callable[[Tensor, Tensor], dict[str, float]]

# Each generator, the side that it takes and the side that it makes.
DIRECTIONS = (("a_to_b", "a", "b"), ("b_to_a", "b", "a"))


class CycleGAN(Method):
    """Adversarial, cycle and identity losses in both directions.

    Batches hold "a" (N, C, H, W) and "b" (N, K, H, W), float in [-1, 1], that do not belong together. Held-out ones
    may also hold "truth_b", what "a" ought to become, and "truth_a" likewise.

    Args:
        a_to_b: generator (N, C, H, W) to (N, K, H, W) in [-1, 1].
        b_to_a: generator the other way round.
        discriminator_a, discriminator_b: images of that side to scores of any shape.
        objective: the adversarial loss; the paper's is least squares.
        cycle_weight: λ; the paper's is 10.
        identity_weight: of ‖G(b) − b‖₁ + ‖F(a) − a‖₁ next to λ (section 5.2), which keeps colours; the paper's is 0.5.
            Must be 0 where the sides differ in channels.
        identity_steps: steps over which that weight falls linearly to 0; None: it stays.
        cycle_noise: deviation of Gaussian noise that is added to a translation before it is translated back. What the
            round trip needs then has to be shown, and cannot be hidden in details that nobody sees (Bashkirova et al.
            2019, arXiv:1908.01517, section 4); 0: none, as in the paper.
        pool_size: generated images of earlier steps that the discriminators are shown; the paper's is 50.
        penalties: on the discriminators' gradients, at images as they see them.
        blur_px: deviation of a Gaussian blur of all that the discriminators see, at the start of training; 0: none. It
            makes them judge the large before the small (as in Karras et al. 2021, arXiv:2106.12423, for the same end).
        blur_steps: steps over which it falls linearly to 0.
        augment: changes all that the discriminators see, such as DiffAugment; None: nothing is changed.
        figures: (output, truth), both (N, C, H, W) in [-1, 1], to means over the images, for translations A → B whose
            truth is known; those of B → A have `paired_metrics`.
    """

    def __init__(
        self,
        *,
        a_to_b: nn.Module,
        b_to_a: nn.Module,
        discriminator_a: nn.Module,
        discriminator_b: nn.Module,
        objective: AdversarialLoss | None = None,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        identity_steps: int | None = None,
        cycle_noise: float = 0.0,
        pool_size: int = 50,
        penalties: Penalties = NO_PENALTIES,
        blur_px: float = 0.0,
        blur_steps: int = 0,
        augment: nn.Module | None = None,
        figures: Figures = paired_metrics,
    ) -> None:
        super().__init__(
            generators={"a_to_b": a_to_b, "b_to_a": b_to_a},
            discriminators={"a": discriminator_a, "b": discriminator_b},
        )
        if identity_weight and a_to_b.in_channels != b_to_a.in_channels:
            raise InputError(
                f"A's and B's images differ in their number of channels ({a_to_b.in_channels} and "
                f"{b_to_a.in_channels}), so that neither generator can be given the other side: set identity_weight=0"
            )
        self.objective = objective or LeastSquares()
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.identity_steps = identity_steps
        self.cycle_noise = cycle_noise
        self.pools = {side: Pool(capacity=pool_size) for side in self.discriminators}
        self.penalties = penalties
        self.blur_px = blur_px
        self.blur_steps = blur_steps
        self.augment = augment or nn.Identity()
        self.figures = {"a_to_b": figures, "b_to_a": paired_metrics}

    def translate(self, batch: Batch, step: int) -> Outputs:
        out = {}
        for name, source, target in DIRECTIONS:
            if self._identity_weight(step):
                out[f"fake_{target}"], out[f"same_{target}"] = self._generate_two(name, batch[source], batch[target])
            else:
                out[f"fake_{target}"] = self.generators[name](batch[source])
        return out

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        terms = {}
        identity_weight = self._identity_weight(step)
        for name, source, target in DIRECTIONS:
            images = batch[target]
            fake = self._judge(target, out[f"fake_{target}"], step)
            real = self._judge(target, images, step) if self.objective.generator_needs_real else None
            cycled = self.generators[name](self._noisy(out[f"fake_{source}"]))
            terms[f"adversarial_{target}"] = self.objective.generator_loss(fake, real)
            terms[f"cycle_{target}"] = self.cycle_weight * F.l1_loss(cycled, images)
            if identity_weight:
                same = F.l1_loss(out[f"same_{target}"], images)
                terms[f"identity_{target}"] = self.cycle_weight * identity_weight * same
        return Losses(terms=terms)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        terms, real_scores, fake_scores = {}, [], []
        for side, pool in self.pools.items():
            judge = self.discriminators[side]
            fake_shown, real_shown = self._shown(pool.query(out[f"fake_{side}"]), step), self._shown(batch[side], step)
            fake, real = judge(fake_shown), judge(real_shown)
            # Halved, so that the discriminators learn more slowly than the generators (section 7.1).
            terms[f"discriminator_{side}"] = 0.5 * self.objective.discriminator_loss(real, fake)
            penalties = self.penalties.terms(in_full_precision(judge), real=real_shown, fake=fake_shown, step=step)
            terms |= {f"{name}_{side}": penalty for name, penalty in penalties.items()}
            real_scores.append(real)
            fake_scores.append(fake)
        return Losses(terms=terms, real_scores=real_scores, fake_scores=fake_scores, objective=self.objective)

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Each side, its translation and the round trip; the truth, where the other side does not show it."""
        pictures: dict[str, Tensor] = {}
        for (name, source, target), (back, _, _) in zip(DIRECTIONS, reversed(DIRECTIONS), strict=True):
            a, b = source.upper(), target.upper()
            fake = self.generators[name](batch[source])
            pictures |= {a: batch[source], f"{a} → {b}": fake, f"{a} → {b} → {a}": self.generators[back](fake)}
            truth = batch.get(f"truth_{target}")
            if truth is not None and not torch.equal(truth, batch[target]):
                pictures[f"truth of {a} → {b}"] = truth
        return pictures

    def validate(self, batch: Batch) -> HeldOut:
        """`figures` where the truth is known, and what `distances` needs; those of B → A end in "_b_to_a"."""
        measured: dict[str, float | Tensor | Comparison] = {}
        for name, source, target in DIRECTIONS:
            fake, truth = self.generators[name](batch[source]), batch.get(f"truth_{target}")
            if truth is not None:
                figures = self.figures[name](fake, truth)
                measured |= {metric + _ending(name): value for metric, value in figures.items()}
            measured |= describe_sides(target, fake=fake, real=batch[target])
            measured[COMPARED + _ending(name)] = Comparison(generated=fake, real=batch[target], truth=truth)
        return measured

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        """How far translations to each side are from its images, as sets."""
        return {"swd" + _ending(name): side_distance(target, descriptors) for name, _, target in DIRECTIONS}

    def state_dict(self) -> dict[str, Any]:
        return {side: pool.state_dict() for side, pool in self.pools.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for side, pool in self.pools.items():
            pool.load_state_dict(state[side])

    def _identity_weight(self, step: int) -> float:
        left = 1.0 if self.identity_steps is None else max(0.0, 1 - step / self.identity_steps)
        return self.identity_weight * left

    def _generate_two(self, name: str, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Both batches through a generator: at once, where no image then changes what becomes of another."""
        generator = self.generators[name]
        if can_join(generator, [first, second]):
            return generator(torch.cat([first, second])).split([len(first), len(second)])
        return generator(first), generator(second)

    def _noisy(self, images: Tensor) -> Tensor:
        return images + self.cycle_noise * torch.randn_like(images) if self.cycle_noise else images

    def _judge(self, side: str, images: Tensor, step: int) -> Tensor:
        return self.discriminators[side](self._shown(images, step))

    def _shown(self, images: Tensor, step: int) -> Tensor:
        """What a discriminator sees of images."""
        blur_px = self.blur_px * (1 - step / self.blur_steps) if step < self.blur_steps else 0.0
        return self.augment(gaussian_blur(images, deviation_px=blur_px))


def _ending(name: str) -> str:
    return "" if name == "a_to_b" else f"_{name}"
