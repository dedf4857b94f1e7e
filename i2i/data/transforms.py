"""Random changes that treat images which belong together alike, through albumentations."""

import os
import random
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from i2i.errors import InputError

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the internet for a newer version
import albumentations as A


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """Resize, random crop, random flips and turns: one draw for an image, or for all images that belong together.

    pix2pix's own (Isola et al. 2017, section 6.2) is `ImageTransform(load_size=286, crop_size=256)`; CycleGAN (Zhu et
    al. 2017) treats each side's images so by themselves.

    For training a seed decides everything. For evaluation nothing is random, and the picture has the size of
    training: resized to the crop size if training resizes, else cropped about the centre. With neither size
    given, an image keeps its own, less what exceeds a multiple of `size_multiple`.

    Attributes:
        load_size: side in px of the square that images are resized to first (bicubic; averaged where that
            shrinks them); None keeps their size.
        crop_size: side in px of the square that is then cropped at random; None crops nothing.
        flip: mirror left-right in half of the draws.
        vertical_flip: mirror top-bottom in half of the draws, for images without an up and down.
        quarter_turns: turn by a random multiple of 90 degrees.
        size_multiple: sides of uncropped images are cut down to a multiple of this, about the centre.

    Raises:
        InputError: a size is below 1, or the crop exceeds `load_size`.
    """

    load_size: int | None = None
    crop_size: int | None = None
    flip: bool = True
    vertical_flip: bool = False
    quarter_turns: bool = False
    size_multiple: int = 1

    def __post_init__(self) -> None:
        if min(size for size in (self.load_size, self.crop_size, self.size_multiple) if size is not None) < 1:
            raise InputError(f"expected sizes of at least 1 px, got {self}")
        if self.load_size and self.crop_size and self.crop_size > self.load_size:
            raise InputError(f"crop_size={self.crop_size} exceeds load_size={self.load_size}; make it at most as large")

    def __call__(self, *images: np.ndarray, seed: int | None = None) -> tuple[np.ndarray, ...]:
        """Transform one image, or several alike.

        Args:
            images: (H, W, C) of one height and width; uint8, uint16 or float32, each with its own number of
                channels.
            seed: decides every random choice; None for evaluation.

        Returns:
            The images, (H', W', C), with their dtypes.

        Raises:
            InputError: the sizes differ, or they are smaller than the crop.
        """
        height, width = images[0].shape[:2]
        for image in images:
            if image.shape[:2] != (height, width):
                raise InputError(
                    f"expected images of one size, got {width} x {height} and "
                    f"{image.shape[1]} x {image.shape[0]} px; make them equal"
                )
        if self.load_size is None and self.crop_size is not None and min(height, width) < self.crop_size:
            raise InputError(
                f"an image of {width} x {height} px is smaller than crop_size={self.crop_size}; "
                "set load_size or choose a smaller crop"
            )
        return tuple(self._transformed(image, seed) for image in images)

    def _transformed(self, image: np.ndarray, seed: int | None) -> np.ndarray:
        if self.load_size is None and self.crop_size is None:
            image = self._cut_to_multiple(image)
        if seed is None:
            return self._evaluation(image=image)["image"]
        # One stream for all steps, begun anew for each image. `set_random_seed` would give every step the same one,
        # so that a vertical flip came with each horizontal flip; it is also five times as slow.
        self._training.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return self._training(image=image)["image"]

    @cached_property
    def _training(self) -> A.Compose:
        steps = []
        if self.load_size is not None:
            steps.append(_resize(self.load_size))
        if self.crop_size is not None:
            steps.append(A.RandomCrop(self.crop_size, self.crop_size))
        if self.flip:
            steps.append(A.HorizontalFlip(p=0.5))
        if self.vertical_flip:
            steps.append(A.VerticalFlip(p=0.5))
        if self.quarter_turns:
            steps.append(A.RandomRotate90(p=1.0))
        return A.Compose(steps)

    @cached_property
    def _evaluation(self) -> A.Compose:
        steps = []
        if self.load_size is not None:
            steps.append(_resize(self.crop_size or self.load_size))
        elif self.crop_size is not None:
            steps.append(A.CenterCrop(self.crop_size, self.crop_size))
        return A.Compose(steps)

    def _cut_to_multiple(self, image: np.ndarray) -> np.ndarray:
        height, width = (side - side % self.size_multiple for side in image.shape[:2])
        if min(height, width) == 0:
            raise InputError(
                f"an image of {image.shape[1]} x {image.shape[0]} px is smaller than the "
                f"{self.size_multiple} px that the network needs; set load_size"
            )
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width]


def _resize(size: int) -> A.Resize:
    return A.Resize(size, size, interpolation=cv2.INTER_CUBIC, area_for_downscale="image")
