"""Weight files of other projects, one project a file."""

from i2i.checkpoints.layouts import esrgan, junyanz, pix2pixhd, resnet, spade, srgan
from i2i.checkpoints.layouts.layout import Family

__all__ = ["FAMILIES"]

# The first that recognises a file has it.
FAMILIES: tuple[Family, ...] = (
    *junyanz.FAMILIES,
    *resnet.FAMILIES,
    *pix2pixhd.FAMILIES,
    *spade.FAMILIES,
    *esrgan.FAMILIES,
    *srgan.FAMILIES,
)
