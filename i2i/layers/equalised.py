"""Layers that all learn equally fast: weights from N(0, 1), scaled at every use (Karras et al. 2018, §4.1).

arXiv:1710.10196. Adam's steps do not depend on how large gradients are, so weights that start large take long to change
and small ones change too fast. Here all start alike, and He's constant, gain / √fan-in, which others draw weights with,
is applied at run time.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn


class EqualisedConv2d(nn.Conv2d):
    """A convolution, padded so that it keeps the size of maps, (N, in, H, W) → (N, out, H, W).

    Args:
        kernel_size: odd.
        gain: √2 before a ReLU or leaky ReLU that does not make up for what it cuts off; 1 else.
        bias: learnt, from 0.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, gain: float = 1.0, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)

    def reset_parameters(self) -> None:
        _draw(self, std=1.0)

    def forward(self, features: Tensor) -> Tensor:
        return self._conv_forward(features, self.weight * self.scale, self.bias)


class EqualisedLinear(nn.Linear):
    """A linear layer, (N, in) → (N, out).

    Args:
        gain: as of `EqualisedConv2d`.
        learning_rate_multiplier: how fast it learns next to other layers; StyleGAN's mapping has 0.01.
        initial_bias: what its biases start from.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float = 1.0,
        learning_rate_multiplier: float = 1.0,
        initial_bias: float = 0.0,
    ) -> None:
        self.multiplier = learning_rate_multiplier
        self.initial_bias = initial_bias
        super().__init__(in_features, out_features)
        self.scale = gain / math.sqrt(in_features) * learning_rate_multiplier

    def reset_parameters(self) -> None:
        _draw(self, std=1 / self.multiplier, bias=self.initial_bias / self.multiplier)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight * self.scale, self.bias * self.multiplier)


class ScaledLeakyReLU(nn.Module):
    """Leaky ReLU of slope 0.2, times √2: it leaves the mean square of N(0, 1) about as it is. StyleGAN's."""

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(features, 0.2) * math.sqrt(2)


def _draw(layer: nn.Conv2d | nn.Linear, *, std: float, bias: float = 0.0) -> None:
    if layer.weight.is_meta:
        return
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
