"""What the report takes from other runs."""

import json
from pathlib import Path

import pytest

from i2i.errors import InputError
from i2i.training.report import figures_of, print_figures


def write_run(folder: Path, *, data: str, **metrics: float) -> Path:
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"step": 3, "metrics": metrics, "data": data}))
    return folder


def test_figures_of_other_runs_stand_beside_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, old = write_run(tmp_path / "plain", data="x", l1=0.25), write_run(tmp_path / "old", data="x", swd=7.0)
    figures = figures_of([plain, old], fingerprint="x")
    assert figures == {"plain": {"l1": 0.25}, "old": {"swd": 7.0}}
    print_figures({"l1": 0.125, "swd": 12.5}, figures)
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[0] == ["held", "out", "this", "run", "plain", "old"]
    assert ["l1", "0.125", "0.25"] in table and ["swd", "12.5", "7"] in table


def test_runs_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", data="y", l1=0.25)
    with pytest.raises(InputError, match=r"other was trained on other data"):
        figures_of([other], fingerprint="x")
    with pytest.raises(InputError, match=r"missing holds no metrics.json"):
        figures_of([tmp_path / "missing"], fingerprint="x")
