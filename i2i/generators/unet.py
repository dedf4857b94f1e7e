"""The U-Net generator of pix2pix (Isola et al. 2017, §3.2.1 and §6.1.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import OutputActivation, activate_output, conv_block, needs_bias
from i2i.layers.init import init_weights
from i2i.layers.norm import Norm, make_norm
from i2i.layers.resample import Upsampling, upsample_conv


class UNetGenerator(nn.Module):
    """Halve the image `depth` times, then double it as often; each size hands its features across.

    (N, in_channels, H, W) → (N, out_channels, H, W), floating point, input as in training (usually
    [-1, 1]), output in [-1, 1] unless `output_activation` says otherwise. H and W must be multiples of
    `size_multiple` = 2**depth, else InputError.

    Args:
        width: channels after the first convolution; they double with each halving, up to 8 × width.
        depth: how often the image is halved, at least 2; 8 brings 256 px down to one.
        norm: used everywhere but in the first, innermost and last convolution.
        dropout: drop half of the features in the decoder's wide blocks (8 × width channels in and out)
            except the innermost; these exist from depth 6 on.
        upsampling: "resize" avoids checkerboard patterns.
        full_size_skip: hand the image itself across as well, so that the output's edges can be as crisp as the
            input's. The paper's largest skip is half the image's size.
        output_activation: bounds the output: "tanh" to [-1, 1], "sigmoid" to [0, 1], "none" leaves it unbounded.
    """

    scale = 1
    input_range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 8,
        norm: Norm = "batch",
        dropout: bool = True,
        upsampling: Upsampling = "transposed",
        full_size_skip: bool = False,
        output_activation: OutputActivation = "tanh",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if depth < 2:
            raise InputError(f"expected a depth of at least 2, got {depth}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.size_multiple = 2**depth
        self.output_activation = output_activation
        self.output_range = (0.0, 1.0) if output_activation == "sigmoid" else (-1.0, 1.0)

        widths = [width * min(2**level, 8) for level in range(depth)]
        self.down = nn.ModuleList()
        for level, channels in enumerate(widths):
            innermost = level == depth - 1
            self.down.append(
                conv_block(
                    widths[level - 1] if level else in_channels,
                    channels,
                    kernel_size=4,
                    stride=2,
                    padding=1,
                    norm="none" if level == 0 or innermost else norm,
                    activation="relu" if innermost else "leaky_relu",
                )
            )

        def up_block(inputs: int, outputs: int, *, drop: bool = False) -> nn.Sequential:
            return nn.Sequential(
                upsample_conv(inputs, outputs, kernel_size=4, upsampling=upsampling, bias=needs_bias(norm)),
                make_norm(norm, outputs),
                nn.Dropout(0.5) if drop else nn.Identity(),
            )

        self.up = nn.ModuleList([up_block(widths[-1], widths[-2])])
        for level in range(depth - 2, 0, -1):
            self.up.append(up_block(2 * widths[level], widths[level - 1], drop=dropout and level >= 4))
        self.full_size: nn.Module | None = None
        self.head: nn.Module
        if full_size_skip:
            half = max(1, width // 2)
            self.full_size = conv_block(
                in_channels, half, kernel_size=3, padding=1, norm="none", activation="leaky_relu"
            )
            self.up.append(up_block(2 * width, half))
            self.head = nn.Conv2d(2 * half, out_channels, 3, padding=1)
        else:
            self.head = upsample_conv(2 * width, out_channels, kernel_size=4, upsampling=upsampling, bias=True)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels, multiple=self.size_multiple)
        features = images
        skips = [] if self.full_size is None else [self.full_size(images)]
        for down in self.down:
            features = down(features)
            skips.append(features)
        skips.pop()  # the innermost features go straight up
        for up in self.up:
            features = F.relu(torch.cat([skips.pop(), up(features)], dim=1), inplace=True)
        return activate_output(self.head(features), self.output_activation)

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        at_full_size = [] if self.full_size is None else [self.full_size]
        return [*at_full_size, *self.down, *self.up]
