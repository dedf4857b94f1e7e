"""Trained generators at work."""

from i2i.inference.loading import load
from i2i.inference.sampler import Sampler
from i2i.inference.translator import Translator

__all__ = ["Sampler", "Translator", "load"]
