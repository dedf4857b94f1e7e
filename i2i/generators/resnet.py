"""The residual generator of CycleGAN (Zhu et al. 2017, §7.2), after Johnson et al. 2016."""

import torch
from torch import Tensor, nn

from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import conv_block, make_activation, needs_bias
from i2i.layers.init import init_weights
from i2i.layers.norm import Norm, make_norm
from i2i.layers.resample import Upsampling, upsample_conv


class ResNetGenerator(nn.Module):
    """Halve the image twice, pass it through residual blocks, double it twice.

    (N, in_channels, H, W) → (N, out_channels, H, W), floating point, input as in training (usually
    [-1, 1]), output in [-1, 1]. H and W must be multiples of `size_multiple` = 4 and at least 8, else
    InputError.

    Args:
        width: channels after the first convolution; the residual blocks have 4 × width.
        blocks: how many residual blocks; the paper takes 6 for 128 px and 9 from 256 px on.
        dropout: drop half of the features inside each residual block.
        upsampling: "resize" avoids checkerboard patterns.
    """

    scale = 1
    size_multiple = 4
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        dropout: bool = False,
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.out_channels = out_channels

        def down(in_width: int, out_width: int) -> nn.Sequential:
            return conv_block(in_width, out_width, kernel_size=3, stride=2, padding=1, norm=norm, activation="relu")

        def up(in_width: int, out_width: int) -> nn.Sequential:
            bias = needs_bias(norm)
            return nn.Sequential(
                upsample_conv(in_width, out_width, kernel_size=3, upsampling=upsampling, bias=bias),
                make_norm(norm, out_width),
                make_activation("relu", after=norm),
            )

        self.stem = conv_block(
            in_channels,
            width,
            kernel_size=7,
            padding=3,
            padding_mode="reflect",
            norm=norm,
            activation="relu",
        )
        self.down = nn.Sequential(down(width, 2 * width), down(2 * width, 4 * width))
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width, norm=norm, dropout=dropout) for _ in range(blocks)))
        self.up = nn.Sequential(up(4 * width, 2 * width), up(2 * width, width))
        self.head = nn.Conv2d(width, out_channels, 7, padding=3, padding_mode="reflect")
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        # The residual blocks reflect at the border of maps a quarter of this size, which takes two pixels.
        check_images(images, channels=self.in_channels, multiple=self.size_multiple, minimum=8)
        return torch.tanh(self.head(self.up(self.blocks(self.down(self.stem(images))))))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside an identity: (N, channels, H, W) → the same (He et al. 2016)."""

    def __init__(self, channels: int, *, norm: Norm, dropout: bool) -> None:
        super().__init__()
        self.first = conv_block(
            channels,
            channels,
            kernel_size=3,
            padding=1,
            padding_mode="reflect",
            norm=norm,
            activation="relu",
        )
        self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()
        self.second = conv_block(channels, channels, kernel_size=3, padding=1, padding_mode="reflect", norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(self.dropout(self.first(features)))
