"""What a video file holds, read with PyAV alone, to compare what i2i makes with what it was made of."""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

NO_TEXT = b"\0\0"  # between those of mov_text, in mp4


class Shown(NamedTuple):
    """A decoded frame: when it is shown and for how long, in seconds, and its planes as they are stored."""

    time: Fraction
    duration: Fraction
    planes: bytes


def frames_of(path: Path) -> list[av.VideoFrame]:
    """All frames, decoded, in order."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        return list(container.decode(video=0))


def shown(path: Path) -> list[Shown]:
    """All frames, for comparisons bit for bit."""
    return [
        Shown(frame.pts * frame.time_base, frame.duration * frame.time_base, frame.to_ndarray().tobytes())
        for frame in frames_of(path)
    ]


def pictures(path: Path) -> list[np.ndarray]:
    """All frames as (H, W, 3) uint8 by PyAV's own conversion, not turned; for untagged BT.601 of limited range."""
    return [frame.to_ndarray(format="rgb24") for frame in frames_of(path)]


def times(path: Path) -> list[Fraction]:
    """When each packet of the video is shown, in seconds, in order of display."""
    return sorted(packet[0] for packet in packets(path)[0])


def packets(path: Path) -> list[list[tuple[Fraction, Fraction, bytes]]]:
    """Of each stream, the video first: time, duration and bytes of those that are not empty.

    Those of video that are not to be shown are left out.

    PCM is one whole, for readers cut it as they like.
    """
    with av.open(str(path)) as container:
        found: dict[int, list[tuple[Fraction, Fraction, bytes]]] = {
            stream.index: [] for stream in (*container.streams.video, *container.streams.audio)
        }
        for packet in container.demux():
            thrown_away = packet.is_discard and packet.stream.type == "video"
            if packet.size and not thrown_away and bytes(packet) != NO_TEXT:
                # Covers have no time.
                base = packet.time_base
                entry = ((packet.pts or 0) * base, Fraction(packet.duration or 0) * base, bytes(packet))
                found.setdefault(packet.stream_index, []).append(entry)
        for stream in container.streams.audio:
            if stream.codec_context.name.startswith("pcm"):
                starts, durations, samples = zip(*found[stream.index], strict=True)
                found[stream.index] = [(starts[0], sum(durations, Fraction()), b"".join(samples))]
    return list(found.values())


def about(path: Path) -> dict[str, Any]:
    """All that a file says about itself and its streams, as far as it is to be kept."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        context = video.codec_context
        aspect = (video.sample_aspect_ratio or Fraction(1)) * Fraction(context.width, context.height)
        head = next(container.decode(video=0))
        return {
            "colour": (head.color_range, head.colorspace, head.color_primaries, head.color_trc),
            "display aspect": 1 / aspect if head.rotation % 180 else aspect,
            "metadata": {
                name: text
                for name, text in container.metadata.items()
                if name not in ("encoder", "ENCODER", "major_brand", "minor_version", "compatible_brands")
            },
            "chapters": [
                (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"], chapter["metadata"])
                for chapter in container.chapters()
            ],
            "streams": [
                (stream.type, stream.metadata.get("language"), int(stream.disposition), _codec(stream))
                for stream in container.streams
            ],
            "attachments": [(stream.name, stream.data) for stream in container.streams if stream.type == "attachment"],
        }


def durations(path: Path) -> list[float]:
    """Of the file, its first video and its sound, in seconds, as the file says."""
    with av.open(str(path)) as container:
        streams = (container.streams.video[0], *container.streams.audio)
        return [container.duration / av.time_base, *map(_duration, streams)]


def _duration(stream: Any) -> float:
    if text := stream.metadata.get("DURATION"):  # in Matroska
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return float(stream.duration * stream.time_base)


def _codec(stream: Any) -> str | None:
    """Of streams that are copied."""
    return stream.codec_context.name if stream.type in ("audio", "subtitle") else None


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """In dB, of uint8 images."""
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other.astype(float)) ** 2))))
