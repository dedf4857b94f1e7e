"""Write the built-in shapes to disk as images with a class each, in the layout that i2i reads.

python datasets/make_shapes.py --out shapes

train/disc/00000.png, train/ring/00001.png … and likewise in test/: a folder a class, whose name is the class's.

Drawn by i2i itself, so there is no licence to heed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.image_io import write_image
from i2i.data.shapes import CLASSES, draw_shape
from i2i.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to write, and where."""

    out: Path = Path("shapes")
    """A folder that is empty or does not exist yet."""
    train: int = 10_000
    """Shapes to train on; the classes take turns."""
    test: int = 1_000
    """Shapes to judge by."""
    size: int = 32
    """Side in pixels."""
    first_seed: int = 0
    """The seed of the first shape; each further one takes the next."""


def files(settings: Settings) -> Iterator[tuple[int, Path]]:
    """The seeds of all shapes, each with its file."""
    seed = settings.first_seed
    for phase, count in (("train", settings.train), ("test", settings.test)):
        for number in range(count):
            yield seed, settings.out / phase / CLASSES[seed % len(CLASSES)] / f"{number:05d}.png"
            seed += 1


def main(settings: Settings) -> None:
    """Write what the settings ask for.

    Raises:
        InputError: the folder is in use, or a setting is out of range.
    """
    from rich.progress import track

    out = settings.out
    if min(settings.train, settings.test) < len(CLASSES):
        raise InputError(f"--train and --test need {len(CLASSES)} shapes or more, so that every class has one")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder; give another --out, or remove it")

    shapes = list(files(settings))
    for seed, path in track(shapes, description="writing shapes"):
        write_image(path, draw_shape(seed, size=settings.size).image)
    print(f"{len(shapes)} shapes of {len(CLASSES)} classes written to {out}")


if __name__ == "__main__":
    run(main, Settings(), description=__doc__ or "")
