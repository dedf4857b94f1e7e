"""A set of images in files, as every evaluation reads it."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from i2i.data.folders import is_image, read_finite, to_tensor
from i2i.data.image_io import dtype_range
from i2i.errors import InputError

Half = Literal["left", "right"]


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images of any sizes, read one by one.

    Attributes:
        root: what their names are relative to.
        files: in the order in which they count.
        half: which half of each file is meant, where two images lie side by side; None: all of it.
        data_range: what is black and white in float images, in their own units; integers have that of their type.
    """

    root: Path
    files: tuple[Path, ...]
    half: Half | None = None
    data_range: tuple[float, float] | None = None

    @classmethod
    def find(
        cls, place: Path | str, *, half: Half | None = None, data_range: tuple[float, float] | None = None
    ) -> Self:
        """The images of a file or of a folder and its subfolders, sorted by name; hidden files are left out.

        Raises:
            InputError: there is no such place, or no image in it.
        """
        place = Path(place).expanduser()
        if half not in (None, *get_args(Half)):
            raise InputError(f"half: expected one of {', '.join(get_args(Half))}, got {half!r}")
        if place.is_file():
            return cls(root=place.parent, files=(place,), half=half, data_range=data_range)
        if not place.is_dir():
            raise InputError(f"{place} does not exist; expected a folder of images")
        files = [
            file
            for file in sorted(place.rglob("*"))
            if is_image(file) and file.is_file() and not any(p.startswith(".") for p in file.relative_to(place).parts)
        ]
        if not files:
            raise InputError(f"{place} holds no images that can be read (PNG, JPEG, WebP, BMP, TIFF, .npy)")
        return cls(root=place, files=tuple(files), half=half, data_range=data_range)

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of each image: its path below the root, with / and without suffix."""
        return tuple(file.relative_to(self.root).with_suffix("").as_posix() for file in self.files)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies what the images are: their names and all bytes of their files, which half is meant, the range."""
        digest = hashlib.sha256(repr((self.half, self.data_range)).encode())
        for name, file in zip(self.names, self.files, strict=True):
            with file.open("rb") as stream:
                digest.update(f"\0{name}\0".encode() + hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def read(self, index: int) -> Tensor:
        """One image: (C, H, W) float32 in [-1, 1], at its full depth.

        Grey becomes three equal channels, and transparency is left out; images of five channels have five.

        Raises:
            InputError: the file cannot be read, holds NaN or infinity, or floats without `data_range`; its width is odd
                where a half is meant.
        """
        file = self.files[index]
        image = read_finite(file)
        if self.half is not None:
            width = image.shape[1]
            if width % 2:
                raise InputError(f"{file} is {width} px wide; expected two images of one width side by side")
            image = image[:, : width // 2] if self.half == "left" else image[:, width // 2 :]
        if image.shape[2] in (2, 4):
            image = image[..., :-1]
        if image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        data_range = dtype_range(image.dtype) or self.data_range
        if data_range is None:
            raise InputError(f"{file} holds floats; say what is black and white in it, such as --data-range 0 1")
        return to_tensor(image, data_range)

    def matched(self, other: "ImageSet") -> tuple["ImageSet", "ImageSet"]:
        """The images of both sets that have equal names, in the order of this set's; each set without the others.

        Images are called the same by their paths below the roots or, where these have nothing in common, by their file
        names alone, if these are unique.
        """
        for names, others in ((self.names, other.names), (_stems(self), _stems(other))):
            place = {name: number for number, name in enumerate(others)}
            common = [(number, place[name]) for number, name in enumerate(names) if name in place]
            unique = max(Counter(names).values(), default=1) == 1 == max(Counter(others).values(), default=1)
            if common and unique:
                break
        else:
            common = []
        return self.subset([mine for mine, _ in common]), other.subset([theirs for _, theirs in common])

    def subset(self, indices: list[int] | range | Tensor) -> "ImageSet":
        """The images of these indices, in this order."""
        chosen = torch.as_tensor(indices).tolist()
        return ImageSet(
            root=self.root,
            files=tuple(self.files[index] for index in chosen),
            half=self.half,
            data_range=self.data_range,
        )


def _stems(images: ImageSet) -> tuple[str, ...]:
    return tuple(name.rpartition("/")[2] for name in images.names)
