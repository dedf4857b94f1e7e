"""Opening video files, and what their packets say before any is decoded."""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median_low

import av
from av.container import InputContainer
from av.stream import Discard, Stream

from i2i.errors import InputError
from i2i.video.containers import is_cover
from i2i.video.truncated import bytes_announced, lacks_index

_MOSTLY = 0.9
_USUAL_RATE = Fraction(25)  # FFmpeg's guess, too, where nothing is said
_MOST_OFF = 4  # times: a rate that a container claims, from the mean; half or double is right where fields are counted


@dataclass(frozen=True, kw_only=True)
class Index:
    """What the packets of a video say.

    Attributes:
        codec: FFmpeg's name of its decoder.
        timeline: timestamps of the frames, rising, each once.
        keys: those of frames that can be decoded without others, rising.
        end: timestamp at which the last frame ends.
        time_base: seconds that a unit of them stands for.
        rate: frames a second, the mean where it varies.
        sample_aspect_ratio: width of a pixel by its height, before it is turned upright; 1 where unknown.
        counted: the packets have no timestamps of use, so that frames are counted and the unit is a frame.
        partial: timestamp of the packet at which the file is cut off; a part of it is there.
        missing: frames that are announced and not there, the file being cut off.
        cut_off: the same in words; empty for a whole file.
        notes: what a person should know, in sentences.
    """

    codec: str
    timeline: Sequence[int]
    keys: Sequence[int]
    end: int
    time_base: Fraction
    rate: Fraction
    sample_aspect_ratio: Fraction
    counted: bool
    partial: int | None
    missing: int
    cut_off: str
    notes: tuple[str, ...]


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """A video file and its video: the first stream that is no cover. Packets of other streams do not come.

    Raises:
        InputError: there is no such file, or no video in it.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if path.is_dir():
        raise InputError(f"{path}: expected a video file, got a folder")
    if lacks_index(path):
        raise InputError(
            f"{path} is cut off, and without its index, which is mostly written last: the recording or the download "
            "did not finish. Get the whole file; for recordings there are tools that make a new index"
        )
    try:
        container = av.open(str(path.absolute()), metadata_errors="replace")
    except PermissionError as error:
        raise InputError(f"{path} may not be read; change its permissions") from error
    except (av.error.FFmpegError, IndexError) as error:  # the latter by PyAV, where a file ends very early
        raise InputError(f"{path}: expected a video, got a file that FFmpeg cannot read as one") from error
    with container:
        video = [stream for stream in container.streams.video if not is_cover(stream)]
        if not video or video[0].codec_context is None:
            raise InputError(f"{path}: expected a video stream, got {_described(container)}")
        for stream in container.streams:
            stream.discard = Discard.default if stream is video[0] else Discard.all
        video[0].codec_context.thread_count = 1
        yield container, video[0]


def packets_of(container: InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """Those that hold something; after errors of the container, too, as long as more comes."""
    more = True
    while more:
        more = False
        try:
            for packet in container.demux(stream):
                if packet.size:
                    more = True
                    yield packet
            return
        except av.error.FFmpegError:
            continue


def read_index(path: Path) -> Index:
    """Read all packets, and keep their timestamps: 8 bytes for each.

    Raises:
        InputError: as `opened`, or there are no frames.
    """
    times, keys = array("q"), array("q")
    timeless = 0
    last = duration = 0
    incomplete = damaged = False
    with _errors() as errors, opened(path) as (container, stream):
        codec = stream.codec_context.name
        aspect = stream.sample_aspect_ratio or Fraction(1)
        for packet in packets_of(container, stream):
            if packet.is_discard:
                continue
            if packet.pts is None:
                timeless += 1
                continue
            if packet.is_keyframe:
                keys.append(packet.pts)
            if not times or packet.pts > last:
                last, duration = packet.pts, packet.duration or 0
            times.append(packet.pts)
            incomplete = packet.is_corrupt
            damaged = damaged or incomplete
        if not times and not timeless:
            raise InputError(f"{path}: expected a video, got one without a single frame")
        jumps = any(later < earlier for earlier, later in pairwise(keys))
        counted = jumps or timeless > len(times)
        if counted:
            rate = stream.guessed_rate or stream.average_rate or _USUAL_RATE
            timeline: Sequence[int] = range(len(times) + timeless)
            end, time_base = len(timeline), 1 / rate
        else:
            time_base = Fraction(stream.time_base or 0)
            timeline = array("q", sorted(set(times)))
            if damaged or errors:
                timeline = _without_holes(timeline)
            rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
            if len(timeline) > 1:
                mean = (len(timeline) - 1) / ((timeline[-1] - timeline[0]) * time_base)
                rate = rate if mean / _MOST_OFF < rate < mean * _MOST_OFF else mean
            end = last + max(duration or round(1 / (rate * time_base)), 1)
        missing, cut_off = _missing(
            path, container, stream, count=len(timeline) - incomplete, start=timeline[0] * time_base, rate=rate
        )
        partial = times[-1] if cut_off and incomplete and not counted and len(timeline) > 1 else None
        if partial is not None:
            timeline = array("q", (time for time in timeline if time != partial))
            end = partial if partial > timeline[-1] else end
    return Index(
        codec=codec,
        timeline=timeline,
        keys=array("q", sorted(set(keys))),
        end=end,
        time_base=time_base,
        rate=rate,
        sample_aspect_ratio=aspect,
        counted=counted,
        partial=partial,
        missing=missing,
        cut_off=cut_off,
        notes=("Its timestamps jump back, so frames are timed by their rate.",) if jumps else (),
    )


@contextmanager
def _errors() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg says of errors while it reads, which it does not raise."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said:
            yield said
    finally:
        av.logging.set_level(level)


def _without_holes(timeline: array) -> array:
    """The timestamps, and those of frames whose packets were not even found, where frames come at even distances."""
    steps = [later - earlier for earlier, later in pairwise(timeline)]
    usual = median_low(steps) if steps else 0
    even = sum(abs(step - usual) <= usual / 10 for step in steps)
    if even < _MOSTLY * len(steps):
        return timeline
    whole = array("q", timeline[:1])
    for earlier, later in pairwise(timeline):
        count = max(1, round((later - earlier) / usual))
        whole.extend(earlier + (later - earlier) * number // count for number in range(1, count + 1))
    return whole


def _missing(
    path: Path, container: InputContainer, stream: av.VideoStream, *, count: int, start: Fraction, rate: Fraction
) -> tuple[int, str]:
    """How many frames are announced beyond the end of the file, and that in words; 0 and "" for a whole file."""
    size, announced = path.stat().st_size, bytes_announced(path)
    beyond = sum(entry.pos + entry.size > size for entry in stream.index_entries)
    if not beyond and (announced is None or announced <= size):
        return 0, ""
    if "mp4" in container.format.name:
        missing = beyond
    elif stream.frames:
        missing = max(stream.frames - count, beyond)
    else:
        seconds = Fraction(container.duration or 0, av.time_base) - start
        missing = max(round(seconds * rate) - count, beyond)
    told = f"; it should have {announced:,} bytes and has {size:,}" if announced and announced > size else ""
    return missing, f"the file is cut off{told}"


def _described(container: InputContainer) -> str:
    return ", ".join(_named(stream) for stream in container.streams) or "a file without streams"


def _named(stream: Stream) -> str:
    if is_cover(stream):
        return "a cover picture"
    return f"{stream.type} ({stream.codec_context.name if stream.codec_context else 'unknown codec'})"
