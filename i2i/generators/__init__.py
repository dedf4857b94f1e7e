"""Networks that make images."""

from torch import nn

from i2i.generators.compact import CompactGenerator
from i2i.generators.dcgan import DCGANGenerator
from i2i.generators.mlp import MLPGenerator
from i2i.generators.progressive import ProgressiveGenerator
from i2i.generators.resnet import ResNetGenerator
from i2i.generators.rrdb import RRDBGenerator
from i2i.generators.sngan import SNGANGenerator
from i2i.generators.spade import SPADEGenerator, Styled
from i2i.generators.srresnet import MSRResNetGenerator, SRResNetGenerator
from i2i.generators.style_encoder import StyleEncoder
from i2i.generators.stylegan import StyleGANGenerator
from i2i.generators.transgan import TransGANGenerator
from i2i.generators.unet import UNetGenerator

__all__ = [
    "GENERATORS",
    "CompactGenerator",
    "DCGANGenerator",
    "MLPGenerator",
    "MSRResNetGenerator",
    "ProgressiveGenerator",
    "RRDBGenerator",
    "ResNetGenerator",
    "SNGANGenerator",
    "SPADEGenerator",
    "SRResNetGenerator",
    "StyleEncoder",
    "StyleGANGenerator",
    "Styled",
    "TransGANGenerator",
    "UNetGenerator",
]

GENERATORS: dict[str, type[nn.Module]] = {
    "unet": UNetGenerator,
    "resnet": ResNetGenerator,
    "spade": SPADEGenerator,
    "rrdb": RRDBGenerator,
    "srresnet": SRResNetGenerator,
    "msrresnet": MSRResNetGenerator,
    "compact": CompactGenerator,
    "dcgan": DCGANGenerator,
    "mlp": MLPGenerator,
    "sngan": SNGANGenerator,
    "progressive": ProgressiveGenerator,
    "stylegan": StyleGANGenerator,
    "transgan": TransGANGenerator,
}
