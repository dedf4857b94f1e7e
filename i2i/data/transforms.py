"""Random changes that treat images which belong together alike, through albumentations."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

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
        load_size: px that images are resized to first (bicubic; averaged where that shrinks them): the side of a
            square, or (height, width); None keeps their size.
        crop_size: px that are then cropped at random, likewise; None crops nothing.
        flip: mirror left-right in half of the draws.
        vertical_flip: mirror top-bottom in half of the draws, for images without an up and down.
        quarter_turns: turn by a random multiple of 90 degrees.
        size_multiple: sides of uncropped images are cut down to a multiple of this, about the centre.

    Raises:
        InputError: a size is below 1, the crop exceeds `load_size`, or what is to be turned by quarters is no square.
    """

    load_size: int | tuple[int, int] | None = None
    crop_size: int | tuple[int, int] | None = None
    flip: bool = True
    vertical_flip: bool = False
    quarter_turns: bool = False
    size_multiple: int = 1

    def __post_init__(self) -> None:
        load, crop = self._load_px, self._crop_px
        if min(*(load or (1, 1)), *(crop or (1, 1)), self.size_multiple) < 1:
            raise InputError(f"expected sizes of at least 1 px, got {self}")
        if load and crop and (crop[0] > load[0] or crop[1] > load[1]):
            raise InputError(f"crop_size={self.crop_size} exceeds load_size={self.load_size}; make it at most as large")
        size = crop or load
        if self.quarter_turns and size and size[0] != size[1]:
            raise InputError(f"quarter_turns needs squares, and images will be {size[1]} x {size[0]} px")

    def __call__(
        self, *images: np.ndarray, labels: Sequence[np.ndarray] = (), seed: int | None = None
    ) -> tuple[np.ndarray, ...]:
        """Transform one image, or several alike.

        Args:
            images: (H, W, C) of one height and width; uint8, uint16 or float32, each with its own number of
                channels.
            labels: (H, W) of the same height and width, integers of any type that name something, such as class ids.
                They move as the images do, but are never mixed: each pixel takes its nearest neighbour's.
            seed: decides every random choice; None for evaluation.

        Returns:
            The images, (H', W', C), then the labels, (H', W'), with their dtypes.

        Raises:
            InputError: the sizes differ, or they are smaller than the crop.
        """
        height, width = (images or labels)[0].shape[:2]
        for image in (*images, *labels):
            if image.shape[:2] != (height, width):
                raise InputError(
                    f"expected images of one size, got {width} x {height} and "
                    f"{image.shape[1]} x {image.shape[0]} px; make them equal"
                )
        crop = self._crop_px
        if self.load_size is None and crop is not None and (height < crop[0] or width < crop[1]):
            raise InputError(
                f"an image of {width} x {height} px is smaller than crop_size={self.crop_size}; "
                "set load_size or choose a smaller crop"
            )
        moved = [self._transformed(image, seed) for image in images]
        return *moved, *(self._moved_labels(ids, seed) for ids in labels)

    @property
    def _load_px(self) -> tuple[int, int] | None:
        return _height_and_width(self.load_size)

    @property
    def _crop_px(self) -> tuple[int, int] | None:
        return _height_and_width(self.crop_size)

    def _transformed(
        self, image: np.ndarray, seed: int | None, *, key: Literal["image", "mask"] = "image"
    ) -> np.ndarray:
        if self.load_size is None and self.crop_size is None:
            image = self._cut_to_multiple(image)
        # albumentations takes no mask without an image; for the image's draws only its size counts.
        images = {"image": image[..., :1], key: image}
        if seed is None:
            return self._evaluation(**images)[key]
        # One stream for all steps, begun anew for each image. `set_random_seed` would give every step the same one,
        # so that a vertical flip came with each horizontal flip; it is also five times as slow.
        self._training.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return self._training(**images)[key]

    def _moved_labels(self, ids: np.ndarray, seed: int | None) -> np.ndarray:
        # OpenCV moves no 64-bit integers, but the bytes of any, which nearest neighbour keeps together.
        octets = np.ascontiguousarray(ids)[..., None].view(np.uint8)
        return np.ascontiguousarray(self._transformed(octets, seed, key="mask")).view(ids.dtype)[..., 0]

    @cached_property
    def _training(self) -> A.Compose:
        steps = []
        if self._load_px is not None:
            steps.append(_resize(self._load_px))
        if self._crop_px is not None:
            steps.append(A.RandomCrop(*self._crop_px))
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
        if self._load_px is not None:
            steps.append(_resize(self._crop_px or self._load_px))
        elif self._crop_px is not None:
            steps.append(A.CenterCrop(*self._crop_px))
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


def _height_and_width(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size


def _resize(size: tuple[int, int]) -> A.Resize:
    return A.Resize(
        *size,
        interpolation=cv2.INTER_CUBIC,
        # Its sampling positions are those of the other two; INTER_NEAREST's lie up to half a pixel beside them.
        mask_interpolation=cv2.INTER_NEAREST_EXACT,
        area_for_downscale="image",
    )
