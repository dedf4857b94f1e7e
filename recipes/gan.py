"""Plain GANs: WGAN-GP on a grid of 25 Gaussians, or a DCGAN on photographs of the built-in streets.

    python recipes/gan.py --out runs/gaussians
    python recipes/gan.py --out runs/gaussians-labelled --labels
    python recipes/gan.py --streets --out runs/dcgan

Any objective fits either: --objective hinge, lsgan, relativistic … The same command goes on with a run that was
interrupted. Start it through `accelerate launch` or `torchrun` to use several GPUs.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.checkpoints import GeneratorSpec, ImageSide, load_generator
from i2i.cli.entry import run
from i2i.data.points import GaussianGrid
from i2i.data.sampler import Draw
from i2i.data.streets import StreetPairs
from i2i.discriminators import DCGANDiscriminator, MLPDiscriminator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator, MLPGenerator
from i2i.losses.adversarial import Objective, make_objective
from i2i.methods.gan import GAN
from i2i.training.config import TrainingSettings
from i2i.training.loop import on_cpu, train
from i2i.training.report import RunFacts, recorded

SAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to draw, and how.

    Attributes:
        out: folder of the run.
        streets: photographs of streets instead of points.
        labels: tell both networks which of the 25 Gaussians a point belongs to.
        size_px: side of the street photographs.
        latent_channels: length of the noise vector.
        width: of both networks.
        objective: adversarial loss.
        gradient_penalty_weight: of WGAN-GP; 0: none.
        r1_weight: of R1; 0: none.
        training: settings of the loop.
    """

    out: Path = Path("runs/gaussians")
    streets: bool = False
    labels: bool = False
    size_px: int = 64
    latent_channels: int = 2
    width: int = 64
    objective: Objective = "wgan"
    gradient_penalty_weight: float = 0.1
    r1_weight: float = 0.0
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=4000,
            batch_size=64,
            critic_steps=2,
            generator_learning_rate=2e-3,
            discriminator_learning_rate=2e-3,
            adam_betas=(0.0, 0.9),
            ema_decay=0.995,
            validate_every_steps=1000,
            save_every_steps=1000,
            preview_images=SAMPLES,
            workers=0,
        )
    )


POINTS = Settings()
STREETS = replace(
    POINTS,
    out=Path("runs/dcgan"),
    streets=True,
    latent_channels=100,
    width=32,
    objective="non_saturating",
    gradient_penalty_weight=0.0,
    training=TrainingSettings(
        steps=6000,
        batch_size=16,
        discriminator_learning_rate=1e-4,
        ema_decay=0.99,
        validate_every_steps=500,
        save_every_steps=500,
        preview_images=16,
        workers=0,
    ),
)


class StreetPhotos(Dataset[dict[str, Tensor]]):
    """{"real": (3, H, W)}: photographs alone."""

    def __init__(self, pairs: StreetPairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        return {"real": self.pairs[draw]["target"]}


def main(settings: Settings) -> None:
    if settings.streets and settings.labels:
        raise InputError("The streets have no labels. Leave out --labels, or --streets.")
    torch.manual_seed(settings.training.seed)
    with PartialState(cpu=on_cpu(settings.training)).main_process_first():
        training_data, held_out, fingerprint = street_data(settings.size_px) if settings.streets else point_data()
    classes = len(GaussianGrid().centres) if settings.labels else 0
    generator, discriminator = networks(settings, classes)
    if settings.streets:
        title, about = "GAN: streets", "Draws photographs of streets."
        output = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    else:
        title, about = "GAN: grid of 25 Gaussians", "Draws points from a mixture of Gaussians."
        output = ImageSide(channels=2, dtype="float32", data_range=(-1, 1))
    train(
        method=GAN(
            generator=generator,
            discriminator=discriminator,
            latent_channels=settings.latent_channels,
            classes=classes,
            objective=make_objective(settings.objective),
            gradient_penalty_weight=settings.gradient_penalty_weight,
            r1_weight=settings.r1_weight,
        ),
        training_data=training_data,
        validation_data=held_out,
        specs={"generator": GeneratorSpec(input=None, output=output)},
        settings=settings.training,
        out=settings.out,
        facts=RunFacts(title=title, about=about, settings=recorded(settings), fingerprint=fingerprint),
    )
    if PartialState().is_main_process:
        if not settings.streets:
            report_coverage(settings, classes)
        print(f"Look at {settings.out / 'samples.png'} and {settings.out / 'report.html'}")


def point_data() -> tuple[Dataset, Dataset, str]:
    return GaussianGrid(), GaussianGrid(length=SAMPLES, seed=1), "GaussianGrid()"


def street_data(size_px: int) -> tuple[Dataset, Dataset, str]:
    training = StreetPairs(count=2000, size=size_px)
    held_out = StreetPairs(count=64, size=size_px, first_seed=2000)
    return StreetPhotos(training), StreetPhotos(held_out), training.fingerprint


def networks(settings: Settings, classes: int) -> tuple[nn.Module, nn.Module]:
    if settings.streets:
        # Batch norm in the discriminator would leak from image to image through a gradient penalty.
        penalised = settings.gradient_penalty_weight > 0 or settings.r1_weight > 0
        return (
            DCGANGenerator(latent_channels=settings.latent_channels, width=settings.width, size=settings.size_px),
            DCGANDiscriminator(width=settings.width, size=settings.size_px, norm="none" if penalised else "batch"),
        )
    latent_channels = settings.latent_channels + classes
    return (
        MLPGenerator(latent_channels=latent_channels, out_channels=2, width=settings.width),
        MLPDiscriminator(in_channels=2 + classes, width=settings.width),
    )


def report_coverage(settings: Settings, classes: int) -> None:
    grid = GaussianGrid()
    generator, _ = load_generator(settings.out / "generator")
    torch.manual_seed(settings.training.seed)
    inputs = torch.randn(SAMPLES, settings.latent_channels)
    if classes:
        inputs = torch.cat([inputs, torch.eye(classes)[torch.arange(SAMPLES) % classes]], dim=1)
    with torch.no_grad():
        modes, good = grid.coverage(generator(inputs))
    print(f"\n{SAMPLES} samples cover {modes} of {len(grid.centres)} modes; {good:.1%} lie within 3 deviations of one")


if __name__ == "__main__":
    run(main, STREETS if "--streets" in sys.argv else POINTS, description=__doc__)
