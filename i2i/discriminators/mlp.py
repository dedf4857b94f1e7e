"""A small fully connected discriminator, for points instead of images."""

from itertools import pairwise

from torch import Tensor, nn

from i2i.layers.checks import constructor_arguments
from i2i.layers.classes import append_classes


class MLPDiscriminator(nn.Module):
    """Points (N, in_channels), floating point, → (N,) raw scores.

    With classes it also takes the class id of each point, (N,) int64, whose one-hot form is joined to it.

    Args:
        width: units of each hidden layer.
        layers: how many hidden layers, each followed by a leaky ReLU.
        classes: number of classes; 0: none.

    Weights keep PyTorch's own initialisation: N(0, 0.02²) would all but silence so narrow a network.
    """

    out_channels = 1

    def __init__(self, *, in_channels: int, width: int = 128, layers: int = 3, classes: int = 0) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.classes = classes
        self.hidden = nn.Sequential()
        for inputs, outputs in pairwise([in_channels + classes] + [width] * layers):
            self.hidden.extend([nn.Linear(inputs, outputs), nn.LeakyReLU(0.2, inplace=True)])
        self.head = nn.Linear(width, 1)

    def forward(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(self.hidden(append_classes(points, labels, classes=self.classes))).squeeze(1)
