"""Super-resolution: a stage that regresses, and one with a discriminator that starts from its weights.

    PSNR stage:  L = λ · L_pixel(G)
    GAN stage:   L = λ · L_pixel(G) + λ_P · L_P(G) + λ_A · L_A(G, D)

SRGAN (Ledig et al. 2017, arXiv:1609.04802, eq. 3) has a non-saturating loss L_A; ESRGAN (Wang et al. 2018,
arXiv:1809.00219, eq. 3) a relativistic average one; Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833, section 4.1) the
former with a U-Net, inputs that went through random degradations, and a sharpened target for the other two losses.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.data.degrade import Degradation, PairPool, degrade, sharpen
from i2i.errors import InputError
from i2i.layers.resample import bicubic
from i2i.losses.adversarial import AdversarialLoss, NonSaturating
from i2i.losses.penalties import NO_PENALTIES, Penalties
from i2i.methods.base import COMPARED, Batch, Comparison, HeldOut, Losses, Method, Outputs, in_full_precision
from i2i.methods.shared import describe_sides, side_distance
from i2i.metrics import gradient_energy, psnr, ssim

PixelLoss = Literal["l1", "charbonnier"]

# Of Charbonnier's loss, in units of the images (Lai et al. 2017, arXiv:1704.03915, section 3.3).
CHARBONNIER_EPSILON = 1e-3


@dataclass(frozen=True, kw_only=True)
class RandomDegradation:
    """How a method makes the inputs of random targets by itself.

    Attributes:
        settings: of the degradations.
        crop_px: side of the targets that remain: they are cropped after they were degraded, so that what happens at
            borders, and JPEG's grid of blocks, lie anywhere.
        sharpen: whether pixel and perceptual loss compare with sharpened targets, which then are what is degraded.
        pool_pairs: how many pairs are kept to be exchanged with those of later batches.
    """

    settings: Degradation
    crop_px: int
    sharpen: bool = True
    pool_pairs: int = 180


class SuperResolution(Method):
    """Pixel loss, and with a discriminator an adversarial and a perceptual loss.

    Batches hold "target" (N, C, scale · h, scale · w) and "input" (N, C, h, w), float in [0, 1]; with a degradation
    those for training hold "target" alone, of sides no smaller than its crop.

    Args:
        generator: (N, C, h, w) to (N, C, scale · h, scale · w) in [0, 1], with `scale`.
        discriminator: (N, C, scale · h, scale · w) in [0, 1] to scores of any shape; None: the PSNR stage.
        objective: the adversarial loss.
        penalties: on the discriminator's gradient, at images as it sees them; it must have no batch norm then.
        pixel_loss: mean absolute difference, or Charbonnier's smooth version of it.
        pixel_weight: λ.
        adversarial_weight: λ_A.
        perceptual: (fake, real) of (N, 3, H, W) in [-1, 1] to a scalar; None: no perceptual loss.
        perceptual_weight: λ_P.
        shift_px: images are rolled by a random number of pixels below this one, along either side, before they are
            judged. A discriminator that keeps every other position leaves a grid in the gradients that it hands back,
            always in the same place of the generator's own grid; a network for super-resolution would learn to draw
            it. 0: not rolled.
        degradation: makes inputs on the device; None: batches hold them.
        lpips: (fake, real) likewise, to (N,): a held-out figure; None: not taken.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module | None = None,
        objective: AdversarialLoss | None = None,
        penalties: Penalties = NO_PENALTIES,
        pixel_loss: PixelLoss = "l1",
        pixel_weight: float = 1.0,
        adversarial_weight: float = 0.0,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 1.0,
        shift_px: int = 0,
        degradation: RandomDegradation | None = None,
        lpips: nn.Module | None = None,
    ) -> None:
        frozen = {"perceptual": perceptual, "lpips": lpips}
        super().__init__(
            generators={"generator": generator},
            discriminators={} if discriminator is None else {"discriminator": discriminator},
            frozen={name: network for name, network in frozen.items() if network is not None},
        )
        self.scale: int = generator.scale  # type: ignore[assignment]
        self.objective = objective or NonSaturating()
        self.penalties = penalties
        self.pixel_loss = pixel_loss
        self.pixel_weight = pixel_weight
        self.adversarial_weight = adversarial_weight
        self.perceptual_weight = perceptual_weight
        self.shift_px = shift_px
        self.degradation = degradation
        self.pool = PairPool(capacity=degradation.pool_pairs) if degradation is not None else None

    def prepare(self, batch: Batch, step: int) -> Batch:
        if self.degradation is None or self.pool is None:
            return batch
        target = batch["target"]
        source = sharpen(target) if self.degradation.sharpen else target
        input = degrade(source, scale=self.scale, settings=self.degradation.settings)
        input, target = random_crop(input, target, crop_px=self.degradation.crop_px)
        input, target = self.pool.exchange(input, target)
        prepared = {"input": input, "target": target}
        return prepared | {"sharpened": sharpen(target)} if self.degradation.sharpen else prepared

    def translate(self, batch: Batch, step: int) -> Outputs:
        return {"output": self.generators["generator"](batch["input"])}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        output, expected = out["output"], batch.get("sharpened", batch["target"])
        terms = {"pixel": self.pixel_weight * pixel_loss(output, expected, kind=self.pixel_loss)}
        if "perceptual" in self.frozen:
            perceptual = self.frozen["perceptual"](2 * output - 1, 2 * expected - 1)
            terms["perceptual"] = self.perceptual_weight * perceptual
        if self.discriminators:
            judge = self.discriminators["discriminator"]
            fake, real = self._shifted(output, batch["target"])
            fake_scores = judge(fake)
            real_scores = judge(real) if self.objective.generator_needs_real else None
            terms["adversarial"] = self.adversarial_weight * self.objective.generator_loss(fake_scores, real_scores)
        return Losses(terms=terms)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        judge = self.discriminators["discriminator"]
        fake_shown, real_shown = self._shifted(out["output"], batch["target"])
        fake, real = judge(fake_shown), judge(real_shown)
        terms = {"discriminator": self.objective.discriminator_loss(real, fake)}
        terms |= self.penalties.terms(in_full_precision(judge), real=real_shown, fake=fake_shown, step=step)
        return Losses(terms=terms, real_scores=[real], fake_scores=[fake], objective=self.objective)

    def _shifted(self, *images: Tensor) -> list[Tensor]:
        """Images (N, C, H, W) as the discriminator sees them, all rolled alike."""
        shifts = torch.randint(max(self.shift_px, 1), (2,)).tolist()
        return [image.roll(shifts, dims=(2, 3)) for image in images]

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        input = batch["input"]
        pictures = {
            "input": F.interpolate(input, scale_factor=self.scale, mode="nearest"),
            "bicubic": bicubic(input, scale=self.scale),
            "output": self.generators["generator"](input),
            "truth": batch["target"],
        }
        return {name: (2 * picture - 1).clamp(-1, 1) for name, picture in pictures.items()}

    def validate(self, batch: Batch) -> HeldOut:
        """Mean over the batch of `restoration_figures`, and patches for `distances`."""
        output, target = self.generators["generator"](batch["input"]).clamp(0, 1), batch["target"]
        figures: dict[str, float | Tensor] = {**restoration_figures(output, target, scale=self.scale)}
        wide = {"fake": 2 * output - 1, "real": 2 * target - 1}
        if "lpips" in self.frozen:
            figures["lpips"] = self.frozen["lpips"](wide["fake"], wide["real"]).mean().item()
        patches = describe_sides("target", **wide, pairs=True)
        compared = Comparison(generated=wide["fake"], real=wide["real"], truth=wide["real"])
        return {**figures, **patches, COMPARED: compared}

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        """The sliced Wasserstein distance between patches of the outputs and of the targets."""
        return {"swd": side_distance("target", descriptors)}

    def state_dict(self) -> dict[str, Any]:
        return {} if self.pool is None else {"pool": self.pool.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.pool is not None:
            self.pool.load_state_dict(state["pool"])


def pixel_loss(output: Tensor, target: Tensor, *, kind: PixelLoss) -> Tensor:
    """A scalar, in the units of the images, from two of (N, C, H, W)."""
    difference = output - target
    match kind:
        case "l1":
            return difference.abs().mean()
        case "charbonnier":
            return (difference.square() + CHARBONNIER_EPSILON**2).sqrt().mean()
        case _:
            raise InputError(f'expected the pixel loss to be "l1" or "charbonnier", got {kind!r}')


def random_crop(input: Tensor, target: Tensor, *, crop_px: int) -> tuple[Tensor, Tensor]:
    """The same place of all inputs (N, C, h, w) and targets (N, C, scale · h, scale · w), `crop_px` a side in targets.

    The place comes from torch's global generator, on the CPU.
    """
    scale = target.shape[2] // input.shape[2]
    side = crop_px // scale
    top, left = (int(torch.randint(length - side + 1, ())) for length in input.shape[2:])
    small = input[:, :, top : top + side, left : left + side]
    return small, target[:, :, scale * top : scale * (top + side), scale * left : scale * (left + side)]


def restoration_figures(output: Tensor, target: Tensor, *, scale: int) -> dict[str, float]:
    """How near outputs come to the truth, each figure the mean over images.

    Args:
        output, target: (N, C, H, W) in [0, 1].

    Returns:
        psnr and ssim as papers have them: of brightness where images are RGB, without a border of `scale` pixels.
        gradient: gradient energy next to the truth's; 1 is as sharp.
    """
    rgb = output.shape[1] == 3
    energy = gradient_energy(output) / gradient_energy(target).clamp(min=1e-8)
    return {
        "psnr": psnr(output, target, crop_border=scale, y_channel=rgb).mean().item(),
        "ssim": ssim(output, target, crop_border=scale, y_channel=rgb).mean().item(),
        "gradient": energy.mean().item(),
    }
