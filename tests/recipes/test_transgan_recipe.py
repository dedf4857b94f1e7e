"""TransGAN's recipe as a person runs it: images in, a generator that draws out."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_sides import write_side

import i2i
from i2i.metrics.classifier import ClassifierTraining

SMALL = (
    *("--steps", "2", "--batch-size", "4", "--accumulation", "1", "--size-px", "16", "--latent-channels", "3"),
    *(
        "--width",
        "16",
        "--blocks",
        "1",
        "--widest-px",
        "8",
        "--discriminator-width",
        "8",
        "--discriminator-blocks",
        "1",
    ),
    *(
        "--patch-px",
        "2",
        "--scales",
        "2",
        "--heads",
        "2",
        "--discriminator-heads",
        "2",
        "--grid-px",
        "4",
        "--grid-from-px",
        "8",
    ),
    *("--preview-images", "2", "--workers", "0", "--threads", "1", "--device", "cpu", "--log-every-steps", "1"),
)

RunRecipe = Callable[..., int]


@pytest.fixture(autouse=True)
def quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cache of its own, and no curves, which are most of the time of a report."""
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("i2i.training.drawing_figures.CLASSIFIER", ClassifierTraining(steps=2, batch_size=4))
    monkeypatch.setattr("i2i.training.report._curves", lambda *_: "")


def write_photos(data: Path, *classes: str) -> Path:
    for folder in [data / name for name in classes] or [data]:
        write_side(folder, *[(20 + number, 24) for number in range(6)])
    return data


def losses_of(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if "losses" in line]


def test_folders_of_classes_give_a_generator_that_draws_them(run_recipe: RunRecipe, tmp_path: Path) -> None:
    """By the authors' game: a critic with a gradient penalty, seen through augmentation."""
    data, out = write_photos(tmp_path / "data", "cats", "dogs"), tmp_path / "run"
    assert run_recipe("transgan", "--data", data, "--out", out, *SMALL) == 0
    sampler = i2i.load(out)
    drawn = sampler(seed=1, label="dogs")
    assert drawn.shape == (16, 16, 3) and drawn.dtype == np.uint8
    assert np.array_equal(drawn, sampler(seed=1, label=1)) and not np.array_equal(drawn, sampler(seed=2, label=1))
    assert losses_of(out)[0].keys() >= {"adversarial", "discriminator", "gradient_penalty"}
    summary = json.loads((out / "metrics.json").read_text())
    assert summary["metrics"].keys() == {"swd", "variety", "class_agreement"}


def test_built_in_images(run_recipe: RunRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("i2i.training.drawing_data.TRAINING_STREETS", 6)
    monkeypatch.setattr("i2i.training.drawing_data.HELD_OUT", 10)
    out = tmp_path / "run"
    assert run_recipe("transgan", "--out", out, *SMALL) == 0
    assert i2i.load(out)(seed=1).shape == (16, 16, 3)
    assert (out / "pictures" / "nearest.png").exists()


MORE = (
    *("--objective", "hinge", "--r1", "1", "--every-steps", "2", "--gradient-penalty", "0", "--critic-steps", "2"),
    *(
        "--minibatch",
        "stddev",
        "--discriminator-norm",
        "layer",
        "--pooling",
        "mean",
        "--accumulation",
        "2",
        "--replay",
        "8",
    ),
)


def test_a_run_that_broke_off_ends_as_it_would_have(run_recipe: RunRecipe, tmp_path: Path) -> None:
    data, whole, parts = write_photos(tmp_path / "data", "cats", "dogs"), tmp_path / "whole", tmp_path / "parts"
    options = (*SMALL, *MORE, "--steps", "4", "--save-every-steps", "2", "--validate-every-steps", "2")
    assert run_recipe("transgan", "--data", data, "--out", whole, *options) == 0
    # What there was after two steps.
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "state" / "step-00000004")
    made = ("generator/generator.safetensors", "samples/00000004.png", "pictures/nearest.png")
    for name in made:
        (parts / name).unlink()
    assert run_recipe("transgan", "--data", data, "--out", parts, *options) == 0
    assert (parts / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    assert ["r1" in losses for losses in losses_of(whole)] == [True, False, True, False]
    for name in made:
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_sixteen_bits(run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Penalties are computed in 32 bits all the same."""
    data, out = write_photos(tmp_path / "data", "cats", "dogs"), tmp_path / "run"
    assert run_recipe("transgan", "--data", data, "--out", out, *SMALL, "--precision", "bf16") == 0
    assert "fp32, though the precision is bf16" in capsys.readouterr().out
    losses = losses_of(out)
    assert len(losses) == 2 and all("gradient_penalty" in step for step in losses)
    assert all(np.isfinite(list(step.values())).all() for step in losses)


def test_bad_input_is_told_in_a_sentence_before_anything_is_trained(
    run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_photos(tmp_path / "data")

    def complaint(*options: str) -> str:
        assert run_recipe("transgan", "--data", data, "--out", tmp_path / "run", *SMALL, *options) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return " ".join(error.replace("│", " ").split())  # as it was before it was broken into lines

    assert "--size-px must be a power of two" in complaint("--size-px", "48")
    assert "--heads must be at least 1" in complaint("--heads", "0")
    assert "--discriminator-heads must be at least 1" in complaint("--discriminator-heads", "0")
    assert "--discriminator-width must be at least 1" in complaint("--discriminator-width", "0")
    assert "--width must be a multiple of 8, which is --heads 2 times the 4" in complaint("--width", "20")
    assert "give --width 24, or other --heads" in complaint("--heads", "3", "--width", "16")
    said = complaint("--discriminator-width", "6")
    assert "--discriminator-width must be a multiple of 4, which is --discriminator-heads 2 times the 2" in said
    assert "--pixels-a-token must be at most 2 at 16 px" in complaint("--pixels-a-token", "4")
    assert "give --scales 3 or --patch-px 1." in complaint("--scales", "4")
    assert "give --scales 2 or --patch-px 2." in complaint("--scales", "3", "--patch-px", "4")
    assert "give --patch-px 4." in complaint("--patch-px", "16")
    assert "--scales must be at least 1" in complaint("--scales", "0")
    assert "--patch-px must be a power of two of at least 1, and is 3" in complaint("--patch-px", "3")
    assert "--grid-px must be a power of two" in complaint("--grid-px", "3")
    assert "--blocks are the numbers of blocks of the stages" in complaint("--blocks", "1", "0")
    assert "--widest-px must be a power of two of at least 8, and is 12" in complaint("--widest-px", "12")
    # What is suggested fits.
    for number, options in enumerate((("--width", "24", "--heads", "3"), ("--scales", "3"))):
        assert run_recipe("transgan", "--data", data, "--out", tmp_path / str(number), *SMALL, *options) == 0


@pytest.mark.slow
def test_two_processes_go_on_where_they_were(tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data", "cats", "dogs")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = str(Path(__file__).parents[2] / "recipes" / "transgan.py")
    for name, steps in (("whole", "2"), ("parts", "1"), ("parts", "2")):
        options = [*SMALL, *MORE, "--schedule", "constant", "--steps", steps]
        arguments = ["--data", str(data), "--out", str(tmp_path / name), *options]
        subprocess.run([*launcher, script, *arguments], check=True, timeout=240)
    saved = torch.load(tmp_path / "whole" / "state" / "step-00000002" / "processes.pt")
    assert len(saved["processes"]) == 2
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    weights = [tmp_path / name / "generator" / "generator.safetensors" for name in ("parts", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
