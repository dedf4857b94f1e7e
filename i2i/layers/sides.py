"""The sides of a network's square maps, and how wide maps are."""

from i2i.layers.checks import check_power_of_two

SMALLEST_PX = 4


def sides_up_to(size: int, *, least: int = SMALLEST_PX) -> list[int]:
    """The sides 4, 8 … size of the maps of a network for images of that size, in pixels.

    Raises:
        InputError: `size` is no power of two of at least `least`.
    """
    check_power_of_two("size", size, least=least)
    return [2**level for level in range(2, size.bit_length())]


def width_at(side: int, *, width: int, widest_px: int) -> int:
    """Channels of the maps of a side: `width` up to `widest_px`, then half as many whenever the side doubles, but 1.

    It does not depend on the size of the images, so that networks for several sizes have their blocks in common.

    Raises:
        InputError: `widest_px` is no power of two of at least 4.
    """
    check_power_of_two("widest_px", widest_px, least=SMALLEST_PX)
    return max(1, width * widest_px // max(side, widest_px))
