"""How video is encoded: the encoder and its settings, pixel format and size, settled before work starts."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import av
import cv2
import numpy as np
from av.codec.context import Flags

from i2i.errors import InputError
from i2i.video.frames import Chroma, Colour, Format
from i2i.video.pixels import LIMITED, bits_of, chroma_of, from_rgb

Codec = Literal[
    "x264",
    "x265",
    "av1",
    "vp9",
    "ffv1",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
    "h264_amf",
    "hevc_amf",
    "av1_amf",
    "h264_videotoolbox",
    "hevc_videotoolbox",
]

THREADS = 4
_AVX_512F = 13  # OpenCV's number
# What x264 may use of a processor with AVX-512. By that, where there are not 8 n blocks of 16 px in a row, it takes
# memory that it has not written to into account (in macroblock trees with B-frames), and no two results are the same.
_BEFORE_AVX_512 = "MMX2,SSE2,SSE2Fast,LZCNT,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2"
_DEPTHS = (8, 9, 10, 12, 14, 16)
_CHROMA: dict[Chroma, tuple[Chroma, ...]] = {  # from what is wanted to what loses most
    "420": ("420", "422", "444"),
    "422": ("422", "444", "420"),
    "444": ("444", "422", "420"),
    "rgb": ("rgb", "444", "422", "420"),
}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How video is encoded.

    Args:
        codec: "x264" plays everywhere; "x265" takes two thirds of its space and longer; "av1" (by SVT-AV1) half of it,
            and is free of licences, as is "vp9"; "ffv1" loses nothing. Those that name a maker's engine (nvenc of
            NVIDIA, qsv of Intel, amf of AMD, videotoolbox of Apple) are fast, take more space, and need the hardware.
        crf: how much may be lost; smaller loses less, 0 is the best there is. Up to 63 in AV1 and VP9, up to 51 in the
            others. By default what is hard to tell from the original when the picture is stopped, for work that took
            hours deserves more than the codecs' own defaults: 16 of x264, 19 of x265, 21 of SVT-AV1 and VP9 and 19 of
            engines.
        preset: time against space, in the encoder's own words: "ultrafast" … "veryslow" of x264 (default "veryfast",
            which leaves a CPU's time to the network and takes no more space for it) and x265 ("medium"), "0" … "13" of
            SVT-AV1 (6), "0" … "8" of VP9 (its cpu-used; 2), "p1" … "p7" of nvenc.
        pix_fmt: FFmpeg's name of a pixel format, such as "yuv420p" (8 bits) or "yuv420p10le" (10); by default the depth
            and chroma of the source, as near as the encoder has them.

    Raises:
        InputError: the codec is unknown, or a crf is out of range, or none is used.
    """

    codec: Codec = "x264"
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None

    def __post_init__(self) -> None:
        encoder = _encoder(self.codec)
        if self.crf is None:
            return
        if encoder.most_crf is None:
            raise InputError(f"crf: {self.codec} loses nothing, so there is nothing to choose; leave it out")
        if not 0 <= self.crf <= encoder.most_crf:
            raise InputError(f"crf: {self.codec} takes 0 (best) to {encoder.most_crf}, got {self.crf}")


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What will be written.

    Attributes:
        format: of the file's frames: their size after enlargement, made even where chroma asks for it; their colour,
            depth and chroma as they are stored.
        encoder: FFmpeg's name.
        pix_fmt: FFmpeg's name.
        options: of the encoder.
        threads: of the encoder. What x264 writes depends a little on their number, so it is not left to the machine.
        notes: what a person should know, in sentences.
    """

    format: Format
    encoder: str
    pix_fmt: str
    options: Mapping[str, str]
    threads: int
    notes: tuple[str, ...] = ()


def settle(encoding: Encoding, *, format: Format, threads: int = THREADS) -> Settled:
    """What will be written for such frames; found out by encoding one.

    Depth and chroma are those of `format`, as near as the encoder has them; RGB becomes 4:4:4 in all codecs but FFV1.
    Where chroma is stored at half the size, sides are made even by repeating the last column or row.

    Args:
        encoding: what a person asked for.
        format: the source's, with the size of the frames after enlargement.
        threads: of the encoder.

    Raises:
        InputError: this machine or build has no such encoder, or the encoder refuses the size, rate or pixel format.
    """
    available = _pixel_formats(encoding.codec)
    name = encoding.pix_fmt or _nearest(available, codec=encoding.codec, format=format)
    if name not in available:
        raise InputError(f"pix_fmt: {encoding.codec} takes {', '.join(available)}, got {name!r}")
    pix_fmt = av.VideoFormat(name)
    settled = Settled(
        format=replace(
            format,
            width=_made_even(format.width, pix_fmt.chroma_width(2)),
            height=_made_even(format.height, pix_fmt.chroma_height(2)),
            colour=_colour(format, pix_fmt),
            bits=bits_of(pix_fmt),
            chroma=chroma_of(pix_fmt),
        ),
        encoder=_encoder(encoding.codec).name,
        pix_fmt=name,
        options=_options(encoding, threads=threads),
        threads=threads,
    )
    _try_out(settled, encoding)
    return replace(settled, notes=tuple(_notes(encoding, format, settled.format)))


def configure(context: av.VideoCodecContext, settled: Settled) -> None:
    """Set up an encoder that is not yet open."""
    context.width, context.height = settled.format.width, settled.format.height
    context.pix_fmt = settled.pix_fmt
    context.time_base = settled.format.time_base
    context.framerate = settled.format.rate.limit_denominator(100_000)
    context.sample_aspect_ratio = settled.format.sample_aspect_ratio
    context.bit_rate = 0  # quality decides
    context.thread_count = settled.threads
    context.options = dict(settled.options)
    if settled.encoder == "libx264":
        parameters = [f"asm={_BEFORE_AVX_512}"] if cv2.checkHardwareSupport(_AVX_512F) else []
        if settled.format.colour.range == LIMITED:  # which x264 leaves unsaid unless it has something else to say
            parameters.append("videoformat=component")
        context.options = {**settled.options, "x264-params": ":".join(parameters)}
    # Headers apart from the frames, as mp4 and Matroska want them, and no reference across key frames.
    context.flags |= Flags.global_header | Flags.closed_gop
    mark(context, settled.format.colour)
    if settled.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # or it talks to stderr; it takes no other hint


def mark(context: av.VideoCodecContext, colour: Colour) -> None:
    """Say what the colours of an encoder or a stream mean."""
    context.color_range, context.colorspace = colour.range, colour.matrix
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer


@contextmanager
def in_own_words() -> Iterator[None]:
    """Let the errors of FFmpeg carry what was said before them, which it otherwise keeps to itself."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture():
            yield
    finally:
        av.logging.set_level(level)


def words(error: Exception) -> str:
    """What an error says, in FFmpeg's own words where there are some."""
    log = getattr(error, "log", None)
    said = log[2] if log else getattr(error, "strerror", None) or str(error)
    return str(said).strip().rstrip(".")


def _pixel_formats(codec: Codec) -> list[str]:
    """Those that the encoder takes and pictures can be made in: no transparency, no memory of a device, no floats."""
    name = _encoder(codec).name
    try:
        formats = av.Codec(name, "w").video_formats or []
    except av.codec.codec.UnknownCodecError as error:
        there = [other for other in get_args(Codec) if _encoder(other).name in av.codecs_available]
        raise InputError(f"codec: this build of FFmpeg has no {codec}; it has {', '.join(there)}") from error
    return [
        pix_fmt.name
        for pix_fmt in formats
        if pix_fmt.components
        and not any(component.is_alpha or component.bits > 16 for component in pix_fmt.components)
        and not pix_fmt.name.startswith("yuvj")  # an older way to say "full range"
        and "f16" not in pix_fmt.name
    ]


def _nearest(available: Collection[str], *, codec: Codec, format: Format) -> str:
    """The least deep format that loses no bits, or else the deepest; in it, the nearest chroma."""
    wanted = "444" if format.chroma == "rgb" and codec != "ffv1" else format.chroma
    for bits in sorted(_DEPTHS, key=lambda depth: (depth < format.bits, abs(depth - format.bits))):
        for chroma in _CHROMA[wanted]:
            for name in _names(chroma, bits):
                if name in available:
                    return name
    raise InputError(f"pix_fmt: nothing that i2i would choose; {codec} takes {', '.join(available)}: choose one")


def _names(chroma: Chroma, bits: int) -> tuple[str, ...]:
    """Of pixel formats, in FFmpeg's words, those of planes before those of engines."""
    deep = "" if bits == 8 else f"{bits}le"
    match chroma, bits:
        case "rgb", 8:
            return "gbrp", "bgr0"
        case "rgb", _:
            return (f"gbrp{deep}",)
        case "420", 8:
            return "yuv420p", "nv12"
        case "420", 10:
            return "yuv420p10le", "p010le"
        case _:
            return (f"yuv{chroma}p{deep}",)


def _colour(format: Format, pix_fmt: av.VideoFormat) -> Colour:
    """As it is, unless RGB becomes YCbCr, which then is that of high definition, or the other way round."""
    if pix_fmt.is_rgb:
        return format.colour._replace(range=2, matrix=0)
    if format.chroma == "rgb":
        return format.colour._replace(range=1, matrix=1)
    return format.colour


def _made_even(side: int, chroma_of_two: int) -> int:
    return side + side % 2 if chroma_of_two == 1 else side


def _try_out(settled: Settled, encoding: Encoding) -> None:
    written = settled.format
    black = np.zeros((written.height, written.width, 3), np.uint8)
    with in_own_words():
        try:
            context = av.CodecContext.create(settled.encoder, "w")
            configure(context, settled)
            frame = from_rgb(black, pix_fmt=settled.pix_fmt, colour=written.colour)
            frame.pts, frame.time_base = 0, written.time_base
            packets = [*context.encode(frame), *context.encode(None)]
        except (av.FFmpegError, ValueError, OverflowError) as error:
            if "_" in encoding.codec:
                advice = "it needs its maker's hardware and driver; x264, x265, av1, vp9 and ffv1 do not"
            else:
                advice = "choose another codec (ffv1 takes nearly everything), preset, pixel format or scale"
            preset = f", preset {encoding.preset}" if encoding.preset else ""
            raise InputError(
                f"{encoding.codec} refuses {written.width} x {written.height} px of {settled.pix_fmt} at "
                f"{float(written.rate):.6g} frames a second{preset}: {words(error)}; {advice}"
            ) from error
    if not packets:
        raise InputError(f"{encoding.codec} returned nothing for a frame; choose another codec")


def _notes(encoding: Encoding, format: Format, written: Format) -> Iterator[str]:
    fineness = ("420", "422", "444", "rgb")
    if (written.width, written.height) != (format.width, format.height):
        yield (
            f"{format.width} x {format.height} px became {written.width} x {written.height}, for colour is stored at "
            "half the size: the last column or row is repeated. --pix-fmt yuv444p keeps the size."
        )
    if encoding.pix_fmt is not None:
        return
    if written.bits < format.bits:
        yield f"{encoding.codec} stores {written.bits} of the source's {format.bits} bits; ffv1 stores all."
    if fineness.index(written.chroma) < min(2, fineness.index(format.chroma)):
        yield f"{encoding.codec} stores colour at half the size, unlike the source; x264, x265 and ffv1 need not."
    if encoding.codec == "x264" and (written.bits, written.chroma) != (8, "420"):
        sampling = ":".join(written.chroma)
        other = "--pix-fmt yuv420p" if written.chroma != "420" else "--codec x265, or --pix-fmt yuv420p for 8 bits"
        yield f"Few browsers and televisions play H.264 of {written.bits} bits and {sampling}; more play {other}."


class _Encoder(NamedTuple):
    """FFmpeg's name of an encoder, and what i2i asks of it.

    Attributes:
        name: FFmpeg's.
        crf, preset: unless a person asks for others; None where there are none.
        most_crf: the largest that it takes.
    """

    name: str
    crf: float | None
    most_crf: int | None
    preset: str | None


def _encoder(codec: Codec) -> _Encoder:
    match codec:
        case "x264":
            return _Encoder("libx264", 16, 51, "veryfast")
        case "x265":
            return _Encoder("libx265", 19, 51, "medium")
        case "av1":
            return _Encoder("libsvtav1", 21, 63, "6")
        case "vp9":
            return _Encoder("libvpx-vp9", 21, 63, "2")
        case "ffv1":
            return _Encoder("ffv1", None, None, None)
        case "h264_nvenc" | "hevc_nvenc" | "av1_nvenc":
            return _Encoder(codec, 19, 51, "p5")
        case "h264_qsv" | "hevc_qsv" | "av1_qsv":
            return _Encoder(codec, 19, 51, "medium")
        case "h264_amf" | "hevc_amf" | "av1_amf":
            return _Encoder(codec, 19, 51, "quality")
        case "h264_videotoolbox" | "hevc_videotoolbox":
            return _Encoder(codec, 19, 51, None)
        case _:
            raise InputError(f"codec: expected one of {', '.join(Codec.__args__)}, got {codec!r}")


def _options(encoding: Encoding, *, threads: int) -> dict[str, str]:
    """In the encoder's own words."""
    encoder = _encoder(encoding.codec)
    quality = f"{encoder.crf if encoding.crf is None else encoding.crf:g}" if encoder.crf is not None else ""
    whole = f"{float(quality or 0):.0f}"  # for encoders that take no fractions
    preset = encoding.preset or encoder.preset
    match encoding.codec.rpartition("_")[2]:
        case "x264":
            options = {"crf": quality}
        case "x265":
            # Two frames at once, and the same pictures do not always give the same bytes.
            parameters = f"log-level=none:open-gop=0:frame-threads=1:pools={threads}"
            options = {"crf": quality, "x265-params": parameters}
        case "av1":
            options = {"crf": whole, "svtav1-params": f"lp={threads}"}
        case "vp9":
            options = {"crf": whole, "deadline": "good", "row-mt": "1"}
        case "ffv1":
            # Version 3, each frame by itself and with a check sum: what archives ask for.
            options = {"level": "3", "g": "1", "slices": "4", "slicecrc": "1"}
        case "nvenc":
            options = {"rc": "vbr", "cq": quality}
        case "qsv":
            options = {"global_quality": whole}
        case "amf":
            options = {"rc": "cqp", "qp_i": whole, "qp_p": whole}
        case "videotoolbox":
            # Apple counts from 1, worst, to 100, in FFmpeg's units of 118.
            options = {"flags": "+qscale", "global_quality": str(118 * round(100 - 99 * float(quality) / 51))}
        case other:
            raise AssertionError(other)
    if preset is not None:
        options["cpu-used" if encoding.codec == "vp9" else "preset"] = preset
    return options
