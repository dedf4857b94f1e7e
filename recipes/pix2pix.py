"""Paired image-to-image translation: pix2pix on your folder of pairs, or on the built-in streets.

    python recipes/pix2pix.py --out runs/demo
    python recipes/pix2pix.py --data datasets/facades --direction BtoA --out runs/facades
    python recipes/pix2pix.py --input-dir labels --target-dir photos --out runs/mine
    python recipes/pix2pix.py --data datasets/facades --init-generator latest_net_G.pth --out runs/tuned

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.cli.entry import run
from i2i.data.augment import DiffAugment
from i2i.data.folders import (
    Direction,
    Pair,
    PairedImages,
    SideInfo,
    find_pairs,
    fingerprint,
    has_phase,
    pair_folders,
    probe_pairs,
)
from i2i.data.streets import CLASSES, StreetPairs
from i2i.data.transforms import ImageTransform
from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import UNetGenerator
from i2i.layers.norm import Norm, Normalisation
from i2i.layers.resample import Upsampling
from i2i.losses.adversarial import Objective, make_objective
from i2i.losses.penalties import Penalties
from i2i.methods.base import COMPARED, Comparison
from i2i.methods.pix2pix import Pix2Pix
from i2i.methods.shared import penalty_remarks
from i2i.metrics import COLOUR_LEVELS, MeanPainter, colours_as_classes, painting_baseline
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, fingerprints, initial_discriminator, initial_generator
from i2i.training.loop import on_cpu, train
from i2i.training.measures import BaselineImages
from i2i.training.report import RunFacts, print_outcome, recorded

TRAINING_STREETS = 2000
HELD_OUT_STREETS = 64
STREET_SIZE_PX = 128
ROW_MEAN = "class and row mean"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train on what.

    Attributes:
        out: folder of the run.
        data: folder of pairs: train/ and test/ (or val/) with A and B side by side in each file, or trainA/,
            trainB/, testA/, testB/ with equal names. None: the built-in streets.
        input_dir: in place of `data`: folder of input images.
        target_dir: in place of `data`: folder of target images, with the same names.
        direction: which of A and B is the input.
        load_size: training images are first resized to a square of this side in px; None: not resized.
        crop_size: training images are then cropped at random to a square of this side in px; None: not cropped.
        flip: mirror half of the training images.
        input_range: values of input images that mean black and white; None: those of the files' depth.
        target_range: likewise, of target images.
        width: channels of the U-Net's first layer; deeper ones have up to 8 times as many.
        depth: how often the U-Net halves the image; its sides must be multiples of 2 ** depth.
        norm: normalisation in both networks.
        dropout: drop half of the features in the U-Net's deepest blocks while training.
        upsampling: of the U-Net; "resize" avoids checkerboard patterns.
        full_size_skip: the U-Net also sees the input at its last layer, for crisp edges.
        normalisation: BatchNorm at inference: running statistics ("eval") or those of each image ("per_image").
        discriminator_width: channels of the PatchGAN's first layer.
        discriminator_layers: strided layers of the PatchGAN; 3 judge patches of 70 x 70 px.
        spectral: spectral norm in the discriminator.
        init_generator: file or folder with the generator to start from, of i2i or another project. It says what the
            network is: width, depth, norm, dropout, upsampling and full_size_skip then do not apply to the generator.
        init_discriminator: file with the discriminator to start from; discriminator_width, discriminator_layers, norm
            and spectral then do not apply to it.
        objective: adversarial loss.
        l1_weight: weight of the L1 loss.
        diff_augment: change what the discriminator sees at random (DiffAugment), for a few hundred pairs or fewer.
        r1_weight: of the R1 penalty on the discriminator, every 16th step; 0: none. With it the discriminator has
            instance norm in place of batch norm, which the penalty does not allow.
        training: settings of the loop.
    """

    out: Path = Path("runs/pix2pix")
    data: Path | None = None
    input_dir: Path | None = None
    target_dir: Path | None = None
    direction: Direction = "AtoB"
    load_size: int | None = 286
    crop_size: int | None = 256
    flip: bool = True
    input_range: tuple[float, float] | None = None
    target_range: tuple[float, float] | None = None
    width: int = 64
    depth: int = 8
    norm: Norm = "batch"
    dropout: bool = True
    upsampling: Upsampling = "transposed"
    full_size_skip: bool = False
    normalisation: Normalisation = "eval"
    discriminator_width: int = 64
    discriminator_layers: int = 3
    spectral: bool = False
    init_generator: Path | None = None
    init_discriminator: Path | None = None
    objective: Objective = "non_saturating"
    l1_weight: float = 100.0
    diff_augment: bool = False
    r1_weight: float = 0.0
    training: TrainingSettings = field(
        # 200 epochs of 400 pairs, as the paper trained on facades.
        default_factory=lambda: TrainingSettings(steps=80_000, best_metric="l1")
    )

    def __post_init__(self) -> None:
        if self.data is not None and (self.input_dir or self.target_dir):
            raise InputError("--data and --input-dir with --target-dir exclude each other. Give one of the two.")
        if (self.input_dir is None) != (self.target_dir is None):
            raise InputError("--input-dir and --target-dir belong together. Give both, or --data.")
        for name in ("width", "depth", "discriminator_width", "discriminator_layers", "load_size", "crop_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {value}.")
        for name in ("l1_weight", "r1_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be at least 0, and is {getattr(self, name)}.")
        side = self.crop_size or self.load_size
        if side and self.init_generator is None and side % 2**self.depth:
            fits = max(depth for depth in range(self.depth) if side % 2**depth == 0)
            raise InputError(
                f"--depth {self.depth} needs images whose sides are multiples of {2**self.depth} px, and these will "
                f"be {side} px: give --depth {fits}, or another --crop-size."
            )
        if side and self.init_discriminator is None and side < 3 * 2**self.discriminator_layers:
            raise InputError(
                f"--discriminator-layers {self.discriminator_layers} needs images of at least "
                f"{3 * 2**self.discriminator_layers} px, and these will be {side} px: give fewer layers."
            )


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    out=Path("runs/streets"),
    width=32,
    depth=5,
    dropout=False,
    upsampling="resize",
    full_size_skip=True,
    normalisation="per_image",
    discriminator_width=24,
    l1_weight=70.0,
    training=TrainingSettings(
        # For a few minutes on two cores: many small steps teach more than few large ones.
        steps=3000,
        batch_size=1,
        generator_learning_rate=1e-3,
        discriminator_learning_rate=4e-4,
        ema_decay=0.99,
        validate_every_steps=500,
        save_every_steps=500,
        preview_images=12,
        best_metric="l1",
        workers=0,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """The data of a run, and what is known about it."""

    training: Dataset
    held_out: Dataset
    input: ImageSide
    target: ImageSide
    facts: RunFacts
    baseline_images: BaselineImages


def main(settings: Settings) -> int:
    settings.training.check_best_metric("psnr", "ssim", "l1", "sharpness")
    streets = settings.data is None and settings.input_dir is None
    side_px = STREET_SIZE_PX if streets else settings.crop_size or settings.load_size
    generator = discriminator = None
    if settings.init_generator is not None:
        generator = initial_generator(settings.init_generator, side_px=side_px)
    if settings.init_discriminator is not None:
        discriminator = initial_discriminator(settings.init_discriminator, side_px=side_px)
    size_multiple = 2**settings.depth if generator is None else generator.size_multiple
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training)).main_process_first():
        task = street_task(settings) if streets else folder_task(settings, size_multiple=size_multiple)

    torch.manual_seed(settings.training.seed)
    method = Pix2Pix(
        generator=make_generator(settings, task, initial=generator),
        discriminator=make_discriminator(settings, task, initial=discriminator),
        objective=make_objective(settings.objective),
        l1_weight=settings.l1_weight,
        augment=DiffAugment() if settings.diff_augment else None,
        penalties=Penalties(r1=settings.r1_weight, every_steps=16),
    )
    if PartialState().is_main_process:
        judge, precision = method.discriminators["discriminator"], settings.training.precision
        for remark in penalty_remarks(method.penalties, discriminator=judge, precision=precision):
            print(remark)
    spec = GeneratorSpec(input=task.input, output=task.target, normalisation=settings.normalisation)
    result = train(
        method=method,
        training_data=task.training,
        validation_data=task.held_out,
        specs={"generator": spec},
        settings=settings.training,
        out=settings.out,
        facts=task.facts,
        baseline_images=task.baseline_images,
    )
    if not PartialState().is_main_process:
        return 0
    print_outcome(result.metrics, result.baselines, out=settings.out)
    return gate(result.metrics, task.facts.baselines[ROW_MEAN]) if streets else 0


def make_generator(settings: Settings, task: Task, *, initial: nn.Module | None) -> nn.Module:
    channels = {"in_channels": task.input.channels, "out_channels": task.target.channels}
    if initial is not None:
        check_channels(initial, path=settings.init_generator, **channels)
        return initial
    return UNetGenerator(
        **channels,
        width=settings.width,
        depth=settings.depth,
        norm=settings.norm,
        dropout=settings.dropout,
        upsampling=settings.upsampling,
        full_size_skip=settings.full_size_skip,
    )


def make_discriminator(settings: Settings, task: Task, *, initial: nn.Module | None) -> nn.Module:
    in_channels = task.input.channels + task.target.channels
    if initial is not None:
        check_channels(initial, path=settings.init_discriminator, in_channels=in_channels, out_channels=1)
        return initial
    # Batch norm would let the images of a batch influence one another's penalty.
    return PatchDiscriminator(
        in_channels=in_channels,
        width=settings.discriminator_width,
        layers=settings.discriminator_layers,
        norm="instance" if settings.r1_weight and settings.norm == "batch" else settings.norm,
        spectral=settings.spectral,
    )


def street_task(settings: Settings) -> Task:
    """Colour-coded label maps to photographs of the built-in streets."""
    training = StreetPairs(count=TRAINING_STREETS, size=STREET_SIZE_PX)
    held_out = StreetPairs(count=HELD_OUT_STREETS, size=STREET_SIZE_PX, first_seed=TRAINING_STREETS)

    def labelled(streets: StreetPairs) -> Iterator[tuple[Tensor, Tensor]]:
        return ((torch.tensor(streets.labels(index)), streets[index]["target"]) for index in range(len(streets)))

    painters = {
        name: MeanPainter(classes=len(CLASSES), rows=rows)
        for name, rows in (("class mean", 1), (ROW_MEAN, STREET_SIZE_PX))
    }
    baselines = {
        name: painting_baseline(painter, training=labelled(training), held_out=labelled(held_out))
        for name, painter in painters.items()
    }
    image = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    return Task(
        training=training,
        held_out=held_out,
        input=image,
        target=image,
        baseline_images={
            name: partial(painted, painter, partial(labelled, held_out)) for name, painter in painters.items()
        },
        facts=RunFacts(
            title="pix2pix: label map to street",
            about="Paints photographs of procedural streets from colour-coded label maps "
            f"({TRAINING_STREETS} streets to learn from, {HELD_OUT_STREETS} held out).",
            settings=identity(settings),
            fingerprint=training.fingerprint,
            baselines=baselines,
        ),
    )


def folder_task(settings: Settings, *, size_multiple: int) -> Task:
    """Pairs from a person's own folders."""
    pairs, held_out_pairs = find(settings)
    info = probe_pairs(pairs, input_range=settings.input_range, target_range=settings.target_range)
    probe_pairs(
        held_out_pairs,
        input_channels=info.input.channels,
        target_channels=info.target.channels,
        input_range=info.input.data_range,
        target_range=info.target.data_range,
    )
    if settings.load_size is None and settings.crop_size is None and info.smallest_px != info.largest_px:
        raise InputError(
            f"The images' sides go from {min(info.smallest_px)} to {max(info.largest_px)} px. Batches need one size: "
            f"give --crop-size, a multiple of {size_multiple}."
        )
    if PartialState().is_main_process:
        print(f"{len(pairs)} pairs to learn from, {len(held_out_pairs)} held out")
        print(f"input: {described(info.input)}; target: {described(info.target)}")
    transform = ImageTransform(
        load_size=settings.load_size,
        crop_size=settings.crop_size,
        flip=settings.flip,
        size_multiple=size_multiple,
    )
    training = PairedImages(pairs=pairs, transform=transform, input=info.input, target=info.target)
    held_out = PairedImages(pairs=held_out_pairs, transform=transform, input=info.input, target=info.target)

    def labelled(images: PairedImages, every: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        items = (images[index] for index in range(0, len(images), every))
        return ((colours_as_classes(item["input"][None])[0], item["target"]) for item in items)

    baselines: dict[str, dict[str, float]] = {}
    baseline_images: dict[str, Callable[[], Iterator[dict[str, Comparison]]]] = {}
    if info.input.channels == 3 and info.input.dtype == "uint8":
        name, painter = "mean of each input colour", MeanPainter(classes=COLOUR_LEVELS**info.input.channels)
        baselines[name] = painting_baseline(
            painter,
            training=labelled(training, every=max(1, len(training) // 200)),
            held_out=labelled(held_out),
        )
        baseline_images[name] = partial(painted, painter, partial(labelled, held_out))
    return Task(
        training=training,
        held_out=held_out,
        input=ImageSide(**asdict(info.input)),
        target=ImageSide(**asdict(info.target)),
        baseline_images=baseline_images,
        facts=RunFacts(
            title=f"pix2pix: {(settings.data or settings.out).name}",
            about=f"Learned from {len(pairs)} pairs of images; {len(held_out_pairs)} are held out.",
            settings=identity(settings),
            fingerprint=fingerprint(pairs),
            baselines=baselines,
        ),
    )


def painted(
    painter: MeanPainter, held_out: Callable[[], Iterator[tuple[Tensor, Tensor]]]
) -> Iterator[dict[str, Comparison]]:
    """Held-out images as a baseline paints them, beside the real ones."""
    for labels, image in held_out():
        yield {COMPARED: Comparison(generated=painter.paint(labels[None]), real=image[None], truth=image[None])}


def identity(settings: Settings) -> dict[str, Any]:
    """What a resumed run must have in common with this one."""
    weights = {"init_generator": settings.init_generator, "init_discriminator": settings.init_discriminator}
    return recorded(settings) | fingerprints(weights)


def find(settings: Settings) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs; without a held-out folder every tenth pair is held out."""
    if settings.data is None:
        assert settings.input_dir is not None and settings.target_dir is not None
        pairs = pair_folders(settings.input_dir, settings.target_dir)
    else:
        pairs = find_pairs(settings.data, phase="train", direction=settings.direction)
        for phase in ("test", "val"):
            if has_phase(settings.data, phase):
                return pairs, find_pairs(settings.data, phase=phase, direction=settings.direction)
    if len(pairs) < 2:
        raise InputError(f"{pairs[0].input} is the only pair; at least two are needed, one of them to hold out.")
    return [pair for i, pair in enumerate(pairs) if i % 10], pairs[::10]


def described(side: SideInfo) -> str:
    channels = "1 channel" if side.channels == 1 else f"{side.channels} channels"
    return f"{channels} of {side.dtype}, black at {side.data_range[0]:g} and white at {side.data_range[1]:g}"


def gate(metrics: dict[str, float], baseline: dict[str, float]) -> int:
    """Whether the built-in job was learned: 0, or 1 with what is missing printed."""
    missed = []
    if metrics["l1"] > 0.9 * baseline["l1"]:
        missed.append(f"l1 {metrics['l1']:.4f} is above 0.9 x {baseline['l1']:.4f}")
    if metrics["ssim"] < baseline["ssim"] + 0.03:
        missed.append(f"ssim {metrics['ssim']:.4f} is below {baseline['ssim']:.4f} + 0.03")
    if not 0.5 <= metrics["sharpness"] <= 1.5:
        missed.append(f"sharpness {metrics['sharpness']:.2f} is not between 0.5 and 1.5")
    if missed:
        print(
            f"The demo's goals, set for its {STREETS.training.steps} steps, are missed: {'; '.join(missed)}.",
            file=sys.stderr,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    own_images = any(argument.startswith(("--data", "--input-dir", "--target-dir")) for argument in sys.argv)
    shown = (
        "the paper's"
        if own_images
        else "those for the streets; with --data (and --help behind it) they are the paper's"
    )
    description = f"{__doc__}\nThe defaults shown are {shown}."
    run(main, OWN_IMAGES if own_images else STREETS, description=description)
