"""StyleGAN's recipe as a person runs it, by every way of training."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_sides import write_side

import i2i
from i2i.metrics.classifier import ClassifierTraining

SMALL = (
    *("--steps", "4", "--batch-size", "4", "--size-px", "16", "--width", "4", "--discriminator-width", "4"),
    *("--latent-channels", "3", "--style-channels", "4", "--preview-images", "2", "--workers", "0", "--threads", "1"),
    *("--device", "cpu", "--log-every-steps", "1", "--save-every-steps", "2", "--validate-every-steps", "2"),
    *("--path-length", "2", "--path-length-every-steps", "2", "--r1", "1", "--every-steps", "3", "--ema-decay", "0.9"),
    *("--schedule", "constant"),
)
LAYERS = pytest.mark.parametrize("layers", ["adain", "modulated"])

RunRecipe = Callable[..., int]


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("i2i.training.drawing_figures.CLASSIFIER", ClassifierTraining(steps=2, batch_size=4))
    monkeypatch.setattr("i2i.training.report._curves", lambda *_: "")


def write_photos(data: Path) -> Path:
    for name in ("cats", "dogs"):
        write_side(data / name, *[(20 + number, 24) for number in range(6)])
    return data


def losses_of(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["losses"] | line.get("figures", {}) for line in lines if "losses" in line]


@LAYERS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulation", ["1", "2"])
def test_a_run_that_broke_off_ends_as_it_would_have(
    accumulation: str, precision: str, layers: str, run_recipe: RunRecipe, tmp_path: Path
) -> None:
    data, whole, parts = write_photos(tmp_path / "data"), tmp_path / "whole", tmp_path / "parts"
    options = ("--layers", layers, "--precision", precision, "--accumulation", accumulation)
    assert run_recipe("stylegan", "--data", data, *SMALL, *options, "--out", whole) == 0
    losses = losses_of(whole)
    assert ["mean_path_length" in step for step in losses] == [True, False, True, False]
    assert ["path_length" in step for step in losses] == [False, False, True, False]  # the first starts the mean
    assert ["r1" in step for step in losses] == [True, False, False, True]
    assert all(np.isfinite(list(step.values())).all() for step in losses)
    # What there was after two steps.
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "state" / "step-00000004")
    (parts / "generator" / "generator.safetensors").unlink()
    assert run_recipe("stylegan", "--data", data, *SMALL, *options, "--out", parts) == 0
    for name in ("log.jsonl", "generator/generator.safetensors", "samples/00000004.png"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    sampler = i2i.load(whole)
    drawn = sampler(seed=1, label="dogs")
    assert drawn.shape == (16, 16, 3) and np.array_equal(drawn, sampler(seed=1, label=1))
    assert not np.array_equal(drawn, sampler(seed=2, label=1))


@LAYERS
def test_built_in_streets(layers: str, run_recipe: RunRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("i2i.training.drawing_data.TRAINING_STREETS", 6)
    monkeypatch.setattr("i2i.training.drawing_data.HELD_OUT", 10)
    options = ("--layers", layers, "--mixing", "0", "--path-length", "0")
    assert run_recipe("stylegan", "--out", tmp_path / "run", *SMALL, *options, "--steps", "2") == 0
    assert i2i.load(tmp_path / "run")(seed=1).shape == (16, 16, 3)
    assert losses_of(tmp_path / "run")[0].keys() == {"adversarial", "discriminator", "r1"}


@pytest.mark.slow
@LAYERS
def test_two_processes_go_on_where_they_were(layers: str, tmp_path: Path) -> None:
    """Each remembers the mean of its own path lengths."""
    data = write_photos(tmp_path / "data")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = str(Path(__file__).parents[2] / "recipes" / "stylegan.py")
    for name, steps in (("whole", "4"), ("parts", "2"), ("parts", "4")):
        options = ["--layers", layers, "--accumulation", "2", "--out", str(tmp_path / name)]
        command = [*launcher, script, "--data", str(data), *SMALL, *options, "--steps", steps]
        done = subprocess.run(command, check=True, timeout=240, capture_output=True, text=True)
        assert "2 processes on cpu" in done.stdout
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    weights = [tmp_path / name / "generator" / "generator.safetensors" for name in ("parts", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_bad_input_is_told_in_a_sentence(
    run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_photos(tmp_path / "data")

    def complaint(*options: str) -> str:
        assert run_recipe("stylegan", "--data", data, "--out", tmp_path / "run", *SMALL, *options) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    assert "--mixing must be in [0, 1]" in complaint("--mixing", "2")
    assert "--path-length-every-steps must be at least 1" in complaint("--path-length-every-steps", "0")
    assert "--style-channels must be at least 1" in complaint("--style-channels", "0")
    assert "mapping_rate" in complaint("--mapping-rate", "0")
    assert "--size-px must be a power of two" in complaint("--size-px", "48")
    assert "--minibatch-group is how many samples are compared, at least 2, and is 1: give" in " ".join(
        complaint("--minibatch-group", "1").split()
    )
    assert "--minibatch-group None" in " ".join(complaint("--batch-size", "1").split())
    assert "--widest-px must be" in complaint("--widest-px", "5")
