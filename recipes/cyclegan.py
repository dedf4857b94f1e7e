"""Unpaired image-to-image translation: CycleGAN on your two folders of images, or on the built-in streets.

    python recipes/cyclegan.py --out runs/day2night
    python recipes/cyclegan.py --data datasets/horse2zebra --out runs/horse2zebra
    python recipes/cyclegan.py --a-dir photos --b-dir paintings --out runs/mine
    python recipes/cyclegan.py --data datasets/horse2zebra --out runs/tuned \\
        --init-generator latest_net_G_A.pth latest_net_G_B.pth \\
        --init-discriminator latest_net_D_A.pth latest_net_D_B.pth

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from i2i.losses.penalties import Penalties
from i2i.methods.cyclegan import CycleGAN
from i2i.methods.shared import penalty_remarks
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, fingerprints, initial_discriminator, initial_generator
from i2i.training.loop import limit_threads, on_cpu, train
from i2i.training.report import RunFacts, figures_of, print_outcome, recorded
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
        init_generator: files or folders with the generators to start from, of i2i or another project: that of A → B,
            then that of B → A, which may be left out. They say what these networks are: width, blocks, norm, dropout,
            upsampling, skips and residual then do not apply to them.
        init_discriminator: files with the discriminators to start from, in the same order: the one that judges what
            A → B makes, so images of B (the original calls it D_A, after its generator), then the one that judges what
            B → A makes. discriminator_width, discriminator_layers, norm and spectral then do not apply to them.
        objective: adversarial loss.
        cycle_weight: weight of the round trips.
        identity_weight: weight, next to that of the round trips, of leaving images of the target side as they are;
            None: 0.5, or 0 where A and B have different numbers of channels.
        identity_until: share of the run after which that weight has fallen linearly to 0; None: it stays.
        cycle_noise: deviation of the noise that a translation gets before it is brought back, so that nothing can be
            hidden in it; images are in [-1, 1], and 0.05 helps.
        pool_size: earlier generated images that the discriminators are shown.
        blur_px: deviation of the blur through which the discriminators see everything at first; 0: none. It makes them
            judge the large before the small.
        blur_until: share of the run after which that blur has fallen linearly to 0; above 1 some is left at the end.
        diff_augment: change what the discriminators see at random (DiffAugment), for a few hundred images or fewer.
        r1_weight: of the R1 penalty on the discriminators, every 16th step; 0: none. With it they have instance norm
            in place of batch norm, which the penalty does not allow.
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
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
    init_generator: tuple[Path, ...] = ()
    init_discriminator: tuple[Path, ...] = ()
    objective: Objective = "lsgan"
    cycle_weight: float = 10.0
    identity_weight: float | None = None
    identity_until: float | None = None
    cycle_noise: float = 0.0
    pool_size: int = 50
    blur_px: float = 0.0
    blur_until: float = 1.0
    diff_augment: bool = False
    r1_weight: float = 0.0
    compare: tuple[Path, ...] = ()
    training: TrainingSettings = field(
        # 200 epochs of some 1,000 images, as the paper trained on horse2zebra.
        default_factory=lambda: TrainingSettings(steps=200_000, best_metric="swd")
    )

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "discriminator_width", "discriminator_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(self, name)}.")
        for name in ("cycle_weight", "identity_weight", "cycle_noise", "pool_size", "blur_px", "r1_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be at least 0, and is {value}.")
        for name in ("identity_until", "blur_until"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be above 0, and is {value}.")
        for name in ("init_generator", "init_discriminator"):
            count = len(getattr(self, name))
            if count > 2:
                raise InputError(
                    f"--{name.replace('_', '-')} takes two files, that of A → B and that of B → A, and got {count}."
                )

    @property
    def initial_generators(self) -> dict[str, Path]:
        """Weights to start from, by the generator's name."""
        return dict(zip(("a_to_b", "b_to_a"), self.init_generator, strict=False))

    @property
    def initial_discriminators(self) -> dict[str, Path]:
        """Weights to start from, by the side that the discriminator judges."""
        return dict(zip(("b", "a"), self.init_discriminator, strict=False))


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    out=Path("runs/day2night"),
    width=16,
    blocks=3,
    upsampling="resize",
    skips=True,
    residual=0.5,
    discriminator_width=24,
    identity_weight=0.0,  # two passes less, so that there are more steps in the same time
    cycle_noise=0.05,
    blur_px=2.0,
    blur_until=1.5,
    training=TrainingSettings(
        # For ten minutes on a CPU.
        steps=7000,
        discriminator_learning_rate=4e-4,
        decay_from=0.4,
        ema_decay=0.999,
        validate_every_steps=1000,
        save_every_steps=1000,
        preview_images=12,
        best_metric="l1",
        workers=0,
        threads=2,
    ),
)


def main(settings: Settings) -> None:
    limit_threads(settings.training)
    side_px = settings.images.side_px
    generators = {name: initial_generator(path, side_px=side_px) for name, path in settings.initial_generators.items()}
    discriminators = {
        side: initial_discriminator(path, side_px=side_px) for side, path in settings.initial_discriminators.items()
    }
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training)).main_process_first():
        task = unpaired_task(
            settings.images,
            seed=settings.training.seed,
            batch_size=settings.training.batch_size,
            size_multiple=math.lcm(4, *(network.size_multiple for network in generators.values())),
            smallest_px=smallest_px(settings, [*generators.values(), *discriminators.values()]),
        )
    about = "\n".join([task.about, "a_to_b makes B of A, and b_to_a makes A of B.", *beginnings(settings)])
    if PartialState().is_main_process:
        print(about)

    identity_weight = settings.identity_weight
    if identity_weight is None:
        identity_weight = 0.5 if task.a.channels == task.b.channels else 0.0
    identity_steps = None
    if settings.identity_until is not None:
        identity_steps = max(1, round(settings.identity_until * settings.training.steps))
    torch.manual_seed(settings.training.seed)
    method = CycleGAN(
        a_to_b=make_generator(settings, "a_to_b", task.a, task.b, initial=generators),
        b_to_a=make_generator(settings, "b_to_a", task.b, task.a, initial=generators),
        discriminator_a=make_discriminator(settings, "a", task.a, initial=discriminators),
        discriminator_b=make_discriminator(settings, "b", task.b, initial=discriminators),
        objective=make_objective(settings.objective),
        cycle_weight=settings.cycle_weight,
        identity_weight=identity_weight,
        identity_steps=identity_steps,
        cycle_noise=settings.cycle_noise,
        pool_size=settings.pool_size,
        blur_px=settings.blur_px,
        blur_steps=round(settings.blur_until * settings.training.steps),
        penalties=Penalties(r1=settings.r1_weight, every_steps=16),
        augment=DiffAugment() if settings.diff_augment else None,
        figures=task.figures,
    )
    if PartialState().is_main_process:
        judges, precision = nn.ModuleList(method.discriminators.values()), settings.training.precision
        for remark in penalty_remarks(method.penalties, discriminator=judges, precision=precision):
            print(remark)
    baselines = task.baselines | figures_of(settings.compare, fingerprint=task.fingerprint)
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
            about=about,
            settings=identity(settings),
            fingerprint=task.fingerprint,
            baselines=baselines,
            compare=settings.compare,
        ),
        baseline_images=task.baseline_images,
    )
    if PartialState().is_main_process:
        print_outcome(result.metrics, result.baselines, out=settings.out)


def make_generator(
    settings: Settings, name: str, source: ImageSide, target: ImageSide, *, initial: dict[str, nn.Module]
) -> nn.Module:
    channels = {"in_channels": source.channels, "out_channels": target.channels}
    if name in initial:
        check_channels(initial[name], path=settings.initial_generators[name], **channels)
        return initial[name]
    if settings.residual and source.channels != target.channels:
        raise InputError(
            f"--residual adds an image to what is made of it, but {name} gets {source.channels} channels and makes "
            f"{target.channels}: give --residual 0."
        )
    return ResNetGenerator(
        **channels,
        width=settings.width,
        blocks=settings.blocks,
        norm=settings.norm,
        dropout=settings.dropout,
        upsampling=settings.upsampling,
        skips=settings.skips,
        residual=settings.residual,
    )


def make_discriminator(settings: Settings, side: str, images: ImageSide, *, initial: dict[str, nn.Module]) -> nn.Module:
    if side in initial:
        path = settings.initial_discriminators[side]
        check_channels(initial[side], path=path, in_channels=images.channels, out_channels=1)
        return initial[side]
    # Batch norm would let the images of a batch influence one another's penalty.
    return PatchDiscriminator(
        in_channels=images.channels,
        width=settings.discriminator_width,
        layers=settings.discriminator_layers,
        norm="instance" if settings.r1_weight and settings.norm == "batch" else settings.norm,
        spectral=settings.spectral,
    )


def smallest_px(settings: Settings, initial: Sequence[nn.Module]) -> int:
    """The shortest side that all networks can take."""
    needed = [getattr(network, "smallest_px", 1) for network in initial]
    if len(settings.init_discriminator) < 2:
        needed.append(3 * 2**settings.discriminator_layers)
    return max(needed)


def beginnings(settings: Settings) -> list[str]:
    """Which networks start from which weights; nothing where none does."""
    starts = [f"{name} starts from {path}." for name, path in settings.initial_generators.items()]
    for side, path in settings.initial_discriminators.items():
        starts.append(f"The discriminator of {side.upper()} starts from {path}.")
    if 0 < len(starts) < 4:
        starts.append("The other networks start from scratch.")
    return starts


def identity(settings: Settings) -> dict[str, Any]:
    """What a resumed run must have in common with this one."""
    weights = {f"init_generator_{name}": path for name, path in settings.initial_generators.items()}
    weights |= {f"init_discriminator_{side}": path for side, path in settings.initial_discriminators.items()}
    return recorded(settings) | fingerprints(weights)


if __name__ == "__main__":
    own_images = any(argument.startswith(("--data", "--a-dir", "--b-dir")) for argument in sys.argv)
    shown = (
        "the paper's"
        if own_images
        else "those for the streets; with --data (and --help behind it) they are the paper's"
    )
    run(main, OWN_IMAGES if own_images else STREETS, description=f"{__doc__}\nThe defaults shown are {shown}.")
