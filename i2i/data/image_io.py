"""Read and write images of any depth and any number of channels, and map their values from range to range.

Arrays are (H, W, C) and uint8, uint16 or float32; colour is RGB.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from i2i.errors import InputError
from i2i.files import replacing

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

Values = TypeVar("Values", np.ndarray, Tensor)
DtypeName = Literal["uint8", "uint16", "float32"]

READABLE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".npy"})


class ImageHeader(NamedTuple):
    """What `read_image` will return for a file, known without decoding it."""

    height: int
    width: int
    channels: int
    dtype: DtypeName


def read_image(path: Path | str) -> np.ndarray:
    """Read an image at its full depth.

    PNG, JPEG, WebP, BMP, TIFF (any number of channels, planar or interleaved) and NumPy's .npy ((H, W) or
    (H, W, C)). The content decides, not the name. Transparency becomes a fourth channel, a palette becomes
    RGB, one bit becomes 0 or 255, and the orientation tag of PNG, JPEG and WebP is applied. Numbers that are
    neither uint8 nor uint16 (int16, float64 …) become float32.

    Args:
        path: the file.

    Returns:
        (H, W, C); uint8 in 0–255, uint16 in 0–65535, or float32 in the file's own units.

    Raises:
        InputError: the file is missing, truncated, or no image.
    """
    path = Path(path)
    with _input_errors(path):
        match _encoding(path):
            case "npy":
                image = np.load(path, allow_pickle=False)
            case "tiff":
                image = _read_tiff(path)
            case "jpeg":
                image = _read_jpeg(path)
            case "png16":
                image = _read_with_opencv(path)
            case "png8" | "other":
                image = _read_with_pillow(path)
        return _as_height_width_channels(image)


def read_header(path: Path | str) -> ImageHeader:
    """Size, channels and depth of the array that `read_image` would return, without decoding it.

    Args:
        path: the file.

    Returns:
        The header.

    Raises:
        InputError: the file is missing, no image, or (PNG, JPEG, TIFF, .npy) its end is missing.
    """
    path = Path(path)
    with _input_errors(path):
        match _encoding(path):
            case "npy":
                image = np.load(path, allow_pickle=False, mmap_mode="r")
                return _header(image.shape, image.dtype)
            case "tiff":
                return _read_tiff_header(path)
            case "jpeg":
                # Bytes after the end marker are rare but legal.
                if _last_bytes(path, 2) != b"\xff\xd9":
                    _check_whole_jpeg(path.read_bytes())
                return _read_pillow_header(path, depth=8)
            case "png8" | "png16" as encoding:
                if b"IEND" not in _last_bytes(path, 12) and b"IEND" not in path.read_bytes():
                    raise InputError("the PNG is truncated; replace or remove the file")
                return _read_pillow_header(path, depth=16 if encoding == "png16" else 8)
            case "other":
                return _read_pillow_header(path, depth=8)


def write_image(path: Path | str, image: np.ndarray) -> None:
    """Write an image so that the file appears whole or not at all. The folder is made where it is missing.

    | suffix        | dtype                   | channels |                              |
    |---------------|-------------------------|----------|------------------------------|
    | .png          | uint8, uint16           | 1, 3, 4  | lossless                     |
    | .tif, .tiff   | uint8, uint16, float32  | any      | lossless                     |
    | .npy          | uint8, uint16, float32  | any      | lossless                     |
    | .webp         | uint8                   | 3, 4     | lossless                     |
    | .bmp          | uint8                   | 1, 3     | lossless                     |
    | .jpg, .jpeg   | uint8                   | 1, 3     | quality 95                   |

    Args:
        path: where to; the suffix decides the format.
        image: (H, W) or (H, W, C); RGB order.

    Raises:
        InputError: the format cannot hold such an image.
        OSError: the disk is full or the place may not be written to.
    """
    path = Path(path)
    data = _encode(path, _as_height_width_channels(image))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


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
    fraction = (as_float - source[0]) / (source[1] - source[0])  # divided last, so that the ends are exact
    return fraction * (target[1] - target[0]) + target[0]


@contextmanager
def _input_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an InputError that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check the path") from error
    except Exception as error:  # damaged bytes make decoders raise nearly anything
        raise InputError(
            f"{path} is no readable image ({error or type(error).__name__}): it may be truncated or of "
            "another kind; replace or remove the file"
        ) from error


def _encoding(path: Path) -> Literal["npy", "tiff", "jpeg", "png8", "png16", "other"]:
    with path.open("rb") as file:
        head = file.read(25)
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        # Byte 24 is the bit depth. Pillow would cut 16-bit colour to 8.
        return "png16" if head[24:] == b"\x10" else "png8"
    return "other"


def _last_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - count))
        return file.read()


def _read_jpeg(path: Path) -> np.ndarray:
    import cv2

    data = path.read_bytes()
    _check_whole_jpeg(data)
    # OpenCV takes a third of Pillow's time here.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR)
    if image is None:
        raise ValueError("the JPEG decoder gave up")
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _check_whole_jpeg(data: bytes) -> None:
    """Ask for an end marker after the first scan: some OpenCV versions fill what is missing with grey.

    The segments before it are stepped over because an embedded thumbnail has an end marker of its own.
    """
    position = 2
    while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] != b"\xda":
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    if data.find(b"\xff\xd9", position) < 0:
        raise InputError("the JPEG is truncated; replace or remove the file")


def _read_with_opencv(path: Path) -> np.ndarray:
    import cv2

    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("the decoder gave up")
    match image.shape[2:]:
        case (3,):
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        case (4,):
            return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
        case _:
            return image


def _read_with_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image) if "exif" in image.info else image
        return np.asarray(upright.convert(_pillow_mode(upright)))


def _pillow_mode(image: Image.Image) -> str:
    if image.mode == "F" or image.mode.startswith("I"):
        return image.mode
    if image.has_transparency_data:
        return "RGBA"
    return "L" if image.mode in ("1", "L") else "RGB"


def _read_pillow_header(path: Path, *, depth: int) -> ImageHeader:
    with Image.open(path) as image:
        width, height = image.size
        # Without the first condition Pillow would decode a whole PNG in search of the tag.
        if "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
            width, height = height, width
        mode = _pillow_mode(image)
    channels = {"RGB": 3, "RGBA": 4}.get(mode, 1)
    if mode in ("F", "I"):
        return ImageHeader(height, width, channels, "float32")
    wide = depth == 16 or mode.startswith("I;16")
    return ImageHeader(height, width, channels, "uint16" if wide else "uint8")


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if _needs_colour_map(tiff):
            return _read_with_pillow(path)
        series = tiff.series[0]
        try:
            return np.moveaxis(series.asarray(), _tiff_channel_axis(series), -1)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            one_page = len(series.pages) == 1
    # Compressions such as LZW and JPEG: OpenCV knows them, for the usual channels.
    if one_page and _read_tiff_header(path).channels in (1, 3, 4):
        return _read_with_opencv(path)
    raise InputError("its compression needs another package: pip install imagecodecs")


def _read_tiff_header(path: Path) -> ImageHeader:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if _needs_colour_map(tiff):
            return _read_pillow_header(path, depth=8)
        series = tiff.series[0]
        for page in series.pages:
            ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
            if max(ends) > tiff.filehandle.size:
                raise InputError("the TIFF is truncated; replace or remove the file")
        shape = list(series.shape)
        shape.append(shape.pop(_tiff_channel_axis(series)))
        return _header(tuple(shape), series.dtype)


def _needs_colour_map(tiff: "TiffFile") -> bool:
    """Whether the numbers in the file are not the brightness, which tifffile leaves to its caller."""
    return tiff.pages[0].photometric.name in ("PALETTE", "MINISWHITE")


def _tiff_channel_axis(series: "TiffPageSeries") -> int:
    """The axis of the channels; -1 for a plain (H, W) image."""
    axes = series.axes
    if len(axes) == 2:
        return -1
    if len(axes) > 3:
        raise InputError(f"expected one image, got several (axes {axes}, shape {series.shape}); split the file")
    named = [axis for axis in range(3) if axes[axis] in "SC"]
    # Pages without a name, or an array written without saying what its axes are: channels are the fewest.
    return named[0] if named else int(np.argmin(series.shape))


def _header(shape: tuple[int, ...], dtype: np.dtype) -> ImageHeader:
    if len(shape) not in (2, 3) or 0 in shape:
        raise InputError(f"expected an image (H, W) or (H, W, C), got an array of shape {shape}")
    return ImageHeader(shape[0], shape[1], shape[2] if len(shape) == 3 else 1, _dtype_in_memory(dtype))


def _as_height_width_channels(image: np.ndarray) -> np.ndarray:
    header = _header(image.shape, image.dtype)
    if image.dtype == bool:
        image = image * np.uint8(255)
    return np.ascontiguousarray(image, dtype=header.dtype).reshape(header.height, header.width, header.channels)


def _dtype_in_memory(dtype: np.dtype) -> DtypeName:
    if dtype.kind == "b" or dtype == np.uint8:
        return "uint8"
    if dtype == np.uint16 or dtype == np.dtype(np.uint16).newbyteorder():
        return "uint16"
    if dtype.kind in "iuf":
        return "float32"
    raise InputError(f"expected an image of numbers, got an array of {dtype}")


def _encode(path: Path, image: np.ndarray) -> bytes:
    """The bytes of the file. Raises InputError where the format cannot hold the image."""
    suffix = path.suffix.lower()
    match suffix, image.dtype.name, image.shape[2]:
        case ".npy", _, _:
            buffer = io.BytesIO()
            np.save(buffer, image)
            return buffer.getvalue()
        case ".tif" | ".tiff", _, _:
            return _encode_tiff(image)
        case (".png", "uint8" | "uint16", 1 | 3 | 4) | (".bmp" | ".jpg" | ".jpeg", "uint8", 1 | 3):
            return _encode_with_opencv(suffix, image)
        case ".webp", "uint8", 3 | 4:
            buffer = io.BytesIO()
            # exact: colours under full transparency are data too
            Image.fromarray(image).save(buffer, "WEBP", lossless=True, exact=True)
            return buffer.getvalue()
        case ".png" | ".bmp" | ".jpg" | ".jpeg" | ".webp", dtype, channels:
            raise InputError(f"{path}: {suffix} cannot hold {channels} channels of {dtype}; .tiff holds them all")
        case _:
            raise InputError(f"{path}: {suffix!r} is not known; use one of {sorted(READABLE_SUFFIXES)}")


def _encode_tiff(image: np.ndarray) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    if image.shape[2] == 1:
        tifffile.imwrite(buffer, image[..., 0], photometric="minisblack", compression="zlib")
    elif image.shape[2] in (3, 4):
        extra = ["unassalpha"] * (image.shape[2] - 3)
        tifffile.imwrite(buffer, image, photometric="rgb", extrasamples=extra, compression="zlib")
    else:
        tifffile.imwrite(buffer, image, photometric="minisblack", planarconfig="contig", compression="zlib")
    return buffer.getvalue()


def _encode_with_opencv(suffix: str, image: np.ndarray) -> bytes:
    import cv2

    match image.shape[2]:
        case 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        case 4:
            image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA)
    _, data = cv2.imencode(suffix, image)
    return data.tobytes()
