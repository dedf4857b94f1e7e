"""What containers hold, and which streams of a source go along into a result."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.stream import Disposition

from i2i.errors import InputError
from i2i.video.encoding import Settled, configure, in_own_words, words

MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
METADATA_ERRORS = "surrogateescape"
COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


class Streams(NamedTuple):
    """Of a source.

    Attributes:
        main: the video that is enlarged.
        kept: all others that go along.
        refused: those that the container cannot hold.
        lost: data that it cannot hold either, and that few miss: what a camera measured, for instance.
    """

    main: Any
    kept: list[Any]
    refused: list[Any]
    lost: list[Any]


NO_STREAMS = Streams(main=None, kept=[], refused=[], lost=[])


def muxer_of(target: Path) -> str:
    """FFmpeg's name of the container that the suffix asks for.

    Raises:
        InputError: it is none of them.
    """
    try:
        return MUXERS[target.suffix.lower()]
    except KeyError as error:
        raise InputError(f"{target}: expected a name that ends in {_either(MUXERS)}") from error


def check_container(target: Path, settled: Settled, *, source: Path | None, drop: bool = False) -> tuple[str, ...]:
    """See to it that a result can hold its video and the other streams of the source.

    Args:
        target: the result; its suffix decides.
        settled: the video.
        source: the file with other streams, if there is one.
        drop: leave out what it cannot hold, and say so, in place of an error.

    Returns:
        What a person should know, in sentences.

    Raises:
        InputError: it cannot; the message says what can.
    """
    muxer = muxer_of(target)
    reason = _why_not(muxer, lambda out: _add_video(out, settled))
    if reason is not None:
        fitting = [
            suffix for suffix, name in MUXERS.items() if _why_not(name, lambda out: _add_video(out, settled)) is None
        ]
        raise InputError(
            f"{target}: {target.suffix} does not hold {settled.encoder} ({reason}); {_either(fitting)} does"
            + (", or choose --codec vp9 or av1" if muxer == "webm" else "")
        )
    notes = []
    if muxer in ("matroska", "webm") and (1000 * settled.format.time_base).denominator != 1:
        notes.append("Matroska counts milliseconds: timestamps are rounded to the nearest; .mp4 keeps them exactly.")
    if source is None:
        return tuple(notes)
    with open_source(source) as container:
        streams = choose_streams(container, muxer)
        if streams.refused and not drop:
            raise InputError(_refusal(target, container, streams.refused))
        for stream in (*streams.refused, *streams.lost):
            notes.append(f"{target.suffix} does not hold {_described(stream)}: left out.")
    return tuple(notes)


def open_source(path: Path) -> Any:
    """Open a file whose streams go along, with the bytes of its metadata as they are, whatever their encoding."""
    return av.open(str(path.absolute()), metadata_errors=METADATA_ERRORS)


def choose_streams(source: Any, muxer: str) -> Streams:
    """Which streams of an open file go along into a container.

    Chapters and time codes that a file holds as streams are left to its metadata, from which they are made anew.
    """
    main = main_video(source)
    streams = Streams(main=main, kept=[], refused=[], lost=[])
    for stream in source.streams:
        if stream is main or _is_made_anew(stream, source):
            continue
        if holds(muxer, stream):
            streams.kept.append(stream)
        elif stream.type in ("audio", "video", "subtitle", "attachment"):
            streams.refused.append(stream)
        else:
            streams.lost.append(stream)
    return streams


def main_video(source: Any) -> Any:
    """The first video stream of an open file that is no cover."""
    return next(stream for stream in source.streams.video if not is_cover(stream))


def is_cover(stream: Any) -> bool:
    """Whether a video stream is a picture that stands for the file."""
    return bool(stream.type == "video" and stream.disposition & Disposition.attached_pic)


def holds(muxer: str, stream: Any) -> bool:
    """Whether a container holds a stream, found out by beginning to write one."""
    if stream.type == "attachment":
        return muxer == "matroska"  # others may pass over it in silence
    if muxer == "matroska" and is_cover(stream):
        return stream.codec_context.name in COVERS
    return _why_not(muxer, lambda out: copy_stream(out, stream)) is None


def copy_stream(out: Any, stream: Any) -> Any:
    """Add a stream like this one to a file, with its language, title and disposition."""
    copy = out.add_stream_from_template(stream, opaque=True)
    copy.disposition = stream.disposition
    copy.metadata.update(stream_metadata(stream))
    return copy


def stream_metadata(stream: Any) -> dict[str, str]:
    """Without what files say about streams anew; mp4 calls a title "name" when read, and takes it by the former."""
    metadata = {key: value for key, value in stream.metadata.items() if key != "DURATION"}
    if "name" in metadata:
        metadata.setdefault("title", metadata.pop("name"))
    return metadata


def _add_video(out: Any, settled: Settled) -> None:
    if settled.encoder == "ffv1" and out.format.name == "mp4":
        raise ValueError("few programs look for it there, and mp4 does not keep its colours")
    configure(out.add_stream(settled.encoder).codec_context, settled)


def _why_not(muxer: str, add: Callable[[Any], object]) -> str | None:
    """What keeps a container from holding a stream, in FFmpeg's words."""
    with in_own_words():
        try:
            with av.open(io.BytesIO(), "w", format=muxer) as out:
                add(out)
                out.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            return words(error)
    return None


def _is_made_anew(stream: Any, source: Any) -> bool:
    if stream.type != "data":
        return False
    chapters = stream.name == "bin_data" and source.chapters() and "mp4" in source.format.name
    return bool(chapters or "timecode" in stream.metadata)


def _refusal(target: Path, source: Any, refused: list[Any]) -> str:
    what = " and ".join(_described(stream) for stream in refused)
    fitting = [suffix for suffix, muxer in MUXERS.items() if all(holds(muxer, stream) for stream in refused)]
    remedy = f"{_either(fitting)} does" if fitting else "no other does that i2i writes"
    return f"{target}: {target.suffix} does not hold {what} of {source.name}; {remedy}, or --drop-streams leaves it out"


def _described(stream: Any) -> str:
    name = stream.name if stream.type in ("attachment", "data") else getattr(stream.codec_context, "name", None)
    return f"stream {stream.index} ({stream.type}, {name or 'unknown'})"


def _either(suffixes: Any) -> str:
    return " or ".join(suffixes)
