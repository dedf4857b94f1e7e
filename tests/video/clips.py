"""Short clips for tests: a moving, textured, coloured picture, with whatever a video file may have besides."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from i2i.video.frames import Colour

AUDIO_RATE = 48000
FONT = b"\0\1\0\0 not quite a font"
CHAPTERS = (("Opening", 0, 400), ("Middle", 400, 750), ("End", 750, 1000))  # title, start, end in ms
LOSSLESS = {"libx264": {"qp": "0"}, "libx264rgb": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}


def picture(number: int, *, width: int, height: int, bits: int = 8) -> np.ndarray:
    """What is seen in frame `number`: (H, W, 3) RGB, uint8 in 0–255 or, with more bits, uint16 in 0–65535.

    Waves that move by about a pixel a frame, without sharp edges, so that codecs keep them.
    """
    y, x = np.mgrid[:height, :width].astype(np.float64)
    red = np.sin((x + number) / 5) * np.cos(y / 7)
    green = np.sin((x + y - 1.5 * number) / 9)
    blue = np.cos((y + number) / 6) * np.sin(x / 11 + 1)
    values = 0.5 + 0.35 * np.stack([red, green, blue], axis=-1) + 0.1 * np.sin(x / 2 + y / 3)[..., None]
    full, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    return np.rint(values.clip(0, 1) * full).astype(dtype)


def make_clip(
    path: Path,
    *,
    frames: int = 24,
    width: int = 64,
    height: int = 48,
    rate: Fraction = Fraction(24),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    timestamps: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    colour: Colour | None = None,
    audio: int = 0,
    audio_codec: str | None = None,
    audio_start: int = 0,
    subtitles: int = 0,
    attachments: bool = False,
    chapters: bool = False,
    metadata: Mapping[str, str] | None = None,
    rotation: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    interlaced: bool = False,
    repeats: int = 1,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a clip; the suffix of `path` decides the container.

    Args:
        path: where to.
        frames, width, height, rate: of the video.
        codec, options: FFmpeg's names; without loss by default where the codec is x264 or x265.
        pix_fmt: FFmpeg's name.
        timestamps: pts of each frame, in units of `time_base`; 0, 1, 2 … by default. The last frame lasts as long as
            the one before it.
        time_base: 1 / rate by default. mp4 keeps it; Matroska counts milliseconds whatever is asked.
        colour: tags, and how the pixels are made; BT.601 of limited range without tags by default.
        audio: how many tracks of a sine tone, as long as the video, each in a language of its own.
        audio_codec: AAC by default, Opus in WebM.
        audio_start: when audio begins, in samples of 1 / 48000 s.
        subtitles: how many tracks of two lines each; SubRip in Matroska, mov_text in mp4.
        attachments: add a font.
        chapters: add three, over the first second.
        metadata: of the file.
        rotation: that a player is asked to apply, in degrees, anticlockwise.
        sample_aspect_ratio: width of a pixel by its height.
        interlaced: weave each frame from two moments, the upper field first, and say so (x264).
        repeats: show each picture in so many frames.

    Returns:
        The path.
    """
    time_base = time_base or 1 / rate
    timestamps = list(range(frames)) if timestamps is None else list(timestamps)
    frames = len(timestamps)
    steps = [later - earlier for earlier, later in pairwise(timestamps)]
    durations = dict(zip(timestamps, [*steps, *(steps[-1:] or [1])], strict=True))
    container_options = {}
    if path.suffix in (".mp4", ".mov", ".m4v"):
        # The second, so that a first timestamp other than 0 is kept as it is.
        container_options = dict.fromkeys(("video_track_timescale", "movie_timescale"), str(time_base.denominator))
    with av.open(str(path), "w", container_options=container_options) as out:
        out.metadata.update(metadata or {})
        video = out.add_stream(codec, rate=rate, width=width, height=height, time_base=time_base, pix_fmt=pix_fmt)
        video.time_base = time_base
        video.codec_context.thread_count = 1
        video.codec_context.options = dict(LOSSLESS.get(codec, {}) if options is None else options)
        if interlaced:
            video.codec_context.options = {**video.codec_context.options, "x264-params": "tff=1"}
        if rotation:
            video.set_display_rotation(rotation)
        if sample_aspect_ratio is not None:
            video.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if colour is not None:
            video.codec_context.color_range = colour.range
            video.codec_context.colorspace = colour.matrix
            video.codec_context.color_primaries = colour.primaries
            video.codec_context.color_trc = colour.transfer
        tones = [_add_tone(out, number, audio_codec or _audio_codec(path)) for number in range(audio)]
        texts = [_add_text(out, number) for number in range(subtitles)]
        if attachments:
            out.add_attachment("font.ttf", "application/x-truetype-font", FONT)
        if chapters:
            out.set_chapters(
                [
                    {
                        "id": number,
                        "start": start,
                        "end": end,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": name},
                    }
                    for number, (name, start, end) in enumerate(CHAPTERS, start=1)
                ]
            )
        packets = []
        for number, pts in enumerate(timestamps):
            frame = _frame(number // repeats, video, colour=colour, interlaced=interlaced)
            frame.pts, frame.time_base = pts, time_base
            packets += video.encode(frame)
        packets += video.encode(None)
        for packet in packets:
            packet.duration = durations[packet.pts]
        seconds = float(sum(durations.values()) * time_base)
        for number, tone in enumerate(tones):
            packets += _tone(tone, number, start=audio_start, samples=int(seconds * AUDIO_RATE))
        for number, text in enumerate(texts):
            packets += _lines(text, number)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def _frame(number: int, video: av.VideoStream, *, colour: Colour | None, interlaced: bool) -> av.VideoFrame:
    size = {"width": video.width, "height": video.height}
    bits = max(component.bits for component in video.format.components)
    image = picture(number, **size, bits=bits)
    if interlaced:
        image[1::2] = picture(number + 3, **size, bits=bits)[1::2]
    frame = av.VideoFrame.from_ndarray(image, format="rgb24" if bits == 8 else "rgb48le")
    matrix = colour.matrix if colour is not None and colour.matrix not in (0, 2) else 5
    full = colour is not None and colour.range == 2
    frame = frame.reformat(
        format=video.pix_fmt,
        dst_colorspace=matrix,
        src_color_range=2,
        dst_color_range=2 if full else 1,
        interpolation="BICUBIC",
    )
    if colour is None:
        frame.color_range = 0
        frame.colorspace = 2
    return frame


def _audio_codec(path: Path) -> str:
    return "libopus" if path.suffix == ".webm" else "aac"


def _add_tone(out: av.container.OutputContainer, number: int, codec: str) -> av.AudioStream:
    stream = out.add_stream(codec, rate=AUDIO_RATE, layout="mono")
    stream.metadata.update(language=("eng", "fra", "deu")[number % 3], title=f"Tone {number}")
    return stream


def _tone(stream: av.AudioStream, number: int, *, start: int, samples: int) -> list[av.Packet]:
    wave = 0.3 * np.sin(2 * np.pi * 440 * (number + 1) * np.arange(samples) / AUDIO_RATE)
    frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
    context = stream.codec_context
    resampler = av.AudioResampler(
        context.format.name, layout="mono", rate=AUDIO_RATE, frame_size=context.frame_size or 960
    )
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    packets = [packet for piece in [*pieces, None] for packet in stream.encode(piece)]
    for packet in packets:
        packet.time_base = packet.time_base or Fraction(1, AUDIO_RATE)
    return packets


def _add_text(out: av.container.OutputContainer, number: int) -> av.stream.Stream:
    matroska = out.format.name == "matroska"
    stream = out.add_mux_stream("subrip" if matroska else "mov_text", time_base=Fraction(1, 1000))
    stream.metadata.update(language=("eng", "fra")[number % 2])
    return stream


def _lines(stream: av.stream.Stream, number: int) -> list[av.Packet]:
    matroska = stream.container.format.name == "matroska"
    packets = []
    for start, duration, line in ((100, 300, "first"), (600, 250, "second")):
        text = f"{line} of {number}".encode()
        packet = av.Packet(text if matroska else len(text).to_bytes(2, "big") + text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = start
        packet.duration = duration
        packet.is_keyframe = True
        packets.append(packet)
    return packets
