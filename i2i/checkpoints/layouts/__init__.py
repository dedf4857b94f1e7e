"""Weight files of other projects, one project a file."""

from i2i.checkpoints.layouts import esrgan, junyanz, resnet, spade
from i2i.checkpoints.layouts.layout import Family

__all__ = ["FAMILIES"]

# The first that recognises a file has it.
FAMILIES: tuple[Family, ...] = (*junyanz.FAMILIES, *resnet.FAMILIES, *esrgan.FAMILIES, *spade.FAMILIES)
