"""The residual generator of CycleGAN (Zhu et al. 2017, §7.2), after Johnson et al. 2016.

pix2pixHD's global generator (Wang et al. 2018, §3.2) halves four times instead of twice; CUT's (Park et al. 2020)
blurs as it resizes.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import OutputActivation, activate_output, conv_block, make_activation, needs_bias
from i2i.layers.init import init_weights
from i2i.layers.norm import Norm, make_norm
from i2i.layers.resample import BlurDownsample, Upsampling, upsample_conv


class ResNetGenerator(nn.Module):
    """Halve the image `downsamplings` times, pass it through residual blocks, double it as often.

    (N, in_channels, H, W) → (N, out_channels, H, W), floating point, input as in training (usually
    [-1, 1]), output in [-1, 1] unless `output_activation` says otherwise. H and W must be multiples of
    `size_multiple` = 2**downsamplings and at least `smallest_px`, twice that, else InputError.

    Args:
        width: channels after the first convolution; they double with each halving.
        blocks: how many residual blocks; CycleGAN's paper takes 6 for 128 px and 9 from 256 px on.
        dropout: drop half of the features inside each residual block.
        upsampling: "resize" avoids checkerboard patterns; "bilinear" is CUT's.
        downsamplings: how often the image is halved, at least once.
        antialias: blur before halving, instead of convolutions of stride 2.
        output_activation: bounds the output: "tanh" to [-1, 1], "sigmoid" to [0, 1], "none" leaves it unbounded.
        takes_labels: whether the input is a one-hot label map (0 and 1), as for pix2pixHD's street scenes, and no
            image. The network is the same.
        skips: each size hands its features across, as in a U-Net, so that edges need not pass through the blocks.
        residual: the input times this is added to what `output_activation` gets, so that only the change has to be
            learnt; 1.5 lets tanh give an image back nearly as it came. Needs as many channels out as in.

    Attributes:
        tap_channels: channels of each stage that `forward` can tap: the images, the stem, then each halving, then
            each residual block.
    """

    scale = 1

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
        downsamplings: int = 2,
        antialias: bool = False,
        output_activation: OutputActivation = "tanh",
        takes_labels: bool = False,
        skips: bool = False,
        residual: float = 0.0,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if downsamplings < 1:
            raise InputError(f"expected at least one downsampling, got {downsamplings}")
        if residual and in_channels != out_channels:
            raise InputError(
                f"expected as many channels out as in where residual is not 0, got {in_channels} in and "
                f"{out_channels} out"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.skips = skips
        self.residual = residual
        self.size_multiple = 2**downsamplings
        # The residual blocks reflect at the border of the smallest maps, which takes two pixels.
        self.smallest_px = 2 * self.size_multiple
        self.takes_labels = takes_labels
        self.input_range = (0.0, 1.0) if takes_labels else (-1.0, 1.0)
        self.output_activation = output_activation
        self.output_range = (0.0, 1.0) if output_activation == "sigmoid" else (-1.0, 1.0)

        def down(in_width: int, out_width: int) -> nn.Sequential:
            stride = 1 if antialias else 2
            block = conv_block(
                in_width, out_width, kernel_size=3, stride=stride, padding=1, norm=norm, activation="relu"
            )
            return block.append(BlurDownsample()) if antialias else block

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
        widths = [width * 2**level for level in range(downsamplings + 1)]
        self.tap_channels = (in_channels, *widths, *widths[-1:] * blocks)
        self.down = nn.Sequential(*(down(*pair) for pair in pairwise(widths)))
        self.blocks = nn.Sequential(*(ResidualBlock(widths[-1], norm=norm, dropout=dropout) for _ in range(blocks)))
        self.up = nn.Sequential()
        for level, (deeper, wider) in enumerate(pairwise(reversed(widths))):
            self.up.append(up(2 * deeper if skips and level > 0 else deeper, wider))
        self.head = nn.Conv2d(2 * width if skips else width, out_channels, 7, padding=3, padding_mode="reflect")
        init_weights(self)
        if residual:
            init_weights(self.head, std=0.002)  # at first little is added, so that the output shows the input

    def forward(
        self, images: Tensor, taps: Sequence[int] | None = None, decode: bool = True
    ) -> Tensor | tuple[Tensor | None, list[Tensor]]:
        """Translate, and hand out what stages on the way have found.

        Args:
            images: (N, in_channels, H, W).
            taps: stages, as `tap_channels` counts them, whose features are wanted.
            decode: False goes no further than the last tap, and gives None for the output.

        Returns:
            The output (N, out_channels, H, W); with taps (output, features), in the order of the taps.
        """
        check_images(images, channels=self.in_channels, multiple=self.size_multiple, minimum=self.smallest_px)
        wanted = set(taps or ())
        if self.skips:
            wanted.update(range(1, 1 + len(self.down)))
        encoder = [self.stem, *self.down, *self.blocks]
        features, kept = images, {0: images}
        for number, stage in enumerate(encoder if decode else encoder[: max(taps or (0,))], start=1):
            features = stage(features)
            if number in wanted:
                kept[number] = features
        tapped = [kept[tap] for tap in taps or ()]
        if not decode:
            return None, tapped

        for number, up in zip(range(len(self.up), 0, -1), self.up, strict=True):
            features = up(features)
            if self.skips:
                features = torch.cat([features, kept[number]], dim=1)
        output = self.head(features)
        if self.residual:
            output = output + self.residual * images
        output = activate_output(output, self.output_activation)
        return output if taps is None else (output, tapped)

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        return [self.stem, *self.down, *self.blocks, *self.up]


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
