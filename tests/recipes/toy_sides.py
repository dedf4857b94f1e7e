"""Two small folders of images that have nothing to do with each other, as unpaired recipes take them."""

from pathlib import Path

import numpy as np
from PIL import Image

# Of a run on them: networks and steps that take a second or two.
SMALL = (
    *("--steps", "2", "--width", "4", "--blocks", "2", "--discriminator-width", "4", "--discriminator-layers", "1"),
    *("--load-size", "36", "--crop-size", "32", "--workers", "0", "--device", "cpu"),
)


def write_side(folder: Path, *sizes: tuple[int, int], mode: str = "RGB") -> Path:
    """Noise of these widths and heights as 0.png, 1.png …, other noise for each folder's name."""
    random = np.random.default_rng(list(folder.name.encode()))
    folder.mkdir(parents=True)
    for number, (width, height) in enumerate(sizes):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.png")
    return folder


def write_sides(data: Path, *, a_mode: str = "RGB") -> Path:
    """Sides that differ in size and count, as `--data` takes them."""
    for phase, count_a, count_b in (("train", 3, 5), ("test", 2, 1)):
        write_side(data / f"{phase}A", *[(40, 40)] * count_a, mode=a_mode)
        write_side(data / f"{phase}B", *[(48, 44)] * count_b)
    return data
