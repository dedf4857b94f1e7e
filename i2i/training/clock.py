"""How long a run has taken, and how good other runs were after as long.

Kept in a file of its own, for the log holds nothing that depends on the clock.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i2i.files import naming
from i2i.training.state import truncate_log

CLOCK = "clock.jsonl"
LOG = "log.jsonl"

Curve = list[tuple[float, dict[str, float]]]
"""Held-out figures with the seconds after which they were taken, in order."""


class Clock:
    """Counts a run's seconds over all its sessions; those after the last note before an interruption are lost.

    Args:
        out: the run's folder.
        spent_s: seconds that went before the run, on its earlier stages.
    """

    def __init__(self, out: Path, *, spent_s: float = 0.0) -> None:
        self.path = out / CLOCK
        self.before = self.spent_s = spent_s
        self.begun = time.perf_counter()
        self.measuring_s = 0.0

    def start(self, step: int) -> None:
        """Count on from `step`, dropping notes of later ones; -1: from the start."""
        truncate_log(self.path, step)
        self.before = max([self.spent_s, *_seconds(self.path).values()])
        self.measuring_s = measuring_taken(self.path.parent)
        self.begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        """That the run has taken by now, its earlier stages included."""
        return self.before + time.perf_counter() - self.begun

    @property
    def measuring_share(self) -> float:
        """How much of the run's own time went into measuring by the chosen metrics."""
        return self.measuring_s / max(self.seconds - self.spent_s, 1e-9)

    def note(self, step: int) -> None:
        """Write down that `step` is done by now."""
        note = {"step": step, "seconds": round(self.seconds, 3)}
        if self.measuring_s:
            note["measuring_s"] = round(self.measuring_s, 3)
        with naming(self.path), self.path.open("a") as file:
            file.write(json.dumps(note) + "\n")


def seconds_taken(run: Path) -> float:
    """All seconds of a run, those of its earlier stages included; 0 where none are known."""
    return max(_seconds(run / CLOCK).values(), default=0.0)


def measuring_taken(run: Path) -> float:
    """Those of a run's own seconds in which it was measured by the metrics that its settings chose."""
    return max((note.get("measuring_s", 0.0) for note in _lines(run / CLOCK)), default=0.0)


def curve_of(run: Path) -> Curve:
    """A run's held-out figures by time; of runs without a clock, none."""
    return [(seconds, metrics) for _, seconds, metrics in _measured(run)]


def at_equal_time(runs: Sequence[Path], *, seconds: float) -> dict[str, dict[str, float]]:
    """What other runs had reached by their last validation within `seconds`, by name and time.

    Of a run that had only been measured before its first step, that is said instead of the time. Runs that had ended by
    then, whose last figures say it all, are left out, and so are those without a clock.
    """
    reached = {}
    for run in runs:
        points = _measured(run)
        if before := [point for point in points if point[1] <= seconds]:
            step, then, metrics = before[-1]
            if then < points[-1][1]:
                # Not "untrained": its networks may come from an earlier stage, or from another run.
                reached[f"{run.name} at {then / 60:.1f} min" if step else f"{run.name} at step 0"] = metrics
    return reached


def _measured(run: Path) -> list[tuple[int, float, dict[str, float]]]:
    """Step, seconds and held-out figures of each validation whose time is known, in order."""
    seconds = _seconds(run / CLOCK)
    lines = [line for line in _lines(run / LOG) if "metrics" in line and line["step"] in seconds]
    return [(line["step"], seconds[line["step"]], line["metrics"]) for line in lines]


def _seconds(path: Path) -> dict[int, float]:
    """By the step, the seconds after which it was first noted."""
    return {note["step"]: note["seconds"] for note in reversed(_lines(path))}


def _lines(path: Path) -> list[dict[str, Any]]:
    """What a file holds, a line each; the last one is left out if it is still being written, or was cut short."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
