"""Weights on disk: our own format, and other projects'."""

from i2i.checkpoints.foreign import Checkpoint, load_network, open_checkpoint
from i2i.checkpoints.store import (
    GeneratorSpec,
    ImageSide,
    load_discriminator,
    load_generator,
    save_discriminator,
    save_generator,
)

__all__ = [
    "Checkpoint",
    "GeneratorSpec",
    "ImageSide",
    "load_discriminator",
    "load_generator",
    "load_network",
    "open_checkpoint",
    "save_discriminator",
    "save_generator",
]
