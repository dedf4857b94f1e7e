"""The style encoder of GauGAN (Park et al. 2019, appendix A, "image encoder")."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import add_spectral_norm, conv_block
from i2i.layers.init import init_weights
from i2i.layers.norm import Norm

# The side of the map that is flattened, in pixels.
_SMALLEST_PX = 4


class Style(NamedTuple):
    """A normal distribution of latent vectors, with independent values: two tensors (N, latent_channels)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Latent vectors (N, latent_channels) drawn from the distributions, by torch's global generator.

        Kingma & Welling 2014, §2.4: gradients reach mean and variance.
        """
        return self.mean + torch.exp(0.5 * self.log_variance) * torch.randn_like(self.mean)


class StyleEncoder(nn.Module):
    """Read the style of photos: (N, in_channels, H, W) in [-1, 1] → where in the space of latent vectors it lies.

    Convolutions of stride 2 lead down to 4×4 pixels, and a linear layer each from there to mean and log-variance.

    Args:
        width: channels after the first convolution; they double with each further one, up to 8 × width.
        latent_channels: length of the latent vectors.
        image_px: side of the square that photos are resized to, bilinearly; a power of two from 8 on.
        norm: after every convolution.
        spectral: divide the weights of the convolutions by their largest singular values.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 64,
        latent_channels: int = 256,
        image_px: int = 256,
        norm: Norm = "instance",
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if image_px < 2 * _SMALLEST_PX or image_px.bit_count() != 1:
            raise InputError(f"expected image_px to be a power of two of at least {2 * _SMALLEST_PX}, got {image_px}")
        self.in_channels = in_channels
        self.image_px = image_px

        layers = (image_px // _SMALLEST_PX).bit_length() - 1
        widths = [in_channels] + [width * min(2**level, 8) for level in range(layers)]
        self.blocks = nn.Sequential(
            *(
                conv_block(inputs, outputs, kernel_size=3, stride=2, padding=1, norm=norm, activation="leaky_relu")
                for inputs, outputs in pairwise(widths)
            )
        )
        self.mean = nn.Linear(widths[-1] * _SMALLEST_PX**2, latent_channels)
        self.log_variance = nn.Linear(widths[-1] * _SMALLEST_PX**2, latent_channels)
        init_weights(self)
        if spectral:
            add_spectral_norm(self.blocks)

    def forward(self, photos: Tensor) -> Style:
        check_images(photos, channels=self.in_channels)
        if photos.shape[2:] != (self.image_px, self.image_px):
            photos = F.interpolate(photos, size=(self.image_px, self.image_px), mode="bilinear")
        features = self.blocks(photos).flatten(1)
        return Style(self.mean(features), self.log_variance(features))
