"""Folders of paired images: find the pairs, check them before training, serve them to the network.

Two conventions are known: pairs side by side in one file (A left, B right; pix2pix's), and two folders whose
files belong together by stem.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.image_io import (
    READABLE_SUFFIXES,
    DtypeName,
    ImageHeader,
    dtype_range,
    read_header,
    read_image,
    rescale,
)
from i2i.data.sampler import Draw
from i2i.data.transforms import ImageTransform
from i2i.errors import InputError

Direction = Literal["AtoB", "BtoA"]
Range = tuple[float, float]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Where the two images of a pair lie.

    Attributes:
        input: file of the image that the generator gets.
        target: file of the image that it should give; the same file where both lie side by side.
        halves: None for two files. For one file the direction: "AtoB" has the input on the left, "BtoA" on
            the right.
    """

    input: Path
    target: Path
    halves: Direction | None = None

    @property
    def name(self) -> str:
        return self.input.stem


@dataclass(frozen=True, kw_only=True)
class SideInfo:
    """What the images of one side have in common.

    Attributes:
        channels: number of channels.
        dtype: depth of the files.
        data_range: lowest and highest value, in the data's own units, that map to -1 and 1.
    """

    channels: int
    dtype: DtypeName
    data_range: Range


@dataclass(frozen=True, kw_only=True)
class PairInfo:
    """What a list of pairs holds.

    Attributes:
        input, target: the two sides.
        count: number of pairs.
        smallest_px, largest_px: extreme heights and extreme widths among all pairs, as (height, width).
    """

    input: SideInfo
    target: SideInfo
    count: int
    smallest_px: tuple[int, int]
    largest_px: tuple[int, int]


def find_pairs(data: Path | str, *, phase: str, direction: Direction = "AtoB") -> list[Pair]:
    """Find the pairs of one phase in any of the layouts that are in use.

    - `data/trainA/*` and `data/trainB/*`, paired by stem
    - `data/A/train/*` and `data/B/train/*`, paired by stem
    - `data/train/*`, A and B side by side in each file

    Args:
        data: the folder that holds all phases.
        phase: "train", "val", "test" …
        direction: "AtoB" takes A as the input, "BtoA" takes B.

    Returns:
        The pairs, sorted by name.

    Raises:
        InputError: no such layout, an empty folder, or an image without its partner.
    """
    data = Path(data)
    if not data.is_dir():
        raise InputError(f"{data} is no folder; expected one that holds {phase}/, or {phase}A/ and {phase}B/")
    for a, b in (
        (data / f"{phase}A", data / f"{phase}B"),
        (data / "A" / phase, data / "B" / phase),
    ):
        if a.is_dir() or b.is_dir():
            return pair_folders(a, b) if direction == "AtoB" else pair_folders(b, a)
    if (data / phase).is_dir():
        return [Pair(input=file, target=file, halves=direction) for file in _images_in(data / phase)]
    raise InputError(
        f"{data} holds no paired images for {phase!r}: expected a folder {phase}/ with A and B side by side in "
        f"each file, or two folders {phase}A/ and {phase}B/, or A/{phase}/ and B/{phase}/"
    )


def has_phase(data: Path | str, phase: str) -> bool:
    """Whether `find_pairs` has something to look at for that phase."""
    data = Path(data)
    return any(folder.is_dir() for folder in (data / phase, data / f"{phase}A", data / "A" / phase))


def pair_folders(input_dir: Path | str, target_dir: Path | str) -> list[Pair]:
    """Pair the images of two folders by stem: `a/1.jpg` with `b/1.png`.

    Args:
        input_dir: folder of the images that the generator gets.
        target_dir: folder of the images that it should give.

    Returns:
        The pairs, sorted by name.

    Raises:
        InputError: a folder is missing or empty, two files share a stem, or an image has no partner.
    """
    inputs, targets = _by_stem(Path(input_dir)), _by_stem(Path(target_dir))
    for files, partners, partner_dir in ((inputs, targets, target_dir), (targets, inputs, input_dir)):
        alone = [file for stem, file in files.items() if stem not in partners]
        if alone:
            raise InputError(
                f"{alone[0]} has no partner of the same name in {partner_dir} "
                f"({len(alone)} of {len(files)} images have none); add the partners or remove these files"
            )
    return [Pair(input=inputs[stem], target=targets[stem]) for stem in inputs]


def probe_pairs(
    pairs: Sequence[Pair],
    *,
    input_channels: int | None = None,
    target_channels: int | None = None,
    input_range: Range | None = None,
    target_range: Range | None = None,
) -> PairInfo:
    """Check all pairs before training and say what they are.

    Only the headers are read, unless the images are floats whose range has to be measured.

    Args:
        pairs: at least one.
        input_channels, target_channels: number of channels that each side must have; None takes what is
            there.
        input_range, target_range: values that map to -1 and 1, such as (0, 4095) for a 12-bit camera; None
            takes the full range of integers, and the lowest and highest value found among floats.

    Returns:
        Channels, depth and range of each side, number of pairs and the smallest size.

    Raises:
        InputError: no pairs; a file is truncated or no image; the sizes within a pair differ; an image's
            channels or depth are not those of its side; floats that are not finite or all equal.
    """
    if not pairs:
        raise InputError("expected at least one pair of images, got none")
    # Side by side, both images share one file.
    files = list(dict.fromkeys(file for pair in pairs for file in (pair.input, pair.target)))
    headers = dict(zip(files, _in_threads(read_header, files), strict=True))
    sizes = [_size(pair, headers) for pair in pairs]
    heights, widths = zip(*sizes, strict=True)
    return PairInfo(
        input=_probe_side(pairs, headers, side="input", channels=input_channels, data_range=input_range),
        target=_probe_side(pairs, headers, side="target", channels=target_channels, data_range=target_range),
        count=len(pairs),
        smallest_px=(min(heights), min(widths)),
        largest_px=(max(heights), max(widths)),
    )


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Read both images of a pair.

    Returns:
        (input, target), (H, W, C) each with its own channels and dtype; see `read_image`.

    Raises:
        InputError: a file cannot be read, holds NaN or infinity, or is of odd width though it holds two images.
    """
    if pair.halves is None:
        return _read_finite(pair.input), _read_finite(pair.target)
    both = _read_finite(pair.input)
    half = _half_width(pair.input, both.shape[1])
    left, right = both[:, :half], both[:, half:]
    return (left, right) if pair.halves == "AtoB" else (right, left)


def fingerprint(pairs: Sequence[Pair]) -> str:
    """A short proof of which data a run saw: SHA-256 over the names, sizes and first bytes of all files.

    The folder does not count, so that data may move.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: a file is missing.
    """

    def describe(pair: Pair) -> bytes:
        parts = [str(pair.halves).encode()]
        for file in (pair.input, pair.target):
            with file.open("rb") as stream:
                parts += [file.name.encode(), str(file.stat().st_size).encode(), stream.read(4096)]
        return hashlib.sha256(b"\0".join(parts)).digest()

    return hashlib.sha256(b"".join(_in_threads(describe, pairs))).hexdigest()


class PairedImages(Dataset[dict[str, Tensor]]):
    """Pairs as the network takes them.

    An item is `{"input": …, "target": …}`, float32 (C, H, W), with each side's data range mapped to [-1, 1];
    values beyond that range are not clipped. Ask with a `Draw` for a randomly transformed pair, and with a plain
    index for the pair as evaluation sees it.
    """

    def __init__(self, *, pairs: Sequence[Pair], transform: ImageTransform, input: SideInfo, target: SideInfo) -> None:
        """
        Args:
            pairs: from `find_pairs` or `pair_folders`.
            transform: what to do to both images of a pair.
            input, target: the sides as the network was or will be trained; `probe_pairs` tells them.
        """
        self.pairs = pairs
        self.transform = transform
        self.input = input
        self.target = target

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        """
        Raises:
            InputError: a file cannot be read, has not its side's channels, or does not fit the transform.
        """
        index, seed = (item.index, item.seed) if isinstance(item, Draw) else (item, None)
        pair = self.pairs[index]
        input, target = read_pair(pair)
        _check_channels(pair.input, input.shape[2], "input", self.input.channels)
        _check_channels(pair.target, target.shape[2], "target", self.target.channels)
        try:
            input, target = self.transform(input, target, seed=seed)
        except InputError as error:
            raise InputError(f"{pair.input}: {error}") from error
        return {
            "input": _to_tensor(input, self.input.data_range),
            "target": _to_tensor(target, self.target.data_range),
        }


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected a folder of images")
    files = sorted(
        file for file in folder.iterdir() if file.suffix.lower() in READABLE_SUFFIXES and not file.name.startswith(".")
    )
    if not files:
        raise InputError(f"{folder} holds no images; expected files named {', '.join(sorted(READABLE_SUFFIXES))}")
    return files


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in _images_in(folder):
        if file.stem in files:
            raise InputError(
                f"{file} and {files[file.stem].name} have the same name, so neither can be paired; remove one"
            )
        files[file.stem] = file
    return files


def _size(pair: Pair, headers: dict[Path, ImageHeader]) -> tuple[int, int]:
    """Height and width of a pair's images."""
    input, target = headers[pair.input], headers[pair.target]
    if pair.halves is not None:
        return input.height, _half_width(pair.input, input.width)
    if (input.height, input.width) != (target.height, target.width):
        raise InputError(
            f"{pair.target} is {target.width} x {target.height} px but {pair.input} is "
            f"{input.width} x {input.height} px; expected one size within a pair: resize or remove them"
        )
    return input.height, input.width


def _half_width(file: Path, width: int) -> int:
    if width % 2:
        raise InputError(f"{file} is {width} px wide; expected two images of one width side by side, so an even number")
    return width // 2


def _probe_side(
    pairs: Sequence[Pair],
    headers: dict[Path, ImageHeader],
    *,
    side: Literal["input", "target"],
    channels: int | None,
    data_range: Range | None,
) -> SideInfo:
    files = [pair.input if side == "input" else pair.target for pair in pairs]
    if channels is None:
        channels = _most_common(headers[file].channels for file in files)
    dtype = _most_common(headers[file].dtype for file in files)
    for file in files:
        _check_channels(file, headers[file].channels, side, channels)
        if headers[file].dtype != dtype:
            raise InputError(
                f"{file} is {headers[file].dtype} but the other {side} images are {dtype}; expected one "
                "depth: convert or remove it"
            )
    if data_range is None:
        data_range = dtype_range(dtype) or _measured_range(pairs, side)
    return SideInfo(channels=channels, dtype=dtype, data_range=data_range)


def _check_channels(file: Path, channels: int, side: str, expected: int) -> None:
    if channels != expected:
        raise InputError(
            f"{file} has a channel count of {channels}; expected {expected}, as for all {side} images: "
            "convert or remove it"
        )


def _measured_range(pairs: Sequence[Pair], side: Literal["input", "target"]) -> Range:
    def extremes(pair: Pair) -> Range:
        image = read_pair(pair)[0 if side == "input" else 1]
        return float(image.min()), float(image.max())

    lows, highs = zip(*_in_threads(extremes, pairs), strict=True)
    if min(lows) == max(highs):
        raise InputError(f"all {side} images are {lows[0]} everywhere; expected images with something in them")
    return min(lows), max(highs)


def _read_finite(file: Path) -> np.ndarray:
    image = read_image(file)
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise InputError(f"{file} holds NaN or infinity; expected numbers: fill the holes or remove the file")
    return image


def _to_tensor(image: np.ndarray, data_range: Range) -> Tensor:
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return rescale(planes, source=data_range, target=(-1.0, 1.0))


def _most_common(values: Iterable[Item]) -> Item:
    return Counter(values).most_common(1)[0][0]


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Like map; files on network disks answer late, but many at a time."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(function, items))
