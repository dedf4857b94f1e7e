import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import jobs
from i2i.cli import translate as command
from i2i.cli.entry import exit_code, parse
from i2i.cli.progress import FileProgress
from i2i.data.image_io import ImageFile, Provenance, read_image, write_image
from i2i.generators import CompactGenerator, ResNetGenerator

CHILD = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}


def translate(*arguments: str | Path) -> int:
    """Run `i2i translate` in this process; returns its exit code."""
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Run `i2i translate` as a person does."""
    return subprocess.Popen(
        [sys.executable, "-m", "i2i", "translate", *map(str, arguments)],
        env=CHILD | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def save_enlarger(folder: Path, *, scale: int = 2, channels: int = 3, side: ImageSide | None = None) -> Path:
    """A compact network without weights: each pixel is repeated, for the input is added to the output."""
    network = CompactGenerator(in_channels=channels, out_channels=channels, width=4, convs=1, scale=scale)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    side = side or ImageSide(channels=channels, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
    save_generator(folder, network=network, spec=GeneratorSpec(input=side, output=side), card="")
    return folder


def enlarged(image: np.ndarray) -> np.ndarray:
    return image.repeat(2, axis=0).repeat(2, axis=1)


def random_image(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_enlarger(tmp_path / "weights")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_image(folder / "a.png", random_image(9, 14, 3, seed=1))
    write_image(folder / "deep" / "b.png", random_image(5, 70, 3, dtype=np.uint16, seed=2))
    write_image(folder / "deep" / "er" / "c.tif", random_image(1, 1, 3, seed=3))
    (folder / "notes.txt").write_text("no image")
    return folder


def names(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder(photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert translate(photos, tmp_path / "out", "--weights", weights, "--suffix", "_x2") == 0
    assert names(tmp_path / "out") == ["a_x2.png", "deep/b_x2.png", "deep/er/c_x2.tif"]
    for name in ("a.png", "deep/b.png", "deep/er/c.tif"):
        image = read_image(photos / name)
        result = read_image((tmp_path / "out" / name).with_stem(f"{Path(name).stem}_x2"))
        assert result.dtype == image.dtype
        np.testing.assert_array_equal(result, enlarged(image))
    output = capsys.readouterr()
    assert "3 translated, in " in output.out
    assert not output.err


def test_one_file_in_the_format_of_its_name(photos: Path, weights: Path, tmp_path: Path) -> None:
    assert translate(photos / "a.png", tmp_path / "out" / "b.webp", "--weights", weights) == 0
    assert names(tmp_path / "out") == ["b.webp"]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "b.webp"), enlarged(read_image(photos / "a.png")))


def test_a_pattern_in_another_format(photos: Path, weights: Path, tmp_path: Path) -> None:
    assert translate(photos / "**" / "*.png", tmp_path / "out", "--weights", weights, "--format", "npy") == 0
    assert names(tmp_path / "out") == ["a.npy", "deep/b.npy"]

    result = np.load(tmp_path / "out" / "deep" / "b.npy")
    np.testing.assert_array_equal(result, enlarged(read_image(photos / "deep" / "b.png")))


def test_results_are_those_of_a_call(photos: Path, tmp_path: Path) -> None:
    """A network with statistics of each image, on all kinds of files, tiled as the option says."""
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    network = ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1)
    save_generator(tmp_path / "weights", network=network, spec=GeneratorSpec(input=side, output=side), card="")
    write_image(photos / "large.png", random_image(150, 90, 3))
    options = ("--device", "cpu", "--precision", "fp32", "--tile-px", "64", "--exact", "--batch-size", "2")
    assert translate(photos, tmp_path / "out", "--weights", tmp_path / "weights", *options) == 0
    t = i2i.load(tmp_path / "weights", device="cpu", precision="fp32", tile_px=64, exact=True)
    for name in ("a.png", "deep/b.png", "deep/er/c.tif", "large.png"):
        np.testing.assert_array_equal(read_image(tmp_path / "out" / name), t(photos / name, batch_size=2))


def test_options_reach_the_translator(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    def load(weights: str, **options: Any) -> None:
        given.update(options, weights=weights)
        raise KeyboardInterrupt

    monkeypatch.setattr(i2i, "load", load)
    assert translate(photos, tmp_path / "out", "--weights", "name") == 130
    names = (
        "tile_px exact normalisation dropout input_range output_range style_encoder dont_care instance_edges first_id"
    )
    nothing = dict.fromkeys(names.split())
    assert given == {"weights": "name", "device": "auto", "precision": "auto", "compile": False} | nothing

    given.clear()
    options = "--device cpu --precision bf16 --tile-px 128 --no-exact --compile --normalisation per_image --dropout"
    ranges = "--input-range 0 4095 --output-range -1000 3000 --set blocks=4 --set num_upsampling_layers=more"
    labels = "--style-encoder net_E.pth --dont-care --no-instance-edges --first-id 1"
    every = f"{options} {ranges} {labels}".split()
    assert translate(photos, tmp_path / "out", "--weights", "name", *every) == 130
    assert given == {
        "weights": "name",
        "device": "cpu",
        "precision": "bf16",
        "tile_px": 128,
        "exact": False,
        "compile": True,
        "normalisation": "per_image",
        "dropout": True,
        "input_range": (0.0, 4095.0),
        "output_range": (-1000.0, 3000.0),
        "style_encoder": "net_E.pth",
        "dont_care": True,
        "instance_edges": False,
        "first_id": 1,
        "blocks": 4,
        "num_upsampling_layers": "more",
    }


def test_one_bad_file_does_not_stop_the_rest(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "aa.png").write_bytes(b"")
    (photos / "deep" / "bb.png").write_text("no image at all")
    (photos / "zz.png").write_bytes((photos / "a.png").read_bytes()[:-40])
    assert translate(photos, tmp_path / "out", "--weights", weights) == 1
    assert names(tmp_path / "out") == ["a.png", "deep/b.png", "deep/er/c.tif"]
    output = capsys.readouterr()
    assert "3 translated, 3 failed, in " in output.out
    for bad in ("aa.png", "deep/bb.png", "zz.png"):
        told = [line for line in output.err.splitlines() if str(photos / bad) in line]
        assert len(told) == 1
        assert f"  failed: {told[0]}" in output.out.splitlines()


def test_a_fault_of_ours_does_not_stop_the_rest(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = i2i.Translator.translate_file

    def faulty(self: i2i.Translator, file: ImageFile, **options: Any) -> ImageFile:
        if file.pages[0].dtype == np.uint16:
            raise RuntimeError("a kernel failed")
        return whole(self, file, **options)

    monkeypatch.setattr(i2i.Translator, "translate_file", faulty)
    assert translate(photos, tmp_path / "out", "--weights", weights) == 1
    assert names(tmp_path / "out") == ["a.png", "deep/er/c.tif"]
    assert f"{photos / 'deep' / 'b.png'}: RuntimeError: a kernel failed" in capsys.readouterr().err


def test_existing_results_are_left_alone(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "b.png").write_bytes(b"mine")
    assert translate(photos, tmp_path / "out", "--weights", weights, "--skip-existing") == 0
    assert (tmp_path / "out" / "deep" / "b.png").read_bytes() == b"mine"
    assert "2 translated, 1 skipped" in capsys.readouterr().out
    assert translate(photos, tmp_path / "out", "--weights", weights, "--skip-existing") == 0
    assert "0 translated, 3 skipped" in capsys.readouterr().out
    assert translate(photos, tmp_path / "out", "--weights", weights) == 0
    np.testing.assert_array_equal(
        read_image(tmp_path / "out" / "deep" / "b.png"), enlarged(read_image(photos / "deep" / "b.png"))
    )


def make_many(folder: Path, count: int) -> None:
    for number in range(count):
        write_image(folder / f"{number:03}.png", random_image(64, 64, 3, seed=number))


def wait_for_results(folder: Path, process: subprocess.Popen[str], count: int) -> None:
    deadline = time.monotonic() + 120
    while len(list(folder.glob("[0-9]*.png"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no results"
        time.sleep(0.005)


def check_many(photos: Path, out: Path) -> None:
    assert names(out) == names(photos)
    for name in names(photos):
        np.testing.assert_array_equal(read_image(out / name), enlarged(read_image(photos / name)))


def test_goes_on_after_a_kill(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_many(photos, 100)
    process = start(photos, out, "--weights", weights)
    wait_for_results(out, process, 3)
    process.kill()
    process.communicate()
    done = len(list(out.glob("[0-9]*.png")))
    assert 3 <= done < 100
    (out / ".099.png.part-0123abcd.png").write_bytes(b"half")  # in case that the kill left none
    assert translate(photos, out, "--weights", weights, "--skip-existing") == 0
    assert f"{100 - done} translated, {done} skipped" in capsys.readouterr().out
    check_many(photos, out)


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts differ there")
def test_an_interrupt_says_how_to_go_on(weights: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_many(photos, 100)
    process = start(photos, out, "--weights", weights)
    wait_for_results(out, process, 3)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "Interrupted. The same command with --skip-existing goes on.\n"
    assert "translated" in output
    made = names(out)
    assert 3 <= len(made) < 100
    for name in made:
        np.testing.assert_array_equal(read_image(out / name), enlarged(read_image(photos / name)))


def test_two_processes_share_a_folder(weights: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_many(photos, 9)
    (photos / "004.png").write_bytes(b"")
    processes = [
        start(photos, out, "--weights", weights, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert "process 0 of 2: 4 translated, 1 failed" in outputs[0][0]
    assert "process 1 of 2: 4 translated, in" in outputs[1][0]
    assert [process.returncode for process in processes] == [1, 0]
    (photos / "004.png").unlink()
    check_many(photos, out)


@pytest.mark.slow
def test_torchrun_does_not_end_the_others_for_one_bad_file(weights: Path, tmp_path: Path) -> None:
    """The first process has bad files alone and is soon through; torchrun kills the other when it exits with 1."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_many(photos, 400)
    for path in photos.glob("*[02468].png"):
        path.write_bytes(b"")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = ["-m", "i2i", "translate", str(photos), str(out), "--weights", str(weights)]
    done = subprocess.run([*launcher, *arguments], env=CHILD, capture_output=True, text=True, timeout=200)
    assert "process 0 of 2: 0 translated, 200 failed" in done.stdout
    assert "process 1 of 2: 200 translated, in" in done.stdout
    assert done.returncode == 1
    assert len(names(out)) == 200


def test_two_processes_on_one_file(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, made in (("1", []), ("0", ["a.png"])):
        monkeypatch.setenv("RANK", rank)
        assert translate(photos / "a.png", f"{tmp_path}/out/", "--weights", weights) == 0
        assert names(tmp_path / "out") == made


def test_nothing_can_start(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: str | Path) -> str:
        assert translate(*arguments) == 2
        assert not (tmp_path / "out").exists()
        output = capsys.readouterr()
        assert not output.out
        return output.err

    out = tmp_path / "out"
    assert f"{photos / 'none.png'} does not exist" in refused(photos / "none.png", out / "a.png", "--weights", weights)
    assert str(tmp_path / "nothing") in refused(photos, out, "--weights", tmp_path / "nothing")
    assert f"{photos / 'notes.txt'} is a file" in refused(photos, photos / "notes.txt", "--weights", weights)
    assert "--set blocks" in refused(photos, out, "--weights", weights, "--set", "blocks")
    assert "colour" in refused(photos, out, "--weights", weights, "--set", "colour=red")
    assert "'tpu'" in refused(photos, out, "--weights", weights, "--device", "tpu")
    assert "--batch-size" in refused(photos, out, "--weights", weights, "--batch-size", "0")
    assert "tile_px" in refused(photos, out, "--weights", weights, "--tile-px", "-3")
    monkeypatch.setenv("WORLD_SIZE", "three")
    assert "WORLD_SIZE" in refused(photos, out, "--weights", weights)


def test_sixteen_bits_in_units_of_their_own_stay_sixteen_bits(weights: Path, tmp_path: Path) -> None:
    image = random_image(20, 30, 3, dtype=np.uint16) // 16
    write_image(tmp_path / "scan.png", image)
    result = tmp_path / "enlarged.png"
    assert translate(tmp_path / "scan.png", result, "--weights", weights, "--input-range", "0", "4095") == 0
    np.testing.assert_array_equal(read_image(result), enlarged(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "input_range=[0,4095]"], "--set input_range: give it as --input-range"),
        (["--suffix", "/../evil"], "--suffix: expected a part of a file name"),
    ],
)
def test_options_that_cannot_be_are_told(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert translate(photos, tmp_path / "out", "--weights", weights, *options) == 2
    assert message in capsys.readouterr().err


def test_units_need_a_format_that_holds_them(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network in units of its own returns float, whatever goes in."""
    side = ImageSide(channels=3, dtype="float32", data_range=(0, 200), network_range=(0, 1))
    out, weights = tmp_path / "out", save_enlarger(tmp_path / "physical", side=side)
    assert translate(photos, out, "--weights", weights) == 2
    error = capsys.readouterr().err
    assert "float32" in error
    assert "a.png cannot hold" in error
    assert "--format tif" in error
    assert not out.exists()
    assert translate(photos, out, "--weights", weights, "--format", "tif") == 0
    result = read_image(out / "a.tif")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, enlarged(read_image(photos / "a.png")), atol=1e-4)


def test_a_format_that_cannot_hold_one_result_fails_for_that_one(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translate(photos, tmp_path / "out", "--weights", weights, "--format", "jpg") == 1
    assert names(tmp_path / "out") == ["a.jpg", "deep/er/c.jpg"]
    error = capsys.readouterr().err
    assert str(tmp_path / "out" / "deep" / "b.jpg") in error
    assert "uint16" in error


def test_a_format_that_cannot_hold_a_large_result_is_told_before_the_work(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "LARGE", 3 * 100 * 100)
    seen: list[tuple[int, ...]] = []
    translate_file = i2i.Translator.translate_file

    def watch(self: i2i.Translator, file: ImageFile, **options: Any) -> ImageFile:
        seen.append(file.pages[0].shape)
        return translate_file(self, file, **options)

    monkeypatch.setattr(i2i.Translator, "translate_file", watch)
    write_image(tmp_path / "cutout.png", random_image(200, 120, 4))
    assert translate(tmp_path / "cutout.png", tmp_path / "cutout.jpg", "--weights", weights) == 1
    assert "cutout.jpg: .jpg cannot hold transparency" in capsys.readouterr().err
    assert seen == [(64, 64, 4)]


def test_four_bands_of_float_stay_in_their_units(tmp_path: Path) -> None:
    side = ImageSide(channels=4, dtype="float32", data_range=(-1000, 3000), network_range=(0, 1))
    weights = save_enlarger(tmp_path / "weights", channels=4, side=side)
    image = random_image(20, 31, 4, dtype=np.float32) * 1000
    write_image(tmp_path / "bands.tif", image)
    assert translate(tmp_path / "bands.tif", tmp_path / "out.tif", "--weights", weights) == 0
    np.testing.assert_allclose(read_image(tmp_path / "out.tif"), enlarged(image), atol=1e-3)


def test_what_was_converted_is_told_once(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(random_image(16, 16, 4), "CMYK").save(photos / name)
    write_image(photos / "c.png", random_image(8, 8, 3))
    assert translate(photos, tmp_path / "out", "--weights", weights) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "CMYK" in line]
    assert len(lines) == 1
    assert "(2 images)" in lines[0]


def test_transparency_and_profile_are_kept(tmp_path: Path, weights: Path) -> None:
    image = np.full((6, 7, 4), 200, np.uint8)
    Image.fromarray(image, "RGBA").save(tmp_path / "a.png", icc_profile=b"a profile of colours")
    assert translate(tmp_path / "a.png", tmp_path / "b.png", "--weights", weights) == 0
    with Image.open(tmp_path / "b.png") as result:
        assert result.mode == "RGBA"
        assert result.info["icc_profile"] == b"a profile of colours"
        np.testing.assert_array_equal(np.asarray(result), enlarged(image))


def test_all_pages_are_translated(tmp_path: Path, weights: Path) -> None:
    import tifffile

    pages = random_image(3, 12, 10, 3)
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="rgb")
    assert translate(tmp_path / "pages.tif", tmp_path / "out.tif", "--weights", weights) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), np.stack([enlarged(page) for page in pages]))


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_names_that_are_no_text(tmp_path: Path, weights: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    bad = os.fsdecode(os.fsencode(photos) + b"/bad\xff.png")
    Path(bad).write_bytes(b"")
    good = os.fsdecode(os.fsencode(photos) + b"/good\xff[red].png")
    write_image(tmp_path / "good.png", random_image(4, 4, 3))
    (tmp_path / "good.png").rename(good)
    process = start(photos, tmp_path / "out", "--weights", weights, PYTHONIOENCODING="utf-8:strict")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "1 translated, 1 failed" in output
    assert r"bad\udcff.png: " in output
    assert r"bad\udcff.png: " in errors
    assert "Traceback" not in errors


def test_a_full_disk_ends_the_job(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_many(photos, 9)
    whole = jobs.write_image_file

    def fail_at_third(path: Path, image: ImageFile, *, provenance: Provenance) -> tuple[str, ...]:
        if path.name == "002.png":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return whole(path, image, provenance=provenance)

    monkeypatch.setattr(jobs, "write_image_file", fail_at_third)
    assert translate(photos, out, "--weights", weights) == 1
    assert names(out) == ["000.png", "001.png"]
    output = capsys.readouterr()
    assert "2 translated, in " in output.out
    assert f"{out / '002.png'}: No space left on device." in output.err
    assert "--skip-existing" in output.err


def test_a_place_that_cannot_be_written_fails_for_that_one(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "deep").write_text("a file in the way")
    assert translate(photos, out, "--weights", weights) == 1
    assert names(out) == ["a.png", "deep"]
    assert str(out / "deep") in capsys.readouterr().err


def test_a_bar_on_a_terminal(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert translate(photos, tmp_path / "out", "--weights", weights) == 0
    assert "3/3" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)


def test_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    for every_s, lines in ((0.0, ["1/2 images, 0 s left", "2/2 images, 0 s left"]), (1000.0, [])):
        with FileProgress(total=2, show=True, every_s=every_s) as progress:
            for _ in range(2):
                progress.begin("name")
                progress.within(0.5)
                progress.advance()
        assert capsys.readouterr().out.splitlines() == lines
