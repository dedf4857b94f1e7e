"""Photographs from label maps: pix2pixHD on your label maps and photos, or on the built-in streets.

    python recipes/pix2pixhd.py --out runs/hd
    python recipes/pix2pixhd.py --data datasets/cityscapes --aspect-ratio 2 --load-size 1024 --crop-size 1024

The global generator of Wang et al. 2018 with discriminators at several scales. SPADE (recipes/spade.py) came after it
and is better where large areas are of one class; this one also takes any size.

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from torch import nn

from i2i.checkpoints import GeneratorSpec
from i2i.cli.entry import run
from i2i.discriminators import MultiscaleDiscriminator
from i2i.errors import InputError
from i2i.generators import ResNetGenerator
from i2i.layers.norm import Norm
from i2i.layers.resample import Upsampling
from i2i.losses.adversarial import Objective, make_objective
from i2i.losses.perceptual import PerceptualLoss, load_vgg19
from i2i.methods.spade import SemanticSynthesis
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, fingerprints, initial_discriminator, initial_generator
from i2i.training.judging import Examiner, Judging
from i2i.training.loop import limit_threads, on_cpu, train
from i2i.training.report import RunFacts, figures_of, print_figures, recorded
from i2i.training.semantic import SemanticData, SemanticTask, semantic_task


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train on what.

    Attributes:
        out: folder of the run.
        images: the label maps and photos.
        judging: who reads the classes of generated photos.
        width: channels of the generator's first layer.
        downsamplings: how often the generator halves the label map; sides must be multiples of 2 ** downsamplings.
        blocks: residual blocks of the generator.
        norm: normalisation in both networks.
        upsampling: of the generator; "resize" avoids checkerboard patterns.
        skips: the generator hands each size across, as a U-Net does; the paper's does not.
        discriminator_width: channels of each discriminator's first layer.
        discriminator_layers: convolutions of each discriminator before the one that scores.
        discriminator_scales: how many discriminators, each at half the size of the one before.
        spectral: spectral norm in the discriminators; the paper's have none.
        init_generator: file or folder with the generator to start from, of i2i or pix2pixHD. It says what the network
            is: width, downsamplings, blocks, norm, upsampling and skips then do not apply to it.
        init_discriminator: file with the discriminator to start from; discriminator_width, discriminator_layers,
            discriminator_scales, spectral and norm then do not apply to it.
        objective: adversarial loss.
        feature_weight: weight of feature matching.
        perceptual: compare features of VGG19, trained on ImageNet, or leave that out.
        perceptual_weights: file with VGG19's weights as torchvision or timm have them; None: fetched once.
        perceptual_weight: weight of that comparison.
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
        training: settings of the loop.
    """

    out: Path = Path("runs/pix2pixhd")
    images: SemanticData = field(default_factory=SemanticData)
    judging: Judging = field(default_factory=Judging)
    width: int = 64
    downsamplings: int = 4
    blocks: int = 9
    norm: Norm = "instance"
    upsampling: Upsampling = "transposed"
    skips: bool = False
    discriminator_width: int = 64
    discriminator_layers: int = 3
    discriminator_scales: int = 3
    spectral: bool = False
    init_generator: Path | None = None
    init_discriminator: Path | None = None
    objective: Objective = "lsgan"
    feature_weight: float = 10.0
    perceptual: Literal["vgg19", "off"] = "vgg19"
    perceptual_weights: Path | None = None
    perceptual_weight: float = 10.0
    compare: tuple[Path, ...] = ()
    training: TrainingSettings = field(
        # 200 epochs of Cityscapes' 2,975 photos, one at a time, as in the paper.
        default_factory=lambda: TrainingSettings(steps=600_000, best_metric="swd")
    )

    def __post_init__(self) -> None:
        counts = "width downsamplings blocks discriminator_width discriminator_layers discriminator_scales"
        for name in counts.split():
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(self, name)}.")
        for name in ("feature_weight", "perceptual_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be at least 0, and is {getattr(self, name)}.")
        if self.perceptual == "off" and self.perceptual_weights is not None:
            raise InputError("--perceptual off and --perceptual-weights exclude each other. Give one of the two.")


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    out=Path("runs/hd-streets"),
    judging=Judging(segmenter_steps=1500),
    width=16,
    downsamplings=2,
    blocks=4,
    upsampling="resize",
    skips=True,
    discriminator_width=32,
    discriminator_scales=2,
    spectral=True,
    perceptual="off",
    training=TrainingSettings(
        # For a few minutes on two cores.
        steps=1500,
        batch_size=4,
        generator_learning_rate=6e-4,
        discriminator_learning_rate=4e-4,
        ema_decay=0.99,
        validate_every_steps=500,
        save_every_steps=500,
        preview_images=12,
        best_metric="swd",
        workers=0,
        threads=2,
    ),
)


def main(settings: Settings) -> None:
    limit_threads(settings.training)
    generator = discriminator = None
    size_multiple = 2**settings.downsamplings
    if settings.init_generator is not None:
        generator = initial_generator(settings.init_generator, input_range=(0.0, 1.0))
        size_multiple = generator.size_multiple
    if settings.init_discriminator is not None:
        discriminator = initial_discriminator(settings.init_discriminator)
    perceptual = None
    if settings.perceptual == "vgg19":
        perceptual = PerceptualLoss(vgg=load_vgg19(settings.perceptual_weights))
    # The first process makes and checks the data and trains the segmenters, and the others find them in the cache.
    with PartialState(cpu=on_cpu(settings.training)).main_process_first():
        task = semantic_task(settings.images, size_multiple=size_multiple)
        examiner = Examiner(settings.judging, task)
        baselines = examiner.baselines() | figures_of(settings.compare, fingerprint=task.fingerprint)
    about = "\n".join([task.about, *remarks(settings)])
    if PartialState().is_main_process:
        print(about)

    torch.manual_seed(settings.training.seed)
    generator = make_generator(settings, task, initial=generator)
    method = SemanticSynthesis(
        generator=generator,
        discriminator=make_discriminator(settings, task, initial=discriminator),
        palette=task.palette,
        objective=make_objective(settings.objective),
        feature_weight=settings.feature_weight,
        perceptual=perceptual,
        perceptual_weight=settings.perceptual_weight,
        judge=examiner.judge,
    )
    result = train(
        method=method,
        training_data=task.training,
        validation_data=task.held_out,
        specs={"generator": GeneratorSpec(input=task.input, output=task.output)},
        settings=settings.training,
        out=settings.out,
        facts=RunFacts(
            title=f"pix2pixHD: {task.name}",
            about=about,
            settings=identity(settings),
            fingerprint=task.fingerprint,
            baselines=baselines,
        ),
        examine=examiner.of(method, out=settings.out),
    )
    if PartialState().is_main_process:
        print_figures(result.metrics, baselines)
        print(f"Look at {settings.out / 'samples.png'} and {settings.out / 'report.html'}")


def remarks(settings: Settings) -> list[str]:
    """What else the report should say of a run."""
    lines = []
    if settings.perceptual == "off":
        lines.append("Trained without the perceptual loss that the paper has (--perceptual off).")
    return lines


def make_generator(settings: Settings, task: SemanticTask, *, initial: nn.Module | None) -> nn.Module:
    channels = {"in_channels": task.input.channels, "out_channels": task.output.channels}
    if initial is not None:
        check_channels(initial, path=settings.init_generator, **channels)
        return initial
    return ResNetGenerator(
        **channels,
        width=settings.width,
        blocks=settings.blocks,
        norm=settings.norm,
        upsampling=settings.upsampling,
        downsamplings=settings.downsamplings,
        skips=settings.skips,
        takes_labels=True,
    )


def make_discriminator(settings: Settings, task: SemanticTask, *, initial: nn.Module | None) -> nn.Module:
    in_channels = task.input.channels + task.output.channels
    if initial is not None:
        if not isinstance(initial, MultiscaleDiscriminator):
            raise InputError(
                f"{settings.init_discriminator} holds a {type(initial).__name__}, where a discriminator of several "
                "scales is expected, such as pix2pixHD's: give another file"
            )
        check_channels(initial, path=settings.init_discriminator, in_channels=in_channels, out_channels=1)
        return initial
    return MultiscaleDiscriminator(
        in_channels=in_channels,
        width=settings.discriminator_width,
        layers=settings.discriminator_layers,
        scales=settings.discriminator_scales,
        norm=settings.norm,
        spectral=settings.spectral,
    )


def identity(settings: Settings) -> dict[str, Any]:
    """What a resumed run must have in common with this one."""
    weights = {
        "init_generator": settings.init_generator,
        "init_discriminator": settings.init_discriminator,
        "perceptual_weights": settings.perceptual_weights,
        "judge": settings.judging.judge,
    }
    return recorded(settings) | fingerprints(weights)


if __name__ == "__main__":
    own_images = any(argument.startswith(("--data", "--label-dir")) for argument in sys.argv)
    shown = (
        "the paper's"
        if own_images
        else "those for the streets; with --data (and --help behind it) they are the paper's"
    )
    run(main, OWN_IMAGES if own_images else STREETS, description=f"{__doc__}\nThe defaults shown are {shown}.")
