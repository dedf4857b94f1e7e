"""`i2i upscale` and `i2i translate` on videos: kills, several processes, bad input, and what people are told."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import make_clip
from contents import about, packets, pictures, shown, times

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import translate as translate_command
from i2i.cli import upscale as upscale_command
from i2i.cli import video
from i2i.cli.entry import exit_code, parse
from i2i.cli.plan import VideoJob
from i2i.cli.share import Share
from i2i.data.image_io import write_image
from i2i.generators import CompactGenerator, ResNetGenerator
from i2i.video.job import Summary
from i2i.video.journal import Journal, Record, Segment
from i2i.video.pipeline import Load

CHILD = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
QUICK = ("--preset", "ultrafast", "--crf", "1")
EXACT = ("--codec", "x264", "--preset", "ultrafast", "--crf", "0", "--pix-fmt", "yuv444p")


def run(command: Any, *arguments: object) -> int:
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


def upscale(source: object, target: object, *options: object) -> int:
    """Run `i2i upscale` in this process; returns its exit code."""
    return run(upscale_command, source, target, "--weights", "weights", *options)


def save_network(folder: Path, *, channels: int = 3) -> Path:
    network = CompactGenerator(in_channels=channels, out_channels=channels, width=4, convs=1, scale=2)
    torch.nn.init.normal_(network.body[-1].weight, std=0.05)
    torch.nn.init.zeros_(network.body[-1].bias)
    side = ImageSide(channels=channels, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
    save_generator(folder, network=network, spec=GeneratorSpec(input=side, output=side), card="")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the network "weights", in which everything happens."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
        CHILD.pop(name, None)
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "weights")
    return tmp_path


@pytest.fixture
def clip(here: Path) -> Path:
    return make_clip(here / "in.mp4", audio=1, subtitles=1, chapters=True, frames=36)


def start(*arguments: object, launcher: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, "-m", "i2i", "upscale", *map(str, arguments)]
    return subprocess.Popen(command, env=CHILD | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_same(one: Path, other: Path) -> None:
    """Every frame bit for bit, timestamps, and all that is copied."""
    assert shown(one) == shown(other)
    assert packets(one) == packets(other)
    assert about(one) == about(other)


# ---- Whole commands


def test_a_video_and_what_is_said(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upscale(clip, "new/deep/out.mp4", *EXACT, "--segment-frames", "10") == 0
    output = capsys.readouterr()
    assert re.search(r"out\.mp4: 36 frames upscaled, in .+, [\d.]+ a second", output.out)
    assert re.search(r"the network waited for \d+% of the time", output.out)
    assert not output.err
    assert times(Path("new/deep/out.mp4")) == times(clip)
    assert packets(Path("new/deep/out.mp4"))[1:] == packets(clip)[1:]
    assert pictures(Path("new/deep/out.mp4"))[0].shape == (96, 128, 3)
    assert [path.name for path in Path("new/deep").iterdir()] == ["out.mp4"]


def test_the_share_that_repeats_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(here / "in.mp4", frames=36, repeats=4)
    assert upscale("in.mp4", "out.mp4", "--skip-duplicates") == 0
    assert "75% of the network's work was saved where nothing changed" in capsys.readouterr().out


def test_woven_video_is_told_of(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(here / "in.mp4", interlaced=True)
    assert upscale("in.mp4", "out.mp4", *QUICK) == 0
    assert "in.mp4 is interlaced" in capsys.readouterr().err
    assert upscale("in.mp4", "whole.mp4", "--deinterlace", *QUICK) == 0
    assert not capsys.readouterr().err
    assert times(Path("whole.mp4")) == times(Path("out.mp4")) == times(Path("in.mp4"))


def test_a_folder_of_videos_and_images(clip: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("all/a.mp4", "all/deep/b.mov"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        make_clip(here / name, frames=5)
    write_image(here / "all" / "c.png", np.zeros((5, 6, 3), np.uint8))
    assert upscale("all", "out", "--suffix", "_x2") == 0
    made = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}
    assert made == {"a_x2.mp4", "deep/b_x2.mov", "c_x2.png"}
    assert "2 videos upscaled\n" in capsys.readouterr().out
    before = {name: Path("out", name).stat().st_mtime_ns for name in made}
    assert upscale("all", "out", "--suffix", "_x2", "--skip-existing") == 0
    assert "0 videos upscaled, 2 skipped, for their results are there" in capsys.readouterr().out
    assert {name: Path("out", name).stat().st_mtime_ns for name in made} == before


def test_one_bad_video_does_not_stop_the_rest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "all").mkdir()
    (here / "all" / "a.mp4").write_bytes(b"nothing of use")
    make_clip(here / "all" / "b.mp4", frames=5)
    assert upscale("all", "out") == 1
    output = capsys.readouterr()
    assert "a.mp4" in output.err
    assert "1 video upscaled, 1 failed\n  failed: all/a.mp4" in output.out
    assert len(times(Path("out/b.mp4"))) == 5


@pytest.mark.parametrize(
    ("error", "told"),
    [(RuntimeError("it is broken"), "RuntimeError: it is broken"), (PermissionError(errno.EACCES, "No"), "No")],
)
def test_an_error_of_any_kind_does_not_stop_the_rest(
    error: Exception, told: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_for_the_first(error, here, monkeypatch)
    assert upscale("all", "out") == 1
    assert re.search(rf"all/a\.mp4.*{told}|out/a\.mp4.*{told}", capsys.readouterr().err)
    assert len(times(Path("out/b.mp4"))) == 5


def test_a_full_disk_stops_the_rest(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_for_the_first(OSError(errno.ENOSPC, "No space left on device"), here, monkeypatch)
    assert upscale("all", "out") == 1
    assert "out/a.mp4: No space left on device" in capsys.readouterr().err
    assert not Path("out/b.mp4").exists()


def fail_for_the_first(error: Exception, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two videos in the folder "all"."""
    for name in ("all/a.mp4", "all/b.mp4"):
        (here / name).parent.mkdir(exist_ok=True)
        make_clip(here / name, frames=5)
    make = video._make

    def make_or_fail(job: VideoJob, *others: Any) -> Summary:
        if job.source.name == "a.mp4":
            raise error
        return make(job, *others)

    monkeypatch.setattr(video, "_make", make_or_fail)


def test_an_empty_folder_is_no_result(clip: Path) -> None:
    Path("frames").mkdir()
    for _ in range(2):
        assert upscale(clip, "frames", "--format", "png", "--skip-existing") == 0
        assert len(list(Path("frames").iterdir())) == 36


def test_frames_in_a_folder_and_back(clip: Path) -> None:
    assert upscale(clip, "frames", "--format", "png") == 0
    assert sorted(path.name for path in Path("frames").iterdir()) == [f"{number:08}.png" for number in range(1, 37)]
    for place, target in (("frames", "a.mp4"), ("frames/%08d.png", "b.mp4"), ("frames/*.png", "c.mp4")):
        assert upscale(place, target, "--fps", "23.976", *QUICK) == 0
        assert times(Path(target)) == [number * Fraction(1001, 24000) for number in range(36)]
        assert pictures(Path(target))[0].shape == (192, 256, 3)


def test_translation(clip: Path, here: Path) -> None:
    """By a network whose norms look at whole frames, of the frames' own size."""
    network = ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1)
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    save_generator(here / "gan", network=network, spec=GeneratorSpec(input=side, output=side), card="")
    make_clip(here / "444.mp4", audio=1, pix_fmt="yuv444p", frames=5)
    assert run(translate_command, "444.mp4", "out.mp4", "--weights", "gan", *EXACT, "--segment-frames", "2") == 0
    assert times(Path("out.mp4")) == times(Path("444.mp4"))
    assert packets(Path("out.mp4"))[1:] == packets(Path("444.mp4"))[1:]
    translator = i2i.load("gan", device="cpu")
    for before, after in zip(pictures(Path("444.mp4")), pictures(Path("out.mp4")), strict=True):
        wanted = translator(before)
        assert after.shape == wanted.shape == (48, 64, 3)
        assert np.abs(after.astype(int) - wanted).mean() < 3


def test_networks_for_grey_images_see_the_luma(here: Path) -> None:
    save_network(here / "grey", channels=1)
    make_clip(here / "in.mp4", pix_fmt="yuv444p", frames=3)
    assert run(upscale_command, "in.mp4", "out.mp4", "--weights", "grey", *EXACT) == 0
    network = i2i.load("grey", device="cpu")
    for before, after in zip(pictures(Path("in.mp4")), pictures(Path("out.mp4")), strict=True):
        luma = np.rint(before @ (0.299, 0.587, 0.114)).astype(np.uint8)
        assert np.abs(after.astype(int) - network(luma)[..., None]).mean() < 3
        assert np.ptp(after.astype(int), axis=-1).max() <= 2


@pytest.mark.data
def test_a_real_video_with_a_real_network(data_dir: Path, here: Path) -> None:
    cut = here / "short.mp4"
    with av.open(str(data_dir / "video" / "realshort.mp4")) as given, av.open(str(cut), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None and packet.dts * packet.time_base < 0.04:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    weights = data_dir / "weights" / "realesr-animevideov3.pth"
    assert run(upscale_command, cut, "out.mp4", "--weights", weights, *QUICK, "--segment-frames", "2") == 0
    assert times(Path("out.mp4")) == times(cut)
    assert packets(Path("out.mp4"))[1:] == packets(cut)[1:]
    network = i2i.load(weights, device="cpu")
    for before, after in zip(pictures(cut), pictures(Path("out.mp4")), strict=True):
        assert np.abs(after.astype(int) - network(before)).mean() < 3


# ---- Kills and companions


@pytest.mark.slow
def test_a_killed_command_goes_on(clip: Path) -> None:
    """Ten times at any moment, from the first segment to the joining; the output is there when it is whole only."""
    make_clip(clip, audio=2, subtitles=1, chapters=True, frames=400, width=96, height=64)
    options = (clip, "out.mp4", "--weights", "weights", "--segment-frames", "10", "--preset", "medium")
    assert upscale(clip, "wanted.mp4", "--segment-frames", "10", "--preset", "medium") == 0
    moments = random.Random(5)
    through = 0
    for _ in range(10):
        process = start(*options)
        while not Path("out.mp4.unfinished/job.json").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if Path("out.mp4").exists():
            through += 1
            check_same(Path("out.mp4"), Path("wanted.mp4"))
            Path("out.mp4").unlink()
            shutil.rmtree("out.mp4.unfinished", ignore_errors=True)
    assert through < 5
    process = start(*options)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    check_same(Path("out.mp4"), Path("wanted.mp4"))
    assert not Path("out.mp4.unfinished").exists()


def test_an_interrupted_command_goes_on(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start(clip, "out.mp4", "--weights", "weights", "--segment-frames", "1", "--preset", "veryslow")
    while not Path("out.mp4.unfinished/000003.json").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "Interrupted. The same command goes on where it stopped.\n"
    assert upscale(clip, "out.mp4", "--segment-frames", "1", "--preset", "veryslow") == 0
    assert re.search(r"36 frames upscaled, \d+ of them by an earlier run", capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("launched", [False, True])
def test_two_processes_share_a_video(launched: bool, clip: Path) -> None:
    options = (clip, "out.mp4", "--weights", "weights", "--segment-frames", "5", *QUICK)
    assert upscale(clip, "wanted.mp4", "--segment-frames", "5", *QUICK) == 0
    if launched:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        processes = [start(*options, launcher=launcher)]
    else:
        processes = [start(*options, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    outputs = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    output = "".join(text for text, _ in outputs)
    assert "process 0 of 2: out.mp4: 36 frames upscaled" in output
    assert "process 1 of 2: out.mp4: 16 frames upscaled" in output
    check_same(Path("out.mp4"), Path("wanted.mp4"))
    assert not Path("out.mp4.unfinished").exists()


# ---- Bad input


def test_progress_is_measured_from_the_first_frame_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None before it: where frames are steadied, some are computed for the first alone. At last others are awaited."""
    now = [0]
    monkeypatch.setattr(video.time, "perf_counter", lambda: now[0])
    with video._progress(Share(rank=0, world_size=2, local_rank=0), name="out.mp4") as progress:
        for now[0], done in ((100, 0), (100, 4), (104, 12), (109, 22), (114, 32), (134, 72), (135, 72)):
            progress(done, 72)
    assert capsys.readouterr().out.splitlines() == [
        "12/72 frames, 2.0 a second, 30 s left",
        "32/72 frames, 2.0 a second, 20 s left",
        "72/72 frames, 2.0 a second, 0 s left",
        "all 72 frames of this process are done; waiting for the other processes",
    ]


def test_damage_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(frames=90, repeated=1, missing=12, reasons=("some would not decode", "the file is cut off"))
    summary = Summary(target=Path("out.mp4"), record=record, found=90, load=Load(), seconds=1, notes=("A note.",))
    video._say(
        VideoJob(source=Path("in.mp4"), target=Path("out.mp4")),
        summary,
        Share(rank=0, world_size=1, local_rank=0),
        done="upscaled",
        skips=False,
    )
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  1 frame repeated and 12 frames missing at the end:",
        "    some would not decode",
        "    the file is cut off",
        "  A note.",
    ]


def test_options_without_effect_are_refused(clip: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is loaded: there are no such weights."""
    write_image(here / "images" / "1.png", np.zeros((5, 6, 3), np.uint8))
    for source, target, options, told in (
        ("images", "out", ("--stabilise", "--crf", "3"), "--crf, --stabilise are for videos"),
        ("images", "out.mp4", ("--fps", "9", "--deinterlace"), "--deinterlace is for sources that are videos"),
        ("images", "out.mp4", ("--fps", "9", "--drop-streams"), "--drop-streams is for sources that are videos"),
        (clip, "out", ("--format", "png", "--codec", "av1", "--crf", "9"), "--codec, --crf are for results that"),
        (clip, "out.mp4", ("--format", "png"), "out.mp4 is a file name"),
        (clip, "out.mp4", ("--preview-every-s", "9"), "--preview-every-s needs --preview"),
        (clip, "out.mp4", ("--alpha-upsampler", "bicubic"), "--alpha-upsampler is for images"),
        (clip, "out.mp4", ("--threads", "0"), "threads: expected at least 1"),
        (".", "out", ("--format", "jpg"), "png or tif"),
    ):
        assert told in refused(capsys, source, target, "--weights", "nowhere", *options)
    assert not Path("out").exists()
    for options in (("--style", "a.png"), ("--seed", "0"), ("--instances", "a"), ("--batch-size", "2")):
        assert run(translate_command, clip, "out.mp4", "--weights", "nowhere", *options) == 2
        assert f"{options[0]} is for images" in capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    assert upscale(*arguments) == code
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    assert not list(Path().rglob("*.unfinished"))
    return output.err


def make_sound(path: Path) -> Path:
    whole = make_clip(path.with_name("with-video.mp4"), audio=1)
    with av.open(str(whole)) as given, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    return path


def test_what_is_no_video(here: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "text.mp4").write_text("Dear all,\n" * 100)
    (here / "empty.mp4").touch()
    (here / "data").write_bytes(bytes(1000))
    make_sound(here / "sound.mp4")
    write_image(here / "photo.png", np.zeros((5, 6, 3), np.uint8))
    (here / "nothing").mkdir()
    for source, told in (
        ("text.mp4", "text.mp4: expected a video, got a file that FFmpeg cannot read as one"),
        ("empty.mp4", "empty.mp4"),
        ("data", "data"),
        ("sound.mp4", "sound.mp4: expected a video stream, got audio (aac)"),
        ("missing.mp4", "missing.mp4 does not exist"),
        ("missing/%06d.png", "expected a folder of images or a pattern"),
        ("nothing", "found no image"),
    ):
        assert told in refused(capsys, source, "out.mp4")
        assert not Path("out.mp4").exists()


def test_an_image_in_place_of_a_video_and_the_other_way_round(
    clip: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(here / "photo.png", np.zeros((5, 6, 3), np.uint8))
    assert "out.png" in refused(capsys, clip, "out.png")
    assert "out.xyz" in refused(capsys, clip, "out.xyz")
    assert "out.avi" in refused(capsys, clip, "out.avi")
    (here / "folder").mkdir()
    write_image(here / "folder" / "photo.png", np.zeros((5, 6, 3), np.uint8))
    assert "--fps" in refused(capsys, "folder", "out.mp4")
    assert "--fps is for sequences of images" in refused(capsys, clip, "out.mp4", "--fps", "25")
    assert "--fps: expected a number" in refused(capsys, "folder", "out.mp4", "--fps", "0")
    assert "png or tif" in refused(capsys, clip, "frames", "--format", "jpg")


def cut_off(place: Path, *, share: float = 0.6, front: bool = True, **options: Any) -> Path:
    """A clip of which the end is missing; its index, in mp4, lies in front or is missing, too."""
    whole = make_clip(place.with_name(f"whole{place.suffix}"), frames=30, rate=Fraction(25), audio=1, **options)
    if front and place.suffix == ".mp4":
        moved = place.with_name("moved.mp4")
        with av.open(str(whole)) as given, av.open(str(moved), "w", options={"movflags": "faststart"}) as out:
            copies = {stream.index: out.add_stream_from_template(stream) for stream in given.streams}
            for packet in given.demux():
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    out.mux(packet)
        moved.replace(whole)
    data = whole.read_bytes()
    place.write_bytes(data[: int(share * len(data))])
    return place


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_of_a_truncated_video_the_beginning_is_kept(
    suffix: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(here / f"in{suffix}")
    assert upscale(f"in{suffix}", f"out{suffix}", *QUICK) == 1
    output = capsys.readouterr().out
    count = int(re.search(r"(\d+) frames missing at the end:", output)[1])
    made = times(Path(f"out{suffix}"))
    assert abs(len(made) + count - 30) <= (suffix == ".mkv")
    assert made == times(here / f"whole{suffix}")[: len(made)]
    assert "the file is cut off" in output


def test_of_a_truncated_broadcast_the_beginning_is_kept(here: Path) -> None:
    """A transport stream does not say how long it is."""
    cut_off(here / "in.ts", options={"bf": "0"})
    assert upscale("in.ts", "out.mp4", *QUICK) in (0, 1)
    made = times(Path("out.mp4"))
    assert 10 < len(made) < 25
    assert made == times(here / "whole.ts")[: len(made)]


def test_a_video_without_its_index(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut_off(here / "in.mp4", front=False)
    assert "without its index" in refused(capsys, "in.mp4", "out.mp4")


def test_a_container_that_cannot_hold_it_all(clip: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, clip, "out.webm", "--codec", "vp9")
    assert re.search(r"\.webm does not hold stream 1 \(audio, aac\) and stream 2 \(subtitle, mov_text\)", error)
    assert ".mp4" in error
    assert ".webm does not hold libx264" in refused(capsys, clip, "out.webm")
    make_clip(here / "in.mkv", attachments=True, frames=3)
    assert "attachment" in refused(capsys, "in.mkv", "out.mp4")
    assert upscale("in.mkv", "out.mp4", "--drop-streams") == 0
    assert "left out" in capsys.readouterr().err


def test_odd_sizes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(here / "in.mp4", width=31, height=21, pix_fmt="yuv444p", frames=3)
    assert upscale("in.mp4", "out.mp4", "--scale", "3", "--pix-fmt", "yuv420p") == 0
    assert "93 x 63 px became 94 x 64" in capsys.readouterr().err
    assert pictures(Path("out.mp4"))[0].shape == (64, 94, 3)
    assert upscale("in.mp4", "444.mp4", "--scale", "3") == 0
    assert pictures(Path("444.mp4"))[0].shape == (63, 93, 3)


def test_sizes_and_words_that_encoders_refuse(clip: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "quickly" in refused(capsys, clip, "out.mp4", "--preset", "quickly")
    assert "pix_fmt" in refused(capsys, clip, "out.mp4", "--pix-fmt", "yuv999p")
    assert "crf" in refused(capsys, clip, "out.mp4", "--crf", "99")
    make_clip(here / "wide.mp4", width=512, height=16, frames=1)
    assert "x264 refuses 20480 x 640 px" in refused(capsys, "wide.mp4", "out.mp4", "--scale", "40")


def test_results_that_are_there(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.mp4").write_text("precious")
    assert "out.mp4 exists" in refused(capsys, clip, "out.mp4", *QUICK)
    assert Path("out.mp4").read_text() == "precious"
    assert upscale(clip, "out.mp4", "--overwrite", *QUICK) == 0
    assert times(Path("out.mp4")) == times(clip)
    assert upscale(clip, "out.mp4", "--skip-existing", *QUICK) == 0


def test_no_source_is_overwritten(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = clip.read_bytes()
    for target in ("in.mp4", "./"):
        refused(capsys, clip, target, "--overwrite", *QUICK)
        assert clip.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_full_disk(clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def under_way(self: Journal, segment: Segment, *, suffix: str) -> Path:
        path = self.folder / f"under-way-{segment.number:06}{suffix}"
        if segment.number == 2:
            path.symlink_to("/dev/full")
        return path

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "under_way", under_way)
        assert upscale(clip, "out.mp4", "--segment-frames", "5", *QUICK) == 2
    assert "No space left on device" in capsys.readouterr().err
    Path("out.mp4.unfinished/under-way-000002.nut").unlink()
    assert upscale(clip, "out.mp4", "--segment-frames", "5", *QUICK) == 0
    assert "36 frames upscaled, 10 of them by an earlier run" in capsys.readouterr().out


@pytest.mark.slow
def test_one_bad_video_does_not_end_the_others_under_torchrun(here: Path) -> None:
    (here / "all").mkdir()
    (here / "all" / "a.mp4").write_bytes(b"nothing of use")
    make_clip(here / "all" / "b.mp4", frames=40)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = ("--weights", "weights", "--segment-frames", "5", "--preset", "veryslow")
    process = start("all", "out", *options, launcher=launcher)
    output, error = process.communicate(timeout=100)
    assert process.returncode == 1, error
    assert len(times(Path("out/b.mp4"))) == 40
    for rank in range(2):
        assert f"process {rank} of 2: 1 video upscaled, 1 failed" in output


@pytest.mark.slow
def test_the_second_process_gives_up_where_the_first_cannot_start(clip: Path) -> None:
    """Nobody else ends it where no launcher watches over both."""
    Path("out.mp4").write_text("precious")
    os.utime("out.mp4", (1, 1))
    options = (clip, "out.mp4", "--weights", "weights")
    processes = [start(*options, RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    try:
        assert processes[0].wait(timeout=60) == 2
        assert processes[1].wait(timeout=5) == 2
    finally:
        for process in processes:
            process.kill()
            process.communicate()
