"""A person's own images with a class each, in a folder a class, or without classes in one folder.

`data/train/cat/*`, `data/train/dog/*` and likewise in `data/test/` or `data/val/`, or `data/cat/*` and `data/dog/*`
where nothing is held out. Without folders of classes, `data/train/*` or `data/*` are images without a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.folders import (
    ImageFolder,
    ImagesInfo,
    Range,
    SideInfo,
    fingerprint_groups,
    has_phase,
    images_in,
    is_image,
    probe_files,
)
from i2i.data.sampler import Draw
from i2i.data.transforms import ImageTransform
from i2i.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ClassFiles:
    """Images and what they show.

    Attributes:
        names: of the classes, sorted; a label is a place among them. Empty: the images have no classes.
        files: the images, sorted by class and name.
        labels: one for each file; empty where there are no classes.
    """

    names: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]


def find_classes(data: Path | str, *, phase: str) -> ClassFiles:
    """Find the images of one phase, and their classes where they lie in a folder a class.

    Args:
        data: the folder that holds all phases, or, where there is nothing but training images, these themselves.
        phase: "train", "val", "test" … `has_phase` tells whether there is one.

    Raises:
        InputError: no folder, or none of that phase; a class without images; images beside the classes' folders.
    """
    data = Path(data)
    if not data.is_dir():
        raise InputError(f"{data} is no folder; expected one that holds images, or a folder of images for each class")
    if (data / phase).is_dir():
        return _classes_in(data / phase)
    if phase == "train" and not any(has_phase(data, other) for other in ("val", "test")):
        return _classes_in(data)
    raise InputError(f"{data} holds no folder {phase}/; expected one with images, or with a folder for each class")


def _classes_in(folder: Path) -> ClassFiles:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in inside if path.is_dir()]
    if not folders:
        return ClassFiles(names=(), files=tuple(images_in(folder)), labels=())
    strays = [path for path in inside if is_image(path) and not path.is_dir()]
    if strays:
        raise InputError(
            f"{strays[0]} lies beside the folders of classes ({folders[0].name}, …), so that its class is unknown "
            f"({len(strays)} such images); move it into the folder of its class, or away"
        )
    by_class = [images_in(path, f"images of class {path.name!r}") for path in folders]
    return ClassFiles(
        names=tuple(path.name for path in folders),
        files=tuple(file for files in by_class for file in files),
        labels=tuple(label for label, files in enumerate(by_class) for _ in files),
    )


def check_same_classes(training: ClassFiles, held_out: ClassFiles) -> None:
    """See to it that a label means the same in both.

    Raises:
        InputError: the classes' names differ.
    """
    missing = sorted(set(training.names) - set(held_out.names))
    unknown = sorted(set(held_out.names) - set(training.names))
    if missing or unknown:
        differ = [f"{', '.join(missing)} only in training"] if missing else []
        differ += [f"{', '.join(unknown)} only in held-out images"] if unknown else []
        raise InputError(
            f"expected the same classes in training and held-out images, got {' and '.join(differ)} "
            f"(as in {training.files[0].parent} and {held_out.files[0].parent}); add or remove these folders"
        )


def probe_classes(found: ClassFiles, *, data_range: Range | None = None, like: SideInfo | None = None) -> ImagesInfo:
    """Check the images before training and say what they have in common, as `folders.probe_images` does."""
    return probe_files(found.files, whose="images", data_range=data_range, like=like)


def fingerprint_classes(found: ClassFiles) -> str:
    """`folders.fingerprint` of images and their classes."""
    names = [found.names[label] for label in found.labels] or [""] * len(found.files)
    return fingerprint_groups([(name, [file]) for name, file in zip(names, found.files, strict=True)])


class ClassImages(Dataset[dict[str, Tensor]]):
    """Images as a generator of images learns from them, with their classes if they have any.

    An item is {"real": float32 (C, H, W), with the data range mapped to [-1, 1], "label": int64 scalar}, without
    "label" where there are no classes. Ask with a `Draw` for a randomly transformed image, and with a plain index for
    the image as evaluation sees it.
    """

    def __init__(self, *, found: ClassFiles, transform: ImageTransform, side: SideInfo) -> None:
        """
        Args:
            found: from `find_classes`.
            transform: what to do to an image.
            side: the images as the network was or will be trained; `probe_classes` tells.
        """
        self.names = found.names
        self.images = ImageFolder(files=found.files, transform=transform, side=side)
        self.labels: Sequence[int] = found.labels
        self.fingerprint = fingerprint_classes(found)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        """
        Raises:
            InputError: a file cannot be read, has not the channels of `side`, or does not fit the transform.
        """
        image = {"real": self.images[item]}
        if not self.labels:
            return image
        index = item.index if isinstance(item, Draw) else item
        return {**image, "label": torch.tensor(self.labels[index])}
