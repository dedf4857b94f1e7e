"""The recipe as a person runs it: two folders in, a generator that loads out, and one sentence for bad input."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_sides import SMALL, write_side, write_sides

import i2i
from i2i.checkpoints import load_network

FAST = ("--nce-weight", "10", "--identity-nce-weight", "0", "--flip-equivariance")

RunRecipe = Callable[..., int]


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
    assert f"A is {data / 'trainA'} (3 images" in page and f"B is {data / 'trainB'} (5 images" in page
    assert "The generator makes B of A." in page
    assert run_recipe("cut", "--data", data, "--out", out, *SMALL, *variant) == 0  # found finished, not trained again


@pytest.mark.parametrize("workers", ["0", "2"])
def test_four_steps_are_two_and_two_more(workers: str, run_recipe: RunRecipe, tmp_path: Path) -> None:
    """With the projector, crops, dropout, an average of weights, and mirrored steps."""
    data = write_sides(tmp_path / "data")
    options = ("--workers", workers, "--flip-equivariance", "--dropout", "--ema-decay", "0.9", "--schedule", "constant")
    arguments = ("--data", data, *SMALL, *options, "--validate-every-steps", "2")
    assert run_recipe("cut", *arguments, "--steps", "4", "--out", tmp_path / "whole") == 0
    for steps in ("2", "4"):
        assert run_recipe("cut", *arguments, "--steps", steps, "--out", tmp_path / "parts") == 0
    for name in ("log.jsonl", "generator/generator.safetensors", "samples/00000004.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_all_options_at_once(run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_sides(tmp_path / "data"), tmp_path / "run"
    options = (
        *("--spectral", "--diff-augment", "--r1-weight", "10", "--upsampling", "resize", "--skips"),
        *("--residual", "1.5", "--dropout", "--norm", "batch", "--checkpointing", "--precision", "bf16"),
    )
    assert run_recipe("cut", "--data", data, "--out", out, *SMALL, *options) == 0
    assert "penalties are computed in fp32, though the precision is bf16" in capsys.readouterr().out
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert ["r1" in line["losses"] for line in steps if "losses" in line] == [True, False]
    assert not any(line.get("skipped") for line in steps)


@pytest.mark.data
def test_fine_tuning_of_a_golden_resnet(
    run_recipe: RunRecipe, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A U-Net has no features to compare."""
    data, out = write_sides(tmp_path / "data"), tmp_path / "run"
    resnet, unet = (
        data_dir / "golden" / f"junyanz-{name}" / "weights.pth" for name in ("resnet9-instance", "unet128-batch")
    )
    assert run_recipe("cut", "--data", data, "--out", out, *SMALL, "--init-generator", resnet) == 0
    tuned, before = load_network(out), load_network(resnet)
    assert tuned.arguments == before.arguments
    moved = [(a - b).abs().max() for a, b in zip(tuned.parameters(), before.parameters(), strict=True)]
    assert 0 < torch.stack(moved).max() < 5e-4
    sizes = ("--load-size", "128", "--crop-size", "128")
    assert run_recipe("cut", "--data", data, "--out", tmp_path / "other", *SMALL, *sizes, "--init-generator", unet) == 2
    assert f"{unet} holds a UNetGenerator, and CUT compares features inside of a ResNet" in capsys.readouterr().err


def test_the_generator_of_an_earlier_run_decides_what_is_compared(run_recipe: RunRecipe, tmp_path: Path) -> None:
    """It has two blocks, where the fifth of nine would be looked for."""
    data = write_sides(tmp_path / "data")
    assert run_recipe("cut", "--data", data, "--out", tmp_path / "first", *SMALL) == 0
    initial = ("--init-generator", tmp_path / "first", "--blocks", "9")
    assert run_recipe("cut", "--data", data, "--out", tmp_path / "second", *SMALL, *initial) == 0
    assert load_network(tmp_path / "second").arguments["blocks"] == 2


def test_whole_images_of_many_sizes(run_recipe: RunRecipe, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for side, sizes in (("A", [(40, 44), (52, 36), (90, 47)]), ("B", [(64, 64), (41, 80)])):
        write_side(data / f"train{side}", *sizes)
    whole = ("--load-size", "None", "--crop-size", "None", "--steps", "4")
    assert run_recipe("cut", "--data", data, "--out", tmp_path / "run", *SMALL, *whole) == 0


def test_sides_with_different_channels_are_refused(
    run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_sides(tmp_path / "data", a_mode="L")
    assert run_recipe("cut", "--data", data, "--out", tmp_path / "run", *SMALL) == 2
    error = capsys.readouterr().err
    assert "number of channels (1 and 3)" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--blocks", "0"),
        ("--patches", "0"),
        ("--nce-weight", "-1"),
        ("--r1-weight", "nan"),
        ("--crop-size", "-4"),
        ("--discriminator-layers", "4"),  # 32 px are fewer than 48
    ],
)
def test_options_that_cannot_be_used_are_named(
    option: str, value: str, run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_recipe("cut", "--data", tmp_path, "--out", tmp_path / "run", *SMALL, option, value) == 2
    error = capsys.readouterr().err
    assert option in error
    assert "Traceback" not in error
