"""Networks that make images."""

from torch import nn

from i2i.generators.dcgan import DCGANGenerator
from i2i.generators.mlp import MLPGenerator
from i2i.generators.resnet import ResNetGenerator
from i2i.generators.spade import SPADEGenerator
from i2i.generators.unet import UNetGenerator

__all__ = ["GENERATORS", "DCGANGenerator", "MLPGenerator", "ResNetGenerator", "SPADEGenerator", "UNetGenerator"]

GENERATORS: dict[str, type[nn.Module]] = {
    "unet": UNetGenerator,
    "resnet": ResNetGenerator,
    "spade": SPADEGenerator,
    "dcgan": DCGANGenerator,
    "mlp": MLPGenerator,
}
