"""Make one file of the parts of a video and of everything else that its source holds."""

import heapq
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Discard

from i2i.errors import InputError
from i2i.video.containers import (
    COVERS,
    METADATA_ERRORS,
    NO_STREAMS,
    Streams,
    choose_streams,
    copy_stream,
    is_cover,
    muxer_of,
    open_source,
    stream_metadata,
)
from i2i.video.encoding import Settled, mark
from i2i.video.frames import Format
from i2i.video.matroska import PADDING, set_display_size
from i2i.video.writer import ORIGIN, image_name

# What a file says about itself, and every file anew.
_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
# What some files say about a stream, and what is not true of the new one.
_OF_THE_STREAM = ("encoder", "bps", "number_of_", "_statistics", "duration", "rotate", "vendor_id")
# What mp4 has places for; anything else makes it a file with a list of keys, which fewer programs read.
_PLACES_IN_MP4 = frozenset(
    (
        *("album", "album_artist", "artist", "comment", "compilation", "composer", "copyright"),
        *("creation_time", "date", "description", "disc", "episode_id", "episode_sort", "gapless_playback"),
        *("genre", "grouping", "hd_video", "keywords", "location", "lyrics", "media_type"),
        *("network", "season_number", "show", "synopsis", "title", "track"),
    )
)
_LARGEST_SCALE = 2**31 - 1
_MOST_WAITING = 32  # packets, for the first time of decoding


def join(
    segments: Sequence[Path], target: Path, *, settled: Settled, end: int | None = None, source: Path | None = None
) -> tuple[str, ...]:
    """Write the finished file.

    The frames keep their timestamps. Of the source's other streams, every packet goes along with its bytes and times,
    and so do chapters, titles, languages and dispositions, but for what the container cannot hold
    (`i2i.video.containers.check_container`). Only a part of all this is in memory at any time.

    Args:
        segments: files of a `SegmentWriter`, in order of time, all of the same settings.
        target: where to; the suffix decides the container.
        settled: what the segments were written with.
        end: of the last frame, in units of the time base; unless given, it lasts as long as the one before it.
        source: the file with other streams, if there is one.

    Returns:
        What a person should know, in sentences.

    Raises:
        InputError: the segments hold no frame, or do not belong together.
        OSError: the disk is full, for instance.
    """
    muxer = muxer_of(target)
    segments = [path for path in segments if path.stat().st_size]
    times = [_timestamps(path, time_base=settled.format.time_base) for path in segments]
    if not segments:
        raise InputError(f"{target}: there is no frame to write")
    notes: list[str] = []
    with ExitStack() as files:
        first = files.enter_context(av.open(str(segments[0].absolute()))).streams.video[0]
        given = None if source is None else files.enter_context(open_source(source))
        streams = NO_STREAMS if given is None else choose_streams(given, muxer)
        said = {} if given is None else given.metadata
        said = {key: text for key, text in said.items() if key.lower() not in _OF_THE_FILE}
        unplaced = [key for key in said if key.lower() not in _PLACES_IN_MP4 and muxer in ("mp4", "mov")]
        if unplaced and any(is_cover(stream) for stream in streams.kept):
            notes.append(f"{target.suffix} has no place for {', '.join(unplaced)} beside a cover: left out.")
            unplaced = []
        options = _options(muxer, settled, lists_keys=bool(unplaced), kept=streams.kept)
        path = str(target.absolute())
        out = av.open(path, "w", format=muxer, container_options=options, metadata_errors=METADATA_ERRORS)
        files.enter_context(out)
        video, copies = _add_streams(out, first, streams, settled=settled)
        out.metadata.update(said)
        if given is not None:
            out.set_chapters(given.chapters())
        out.start_encoding()
        packets = heapq.merge(
            _video_packets(segments, np.concatenate(times), end=end, video=video, time_base=settled.format.time_base),
            [] if given is None else _other_packets(given, copies, notes),
            key=_decoding_time,
        )
        refused: Counter[int] = Counter()
        for packet in packets:
            try:
                out.mux(packet)
            except (av.error.ArgumentError, av.error.InvalidDataError):
                if packet.stream is video:
                    raise
                refused[packet.stream_index] += 1
        track = 1 + sum(stream.type != "attachment" for stream in out.streams if stream.index < video.index)
        out.close()
    if _lacks_aspect(muxer, settled):
        _set_display_size(target, settled.format, track=track, webm=muxer == "webm")
    notes += [
        f"{count} packets of stream {index} could not be copied, for their times make no sense."
        for index, count in refused.items()
    ]
    return tuple(notes)


def join_images(folders: Sequence[Path], target: Path) -> tuple[str, ...]:
    """Put the images of several folders into one, numbered from 1.

    They stay where they are, too: both folders share them where the file system can, or else they are copied.

    Args:
        folders: of a `SequenceWriter` each, in order of time.
        target: where to; made where it is missing.

    Returns:
        What a person should know, in sentences: nothing.
    """
    target.mkdir(parents=True, exist_ok=True)
    images = (image for folder in folders for image in sorted(folder.iterdir()))
    for number, image in enumerate(images, start=1):
        place = target / image_name(number, image.suffix)
        place.unlink(missing_ok=True)
        try:
            os.link(image, place)
        except OSError:
            shutil.copyfile(image, place)
    return ()


def _timestamps(segment: Path, *, time_base: Fraction) -> np.ndarray:
    """Of the packets, in their order, int64."""
    with av.open(str(segment.absolute())) as container:
        # NUT divides large units into smaller ones.
        parts = time_base / container.streams.video[0].time_base
        times = [round(packet.pts / parts) - ORIGIN for packet in container.demux(video=0) if packet.size]
    return np.array(times, np.int64)


def _options(muxer: str, settled: Settled, *, lists_keys: bool, kept: Sequence[Any]) -> dict[str, str]:
    """Of the container: that no timestamp is moved or, in mp4, rounded."""
    options = {"avoid_negative_ts": "disabled"}
    if muxer in ("matroska", "webm"):
        return {**options, "write_crc32": "0" if _lacks_aspect(muxer, settled) else "1"}
    scale = settled.format.time_base.denominator
    # In which mp4 says when each stream begins and ends.
    common = lcm(scale, *(stream.time_base.denominator for stream in kept if stream.time_base))
    options["video_track_timescale"] = str(scale)
    options["movie_timescale"] = str(common if common <= _LARGEST_SCALE else scale)
    options["movflags"] = "+faststart+use_metadata_tags" if lists_keys else "+faststart"
    return options


def _add_streams(out: Any, first: Any, streams: Streams, *, settled: Settled) -> tuple[Any, dict[int, Any]]:
    """Add the video of the segments, in its place among the other streams; and these, by their index in the source."""
    copies = {}
    for stream in sorted([*streams.kept, *filter(None, [streams.main])], key=lambda stream: stream.index):
        if stream is streams.main:
            video = _add_video(out, first, settled=settled, replaced=stream)
        elif is_cover(stream) and out.format.name == "matroska":
            _attach_cover(out, stream)
        else:
            copies[stream.index] = copy_stream(out, stream)
    if streams.main is None:
        video = _add_video(out, first, settled=settled, replaced=None)
    return video, copies


def _add_video(out: Any, first: Any, *, settled: Settled, replaced: Any) -> Any:
    """Add the stream of the segments, with what was said of the one that it replaces."""
    video = out.add_stream_from_template(first, opaque=True)
    context = video.codec_context
    context.framerate = settled.format.rate.limit_denominator(100_000)
    context.sample_aspect_ratio = settled.format.sample_aspect_ratio
    mark(context, settled.format.colour)
    if out.format.name in ("mp4", "mov") and context.name == "hevc":
        context.codec_tag = "hvc1"  # Apple's players know no other
    if replaced is not None:
        video.disposition = replaced.disposition
        said = stream_metadata(replaced)
        video.metadata.update({key: said[key] for key in said if not key.lower().startswith(_OF_THE_STREAM)})
    video.metadata["encoder"] = settled.encoder
    if _lacks_aspect(out.format.name, settled):
        video.metadata["title"] = video.metadata.get("title", "") + PADDING
    return video


def _lacks_aspect(muxer: str, settled: Settled) -> bool:
    """Whether the aspect of pixels has to be added after FFmpeg, which PyAV cannot tell it."""
    return muxer in ("matroska", "webm") and settled.format.sample_aspect_ratio != 1


def _set_display_size(target: Path, written: Format, *, track: int, webm: bool) -> None:
    width = written.width * written.sample_aspect_ratio
    if width.denominator == 1 or webm:  # which knows no ratios
        set_display_size(target, track=track, width=round(width), height=written.height)
    else:
        aspect = width / written.height
        set_display_size(target, track=track, width=aspect.numerator, height=aspect.denominator, ratio=True)


def _attach_cover(out: Any, stream: Any) -> None:
    """Matroska holds covers as attached files."""
    name, kind = COVERS[stream.codec_context.name]
    with av.open(stream.container.name) as container:  # anew, for reading begins with it
        picture = next(packet for packet in container.demux(container.streams[stream.index]) if packet.size)
    out.add_attachment(stream.metadata.get("filename", name), stream.metadata.get("mimetype", kind), bytes(picture))


def _video_packets(
    segments: Sequence[Path], times: np.ndarray, *, end: int | None, video: Any, time_base: Fraction
) -> Iterator[av.Packet]:
    """The packets of all segments, with their order of decoding timed anew, for those of the encoders overlap.

    Args:
        times: of all packets, in their order.
    """
    shown = np.sort(times)
    if (np.diff(shown) <= 0).any():
        raise InputError(f"{segments[0].parent}: the parts overlap in time; remove it and begin anew")
    places = np.searchsorted(shown, times)
    # How many packets at most are decoded before one that is shown earlier: by so many all are decoded ahead.
    ahead = int((np.arange(len(times)) - places).max())
    steps = np.diff(shown) if len(shown) > 1 else np.array([1])
    end = int(shown[-1] + steps[-1]) if end is None else max(end, int(shown[-1]) + 1)
    durations = np.diff(shown, append=end)[places]
    left = end - int(shown[-1 - ahead])  # for the last that is decoded
    step = min(int(steps[0]), (left - 1) // max(1, ahead))
    decoded = np.concatenate([shown[0] - step * np.arange(ahead, 0, -1), shown])
    if video.container.format.name in ("mp4", "mov"):
        durations[-1] = left - ahead * step  # which adds times of decoding up to the time that all is shown
    number = 0
    for path in segments:
        with av.open(str(path.absolute())) as container:
            stream = container.streams.video[0]
            if (stream.codec_context.extradata or b"") != (video.codec_context.extradata or b""):
                raise InputError(f"{path} was written with other settings; remove {path.parent} and begin anew")
            for packet in container.demux(stream):
                if packet.size:
                    packet.pts, packet.dts = int(times[number]), int(decoded[number])
                    packet.duration, packet.time_base = int(durations[number]), time_base
                    packet.stream = video
                    yield packet
                    number += 1


def _other_packets(source: Any, copies: Mapping[int, Any], notes: list[str]) -> Iterator[av.Packet]:
    """The packets to copy, as far as they can be read."""
    if not copies:
        return
    for stream in source.streams:
        stream.discard = Discard.default if stream.index in copies else Discard.all
    time, more, damaged = 0.0, True, False
    waiting: dict[int, list[av.Packet]] = {index: [] for index in copies}
    while more:  # after errors, too, as long as something comes
        more = False
        try:
            for packet in source.demux([source.streams[index] for index in copies]):
                # Empty ones of mov_text are the time between texts, which is filled anew.
                if packet.size and not (copies[packet.stream_index].name == "mov_text" and bytes(packet) == b"\0\0"):
                    more = True
                    for ready in _timed(packet, waiting[packet.stream_index]):
                        time = max(time, _decoding_time(ready))
                        ready.stream = copies[ready.stream_index]
                        yield ready
        except av.FFmpegError:
            damaged = True
    for index, packets in waiting.items():
        for number, packet in enumerate(packets):
            packet.dts = min(packet.pts for packet in packets) + number - len(packets) + 1
            packet.stream = copies[index]
            yield packet
    if damaged:
        notes.append(f"{source.name} is damaged: of its other streams, what can be read is kept, up to {time:.3f} s.")


def _timed(packet: av.Packet, waiting: list[av.Packet]) -> list[av.Packet]:
    """What can go on now that this packet has come, with both its times.

    Matroska says only when frames are shown. FFmpeg tells from these when they are decoded, save for the first few.

    Args:
        packet: the next of its stream.
        waiting: those of the stream that came before one of which it is known.
    """
    unknown = packet.dts is None and packet.pts is not None and packet.stream.type == "video"
    if unknown and len(waiting) < _MOST_WAITING:
        waiting.append(packet)
        return []
    packet.dts = packet.pts if packet.dts is None else packet.dts
    packet.pts = packet.dts if packet.pts is None else packet.pts
    if packet.dts is None:
        packet.pts = packet.dts = 0  # a cover
    ready = [*waiting, packet]
    for number, early in enumerate(waiting):
        early.dts = packet.dts - (len(waiting) - number) * max(1, early.duration or 0)
    waiting.clear()
    return ready


def _decoding_time(packet: av.Packet) -> float:
    return float(packet.dts * packet.time_base)
