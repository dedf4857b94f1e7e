"""A small fully connected generator, for points instead of images."""

from itertools import pairwise

from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_latents, constructor_arguments
from i2i.layers.classes import append_classes


class MLPGenerator(nn.Module):
    """(N, latent_channels) → (N, out_channels), floating point, both unbounded.

    With classes it also takes the class id of each point, (N,) int64, whose one-hot form is joined to the vector.

    Args:
        width: units of each hidden layer.
        layers: how many hidden layers, at least 1, each followed by a ReLU.
        classes: number of classes to choose from; 0: none.

    Weights keep PyTorch's own initialisation: N(0, 0.02²) would all but silence so narrow a network.
    """

    output_range = (float("-inf"), float("inf"))

    def __init__(
        self, *, latent_channels: int, out_channels: int, width: int = 128, layers: int = 3, classes: int = 0
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if layers < 1:
            raise InputError(f"expected at least one hidden layer, got {layers}")
        self.latent_channels = latent_channels
        self.classes = classes
        self.out_channels = out_channels
        self.hidden = nn.Sequential()
        for inputs, outputs in pairwise([latent_channels + classes] + [width] * layers):
            self.hidden.extend([nn.Linear(inputs, outputs), nn.ReLU(inplace=True)])
        self.head = nn.Linear(width, out_channels)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_latents(latents, channels=self.latent_channels)
        return self.head(self.hidden(append_classes(latents, labels, classes=self.classes)))
