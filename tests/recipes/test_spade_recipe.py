"""SPADE's and pix2pixHD's recipes as a person runs them: label maps in, a generator that loads out, clear refusals."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_labels import CLASSES, SMALL, write_labels

import i2i

STYLE = ("--style", "--latent-channels", "4", "--style-width", "2")
HD = ("--blocks", "1", "--downsamplings", "2", "--discriminator-scales", "2")

RunRecipe = Callable[..., int]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


def losses_of(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if "losses" in line]


@pytest.mark.parametrize(
    ("recipe", "options", "more"),
    [
        ("spade", ("--batch-size", "2"), set()),
        ("spade", (*STYLE, "--batch-size", "2"), {"kl"}),
        ("pix2pixhd", HD, set()),
    ],
)
def test_label_maps_and_photos_give_a_generator_that_loads(
    recipe: str, options: tuple[str, ...], more: set[str], run_recipe: RunRecipe, tmp_path: Path
) -> None:
    data, out = write_labels(tmp_path / "data"), tmp_path / "run"
    arguments = ("--data", data, "--out", out, *SMALL, *options, "--segmenter-steps", "3")
    assert run_recipe(recipe, *arguments) == 0
    photo = i2i.load(out)(np.random.default_rng(0).integers(0, CLASSES, (32, 32), np.uint8))
    assert photo.shape == (32, 32, 3) and photo.dtype == np.uint8
    assert losses_of(out)[0].keys() == {"adversarial", "features", "discriminator", *more}
    summary = json.loads((out / "metrics.json").read_text())
    figures = {"read_miou", "read_accuracy", "frechet", "swd", "trained_miou"}
    styles = {"style_colour", "style_miou_change"} if more else set()
    assert summary["metrics"].keys() == figures | styles
    assert summary["baselines"].keys() == {"real photos", "class mean"}
    assert all(row.keys() == figures for row in summary["baselines"].values())
    assert (out / "pictures" / "styles.png").exists() == bool(more)
    page = (out / "report.html").read_text()
    assert "no perceptual loss" in page and ("Styles" in page) == bool(more)
    assert run_recipe(recipe, *arguments) == 0  # found finished, not trained again
    assert len(losses_of(out)) == 2


def test_four_steps_are_two_and_two_more(run_recipe: RunRecipe, tmp_path: Path) -> None:
    data = write_labels(tmp_path / "data", dont_care=True)
    arguments = ("--data", data, *SMALL, *STYLE, "--dont-care", "--batch-size", "2", "--ema-decay", "0.9")
    arguments = (*arguments, "--schedule", "constant", "--validate-every-steps", "2")
    assert run_recipe("spade", *arguments, "--steps", "4", "--out", tmp_path / "whole") == 0
    for steps in ("2", "4"):
        assert run_recipe("spade", *arguments, "--steps", steps, "--out", tmp_path / "parts") == 0
    # Logs differ in one line: a run that ends with step 2 takes the figures then that belong to the end.
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    for name in ("generator/generator.safetensors", "samples/00000004.png", "pictures/styles.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_all_options_at_once(run_recipe: RunRecipe, tmp_path: Path) -> None:
    data, out = write_labels(tmp_path / "data"), tmp_path / "run"
    options = (*STYLE, "--checkpointing", "--precision", "bf16", "--norm", "instance", "--objective", "lsgan")
    options = (*options, "--no-instances", "--discriminator-scales", "1", "--batch-size", "1")
    assert run_recipe("spade", "--data", data, "--out", out, *SMALL, *options) == 0
    assert all(np.isfinite(list(losses.values())).all() for losses in losses_of(out))
    assert json.loads((out / "generator" / "config.json").read_text())["input"]["channels"] == CLASSES


def test_a_run_starts_from_another_ones_generator(run_recipe: RunRecipe, tmp_path: Path) -> None:
    data = write_labels(tmp_path / "data")
    arguments = ("--data", data, *SMALL, *STYLE, "--batch-size", "2")
    assert run_recipe("spade", *arguments, "--out", tmp_path / "first") == 0
    again = (*arguments[:2], *SMALL, "--batch-size", "2", "--init-generator", tmp_path / "first")
    assert run_recipe("spade", *again, "--out", tmp_path / "second") == 0
    assert "kl" in losses_of(tmp_path / "second")[0]


def test_bad_input_is_told_in_a_sentence(
    run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_labels(tmp_path / "data", dont_care=True)

    def complaint(*options: str | Path, name: str = "spade") -> str:
        assert run_recipe(name, "--out", tmp_path / "run", *SMALL, *options) == 2
        return capsys.readouterr().err

    assert "--dont-care" in complaint("--data", data)
    assert "--classes" in complaint("--data", data, "--dont-care", "--classes", "2")
    assert "--perceptual off" in complaint("--data", data, "--dont-care", "--perceptual", "vgg19",
                                           "--perceptual-weights", tmp_path / "none.pth")  # fmt: skip
    assert "--crop-size" in complaint("--data", data, "--dont-care", "--crop-size", "34")
    assert "judge" in complaint("--data", data, "--dont-care", "--judge-ids", "0", "1", "2")
    (tmp_path / "noise.onnx").write_bytes(b"nothing")
    assert "noise.onnx" in complaint("--data", data, "--dont-care", "--judge", tmp_path / "noise.onnx")
    Image.open(data / "train_label" / "0.png").convert("RGB").save(data / "train_label" / "0.jpg")
    (data / "train_label" / "0.png").unlink()
    assert "0.jpg" in complaint("--data", data, "--dont-care")


def test_batch_norm_over_one_image_is_warned_of(
    run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_labels(tmp_path / "data")
    for number, (norm, size, warned) in enumerate(
        [("batch", "1", True), ("sync_batch", "1", True), ("instance", "1", False), ("batch", "2", False)]
    ):
        out = tmp_path / str(number)
        options = ("--norm", norm, "--batch-size", size, "--steps", "1", "--load-size", "64", "--crop-size", "64")
        assert run_recipe("spade", "--data", data, "--out", out, *SMALL, *options) == 0
        assert ("--norm instance" in capsys.readouterr().out) == warned
        assert ("--norm instance" in (out / "report.html").read_text()) == warned


@pytest.mark.slow
def test_two_processes_of_one_image_are_one_of_two(tmp_path: Path) -> None:
    """Batch norm over both processes makes the same of each image as batch norm over the batch; so does all else."""
    data = write_labels(tmp_path / "data")
    recipe = str(Path(__file__).parents[2] / "recipes" / "spade.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, start, batch_size in (("one", [sys.executable], "2"), ("two", launcher, "1")):
        options = ["--norm", "sync_batch", "--batch-size", batch_size, "--load-size", "64", "--crop-size", "64"]
        arguments = ["--data", str(data), "--out", str(tmp_path / name), *SMALL, *options]
        subprocess.run([*start, recipe, *arguments], check=True, timeout=120)
    one, two = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert one[0] == pytest.approx(two[0], rel=1e-4)
    assert one[1] == pytest.approx(two[1], rel=1e-2)  # Adam's first step makes much of roundings
