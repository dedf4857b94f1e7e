"""Interlaced video: whether frames are woven of two fields, taken one after the other, and how to undo it.

Through FFmpeg's filters: idet looks for combs; bwdif fills in lines, as Yadif and the BBC's Weston filter do together.
"""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, TypeVar

import av
import numpy as np

from i2i.video.pixels import bits_of, planes_of

Fields = Literal["progressive", "flagged", "tff", "bff"]
Mark = TypeVar("Mark")

_LEAST_COMBED = 8  # frames, and as a share of all that are not still
_LEAST_SHARE = 0.8
_BLOCK = 16  # px
_FAINT = 3  # levels of 255, between lines
_COMB = 1.2  # noise has 1, pictures some 0.6
_LEAST_AREA = 0.02


class FieldDetector:
    """Looks at the first frames of a video, all of one size and format."""

    def __init__(self) -> None:
        self._idet: av.filter.Graph | None = None
        self._flagged = False
        self._seen = {"progressive": 0, "tff": 0, "bff": 0, "undetermined": 0}

    def look(self, frame: av.VideoFrame) -> None:
        """See the next frame."""
        self._flagged |= frame.interlaced_frame
        if self._flagged:
            return
        if self._idet is None:
            self._idet = _graph(frame, "idet", "")
        frame.pts = sum(self._seen.values())
        self._idet.vpush(frame)
        for seen in _pulled(self._idet):
            found = seen.metadata["lavfi.idet.multiple.current_frame"]
            if found in ("tff", "bff") and not _combed(seen):
                found = "progressive"
            self._seen[found] += 1

    @property
    def fields(self) -> Fields:
        """What they are.

        Returns:
            "flagged": the file says of some frames that they are interlaced. "tff", "bff": it does not, but they show
            combs, the upper or lower field first.
        """
        if self._flagged:
            return "flagged"
        upper, lower = self._seen["tff"], self._seen["bff"]
        combed = max(upper, lower)
        if combed < _LEAST_COMBED or combed < _LEAST_SHARE * (upper + lower + self._seen["progressive"]):
            return "progressive"
        return "tff" if upper > lower else "bff"


def _combed(frame: av.VideoFrame) -> bool:
    """Whether in some part of the picture each line is less like the next one than like the one after that.

    idet alone takes coarse JPEG for interlaced.
    """
    luma = planes_of(frame)[0].astype(np.int32)
    near = _blocks(np.abs(luma[1:-1] - luma[:-2]))
    far = _blocks(np.abs(luma[2:] - luma[:-2]))
    textured = near > _FAINT * 2 ** (bits_of(frame.format) - 8)
    return bool((near > _COMB * far)[textured].mean() > _LEAST_AREA) if textured.any() else False


def _blocks(values: np.ndarray) -> np.ndarray:
    """Means over squares of `_BLOCK` px."""
    height, width = (size // _BLOCK for size in values.shape)
    squares = values[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK)
    return squares.mean(axis=(1, 3))


def deinterlaced(
    frames: Iterator[tuple[Mark, av.VideoFrame | None]], fields: Fields
) -> Iterator[tuple[Mark, av.VideoFrame | None]]:
    """Fill in every second line of interlaced frames from what is around it, in the frames before and after, too.

    Args:
        frames: each with a mark of any kind, that its result will have; None is passed on.
        fields: "flagged" leaves those alone that are not flagged.

    Yields:
        As many as came.
    """
    options = "mode=send_frame:" + ("deint=interlaced" if fields == "flagged" else f"deint=all:parity={fields}")
    graph: av.filter.Graph | None = None
    shape: tuple[int, int, str] | None = None
    waiting: deque[Mark] = deque()
    for mark, frame in frames:
        new_shape = None if frame is None else (frame.width, frame.height, frame.format.name)
        if graph is not None and shape != new_shape:
            yield from zip(list(waiting), _finished(graph), strict=True)
            waiting.clear()
            graph = None
        if frame is None:
            yield mark, None
            continue
        if graph is None:
            graph, shape, number = _graph(frame, "bwdif", options), new_shape, 0
        frame.pts, frame.time_base, number = number, Fraction(1), number + 1
        waiting.append(mark)
        graph.vpush(frame)
        for result in _pulled(graph):
            yield waiting.popleft(), result
    if graph is not None:
        yield from zip(waiting, _finished(graph), strict=True)


def _finished(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    """What is still in the filter."""
    graph.vpush(None)
    return _pulled(graph)


def _graph(frame: av.VideoFrame, name: str, options: str) -> av.filter.Graph:
    """A filter for frames like this one, in one thread."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, name="in", time_base=Fraction(1)
    )
    graph.link_nodes(source, graph.add(name, options), graph.add("buffersink")).configure()
    return graph


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
