"""What the report takes from other runs, and from a look at the finished one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_methods import POINTS, Ring, ToyGAN

from i2i.checkpoints.card import entries_in, parse_card
from i2i.errors import InputError
from i2i.evaluation.pages import write_grid
from i2i.training.config import TrainingSettings
from i2i.training.loop import train
from i2i.training.report import PICTURES, RunFacts, _curves, figures_of, model_card, print_figures


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
    assert ["l1", "0.125", "0.25", "n/a"] in table and ["swd", "12.5", "n/a", "7"] in table
    assert ["n/a:", "means", "nothing", "of"] in [row[:4] for row in table]


def test_figures_of_many_runs_stand_below_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that names stay in one piece; a name is no markup."""
    names = ("real images", "mean image", "dcgan-streets-long", "dcgan-streets-long at 12.5 min", "[bold]sngan")
    metrics = {"swd": 12.5, "variety": 0.75, "class_agreement": 0.5}
    monkeypatch.setenv("COLUMNS", "80")
    print_figures(metrics, {name: {"swd": 100.0 + place} for place, name in enumerate(names)})
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["held", "out", "swd", "variety", "class_agreement"]
    assert table[1].split() == ["this", "run", "12.5", "0.75", "0.5"]
    for place, name in enumerate(names):
        assert table[2 + place].split() == [*name.split(), str(100 + place), "n/a", "n/a"]
    print_figures(metrics, {"real images": {"swd": 3.0}, "mean image": {}})
    assert capsys.readouterr().out.splitlines()[0].split()[2:6] == ["this", "run", "real", "images"]


def test_runs_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", data="y", l1=0.25)
    with pytest.raises(InputError, match=r"other was trained on other data"):
        figures_of([other], fingerprint="x")
    with pytest.raises(InputError, match=r"missing holds no metrics.json"):
        figures_of([tmp_path / "missing"], fingerprint="x")


def test_figures_that_take_long_are_taken_once_and_pictures_shown(tmp_path: Path) -> None:
    out, asked = tmp_path / "run", []
    method = ToyGAN()

    def examine(say: Callable[[str], None]) -> dict[str, float]:
        # As generators are exported: averaged, and in inference mode.
        asked.append((method.generators["generator"].training, torch.is_grad_enabled()))
        (out / PICTURES).mkdir()
        write_grid(out / PICTURES / "wheels.png", {"a": torch.zeros(3, 1, 4, 4), "b": torch.ones(3, 3, 4, 4)}, across=1)
        return {"long": 0.5}

    result = train(
        method=method,
        training_data=Ring(),
        validation_data=Ring(),
        specs={"generator": POINTS},
        settings=TrainingSettings(steps=4, batch_size=5, validate_every_steps=2, workers=0, device="cpu"),
        out=out,
        facts=RunFacts(title="t", about="t", settings={}, fingerprint="x", baselines={"other": {"long": 0.25}}),
        examine=examine,
    )
    assert asked == [(False, False)]
    assert result.metrics.keys() == {"x", "median", "long"}
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert ["long" in line["metrics"] for line in lines if "metrics" in line] == [False, False, True]
    assert json.loads((out / "metrics.json").read_text())["metrics"]["long"] == 0.5
    page = (out / "report.html").read_text()
    assert "<h2>Wheels</h2><p>From left to right: a, b.</p>" in page
    assert "<th>long</th>" in page
    assert "| long |" in (out / "generator" / "README.md").read_text()


def test_figures_beside_losses_have_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda panel, title, **style: titles.append(title))
    drawn: list[list[float]] = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.plot", lambda panel, steps, values, **style: drawn.append(np.asarray(values).tolist())
    )
    steps = [
        {"step": 1, "losses": {"l1": 0.5}, "accuracy": None},
        {"step": 2, "losses": {"l1": 0.25}, "figures": {"augmentation": 0.125}, "accuracy": None},
    ]
    _curves(steps, [], {})
    assert titles == ["loss: l1", "augmentation"]
    assert drawn[0] == [0.5, 0.25] and drawn[2] == [0.125]


def test_the_card_says_what_the_data_are_and_what_is_not_stated() -> None:
    facts = RunFacts(title="Streets", about="By night.", settings={"width": 8}, fingerprint="abc")
    card = parse_card(model_card(facts, step=7, metrics={"psnr": 21.5}))
    assert [part.heading for part in card.sections] == ["# Streets", "## Data", "## Held-out metrics", "## Settings"]
    assert card.text("#").startswith("By night.\n\nTrained for 7 steps with i2i ")
    assert entries_in(card.text("Data")) == {"Source": "not stated", "Licence": "not stated", "Fingerprint": "`abc`"}
    assert json.loads(card.text("Settings").removeprefix("```json").removesuffix("```")) == {"width": 8}
    assert card.text("Held-out metrics").startswith("Measured during training on its held-out data as it was prepared")
    assert "| this generator | 21.5 |" in card.text("Held-out metrics")
    assert "- psnr: nearness to the truth in dB" in card.text("Held-out metrics")


def test_the_card_does_not_say_where_files_lay() -> None:
    settings = {"data": "/home/anna meier/streets", "losses": {"weights": ["../secret/vgg.pth"]}, "width": 8}
    about = "/home/anna meier/streets holds 3 images, by ~/secret/list.csv."
    text = model_card(RunFacts(title="x", about=about, settings=settings, fingerprint="a"), step=1, metrics={})
    assert "streets holds 3 images, by list.csv." in text
    shown = json.loads(parse_card(text).text("Settings").removeprefix("```json").removesuffix("```"))
    assert shown == {"data": "streets", "losses": {"weights": ["vgg.pth"]}, "width": 8}
