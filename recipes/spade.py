"""Photographs from label maps: SPADE and GauGAN on your label maps and photos, or on the built-in streets.

    python recipes/spade.py --out runs/gaugan
    python recipes/spade.py --data datasets/cityscapes --classes 35 --aspect-ratio 2 --load-size 512 --crop-size 512
    python recipes/spade.py --data datasets/coco_stuff --classes 182 --dont-care --out runs/coco
    python recipes/spade.py --label-dir labels --image-dir photos --palette colours.txt --out runs/mine

With --style (on the streets it is on already) a style encoder is trained along, GauGAN's: photos then lend their style
to other label maps, and styles can be drawn.

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState

from i2i.cli.entry import run
from i2i.errors import InputError
from i2i.generators import SPADEGenerator
from i2i.generators.spade import UpsamplingLayers, size_multiple_of
from i2i.layers.norm import ParameterFreeNorm
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, initial_generator
from i2i.training.judging import Judging
from i2i.training.loop import PATIENCE, limit_threads, on_cpu
from i2i.training.report import recorded
from i2i.training.semantic import SemanticData, SemanticTask, semantic_task
from i2i.training.synthesis import Discriminators, SynthesisLosses, train_synthesis


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train on what.

    Attributes:
        out: folder of the run.
        images: the label maps and photos.
        judging: who reads the classes of generated photos.
        discriminators: who tells them from real ones.
        losses: what they are held to.
        width: channels of the generator before its last convolution; the coarsest map has 16 times as many.
        num_upsampling_layers: how often the generator doubles its coarsest map: 5 times, 6 ("more") or 7 ("most").
        norm: what SPADE scales and shifts: features normalised over the batch, over the batches of all processes, or
            over each image.
        hidden_width: channels inside each SPADE layer.
        style: train a style encoder along (GauGAN).
        latent_channels: length of the vector that holds a style.
        style_width: channels of the style encoder's first layer.
        init_generator: file or folder with the generator to start from, of i2i or SPADE. It says what the network is:
            width, num_upsampling_layers, norm, hidden_width, style, latent_channels and style_width do not apply then.
        kl_weight: weight of the loss that keeps styles near N(0, 1).
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
        training: settings of the loop.
    """

    out: Path = Path("runs/spade")
    images: SemanticData = field(default_factory=SemanticData)
    judging: Judging = field(default_factory=Judging)
    discriminators: Discriminators = field(default_factory=Discriminators)
    losses: SynthesisLosses = field(default_factory=SynthesisLosses)
    width: int = 64
    num_upsampling_layers: UpsamplingLayers = "normal"
    norm: ParameterFreeNorm = "sync_batch"
    hidden_width: int = 128
    style: bool = False
    latent_channels: int = 256
    style_width: int = 64
    init_generator: Path | None = None
    kl_weight: float = 0.05
    compare: tuple[Path, ...] = ()
    training: TrainingSettings = field(
        # Two rates for two sides (TTUR): half of the paper's 2e-4 and twice. 50 epochs of some 3,000 images, at
        # least; the paper takes 200 for Cityscapes and ADE20K and 100 for COCO-Stuff, in batches of 32.
        default_factory=lambda: TrainingSettings(
            steps=40_000,
            batch_size=4,
            generator_learning_rate=1e-4,
            discriminator_learning_rate=4e-4,
            adam_betas=(0.0, 0.9),
            best_metric="swd",
        )
    )

    def __post_init__(self) -> None:
        for name in ("width", "hidden_width", "latent_channels", "style_width"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(self, name)}.")
        if not 0 <= self.kl_weight < math.inf:
            raise InputError(f"--kl-weight must be at least 0, and is {self.kl_weight}.")


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    out=Path("runs/gaugan"),
    judging=Judging(segmenter_steps=1500),
    discriminators=Discriminators(discriminator_width=32, discriminator_layers=3),
    losses=SynthesisLosses(perceptual="off"),
    width=16,
    norm="batch",
    hidden_width=32,
    style=True,
    latent_channels=32,
    style_width=16,
    kl_weight=0.01,
    training=TrainingSettings(
        # For nine minutes on two cores.
        steps=1600,
        batch_size=8,
        generator_learning_rate=6e-4,
        discriminator_learning_rate=1e-3,
        adam_betas=(0.0, 0.9),
        ema_decay=0.99,
        validate_every_steps=400,
        save_every_steps=400,
        preview_images=12,
        best_metric="swd",
        workers=0,
        threads=2,
    ),
)


def main(settings: Settings) -> None:
    limit_threads(settings.training)
    perceptual = settings.losses.make_perceptual()
    initial, size_multiple, styled = None, size_multiple_of(settings.num_upsampling_layers), settings.style
    if settings.init_generator is not None:
        initial = initial_spade(settings.init_generator)
        size_multiple, styled = initial.size_multiple, initial.style_encoder is not None
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training), timeout=PATIENCE).main_process_first():
        task = semantic_task(settings.images, size_multiple=size_multiple, changing_light=styled)
        torch.manual_seed(settings.training.seed)
        generator = make_generator(settings, task, initial=initial)
        about = "\n".join([task.about, *settings.losses.remarks, *warnings(settings, generator)])
        if PartialState().is_main_process:
            print(about)
    train_synthesis(
        generator,
        task=task,
        discriminators=settings.discriminators,
        losses=settings.losses,
        perceptual=perceptual,
        judging=settings.judging,
        kl_weight=settings.kl_weight,
        compare=settings.compare,
        init_generator=settings.init_generator,
        recorded=recorded(settings),
        title=f"SPADE: {task.name}",
        about=about,
        training=settings.training,
        out=settings.out,
    )


def warnings(settings: Settings, generator: SPADEGenerator) -> list[str]:
    """Of batch norm where batches are single images."""
    processes, norm = PartialState().num_processes, generator.arguments["norm"]
    if norm == "instance" or settings.training.batch_size > 1 or (processes > 1 and norm == "sync_batch"):
        return []
    remedies = ["--norm instance", "a larger --batch-size"] + ["--norm sync_batch"] * (processes > 1)
    return [f"Warning: batch norm takes its statistics over a single image here. Give {' or '.join(remedies)}."]


def initial_spade(path: Path) -> SPADEGenerator:
    generator = initial_generator(path, input_range=SPADEGenerator.input_range)
    if not isinstance(generator, SPADEGenerator):
        raise InputError(
            f"{path} holds a {type(generator).__name__}, where a SPADE generator is expected: give another"
        )
    return generator


def make_generator(settings: Settings, task: SemanticTask, *, initial: SPADEGenerator | None) -> SPADEGenerator:
    height, width = settings.images.size_px
    if initial is not None:
        channels = {"in_channels": task.input.channels, "out_channels": task.output.channels}
        check_channels(initial, path=settings.init_generator, **channels)
        check_size(initial, path=settings.init_generator, height=height, width=width)
        return initial
    multiple = size_multiple_of(settings.num_upsampling_layers)
    return SPADEGenerator(
        in_channels=task.input.channels,
        out_channels=task.output.channels,
        width=settings.width,
        num_upsampling_layers=settings.num_upsampling_layers,
        norm=settings.norm,
        hidden_width=settings.hidden_width,
        latent_channels=settings.latent_channels if settings.style else None,
        latent_height=height // multiple,
        latent_width=width // multiple,
        style_encoder_width=settings.style_width if settings.style else None,
        style_px=min(256, 2 ** (max(height, width).bit_length() - 1)),
    )


def check_size(generator: SPADEGenerator, *, path: Path | None, height: int, width: int) -> None:
    """See that a generator with a latent vector, which paints one size only, paints that of the data."""
    size = tuple(length * generator.size_multiple for length in generator.latent_size)
    if generator.latent_channels is not None and size != (height, width):
        raise InputError(
            f"{path} holds a generator that paints images of {size[1]} x {size[0]} px, and these will be {width} x "
            f"{height} px: give --crop-size {size[1]} --aspect-ratio {size[1] / size[0]:g}"
        )


if __name__ == "__main__":
    own_images = any(argument.startswith(("--data", "--label-dir")) for argument in sys.argv)
    shown = (
        "the paper's"
        if own_images
        else "those for the streets; with --data (and --help behind it) they are the paper's"
    )
    run(main, OWN_IMAGES if own_images else STREETS, description=f"{__doc__}\nThe defaults shown are {shown}.")
