"""The recipe as a person runs it: two folders in, two generators that load out, and one sentence for bad input."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor
from toy_sides import SMALL, write_side, write_sides

import i2i
from i2i.checkpoints import load_network
from i2i.data.image_io import write_image
from i2i.training.state import load_state

RECIPE = Path(__file__).parents[2] / "recipes" / "cyclegan.py"
WEIGHTS = ("a_to_b/generator.safetensors", "b_to_a/generator.safetensors")

Recipe = Callable[..., int]


@pytest.fixture
def recipe(run_recipe: Recipe) -> Recipe:
    return partial(run_recipe, "cyclegan")


def log(run: Path, kind: str) -> list[Any]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line[kind] for line in lines if kind in line]


def test_two_folders_give_two_generators_that_load(recipe: Recipe, tmp_path: Path) -> None:
    data, out = write_sides(tmp_path / "data"), tmp_path / "run"
    assert recipe("--data", data, "--out", out, *SMALL) == 0
    for name in ("a_to_b", "b_to_a"):
        assert i2i.load(out / name)(np.zeros((45, 70, 3), np.uint8)).shape == (45, 70, 3)
    losses = log(out, "losses")
    assert len(losses) == 2
    kinds = ("adversarial", "cycle", "identity", "discriminator")
    assert losses[0].keys() == {f"{kind}_{side}" for kind in kinds for side in "ab"}
    summary = json.loads((out / "metrics.json").read_text())
    assert summary["metrics"].keys() == {"swd", "swd_b_to_a"}
    page = (out / "report.html").read_text()
    assert "From left to right: A, A → B, A → B → A, B, B → A, B → A → B." in page
    assert f"A is {data / 'trainA'} (3 images" in page and f"B is {data / 'trainB'} (5 images" in page
    assert "a_to_b makes B of A, and b_to_a makes A of B." in page
    assert "Warning" not in page
    assert recipe("--data", data, "--out", out, *SMALL) == 0  # found finished, not trained again
    assert len(log(out, "losses")) == 2


@pytest.mark.parametrize("workers", ["0", "2"])
def test_four_steps_are_two_and_two_more(workers: str, recipe: Recipe, tmp_path: Path) -> None:
    """With crops, dropout, an average of weights, and pools that are full after the first step."""
    data = write_sides(tmp_path / "data")
    options = ("--workers", workers, "--pool-size", "1", "--dropout", "--ema-decay", "0.9", "--schedule", "constant")
    arguments = ("--data", data, *SMALL, *options, "--validate-every-steps", "2")
    assert recipe(*arguments, "--steps", "4", "--out", tmp_path / "whole") == 0
    for steps in ("2", "4"):
        assert recipe(*arguments, "--steps", steps, "--out", tmp_path / "parts") == 0
    for name in ("log.jsonl", *WEIGHTS, "samples/00000004.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    losses = [step["discriminator_b"] for step in log(tmp_path / "whole", "losses")]
    assert len(set(losses)) == 4
    state = load_state(tmp_path / "whole")
    assert state is not None and [len(pool["items"]) for pool in state.processes[0]["method"].values()] == [1, 1]


def test_all_options_at_once(recipe: Recipe, tmp_path: Path) -> None:
    """R1 is taken at the first of sixteen steps; the identity's weight is 1, then ½ of itself, then nothing."""
    data, out = write_sides(tmp_path / "data"), tmp_path / "run"
    options = (
        *(
            "--spectral",
            "--diff-augment",
            "--r1-weight",
            "10",
            "--identity-until",
            "0.5",
            "--cycle-noise",
            "0.05",
            "--blur-px",
            "1",
            "--upsampling",
            "resize",
        ),
        *("--skips", "--residual", "1.5", "--dropout", "--checkpointing", "--steps", "4"),
    )
    assert recipe("--data", data, "--out", out, *SMALL, *options) == 0
    steps = log(out, "losses")
    assert ["r1_a" in losses and "r1_b" in losses for losses in steps] == [True, False, False, False]
    assert ["identity_a" in losses and "identity_b" in losses for losses in steps] == [True, True, False, False]
    assert not any(log(out, "skipped"))
    network = load_network(out / "b_to_a")
    assert network.arguments["residual"] == 1.5 and network.arguments["upsampling"] == "resize"


def test_bf16_and_batches_with_batch_norm_and_r1(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The discriminators have instance norm in place of batch norm: no running statistics. What is in fp32 is said."""
    data, out = write_sides(tmp_path / "data"), tmp_path / "run"
    options = ("--precision", "bf16", "--batch-size", "2", "--norm", "batch", "--r1-weight", "10")
    assert recipe("--data", data, "--out", out, *SMALL, *options) == 0
    said = capsys.readouterr().out
    assert "penalties are computed in fp32, though the precision is bf16" in said and "Warning: gradient" not in said
    assert not any(log(out, "skipped"))
    state = load_state(out)
    assert state is not None
    statistics = [any("running" in key for key in network) for network in state.shared["trainer"]["networks"]]
    assert statistics == [True, True, False, False]


def test_pairs_among_the_held_out_images_give_figures(recipe: Recipe, tmp_path: Path) -> None:
    data, out = write_sides(tmp_path / "data"), tmp_path / "run"
    shutil.rmtree(data / "testB")
    for number in (1, 7):  # 0 of A and 7 of B are alone
        write_side(data / "testB" / str(number), (40, 40)).joinpath("0.png").rename(data / "testB" / f"{number}.png")
    assert recipe("--data", data, "--out", out, *SMALL, "--test-pairs", "--best-metric", "l1") == 0
    (first, _) = log(out, "metrics")
    figures = {"psnr", "ssim", "l1", "sharpness"}
    assert first.keys() == {"swd", "swd_b_to_a"} | figures | {f"{name}_b_to_a" for name in figures}
    page = (out / "report.html").read_text()
    assert "From left to right: A, A → B, A → B → A, B, B → A, B → A → B." in page  # the truth is the other side
    assert "Held out are 1 of A" in page


def foreign_discriminator(path: Path, *, channels: int) -> dict[str, Tensor]:
    """A PatchGAN of one layer with instance norm, as the original CycleGAN stores it."""
    shapes = {"model.0": (4, channels, 4, 4), "model.2": (8, 4, 4, 4), "model.5": (1, 8, 4, 4)}
    weights = {f"{name}.weight": 0.1 * torch.randn(shape) for name, shape in shapes.items()}
    weights |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    torch.save(weights, path)
    return weights


def test_discriminators_of_the_original_judge_what_their_generator_makes(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its D_A belongs to G_A: A → B, and knows images of B. Here these alone are in colour."""
    data = write_sides(tmp_path / "data", a_mode="L")
    d_a, d_b = tmp_path / "latest_net_D_A.pth", tmp_path / "latest_net_D_B.pth"
    of_b, of_a = foreign_discriminator(d_a, channels=3), foreign_discriminator(d_b, channels=1)
    out = tmp_path / "run"
    assert recipe("--data", data, "--out", out, *SMALL, "--init-discriminator", d_a, d_b) == 0
    assert f"The discriminator of B starts from {d_a}. The discriminator of A starts from {d_b}." in " ".join(
        capsys.readouterr().out.split()
    )
    state = load_state(out)
    assert state is not None
    for trained, initial in zip(state.shared["trainer"]["networks"][2:], (of_a, of_b), strict=True):
        weights = {tuple(weight.shape): weight for name, weight in trained.items() if name.endswith("weight")}
        for name, weight in initial.items():
            if name.endswith("weight"):  # Adam moves a weight by about its learning rate a step
                assert 0 < (weights[tuple(weight.shape)] - weight).abs().max() < 5e-4
    assert recipe("--data", data, "--out", tmp_path / "other", *SMALL, "--init-discriminator", d_b, d_a) == 2
    assert f"{d_a} holds a network of 3 channels in and 1 out, and the data needs 1 in" in capsys.readouterr().err


@pytest.mark.data
def test_fine_tuning_of_golden_generators(
    recipe: Recipe, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One file is for A → B; two are for both directions. Other weights under the same path are another run."""
    data = write_sides(tmp_path / "data")
    files = [tmp_path / "latest_net_G_A.pth", tmp_path / "latest_net_G_B.pth"]
    for file, name in zip(files, ("resnet9-instance", "resnet6-instance-old-running-stats"), strict=True):
        file.write_bytes((data_dir / "golden" / f"junyanz-{name}" / "weights.pth").read_bytes())
    for count, blocks in ((1, (9, 2)), (2, (9, 6))):
        out = tmp_path / f"run-{count}"
        assert recipe("--data", data, "--out", out, *SMALL, "--init-generator", *files[:count]) == 0
        said = capsys.readouterr().out
        assert f"a_to_b starts from {files[0]}" in said and "The other networks start from scratch." in said
        assert (f"b_to_a starts from {files[1]}" in said) == (count == 2)
        tuned = [load_network(out / name) for name in ("a_to_b", "b_to_a")]
        assert tuple(network.arguments["blocks"] for network in tuned) == blocks
        for network, file in zip(tuned, files[:count], strict=False):
            before = load_network(file)
            moved = [(a - b).abs().max() for a, b in zip(network.parameters(), before.parameters(), strict=True)]
            assert 0 < torch.stack(moved).max() < 5e-4
    weights = torch.load(files[1])
    torch.save({key: value + 1 for key, value in weights.items()}, files[1])
    assert recipe("--data", data, "--out", out, *SMALL, "--init-generator", *files) == 2
    error = capsys.readouterr().err
    assert "init_generator_b_to_a_sha256" in error and "init_generator_a_to_b" not in error


def test_generators_of_an_earlier_run_go_on(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, first = write_sides(tmp_path / "data"), tmp_path / "first"
    assert recipe("--data", data, "--out", first, *SMALL) == 0
    arguments = ("--data", data, "--out", tmp_path / "second", *SMALL, "--width", "8")
    assert recipe(*arguments, "--init-generator", first / "a_to_b", first / "b_to_a") == 0
    assert load_network(tmp_path / "second" / "b_to_a").arguments["width"] == 4
    assert recipe(*arguments, "--init-generator", first) == 2
    assert "holds several generators" in capsys.readouterr().err


def test_four_float_bands_and_sixteen_bit_grey(recipe: Recipe, tmp_path: Path) -> None:
    """Sides that share nothing: no identity loss, and each generator gives images like the other side's."""
    random = np.random.default_rng(0)
    for name in ("bands", "grey"):
        (tmp_path / name).mkdir()
    for number in range(3):
        bands = random.uniform(0.1, 0.7, (40, 44, 4)).astype(np.float32)
        tifffile.imwrite(tmp_path / "bands" / f"{number}.tif", bands, photometric="minisblack", planarconfig="contig")
        write_image(tmp_path / "grey" / f"{number}.png", random.integers(0, 4096, (48, 36), np.uint16))
    sides = ("--a-dir", tmp_path / "bands", "--b-dir", tmp_path / "grey", "--b-range", "0", "4095")
    out = tmp_path / "run"
    assert recipe(*sides, "--out", out, *SMALL, "--diff-augment") == 0
    assert not any(name.startswith("identity") for losses in log(out, "losses") for name in losses)
    assert json.loads((out / "metrics.json").read_text())["baselines"].keys() == {"mean image"}
    grey = i2i.load(out / "a_to_b")(random.uniform(0.1, 0.7, (33, 50, 4)).astype(np.float32))
    assert grey.shape == (33, 50, 1) and grey.dtype == np.float32  # float came in: 0 to 1 stand for black to white
    assert 0 <= grey.min() < grey.max() <= 1
    bands = i2i.load(out / "b_to_a")(random.integers(0, 4096, (33, 50), np.uint16))
    assert bands.shape == (33, 50, 4) and bands.dtype == np.float32
    assert 0.09 < bands.min() <= bands.max() < 0.71


def test_whole_images_of_many_sizes(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At batch size 1 they pass as they are; held-out ones share pictures, and are cut to one size."""
    data = tmp_path / "data"
    for side, sizes in (("A", [(40, 44), (52, 36), (90, 47)]), ("B", [(64, 64), (41, 80)])):
        write_side(data / f"train{side}", *sizes)
        write_side(data / f"test{side}", *sizes)
    whole = ("--load-size", "None", "--crop-size", "None")
    arguments = ("--data", data, *SMALL, *whole)
    assert recipe(*arguments, "--out", tmp_path / "run", "--pool-size", "2", "--steps", "6") == 0
    assert Image.open(tmp_path / "run" / "samples.png").height == 3 * (40 + 4) + 4  # three rows, B is cut to 40 px
    assert recipe(*arguments, "--out", tmp_path / "other", "--batch-size", "2") == 2
    assert "The sides of A's images go from 36 to 90 px" in capsys.readouterr().err


def test_a_single_image_runs_with_a_warning(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = (write_side(tmp_path / "a", (40, 40)), write_side(tmp_path / "b", *[(40, 40)] * 12))
    assert recipe("--a-dir", sides[0], "--b-dir", sides[1], "--out", tmp_path / "run", *SMALL) == 0
    warning = "Warning: A has a single image to learn from"
    assert warning in capsys.readouterr().out
    for file in ("report.html", "a_to_b/README.md"):
        text = (tmp_path / "run" / file).read_text()
        assert warning in text and "Warning: B" not in text


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: [file.unlink() for file in (data / "trainB").iterdir()], "holds no images of side B"),
        (lambda data: shutil.rmtree(data / "trainA"), "trainA is no folder"),
        (lambda data: shutil.rmtree(data / "testB"), "testB is no folder"),
        (lambda data: (data / "trainA" / "1.png").write_bytes(b"not an image"), "1.png"),
        (
            lambda data: Image.new("RGBA", (40, 40)).save(data / "testB" / "0.png"),
            "expected 3, as for all images of side B",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    spoil: Callable[[Path], object], says: str, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_sides(tmp_path / "data")
    spoil(data)
    assert recipe("--data", data, "--out", tmp_path / "run", *SMALL) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--blocks", "0"), "--blocks"),
        (("--pool-size", "-1"), "--pool-size"),
        (("--cycle-weight", "nan"), "--cycle-weight"),
        (("--identity-until", "0"), "--identity-until"),
        (("--blur-until", "0"), "--blur-until"),
        (("--load-size", "None", "--crop-size", "44"), "and images of side A need at least 44 px: give --load-size"),
        (("--crop-size", "30"), "multiples of 4 px"),
        (("--crop-size", "12"), "at least 16 px"),
        (("--crop-size", "0"), "--crop-size"),
        (("--discriminator-layers", "4"), "at least 48 px, and these will be 32 px"),
        (("--residual", "1.5"), "a_to_b gets 1 channels and makes 3: give --residual 0"),
        (("--identity-weight", "0.5"), "identity_weight=0"),
        (("--best-metric", "l1"), "best_metric is 'l1', but this method measures swd"),
        (("--init-generator", "1.pth", "2.pth", "3.pth"), "--init-generator takes two files"),
        (("--init-generator", "missing.pth"), "missing.pth"),
        (("--a-dir", "elsewhere"), "--a-dir"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    options: tuple[str, ...], says: str, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_sides(tmp_path / "data", a_mode="L")
    assert recipe("--data", data, "--out", tmp_path / "run", *SMALL, *options) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_it_never_was(tmp_path: Path) -> None:
    """SIGKILL to the process and its workers: as it starts, in the middle of an epoch, in a save."""
    data = write_sides(tmp_path / "data")
    arguments = (
        *("--data", str(data), *SMALL, "--workers", "2", "--steps", "40", "--pool-size", "3", "--dropout"),
        *("--ema-decay", "0.9", "--save-every-steps", "7", "--validate-every-steps", "20", "--best-metric", "swd"),
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(RECIPE), *arguments, "--out", str(out)]
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)

    whole, run = tmp_path / "whole", tmp_path / "run"
    assert start(whole).wait(200) == 0
    moments, killed_at = random.Random(0), set()
    for _ in range(4):
        process = start(run)
        before, end = sorted(run.glob("state/step-*")), time.monotonic() + 100
        while process.poll() is None and sorted(run.glob("state/step-*")) == before:
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            killed_at.add(len((run / "log.jsonl").read_bytes()))
    assert len(killed_at) >= 3, "hardly a run was killed"
    assert start(run).wait(200) == 0
    for name in ("log.jsonl", *WEIGHTS, *(f"best/{name}" for name in WEIGHTS), "samples/00000040.png"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
