"""Super-resolution of real photos: Real-ESRGAN, which learns from images degraded at random, in two stages.

    python recipes/realesrgan.py --out runs/realesrgan
    python recipes/realesrgan.py --data photos --init-generator realesr-animevideov3.pth --out runs/tuned
    python recipes/realesrgan.py --data datasets/div2k --init-generator RealESRGAN_x4plus.pth \\
        --init-discriminator RealESRGAN_x4plus_netD.pth --out runs/tuned

Images of high resolution are blurred, resized, made noisy and saved as JPEG, twice; `i2i degrade` shows what comes of
it, and takes the same options. The first stage comes as near to the truth as it can, and takes --psnr-steps; or its
weights are there already and --init-generator names them. The second stage, with a discriminator, trains them on.
`i2i blend runs/realesrgan/psnr runs/realesrgan --alpha 0.8` mixes the two results.

The same command goes on with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use
several GPUs.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState

from i2i.cli.entry import run
from i2i.data.degrade import Degradation
from i2i.errors import InputError
from i2i.losses.perceptual import REAL_ESRGAN_LAYERS
from i2i.methods.superres import RandomDegradation
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
        images: what is learned from. `crop_px` is the side of what is degraded.
        keep_px: side of the squares that are cropped from that afterwards, for the networks; a multiple of the scale.
        sharpen: hold the result to sharpened images, though not in the discriminator's eyes.
        pool_pairs: how many degraded images are kept, to be exchanged with those of later batches.
        degradation: what befalls images.
        network: what enlarges.
        discriminator: who tells the result from real images.
        first_stage: how long, and how fast.
        losses: what the second stage is held to.
        figure: what else is measured on held-out images.
        compare: folders of other runs on the same data, whose held-out figures the report shows beside this one's.
        training: settings of the loop, in the second stage.
    """

    out: Path = Path("runs/realesrgan")
    images: SuperResolutionData = field(default_factory=lambda: SuperResolutionData(crop_px=400))
    keep_px: int = 256
    sharpen: bool = True
    pool_pairs: int = 180
    degradation: Degradation = field(default_factory=Degradation)
    network: Network = field(default_factory=Network)
    discriminator: Discriminator = field(default_factory=lambda: Discriminator(discriminator="unet"))
    first_stage: FirstStage = field(default_factory=FirstStage)
    losses: GanLosses = field(
        default_factory=lambda: GanLosses(
            objective="non_saturating",
            pixel_weight=1.0,
            adversarial_weight=0.1,
            perceptual_weight=1.0,
            perceptual_layers=tuple(REAL_ESRGAN_LAYERS.items()),
        )
    )
    figure: LpipsFigure = field(default_factory=LpipsFigure)
    compare: tuple[Path, ...] = ()
    training: TrainingSettings = field(
        # The paper's, in batches of 48 over four GPUs.
        default_factory=lambda: TrainingSettings(
            steps=400_000,
            batch_size=12,
            generator_learning_rate=1e-4,
            discriminator_learning_rate=1e-4,
            adam_betas=(0.9, 0.99),
            schedule="constant",
            ema_decay=0.999,
            validate_every_steps=5000,
            save_every_steps=5000,
            log_every_steps=100,
            best_metric="swd",
        )
    )

    def __post_init__(self) -> None:
        scale = self.images.scale
        if not scale <= self.keep_px <= self.images.crop_px or self.keep_px % scale:
            raise InputError(
                f"--keep-px must be a multiple of the scale, {scale}, and at most --crop-px {self.images.crop_px}, and "
                f"is {self.keep_px}."
            )
        if self.pool_pairs < 0:
            raise InputError(f"--pool-pairs must be at least 0, and is {self.pool_pairs}.")

    @property
    def random_degradation(self) -> RandomDegradation:
        return RandomDegradation(
            settings=self.degradation, crop_px=self.keep_px, sharpen=self.sharpen, pool_pairs=self.pool_pairs
        )


OWN_IMAGES = Settings()
STREETS = replace(
    OWN_IMAGES,
    images=SuperResolutionData(crop_px=160),
    keep_px=128,
    pool_pairs=64,
    # Far milder than the published ones, which leave nothing of such small scenes.
    degradation=Degradation(
        sigma_px=(0.2, 1.5),
        resize_range=(0.5, 1.5),
        gaussian_levels=(1.0, 10.0),
        poisson_scale=(0.05, 1.0),
        jpeg_quality=(60.0, 95.0),
        second_sigma_px=(0.2, 1.0),
        second_resize_range=(0.7, 1.2),
        second_gaussian_levels=(1.0, 6.0),
        second_poisson_scale=(0.05, 0.8),
        second_jpeg_quality=(60.0, 95.0),
    ),
    network=Network(network="compact", width=32, blocks=8),
    discriminator=Discriminator(discriminator="unet", discriminator_width=16),
    first_stage=FirstStage(psnr_steps=2000, psnr_learning_rate=2e-3),
    losses=GanLosses(perceptual="off", objective="non_saturating", pixel_weight=1.0, adversarial_weight=3e-3),
    training=TrainingSettings(
        # For some ten minutes on two cores, both stages together.
        steps=600,
        batch_size=8,
        generator_learning_rate=5e-5,
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
    initial = settings.network.initial(scale=settings.images.scale, crop_px=settings.keep_px)
    perceptual = settings.losses.make_perceptual()
    # The first process makes and checks the data, and the others find it in the cache.
    with PartialState(cpu=on_cpu(settings.training), timeout=PATIENCE).main_process_first():
        size_multiple = settings.network.unshuffle if initial is None else initial.size_multiple
        task = super_resolution_task(
            settings.images, size_multiple=size_multiple, degradation=settings.random_degradation
        )
    torch.manual_seed(settings.training.seed)
    train_two_stages(
        settings.network.make(task, initial=initial),
        task=task,
        first_stage=settings.first_stage,
        discriminator=settings.discriminator.make(task, crop_px=settings.keep_px),
        losses=settings.losses,
        perceptual=perceptual,
        degradation=settings.random_degradation,
        figure=settings.figure,
        settings=recorded(settings),
        weights={
            "init_generator": settings.network.init_generator,
            "init_discriminator": settings.discriminator.init_discriminator,
        },
        compare=settings.compare,
        title=f"Real-ESRGAN by {task.scale}: {task.name}",
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
