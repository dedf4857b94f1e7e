"""A video cut into segments, each of which is read, computed and written by itself."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from i2i.video.frames import Frame, Source

START, END = -(2**62), 2**62  # before and after any timestamp


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a video: what is shown from `first` on and before `end`, in units of its time base.

    `first` is None in the first one, which so has whatever lies before the announced frames, and `end` in the last.
    """

    number: int
    first: int | None
    end: int | None

    def __contains__(self, pts: int) -> bool:
        return (self.first is None or self.first <= pts) and (self.end is None or pts < self.end)

    def places(self, timeline: Sequence[int]) -> tuple[int, int]:
        """The places of its announced frames: the first one's, and that after the last."""
        first = 0 if self.first is None else bisect_left(timeline, self.first)
        return first, len(timeline) if self.end is None else bisect_left(timeline, self.end)


def cut(timeline: Sequence[int], *, frames: int) -> list[Segment]:
    """Segments of so many announced frames each; the last one may have fewer."""
    bounds = [None, *timeline[frames::frames], None]
    return [Segment(number=number, first=first, end=end) for number, (first, end) in enumerate(pairwise(bounds))]


def share(segments: Sequence[Segment], *, rank: int, world_size: int) -> Sequence[Segment]:
    """Those of one process: neighbours, so that it reads on from one to the next."""
    return segments[len(segments) * rank // world_size : len(segments) * (rank + 1) // world_size]


class SegmentReader:
    """Reads the frames of segments, and `reach` frames on either side of each.

    Args:
        source: where they come from.
        reach: how many.
    """

    def __init__(self, source: Source, *, reach: int) -> None:
        self._source = source
        self._reach = reach
        self._recent: deque[Frame] = deque(maxlen=4 * reach + 1)
        self._stands: int | None = None  # where the source was read up to

    def read(self, segment: Segment) -> Iterator[Frame]:
        """All frames of a segment and those around it, in order; what was read before is not read again."""
        first, end = self._bounds(segment)
        again: list[Frame] = []
        if self._stands is not None and self._recent and self._recent[0].pts <= first <= self._stands:
            again = [frame for frame in self._recent if frame.pts >= first]
            first = self._stands
        else:
            self._recent.clear()
        yield from again
        for frame in self._source.read(first, end):
            self._recent.append(frame)
            yield frame
        self._stands = END if end is None else end

    def _bounds(self, segment: Segment) -> tuple[int, int | None]:
        timeline = self._source.timeline
        first, end = segment.places(timeline)
        first, end = first - self._reach, end + self._reach
        return (
            START if segment.first is None or first <= 0 else timeline[first],
            None if segment.end is None or end >= len(timeline) else timeline[end],
        )
