"""CUT and FastCUT: unpaired translation in one direction, held to its source patch by patch (Park et al. 2020).

    L_GAN(G, D) + λ_X · L_PatchNCE(G, H, X) + λ_Y · L_PatchNCE(G, H, Y)        (arXiv:2007.15651, eq. 5)

No second generator brings the translation back, which is why it takes about half of CycleGAN's memory.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.losses.adversarial import AdversarialLoss, LeastSquares
from i2i.losses.contrastive import PatchProjector, draw_positions, features_at, mirrored_positions, patch_nce
from i2i.losses.penalties import NO_PENALTIES, Penalties
from i2i.methods.base import COMPARED, Batch, Comparison, HeldOut, Losses, Method, Outputs, in_full_precision
from i2i.methods.shared import can_join, describe_sides, side_distance
from i2i.metrics import paired_metrics


def paper_taps(*, downsamplings: int = 2, blocks: int = 9) -> tuple[int, ...]:
    """The stages of a `ResNetGenerator` whose features the paper compares, as its `tap_channels` counts them.

    The pixels, each halving, the first and the fifth residual block; of fewer than five blocks the middle one in
    place of the fifth. Halvings are tapped behind norm and activation, where the authors' code takes what the
    convolution gives.
    """
    first_block = 2 + downsamplings
    return (0, *range(2, first_block), *sorted({first_block, first_block + (4 if blocks >= 5 else blocks // 2)}))


class CUT(Method):
    """An adversarial loss, and PatchNCE between what the generator's encoder finds in its input and in its output.

    Batches hold "a" and "b", (N, C, H, W) float in [-1, 1], which have nothing to do with each other but their
    channels: the encoder must read both the input and the output. Held-out ones may hold "truth_b", what "a"
    should become. FastCUT is `nce_weight=10, identity_nce_weight=0, flip_equivariance=True`.

    Args:
        generator: A to B, with taps, such as `ResNetGenerator`.
        discriminator: images like B to scores of any shape.
        taps: stages of the generator whose features are compared; see `paper_taps`.
        objective: the adversarial loss; the paper's is LSGAN.
        nce_weight: λ_X.
        identity_nce_weight: λ_Y, of the same loss between images of B and what the generator makes of them; 0: not
            computed. Otherwise both PatchNCE losses count half, as in the authors' code.
        flip_equivariance: half of the steps translate the mirrored images, and compare with the unmirrored ones.
        patches: positions compared in each stage of each image.
        temperature: τ of PatchNCE.
        penalties: on the discriminator's gradient, at images as it sees them.
        augment: changes all that the discriminator sees, such as DiffAugment; None: nothing is changed.
        figures: held-out figures of translations against their truth, (N, C, H, W) in [-1, 1] both.

    Raises:
        InputError: the generator cannot be tapped there, or gives other channels than it takes.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        taps: Sequence[int] = paper_taps(),
        objective: AdversarialLoss | None = None,
        nce_weight: float = 1.0,
        identity_nce_weight: float = 1.0,
        flip_equivariance: bool = False,
        patches: int = 256,
        temperature: float = 0.07,
        penalties: Penalties = NO_PENALTIES,
        augment: nn.Module | None = None,
        figures: Callable[[Tensor, Tensor], dict[str, float]] = paired_metrics,
    ) -> None:
        stages: tuple[int, ...] = getattr(generator, "tap_channels", ())
        if not taps or not all(0 <= tap < len(stages) for tap in taps):
            raise InputError(
                f"expected taps of a generator's stages, got {tuple(taps)}, and {type(generator).__name__} has "
                f"{len(stages)} stages, counted from 0: choose others with paper_taps, or take ResNetGenerator"
            )
        if generator.in_channels != generator.out_channels:
            raise InputError(
                f"A's and B's images differ in their number of channels ({generator.in_channels} and "
                f"{generator.out_channels}), but CUT's encoder has to read both: make them equal, or take CycleGAN"
            )
        super().__init__(
            generators={"generator": generator},
            discriminators={"discriminator": discriminator},
            auxiliary={"projector": PatchProjector(channels=[stages[tap] for tap in taps])},
        )
        self.taps = tuple(taps)
        self.objective = objective or LeastSquares()
        self.nce_weights = {"fake_b": nce_weight}
        if identity_nce_weight:
            self.nce_weights = {"fake_b": nce_weight / 2, "same_b": identity_nce_weight / 2}
        self.flip_equivariance = flip_equivariance
        self.patches = patches
        self.temperature = temperature
        self.penalties = penalties
        self.augment = augment or nn.Identity()
        self.figures = figures

    def translate(self, batch: Batch, step: int) -> Outputs:
        """What becomes of A ("fake_b") and, with the identity loss, of B ("same_b"), and what the encoder found there.

        "keys_<name>_<tap>" (N, P, C) are the source's features, "positions_<name>_<tap>" (N, P) the places in the
        output that they belong to.
        """
        sources = [batch["a"], batch["b"]][: len(self.nce_weights)]
        mirrored = self.flip_equivariance and torch.rand(()).item() < 0.5
        passes = source_passes = self._run([images.flip(3) for images in sources] if mirrored else sources)
        if mirrored:  # else the keys come from the translating pass itself
            with torch.no_grad():
                source_passes = self._run(sources, decode=False)
        out = {}
        for name, (output, _), (_, features) in zip(self.nce_weights, passes, source_passes, strict=True):
            assert output is not None
            out[name] = output
            for tap, maps in zip(self.taps, features, strict=True):
                positions = draw_positions(maps, self.patches)
                out[f"keys_{name}_{tap}"] = features_at(maps, positions)
                out[f"positions_{name}_{tap}"] = mirrored_positions(positions, maps.shape[3]) if mirrored else positions
        return out

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        fake = self._judge(out["fake_b"])
        real = self._judge(batch["b"]) if self.objective.generator_needs_real else None
        terms = {"adversarial": self.objective.generator_loss(fake, real)}
        passes = self._run([out[name] for name in self.nce_weights], decode=False)
        for (name, weight), (_, features) in zip(self.nce_weights.items(), passes, strict=True):
            terms[f"nce_{name}"] = weight * self._nce(name, features, out)
        return Losses(terms=terms)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        judge = self.discriminators["discriminator"]
        fake_shown, real_shown = self.augment(out["fake_b"]), self.augment(batch["b"])
        fake, real = judge(fake_shown), judge(real_shown)
        # Halved, as in the authors' code.
        terms = {"discriminator": 0.5 * self.objective.discriminator_loss(real, fake)}
        terms |= self.penalties.terms(in_full_precision(judge), real=real_shown, fake=fake_shown, step=step)
        return Losses(terms=terms, real_scores=[real], fake_scores=[fake], objective=self.objective)

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """A, its translation and the truth; where that is not known, what B looks like."""
        pictures = {"A": batch["a"], "A → B": self.generators["generator"](batch["a"])}
        if "truth_b" in batch:
            return {**pictures, "B in truth": batch["truth_b"]}
        return {**pictures, "B": batch["b"]}

    def validate(self, batch: Batch) -> HeldOut:
        """`figures` where the truth is known, and descriptors for `distances`."""
        fake, real, truth = self.generators["generator"](batch["a"]), batch["b"], batch.get("truth_b")
        figures = {} if truth is None else self.figures(fake, truth)
        compared = Comparison(generated=fake, real=real, truth=truth)
        return {**figures, **describe_sides("b", fake=fake, real=real), COMPARED: compared}

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        """How far the translations are from the images of B, as sets."""
        return {"swd": side_distance("b", descriptors)}

    def _run(self, images: Sequence[Tensor], *, decode: bool = True) -> list[tuple[Tensor | None, Sequence[Tensor]]]:
        """Output and tapped features of each batch of images, all in one call where that is the same."""
        generator = self.generators["generator"]
        if not can_join(generator, images):
            return [generator(batch, taps=self.taps, decode=decode) for batch in images]
        output, features = generator(torch.cat(list(images)), taps=self.taps, decode=decode)
        outputs = output.chunk(len(images)) if decode else [None] * len(images)
        features_of_each = zip(*(maps.chunk(len(images)) for maps in features), strict=True)
        return list(zip(outputs, features_of_each, strict=True))

    def _nce(self, name: str, features: Sequence[Tensor], out: Outputs) -> Tensor:
        """PatchNCE of one output, from its features: eq. 3 with means in place of sums, as in the authors' code."""
        project = self.auxiliary["projector"]
        places = [out[f"positions_{name}_{tap}"] for tap in self.taps]
        queries = project([features_at(maps, at) for maps, at in zip(features, places, strict=True)])
        with torch.no_grad():
            keys = project([out[f"keys_{name}_{tap}"] for tap in self.taps])
        losses = [patch_nce(q, k, temperature=self.temperature) for q, k in zip(queries, keys, strict=True)]
        return torch.stack(losses).mean()

    def _judge(self, images: Tensor) -> Tensor:
        return self.discriminators["discriminator"](self.augment(images))
