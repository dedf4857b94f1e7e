"""What passes between the parts that read, enlarge and write video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

Chroma = Literal["420", "422", "444", "rgb"]


class Colour(NamedTuple):
    """How a video's numbers stand for light: code points of ITU-T H.273, as FFmpeg numbers them.

    Attributes:
        range: 0 unknown, 1 limited ("tv", black at 16 of 255), 2 full.
        matrix: between RGB and YCbCr; 1 is BT.709, 2 unknown, 5 and 6 BT.601, 9 BT.2020.
        primaries, transfer: kept, and without effect on the numbers that networks see.
    """

    range: int = 0
    matrix: int = 2
    primaries: int = 2
    transfer: int = 2


UNKNOWN_COLOUR = Colour()


class Frame(NamedTuple):
    """One picture of a video.

    Attributes:
        pts: when it is shown first, in units of the source's time base.
        duration: for how long, in the same units.
        image: (H, W, 3) RGB, upright, of full range: uint8, or uint16 where that would lose something.
        repeated: whether it is the one before, in place of one that could not be decoded.
    """

    pts: int
    duration: int
    image: np.ndarray
    repeated: bool = False


@dataclass(frozen=True, kw_only=True)
class Format:
    """What the frames of a video are like.

    Args:
        width, height: in px, upright.
        time_base: seconds that a unit of its timestamps stands for.
        rate: frames a second; the mean where it varies.
        colour: how numbers stand for light.
        sample_aspect_ratio: width of a pixel by its height, as displayed; 1 where unknown.
        bits: of each value, 8 to 16.
        chroma: how finely colour is sampled.
        lines: height of the source as it is stored, by which a matrix that nothing tells is guessed; 0: `height`.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    colour: Colour = UNKNOWN_COLOUR
    sample_aspect_ratio: Fraction = Fraction(1)
    bits: int = 8
    chroma: Chroma = "420"
    lines: int = 0

    @property
    def dtype(self) -> type[np.generic]:
        """Of the images: uint8, or uint16 so that nothing is cut off."""
        return np.uint8 if self.bits == 8 and self.chroma in ("420", "rgb") else np.uint16


@dataclass(kw_only=True)
class Damage:
    """What could not be read as it should be.

    Attributes:
        repeated: frames in place of which the one before stands.
        missing: frames that the file announces and that could not be decoded at its end, where it is cut off.
        reasons: in words, each once.
    """

    repeated: int = 0
    missing: int = 0
    reasons: tuple[str, ...] = ()


class Source(Protocol):
    """A video or a sequence of images, read in intervals of time.

    Attributes:
        name: for messages.
        format: of its frames.
        timeline: timestamps of the frames that the file announces, rising; those of damaged files may fail to come,
            and other frames may come between them.
        end: timestamp at which the last of them ends.
        interlaced: whether its frames are woven of two fields each (and are not to be deinterlaced).
        notes: what a person should know, in sentences.
        file: whose other streams, chapters and metadata go along; None for a sequence of images.
        files: all that is read.
        damage: found by `read` so far.
        fingerprint: of what is read, and how; another one means other frames.
    """

    name: str
    format: Format
    timeline: Sequence[int]
    end: int
    interlaced: bool
    notes: tuple[str, ...]
    file: Path | None
    files: Sequence[Path]

    @property
    def damage(self) -> Damage: ...

    @property
    def fingerprint(self) -> str: ...

    def read(self, first: int, end: int | None = None) -> Iterator[Frame]:
        """Frames with `first` ≤ pts < `end`, in order; the same ones wherever reading began before.

        Reading on where the last call ended needs no search.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...
