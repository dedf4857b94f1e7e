"""Images out of noise by styles: StyleGAN on your folder of images, or on squares of the built-in streets.

    python recipes/stylegan.py --out runs/stylegan
    python recipes/stylegan.py --layers modulated --path-length 2 --out runs/stylegan-2020
    python recipes/stylegan.py --data photos --out runs/mine
    python recipes/stylegan.py --data photos --layers adain --path-length 0 --widest-px 32 --out runs/mine-2019

A mapping makes a style of the noise, and each layer of the generator is told a style: coarse layers decide what lies
where, fine ones colours (Karras et al. 2019, arXiv:1812.04948). The layers of 2020 scale their weights by it instead of
normalising maps, and equal steps of the style are made to change images equally much (arXiv:1912.04958). The built-in
streets are learnt with those of 2019, your own images with those of 2020.

With a folder for each class (photos/cat/, photos/dog/ …) it draws the class that is asked for. The same command goes on
with a run that was interrupted. Start it through `accelerate launch` or `torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import nn

from i2i.cli.entry import run
from i2i.discriminators import StyleGANDiscriminator
from i2i.errors import InputError
from i2i.generators import StyleGANGenerator
from i2i.generators.stylegan import StyleLayers
from i2i.layers.sides import SMALLEST_PX
from i2i.losses.penalties import Penalties
from i2i.methods.stylegan import StyleGAN, StyleSettings
from i2i.training.config import TrainingSettings
from i2i.training.drawing import DrawingSettings, check_sides, check_widths, run_drawing
from i2i.training.drawing_data import DrawingData, DrawingTask
from i2i.training.stabilisers import Stabilisers


@dataclass(frozen=True, kw_only=True)
class StyleGANNetworks:
    """The generator with a mapping and styles, and the residual discriminator.

    Attributes:
        latent_channels: length of the noise vector.
        style_channels: length of a style.
        mapping_layers: of the mapping from one to the other.
        mapping_rate: how fast the mapping learns next to all else.
        layers: those of 2019, "adain", or of 2020, "modulated".
        width: channels of the generator's maps.
        discriminator_width: channels of the discriminator's.
        widest_px: side of the largest maps with so many channels; larger ones have half as many whenever the size
            doubles. 8 leaves a CPU a fraction of the work.
        minibatch_group: the discriminator is told how much so many samples differ, against samples that are all alike;
            None: it is not.
    """

    latent_channels: int = 512
    style_channels: int = 512
    mapping_layers: int = 8
    mapping_rate: float = 0.01
    layers: StyleLayers = "modulated"
    width: int = 512
    discriminator_width: int = 512
    widest_px: int = 64
    minibatch_group: int | None = 4

    def __post_init__(self) -> None:
        check_widths(self, "latent_channels", "style_channels", "mapping_layers", "width", "discriminator_width")
        check_sides(self, "widest_px", least=SMALLEST_PX)
        if self.minibatch_group is not None and self.minibatch_group < 2:
            raise InputError(
                "--minibatch-group is how many samples are compared, at least 2, and is "
                f"{self.minibatch_group}: give more, or None to compare none."
            )

    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for a task."""
        shared = {"size": task.size_px, "classes": len(task.classes), "widest_px": self.widest_px}
        generator = StyleGANGenerator(
            latent_channels=self.latent_channels,
            out_channels=task.output.channels,
            width=self.width,
            style_channels=self.style_channels,
            mapping_layers=self.mapping_layers,
            mapping_rate=self.mapping_rate,
            layers=self.layers,
            **shared,
        )
        discriminator = StyleGANDiscriminator(
            in_channels=task.output.channels,
            width=self.discriminator_width,
            group_size=self.minibatch_group,
            **shared,
        )
        return generator, discriminator


@dataclass(frozen=True, kw_only=True)
class Settings(DrawingSettings):
    """What to draw, and how to learn it."""

    networks: StyleGANNetworks
    styles: StyleSettings = field(default_factory=StyleSettings)


OWN_IMAGES = Settings(
    out=Path("runs/stylegan"),
    images=DrawingData(size_px=256),
    networks=StyleGANNetworks(),
    # Configuration F of 2020, Appendix B, for 256 px: 25 million images.
    stabilisers=Stabilisers(penalties=Penalties(r1=10.0, every_steps=16)),
    training=TrainingSettings(
        steps=780_000,
        batch_size=32,
        generator_learning_rate=2e-3,
        discriminator_learning_rate=2e-3,
        adam_betas=(0.0, 0.99),
        schedule="constant",
        ema_decay=0.998,
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
    # The layers of 2019, whose last style sets the mean colour: in so small a network, those of 2020 had left it to the
    # coarse styles by step 1500. Behind a mapping of eight layers, samples were half as varied after 600 and 900 steps.
    networks=StyleGANNetworks(
        latent_channels=64,
        style_channels=64,
        mapping_layers=4,
        mapping_rate=0.1,
        layers="adain",
        width=64,
        discriminator_width=64,
        widest_px=8,
    ),
    styles=StyleSettings(mixing=0.5, path_length=0.0),
    stabilisers=Stabilisers(penalties=Penalties(r1=0.3, every_steps=8)),
    training=TrainingSettings(
        # For ten minutes on four cores: higher rates, which then fall. At 2e-3 for the generator, too, samples looked
        # like streets later and less.
        steps=6000,
        batch_size=32,
        generator_learning_rate=5e-3,
        discriminator_learning_rate=3e-3,
        adam_betas=(0.0, 0.99),
        ema_decay=0.999,
        channels_last=True,
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
    run_drawing(settings, title="StyleGAN", game=partial(StyleGAN, styles=settings.styles))


if __name__ == "__main__":
    own_images = any(argument.partition("=")[0] == "--data" for argument in sys.argv)
    shown = "the papers'" if own_images else "for the built-in streets; with --data (and --help behind it) the papers'"
    run(main, OWN_IMAGES if own_images else BUILT_IN, description=f"{__doc__}\nThe defaults shown are {shown}.")
