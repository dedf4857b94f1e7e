"""A run that is killed, and killed again, ends as one that never was.

Every run is a process of its own, forked from one that has torch imported already.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
import toy_pix2pix
from toy_pix2pix import Settings, make_pairs, run_in_own_group

from i2i.checkpoints import load_generator
from i2i.training.state import load_state

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch._dynamo", "i2i.data.transforms", "i2i.methods.pix2pix", "i2i.training.loop"])

# What must be equal to the last bit.
OUTCOME = [
    "log.jsonl",
    "generator/generator.safetensors",
    "best/generator/generator.safetensors",
    "samples/00000060.png",
]

Start = Callable[..., ForkServerProcess]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("pairs") / "data")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody interrupts."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = FORKS.Process(target=run_in_own_group, args=(Settings(data=data, out=out),))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    return out


@pytest.fixture
def start(data: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts the run in tmp_path / "run", and ends what a failing test leaves."""
    started: list[ForkServerProcess] = []

    def start(die_at: tuple[str, int] | None = None, **changes: int) -> ForkServerProcess:
        settings = Settings(data=data, out=tmp_path / "run")
        settings = replace(settings, training=replace(settings.training, **changes))
        process = FORKS.Process(target=run_in_own_group, args=(settings, die_at))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            kill(process)


def kill(process: ForkServerProcess) -> None:
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, or does not lead a group yet
        process.kill()
    process.join()


def finish(process: ForkServerProcess, exit_code: int = 0) -> None:
    process.join(120)
    assert process.exitcode == exit_code


def states(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "state").glob("step-*"))


def wait_for_new(run: Path, process: ForkServerProcess, pattern: str = "state/step-*") -> None:
    """Until the run has written another file, or is over."""
    before, end = sorted(run.glob(pattern)), time.monotonic() + 60
    while process.is_alive() and sorted(run.glob(pattern)) == before:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def assert_same_outcome(run: Path, whole: Path) -> None:
    for name in OUTCOME:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(run.rglob(".*")), "temporary files are left"


def test_the_whole_run_is_what_it_should_be(whole: Path) -> None:
    """Otherwise equal outcomes would say little."""
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "losses" in line]
    assert [line["step"] for line in steps] == list(range(1, 61))
    assert len({line["losses"]["l1"] for line in steps}) == 60
    assert [line["step"] for line in lines if "metrics" in line] == [0, 20, 40, 60]
    assert states(whole) == ["step-00000056", "step-00000060"]
    state = load_state(whole)
    assert state is not None and state.step == 60
    averages = state.shared["trainer"]["ema"]["parameters"]["generator"]
    exported = load_generator(whole / "generator")[0].parameters()
    assert all(torch.equal(weight, average) for weight, average in zip(exported, averages, strict=True))


def test_killed_at_random_moments(start: Start, whole: Path, tmp_path: Path) -> None:
    """SIGKILL to the process and its workers: as it starts, in the middle of an epoch, in a save."""
    run, moments = tmp_path / "run", random.Random(0)
    for number in range(10):
        process = start()
        if number % 3 == 0:
            time.sleep(moments.uniform(0.0, 0.4))  # as it starts
        else:
            wait_for_new(run, process)
            time.sleep(moments.uniform(0.0, 0.1))
        if not process.is_alive():
            break
        kill(process)
    assert number >= 5, "hardly a run was killed"
    finish(start())
    assert_same_outcome(run, whole)


def test_killed_at_every_delicate_moment(start: Start, whole: Path, tmp_path: Path) -> None:
    """The same run dies again and again, each time while it puts another kind of file into its place."""
    run = tmp_path / "run"
    moments = [
        ("replace", 1, []),  # run.json
        ("replace", 2, []),  # the first sample grid
        ("replace", 5, []),  # the generator's weights, after its card and config
        ("fsync", 2, []),  # a state of which one half is written
        ("rename", 1, []),  # a state written but not yet in its place
        ("rename", 2, ["step-00000007"]),
        ("rmdir", 2, ["step-00000007", "step-00000014", "step-00000021"]),  # of an old state whose files are gone
        ("rmdir", 7, ["step-00000049", "step-00000056", "step-00000060"]),  # the same, with the last state saved
    ]
    for name, count, saved in moments:
        finish(start(die_at=(name, count)), exit_code=-signal.SIGKILL)
        assert states(run) == saved, (name, count)
    finish(start())
    assert_same_outcome(run, whole)


@pytest.mark.parametrize("ask", ["terminate", "interrupt"])
def test_asked_to_end_it_saves_first(start: Start, whole: Path, tmp_path: Path, ask: str) -> None:
    """A scheduler's SIGTERM to the process, or Ctrl-C, which reaches its workers too."""
    run = tmp_path / "run"
    process = start(save_every_steps=1000)
    wait_for_new(run, process, "samples/00000020.png")
    assert process.pid is not None
    if ask == "terminate":
        os.kill(process.pid, signal.SIGTERM)
    else:
        os.killpg(process.pid, signal.SIGINT)
    finish(process, exit_code=130)
    assert len(states(run)) == 1 and "step-00000020" <= states(run)[0] < "step-00000060"
    finish(start())
    assert_same_outcome(run, whole)


def test_another_number_of_workers_changes_nothing(start: Start, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(workers=1)
    wait_for_new(run, process)
    kill(process)
    finish(start(workers=0, keep_states=1))
    assert_same_outcome(run, whole)


def test_a_finished_run_started_again_changes_nothing(start: Start, whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "state" / ".step-00000063").mkdir()
    shutil.copy(whole / "generator" / "config.json", run / "generator" / ".config.json.part-12345678.json")
    finish(start())
    assert_same_outcome(run, whole)


def test_from_the_command_line(data: Path, whole: Path, tmp_path: Path) -> None:
    """Refusals end with one message and exit code 2; a longer run goes on."""
    run = shutil.copytree(whole, tmp_path / "run")

    def command(*options: str) -> tuple[int, str]:
        program = [sys.executable, toy_pix2pix.__file__, "--data", str(data), "--out", str(run), *options]
        done = subprocess.run(program, capture_output=True, text=True, timeout=100)
        return done.returncode, done.stderr

    code, message = command("--batch-size", "3", "--seed", "5", "--workers", "0")
    assert code == 2 and "Traceback" not in message
    assert "training.batch_size: was 2, now 3" in message and "training.seed: was 0, now 5" in message
    assert "workers" not in message

    code, message = command("--steps", "63", "--log-every-steps", "2", "--workers", "0")
    assert code == 0, message
    lines = (run / "log.jsonl").read_text().splitlines()
    kept = (whole / "log.jsonl").read_text().splitlines()
    assert lines[: len(kept)] == kept and json.loads(lines[-1])["step"] == 63
