"""A run that gets no better ends when it was told to, as exactly as it would have ended at its last step."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_methods import POINTS, Ring, ToyGAN, digest, logged_losses, settings_for, train_toy

from i2i.errors import InputError
from i2i.methods.base import Batch
from i2i.training.loop import train
from i2i.training.report import RunFacts, print_outcome, write_report

# By steps done. Best so far at steps 1, 2, 3 and 5; three in a row that are not follow step 5, though equal to it.
SCORES = (1.0, 9.0, 8.0, 7.0, 7.5, 6.0, 6.5, 6.0, 6.1, 5.0, 4.0, 5.0, 5.0)


class Scripted(ToyGAN):
    """Its held-out figure follows from the steps done, which it remembers."""

    scores = SCORES
    done = 0

    def stepped(self, step: int, *, critic_only: bool) -> None:
        self.done += 1

    def validate(self, batch: Batch) -> dict[str, float | Tensor]:
        return {"score": self.scores[self.done]}

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]


def train_scripted(out: Path, **changes: Any) -> tuple[dict[str, float], str]:
    """The metrics at the end, and the weights' digest."""
    torch.manual_seed(1)
    plain = {"steps": 12, "validate_every_steps": 1, "best_metric": "score", "early_stop_after": 3}
    result, method = train_toy("plain", out, method=Scripted(), validation_data=Ring(1), **(plain | changes))
    return result.metrics, digest(method)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def trained_steps(out: Path) -> int:
    return sum("losses" in line for line in lines(out))


def best(out: Path) -> str:
    text = (out / "best" / "generator" / "README.md").read_text()
    return text.partition("Trained for ")[2].partition(" steps")[0]


def test_it_stops_as_soon_as_it_was_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics, weights = train_scripted(tmp_path / "run")
    assert metrics == {"score": 6.1} and trained_steps(tmp_path / "run") == 8 and best(tmp_path / "run") == "5"
    assert "Trained for 8 steps" in (tmp_path / "run" / "generator" / "README.md").read_text()
    assert sorted((tmp_path / "run" / "state").iterdir())[-1].name == "step-00000008"
    printed = capsys.readouterr().out
    assert "Stopped early, at step 8 of 12: none of the last 3 measurements of score was better" in printed
    assert "than that of step 5, whose networks are in best/" in printed
    # Otherwise it is the run that was to have eight steps.
    train_scripted(tmp_path / "eight", steps=8, early_stop_after=None)
    *same, stopped = lines(tmp_path / "run")
    assert same == lines(tmp_path / "eight") and stopped.keys() == {"step", "stopped"}
    assert train_scripted(tmp_path / "eight", steps=8, early_stop_after=None)[1] == weights


def test_the_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics, _ = train_scripted(tmp_path / "run")
    facts = RunFacts(title="t", about="", settings={"training": {"best_metric": "score"}}, fingerprint="")
    write_report(tmp_path / "run", facts)
    capsys.readouterr()
    print_outcome(metrics, {}, out=tmp_path / "run")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Best by score: step 5 (6); figures and pictures are of step 8.")
    assert last.endswith(f"Use --weights {tmp_path / 'run' / 'best'}")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["best"] == {
        "metric": "score",
        "step": 5,
        "value": 6.0,
    }
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Stopped early, at step 8 of 12" in report and "Best by score are the networks of step 5" in report
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["step"] == 8
    # Networks are never chosen as they were before training: 1 at step 0 was better than all that followed.
    assert "Before training, score was better: 1, and 6 then." in report


def test_a_run_that_gets_better_is_not_said_to_have_been_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "scores", (10.0, *SCORES[1:]))
    train_scripted(tmp_path / "run")
    facts = RunFacts(title="t", about="", settings={"training": {"best_metric": "score"}}, fingerprint="")
    write_report(tmp_path / "run", facts)
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Best by score are the networks of step 5" in report and "Before training" not in report


def test_the_last_step_is_no_other_than_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics, _ = train_scripted(tmp_path / "run", steps=5)
    train_scripted(tmp_path / "none", steps=2, best_metric=None, early_stop_after=None)
    best = []
    for run in ("run", "none"):
        write_report(tmp_path / run, RunFacts(title="t", about="", settings={}, fingerprint=""))
        print_outcome(metrics, {}, out=tmp_path / run)
        best.append(json.loads((tmp_path / run / "metrics.json").read_text())["best"])
    assert "Best by" not in capsys.readouterr().out
    assert best == [{"metric": "score", "step": 5, "value": 6.0}, None]


@pytest.mark.parametrize("interrupted_at", [1, 6, 7])
def test_interrupted_while_it_counts_it_stops_at_the_same_step(tmp_path: Path, interrupted_at: int) -> None:
    whole = train_scripted(tmp_path / "whole")
    train_scripted(tmp_path / "run", steps=interrupted_at)
    assert train_scripted(tmp_path / "run") == whole
    for name in ("log.jsonl", "generator/generator.safetensors", "best/generator/generator.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_same_command_trains_no_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = train_scripted(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    capsys.readouterr()
    for changes in ({}, {"steps": 9}, {"early_stop_after": 2}):
        assert train_scripted(tmp_path / "run", **changes) == ended
        assert "Stopped early, at step 8" in capsys.readouterr().out
    for path, content in before.items():
        assert path.name == "run.json" or path.read_bytes() == content, path


@pytest.mark.parametrize(("patience", "steps", "chosen"), [(None, 12, "10"), (4, 12, "10"), (20, 9, "9")])
def test_with_more_patience_it_goes_on(tmp_path: Path, patience: int | None, steps: int, chosen: str) -> None:
    """As if it had never stopped."""
    train_scripted(tmp_path / "run")
    gone_on = train_scripted(tmp_path / "run", early_stop_after=patience, steps=steps)
    assert gone_on == train_scripted(tmp_path / "whole", early_stop_after=patience, steps=steps)
    assert best(tmp_path / "run") == best(tmp_path / "whole") == chosen
    assert [line for line in lines(tmp_path / "run") if "stopped" not in line] == lines(tmp_path / "whole")


def test_the_next_stage_begins(tmp_path: Path) -> None:
    """Of chained calls: what an early stop ended is complete."""
    for _ in range(2):
        train_scripted(tmp_path / "first")
        metrics, _ = train_scripted(tmp_path / "second", stage=1, steps=2, early_stop_after=None)
        assert metrics == {"score": 8.0}
    assert trained_steps(tmp_path / "first") == 8 and trained_steps(tmp_path / "second") == 2


def test_only_measurements_count(tmp_path: Path) -> None:
    """At every second step: 1, 8, 7.5, 6.5, 6.1, 4, 5. At step 0 it says nothing about training."""
    train_scripted(tmp_path / "run", validate_every_steps=2, early_stop_after=1)
    assert trained_steps(tmp_path / "run") == 12 and best(tmp_path / "run") == "10"


def test_figures_that_are_taken_at_the_end_are_taken(tmp_path: Path) -> None:
    asked = []

    def examine(say: object) -> dict[str, float]:
        asked.append(say)
        return {"examined": 1.0}

    torch.manual_seed(1)
    result = train(
        method=Scripted(),
        training_data=Ring(),
        validation_data=Ring(1),
        specs={"generator": POINTS},
        settings=settings_for(
            "plain", steps=12, validate_every_steps=1, best_metric="score", early_stop_after=3, preview_images=1
        ),
        out=tmp_path / "run",
        facts=RunFacts(title="t", about="", settings={}, fingerprint=""),
        examine=examine,
    )
    assert result.metrics == {"score": 6.1, "examined": 1.0} and len(asked) == 1


def test_a_figure_that_is_never_a_number_gets_no_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "scores", (math.nan,) * 13)
    train_scripted(tmp_path / "run")
    assert trained_steps(tmp_path / "run") == 3
    assert "none of the last 3 measurements of score was a number" in lines(tmp_path / "run")[-1]["stopped"]


def test_a_run_of_before_there_were_such_settings_goes_on(tmp_path: Path) -> None:
    """What its record lacks is as it was by default; what differs from that is refused."""
    train_toy("pool", tmp_path / "run")
    record = tmp_path / "run" / "run.json"
    identity = json.loads(record.read_text())
    for name in ("metrics", "early_stop_after", "best_is", "clip_norm", "decay_from", "adam_betas"):
        del identity["settings"]["training"][name]
    state = next((tmp_path / "run" / "state").glob("step-00000004"))
    shared = torch.load(state / "shared.pt", weights_only=True)
    for name in ("own_figures", "best_figure", "best_step", "no_better", "stopped"):
        del shared["record"][name]
    torch.save(shared, state / "shared.pt")
    for changes, complaint in (
        ({"clip_norm": 1.0}, r"clip_norm: was None, now 1\.0"),
        ({"decay_from": 0.25}, "was 0.5"),
    ):
        record.write_text(json.dumps(identity))
        with pytest.raises(InputError, match=complaint):
            train_toy("pool", tmp_path / "run", steps=6, **changes)
    train_toy("pool", tmp_path / "run", steps=6)
    train_toy("pool", tmp_path / "whole", steps=6)
    assert logged_losses(tmp_path / "run") == logged_losses(tmp_path / "whole") != []
