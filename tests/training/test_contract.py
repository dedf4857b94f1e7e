"""The Method contract carries more than pix2pix: toys of many kinds, by every way of training."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_jobs import ACCUMULATIONS, PRECISIONS, TwoProcesses
from toy_methods import TOYS, Perceptual, go_through, train_toy

from i2i.methods.stabilisers import Replay

WAYS = list(itertools.product(TOYS, ACCUMULATIONS, PRECISIONS))


# These objectives compare scores with each other, so that the last bias, added to all of them, has no gradient.
COMPARING = {"critic", "clipping", "relativistic"}


def assert_trained(toy: str, outcome: dict[str, Any]) -> None:
    assert outcome["finite"]
    assert set(outcome["unmoved"]) <= ({"discriminator.head.bias"} if toy in COMPARING else set())
    values = [value for losses in outcome["losses"] for value in losses.values()]
    assert len(outcome["losses"]) == 4 and all(math.isfinite(value) for value in values)
    if "resumed digest" in outcome:
        assert outcome["resumed digest"] == outcome["digest"]
        assert outcome["resumed losses"] == outcome["losses"]


@pytest.mark.parametrize(("toy", "accumulation", "precision"), WAYS)
def test_in_one_process(toy: str, accumulation: int, precision: Any, tmp_path: Path) -> None:
    outcome = go_through(toy, tmp_path, resume=precision == "fp32", accumulation=accumulation, precision=precision)
    assert_trained(toy, outcome)


@pytest.mark.parametrize(("toy", "accumulation", "precision"), WAYS)
def test_in_two_processes(toy: str, accumulation: int, precision: str, two_processes: TwoProcesses) -> None:
    first, second = (found["contract"][toy, accumulation, precision] for found in two_processes.found)
    assert_trained(toy, first)
    assert first == second


@pytest.mark.parametrize("accumulation", ACCUMULATIONS)
def test_processes_count_images_together(accumulation: int, two_processes: TwoProcesses) -> None:
    """Adaptive augmentation rises at every second of three rounds a step, by the images of both over the ramp's 64."""
    for found in two_processes.found:
        losses = found["contract"]["adaptive", accumulation, "fp32"]["losses"]
        rises = 2 * accumulation * 4 * 2 / 64 * torch.tensor([1, 2, 4, 5])
        assert [step["augmentation"] for step in losses] == rises.clamp(max=1).tolist()


@pytest.mark.parametrize("toy", ["pool", "critic"])
def test_precisions_and_accumulations_differ(toy: str, tmp_path: Path) -> None:
    """Otherwise the matrix would be one test many times over."""
    digests = {
        go_through(toy, tmp_path / f"{a}{p}", resume=False, accumulation=a, precision=p)["digest"]
        for a, p in itertools.product(ACCUMULATIONS, PRECISIONS)
    }
    assert len(digests) == 4


def test_a_pool_fills_and_comes_back(tmp_path: Path) -> None:
    _, method = train_toy("pool", tmp_path / "run")
    assert isinstance(method, Replay) and len(method.pool.items) == 10
    _, resumed = train_toy("pool", tmp_path / "run")
    assert isinstance(resumed, Replay)
    for before, after in zip(method.pool.items, resumed.pool.items, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_frozen_network_stays_as_it_is(tmp_path: Path) -> None:
    """Its weights and its running statistics: it is in evaluation mode."""
    torch.manual_seed(1)
    before = Perceptual().frozen["features"].state_dict()
    _, method = train_toy("frozen", tmp_path / "run")
    after = method.frozen["features"].state_dict()
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def test_an_auxiliary_network_is_not_exported(tmp_path: Path) -> None:
    train_toy("auxiliary", tmp_path / "run")
    assert {file.parent.name for file in tmp_path.rglob("*.safetensors")} == {"generator", "discriminators"}
    assert [file.stem for file in (tmp_path / "run" / "discriminators").iterdir()] == ["discriminator"]
