"""Unpaired image-to-image translation: CycleGAN on your two folders of images, or on the built-in streets.

    python recipes/cyclegan.py --out runs/day2night
    python recipes/cyclegan.py --data datasets/horse2zebra --out runs/horse2zebra
    python recipes/cyclegan.py --a-dir photos --b-dir paintings --out runs/mine

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.cli.entry import run
from i2i.data.augment import DiffAugment
from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import ResNetGenerator
from i2i.layers.norm import Norm
from i2i.layers.resample import Upsampling
from i2i.losses.adversarial import Objective, make_objective
from i2i.methods.cyclegan import CycleGAN
from i2i.training.config import TrainingSettings
from i2i.training.loop import on_cpu, train
from i2i.training.report import RunFacts, print_figures, recorded
from i2i.training.unpaired import UnpairedData, unpaired_task


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train on what.

    Attributes:
        out: folder of the run.
        images: what A and B are.
        width: channels of the generators' first layer.
        blocks: residual blocks of the generators; the paper takes 6 for 128 px and 9 from 256 px on.
        norm: normalisation in all networks.
        dropout: drop half of the features inside the generators' blocks while training.
        upsampling: of the generators; "resize" avoids checkerboard patterns.
        skips: the generators hand each size across, as a U-Net does.
        residual: the generators add the input times this before the last tanh, so that only the change is learnt.
        discriminator_width: channels of the PatchGANs' first layer.
        discriminator_layers: strided layers of the PatchGANs; 3 judge patches of 70 x 70 px.
        spectral: spectral norm in the discriminators.
        objective: adversarial loss.
        cycle_weight: weight of the round trips.
        identity_weight: weight, next to that of the round trips, of leaving images of the target side as they are;
            None: 0.5, or 0 where A and B have different numbers of channels.
        identity_until: share of the run after which that weight has fallen linearly to 0; None: it stays.
        pool_size: earlier generated images that the discriminators are shown.
        diff_augment: change what the discriminators see at random (DiffAugment), for a few hundred images or fewer.
        r1_weight: of the R1 penalty on the discriminators, every 16th step; 0: none.
        training: settings of the loop.
    """

    out: Path = Path("runs/cyclegan")
    images: UnpairedData = field(default_factory=UnpairedData)
    width: int = 64
    blocks: int = 9
    norm: Norm = "instance"
    dropout: bool = False
    upsampling: Upsampling = "transposed"
    skips: bool = False
    residual: float = 0.0
    discriminator_width: int = 64
    discriminator_layers: int = 3
    spectral: bool = False
    objective: Objective = "lsgan"
    cycle_weight: float = 10.0
    identity_weight: float | None = None
    identity_until: float | None = None
    pool_size: int = 50
    diff_augment: bool = False
    r1_weight: float = 0.0
    training: TrainingSettings = field(
        # 200 epochs of some 1,000 images, as the paper trained on horse2zebra.
        default_factory=lambda: TrainingSettings(steps=200_000, best_metric="swd")
    )

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "discriminator_width", "discriminator_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(self, name)}.")
        for name in ("cycle_weight", "identity_weight", "pool_size", "r1_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be at least 0, and is {value}.")
        if self.identity_until is not None and not 0 < self.identity_until <= 1:
            raise InputError(f"--identity-until must be above 0 and at most 1, and is {self.identity_until}.")


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    out=Path("runs/day2night"),
    width=16,
    blocks=4,
    upsampling="resize",
    skips=True,
    residual=1.5,
    discriminator_width=24,
    training=TrainingSettings(
        # For a few minutes on two cores: many small steps teach more than few large ones.
        steps=3000,
        ema_decay=0.99,
        validate_every_steps=500,
        save_every_steps=500,
        preview_images=12,
        best_metric="l1",
        workers=0,
    ),
)


def main(settings: Settings) -> None:
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training)).main_process_first():
        task = unpaired_task(settings.images, seed=settings.training.seed, size_multiple=4)
    if PartialState().is_main_process:
        print(task.about)

    identity_weight = settings.identity_weight
    if identity_weight is None:
        identity_weight = 0.5 if task.a.channels == task.b.channels else 0.0
    identity_steps = None
    if settings.identity_until is not None:
        identity_steps = round(settings.identity_until * settings.training.steps)
    torch.manual_seed(settings.training.seed)
    method = CycleGAN(
        a_to_b=make_generator(settings, task.a, task.b),
        b_to_a=make_generator(settings, task.b, task.a),
        discriminator_a=make_discriminator(settings, task.a),
        discriminator_b=make_discriminator(settings, task.b),
        objective=make_objective(settings.objective),
        cycle_weight=settings.cycle_weight,
        identity_weight=identity_weight,
        identity_steps=identity_steps,
        pool_size=settings.pool_size,
        r1_weight=settings.r1_weight,
        augment=DiffAugment() if settings.diff_augment else None,
        figures=task.figures,
    )
    result = train(
        method=method,
        training_data=task.training,
        validation_data=task.held_out,
        specs={
            "a_to_b": GeneratorSpec(input=task.a, output=task.b),
            "b_to_a": GeneratorSpec(input=task.b, output=task.a),
        },
        settings=settings.training,
        out=settings.out,
        facts=RunFacts(
            title=f"CycleGAN: {task.name}",
            about=f"{task.about} a_to_b makes B of A, and b_to_a makes A of B.",
            settings=recorded(settings),
            fingerprint=task.fingerprint,
            baselines=task.baselines,
        ),
    )
    if PartialState().is_main_process:
        print_figures(result.metrics, task.baselines)
        print(f"Look at {settings.out / 'samples.png'} and {settings.out / 'report.html'}")


def make_generator(settings: Settings, source: ImageSide, target: ImageSide) -> nn.Module:
    return ResNetGenerator(
        in_channels=source.channels,
        out_channels=target.channels,
        width=settings.width,
        blocks=settings.blocks,
        norm=settings.norm,
        dropout=settings.dropout,
        upsampling=settings.upsampling,
        skips=settings.skips,
        residual=settings.residual,
    )


def make_discriminator(settings: Settings, side: ImageSide) -> nn.Module:
    return PatchDiscriminator(
        in_channels=side.channels,
        width=settings.discriminator_width,
        layers=settings.discriminator_layers,
        norm=settings.norm,
        spectral=settings.spectral,
    )


if __name__ == "__main__":
    own_images = any(argument.startswith(("--data", "--a-dir", "--b-dir")) for argument in sys.argv)
    shown = "the paper's" if own_images else "those for the streets; with --data they are the paper's"
    run(main, OWN_IMAGES if own_images else STREETS, description=f"{__doc__}\nThe defaults shown are {shown}.")
