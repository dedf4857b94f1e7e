"""Label maps and instance maps: images whose numbers are names, which must come out of a file as they went in."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from i2i.data.image_io import read_image
from i2i.errors import InputError

_LARGEST_INSTANCE = 2**32 - 1
_LARGEST_EXACT = 2**24  # of integers in float32


def read_labels(path: Path | str, *, palette: np.ndarray | None = None) -> np.ndarray:
    """Read the class ids of a label map.

    Without a palette the numbers in the file are the ids: grey of any depth, three equal channels, or the indices of
    a file with a palette of its own. With one the file's colours are looked up in it.

    Args:
        path: PNG, TIFF, .npy, or another lossless image.
        palette: (classes, 3) uint8 RGB, from `read_palette`: the colour of each class.

    Returns:
        (H, W) int64. "Don't care" is what it is in the file, mostly 255 or -1.

    Raises:
        InputError: the file cannot be read, its compression is lossy, its numbers are no integers, it is
            colour-coded and no palette is given, or it has colours that are not in the palette.
    """
    path = Path(path)
    if palette is not None:
        return _looked_up(path, palette)
    check_lossless(path, "class ids")
    stored = read_image(path, labels=True)
    if stored.shape[2] != 1:
        raise InputError(
            f"{path} is colour-coded: its {stored.shape[2]} channels differ, and a label map has one, of class ids. "
            "Give the colours of the classes with --palette FILE, a line each"
        )
    return _integers(stored[..., 0], path, "class ids")


def read_instances(path: Path | str) -> np.ndarray:
    """Read the instance numbers of an instance map.

    Args:
        path: as for `read_labels`. Where three channels differ, red + 256 green + 65536 blue is the number, as in
            COCO's panoptic maps.

    Returns:
        (H, W) uint32: pixels of one object have one number.

    Raises:
        InputError: the file cannot be read, its compression is lossy, or its numbers are no integers of 32 bits.
    """
    path = Path(path)
    check_lossless(path, "instance numbers")
    stored = read_image(path, labels=True)
    match stored.shape[2], stored.dtype.name:
        case 1, _:
            numbers = _integers(stored[..., 0], path, "instance numbers")
        case 3, "uint8":
            numbers = _colour_codes(stored)
        case channels, dtype:
            raise InputError(f"{path} has {channels} channels of {dtype}; expected one, of instance numbers")
    if numbers.min() < -1 or numbers.max() > _LARGEST_INSTANCE:
        raise InputError(
            f"{path} has instance numbers from {numbers.min()} to {numbers.max()}; expected them from 0 to "
            f"{_LARGEST_INSTANCE}"
        )
    return numbers.astype(np.uint32)


def dont_care_id(classes: int) -> int:
    """The id in files, beside negative ones, of pixels of no class: 255, or 65535 where 255 is a class."""
    return 255 if classes <= 255 else 65535


def class_ids(labels: np.ndarray, *, classes: int, dont_care: bool, first_id: int = 0) -> np.ndarray:
    """Ids as they are in files → 0 … classes - 1, and `classes` itself for "don't care".

    Args:
        labels: integers of any shape.
        classes: how many there are.
        dont_care: whether there may be pixels of no class.
        first_id: what the first class has in files; what is below it is "don't care".

    Raises:
        InputError: ids out of range.
    """
    ids = labels - first_id
    of_no_class = (ids < 0) | (labels == dont_care_id(first_id + classes))
    unknown = (ids < 0) | (ids >= classes)
    if dont_care:
        unknown &= ~of_no_class
    if unknown.any():
        raise InputError(
            f"{unknown.sum():,} pixels have class ids that are not known, such as {labels[unknown][0]}; expected "
            f"{first_id} to {first_id + classes - 1}" + (f" or {dont_care_id(first_id + classes)}" if dont_care else "")
        )
    return np.where(of_no_class, classes, ids)


def check_lossless(path: Path, what: str) -> None:
    """Raise InputError where a file's compression changes numbers; `what` says which."""
    if _is_lossy(path):
        raise InputError(
            f"{path} is compressed with loss (JPEG or lossy WebP), which smears {what}; save it again from its source, "
            "as PNG"
        )


def _integers(values: np.ndarray, path: Path, what: str) -> np.ndarray:
    """As int64."""
    if values.dtype.kind not in "iu":
        if not (np.isfinite(values).all() and (values == np.round(values)).all()):
            raise InputError(f"{path} holds fractions, not {what}; expected integers: save it again as they are")
        if np.abs(values).max() >= _LARGEST_EXACT:
            raise InputError(f"{path} holds {what} as floats, too large to be exact; save them as integers")
    return values.astype(np.int64)


def _looked_up(path: Path, palette: np.ndarray) -> np.ndarray:
    image = read_image(path)
    if image.dtype != np.uint8 or image.shape[2] > 4:
        raise InputError(
            f"{path} has {image.shape[2]} channels of {image.dtype}, and --palette is for colours of 8 bits; leave it "
            "out if the file holds class ids"
        )
    colours = image if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    codes, palette_codes = _colour_codes(colours), _colour_codes(palette)
    order = np.argsort(palette_codes)
    places = np.searchsorted(palette_codes, codes, sorter=order).clip(max=len(order) - 1)
    ids = order[places]
    strange = palette_codes[ids] != codes
    if strange.any():
        raise InputError(_about_strange_colours(path, colours[strange], palette, pixels=codes.size))
    return ids


def _about_strange_colours(path: Path, strange: np.ndarray, palette: np.ndarray, *, pixels: int) -> str:
    found, counts = np.unique(strange, axis=0, return_counts=True)
    most = found[counts.argmax()]
    distances = np.abs(palette.astype(int) - most).sum(axis=1)
    nearest = int(distances.argmin())
    lossy = _is_lossy(path)
    advice = (
        "The file's compression is lossy and has smeared the colours: save it again from its source, as PNG"
        if lossy
        else "Add what is missing to the palette, or correct the file"
    )
    return (
        f"{path}: {len(strange):,} of {pixels:,} pixels ({len(strange) / pixels:.1%}) have a colour that is not in the "
        f"palette, most often {tuple(most.tolist())} ({counts.max():,} pixels); the nearest is "
        f"{tuple(palette[nearest].tolist())}, of class {nearest}. {advice}"
    )


def _colour_codes(colours: np.ndarray) -> np.ndarray:
    """(…, 3 or 4) uint8 → (…) int64: red + 256 green + 65536 blue."""
    return colours[..., :3].astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])


def _is_lossy(path: Path) -> bool:
    head = _head(path)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return b"VP8 " in _webp_chunks(path.read_bytes())
    return head.startswith(b"\xff\xd8\xff")


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    """Kinds of the chunks: "VP8 " holds pixels with loss, "VP8L" without."""
    position = 12
    while position < len(data):
        yield data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(12)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check the path") from error
