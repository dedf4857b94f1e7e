"""Weight files of other projects, one project a file."""

from i2i.checkpoints.layouts import esrgan, junyanz, resnet, spade, srgan
from i2i.checkpoints.layouts.layout import Family

__all__ = ["FAMILIES"]

# The first that recognises a file has it.
FAMILIES: tuple[Family, ...] = (
    *junyanz.FAMILIES,
    *resnet.FAMILIES,
    *spade.FAMILIES,
    *esrgan.FAMILIES,
    *srgan.FAMILIES,
)
