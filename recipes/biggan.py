"""Images of the class that is asked for, out of noise: BigGAN, on your folders of images or on shapes.

    python recipes/biggan.py --out runs/biggan
    python recipes/biggan.py --data photos --precision bf16 --out runs/mine
    python recipes/biggan.py --data photos --precision bf16 --size-px 128 --widest-px 8 --out runs/mine

Then `i2i.load("runs/biggan")(seed=1, label=3)` draws, and with `truncation=0.5` out of a narrower part of the latent
space: more typical images, and fewer kinds of them. The built-in shapes, of which none is typical, only lose colours by
it. Your images lie in a folder for each class, photos/cat/, photos/dog/ …; without such folders it draws without
classes.

BigGAN (Brock et al. 2019, arXiv:1809.11096) is the residual GAN with spectral norm and projection, made large. A vector
that all blocks share says the class, each block has a part of the noise of its own, and the generator's filters are
drawn towards right angles, so that it may be asked for less variety and better images after training; the published
weight of that, 1e-4, is small, and does not keep them there. The same command goes on with a run that was interrupted.
Start it through `accelerate launch` or `torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from i2i.cli.entry import run
from i2i.discriminators import SNGANDiscriminator
from i2i.errors import InputError
from i2i.generators import SNGANGenerator
from i2i.layers.init import ResidualInit
from i2i.layers.minibatch import Minibatch
from i2i.layers.sides import SMALLEST_PX
from i2i.training.config import TrainingSettings
from i2i.training.drawing import DrawingSettings, check_sides, check_widths, run_drawing
from i2i.training.drawing_data import DrawingData, DrawingTask
from i2i.training.stabilisers import Stabilisers

# Channels of each part of the paper's latent vectors, by which 128 px have 120 in all, and 256 px have 140.
CHUNK_CHANNELS = 20


@dataclass(frozen=True, kw_only=True)
class BigGANNetworks:
    """The residual generator with shared embedding and skip-z, and the residual discriminator with projection.

    Attributes:
        latent_channels: length of the noise vector; with skip-z a multiple of the generator's blocks + 1. None: 20 for
            each of them, as in the paper: 140 at 256 px.
        width: channels of the generator's maps.
        discriminator_width: channels of the discriminator's.
        widest_px: side of the largest maps with so many channels in the generator; larger ones have half as many
            whenever the size doubles.
        discriminator_widest_px: likewise in the discriminator.
        shared_embedding: channels of the vector that says the class; 0: each norm learns the classes by itself.
        skip_z: give each block a part of the noise of its own.
        attention_px: side of the maps that both networks apply self-attention to, at most half the images'; None: none.
        spectral: spectral norm in the discriminator.
        spectral_generator: spectral norm in the generator.
        init: initial weights of both networks.
        minibatch: what the discriminator is told about a batch as a whole, against samples that are all alike.
    """

    latent_channels: int | None = None
    width: int = 1024
    discriminator_width: int = 1024
    widest_px: int = 16
    discriminator_widest_px: int = 8
    shared_embedding: int = 128
    skip_z: bool = True
    attention_px: int | None = 64
    spectral: bool = True
    spectral_generator: bool = True
    init: ResidualInit = "orthogonal"
    minibatch: Minibatch = "none"

    def __post_init__(self) -> None:
        check_widths(self, "width", "discriminator_width")
        check_sides(self, "widest_px", "discriminator_widest_px", least=SMALLEST_PX)
        if self.latent_channels is not None:
            check_widths(self, "latent_channels")
        if self.shared_embedding < 0:
            raise InputError(f"--shared-embedding must be at least 0, and is {self.shared_embedding}.")

    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for a task."""
        attention_px = self.attention_px and min(self.attention_px, task.size_px // 2)
        shared = {"size": task.size_px, "classes": len(task.classes), "attention_px": attention_px}
        generator = SNGANGenerator(
            latent_channels=self.latent_channels or CHUNK_CHANNELS * (task.size_px.bit_length() - 2),
            out_channels=task.output.channels,
            width=self.width,
            spectral=self.spectral_generator,
            widest_px=self.widest_px,
            shared_embedding=self.shared_embedding if task.classes else 0,
            skip_z=self.skip_z,
            init=self.init,
            **shared,
        )
        discriminator = SNGANDiscriminator(
            in_channels=task.output.channels,
            width=self.discriminator_width,
            spectral=self.spectral,
            widest_px=self.discriminator_widest_px,
            minibatch=self.minibatch,
            init=self.init,
            **shared,
        )
        return generator, discriminator


@dataclass(frozen=True, kw_only=True)
class Settings(DrawingSettings):
    """What to draw, and how to learn it."""

    networks: BigGANNetworks


OWN_IMAGES = Settings(
    out=Path("runs/biggan"),
    images=DrawingData(built_in="shapes", size_px=256),
    # The paper's for 256 px (appendix B), but narrower: its generator's maps have 96 times 16, 16, 8, 8, 4, 2, 1
    # channels from 4 px on, and this one's 64 times 16, 16, 16, 8, 4, 2, 1. The paper's discriminator has 96 times
    # 1, 2, 4, 8, 8, 16 from 128 px down to 4 px, and this one 64 times 1, 2, 4, 8, 16 down to 8 px.
    networks=BigGANNetworks(),
    stabilisers=Stabilisers(objective="hinge", orthogonal_weight=1e-4),
    # The paper's, appendix C, but for batches: 2048 there, which it found to matter much. With more memory or several
    # GPUs, raise --batch-size before anything else.
    training=TrainingSettings(
        steps=100_000,
        batch_size=32,
        accumulation=8,
        critic_steps=2,
        generator_learning_rate=5e-5,
        discriminator_learning_rate=2e-4,
        adam_betas=(0.0, 0.999),
        schedule="constant",
        ema_decay=0.9999,
        channels_last=True,
        validate_every_steps=2000,
        save_every_steps=2000,
        log_every_steps=10,
        preview_images=32,
        best_metric="swd",
    ),
)
BUILT_IN = replace(
    OWN_IMAGES,
    images=DrawingData(built_in="shapes", size_px=32),
    networks=BigGANNetworks(
        latent_channels=64,
        width=96,
        discriminator_width=64,
        widest_px=8,
        shared_embedding=64,
        attention_px=None,
        minibatch="stddev",  # without it there are fewer colours than in the data
    ),
    stabilisers=Stabilisers(objective="hinge", orthogonal_weight=1e-4, mismatched_share=0.3),
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
    run_drawing(settings, title="BigGAN")


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = "the paper's" if own_images else "for the built-in shapes; with --data (and --help behind it) the paper's"
    run(main, OWN_IMAGES if own_images else BUILT_IN, description=f"{__doc__}\nThe defaults shown are {shown}.")
