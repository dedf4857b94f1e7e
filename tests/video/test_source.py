"""Against a plain decode of the whole file by PyAV."""

import random
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, picture
from PIL import Image

from i2i.errors import InputError
from i2i.video.frames import Colour, Damage, Frame
from i2i.video.pixels import to_rgb
from i2i.video.source import VideoFile

START = -(2**62)
UNEVEN = [-3, 0, 1, 2, 7, 11, 30, 31, 40, 41, 42, 60, 61, 62, 63, 80]
X265 = "log-level=none:frame-threads=1:pools=1"
OPEN = {"x264-params": "open-gop=1:keyint=8:bframes=3:b-pyramid=2", "qp": "10"}
KINDS = {
    "mp4": ("a.mp4", {"options": OPEN}),
    "mkv": ("a.mkv", {"options": OPEN, "audio": 1}),
    "ts": ("a.ts", {"options": OPEN, "audio": 1}),
    "flv": ("a.flv", {"options": {"g": "8", "bf": "2"}}),
    "intra refresh": ("a.ts", {"frames": 40, "options": {"x264-params": "intra-refresh=1:keyint=12"}}),
    "hevc": ("a.mp4", {"codec": "libx265", "options": {"x265-params": f"keyint=8:open-gop=1:bframes=3:{X265}"}}),
    "hevc radl": ("a.mkv", {"codec": "libx265", "options": {"x265-params": f"keyint=8:radl=2:bframes=3:{X265}"}}),
    "vp8": (
        "a.webm",
        {"codec": "libvpx", "frames": 40, "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "9"}},
    ),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "frames": 40, "options": {"g": "12", "lag-in-frames": "9"}}),
    "mpeg4": ("a.avi", {"codec": "mpeg4", "options": {"g": "8", "bf": "2"}}),
    "mpeg2": ("a.mpg", {"codec": "mpeg2video", "options": {"g": "8", "bf": "2"}}),
    "ffv1": ("a.mkv", {"codec": "ffv1", "options": {"g": "5"}}),
    "mjpeg": ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj422p"}),
    "uneven mp4": ("a.mp4", {"timestamps": UNEVEN, "time_base": Fraction(1, 600), "options": {"g": "4", "bf": "2"}}),
    "uneven mkv": ("a.mkv", {"timestamps": [50, 51, 52, 57, 60, 61, 70], "time_base": Fraction(1, 50)}),
    "late": ("a.mp4", {"timestamps": range(100, 120), "time_base": Fraction(1, 25), "options": {"g": "6", "bf": "2"}}),
    "interlaced": ("a.ts", {"interlaced": True, "options": {"g": "8", "bf": "2"}}),
    "10 bits": ("a.mkv", {"pix_fmt": "yuv420p10le", "colour": Colour(1, 9, 9, 16)}),
    "4:4:4": ("a.mkv", {"pix_fmt": "yuv444p"}),
    "rgb": ("a.mkv", {"codec": "libx264rgb", "pix_fmt": "rgb24"}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8", "rate": Fraction(25)}),
}


def clip(folder: Path, kind: str) -> Path:
    name, options = KINDS[kind]
    return make_clip(folder / name, **options)  # type: ignore[arg-type]


def plain(path: Path, source: VideoFile) -> list[tuple[int, np.ndarray]]:
    with av.open(str(path)) as container:
        return [
            (frame.pts, to_rgb(frame, colour=source.format.colour, dtype=source.format.dtype))
            for frame in container.decode(video=0)
        ]


def same(frames: list[Frame], others: list[Frame]) -> bool:
    return len(frames) == len(others) and all(
        one[:2] == other[:2] and one.repeated == other.repeated and np.array_equal(one.image, other.image)
        for one, other in zip(frames, others, strict=True)
    )


def check_intervals(source: VideoFile, frames: list[Frame], *, count: int = 8) -> None:
    """Reading any interval after any other gives what is in the whole."""
    draw = random.Random(0)
    for _ in range(count):
        place = draw.randrange(len(frames))
        end = place + draw.randrange(1, 6)
        first = frames[place].pts - (draw.randrange(frames[place].pts - frames[place - 1].pts) if place else 0)
        read = list(source.read(first, frames[end].pts if end < len(frames) else None))
        assert same(read, frames[place:end]), (place, end)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_a_plain_decode(tmp_path: Path, kind: str) -> None:
    path = clip(tmp_path, kind)
    source = VideoFile(path)
    frames = list(source.read(START))
    expected = plain(path, source)
    assert [frame.pts for frame in frames] == [pts for pts, _ in expected] == list(source.timeline)
    assert all(np.array_equal(frame.image, image) for frame, (_, image) in zip(frames, expected, strict=True))
    assert all(one.pts + one.duration == other.pts for one, other in pairwise(frames))
    assert frames[-1].pts + frames[-1].duration == source.end
    assert source.damage == Damage()
    assert source.interlaced == (kind == "interlaced")
    assert frames[0].image.shape == (source.format.height, source.format.width, 3)
    check_intervals(source, frames)
    assert source.damage == Damage()


def test_reading_on_needs_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = VideoFile(clip(tmp_path, "mp4"))
    whole = list(source.read(START))
    seeks = []
    shots_around = source._shots_around
    monkeypatch.setattr(source, "_shots_around", lambda first: seeks.append(first) or shots_around(first))
    parts = [frame for first in range(0, 24, 5) for frame in source.read(first, first + 5)]
    assert same(parts, whole)
    assert seeks == [0]
    list(source.read(3, 4))
    assert seeks == [0, 3]


def test_the_last_frame_lasts_as_long_as_its_packet_says(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", timestamps=[0, 2, 4, 9], time_base=Fraction(1, 50))
    assert [frame.duration for frame in VideoFile(path).read(0)] == [2, 2, 5, 5]


def test_format(tmp_path: Path) -> None:
    colour = Colour(range=2, matrix=9, primaries=9, transfer=16)
    path = make_clip(
        tmp_path / "a.mp4",
        pix_fmt="yuv422p10le",
        rate=Fraction(30000, 1001),
        time_base=Fraction(1, 30000),
        timestamps=range(0, 24 * 1001, 1001),
        colour=colour,
        sample_aspect_ratio=Fraction(4, 3),
    )
    given = VideoFile(path).format
    assert (given.width, given.height, given.bits, given.chroma) == (64, 48, 10, "422")
    assert (given.time_base, given.rate) == (Fraction(1, 30000), Fraction(30000, 1001))
    assert given.sample_aspect_ratio == Fraction(4, 3)
    assert given.colour == colour
    assert given.dtype is np.uint16


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "bits", "chroma"),
    [
        ("libx264", "yuv420p", 8, "420"),
        ("ffv1", "gray", 8, "420"),
        ("ffv1", "gray10le", 10, "420"),
        ("ffv1", "yuva420p", 8, "420"),
        ("ffv1", "gbrp10le", 10, "rgb"),
        ("libx264", "yuv444p10le", 10, "444"),
        ("libx264rgb", "rgb24", 8, "rgb"),
    ],
)
def test_pictures_come_out_as_they_went_in(tmp_path: Path, codec: str, pix_fmt: str, bits: int, chroma: str) -> None:
    source = VideoFile(make_clip(tmp_path / "a.mkv", codec=codec, pix_fmt=pix_fmt, frames=3))
    assert (source.format.bits, source.format.chroma) == (bits, chroma)
    assert source.notes == (("Its transparency is left out.",) if "yuva" in pix_fmt else ())
    for number, frame in enumerate(source.read(0)):
        expected = picture(number, width=64, height=48).astype(float)
        if "gray" in pix_fmt:
            expected = (expected @ [0.299, 0.587, 0.114])[..., None]
        scale = 1 if source.format.dtype is np.uint8 else 257
        assert np.abs(frame.image / scale - expected).mean() < (4 if chroma == "420" else 1)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_come_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    as_it_is = next(VideoFile(make_clip(tmp_path / "plain.mp4", frames=1 + 1)).read(0)).image
    path = tmp_path / "a.mp4"
    with av.open(str(tmp_path / "plain.mp4")) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        stream.set_display_rotation(rotation, hflip=mirrored)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    source = VideoFile(path)
    expected = np.rot90(as_it_is, rotation // 90)  # both anticlockwise
    expected = expected[:, ::-1] if mirrored else expected
    image = next(source.read(0)).image
    assert image.shape == (source.format.height, source.format.width, 3)
    assert np.array_equal(image, expected)
    assert image.flags.c_contiguous


def test_a_turned_picture_has_its_aspect_turned(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", rotation=90, sample_aspect_ratio=Fraction(4, 3), frames=3)
    given = VideoFile(path).format
    assert (given.width, given.height, given.sample_aspect_ratio) == (48, 64, Fraction(3, 4))


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_without_timestamps_frames_are_counted(tmp_path: Path, codec: str) -> None:
    path = make_clip(tmp_path / f"a.{codec[-3:]}", codec=codec, rate=Fraction(24))
    source = VideoFile(path)
    frames = list(source.read(START))
    assert (source.format.time_base, source.format.rate, source.end) == (Fraction(1, 24), 24, 24)
    assert [frame.pts for frame in frames] == list(range(24)) == list(source.timeline)
    expected = plain(path, source)
    assert all(np.array_equal(frame.image, image) for frame, (_, image) in zip(frames, expected, strict=True))
    check_intervals(source, frames, count=3)


def test_avi_without_times_of_display(tmp_path: Path) -> None:
    """The decoder's timestamps jump to and fro, though its frames are in order."""
    path = make_clip(tmp_path / "a.avi", options={"g": "8", "bf": "2", "crf": "20"})
    source = VideoFile(path)
    expected = plain(path, source)
    assert [pts for pts, _ in expected] != sorted(pts for pts, _ in expected)
    frames = list(source.read(START))
    assert [frame.pts for frame in frames] == list(source.timeline)
    assert all(np.array_equal(frame.image, image) for frame, (_, image) in zip(frames, expected, strict=True))
    assert source.damage == Damage()
    check_intervals(source, frames, count=3)


def test_timestamps_that_jump_back_are_counted(tmp_path: Path) -> None:
    """As in transport streams that were put one behind the other."""
    part = make_clip(tmp_path / "part.ts", options={"g": "8"}).read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(part + part)
    source = VideoFile(path)
    assert source.notes == ("Its timestamps jump back, so frames are timed by their rate.",)
    frames = list(source.read(START))
    assert [frame.pts for frame in frames] == list(range(48)) == list(source.timeline)
    assert np.array_equal(frames[5].image, frames[29].image)
    assert source.damage.repeated == 0


def test_frames_of_another_size_are_brought_to_the_first_ones(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "small.ts", options={"g": "8"}, frames=8)
    large = make_clip(
        tmp_path / "large.ts", options={"g": "8"}, timestamps=range(12, 20), width=96, height=72, pix_fmt="yuv444p"
    )
    path = tmp_path / "a.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    source = VideoFile(path)
    frames = list(source.read(START))
    assert [frame.pts for frame in frames] == list(source.timeline)
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert source.notes[-1] == "Its size changes on the way; all frames are brought to 64 x 48 px, that of the first."


# Interlaced video


def test_deinterlacing_gives_whole_frames_wherever_reading_begins(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", interlaced=True, frames=30, options={"g": "6", "bf": "2", "crf": "10"})
    woven, whole = VideoFile(path), VideoFile(path, deinterlace=True)
    assert (woven.interlaced, whole.interlaced) == (True, False)
    assert woven.fingerprint != whole.fingerprint
    frames = list(whole.read(START))
    as_they_are = list(woven.read(START))
    assert [frame[:2] for frame in frames] == [frame[:2] for frame in as_they_are]

    def combs(frame: Frame) -> float:
        luma = frame.image.astype(float).mean(axis=2)
        return float(np.abs(luma[1:] - luma[:-1]).mean() / np.abs(luma[2:] - luma[:-2]).mean())

    assert all(combs(frame) > 1 for frame in as_they_are)
    assert all(combs(frame) < 0.8 for frame in frames[1:-1])
    check_intervals(whole, frames)


def test_deinterlacing_leaves_progressive_frames_alone(tmp_path: Path) -> None:
    path = clip(tmp_path, "mp4")
    assert same(list(VideoFile(path, deinterlace=True).read(START)), list(VideoFile(path).read(START)))


@pytest.mark.parametrize("interlaced", [False, True])
def test_fields_are_found_where_no_flag_tells(tmp_path: Path, interlaced: bool) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=128, height=96, pix_fmt="yuv420p")
        for number in range(20):
            image = picture(2 * number, width=128, height=96)
            if interlaced:
                image[1::2] = picture(2 * number + 1, width=128, height=96)[1::2]
                image[1::2] = np.roll(image[1::2], 3, axis=1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image)):
                out.mux(packet)
        out.mux(stream.encode(None))
    assert VideoFile(path).interlaced == interlaced


# Damage


def overwrite(path: Path, number: int, *, kept: float = 0) -> int:
    """Zero the bytes of a packet after those that are kept; give its timestamp."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        place, size, pts = packet.pos, packet.size, packet.pts
    data = bytearray(path.read_bytes())
    begin = int(kept * size)
    data[place + begin : place + size] = bytes(size - begin)
    path.write_bytes(data)
    assert pts is not None
    return pts


DAMAGED = {
    "h264": {"options": {"g": "8", "bf": "0", "crf": "20"}},
    "h264 with B frames": {"options": {"g": "8", "bf": "2", "crf": "20"}},
    "hevc": {"codec": "libx265", "options": {"x265-params": f"keyint=8:bframes=2:{X265}"}},
    "mpeg4": {"codec": "mpeg4", "options": {"g": "8", "bf": "2"}},
    "vp9": {"codec": "libvpx-vp9", "options": {"g": "8"}},
    "prores": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "options": {}},
}


@pytest.mark.parametrize("number", [0, 8, 9, 10, 13, 23])
@pytest.mark.parametrize("kind", DAMAGED)
def test_the_frame_before_stands_for_one_that_is_lost(tmp_path: Path, kind: str, number: int) -> None:
    suffix = ".mov" if kind == "prores" else ".mp4"
    path = make_clip(tmp_path / f"a{suffix}", **DAMAGED[kind])  # type: ignore[arg-type]
    good = list(VideoFile(path).read(START))
    pts = overwrite(path, number)
    source = VideoFile(path)
    frames = list(source.read(START))
    assert [frame[:2] for frame in frames] == [frame[:2] for frame in good]
    lost = [place for place, frame in enumerate(frames) if frame.repeated]
    assert frames[pts].repeated
    assert source.damage.repeated == len(lost)
    assert source.damage.missing == 0
    assert source.damage.reasons[-1] == "frames that could not be decoded were replaced by the ones before"
    whole = [place for place in range(len(frames)) if place not in lost]
    for place in lost:
        stand_in = max((other for other in whole if other < place), default=whole[0])
        assert np.array_equal(frames[place].image, frames[stand_in].image)
    # From the next keyframe on, all is well.
    with av.open(str(path)) as container:
        keys = [packet.pts for packet in container.demux(video=0) if packet.is_keyframe]
    after = next((key for key in keys if key is not None and key > max(lost)), 24)
    assert same(frames[after:], good[after:])
    again = VideoFile(path)
    check_intervals(again, frames)


def test_frames_that_are_decoded_in_part_are_replaced(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", options={"g": "8", "bf": "0", "crf": "20"})
    pts = overwrite(path, 11, kept=0.5)
    frames = list(VideoFile(path).read(START))
    assert [frame.pts for frame in frames if frame.repeated] == [pts]
    assert frames[pts].image is frames[pts - 1].image


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("share", [0.85, 0.7])
def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path, suffix: str, share: float) -> None:
    codec = {"codec": "mpeg4", "options": {"g": "6", "qscale": "1"}} if suffix == ".avi" else {}
    path = make_clip(tmp_path / f"a{suffix}", frames=40, audio=0, **codec)  # type: ignore[arg-type]
    if suffix == ".mp4":
        with (
            av.open(str(path)) as given,
            av.open(str(tmp_path / "b.mp4"), "w", container_options={"movflags": "faststart"}) as out,
        ):
            stream = out.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
        path = tmp_path / "b.mp4"
    whole = list(VideoFile(path).read(START))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    source = VideoFile(path)
    assert source.damage == Damage()
    frames = list(source.read(START))
    assert 5 < len(frames) < 40
    assert all(np.array_equal(one.image, other.image) for one, other in zip(frames, whole, strict=False))
    assert source.damage.missing == 40 - len(frames)
    assert source.damage.repeated == 0
    (reason,) = source.damage.reasons
    assert reason == f"the file is cut off; it should have {len(data):,} bytes and has {path.stat().st_size:,}"


def test_a_transport_stream_may_begin_anywhere(tmp_path: Path) -> None:
    data = clip(tmp_path, "ts").read_bytes()
    path = tmp_path / "b.ts"
    path.write_bytes(data[188 * (len(data) // 188 // 5) :])
    source = VideoFile(path)
    frames = list(source.read(START))
    assert 10 < len(frames) < 24
    assert source.damage == Damage()


# What cannot be used


def test_there_is_no_video_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.mp4: there is no such file"):
        VideoFile(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="expected a video file, got a folder"):
        VideoFile(tmp_path)
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 99)
    with pytest.raises(InputError, match=r"text.mp4: expected a video, got a file that FFmpeg cannot read as one"):
        VideoFile(text)
    empty = tmp_path / "empty.mkv"
    empty.touch()
    with pytest.raises(InputError, match=r"empty.mkv: expected a video"):
        VideoFile(empty)


def test_an_mp4_without_its_index(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4")
    data = path.read_bytes()
    for share in (0.5, 0.97):  # before the index, and in it
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError, match=r"a.mp4 is cut off, and without its index"):
            VideoFile(path)


def test_sound_with_a_cover_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    cover = BytesIO()
    Image.fromarray(picture(0, width=32, height=32)).save(cover, "JPEG")
    with av.open(str(path), "w") as out:
        sound = out.add_stream("flac", rate=48000, layout="mono")
        out.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        for packet in [*sound.encode(frame), *sound.encode(None)]:
            out.mux(packet)
    with pytest.raises(InputError, match=r"expected a video stream, got audio \(flac\), a cover picture"):
        VideoFile(path)


def test_the_index_of_a_long_video_is_small(tmp_path: Path) -> None:
    source = VideoFile(make_clip(tmp_path / "a.mkv", codec="ffv1", width=16, height=16, frames=300))
    assert source.timeline.itemsize * len(source.timeline) == 2400  # type: ignore[attr-defined]


@pytest.mark.data
@pytest.mark.parametrize("name", ["cockatoo_yuv420.mp4", "realshort.mp4"])
def test_real_videos(data_dir: Path, name: str) -> None:
    path = data_dir / "video" / name
    source = VideoFile(path)
    assert not source.interlaced
    middle = len(source.timeline) // 2
    first, end = source.timeline[middle], source.timeline[middle + 20 if middle > 40 else middle + 10]
    frames = list(source.read(first, end))
    with av.open(str(path)) as container:
        decoded = [frame for frame in container.decode(video=0) if first <= frame.pts < end]
    assert [frame.pts for frame in frames] == [frame.pts for frame in decoded]
    for frame, expected in zip(frames, decoded, strict=True):
        image = to_rgb(expected, colour=source.format.colour, dtype=source.format.dtype)
        assert np.array_equal(frame.image, image)
    assert same(list(source.read(frames[3].pts, frames[7].pts)), frames[3:7])
    assert sum(1 for _ in VideoFile(path).read(source.timeline[-5])) == 5
    assert source.damage == Damage()
