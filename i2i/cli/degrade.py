"""Show what training for real photos does to images: each as it is, beside degraded versions of it.

i2i degrade photo.png shown.png --count 8

i2i degrade photos/ shown/ --jpeg-quality 60 95 --gaussian-levels 1 10

The degradations are those of Real-ESRGAN (Wang et al. 2021), drawn anew for each version. The middle of each image is
shown; the degraded versions, which are smaller by the scale, are enlarged by repeating their pixels. All results are
PNG.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from i2i.cli.plan import plan_jobs
from i2i.data.degrade import Degradation, degrade, sharpen
from i2i.data.image_io import READABLE_SUFFIXES, dtype_range, read_image_file, rescale
from i2i.errors import InputError
from i2i.evaluation.pages import write_grid


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to degrade, how, and how often.

    Args:
        input: an image; a folder, searched with its subfolders; or a pattern in quotes, "photos/*.png".
        output: for one image a name that ends in .png, or a folder; for several a folder.
        count: degraded versions of each image.
        seed: of the random numbers; the same one gives the same versions.
        scale: how many times smaller than the original they are.
        crop_px: side of what is shown of each image, at most.
        sharpen: degrade a sharpened version, as in the training of Real-ESRGAN.
        degradation: what is done, how often and how much.
    """

    input: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="INPUT")]]
    output: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OUTPUT")]]
    count: int = 5
    seed: int = 0
    scale: int = 4
    crop_px: int = 256
    sharpen: bool = True
    degradation: Degradation = field(default_factory=Degradation)

    def __post_init__(self) -> None:
        if self.count < 1 or self.scale < 1:
            raise InputError(f"expected a --count and a --scale of at least 1, got {self.count} and {self.scale}")
        if self.crop_px < self.scale:
            raise InputError(f"--crop-px: expected at least the scale, {self.scale}, got {self.crop_px}")


def main(settings: Settings) -> int:
    """Write a picture for each image.

    Returns:
        The exit code: 0, or 1 where an image could not be used.

    Raises:
        InputError: no such image, or no place for the results.
    """
    names_file = Path(settings.output).suffix.lower() in READABLE_SUFFIXES
    jobs = plan_jobs(settings.input, settings.output, image_format=None if names_file else "png")
    for job in jobs:
        if job.target.suffix.lower() != ".png":
            raise InputError(f"{job.target}: expected a name that ends in .png, or for a folder a slash at its end")
    torch.manual_seed(settings.seed)
    failures = 0
    for job in jobs:
        try:
            original = _middle(job.source, settings)
        except InputError as error:
            print(error, file=sys.stderr)
            failures += 1
            continue
        target = sharpen(original) if settings.sharpen else original
        # One by one, so that each has draws of its own of what a batch shares.
        versions = [degrade(target, scale=settings.scale, settings=settings.degradation) for _ in range(settings.count)]
        shown = torch.cat([original, *(F.interpolate(image, original.shape[2:]) for image in versions)])
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_grid(job.target, {"original, then degraded versions": shown * 2 - 1})
        print(job.target)
    return 1 if failures else 0


def _middle(path: Path, settings: Settings) -> Tensor:
    """The middle of an image without its transparency: (1, C, H, W) in [0, 1], H and W multiples of the scale."""
    file = read_image_file(path)
    image = file.pages[0][..., :-1] if file.alpha else file.pages[0]
    limits = dtype_range(image.dtype)
    if limits is None and not (image.min() >= 0 and image.max() <= 1):
        raise InputError(f"{path}: expected 8 or 16 bits, or floats between 0 and 1; convert it first")
    whole = rescale(torch.from_numpy(image), source=limits or (0, 1), target=(0, 1))
    height, width = (min(side, settings.crop_px) // settings.scale * settings.scale for side in image.shape[:2])
    if height == 0 or width == 0:
        raise InputError(
            f"{path}: expected at least {settings.scale} px a side, got {image.shape[0]} by {image.shape[1]}"
        )
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return whole[top : top + height, left : left + width].permute(2, 0, 1)[None]
