"""What super-resolution learns from: images of high resolution (HR), and those of low resolution (LR) of the same.

Where only HR images are given, LR ones are made from them: by bicubic resizing once for each whole image, or by random
degradations on the training device, which then needs HR crops only.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.decoded import DecodedImages
from i2i.data.degrade import Degradation, degrade, sharpen
from i2i.data.folders import (
    ImagesInfo,
    Range,
    SideInfo,
    by_stem,
    extreme_sizes,
    fingerprint_groups,
    images_in,
    probe_side,
    read_finite,
    read_headers,
    with_channels,
)
from i2i.data.image_io import dtype_range, rescale
from i2i.data.lmdb_images import is_lmdb, unpack_lmdb, unpacked_name
from i2i.data.sampler import Draw
from i2i.data.streets import StreetPairs
from i2i.errors import InputError
from i2i.layers.resample import bicubic

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class HighLow:
    """Where an image of high resolution lies, and that of low resolution if it is given."""

    high: Path
    low: Path | None = None


def find_training(data: Path | str, *, scale: int) -> tuple[list[HighLow], list[HighLow]]:
    """Find the images to learn from and those held out.

    Args:
        data: holds train/ and val/ or test/, each as `find_high_low` takes it; or is itself what it takes. Without
            held-out images every tenth one is held out.
        scale: how many times larger HR is.

    Returns:
        Images to learn from, and held-out ones; each sorted by name.

    Raises:
        InputError: as `find_high_low`, or there is only one image.
    """
    data = Path(data)
    phases = (data / "val", data / "valid", data / "test")
    held_out = next((phase for phase in phases if phase.is_dir()), None)
    training = data / "train"
    images = find_high_low(training if training.is_dir() else data, scale=scale)
    return hold_out(images) if held_out is None else (images, find_high_low(held_out, scale=scale))


def hold_out(images: Sequence[HighLow]) -> tuple[list[HighLow], list[HighLow]]:
    """Images to learn from, and every tenth one, which is held out.

    Raises:
        InputError: there is only one image.
    """
    if len(images) < 2:
        raise InputError(f"{images[0].high} is the only image; at least two are needed, one of them to hold out")
    return [image for i, image in enumerate(images) if i % 10], list(images[::10])


def find_high_low(
    data: Path | str, *, scale: int, low: Path | str | None = None, meta_info: Path | str | None = None
) -> list[HighLow]:
    """Find HR images, and LR images where they are given.

    Args:
        data: a folder of HR images; a folder that holds HR/ (or HRx4/ for scale 4) and perhaps LRx4/; or an `.lmdb`
            folder of BasicSR's.
        scale: how many times larger HR is.
        low: folder or `.lmdb` folder of LR images. For HR 0001 they are named 0001, 0001x4, 0001_x4, 0001_LR …
        meta_info: text file of BasicSR's that says which images of the folder `data` to take, one a line:
            `name.png (h,w,c)`, or `high.png, low.png` for pairs, of which the second lies in `low`, or in `data`
            where that is None.

    Returns:
        The images, sorted by name, or in the order of `meta_info`; all with LR, or none.

    Raises:
        InputError: a folder is missing or empty, or an image has no partner.
    """
    high = Path(data)
    low = None if low is None else Path(low)
    if meta_info is not None:
        return _listed(Path(meta_info), high=high, low=low, scale=scale)
    sub_folder = next((folder for folder in (high / f"HRx{scale}", high / "HR") if folder.is_dir()), None)
    if sub_folder is not None:
        given_low = high / f"LRx{scale}"
        high, low = sub_folder, low or (given_low if given_low.is_dir() else None)
    highs = images_in(_as_folder(high), "HR images")
    if low is None:
        return [HighLow(high=file) for file in highs]
    lows = by_stem(images_in(_as_folder(low), "LR images"))
    pairs = [HighLow(high=file, low=_partner(file, lows, scale=scale)) for file in by_stem(highs).values()]
    alone = sorted(set(lows.values()) - {pair.low for pair in pairs})
    if alone:
        raise InputError(
            f"{alone[0]} has no HR image in {high} ({len(alone)} of {len(lows)} have none); add what is missing or "
            "remove these files"
        )
    return pairs


def probe_high_low(
    images: Sequence[HighLow],
    *,
    scale: int,
    crop_px: int | None = None,
    data_range: Range | None = None,
    like: SideInfo | None = None,
) -> ImagesInfo:
    """Check all images before training and say what they are.

    Only the headers are read, unless the images are floats whose range has to be measured.

    Args:
        images: at least one.
        scale: how many times larger HR is. HR may be larger by fewer than `scale` px, which are cut off.
        crop_px: side of the square that will be cropped from HR.
        data_range: values that map to 0 and 1, such as (0, 4095) for a 12-bit camera; None takes the full range of
            integers, and the lowest and highest value found among floats.
        like: for held-out images, what the training images are: these must have the same channels and depth, and get
            the same range.

    Returns:
        What HR and LR have in common; number and extreme sizes of the HR images, cut to a multiple of `scale`.

    Raises:
        InputError: no images; a file is truncated or no image; LR has not the size that belongs to HR; an HR image
            is smaller than the crop; an image's channels or depth are not those of the others; floats that are not
            finite or all equal.
    """
    if not images:
        raise InputError("expected at least one HR image, got none")
    files = [file for one in images for file in _files(one)]
    headers = read_headers(files)
    sizes = {file: (header.height, header.width) for file, header in headers.items()}
    cut = [_cut_size(one, sizes, scale=scale) for one in images]
    small = [(one, size) for one, size in zip(images, cut, strict=True) if crop_px is not None and min(size) < crop_px]
    if small:
        one, (height, width) = min(small, key=lambda item: min(item[1]))
        more = f" ({len(small)} of {len(images)} images are smaller)" if len(small) > 1 else ""
        raise InputError(
            f"{one.high} is {width} x {height} px, smaller than --crop-px {crop_px}{more}: give --crop-px "
            f"{min(height, width)} or a smaller multiple of {scale}, or remove the image{'s' * (len(small) > 1)}"
        )
    smallest_px, largest_px = extreme_sizes(cut)
    side = probe_side(
        files,
        headers,
        read=lambda number: read_finite(files[number]),
        whose="HR and LR images",
        channels=like.channels if like else None,
        dtype=like.dtype if like else None,
        data_range=like.data_range if like else data_range,
    )
    return ImagesInfo(side=side, count=len(images), smallest_px=smallest_px, largest_px=largest_px)


def fingerprint_high_low(images: Sequence[HighLow]) -> str:
    """`i2i.data.folders.fingerprint` of HR images and those LR images that are given."""
    return fingerprint_groups([("high low", _files(one)) for one in images])


@dataclass(frozen=True, kw_only=True)
class DegradedOnce:
    """LR images that went through random degradations once and for all: to take figures on, not to learn from.

    Attributes:
        scale: how many times smaller they are.
        settings: of the degradations.
        sharpen: whether HR is sharpened before, as Real-ESRGAN does.
    """

    scale: int
    settings: Degradation
    sharpen: bool = True

    def low(self, high: np.ndarray, side: SideInfo) -> np.ndarray:
        """(H, W, C) to (H // scale, W // scale, C) of the same dtype; what happens to it follows from its pixels."""
        height, width = (length - length % self.scale for length in high.shape[:2])
        target = _to_tensor(high[:height, :width], side)[None]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(np.ascontiguousarray(high).tobytes()))
            low = degrade(sharpen(target) if self.sharpen else target, scale=self.scale, settings=self.settings)
        values = rescale(low[0].permute(1, 2, 0).numpy(), source=(0.0, 1.0), target=side.data_range)
        return values if high.dtype == np.float32 else values.round().astype(high.dtype)


class SuperResolutionImages(Dataset[dict[str, Tensor]]):
    """HR and LR images as the network takes them.

    An item is {"target", "input"}: HR, float32 (C, scale · h, scale · w), and LR, float32 (C, h, w), each with the data
    range mapped to [0, 1]; values beyond that range are not clipped.

    Ask with a `Draw` for a random crop, turned and mirrored at random, and with a plain index for the whole image, cut
    at its bottom and right to a multiple of the scale.
    """

    def __init__(
        self,
        *,
        images: Sequence[HighLow],
        scale: int,
        crop_px: int,
        side: SideInfo,
        with_input: bool = True,
        degraded: DegradedOnce | None = None,
        decoded: DecodedImages | None = None,
    ) -> None:
        """
        Args:
            images: from `find_training` or `find_high_low`.
            scale: how many times larger HR is.
            crop_px: side of the square that is cropped from HR, a multiple of `scale`.
            side: the images as the network was or will be trained; `probe_high_low` tells.
            with_input: False leaves "input" out, where it will be made on the device. Else it is the given LR image,
                or HR shrunk by `bicubic`, clipped and rounded to the depth of the file.
            degraded: makes "input" in place of both.
            decoded: keeps what is decoded and shrunk; None: in the cache folder.

        Raises:
            InputError: the crop is no multiple of the scale.
        """
        _check_crop(crop_px, scale)
        self.images = images
        self.scale = scale
        self.crop_px = crop_px
        self.side = side
        self.with_input = with_input
        self.degraded = degraded
        self.decoded = decoded or DecodedImages()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        """
        Raises:
            InputError: a file cannot be read, has not its side's channels, or is smaller than the crop.
        """
        index, seed = (item.index, item.seed) if isinstance(item, Draw) else (item, None)
        one = self.images[index]
        high, low = self.decoded.image(one.high), self._low(one) if self.with_input else None
        try:
            parts = _cut(high, low, scale=self.scale, crop_px=self.crop_px, seed=seed)
        except InputError as error:
            raise InputError(f"{one.high}: {error}") from error
        return {
            name: _to_tensor(
                with_channels(part, self.side.channels, file=one.high, whose="HR and LR images"), self.side
            )
            for name, part in parts.items()
        }

    def _low(self, one: HighLow) -> np.ndarray:
        degraded = self.degraded
        if degraded is not None:
            return self.decoded.made_from(
                one.high,
                kind=f"{degraded} {self.side.data_range}",
                make=lambda: degraded.low(self.decoded.image(one.high), self.side),
            )
        if one.low is not None:
            return self.decoded.image(one.low)
        return self.decoded.made_from(
            one.high,
            kind=f"bicubic x{self.scale}",
            make=lambda: shrunk(self.decoded.image(one.high), scale=self.scale),
        )


class SuperResolutionStreets(Dataset[dict[str, Tensor]]):
    """The built-in streets by day, as `SuperResolutionImages` gives a person's own images; LR is made by `bicubic`."""

    side = SideInfo(channels=3, dtype="uint8", data_range=(0, 255))

    def __init__(
        self,
        *,
        count: int,
        scale: int,
        crop_px: int,
        first_seed: int = 0,
        size: int = 128,
        with_input: bool = True,
        degraded: DegradedOnce | None = None,
    ) -> None:
        """
        Args:
            count, first_seed, size: as for `StreetPairs`, which keeps the streets; hold out other seeds.
            scale, crop_px, with_input, degraded: as for `SuperResolutionImages`.

        Raises:
            InputError: the crop is no multiple of the scale or larger than a street; count, seed or size is out of
                range.
        """
        _check_crop(crop_px, scale)
        if crop_px > size:
            raise InputError(f"--crop-px {crop_px} is larger than the built-in streets, which are {size} px: give less")
        self.scale = scale
        self.crop_px = crop_px
        self.streets = StreetPairs(count=count, size=size, first_seed=first_seed, source="day")
        self.low = [self._make_low(index, degraded) for index in range(count)] if with_input else None
        self.fingerprint = self.streets.fingerprint
        """Identifies what the items show, the code that draws them included."""

    def __len__(self) -> int:
        return len(self.streets)

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        index, seed = (item.index, item.seed) if isinstance(item, Draw) else (item, None)
        if not 0 <= index < len(self):
            raise IndexError(f"street {index} of {len(self)}")
        low = None if self.low is None else self.low[index]
        parts = _cut(self._high(index), low, scale=self.scale, crop_px=self.crop_px, seed=seed)
        return {name: _to_tensor(part, self.side) for name, part in parts.items()}

    def _make_low(self, index: int, degraded: DegradedOnce | None) -> np.ndarray:
        high = self._high(index)
        return shrunk(high, scale=self.scale) if degraded is None else degraded.low(high, self.side)

    def _high(self, index: int) -> np.ndarray:
        return self.streets.packed(index)[..., 1:4]


class DetailedCrops(Dataset[dict[str, Tensor]]):
    """Of each item the square with most detail, to look at: all of one size, and always the same.

    Detail is the mean difference of neighbouring pixels of "target"; squares a quarter of their side apart are
    compared.
    """

    def __init__(self, *, images: Dataset[dict[str, Tensor]], scale: int, side_px: int) -> None:
        """
        Args:
            images: gives {"target", "input"} or {"target"} for a plain index, as `SuperResolutionImages` does.
            scale: how many times larger "target" is.
            side_px: side of the square in "target", a multiple of `scale`.

        Raises:
            InputError: `side_px` is no multiple of the scale.
        """
        _check_crop(side_px, scale)
        self.images = images
        self.scale = scale
        self.side_px = side_px

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """
        Raises:
            InputError: the image is smaller than the square.
        """
        item = self.images[index]
        grey = item["target"].mean(0)
        if min(grey.shape) < self.side_px:
            raise InputError(
                f"held-out image {index} is {grey.shape[1]} x {grey.shape[0]} px; expected at least {self.side_px} px"
            )
        step_px = self.scale * max(1, self.side_px // (4 * self.scale))
        detail = F.pad(grey.diff(dim=0).abs(), (0, 0, 0, 1)) + F.pad(grey.diff(dim=1).abs(), (0, 1))
        means = F.avg_pool2d(detail[None], self.side_px, step_px)[0]
        top, left = (place * step_px for place in divmod(int(means.argmax()), means.shape[1]))
        return {
            name: image[..., top // part : (top + self.side_px) // part, left // part : (left + self.side_px) // part]
            for name, image in item.items()
            for part in (self.scale if name == "input" else 1,)
        }


def shrunk(high: np.ndarray, *, scale: int) -> np.ndarray:
    """LR from HR as an image file would hold it.

    Args:
        high: (H, W, C) uint8, uint16 or float32. What exceeds a multiple of `scale` is cut off at the bottom and right.
        scale: how many times smaller the result is.

    Returns:
        (H // scale, W // scale, C) of the same dtype: by `bicubic`; integers rounded and clipped.
    """
    height, width = (side - side % scale for side in high.shape[:2])
    low = torch.from_numpy(high[:height, :width].transpose(2, 0, 1).astype(np.float32))[None]
    limits = dtype_range(high.dtype)
    # MATLAB, which made the test sets, rounds what is shrunk along one axis before it shrinks along the other; and
    # halves up.
    for factors in ((1 / scale, 1.0), (1.0, 1 / scale)):
        low = bicubic(low, scale=factors)
        low = low if limits is None else (low + 0.5).floor().clamp(*limits)
    return low[0].permute(1, 2, 0).numpy().astype(high.dtype)


def _listed(meta_info: Path, *, high: Path, low: Path | None, scale: int) -> list[HighLow]:
    """The images that a meta_info file names."""
    if not meta_info.is_file():
        raise InputError(f"{meta_info} is no file; expected a text file with a line for each image")
    images = []
    high_files, low_files = _Names(high), _Names(low or high)
    lows: dict[Path, Mapping[str, Path]] = {}
    for number, line in enumerate(meta_info.read_text(encoding="utf-8").splitlines(), start=1):
        names = re.sub(r"\s*\(\d+, *\d+, *\d+\).*$", "", line).strip().split(", ")
        if names == [""]:
            continue
        file, partner = high_files.find(names[0]), None
        if len(names) > 1:
            partner = low_files.find(names[1])
        elif low is not None:
            place = low_files.find(names[0]).parent
            if place not in lows:
                lows[place] = by_stem(images_in(place, "LR images"))
            partner = _partner(file, lows[place], scale=scale)
        for needed in filter(None, (file, partner)):
            if not needed.is_file():
                raise InputError(
                    f"{needed} is missing, which line {number} of {meta_info} names; names are relative to the folder "
                    "of images"
                )
        images.append(HighLow(high=file, low=partner))
    if not images:
        raise InputError(f"{meta_info} names no images; expected lines such as 0001.png (480,480,3)")
    if len({image.low is None for image in images}) > 1:
        raise InputError(f"{meta_info} names LR images for some images only; expected one kind of lines")
    return images


class _Names:
    """The files of a folder by the names that a meta_info file has for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = _as_folder(folder)
        self.unpacked = is_lmdb(folder)

    def find(self, name: str) -> Path:
        return self.folder / (unpacked_name(str(Path(name).with_suffix(""))) if self.unpacked else name)


def _as_folder(folder: Path) -> Path:
    return unpack_lmdb(folder) if is_lmdb(folder) else folder


def _partner(high: Path, lows: Mapping[str, Path], *, scale: int) -> Path:
    """The LR image of `high`, of those named in `lows`."""
    name = high.stem.removesuffix("_HR").removesuffix("_GT")
    ends = ("", f"x{scale}", f"_x{scale}", "_LR", "_LQ", f"_LR{scale}", f"_LRx{scale}")
    for stem in (high.stem, *(f"{name}{end}" for end in ends)):
        if stem in lows:
            return lows[stem]
    raise InputError(
        f"{high} has no partner in {next(iter(lows.values())).parent}; expected an LR image named {name}, "
        f"{name}x{scale}, {name}_x{scale}, {name}_LR …: add it or remove the HR image"
    )


def _files(one: HighLow) -> list[Path]:
    return [one.high, *([one.low] if one.low else [])]


def _cut_size(one: HighLow, sizes: Mapping[Path, Size], *, scale: int) -> Size:
    """Height and width of what is used of an HR image."""
    size = sizes[one.high]
    if min(size) < scale:
        raise InputError(f"{one.high} is {size[1]} x {size[0]} px, which is too small for scale {scale}; remove it")
    low = None if one.low is None else sizes[one.low]
    # Some shrink what was cut to a multiple of the scale, others the whole image and round its size up.
    if low and any(not high // scale <= side <= -(-high // scale) for high, side in zip(size, low, strict=True)):
        raise InputError(
            f"{one.low} is {low[1]} x {low[0]} px but {one.high} is {size[1]} x {size[0]} px; expected "
            f"{size[1] // scale} x {size[0] // scale} px for scale {scale}: check the scale and that they belong "
            "together"
        )
    height, width = _low_size(size, low, scale)
    return height * scale, width * scale


def _low_size(high: Size, low: Size | None, scale: int) -> Size:
    """Height and width of LR that HR wholly covers."""
    covered = high[0] // scale, high[1] // scale
    return covered if low is None else (min(covered[0], low[0]), min(covered[1], low[1]))


def _check_crop(crop_px: int, scale: int) -> None:
    if crop_px < scale or crop_px % scale:
        raise InputError(
            f"a crop of {crop_px} px does not fit scale {scale}; expected a multiple of it, such as "
            f"{max(1, crop_px // scale) * scale}"
        )


def _cut(
    high: np.ndarray, low: np.ndarray | None, *, scale: int, crop_px: int, seed: int | None
) -> dict[str, np.ndarray]:
    """Take the same part of HR ("target") and LR ("input"): a random one as the seed says, or all without one."""
    height, width = _low_size(high.shape[:2], None if low is None else low.shape[:2], scale)
    top = left = turns = mirrored = 0
    if seed is not None:
        low_px = crop_px // scale
        if min(height, width) < low_px:
            raise InputError(
                f"the image is {width * scale} x {height * scale} px, smaller than the crop of {crop_px} px"
            )
        rng = np.random.default_rng(seed)
        top, left, turns, mirrored = rng.integers((height - low_px + 1, width - low_px + 1, 4, 2)).tolist()
        height = width = low_px

    def part(image: np.ndarray, times: int) -> np.ndarray:
        window = image[top * times : (top + height) * times, left * times : (left + width) * times]
        window = np.rot90(window, turns)
        return window[:, ::-1] if mirrored else window

    return {"target": part(high, scale)} | ({} if low is None else {"input": part(low, 1)})


def _to_tensor(image: np.ndarray, side: SideInfo) -> Tensor:
    """(H, W, C) in the data's own units → float32 (C, H, W) with the side's range mapped to [0, 1]."""
    planes = torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
    return rescale(planes, source=side.data_range, target=(0.0, 1.0))
