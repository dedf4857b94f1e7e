from fractions import Fraction

import av
import pytest

from i2i.errors import InputError
from i2i.video.encoding import Codec, Encoding, settle
from i2i.video.frames import Chroma, Colour, Format


def a_format(**changes: object) -> Format:
    given = {"width": 64, "height": 48, "time_base": Fraction(1, 24), "rate": Fraction(24)}
    return Format(**{**given, **changes})


@pytest.mark.parametrize(
    ("codec", "bits", "chroma", "pix_fmt"),
    [
        ("x264", 8, "420", "yuv420p"),
        ("x264", 10, "420", "yuv420p10le"),
        ("x264", 8, "422", "yuv422p"),
        ("x264", 10, "444", "yuv444p10le"),
        ("x264", 8, "rgb", "yuv444p"),
        ("x264", 12, "422", "yuv422p10le"),
        ("x265", 12, "444", "yuv444p12le"),
        ("x265", 9, "420", "yuv420p10le"),
        ("av1", 8, "420", "yuv420p"),
        ("av1", 12, "444", "yuv420p10le"),
        ("vp9", 8, "444", "yuv444p"),
        ("vp9", 10, "420", "yuv420p"),
        ("ffv1", 16, "422", "yuv422p16le"),
        ("ffv1", 8, "rgb", "bgr0"),
        ("ffv1", 10, "rgb", "gbrp10le"),
    ],
)
def test_depth_and_chroma_are_the_nearest_that_the_encoder_has(
    codec: Codec, bits: int, chroma: Chroma, pix_fmt: str
) -> None:
    settled = settle(Encoding(codec=codec), format=a_format(bits=bits, chroma=chroma))
    assert settled.pix_fmt == pix_fmt
    stored = av.VideoFormat(pix_fmt)
    assert settled.format.bits == max(component.bits for component in stored.components)
    lost = settled.format.bits < bits or (stored.chroma_width(2) == 1 and chroma in ("444", "rgb"))
    assert any("of the source's" in note or "unlike the source" in note for note in settled.notes) == lost


def test_a_person_decides_on_the_pixel_format() -> None:
    settled = settle(Encoding(pix_fmt="yuv420p"), format=a_format(bits=10, chroma="444"))
    assert settled.pix_fmt == "yuv420p"
    assert settled.notes == ()


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size", "written"),
    [
        ("x264", "yuv420p", (65, 49), (66, 50)),
        ("x264", "yuv422p", (65, 49), (66, 49)),
        ("x264", "yuv444p", (65, 49), (65, 49)),
        ("x265", "yuv420p", (64, 49), (64, 50)),
        ("av1", "yuv420p", (65, 48), (66, 48)),
        ("vp9", "yuv420p", (1, 1), (2, 2)),
        ("ffv1", "gbrp10le", (65, 49), (65, 49)),
    ],
)
def test_odd_sizes_are_made_even_where_chroma_is_coarse(
    codec: Codec, pix_fmt: str, size: tuple[int, int], written: tuple[int, int]
) -> None:
    settled = settle(Encoding(codec=codec, pix_fmt=pix_fmt), format=a_format(width=size[0], height=size[1]))
    assert (settled.format.width, settled.format.height) == written
    assert any("repeated" in note for note in settled.notes) == (size != written)


def test_colour_is_kept() -> None:
    colour = Colour(range=2, matrix=9, primaries=9, transfer=16)
    assert settle(Encoding(), format=a_format(colour=colour)).format.colour == colour


@pytest.mark.parametrize(("codec", "colour"), [("x264", Colour(1, 1, 1, 13)), ("ffv1", Colour(2, 0, 1, 13))])
def test_rgb_becomes_bt709_or_stays(codec: Codec, colour: Colour) -> None:
    source = a_format(chroma="rgb", colour=Colour(range=2, matrix=0, primaries=1, transfer=13))
    assert settle(Encoding(codec=codec), format=source).format.colour == colour


@pytest.mark.parametrize(
    ("encoding", "changes", "message"),
    [
        (Encoding(), {"width": 40000}, "x264 refuses 40000 x 48 px of yuv420p at 24 frames a second: invalid width"),
        (Encoding(codec="x265"), {"width": 4, "height": 4}, "Image size is too small"),
        (Encoding(codec="av1"), {"rate": Fraction(1000)}, "av1 refuses 64 x 48 px of yuv420p at 1000 frames a second"),
        (Encoding(codec="av1"), {"width": 20000}, "choose another codec"),
        (Encoding(preset="hasty"), {}, "preset hasty: .*preset"),
        (Encoding(codec="vp9", preset="hasty"), {}, "hasty"),
        (Encoding(pix_fmt="yuv420p12le"), {}, "x264 takes yuv420p, .*got 'yuv420p12le'"),
        (Encoding(pix_fmt="yuvj420p"), {}, "x264 takes"),
    ],
)
def test_what_the_encoder_refuses_is_said_before_work_starts(
    encoding: Encoding, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        settle(encoding, format=a_format(**changes))


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_qsv", "av1_amf", "h264_videotoolbox"])
def test_engines_either_work_or_say_why_not(codec: Codec) -> None:
    """What is there depends on the machine: a result can be opened, an error names what can be used."""
    try:
        settled = settle(Encoding(codec=codec), format=a_format(width=640, height=480))
    except InputError as error:
        assert codec in str(error)
        assert "x264, x265, av1, vp9" in str(error)
    else:
        assert settled.encoder == codec


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codec": "h265"}, "expected one of x264, x265, av1"),
        ({"crf": 52}, r"0 \(best\) to 51, got 52"),
        ({"codec": "vp9", "crf": -1}, "to 63, got -1"),
        ({"crf": float("nan")}, "got nan"),
        ({"codec": "ffv1", "crf": 0}, "loses nothing"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Encoding(**arguments)


def test_crf_decides_how_much_is_kept() -> None:
    """By default more than x264 itself would keep."""
    options = [dict(settle(Encoding(crf=crf), format=a_format()).options)["crf"] for crf in (None, 0, 23.5)]
    assert options == ["16", "0", "23.5"]


def test_ffmpegs_log_is_left_as_it_was() -> None:
    level = av.logging.get_level()
    with pytest.raises(InputError):
        settle(Encoding(), format=a_format(width=40000))
    assert av.logging.get_level() == level
