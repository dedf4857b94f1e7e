"""What super-resolution is trained on: a person's own images, or the built-in streets."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.checkpoints import ImageSide
from i2i.data.decoded import DecodedImages
from i2i.data.folders import ImagesInfo, SideInfo
from i2i.data.superres import (
    DegradedOnce,
    DetailedCrops,
    HighLow,
    SuperResolutionImages,
    SuperResolutionStreets,
    find_high_low,
    find_training,
    fingerprint_high_low,
    hold_out,
    probe_high_low,
)
from i2i.errors import InputError
from i2i.layers.resample import bicubic
from i2i.methods.base import Comparison
from i2i.methods.base import HeldOut as Validated
from i2i.methods.superres import RandomDegradation, SuperResolution
from i2i.metrics.wasserstein import SMALLEST_IMAGE_PX

TRAINING_STREETS = 300
HELD_OUT_STREETS = 16
STREET_SIZE_PX = 256
# Side of the pictures in reports; less where images are smaller.
PREVIEW_PX = 192

Items = Dataset[dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class SuperResolutionData:
    """Which images of high resolution (HR), and those of low resolution (LR) where they are not made from them.

    Attributes:
        data: folder of HR images; or a folder with HR/ and perhaps LRx4/; or with train/ and val/, each of them such
            a folder; or BasicSR's .lmdb folder. None: the built-in streets.
        low_dir: folder or .lmdb folder of LR images, called as the HR images are, or with x4 behind.
        meta_info: BasicSR's text file that says which images of `data` to take.
        held_out: folder like `data` with the images for the figures. None: val/, valid/ or test/ of `data`, or every
            tenth image.
        scale: how many times larger HR is.
        crop_px: side of the squares that are cropped from HR images at random, a multiple of the scale.
        held_out_px: larger held-out images are cut to their middle, of so many px a side, lest they fill the memory;
            None: figures of whole images.
        data_range: values that mean black and white; None: those of the files' depth.
        keep_decoded: keep decoded images on disk, in the cache folder, so that crops are read from there.
    """

    data: Path | None = None
    low_dir: Path | None = None
    meta_info: Path | None = None
    held_out: Path | None = None
    scale: int = 4
    crop_px: int = 128
    held_out_px: int | None = 1024
    data_range: tuple[float, float] | None = None
    keep_decoded: bool = True

    def __post_init__(self) -> None:
        for name in ("low_dir", "meta_info", "held_out"):
            if self.data is None and getattr(self, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} belongs to --data. Give the folder of HR images, too.")
        if self.scale < 1:
            raise InputError(f"--scale must be at least 1, and is {self.scale}.")
        # SSIM needs 11 px beside a border of as many pixels as the scale.
        smallest_px = max(SMALLEST_IMAGE_PX, 11 + 2 * self.scale)
        if self.crop_px % self.scale or self.crop_px < smallest_px:
            raise InputError(
                f"--crop-px must be a multiple of the scale, {self.scale}, and at least {smallest_px}, and is "
                f"{self.crop_px}: give {max(self.crop_px, smallest_px + self.scale) // self.scale * self.scale}."
            )
        if self.data is not None and self.held_out is not None and self.data.resolve() == self.held_out.resolve():
            raise InputError("--held-out is --data itself, so nothing would be held out. Give another folder, or none.")
        if self.held_out_px is not None and self.held_out_px < smallest_px:
            raise InputError(f"--held-out-px must be at least {smallest_px}, and is {self.held_out_px}.")


@dataclass(frozen=True, kw_only=True)
class SuperResolutionTask:
    """The data of a run, and what is known about it.

    Attributes:
        training, held_out: items for the method.
        preview: held-out squares of one size, with much to see in them.
        side: HR and LR images.
        scale: how many times larger HR is.
        name: of the data, in a word or two.
        about: how many images there are, and what LR is.
        fingerprint: identifies the training data, and a person's own held-out images.
    """

    training: Items
    held_out: Items
    preview: Items
    side: ImageSide
    scale: int
    name: str
    about: str
    fingerprint: str

    def figures(self, network: nn.Module, *, lpips: nn.Module | None = None, device: torch.device) -> dict[str, float]:
        """Held-out figures of a network, as `SuperResolution` takes them; one image at a time."""
        method = SuperResolution(generator=network.to(device).eval(), lpips=None if lpips is None else lpips.to(device))
        count = len(self.held_out)  # type: ignore[arg-type]
        sums: dict[str, float] = {}
        described: dict[str, list[Tensor]] = {}
        for found in self._validated(method, device=device):
            for name, value in found.items():
                if isinstance(value, Tensor):
                    described.setdefault(name, []).append(value.cpu())
                elif isinstance(value, float):
                    sums[name] = sums.get(name, 0.0) + value / count
        return sums | method.distances({name: torch.cat(parts) for name, parts in described.items()})

    def compared(self, network: nn.Module, *, device: torch.device) -> Iterator[dict[str, Comparison]]:
        """What a network makes of held-out images, for `i2i.training.loop.train`; one image at a time."""
        for found in self._validated(SuperResolution(generator=network.to(device).eval()), device=device):
            yield {name: part for name, part in found.items() if isinstance(part, Comparison)}

    def _validated(self, method: SuperResolution, *, device: torch.device) -> Iterator[Validated]:
        for index in range(len(self.held_out)):  # type: ignore[arg-type]
            with torch.no_grad():
                yield method.validate({name: image[None].to(device) for name, image in self.held_out[index].items()})


class Bicubic(nn.Module):
    """Bicubic resizing as a network, to hold others against."""

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return bicubic(images, scale=self.scale)


class HeldOut(Dataset[dict[str, Tensor]]):
    """Held-out images as figures are taken: cut to what a network takes, and where they are large to their middle."""

    def __init__(self, *, images: Items, scale: int, size_multiple: int, largest_px: int | None = None) -> None:
        """
        Args:
            images: gives {"target", "input"} for an index.
            scale: how many times larger "target" is.
            size_multiple: what the network needs the inputs' sides to be multiples of; more is cut off at the bottom
                and right.
            largest_px: longest side of "target"; None: any.
        """
        self.images = images
        self.scale = scale
        self.size_multiple = size_multiple
        self.largest_px = largest_px

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = self.images[index]
        (top, bottom), (left, right) = map(self._kept, item["input"].shape[1:])
        s = self.scale
        return {
            "target": item["target"][:, s * top : s * bottom, s * left : s * right],
            "input": item["input"][:, top:bottom, left:right],
        }

    def _kept(self, length: int) -> tuple[int, int]:
        """First and last, exclusive, of the positions kept along a side of "input"."""
        most = length if self.largest_px is None else min(length, self.largest_px // self.scale)
        kept = most // self.size_multiple * self.size_multiple
        first = (length - kept) // 2 if most < length else 0
        return first, first + kept


def super_resolution_task(
    data: SuperResolutionData, *, size_multiple: int = 1, degradation: RandomDegradation | None = None
) -> SuperResolutionTask:
    """Find and check the images.

    Args:
        data: which.
        size_multiple: what the network needs the sides of LR images to be multiples of.
        degradation: makes the inputs while training, at random, and those of held-out images once and for all.

    Raises:
        InputError: no images, or such as cannot be used together, by the network, or at this scale.
    """
    low_px = (data.crop_px if degradation is None else degradation.crop_px) // data.scale
    if low_px % size_multiple:
        raise InputError(
            f"The network takes LR images whose sides are multiples of {size_multiple} px, and these will be {low_px} "
            f"px: give a --crop-px that is a multiple of {size_multiple * data.scale}."
        )
    if degradation is not None and data.low_dir is not None:
        raise InputError("--low-dir gives LR images, and here they are made by random degradations. Leave it out.")
    if data.scale == 1 and degradation is None and data.data is None:
        raise InputError("--scale 1 needs LR images that differ from HR: give --data with --low-dir, or LRx1/ in it.")
    task = _street_task if data.data is None else _folder_task
    return task(data, size_multiple=size_multiple, degradation=degradation)


def _street_task(
    data: SuperResolutionData, *, size_multiple: int, degradation: RandomDegradation | None
) -> SuperResolutionTask:
    def streets(count: int, *, first_seed: int, held_out: bool) -> SuperResolutionStreets:
        return SuperResolutionStreets(
            count=count,
            scale=data.scale,
            crop_px=data.crop_px,
            size=STREET_SIZE_PX,
            first_seed=first_seed,
            with_input=held_out or degradation is None,
            degraded=_once(degradation, scale=data.scale),
        )

    training = streets(TRAINING_STREETS, first_seed=0, held_out=False)
    low = "shrunk bicubically" if degradation is None else "degraded at random"
    return _task(
        training,
        streets(HELD_OUT_STREETS, first_seed=TRAINING_STREETS, held_out=True),
        data=data,
        size_multiple=size_multiple,
        side=training.side,
        preview_px=STREET_SIZE_PX,
        name="streets",
        about=f"{TRAINING_STREETS} images to learn from, {HELD_OUT_STREETS} held out; those of low resolution are "
        f"{low}.",
        fingerprint=training.fingerprint,
    )


def _folder_task(
    data: SuperResolutionData, *, size_multiple: int, degradation: RandomDegradation | None
) -> SuperResolutionTask:
    files, held_out_files = _find(data)
    if data.scale == 1 and degradation is None and files[0].low is None:
        raise InputError("--scale 1 needs LR images that differ from HR: give --low-dir, or LRx1/ beside HR/.")
    info = probe_high_low(files, scale=data.scale, crop_px=data.crop_px, data_range=data.data_range)
    held_out_info = probe_high_low(held_out_files, scale=data.scale, like=info.side)
    _check_held_out(held_out_info, scale=data.scale)
    decoded = DecodedImages(keep=data.keep_decoded)

    def images(of: list[HighLow], *, held_out: bool) -> SuperResolutionImages:
        return SuperResolutionImages(
            images=of,
            scale=data.scale,
            crop_px=data.crop_px,
            side=info.side,
            with_input=held_out or degradation is None,
            degraded=_once(degradation, scale=data.scale),
            decoded=decoded,
        )

    def low(of: list[HighLow]) -> str:
        if degradation is not None:
            return "degraded at random" + (" (and not those that lie beside them)" if of[0].low is not None else "")
        return "shrunk bicubically" if of[0].low is None else "as given"

    about = (
        f"{len(files)} images to learn from, {len(held_out_files)} held out; those of low resolution are {low(files)}"
    )
    if low(held_out_files) != low(files):
        about += f", and {low(held_out_files)} for held-out images"
    cut = data.held_out_px is not None and max(held_out_info.largest_px) > data.held_out_px
    assert data.data is not None
    return _task(
        images(files, held_out=False),
        images(held_out_files, held_out=True),
        data=data,
        size_multiple=size_multiple,
        side=info.side,
        preview_px=min(held_out_info.smallest_px),
        name=data.data.resolve().name,
        about=f"{about}." + f" Of held-out images the middle counts, {data.held_out_px} px a side." * cut,
        fingerprint=f"{fingerprint_high_low(files)} {fingerprint_high_low(held_out_files)}",
    )


def _once(degradation: RandomDegradation | None, *, scale: int) -> DegradedOnce | None:
    if degradation is None:
        return None
    return DegradedOnce(scale=scale, settings=degradation.settings, sharpen=degradation.sharpen)


def _task(
    training: Items,
    held_out: Items,
    *,
    data: SuperResolutionData,
    size_multiple: int,
    side: SideInfo,
    preview_px: int,
    name: str,
    about: str,
    fingerprint: str,
) -> SuperResolutionTask:
    held_out = HeldOut(images=held_out, scale=data.scale, size_multiple=size_multiple, largest_px=data.held_out_px)
    multiple = data.scale * size_multiple
    preview_px = min(preview_px, PREVIEW_PX) // multiple * multiple
    return SuperResolutionTask(
        training=training,
        held_out=held_out,
        preview=DetailedCrops(images=held_out, scale=data.scale, side_px=preview_px),
        side=ImageSide(**asdict(side), network_range=(0.0, 1.0)),
        scale=data.scale,
        name=name,
        about=f"Enlarges by {data.scale}. {about} psnr and ssim are those of "
        f"{'brightness' if side.channels == 3 else 'all channels'}, without {data.scale} px at each border.",
        fingerprint=fingerprint,
    )


def _find(data: SuperResolutionData) -> tuple[list[HighLow], list[HighLow]]:
    """Images to learn from, and those held out."""
    assert data.data is not None
    if data.held_out is None and data.low_dir is None and data.meta_info is None:
        return find_training(data.data, scale=data.scale)
    files = find_high_low(data.data, scale=data.scale, low=data.low_dir, meta_info=data.meta_info)
    if data.held_out is not None:
        return files, find_high_low(data.held_out, scale=data.scale)
    return hold_out(files)


def _check_held_out(info: ImagesInfo, *, scale: int) -> None:
    smallest_px = max(SMALLEST_IMAGE_PX, 11 + 2 * scale)
    if min(info.smallest_px) < smallest_px:
        raise InputError(
            f"A held-out image has a side of {min(info.smallest_px)} px. Figures need {smallest_px} px: remove it, or "
            "name others with --held-out."
        )
