"""What a run keeps on disk so that it can go on exactly where it was.

    <out>/run.json              whose run this is: settings, data, number of processes
    <out>/log.jsonl             losses and metrics, one JSON object a line
    <out>/state/step-00000400/  shared.pt (alike in all processes), processes.pt (one entry each)

A state is written beside its place and renamed, so a half-written one is never seen.
"""

import errno
import json
import os
import shutil
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from i2i.errors import InputError
from i2i.files import naming, remove_leftovers, replacing
from i2i.training.config import FREE_ON_RESUME, TrainingSettings

# What a run had that began before there was such a setting.
DEFAULTS = {
    "settings": {"training": {f.name: f.default for f in fields(TrainingSettings) if f.default is not MISSING}},
}


@dataclass(frozen=True, kw_only=True)
class State:
    """One saved moment. Tensors, numbers, strings and containers of them only.

    step: steps done.
    shared: what is alike in all processes.
    processes: what each process keeps of its own, by rank.
    """

    step: int
    shared: dict[str, Any]
    processes: list[dict[str, Any]]


def open_run(out: Path, identity: dict[str, Any]) -> None:
    """Make `out` the folder of the run that `identity` describes, or see that it already is.

    Raises:
        InputError: as `check_run` does.
    """
    check_run(out, identity)
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    for half_written in (out / "state").glob(".step-*"):
        shutil.rmtree(half_written)
    with replacing(out / "run.json") as temporary:
        temporary.write_text(json.dumps(identity, indent=2) + "\n")


def check_run(out: Path, identity: dict[str, Any]) -> None:
    """See that `out` holds nothing, or the run that `identity` describes.

    identity: JSON-able; a nested dictionary's keys are compared one by one, except those that a resumed
        run may change. A setting of the loop that the run's record lacks is taken to have been as it is by default.

    Raises:
        InputError: the folder holds something else, or a run with other settings (which are listed) that has
            saved a state.
    """
    record = out / "run.json"
    if record.exists() and _saved(out):
        differences = _differences(
            json.loads(record.read_text()), json.loads(json.dumps(identity)), defaults=json.loads(json.dumps(DEFAULTS))
        )
        if differences:
            raise InputError(
                f"{out} belongs to a run with other settings:\n"
                + "\n".join(f"  {line}" for line in differences)
                + "\nGive another --out for a new run, or the same settings to go on with that one."
            )
    check_folder(out)


def check_folder(out: Path) -> None:
    """See that `out` holds a run or nothing.

    Raises:
        InputError: it holds something else.
    """
    if not (out / "run.json").exists() and out.exists() and (not out.is_dir() or _holds_files(out)):
        raise InputError(f"{out} exists and is no run's folder. Give an --out that is empty or does not exist.")


def _holds_files(folder: Path) -> bool:
    """Hidden ones aside, which a run killed as it began leaves, and file managers; and runs of earlier stages."""
    return any(_counts(path) for path in folder.iterdir() if not path.name.startswith("."))


def _counts(path: Path) -> bool:
    """An earlier stage that was killed as it began leaves an empty folder."""
    return not (path / "run.json").exists() and (not path.is_dir() or _holds_files(path))


def _differences(old: dict[str, Any], new: dict[str, Any], *, defaults: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(old.keys() | new.keys()):
        default = defaults.get(key)
        before, now = old.get(key, default), new.get(key)
        if before == now or key in FREE_ON_RESUME:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            known = default if isinstance(default, dict) else {}
            lines += _differences(before, now, defaults=known, prefix=f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key}: was {before}, now {now}")
    return lines


def save_state(out: Path, state: State, *, keep: int) -> None:
    """Write a state, then remove all but the `keep` newest ones.

    Raises:
        OSError: it could not be written; the states that were there still are.
    """
    folder = out / "state"
    target = folder / f"step-{state.step:08d}"
    temporary = folder / f".{target.name}"
    with naming(target):
        temporary.mkdir(parents=True)
        try:
            _save({"step": state.step, **state.shared}, temporary / "shared.pt")
            _save({"processes": state.processes}, temporary / "processes.pt")
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    for old in _saved(out)[:-keep]:
        shutil.rmtree(old)


def _save(value: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:
            # torch reports a failed write of its archive as a RuntimeError that hides the cause.
            cause = error.__context__
            if isinstance(cause, OSError):
                raise cause from error
            raise OSError(errno.EIO, f"could not be written ({error})") from error
        file.flush()
        os.fsync(file.fileno())


def load_state(out: Path) -> State | None:
    """The newest state of a run, on the CPU; None if nothing was saved yet."""
    saved = _saved(out)
    if not saved:
        return None
    shared = torch.load(saved[-1] / "shared.pt", map_location="cpu", weights_only=True)
    own = torch.load(saved[-1] / "processes.pt", map_location="cpu", weights_only=True)
    return State(step=shared.pop("step"), shared=shared, processes=own["processes"])


def _saved(out: Path) -> list[Path]:
    return sorted((out / "state").glob("step-*"))


def truncate_log(path: Path, step: int) -> None:
    """Drop what was logged after `step`, and a last line that was cut short."""
    if not path.exists():
        return
    with path.open("rb") as file:
        kept = 0
        for line in file:
            if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                break
            kept += len(line)
    os.truncate(path, kept)
