"""Draw images with a generator that was trained to make them from noise.

i2i draw drawn/ --weights runs/dcgan --count 64

i2i draw drawn/ --weights runs/shapes --count 100 --label disc star

i2i draw drawn/ --weights runs/stylegan --truncation 0.7

Every image is called by its seed, its class where there are classes, and the truncation where one is given:
`i2i.load(weights)(seed=12, label="star")` draws 000012_star.png again, and with `truncation=0.5` besides it draws
000012_star_t0.5.png. They are PNG files in the depth of the training images; TIFF where PNG cannot hold them.
They carry a note that they are synthetic, and by which model, unless --no-provenance is given.
overview.png shows the first ones side by side. Several processes started by a launcher share the images.
"""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import tyro

import i2i
from i2i.checkpoints.identity import name_model
from i2i.cli.jobs import INTERRUPTED
from i2i.cli.plan import check_writable, remove_leftovers
from i2i.cli.progress import FileProgress, duration
from i2i.cli.share import find_share
from i2i.data.image_io import Provenance, rescale, write_image
from i2i.errors import InputError
from i2i.evaluation.pages import write_grid
from i2i.inference.precision import Precision
from i2i.inference.sampler import Sampler

OVERVIEW = "overview.png"
MOST_SHOWN = 100  # images in the overview
MOST_COLUMNS = 20  # of a class each
TOGETHER = 64  # images drawn before they are written


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to draw, with what, and how often.

    Args:
        output: the folder for the images.
        weights: a generator's folder, or the folder of a run with one in it.
        count: how many images.
        seed: of the first image; each of the others has the next one.
        truncation: from 0 on: less variety. Generators with styles (StyleGAN) draw them so near to the mean style,
            which gives more typical images: 0.7 is usual, 1 is none. All others draw values of the noise beyond it
            again: 2 is weak, and at 0.5 most give a blur, such as DCGAN, for they were never trained on noise so small;
            training with orthogonal regularisation (BigGAN) may help.
        label: the classes to draw, by id or by name, which take turns; all of them unless given.
        skip_existing: leave out images that are there, to go on after a break.
        device: cpu, cuda, cuda:1, mps …; auto takes an accelerator if there is one.
        precision: of the computation; auto is the fastest that is safe.
        batch_size: how many images go through the network together; as many as make a million pixels unless given.
        provenance: note in the images that they are synthetic, by which model and version of i2i.
    """

    output: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="OUTPUT")]]
    weights: str
    count: int = 16
    seed: int = 0
    truncation: float | None = None
    label: tuple[str, ...] = ()
    skip_existing: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    provenance: bool = True


class Drawing(NamedTuple):
    """One image to draw, and its file; the label is None where there are no classes."""

    seed: int
    label: int | None
    target: Path


def main(settings: Settings) -> int:
    """Draw as the settings say.

    Returns:
        The exit code: 0, or 130 when interrupted.

    Raises:
        InputError: the weights draw no images, there is no such class, or no place for the results.
        OSError: the disk is full, for instance.
    """
    if settings.count < 1:
        raise InputError(f"--count: expected at least 1, got {settings.count}")
    share = find_share()
    folder = settings.output.expanduser()
    check_writable(folder)
    sampler = i2i.load(settings.weights, device=share.device(settings.device), precision=settings.precision)
    if not isinstance(sampler, Sampler):
        raise InputError(f"{settings.weights} translates images and draws none; use `i2i translate`")
    labels = [sampler.class_id(label) for label in settings.label] or list(range(sampler.classes))
    seeds = range(settings.seed, settings.seed + settings.count)
    drawings = _plan(sampler, folder, seeds=seeds, labels=labels, truncation=settings.truncation)
    if _draw(sampler, drawings[:1], settings)[0].ndim != 3:
        raise InputError(f"{settings.weights} draws points, not images: i2i.load(...)(seed=1) gives them in Python")

    folder.mkdir(parents=True, exist_ok=True)
    mine = share.of(drawings)
    remove_leftovers(drawing.target for drawing in mine)
    note = Provenance(kind="drawn", model=name_model(settings.weights)) if settings.provenance else None
    waiting = [drawing for drawing in mine if not (settings.skip_existing and drawing.target.exists())]
    first = drawings[:MOST_SHOWN]
    shown: dict[Drawing, np.ndarray] = {}
    begun = time.perf_counter()
    try:
        with FileProgress(total=len(waiting), show=share.rank == 0) as progress:
            for start in range(0, len(waiting), TOGETHER):
                batch = waiting[start : start + TOGETHER]
                images = _draw(sampler, batch, settings)
                for drawing, image in zip(batch, images, strict=True):
                    progress.begin(str(drawing.target))
                    write_image(drawing.target, image, provenance=note)
                    progress.advance()
                    if drawing in first:
                        shown[drawing] = image
        if share.rank == 0:
            others = [drawing for drawing in first if drawing not in shown]
            shown |= zip(others, _draw(sampler, others, settings), strict=True)
            pictures = [shown[drawing] for drawing in first]
            _write_overview(folder / OVERVIEW, sampler, pictures, columns=len(labels), provenance=note)
    except KeyboardInterrupt:
        print("Interrupted. The same command with --skip-existing goes on.", file=sys.stderr)
        return INTERRUPTED
    skipped = f", {len(mine) - len(waiting)} skipped, for they are there" if len(waiting) < len(mine) else ""
    print(f"{len(waiting)} drawn{skipped}, in {duration(time.perf_counter() - begun)}. Look at {folder / OVERVIEW}")
    return 0


def _plan(
    sampler: Sampler, folder: Path, *, seeds: Sequence[int], labels: Sequence[int], truncation: float | None
) -> list[Drawing]:
    """Each seed with a class, if there are any: these take turns."""
    output = sampler.spec.output
    suffix = ".png" if output.dtype in ("uint8", "uint16") and output.channels in (1, 3) else ".tif"
    if truncation is not None:
        suffix = f"_t{truncation:.12g}{suffix}"
    if not labels:
        return [Drawing(seed, None, folder / f"{seed:06d}{suffix}") for seed in seeds]
    names = [re.sub(r"\W+", "-", name) for name in sampler.spec.classes or map(str, range(sampler.classes))]
    return [
        Drawing(seed, label, folder / f"{seed:06d}_{names[label]}{suffix}")
        for seed, label in zip(seeds, cycle(labels), strict=False)
    ]


def _draw(sampler: Sampler, drawings: Sequence[Drawing], settings: Settings) -> list[np.ndarray]:
    labels = [drawing.label for drawing in drawings] if sampler.classes else None
    seeds = [drawing.seed for drawing in drawings]
    return sampler(seed=seeds, label=labels, truncation=settings.truncation, batch_size=settings.batch_size)


def _write_overview(
    path: Path, sampler: Sampler, images: Sequence[np.ndarray], *, columns: int, provenance: Provenance | None
) -> None:
    """Show images (H, W, C) side by side, those of a class in a column."""
    shown = rescale(np.stack(images), source=sampler.spec.output.data_range, target=(-1, 1))
    across = columns if 1 < columns <= MOST_COLUMNS else None
    write_grid(path, {"drawn": torch.from_numpy(shown).movedim(-1, 1)}, across=across, provenance=provenance)
