"""Unpaired image-to-image translation in one direction: CUT on your two folders of images, or on the built-in streets.

    python recipes/cut.py --out runs/day2night
    python recipes/cut.py --data datasets/horse2zebra --out runs/horse2zebra
    python recipes/cut.py --a-dir photos --b-dir paintings --out runs/mine
    python recipes/cut.py --data datasets/horse2zebra --init-generator latest_net_G.pth --out runs/tuned

FastCUT, lighter still:  --nce-weight 10 --identity-nce-weight 0 --flip-equivariance

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn

from i2i.checkpoints import GeneratorSpec
from i2i.cli.entry import run
from i2i.data.augment import DiffAugment
from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import ResNetGenerator
from i2i.layers.norm import Norm
from i2i.layers.resample import Upsampling
from i2i.losses.adversarial import Objective, make_objective
from i2i.losses.penalties import Penalties
from i2i.methods.cut import CUT, paper_taps
from i2i.methods.shared import penalty_remarks
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, fingerprints, initial_discriminator, initial_generator
from i2i.training.loop import limit_threads, on_cpu, train
from i2i.training.report import RunFacts, figures_of, print_outcome, recorded
from i2i.training.unpaired import UnpairedData, UnpairedTask, unpaired_task


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train on what.

    Attributes:
        out: folder of the run.
        images: what A and B are; they need the same number of channels.
        width: channels of the generator's first layer.
        blocks: residual blocks of the generator.
        norm: normalisation in both networks.
        dropout: drop half of the features inside the generator's blocks while training.
        antialias: the generator blurs before it halves.
        upsampling: of the generator; "resize" avoids checkerboard patterns.
        skips: the generator hands each size across, as a U-Net does.
        residual: the generator adds the input times this before the last tanh. Neither helps as it helps CycleGAN: with
            both and a larger nce_weight, the generator stays where PatchNCE is least, at its input.
        discriminator_width: channels of the PatchGAN's first layer.
        discriminator_layers: strided layers of the PatchGAN; 3 judge patches of 70 x 70 px.
        spectral: spectral norm in the discriminator.
        init_generator: file or folder with the generator to start from, a ResNet of i2i or another project. It says
            what the network is: width, blocks, norm, dropout, antialias, upsampling, skips and residual then do not
            apply to it.
        init_discriminator: file with the discriminator to start from; discriminator_width, discriminator_layers, norm
            and spectral then do not apply to it.
        objective: adversarial loss.
        nce_weight: weight of PatchNCE between A and what becomes of it.
        identity_nce_weight: weight of PatchNCE between B and what becomes of it; 0: not computed.
        flip_equivariance: half of the steps translate the mirrored images, and compare with the unmirrored ones.
        patches: positions that PatchNCE compares in each stage of each image.
        diff_augment: change what the discriminator sees at random (DiffAugment), for a few hundred images or fewer.
        r1_weight: of the R1 penalty on the discriminator, every 16th step; 0: none. With it the discriminator has
            instance norm in place of batch norm, which the penalty does not allow.
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
        training: settings of the loop.
    """

    out: Path = Path("runs/cut")
    images: UnpairedData = field(default_factory=UnpairedData)
    width: int = 64
    blocks: int = 9
    norm: Norm = "instance"
    dropout: bool = False
    antialias: bool = True
    upsampling: Upsampling = "bilinear"
    skips: bool = False
    residual: float = 0.0
    discriminator_width: int = 64
    discriminator_layers: int = 3
    spectral: bool = False
    init_generator: Path | None = None
    init_discriminator: Path | None = None
    objective: Objective = "lsgan"
    nce_weight: float = 1.0
    identity_nce_weight: float = 1.0
    flip_equivariance: bool = False
    patches: int = 256
    diff_augment: bool = False
    r1_weight: float = 0.0
    compare: tuple[Path, ...] = ()
    training: TrainingSettings = field(
        # 400 epochs of some 1,000 images, as the paper trained on horse2zebra; FastCUT takes half as many.
        default_factory=lambda: TrainingSettings(steps=400_000, best_metric="swd")
    )

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "discriminator_width", "discriminator_layers", "patches"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(self, name)}.")
        for name in ("nce_weight", "identity_nce_weight", "r1_weight"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be at least 0, and is {value}.")


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    out=Path("runs/cut-day2night"),
    width=16,
    blocks=4,
    antialias=False,
    upsampling="resize",
    discriminator_width=24,
    training=TrainingSettings(
        # For five minutes on a CPU: many small steps teach more than few large ones.
        steps=3000,
        generator_learning_rate=6e-4,
        discriminator_learning_rate=3e-4,
        ema_decay=0.99,
        validate_every_steps=500,
        save_every_steps=500,
        preview_images=12,
        best_metric="l1",
        workers=0,
        threads=2,
    ),
)


def main(settings: Settings) -> None:
    limit_threads(settings.training)
    side_px = settings.images.side_px
    generator, size_multiple = None, 4
    if settings.init_generator is not None:
        generator = initial_resnet(settings.init_generator, side_px=side_px)
        size_multiple = generator.size_multiple
    discriminator, smallest_px = None, 3 * 2**settings.discriminator_layers
    if settings.init_discriminator is not None:
        discriminator = initial_discriminator(settings.init_discriminator, side_px=side_px)
        smallest_px = getattr(discriminator, "smallest_px", 1)
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training)).main_process_first():
        task = unpaired_task(
            settings.images,
            seed=settings.training.seed,
            batch_size=settings.training.batch_size,
            size_multiple=size_multiple,
            smallest_px=smallest_px,
        )
    if PartialState().is_main_process:
        print(task.about)

    torch.manual_seed(settings.training.seed)
    generator = make_generator(settings, task, initial=generator)
    method = CUT(
        generator=generator,
        discriminator=make_discriminator(settings, task, initial=discriminator),
        taps=paper_taps(downsamplings=len(generator.down), blocks=len(generator.blocks)),
        objective=make_objective(settings.objective),
        nce_weight=settings.nce_weight,
        identity_nce_weight=settings.identity_nce_weight,
        flip_equivariance=settings.flip_equivariance,
        patches=settings.patches,
        penalties=Penalties(r1=settings.r1_weight, every_steps=16),
        augment=DiffAugment() if settings.diff_augment else None,
        figures=task.figures,
    )
    if PartialState().is_main_process:
        judge, precision = method.discriminators["discriminator"], settings.training.precision
        for remark in penalty_remarks(method.penalties, discriminator=judge, precision=precision):
            print(remark)
    baselines = task.baselines | figures_of(settings.compare, fingerprint=task.fingerprint)
    result = train(
        method=method,
        training_data=task.training,
        validation_data=task.held_out,
        specs={"generator": GeneratorSpec(input=task.a, output=task.b)},
        settings=settings.training,
        out=settings.out,
        facts=RunFacts(
            title=f"CUT: {task.name}",
            about=f"{task.about}\nThe generator makes B of A.",
            settings=identity(settings),
            fingerprint=task.fingerprint,
            baselines=baselines,
            compare=settings.compare,
        ),
        baseline_images=task.baseline_images,
    )
    if PartialState().is_main_process:
        print_outcome(result.metrics, result.baselines, out=settings.out)


def initial_resnet(path: Path, *, side_px: int | None) -> ResNetGenerator:
    generator = initial_generator(path, side_px=side_px)
    if not isinstance(generator, ResNetGenerator):
        raise InputError(
            f"{path} holds a {type(generator).__name__}, and CUT compares features inside of a ResNetGenerator: give "
            "the weights of one, or take recipes/cyclegan.py"
        )
    return generator


def make_generator(settings: Settings, task: UnpairedTask, *, initial: ResNetGenerator | None) -> ResNetGenerator:
    channels = {"in_channels": task.a.channels, "out_channels": task.b.channels}
    if initial is not None:
        check_channels(initial, path=settings.init_generator, **channels)
        return initial
    return ResNetGenerator(
        **channels,
        width=settings.width,
        blocks=settings.blocks,
        norm=settings.norm,
        dropout=settings.dropout,
        antialias=settings.antialias,
        upsampling=settings.upsampling,
        skips=settings.skips,
        residual=settings.residual,
    )


def make_discriminator(settings: Settings, task: UnpairedTask, *, initial: nn.Module | None) -> nn.Module:
    if initial is not None:
        path = settings.init_discriminator
        check_channels(initial, path=path, in_channels=task.b.channels, out_channels=1)
        return initial
    # Batch norm would let the images of a batch influence one another's penalty.
    return PatchDiscriminator(
        in_channels=task.b.channels,
        width=settings.discriminator_width,
        layers=settings.discriminator_layers,
        norm="instance" if settings.r1_weight and settings.norm == "batch" else settings.norm,
        spectral=settings.spectral,
    )


def identity(settings: Settings) -> dict[str, Any]:
    """What a resumed run must have in common with this one."""
    weights = {"init_generator": settings.init_generator, "init_discriminator": settings.init_discriminator}
    return recorded(settings) | fingerprints(weights)


if __name__ == "__main__":
    own_images = any(argument.startswith(("--data", "--a-dir", "--b-dir")) for argument in sys.argv)
    shown = (
        "the paper's"
        if own_images
        else "those for the streets; with --data (and --help behind it) they are the paper's"
    )
    run(main, OWN_IMAGES if own_images else STREETS, description=f"{__doc__}\nThe defaults shown are {shown}.")
