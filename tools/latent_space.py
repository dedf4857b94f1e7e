"""Pictures and figures of what a trained generator's latent space holds.

    python tools/latent_space.py --weights runs/stylegan --out pictures
    python tools/latent_space.py --weights runs/stylegan --out pictures --image photo.png
    python tools/latent_space.py --weights runs/dcgan --out pictures --normal streets --other shapes

Writes interpolation.png, truncation.png, mixing-coarse.png, mixing-fine.png, projection.png, direction-*.png,
anomaly.png and anomaly-scores.png, and all figures to figures.json; what a generator cannot do is left out, and said.
docs/latent-space.md says how to read them.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import i2i
from i2i import latents
from i2i.checkpoints import load_discriminator
from i2i.cli.entry import DEBUG, exit_code, parse
from i2i.cli.plan import check_writable
from i2i.data.image_io import rescale, write_image
from i2i.errors import InputError
from i2i.files import replacing
from i2i.inference.sampler import Sampler
from i2i.latents.projection import encode_image

Data = Literal["streets", "shapes"]

PROJECTED = 4  # generated images that are projected back, where none is given


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which generator, and what to make of it.

    Attributes:
        weights: a generator's folder, or the folder of a run with one in it.
        out: folder for pictures and figures.
        image: to be projected, of the generator's own size; None: images of its own.
        normal: built-in images like those that it was trained on, for the anomaly score; None: no score.
        other: built-in images that are to be told from these.
        discriminator: file of the discriminator that it was trained against; None: the run's.
        label: the class to draw, by id or by name.
        seed: of the first image; each other has the next one.
        count: images in a row or column.
        steps: of the projection.
        images: how many of `normal` to learn from, and how many each of `normal` and `other` to score.
        pairs: mixtures that are measured.
        threads: of PyTorch; None: as many as there are cores.
        device: cpu, cuda, mps …; auto takes an accelerator if there is one.
    """

    weights: Path
    out: Path
    image: Path | None = None
    normal: Data | None = None
    other: Data | None = None
    discriminator: Path | None = None
    label: str | None = None
    seed: int = 0
    count: int = 6
    steps: int = 300
    images: int = 200
    pairs: int = 300
    threads: int | None = None
    device: str = "auto"


@dataclass
class Report:
    """What was found, printed as it comes."""

    out: Path
    figures: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)

    def picture(self, name: str, pixels: np.ndarray) -> None:
        write_image(self.out / f"{name}.png", pixels)

    def tell(self, name: str, found: Any, text: str) -> None:
        self.figures[name] = found
        seconds = time.perf_counter() - self.begun
        print(f"{name}: {text}  ({seconds:.0f} s)", flush=True)
        self.begun = time.perf_counter()

    def left_out(self, name: str, why: str) -> None:
        print(f"{name}: left out, {why}", flush=True)


def main(settings: Settings) -> None:
    """Make all pictures; InputError for what cannot be used."""
    _check(settings)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    check_writable(settings.out)
    t = i2i.load(settings.weights, device=settings.device)
    if not isinstance(t, Sampler):
        raise InputError(f"{settings.weights} translates images and draws none; give a generator that draws")
    label = settings.label if settings.label is not None or not t.classes else "0"
    with _said_of("label"):
        if label is not None:
            t.class_id(label)
    if settings.image is not None:
        with _said_of("image"):
            encode_image(latents.LatentSpace(t), settings.image, str(settings.image))
    scorer = _scorer(t, settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    report = Report(settings.out)
    seeds = range(settings.seed, settings.seed + settings.count)

    walk = latents.interpolation(t, seeds=seeds[:4], label=label)
    report.picture("interpolation", walk.picture())
    report.tell("interpolation", {"space": walk.space}, f"{len(walk.images)} images in {walk.space}")
    sweep = latents.truncation_sweep(t, seeds=seeds, label=label)
    report.picture("truncation", sweep.picture())
    report.tell(
        "truncation", {"truncations": sweep.truncations}, ", ".join(f"{value:g}" for value in sweep.truncations)
    )
    _mix(t, settings, report, label)
    _project(t, settings, report, label)
    _directions(t, settings, report, label)
    if isinstance(scorer, str):
        report.left_out("anomaly", scorer)
    else:
        _anomalies(scorer, settings, report)
    with replacing(settings.out / "figures.json") as temporary:
        temporary.write_text(json.dumps(report.figures, indent=2) + "\n")
    print(f"Look at {settings.out}")


def _check(settings: Settings) -> None:
    """Raise InputError for numbers that cannot be, before anything is drawn."""
    if (settings.normal is None) != (settings.other is None):
        raise InputError("--normal and --other go together: what is to be told from what")
    if settings.discriminator is not None and settings.normal is None:
        raise InputError("--discriminator is for the anomaly score; give --normal and --other as well")
    least = {"seed": 0, "count": 2, "steps": 1, "images": latents.anomaly.FEWEST_TO_FIT, "pairs": 3, "threads": 1}
    for name, fewest in least.items():
        number = getattr(settings, name)
        if number is not None and number < fewest:
            raise InputError(f"--{name}: expected at least {fewest}, got {number}")


@contextmanager
def _said_of(option: str) -> Iterator[None]:
    """Put an option's name before what is said of its value."""
    try:
        yield
    except InputError as error:
        text = str(error).removeprefix(f"{option}: ")
        raise InputError(f"--{option}: {text}") from error


def _mix(t: Sampler, settings: Settings, report: Report, label: str | None) -> None:
    if not t.style_layers:
        report.left_out("mixing", f"for {type(t.generator).__name__} has no styles")
        return
    found = latents.mixing_correlations(t, pairs=settings.pairs, label=label)
    sources = range(settings.seed, settings.seed + settings.count)
    destinations = range(sources.stop, sources.stop + settings.count - 1)
    layers = {"coarse": range(found.crossover), "fine": range(found.crossover, t.style_layers)}
    for name, some in layers.items():
        mixed = latents.style_mixing(t, sources=sources, destinations=destinations, layers=some, label=label)
        report.picture(f"mixing-{name}", mixed.picture())
    figures = [
        latents.mixing_correlations(t, pairs=settings.pairs, crossover=crossover, label=label).figures()
        for crossover in range(1, t.style_layers)
    ]
    lines = [
        f"fine from layer {f['crossover']}: "
        + "; ".join(
            f"{part} of coarse {f[f'{part}_from_coarse']:.2f}, of fine {f[f'{part}_from_fine']:.2f}, "
            f"by chance {f[f'{part}_from_unrelated']:.2f}"
            for part in ("layout", "colour")
        )
        for f in figures
    ]
    report.tell("mixing", {"at": found.crossover, "correlations": figures}, "\n  " + "\n  ".join(lines) + "\n ")


def _project(t: Sampler, settings: Settings, report: Report, label: str | None) -> None:
    seeds = range(10_000 + settings.seed, 10_000 + settings.seed + PROJECTED)
    targets: list[Any] = [settings.image] if settings.image else t(seed=list(seeds), label=label)
    found = latents.project(t, targets, label=label, steps=settings.steps, progress=True)
    report.picture("projection", np.concatenate([projection.picture() for projection in found]))
    psnr = [round(projection.psnr, 2) for projection in found]
    what = str(settings.image) if settings.image else f"generated images of seeds {seeds.start} to {seeds.stop - 1}"
    report.tell("projection", {"space": found[0].space, "target": what, "psnr": psnr}, f"{what}: {psnr} dB")


def _directions(t: Sampler, settings: Settings, report: Report, label: str | None) -> None:
    seeds = range(settings.seed, settings.seed + settings.count)
    brighter = latents.attribute_direction(t, lambda image: float(image.mean()), label=label)
    moved = latents.direction_sweep(t, brighter, seeds=seeds, label=label)
    report.picture("direction-brightness", moved.picture())
    means = [float(np.mean([row[place] for row in moved.images])) for place in range(len(moved.strengths))]
    figures = {"accuracy": brighter.accuracy, "strengths": moved.strengths, "mean values": means}
    right, ends = f"{brighter.accuracy or 0.0:.0%}", (moved.strengths[0], moved.strengths[-1])
    values = ", ".join(f"{value:.0f}" for value in means)
    text = f"sorts {right} of unseen ones rightly; mean values at {ends[0]:+g} … {ends[1]:+g}: {values}"
    report.tell("direction-brightness", figures, text)
    axes = latents.principal_directions(t, count=3, label=label)
    for number, axis in enumerate(axes, start=1):
        moved = latents.direction_sweep(t, axis, seeds=seeds[:4], label=label)
        report.picture(f"direction-principal-{number}", moved.picture())
    shares = [axis.share or 0.0 for axis in axes]
    text = ", ".join(f"{share:.1%}" for share in shares)
    report.tell("direction-principal", {"space": axes[0].space, "shares": shares}, f"of the variance: {text}")


def _scorer(t: Sampler, settings: Settings) -> latents.AnomalyScorer | str:
    """What scores images, or why there is none."""
    if settings.normal is None or settings.other is None:
        return "for --normal and --other do not say what is to be told from what"
    if t.spec.output.channels != 3:
        channels = t.spec.output.channels
        raise InputError(f"--normal: built-in images have 3 channels, and this generator draws {channels}")
    if settings.discriminator is not None:
        with _said_of("discriminator"):
            return latents.AnomalyScorer(t, load_discriminator(settings.discriminator))
    try:
        return latents.AnomalyScorer(t, load_discriminator(settings.weights))
    except InputError as error:
        return str(error)


def _anomalies(scorer: latents.AnomalyScorer, settings: Settings, report: Report) -> None:
    assert settings.normal is not None and settings.other is not None
    t, size = scorer.space.sampler, scorer.space.size[0]
    normal = _built_in(t, settings.normal, count=settings.images, size_px=size, held_out=False)
    scorer.fit(normal, progress=True)
    found = {
        name: scorer.score(_built_in(t, name, count=settings.images, size_px=size, held_out=True), progress=True)
        for name in (settings.normal, settings.other)
    }
    usual, unusual = found[settings.normal].scores, found[settings.other].scores
    scores, truth = torch.cat([usual, unusual]), torch.arange(len(usual) + len(unusual)) >= len(usual)
    area, threshold = latents.auroc(scores, truth), scorer.threshold(95)
    report.picture("anomaly-scores", latents.histogram({n: f.scores for n, f in found.items()}, threshold=threshold))
    together = [found[name].picture(settings.count, kind=name) for name in (settings.normal, settings.other)]
    report.picture("anomaly", np.concatenate(together))
    figures = {
        "normal": settings.normal,
        "other": settings.other,
        "auroc": area,
        "threshold": threshold,
        "normal above": float((usual > threshold).float().mean()),
        "other above": float((unusual > threshold).float().mean()),
    }
    report.tell(
        "anomaly",
        figures,
        f"{settings.normal} and {settings.other} are told apart with AUROC {area:.4f}; above the 95th percentile of "
        f"normal images lie {figures['normal above']:.0%} and {figures['other above']:.0%}",
    )


def _built_in(t: Sampler, name: Data, *, count: int, size_px: int, held_out: bool) -> list[np.ndarray]:
    """Built-in images in the generator's own units."""
    from i2i.training.drawing_data import DrawingData, drawing_task

    task = drawing_task(DrawingData(built_in=name, size_px=size_px, labels=False))
    items: Any = task.held_out if held_out else task.training
    side = t.spec.output
    images = torch.stack([items[index]["real"] for index in range(min(count, len(items)))])
    return list(t.codec.decode(rescale(images, source=(-1, 1), target=side.network_range), torch.float32,
                               torch.device("cpu")).movedim(1, -1).numpy())  # fmt: skip


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    sys.exit(exit_code(lambda: main(parse(Settings, arguments, description=__doc__)), debug=DEBUG in sys.argv))
