"""What a run keeps on disk is there whole or not at all, and only its own run goes on from it."""

import errno
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_methods import train_toy

from i2i.cli.entry import run
from i2i.errors import InputError
from i2i.training.config import TrainingSettings
from i2i.training.state import State, load_state, open_run, save_state, truncate_log


def state_at(step: int) -> State:
    numbers = torch.full((2000,), float(step))
    return State(step=step, shared={"numbers": numbers}, processes=[{"rank": 0}, {"rank": 1, "own": -numbers}])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def saved(out: Path) -> list[str]:
    return names(out / "state")


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes of any file fails half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    save_state(tmp_path, state_at(3), keep=2)
    state = load_state(tmp_path)
    assert state is not None and state.step == 3
    torch.testing.assert_close(state.shared, state_at(3).shared)
    torch.testing.assert_close(state.processes, state_at(3).processes)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 99, 100, 1000):
        save_state(tmp_path, state_at(step), keep=3)
    assert saved(tmp_path) == ["step-00000099", "step-00000100", "step-00001000"]
    save_state(tmp_path, state_at(1001), keep=1)
    assert saved(tmp_path) == ["step-00001001"]


@pytest.mark.parametrize("size", [0, 4000, 9000])
def test_a_write_that_fails_leaves_the_states_before(tmp_path: Path, size: int) -> None:
    """Cut off in the first file, or in the second one."""
    save_state(tmp_path, state_at(1), keep=1)
    with files_at_most(size), pytest.raises(OSError) as caught:
        save_state(tmp_path, replace(state_at(2), shared={"little": torch.zeros(1)}), keep=1)
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value.filename) == str(tmp_path / "state" / "step-00000002")
    assert saved(tmp_path) == ["step-00000001"]
    state = load_state(tmp_path)
    assert state is not None and state.step == 1
    save_state(tmp_path, state_at(2), keep=1)
    assert saved(tmp_path) == ["step-00000002"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    out: Path = Path()
    steps: int = 2


def test_a_full_disk_ends_the_run_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(settings: Settings) -> None:
        train_toy("pool", settings.out, steps=settings.steps)

    def command(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", ["toy", "--out", str(tmp_path / "run"), *options])
        with pytest.raises(SystemExit) as caught:
            run(main, Settings(), description="A toy.")
        assert isinstance(caught.value.code, int)
        return caught.value.code

    assert command("--steps", "2") == 0
    capsys.readouterr()
    with files_at_most(8000):
        assert command("--steps", "4") == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message and "step-00000004" in message and "the same command goes on" in message
    assert saved(tmp_path / "run") == ["step-00000002"]

    assert command("--steps", "4") == 0
    whole = tmp_path / "whole"
    train_toy("pool", whole, steps=4)
    weights = Path("generator") / "generator.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system takes root's rights")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    run = tiny_disk / "run"
    train_toy("pool", run, steps=2)
    before = load_state(run)
    filler = tiny_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1024))
    with pytest.raises((OSError, InputError), match=r"No space left on device.*run/"):
        train_toy("pool", run, steps=4)
    after = load_state(run)
    assert before is not None and after is not None and after.step == 2
    torch.testing.assert_close(after.shared["trainer"]["networks"], before.shared["trainer"]["networks"])

    filler.unlink()
    train_toy("pool", run, steps=4)
    resumed = load_state(run)
    assert resumed is not None and resumed.step == 4


IDENTITY: dict[str, Any] = {
    "settings": {"width": 64, "range": (0, 255)},
    "training": asdict(TrainingSettings(steps=10)),
    "data fingerprint": "abc",
    "processes": 1,
}


def changed(part: str, **values: Any) -> dict[str, Any]:
    return {**IDENTITY, part: {**IDENTITY[part], **values}}


def opened_run(out: Path) -> Path:
    open_run(out, IDENTITY)
    save_state(out, state_at(5), keep=1)
    return out


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    open_run(opened_run(tmp_path / "deep" / "run"), IDENTITY)


def test_changed_settings_are_refused_and_listed(tmp_path: Path) -> None:
    out = opened_run(tmp_path / "run")
    other = changed("training", batch_size=3, workers=7)
    other["settings"] = {"width": 32, "range": (0, 255), "depth": 5}
    with pytest.raises(InputError) as caught:
        open_run(out, {**other, "data fingerprint": "xyz", "processes": 2})
    lines = str(caught.value).splitlines()
    assert str(out) in lines[0]
    assert [line.strip() for line in lines[1:-1]] == [
        "data fingerprint: was abc, now xyz",
        "processes: was 1, now 2",
        "settings.depth: was None, now 5",
        "settings.width: was 64, now 32",
        "training.batch_size: was 1, now 3",
    ]
    open_run(out, IDENTITY)  # nothing was overwritten by the refused one


@pytest.mark.parametrize("name", ["steps", "workers", "trackers", "save_every_steps", "log_every_steps"])
def test_what_may_change_is_accepted_and_remembered(tmp_path: Path, name: str) -> None:
    out = opened_run(tmp_path / "run")
    other = changed("training", **{name: 12})
    open_run(out, other)
    assert json.loads((out / "run.json").read_text())["training"][name] == 12


def test_other_settings_may_replace_a_run_that_saved_nothing(tmp_path: Path) -> None:
    open_run(tmp_path / "run", IDENTITY)
    open_run(tmp_path / "run", {**IDENTITY, "data fingerprint": "xyz"})
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data fingerprint"] == "xyz"


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    with pytest.raises(InputError, match="is no run's folder"):
        open_run(tmp_path, IDENTITY)
    with pytest.raises(InputError, match="is no run's folder"):
        open_run(tmp_path / "photo.png", IDENTITY)
    assert names(tmp_path) == ["photo.png"]


def test_a_folder_may_hold_runs_of_earlier_stages(tmp_path: Path) -> None:
    open_run(tmp_path / "psnr", IDENTITY)
    open_run(tmp_path, IDENTITY)
    assert names(tmp_path) == ["psnr", "run.json"]


def test_an_empty_folder_is_taken_whatever_is_hidden_in_it(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    (tmp_path / ".run.json.part-abcdefgh.json").write_text("{")
    open_run(tmp_path, IDENTITY)
    assert names(tmp_path) == [".DS_Store", "run.json"]


def test_half_written_states_are_ignored_and_removed(tmp_path: Path) -> None:
    out = opened_run(tmp_path / "run")
    shutil.copytree(out / "state" / "step-00000005", out / "state" / ".step-00000007")
    (out / "state" / ".step-00000007" / "processes.pt").unlink()
    state = load_state(out)
    assert state is not None and state.step == 5
    open_run(out, IDENTITY)
    assert saved(out) == ["step-00000005"]


def test_the_log_is_cut_after_a_step(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    truncate_log(log, 3)
    assert not log.exists()
    lines = [json.dumps({"step": step, "losses": {"a": step / 3}}) + "\n" for step in (0, 1, 2, 3, 3, 4, 5)]
    log.write_text("".join(lines) + '{"step": 6, "los')
    truncate_log(log, 5)
    assert log.read_text() == "".join(lines)
    truncate_log(log, 3)
    assert log.read_text() == "".join(lines[:5])
    truncate_log(log, -1)
    assert log.read_text() == ""
