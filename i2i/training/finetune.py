"""Networks that a run starts from instead of drawing weights: an earlier run's, or another project's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from i2i.checkpoints import Checkpoint, open_checkpoint
from i2i.checkpoints.store import CONFIG, WEIGHTS, find_generator
from i2i.discriminators import DISCRIMINATORS
from i2i.download import sha256_of
from i2i.errors import InputError
from i2i.generators import GENERATORS

# What recipes hand their networks.
NETWORK_RANGE = (-1.0, 1.0)


def initial_generator(
    path: Path,
    *,
    side_px: int | None = None,
    input_range: tuple[float, float] = NETWORK_RANGE,
    output_range: tuple[float, float] = NETWORK_RANGE,
    scale: int = 1,
) -> nn.Module:
    """The generator that a file or folder holds, to be trained on: on the CPU, in training mode, float32.

    Its channels are still to be checked (`check_channels`), for which the data must be known.

    Args:
        path: whatever `i2i.checkpoints.open_checkpoint` reads.
        side_px: side of the square images that it will be given; None: unknown, or not square.
        input_range: values that the network is to take; (0, 1) for one-hot label maps and for super-resolution.
        output_range: values that it is to give; (0, 1) for super-resolution.
        scale: how many times larger it is to make images.

    Raises:
        InputError: the file cannot be read, holds no generator of that scale and of those ranges, or one that cannot
            take images of that side.
    """
    checkpoint = open_checkpoint(path)
    if type(checkpoint.network) not in GENERATORS.values():
        raise InputError(
            f"{path} holds a discriminator ({checkpoint.family}), where a generator is expected: give it as "
            "--init-discriminator"
        )
    network: Any = checkpoint.network
    holds = f"{path} holds a generator ({checkpoint.family}) that"
    if not hasattr(network, "scale"):
        raise InputError(f"{holds} takes no images, where one that {_sizing(scale)} is expected: give another file")
    if network.scale != scale:
        raise InputError(
            f"{holds} {_sizing(network.scale)}, where one that {_sizing(scale)} is expected: give another file or, "
            f"where the recipe has it, --scale {network.scale}"
        )
    if (network.input_range, network.output_range) != (input_range, output_range):
        raise InputError(
            f"{holds} takes values in {network.input_range} and gives values in {network.output_range}, where "
            f"{input_range} and {output_range} are expected: give another file"
        )
    return _ready(checkpoint, side_px)


def initial_discriminator(path: Path, *, side_px: int | None = None) -> nn.Module:
    """The discriminator that a file holds; all else as for `initial_generator`."""
    checkpoint = open_checkpoint(path)
    if type(checkpoint.network) not in DISCRIMINATORS.values():
        raise InputError(
            f"{path} holds a generator ({checkpoint.family}), where a discriminator is expected: give it as "
            "--init-generator"
        )
    return _ready(checkpoint, side_px)


def check_channels(network: nn.Module, *, path: Path, in_channels: int, out_channels: int) -> None:
    """See that a network from `path` suits the data.

    Args:
        in_channels: of the images that the network will see.
        out_channels: of those that it has to make; 1 for a discriminator.

    Raises:
        InputError: it has other channels.
    """
    found = network.in_channels, network.out_channels
    if found != (in_channels, out_channels):
        raise InputError(
            f"{path} holds a network of {found[0]} channels in and {found[1]} out, and the data needs {in_channels} in "
            f"and {out_channels} out: give weights that were trained on such images, or start without them"
        )


def fingerprints(weights: Mapping[str, Path | None]) -> dict[str, str]:
    """What makes sure that a resumed run began with these very weights, to be recorded among its settings.

    Args:
        weights: by the name of the setting; those that are None are left out.

    Returns:
        "<name>_sha256" of each file; of a generator's folder those of its configuration and its weights.
    """
    return {
        f"{name}_sha256": " ".join(map(sha256_of, _files(path))) for name, path in weights.items() if path is not None
    }


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    folder = find_generator(path)
    return [folder / CONFIG, folder / WEIGHTS]


def _sizing(scale: int) -> str:
    return "keeps the size of images" if scale == 1 else f"enlarges images by {scale}"


def _ready(checkpoint: Checkpoint, side_px: int | None) -> nn.Module:
    network: Any = checkpoint.network
    multiple, smallest_px = getattr(network, "size_multiple", 1), getattr(network, "smallest_px", 1)
    only_px = getattr(network, "size_px", getattr(network, "size", side_px))
    if side_px is None or (side_px % multiple == 0 and side_px >= smallest_px and side_px == only_px):
        return network.train()
    if side_px != only_px:
        takes = f"images of {only_px} x {only_px} px"
    else:
        takes = f"images whose sides are multiples of {multiple} px and at least {max(multiple, smallest_px)} px"
    raise InputError(
        f"{checkpoint.path} holds a network ({checkpoint.family}) for {takes}, and these will be {side_px} px: crop to "
        "another size"
    )
