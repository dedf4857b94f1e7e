"""WGAN-GP finds all of the grid of 25 Gaussians, on which plain GANs drop modes (Lin et al. 2018, table 1)."""

from pathlib import Path

import pytest
import torch

from i2i.checkpoints import GeneratorSpec, ImageSide, load_generator
from i2i.data.points import Gaussians
from i2i.discriminators import MLPDiscriminator
from i2i.generators import MLPGenerator
from i2i.losses.adversarial import Wasserstein
from i2i.losses.penalties import Penalties
from i2i.methods.gan import GAN
from i2i.training.config import TrainingSettings
from i2i.training.loop import train
from i2i.training.report import RunFacts


def small_grid(*, length: int, seed: int) -> Gaussians:
    """The papers' grid, a quarter as large: in [-1, 1]² a few thousand steps are enough."""
    centres = Gaussians.grid(length=1).centres / 4
    return Gaussians(centres=centres, deviation=0.05 / 4, length=length, seed=seed)


@pytest.mark.slow
def test_at_least_23_of_25_modes(tmp_path: Path) -> None:
    grid = small_grid(length=100_000, seed=0)
    train(
        method=GAN(
            generator=MLPGenerator(latent_channels=2, out_channels=2, width=64),
            discriminator=MLPDiscriminator(in_channels=2, width=64),
            objective=Wasserstein(),
            penalties=Penalties(gradient_penalty=0.1),
        ),
        training_data=grid,
        validation_data=small_grid(length=2000, seed=1),
        specs={
            "generator": GeneratorSpec(input=None, output=ImageSide(channels=2, dtype="float32", data_range=(-1, 1)))
        },
        settings=TrainingSettings(
            steps=4000,
            batch_size=64,
            critic_steps=2,
            generator_learning_rate=2e-3,
            discriminator_learning_rate=2e-3,
            adam_betas=(0.0, 0.9),
            ema_decay=0.995,
            validate_every_steps=4000,
            save_every_steps=4000,
            workers=0,
            device="cpu",
        ),
        out=tmp_path / "run",
        facts=RunFacts(title="25 Gaussians", about="", settings={}, fingerprint=""),
    )
    generator, _ = load_generator(tmp_path / "run" / "generator")
    with torch.no_grad():
        found = grid.coverage(generator(torch.randn(10_000, 2)))
    assert found.modes >= 23
    # Points spread evenly over the square would hit a node's surroundings with 2 %.
    assert found.good > 0.25
