"""A small but whole pix2pix run on image files, for tests that end it in the middle.

It has what makes exact resume hard: BatchNorm, dropout, random crops and flips in workers, an average of weights.
The report is left out: its curves take longer to draw than the networks to train.
As a program:  python toy_pix2pix.py --data DIR --out DIR
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.cli.entry import run
from i2i.data.folders import PairedImages, find_pairs, fingerprint, probe_pairs
from i2i.data.image_io import write_image
from i2i.data.transforms import ImageTransform
from i2i.discriminators import PatchDiscriminator
from i2i.generators import ResNetGenerator
from i2i.methods.pix2pix import Pix2Pix
from i2i.training.config import TrainingSettings
from i2i.training.loop import train
from i2i.training.report import RunFacts


@dataclass(frozen=True, kw_only=True)
class Settings:
    data: Path
    out: Path
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=60,
            batch_size=2,
            ema_decay=0.9,
            save_every_steps=7,  # an epoch is 5 steps, so that states fall into the middle of one
            validate_every_steps=20,
            preview_images=2,
            best_metric="l1",
            workers=2,
            device="cpu",
        )
    )


def make_pairs(folder: Path) -> Path:
    """Ten training pairs and three held-out ones, A|B side by side, 20 px high."""
    random = np.random.default_rng(0)
    for phase, count in (("train", 10), ("test", 3)):
        (folder / phase).mkdir(parents=True)
        for number in range(count):
            picture = random.integers(256, size=(20, 20, 3), dtype=np.uint8)
            write_image(folder / phase / f"{number}.png", np.concatenate([picture, 255 - picture], axis=1))
    return folder


def main(settings: Settings) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(settings.training.seed)
    pairs = find_pairs(settings.data, phase="train")
    held_out = find_pairs(settings.data, phase="test")
    sides = probe_pairs(pairs)
    transform = ImageTransform(load_size=18, crop_size=16)
    image = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    with (
        patch("i2i.training.loop.write_report"),
        patch("i2i.training.record.write_report"),
    ):
        train(
            method=Pix2Pix(
                generator=ResNetGenerator(in_channels=3, out_channels=3, width=2, blocks=1, norm="batch", dropout=True),
                discriminator=PatchDiscriminator(in_channels=6, width=2, layers=1),
            ),
            training_data=PairedImages(pairs=pairs, transform=transform, input=sides.input, target=sides.target),
            validation_data=PairedImages(pairs=held_out, transform=transform, input=sides.input, target=sides.target),
            specs={"generator": GeneratorSpec(input=image, output=image)},
            settings=settings.training,
            out=settings.out,
            facts=RunFacts(title="toy", about="", settings={}, fingerprint=fingerprint(pairs)),
        )


def run_in_own_group(settings: Settings, die_at: tuple[str, int] | None = None) -> None:
    """`main` as the first process of a group, which a test can then kill workers and all.

    die_at: kill the group at the n-th call (from 1) of that function of `os`.
    """
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # of its workers, as they are in a process started by hand
    if die_at is not None:
        _kill_at(*die_at)
    main(settings)


def _kill_at(name: str, count: int) -> None:
    original: Callable[..., Any] = getattr(os, name)
    left = count

    def counting(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.killpg(0, signal.SIGKILL)
        return original(*arguments, **named)

    setattr(os, name, counting)


if __name__ == "__main__":
    run(main, Settings(data=Path("data"), out=Path("out")), description="A toy.")
