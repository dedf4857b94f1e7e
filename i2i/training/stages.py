"""What recipes for super-resolution share: networks and losses to choose, and the two stages themselves."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn
from torch.utils.data import default_collate

from i2i.checkpoints import GeneratorSpec
from i2i.checkpoints.store import load_generator
from i2i.discriminators import PatchDiscriminator, UNetDiscriminator, VGGDiscriminator
from i2i.errors import InputError
from i2i.evaluation.pages import write_grid
from i2i.generators import CompactGenerator, RRDBGenerator, SRResNetGenerator
from i2i.losses.adversarial import Objective, make_objective
from i2i.methods.base import Batch
from i2i.methods.superres import PixelLoss, RandomDegradation, SuperResolution
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, fingerprints, initial_discriminator, initial_generator
from i2i.training.loop import Examine, train
from i2i.training.perceptual import LpipsFigure, Perceptual
from i2i.training.report import PICTURES, RunFacts, figures_of, print_outcome
from i2i.training.state import check_folder
from i2i.training.superres import Bicubic, SuperResolutionTask

NETWORK_RANGE = (0.0, 1.0)
# Held-out squares in the picture of what a stage changed.
STAGE_PICTURES = 8


@dataclass(frozen=True, kw_only=True)
class Network:
    """What enlarges.

    Attributes:
        network: Real-ESRGAN's compact network (fast, for video and CPUs), SRGAN's SRResNet, or ESRGAN's RRDB network.
        width: channels of the network's features.
        blocks: how many convolutions (compact), residual blocks (srresnet) or residual-in-residual dense blocks (rrdb)
            follow each other; None: as published, which is 16, 16 and 23.
        growth: channels that each convolution inside a dense block adds (rrdb).
        unshuffle: fold squares of so many pixels a side into channels first (rrdb), which is as much faster;
            Real-ESRGAN takes 2 for scale 2 and 4 for scale 1.
        init_generator: file or folder with the generator to start from, of i2i or another project. It says what the
            network is, and what is said above does not apply.
    """

    network: Literal["compact", "srresnet", "rrdb"] = "rrdb"
    width: int = 64
    blocks: int | None = None
    growth: int = 32
    unshuffle: int = 1
    init_generator: Path | None = None

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "growth", "unshuffle"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} must be at least 1, and is {value}.")
        if self.unshuffle > 1 and self.network != "rrdb" and self.init_generator is None:
            raise InputError(f"--unshuffle is for --network rrdb, and the network is {self.network}. Leave it out.")

    def initial(self, *, scale: int, crop_px: int) -> nn.Module | None:
        """The generator to start from, if there is one.

        Args:
            crop_px: side of the squares that it will be shown in training, in HR.

        Raises:
            InputError: it cannot be read, is no network for super-resolution, or one of another scale or for other
                sizes.
        """
        if self.init_generator is None:
            return None
        return initial_generator(
            self.init_generator,
            side_px=crop_px // scale,
            input_range=NETWORK_RANGE,
            output_range=NETWORK_RANGE,
            scale=scale,
        )

    def make(self, task: SuperResolutionTask, *, initial: nn.Module | None) -> nn.Module:
        """The generator for a task: `initial`, or a new one.

        Raises:
            InputError: `initial` is for other channels, or there is no such network at this scale.
        """
        channels, scale, width = task.side.channels, task.scale, self.width
        if initial is not None:
            assert self.init_generator is not None
            check_channels(initial, path=self.init_generator, in_channels=channels, out_channels=channels)
            return initial
        match self.network:
            case "compact":
                return CompactGenerator(
                    in_channels=channels, out_channels=channels, width=width, convs=self.blocks or 16, scale=scale
                )
            case "srresnet":
                return SRResNetGenerator(
                    in_channels=channels, out_channels=channels, width=width, blocks=self.blocks or 16, scale=scale
                )
            case "rrdb":
                if self.unshuffle > 1 and (scale * self.unshuffle).bit_count() != 1:
                    raise InputError(
                        f"--unshuffle {self.unshuffle} needs a scale with which it makes a power of two, and the scale "
                        f"is {scale}. Give another, or leave it out."
                    )
                return RRDBGenerator(
                    in_channels=channels,
                    out_channels=channels,
                    width=width,
                    growth=self.growth,
                    blocks=self.blocks or 23,
                    scale=scale,
                    unshuffle=self.unshuffle,
                )


@dataclass(frozen=True, kw_only=True)
class Discriminator:
    """Who tells enlarged images from real ones.

    Attributes:
        discriminator: SRGAN's and ESRGAN's, which gives a crop one score and suits crops of one size; Real-ESRGAN's
            U-Net, which scores each pixel; or a PatchGAN, which scores patches.
        discriminator_width: channels of its first layer.
        init_discriminator: file with the discriminator to start from; what is said above does not apply.
    """

    discriminator: Literal["vgg", "unet", "patch"] = "vgg"
    discriminator_width: int = 64
    init_discriminator: Path | None = None

    def __post_init__(self) -> None:
        if self.discriminator_width < 1:
            raise InputError(f"--discriminator-width must be at least 1, and is {self.discriminator_width}.")

    def make(self, task: SuperResolutionTask, *, crop_px: int) -> nn.Module:
        """The discriminator for square crops of a task.

        Raises:
            InputError: `init_discriminator` cannot be read, holds something else, or is for other images.
        """
        channels = task.side.channels
        if self.init_discriminator is not None:
            initial = initial_discriminator(self.init_discriminator, side_px=crop_px)
            check_channels(initial, path=self.init_discriminator, in_channels=channels, out_channels=1)
            return initial
        network = self._new(channels, crop_px)
        smallest_px = getattr(network, "smallest_px", 1)
        if crop_px < smallest_px:
            raise InputError(
                f"--discriminator {self.discriminator} needs crops of at least {smallest_px} px, and these will be "
                f"{crop_px} px: crop larger squares, or take another discriminator."
            )
        return network

    def _new(self, channels: int, crop_px: int) -> nn.Module:
        width = self.discriminator_width
        match self.discriminator:
            case "vgg":
                return VGGDiscriminator(in_channels=channels, width=width, size_px=crop_px)
            case "unet":
                return UNetDiscriminator(in_channels=channels, width=width)
            case "patch":
                # Without batch norm no image influences another's scores; the spectral norm holds the network back.
                return PatchDiscriminator(in_channels=channels, width=width, norm="none", spectral=True)


@dataclass(frozen=True, kw_only=True)
class GanLosses(Perceptual):
    """What the GAN stage holds enlarged images to.

    Attributes:
        objective: adversarial loss.
        pixel_weight: weight of the mean absolute difference from the truth. None: ESRGAN's 0.01 beside a perceptual
            loss; without one, 0.3, since nothing else holds the result to the truth then.
        adversarial_weight: weight of the adversarial loss.
        shift_px: what the discriminator sees is rolled at random by fewer pixels than this, lest the generator learn to
            draw the grid of the discriminator's strides; 0: not rolled, as in the papers.
    """

    objective: Objective = "relativistic_average"
    pixel_weight: float | None = None
    adversarial_weight: float = 5e-3
    shift_px: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shift_px < 0:
            raise InputError(f"--shift-px must be at least 0, and is {self.shift_px}.")
        for name in ("pixel_weight", "adversarial_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be at least 0, and is {value}.")

    @property
    def chosen_pixel_weight(self) -> float:
        """`pixel_weight`, or what stands for None."""
        if self.pixel_weight is not None:
            return self.pixel_weight
        return 0.3 if self.perceptual == "off" else 0.01


@dataclass(frozen=True, kw_only=True)
class FirstStage:
    """The PSNR stage that a GAN stage starts from, without which a discriminator has nothing to go by.

    Attributes:
        psnr_steps: its steps; 0: its weights are there already, as `init_generator`.
        psnr_learning_rate: Adam's.
        pixel_loss: mean absolute difference, or Charbonnier's smooth version of it.
    """

    psnr_steps: int = 0
    psnr_learning_rate: float = 2e-4
    pixel_loss: PixelLoss = "l1"

    def __post_init__(self) -> None:
        if self.psnr_steps < 0:
            raise InputError(f"--psnr-steps must be at least 0, and is {self.psnr_steps}.")
        if not 0 < self.psnr_learning_rate < math.inf:
            raise InputError(f"--psnr-learning-rate must be above 0, and is {self.psnr_learning_rate}.")

    def check(self, network: Network) -> None:
        """See that the GAN stage has weights to start from.

        Raises:
            InputError: it has none.
        """
        if not self.psnr_steps and network.init_generator is None:
            raise InputError(
                "The GAN stage starts from weights of a PSNR stage. Give them as --init-generator (the folder of a run "
                "of recipes/superres_psnr.py, or a weight file), or train them first with --psnr-steps, such as 100000."
            )


def train_psnr_stage(
    generator: nn.Module,
    *,
    task: SuperResolutionTask,
    pixel_loss: PixelLoss,
    degradation: RandomDegradation | None = None,
    figure: LpipsFigure,
    settings: Mapping[str, Any],
    init_generator: Path | None,
    compare: Sequence[Path] = (),
    title: str,
    training: TrainingSettings,
    out: Path,
) -> None:
    """Train a generator to come as near to the truth as it can, and print how near that is.

    Args:
        figure: LPIPS or not.
        settings: all that was chosen, which a resumed run must have in common with this one.
        init_generator: where the generator comes from, if not from noise.
        compare: folders of other runs on the same data, whose figures the report shows beside this one's.
        title: for the report.
    """
    _check_metric(training, figure)
    _train(
        SuperResolution(generator=generator, pixel_loss=pixel_loss, degradation=degradation, lpips=figure.make_lpips()),
        task=task,
        settings=dict(settings) | fingerprints({"init_generator": init_generator}),
        baselines={},
        compare=compare,
        title=title,
        about=task.about,
        training=training,
        out=out,
    )


def train_gan_stage(
    generator: nn.Module,
    *,
    task: SuperResolutionTask,
    discriminator: nn.Module,
    losses: GanLosses,
    perceptual: nn.Module | None,
    degradation: RandomDegradation | None = None,
    figure: LpipsFigure,
    settings: Mapping[str, Any],
    weights: Mapping[str, Path | None],
    compare: Sequence[Path] = (),
    title: str,
    training: TrainingSettings,
    out: Path,
) -> None:
    """Train a generator, which comes from a PSNR stage, to make what cannot be told from real images.

    Leaves a picture of held-out images before and after the stage.

    Args:
        perceptual: from `losses.make_perceptual()`.
        figure, settings, compare, title: as for `train_psnr_stage`.
        weights: files that the run starts from, by the names of their settings.
    """
    first_stage = deepcopy(generator)
    method = SuperResolution(
        generator=generator,
        discriminator=discriminator,
        objective=make_objective(losses.objective),
        pixel_weight=losses.chosen_pixel_weight,
        adversarial_weight=losses.adversarial_weight,
        perceptual=perceptual,
        perceptual_weight=losses.perceptual_weight,
        shift_px=losses.shift_px,
        degradation=degradation,
        lpips=figure.make_lpips(),
    )

    def examine(say: Callable[[str], None]) -> dict[str, float]:
        batch = default_collate([task.preview[index] for index in range(min(STAGE_PICTURES, len(task.held_out)))])  # type: ignore[arg-type]
        (out / PICTURES).mkdir(exist_ok=True)
        networks = {"first stage": first_stage, "output": method.generators["generator"]}
        write_grid(out / PICTURES / "stages.png", pictures_of(networks, batch, scale=task.scale), across=1)
        return {}

    _train(
        method,
        task=task,
        settings=dict(settings) | fingerprints({**weights, "perceptual_weights": losses.perceptual_weights}),
        baselines={"first stage": first_stage},
        compare=compare,
        title=title,
        about=" ".join([task.about, *losses.remarks]),
        training=training,
        out=out,
        examine=examine,
    )


def train_two_stages(
    generator: nn.Module,
    *,
    task: SuperResolutionTask,
    first_stage: FirstStage,
    discriminator: nn.Module,
    losses: GanLosses,
    perceptual: nn.Module | None,
    degradation: RandomDegradation | None = None,
    figure: LpipsFigure,
    settings: Mapping[str, Any],
    weights: Mapping[str, Path | None],
    compare: Sequence[Path],
    title: str,
    training: TrainingSettings,
    out: Path,
) -> None:
    """The PSNR stage in <out>/psnr, where it has steps, and then the GAN stage from its averaged weights in <out>.

    The arguments are those of `train_psnr_stage` and `train_gan_stage`.
    """
    # What the second stage would refuse is refused before the first one.
    check_folder(out)
    figures_of(compare, fingerprint=task.fingerprint)
    _check_metric(training, figure)
    if perceptual is not None and task.side.channels != 3:
        raise InputError(
            f"The images have a channel count of {task.side.channels}, and VGG19 knows RGB images only: give "
            "--perceptual off."
        )
    if first_stage.psnr_steps:
        chosen = {name: value for name, value in settings.items() if name not in ("discriminator", "losses")}
        # Its length is told by the stage's own steps, which may become more.
        settings_of_first = chosen | {"first_stage": chosen["first_stage"] | {"psnr_steps": None}}
        train_psnr_stage(
            generator,
            task=task,
            pixel_loss=first_stage.pixel_loss,
            degradation=degradation,
            figure=figure,
            settings=settings_of_first,
            init_generator=weights["init_generator"],
            title=f"{title}, first stage",
            training=replace(
                training,
                steps=first_stage.psnr_steps,
                critic_steps=1,
                generator_learning_rate=first_stage.psnr_learning_rate,
                best_metric="psnr",
                best_is="highest",
                early_stop_after=None,  # which speaks of another metric
            ),
            out=out / "psnr",
        )
        generator, _ = load_generator(out / "psnr" / "generator")
    train_gan_stage(
        generator,
        task=task,
        discriminator=discriminator,
        losses=losses,
        perceptual=perceptual,
        degradation=degradation,
        figure=figure,
        settings=settings,
        weights=weights,
        compare=compare,
        title=title,
        training=training,
        out=out,
    )


def _check_metric(training: TrainingSettings, figure: LpipsFigure) -> None:
    if training.best_metric == "lpips" and figure.lpips == "off" and "lpips" not in training.metrics:
        raise InputError("--best-metric lpips needs LPIPS to be measured: give --lpips alex, too.")
    training.check_best_metric("psnr", "ssim", "gradient", "swd", *(["lpips"] if figure.lpips != "off" else []))


def pictures_of(networks: Mapping[str, nn.Module], batch: Batch, *, scale: int) -> dict[str, Tensor]:
    """What networks make of a batch, between its inputs and the truth: (N, C, H, W) in [-1, 1] each."""
    pictures = {
        "input": F.interpolate(batch["input"], scale_factor=scale, mode="nearest"),
        "bicubic": Bicubic(scale=scale)(batch["input"]),
    }
    for name, network in networks.items():
        device = next(network.parameters()).device
        pictures[name] = network.eval()(batch["input"].to(device)).cpu()
    pictures["truth"] = batch["target"]
    return {name: (2 * images - 1).clamp(-1, 1) for name, images in pictures.items()}


def _train(
    method: SuperResolution,
    *,
    task: SuperResolutionTask,
    settings: dict[str, Any],
    baselines: Mapping[str, nn.Module],
    compare: Sequence[Path],
    title: str,
    about: str,
    training: TrainingSettings,
    out: Path,
    examine: Examine | None = None,
) -> None:
    figures: dict[str, dict[str, float]] = {}
    networks = {"bicubic": Bicubic(scale=task.scale), **baselines}
    if PartialState().is_main_process:
        print(about)
        figures = {
            name: task.figures(network, lpips=method.frozen.get("lpips"), device=PartialState().device)
            for name, network in networks.items()
        }
        figures |= figures_of(compare, fingerprint=task.fingerprint)
    result = train(
        method=method,
        training_data=task.training,
        validation_data=task.held_out,
        preview_data=task.preview,
        specs={"generator": GeneratorSpec(input=task.side, output=task.side)},
        settings=training,
        out=out,
        facts=RunFacts(
            title=title,
            about=about,
            settings=settings,
            fingerprint=task.fingerprint,
            baselines=figures,
            compare=tuple(compare),
        ),
        baseline_images={
            name: partial(task.compared, network, device=PartialState().device) for name, network in networks.items()
        },
        examine=examine,
    )
    if PartialState().is_main_process:
        print_outcome(result.metrics, result.baselines, out=out)
