"""Cutting a video, and reading its pieces with what lies around them."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from i2i.video.frames import Frame
from i2i.video.segments import Segment, SegmentReader, cut, share

TIMELINE = [0, 3, 7, 8, 20, 21, 30, 31, 40, 44, 45]


class Clip:
    """A source of frames at these times, and one more that nothing announces; it counts those that it gives."""

    def __init__(self, *, unannounced: Sequence[int] = ()) -> None:
        self.timeline = TIMELINE
        self.times = sorted([*TIMELINE, *unannounced])
        self.given = 0

    def read(self, first: int, end: int | None = None) -> Iterator[Frame]:
        for pts in self.times:
            if pts >= first and (end is None or pts < end):
                self.given += 1
                yield Frame(pts, 1, np.empty(0))


def test_segments_cover_the_timeline_and_what_lies_around_it() -> None:
    segments = cut(TIMELINE, frames=3)
    assert [(segment.first, segment.end) for segment in segments] == [(None, 8), (8, 30), (30, 44), (44, None)]
    for pts in range(-5, 50):
        assert sum(pts in segment for segment in segments) == 1
    assert [segment.places(TIMELINE) for segment in segments] == [(0, 3), (3, 6), (6, 9), (9, 11)]
    assert cut([5], frames=3) == [Segment(number=0, first=None, end=None)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shares_make_the_whole(world_size: int) -> None:
    segments = cut(TIMELINE, frames=3)
    shares = [share(segments, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [segment for part in shares for segment in part] == segments
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_neighbours_are_read_along_and_nothing_twice(reach: int) -> None:
    clip = Clip()
    reader = SegmentReader(clip, reach=reach)  # type: ignore[arg-type]
    for segment in cut(TIMELINE, frames=3):
        first, end = segment.places(TIMELINE)
        expected = TIMELINE[max(0, first - reach) : end + reach]
        assert [frame.pts for frame in reader.read(segment)] == expected
    assert clip.given == len(TIMELINE)


def test_segments_in_any_order_and_unannounced_frames() -> None:
    clip = Clip(unannounced=[-2, 9, 10, 29, 60])
    segments = cut(TIMELINE, frames=3)
    expected = {
        segment: [frame.pts for frame in SegmentReader(clip, reach=2).read(segment)]  # type: ignore[arg-type]
        for segment in segments
    }
    assert expected[segments[1]] == [3, 7, 8, 9, 10, 20, 21, 29, 30, 31]
    reader = SegmentReader(clip, reach=2)  # type: ignore[arg-type]
    for place in (0, 1, 3, 2, 3, 0):
        assert [frame.pts for frame in reader.read(segments[place])] == expected[segments[place]]


def test_segments_shorter_than_the_reach() -> None:
    clip = Clip()
    reader = SegmentReader(clip, reach=2)  # type: ignore[arg-type]
    for segment in cut(TIMELINE, frames=1):
        first, end = segment.places(TIMELINE)
        assert [frame.pts for frame in reader.read(segment)] == TIMELINE[max(0, first - 2) : end + 2]
