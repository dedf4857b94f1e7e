"""A small fully connected discriminator, for points instead of images."""

from itertools import pairwise

from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import constructor_arguments
from i2i.layers.classes import append_classes
from i2i.layers.minibatch import Minibatch, make_minibatch


class MLPDiscriminator(nn.Module):
    """Points (N, in_channels), floating point, → (N,) raw scores.

    With classes it also takes the class id of each point, (N,) int64, whose one-hot form is joined to it.

    Args:
        width: units of each hidden layer.
        layers: how many hidden layers, at least 1, each followed by a leaky ReLU.
        classes: number of classes; 0: none.
        minibatch: statistics of the batch that are joined to the last hidden layer's features.

    Weights keep PyTorch's own initialisation: N(0, 0.02²) would all but silence so narrow a network.
    """

    out_channels = 1

    def __init__(
        self,
        *,
        in_channels: int,
        width: int = 128,
        layers: int = 3,
        classes: int = 0,
        minibatch: Minibatch = "none",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if layers < 1:
            raise InputError(f"expected at least one hidden layer, got {layers}")
        self.in_channels = in_channels
        self.classes = classes
        self.hidden = nn.Sequential()
        for inputs, outputs in pairwise([in_channels + classes] + [width] * layers):
            self.hidden.extend([nn.Linear(inputs, outputs), nn.LeakyReLU(0.2, inplace=True)])
        self.minibatch, features = make_minibatch(minibatch, width)
        self.head = nn.Linear(features, 1)

    def forward(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.hidden(append_classes(points, labels, classes=self.classes))
        return self.head(self.minibatch(features)).squeeze(1)
