"""Runs that grow: chained calls of the training loop, each for images twice as large as the one before.

Karras et al. 2018, arXiv:1710.10196, section 2.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from i2i.checkpoints.store import load_generator
from i2i.errors import InputError
from i2i.evaluation.pages import write_grid
from i2i.layers.growing import Growing
from i2i.layers.sides import SMALLEST_PX, sides_up_to
from i2i.methods.progressive import ProgressiveGAN
from i2i.training.clock import seconds_taken
from i2i.training.drawing import (
    Drawing,
    DrawingSettings,
    draw,
    examine_reals,
    find_task,
    plan_drawing,
    tell,
)
from i2i.training.drawing_data import DrawingTask
from i2i.training.ema import ExponentialMovingAverage
from i2i.training.loop import Examine
from i2i.training.report import PICTURES

# Latent vectors of which the picture of all stages shows what each draws.
STAGE_SAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How a run grows.

    To what steadies it a stage is a run by itself: instance noise falls, ADA learns how much to augment, and learning
    rates warm up in each one anew, within shares of that stage; replay and historical averages begin without a past.

    Attributes:
        first_px: side of the images of the first stage, a power of two from 4 on; each stage doubles it.
        stage_steps: generator updates of each stage but the last one, which has --steps.
        fade_share: share of --stage-steps over which a stage's new blocks are faded in, also in the last one; 0: they
            are there at once.
        drift: weight of the mean square of the discriminator's scores of real images, which a critic's may drift
            away with else; the paper has 0.001. 0: none.
    """

    first_px: int = SMALLEST_PX
    stage_steps: int
    fade_share: float = 0.5
    drift: float = 0.0

    def __post_init__(self) -> None:
        if self.first_px < SMALLEST_PX or self.first_px.bit_count() != 1:
            raise InputError(f"--first-px must be a power of two of at least {SMALLEST_PX}, and is {self.first_px}.")
        if self.stage_steps < 1:
            raise InputError(f"--stage-steps must be at least 1, and is {self.stage_steps}.")
        if not 0 <= self.fade_share <= 1:
            raise InputError(f"--fade-share must be from 0 to 1, and is {self.fade_share}.")
        if not 0 <= self.drift < math.inf:
            raise InputError(f"--drift must be at least 0, and is {self.drift}.")

    @property
    def fade_steps(self) -> int:
        return round(self.fade_share * self.stage_steps)


@dataclass(frozen=True, kw_only=True)
class GrowingSettings(DrawingSettings):
    """What to draw, and how to learn it; the networks are `i2i.layers.growing.Growing`.

    Attributes:
        growth: the stages.
    """

    growth: Growth

    def __post_init__(self) -> None:
        growth = self.growth
        if growth.first_px > self.images.size_px:
            raise InputError(
                f"--first-px {growth.first_px} is above --size-px {self.images.size_px}, where growing ends: give a "
                "smaller one."
            )
        if len(self.sizes_px) > 1 and self.training.steps < growth.fade_steps:
            raise InputError(
                f"The last stage has --steps {self.training.steps}, and fades in over {growth.fade_steps}, which is "
                f"--fade-share of --stage-steps {growth.stage_steps}: give more --steps, or fewer --stage-steps."
            )

    @property
    def sizes_px(self) -> list[int]:
        """The sides of the stages' images, in order."""
        return [side for side in sides_up_to(self.images.size_px) if side >= self.growth.first_px]


def run_growing(settings: GrowingSettings, *, title: str) -> None:
    """Train a generator that grows, stage by stage, and print how well the last one does.

    The last stage is in the settings' folder, as any run that draws; the others are in its folders 004px, 008px …,
    runs with reports of their own. A stage starts from the trained weights of the one before, and its average of
    weights from the average there; its optimisers start anew, and its images come in another order. Stages before the
    last hold their learning rates, as in the paper. Leaves a picture of what each stage draws from the same latent
    vectors.

    Args:
        title: what it is, for the reports.

    Raises:
        InputError: something cannot be used in some stage; all of it is said before anything is trained.
    """
    task = find_task(settings)
    stages = [
        plan_drawing(
            stage,
            task=replace(task, size_px=size_px),
            title=_title(title, size_px, settings.sizes_px),
            game=partial(
                ProgressiveGAN, fade_steps=settings.growth.fade_steps if number else 0, drift=settings.growth.drift
            ),
        )
        for number, (size_px, stage) in enumerate(zip(settings.sizes_px, _settings_of_stages(settings), strict=True))
    ]
    check_stages_of(settings)
    about = "\n".join([stages[-1].facts.about, *_starting_anew(settings)])
    examiner, known = examine_reals(settings, task=task, facts=replace(stages[-1].facts, about=about))
    folders, spent_s = [stage.out for stage in stages], 0.0
    for number, out in enumerate(folders):
        facts = replace(known, title=stages[0].facts.title, settings=stages[0].facts.settings, spent_s=spent_s)
        stage = replace(stages.pop(0), facts=facts, stage=number)
        examine: Examine | None = None
        if examiner is not None and not stages:
            examine = _with_picture(examiner.of(stage.gan), stage, folders[:-1], task)
        if len(folders) > 1 and PartialState().is_main_process:
            print(f"Stage {number + 1} of {len(folders)}, {settings.sizes_px[number]} px")
        shown = examiner.baseline_images() if examiner is not None else None
        result = draw(stage, task=task, baseline_images=shown, examine=examine)
        if not stages:
            tell(result, out=out)
            break
        stages[0] = _taking_over(stages[0], stage, result.average)
        del result  # its average is on the accelerator
        spent_s = seconds_taken(out)


def check_stages_of(settings: GrowingSettings) -> None:
    """See that the settings' folder holds no stage of another chain, which no stage of this one would meet.

    Raises:
        InputError: it does.
    """
    chain = {stage.out for stage in _settings_of_stages(settings)}
    for folder in sorted(settings.out.glob("*px")):
        if folder not in chain and folder.name[:-2].isdigit() and (folder / "run.json").exists():
            raise InputError(
                f"{folder} is a stage of a run with another --first-px or --size-px, and this run has no such stage: "
                "give the same ones to go on with that run, or another --out for a new one."
            )


def _settings_of_stages(settings: GrowingSettings) -> list[GrowingSettings]:
    """For each stage, the settings as they are for it."""
    early = replace(
        settings.training,
        steps=settings.growth.stage_steps,
        schedule="constant",
        best_metric=None,
        early_stop_after=None,
    )
    return [
        *(replace(settings, training=early, out=settings.out / f"{px:03d}px") for px in settings.sizes_px[:-1]),
        settings,
    ]


def _title(title: str, size_px: int, sizes_px: Sequence[int]) -> str:
    return f"{title} at {size_px} px, stage {sizes_px.index(size_px) + 1} of {len(sizes_px)}"


def _starting_anew(settings: GrowingSettings) -> list[str]:
    """What to know about chosen settings that stages have no common course of."""
    stabilisers = settings.stabilisers
    chosen = {
        "--instance-noise": stabilisers.instance_noise,
        "--augment adaptive": stabilisers.augment == "adaptive",
        "--replay": stabilisers.replay,
        "--history-weight": stabilisers.history_weight,
        "--warmup-steps": settings.training.warmup_steps,
    }
    names = [name for name, value in chosen.items() if value]
    if not names or len(settings.sizes_px) == 1:
        return []
    return [f"Each stage begins anew with {', '.join(names)}, as if it were a run by itself."]


def _taking_over(stage: Drawing, before: Drawing, average: ExponentialMovingAverage | None) -> Drawing:
    """A stage whose networks, and their average, start from those of the stage before."""
    networks = stage.gan.generators | stage.gan.discriminators
    for name, trained in (before.gan.generators | before.gan.discriminators).items():
        _grown(networks[name]).take_over(trained)
    if average is None:
        return stage
    grown = ExponentialMovingAverage(stage.gan.generators, decay=stage.training.ema_decay)
    for name, averaged in average.networks.items():
        _grown(grown.networks[name]).take_over(averaged)
    # Updates are counted anew, so that the newest blocks' initial weights, far from any use, are forgotten soon.
    return replace(stage, average=grown)


def _grown(network: nn.Module) -> Growing:
    assert isinstance(network, Growing)  # as ProgressiveGAN has seen
    return network


def _with_picture(examine: Examine, last: Drawing, before: Sequence[Path], task: DrawingTask) -> Examine:
    """`examine`, which also leaves a picture of what the stages draw from the same latent vectors.

    before: folders of the stages before the last.
    """

    def both(say: Callable[[str], None]) -> dict[str, float]:
        figures = dict(examine(say))
        device = PartialState().device
        generators = [load_generator(out / "generator")[0].to(device).eval() for out in before]
        latents = torch.randn(STAGE_SAMPLES, last.gan.latent_channels, device=device)
        labels = torch.arange(STAGE_SAMPLES, device=device) % last.gan.classes if last.gan.classes else None
        pictures = stage_pictures(
            [*generators, last.gan.generators["generator"]], latents, labels, size_px=task.size_px
        )
        (last.out / PICTURES).mkdir(exist_ok=True)
        write_grid(last.out / PICTURES / "stages.png", pictures, across=1)
        return figures

    return both


def stage_pictures(
    generators: Sequence[nn.Module], latents: Tensor, labels: Tensor | None, *, size_px: int
) -> dict[str, Tensor]:
    """What stages draw from latent vectors (N, latent_channels) and class ids (N,), where there are classes.

    Returns:
        By the stage's size, images (N, C, size_px, size_px), every pixel repeated.
    """
    told = () if labels is None else (labels,)
    drawn = [generator(latents, *told) for generator in generators]
    return {
        f"{images.shape[-1]} px": F.interpolate(images, size=(size_px, size_px), mode="nearest") for images in drawn
    }
