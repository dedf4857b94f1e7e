"""How much enlarged videos flicker, next to plain interpolation and to each other.

    python tools/flicker.py clip.mp4 enlarged.mp4 stabilised.mp4 --picture slices.png

Flicker is what is left of the difference between neighbouring frames once the source's motion is undone (see
i2i/metrics/flicker.py): root mean square, in levels of 255. Blur lowers it as well; hence the sharpness beside it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tyro.conf import Positional, arg

from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.evaluation.clips import side_by_side
from i2i.metrics import Flicker, FlickerMeter, gradient_energy

FRAME_PX = 4  # of the picture
GAP_PX = 8


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which videos are compared.

    Attributes:
        source: the video that was enlarged.
        results: what became of it, one or several.
        frames: only so many from the beginning; all unless given.
        picture: an image file for a column of pixels over time, of each video: flicker shows as upright stripes.
        column: which one, as a share of the width.
    """

    source: Positional[Annotated[Path, arg(metavar="SOURCE")]]
    results: Positional[Annotated[tuple[Path, ...], arg(metavar="RESULT [RESULT ...]")]]
    frames: int | None = None
    picture: Path | None = None
    column: float = 0.5

    def __post_init__(self) -> None:
        if not self.results:
            raise InputError("expected the source and at least one video that was made of it")
        if self.frames is not None and self.frames < 2:
            raise InputError(f"--frames: expected at least 2, got {self.frames}")
        if not 0 <= self.column <= 1:
            raise InputError(f"--column: expected a share of the width between 0 and 1, got {self.column}")


class Row:
    """What is found out about one video."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meter = FlickerMeter()
        self.energy = 0.0
        self.columns: list[np.ndarray] = []

    def add(self, image: np.ndarray, *, source: np.ndarray, column: float) -> None:
        values = image.astype(np.float32) / np.iinfo(image.dtype).max
        self.meter.add(image, reference=source)
        self.energy += gradient_energy(torch.from_numpy(values).permute(2, 0, 1)[None]).item()
        self.columns.append(np.rint(255 * values[:, round(column * (image.shape[1] - 1))]).astype(np.uint8))


def main(work: Comparison) -> None:
    """Measure the videos side by side, frame by frame."""
    with side_by_side([work.source, *work.results], count=work.frames) as (videos, frames):
        count = min(len(videos[0].timeline), work.frames or len(videos[0].timeline))
        rows = [Row("bicubic"), *(Row(video.name) for video in videos[1:])]
        for source, *results in track(frames, total=count, disable=not sys.stdout.isatty()):
            height, width = results[0].image.shape[:2]
            bicubic = cv2.resize(source.image, (width, height), interpolation=cv2.INTER_CUBIC)
            for row, image in zip(rows, (bicubic, *(result.image for result in results)), strict=True):
                row.add(image, source=source.image, column=work.column)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table(rows))
    if work.picture is not None:
        write_image(work.picture, slices(rows))
        console.print(f"{work.picture}: a column of pixels over time, from left to right of", end=" ")
        console.print(", ".join(row.name for row in rows), soft_wrap=True)


def table(rows: list[Row]) -> Table:
    """A row for each video; sharpness next to the first result's."""
    found = [row.meter.result() for row in rows]
    result: Flicker = found[1]
    out = Table(
        title="Flicker: RMS warp error, levels of 255",
        caption=f"{result.pairs} pairs of frames, {result.cuts} cuts, {result.occluded:.1%} of pixels occluded",
    )
    for column in ("", "outside occlusions", "inside", "sharpness"):
        out.add_column(column, justify="right" if column else "left")
    for row, flicker in zip(rows, found, strict=True):
        sharpness = row.energy / rows[1].energy if rows[1].energy else 1.0
        out.add_row(row.name, f"{255 * flicker.outside:.2f}", f"{255 * flicker.inside:.2f}", f"{sharpness:.3f}")
    return out


def slices(rows: list[Row]) -> np.ndarray:
    """Columns over time of all videos, at the first result's height, side by side: (H, W, 3) uint8."""
    height = len(rows[1].columns[0])
    parts: list[np.ndarray] = []
    for row in rows:
        over_time = np.stack(row.columns, axis=1)
        size = (FRAME_PX * len(row.columns), height)
        parts += [cv2.resize(over_time, size, interpolation=cv2.INTER_NEAREST), np.full((height, GAP_PX, 3), 255)]
    return np.concatenate(parts[:-1], axis=1).astype(np.uint8)


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.exit(exit_code(lambda: main(parse(Comparison, arguments, description=__doc__)), debug="--debug" in sys.argv))
