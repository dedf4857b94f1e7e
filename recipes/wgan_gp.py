"""Images out of noise: WGAN-GP on your folder of images, or on squares of the built-in streets.

    python recipes/wgan_gp.py --out runs/wgan-gp
    python recipes/wgan_gp.py --data photos --out runs/mine
    python recipes/wgan_gp.py --gradient-penalty 0 --weight-clipping 0.01 --out runs/wgan

The critic estimates how far samples are from images (Gulrajani et al. 2017, arXiv:1704.00028); this "wasserstein" is in
the report's curves, and falls as samples get better. With a folder for each class (photos/cat/, photos/dog/ …) it
draws the class that is asked for. The same command goes on with a run that was interrupted. Start it through
`accelerate launch` or `torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from i2i.cli.entry import run
from i2i.losses.penalties import Penalties
from i2i.training.config import TrainingSettings
from i2i.training.drawing import DCGANNetworks, DrawingSettings, run_drawing
from i2i.training.drawing_data import DrawingData
from i2i.training.stabilisers import Stabilisers


@dataclass(frozen=True, kw_only=True)
class Settings(DrawingSettings):
    """What to draw, and how to learn it."""

    networks: DCGANNetworks


OWN_IMAGES = Settings(
    out=Path("runs/wgan-gp"),
    # Those of DCGAN, with no norm in the critic, whose gradient is of one image at a time.
    networks=DCGANNetworks(discriminator_norm="none"),
    stabilisers=Stabilisers(objective="wgan", penalties=Penalties(gradient_penalty=10.0)),
    # The paper's, algorithm 1, but for the averaged weights, which only what is shown and exported has.
    training=TrainingSettings(
        steps=100_000,
        batch_size=64,
        critic_steps=5,
        generator_learning_rate=1e-4,
        discriminator_learning_rate=1e-4,
        adam_betas=(0.0, 0.9),
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
    # For ten minutes on four cores.
    images=DrawingData(size_px=32),
    networks=DCGANNetworks(width=32, discriminator_width=32, upsampling="resize", discriminator_norm="none"),
    training=TrainingSettings(
        steps=3000,
        batch_size=32,
        critic_steps=3,
        generator_learning_rate=4e-4,
        discriminator_learning_rate=4e-4,
        adam_betas=(0.0, 0.9),
        ema_decay=0.998,
        validate_every_steps=1000,
        save_every_steps=1000,
        log_every_steps=10,
        preview_images=32,
        best_metric="swd",
        workers=0,
        threads=4,
    ),
)


def main(settings: Settings) -> None:
    run_drawing(settings, title="WGAN-GP")


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = "the paper's" if own_images else "for the built-in streets; with --data (and --help behind it) the paper's"
    run(main, OWN_IMAGES if own_images else BUILT_IN, description=f"{__doc__}\nThe defaults shown are {shown}.")
