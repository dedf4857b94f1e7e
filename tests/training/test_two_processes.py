"""Two processes train as one: see toy_jobs.py for what they do."""

import statistics
import sys
from itertools import chain

import pytest
import torch
from toy_jobs import TwoProcesses
from toy_methods import Ring

from i2i.checkpoints import load_generator


def test_there_are_two(two_processes: TwoProcesses) -> None:
    assert [found["world size"] for found in two_processes.found] == [2, 2]


def test_parameters_are_identical_after_training(two_processes: TwoProcesses) -> None:
    first, second = (found["digest"] for found in two_processes.found)
    assert first == second


def test_no_sample_is_drawn_twice_in_an_epoch(two_processes: TwoProcesses) -> None:
    """Ten pictures, one a process and step, fifteen steps: three epochs."""
    first, second = (found["draws"] for found in two_processes.found)
    order = [index for index, seed in chain.from_iterable(zip(first, second, strict=True))]
    epochs = [order[start : start + 10] for start in range(0, 30, 10)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert epochs[0] != epochs[1]
    assert len({seed for index, seed in first + second}) == 30


def test_each_has_random_numbers_of_its_own(two_processes: TwoProcesses) -> None:
    first, second = (found["noise"] for found in two_processes.found)
    assert len(set(first) | set(second)) == len(first) + len(second)


def test_the_first_alone_writes(two_processes: TwoProcesses) -> None:
    first, second = (found["written"] for found in two_processes.found)
    assert len(first) > 100 and second == []


def test_killed_and_resumed_is_exact(two_processes: TwoProcesses) -> None:
    """One of the two was killed at its tenth step, two after a state was saved."""
    folder = two_processes.folder
    for found in two_processes.found:
        assert found["resumed digest"] == found["digest"]
    exported = ("generator/generator.safetensors", "discriminators/discriminator.safetensors")
    for name in ("log.jsonl", *exported, *(f"best/{file}" for file in exported)):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()


def test_running_statistics_are_exported_as_the_mean(two_processes: TwoProcesses) -> None:
    run = two_processes.folder / "whole"
    exported = list(load_generator(run / "generator")[0].buffers())
    first, second = torch.load(run / "state" / "step-00000015" / "processes.pt")["processes"]
    compared = 0
    # The generator's come first in the state.
    for mean, a, b in zip(exported, first["buffers"], second["buffers"], strict=False):
        if mean.is_floating_point():
            assert not torch.equal(a, b)
            torch.testing.assert_close(mean, (a + b) / 2)
            compared += 1
    assert compared >= 4


@pytest.mark.parametrize("count", [7, 1])
def test_held_out_figures_are_over_all_items(two_processes: TwoProcesses, count: int) -> None:
    """Also of a number that two does not divide, and of fewer items than processes."""
    values = [Ring(count)[index]["real"][0].item() for index in range(count)]
    for found in two_processes.found:
        assert found["held out"][count]["x"] == pytest.approx(statistics.fmean(values), rel=1e-5)
        assert found["held out"][count]["median"] == pytest.approx(statistics.median(values), rel=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are found by /proc")
def test_processes_part_before_they_end(two_processes: TwoProcesses) -> None:
    """Threads of a group that nobody leaves now and then abort the interpreter as it exits."""
    for rank in range(2):
        assert "gloo" not in (two_processes.folder / f"exit{rank}.txt").read_text()
