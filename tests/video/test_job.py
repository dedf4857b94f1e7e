"""Whole videos, from file to file: what comes out, whatever goes in and whatever stops it on the way."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from math import floor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import make_clip, picture
from contents import about, durations, frames_of, packets, pictures, psnr, shown, times

import i2i
from i2i.data.image_io import Provenance, read_image
from i2i.errors import InputError
from i2i.inference.translator import Translator
from i2i.inference.upscale import Upscaler
from i2i.video import Encoding, Options, Summary, VideoFile, upscale, upscaling
from i2i.video.frames import Colour
from i2i.video.job import Job
from i2i.video.sequence import ImageSequence

FAST = Encoding(preset="ultrafast", crf=1)
FINE = Encoding(preset="ultrafast", crf=0, pix_fmt="yuv444p")
LOSSLESS_X264 = Encoding(preset="ultrafast", crf=0)
LOSSLESS = Encoding(codec="ffv1")
# All that a file may have besides frames.
LUGGAGE: dict[str, Any] = {
    "audio": 2,
    "subtitles": 2,
    "chapters": True,
    "metadata": {"title": "A clip", "artist": "Us"},
}
VARIABLE = [0, 40, 73, 74, 200, 240, 1001, 1034, 1068, 1500, 1501, 1600]
MILLISECONDS = {"time_base": Fraction(1, 1000), "rate": Fraction(25)}
NTSC = Fraction(30000, 1001)
BT709, BT2020, PQ = Colour(1, 1, 1, 1), Colour(1, 9, 9, 14), Colour(1, 9, 9, 16)
FULL = Colour(2, 5, 5, 6)
DEEP = {"codec": "libx265", "pix_fmt": "yuv420p10le"}

CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": (".mp4", {}),
    "plain-mkv": (".mkv", {"rate": Fraction(25)}),
    "mov": (".mov", {"audio": 1, "audio_codec": "pcm_s16le"}),
    "webm": (".webm", {"codec": "libvpx-vp9", "audio": 1, "frames": 8, "options": {"cpu-used": "8"}}),
    "variable": (".mp4", {**MILLISECONDS, "timestamps": VARIABLE}),
    "variable-mkv": (".mkv", {**MILLISECONDS, "timestamps": VARIABLE}),
    "begins-late": (".mp4", {**MILLISECONDS, "timestamps": [pts + 480 for pts in VARIABLE], "audio": 1}),
    "begins-late-mkv": (".mkv", {**MILLISECONDS, "timestamps": [pts + 480 for pts in VARIABLE], "audio": 1}),
    "sound-begins-late": (".mp4", {"audio": 1, "audio_start": 12345}),
    "luggage": (".mp4", {**LUGGAGE, "frames": 36}),
    "luggage-mkv": (".mkv", {**LUGGAGE, "frames": 36, "attachments": True, "rate": Fraction(25)}),
    "10-bits": (".mp4", {**DEEP, "colour": PQ, "frames": 9}),
    "10-bits-mkv": (".mkv", {**DEEP, "colour": BT2020, "frames": 9, "rate": Fraction(25)}),
    "444": (".mkv", {"pix_fmt": "yuv444p", "rate": Fraction(25)}),
    "422-10-bits": (".mp4", {"pix_fmt": "yuv422p10le", "colour": BT709}),
    "rgb": (".mkv", {"codec": "libx264rgb", "pix_fmt": "rgb24", "rate": Fraction(25)}),
    "grey": (".mkv", {"codec": "ffv1", "pix_fmt": "gray", "rate": Fraction(25)}),
    "prores": (".mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "colour": BT709}),
    "full-range": (".mp4", {"colour": FULL}),
    "bt709": (".mp4", {"colour": BT709}),
    "bt709-mkv": (".mkv", {"colour": BT709, "rate": Fraction(25)}),
    "odd": (".mp4", {"codec": "libx264", "pix_fmt": "yuv444p", "width": 63, "height": 45}),
    "single": (".mp4", {"frames": 1, "audio": 1}),
    "single-mkv": (".mkv", {"frames": 1, "rate": Fraction(25)}),
    "ntsc": (".mp4", {"rate": NTSC}),
    "90-khz": (".mp4", {"rate": NTSC, "time_base": Fraction(1, 90000), "timestamps": [3003 * n for n in range(20)]}),
    "wide-pixels": (".mp4", {"sample_aspect_ratio": Fraction(16, 11)}),
    "wide-pixels-mkv": (".mkv", {"sample_aspect_ratio": Fraction(16, 11), "rate": Fraction(25)}),
    "quarter": (".mp4", {"rotation": 90, "sample_aspect_ratio": Fraction(4, 3)}),
    "half": (".mp4", {"rotation": 180, "sample_aspect_ratio": Fraction(4, 3)}),
    "three-quarters": (".mp4", {"rotation": 270, "sample_aspect_ratio": Fraction(4, 3)}),
    "three-quarters-mkv": (".mkv", {"rotation": 270, "sample_aspect_ratio": Fraction(4, 3), "rate": Fraction(25)}),
    "woven": (".mp4", {"interlaced": True}),
}


def clip(folder: Path, kind: str) -> Path:
    suffix, how = CLIPS[kind]
    return make_clip(folder / f"in{suffix}", **how)


def run(source: Path, target: Path, translator: Translator, **options: Any) -> Summary:
    return upscale(source, target, weights=translator, options=Options(**{"encoding": FAST, **options}))


def in_ms(time: Fraction) -> Fraction:
    """Rounded as Matroska does."""
    return Fraction(floor(1000 * time + Fraction(1, 2)), 1000)


@pytest.mark.parametrize("kind", CLIPS)
def test_nothing_is_lost(kind: str, tmp_path: Path, translator: Translator) -> None:
    source = clip(tmp_path, kind)
    codec = "vp9" if source.suffix == ".webm" else "x264"
    target = tmp_path / f"out{source.suffix}"
    summary = run(source, target, translator, encoding=Encoding(codec=codec), segment_frames=7)
    assert times(target) == times(source)
    assert [frame.pts * frame.time_base for frame in frames_of(target)] == [
        frame.pts * frame.time_base for frame in frames_of(source)
    ]
    assert packets(target)[1:] == packets(source)[1:]
    assert about(target) == expected(source)
    # Blocks of Matroska say when they begin, in ms, and not always when they end: the last of AAC has 21 ms.
    within = 0 if source.suffix in (".mp4", ".mov") else 0.022 if "audio" in CLIPS[kind][1] else 0.0011
    np.testing.assert_allclose(durations(target), durations(source), rtol=0, atol=within)
    assert summary.record.frames == len(frames_of(source))
    assert (summary.record.repeated, summary.record.missing, summary.record.reasons) == (0, 0, ())
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".unfinished"] == []


def expected(source: Path) -> dict[str, Any]:
    """What is said about a result: what its source says but for RGB, which becomes BT.709."""
    said = about(source)
    if frames_of(source)[0].format.is_rgb:
        said["colour"] = (1, 1, *said["colour"][2:])
    return said


@pytest.mark.parametrize("target", ["out.mkv", "out.mov", "out.m4v"])
def test_another_container_holds_the_same(target: str, tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", audio=2, chapters=True, metadata={"title": "A clip"}, rate=NTSC, frames=40)
    run(source, tmp_path / target, translator)
    for ours, theirs in zip(packets(tmp_path / target)[1:], packets(source)[1:], strict=True):
        assert [entry[2] for entry in ours] == [entry[2] for entry in theirs]
        assert [round(1000 * entry[0]) for entry in ours] == [round(1000 * entry[0]) for entry in theirs]
    found = times(tmp_path / target)
    assert found == [in_ms(time) if target == "out.mkv" else time for time in times(source)]
    said, before = about(tmp_path / target), about(source)
    assert said["chapters"] == before["chapters"]
    assert said["metadata"]["title"] == "A clip"
    np.testing.assert_allclose(durations(tmp_path / target), durations(source), rtol=0, atol=0.022)


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_broadcasts(target: str, tmp_path: Path, translator: Translator) -> None:
    """Transport streams begin at any time, and each packet of AAC has a header, which other containers have once."""
    source = make_clip(tmp_path / "in.ts", rate=Fraction(25), audio=2)
    run(source, tmp_path / target, translator)
    wanted = [in_ms(time) if target == "out.mkv" else time for time in times(source)]
    assert times(tmp_path / target) == wanted
    assert wanted[0] > 0
    for number in range(2):
        assert sound(tmp_path / target, number) == sound(source, number)


def sound(path: Path, number: int) -> bytes:
    """Decoded."""
    with av.open(str(path)) as container:
        return b"".join(frame.to_ndarray().tobytes() for frame in container.decode(audio=number))


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
def test_a_second_video_is_copied(target: str, tmp_path: Path, translator: Translator) -> None:
    """Whose frames are decoded in another order than they are shown."""
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        streams = [out.add_stream("libx264", rate=25, width=32 * n, height=32, pix_fmt="yuv420p") for n in (1, 2)]
        for number in range(10):
            for stream in streams:
                image = picture(number, width=stream.width, height=32)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = number
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    run(source, tmp_path / target, translator)
    ours, theirs = packets(tmp_path / target), packets(source)
    assert len(theirs[1]) == 10
    assert [entry[::2] for entry in ours[1]] == [entry[::2] for entry in theirs[1]]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("in.webm", "libvpx-vp9", "yuv420p"), ("in.mov", "prores_ks", "yuv422p10le"), ("in.mp4", "libx265", "yuv420p")],
)
def test_a_limited_range_is_told(name: str, codec: str, pix_fmt: str, tmp_path: Path, translator: Translator) -> None:
    """As the decoders of these codecs do."""
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    source = make_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, options=options, frames=3)
    run(source, tmp_path / "out.mp4", translator)
    assert about(source)["colour"] == (1, 2, 2, 2)
    assert about(tmp_path / "out.mp4")["colour"] == (1, 2, 2, 2)


def test_names_may_hold_anything(tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "100% [ä] http:'%d' *.mp4", audio=1, frames=5)
    target = tmp_path / 'out: %06d?, "[b]".mp4'
    run(source, target, translator, segment_frames=2, compare=tmp_path / "-%s;.mkv")
    assert times(target) == times(source)
    assert packets(target)[1:] == packets(source)[1:]


def test_results_are_the_networks_in_order(tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", pix_fmt="yuv444p")
    run(source, tmp_path / "out.mp4", translator, segment_frames=5, encoding=FINE)
    wanted = [translator(image) for image in pictures(source)]
    for number, image in enumerate(pictures(tmp_path / "out.mp4")):
        likeness = [psnr(image, other) for other in wanted]
        assert int(np.argmax(likeness)) == number
        assert likeness[number] > 38


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_turned_videos_come_out_upright(rotation: int, turns: int, tmp_path: Path, translator: Translator) -> None:
    """Anticlockwise, as `numpy.rot90` counts; and nothing is left that a player would turn again."""
    source = make_clip(tmp_path / "in.mp4", rotation=rotation, frames=3, pix_fmt="yuv444p")
    run(source, tmp_path / "out.mp4", translator, encoding=FINE)
    for ours, image, frame in zip(
        pictures(tmp_path / "out.mp4"), pictures(source), frames_of(tmp_path / "out.mp4"), strict=True
    ):
        assert psnr(ours, translator(np.ascontiguousarray(np.rot90(image, turns)))) > 38
        assert frame.rotation == 0


def test_16_bits_of_rgb_are_exact(tmp_path: Path, translator: Translator) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=32, height=24, pix_fmt="gbrp16le")
        for number in range(6):
            image = picture(number, width=32, height=24, bits=16)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gbrp16le")))
        out.mux(stream.encode(None))
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", translator, encoding=LOSSLESS, segment_frames=4)
    for number, frame in enumerate(frames_of(tmp_path / "out.mkv")):
        assert frame.format.name == "gbrp16le"
        wanted = translator(picture(number, width=32, height=24, bits=16))
        np.testing.assert_array_equal(frame.to_ndarray(format="gbrp16le"), wanted)


def test_woven_fields_become_whole_frames(tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", interlaced=True, pix_fmt="yuv444p")
    with closing(VideoFile(source)) as woven, closing(VideoFile(source, deinterlace=True)) as whole:
        assert woven.interlaced
        assert not whole.interlaced
        for file, name in ((woven, "woven.mp4"), (whole, "whole.mp4")):
            upscale(file, tmp_path / name, weights=translator, options=Options(encoding=FINE, segment_frames=5))
            assert times(tmp_path / name) == times(source)
    combs = [np.mean([comb(image) for image in pictures(tmp_path / name)]) for name in ("woven.mp4", "whole.mp4")]
    assert combs[1] < 0.7 * combs[0]


def comb(image: np.ndarray) -> float:
    """How much rows of the source differ from those on both sides, in an image of twice its height."""
    rows = image[::2].astype(float)
    return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())


# ---- In parts


@pytest.mark.parametrize("encoding", [Encoding(), FAST, LOSSLESS, Encoding(codec="x265", preset="ultrafast")])
def test_parts_are_as_the_whole(encoding: Encoding, tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mkv", timestamps=VARIABLE, audio=1, **MILLISECONDS)
    for name, frames in (("whole.mkv", 1000), ("parts.mkv", 5)):
        run(source, tmp_path / name, translator, encoding=encoding, segment_frames=frames)
    whole, parts = shown(tmp_path / "whole.mkv"), shown(tmp_path / "parts.mkv")
    assert [frame[:2] for frame in parts] == [frame[:2] for frame in whole]
    assert packets(tmp_path / "parts.mkv")[1:] == packets(tmp_path / "whole.mkv")[1:]
    if encoding is LOSSLESS:
        assert parts == whole
    for one, other in zip(pictures(tmp_path / "parts.mkv"), pictures(tmp_path / "whole.mkv"), strict=True):
        assert psnr(one, other) > 35


def test_results_are_the_same_each_time_with_any_number_of_threads(tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", audio=1)
    for name, threads in (("one.mp4", 1), ("other.mp4", 3)):
        run(source, tmp_path / name, translator, encoding=Encoding(), segment_frames=10, threads=threads)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "other.mp4").read_bytes()


class Stopped(Exception):
    """What ends a run in a test."""


def stop_after(count: int) -> Any:
    """A function for progress that ends the run after so many frames."""

    def progress(done: int, total: int) -> None:
        if done >= count:
            raise Stopped

    return progress


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("options", [{}, {"stabilise": True}, {"skip_duplicates": True}, {"frames": "png"}])
def test_a_stopped_run_goes_on(options: dict[str, Any], tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", audio=1, repeats=2)
    given = Options(encoding=FAST, segment_frames=5, **options)
    wanted, target = (tmp_path / ("wanted.mp4", "out.mp4")[i] for i in range(2))
    upscale(source, wanted, weights=translator, options=given)
    for count in (1, 7, 9):
        with pytest.raises(Stopped):
            upscale(source, target, weights=translator, options=given, progress=stop_after(count))
        assert not target.exists()
    reports: list[tuple[int, int]] = []
    summary = upscale(source, target, weights=translator, options=given, progress=lambda *now: reports.append(now))
    assert summary.found == 10
    assert reports == sorted(reports)
    assert reports[-1] == (14, 14)
    assert summary.record.frames == 24
    if "frames" in options:
        assert names(target) == names(wanted) == {f"{number:08}.png" for number in range(1, 25)}
        assert all((target / name).read_bytes() == (wanted / name).read_bytes() for name in names(wanted))
    else:
        assert target.read_bytes() == wanted.read_bytes()
    assert names(tmp_path) == {"in.mp4", "wanted.mp4", "out.mp4"}


def test_other_settings_are_refused_with_a_list(tmp_path: Path, translator: Translator) -> None:
    source, target = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    given = Options(encoding=FAST, segment_frames=5)
    with pytest.raises(Stopped):
        upscale(source, target, weights=translator, options=given, progress=stop_after(12))
    for changes, told in (
        ({"encoding": Encoding(crf=30)}, "crf.*30"),
        ({"stabilise": True}, "stabilise: False before, True now"),
        ({"segment_frames": 6}, "segment_frames: 5 before, 6 now"),
    ):
        with pytest.raises(InputError, match=f"(?s)out.mp4.unfinished holds the beginning.*{told}.*--overwrite"):
            upscale(source, target, weights=translator, options=replace(given, **changes))
    with pytest.raises(InputError, match=r"scale: 2 before, 3\.0 now"):
        upscale(source, target, weights=translator, scale=3.0, options=given)
    os.utime(source, (1, 1))
    with pytest.raises(InputError, match=r"source: .* before, .* now"):
        upscale(source, target, weights=translator, options=given)
    summary = upscale(source, target, weights=translator, options=replace(given, overwrite=True))
    assert summary.found == 0
    assert target.exists()


def test_a_newer_i2i_goes_on(tmp_path: Path, translator: Translator) -> None:
    """The note in each image tells the version, but that is no reason to begin again; another model is."""
    source, target = make_clip(tmp_path / "in.mp4"), tmp_path / "out"
    options = Options(frames="png", segment_frames=5)

    def job(model: str, version: str) -> Job:
        note = Provenance(kind="enlarged", model=model, version=version)
        how = replace(treatment(translator), provenance=note)
        return Job(source=file, target=target, treatment=how, options=options)

    with closing(VideoFile(source)) as file:
        with pytest.raises(Stopped):
            job("net", "1").run(stop_after(12))
        with pytest.raises(InputError, match="provenance: enlarged by net before, enlarged by other now"):
            job("other", "1").run()
        assert job("net", "2").run().found == 10


def test_other_weights_are_refused(tmp_path: Path, weights: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    other = i2i.load(weights, device="cpu")
    given = Options(encoding=FAST, segment_frames=5)
    with pytest.raises(Stopped):
        upscale(source, target, weights=other, options=given, progress=stop_after(12))
    other = i2i.load(weights, device="cpu")
    next(other.generator.parameters()).data[0] += 0.001
    with pytest.raises(InputError, match=r"weights: .* before, .* now"):
        upscale(source, target, weights=other, options=given)


def test_parts_of_unknown_settings_are_not_taken(tmp_path: Path, translator: Translator) -> None:
    """As after a kill amid the removal of the folder, when what says how parts were made may be the first to go."""
    source, target = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    run(source, tmp_path / "wanted.mp4", translator, segment_frames=5)
    with pytest.raises(Stopped):
        upscale(
            source,
            target,
            weights=translator,
            options=Options(encoding=FAST, segment_frames=5, stabilise=True),
            progress=stop_after(12),
        )
    (tmp_path / "out.mp4.unfinished" / "job.json").unlink()
    assert run(source, target, translator, segment_frames=5).found == 0
    assert target.read_bytes() == (tmp_path / "wanted.mp4").read_bytes()


def test_results_are_overwritten_only_if_that_is_wanted(tmp_path: Path, translator: Translator) -> None:
    source, target = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    target.write_text("precious")
    with pytest.raises(InputError, match=r"out\.mp4 exists; give another name, or --overwrite"):
        run(source, target, translator)
    with pytest.raises(Stopped):
        upscale(
            source,
            target,
            weights=translator,
            options=Options(encoding=FAST, segment_frames=5, overwrite=True),
            progress=stop_after(12),
        )
    assert target.read_text() == "precious"
    assert run(source, target, translator, segment_frames=5, overwrite=True).found == 10
    assert times(target) == times(source)


def test_several_processes_share_the_parts(tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", audio=1)
    options = Options(encoding=FAST, segment_frames=5)
    upscale(source, tmp_path / "wanted.mp4", weights=translator, options=options)
    with ThreadPoolExecutor() as pool:
        shares = [pool.submit(share, source, tmp_path / "out.mp4", translator, options, rank) for rank in range(3)]
    assert [share.result().record.frames for share in shares] == [24, 10, 9]
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "wanted.mp4").read_bytes()
    assert names(tmp_path) == {"in.mp4", "wanted.mp4", "out.mp4"}


def share(source: Path, target: Path, translator: Translator, options: Options, rank: int, of: int = 3) -> Summary:
    with closing(VideoFile(source)) as file:
        return Job(
            source=file, target=target, treatment=treatment(translator), options=options, rank=rank, world_size=of
        ).run()


def treatment(translator: Translator) -> Any:
    return upscaling(Upscaler(translator))


# ---- Options


@pytest.mark.parametrize("options", [{}, {"stabilise": True}])
def test_skipping_what_repeats_changes_nothing(options: dict[str, Any], tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", repeats=3, frames=30)
    computed = run(source, tmp_path / "computed.mp4", translator, encoding=LOSSLESS_X264, **options)
    skipped = run(source, tmp_path / "skipped.mp4", translator, encoding=LOSSLESS_X264, skip_duplicates=True, **options)
    assert (tmp_path / "skipped.mp4").read_bytes() == (tmp_path / "computed.mp4").read_bytes()
    assert computed.record.computed == computed.record.pixels == skipped.record.pixels == 30 * 64 * 48
    assert skipped.record.computed == 10 * 64 * 48


@pytest.mark.parametrize("segment_frames", [1, 4, 11])
def test_steadying_knows_no_parts(segment_frames: int, tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mkv", rate=Fraction(25), repeats=4, pix_fmt="yuv444p")
    for name, frames in (("whole.mkv", 100), ("parts.mkv", segment_frames)):
        run(source, tmp_path / name, translator, encoding=LOSSLESS, stabilise=True, segment_frames=frames)
    assert shown(tmp_path / "parts.mkv") == shown(tmp_path / "whole.mkv")
    run(source, tmp_path / "plain.mkv", translator, encoding=LOSSLESS)
    assert [frame[:2] for frame in shown(tmp_path / "plain.mkv")] == [
        frame[:2] for frame in shown(tmp_path / "whole.mkv")
    ]


@pytest.mark.parametrize("kind", ["variable", "10-bits", "odd"])
def test_source_and_result_side_by_side(kind: str, tmp_path: Path, translator: Translator) -> None:
    source = clip(tmp_path, kind)
    alone = run(source, tmp_path / "alone.mp4", translator, segment_frames=5)
    run(source, tmp_path / "out.mp4", translator, segment_frames=5, compare=tmp_path / "both.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()
    assert times(tmp_path / "both.mp4") == times(source)
    assert packets(tmp_path / "both.mp4")[1:] == packets(source)[1:]
    assert len(pictures(tmp_path / "both.mp4")) == alone.record.frames
    for both, before, after in zip(
        pictures(tmp_path / "both.mp4"), pictures(source), pictures(tmp_path / "out.mp4"), strict=True
    ):
        height, width, _ = after.shape
        assert both.shape == (height, 2 * width, 3)
        larger = cv2.resize(before, (width, height), interpolation=cv2.INTER_CUBIC)
        assert psnr(both, np.hstack([larger, after])) > 30


def test_a_comparison_may_lie_in_a_folder_to_be_made(tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3)
    run(source, tmp_path / "out.mp4", translator, compare=tmp_path / "new" / "both.mp4")
    assert len(pictures(tmp_path / "new" / "both.mp4")) == 3


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system has no other file system for everyone")
def test_a_comparison_may_lie_on_another_disk(tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3)
    with TemporaryDirectory(dir="/dev/shm") as folder:
        run(source, tmp_path / "out.mp4", translator, compare=Path(folder) / "both.mp4")
        assert len(pictures(Path(folder) / "both.mp4")) == 3


def test_a_comparison_of_the_results_own_name_is_refused(tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3)
    with pytest.raises(InputError):
        run(source, tmp_path / "out.mp4", translator, compare=tmp_path / "out.mp4")


@pytest.mark.parametrize("target", ["in.mp4", "link.mp4", "elsewhere/../in.mp4"])
def test_no_source_is_overwritten(target: str, tmp_path: Path, translator: Translator) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3)
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "elsewhere").mkdir()
    before = source.read_bytes()
    with pytest.raises(InputError):
        run(source, tmp_path / target, translator, overwrite=True)
    with pytest.raises(InputError):
        run(source, tmp_path / "out.mp4", translator, overwrite=True, compare=tmp_path / target)
    assert source.read_bytes() == before


@pytest.mark.parametrize("kind", ["plain", "10-bits"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_preview(kind: str, suffix: str, tmp_path: Path, translator: Translator) -> None:
    source, preview = clip(tmp_path, kind), tmp_path / "new" / f"look{suffix}"
    run(source, tmp_path / "out.mp4", translator, preview=preview, preview_every_s=1e-6)
    last = read_image(preview)
    last = last if last.dtype == np.uint8 else (last // 257).astype(np.uint8)
    after, before = pictures(tmp_path / "out.mp4")[-1], pictures(source)[-1]
    height, width, _ = after.shape
    larger = cv2.resize(before, (width, height), interpolation=cv2.INTER_CUBIC)
    assert psnr(last, np.hstack([larger, after])) > 25


@pytest.mark.parametrize(
    ("frames", "pix_fmt", "dtype"), [("png", "yuv420p", np.uint8), ("tif", "yuv420p10le", np.uint16)]
)
def test_folders_of_images_and_back(
    frames: Any, pix_fmt: str, dtype: type, tmp_path: Path, translator: Translator
) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=12, codec="ffv1", pix_fmt=pix_fmt, rate=Fraction(25))
    run(source, tmp_path / "frames", translator, frames=frames, segment_frames=5)
    paths = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in paths] == [f"{number:08}.{frames}" for number in range(1, 13)]
    with closing(VideoFile(source)) as file:
        for path, frame in zip(paths, file.read(-(2**60)), strict=True):
            image = read_image(path)
            assert image.dtype == dtype
            np.testing.assert_array_equal(image, translator(frame.image))
    sequence = ImageSequence(paths, rate=NTSC)
    options = Options(encoding=Encoding(codec="ffv1", pix_fmt="gbrp16le"), segment_frames=5)
    upscale(sequence, tmp_path / "back.mkv", weights=translator, options=options)
    assert times(tmp_path / "back.mkv") == [in_ms(number / NTSC) for number in range(12)]
    for path, frame in zip(paths, frames_of(tmp_path / "back.mkv"), strict=True):
        wanted = translator(read_image(path))
        wanted = wanted if dtype is np.uint16 else wanted.astype(np.uint16) * 257
        np.testing.assert_array_equal(frame.to_ndarray(format="gbrp16le"), wanted)


# ---- What goes wrong


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_on_a_full_disk_what_is_done_stays(tmp_path: Path, translator: Translator) -> None:
    source, target = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    given = Options(encoding=FAST, segment_frames=5)
    with pytest.raises(Stopped):
        upscale(source, target, weights=translator, options=given, progress=stop_after(6))
    full = tmp_path / "out.mp4.unfinished" / "under-way-000001.nut"
    full.unlink(missing_ok=True)
    full.symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        upscale(source, target, weights=translator, options=given)
    assert error.value.errno == errno.ENOSPC
    assert not target.exists()
    full.unlink()
    assert upscale(source, target, weights=translator, options=given).found == 5
    assert times(target) == times(source)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_disk_that_is_full_only_in_the_end(tmp_path: Path, translator: Translator) -> None:
    source, target = make_clip(tmp_path / "in.mp4", audio=1), tmp_path / "out.mkv"
    with pytest.raises(Stopped):
        upscale(
            source,
            target,
            weights=translator,
            options=Options(encoding=FAST, segment_frames=5),
            progress=stop_after(6),
        )
    full = tmp_path / "out.mkv.unfinished" / "joined-out.mkv"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        run(source, target, translator, segment_frames=5)
    assert error.value.errno == errno.ENOSPC
    assert not target.exists()
    full.unlink()
    assert run(source, target, translator, segment_frames=5).found == 24
    assert len(pictures(target)) == 24


def broken(folder: Path, *, places: tuple[int, ...], suffix: str = ".mkv") -> Path:
    """A clip some of whose packets say nothing that decodes."""
    whole = make_clip(folder / f"whole{suffix}", frames=30, rate=Fraction(25), codec="ffv1", audio=1)
    damaged = folder / f"in{suffix}"
    with av.open(str(whole)) as given, av.open(str(damaged), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in given.streams}
        video = 0
        for packet in given.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                if video in places:
                    other = av.Packet(bytes(range(100)) * 3)
                    other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
                    other.time_base, other.is_keyframe = packet.time_base, packet.is_keyframe
                    other.stream = packet.stream
                    packet = other
                video += 1
            packet.stream = copies[packet.stream.index]
            out.mux(packet)
    whole.unlink()
    return damaged


@pytest.mark.parametrize(
    ("options", "processes"),
    [({}, 1), ({}, 2), ({"stabilise": True}, 1), ({"stabilise": True}, 2)],
)
def test_for_broken_frames_the_ones_before_stand_in(
    options: dict[str, Any], processes: int, tmp_path: Path, translator: Translator
) -> None:
    source, target = broken(tmp_path, places=(9, 10, 20)), tmp_path / "out.mkv"
    given = Options(encoding=LOSSLESS, segment_frames=5, **options)
    with ThreadPoolExecutor() as pool:
        shares = [pool.submit(share, source, target, translator, given, rank, processes) for rank in range(processes)]
    record = shares[0].result().record
    assert (record.frames, record.repeated, record.missing) == (30, 3, 0)
    assert len(record.reasons) == 1
    assert times(target) == times(source)
    found = shown(target)
    if not options:
        for place in (9, 10, 20):
            assert found[place].planes == found[place - 1].planes
        assert len({frame.planes for frame in found}) == 27
    assert [entry[::2] for entry in packets(target)[1]] == [entry[::2] for entry in packets(source)[1]]


@pytest.mark.parametrize(
    ("suffix", "options", "processes"),
    [
        (".mp4", {}, 1),
        (".mp4", {"frames": "png"}, 1),
        (".mp4", {"stabilise": True}, 1),
        (".mkv", {}, 1),
        (".mkv", {}, 2),
        (".mkv", {"stabilise": True}, 2),
    ],
)
def test_of_a_truncated_file_all_is_kept_that_decodes(
    suffix: str, options: dict[str, Any], processes: int, tmp_path: Path, translator: Translator
) -> None:
    source, target = cut_off(tmp_path, suffix), tmp_path / f"out{suffix}"
    given = Options(encoding=FAST, segment_frames=6, **options)
    with ThreadPoolExecutor() as pool:
        shares = [pool.submit(share, source, target, translator, given, rank, processes) for rank in range(processes)]
    record = shares[0].result().record
    assert abs(record.frames + record.missing - 30) <= (suffix == ".mkv")  # which says only how long all is
    assert 10 < record.frames < 25
    assert "the file is cut off" in " ".join(record.reasons)
    if "frames" not in options:
        assert times(target) == times(tmp_path / f"whole{suffix}")[: record.frames]


def cut_off(folder: Path, suffix: str) -> Path:
    whole = folder / f"whole{suffix}"
    make_clip(whole, frames=30, rate=Fraction(25), audio=1)
    if suffix == ".mp4":
        front = folder / "front.mp4"
        with av.open(str(whole)) as given, av.open(str(front), "w", options={"movflags": "faststart"}) as out:
            copies = {stream.index: out.add_stream_from_template(stream) for stream in given.streams}
            for packet in given.demux():
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    out.mux(packet)
        front.replace(whole)
    data = whole.read_bytes()
    place = folder / f"in{suffix}"
    place.write_bytes(data[: len(data) * 2 // 3])
    return place
