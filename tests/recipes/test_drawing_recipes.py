"""DCGAN's, WGAN-GP's, SNGAN's and BigGAN's recipes as a person runs them: images in, a generator that draws out."""

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
from i2i.training import drawing_figures

RECIPES = ("dcgan", "wgan_gp", "sngan_conditional", "biggan")
RESIDUAL = ("sngan_conditional", "biggan")  # whose discriminators have no norm to be left out
SMALL = (
    *("--steps", "2", "--batch-size", "4", "--size-px", "16", "--width", "4", "--discriminator-width", "4"),
    *("--latent-channels", "3", "--preview-images", "2", "--workers", "0", "--threads", "1", "--device", "cpu"),
)

RunRecipe = Callable[..., int]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def quick_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("i2i.training.drawing_figures.CLASSIFIER", ClassifierTraining(steps=2, batch_size=4))


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are most of the time of runs with many losses."""
    monkeypatch.setattr("i2i.training.report._curves", lambda *_: "")


def write_photos(data: Path, *classes: str, count: int = 6) -> Path:
    """Noise of several sizes, in a folder for each class or in one."""
    for folder in [data / name for name in classes] or [data]:
        write_side(folder, *[(20 + number, 24) for number in range(count)])
    return data


def losses_of(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if "losses" in line]


@pytest.mark.parametrize(
    ("recipe", "terms"),
    [
        ("dcgan", {"adversarial", "discriminator"}),
        ("wgan_gp", {"adversarial", "discriminator", "gradient_penalty"}),
        ("sngan_conditional", {"adversarial", "discriminator"}),
        ("biggan", {"adversarial", "discriminator", "orthogonality"}),
    ],
)
def test_folders_of_classes_give_a_generator_that_draws_them(
    recipe: str, terms: set[str], run_recipe: RunRecipe, tmp_path: Path
) -> None:
    data, out = write_photos(tmp_path / "data", "cats", "dogs"), tmp_path / "run"
    arguments = ("--data", data, "--out", out, *SMALL, "--log-every-steps", "1")
    assert run_recipe(recipe, *arguments) == 0
    sampler = i2i.load(out)
    drawn = sampler(seed=1, label="dogs")
    assert drawn.shape == (16, 16, 3) and drawn.dtype == np.uint8
    assert np.array_equal(drawn, sampler(seed=1, label=1)) and not np.array_equal(drawn, sampler(seed=2, label=1))
    assert losses_of(out)[0].keys() >= terms
    summary = json.loads((out / "metrics.json").read_text())
    assert summary["metrics"].keys() == {"swd", "variety", "class_agreement"}
    assert summary["baselines"]["real images"].keys() == {"swd", "variety", "class_agreement"}
    assert summary["baselines"]["mean image"].keys() == {"swd", "variety"}
    assert (out / "pictures" / "nearest.png").exists()
    page = (out / "report.html").read_text()
    assert "10 images to learn from of 2 classes" in page and "Held out are 2." in page
    assert "Held-out figures are over so few images (2) that they say little." in page
    assert run_recipe(recipe, *arguments) == 0  # found finished, not trained again
    assert len(losses_of(out)) == 2


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("cut", ["--crops", "--no-crops"])
def test_images_without_classes(recipe: str, cut: str, run_recipe: RunRecipe, tmp_path: Path) -> None:
    data, out = write_photos(tmp_path / "data", count=4), tmp_path / "run"
    assert run_recipe(recipe, "--data", data, "--out", out, *SMALL, cut, "--batch-size", "2") == 0
    assert i2i.load(out)(seed=1).shape == (16, 16, 3)
    page = (out / "report.html").read_text()
    assert "4 images to learn from," in page and "too few to hold any out" in page and "adaptive" in page


@pytest.mark.parametrize(
    ("recipe", "labels"), [("dcgan", ()), ("sngan_conditional", ("--no-labels",)), ("biggan", ("--no-labels",))]
)
def test_built_in_images(
    recipe: str,
    labels: tuple[str, ...],
    run_recipe: RunRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("i2i.training.drawing_data.TRAINING_STREETS", 6)
    monkeypatch.setattr("i2i.training.drawing_data.TRAINING_SHAPES", 40)
    monkeypatch.setattr("i2i.training.drawing_data.HELD_OUT", 10)
    assert run_recipe(recipe, "--out", tmp_path / "run", *SMALL, *labels) == 0
    assert i2i.load(tmp_path / "run")(seed=1).shape == (16, 16, 3)


ALL_STABILISERS = (
    *("--feature-matching-weight", "1", "--augment", "adaptive", "--ada-ramp-images", "40", "--instance-noise", "0.1"),
    *("--instance-noise-until", "2", "--mismatched-share", "0.3"),
    *("--replay", "8", "--weight-clipping", "0.1", "--history-weight", "0.1", "--unrolled-steps", "2"),
    *("--orthogonal-weight", "0.01"),
    *("--unrolled-learning-rate", "0.001"),
    *("--gradient-penalty", "10", "--r1", "1", "--r2", "1", "--dragan", "10", "--minibatch", "stddev", "--spectral"),
    *("--ema-decay", "0.9", "--critic-steps", "2"),
)


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_that_broke_off_ends_as_it_would_have(recipe: str, run_recipe: RunRecipe, tmp_path: Path) -> None:
    """With all that steadies at once, and what of it has a memory."""
    data, whole, parts = write_photos(tmp_path / "data", "cats", "dogs"), tmp_path / "whole", tmp_path / "parts"
    norm = () if recipe in RESIDUAL else ("--discriminator-norm", "none")
    options = (*SMALL, *ALL_STABILISERS, *norm, "--objective", "hinge", "--steps", "4", "--log-every-steps", "1")
    arguments = ("--data", data, *options, "--save-every-steps", "2", "--validate-every-steps", "2")
    assert run_recipe(recipe, *arguments, "--out", whole) == 0
    # What there was after two steps.
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "state" / "step-00000004")
    made = ("generator/generator.safetensors", "samples/00000004.png", "pictures/nearest.png")
    for name in made:
        (parts / name).unlink()
    assert run_recipe(recipe, *arguments, "--out", parts) == 0
    assert (parts / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    assert len(losses_of(whole)) == 4
    for name in made:
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_sixteen_bits(recipe: str, run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Penalties are computed in 32 bits all the same, and the report says so."""
    data, out = write_photos(tmp_path / "data", "cats", "dogs"), tmp_path / "run"
    norm = () if recipe in RESIDUAL else ("--discriminator-norm", "none")
    options = ("--precision", "bf16", "--r1", "10", "--every-steps", "2", *norm, "--log-every-steps", "1")
    assert run_recipe(recipe, "--data", data, "--out", out, *SMALL, *options) == 0
    assert "fp32, though the precision is bf16" in capsys.readouterr().out
    assert "fp32, though the precision is bf16" in (out / "report.html").read_text()
    assert ["r1" in losses for losses in losses_of(out)] == [True, False]
    assert all(np.isfinite(list(losses.values())).all() for losses in losses_of(out))


@pytest.fixture
def no_classifier(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on a test fails where a classifier is trained, or even looked up."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a classifier was asked for")

    return lambda: monkeypatch.setattr(drawing_figures, "cached_classifier", asked)


def test_bad_input_is_told_in_a_sentence_before_anything_is_trained(
    run_recipe: RunRecipe,
    tmp_path: Path,
    no_classifier: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = write_photos(tmp_path / "data", "cats", "dogs"), tmp_path / "run"
    no_classifier()

    def complaint(recipe: str, *options: str | Path) -> str:
        assert run_recipe(recipe, "--data", data, "--out", out, *SMALL, *options) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    assert "--discriminator-norm none" in complaint("dcgan", "--r1", "10")
    assert "unrolled steps" in complaint("wgan_gp", "--discriminator-norm", "instance", "--unrolled-steps", "2")
    assert "--batch-size is 1" in complaint("sngan_conditional", "--minibatch", "stddev", "--batch-size", "1")
    assert "--size-px must be a power of two" in complaint("dcgan", "--size-px", "48")
    assert "--size-px must be a power of two of at least 16" in complaint("dcgan", "--size-px", "8")
    assert "--no-crops" in complaint("dcgan", "--crops", "--size-px", "64")
    assert "labels that could be smoothed" in complaint("wgan_gp", "--real-label", "0.9")
    assert "--augment diff" in complaint("wgan_gp", "--augment", "adaptive")
    assert "--width" in complaint("dcgan", "--width", "0")
    assert "--replay" in complaint("dcgan", "--replay", "-1")
    assert "attention_px" in complaint("sngan_conditional", "--attention-px", "5")
    assert "a multiple of 3, such as 9 or 12, got 10" in complaint("biggan", "--latent-channels", "10")
    assert "--shared-embedding" in complaint("biggan", "--shared-embedding", "-1")
    assert "swd or variety" in complaint("dcgan", "--best-metric", "class_agreement")
    assert "fp16" in complaint("dcgan", "--precision", "fp16")
    assert "metrics.json" in complaint("wgan_gp", "--compare", tmp_path / "none")
    assert "no folder" in complaint("dcgan", "--data", tmp_path / "nowhere")
    (data / "birds").mkdir()
    assert "'birds'" in complaint("dcgan")
    (data / "birds").rmdir()
    write_side(out, (8, 8))
    assert "is no run's folder" in complaint("dcgan")


def test_another_run_in_the_folder_is_told_before_anything_is_trained(
    run_recipe: RunRecipe, tmp_path: Path, no_classifier: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--data", write_photos(tmp_path / "data", "cats", "dogs"), "--out", tmp_path / "run", *SMALL)
    assert run_recipe("dcgan", *arguments) == 0
    no_classifier()
    assert run_recipe("dcgan", *arguments, "--seed", "1") == 2
    assert "belongs to a run with other settings" in capsys.readouterr().err


def test_a_classifier_that_was_kept_learns_nothing(
    run_recipe: RunRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(drawing_figures, "StepsBar", lambda title: lambda done, steps: said.append((done, steps)))
    data = write_photos(tmp_path / "data", "cats", "dogs")
    for out, learns in (("first", True), ("second", False)):
        assert run_recipe("dcgan", "--data", data, "--out", tmp_path / out, *SMALL) == 0
        assert bool(said) == learns
        said.clear()


def test_a_class_that_is_not_there_is_refused(
    run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_photos(tmp_path / "data", "cats", "dogs"), tmp_path / "run"
    assert run_recipe("sngan_conditional", "--data", data, "--out", out, *SMALL) == 0
    with pytest.raises(i2i.errors.InputError, match="2"):
        i2i.load(out)(seed=1, label=2)


def test_a_critic_that_nothing_holds_is_warned_of(
    run_recipe: RunRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_photos(tmp_path / "data")
    for number, (options, warned) in enumerate([((), True), (("--weight-clipping", "0.01"), False)]):
        out = tmp_path / str(number)
        assert run_recipe("wgan_gp", "--data", data, "--out", out, *SMALL, "--gradient-penalty", "0", *options) == 0
        assert ("nothing holds the critic's slope" in capsys.readouterr().out) == warned


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_go_on_where_they_were(recipe: str, tmp_path: Path) -> None:
    """With all that steadies at once: each process remembers what is its own, and what is shared stays alike."""
    data = write_photos(tmp_path / "data", "cats", "dogs")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = str(Path(__file__).parents[2] / "recipes" / f"{recipe}.py")
    norm = () if recipe in RESIDUAL else ("--discriminator-norm", "none")
    options = [*ALL_STABILISERS, *norm, "--objective", "hinge", "--schedule", "constant", "--log-every-steps", "1"]
    for name, steps in (("whole", "2"), ("parts", "1"), ("parts", "2")):
        arguments = ["--data", str(data), "--out", str(tmp_path / name), *SMALL, *options, "--steps", steps]
        subprocess.run([*launcher, script, *arguments], check=True, timeout=240)
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    weights = [tmp_path / name / "generator" / "generator.safetensors" for name in ("parts", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
