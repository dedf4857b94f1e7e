"""Discriminators that score patches instead of whole images (Isola et al. 2017, §3.2.2 and §6.1.2)."""

from itertools import pairwise

from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import add_spectral_norm, conv_block
from i2i.layers.init import init_weights
from i2i.layers.minibatch import Minibatch, make_minibatch
from i2i.layers.norm import Norm


class PatchDiscriminator(nn.Module):
    """PatchGAN: (N, in_channels, H, W) → (N, 1, h, w), one raw score for each overlapping patch.

    With `layers` = 3 a patch is 70×70 px. `in_channels` counts all that the discriminator sees: condition
    and image joined along channels. Any H and W of at least 3 × 2**layers px, else InputError; h and w are
    H and W over 2**layers, less 2.

    Args:
        width: channels after the first convolution; they double with each further one, up to 8 × width.
        layers: how many convolutions of stride 2; two of stride 1 follow.
        norm: used everywhere but in the first and last convolution.
        spectral: normalise every weight by its largest singular value.
        minibatch: "stddev" joins to the last features how far they differ over the batch; "discrimination" would
            need images of one size.
    """

    out_channels = 1

    def __init__(
        self,
        *,
        in_channels: int,
        width: int = 64,
        layers: int = 3,
        norm: Norm = "batch",
        spectral: bool = False,
        minibatch: Minibatch = "none",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if layers < 1:
            raise InputError(f"expected at least one layer, got {layers}; PixelDiscriminator has none")
        if minibatch == "discrimination":
            raise InputError('a PatchDiscriminator takes images of any size: expected minibatch "none" or "stddev"')
        self.in_channels = in_channels
        self.smallest_px = 3 * 2**layers

        widths = [in_channels] + [width * min(2**level, 8) for level in range(layers + 1)]
        self.blocks = nn.Sequential()
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            self.blocks.append(
                conv_block(
                    inputs,
                    outputs,
                    kernel_size=4,
                    stride=2 if level < layers else 1,
                    padding=1,
                    norm=norm if level else "none",
                    activation="leaky_relu",
                )
            )
        self.minibatch, channels = make_minibatch(minibatch, widths[-1])
        self.head = nn.Conv2d(channels, 1, 4, padding=1)
        init_weights(self)
        if spectral:
            add_spectral_norm(self)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels, minimum=self.smallest_px)
        return self.head(self.minibatch(self.blocks(images)))


class PixelDiscriminator(nn.Module):
    """PixelGAN: (N, in_channels, H, W) → (N, 1, H, W), a raw score for each pixel's colour alone."""

    out_channels = 1

    def __init__(self, *, in_channels: int, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.blocks = nn.Sequential(
            conv_block(in_channels, width, kernel_size=1, norm="none", activation="leaky_relu"),
            conv_block(width, 2 * width, kernel_size=1, norm=norm, activation="leaky_relu"),
        )
        self.head = nn.Conv2d(2 * width, 1, 1)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels)
        return self.head(self.blocks(images))
