"""How a project lays out a network in its weight files, and what can be told from the tensors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One argument of a network's constructor, and how it is known.

    Args:
        name: of the argument.
        value: what was found.
        source: where from, as a reader of the file would check it: "model.1.weight has shape (64, 3, 7, 7)"; for a
            guess, why this is the likeliest reading.
        certain: False where other values fit the tensors just as well, so that a person may have to say.
    """

    name: str
    value: Any
    source: str
    certain: bool = True


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which of our networks a file holds, and where it keeps each tensor.

    Args:
        family: what people call such files, for messages: "CycleGAN ResNet generator".
        network: our class.
        findings: the constructor's arguments; those left out keep the constructor's default.
        keys: our tensor's name → the file's. Every tensor of the network must be named, but for those that
            `defaults` fills.
        defaults: our tensors that such files lack, and how to make each from its shape.
        subtracted: our tensor's name → the name of the file's tensor to be subtracted from it. A bias before batch
            norm, which ours has not, is the same as a running mean that much lower.
        ignored: names in the file that have no effect and find no place in our network.
    """

    family: str
    network: type[nn.Module]
    findings: tuple[Finding, ...]
    keys: dict[str, str]
    defaults: dict[str, Callable[..., Tensor]] = field(default_factory=dict)
    subtracted: dict[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """The tensors of a file, unwrapped, their names without prefixes."""

    path: Path
    tensors: dict[str, Tensor]

    def has(self, prefix: str) -> bool:
        """Whether any name begins so."""
        return any(key.startswith(prefix) for key in self.tensors)

    def is_conv(self, module: str) -> bool:
        """Whether `module` has the weight of a two-dimensional convolution."""
        weight = self.tensors.get(f"{module}.weight")
        return weight is not None and weight.ndim == 4

    def count(self, prefix: str, *, start: int = 0, step: int = 1) -> int:
        """How many of `prefix`{start}., `prefix`{start + step}. … follow each other without a gap."""
        number = start
        while self.has(f"{prefix}{number}."):
            number += step
        return (number - start) // step

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor that the layout cannot do without.

        Raises:
            MissingTensor: the file lacks it.
        """
        if key not in self.tensors:
            raise MissingTensor(key)
        return tuple(self.tensors[key].shape)

    def finding(self, name: str, key: str, dimension: int) -> Finding:
        """An argument that is one dimension of a tensor's shape."""
        shape = self.shape(key)
        if dimension >= len(shape):
            raise MissingTensor(key)
        return Finding(name=name, value=shape[dimension], source=f"{key} has shape {shape}")


class MissingTensor(KeyError):
    """A file of a recognised layout lacks a tensor, or has one with too few dimensions; the argument is its name."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of network of another project.

    Args:
        name: for messages, as in `Layout.family`.
        pattern: a regular expression that each name of such a file matches in full; it tells what an unknown file
            came closest to.
        recognise: the layout, or None for a file of another kind. It looks at names and shapes only, and may raise
            MissingTensor once it is sure of the kind.
    """

    name: str
    pattern: str
    recognise: Callable[[WeightFile], Layout | None]


def spectral_keys(ours: str, theirs: str) -> dict[str, str]:
    """Names of a spectrally normalised weight, in a file written with `torch.nn.utils.spectral_norm`.

    PyTorch's later spectral norm, which is ours, keeps the same three tensors under other names.
    """
    parametrization = f"{ours}.parametrizations.weight"
    return {
        f"{parametrization}.original": f"{theirs}.weight_orig",
        f"{parametrization}.0._u": f"{theirs}.weight_u",
        f"{parametrization}.0._v": f"{theirs}.weight_v",
    }
