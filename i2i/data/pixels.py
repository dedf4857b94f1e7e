"""What an image in memory is, and what pixels go through on the way there, whatever the format of the file."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from i2i.errors import InputError

DtypeName = Literal["uint8", "uint16", "float32"]


class ImageHeader(NamedTuple):
    """What `read_image` will return for a file, known without decoding it."""

    height: int
    width: int
    channels: int
    dtype: DtypeName


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """Everything of an image file that is worth keeping.

    Attributes:
        pages: (H, W, C) each; uint8, uint16 or float32. One, except for TIFF files of several pages.
        alpha: whether the last channel is transparency: straight (colours not multiplied by it), opaque at the
            top of the integer range or at 1.0.
        icc_profile: the colour profile as the file has it.
        notes: what was converted on reading, in words.
    """

    pages: tuple[np.ndarray, ...]
    alpha: bool = False
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()


def header_of(shape: tuple[int, ...], dtype: np.dtype, *, orientation: int = 1) -> ImageHeader:
    """The header of an array (H, W) or (H, W, C) once it is upright and in one of the dtypes held in memory.

    Raises:
        InputError: the array is no image.
    """
    if len(shape) not in (2, 3) or 0 in shape:
        raise InputError(f"expected an image (H, W) or (H, W, C), got an array of shape {shape}")
    height, width = (shape[1], shape[0]) if orientation in (5, 6, 7, 8) else (shape[0], shape[1])
    return ImageHeader(height, width, shape[2] if len(shape) == 3 else 1, _dtype_in_memory(dtype))


def as_image(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) of any numbers → contiguous (H, W, C) of uint8, uint16 or float32; a copy only if needed.

    Booleans become 0 and 255; numbers that are neither uint8 nor uint16 become float32.

    Raises:
        InputError: the array is no image.
    """
    header = header_of(array.shape, array.dtype)
    if array.dtype == bool:
        array = array * np.uint8(255)
    flat = np.ascontiguousarray(array, dtype=header.dtype).reshape(-1)  # whose strides along sides of 1 are plain
    return flat.reshape(header.height, header.width, header.channels)


def dtype_notes(dtype: np.dtype) -> tuple[str, ...]:
    """What `as_image` does to numbers of this kind, in words."""
    kept = _dtype_in_memory(dtype)
    return () if dtype.name in (kept, "bool") else (f"{dtype.name} became {kept}",)


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undo how a camera was held.

    Args:
        image: (H, W, C) as it is stored.
        orientation: 1 to 8 as in EXIF 2.32, tag 274; anything else counts as 1.

    Returns:
        The image with its top above, a view.
    """
    match orientation:
        case 2:
            return image[:, ::-1]
        case 3:
            return image[::-1, ::-1]
        case 4:
            return image[::-1]
        case 5:
            return image.swapaxes(0, 1)
        case 6:
            return np.rot90(image, -1)
        case 7:
            return image[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return np.rot90(image)
        case _:
            return image


def orientation_in(exif: bytes | None) -> int:
    """The orientation that a block of EXIF data tells; 1 where there is none."""
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
    except Exception:  # a damaged tag does no harm to the pixels
        return 1
    return tags.get(ExifTags.Base.Orientation, 1)


def cmyk_to_rgb(image: np.ndarray, icc_profile: bytes | None) -> tuple[np.ndarray, str]:
    """Inks to colours: through the profile into sRGB where there is one, else R = (1 - C)(1 - K) and so on.

    Args:
        image: (H, W, 4), uint8 or uint16; 0 is no ink.
        icc_profile: of the inks.

    Returns:
        (H, W, 3) of the same dtype, and what was done, in words.
    """
    import imagecodecs

    if icc_profile and colour_space(icc_profile) == "CMYK":
        with suppress(imagecodecs.CmsError):  # a profile that the colour engine cannot use is worth no more than none
            rgb = imagecodecs.cms_transform(
                image, icc_profile, imagecodecs.cms_profile("srgb"), colorspace="cmyk", outcolorspace="rgb"
            )
            return rgb, "CMYK became sRGB through its ICC profile, which no longer applies"
    full = np.iinfo(image.dtype).max
    paper = full - image.astype(np.uint32)
    # Rounded integer division keeps the image from being held as floats.
    rgb = ((paper[..., :3] * paper[..., 3:] + full // 2) // full).astype(image.dtype)
    return rgb, "CMYK became RGB by the plain formula, without colour management"


def colour_space(icc_profile: bytes) -> str:
    """The colour space that a profile describes: "RGB", "GRAY", "CMYK" … (ICC.1, 7.2.8)."""
    return icc_profile[16:20].decode("latin-1").strip()


def check_claim(claimed: int, *, held: int, expansion: int) -> None:
    """Refuse a header that claims more than its file can hold, before memory is taken for it.

    Args:
        claimed: bytes of pixels that the header speaks of.
        held: bytes of the file.
        expansion: the most that a byte of such a file can become.

    Raises:
        InputError: the claim is absurd.
    """
    if claimed > expansion * held:
        raise InputError(
            f"its header claims {claimed:,} bytes of pixels, more than the {held:,} bytes of the file can hold; "
            "replace or remove the file"
        )


def _dtype_in_memory(dtype: np.dtype) -> DtypeName:
    if dtype.kind == "b" or dtype == np.uint8:
        return "uint8"
    if dtype.kind == "u" and dtype.itemsize == 2:  # of either byte order
        return "uint16"
    if dtype.kind in "iuf":
        return "float32"
    raise InputError(f"expected an image of numbers, got an array of {dtype}")
