import hashlib
import io
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from clips import FONT, make_clip, picture
from PIL import Image

from i2i.errors import InputError
from i2i.video.containers import check_container
from i2i.video.encoding import Codec, Encoding, Settled, settle
from i2i.video.frames import Colour, Format
from i2i.video.joining import join, join_images
from i2i.video.writer import SegmentWriter

W, H = 96, 64
COLOUR = Colour(range=1, matrix=9, primaries=9, transfer=16)
UNEVEN = [0, 1, 3, 4, 9, 10, 11, 12, 20, 21, 22, 30, 31, 32, 33, 40, 41, 42, 43, 44, 45, 50, 51, 60]


def settled(encoding: Encoding | None = None, **changes: object) -> Settled:
    given = {"width": W, "height": H, "time_base": Fraction(1, 24), "rate": Fraction(24), "colour": COLOUR}
    return settle(encoding or Encoding(preset="ultrafast"), format=Format(**{**given, **changes}))


def write_parts(
    folder: Path, how: Settled, *, times: Sequence[int], lengths: Sequence[int] = (10, 1, 13)
) -> list[Path]:
    numbers = iter(enumerate(times))
    paths = []
    for part, length in enumerate(lengths):
        paths.append(folder / f"{part}.nut")
        with SegmentWriter(paths[-1], settled=how) as segment:
            for _ in range(length):
                number, pts = next(numbers)
                segment.write(picture(number, width=W, height=H), pts=pts, duration=1)
    return paths


def make(
    target: Path,
    *,
    source: Path | None = None,
    how: Settled | None = None,
    times: Sequence[int] = range(24),
    end: int = 24,
) -> tuple[str, ...]:
    """A result of 24 frames in three parts; returns the notes."""
    how = how or settled()
    notes = check_container(target, how, source=source)
    return notes + join(write_parts(target.parent, how, times=times), target, settled=how, end=end, source=source)


def packets(path: Path, kind: str) -> dict[int, list[tuple[object, ...]]]:
    """What each stream of a kind holds: times in seconds, a hash of the bytes, and what is said beside."""
    found: dict[int, list[tuple[object, ...]]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.stream.type == kind and bytes(packet) != b"\0\0":
                beside = [(data.data_type, bytes(data)) for data in packet.iter_sidedata()]
                base = packet.time_base
                decoded = packet.pts if packet.dts is None else packet.dts
                times = packet.pts * base, decoded * base, packet.duration * base
                digest = hashlib.sha256(bytes(packet)).hexdigest()
                found.setdefault(packet.stream_index, []).append((*times, digest, beside))
    return found


def streams(path: Path) -> list[tuple[object, ...]]:
    with av.open(str(path)) as container:
        return [
            (stream.type, getattr(stream.codec_context, "name", None), stream.language, stream.disposition)
            for stream in container.streams
        ]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        *[("x264", suffix) for suffix in (".mp4", ".mov", ".mkv", ".m4v")],
        *[("x265", suffix) for suffix in (".mp4", ".mov", ".mkv")],
        *[(codec, suffix) for codec in ("av1", "vp9") for suffix in (".mp4", ".mkv", ".webm")],
        ("ffv1", ".mkv"),
    ],
)
def test_every_frame_comes_in_order_at_its_time(tmp_path: Path, codec: Codec, suffix: str) -> None:
    how = settled(Encoding(codec=codec), sample_aspect_ratio=Fraction(4, 3))
    target = tmp_path / f"out{suffix}"
    make(target, how=how, times=UNEVEN, end=63)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture(local=False) as complaints, av.open(str(target)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            duration = container.duration
            context = stream.codec_context
            colour = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
            aspect, rate = stream.sample_aspect_ratio, stream.average_rate
    finally:
        av.logging.set_level(level)
    assert complaints == []
    seconds = [frame.pts * frame.time_base for frame in frames]
    exact = [Fraction(time, 24) for time in UNEVEN]
    if suffix in (".mkv", ".webm"):
        assert seconds == [Fraction(round(1000 * time), 1000) for time in exact]
        assert duration == pytest.approx(63e6 / 24, abs=500)
        assert rate == 24
    else:
        assert seconds == exact
        assert duration == pytest.approx(63e6 / 24, abs=1)
    assert colour == COLOUR
    assert aspect == Fraction(4, 3)
    for number, frame in enumerate(frames):
        shown = frame.to_ndarray(format="gray").astype(float)
        likely = [
            np.mean((shown - _luma(picture(other, width=W, height=H))) ** 2)
            for other in range(max(0, number - 2), number + 3)
        ]
        assert np.argmin(likely) == min(2, number)


@pytest.mark.parametrize(
    "colour", [(0, 2, 2, 2), (1, 2, 2, 2), (2, 2, 2, 2), (1, 5, 2, 2), (2, 1, 1, 13), (1, 9, 9, 18)]
)
@pytest.mark.parametrize(
    ("codec", "suffix"), [("x264", ".mp4"), ("x264", ".mkv"), ("x265", ".mp4"), ("vp9", ".webm"), ("ffv1", ".mkv")]
)
def test_colour_is_told_as_far_as_it_is_known(
    tmp_path: Path, codec: Codec, suffix: str, colour: tuple[int, int, int, int]
) -> None:
    """What is not known is not made up, save that some codecs say for an unknown range that it is limited."""
    target = tmp_path / f"out{suffix}"
    how = settled(Encoding(codec=codec), colour=Colour(*colour))
    join(write_parts(tmp_path, how, times=range(3), lengths=(3,)), target, settled=how)
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        told = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        frame = next(container.decode(video=0))
    limited = (max(1, colour[0]), *colour[1:])
    assert told in (colour, limited)
    assert (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc) in (colour, limited)


def _luma(image: np.ndarray) -> np.ndarray:
    return 16 + image @ np.array([0.2627, 0.678, 0.0593]) * 219 / 255


@pytest.mark.parametrize("time_base", [Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 10**6)])
def test_mp4_keeps_any_time_base(tmp_path: Path, time_base: Fraction) -> None:
    """And a beginning that is not 0."""
    times = [time + 7 for time in UNEVEN]
    make(tmp_path / "out.mp4", how=settled(time_base=time_base), times=times, end=70)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.time_base == Fraction(1, time_base.denominator)
        assert [frame.pts * frame.time_base for frame in container.decode(stream)] == [
            time * time_base for time in times
        ]


def test_b_frames_are_decoded_before_what_they_depend_on(tmp_path: Path) -> None:
    make(tmp_path / "out.mp4", how=settled(Encoding(preset="medium")))
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [(packet.pts, packet.dts) for packet in container.demux(video=0) if packet.size]
    shown = [pts for pts, _ in found]
    assert sorted(shown) == list(range(24))
    assert shown != sorted(shown)
    assert all(earlier < later for (_, earlier), (_, later) in pairwise(found))
    assert all(dts <= pts for pts, dts in found)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("start", [0, 4801])
def test_audio_is_copied_bit_for_bit(tmp_path: Path, suffix: str, start: int) -> None:
    source = make_clip(tmp_path / f"in{suffix}", audio=2, audio_start=start)
    make(tmp_path / f"out{suffix}", source=source)
    before, after = (packets(path, "audio") for path in (source, tmp_path / f"out{suffix}"))
    assert sorted(before) == [1, 2]
    assert all(len(stream) > 40 for stream in before.values())
    assert after == before


def test_sound_before_the_first_frame_stays_there(tmp_path: Path) -> None:
    """AAC begins before 0; that must move neither it nor the frames, from mp4 to Matroska."""
    source = make_clip(tmp_path / "in.mp4", audio=1)
    make(tmp_path / "out.mkv", source=source)
    before, after = (packets(path, "audio")[1] for path in (source, tmp_path / "out.mkv"))
    assert before[0][0] == Fraction(-1024, 48000)
    assert [packet[3] for packet in after] == [packet[3] for packet in before]
    for one, other in zip(before, after, strict=True):
        assert abs(one[0] - other[0]) <= Fraction(1, 2000)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert next(container.decode(video=0)).pts == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_subtitles_chapters_titles_and_languages_are_kept(tmp_path: Path, suffix: str) -> None:
    said = {"title": "Ünïcode", "artist": "Somebody", "comment": "two\nlines"}
    source = make_clip(tmp_path / f"in{suffix}", audio=2, subtitles=2, chapters=True, metadata=said, rotation=90)
    target = tmp_path / f"out{suffix}"
    assert all("milliseconds" in note for note in make(target, source=source))
    assert packets(target, "subtitle") == packets(source, "subtitle")
    assert sorted(packets(target, "subtitle")) == [3, 4]
    assert streams(target) == streams(source)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        kept = ("title", "artist", "comment", "TITLE", "ARTIST", "COMMENT")
        assert {key: before.metadata.get(key) for key in kept} == {key: after.metadata.get(key) for key in kept}
        for one, other in zip(before.chapters(), after.chapters(), strict=True):
            assert one["metadata"] == other["metadata"]
            for end in ("start", "end"):
                assert one[end] * one["time_base"] == other[end] * other["time_base"]
        titles = [[s.metadata.get("title", s.metadata.get("name")) for s in c.streams] for c in (before, after)]
        assert titles[0] == titles[1]
        assert "Tone 1" in titles[0]
        assert next(before.decode(video=0)).rotation == 90
        assert next(after.decode(video=0)).rotation == 0


def test_unusual_metadata_is_kept_in_mp4(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", metadata={"com.example.camera": "X100", "title": "T"})
    make(tmp_path / "out.mp4", source=source)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["COM.EXAMPLE.CAMERA"] == "X100"
        assert container.metadata["title"] == "T"


def test_metadata_in_another_encoding_keeps_its_bytes(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", metadata={"title": "caf?"})
    content = source.read_bytes()
    assert content.count(b"caf?") == 1
    source.write_bytes(content.replace(b"caf?", b"caf\xe9"))
    make(tmp_path / "out.mkv", source=source)
    assert b"caf\xe9" in (tmp_path / "out.mkv").read_bytes()


def test_fonts_are_kept(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", audio=1, attachments=True)
    make(tmp_path / "out.mkv", source=source)
    with av.open(str(tmp_path / "out.mkv")) as container:
        (font,) = container.streams.attachments
        assert (font.name, font.mimetype, font.data) == ("font.ttf", "application/x-truetype-font", FONT)


@pytest.mark.parametrize(("first", "second"), [(".mkv", ".mp4"), (".mp4", ".mkv"), (".mp4", ".mp4")])
def test_covers_are_kept(tmp_path: Path, first: str, second: str) -> None:
    file = io.BytesIO()
    Image.fromarray(picture(0, width=32, height=32)).save(file, "JPEG")
    clip = make_clip(tmp_path / "in.mp4", audio=1)
    covered = tmp_path / "covered.mkv"
    with av.open(str(clip)) as container, av.open(str(covered), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in container.streams}
        out.add_attachment("cover.jpg", "image/jpeg", file.getvalue())
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    for number, suffix in enumerate((first, second)):
        source, covered = covered, tmp_path / f"{number}{suffix}"
        make(covered, source=source)
        with av.open(str(covered)) as container:
            (cover,) = [stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
            assert next(bytes(packet) for packet in container.demux(cover) if packet.size) == file.getvalue()
            container.seek(0)
            assert sum(1 for _ in container.decode(video=0)) == 24


@pytest.mark.parametrize("frames", [2, 24])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_second_video_is_copied(tmp_path: Path, suffix: str, frames: int) -> None:
    """Matroska does not tell when its first frames are decoded, which are not shown in that order."""
    clip = make_clip(tmp_path / "clip.mp4", frames=frames, options={"crf": "20"})
    source = tmp_path / "in.mkv"
    with av.open(str(clip)) as container, av.open(str(source), "w") as out:
        copies = [out.add_stream_from_template(container.streams.video[0], opaque=True) for _ in range(2)]
        for packet in container.demux():
            for copy in copies if packet.size else ():
                packet.stream, packet.time_base = copy, container.streams.video[0].time_base
                pts, dts, duration = packet.pts, packet.dts, packet.duration
                out.mux(packet)
                packet.pts, packet.dts, packet.duration = pts, dts, duration
    before = packets(clip, "video")[0]
    assert frames == 2 or [packet[0] for packet in before] != sorted(packet[0] for packet in before)
    assert not any("could not" in note for note in make(tmp_path / f"out{suffix}", source=source))
    after = packets(tmp_path / f"out{suffix}", "video")[1]
    assert [packet[3] for packet in after] == [packet[3] for packet in before]
    for one, other in zip(before, after, strict=True):
        assert abs(one[0] - other[0]) <= Fraction(1, 2000)


def test_dispositions_are_kept(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", audio=2)
    source = tmp_path / "in.mkv"
    with av.open(str(clip)) as container, av.open(str(source), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in container.streams}
        copies[1].disposition = Disposition.comment
        copies[2].disposition = Disposition.default | Disposition.visual_impaired
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    make(tmp_path / "out.mkv", source=source)
    assert streams(tmp_path / "out.mkv") == streams(source)
    assert streams(source)[2][3] == Disposition.default | Disposition.visual_impaired


def test_apple_players_find_hevc(tmp_path: Path) -> None:
    make(tmp_path / "out.mp4", how=settled(Encoding(codec="x265")))
    assert b"hvc1" in (tmp_path / "out.mp4").read_bytes()


def test_mp4_can_play_before_it_has_come_whole(tmp_path: Path) -> None:
    make(tmp_path / "out.mp4")
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_shape_of_pixels_that_is_no_whole_number_of_them(tmp_path: Path) -> None:
    """Matroska says how wide the display is; 96 px of 16:11 are none."""
    for suffix, aspect in ((".mkv", Fraction(16, 11)), (".mp4", Fraction(16, 11)), (".webm", Fraction(140, 96))):
        how = settled(Encoding(codec="vp9"), sample_aspect_ratio=Fraction(16, 11))
        make(tmp_path / f"out{suffix}", how=how)
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            assert container.streams.video[0].sample_aspect_ratio == aspect
            assert len(list(container.decode(video=0))) == 24


def test_a_truncated_source_gives_what_it_has(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", audio=1, subtitles=1)
    whole = packets(source, "audio")[1]
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    make(tmp_path / "out.mkv", source=source)
    after = packets(tmp_path / "out.mkv", "audio")[1]
    assert 10 < len(after) < len(whole)
    assert after[:-1] == whole[: len(after) - 1]
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert len(list(container.decode(video=0))) == 24


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_source_is_no_reason_to_crash(tmp_path: Path, suffix: str, seed: int) -> None:
    source = make_clip(tmp_path / f"in{suffix}", audio=1)
    content = np.frombuffer(source.read_bytes(), np.uint8).copy()
    first = 4000  # behind the head of Matroska; mp4's index comes last
    places = np.random.default_rng(seed).integers(first, len(content) - 6000, 200)
    content[places] ^= 0x55
    source.write_bytes(content.tobytes())
    make(tmp_path / f"out{suffix}", source=source)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert len(list(container.decode(video=0))) == 24


def test_parts_of_different_settings_are_refused(tmp_path: Path) -> None:
    first = write_parts(tmp_path, settled(), times=range(2), lengths=(2,))
    other = tmp_path / "other"
    other.mkdir()
    second = write_parts(other, settled(Encoding(preset="medium")), times=range(2, 4), lengths=(2,))
    with pytest.raises(InputError, match="other settings"):
        join([*first, *second], tmp_path / "out.mp4", settled=settled())


def test_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, settled(), times=[0, 1, 1, 2], lengths=(2, 2))
    with pytest.raises(InputError, match="overlap"):
        join(parts, tmp_path / "out.mp4", settled=settled())


def test_parts_without_frames_do_not_disturb(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, settled(), times=range(4), lengths=(0, 3, 0, 1))
    join(parts, tmp_path / "out.mp4", settled=settled())
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [frame.pts for frame in container.decode(video=0)] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="no frame"):
        join(parts[:1], tmp_path / "out.mp4", settled=settled())


def test_images_are_numbered_through(tmp_path: Path) -> None:
    for part, count in enumerate((2, 0, 3)):
        (tmp_path / str(part)).mkdir()
        for number in range(1, count + 1):
            (tmp_path / str(part) / f"0000000{number}.png").write_text(f"{part} {number}")
    for _ in range(2):  # again, as after a kill
        join_images([tmp_path / str(part) for part in range(3)], tmp_path / "out")
    images = sorted((tmp_path / "out").iterdir())
    assert [image.name for image in images] == [f"0000000{number}.png" for number in range(1, 6)]
    assert [image.read_text() for image in images] == ["0 1", "0 2", "2 1", "2 2", "2 3"]


@pytest.mark.data
def test_a_real_clip(data_dir: Path, tmp_path: Path) -> None:
    """Whose frames come at odd times, and whose first audio packet lasts longer than the others."""
    source = data_dir / "video" / "realshort.mp4"
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        time_base, rate, end = stream.time_base, stream.average_rate, stream.start_time + stream.duration
        duration = container.duration
    height, width = frames[0][1].shape[:2]
    how = settled(Encoding(crf=1, preset="ultrafast"), width=width, height=height, time_base=time_base, rate=rate)
    parts = []
    for part in range(0, len(frames), 9):
        parts.append(tmp_path / f"{part}.nut")
        with SegmentWriter(parts[-1], settled=how) as segment:
            for pts, image in frames[part : part + 9]:
                segment.write(image, pts=pts, duration=3000)
    target = tmp_path / "out.mp4"
    assert join(parts, target, settled=how, end=end, source=source) == ()
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(target)) as container:
        assert container.streams.video[0].time_base == time_base
        assert container.duration == pytest.approx(duration, abs=1)
        assert [frame.pts for frame in container.decode(video=0)] == [pts for pts, _ in frames]
