"""A small fully connected generator, for points instead of images."""

from itertools import pairwise

from torch import Tensor, nn

from i2i.layers.checks import constructor_arguments


class MLPGenerator(nn.Module):
    """(N, latent_channels) → (N, out_channels), floating point, both unbounded.

    Args:
        width: units of each hidden layer.
        layers: how many hidden layers, each followed by a ReLU.

    Weights keep PyTorch's own initialisation: N(0, 0.02²) would all but silence so narrow a network.
    """

    output_range = (float("-inf"), float("inf"))

    def __init__(self, *, latent_channels: int, out_channels: int, width: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = latent_channels
        self.out_channels = out_channels
        self.hidden = nn.Sequential()
        for inputs, outputs in pairwise([latent_channels] + [width] * layers):
            self.hidden.extend([nn.Linear(inputs, outputs), nn.ReLU(inplace=True)])
        self.head = nn.Linear(width, out_channels)

    def forward(self, latents: Tensor) -> Tensor:
        return self.head(self.hidden(latents))
