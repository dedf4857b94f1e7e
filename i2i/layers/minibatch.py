"""What a discriminator may know about a batch as a whole, so that it sees samples that are all alike."""

from typing import Literal

import torch
from torch import Tensor, nn

from i2i.errors import InputError

Minibatch = Literal["none", "stddev", "discrimination"]


def make_minibatch(kind: Minibatch, channels: int, *, places: int = 1) -> tuple[nn.Module, int]:
    """The layer that appends statistics of the batch, and how many channels come out of it.

    Args:
        channels: of its input, (N, channels, H, W) or (N, channels).
        places: H · W; "stddev" takes any.
    """
    match kind:
        case "none":
            return nn.Identity(), channels
        case "stddev":
            return MinibatchStdDev(), channels + 1
        case "discrimination":
            return (layer := MinibatchDiscrimination(channels * places)), channels + layer.kernels
        case _:
            raise InputError(f'expected minibatch to be "none", "stddev" or "discrimination", got {kind!r}')


class MinibatchLayer(nn.Module):
    """Append to each sample, alike at all its places, what it or its batch has for statistics.

    (N, C, …) → (N, C + added, …). It mixes the samples of a batch, as batch norm does. With several processes each
    looks at its own batch.
    """

    def statistics(self, features: Tensor) -> Tensor:
        """(N, added) for features (N, C, …) of at least float32."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        if len(features) < 2:
            raise InputError(
                f"minibatch statistics compare the samples of a batch, and got a batch of {len(features)}: give a "
                "larger --batch-size, or take a discriminator without them"
            )
        with torch.autocast(features.device.type, enabled=False):
            found = self.statistics(features.to(torch.promote_types(features.dtype, torch.float32)))
        found = found.to(features.dtype).reshape(*found.shape, *(1,) * (features.ndim - 2))
        return torch.cat([features, found.expand(-1, -1, *features.shape[2:])], dim=1)


class MinibatchStdDev(MinibatchLayer):
    """Append the standard deviation over the batch, mean over features and places (Karras et al. 2018, §3).

    arXiv:1710.10196. (N, C, …) → (N, C + 1, …); no weights.

    Args:
        group_size: at least 2; the batch is split evenly into groups of at least so many samples, in order, each with a
            number of its own. None: the whole batch, as in the paper; its authors' code takes groups of 4.
    """

    def __init__(self, *, group_size: int | None = None) -> None:
        super().__init__()
        if group_size is not None and group_size < 2:
            raise InputError(f"expected groups of at least 2 samples, got {group_size}")
        self.group_size = group_size

    def statistics(self, features: Tensor) -> Tensor:
        count = len(features)
        groups = features.tensor_split(max(1, count // (self.group_size or count)))
        # Without the small number the gradient would be infinite where all samples are equal.
        return torch.cat([(g.var(0, correction=0) + 1e-8).sqrt().mean().expand(len(g), 1) for g in groups])


class MinibatchDiscrimination(MinibatchLayer):
    """Append how close each sample is to the others of its batch, by `kernels` learnt measures (Salimans et al. 2016).

    arXiv:1606.03498, §3.2: with M_i = f(x_i) T, o(x_i)_b = Σ_j exp(−‖M_i,b − M_j,b‖₁). The sum goes over the others:
    the paper's has 1 more, for the sample itself. (N, C, …) → (N, C + kernels, …).

    Args:
        features: numbers in a sample, C times places.
        kernels: B in the paper.
        kernel_features: C in the paper: numbers that make up one measure.
    """

    def __init__(self, features: int, *, kernels: int = 16, kernel_features: int = 5) -> None:
        super().__init__()
        self.kernels = kernels
        # PyTorch's own initial weights, small enough that at first no distance is so long that exp() forgets it.
        self.tensor = nn.Linear(features, kernels * kernel_features, bias=False)

    def statistics(self, features: Tensor) -> Tensor:
        measured = self.tensor(features.flatten(1)).unflatten(1, (self.kernels, -1)).transpose(0, 1)
        distances = torch.cdist(measured, measured, p=1)  # (kernels, N, N)
        return torch.exp(-distances).sum(2).T - 1
