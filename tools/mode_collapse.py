"""What adversarial objectives and stabilisers do against mode collapse, on mixtures of Gaussians in the plane.

    python tools/mode_collapse.py --seeds 5 --out runs/mode_collapse

Small networks are trained with i2i's own training step; each row of the table changes one thing. Writes OUT.json with
all results, and for each data set a table, OUT-grid.md, and a picture, OUT-grid.png. Called again, it trains only what
OUT.json lacks. docs/gan.md says how to read the table.
"""

import hashlib
import io
import json
import math
import multiprocessing
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from tyro.conf import UseAppendAction, arg

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.cli.entry import exit_code, parse
from i2i.data.points import Gaussians
from i2i.discriminators import MLPDiscriminator
from i2i.errors import InputError
from i2i.files import replacing
from i2i.generators import MLPGenerator
from i2i.layers.conv import add_spectral_norm
from i2i.layers.minibatch import Minibatch
from i2i.losses.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticPaired,
    Wasserstein,
)
from i2i.losses.penalties import NO_PENALTIES, Penalties
from i2i.methods.base import Batch, Method
from i2i.methods.gan import GAN
from i2i.methods.stabilisers import HistoricalAveraging, InstanceNoise, Replay, WeightClipping
from i2i.methods.unrolled import Unrolled
from i2i.training.config import TrainingSettings
from i2i.training.loop import Trainer, make_accelerator

# What all rows share. Latent vectors of two channels as in VEEGAN and PacGAN; as many samples are judged as there.
LATENT_CHANNELS = 2
WIDTH = 64
LAYERS = 3
BATCH_SIZE = 128
LEARNING_RATE = 3e-3
STEPS = 5000
SAMPLES = 2500

SPEC = GeneratorSpec(input=None, output=ImageSide(channels=2, dtype="float32", data_range=(-1, 1)))
PLAIN = "non-saturating"
PLAIN_OBJECTIVE = NonSaturating()

DataName = Literal["ring", "grid"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a row of the table does; the defaults are the plain GAN's.

    around: makes the stabiliser that the method is put into; a `partial`, which shows its arguments.
    settings: of the training loop.
    """

    objective: AdversarialLoss = PLAIN_OBJECTIVE
    penalties: Penalties = NO_PENALTIES
    feature_matching: bool = False
    minibatch: Minibatch = "none"
    spectral_norm: bool = False
    around: Callable[[Method], Method] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def method(self) -> Method:
        generator = MLPGenerator(latent_channels=LATENT_CHANNELS, out_channels=2, width=WIDTH, layers=LAYERS)
        discriminator = MLPDiscriminator(in_channels=2, width=WIDTH, layers=LAYERS, minibatch=self.minibatch)
        if self.spectral_norm:
            add_spectral_norm(discriminator)
        method = GAN(
            generator=generator,
            discriminator=discriminator,
            objective=self.objective,
            penalties=self.penalties,
            feature_matching_weight=1.0 if self.feature_matching else 0.0,
            adversarial_weight=0.0 if self.feature_matching else 1.0,
        )
        return self.around(method) if self.around else method


# Numbers are the papers' where they give any, and 0.1 for all gradient penalties: that is what WGAN-GP's authors take
# in their code for this very grid. Unrolling's authors have a slow discriminator in theirs, which is a row of its own
# here; they unroll Adam's steps, so the rate of plain ones is not theirs, but the one number that was chosen by trial.
SLOW = {"generator_learning_rate": 1e-3, "discriminator_learning_rate": 1e-4}
ROWS = {
    PLAIN: Row(),
    "minimax": Row(objective=Minimax()),
    "lsgan": Row(objective=LeastSquares()),
    "hinge": Row(objective=Hinge()),
    "relativistic paired": Row(objective=RelativisticPaired()),
    "relativistic average": Row(objective=RelativisticAverage()),
    "wgan, clipping": Row(
        objective=Wasserstein(), around=partial(WeightClipping, limit=0.01), settings={"critic_steps": 5}
    ),
    "wgan-gp": Row(objective=Wasserstein(), penalties=Penalties(gradient_penalty=0.1), settings={"critic_steps": 5}),
    "dragan": Row(penalties=Penalties(dragan=0.1)),
    "r1": Row(penalties=Penalties(r1=0.1)),
    "r1 + r2": Row(penalties=Penalties(r1=0.1, r2=0.1)),
    "label smoothing": Row(objective=NonSaturating(real_label=0.9)),
    "instance noise": Row(around=partial(InstanceNoise, deviation=0.5, steps=STEPS // 2)),
    "spectral norm": Row(spectral_norm=True),
    "5 critic steps": Row(settings={"critic_steps": 5}),
    "ttur": Row(settings={"generator_learning_rate": LEARNING_RATE / 4}),
    "minibatch stddev": Row(minibatch="stddev"),
    "minibatch discrimination": Row(minibatch="discrimination"),
    "feature matching": Row(feature_matching=True),
    "historical averaging": Row(around=partial(HistoricalAveraging, weight=0.01)),
    "replay": Row(around=partial(Replay, capacity=20 * BATCH_SIZE)),
    "slow discriminator": Row(settings=SLOW),
    "slow, unrolled": Row(around=partial(Unrolled, steps=5, learning_rate=0.1), settings=SLOW),
    "ema": Row(settings={"ema_decay": 0.999}),
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is trained, how long, and where results go.

    Attributes:
        data: the ring of 8 Gaussians, the grid of 25, or both.
        seeds: how many times each row is trained, with other weights, data and noise.
        steps: generator updates, the same for all rows.
        only: rows to train and show, by the names in the table; all unless given. Repeat for several.
        workers: processes that train side by side, one thread each; as many as there are cores unless given. Results do
            not depend on it.
        out: beginning of the names of the files to write.
    """

    data: Literal["ring", "grid", "both"] = "both"
    seeds: int = 5
    steps: int = STEPS
    only: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME")]] = ()
    workers: int | None = None
    out: Path = Path("runs/mode_collapse")

    def __post_init__(self) -> None:
        for name in self.only:
            if name not in ROWS:
                raise InputError(f"--only: expected one of {', '.join(map(repr, ROWS))}; got {name!r}")
        for name in ("seeds", "steps", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name}: expected at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training: a row, on one data set, with one seed."""

    data: DataName
    row: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.data}/{self.row}/{self.seed}"

    @property
    def settings(self) -> TrainingSettings:
        common: dict[str, Any] = {
            "generator_learning_rate": LEARNING_RATE,
            "discriminator_learning_rate": LEARNING_RATE,
            "steps": self.steps,
            "batch_size": BATCH_SIZE,
            "device": "cpu",
            "threads": 1,
            "seed": self.seed,
        }
        return TrainingSettings(**{**common, **ROWS[self.row].settings})

    @property
    def fingerprint(self) -> str:
        """Of all that decides the result, but for i2i's own code."""
        common = (LATENT_CHANNELS, WIDTH, LAYERS, SAMPLES, torch.__version__)
        return hashlib.sha256(repr((self, ROWS[self.row], self.settings, common)).encode()).hexdigest()[:16]


def mixture(name: DataName) -> Gaussians:
    return Gaussians.ring(length=1) if name == "ring" else Gaussians.grid(length=1)


def train(cell: Cell) -> tuple[Cell, dict[str, Any]]:
    """Train a cell; its figures, and the processor time that its training took."""
    settings, data = cell.settings, mixture(cell.data)
    torch.manual_seed(settings.seed)
    method = ROWS[cell.row].method()
    batches = endless(data, random=torch.Generator().manual_seed(2**32 + settings.seed))
    accelerator = make_accelerator(settings, out=Path())
    trainer = Trainer(method=method, settings=settings, accelerator=accelerator, batches=batches)
    begun, skipped = time.process_time(), 0
    for step in range(settings.steps):
        skipped += trainer.step(step).skipped
    seconds = time.process_time() - begun
    with trainer.evaluating({"generator": SPEC}):
        samples = method.generators["generator"](torch.randn(SAMPLES, LATENT_CHANNELS))
    return cell, {
        "fingerprint": cell.fingerprint,
        **asdict(data.coverage(samples)),
        "skipped_steps": skipped,
        "cpu_s": round(seconds, 2),
        "digest": hashlib.sha256(samples.numpy().tobytes()).hexdigest()[:16],
        # For the picture, which shows the first seed, whatever came of it.
        "samples": [[round(x, 3), round(y, 3)] for x, y in samples.tolist()] if cell.seed == 0 else [],
    }


def endless(data: Gaussians, *, random: torch.Generator) -> Iterator[Batch]:
    """Batches of points that are never seen twice."""
    while True:
        points, _ = data.draw(BATCH_SIZE, random=random)
        yield {"real": points}


def main(bench: Bench) -> None:
    """Train what is missing, then print and write tables and pictures."""
    names: list[DataName] = ["ring", "grid"] if bench.data == "both" else [bench.data]
    rows = [row for row in ROWS if not bench.only or row in bench.only]
    cells = [
        Cell(data=data, row=row, seed=seed, steps=bench.steps)
        for data in names
        for seed in range(bench.seeds)
        for row in reversed(rows)  # cheap ones last, so that no process is left with a dear one
    ]
    path = bench.out.with_name(f"{bench.out.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    results = fill(path, cells, workers=bench.workers or os.cpu_count() or 1)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for data in names:
        found = {row: [results[cell.name] for cell in cells if (cell.data, cell.row) == (data, row)] for row in rows}
        lines = [line(row, found[row], plain=found.get(PLAIN)) for row in rows]
        console.print(table(data, lines, bench))
        for suffix, write in ((".md", partial(write_markdown, lines)), (".png", partial(write_picture, data, found))):
            target = bench.out.with_name(f"{bench.out.name}-{data}{suffix}")
            with replacing(target) as temporary:
                write(temporary)
            console.print(str(target), soft_wrap=True)


def begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends the others
    torch.set_num_threads(1)


def fill(path: Path, cells: list[Cell], *, workers: int) -> dict[str, dict[str, Any]]:
    """The results kept in a file, after the cells that it lacks were trained; each is kept as soon as it is there."""
    results: dict[str, dict[str, Any]] = json.loads(path.read_text())["results"] if path.exists() else {}
    missing = [cell for cell in cells if results.get(cell.name, {}).get("fingerprint") != cell.fingerprint]
    if not missing:
        return results
    facts = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Fresh processes of one thread each: sums are rounded alike, whatever was computed in this one.
    with Progress(*columns, TimeRemainingColumn(), disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("training", total=len(missing))
        with multiprocessing.get_context("spawn").Pool(min(workers, len(missing)), begin_worker) as pool:
            for cell, result in pool.imap_unordered(train, missing):
                results[cell.name] = result
                with replacing(path) as temporary:
                    temporary.write_text(json.dumps({"facts": facts, "results": results}))
                progress.update(task, advance=1, description=cell.name)
    return results


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row as it is shown: mean ± standard deviation over the seeds."""

    row: str
    modes: str
    good: str
    reverse_kl: str
    time: str


HEADER = Line(row="", modes="modes", good="good samples, %", reverse_kl="reverse KL", time="time")


def line(row: str, found: list[dict[str, Any]], *, plain: list[dict[str, Any]] | None) -> Line:
    def spread(key: str, digits: int, factor: float = 1.0) -> str:
        values = [factor * result[key] for result in found]
        deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.{digits}f}{deviation}"

    def cost(results: list[dict[str, Any]]) -> float:
        return statistics.mean(result["cpu_s"] for result in results)

    return Line(
        row=row,
        modes=spread("modes", 1),
        good=spread("good", 0, 100),
        reverse_kl=spread("reverse_kl", 2),
        time=f"{cost(found) / cost(plain):.1f} x" if plain else f"{cost(found):.0f} s",
    )


def table(data: DataName, lines: list[Line], bench: Bench) -> Table:
    modes = len(mixture(data).centres)
    out = Table(
        title=f"Mode collapse on the {data} of {modes} Gaussians",
        caption=f"{bench.steps} steps, {bench.seeds} seeds, mean ± deviation; time of a processor next to {PLAIN}",
    )
    for title in asdict(HEADER).values():
        out.add_column(title, justify="right" if title else "left")
    for shown in lines:
        out.add_row(*asdict(shown).values())
    return out


def write_markdown(lines: list[Line], path: Path) -> None:
    rows = [HEADER, Line(row="---", modes="--:", good="--:", reverse_kl="--:", time="--:"), *lines]
    path.write_text("".join(f"| {' | '.join(asdict(row).values())} |\n" for row in rows))


def write_picture(data: DataName, found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The first seed's samples of each row over circles where the Gaussians are; red circles have no good sample."""
    from matplotlib.figure import Figure
    from PIL import Image

    mixed = mixture(data)
    real, _ = mixed.draw(SAMPLES, random=torch.Generator().manual_seed(0))
    panels = {"data": real} | {row: torch.tensor(results[0]["samples"]) for row, results in found.items()}
    columns = math.ceil(math.sqrt(len(panels)))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.15 * rows), layout="constrained")
    reach = 1.25 * mixed.centres.abs().max().item()
    for axes, (name, points) in zip(figure.subplots(rows, columns, squeeze=False).flat, panels.items(), strict=False):
        coverage = mixed.coverage(points)
        axes.scatter(*points.T, s=1.5, color="#1f4e79", linewidths=0, alpha=0.5)
        nearest = torch.cdist(mixed.centres, points).min(dim=1).values
        missed = mixed.centres[nearest > 3 * mixed.deviation]
        axes.scatter(*missed.T, s=45, facecolors="none", edgecolors="#d62728", linewidths=0.9)
        axes.set_title(f"{name}\n{coverage.modes} modes, {coverage.good:.0%} good", fontsize=8)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    for axes in figure.axes[len(panels) :]:
        axes.axis("off")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    # As a palette it takes a third of the bytes; the usual way to choose one would lose the red.
    Image.open(drawn).convert("RGB").quantize(64, method=Image.Quantize.MAXCOVERAGE).save(path, format="png")


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.exit(exit_code(lambda: main(parse(Bench, arguments, description=__doc__)), debug="--debug" in sys.argv))
