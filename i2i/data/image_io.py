"""Read and write images of any depth and any number of channels, and map their values from range to range.

Arrays are (H, W, C) and uint8, uint16 or float32; colour is RGB.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, WebPImagePlugin
from PIL import ImageFile as PillowFile
from torch import Tensor

from i2i.data.pixels import (
    DtypeName,
    ImageFile,
    ImageHeader,
    as_image,
    check_claim,
    cmyk_to_rgb,
    colour_space,
    dtype_notes,
    header_of,
    orientation_in,
    upright,
)
from i2i.data.png import read_png, read_png_header, read_png_provenance, write_png
from i2i.data.provenance import Provenance, in_exif
from i2i.data.tiff import check_one_page, read_tiff, read_tiff_header, read_tiff_provenance, write_tiff
from i2i.errors import InputError
from i2i.files import replacing

__all__ = [
    "READABLE_SUFFIXES",
    "DtypeName",
    "ImageFile",
    "ImageHeader",
    "Provenance",
    "check_format_holds",
    "dtype_range",
    "read_header",
    "read_image",
    "read_image_file",
    "read_provenance",
    "rescale",
    "write_image",
    "write_image_file",
]

Values = TypeVar("Values", np.ndarray, Tensor)

READABLE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".npy"})

_LARGEST_SIDE = {".png": 1_000_000, ".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}  # px
# Pixels of one byte: JPEG's least is a bit for a block of 64, BMP's a run of 255 from two bytes.
_MOST_EXPANDED = 2000


def read_image_file(path: Path | str, *, labels: bool = False) -> ImageFile:
    """Read an image at its full depth, with its transparency, its colour profile and all its pages.

    PNG, JPEG, TIFF, WebP, BMP and NumPy's .npy ((H, W) or (H, W, C)). The content decides, not the name.

    - Transparency becomes the last channel: grey with transparency has two channels, RGB four. A transparent
      colour or palette entry counts as transparency.
    - The orientation tag of JPEG, PNG, WebP and TIFF is applied.
    - A palette becomes RGB; CMYK becomes RGB, through its colour profile where it has one; fewer than 8 bits are
      stretched to 0–255; numbers that are neither uint8 nor uint16 (int16, float64 …) become float32. The notes
      say so.
    - Numbers that are not finite are left as they are.

    Args:
        path: the file.
        labels: take the numbers that are stored, for maps of class ids or instances: a palette's indices in place of
            its colours, fewer than 8 bits and integers of any type as they are, three equal channels as one, and
            neither transparency nor profile.

    Returns:
        Pages (H, W, C); uint8 in 0–255, uint16 in 0–65535, or float32 in the file's own units; with `labels` integers
        of any type.

    Raises:
        InputError: the file is missing, truncated, no image, an animation, or larger than memory; with `labels` also
            a JPEG, whose numbers are not those that were saved.
    """
    path = Path(path)
    with _input_errors(path):
        match _format(path):
            case "npy":
                # Mapped, so that a header which claims too much is refused before memory is taken.
                array = np.load(path, allow_pickle=False, mmap_mode="r")
                header_of(array.shape, array.dtype)
                image = ImageFile(pages=(np.array(array),), notes=dtype_notes(array.dtype))
            case "png":
                image = read_png(path, labels=labels)
            case "tiff":
                image = read_tiff(path, labels=labels)
            case "jpeg" if labels:
                raise InputError(
                    "JPEG changes numbers a little, so that class ids turn into others; expected a label map saved "
                    "without loss, such as PNG: make it anew from its source"
                )
            case "jpeg":
                image = _read_jpeg(path)
            case "webp" | "bmp" as name:
                image = _read_with_pillow(path, name, labels=labels)
        if labels:
            pages = [page[..., :-1] if image.alpha else page for page in image.pages]
            return ImageFile(pages=tuple(_as_label_map(page) for page in pages))
        return replace(image, pages=tuple(as_image(page) for page in image.pages))


def read_image(path: Path | str, *, labels: bool = False) -> np.ndarray:
    """The pixels of a file that holds one image; see `read_image_file`.

    Args:
        path: the file.
        labels: take the numbers that are stored, in place of colours.

    Returns:
        (H, W, C); uint8 in 0–255, uint16 in 0–65535, or float32 in the file's own units; with `labels` integers of
        any type.

    Raises:
        InputError: as `read_image_file`; and where the file has several pages.
    """
    pages = read_image_file(path, labels=labels).pages
    with _input_errors(Path(path)):
        check_one_page(pages)
    return pages[0]


def read_header(path: Path | str) -> ImageHeader:
    """Size, channels and depth of the array that `read_image` would return, without decoding it.

    Args:
        path: the file.

    Returns:
        The header.

    Raises:
        InputError: the file is missing, no image, of several pages, or its end is missing (not seen in BMP).
    """
    path = Path(path)
    with _input_errors(path):
        match _format(path):
            case "npy":
                array = np.load(path, allow_pickle=False, mmap_mode="r")
                return header_of(array.shape, array.dtype)
            case "png":
                return read_png_header(path)
            case "tiff":
                return read_tiff_header(path)
            case "jpeg":
                # Bytes after the end marker are rare but legal.
                if _last_bytes(path, 2) != b"\xff\xd9":
                    _check_whole_jpeg(path.read_bytes())
                with _open_with_pillow(path, "jpeg") as image:
                    return _pillow_header(image)
            case "webp" | "bmp" as name:
                with _open_with_pillow(path, name) as image:
                    return _pillow_header(image)


def read_provenance(path: Path | str) -> Provenance | None:
    """How a picture came about, where its file says that i2i made it.

    Args:
        path: the file.

    Returns:
        What the note says that `write_image_file` leaves in PNG, JPEG, WebP and TIFF; None without such a note, which
        does not prove that the picture is a photo: programs that save it anew may leave the note out.

    Raises:
        InputError: the file is missing or no image.
    """
    path = Path(path)
    with _input_errors(path):
        match _format(path):
            case "png":
                return read_png_provenance(path)
            case "tiff":
                return read_tiff_provenance(path)
            case "jpeg" | "webp" as name:
                with _open_with_pillow(path, name) as image:
                    return in_exif(image.info.get("exif"))
            case "bmp" | "npy":
                return None


def write_image_file(path: Path | str, image: ImageFile, *, provenance: Provenance | None = None) -> tuple[str, ...]:
    """Write an image so that the file appears whole or not at all. The folder is made where it is missing.

    | suffix        | dtype                   | channels       | pages | profile, provenance |                         |
    |---------------|-------------------------|----------------|-------|---------------------|-------------------------|
    | .png          | uint8, uint16           | 1, 3 (+ alpha) | 1     | yes                 | lossless                |
    | .tif, .tiff   | uint8, uint16, float32  | any            | any   | yes                 | lossless                |
    | .npy          | uint8, uint16, float32  | any            | 1     | no                  | lossless                |
    | .webp         | uint8                   | 3 (+ alpha)    | 1     | yes                 | lossless                |
    | .bmp          | uint8                   | 1, 3           | 1     | no                  | lossless                |
    | .jpg, .jpeg   | uint8                   | 1, 3           | 1     | yes                 | quality 95, full chroma |

    A profile of another colour space than the image's (CMYK, or RGB for a grey image) is left out.

    Args:
        path: where to; the suffix decides the format.
        image: pages (H, W) or (H, W, C); RGB order. The notes are not written.
        provenance: how the picture came about, to be noted in the file; None for nothing. Nothing else is noted: what
            the file of a source said of itself is in no `ImageFile`.

    Returns:
        What the file could not keep, in words; mostly nothing.

    Raises:
        InputError: the format cannot hold such an image.
        OSError: the disk is full or the place may not be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        image = replace(image, pages=tuple(as_image(page) for page in image.pages))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    check_format_holds(path, image)
    page = image.pages[0]
    profile, notes = _profile_to_write(suffix, image)
    beside: dict[str, Any] = {"icc_profile": profile}
    if provenance and suffix in (".bmp", ".npy"):
        notes += (f"{suffix} cannot hold the note that the image is synthetic",)
    elif provenance:
        beside |= {"exif": provenance.exif, "xmp": provenance.xmp.encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        match suffix:
            case ".npy":
                with temporary.open("wb") as file:
                    np.save(file, page)
            case ".tif" | ".tiff":
                write_tiff(temporary, image, icc_profile=profile, provenance=provenance)
            case ".png":
                write_png(temporary, page, icc_profile=profile, provenance=provenance)
            case ".jpg" | ".jpeg":
                _to_pillow(page).save(temporary, "JPEG", quality=95, subsampling="4:4:4", **beside)
            case ".webp":
                # exact: colours under full transparency are data too
                _to_pillow(page).save(temporary, "WEBP", lossless=True, exact=True, **beside)
            case ".bmp":
                _to_pillow(page).save(temporary, "BMP")
    return notes


def check_format_holds(path: Path, image: ImageFile) -> None:
    """Raise InputError unless the format that `path`'s suffix names can hold the image, pages (H, W, C)."""
    try:
        _check_format_holds(path.suffix.lower(), image)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_image(path: Path | str, image: np.ndarray, *, provenance: Provenance | None = None) -> None:
    """Write an array as `write_image_file` does.

    Args:
        path: where to; the suffix decides the format.
        image: (H, W) or (H, W, C); RGB order. In PNG and WebP the last of 2 or 4 channels is transparency; in TIFF
            all channels count alike, and `write_image_file` can say otherwise.
        provenance: how the picture came about, to be noted in the file where it can hold that.

    Raises:
        InputError: the format cannot hold such an image.
        OSError: the disk is full or the place may not be written to.
    """
    with_alpha = Path(path).suffix.lower() in (".png", ".webp") and image.ndim == 3 and image.shape[2] in (2, 4)
    write_image_file(path, ImageFile(pages=(image,), alpha=with_alpha), provenance=provenance)


def dtype_range(dtype: np.dtype | type | str) -> tuple[float, float] | None:
    """The full range of an integer type, (0, 255) for uint8; None for floats, whose data decide."""
    dtype = np.dtype(dtype)
    if not np.issubdtype(dtype, np.integer):
        return None
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def rescale(values: Values, *, source: tuple[float, float], target: tuple[float, float]) -> Values:
    """Map values affinely so that the ends of `source` fall on the ends of `target`. Nothing is clipped.

    Args:
        values: array or tensor of any shape and numeric dtype.
        source: (low, high) of the values as they are.
        target: (low, high) of the result.

    Returns:
        float32, same shape and kind.

    Raises:
        InputError: `source` is empty (low = high).
    """
    if source[0] == source[1]:
        raise InputError(f"expected a range of values with two different ends, got {source}")
    as_float = values.astype(np.float32) if isinstance(values, np.ndarray) else values.float()
    scaled = as_float - source[0]
    scaled /= source[1] - source[0]  # divided last, so that the ends are exact
    scaled *= target[1] - target[0]
    scaled += target[0]
    return scaled


@contextmanager
def _input_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an InputError that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check the path") from error
    except MemoryError as error:
        raise InputError(f"{path} needs more memory than there is ({error}); split the image or free memory") from error
    except Exception as error:  # damaged bytes make decoders raise nearly anything
        raise InputError(
            f"{path} is no readable image ({error or type(error).__name__}): it may be truncated or of "
            "another kind; replace or remove the file"
        ) from error


def _format(path: Path) -> Literal["npy", "tiff", "jpeg", "png", "webp", "bmp"]:
    head = _first_bytes(path, 16)
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(b"BM"):
        return "bmp"
    if not head:
        raise InputError("the file is empty; replace or remove it")
    raise ValueError(f"it begins with {head!r}, unlike PNG, JPEG, TIFF, WebP, BMP and .npy")


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _last_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - count))
        return file.read()


def _read_jpeg(path: Path) -> ImageFile:
    import imagecodecs

    data = path.read_bytes()
    _check_whole_jpeg(data)
    with _open_with_pillow(path, "jpeg") as image:
        mode, info = image.mode, image.info
    pixels = imagecodecs.jpeg8_decode(data)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    profile = info.get("icc_profile")
    notes: tuple[str, ...] = ()
    if mode == "CMYK":
        # Adobe's programs, and all that follow them, store 255 for no ink.
        pixels, note = cmyk_to_rgb(255 - pixels if "adobe" in info else pixels, profile)
        profile, notes = None, (note,)
    upright_pixels = upright(pixels, orientation_in(info.get("exif")))
    return ImageFile(pages=(upright_pixels,), icc_profile=profile, notes=notes)


def _check_whole_jpeg(data: bytes) -> None:
    """Ask for an end marker after the first scan: the decoder fills what is missing with grey.

    The segments before it are stepped over because an embedded thumbnail has an end marker of its own.
    """
    position = 2
    while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] != b"\xda":
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    if data.find(b"\xff\xd9", position) < 0:
        raise InputError("the JPEG is truncated; replace or remove the file")


def _open_with_pillow(path: Path, name: Literal["jpeg", "webp", "bmp"]) -> PillowFile.ImageFile:
    """Read the header. Image.open would refuse large images, unless told otherwise for the whole process."""
    size = path.stat().st_size
    image: PillowFile.ImageFile
    match name:
        case "jpeg":
            image = JpegImagePlugin.JpegImageFile(path)
        case "webp":
            # A WebP says after four letters how many bytes follow the first eight.
            if int.from_bytes(_first_bytes(path, 8)[4:], "little") + 8 > size:
                raise InputError("the WebP is truncated; replace or remove the file")
            image = WebPImagePlugin.WebPImageFile(path)
        case "bmp":
            image = BmpImagePlugin.BmpImageFile(path)
    if name != "webp":  # whose sides are short, and which packs an even image into a few bytes
        check_claim(image.width * image.height, held=size, expansion=_MOST_EXPANDED)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise InputError(f"expected one image, got an animation of {frames} frames; save each as a file of its own")
    return image


def _pillow_header(image: PillowFile.ImageFile) -> ImageHeader:
    channels = Image.getmodebands(_pillow_mode(image))
    orientation = orientation_in(image.info.get("exif"))
    return header_of((image.height, image.width, channels), np.dtype("uint8"), orientation=orientation)


def _read_with_pillow(path: Path, name: Literal["webp", "bmp"], *, labels: bool) -> ImageFile:
    with _open_with_pillow(path, name) as image:
        mode = image.mode if labels else _pillow_mode(image)
        notes = ("palette became RGB",) if image.mode == "P" else ()
        pixels = np.array(image if image.mode == mode else image.convert(mode))
        info = image.info
    pixels = upright(pixels.reshape(*pixels.shape[:2], -1), orientation_in(info.get("exif")))
    return ImageFile(pages=(pixels,), alpha=mode == "RGBA", icc_profile=info.get("icc_profile"), notes=notes)


def _as_label_map(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) → (H, W, C), one channel in place of three equal ones; booleans become 0 and 1."""
    if array.dtype.kind not in "biu":
        return as_image(array)
    header = header_of(array.shape, array.dtype)
    ids = np.ascontiguousarray(array.astype(np.uint8) if array.dtype.kind == "b" else array)
    ids = ids.reshape(header.height, header.width, header.channels)
    return ids[..., :1] if header.channels == 3 and (ids == ids[..., :1]).all() else ids


def _pillow_mode(image: PillowFile.ImageFile) -> str:
    """The mode that the image is read in: L, RGB or RGBA."""
    if image.has_transparency_data:
        return "RGBA"
    return "L" if image.mode in ("1", "L") else "RGB"


def _to_pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _check_format_holds(suffix: str, image: ImageFile) -> None:
    if not image.pages:
        raise InputError("expected an image, got no pages")
    page = image.pages[0]
    channels = page.shape[2]
    colours = channels - image.alpha
    if colours == 0:
        raise InputError("expected colours beside the transparency, got one channel")
    match suffix, page.dtype.name, colours:
        case (".tif" | ".tiff", _, _):
            return
        case (".npy", _, _) | (".png", "uint8" | "uint16", 1 | 3) | (".webp", "uint8", 3):
            pass
        case ".jpg" | ".jpeg" | ".bmp", "uint8", 1 | 3:
            if image.alpha:
                raise InputError(f"{suffix} cannot hold transparency; .png, .tiff and (with RGB) .webp can")
        case ".png" | ".bmp" | ".jpg" | ".jpeg" | ".webp", dtype, _:
            beside = " and transparency" if image.alpha else ""
            raise InputError(f"{suffix} cannot hold {colours} channels{beside} of {dtype}; .tiff holds them all")
        case _:
            raise InputError(f"{suffix!r} is no image format known here; use one of {sorted(READABLE_SUFFIXES)}")
    if len(image.pages) > 1:
        raise InputError(f"{suffix} cannot hold {len(image.pages)} pages; .tiff can")
    if max(page.shape[:2]) > _LARGEST_SIDE.get(suffix, np.inf):
        height, width, _ = page.shape
        raise InputError(f"{suffix} cannot hold {width} x {height} px; .tiff can")


def _profile_to_write(suffix: str, image: ImageFile) -> tuple[bytes | None, tuple[str, ...]]:
    """The profile if the file can have it, and what it cannot keep."""
    lost = []
    profile = image.icc_profile
    if profile and suffix in (".bmp", ".npy"):
        lost.append(f"{suffix} cannot hold the colour profile")
        profile = None
    colours = image.pages[0].shape[2] - image.alpha
    needed = {"GRAY": 1, "RGB": 3, "CMYK": 4}.get(colour_space(profile), colours) if profile else colours
    if profile and (needed != colours or needed == 4):
        lost.append(f"the colour profile is for {colour_space(profile)} and was left out")
        profile = None
    if image.alpha and suffix == ".npy":
        lost.append(".npy cannot say that the last channel is transparency")
    return profile, tuple(lost)
