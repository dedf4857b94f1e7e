"""Networks that make images."""

from torch import nn

from i2i.generators.dcgan import DCGANGenerator
from i2i.generators.mlp import MLPGenerator
from i2i.generators.resnet import ResNetGenerator
from i2i.generators.unet import UNetGenerator

__all__ = ["GENERATORS", "DCGANGenerator", "MLPGenerator", "ResNetGenerator", "UNetGenerator"]

GENERATORS: dict[str, type[nn.Module]] = {
    "unet": UNetGenerator,
    "resnet": ResNetGenerator,
    "dcgan": DCGANGenerator,
    "mlp": MLPGenerator,
}
