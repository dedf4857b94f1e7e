"""The built-in data set: procedural streets as label map, instance map, photo by day and photo by night.

A seed decides everything: what stands in the street, the camera, the weather. The label map gives away what the
photo shows (a house's style by the layout of its windows, a car's colour by its shape, light and shade by the
heights of the houses), but colouring each class by itself is not enough.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data import streets_light, streets_plan, streets_render
from i2i.data.image_io import rescale
from i2i.data.sampler import Draw
from i2i.data.streets_light import relight
from i2i.data.streets_plan import plan_street
from i2i.data.streets_render import CLASSES, Camera, Street, render
from i2i.errors import InputError
from i2i.files import replacing
from i2i.layers.edges import instance_edges

__all__ = ["CLASSES", "PALETTE", "Scene", "StreetLabels", "StreetPairs", "StreetPhotos", "make_scene", "make_video"]

Picture = Literal["label_image", "day", "night"]

PALETTE = np.array(
    [
        (70, 130, 180), (90, 90, 90), (0, 200, 255), (150, 60, 20), (128, 64, 128),
        (244, 35, 232), (35, 142, 35), (20, 20, 190), (220, 20, 60), (250, 220, 0),
    ],
    np.uint8,
)  # fmt: skip
"""(10, 3) uint8 RGB: the colour of each of `CLASSES` in a label image."""

# What a byte of a packed street holds: the class, whether any neighbour belongs to another instance, and whether the
# one to the right or below does.
CLASS_BITS, EDGE, BOUNDARY = 63, 64, 128


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One street in four aligned pictures of H × W pixels.

    labels: (H, W) uint8, an index of `CLASSES` a pixel.
    instances: (H, W) uint16; each building (with its windows and doors), tree, car, person and lamp has a number of
        its own, everything else is 0.
    day, night: (H, W, 3) uint8 RGB photos.
    """

    labels: np.ndarray
    instances: np.ndarray
    day: np.ndarray
    night: np.ndarray

    @property
    def label_image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: classes in `PALETTE`'s colours, brighter where two instances touch."""
        return _label_image(self.labels, _boundaries(self.instances))


def make_scene(seed: int, *, size: int | tuple[int, int] = 128) -> Scene:
    """Make the street of a seed.

    Args:
        seed: any integer from 0 up.
        size: pixels; the side of a square or (height, width), at least 16 each. The same seed at another size is
            the same street, drawn with more or less detail.

    Raises:
        InputError: seed or size is out of range.
    """
    height, width = _checked(seed, size)
    return _render(plan_street(seed), seed=seed, size=(height, width), frame=0, progress_m=0.0)


def make_video(seed: int, *, size: int | tuple[int, int] = 128, frames: int) -> Iterator[Scene]:
    """Walk down the street of a seed, looking from side to side; the first frame is `make_scene(seed)`.

    Args:
        seed: any integer from 0 up.
        size: as for `make_scene`.
        frames: how many. A step is 0.2 m, or shorter where the whole walk would exceed 40 m.

    Raises:
        InputError: seed, size or frames is out of range.
    """
    height, width = _checked(seed, size)
    if frames < 1:
        raise InputError(f"a video needs at least one frame, got frames={frames}")
    street = plan_street(seed)
    step_m = min(0.2, 40 / frames)
    for frame in range(frames):
        yield _render(street, seed=seed, size=(height, width), frame=frame, progress_m=frame * step_m)


def _checked(seed: int, size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 16:
        raise InputError(f"a street needs at least 16 x 16 pixels, got size={size}")
    if seed < 0:
        raise InputError(f"seeds are integers from 0 up, got {seed}")
    return height, width


def _render(plan: tuple[Street, Camera], *, seed: int, size: tuple[int, int], frame: int, progress_m: float) -> Scene:
    street, camera = plan
    x, y, z = camera.position
    sway = 0.25 * math.sin(progress_m * 0.45)
    pan = 0.10 * math.sin(progress_m * 0.16)
    walking = Camera(
        position=(x + sway, y + 0.02 * math.sin(progress_m * 4.5), z + progress_m),
        centre=(camera.centre[0] + pan, camera.centre[1]),
        focal=camera.focal,
    )
    drawn = render(street, camera=walking, size=size, noise_seed=(seed, frame))
    return Scene(labels=drawn.labels, instances=drawn.instances, day=drawn.day, night=drawn.night)


def _boundaries(instances: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixel to the right or below belongs to another instance."""
    edge = np.zeros(instances.shape, bool)
    edge[:, :-1] |= instances[:, :-1] != instances[:, 1:]
    edge[:-1] |= instances[:-1] != instances[1:]
    return edge


def _label_image(labels: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    bright = np.concatenate([PALETTE, PALETTE // 2 + 127])
    return bright[labels + np.uint8(len(PALETTE)) * boundaries]


# The data set


class StreetPairs(Dataset[dict[str, Tensor]]):
    """Streets as aligned (input, target) pairs for paired translation.

    An item is {"input", "target"}, both float32 (3, H, W) in [-1, 1]. Take it with an index or a `Draw`; its seed is
    not used, for nothing is augmented: a mirrored street would have the sun on the wrong side.
    """

    def __init__(
        self,
        *,
        count: int,
        size: int | tuple[int, int] = 128,
        first_seed: int = 0,
        source: Picture = "label_image",
        target: Picture = "day",
        cache: bool = True,
    ) -> None:
        """Make the streets, in all cores, or find them in the cache.

        Args:
            count: number of streets.
            size: pixels, as for `make_scene`.
            first_seed: the streets are those of the seeds first_seed … first_seed + count - 1; hold out others.
            source: what "input" shows.
            target: what "target" shows.
            cache: keep the streets in `$XDG_CACHE_HOME/i2i` (or ~/.cache/i2i) and find them there again; about
                115 KB each at 128 pixels. Where that folder cannot be written, they live in memory.

        Raises:
            InputError: count, size or first_seed is out of range.
        """
        if count < 1:
            raise InputError(f"a data set of streets needs a count of at least 1, got {count}")
        self.count = count
        self.size = _checked(first_seed, size)
        self.first_seed = first_seed
        self.source = source
        self.target = target
        height, width = self.size
        streets = f"{_code_hash()}-{height}x{width}-{first_seed}-{count}"
        self.fingerprint = hashlib.sha256(f"{streets}-{source}-{target}".encode()).hexdigest()
        """Identifies what the items show, the code that draws them included."""
        self._file = _cache_folder() / f"streets-{streets}.npy" if cache else None
        self._packed = self._open_or_make()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        index = item.index if isinstance(item, Draw) else item
        if not 0 <= index < self.count:
            raise IndexError(f"street {index} of {self.count}")
        packed = self._packed[index]
        return {"input": _to_tensor(_picture(packed, self.source)), "target": _to_tensor(_picture(packed, self.target))}

    def labels(self, index: int) -> np.ndarray:
        """(H, W) uint8: the classes of a street, as indices of `CLASSES`."""
        return self._packed[index, ..., 0] & CLASS_BITS

    def packed(self, index: int) -> np.ndarray:
        """(H, W, 7) uint8: class + `EDGE` + `BOUNDARY`, photo by day, photo by night."""
        return self._packed[index]

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the cached file itself rather than receive hundreds of megabytes.
        state = self.__dict__.copy()
        if isinstance(self._packed, np.memmap):
            state["_packed"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._packed is None:
            self._packed = self._open_or_make()

    def _open_or_make(self) -> np.ndarray:
        """(count, H, W, 7) uint8, as `packed` gives them."""
        if self._file is not None and self._file.exists():
            try:
                return np.load(self._file, mmap_mode="r")
            except (OSError, ValueError):  # damaged: made anew
                pass
        packed = _make_packed(range(self.first_seed, self.first_seed + self.count), self.size)
        if self._file is None:
            return packed
        try:
            _save(self._file, packed)
            return np.load(self._file, mmap_mode="r")
        except OSError:
            return packed


class StreetPhotos(Dataset[Tensor]):
    """Streets as single photos, by day or by night, for unpaired translation.

    An item is float32 (3, H, W) in [-1, 1]. Take it with an index or a `Draw`, of whose seed no use is made.
    """

    def __init__(self, *, photo: Literal["day", "night"], count: int, size: int, first_seed: int = 0) -> None:
        """
        Args:
            photo: what an item shows.
            count, size, first_seed: as for `StreetPairs`, which keeps the streets; sides of unpaired data must not
                share seeds.
        """
        self.pairs = StreetPairs(count=count, size=size, first_seed=first_seed, source=photo, target=photo)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: Draw | int) -> Tensor:
        return self.pairs[item]["target"]


class StreetLabels(Dataset[dict[str, Tensor]]):
    """Streets as label maps and photos, for semantic synthesis.

    An item is {"labels", "image"}: int64 (2, H, W), an index of `CLASSES` and 1 at the edges of instances, and float32
    (3, H, W) in [-1, 1]. Take it with an index or a `Draw`, of whose seed no use is made.
    """

    def __init__(self, *, count: int, size: int, first_seed: int = 0, changing_light: bool = True) -> None:
        """
        Args:
            count, size, first_seed: as for `StreetPairs`, which keeps the streets.
            changing_light: each photo is taken at a time of its own between midday and dusk, which follows from the
                street's seed and which its label map does not tell; else all are taken at midday.
        """
        self.pairs = StreetPairs(count=count, size=size, first_seed=first_seed)
        self.changing_light = changing_light
        self.fingerprint = f"{self.pairs.fingerprint}{_light_hash() if changing_light else ''}"
        """Identifies what the items show, the code that draws them included."""

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        index = item.index if isinstance(item, Draw) else item
        if not 0 <= index < len(self):
            raise IndexError(f"street {index} of {len(self)}")
        packed = self.pairs.packed(index)
        photo = packed[..., 1:4]
        if self.changing_light:
            time = np.random.default_rng(self.pairs.first_seed + index).random()
            photo = relight(photo, packed[..., 4:7], time=time)
        labels = np.stack([packed[..., 0] & CLASS_BITS, packed[..., 0] & EDGE > 0])
        return {"labels": torch.from_numpy(labels.astype(np.int64)), "image": _to_tensor(photo)}


def _picture(packed: np.ndarray, kind: Picture) -> np.ndarray:
    match kind:
        case "label_image":
            return _label_image(packed[..., 0] & CLASS_BITS, packed[..., 0] & BOUNDARY > 0)
        case "day":
            return packed[..., 1:4]
        case "night":
            return packed[..., 4:7]


def _to_tensor(image: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return rescale(tensor, source=(0, 255), target=(-1, 1))


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "i2i"


def _code_hash() -> str:
    """Changes with the code that draws, so that a cache never shows yesterday's streets."""
    sources = (__file__, streets_plan.__file__, streets_render.__file__)
    return hashlib.sha256(b"".join(Path(source).read_bytes() for source in sources)).hexdigest()[:12]


def _light_hash() -> str:
    return hashlib.sha256(Path(streets_light.__file__).read_bytes()).hexdigest()[:12]


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def _pack(seed: int, size: tuple[int, int]) -> np.ndarray:
    scene = make_scene(seed, size=size)
    edges = instance_edges(torch.from_numpy(scene.instances)).numpy()
    marked = scene.labels + np.uint8(EDGE) * edges + np.uint8(BOUNDARY) * _boundaries(scene.instances)
    return np.concatenate([marked[..., None], scene.day, scene.night], axis=2)


def _pack_chunk(seeds: range, size: tuple[int, int]) -> np.ndarray:
    return np.stack([_pack(seed, size) for seed in seeds])


def _make_packed(seeds: range, size: tuple[int, int]) -> np.ndarray:
    """Every seed's street, with a progress bar; in processes where there are many."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    chunks = [seeds[i : i + 16] for i in range(0, len(seeds), 16)]
    made: list[np.ndarray] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("making streets", total=len(seeds))

        def keep(chunk: np.ndarray) -> None:
            made.append(chunk)
            progress.advance(bar, len(chunk))

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if len(chunks) >= 8 and cores > 1:
            try:
                # Forking a process that runs threads (torch's, OpenCV's) can hang, so they are spawned.
                with ProcessPoolExecutor(cores, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
                    for chunk in pool.map(_pack_chunk, chunks, [size] * len(chunks)):
                        keep(chunk)
            except (BrokenProcessPool, OSError, pickle.PicklingError):
                pass  # a script without `if __name__ == "__main__"` cannot spawn: the rest is made here
        for rest in chunks[len(made) :]:
            keep(_pack_chunk(rest, size))
    return np.concatenate(made)
