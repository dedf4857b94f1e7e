"""Super-resolution that looks sharp: SRGAN and ESRGAN, in two stages.

    python recipes/esrgan.py --out runs/esrgan
    python recipes/esrgan.py --data photos --init-generator runs/mine --perceptual off --out runs/sharp
    python recipes/esrgan.py --data datasets/div2k --init-generator RRDB_PSNR_x4.pth --out runs/esrgan
    python recipes/esrgan.py --data photos --network srresnet --objective non_saturating --psnr-steps 500000

The first stage comes as near to the truth as it can, and takes --psnr-steps; or its weights are there already, from
recipes/superres_psnr.py or another project, and --init-generator names them. The second stage, with a discriminator,
trains them on. `i2i blend runs/esrgan/psnr runs/esrgan --alpha 0.8` mixes the two results.

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState

from i2i.cli.entry import run
from i2i.losses.perceptual import ESRGAN_LAYERS
from i2i.training.config import TrainingSettings
from i2i.training.loop import PATIENCE, limit_threads, on_cpu
from i2i.training.perceptual import LpipsFigure
from i2i.training.report import recorded
from i2i.training.stages import Discriminator, FirstStage, GanLosses, Network, train_two_stages
from i2i.training.superres import SuperResolutionData, super_resolution_task


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train on what.

    Attributes:
        out: folder of the run; the first stage's is psnr/ in it.
        images: what is learned from.
        network: what enlarges.
        discriminator: who tells the result from real images.
        first_stage: how long, and how fast.
        losses: what the second stage is held to.
        figure: what else is measured on held-out images.
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
        training: settings of the loop, in the second stage.
    """

    out: Path = Path("runs/esrgan")
    images: SuperResolutionData = field(default_factory=SuperResolutionData)
    network: Network = field(default_factory=Network)
    discriminator: Discriminator = field(default_factory=Discriminator)
    first_stage: FirstStage = field(default_factory=FirstStage)
    losses: GanLosses = field(
        default_factory=lambda: GanLosses(perceptual_weight=1.0, perceptual_layers=tuple(ESRGAN_LAYERS.items()))
    )
    figure: LpipsFigure = field(default_factory=LpipsFigure)
    compare: tuple[Path, ...] = ()
    training: TrainingSettings = field(
        # ESRGAN's, whose rate is halved after 50,000, 100,000, 200,000 and 300,000 steps.
        default_factory=lambda: TrainingSettings(
            steps=400_000,
            batch_size=16,
            generator_learning_rate=1e-4,
            discriminator_learning_rate=1e-4,
            adam_betas=(0.9, 0.99),
            decay_from=0.125,
            ema_decay=0.999,
            validate_every_steps=5000,
            save_every_steps=5000,
            log_every_steps=100,
            best_metric="swd",
        )
    )


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    images=SuperResolutionData(crop_px=128),
    network=Network(network="compact", width=32, blocks=8),
    discriminator=Discriminator(discriminator="patch", discriminator_width=32),
    first_stage=FirstStage(psnr_steps=2000, psnr_learning_rate=2e-3),
    losses=GanLosses(perceptual="off", objective="non_saturating", pixel_weight=1.0),
    training=TrainingSettings(
        # For some ten minutes on two cores, both stages together.
        steps=1500,
        batch_size=8,
        generator_learning_rate=2e-4,
        discriminator_learning_rate=2e-4,
        adam_betas=(0.9, 0.99),
        ema_decay=0.99,
        validate_every_steps=500,
        save_every_steps=500,
        log_every_steps=10,
        best_metric="swd",
        workers=0,
        threads=2,
    ),
)


def main(settings: Settings) -> None:
    limit_threads(settings.training)
    settings.first_stage.check(settings.network)
    initial = settings.network.initial(scale=settings.images.scale, crop_px=settings.images.crop_px)
    perceptual = settings.losses.make_perceptual()
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training), timeout=PATIENCE).main_process_first():
        size_multiple = settings.network.unshuffle if initial is None else initial.size_multiple
        task = super_resolution_task(settings.images, size_multiple=size_multiple)
    torch.manual_seed(settings.training.seed)
    train_two_stages(
        settings.network.make(task, initial=initial),
        task=task,
        first_stage=settings.first_stage,
        discriminator=settings.discriminator.make(task, crop_px=settings.images.crop_px),
        losses=settings.losses,
        perceptual=perceptual,
        figure=settings.figure,
        settings=recorded(settings),
        weights={
            "init_generator": settings.network.init_generator,
            "init_discriminator": settings.discriminator.init_discriminator,
        },
        compare=settings.compare,
        title=f"ESRGAN by {task.scale}: {task.name}",
        training=settings.training,
        out=settings.out,
    )


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = (
        "the paper's, but for --shift-px"
        if own_images
        else "those for the streets; with --data (and --help behind it) they are the paper's, but for --shift-px"
    )
    run(main, OWN_IMAGES if own_images else STREETS, description=f"{__doc__}\nThe defaults shown are {shown}.")
