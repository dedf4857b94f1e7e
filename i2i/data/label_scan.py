"""Look at a whole set of label maps before training, so that no surprise comes hours into it."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from i2i.data.folders import SideInfo, probe_side, read_finite
from i2i.data.image_io import ImageHeader, read_header
from i2i.data.labels import check_lossless, dont_care_id, read_labels
from i2i.data.semantic import SemanticFiles
from i2i.download import cache_folder
from i2i.errors import InputError
from i2i.files import replacing

VERSION = 1  # of what is kept: another one is not read


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """Where an id is found.

    Attributes:
        file: the first that has it.
        pixels: of that file.
        all_files, all_pixels: of the whole set.
    """

    file: str
    pixels: int
    all_files: int
    all_pixels: int


@dataclass(frozen=True, kw_only=True)
class LabelScan:
    """What a set of label maps and photos holds.

    Attributes:
        ids: where each id occurs, as it is in the files, lowest first.
        photos: what the photos have in common.
        narrowest, lowest: the photo of the least width, and that of the least height.
        smallest_px: that height and that width.
    """

    ids: dict[int, Occurrence]
    photos: SideInfo
    narrowest: str
    lowest: str
    smallest_px: tuple[int, int]


def scan_labels(files: Sequence[SemanticFiles], *, palette: np.ndarray | None = None) -> LabelScan:
    """Read all label maps, and the headers of all photos and instance maps, in parallel and with a progress bar.

    What was found is kept in `i2i.download.cache_folder()`, and holds as long as no file changes.

    Args:
        files: at least one; those to learn from and those held out.
        palette: (classes, 3) uint8 RGB, where the label maps are colour-coded.

    Raises:
        InputError: a file cannot be read or is no label map, sizes within an item differ, or photos are not all of one
            depth and in colour or grey.
    """
    kept = cache_folder() / "labels" / f"{_key(files, palette)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there yet, or damaged
        return _parsed(json.loads(kept.read_text(encoding="utf-8")))
    scan = _scan(files, palette)
    with suppress(OSError):  # without a place to keep it, it is done again
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps(asdict(scan)), encoding="utf-8")
    return scan


def count_classes(scan: LabelScan, *, classes: int | None, dont_care: bool, first_id: int = 0) -> int:
    """How many classes there are, once all ids have proved to be within them. Some may never occur.

    Args:
        scan: from `scan_labels`.
        classes: as many as the person says; None: up to the highest id.
        dont_care: whether pixels of no class are expected.
        first_id: as in `i2i.data.semantic.SemanticSet`.

    Raises:
        InputError: ids out of range, pixels of no class that are not expected, or no others.
    """
    if classes is None:
        highest = max((number for number in scan.ids if number not in (255, 65535)), default=-1)
        classes = highest + 1 - first_id
        if classes < 1:
            raise InputError(f'{next(iter(scan.ids.values())).file} and all other label maps hold "don\'t care" only')
    end = first_id + classes
    of_no_class = [number for number in scan.ids if number < first_id or number == dont_care_id(end)]
    if of_no_class and not dont_care:
        raise InputError(
            f'{_where(of_no_class[0], scan)}, which means "don\'t care": give --dont-care, and such pixels get a '
            "channel of their own"
        )
    beyond = [number for number in scan.ids if number >= end and number not in of_no_class]
    if beyond:
        raise InputError(
            f"{_where(beyond[0], scan)}, but {classes} classes have ids from {first_id} to {end - 1}: give --classes "
            f"{beyond[-1] + 1 - first_id} for all that occur, up to {beyond[-1]}, or correct the files"
        )
    return classes


def _where(number: int, scan: LabelScan) -> str:
    seen = scan.ids[number]
    return (
        f"{seen.file} has {seen.pixels:,} pixels of id {number} (in all, {seen.all_pixels:,} pixels in "
        f"{seen.all_files:,} {'file' if seen.all_files == 1 else 'files'})"
    )


def _scan(files: Sequence[SemanticFiles], palette: np.ndarray | None) -> LabelScan:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    ids: dict[int, Occurrence] = {}
    headers: dict[Path, ImageHeader] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ThreadPoolExecutor() as pool,  # decoders let other threads run
    ):
        bar = progress.add_task("checking label maps", total=len(files))
        for one, (header, counts) in zip(files, pool.map(lambda one: _look_at(one, palette), files), strict=True):
            headers[one.image] = header
            for number, pixels in counts.items():
                seen = ids.get(number) or Occurrence(file=str(one.labels), pixels=pixels, all_files=0, all_pixels=0)
                ids[number] = Occurrence(
                    file=seen.file,
                    pixels=seen.pixels,
                    all_files=seen.all_files + 1,
                    all_pixels=seen.all_pixels + pixels,
                )
            progress.advance(bar)
    photos = list(headers)
    narrowest = min(photos, key=lambda file: headers[file].width)
    lowest = min(photos, key=lambda file: headers[file].height)
    return LabelScan(
        ids=dict(sorted(ids.items())),
        photos=probe_side(
            photos,
            headers,
            read=lambda number: read_finite(photos[number]),
            whose="photos",
            channels=3,
            dtype=None,
            data_range=None,
        ),
        narrowest=str(narrowest),
        lowest=str(lowest),
        smallest_px=(headers[lowest].height, headers[narrowest].width),
    )


def _look_at(one: SemanticFiles, palette: np.ndarray | None) -> tuple[ImageHeader, dict[int, int]]:
    """The photo's header, and how many pixels have each id."""
    labels = read_labels(one.labels, palette=palette)
    height, width = labels.shape
    header = read_header(one.image)
    others = {one.image: header}
    if one.instances is not None:
        check_lossless(one.instances, "instance numbers")
        others[one.instances] = read_header(one.instances)
    for file, other in others.items():
        if (other.height, other.width) != (height, width):
            raise InputError(
                f"{file} is {other.width} x {other.height} px but {one.labels} is {width} x {height} px; expected one "
                "size: make them again from one source, label and instance maps by nearest neighbour"
            )
    return header, _counts(labels)


def _counts(labels: np.ndarray) -> dict[int, int]:
    lowest, highest = int(labels.min()), int(labels.max())
    if highest - lowest > 1 << 16:
        numbers, counts = np.unique(labels, return_counts=True)
    else:  # much faster
        counts = np.bincount((labels - lowest).ravel())
        numbers = np.flatnonzero(counts) + lowest
        counts = counts[counts > 0]
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _key(files: Sequence[SemanticFiles], palette: np.ndarray | None) -> str:
    """Changes with all that a scan depends on."""
    parts = [str(VERSION), "" if palette is None else palette.tobytes().hex()]
    for one in files:
        for file in (one.labels, one.image, one.instances):
            if file is not None:
                status = file.stat()
                parts.append(f"{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _parsed(kept: dict[str, Any]) -> LabelScan:
    photos = kept["photos"]
    return LabelScan(
        ids={int(number): Occurrence(**seen) for number, seen in kept["ids"].items()},
        photos=SideInfo(**photos | {"data_range": tuple(photos["data_range"])}),
        narrowest=kept["narrowest"],
        lowest=kept["lowest"],
        smallest_px=tuple(kept["smallest_px"]),
    )
