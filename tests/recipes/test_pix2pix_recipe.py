"""The recipe as a person runs it: folders in, a generator that loads out, and one sentence for bad input."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import i2i
from i2i.checkpoints import load_network

RECIPE = Path(__file__).parents[2] / "recipes" / "pix2pix.py"
SMALL = (
    *("--steps", "2", "--width", "4", "--depth", "3", "--discriminator-width", "4", "--discriminator-layers", "1"),
    *("--load-size", "36", "--crop-size", "32", "--workers", "0", "--device", "cpu"),
)

Recipe = Callable[..., int]


@pytest.fixture
def recipe(run_recipe: Recipe) -> Recipe:
    return partial(run_recipe, "pix2pix")


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


def test_all_options_at_once(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R1 is taken at the first of sixteen steps only; a run may go on with checkpointing, which changes no number."""
    write_side_by_side(tmp_path / "data" / "train")
    options = ("--diff-augment", "--spectral", "--r1-weight", "10", "--precision", "bf16")
    arguments = ("--data", tmp_path / "data", "--out", tmp_path / "run", *SMALL, *options)
    assert recipe(*arguments) == 0
    assert "penalties are computed in fp32, though the precision is bf16" in capsys.readouterr().out
    assert recipe(*arguments, "--steps", "4", "--checkpointing") == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in log if "losses" in line]
    assert ["r1" in line["losses"] for line in steps] == [True, False, False, False]
    assert not any(line["skipped"] for line in steps)


@pytest.mark.data
def test_fine_tuning_of_golden_files(
    recipe: Recipe, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_side_by_side(tmp_path / "data" / "train", size=128)
    files = []
    for name in ("unet128-batch", "patchgan70-batch"):
        files.append(tmp_path / f"{name}.pth")
        files[-1].write_bytes((data_dir / "golden" / f"junyanz-{name}" / "weights.pth").read_bytes())
    sizes = ("--load-size", "128", "--crop-size", "128", "--steps", "2", "--workers", "0", "--device", "cpu")
    arguments = ("--data", tmp_path / "data", "--out", tmp_path / "run", *sizes, "--normalisation", "per_image")
    initial = ("--init-generator", files[0], "--init-discriminator", files[1])
    assert recipe(*arguments, *initial) == 0
    tuned, before = load_network(tmp_path / "run"), load_network(files[0])
    assert vars(tuned)["arguments"] == vars(before)["arguments"]
    moved = [(a - b).abs().max() for a, b in zip(tuned.parameters(), before.parameters(), strict=True)]
    assert 0 < torch.stack(moved).max() < 5e-4
    assert json.loads((tmp_path / "run" / "generator" / "config.json").read_text())["normalisation"] == "per_image"

    # The same path with other weights is another run.
    weights = torch.load(files[0])
    torch.save({key: value + 1 for key, value in weights.items()}, files[0])
    assert recipe(*arguments, *initial) == 2
    assert "init_generator_sha256" in capsys.readouterr().err


def test_the_generator_of_an_earlier_run_decides_the_sizes(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its depth is 3 where the setting's would be 8; whole images are cut down to its multiple."""
    write_side_by_side(tmp_path / "data" / "train", size=44)
    assert recipe("--data", tmp_path / "data", "--out", tmp_path / "first", *SMALL) == 0
    small = ("--discriminator-width", "4", "--discriminator-layers", "1", "--steps", "2", "--workers", "0")
    again = ("--data", tmp_path / "data", "--init-generator", tmp_path / "first", *small, "--device", "cpu")
    whole = ("--load-size", "None", "--crop-size", "None")
    assert recipe(*again, "--out", tmp_path / "second", *whole) == 0
    assert recipe(*again, "--out", tmp_path / "third", "--load-size", "36", "--crop-size", "36") == 2
    assert "multiples of 8 px" in capsys.readouterr().err


def test_a_generator_of_other_channels_is_refused(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_side_by_side(tmp_path / "data" / "train")
    assert recipe("--data", tmp_path / "data", "--out", tmp_path / "first", *SMALL) == 0
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for name in ("1.png", "2.png"):
            Image.new("L" if side == "a" else "RGB", (40, 40)).save(tmp_path / side / name)
    sides = ("--input-dir", tmp_path / "a", "--target-dir", tmp_path / "b")
    assert recipe(*sides, "--out", tmp_path / "run", *SMALL, "--init-generator", tmp_path / "first") == 2
    assert "first holds a network of 3 channels in and 3 out, and the data needs 1 in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: [file.unlink() for file in (data / "train").iterdir()], "holds no images"),
        (lambda data: (data / "train").rename(data / "trainA"), "trainB"),
        (lambda data: (data / "train" / "1.png").write_bytes(b"not an image"), "1.png"),
        (lambda data: _truncate(data / "train" / "1.png"), "1.png"),
        (
            lambda data: Image.new("RGBA", (80, 40)).save(data / "train" / "1.png"),
            "1.png has a channel count of 4; expected 3",
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
        ("--r1-weight", "-1"),
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


@pytest.mark.parametrize("best", ["frechet_pixels", "fid", "swd"])
def test_a_best_that_is_not_measured_is_refused_before_data_are_read(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], best: str
) -> None:
    assert recipe("--data", tmp_path / "none", "--out", tmp_path / "run", *SMALL, "--best-metric", best) == 2
    assert f"--best-metric {best} is not" in capsys.readouterr().err
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
