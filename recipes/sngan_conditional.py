"""Images of the class that is asked for, out of noise: SNGAN with projection, on your folders of images or on shapes.

    python recipes/sngan_conditional.py --out runs/shapes
    python recipes/sngan_conditional.py --data photos --out runs/mine
    python recipes/sngan_conditional.py --data photos --size-px 64 --attention-px 32 --spectral-generator \\
        --critic-steps 1 --generator-learning-rate 1e-4 --discriminator-learning-rate 4e-4 --out runs/sagan

Then `i2i.load("runs/shapes")(seed=1, label=3)` draws. Your images lie in a folder for each class, photos/cat/,
photos/dog/ …; without such folders it draws without classes. The discriminator's slope is held by spectral norm (Miyato
et al. 2018, arXiv:1802.05957), and it is told the class by projection (Miyato and Koyama 2018, arXiv:1802.05637). The
third command is SAGAN's way (Zhang et al. 2019, arXiv:1805.08318): attention, and two learning rates instead of several
critic steps. The same command goes on with a run that was interrupted. Start it through `accelerate launch` or
`torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from i2i.cli.entry import run
from i2i.discriminators import SNGANDiscriminator
from i2i.generators import SNGANGenerator
from i2i.layers.minibatch import Minibatch
from i2i.layers.sides import SMALLEST_PX
from i2i.training.config import TrainingSettings
from i2i.training.drawing import DrawingSettings, check_sides, check_widths, run_drawing
from i2i.training.drawing_data import DrawingData, DrawingTask
from i2i.training.stabilisers import Stabilisers


@dataclass(frozen=True, kw_only=True)
class SNGANNetworks:
    """The residual generator with class-conditional batch norm, and the residual discriminator with projection.

    Attributes:
        latent_channels: length of the noise vector.
        width: channels of the generator's maps.
        discriminator_width: channels of the discriminator's.
        widest_px: side of the largest maps with so many channels; larger ones have half as many whenever the size
            doubles. 8 leaves a CPU a fraction of the work. None: as in the papers, 32 in the generator and 16 in the
            discriminator.
        attention_px: side of the maps that both networks apply self-attention to; None: none.
        spectral: spectral norm in the discriminator.
        spectral_generator: spectral norm in the generator, too, as in SAGAN.
        minibatch: what the discriminator is told about a batch as a whole, against samples that are all alike.
    """

    latent_channels: int = 128
    width: int = 256
    discriminator_width: int = 128
    widest_px: int | None = None
    attention_px: int | None = None
    spectral: bool = True
    spectral_generator: bool = False
    minibatch: Minibatch = "none"

    def __post_init__(self) -> None:
        check_widths(self, "latent_channels", "width", "discriminator_width")
        if self.widest_px is not None:
            check_sides(self, "widest_px", least=SMALLEST_PX)

    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for a task."""
        shared = {"size": task.size_px, "classes": len(task.classes), "attention_px": self.attention_px}
        generator = SNGANGenerator(
            latent_channels=self.latent_channels,
            out_channels=task.output.channels,
            width=self.width,
            spectral=self.spectral_generator,
            widest_px=self.widest_px or 32,
            **shared,
        )
        discriminator = SNGANDiscriminator(
            in_channels=task.output.channels,
            width=self.discriminator_width,
            spectral=self.spectral,
            widest_px=self.widest_px or 16,
            minibatch=self.minibatch,
            **shared,
        )
        return generator, discriminator


@dataclass(frozen=True, kw_only=True)
class Settings(DrawingSettings):
    """What to draw, and how to learn it."""

    networks: SNGANNetworks


OWN_IMAGES = Settings(
    out=Path("runs/shapes"),
    images=DrawingData(built_in="shapes", size_px=32),
    networks=SNGANNetworks(),
    stabilisers=Stabilisers(objective="hinge"),
    # Adam's settings, critic steps and decay are WGAN-GP's for residual networks (Gulrajani et al. 2017, appendix F),
    # which SNGAN's on CIFAR-10 follow too, as far as we know. The averaged weights, which only what is shown and
    # exported has, are not theirs.
    training=TrainingSettings(
        steps=100_000,
        batch_size=64,
        critic_steps=5,
        generator_learning_rate=2e-4,
        discriminator_learning_rate=2e-4,
        adam_betas=(0.0, 0.9),
        decay_from=0.0,
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
    networks=SNGANNetworks(latent_channels=64, width=96, discriminator_width=64, widest_px=8),
    stabilisers=Stabilisers(objective="hinge", mismatched_share=0.3),
    training=TrainingSettings(
        # For ten minutes on four cores: one critic step, and higher rates, which then fall.
        steps=6000,
        batch_size=32,
        generator_learning_rate=5e-4,
        discriminator_learning_rate=5e-4,
        adam_betas=(0.0, 0.99),
        ema_decay=0.998,
        channels_last=True,
        validate_every_steps=1000,
        save_every_steps=1000,
        log_every_steps=10,
        preview_images=16,
        best_metric="swd",
        workers=1,
        threads=4,
    ),
)


def main(settings: Settings) -> None:
    run_drawing(settings, title="SNGAN")


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = "the papers'" if own_images else "for the built-in shapes; with --data (and --help behind it) the papers'"
    run(main, OWN_IMAGES if own_images else BUILT_IN, description=f"{__doc__}\nThe defaults shown are {shown}.")
