"""A set of images in files, as every evaluation reads it."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from i2i.checkpoints.store import ImageDtype
from i2i.data.folders import is_image, to_tensor
from i2i.data.image_io import ImageHeader, dtype_range, read_header, read_image_file
from i2i.errors import InputError
from i2i.files import VIDEO_SUFFIXES
from i2i.inference.codec import PHYSICAL
from i2i.metrics.features import clean_resize

Half = Literal["left", "right"]

NAMED = 3  # files that cannot be used
# Of pictures that we do not read, and that a person may have taken for part of the set.
UNREAD_SUFFIXES = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".exr", ".hdr", ".tga", ".dng", ".cr2", ".nef"}
)
DARK = 1 << 14  # images of 16 bits that reach less were taken with 14 bits or fewer
LOOKED_AT = 200  # images of a set, for the highest value in those of 16 bits


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images of any sizes, read one by one.

    Attributes:
        root: what their names are relative to.
        files: in the order in which they count.
        half: which half of each file is meant, where two images lie side by side; None: all of it.
        data_range: what is black and white, in the images' own units: (0, 4095) of a 12-bit camera, say. It holds for
            floats, and for integers whose type reaches so far; other integers have the whole range of their type, and
            so have all of them if the range ends at 1, as those of floats do.
        depth: the type of a generator's images, whose `data_range` this is. As for `i2i.load`, images of another type
            have then the whole range of theirs, floats 0 to 1; with "float32" and "any" all are in its units.
        size: (height, width) in px that images are fitted to when read: cut around the middle to its shape, then
            resized; None: they stay as they are.
    """

    root: Path
    files: tuple[Path, ...]
    half: Half | None = None
    data_range: tuple[float, float] | None = None
    depth: ImageDtype | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.data_range is not None:
            low, high = self.data_range
            if not (isfinite(low) and isfinite(high) and low < high):
                raise InputError(f"--data-range: expected two numbers, black and above it white, got {low:g} {high:g}")

    @classmethod
    def find(
        cls,
        place: Path | str,
        *,
        half: Half | None = None,
        data_range: tuple[float, float] | None = None,
        depth: ImageDtype | None = None,
    ) -> Self:
        """The images of a file or of a folder and its subfolders, sorted by name; hidden files are left out.

        Raises:
            InputError: there is no such place, no image in it, a folder that may not be read, or a range that is none.
        """
        place = Path(place).expanduser()
        if half not in (None, *get_args(Half)):
            raise InputError(f"half: expected one of {', '.join(get_args(Half))}, got {half!r}")
        if place.is_file():
            return cls(root=place.parent, files=(place,), half=half, data_range=data_range, depth=depth)
        if not place.is_dir():
            raise InputError(f"{place} does not exist; expected a folder of images")
        files = [file for file in _files_below(place) if is_image(file) and file.is_file()]
        if not files:
            raise InputError(f"{place} holds no images that can be read (PNG, JPEG, WebP, BMP, TIFF, .npy)")
        return cls(root=place, files=tuple(files), half=half, data_range=data_range, depth=depth)

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of each image: its path below the root, with / and without suffix."""
        return tuple(file.relative_to(self.root).with_suffix("").as_posix() for file in self.files)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies what the images are: their names and all bytes of their files, and how these are read."""
        ranges = [self.range_of(np.dtype(name)) or (0.0, 1.0) for name in ("uint8", "uint16", "float32")]
        digest = hashlib.sha256(repr((self.half, ranges, self.size)).encode())
        for name, file in zip(self.names, self.files, strict=True):
            with file.open("rb") as stream:
                digest.update(f"\0{name}\0".encode() + hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def read(self, index: int) -> Tensor:
        """One image: (C, H, W) float32 in [-1, 1], at its full depth, and of `size` if there is one.

        Grey becomes three equal channels, and transparency is left out (see `transparent`); images of five channels
        have five.

        Raises:
            InputError: the file cannot be read, holds NaN or infinity, or floats without `data_range`; its width is odd
                where a half is meant.
        """
        image, _ = self._colours(index)
        if image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        data_range = self.range_of(image.dtype)
        if data_range is None:
            raise InputError(_floats(self.files[index]))
        tensor = to_tensor(image, data_range)
        return tensor if self.size is None else _fitted(tensor, self.size)

    def range_of(self, dtype: np.dtype) -> tuple[float, float] | None:
        """What is black and white in images of a type; None for floats of which that is not known."""
        if self.depth is None:
            return range_in(dtype, self.data_range)
        if self.depth in (*PHYSICAL, dtype.name):
            return self.data_range
        return dtype_range(dtype) or (0.0, 1.0)

    def highest(self) -> int | None:
        """The highest value in images of 16 bits, as it is stored; None where there are none.

        Of at most LOOKED_AT of them, evenly spread, and without looking further where one needs all 16 bits.
        """
        deep = [index for index, file in enumerate(self.files) if read_header(file).dtype == "uint16"]
        count = min(len(deep), LOOKED_AT)
        highest = None
        for number in range(count):
            image, _ = self._colours(deep[number * len(deep) // count])
            highest = max(highest or 0, int(image.max()))
            if highest >= 1 << 15:
                break
        return highest

    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) in px of each image as it is read, from the beginning of its file."""
        if self.size is not None:
            return [self.size] * len(self)
        # Without threads, which would wait for each other: headers are read in small pieces of Python.
        headers = map(read_header, self.files)
        return [(header.height, header.width // (1 + (self.half is not None))) for header in headers]

    def grey(self) -> int:
        """How many of the files hold grey images."""
        return sum(read_header(file).channels <= 2 for file in self.files)

    def transparent(self) -> int:
        """How many of the images can be seen through somewhere."""

        def is_transparent(index: int) -> bool:
            if read_header(self.files[index]).channels not in (2, 4):
                return False
            image, alpha = self._colours(index)
            opaque = (dtype_range(image.dtype) or (0.0, 1.0))[1]
            return alpha is not None and bool((alpha < opaque).any())

        with ThreadPoolExecutor() as pool:
            return sum(pool.map(is_transparent, range(len(self))))

    def left_out(self) -> list[Path]:
        """What lies below the root and is not among the files: pictures of other formats, videos, links to nothing."""
        if len(self) == 1:  # which may have been given by itself
            return []
        return [
            file
            for file in _files_below(self.root)
            if file.suffix.lower() in UNREAD_SUFFIXES | VIDEO_SUFFIXES or (is_image(file) and not file.exists())
        ]

    def matched(self, other: "ImageSet") -> tuple["ImageSet", "ImageSet"]:
        """The images of both sets that have equal names, in the order of this set's; each set without the others.

        Images are called the same by their paths below the roots; where no two are, by their file names alone; and
        where none are even then, by either in lower case. Names of several files of a set do not count.
        """
        common, _ = self._common(other)
        return self.subset([mine for mine, _ in common]), other.subset([theirs for _, theirs in common])

    def unmatched(self, other: "ImageSet") -> str:
        """Which images `matched` leaves out of this set, and why, in a sentence; "" where there are none."""
        common, repeated = self._common(other)
        missing = len(self) - len(common)
        if not missing:
            return ""
        if repeated:
            why = f"{repeated[0]} is the name of several files; give each image a name of its own"
        elif common:
            alone = next(place for place in range(len(self)) if place not in dict(common))
            why = f"such as {self.names[alone]}"
        else:
            why = f"equal names are needed, not such as {self.names[0]} and {other.names[0]}"
        return f"{missing} of {len(self)} have none of their name in {other.root} ({why})"

    def repeated(self, other: "ImageSet") -> bool:
        """Whether `matched` leaves images out because several have one name."""
        return bool(self._common(other)[1])

    def _common(self, other: "ImageSet") -> tuple[list[tuple[int, int]], list[str]]:
        """Places of images with equal names in both sets; and names that are in both, but several times in one."""
        by = ((self.names, other.names), (_stems(self), _stems(other)))
        for names, others in (*by, *((_lowered(names), _lowered(others)) for names, others in by)):
            times, other_times = Counter(names), Counter(others)
            repeated = [name for name in times if name in other_times and max(times[name], other_times[name]) > 1]
            place = {name: number for number, name in enumerate(others) if other_times[name] == 1}
            common = [(number, place[name]) for number, name in enumerate(names) if name in place and times[name] == 1]
            if common:
                break
        return common, repeated

    def _colours(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """(H, W, C) as the file has it and, where it has transparency, that (H, W)."""
        file = self.files[index]
        content = read_image_file(file)
        if len(content.pages) > 1:
            raise InputError(f"{file} holds {len(content.pages)} pages; expected one image: save them as files")
        image = content.pages[0]
        if image.dtype == np.float32 and not np.isfinite(image).all():
            raise InputError(f"{file} holds NaN or infinity; expected numbers: fill the holes or remove the file")
        if self.half is not None:
            image = half_of(image, self.half, file)
        return (image[..., :-1], image[..., -1]) if content.alpha else (image, None)

    def subset(self, indices: list[int] | range | Tensor) -> "ImageSet":
        """The images of these indices, in this order."""
        chosen = torch.as_tensor(indices).tolist()
        return replace(self, files=tuple(self.files[index] for index in chosen))

    def fitted(self, size: tuple[int, int]) -> "ImageSet":
        """The same images, fitted to a `size` (height, width) in px when they are read."""
        return replace(self, size=size)


def range_in(dtype: np.dtype, data_range: tuple[float, float] | None) -> tuple[float, float] | None:
    """What is black and white in images of a type, where a person says `data_range`: see `ImageSet.data_range`."""
    full = dtype_range(dtype)
    if full is None or data_range is None:
        return full or data_range
    low, high = data_range
    return (low, high) if full[0] <= low and 1 < high <= full[1] else full


def depth_warnings(highest: Mapping[str, int], *, white: float, said: bool, what: str) -> Iterator[str]:
    """Where images of 16 bits use fewer, or go beyond the range that they are said to have.

    Args:
        highest: the highest value in 16 bits of each set that has such images, by its name.
        white: in 16 bits.
        said: somebody has said so.
        what: the sets hold.
    """
    dark = {}
    for which, value in highest.items():
        if value > white:
            yield (
                f"{which} {what} go up to {value}, and white is {white:g} in their units: figures of pairs come out "
                "wrong; give all of them in one kind of units, and say which with --data-range"
            )
        elif value < DARK and not said:
            dark[which] = value
    if dark:
        most = max(dark.values())
        bits = max(8, most.bit_length())
        yield (
            f"{' and '.join(dark)} {what} have 16 bits and use {bits} (up to {most}), so they count as nearly black, "
            f"and psnr, ssim and l1 come out far too good; say what is white: --data-range 0 {(1 << bits) - 1}"
        )


def half_of(image: np.ndarray, half: Half, file: Path) -> np.ndarray:
    """One of the two images (H, W, C) that lie side by side in a file."""
    width = image.shape[1]
    if width % 2:
        raise InputError(_odd(file, width))
    return image[:, : width // 2] if half == "left" else image[:, width // 2 :]


def _floats(file: Path) -> str:
    return f"{file} holds floats; say what is black and white in it, such as --data-range 0 1"


def _odd(file: Path, width: int) -> str:
    return f"{file} is {width} px wide; expected two images of one width side by side"


def _fitted(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest part (C, H, W) around the middle that has the shape of `size`, resized to it."""
    height, width = image.shape[1:]
    scale = min(height / size[0], width / size[1])
    tall, wide = (min(side, max(1, round(wanted * scale))) for side, wanted in zip((height, width), size, strict=True))
    top, left = (height - tall) // 2, (width - wide) // 2
    return clean_resize(image[None, :, top : top + tall, left : left + wide], size)[0]


def check_files(*sets: ImageSet, labels: bool = False) -> None:
    """Raises InputError where headers or ends of files say that images cannot be read; it names NAMED of them.

    That takes a moment where reading all of them takes minutes; damage further inside shows only then.

    Args:
        sets: of images.
        labels: they are label maps, whose numbers may be of any type.
    """

    for images in sets:
        headers = [_header(file) for file in images.files]
        damaged = [str(header) for header in headers if isinstance(header, InputError)]
        if damaged:
            rest = f"; and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
            count = f"{len(damaged)} of {len(images)} images cannot be used: " if len(damaged) > 1 else ""
            raise InputError(f"{count}{'; '.join(damaged[:NAMED])}{rest}")
        kinds: dict[int, tuple[Path, int]] = {}
        for file, header in zip(images.files, headers, strict=True):
            assert isinstance(header, ImageHeader)
            if not labels and images.range_of(np.dtype(header.dtype)) is None:
                raise InputError(_floats(file))
            if images.half is not None and header.width % 2:
                raise InputError(_odd(file, header.width))
            # Up to four they may be alike: grey counts as colour, and the last may be transparency.
            kinds.setdefault(max(4, header.channels), (file, header.channels))
        if len(kinds) > 1:
            (one, channels), (other, others), *_ = kinds.values()
            raise InputError(
                f"{one} has {channels} channels, {other} {others}; expected images of one kind in a set: take some out"
            )


def _header(file: Path) -> ImageHeader | InputError:
    try:
        return read_header(file)
    except InputError as error:
        return error


def _files_below(folder: Path) -> list[Path]:
    """Files in a folder and its subfolders, sorted, without hidden ones."""

    def cannot(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}; change its permissions, or move it away")

    found = []
    for place, subfolders, names in os.walk(folder, onerror=cannot):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def check_channels(*sets: ImageSet) -> None:
    """Raises InputError where the first images of sets differ in their number of channels."""
    first, *others = [(images.files[0], len(images.read(0))) for images in sets]
    for file, channels in others:
        if channels != first[1]:
            raise InputError(
                f"{first[0]} has {first[1]} channels, {file} {channels}; expected images of one kind: convert one set"
            )


def _lowered(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _stems(images: ImageSet) -> tuple[str, ...]:
    return tuple(name.rpartition("/")[2] for name in images.names)
