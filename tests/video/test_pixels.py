"""Against the standard's equations in float64, and against nothing but arithmetic."""

import av
import numpy as np
import pytest
from clips import picture

from i2i.video.frames import Colour
from i2i.video.pixels import bits_of, chroma_of, from_rgb, resolved, to_rgb

# Weights of red and blue, from the recommendations themselves.
WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.3, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
EXACT = ["yuv444p", "yuv444p10le", "yuv444p12le", "yuv444p16le", "yuva444p", "yuvj444p"]
REDUCED = ["yuv420p", "yuvj420p", "yuv422p", "yuv420p10le", "yuv422p12le", "p010le", "nv12", "yuv420p16le"]


def stored(rgb: np.ndarray, *, matrix: int, full: bool, bits: int) -> np.ndarray:
    """RGB in 0–1 → YCbCr as it is stored, not rounded; ITU-T H.273, 8.3."""
    red, blue = WEIGHTS[matrix]
    y = red * rgb[..., 0] + (1 - red - blue) * rgb[..., 1] + blue * rgb[..., 2]
    cb, cr = (rgb[..., 2] - y) / (2 - 2 * blue), (rgb[..., 0] - y) / (2 - 2 * red)
    if full:
        highest = 2**bits - 1
        return np.stack([highest * y, highest * cb + 2 ** (bits - 1), highest * cr + 2 ** (bits - 1)], axis=-1)
    unit = 2 ** (bits - 8)
    return unit * np.stack([219 * y + 16, 224 * cb + 128, 224 * cr + 128], axis=-1)


def plane(frame: av.VideoFrame, index: int) -> np.ndarray:
    bits = frame.format.components[0].bits
    rows = np.frombuffer(frame.planes[index], np.uint8 if bits == 8 else np.uint16)
    return rows.reshape(frame.planes[index].height, -1)[:, : frame.planes[index].width]


def frame_of(values: np.ndarray, pix_fmt: str) -> av.VideoFrame:
    """(H, W, 3) YCbCr as stored → a planar frame, its chroma taken from every second pixel where it is reduced."""
    frame = av.VideoFrame(values.shape[1], values.shape[0], pix_fmt)
    for index in range(3):
        target = frame.planes[index]
        step_x, step_y = values.shape[1] // target.width, values.shape[0] // target.height
        rows = np.zeros((target.height, target.line_size // values.itemsize), values.dtype)
        rows[:, : target.width] = values[::step_y, ::step_x, index]
        target.update(rows.tobytes())
    return frame


@pytest.mark.parametrize("pix_fmt", EXACT)
@pytest.mark.parametrize("matrix", sorted(WEIGHTS))
def test_colours_without_reduced_chroma_are_the_nearest(pix_fmt, matrix):
    bits = av.VideoFormat(pix_fmt).components[0].bits
    for full in (False, True):
        full = full or pix_fmt.startswith("yuvj")
        colour = Colour(range=2 if full else 1, matrix=matrix)
        image = np.random.default_rng(0).integers(0, 65536, (32, 48, 3), dtype=np.uint16)
        frame = from_rgb(image, pix_fmt=pix_fmt, colour=colour)
        expected = stored(image / 65535, matrix=matrix, full=full, bits=bits)
        values = np.stack([plane(frame, index) for index in range(3)], axis=-1)
        assert np.abs(values - expected.clip(0, 2**bits - 1)).max() < 0.51
        # What those values stand for.
        ends = stored(np.eye(4, 3), matrix=matrix, full=full, bits=bits)  # red, green, blue, black
        mix = np.linalg.inv((ends[:3] - ends[3]).T)
        rgb = ((values - ends[3]) @ mix.T).clip(0, 1)
        assert np.abs(to_rgb(frame, colour=colour, dtype=np.uint16) - 65535 * rgb).max() < 1
        assert np.abs(to_rgb(frame, colour=colour, dtype=np.uint8) - 255 * rgb).max() < 0.51


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", REDUCED)
def test_single_colours_are_the_nearest_with_reduced_chroma(pix_fmt, full):
    bits = av.VideoFormat(pix_fmt).components[0].bits
    full = full or pix_fmt.startswith("yuvj")
    colour = Colour(range=2 if full else 1, matrix=1)
    for rgb in ((0, 0, 0), (255, 255, 255), (200, 40, 90), (13, 240, 129), (1, 2, 3)):
        image = np.full((16, 24, 3), rgb, np.uint8)
        back = to_rgb(from_rgb(image, pix_fmt=pix_fmt, colour=colour), colour=colour, dtype=np.uint16)
        assert np.ptp(back.astype(int), axis=(0, 1)).max() <= 1
        # What the values nearest to this colour stand for.
        ends = stored(np.eye(4, 3), matrix=1, full=full, bits=bits)
        nearest = np.rint(stored(np.array(rgb) / 255, matrix=1, full=full, bits=bits)) - ends[3]
        expected = (np.linalg.inv((ends[:3] - ends[3]).T) @ nearest).clip(0, 1)
        assert np.abs(back - 65535 * expected).max() < 1


@pytest.mark.parametrize(("pix_fmt", "most"), [("yuv420p", 3), ("yuv422p10le", 1), ("nv12", 3), ("yuvj420p", 3)])
def test_smooth_pictures_survive_reduced_chroma(pix_fmt, most):
    y, x = np.mgrid[:48, :64] / 64
    image = np.rint(255 * np.stack([x, y, 1 - x], axis=-1)).astype(np.uint8)
    colour = Colour(range=2 if "j" in pix_fmt else 1, matrix=6)
    back = to_rgb(from_rgb(image, pix_fmt=pix_fmt, colour=colour), colour=colour, dtype=np.uint8).astype(int)
    inner = np.s_[4:-4, 4:-4]  # at the edges, half a sample of a ramp is missing
    assert np.abs(back - image)[inner].max() <= most
    assert abs((back - image)[inner].mean()) < 0.1


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv420p10le"])
def test_reduced_chroma_lies_at_the_left(pix_fmt):
    """Of a ramp of colour, the sample i lies at pixel 2 i, not between it and the next."""
    bits = av.VideoFormat(pix_fmt).components[0].bits
    x = np.arange(64) / 63
    ramp = np.stack([x, 0.5 + 0 * x, 1 - x], axis=-1)[None].repeat(16, axis=0)
    frame = from_rgb(np.rint(ramp * 65535).astype(np.uint16), pix_fmt=pix_fmt, colour=Colour(range=1, matrix=6))
    expected = stored(ramp, matrix=6, full=False, bits=bits)[0, ::2, 1]
    assert np.abs(plane(frame, 1)[4] - expected)[4:-4].max() < 0.7


@pytest.mark.parametrize("bits", [8, 10])
def test_chroma_between_the_samples_is_not_rounded_to_their_depth(bits):
    """A slow ramp of 8-bit chroma has more than its own levels at 16 bits."""
    values = np.full((16, 64, 3), 2 ** (bits - 1), np.uint8 if bits == 8 else np.uint16)
    values[..., 1] += (np.arange(64) // 16).astype(values.dtype)
    image = to_rgb(frame_of(values, "yuv420p" if bits == 8 else "yuv420p10le"), colour=Colour(), dtype=np.uint16)
    assert len(np.unique(image[8, :, 2])) > 6


def test_grey_is_the_same_in_all_colours():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    frame = av.VideoFrame.from_ndarray(values, format="gray")
    for range_, low, span in ((1, 16, 219), (2, 0, 255)):
        expected = ((values / 1.0 - low) / span).clip(0, 1)
        image = to_rgb(frame, colour=Colour(range=range_), dtype=np.uint8)
        assert np.abs(image - 255 * expected[..., None]).max() < 0.51
        back = from_rgb(image, pix_fmt="gray", colour=Colour(range=range_))
        shown = (values >= low) & (values <= low + span)
        assert np.abs(plane(back, 0)[shown].astype(int) - values[shown]).max() <= 1


@pytest.mark.parametrize("pix_fmt", ["rgb24", "bgr24", "gbrp", "bgra", "rgb0", "gbrp10le", "gbrp16le", "rgb48le"])
def test_rgb_stays_as_it_is(pix_fmt):
    levels = 2 ** av.VideoFormat(pix_fmt).components[0].bits - 1
    for bits in (8, 16):
        image = picture(3, width=50, height=38, bits=bits)
        frame = from_rgb(image, pix_fmt=pix_fmt, colour=Colour(range=1, matrix=6))
        back = to_rgb(frame, colour=Colour(range=1, matrix=6), dtype=image.dtype.type)
        step = 65535 / levels if bits == 16 and levels < 65535 else 0
        assert np.abs(back.astype(int) - image).max() <= step / 2 + (step > 0)


def test_palettes_are_seen_in_colour():
    frame = av.VideoFrame.from_ndarray(picture(0, width=32, height=24), format="rgb24").reformat(format="rgb8")
    image = to_rgb(frame, colour=Colour(), dtype=np.uint8)
    assert np.array_equal(image, frame.to_image().convert("RGB"))
    assert abs(image.mean() - picture(0, width=32, height=24).mean()) < 10
    assert chroma_of(av.VideoFormat("pal8")) == "rgb"
    assert bits_of(av.VideoFormat("pal8")) == 8


@pytest.mark.parametrize(("lines", "matrix"), [(480, 6), (576, 6), (719, 6), (720, 1), (2160, 1)])
def test_what_is_not_said_is_taken_as_players_do(lines, matrix):
    assert resolved(Colour(), lines=lines) == Colour(range=1, matrix=matrix)
    assert resolved(Colour(range=2, matrix=9), lines=lines) == Colour(range=2, matrix=9)
    image = np.full((lines, 16, 3), (200, 40, 90), np.uint8)
    said, unsaid = (from_rgb(image, pix_fmt="yuv444p", colour=colour) for colour in (Colour(1, matrix), Colour()))
    assert all(np.array_equal(plane(said, index), plane(unsaid, index)) for index in range(3))


@pytest.mark.parametrize(
    ("pix_fmt", "bits", "chroma"),
    [
        ("yuv420p", 8, "420"),
        ("nv12", 8, "420"),
        ("p010le", 10, "420"),
        ("yuv422p10le", 10, "422"),
        ("yuyv422", 8, "422"),
        ("yuv444p12le", 12, "444"),
        ("yuv440p", 8, "444"),
        ("yuv411p", 8, "422"),
        ("yuv410p", 8, "420"),
        ("gray", 8, "420"),
        ("gray16be", 16, "420"),
        ("monow", 8, "420"),
        ("ya8", 8, "420"),
        ("gbrp10le", 10, "rgb"),
        ("rgb565le", 8, "rgb"),
        ("gbrpf32le", 16, "rgb"),
    ],
)
def test_depth_and_chroma_of_formats(pix_fmt, bits, chroma):
    pix_fmt = av.VideoFormat(pix_fmt)
    assert (bits_of(pix_fmt), chroma_of(pix_fmt)) == (bits, chroma)


def test_frames_carry_their_colour():
    frame = from_rgb(picture(0, width=16, height=16), pix_fmt="yuv420p", colour=Colour(2, 9, 9, 16))
    assert (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc) == (2, 9, 9, 16)
