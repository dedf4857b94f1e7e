"""What a person looks at to judge a run: a grid of samples, a self-contained report.html and metrics.json.

All of it is made from the run's folder, so it can be made again at any time.
"""

import html
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils._pytree import tree_leaves, tree_map_only

from i2i import __version__
from i2i.checkpoints.card import (
    HELD_OUT,
    SETTINGS,
    Card,
    Section,
    bullets,
    data_section,
    last_name,
    render_card,
    section,
    shown_fingerprint,
    without_folders,
)
from i2i.errors import InputError
from i2i.evaluation.pages import PAGE, columns_of, inline, picture
from i2i.evaluation.report import meaning_of
from i2i.files import replacing
from i2i.metrics.meanings import badness, good_end
from i2i.training.clock import LOG, Curve, at_equal_time, curve_of, measuring_taken, seconds_taken
from i2i.training.progress import duration

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SAMPLES = "samples"
PICTURES = "pictures"
"""Folder of a run whose PNG files the report shows, each under its own name."""

NOT_MEASURED = "n/a"

# What its figures are over, in a card.
MEASURED_ON = (
    "Measured during training on its held-out data as it was prepared there, cut and scaled. What `i2i evaluate` "
    "measures on files does not compare with these."
)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run is, in a person's words and numbers.

    Attributes:
        title: a few words.
        about: a sentence or two on what was trained on what.
        settings: all that was chosen, JSON-able; `train` adds its own as "training".
        fingerprint: identifies the training data.
        baselines: metrics of simple ways to do the same, by name, to hold the run's own against.
        compare: folders of other runs on the same data, whose metrics over time stand beside the run's own.
        spent_s: seconds that earlier stages took, which count as the run's.
    """

    title: str
    about: str
    settings: dict[str, Any]
    fingerprint: str
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    compare: tuple[Path, ...] = ()
    spent_s: float = 0.0


def recorded(settings: "DataclassInstance") -> dict[str, Any]:
    """A recipe's settings as `RunFacts` holds them: without `out`, and without `training`, which `train` adds."""
    chosen = {name: value for name, value in asdict(settings).items() if name not in ("out", "training")}
    return tree_map_only(Path, str, chosen)


def figures_of(runs: Sequence[Path], *, fingerprint: str) -> dict[str, dict[str, float]]:
    """The last held-out figures of other runs by the names of their folders, to stand beside a run's own.

    fingerprint: of the data that they must have been trained on.

    Raises:
        InputError: a folder holds no finished run, or one on other data.
    """
    figures = {}
    for run in runs:
        try:
            summary = json.loads((run / "metrics.json").read_text())
        except OSError as error:
            raise InputError(
                f"{run} holds no metrics.json to compare with: give the folder of a finished run"
            ) from error
        if summary["data"] != fingerprint:
            raise InputError(f"{run} was trained on other data, so its figures cannot be compared with this run's")
        figures[run.name] = summary["metrics"]
    return figures


def held_against(out: Path, facts: RunFacts) -> dict[str, dict[str, float]]:
    """What a run's metrics stand beside, by name: its baselines, and other runs after as long as it has taken."""
    return facts.baselines | at_equal_time(facts.compare, seconds=seconds_taken(out))


def print_figures(metrics: dict[str, float], baselines: dict[str, dict[str, float]]) -> None:
    """Held-out figures as a table on the terminal, the run's own first.

    Runs stand side by side where their names have room, and below each other else.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    runs = {"this run": metrics, **baselines}
    rows = [["held out", *runs]]
    for name in metrics:
        rows.append([name, *(_cell(values, name) for values in runs.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * len(widths) > console.width:
        rows = [list(column) for column in zip(*rows, strict=True)]
    heading, *rows = rows
    table = Table(heading[0], box=None)
    for label in heading[1:]:
        table.add_column(Text(label), justify="right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    for line in _explained(metrics, baselines):
        print(line)


def print_outcome(metrics: dict[str, float], baselines: dict[str, dict[str, float]], *, out: Path) -> None:
    """How well a finished run did, where to look, and which of its networks did best, on the terminal."""
    print_figures(metrics, baselines)
    print(f"Look at {out / 'samples.png'} and {out / 'report.html'}")
    summary = json.loads((out / "metrics.json").read_text())
    best = summary["best"]
    if best is not None and best["step"] != summary["step"]:
        print(
            f"Best by {best['metric']}: step {best['step']} ({best['value']:.4g}); figures and pictures are of step "
            f"{summary['step']}. Use --weights {out / 'best'}"
        )


def _cell(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.4g}" if name in values else NOT_MEASURED


def _explained(metrics: Iterable[str], baselines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What those metrics mean of which it is known, and why some have no figure beside them, a sentence each."""
    metrics = list(metrics)
    plain = dict.fromkeys(name.removesuffix("_b_to_a") for name in metrics)
    lines = [f"{name}: {meaning}" for name in plain if (meaning := meaning_of(name))]
    if any(name.endswith("_b_to_a") for name in metrics):
        lines.append("…_b_to_a: the same of B → A")
    if any(name not in values for values in baselines.values() for name in metrics):
        lines.append(f"{NOT_MEASURED}: means nothing of that baseline, or was not measured of that run")
    return lines


def sample_grids(out: Path) -> list[Path]:
    """The grids of a run, in the order of their steps, which are their names."""
    return sorted((out / SAMPLES).glob("[0-9]*.png"))


def model_card(facts: RunFacts, *, step: int, metrics: dict[str, float]) -> str:
    """The text of a generator's model card, in Markdown; paths are shown by their last names."""
    places = [value for value in tree_leaves(facts.settings) if isinstance(value, str)]
    about = without_folders(facts.about, places=places)
    settings = tree_map_only(str, last_name, facts.settings)
    sections = [
        Section(heading=f"# {facts.title}", text=f"{about}\n\nTrained for {step} steps with i2i {__version__}."),
        data_section(fingerprint=facts.fingerprint),
    ]
    if metrics:
        table = "\n".join(_markdown_table(metrics, facts.baselines))
        sections.append(
            section(HELD_OUT, f"{MEASURED_ON}\n\n{table}\n\n{bullets(_explained(metrics, facts.baselines))}")
        )
    sections.append(section(SETTINGS, f"```json\n{json.dumps(settings, indent=2)}\n```"))
    return render_card(Card(header="", sections=tuple(sections)))


def _markdown_table(metrics: dict[str, float], baselines: dict[str, dict[str, float]]) -> list[str]:
    names = list(metrics)
    rows = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for label, values in {"this generator": metrics, **baselines}.items():
        cells = [_cell(values, name) for name in names]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return rows


def write_report(out: Path, facts: RunFacts) -> None:
    """Write report.html, metrics.json and samples.png from what lies in the run's folder."""
    lines = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    steps = [line for line in lines if "losses" in line]
    measured = [line for line in lines if "metrics" in line]
    alarms = [line for line in lines if "alarm" in line]
    metrics = measured[-1]["metrics"] if measured else {}
    last = lines[-1]["step"] if lines else 0
    skipped = sum(line["skipped"] for line in steps)

    baselines = held_against(out, facts)

    summary = {
        "step": last,
        "metrics": metrics,
        "best": _best(facts, measured),
        "baselines": baselines,
        "skipped_steps": skipped,
        "alarms": alarms,
        "data": facts.fingerprint,
    }
    with replacing(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")

    grids = sample_grids(out)
    if grids:
        with replacing(out / "samples.png") as temporary:
            temporary.write_bytes(grids[-1].read_bytes())

    body = [
        f"<h1>{html.escape(facts.title)}</h1>",
        f"<p>{html.escape(facts.about)}</p>",
        f"<p>{last} steps, {skipped} of them skipped.</p>",
        *(f"<p>{html.escape(line['stopped'])}</p>" for line in lines[-1:] if "stopped" in line),
        *(f'<p class="alarm">Step {a["step"]}: {html.escape(a["alarm"])}</p>' for a in alarms),
        "<h2>Held-out metrics</h2>",
        _html_table(metrics, baselines),
        *(f"<p>{html.escape(line)}</p>" for line in _measured(out, facts, measured)),
        "<h2>Newest samples</h2>",
        *(f"<p>{columns_of(path)}</p>{picture(path, largest_px=4096)}" for path in grids[-1:]),
        *(
            f"<h2>{html.escape(path.stem.capitalize())}</h2><p>{columns_of(path)}</p>{picture(path, largest_px=4096)}"
            for path in sorted((out / PICTURES).glob("*.png"))
        ),
        "<h2>Curves</h2>",
        _curves(steps, measured, facts.baselines),
        *_race(out, facts),
        "<h2>Samples over time</h2>",
        '<div class="over-time">',
        *(
            f"<figure>{picture(path, largest_px=1200)}<figcaption>step {int(path.stem)}</figcaption></figure>"
            for path in _spread(grids, 8)
        ),
        "</div>",
        "<h2>Settings</h2>",
        f"<pre>{html.escape(json.dumps(facts.settings, indent=2))}</pre>",
        f"<p>Data fingerprint: <code>{html.escape(shown_fingerprint(facts.fingerprint))}</code></p>",
    ]
    with replacing(out / "report.html") as temporary:
        temporary.write_text(PAGE.format(title=html.escape(facts.title), body="\n".join(body)))


def _html_table(metrics: dict[str, float], baselines: dict[str, dict[str, float]]) -> str:
    if not metrics:
        return "<p>This method measures none.</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in metrics)
    rows = ""
    for label, values in {"this run": metrics, **baselines}.items():
        cells = "".join(f"<td>{_cell(values, name)}</td>" for name in metrics)
        rows += f"<tr><td>{html.escape(label)}</td>{cells}</tr>"
    meanings = "<br>".join(html.escape(line) for line in _explained(metrics, baselines))
    return f"<table><tr><th></th>{head}</tr>{rows}</table><p>{meanings}</p>"


def _best(facts: RunFacts, measured: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Which figure the networks in best/ were chosen by, at which step, and how good it was."""
    lines = [line for line in measured if line.get("best")]
    if not lines:
        return None
    # Runs of before there were other metrics say no more than that it was the best.
    known = lines[-1]["best"]
    name = known if isinstance(known, str) else facts.settings.get("training", {}).get("best_metric")
    return {"metric": name, "step": lines[-1]["step"], "value": lines[-1]["metrics"][name]}


def _measured(out: Path, facts: RunFacts, measured: list[dict[str, Any]]) -> list[str]:
    """Which step was best, and what measuring it cost."""
    chosen = facts.settings.get("training", {})
    lines = []
    best = _best(facts, measured)
    if best is not None:
        name, value = best["metric"], best["value"]
        lines.append(f"Best by {name} are the networks of step {best['step']}, in best/.")
        end = chosen.get("best_is") or good_end(name) or "lowest"
        untrained = measured[0]["metrics"].get(name, math.nan)
        if measured[0]["step"] == 0 and badness(untrained, end) < badness(value, end):
            lines.append(
                f"Before training, {name} was better: {untrained:.4g}, and {value:.4g} then. best/ holds trained "
                "networks only; those that the run began with are as good as they were."
            )
    seconds = measuring_taken(out)
    if seconds:
        share = seconds / max(seconds_taken(out) - facts.spent_s, 1e-9)
        names = ", ".join(chosen.get("metrics", ()))
        lines.append(f"Measuring {names} took {duration(seconds)} in all, {share:.0%} of the time.")
    return lines


def _spread(items: list[Path], count: int) -> list[Path]:
    """At most `count` items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _curves(steps: list[dict[str, Any]], measured: list[dict[str, Any]], baselines: dict[str, dict[str, float]]) -> str:
    """Losses, figures beside them, accuracy and held-out metrics against steps, each in a panel of its own."""
    from matplotlib.figure import Figure

    losses = list(dict.fromkeys(name for line in steps for name in line["losses"]))
    figures = list(dict.fromkeys(name for line in steps for name in line.get("figures", {})))
    has_accuracy = any(line["accuracy"] is not None for line in steps)
    points: dict[str, list[tuple[int, float]]] = {}
    for line in measured:
        for name, value in line["metrics"].items():
            points.setdefault(name, []).append((line["step"], value))
    # Figures that are taken at the end alone make no curve.
    metrics = [name for name in points if len(points[name]) > 1 or points[name][0][0] == measured[0]["step"]]
    titles = [f"loss: {name}" for name in losses] + figures
    titles += ["discriminator accuracy"] * has_accuracy + [f"held-out: {name}" for name in metrics]
    if not titles:
        return "<p>Nothing was logged yet.</p>"

    rows = -(-len(titles) // 3)
    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False).flatten()
    for panel, title in zip(panels, titles, strict=False):
        panel.set_title(title, fontsize=10)
        panel.grid(alpha=0.3)
    for panel in panels[len(titles) :]:
        panel.axis("off")
    remaining = iter(panels)
    for kind, names in (("losses", losses), ("figures", figures)):
        for name in names:
            _draw_noisy(next(remaining), [(line["step"], line.get(kind, {}).get(name)) for line in steps])
    if has_accuracy:
        panel = next(remaining)
        _draw_noisy(panel, [(line["step"], line["accuracy"]) for line in steps])
        panel.set_ylim(-0.02, 1.02)
        panel.axhline(0.5, color="grey", linestyle=":", label="guessing")
        panel.legend(fontsize=8)
    for name in metrics:
        panel = next(remaining)
        panel.plot(*zip(*points[name], strict=True), marker="o", markersize=3)
        for number, (label, known) in enumerate(baselines.items()):
            if name in known:
                panel.axhline(known[name], color=f"C{number + 1}", linestyle="--", label=label)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return inline(buffer.getvalue(), "image/png", "curves")


def _race(out: Path, facts: RunFacts) -> list[str]:
    """Held-out metrics of this run and of those that it is compared with, against minutes; nothing without such."""
    curves: dict[str, Curve] = {"this run": curve_of(out), **{run.name: curve_of(run) for run in facts.compare}}
    curves = {name: curve for name, curve in curves.items() if curve}
    if len(curves) < 2 or "this run" not in curves:
        return []
    from matplotlib.figure import Figure

    known = [{metric for _, metrics in curve for metric in metrics} for curve in curves.values()]
    # Figures that are taken at the end alone make no curve.
    names = [name for name in curves["this run"][0][1] if all(name in metrics for metrics in known)]
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    for panel, name in zip(figure.subplots(1, max(3, len(names)), squeeze=False)[0], names, strict=False):
        for run, curve in curves.items():
            points = [(seconds / 60, metrics[name]) for seconds, metrics in curve if name in metrics]
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=run)
        panel.set_title(f"held-out: {name}", fontsize=10)
        panel.set_xlabel("minutes")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return ["<h2>At equal time</h2>", inline(buffer.getvalue(), "image/png", "curves over time")]


def _draw_noisy(panel: Any, points: list[tuple[int, float | None]]) -> None:
    """Values as they are, faint, under their running mean over a fiftieth of the run."""
    known = [(step, value) for step, value in points if value is not None and np.isfinite(value)]
    if not known:
        return
    known = known[:: max(1, len(known) // 5000)]
    steps, values = (np.array(column, dtype=float) for column in zip(*known, strict=True))
    window = max(1, len(values) // 50)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    panel.plot(steps, values, alpha=0.25, linewidth=0.8)
    panel.plot(steps, (sums[ends] - sums[starts]) / (ends - starts), color="C0")
