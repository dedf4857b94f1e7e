"""What recipes that draw from noise share: their settings, DCGAN's networks, and the run itself."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from accelerate import PartialState
from torch import nn

from i2i.checkpoints import GeneratorSpec
from i2i.discriminators import DCGANDiscriminator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator
from i2i.layers.minibatch import Minibatch
from i2i.layers.norm import Norm
from i2i.layers.recompute import check_stages
from i2i.layers.resample import Upsampling
from i2i.methods.base import Method
from i2i.methods.gan import GAN
from i2i.training.config import TrainingSettings
from i2i.training.drawing_data import DrawingData, DrawingTask, drawing_task
from i2i.training.drawing_figures import Examiner
from i2i.training.ema import ExponentialMovingAverage
from i2i.training.loop import PATIENCE, Examine, RunResult, check_start, limit_threads, on_cpu, train
from i2i.training.measures import BaselineImages
from i2i.training.report import RunFacts, figures_of, print_outcome, recorded
from i2i.training.stabilisers import Stabilisers

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Networks(Protocol):
    """Settings of two networks."""

    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for a task, as `i2i.methods.gan.GAN` takes them."""
        ...


@dataclass(frozen=True, kw_only=True)
class DrawingSettings:
    """What to draw, and how to learn it. A recipe's own say which networks.

    Attributes:
        out: folder of the run.
        images: what is learnt from.
        networks: generator and discriminator.
        stabilisers: what the networks play for, and what keeps their game steady.
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
        training: settings of the loop.
    """

    out: Path
    images: DrawingData = field(default_factory=DrawingData)
    networks: Networks
    stabilisers: Stabilisers = field(default_factory=Stabilisers)
    compare: tuple[Path, ...] = ()
    training: TrainingSettings


@dataclass(frozen=True, kw_only=True)
class DCGANNetworks:
    """A DCGAN generator and its mirror image, the discriminator.

    Attributes:
        latent_channels: length of the noise vector.
        width: channels of the generator's last hidden map; twice as many at half the size, and so on down to 4 x 4.
        discriminator_width: channels after the discriminator's first layer, likewise.
        upsampling: of the generator; "resize" avoids checkerboard patterns.
        discriminator_norm: normalisation in the discriminator; penalties do not go with "batch".
        spectral: spectral norm in the discriminator.
        minibatch: what the discriminator is told about a batch as a whole, against samples that are all alike.
    """

    latent_channels: int = 100
    width: int = 64
    discriminator_width: int = 64
    upsampling: Upsampling = "transposed"
    discriminator_norm: Norm = "batch"
    spectral: bool = False
    minibatch: Minibatch = "none"

    def __post_init__(self) -> None:
        check_widths(self, "latent_channels", "width", "discriminator_width")

    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for a task."""
        shared = {"size": task.size_px, "classes": len(task.classes)}
        generator = DCGANGenerator(
            latent_channels=self.latent_channels,
            out_channels=task.output.channels,
            width=self.width,
            upsampling=self.upsampling,
            **shared,
        )
        discriminator = DCGANDiscriminator(
            in_channels=task.output.channels,
            width=self.discriminator_width,
            norm=self.discriminator_norm,
            spectral=self.spectral,
            minibatch=self.minibatch,
            **shared,
        )
        return generator, discriminator


def check_sides(settings: "DataclassInstance", *names: str, least: int) -> None:
    """Raise InputError where a side that a network's settings name is no power of two of at least `least` px."""
    for name in names:
        side = getattr(settings, name)
        if side < least or side.bit_count() != 1:
            raise InputError(f"--{name.replace('_', '-')} must be a power of two of at least {least}, and is {side}.")


def check_widths(settings: "DataclassInstance", *names: str) -> None:
    """Raise InputError where a setting of a network is below 1."""
    for name in names:
        if getattr(settings, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(settings, name)}.")


def run_drawing(settings: DrawingSettings, *, title: str, game: Callable[..., GAN] = GAN) -> None:
    """Train a generator to draw images like those of the settings, and print how well it does.

    Leaves a picture of samples beside the training images nearest to them.

    Args:
        title: what it is, for the report.
        game: makes the method out of `GAN`'s arguments: a class of it, or a partial of one.

    Raises:
        InputError: something cannot be used; all of it is said before anything is trained.
    """
    task = find_task(settings)
    drawing = plan_drawing(settings, task=task, title=title, game=game)
    examiner, facts = examine_reals(settings, task=task, facts=drawing.facts)
    drawing = replace(drawing, facts=facts)
    examine, shown = (examiner.of(drawing.gan), examiner.baseline_images()) if examiner else (None, None)
    result = draw(drawing, task=task, baseline_images=shown, examine=examine)
    tell(result, out=drawing.out)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A call of the training loop that nothing speaks against.

    Attributes:
        gan: the game of the two networks by itself.
        method: the same, with all that steadies it around.
        training: settings of the loop.
        out: where the loop writes.
        facts: for the report, but for what it is held against.
        stage, average: as `i2i.training.loop.train` takes them.
    """

    gan: GAN
    method: Method
    training: TrainingSettings
    out: Path
    facts: RunFacts
    stage: int = 0
    average: ExponentialMovingAverage | None = None


def find_task(settings: DrawingSettings) -> DrawingTask:
    """Find and check the images; the first process makes built-in ones, and the others find them in the cache."""
    limit_threads(settings.training)
    with PartialState(cpu=on_cpu(settings.training), timeout=PATIENCE).main_process_first():
        return drawing_task(settings.images)


def plan_drawing(settings: DrawingSettings, *, task: DrawingTask, title: str, game: Callable[..., GAN]) -> Drawing:
    """Make networks and method, and refuse all that `draw` would refuse.

    Args:
        task: what the networks are made for; only its size may be another than the settings'.
        title, game: as of `run_drawing`.

    Raises:
        InputError: something cannot be used.
    """
    training, stabilisers = settings.training, settings.stabilisers
    training.check_best_metric("swd", "variety")
    torch.manual_seed(training.seed)
    generator, discriminator = settings.networks.make(task)
    if training.checkpointing:
        check_stages(generator)
    stabilisers.check(discriminator, training=training)
    gan, method = stabilisers.steadied(generator, discriminator, training=training, class_names=task.classes, game=game)
    remarks = stabilisers.remarks(
        discriminator,
        images=len(task.training),  # type: ignore[arg-type]
        classes=len(task.classes),
        training=training,
    )
    facts = RunFacts(
        title=f"{title}: {task.name}",
        about="\n".join([task.about, *remarks]),
        settings=recorded(settings),
        fingerprint=task.fingerprint,
    )
    check_start(settings=training, out=settings.out, facts=facts)
    return Drawing(gan=gan, method=method, training=training, out=settings.out, facts=facts)


def examine_reals(settings: DrawingSettings, *, task: DrawingTask, facts: RunFacts) -> tuple[Examiner | None, RunFacts]:
    """Say what is learnt from, and measure what a run is held against: real images, their mean, and other runs.

    Only the first process does, and has an examiner.

    Returns:
        The examiner, and the facts with all of that.

    Raises:
        InputError: another run cannot be compared.
    """
    facts = replace(facts, compare=settings.compare)
    if not PartialState().is_main_process:
        return None, facts
    print(facts.about)
    compared = figures_of(settings.compare, fingerprint=task.fingerprint)
    examiner = Examiner(task, out=settings.out)
    remarks = examiner.remarks()
    for remark in remarks:
        print(remark)
    about = "\n".join([facts.about, *remarks])
    return examiner, replace(facts, about=about, baselines=examiner.baselines() | compared)


def draw(
    drawing: Drawing, *, task: DrawingTask, baseline_images: BaselineImages | None = None, examine: Examine | None
) -> RunResult:
    """Play the game, or go on with it.

    Args:
        task: its images.
        baseline_images: of what the facts hold the game against, in the first process.
        examine: takes figures at the end, in the first process.
    """
    return train(
        method=drawing.method,
        training_data=task.training,
        validation_data=task.held_out,
        specs={"generator": GeneratorSpec(input=None, output=task.output, classes=task.classes or None)},
        settings=drawing.training,
        out=drawing.out,
        facts=drawing.facts,
        baseline_images=baseline_images,
        examine=examine,
        stage=drawing.stage,
        average=drawing.average,
    )


def tell(result: RunResult, *, out: Path) -> None:
    """Print how well it went, and where to look."""
    if PartialState().is_main_process:
        print_outcome(result.metrics, result.baselines, out=out)
