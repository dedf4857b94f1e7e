"""A pix2pix in float64 on fixed numbers, for comparing ways to train that should come to the same."""

from pathlib import Path

import torch
from torch import Tensor

from i2i.discriminators import MLPDiscriminator
from i2i.generators import MLPGenerator
from i2i.methods.base import Batch, Method
from i2i.methods.pix2pix import Pix2Pix
from i2i.training.config import TrainingSettings
from i2i.training.loop import Trainer, make_accelerator

SETTINGS = TrainingSettings(
    steps=6,
    schedule="constant",
    generator_learning_rate=1e-2,
    discriminator_learning_rate=2e-2,
    device="cpu",
)
# One batch a step: 8 points of 3 input and 2 target channels.
BATCHES = list(torch.randn(SETTINGS.steps, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


def double_pix2pix() -> Pix2Pix:
    torch.manual_seed(0)
    return Pix2Pix(
        generator=MLPGenerator(latent_channels=3, out_channels=2, width=8, layers=2).double(),
        discriminator=MLPDiscriminator(in_channels=5, width=8, layers=2).double(),
    )


def as_batch(numbers: Tensor) -> Batch:
    return {"input": numbers[:, :3], "target": numbers[:, 3:]}


def trainer_for(method: Method, settings: TrainingSettings, batches: list[Batch]) -> Trainer:
    return Trainer(
        method=method,
        settings=settings,
        accelerator=make_accelerator(settings, Path()),
        batches=iter(batches),
    )


def trained(method: Method, micro_batches: list[Tensor], *, accumulation: int = 1) -> list[Tensor]:
    """The weights after SETTINGS.steps steps, generator's first."""
    settings = TrainingSettings(**{**vars(SETTINGS), "accumulation": accumulation})
    trainer = trainer_for(method, settings, [as_batch(numbers) for numbers in micro_batches])
    for step in range(settings.steps):
        trainer.step(step)
    trainer.release()
    networks = [*method.generators.values(), *method.discriminators.values()]
    return [weight.detach() for network in networks for weight in network.parameters()]
