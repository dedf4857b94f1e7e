"""Weights on disk: our own format, and other projects'."""

from i2i.checkpoints.foreign import load_network
from i2i.checkpoints.store import GeneratorSpec, ImageSide, load_generator, save_generator

__all__ = ["GeneratorSpec", "ImageSide", "load_generator", "load_network", "save_generator"]
