"""The recipe as a person runs it: two folders in, a generator that loads out, and one sentence for bad input."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import i2i

SMALL = (
    *("--steps", "2", "--width", "4", "--blocks", "2", "--discriminator-width", "4", "--discriminator-layers", "1"),
    *("--load-size", "36", "--crop-size", "32", "--workers", "0", "--device", "cpu"),
)
FAST = ("--nce-weight", "10", "--identity-nce-weight", "0", "--flip-equivariance")

RunRecipe = Callable[..., int]


def write_sides(folder: Path, *, a_mode: str = "RGB") -> Path:
    """Sides of different sizes and counts, as `--data` takes them."""
    random = np.random.default_rng(0)
    for name, count, size, mode in (("trainA", 3, 40, a_mode), ("trainB", 5, 48, "RGB"), ("testA", 2, 40, a_mode)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (size, size, 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{number}.png")
    (folder / "testB").symlink_to(folder / "trainB")
    return folder


@pytest.mark.parametrize(("variant", "terms"), [((), {"nce_fake_b", "nce_same_b"}), (FAST, {"nce_fake_b"})])
def test_two_folders_give_a_generator_that_loads(
    variant: tuple[str, ...], terms: set[str], run_recipe: RunRecipe, tmp_path: Path
) -> None:
    data, out = write_sides(tmp_path / "data"), tmp_path / "run"
    assert run_recipe("cut", "--data", data, "--out", out, *SMALL, *variant) == 0
    assert i2i.load(out)(np.zeros((45, 70, 3), np.uint8)).shape == (45, 70, 3)
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [line["losses"] for line in steps if "losses" in line]
    assert len(losses) == 2
    assert losses[0].keys() == {"adversarial", "discriminator", *terms}
    assert json.loads((out / "metrics.json").read_text())["metrics"].keys() == {"swd"}
    page = (out / "report.html").read_text()
    assert "The generator makes B of A." in page
    assert run_recipe("cut", "--data", data, "--out", out, *SMALL, *variant) == 0  # found finished, not trained again


def test_sides_with_different_channels_are_refused(
    run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_sides(tmp_path / "data", a_mode="L")
    assert run_recipe("cut", "--data", data, "--out", tmp_path / "run", *SMALL) == 2
    error = capsys.readouterr().err
    assert "A have 1 channels and those of B 3" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("option", "value"), [("--blocks", "0"), ("--patches", "0"), ("--nce-weight", "-1"), ("--r1-weight", "nan")]
)
def test_options_that_cannot_be_used_are_named(
    option: str, value: str, run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_recipe("cut", "--data", tmp_path, "--out", tmp_path / "run", *SMALL, option, value) == 2
    error = capsys.readouterr().err
    assert option in error
    assert "Traceback" not in error
