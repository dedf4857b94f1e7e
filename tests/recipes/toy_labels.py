"""A small set of label maps, photos and instance maps in COCO-Stuff's layout, as semantic recipes take it."""

from pathlib import Path

import numpy as np
from PIL import Image

# Of a run on them: networks and steps that take a second or two.
SMALL = (
    *("--steps", "2", "--width", "2", "--discriminator-width", "4", "--discriminator-layers", "2"),
    *("--load-size", "36", "--crop-size", "32", "--workers", "0", "--device", "cpu", "--perceptual", "off"),
)
CLASSES = 3


def write_labels(data: Path, *, dont_care: bool = False, size: tuple[int, int] = (44, 40)) -> Path:
    """Four pictures to learn from and two held out: each class is a rectangle and has a grey of its own."""
    random = np.random.default_rng(0)
    for phase, count in (("train", 4), ("val", 2)):
        for kind in ("label", "img", "inst"):
            (data / f"{phase}_{kind}").mkdir(parents=True)
        for number in range(count):
            labels = np.zeros(size[::-1], np.uint8)
            labels[number + 4 : 30, 6 : 20 + number] = 1
            labels[10 : 24 + number, 22:34] = 2
            photo = np.repeat(labels[..., None] * 100 + random.integers(0, 40, (*labels.shape, 1)), 3, axis=2)
            instances = labels.copy()
            instances[:20][labels[:20] == 1] = 7
            if dont_care:
                labels[-4:] = 255
            Image.fromarray(labels).save(data / f"{phase}_label" / f"{number}.png")
            Image.fromarray(photo.astype(np.uint8)).save(data / f"{phase}_img" / f"{number}.png")
            Image.fromarray(instances).save(data / f"{phase}_inst" / f"{number}.png")
    return data
