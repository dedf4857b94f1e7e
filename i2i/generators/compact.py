"""The compact network of Real-ESRGAN, for video and for machines without a GPU.

A plain row of convolutions at the input's size (SRVGGNetCompact in https://github.com/xinntao/Real-ESRGAN).
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments

CompactActivation = Literal["prelu", "relu", "leaky_relu"]


class CompactGenerator(nn.Module):
    """Convolutions at the input's size make what the repeated pixels of the input lack.

    (N, in_channels, H, W) → (N, out_channels, scale · H, scale · W), floating point, both with black at 0 and white
    at 1, the output unbounded. Any H and W.

    Args:
        out_channels: as many as `in_channels`, or any number for a single one.
        width: channels of all convolutions but the last.
        convs: how many convolutions between the first and the last.
        activation: "leaky_relu" has a slope of 0.1 below zero, "prelu" one that each channel learns.
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
        convs: int = 16,
        scale: int = 4,
        activation: CompactActivation = "prelu",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if in_channels not in (1, out_channels):
            raise InputError(
                f"expected as many channels out as in, since the input is added to the output; got {in_channels} in, "
                f"{out_channels} out"
            )
        if scale < 1:
            raise InputError(f"expected a scale of at least 1, got {scale}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.scale = scale

        self.body = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), _make_activation(activation, width))
        for _ in range(convs):
            self.body.extend([nn.Conv2d(width, width, 3, padding=1), _make_activation(activation, width)])
        self.body.append(nn.Conv2d(width, out_channels * scale**2, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels)
        details = F.pixel_shuffle(self.body(images), self.scale)
        return details + F.interpolate(images, scale_factor=self.scale, mode="nearest")


def _make_activation(kind: CompactActivation, channels: int) -> nn.Module:
    match kind:
        case "prelu":
            return nn.PReLU(channels)
        case "relu":
            return nn.ReLU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(0.1, inplace=True)
        case _:
            raise InputError(f'expected activation to be "prelu", "relu" or "leaky_relu", got {kind!r}')
