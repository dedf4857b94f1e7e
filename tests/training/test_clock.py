"""Other runs after as long: curves by hand, sessions of one run, and what report and table show of them."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from torch import Tensor
from toy_methods import POINTS, Ring, ToyGAN

from i2i.methods.base import Batch
from i2i.training import clock
from i2i.training.clock import CLOCK, LOG, Clock, at_equal_time, curve_of, seconds_taken
from i2i.training.config import TrainingSettings
from i2i.training.loop import RunResult, train
from i2i.training.report import RunFacts


class MeasuredGAN(ToyGAN):
    """Whose held-out figure is the same each time."""

    def validate(self, batch: Batch) -> dict[str, float]:
        return {"swd": 3.0}

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        return {}


def write_run(folder: Path, curve: dict[int, tuple[float, float]]) -> Path:
    """A run with "swd" measured at some steps: {step: (seconds, swd)}."""
    folder.mkdir()
    notes = [{"step": step, "seconds": seconds} for step, (seconds, _) in curve.items()]
    log = [{"step": step, "metrics": {"swd": swd}} for step, (_, swd) in curve.items()]
    (folder / CLOCK).write_text("".join(json.dumps(note) + "\n" for note in notes))
    (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in log))
    return folder


def run(out: Path, *, steps: int, facts: RunFacts) -> RunResult:
    settings = TrainingSettings(
        steps=steps, batch_size=5, validate_every_steps=2, save_every_steps=3, workers=0, device="cpu"
    )
    return train(
        method=MeasuredGAN(),
        training_data=Ring(),
        validation_data=Ring(),
        specs={"generator": POINTS},
        settings=settings,
        out=out,
        facts=facts,
    )


def test_a_run_stands_where_it_was_after_as_long(tmp_path: Path) -> None:
    slow = write_run(tmp_path / "slow", {0: (1, 90.0), 10: (60, 50.0), 20: (120, 30.0), 30: (180, 20.0)})
    quick = write_run(tmp_path / "quick", {0: (1, 90.0), 10: (30, 40.0)})
    assert at_equal_time([slow, quick], seconds=130) == {"slow at 2.0 min": {"swd": 30.0}}
    assert at_equal_time([slow], seconds=59) == {"slow at step 0": {"swd": 90.0}}
    assert at_equal_time([slow], seconds=0.5) == {}  # nothing was known by then
    assert at_equal_time([slow], seconds=500) == {}  # its last figures are its figures
    assert seconds_taken(slow) == 180


def test_a_run_without_a_clock_has_no_curve(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", {0: (1, 90.0), 10: (60, 50.0)})
    (old / CLOCK).unlink()
    assert curve_of(old) == [] and seconds_taken(old) == 0
    assert at_equal_time([old], seconds=1e6) == {}


def test_a_run_that_is_still_training_can_be_compared(tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", {0: (1, 90.0), 10: (60, 50.0), 20: (99, 40.0)})
    for name, half in ((LOG, '{"step": 30, "metrics": {"sw'), (CLOCK, '{"step": 30, "sec')):
        with (other / name).open("a") as file:
            file.write(half)
    assert at_equal_time([other], seconds=70) == {"other at 1.0 min": {"swd": 50.0}}


def test_the_clock_goes_on_where_a_session_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    first = Clock(tmp_path, spent_s=40.0)
    first.start(-1)
    for step, passed in ((1, 5.0), (2, 5.0), (3, 5.0)):
        now[0] += passed
        first.note(step)
    now[0] = 7000.0  # a long pause, after which only step 2 is known
    second = Clock(tmp_path, spent_s=40.0)
    second.start(2)
    now[0] += 3.0
    second.note(3)
    notes = [json.loads(line) for line in (tmp_path / CLOCK).read_text().splitlines()]
    assert [(note["step"], note["seconds"]) for note in notes] == [(1, 45), (2, 50), (3, 53)]


def test_a_run_that_begins_again_forgets_its_clock(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {1: (9000, 1.0)})
    Clock(tmp_path / "run").start(-1)
    assert seconds_taken(tmp_path / "run") == 0


def test_report_and_result_show_others_at_equal_time(tmp_path: Path) -> None:
    slow = write_run(tmp_path / "slow", {0: (0.0, 90.0), 10: (1e6, 20.0)})
    facts = RunFacts(
        title="t", about="t", settings={}, fingerprint="x", baselines={"real": {"swd": 1}}, compare=(slow,)
    )
    result = run(tmp_path / "run", steps=4, facts=facts)
    assert result.baselines == {"real": {"swd": 1}, "slow at step 0": {"swd": 90.0}}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "slow at step 0" in page and "At equal time" in page
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["baselines"] == result.baselines
    # Nothing about time where there is nobody to compare with.
    run(tmp_path / "alone", steps=4, facts=RunFacts(title="t", about="t", settings={}, fingerprint="x"))
    assert "At equal time" not in (tmp_path / "alone" / "report.html").read_text()


def test_every_validation_and_every_save_is_timed(tmp_path: Path) -> None:
    run(tmp_path / "run", steps=6, facts=RunFacts(title="t", about="t", settings={}, fingerprint="x"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / CLOCK).read_text().splitlines()]
    assert steps == [0, 2, 3, 4, 6, 6]
    curve = curve_of(tmp_path / "run")
    assert [metrics for _, metrics in curve] == [{"swd": 3.0}] * 4
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(curve))
