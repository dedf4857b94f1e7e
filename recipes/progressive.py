"""Images out of noise by a GAN that grows, on your folder of images, or on squares of the built-in streets.

    python recipes/progressive.py --out runs/progressive
    python recipes/progressive.py --data photos --out runs/mine
    python recipes/progressive.py --data photos --size-px 64 --first-px 8 --precision bf16 --out runs/smaller

Then `i2i.load("runs/progressive")(seed=1)` draws. Generator and discriminator begin with images of 4 px and grow: each
stage adds a block to both, for images twice as large, and fades it in (Karras et al. 2018, arXiv:1710.10196). So what
images are like on the whole is learnt first, with little work, and details after that. The stages before the last are
in the run's folders 004px, 008px …, and pictures/stages.png shows what each draws from the same noise. With a folder
for each class (photos/cat/, photos/dog/ …) it draws the class that is asked for. The same command goes on with a run
that was interrupted in any of its stages. Start it through `accelerate launch` or `torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from i2i.cli.entry import run
from i2i.discriminators import ProgressiveDiscriminator
from i2i.generators import ProgressiveGenerator
from i2i.layers.sides import SMALLEST_PX
from i2i.losses.penalties import Penalties
from i2i.training.config import TrainingSettings
from i2i.training.drawing import check_sides, check_widths
from i2i.training.drawing_data import DrawingData, DrawingTask
from i2i.training.growing import GrowingSettings, Growth, run_growing
from i2i.training.stabilisers import Stabilisers


@dataclass(frozen=True, kw_only=True)
class ProgressiveNetworks:
    """Generator and discriminator, mirror images of one another, with equalised learning rates.

    Attributes:
        latent_channels: length of the noise vector.
        width: channels of the generator's maps.
        discriminator_width: channels of the discriminator's.
        widest_px: side of the largest maps with so many channels; larger ones have half as many whenever the size
            doubles. 8 leaves a CPU a fraction of the work.
    """

    latent_channels: int = 512
    width: int = 512
    discriminator_width: int = 512
    widest_px: int = 32

    def __post_init__(self) -> None:
        check_widths(self, "latent_channels", "width", "discriminator_width")
        check_sides(self, "widest_px", least=SMALLEST_PX)

    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for a stage."""
        shared = {"size": task.size_px, "classes": len(task.classes), "widest_px": self.widest_px}
        generator = ProgressiveGenerator(
            latent_channels=self.latent_channels, out_channels=task.output.channels, width=self.width, **shared
        )
        discriminator = ProgressiveDiscriminator(
            in_channels=task.output.channels, width=self.discriminator_width, **shared
        )
        return generator, discriminator


@dataclass(frozen=True, kw_only=True)
class Settings(GrowingSettings):
    """What to draw, and how to learn it."""

    networks: ProgressiveNetworks


OWN_IMAGES = Settings(
    out=Path("runs/progressive"),
    images=DrawingData(size_px=256),
    networks=ProgressiveNetworks(),
    # The paper's (section 3 and appendix A.1): WGAN-GP with one critic step, 800 000 images to fade a stage in and as
    # many to settle it. Its batches are of 16 up to 128 px and of 14 above.
    growth=Growth(stage_steps=100_000, fade_share=0.5, drift=0.001),
    stabilisers=Stabilisers(objective="wgan", penalties=Penalties(gradient_penalty=10.0)),
    training=TrainingSettings(
        steps=100_000,
        batch_size=16,
        generator_learning_rate=1e-3,
        discriminator_learning_rate=1e-3,
        adam_betas=(0.0, 0.99),
        schedule="constant",
        ema_decay=0.999,
        channels_last=True,
        validate_every_steps=5000,
        save_every_steps=5000,
        log_every_steps=10,
        preview_images=32,
        best_metric="swd",
    ),
)
BUILT_IN = replace(
    OWN_IMAGES,
    images=DrawingData(size_px=32),
    networks=ProgressiveNetworks(latent_channels=64, width=64, discriminator_width=64, widest_px=8),
    growth=Growth(stage_steps=1500, fade_share=0.5),
    # Not WGAN-GP, whose penalty would be a third of the work: R1 at every eighth step.
    stabilisers=Stabilisers(penalties=Penalties(r1=0.3, every_steps=8)),
    training=TrainingSettings(
        # For ten minutes on four cores: higher rates, which fall in the last stage.
        steps=6000,
        batch_size=32,
        generator_learning_rate=2e-3,
        discriminator_learning_rate=2e-3,
        adam_betas=(0.0, 0.99),
        ema_decay=0.998,
        channels_last=True,
        validate_every_steps=750,
        save_every_steps=750,
        log_every_steps=10,
        preview_images=32,
        best_metric="swd",
        workers=0,
        threads=4,
    ),
)


def main(settings: Settings) -> None:
    run_growing(settings, title="Progressive growing")


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = "the paper's" if own_images else "for the built-in streets; with --data (and --help behind it) the paper's"
    run(main, OWN_IMAGES if own_images else BUILT_IN, description=f"{__doc__}\nThe defaults shown are {shown}.")
