"""The recipe as a person runs it: folders in, a generator that loads out, and one sentence for bad input."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import i2i

RECIPE = Path(__file__).parents[2] / "recipes" / "pix2pix.py"
SMALL = (
    *("--steps", "2", "--width", "4", "--depth", "3", "--discriminator-width", "4", "--discriminator-layers", "1"),
    *("--load-size", "36", "--crop-size", "32", "--workers", "0", "--device", "cpu"),
)

Recipe = Callable[..., int]


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Runs the recipe in this process; gives its exit code."""

    def call(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", [str(RECIPE), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(RECIPE), run_name="__main__")
        return ended.value.code

    return call


def write_side_by_side(folder: Path, count: int = 3, size: int = 40) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (size, 2 * size, 3), np.uint8)).save(folder / f"{number}.png")


def test_side_by_side_folder_gives_a_generator_that_loads(recipe: Recipe, tmp_path: Path) -> None:
    write_side_by_side(tmp_path / "data" / "train")
    write_side_by_side(tmp_path / "data" / "test", count=2)
    arguments = ("--data", tmp_path / "data", "--direction", "BtoA", "--out", tmp_path / "run", *SMALL)
    assert recipe(*arguments) == 0
    translator = i2i.load(tmp_path / "run")
    photo = translator(np.zeros((45, 70, 3), np.uint8))
    assert photo.shape == (45, 70, 3)
    assert photo.dtype == np.uint8
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert summary["step"] == 2
    assert {"psnr", "ssim", "l1", "sharpness"} <= summary["metrics"].keys()
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("data:image/") >= 3
    assert 'src="data:' in page
    assert "http" not in page.replace("http-equiv", "")
    assert recipe(*arguments) == 0  # the finished run is found, not trained again
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2 + 2


def test_sixteen_bit_five_channels_to_one(recipe: Recipe, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for side in ("bands", "heights"):
        (tmp_path / side).mkdir()
    for number in range(3):
        bands = random.integers(0, 4096, (40, 40, 5), np.uint16)
        tifffile.imwrite(tmp_path / "bands" / f"{number}.tif", bands, photometric="minisblack", planarconfig="contig")
        heights = random.uniform(100, 900, (40, 40)).astype(np.float32)
        tifffile.imwrite(tmp_path / "heights" / f"{number}.tif", heights)
    sides = ("--input-dir", tmp_path / "bands", "--target-dir", tmp_path / "heights", "--input-range", "0", "4095")
    assert recipe(*sides, "--out", tmp_path / "run", *SMALL) == 0
    translator = i2i.load(tmp_path / "run")
    heights = translator(np.full((32, 32, 5), 2000, np.uint16))
    assert heights.shape == (32, 32, 1)
    assert heights.dtype == np.float32
    assert 100 <= heights.min() <= heights.max() <= 900


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: [file.unlink() for file in (data / "train").iterdir()], "holds no images"),
        (lambda data: (data / "train").rename(data / "trainA"), "trainB"),
        (lambda data: (data / "train" / "1.png").write_bytes(b"not an image"), "1.png"),
        (lambda data: _truncate(data / "train" / "1.png"), "1.png"),
        (
            lambda data: Image.new("L", (80, 40)).save(data / "train" / "1.png"),
            "1.png has a channel count of 1; expected 3",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    spoil: Callable[[Path], object], says: str, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_side_by_side(tmp_path / "data" / "train", count=4)
    spoil(tmp_path / "data")
    assert recipe("--data", tmp_path / "data", "--out", tmp_path / "run", *SMALL) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--width", "0"),
        ("--crop-size", "0"),
        ("--l1-weight", "nan"),
        ("--depth", "6"),  # 32 px are no multiple of 64
        ("--discriminator-layers", "4"),  # 32 px are fewer than 48
        ("--input-dir", "elsewhere"),  # beside --data
        ("--generator-learning-rate", "-1"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    option: str, value: str, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recipe("--data", tmp_path, "--out", tmp_path / "run", *SMALL, option, value) == 2
    error = capsys.readouterr().err
    assert option in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_many_sizes_without_a_crop_are_refused(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_side_by_side(tmp_path / "data" / "train", count=3)
    Image.new("RGB", (96, 56)).save(tmp_path / "data" / "train" / "other.png")
    uncropped = ("--load-size", "None", "--crop-size", "None")
    assert recipe("--data", tmp_path / "data", "--out", tmp_path / "run", *SMALL, *uncropped) == 2
    assert "--crop-size" in capsys.readouterr().err


def test_sizes_that_differ_within_a_pair(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, size in (("a", 40), ("b", 44)):
        (tmp_path / side).mkdir()
        for name in ("1.png", "2.png"):
            Image.new("RGB", (size, 40)).save(tmp_path / side / name)
    assert recipe("--input-dir", tmp_path / "a", "--target-dir", tmp_path / "b", "--out", tmp_path / "run") == 2
    assert "44 x 40 px" in capsys.readouterr().err


def test_file_that_spoils_during_training_is_named_and_nothing_is_lost(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pixels of the last file are damaged behind an intact header, which only reading them shows."""
    write_side_by_side(tmp_path / "data" / "train", count=20)
    write_side_by_side(tmp_path / "data" / "test", count=1)
    arguments = ("--data", tmp_path / "data", "--out", tmp_path / "run", *SMALL, "--workers", "1")
    assert recipe(*arguments) == 0
    for file in (tmp_path / "data" / "train").iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    before = sorted((tmp_path / "run" / "state").iterdir())
    assert recipe(*arguments, "--steps", "30") == 2
    error = capsys.readouterr().err
    assert ".png" in error
    assert "Traceback" not in error
    assert sorted((tmp_path / "run" / "state").iterdir()) == before
    assert i2i.load(tmp_path / "run")


def test_folder_of_another_run_is_refused_from_the_shell(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("not a run")
    write_side_by_side(tmp_path / "data" / "train")
    command = [sys.executable, str(RECIPE), "--data", str(tmp_path / "data"), "--out", str(tmp_path), *SMALL]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "is no run's folder" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Traceback" in subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False).stderr


def _truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
