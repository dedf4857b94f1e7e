"""From a codec's picture to RGB and back, true to its matrix, its range and where its chroma samples lie.

swscale changes only how the numbers are stored: depth, order, and chroma of full size from chroma of half. The colours
are computed here, by one matrix in float32, since swscale's own 16-bit RGB is 0.4 % too dark (white becomes 65283 of
65535) and its 8-bit RGB takes three times as long. All of it runs in one thread, and outside Python's lock.
"""

from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from i2i.video.frames import Chroma, Colour

HD_LINES = 720  # from here on, players take video that does not say its matrix for BT.709, below for BT.601
UNSPECIFIED = 2  # matrix, primaries and transfer, in ITU-T H.273
BT709, BT601 = 1, 6
LIMITED, FULL = 1, 2
# ITU-T H.273, table 4: how much red and blue weigh in luma, by the matrix's code point.
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601 of 625 lines
    6: (0.299, 0.114),  # BT.601 of 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
    10: (0.2627, 0.0593),  # BT.2020 of constant luminance, which differs by little
}

_Kind = Literal["grey", "yuv", "rgb"]
# The default short cuts make pictures darker by up to a level.
_CAREFUL = Interpolation.BICUBIC | Interpolation.ACCURATE_RND


def resolved(colour: Colour, *, lines: int) -> Colour:
    """What players take YCbCr for that does not say it: the matrix by the number of lines, the range for limited."""
    matrix = colour.matrix if colour.matrix in LUMA_WEIGHTS else BT709 if lines >= HD_LINES else BT601
    return colour._replace(matrix=matrix, range=colour.range or LIMITED)


def bits_of(pix_fmt: av.VideoFormat) -> int:
    """Of each value, 8 to 16; formats of less than 8 bits and palettes are seen at 8, of floats at 16."""
    return min(max(8, *(component.bits for component in pix_fmt.components)), 16)


def chroma_of(pix_fmt: av.VideoFormat) -> Chroma:
    """How finely a format samples colour: "420" also stands for grey and "422" for a quarter of the width."""
    match _kind(pix_fmt), pix_fmt.chroma_width(4), pix_fmt.chroma_height(4):
        case "rgb", _, _:
            return "rgb"
        case "grey", _, _:
            return "420"
        case _, 4, _:
            return "444"
        case _, _, 4:
            return "422"
        case _:
            return "420"


def to_rgb(frame: av.VideoFrame, *, colour: Colour, dtype: type[np.generic]) -> np.ndarray:
    """The picture in RGB.

    Args:
        frame: of any format that swscale reads: YCbCr, grey, RGB, palettes; 8 to 16 bits. Alpha is dropped.
        colour: what its numbers mean; see `resolved` for what it does not say.
        dtype: uint8 or uint16.

    Returns:
        (H, W, 3) of full range: 0–255 or 0–65535. Values outside, which YCbCr has room for, are cut off.
    """
    kind = _kind(frame.format)
    bits = bits_of(frame.format)
    if kind == "rgb" and bits == 8 and dtype == np.uint8:
        return _convert(frame, "rgb24").to_ndarray()
    reduced = kind == "yuv" and (frame.format.chroma_width(4), frame.format.chroma_height(4)) != (4, 4)
    depth = 16 if reduced else bits  # so that chroma between the samples is not rounded
    planes = [plane[:, : frame.width] for plane in planes_of(_convert(frame, _planar(kind, depth)))]
    match kind:
        case "grey":  # as YCbCr without colour
            planes += [np.full_like(planes[0], 2 ** (bits - 1))] * 2
        case "rgb":
            planes = [planes[2], planes[0], planes[1]]
    if depth == 8:
        planes = [plane.astype(np.uint16) for plane in planes]
    full = _is_full(frame.format, colour)
    matrix = _to_rgb_matrix(resolved(colour, lines=frame.height).matrix, kind, full=full, bits=bits)
    matrix[:, :3] /= 2 ** (depth - bits)  # swscale shifts, also where 2¹⁶ - 1 would be the highest
    image = cv2.transform(cv2.merge(planes), matrix)
    return image if dtype == np.uint16 else cv2.convertScaleAbs(image, alpha=1 / 257)


def from_rgb(image: np.ndarray, *, pix_fmt: str, colour: Colour, lines: int = 0) -> av.VideoFrame:
    """A picture as a codec wants it, marked with its colour.

    Args:
        image: (H, W, 3), uint8 in 0–255 or uint16 in 0–65535.
        pix_fmt: FFmpeg's name; YCbCr, grey or RGB. Sizes must be multiples of its chroma's.
        colour: what its numbers shall mean; see `resolved` for what it does not say.
        lines: in place of the image's height, for `resolved`.

    Returns:
        The frame, rounded to the nearest values and without dithering. Chroma of half width lies at the left one of
        its pixels, as decoders of H.264 and HEVC take it when nothing is said.
    """
    height, width, _ = image.shape
    target = av.VideoFormat(pix_fmt, width, height)
    kind, bits = _kind(target), bits_of(target)
    if kind == "rgb" and bits == 8 and image.dtype == np.uint8:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
    else:
        full = _is_full(target, colour)
        matrix = _from_rgb_matrix(resolved(colour, lines=lines or height).matrix, kind, full=full, bits=bits)
        if image.dtype == np.uint8:
            matrix[:, :3] *= 257
        values = list(cv2.split(cv2.transform(image.astype(np.uint16, copy=False), matrix)))
        if kind == "rgb":
            values = [values[1], values[2], values[0]]
        frame = av.VideoFrame(width, height, _planar(kind, bits))
        for plane, value in zip(planes_of(frame), values, strict=False):  # grey has but the first
            plane[:, :width] = value
        if kind == "yuv" and target.chroma_width(4) < 4:
            frame = _sited_left(frame)
    frame = _convert(frame, pix_fmt)
    frame.color_range, frame.colorspace = colour.range, colour.matrix
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    return frame


def _kind(pix_fmt: av.VideoFormat) -> _Kind:
    if pix_fmt.is_rgb or pix_fmt.has_palette:
        return "rgb"
    return "grey" if len(pix_fmt.components) < 3 else "yuv"


def _is_full(pix_fmt: av.VideoFormat, colour: Colour) -> bool:
    """Grey that does not say its range is of full range, as in FFmpeg."""
    unsaid = colour.range not in (LIMITED, FULL)
    return colour.range == FULL or pix_fmt.name.startswith("yuvj") or (unsaid and _kind(pix_fmt) == "grey")


def _planar(kind: _Kind, bits: int) -> str:
    name = {"grey": "gray", "yuv": "yuv444p", "rgb": "gbrp"}[kind]
    return name if bits == 8 else f"{name}{bits}le"


def _convert(frame: av.VideoFrame, pix_fmt: str) -> av.VideoFrame:
    """Store the same numbers in another format: both are said to be of one range and matrix, whatever they are."""
    range_ = ColorRange.JPEG if "yuvj" in frame.format.name + pix_fmt or frame.format.is_rgb else ColorRange.MPEG
    return VideoReformatter().reformat(
        frame,
        format=pix_fmt,
        interpolation=_CAREFUL,
        src_colorspace=BT709,
        dst_colorspace=BT709,
        src_color_range=range_,
        dst_color_range=range_,
        threads=1,
    )


def planes_of(frame: av.VideoFrame) -> list[np.ndarray]:
    """The frame's memory, plane by plane, with the bytes that fill up its rows."""
    dtype = np.uint8 if bits_of(frame.format) == 8 else np.uint16
    return [np.frombuffer(plane, dtype).reshape(plane.height, -1) for plane in frame.planes]


def _to_rgb_matrix(code: int, kind: _Kind, *, full: bool, bits: int) -> np.ndarray:
    """(3, 4) from stored values to RGB in 0–65535."""
    mix, scale, offset = _definition(code, kind, full=full, bits=bits)
    linear = 65535 * mix / scale
    return np.column_stack([linear, -linear @ offset]).astype(np.float32)


def _from_rgb_matrix(code: int, kind: _Kind, *, full: bool, bits: int) -> np.ndarray:
    """(3, 4) from RGB in 0–65535 to stored values."""
    mix, scale, offset = _definition(code, kind, full=full, bits=bits)
    linear = np.linalg.inv(mix) * scale[:, None] / 65535
    return np.column_stack([linear, offset]).astype(np.float32)


def _definition(code: int, kind: _Kind, *, full: bool, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How values are stored, by ITU-T H.273, equations 25–30 and 38–40.

    Returns:
        (3, 3) from luma in 0–1 and chroma in ±0.5 to RGB in 0–1; by what these are multiplied when stored, and what
        is added then, (3,) each.
    """
    highest, unit = 2**bits - 1, 2 ** (bits - 8)
    if kind == "rgb":
        return np.eye(3), np.full(3, highest), np.zeros(3)
    red, blue = LUMA_WEIGHTS[code]
    mix = np.linalg.inv(
        [
            [red, 1 - red - blue, blue],
            [-red / (2 - 2 * blue), (red + blue - 1) / (2 - 2 * blue), 0.5],
            [0.5, (red + blue - 1) / (2 - 2 * red), -blue / (2 - 2 * red)],
        ]
    )
    offset = np.array([0 if full else 16, 128, 128]) * unit
    return mix, np.full(3, highest) if full else np.array([219, 224, 224]) * unit, offset


def _sited_left(frame: av.VideoFrame) -> av.VideoFrame:
    """The same frame, marked so that its chroma will lie at the left once reduced; only a filter can set the mark."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1), name="in"
    )
    graph.link_nodes(source, graph.add("setparams", "chroma_location=left"), graph.add("buffersink")).configure()
    frame.pts = 0
    graph.vpush(frame)
    return graph.vpull()
