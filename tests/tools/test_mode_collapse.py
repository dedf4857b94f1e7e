"""tools/mode_collapse.py gives the same figures however many processes share the work, and goes on where it ended."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from i2i.data.image_io import read_image
from i2i.errors import InputError

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("mode_collapse")


def results(out: Path) -> dict[str, Any]:
    return json.loads(out.with_name(f"{out.name}.json").read_text())["results"]


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: value for key, value in cell.items() if key != "cpu_s"} for name, cell in found.items()}


def test_workers_make_no_difference_and_nothing_is_trained_twice(tool: ModuleType, tmp_path: Path) -> None:
    bench = {"data": "grid", "seeds": 2, "steps": 5, "only": ("wgan-gp", "ema")}
    tool.main(tool.Bench(**bench, workers=2, out=tmp_path / "two"))
    by_two = results(tmp_path / "two")
    assert sorted(by_two) == ["grid/ema/0", "grid/ema/1", "grid/wgan-gp/0", "grid/wgan-gp/1"]
    assert len({cell["digest"] for cell in by_two.values()}) == 4
    assert read_image(tmp_path / "two-grid.png").shape[2] >= 3
    assert (tmp_path / "two-grid.md").read_text().count("\n") == 2 + 2

    # One was trained before, marked here by a time that no training takes; another one too, but with other settings.
    kept = {**by_two["grid/ema/1"], "cpu_s": -1.0}
    begun = {"grid/ema/1": kept, "grid/wgan-gp/1": {**kept, "fingerprint": "other"}}
    (tmp_path / "one.json").write_text(json.dumps({"results": begun}))
    tool.main(tool.Bench(**bench, workers=1, out=tmp_path / "one"))
    by_one = results(tmp_path / "one")
    assert [name for name, cell in by_one.items() if cell["cpu_s"] < 0] == ["grid/ema/1"]
    assert without_times(by_one) == without_times(by_two)


def test_every_row_trains_both_networks(tool: ModuleType) -> None:
    """What becomes of them is not the same in any two rows, once the replay pool is full, after 20 steps."""
    torch.manual_seed(0)
    found = [tool.train(tool.Cell(data="ring", row=row, seed=0, steps=22))[1] for row in tool.ROWS]
    assert all(cell["skipped_steps"] == 0 and math.isfinite(cell["reverse_kl"]) for cell in found)
    assert len({cell["digest"] for cell in found}) == len(tool.ROWS)
    assert len({cell["fingerprint"] for cell in found}) == len(tool.ROWS)


def test_fingerprints(tool: ModuleType) -> None:
    def fingerprint(**changes: Any) -> str:
        return tool.Cell(**{"data": "grid", "row": "slow, unrolled", "seed": 0, "steps": 9, **changes}).fingerprint

    same = fingerprint()
    assert same == fingerprint()
    assert all(same != fingerprint(**c) for c in ({"data": "ring"}, {"row": "ema"}, {"seed": 1}, {"steps": 8}))
    code = "import mode_collapse as m; print(m.Cell(data='grid', row='slow, unrolled', seed=0, steps=9).fingerprint)"
    other = subprocess.run([sys.executable, "-c", code], cwd=TOOLS, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == same  # no address of this process is in it


def test_means_and_deviations(tool: ModuleType) -> None:
    """Of 20 and 24 modes, ± √((2² + 2²) / 1); time is told next to the plain row's."""
    found = [
        {"modes": 20, "good": 0.5, "reverse_kl": 0.25, "cpu_s": 3.0},
        {"modes": 24, "good": 0.6, "reverse_kl": 0.25, "cpu_s": 5.0},
    ]
    plain = [{"modes": 1, "good": 0.0, "reverse_kl": 3.0, "cpu_s": 2.0}]
    line = tool.line("r1", found, plain=plain)
    assert (line.modes, line.good, line.reverse_kl, line.time) == ("22.0 ± 2.8", "55 ± 7", "0.25 ± 0.00", "2.0 x")
    assert tool.line("r1", found[:1], plain=None).modes == "20.0"
    assert tool.line("r1", found[:1], plain=None).time == "3 s"


def test_rows_have_names(tool: ModuleType) -> None:
    with pytest.raises(InputError, match=r"wgan-gp.*got 'wgan_gp'"):
        tool.Bench(only=("wgan_gp",))
    with pytest.raises(InputError, match="--seeds"):
        tool.Bench(seeds=0)
