"""What every network checks about its input, and what it remembers about itself."""

from typing import Any

from torch import Tensor

from i2i.errors import InputError


def constructor_arguments(scope: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, out of its `locals()`, so that `type(n)(**n.arguments)` rebuilds it.

    To be called before the constructor makes any variable of its own.
    """
    return {name: value for name, value in scope.items() if name not in ("self", "__class__")}


def check_power_of_two(name: str, value: int, *, least: int) -> None:
    """Raise InputError unless a size in pixels is a power of two of at least `least`; `name` is the argument's."""
    if value < least or value.bit_count() != 1:
        raise InputError(f"expected {name} to be a power of two of at least {least} px, got {value}")


def check_latents(latents: Tensor, *, channels: int) -> None:
    """Raise InputError unless `latents` is (N, channels)."""
    if latents.ndim != 2 or latents.shape[1] != channels:
        raise InputError(f"expected latent vectors of shape (N, {channels}), got {tuple(latents.shape)}")


def check_images(images: Tensor, *, channels: int, multiple: int = 1, minimum: int = 1) -> None:
    """Raise InputError unless `images` is (N, channels, H, W) with sides that the network can take.

    `multiple` and `minimum`, in pixels, hold for both H and W.
    """
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != channels:
        raise InputError(f"expected images of shape (N, {channels}, H, W), got {shape}")
    height, width = shape[2:]
    if height % multiple or width % multiple:
        raise InputError(
            f"expected height and width to be multiples of {multiple} px, got {height} x {width}: "
            "pad or crop the images, or choose a shallower network"
        )
    if min(height, width) < minimum:
        raise InputError(
            f"expected height and width of at least {minimum} px, got {height} x {width}: "
            "enlarge the images, or choose a shallower network"
        )
