"""Networks that judge images."""

from torch import nn

from i2i.discriminators.dcgan import DCGANDiscriminator
from i2i.discriminators.mlp import MLPDiscriminator
from i2i.discriminators.multiscale import MultiscaleDiscriminator
from i2i.discriminators.patch import PatchDiscriminator, PixelDiscriminator
from i2i.discriminators.progressive import ProgressiveDiscriminator
from i2i.discriminators.sngan import SNGANDiscriminator
from i2i.discriminators.stylegan import StyleGANDiscriminator
from i2i.discriminators.transgan import TransGANDiscriminator
from i2i.discriminators.unet import UNetDiscriminator
from i2i.discriminators.vgg import VGGDiscriminator

__all__ = [
    "DISCRIMINATORS",
    "DCGANDiscriminator",
    "MLPDiscriminator",
    "MultiscaleDiscriminator",
    "PatchDiscriminator",
    "PixelDiscriminator",
    "ProgressiveDiscriminator",
    "SNGANDiscriminator",
    "StyleGANDiscriminator",
    "TransGANDiscriminator",
    "UNetDiscriminator",
    "VGGDiscriminator",
]

DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "patch": PatchDiscriminator,
    "pixel": PixelDiscriminator,
    "multiscale": MultiscaleDiscriminator,
    "vgg": VGGDiscriminator,
    "unet": UNetDiscriminator,
    "dcgan": DCGANDiscriminator,
    "mlp": MLPDiscriminator,
    "sngan": SNGANDiscriminator,
    "stylegan": StyleGANDiscriminator,
    "progressive": ProgressiveDiscriminator,
    "transgan": TransGANDiscriminator,
}
