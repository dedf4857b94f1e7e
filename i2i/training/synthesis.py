"""What recipes for semantic synthesis share: discriminators and losses to choose, and the run itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import nn

from i2i.checkpoints import GeneratorSpec
from i2i.discriminators import MultiscaleDiscriminator
from i2i.errors import InputError
from i2i.layers.norm import Norm
from i2i.losses.adversarial import Objective, make_objective
from i2i.losses.perceptual import PerceptualLoss
from i2i.methods.spade import SemanticSynthesis
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, fingerprints, initial_discriminator
from i2i.training.judging import Examiner, Judging
from i2i.training.loop import train
from i2i.training.perceptual import Perceptual
from i2i.training.report import RunFacts, figures_of, print_outcome
from i2i.training.semantic import SemanticTask


@dataclass(frozen=True, kw_only=True)
class Discriminators:
    """Who tells generated photos from real ones.

    Attributes:
        discriminator_width: channels of each discriminator's first layer.
        discriminator_layers: convolutions of each discriminator before the one that scores.
        discriminator_scales: how many discriminators, each at half the size of the one before.
        discriminator_norm: normalisation in the discriminators.
        spectral: spectral norm in the discriminators.
        init_discriminator: file with the discriminators to start from; what is said above does not apply to them then.
    """

    discriminator_width: int = 64
    discriminator_layers: int = 4
    discriminator_scales: int = 2
    discriminator_norm: Norm = "instance"
    spectral: bool = True
    init_discriminator: Path | None = None

    def __post_init__(self) -> None:
        for name in ("discriminator_width", "discriminator_layers", "discriminator_scales"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(self, name)}.")

    def make(self, task: SemanticTask) -> nn.Module:
        """The discriminators for a task.

        Raises:
            InputError: `init_discriminator` cannot be read, or holds something else.
        """
        in_channels = task.input.channels + task.output.channels
        if self.init_discriminator is not None:
            initial = initial_discriminator(self.init_discriminator)
            if not isinstance(initial, MultiscaleDiscriminator):
                raise InputError(
                    f"{self.init_discriminator} holds a {type(initial).__name__}, where a discriminator of several "
                    "scales is expected, such as SPADE's or pix2pixHD's: give another file"
                )
            check_channels(initial, path=self.init_discriminator, in_channels=in_channels, out_channels=1)
            return initial
        return MultiscaleDiscriminator(
            in_channels=in_channels,
            width=self.discriminator_width,
            layers=self.discriminator_layers,
            scales=self.discriminator_scales,
            norm=self.discriminator_norm,
            spectral=self.spectral,
        )


@dataclass(frozen=True, kw_only=True)
class SynthesisLosses(Perceptual):
    """What generated photos are held to.

    Attributes:
        objective: adversarial loss.
        feature_weight: weight of feature matching.
    """

    objective: Objective = "hinge"
    feature_weight: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.feature_weight < math.inf:
            raise InputError(f"--feature-weight must be at least 0, and is {self.feature_weight}.")


def train_synthesis(
    generator: nn.Module,
    *,
    task: SemanticTask,
    discriminators: Discriminators,
    losses: SynthesisLosses,
    perceptual: PerceptualLoss | None,
    judging: Judging,
    kl_weight: float = 0.0,
    compare: Sequence[Path],
    init_generator: Path | None,
    recorded: dict[str, Any],
    title: str,
    about: str,
    training: TrainingSettings,
    out: Path,
) -> None:
    """Train a generator of photos from label maps, and print how good it has become.

    Args:
        perceptual: from `losses.make_perceptual()`.
        kl_weight: of the loss that keeps styles near N(0, 1), where there are any.
        compare: folders of other runs on the same data.
        init_generator: where the generator comes from, if not from noise.
        recorded: all that was chosen, which a resumed run must have in common with this one.
        title, about: for the report.
    """
    discriminator = discriminators.make(task)
    # The first process trains the segmenters, and the others find them in the cache.
    with PartialState().main_process_first():
        examiner = Examiner(judging, task)
    is_main, baselines = PartialState().is_main_process, {}
    if is_main:
        baselines = examiner.baselines() | figures_of(compare, fingerprint=task.fingerprint)
    method = SemanticSynthesis(
        generator=generator,
        discriminator=discriminator,
        palette=task.palette,
        objective=make_objective(losses.objective),
        feature_weight=losses.feature_weight,
        perceptual=perceptual,
        perceptual_weight=losses.perceptual_weight,
        kl_weight=kl_weight,
        judge=examiner.judge,
    )
    weights = {
        "init_generator": init_generator,
        "init_discriminator": discriminators.init_discriminator,
        "perceptual_weights": losses.perceptual_weights,
        "judge": judging.judge,
    }
    result = train(
        method=method,
        training_data=task.training,
        validation_data=task.held_out,
        specs={"generator": GeneratorSpec(input=task.input, output=task.output)},
        settings=training,
        out=out,
        facts=RunFacts(
            title=title,
            about=about,
            settings=recorded | fingerprints(weights),
            fingerprint=task.fingerprint,
            baselines=baselines,
            compare=tuple(compare),
        ),
        baseline_images=examiner.baseline_images(),
        examine=examiner.of(method, out=out),
    )
    if is_main:
        print_outcome(result.metrics, result.baselines, out=out)
