"""Images out of noise by transformers alone: TransGAN on your folder of images, or on squares of the built-in streets.

    python recipes/transgan.py --out runs/transgan
    python recipes/transgan.py --data photos --out runs/mine
    python recipes/transgan.py --data photos --size-px 64 --patch-px 2 --widest-px 16 --out runs/small

Neither network has a convolution: the generator starts from 8x8 tokens and makes more of them stage by stage, each
attending to all others, or on large maps to those of its own square; the discriminator reads the image as patches of
several sizes (Jiang, Chang and Wang 2021, arXiv:2102.07074). Nothing tells them that neighbouring pixels belong
together, so they need more images, and longer, than networks of convolutions: on built-in streets they come to layouts
with sky, houses and trees made of noisy squares, where recipes/dcgan.py gives streets. The same command goes on with a
run that was interrupted. Start it through `accelerate launch` or `torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from i2i.cli.entry import run
from i2i.discriminators import TransGANDiscriminator
from i2i.discriminators.transgan import Pooling
from i2i.errors import InputError
from i2i.generators import TransGANGenerator
from i2i.generators.transgan import FIRST_PX
from i2i.layers.minibatch import Minibatch
from i2i.layers.transformer import TokenNormalisation
from i2i.losses.penalties import Penalties
from i2i.training.config import TrainingSettings
from i2i.training.drawing import DrawingSettings, check_sides, check_widths, run_drawing
from i2i.training.drawing_data import DrawingData, DrawingTask
from i2i.training.stabilisers import Stabilisers


@dataclass(frozen=True, kw_only=True)
class TransGANNetworks:
    """A transformer that draws, and one that judges patches of several sizes.

    Attributes:
        latent_channels: length of the noise vector.
        width: channels of the generator's tokens on the smallest maps.
        widest_px: side of the largest map with so many; larger ones have a quarter whenever the side doubles.
        blocks: of the generator's stages, from 8x8 tokens on; the last number holds for all larger maps, too.
        pixels_a_token: side of the square of pixels that the generator's last tokens make; 2 saves a whole stage.
        discriminator_width: channels of the discriminator's tokens in its last stage; half in the one before.
        patch_px: side of the finest patches that it reads.
        scales: how many sizes of patches it reads, and stages it has.
        discriminator_blocks: of its stages, from the finest on; the last number holds for all further ones, too.
        heads: of the generator's attention; its channels in all stages must be a multiple of it.
        discriminator_heads: of the discriminator's, likewise.
        grid_px: side of the squares that attention is confined to on large maps.
        grid_from_px: side of the smallest map with such squares.
        norm: of the generator's tokens: "pixel", the paper's, or "layer".
        discriminator_norm: of the discriminator's.
        pooling: what the discriminator judges by: a class "token" that has gathered what others know, the paper's, or
            the "mean" of all tokens.
        minibatch: what the discriminator is told about a batch as a whole, against samples that are all alike.
    """

    latent_channels: int = 512
    width: int = 1024
    widest_px: int = 32
    blocks: tuple[int, ...] = (5, 4)
    pixels_a_token: int = 1
    discriminator_width: int = 384
    patch_px: int = 4
    scales: int = 3
    discriminator_blocks: tuple[int, ...] = (3,)
    heads: int = 4
    discriminator_heads: int = 4
    grid_px: int = 16
    grid_from_px: int = 64
    norm: TokenNormalisation = "pixel"
    discriminator_norm: TokenNormalisation = "pixel"
    pooling: Pooling = "token"
    minibatch: Minibatch = "none"

    def __post_init__(self) -> None:
        check_widths(self, "latent_channels", "width", "discriminator_width", "heads", "discriminator_heads", "scales")
        check_sides(self, "patch_px", "pixels_a_token", "grid_px", least=1)
        check_sides(self, "widest_px", least=FIRST_PX)
        for name in ("blocks", "discriminator_blocks"):
            if not (numbers := getattr(self, name)) or min(numbers) < 1:
                raise InputError(
                    f"--{name.replace('_', '-')} are the numbers of blocks of the stages, at least one in each, and "
                    f"are {' '.join(map(str, numbers))}."
                )

    def check(self, size_px: int) -> None:
        """See that the networks can be made for images of `size_px`.

        Raises:
            InputError: they cannot; says which options do not go together.
        """
        if self.pixels_a_token * FIRST_PX > size_px:
            raise InputError(
                f"--pixels-a-token must be at most {size_px // FIRST_PX} at {size_px} px, and is {self.pixels_a_token}."
            )
        if self.patch_px * 2**self.scales > size_px:
            fitting = [f"--scales {(size_px // self.patch_px).bit_length() - 1}"] * (2 * self.patch_px <= size_px)
            fitting += [f"--patch-px {size_px >> self.scales}"] * (size_px >> self.scales > 0)
            raise InputError(
                f"--scales {self.scales} from --patch-px {self.patch_px} on end with patches of "
                f"{self.patch_px * 2 ** (self.scales - 1)} px, and those may be half of the image's {size_px} px at "
                f"most: give {' or '.join(fitting) or 'fewer and smaller ones'}."
            )
        shrink = max(1, size_px // self.pixels_a_token // self.widest_px) ** 2
        _check_divides(
            "--width", self.width, "--heads", self.heads, shrink, f"at {size_px} px with --widest-px {self.widest_px}"
        )
        _check_divides(
            "--discriminator-width",
            self.discriminator_width,
            "--discriminator-heads",
            self.discriminator_heads,
            2 ** (self.scales - 1),
            f"with --scales {self.scales}",
        )

    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for a task."""
        self.check(task.size_px)
        shared = {
            "size": task.size_px,
            "classes": len(task.classes),
            "grid_px": self.grid_px,
            "grid_from_px": self.grid_from_px,
        }
        generator = TransGANGenerator(
            latent_channels=self.latent_channels,
            out_channels=task.output.channels,
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            widest_px=self.widest_px,
            patch_px=self.pixels_a_token,
            norm=self.norm,
            **shared,
        )
        discriminator = TransGANDiscriminator(
            in_channels=task.output.channels,
            width=self.discriminator_width,
            patch_px=self.patch_px,
            scales=self.scales,
            heads=self.discriminator_heads,
            blocks=self.discriminator_blocks,
            norm=self.discriminator_norm,
            pooling=self.pooling,
            minibatch=self.minibatch,
            **shared,
        )
        return generator, discriminator


def _check_divides(option: str, width: int, heads_option: str, heads: int, shrink: int, where: str) -> None:
    """Raise InputError unless the narrowest stage, of 1/shrink of the channels, has as many for each head."""
    multiple = heads * shrink
    if width % multiple:
        raise InputError(
            f"{option} must be a multiple of {multiple}, which is {heads_option} {heads} times the {shrink} by which "
            f"channels shrink {where}, and is {width}: give {option} {-(-width // multiple) * multiple}, or other "
            f"{heads_option}."
        )


@dataclass(frozen=True, kw_only=True)
class Settings(DrawingSettings):
    """What to draw, and how to learn it."""

    networks: TransGANNetworks


OWN_IMAGES = Settings(
    out=Path("runs/transgan"),
    images=DrawingData(size_px=256),
    networks=TransGANNetworks(),
    # As the authors train at 256 px, as far as we know; how long is ours. A batch is made of four parts, for memory.
    stabilisers=Stabilisers(objective="wgan", penalties=Penalties(gradient_penalty=10.0), augment="diff"),
    training=TrainingSettings(
        steps=200_000,
        batch_size=16,
        accumulation=4,
        critic_steps=4,
        generator_learning_rate=1e-4,
        discriminator_learning_rate=1e-4,
        adam_betas=(0.0, 0.99),
        schedule="constant",
        ema_decay=0.995,
        validate_every_steps=2000,
        save_every_steps=2000,
        log_every_steps=10,
        preview_images=16,
        best_metric="swd",
    ),
)
BUILT_IN = replace(
    OWN_IMAGES,
    images=DrawingData(size_px=32),
    # 2x2 pixels a token leave the generator's largest stage out, and 64 patches are few to attend to each other.
    networks=TransGANNetworks(
        latent_channels=64,
        width=128,
        widest_px=8,
        blocks=(1,),
        heads=1,
        pixels_a_token=2,
        discriminator_width=96,
        patch_px=4,
        scales=1,
        discriminator_blocks=(2,),
        discriminator_heads=2,
        discriminator_norm="layer",
        pooling="mean",
    ),
    # As short runs did best (one seed each). After 40 s of a core the mean of the tokens came to an swd of 103,, the
    # class token to 357.
    stabilisers=Stabilisers(penalties=Penalties(r1=0.2, every_steps=8), augment="diff"),
    training=TrainingSettings(
        # Rates that fall. One core does some 100 images a second; a run of --steps 1800 took 4.4 minutes of one in all
        # and came to an swd of 57.6 (52.6 at its best) and a variety of 0.85.
        steps=4000,
        batch_size=16,
        generator_learning_rate=4e-4,
        discriminator_learning_rate=1e-3,
        adam_betas=(0.0, 0.99),
        warmup_steps=100,
        ema_decay=0.998,
        validate_every_steps=500,
        save_every_steps=500,
        log_every_steps=10,
        preview_images=32,
        best_metric="swd",
        workers=0,
        threads=4,
    ),
)


def main(settings: Settings) -> None:
    run_drawing(settings, title="TransGAN")


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = (
        "the authors'" if own_images else "for the built-in streets; with --data (and --help behind it) the authors'"
    )
    run(main, OWN_IMAGES if own_images else BUILT_IN, description=f"{__doc__}\nThe defaults shown are {shown}.")
