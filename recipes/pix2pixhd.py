"""Photographs from label maps: pix2pixHD on your label maps and photos, or on the built-in streets.

    python recipes/pix2pixhd.py --out runs/hd
    python recipes/pix2pixhd.py --data datasets/cityscapes --aspect-ratio 2 --load-size 1024 --crop-size 1024

The global generator of Wang et al. 2018 with discriminators at several scales. SPADE (recipes/spade.py) came after it
and is better where large areas are of one class; with styles it paints one size, this one any.

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from i2i.cli.entry import run
from i2i.errors import InputError
from i2i.generators import ResNetGenerator
from i2i.layers.norm import Norm
from i2i.layers.resample import Upsampling
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, initial_generator
from i2i.training.judging import Judging
from i2i.training.loop import PATIENCE, limit_threads, on_cpu
from i2i.training.report import recorded
from i2i.training.semantic import SemanticData, SemanticTask, semantic_task
from i2i.training.synthesis import Discriminators, SynthesisLosses, train_synthesis

# Values of one-hot label maps.
INPUT_RANGE = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train on what.

    Attributes:
        out: folder of the run.
        images: the label maps and photos.
        judging: who reads the classes of generated photos.
        discriminators: who tells them from real ones.
        losses: what they are held to.
        width: channels of the generator's first layer.
        downsamplings: how often the generator halves the label map; sides must be multiples of 2 ** downsamplings.
        blocks: residual blocks of the generator.
        norm: normalisation in the generator.
        upsampling: of the generator; "resize" avoids checkerboard patterns.
        skips: the generator hands each size across, as a U-Net does; the paper's does not.
        init_generator: file or folder with the generator to start from, of i2i or pix2pixHD. It says what the network
            is: width, downsamplings, blocks, norm, upsampling and skips then do not apply to it.
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
        training: settings of the loop.
    """

    out: Path = Path("runs/pix2pixhd")
    images: SemanticData = field(default_factory=SemanticData)
    judging: Judging = field(default_factory=Judging)
    discriminators: Discriminators = field(
        default_factory=lambda: Discriminators(discriminator_layers=3, discriminator_scales=3, spectral=False)
    )
    losses: SynthesisLosses = field(default_factory=lambda: SynthesisLosses(objective="lsgan"))
    width: int = 64
    downsamplings: int = 4
    blocks: int = 9
    norm: Norm = "instance"
    upsampling: Upsampling = "transposed"
    skips: bool = False
    init_generator: Path | None = None
    compare: tuple[Path, ...] = ()
    training: TrainingSettings = field(
        # 200 epochs of Cityscapes' 2,975 photos, one at a time, as in the paper.
        default_factory=lambda: TrainingSettings(steps=600_000, best_metric="swd")
    )

    def __post_init__(self) -> None:
        for name in ("width", "downsamplings", "blocks"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(self, name)}.")


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    out=Path("runs/hd-streets"),
    judging=Judging(segmenter_steps=1500),
    discriminators=Discriminators(discriminator_width=32, discriminator_layers=3),
    losses=SynthesisLosses(perceptual="off"),
    width=16,
    downsamplings=2,
    blocks=4,
    norm="batch",
    upsampling="resize",
    skips=True,
    training=TrainingSettings(
        # For five minutes on two cores, as SPADE's are trained.
        steps=1500,
        batch_size=8,
        generator_learning_rate=6e-4,
        discriminator_learning_rate=1e-3,
        adam_betas=(0.0, 0.9),
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
    perceptual = settings.losses.make_perceptual()
    initial, size_multiple = None, 2**settings.downsamplings
    if settings.init_generator is not None:
        initial = initial_generator(settings.init_generator, input_range=INPUT_RANGE)
        size_multiple = initial.size_multiple
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training), timeout=PATIENCE).main_process_first():
        task = semantic_task(settings.images, size_multiple=size_multiple)
        about = "\n".join([task.about, *settings.losses.remarks])
        if PartialState().is_main_process:
            print(about)
        torch.manual_seed(settings.training.seed)
        generator = make_generator(settings, task, initial=initial)
    train_synthesis(
        generator,
        task=task,
        discriminators=settings.discriminators,
        losses=settings.losses,
        perceptual=perceptual,
        judging=settings.judging,
        compare=settings.compare,
        init_generator=settings.init_generator,
        recorded=recorded(settings),
        title=f"pix2pixHD: {task.name}",
        about=about,
        training=settings.training,
        out=settings.out,
    )


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


if __name__ == "__main__":
    own_images = any(argument.startswith(("--data", "--label-dir")) for argument in sys.argv)
    shown = (
        "the paper's"
        if own_images
        else "those for the streets; with --data (and --help behind it) they are the paper's"
    )
    run(main, OWN_IMAGES if own_images else STREETS, description=f"{__doc__}\nThe defaults shown are {shown}.")
