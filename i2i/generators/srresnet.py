"""SRResNet, the generator of SRGAN (Ledig et al. 2017, §2.1 and figure 4), and the later one without batch norm."""

import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import OutputActivation, activate_output, conv_block
from i2i.layers.init import init_small
from i2i.layers.resample import upsampling_factors


class SRResNetGenerator(nn.Module):
    """Residual blocks with batch norm and PReLU at the input's size, then enlarge by pixel shuffle.

    (N, in_channels, H, W) → (N, out_channels, scale · H, scale · W), floating point, both with black at 0 and white
    at 1. Any H and W.

    Args:
        blocks: how many residual blocks; the paper takes 16.
        scale: a power of two, or 3.
        shared_slope: each PReLU learns one slope for all its channels instead of one a channel.
        output_activation: "none" leaves the output unbounded; "sigmoid" bounds it to [0, 1], and so does "tanh",
            as (tanh(x) + 1) / 2.
    """

    restores = True
    size_multiple = 1
    input_range = (0.0, 1.0)
    output_range = (0.0, 1.0)

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        blocks: int = 16,
        scale: int = 4,
        shared_slope: bool = True,
        output_activation: OutputActivation = "none",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.scale = scale
        self.output_activation = output_activation
        slopes = 1 if shared_slope else width

        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 9, padding=4), nn.PReLU(slopes))
        self.blocks = nn.Sequential(*(NormalisedBlock(width, slopes=slopes) for _ in range(blocks)))
        self.trunk = conv_block(width, width, kernel_size=3, padding=1, norm="batch")
        self.up = nn.Sequential(
            *(ShuffleUp(width, factor=factor, activation=nn.PReLU(slopes)) for factor in upsampling_factors(scale))
        )
        self.head = nn.Conv2d(width, out_channels, 9, padding=4)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels)
        features = self.stem(images)
        features = features + self.trunk(self.blocks(features))
        output = activate_output(self.head(self.up(features)), self.output_activation)
        return (output + 1) / 2 if self.output_activation == "tanh" else output


class NormalisedBlock(nn.Module):
    """Two 3×3 convolutions with batch norm beside an identity: (N, channels, H, W) → the same."""

    def __init__(self, channels: int, *, slopes: int) -> None:
        super().__init__()
        self.first = conv_block(channels, channels, kernel_size=3, padding=1, norm="batch")
        self.activation = nn.PReLU(slopes)
        self.second = conv_block(channels, channels, kernel_size=3, padding=1, norm="batch")

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(self.activation(self.first(features)))


class MSRResNetGenerator(nn.Module):
    """Residual blocks without norm; the network adds details to the input enlarged bilinearly.

    The "modified SRResNet" of BasicSR (https://github.com/XPixelGroup/BasicSR), after EDSR (Lim et al. 2017, §3.1).
    (N, in_channels, H, W) → (N, out_channels, scale · H, scale · W), floating point, both with black at 0 and white
    at 1, the output unbounded. Any H and W.

    Args:
        out_channels: as many as `in_channels`, or any number for a single one.
        scale: a power of two, or 3.
    """

    restores = True
    size_multiple = 1
    input_range = (0.0, 1.0)
    output_range = (0.0, 1.0)

    def __init__(
        self, *, in_channels: int, out_channels: int, width: int = 64, blocks: int = 16, scale: int = 4
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if in_channels not in (1, out_channels):
            raise InputError(
                f"expected as many channels out as in, since the input is added to the output; got {in_channels} in, "
                f"{out_channels} out"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.scale = scale

        def leaky() -> nn.Module:
            return nn.LeakyReLU(0.1, inplace=True)

        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), leaky())
        self.blocks = nn.Sequential(*(PlainBlock(width) for _ in range(blocks)))
        self.up = nn.Sequential(
            *(ShuffleUp(width, factor=factor, activation=leaky()) for factor in upsampling_factors(scale))
        )
        self.refine = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), leaky())
        self.head = nn.Conv2d(width, out_channels, 3, padding=1)
        init_small(self)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels)
        details = self.head(self.refine(self.up(self.blocks(self.stem(images)))))
        return details + F.interpolate(images, scale_factor=self.scale, mode="bilinear", align_corners=False)


class PlainBlock(nn.Module):
    """Two 3×3 convolutions beside an identity: (N, channels, H, W) → the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(F.relu(self.first(features), inplace=True))


class ShuffleUp(nn.Module):
    """Enlarge by pixel shuffle (Shi et al. 2016, eq. 4): (N, C, H, W) → (N, C, factor · H, factor · W)."""

    def __init__(self, channels: int, *, factor: int, activation: nn.Module) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(channels, channels * factor**2, 3, padding=1)
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(F.pixel_shuffle(self.conv(features), self.factor))
