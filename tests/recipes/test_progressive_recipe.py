"""The recipe for progressive growing as a person runs it: stage after stage, broken off anywhere, refused in time."""

import gc
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toy_sides import write_side

import i2i
from i2i.methods.base import Batch
from i2i.methods.progressive import ProgressiveGAN
from i2i.metrics.classifier import ClassifierTraining
from i2i.training.drawing import Drawing, draw
from i2i.training.drawing_data import DrawingTask
from i2i.training.loop import Examine, RunResult, Trainer
from i2i.training.measures import BaselineImages

RECIPE = Path(__file__).parents[2] / "recipes" / "progressive.py"
# Stages of 4, 8 and 16 px, each of four steps.
SMALL = (
    *("--steps", "4", "--stage-steps", "4", "--batch-size", "4", "--size-px", "16", "--width", "4"),
    *("--discriminator-width", "4", "--latent-channels", "3", "--preview-images", "2", "--workers", "0"),
    *("--threads", "1", "--device", "cpu", "--log-every-steps", "1", "--validate-every-steps", "2"),
    *("--save-every-steps", "2", "--ema-decay", "0.9"),
)
STAGES = ("004px", "008px", ".")
ALL_STABILISERS = (
    *("--feature-matching-weight", "1", "--augment", "adaptive", "--ada-ramp-images", "40", "--instance-noise", "0.1"),
    *("--instance-noise-until", "2", "--replay", "8", "--weight-clipping", "2", "--history-weight", "0.1"),
    *("--unrolled-steps", "2", "--unrolled-learning-rate", "0.001", "--objective", "hinge", "--drift", "0.001"),
    *("--gradient-penalty", "10", "--r1", "1", "--r2", "1", "--dragan", "10", "--critic-steps", "2"),
    *("--accumulation", "2", "--precision", "bf16"),
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
    """Reports are most of the time of so short runs."""
    monkeypatch.setattr("i2i.training.report._curves", lambda *_: "")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Noise, of several sizes and two classes."""
    for name in ("cats", "dogs"):
        write_side(tmp_path / "data" / name, *[(20 + number, 24) for number in range(6)])
    return tmp_path / "data"


def logged(out: Path, kind: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[kind] for line in lines if kind in line]


def left_by(out: Path) -> dict[str, bytes]:
    """All that a run leaves of every stage, but for the states, reports, and what tells the time."""
    kinds = ("*.safetensors", "*.png", "log.jsonl")
    return {str(path.relative_to(out)): path.read_bytes() for kind in kinds for path in sorted(out.rglob(kind))}


def test_a_run_grows_to_a_generator_that_draws_classes(
    run_recipe: RunRecipe, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ("--data", data, "--out", out, *SMALL)
    assert run_recipe("progressive", *arguments) == 0
    said = capsys.readouterr().out
    sampler = i2i.load(out)
    drawn = sampler(seed=1, label="dogs")
    assert drawn.shape == (16, 16, 3) and drawn.dtype == np.uint8
    assert np.array_equal(drawn, sampler(seed=1, label=1)) and not np.array_equal(drawn, sampler(seed=2, label=1))
    for number, stage in enumerate(STAGES):
        size = 4 * 2**number
        drawn = i2i.load(out / stage)(seed=1, label="dogs")
        assert drawn.shape == (size, size, 3)
        assert f"Progressive growing at {size} px, stage {number + 1} of 3" in (out / stage / "report.html").read_text()
        assert [losses.keys() for losses in logged(out / stage, "losses")] == [
            {"adversarial", "discriminator", "gradient_penalty", "drift"}
        ] * 4
        summary = json.loads((out / stage / "metrics.json").read_text())
        assert summary["metrics"].keys() == {"swd", "variety"} | ({"class_agreement"} if stage == "." else set())
        assert summary["baselines"].keys() == {"real images", "mean image"}
    assert said.count("10 images to learn from of 2 classes") == 1
    assert (out / "pictures" / "nearest.png").exists()
    assert Image.open(out / "pictures" / "stages.png").info["columns"] == "4 px, 8 px, 16 px"

    before = left_by(out)
    assert run_recipe("progressive", *arguments) == 0  # found finished, not trained again
    assert left_by(out) == before


@pytest.mark.usefixtures("no_curves")
def test_stages_begin_with_what_was_learnt_and_with_images_in_another_order(
    run_recipe: RunRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks of a stage that is over are let go: they may fill an accelerator."""
    shown: list[Tensor] = []
    networks: list[weakref.ref[nn.Module]] = []
    prepare = ProgressiveGAN.prepare

    def note_images(self: ProgressiveGAN, batch: Batch, step: int) -> Batch:
        if step == 0:
            shown.append(torch.cat([batch["real"].flatten(), torch.rand(1)]))
        return prepare(self, batch, step)

    def note_networks(
        drawing: Drawing, *, task: DrawingTask, baseline_images: BaselineImages | None, examine: Examine | None
    ) -> RunResult:
        gc.collect()
        assert not any(network() for network in networks)
        result = draw(drawing, task=task, baseline_images=baseline_images, examine=examine)
        assert result.average is not None
        # Counted from each stage's start, or a new block's initial weights would stay in the average for long.
        assert result.average.updates == drawing.training.steps
        own = drawing.gan.generators | drawing.gan.discriminators
        networks.extend(map(weakref.ref, [*own.values(), *result.average.networks.values()]))
        return result

    monkeypatch.setattr(ProgressiveGAN, "prepare", note_images)
    monkeypatch.setattr("i2i.training.growing.draw", note_networks)
    out = tmp_path / "run"
    assert run_recipe("progressive", "--data", data, "--out", out, *SMALL, "--seed", "7") == 0
    assert len(networks) == 9
    assert all((one != other).any() and one[-1] != other[-1] for one, other in itertools.combinations(shown, 2))
    records = [json.loads((out / stage / "run.json").read_text()) for stage in STAGES]
    assert [record["settings"]["training"]["seed"] for record in records] == [7, 7, 7]
    figures = [logged(out / stage, "metrics") for stage in STAGES]
    for ended, begun in itertools.pairwise(figures):
        assert begun[0] == pytest.approx({name: ended[-1][name] for name in begun[0]}, rel=1e-4)
        assert begun[0] != pytest.approx(begun[-1], rel=1e-2)


@pytest.mark.usefixtures("no_curves")
def test_what_starts_anew_in_each_stage_is_said(
    run_recipe: RunRecipe, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Each stage begins anew with --instance-noise, --replay, --warmup-steps, as if it were a run by itself."
    options = ("--instance-noise", "0.1", "--replay", "4", "--warmup-steps", "2")
    for name, more, times in (("some", options, 1), ("none", (), 0), ("one", (*options, "--first-px", "16"), 0)):
        arguments = ("--data", data, "--out", tmp_path / name, *SMALL, "--stage-steps", "1", *more)
        assert run_recipe("progressive", *arguments) == 0
        assert " ".join(capsys.readouterr().out.split()).count(said) == times


@pytest.mark.usefixtures("no_curves")
def test_built_in_images_and_a_first_stage_of_8_px(
    run_recipe: RunRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("i2i.training.drawing_data.TRAINING_STREETS", 6)
    monkeypatch.setattr("i2i.training.drawing_data.HELD_OUT", 10)
    out = tmp_path / "run"
    (out / "008px").mkdir(parents=True)  # as a run leaves it that was killed as it began
    assert run_recipe("progressive", "--out", out, *SMALL, "--first-px", "8") == 0
    assert i2i.load(out)(seed=1).shape == (16, 16, 3)
    assert (out / "008px").exists() and not (out / "004px").exists()
    assert run_recipe("progressive", "--out", tmp_path / "one", *SMALL, "--first-px", "16") == 0
    assert [path.name for path in (tmp_path / "one").glob("*px")] == []


# Ends this process by SIGKILL at the n-th call of a function, counted over all stages, while it runs the recipe.
KILLED = """
import os, runpy, signal, sys
from i2i.training import drawing, loop
script, place, count, *arguments = sys.argv[1:]
owner, name = {"step": (loop.Trainer, "step"), "stage": (drawing, "train")}[place]
original, left = getattr(owner, name), [int(count)]
def counting(*arguments, **named):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)
setattr(owner, name, counting)
sys.argv = [script, *arguments]
runpy.run_path(script, run_name="__main__")
"""


def run_and_kill(place: str, count: int, *arguments: str | Path) -> None:
    command = [sys.executable, "-c", KILLED, str(RECIPE), place, str(count), *map(str, arguments)]
    ended = subprocess.run(command, timeout=240, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@pytest.mark.usefixtures("no_curves")
def test_a_run_that_was_killed_ends_as_it_would_have(run_recipe: RunRecipe, data: Path, tmp_path: Path) -> None:
    """With all that steadies at once, in the middle of the second stage, and as it was to begin."""
    arguments = ("--data", data, *SMALL, *ALL_STABILISERS, "--no-labels")
    assert run_recipe("progressive", *arguments, "--out", tmp_path / "whole") == 0
    expected = left_by(tmp_path / "whole")
    assert {str(Path(stage) / "generator" / "generator.safetensors") for stage in STAGES} <= expected.keys()
    assert all(len(logged(tmp_path / "whole" / stage, "losses")) == 4 for stage in STAGES)
    for place, count, begun in (("stage", 2, 1), ("step", 8, 2)):
        out = tmp_path / f"{place} {count}"
        run_and_kill(place, count, *arguments, "--out", out)
        assert len(list(out.glob("*px"))) == begun and not (out / "log.jsonl").exists()
        assert run_recipe("progressive", *arguments, "--out", out) == 0
        assert left_by(out) == expected


@pytest.mark.usefixtures("no_curves")
def test_a_run_that_was_asked_to_end_begins_no_other_stage(
    run_recipe: RunRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when it is asked at a stage's last step, which ends the stage."""
    arguments = ("--data", data, *SMALL, "--no-labels")
    assert run_recipe("progressive", *arguments, "--out", tmp_path / "whole") == 0
    step = Trainer.step
    for last in (2, 4):
        out, steps = tmp_path / f"parts {last}", []

        def asked(self: Trainer, number: int, *, stop: bool = False, steps: list[int] = steps, last: int = last):  # type: ignore
            steps.append(number)
            if len(steps) == last:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, number, stop=stop)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "step", asked)
            assert run_recipe("progressive", *arguments, "--out", out) == 130
        assert [path.name for path in out.glob("*px")] == ["004px"] and last <= len(steps) <= 4
        assert run_recipe("progressive", *arguments, "--out", out) == 0
        assert left_by(out) == left_by(tmp_path / "whole")


@pytest.fixture
def nothing_trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on a test fails where anything is trained."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("something was trained")

    def forbid() -> None:
        monkeypatch.setattr("i2i.training.drawing.train", asked)
        monkeypatch.setattr("i2i.training.drawing_figures.cached_classifier", asked)

    return forbid


def test_what_cannot_be_is_told_before_anything_is_trained(
    run_recipe: RunRecipe,
    data: Path,
    tmp_path: Path,
    nothing_trained: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    nothing_trained()

    def complaint(*options: str | Path) -> str:
        assert run_recipe("progressive", "--data", data, "--out", out, *SMALL, *options) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return " ".join(error.replace("│", " ").split())  # as it was before it was broken into lines

    assert "--size-px must be a power of two of at least 16, and is 48" in complaint("--size-px", "48")
    for side in ("2", "0", "12"):
        assert f"--first-px must be a power of two of at least 4, and is {side}" in complaint("--first-px", side)
    assert "--first-px 32 is above --size-px 16" in complaint("--first-px", "32")
    assert "--stage-steps must be at least 1" in complaint("--stage-steps", "0")
    for share in ("-0.1", "1.5", "nan"):
        assert "--fade-share must be from 0 to 1" in complaint(f"--fade-share={share}")
    assert "fades in over 10" in complaint("--stage-steps", "20")
    assert "--drift must be at least 0" in complaint("--drift=-1")
    assert "--width must be at least 1" in complaint("--width", "0")
    assert "--widest-px must be a power of two of at least 4, and is 3" in complaint("--widest-px", "3")
    assert "--batch-size is 1" in complaint("--batch-size", "1")
    assert "swd or variety" in complaint("--best-metric", "class_agreement")
    assert "fp16" in complaint("--precision", "fp16")
    assert "metrics.json" in complaint("--compare", tmp_path / "none")
    assert "mismatched-share" in complaint("--mismatched-share", "0.3")
    # What stands in the way of a later stage alone.
    write_side(out / "008px", (8, 8))
    assert "008px exists and is no run's folder" in complaint()
    shutil.rmtree(out)
    write_side(out, (8, 8))
    assert "run exists and is no run's folder" in complaint()


@pytest.mark.usefixtures("no_curves")
def test_a_run_does_not_go_on_with_other_settings(
    run_recipe: RunRecipe,
    data: Path,
    tmp_path: Path,
    nothing_trained: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("--data", data, "--out", tmp_path / "run", *SMALL, "--no-labels")
    assert run_recipe("progressive", *arguments) == 0
    # A last stage may be made longer, and goes on from where it was.
    assert run_recipe("progressive", *arguments, "--steps", "5") == 0
    assert len(logged(tmp_path / "run", "losses")) == 5
    nothing_trained()
    for name, was, now in (
        ("fade_share", "0.5", "0.25"),
        ("stage_steps", "4", "6"),
        ("first_px", "4", "8"),
        ("seed", "0", "1"),
        ("width", "4", "5"),
        ("batch_size", "4", "3"),
    ):
        capsys.readouterr()
        assert run_recipe("progressive", *arguments, f"--{name.replace('_', '-')}", now, "--steps", "5") == 2
        assert f"{name}: was {was}, now {now}" in capsys.readouterr().err


@pytest.mark.usefixtures("no_curves")
def test_a_run_that_got_no_further_than_its_first_stage_does_not_go_on_with_other_settings(
    run_recipe: RunRecipe,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nothing_trained: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nor with a first stage of another size, which has a folder of its own."""
    out, step = tmp_path / "run", Trainer.step

    def asked(self: Trainer, number: int, *, stop: bool = False):  # type: ignore
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, stop=stop)

    def complaint(*options: str) -> str:
        capfd.readouterr()
        assert run_recipe("progressive", *arguments, *options) == 2
        return " ".join(capfd.readouterr().err.replace("│", " ").split())

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", asked)
        for first in ("4", "8"):
            arguments = ("--data", data, "--out", out / first, *SMALL, "--no-labels")
            assert run_recipe("progressive", *arguments, "--first-px", first) == 130
            printed = capfd.readouterr()
            assert printed.err.count("Stopping after this step; Ctrl-C again ends at once, unsaved.\n") == 1
            said = " ".join(printed.out.split())
            assert f"Stage 1 of {3 if first == '4' else 2}, {first} px" in said
            assert f"Interrupted, and saved {out / first / f'{int(first):03d}px'} at step" in said
    nothing_trained()
    before = left_by(out)
    arguments = ("--data", data, "--out", out / "4", *SMALL, "--no-labels")
    for first in ("8", "16"):
        assert "004px is a stage of a run with another --first-px" in complaint("--first-px", first)
    for name, was, now in (("stage_steps", 4, 3), ("width", 4, 5), ("fade_share", 0.5, 0.25), ("drift", 0.001, 0.0)):
        assert f"{name}: was {was}, now {now}" in complaint(f"--{name.replace('_', '-')}", str(now))
    assert "size_px: was 16, now 32" in complaint("--size-px", "32")
    arguments = ("--data", data, "--out", out / "8", *SMALL, "--no-labels")
    assert "first_px: was 8, now 4" in complaint("--first-px", "4")
    assert "008px is a stage of a run with another --first-px" in complaint("--first-px", "16")
    assert left_by(out) == before
    assert {path.name for folder in out.iterdir() for path in folder.iterdir()} == {"004px", "008px"}


@pytest.mark.slow
def test_two_processes_go_on_where_they_were(data: Path, tmp_path: Path) -> None:
    """Broken off in the second stage, by a first run whose last stages had fewer steps to go."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = ["--data", str(data), *SMALL, *ALL_STABILISERS, "--no-labels"]

    def launch(out: Path, *more: str) -> None:
        subprocess.run([*launcher, str(RECIPE), *options, "--out", str(out), *more], check=True, timeout=400)

    launch(tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["processes"] == 2
    # What there was after two steps of the second stage.
    parts = shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for path in parts.iterdir():
        if path.name not in ("004px", "008px"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(parts / "008px" / "state" / "step-00000004")
    (parts / "008px" / "generator" / "generator.safetensors").unlink()
    launch(parts)
    assert left_by(parts) == left_by(tmp_path / "whole")
