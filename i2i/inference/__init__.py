"""Trained generators at work."""

from i2i.inference.translator import Translator, load

__all__ = ["Translator", "load"]
