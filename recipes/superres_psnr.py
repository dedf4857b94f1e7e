"""Super-resolution as near to the truth as can be: the stage that comes before a GAN, or all there is to it.

    python recipes/superres_psnr.py --out runs/superres
    python recipes/superres_psnr.py --data photos --out runs/mine
    python recipes/superres_psnr.py --data datasets/div2k --network rrdb --out runs/rrdb
    python recipes/superres_psnr.py --data photos --init-generator realesr-animevideov3.pth --out runs/tuned

Without --data it learns from the built-in streets. The same command goes on with a run that was interrupted. Start it
through `accelerate launch` or `torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState

from i2i.cli.entry import run
from i2i.methods.superres import PixelLoss
from i2i.training.config import TrainingSettings
from i2i.training.loop import PATIENCE, limit_threads, on_cpu
from i2i.training.perceptual import LpipsFigure
from i2i.training.report import recorded
from i2i.training.stages import Network, train_psnr_stage
from i2i.training.superres import SuperResolutionData, super_resolution_task


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train on what.

    Attributes:
        out: folder of the run.
        images: what is learned from.
        network: what enlarges.
        pixel_loss: mean absolute difference, or Charbonnier's smooth version of it.
        figure: what else is measured on held-out images.
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
        training: settings of the loop.
    """

    out: Path = Path("runs/superres")
    images: SuperResolutionData = field(default_factory=SuperResolutionData)
    network: Network = field(default_factory=lambda: Network(network="compact"))
    pixel_loss: PixelLoss = "l1"
    figure: LpipsFigure = field(default_factory=LpipsFigure)
    compare: tuple[Path, ...] = ()
    training: TrainingSettings = field(
        # ESRGAN's, but for the schedule: it halves the rate every 200,000 of 1,000,000 steps.
        default_factory=lambda: TrainingSettings(
            steps=500_000,
            batch_size=16,
            generator_learning_rate=2e-4,
            adam_betas=(0.9, 0.99),
            schedule="cosine",
            ema_decay=0.999,
            validate_every_steps=5000,
            save_every_steps=5000,
            log_every_steps=100,
            best_metric="psnr",
        )
    )


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    images=SuperResolutionData(crop_px=128),
    network=Network(network="compact", width=32, blocks=8),
    training=TrainingSettings(
        # For a few minutes on two cores.
        steps=3000,
        batch_size=16,
        generator_learning_rate=2e-3,
        adam_betas=(0.9, 0.999),
        schedule="cosine",
        ema_decay=0.999,
        validate_every_steps=500,
        save_every_steps=500,
        log_every_steps=10,
        best_metric="psnr",
        workers=0,
        threads=2,
    ),
)


def main(settings: Settings) -> None:
    limit_threads(settings.training)
    initial = settings.network.initial(scale=settings.images.scale, crop_px=settings.images.crop_px)
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training), timeout=PATIENCE).main_process_first():
        size_multiple = settings.network.unshuffle if initial is None else initial.size_multiple
        task = super_resolution_task(settings.images, size_multiple=size_multiple)
    torch.manual_seed(settings.training.seed)
    train_psnr_stage(
        settings.network.make(task, initial=initial),
        task=task,
        pixel_loss=settings.pixel_loss,
        figure=settings.figure,
        settings=recorded(settings),
        init_generator=settings.network.init_generator,
        compare=settings.compare,
        title=f"Super-resolution by {task.scale}: {task.name}",
        training=settings.training,
        out=settings.out,
    )


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = "for a GPU" if own_images else "those for the streets; with --data (and --help behind it) others"
    run(main, OWN_IMAGES if own_images else STREETS, description=f"{__doc__}\nThe defaults shown are {shown}.")
