import io
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import make_clip, picture
from PIL import Image

from i2i.errors import InputError
from i2i.video.containers import check_container, choose_streams, holds, muxer_of
from i2i.video.encoding import Codec, Encoding, Settled, settle
from i2i.video.frames import Format


def settled(codec: Codec = "x264", time_base: Fraction = Fraction(1, 1000)) -> Settled:
    return settle(Encoding(codec=codec), format=Format(width=64, height=48, time_base=time_base, rate=Fraction(24)))


@pytest.fixture(scope="module")
def mkv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    return make_clip(path, audio=2, subtitles=1, attachments=True)


@pytest.mark.parametrize(
    ("codec", "suffixes"),
    [
        ("x264", (".mp4", ".m4v", ".mov", ".mkv")),
        ("x265", (".mp4", ".m4v", ".mov", ".mkv")),
        ("av1", (".mp4", ".m4v", ".mkv", ".webm")),
        ("vp9", (".mp4", ".m4v", ".mkv", ".webm")),
        ("ffv1", (".mkv",)),
    ],
)
def test_which_containers_hold_which_codec(codec: Codec, suffixes: tuple[str, ...]) -> None:
    video = settled(codec)
    for suffix in (".mp4", ".m4v", ".mov", ".mkv", ".webm"):
        target = Path("out" + suffix)
        if suffix in suffixes:
            assert check_container(target, video, source=None) == ()
        else:
            with pytest.raises(InputError, match=f"{suffix} does not hold .*{' or '.join(suffixes)} does"):
                check_container(target, video, source=None)


def test_an_unknown_suffix_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"out.avi: expected a name that ends in .mp4 or .m4v or .mov or .mkv or .webm"
    ):
        muxer_of(Path("out.avi"))


def test_streams_that_do_not_fit_are_named_before_work_starts(mkv: Path) -> None:
    assert check_container(Path("out.mkv"), settled(), source=mkv) == ()
    with pytest.raises(InputError) as error:
        check_container(Path("out.mp4"), settled(), source=mkv)
    assert "stream 3 (subtitle, srt) and stream 4 (attachment, font.ttf)" in str(error.value)
    assert str(mkv) in str(error.value)
    assert "; .mkv does, or --drop-streams leaves it out" in str(error.value)


def test_they_can_be_left_out(mkv: Path) -> None:
    notes = check_container(Path("out.mp4"), settled(), source=mkv, drop=True)
    assert notes == (
        ".mp4 does not hold stream 3 (subtitle, srt): left out.",
        ".mp4 does not hold stream 4 (attachment, font.ttf): left out.",
    )
    notes = check_container(Path("out.webm"), settled("vp9"), source=mkv, drop=True)
    assert [note.split(":")[0] for note in notes] == [
        f".webm does not hold stream {stream}"
        for stream in ("1 (audio, aac)", "2 (audio, aac)", "3 (subtitle, srt)", "4 (attachment, font.ttf)")
    ]


def test_matroska_says_that_it_rounds() -> None:
    assert check_container(Path("out.mkv"), settled(time_base=Fraction(1, 500)), source=None) == ()
    (note,) = check_container(Path("out.mkv"), settled(time_base=Fraction(1, 24)), source=None)
    assert "milliseconds" in note
    assert check_container(Path("out.mp4"), settled(time_base=Fraction(1, 24)), source=None) == ()


def test_chapters_and_time_codes_of_mp4_are_no_streams_to_copy(tmp_path: Path) -> None:
    """mp4 holds both as tracks, which are made anew from what is said of the file."""
    chapters = make_clip(tmp_path / "chapters.mp4", audio=1, chapters=True)
    with av.open(str(chapters)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "data"]
        streams = choose_streams(container, "matroska")
        assert [stream.index for stream in streams.kept] == [1]
        assert not streams.lost
    code = tmp_path / "code.mov"
    with av.open(str(chapters)) as container, av.open(str(code), "w") as out:
        video = out.add_stream_from_template(container.streams.video[0], opaque=True)
        video.metadata["timecode"] = "01:00:00:00"
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    with av.open(str(code)) as container:
        assert [stream.type for stream in container.streams] == ["video", "data"]
        assert not choose_streams(container, "matroska").lost


def test_data_that_nothing_else_holds_does_not_stand_in_the_way(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.ts", codec="mpeg2video", options={"qscale": "2"})
    with_data = tmp_path / "data.ts"
    with av.open(str(clip)) as container, av.open(str(with_data), "w") as out:
        video = out.add_stream_from_template(container.streams.video[0], opaque=True)
        data = out.add_data_stream("klv")
        packet = av.Packet(b"\x06\x0e\x2b\x34" + bytes(20))
        packet.stream, packet.time_base, packet.pts, packet.dts = data, Fraction(1, 90000), 126000, 126000
        out.mux(packet)
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    (note,) = check_container(Path("out.mp4"), settled(), source=with_data)
    assert note == ".mp4 does not hold stream 1 (data, klv): left out."


def test_covers_are_no_video(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(picture(0, width=32, height=32)).save(file, "JPEG")
    clip = make_clip(tmp_path / "in.mp4", audio=1)
    covered = tmp_path / "covered.mkv"
    with av.open(str(clip)) as container, av.open(str(covered), "w") as out:
        out.add_attachment("cover.jpg", "image/jpeg", file.getvalue())
        video = out.add_stream_from_template(container.streams.video[0], opaque=True)
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    with av.open(str(covered)) as container:
        assert [stream.codec_context.name for stream in container.streams.video] == ["h264", "mjpeg"]
        streams = choose_streams(container, "matroska")
        assert streams.main.codec_context.name == "h264"
        assert [stream.codec_context.name for stream in streams.kept] == ["mjpeg"]
        assert holds("mp4", streams.kept[0])
        assert not holds("webm", streams.kept[0])
