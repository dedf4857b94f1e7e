"""What becomes of the frames of one segment, after the network."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np

from i2i.video.duplicates import Assembler, Plan
from i2i.video.frames import Frame
from i2i.video.stabilise import Stabiliser
from i2i.video.writer import SegmentWriter, SequenceWriter

Picture = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A frame on its way.

    Attributes:
        frame: the source's.
        plan: what is computed of it, where that is not all of it.
        context: whether it lies outside the segment, and is there to steady others.
    """

    frame: Frame
    plan: Plan | None
    context: bool


class Part:
    """Takes the frames of a segment, and what the network made of them, and writes the results.

    Args:
        writers: each with what it writes, of a frame's image and its result.
        assembler: makes results of what was computed, through all segments.
        stabiliser: steadies results, if that is wanted.
        look: shown each frame's image and its result.

    Attributes:
        frames: written so far.
    """

    def __init__(
        self,
        *,
        writers: Sequence[tuple[Picture, SegmentWriter | SequenceWriter]],
        assembler: Assembler,
        stabiliser: Stabiliser | None,
        look: Callable[[np.ndarray, np.ndarray], None],
    ) -> None:
        self._writers = writers
        self._stabiliser = stabiliser
        self._look = look
        self._assembler = assembler
        self._steadied: deque[Shown] = deque()
        self.frames = 0

    def add(self, shown: Shown, results: Sequence[np.ndarray]) -> None:
        """Take the next frame and what was computed of it."""
        result = results[0] if shown.plan is None else self._assembler.assemble(shown.plan, results)
        if self._stabiliser is None:
            self._write(shown, result)
        else:
            self._steadied.append(shown)
            for steady in self._stabiliser.push(shown.frame.image, result):
                self._write(self._steadied.popleft(), steady)

    def close(self) -> None:
        """Write what is left, and finish the files."""
        for steady in self._stabiliser.finish() if self._stabiliser is not None else ():
            self._write(self._steadied.popleft(), steady)
        for _, writer in self._writers:
            writer.close()

    def give_up(self) -> None:
        """Close the files as they are."""
        for _, writer in self._writers:
            with suppress(Exception):  # it is told already why there is nothing to be finished
                writer.abort()

    def _write(self, shown: Shown, result: np.ndarray) -> None:
        if shown.context:
            return
        frame = shown.frame
        for picture, writer in self._writers:
            writer.write(picture(frame.image, result), pts=frame.pts, duration=frame.duration)
        self._look(frame.image, result)
        self.frames += 1


def result_alone(source: np.ndarray, result: np.ndarray) -> np.ndarray:
    """The result."""
    return result


def side_by_side(source: np.ndarray, result: np.ndarray) -> np.ndarray:
    """The source, enlarged to the result's size by bicubic interpolation, and the result to its right.

    Args:
        source: (h, w, 3) uint8 or uint16.
        result: (H, W, 3) of the same dtype.

    Returns:
        (H, 2 W, 3).
    """
    height, width, _ = result.shape
    return np.hstack([cv2.resize(source, (width, height), interpolation=cv2.INTER_CUBIC), result])
