"""What a run writes for people and tools to read while it goes on; the first process alone writes."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from i2i.checkpoints import GeneratorSpec, save_discriminator, save_generator
from i2i.checkpoints.store import JUDGES
from i2i.discriminators import DISCRIMINATORS
from i2i.evaluation.pages import write_grid
from i2i.files import naming
from i2i.methods.base import unwrapped
from i2i.metrics.meanings import GoodEnd, badness
from i2i.training.clock import LOG, Clock
from i2i.training.monitor import Alarm
from i2i.training.report import SAMPLES, RunFacts, model_card, sample_grids, write_report
from i2i.training.state import truncate_log


class Record:
    """Log, sample grids, report, exported generators and trackers of one run.

    Log lines hold nothing that depends on the clock, so equal runs have equal logs.
    """

    def __init__(self, out: Path, *, facts: RunFacts, accelerator: Accelerator) -> None:
        self.out = out
        self.facts = facts
        self.accelerator = accelerator
        self.is_main = accelerator.is_main_process
        self.last_metrics: dict[str, float] = {}
        # Of these, the method's own.
        self.own_figures: list[str] = []
        # What the best was chosen by, how good it was, and when.
        self.best_figure: str | None = None
        self.best: float | None = None
        self.best_step = 0
        # Measurements of what the best is chosen by, since then.
        self.no_better = 0
        # Why the run has ended before its last step.
        self.stopped: str | None = None
        self.clock = Clock(out, spent_s=facts.spent_s)
        # Since the last line, each one's latest.
        self.losses: dict[str, float | None] = {}
        self.figures: dict[str, float | None] = {}
        self.alarms: list[Alarm] = []
        if accelerator.log_with:
            accelerator.init_trackers("i2i", config=dict(_flat(facts.settings)))

    def open(self, step: int) -> None:
        """Begin to record after `step`, dropping what an interrupted run recorded later; -1: from the start."""
        if self.is_main:
            (self.out / SAMPLES).mkdir(exist_ok=True)
            for picture in sample_grids(self.out):
                if int(picture.stem) > step:
                    picture.unlink()
            truncate_log(self.out / LOG, step)
            self.log = (self.out / LOG).open("a")
            self.clock.start(step)

    def step(self, step: int, scalars: dict[str, Any], *, due: bool) -> None:
        """Write a line if one is due, with each term and figure as it last was since the line before.

        That is this step's, but for those that only some steps have: lazy penalties would hardly ever meet a line.
        """
        self.losses |= scalars["losses"]
        self.figures |= scalars.get("figures", {})
        if due:
            figures = {"figures": self.figures} if self.figures else {}
            self._write({"step": step, **scalars, "losses": self.losses, **figures})
            self.losses, self.figures = {}, {}

    def alarm(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)
        self._write({"step": alarm.step, "alarm": alarm.text})

    def metrics(self, step: int, metrics: dict[str, float], *, best: bool = False, measuring_s: float = 0.0) -> None:
        """Write held-out figures down.

        best: they are the best so far, by `best_figure`.
        measuring_s: how long it took to measure what the settings chose.
        """
        self.last_metrics = metrics
        self._write({"step": step, "metrics": metrics} | ({"best": self.best_figure} if best else {}))
        self.clock.measuring_s += measuring_s
        self.time(step)

    def stop(self, step: int, why: str) -> None:
        """The run ends with this step, though it was to have more."""
        self.stopped = why
        self._write({"step": step, "stopped": why})

    def time(self, step: int) -> None:
        """Note how long it took to get to `step`."""
        if self.is_main:
            self.clock.note(step)

    def pictures(self, step: int, pictures: dict[str, Tensor]) -> None:
        """Save a grid of pictures and bring the report up to date."""
        if self.is_main:
            write_grid(self.out / SAMPLES / f"{step:08d}.png", pictures)
            self.flush()
            write_report(self.out, self.facts)

    def choose_by(self, figure: str) -> bool:
        """Choose the best by this figure; whether it was chosen by another one, which says nothing about it."""
        changed = self.best_figure not in (None, figure)
        if changed:
            self.best, self.best_step, self.no_better = None, 0, 0
        self.best_figure = figure
        return changed

    def is_best(self, step: int, value: float, best_is: GoodEnd) -> bool:
        """Whether the metric is better than ever before; remembers it, and counts how often in a row it is not."""
        if not math.isnan(value) and (self.best is None or badness(value, best_is) < badness(self.best, best_is)):
            self.best, self.best_step, self.no_better = value, step, 0
            return True
        self.no_better += 1
        return False

    def export(
        self,
        folder: str,
        generators: dict[str, nn.Module],
        discriminators: dict[str, nn.Module],
        specs: dict[str, GeneratorSpec],
        step: int,
    ) -> None:
        """Write each generator to <out>/<folder>/<name>, and what judged it beside it, as it trains.

        Of discriminators there is no average. One of a class of a person's own has no name to be built by, and stays
        in the state alone.
        """
        if self.is_main:
            for name, network in generators.items():
                card = model_card(self.facts, step=step, metrics=self.last_metrics)
                save_generator(self.out / folder / name, network=unwrapped(network), spec=specs[name], card=card)
            for name, network in discriminators.items():
                if type(unwrapped(network)) in DISCRIMINATORS.values():
                    file = self.out / folder / JUDGES / f"{name}.safetensors"
                    save_discriminator(file, network=unwrapped(network))

    def flush(self) -> None:
        if self.is_main:
            with naming(self.out / LOG):
                self.log.flush()

    def close(self) -> None:
        if self.is_main:
            with naming(self.out / LOG):
                self.log.close()
        # Not by accelerate's `end_training`, which also cuts the processes off from each other.
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _write(self, line: dict[str, Any]) -> None:
        if self.is_main:
            with naming(self.out / LOG):
                self.log.write(json.dumps(line) + "\n")
        if self.accelerator.log_with:
            numbers = {name: value for name, value in _flat(line) if isinstance(value, int | float)}
            self.accelerator.log(numbers, step=line["step"])

    def state_dict(self) -> dict[str, Any]:
        alarms = [asdict(alarm) for alarm in self.alarms]
        return {
            "last_metrics": self.last_metrics,
            "own_figures": self.own_figures,
            "best_figure": self.best_figure,
            "best": self.best,
            "best_step": self.best_step,
            "no_better": self.no_better,
            "stopped": self.stopped,
            "alarms": alarms,
            "losses": self.losses,
            "figures": self.figures,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last_metrics, self.best = state["last_metrics"], state["best"]
        # States of before metrics could be chosen have none of these.
        self.own_figures = state.get("own_figures", list(self.last_metrics))
        self.best_figure, self.best_step = state.get("best_figure"), state.get("best_step", 0)
        self.no_better, self.stopped = state.get("no_better", 0), state.get("stopped")
        self.losses, self.figures = state["losses"], state["figures"]
        self.alarms = [Alarm(**alarm) for alarm in state["alarms"]]


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dictionaries as (path, value), as trackers want them; other containers as text."""
    items: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            items += _flat(value, f"{prefix}{key}/")
        else:
            plain = value if isinstance(value, int | float | str | bool) else str(value)
            items.append((f"{prefix}{key}", plain))
    return items
