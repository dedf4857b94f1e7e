"""Images out of noise: DCGAN on your folder of images, or on squares of the built-in streets.

    python recipes/dcgan.py --out runs/dcgan
    python recipes/dcgan.py --data photos --out runs/mine
    python recipes/dcgan.py --data photos --crops --size-px 128 --augment adaptive --out runs/mine
    python recipes/dcgan.py --built-in shapes --size-px 32 --out runs/dcgan-shapes

With a folder for each class (photos/cat/, photos/dog/ …) it draws the class that is asked for. Any objective fits:
--objective hinge, lsgan, relativistic_average … The same command goes on with a run that was interrupted. Start it
through `accelerate launch` or `torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from i2i.cli.entry import run
from i2i.training.config import TrainingSettings
from i2i.training.drawing import DCGANNetworks, DrawingSettings, run_drawing
from i2i.training.drawing_data import DrawingData
from i2i.training.stabilisers import Stabilisers


@dataclass(frozen=True, kw_only=True)
class Settings(DrawingSettings):
    """What to draw, and how to learn it."""

    networks: DCGANNetworks


OWN_IMAGES = Settings(
    out=Path("runs/dcgan"),
    networks=DCGANNetworks(),
    # The paper's, section 4, but for the averaged weights, which only what is shown and exported has.
    training=TrainingSettings(
        steps=100_000,
        batch_size=128,
        generator_learning_rate=2e-4,
        discriminator_learning_rate=2e-4,
        adam_betas=(0.5, 0.999),
        schedule="constant",
        ema_decay=0.999,
        validate_every_steps=2000,
        save_every_steps=2000,
        log_every_steps=10,
        preview_images=32,
        best_metric="swd",
    ),
)
BUILT_IN = replace(
    OWN_IMAGES,
    images=DrawingData(size_px=32),
    networks=DCGANNetworks(width=48, discriminator_width=48, upsampling="resize"),
    # A few thousand images are soon learnt by heart: the discriminator is slowed, and never told to be quite sure.
    stabilisers=Stabilisers(real_label=0.9),
    training=TrainingSettings(
        # For ten minutes on four cores: rates that fall.
        steps=8000,
        batch_size=32,
        generator_learning_rate=4e-4,
        discriminator_learning_rate=1e-4,
        ema_decay=0.998,
        validate_every_steps=2000,
        save_every_steps=2000,
        log_every_steps=10,
        preview_images=32,
        best_metric="swd",
        workers=0,
        threads=4,
    ),
)


def main(settings: Settings) -> None:
    run_drawing(settings, title="DCGAN")


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = "the paper's" if own_images else "for the built-in streets; with --data (and --help behind it) the paper's"
    run(main, OWN_IMAGES if own_images else BUILT_IN, description=f"{__doc__}\nThe defaults shown are {shown}.")
