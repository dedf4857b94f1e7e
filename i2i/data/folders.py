"""Folders of images: find them, check them before training, serve them to the network.

Two conventions are known for pairs: side by side in one file (A left, B right; pix2pix's), and two folders whose
files belong together by stem. Unpaired images (CycleGAN's) lie in two folders, each checked and served by itself.

Where the images of a side have three channels, those of one are taken too, their channel three times: published sets
hold stray grey JPEGs among colour ones.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

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
from i2i.errors import InputError

if TYPE_CHECKING:  # albumentations takes a second and a half, which what only reads folders need not wait for
    from i2i.data.transforms import ImageTransform

Direction = Literal["AtoB", "BtoA"]
Side = Literal["A", "B"]
Range = tuple[float, float]
Item = TypeVar("Item")
Value = TypeVar("Value", int, DtypeName)
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
        data_range: lowest and highest value, in the data's own units, that map to the ends of the network's range.
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


@dataclass(frozen=True, kw_only=True)
class ImagesInfo:
    """What a list of single images holds.

    Attributes:
        side: what they have in common.
        count: number of images.
        smallest_px, largest_px: extreme heights and extreme widths among them, as (height, width).
    """

    side: SideInfo
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
    folders = _two_folders(data, phase)
    if folders is not None:
        a, b = folders
        return pair_folders(a, b) if direction == "AtoB" else pair_folders(b, a)
    if (data / phase).is_dir():
        return [Pair(input=file, target=file, halves=direction) for file in images_in(data / phase)]
    raise InputError(
        f"{data} holds no paired images for {phase!r}: expected a folder {phase}/ with A and B side by side in "
        f"each file, or two folders {phase}A/ and {phase}B/, or A/{phase}/ and B/{phase}/"
    )


def find_sides(data: Path | str, *, phase: str) -> tuple[list[Path], list[Path]]:
    """Find the unpaired images of one phase, in `data/trainA/*` and `data/trainB/*` or `data/A/train/*` and
    `data/B/train/*`.

    Args:
        data: the folder that holds all phases.
        phase: "train", "val", "test" …

    Returns:
        The files of A and those of B, each sorted by name.

    Raises:
        InputError: no such layout, or a side is missing or empty.
    """
    data = Path(data)
    if not data.is_dir():
        raise InputError(f"{data} is no folder; expected one that holds {phase}A/ and {phase}B/")
    folders = _two_folders(data, phase)
    if folders is None:
        raise InputError(
            f"{data} holds no unpaired images for {phase!r}: expected two folders {phase}A/ and {phase}B/, or "
            f"A/{phase}/ and B/{phase}/"
        )
    a, b = folders
    return side_images(a, side="A"), side_images(b, side="B")


def side_images(folder: Path | str, *, side: Side) -> list[Path]:
    """The images of one folder, which is one side of unpaired data.

    Returns:
        The files, sorted by name.

    Raises:
        InputError: the folder is missing or holds no images.
    """
    return images_in(Path(folder), f"images of side {side}")


def match_sides(a: Sequence[Path], b: Sequence[Path]) -> list[Pair]:
    """Pair those images of two sides that belong together by stem: `1.jpg` with `1.png`, `1_A.jpg` with `1_B.jpg`.

    This is for held-out images that show the same things on both sides; equal numbers alone do not mean that. A file
    without a partner is left out. `probe_pairs` then checks that the sizes are equal.

    Args:
        a: files of side A, at least one; the pairs' inputs.
        b: files of side B, at least one; their targets.

    Returns:
        The pairs, sorted by name.

    Raises:
        InputError: not one pair, or two files of a side share a stem.
    """
    of_a, of_b = by_stem(a, ending="_A"), by_stem(b, ending="_B")
    pairs = [Pair(input=file, target=of_b[stem]) for stem, file in of_a.items() if stem in of_b]
    if not pairs:
        raise InputError(
            f"no image of side A ({a[0]} …) has a partner on side B ({b[0]} …); expected equal names, or names that "
            "differ in _A and _B only"
        )
    return pairs


def has_phase(data: Path | str, phase: str) -> bool:
    """Whether `find_pairs` or `find_sides` has something to look at for that phase."""
    data = Path(data)
    places = (phase, f"{phase}A", f"{phase}B", f"A/{phase}", f"B/{phase}")
    return any((data / place).is_dir() for place in places)


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
    inputs, targets = by_stem(images_in(Path(input_dir))), by_stem(images_in(Path(target_dir)))
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
        input_channels, target_channels: number of channels that each side must have; None takes what most images
            have.
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
    headers = read_headers(dict.fromkeys(file for pair in pairs for file in (pair.input, pair.target)))
    smallest_px, largest_px = extreme_sizes([_size(pair, headers) for pair in pairs])
    return PairInfo(
        input=probe_side(
            [pair.input for pair in pairs],
            headers,
            read=lambda number: read_pair(pairs[number])[0],
            whose="input images",
            channels=input_channels,
            dtype=None,
            data_range=input_range,
        ),
        target=probe_side(
            [pair.target for pair in pairs],
            headers,
            read=lambda number: read_pair(pairs[number])[1],
            whose="target images",
            channels=target_channels,
            dtype=None,
            data_range=target_range,
        ),
        count=len(pairs),
        smallest_px=smallest_px,
        largest_px=largest_px,
    )


def probe_images(
    files: Sequence[Path], *, side: Side, data_range: Range | None = None, like: SideInfo | None = None
) -> ImagesInfo:
    """Check the images of one side of unpaired data before training and say what they are.

    Only the headers are read, unless the images are floats whose range has to be measured. Their sizes may differ.

    Args:
        files: at least one.
        side: which side they are, for messages.
        data_range: values that map to -1 and 1; None takes the full range of integers, and the lowest and highest
            value found among floats.
        like: for held-out images, what the training images are: these must have the same channels and depth, and
            get the same range.

    Raises:
        InputError: no files; a file is truncated or no image; an image's channels or depth are not those of its side;
            floats that are not finite or all equal.
    """
    if not files:
        raise InputError(f"expected at least one image of side {side}, got none")
    return probe_files(files, whose=f"images of side {side}", data_range=data_range, like=like)


def probe_files(
    files: Sequence[Path], *, whose: str, data_range: Range | None = None, like: SideInfo | None = None
) -> ImagesInfo:
    """`probe_images` of at least one image that need be no side; `whose` says what they are, for messages."""
    headers = read_headers(files)
    smallest_px, largest_px = extreme_sizes([(header.height, header.width) for header in headers.values()])
    return ImagesInfo(
        side=probe_side(
            files,
            headers,
            read=lambda number: read_finite(files[number]),
            whose=whose,
            channels=like.channels if like else None,
            dtype=like.dtype if like else None,
            data_range=like.data_range if like else data_range,
        ),
        count=len(files),
        smallest_px=smallest_px,
        largest_px=largest_px,
    )


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Read both images of a pair.

    Returns:
        (input, target), (H, W, C) each with its own channels and dtype; see `read_image`.

    Raises:
        InputError: a file cannot be read, holds NaN or infinity, or is of odd width though it holds two images.
    """
    if pair.halves is None:
        return read_finite(pair.input), read_finite(pair.target)
    both = read_finite(pair.input)
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
    return fingerprint_groups([(str(pair.halves), [pair.input, pair.target]) for pair in pairs])


def fingerprint_sides(a: Sequence[Path], b: Sequence[Path]) -> str:
    """`fingerprint` of unpaired images, the files of side A and those of side B."""
    return fingerprint_groups([("A", [file]) for file in a] + [("B", [file]) for file in b])


class PairedImages(Dataset[dict[str, Tensor]]):
    """Pairs as the network takes them.

    An item is `{"input": …, "target": …}`, float32 (C, H, W), with each side's data range mapped to [-1, 1];
    values beyond that range are not clipped. Ask with a `Draw` for a randomly transformed pair, and with a plain
    index for the pair as evaluation sees it.
    """

    def __init__(
        self, *, pairs: Sequence[Pair], transform: "ImageTransform", input: SideInfo, target: SideInfo
    ) -> None:
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
        input = with_channels(input, self.input.channels, file=pair.input, whose="input images")
        target = with_channels(target, self.target.channels, file=pair.target, whose="target images")
        try:
            input, target = self.transform(input, target, seed=seed)
        except InputError as error:
            raise InputError(f"{pair.input}: {error}") from error
        return {
            "input": to_tensor(input, self.input.data_range),
            "target": to_tensor(target, self.target.data_range),
        }


class ImageFolder(Dataset[Tensor]):
    """Single images as the network takes them: one side of unpaired data.

    An item is float32 (C, H, W), with the side's data range mapped to [-1, 1]; values beyond that range are not
    clipped. Ask with a `Draw` for a randomly transformed image, and with a plain index for the image as evaluation
    sees it.
    """

    def __init__(self, *, files: Sequence[Path], transform: "ImageTransform", side: SideInfo) -> None:
        """
        Args:
            files: from `find_sides` or `side_images`.
            transform: what to do to an image.
            side: the images as the network was or will be trained; `probe_images` tells.
        """
        self.files = files
        self.transform = transform
        self.side = side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: Draw | int) -> Tensor:
        """
        Raises:
            InputError: a file cannot be read, has not its side's channels, or does not fit the transform.
        """
        index, seed = (item.index, item.seed) if isinstance(item, Draw) else (item, None)
        file = self.files[index]
        image = with_channels(read_finite(file), self.side.channels, file=file, whose="images of its side")
        try:
            (image,) = self.transform(image, seed=seed)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
        return to_tensor(image, self.side.data_range)


def _two_folders(data: Path, phase: str) -> tuple[Path, Path] | None:
    """The folders of A and B in the layout that is there, or None."""
    for a, b in (
        (data / f"{phase}A", data / f"{phase}B"),
        (data / "A" / phase, data / "B" / phase),
    ):
        if a.is_dir() or b.is_dir():
            return a, b
    return None


def images_in(folder: Path, what: str = "images") -> list[Path]:
    """The images directly in a folder, sorted by name.

    Raises:
        InputError: the folder is missing or holds no images; `what` says in the message what it should hold.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected a folder of {what}")
    files = sorted(filter(is_image, folder.iterdir()))
    if not files:
        deeper = next(filter(is_image, folder.rglob("*")), None)
        raise InputError(
            f"{folder} holds no {what}; expected files named {', '.join(sorted(READABLE_SUFFIXES))}"
            + (
                f". Images are in its subfolders only, as in {deeper.parent}: give such a folder, or move them up"
                if deeper
                else ""
            )
        )
    return files


def is_image(file: Path) -> bool:
    return file.suffix.lower() in READABLE_SUFFIXES and not file.name.startswith(".")


def by_stem(files: Sequence[Path], *, ending: str = "") -> dict[str, Path]:
    """The files by their names without suffix and without `ending`.

    Raises:
        InputError: two of them share such a name.
    """
    named: dict[str, Path] = {}
    for file in files:
        stem = file.stem.removesuffix(ending)
        if stem in named:
            raise InputError(f"{file} and {named[stem].name} have the same name, so neither can be paired; remove one")
        named[stem] = file
    return named


def read_headers(files: Iterable[Path]) -> dict[Path, ImageHeader]:
    """The headers of all files, read many at a time.

    Raises:
        InputError: a file is missing, truncated or no image.
    """
    files = list(files)
    return dict(zip(files, _in_threads(read_header, files), strict=True))


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


def extreme_sizes(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest height and width, each by itself."""
    heights, widths = zip(*sizes, strict=True)
    return (min(heights), min(widths)), (max(heights), max(widths))


def probe_side(
    files: Sequence[Path],
    headers: dict[Path, ImageHeader],
    *,
    read: Callable[[int], np.ndarray],
    whose: str,
    channels: int | None,
    dtype: DtypeName | None,
    data_range: Range | None,
) -> SideInfo:
    """What the images of one side have in common.

    Args:
        files: at least one.
        headers: of these files.
        read: gives an image by its place in `files`, where floats have to be measured.
        whose: what they are, for messages.
        channels, dtype: what they must have; None takes what most of them have.
        data_range: values that map to -1 and 1; None takes the full range of integers, and the lowest and highest
            value found among floats.

    Raises:
        InputError: an image's channels or depth are others; floats that are not finite or all equal.
    """
    if channels is None:
        channels = _most_common(headers[file].channels for file in files)
    depth = dtype or _most_common(headers[file].dtype for file in files)
    others = [file for file in files if not _fits(headers[file].channels, channels)]
    if others:
        raise InputError(
            f"{others[0]} has a channel count of {headers[others[0]].channels}; expected {channels}, as for all "
            f"{whose}: {len(others)} of {len(files)} differ; convert or remove them"
        )
    others = [file for file in files if headers[file].dtype != depth]
    if others:
        raise InputError(
            f"{others[0]} is {headers[others[0]].dtype}; expected {depth}, as for all {whose}: {len(others)} of "
            f"{len(files)} differ; convert or remove them"
        )
    if data_range is None:
        data_range = dtype_range(depth) or _measured_range(len(files), read, whose)
    return SideInfo(channels=channels, dtype=depth, data_range=data_range)


def _fits(channels: int, expected: int) -> bool:
    """Whether an image can be had with as many channels as expected; grey is colour with three equal ones."""
    return channels == expected or (channels, expected) == (1, 3)


def with_channels(image: np.ndarray, expected: int, *, file: Path, whose: str) -> np.ndarray:
    """The image (H, W, C) with as many channels as its side; grey is repeated where colour is expected.

    Raises:
        InputError: it has another number of channels.
    """
    channels = image.shape[2]
    if not _fits(channels, expected):
        raise InputError(
            f"{file} has a channel count of {channels}; expected {expected}, as for all {whose}: convert or remove it"
        )
    return image if channels == expected else np.repeat(image, expected, axis=2)


def _measured_range(count: int, read: Callable[[int], np.ndarray], whose: str) -> Range:
    def extremes(number: int) -> Range:
        image = read(number)
        return float(image.min()), float(image.max())

    lows, highs = zip(*_in_threads(extremes, range(count)), strict=True)
    if min(lows) == max(highs):
        raise InputError(f"all {whose} are {lows[0]} everywhere; expected images with something in them")
    return min(lows), max(highs)


def fingerprint_groups(groups: Sequence[tuple[str, Sequence[Path]]]) -> str:
    """`fingerprint` of groups of files that belong together, each with what it is."""

    def digest(group: tuple[str, Sequence[Path]]) -> bytes:
        kind, files = group
        parts = [kind.encode()]
        for file in files:
            with file.open("rb") as stream:
                parts += [file.name.encode(), str(file.stat().st_size).encode(), stream.read(4096)]
        return hashlib.sha256(b"\0".join(parts)).digest()

    return hashlib.sha256(b"".join(_in_threads(digest, groups))).hexdigest()


def read_finite(file: Path) -> np.ndarray:
    """`read_image`, which here also raises InputError for NaN and infinity."""
    image = read_image(file)
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise InputError(f"{file} holds NaN or infinity; expected numbers: fill the holes or remove the file")
    return image


def to_tensor(image: np.ndarray, data_range: Range) -> Tensor:
    """(H, W, C) in the data's own units → float32 (C, H, W) with `data_range` mapped to [-1, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return rescale(planes, source=data_range, target=(-1.0, 1.0))


def _most_common(values: Iterable[Value]) -> Value:
    """The largest of the most common ones, so that the order of files does not count."""
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value))


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Like map; files on network disks answer late, but many at a time."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(function, items))
