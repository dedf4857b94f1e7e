"""Numbered images, read as a video."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from glob import has_magic
from itertools import pairwise
from pathlib import Path

import numpy as np

from i2i.data.image_io import READABLE_SUFFIXES, ImageHeader, read_header, read_image_file
from i2i.errors import InputError
from i2i.video.frames import Damage, Format, Frame

_NUMBER_IN_PATTERN = re.compile(r"%(?:0?(\d+))?d")
_GAPS_TOLD = 5


class ImageSequence:
    """Images as the frames of a video; see `Source`. Its time base is a frame.

    A file that cannot be read is replaced by the image before, at the start by the one after.

    Args:
        paths: image files of one size, 8 or 16 bits, in any order: that of the numbers in their names counts. Grey
            becomes RGB, transparency is left out.
        rate: frames a second.

    Raises:
        InputError: there are none, none can be read, or one is of another size or not of 8 or 16 bits.
    """

    def __init__(self, paths: Sequence[Path], *, rate: Fraction) -> None:
        if not paths:
            raise InputError("expected a sequence of images, got no file")
        if rate <= 0:
            raise InputError(f"expected a rate of more than 0 frames a second, got {rate}")
        self._paths = sorted(paths, key=natural_order)
        self.name = str(self._paths[0].parent)
        self.file: Path | None = None
        self.files: Sequence[Path] = self._paths
        self.interlaced = False
        self.timeline: Sequence[int] = range(len(paths))
        self.end = len(paths)
        self._unread: dict[int, str] = {}  # why, by place
        headers = {path: header for path in self._paths if (header := _header(path)) is not None}
        if not headers:
            raise InputError(_why_not(self._paths[0]))
        model, like = next(iter(headers.items()))
        for path, header in headers.items():
            _check(path, header, model=model, like=like)
        self.format = Format(
            width=like.width,
            height=like.height,
            time_base=1 / rate,
            rate=rate,
            bits=16 if any(header.dtype == "uint16" for header in headers.values()) else 8,
            chroma="rgb",
        )
        transparent = any(header.channels in (2, 4) for header in headers.values())
        self.notes = (*_gaps(self._paths), *(["Their transparency is left out."] if transparent else []))

    @property
    def damage(self) -> Damage:
        """Found by `read` so far."""
        return Damage(repeated=len(self._unread), reasons=tuple(dict.fromkeys(self._unread.values())))

    @property
    def fingerprint(self) -> str:
        """Of the files and their rate."""
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._paths]
        return f"{len(files)} images at {self.format.rate}, {hashlib.sha256(repr(files).encode()).hexdigest()}"

    def read(self, first: int, end: int | None = None) -> Iterator[Frame]:
        """See `Source`."""
        before: np.ndarray | None = None
        for place in range(max(first, 0), self.end if end is None else min(end, self.end)):
            try:
                image, repeated = self._image(place), False
            except (InputError, OSError) as error:
                image, repeated = self._nearest(place) if before is None else before, True
                self._unread[place] = f"{error} (the image before is repeated)"
            yield Frame(place, 1, image, repeated)
            before = image

    def close(self) -> None:
        """Nothing is open."""

    def _image(self, place: int) -> np.ndarray:
        """(H, W, 3) of the dtype that the format says."""
        path = self._paths[place]
        file = read_image_file(path)
        image = file.pages[0]
        size = (self.format.height, self.format.width)
        if len(file.pages) > 1 or image.shape[:2] != size or image.dtype == np.float32:
            raise InputError(f"{path}: expected one image of {size[1]} x {size[0]} px and 8 or 16 bits")
        if image.shape[2] - file.alpha == 1:
            image = image[..., [0, 0, 0]]
        if image.dtype == np.uint8 and self.format.dtype == np.uint16:
            return image[..., :3].astype(np.uint16) * 257
        return np.ascontiguousarray(image[..., :3])

    def _nearest(self, place: int) -> np.ndarray:
        """The last image before that can be read or, failing that, the first one after."""
        for other in (*range(place - 1, -1, -1), *range(place + 1, self.end)):
            try:
                return self._image(other)
            except (InputError, OSError):
                continue
        raise InputError(f"{self.name}: none of the {self.end} images can be read")


def find_sequence(place: Path | str) -> list[Path]:
    """The images that a person means, in the order of their numbers.

    Args:
        place: a folder; a pattern with the place of a number ("frames/%06d.png") or with wild cards ("frames/a*.png").

    Raises:
        InputError: there are none.
    """
    place = Path(place)
    if place.is_dir():
        found = [path for path in place.iterdir() if path.suffix.lower() in READABLE_SUFFIXES and path.name[0] != "."]
    elif match := _NUMBER_IN_PATTERN.search(place.name):
        before, after = place.name[: match.start()], place.name[match.end() :]
        name = re.compile(re.escape(before) + r"\d{%s,}" % (match[1] or 1) + re.escape(after))
        found = [path for path in place.parent.glob("*") if name.fullmatch(path.name)]
    elif has_magic(str(place)):
        found = list(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
    else:
        found = []
    if not found:
        raise InputError(f'{place}: expected a folder of images or a pattern such as "frames/%06d.png", found no image')
    return sorted(found, key=natural_order)


def natural_order(path: Path) -> tuple[str, list[tuple[int, str]]]:
    """A key that sorts frame2 before frame10."""
    return str(path.parent), [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", path.name)]


def _header(path: Path) -> ImageHeader | None:
    try:
        return read_header(path)
    except (InputError, OSError):
        return None  # told when it is its turn


def _why_not(path: Path) -> str:
    try:
        read_header(path)
    except (InputError, OSError) as error:
        return str(error)
    return ""


def _check(path: Path, header: ImageHeader, *, model: Path, like: ImageHeader) -> None:
    if (header.width, header.height) != (like.width, like.height):
        raise InputError(
            f"{path}: expected all images to be of one size, got {header.width} x {header.height} px after "
            f"{like.width} x {like.height} px in {model.name}"
        )
    if header.dtype == "float32" or header.channels > 4:
        raise InputError(
            f"{path}: expected an image of 8 or 16 bits in grey or RGB, got one with {header.channels} channels of "
            f"{header.dtype}"
        )


def _gaps(paths: Sequence[Path]) -> tuple[str, ...]:
    """What to say where most numbers follow one another and some are left out."""
    numbers = [int(found[-1]) for path in paths if (found := re.findall(r"\d+", path.stem))]
    gaps = [(one + 1, other - 1) for one, other in pairwise(numbers) if other > one + 1]
    if len(numbers) < len(paths) or not gaps or 2 * len(gaps) > len(numbers):
        return ()
    told = ", ".join(str(one) if one == other else f"{one} to {other}" for one, other in gaps[:_GAPS_TOLD])
    more = f" and {len(gaps) - _GAPS_TOLD} more gaps" if len(gaps) > _GAPS_TOLD else ""
    return (f"Images with these numbers are not there, and the video goes on without them: {told}{more}.",)
