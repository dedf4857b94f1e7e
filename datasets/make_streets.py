"""Write procedural streets to disk, in any folder layout that i2i reads.

python datasets/make_streets.py --layout aligned --out streets

* aligned: train/ val/ test/, each picture the photo (A) left of its labels (B); train with --direction BtoA.

* paired: trainA/ trainB/ …, photos (A) and labels (B) under equal names.

* unpaired: trainA/ trainB/ …, streets by day (A) and other streets by night (B). In valA/ valB/ and testA/ testB/ they
are the same streets, so that a translation can be compared with the truth.

* spade: train/label train/image train/instance …, class numbers (8 bit), photos, instance numbers (16 bit).

* sr: train/ val/ test/, photos to be shrunk for super-resolution.

* video: one folder a street, a frame a file; a walk down the street.

Drawn by i2i itself, so there is no licence to heed.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from i2i.cli.entry import run
from i2i.data.image_io import write_image
from i2i.data.streets import Scene, make_scene, make_video
from i2i.errors import InputError

Picture = Literal["photo_and_labels", "day", "night", "label_image", "labels", "instances"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to write, and where."""

    layout: Literal["aligned", "paired", "unpaired", "spade", "sr", "video"] = "aligned"
    """Which folders, as the description above says."""
    out: Path = Path("streets")
    """A folder that is empty or does not exist yet."""
    train: int = 400
    """Streets to train on."""
    val: int = 40
    """Streets to choose a model by."""
    test: int = 40
    """Streets to judge it by."""
    videos: int = 4
    """Streets to walk down (layout video)."""
    frames: int = 120
    """Frames a video."""
    size: tuple[int, int] = (256, 256)
    """Height and width in pixels."""
    first_seed: int = 0
    """The seed of the first street; each further one takes the next."""


@dataclass(frozen=True)
class Job:
    """One street and the files that show it."""

    seed: int
    files: tuple[tuple[Path, Picture], ...]


def jobs(settings: Settings) -> Iterator[Job]:
    """The streets of all phases, each with seeds of its own."""
    seed = settings.first_seed
    phases = {"train": settings.train, "val": settings.val, "test": settings.test}
    for phase, count in phases.items():
        for number in range(count):
            yield Job(seed, _files(settings, phase, f"{number:05d}.png"))
            seed += 1
        if settings.layout == "unpaired" and phase == "train":
            for number in range(count):
                yield Job(seed, ((settings.out / "trainB" / f"{number:05d}.png", "night"),))
                seed += 1


def _files(settings: Settings, phase: str, name: str) -> tuple[tuple[Path, Picture], ...]:
    out = settings.out
    match settings.layout:
        case "aligned":
            return ((out / phase / name, "photo_and_labels"),)
        case "paired":
            return (out / f"{phase}A" / name, "day"), (out / f"{phase}B" / name, "label_image")
        case "unpaired" if phase == "train":
            return ((out / "trainA" / name, "day"),)
        case "unpaired":
            return (out / f"{phase}A" / name, "day"), (out / f"{phase}B" / name, "night")
        case "spade":
            return (
                (out / phase / "label" / name, "labels"),
                (out / phase / "image" / name, "day"),
                (out / phase / "instance" / name, "instances"),
            )
        case "sr":
            return ((out / phase / name, "day"),)
        case "video":
            raise AssertionError("videos are no pictures")


def _picture(scene: Scene, kind: Picture) -> np.ndarray:
    match kind:
        case "photo_and_labels":
            return np.concatenate([scene.day, scene.label_image], axis=1)
        case _:
            return getattr(scene, kind)


def write_street(job: Job, *, size: tuple[int, int]) -> int:
    """Write one street's files; returns how many."""
    scene = make_scene(job.seed, size=size)
    for path, kind in job.files:
        write_image(path, _picture(scene, kind))
    return len(job.files)


def write_video(number: int, *, settings: Settings) -> int:
    """Write one street's frames; returns how many."""
    video = make_video(settings.first_seed + number, size=settings.size, frames=settings.frames)
    for frame, scene in enumerate(video):
        write_image(settings.out / f"{number:03d}" / f"{frame:06d}.png", scene.day)
    return settings.frames


def main(settings: Settings) -> None:
    """Write what the settings ask for.

    Raises:
        InputError: the folder is in use, or a setting is out of range.
    """
    from rich.progress import track

    out = settings.out
    if min(settings.train, settings.val, settings.test, settings.videos) < 0:
        raise InputError("--train, --val, --test and --videos are counts from 0 up")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder; give another --out, or remove it")

    if settings.layout == "video":
        tasks = [partial(write_video, number, settings=settings) for number in range(settings.videos)]
    else:
        tasks = [partial(write_street, job, size=settings.size) for job in jobs(settings)]
    if not tasks:
        raise InputError("there is nothing to write: every count is 0")
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        running = [pool.submit(task) for task in tasks]
        done = track(as_completed(running), total=len(running), description="writing streets")
        try:
            pictures = sum(one.result() for one in done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    print(f"{pictures} pictures of {len(tasks)} streets written to {out} (layout {settings.layout})")


if __name__ == "__main__":
    run(main, Settings(), description=__doc__ or "")
