"""Label maps with their photos, and instance maps where there are some: find them, serve them to the network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.folders import SideInfo, by_stem, fingerprint_groups, images_in, read_finite, to_tensor, with_channels
from i2i.data.labels import class_ids, read_instances, read_labels
from i2i.data.sampler import Draw
from i2i.data.transforms import ImageTransform
from i2i.errors import InputError
from i2i.layers.edges import instance_edges


@dataclass(frozen=True, kw_only=True)
class SemanticFiles:
    """Where a label map, its photo and its instance map lie."""

    labels: Path
    image: Path
    instances: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SemanticSet:
    """What was found.

    Attributes:
        files: sorted by name; all with instance maps, or none.
        layout: whose way of laying out folders it is, in words.
        first_id: the id that the first class has in the files; what is below it is "don't care".
    """

    files: Sequence[SemanticFiles]
    layout: str
    first_id: int = 0

    @property
    def has_instances(self) -> bool:
        return self.files[0].instances is not None


def find_semantic(data: Path | str, *, phases: Iterable[str], instances: bool = True) -> SemanticSet | None:
    """Find label maps and photos in one of the layouts that public sets come in, told by the folders.

    - Cityscapes: `gtFine/<phase>/<city>/*_gtFine_labelIds.png`, `…_instanceIds.png` and
      `leftImg8bit/<phase>/<city>/*_leftImg8bit.png`, with or without the folders of cities
    - COCO-Stuff, as SPADE wants it: `<phase>_label/*`, `<phase>_img/*` and, where there are some, `<phase>_inst/*`
    - ADE20K: `annotations/<phase>/*` and `images/<phase>/*`, where the phases are called training and validation; id
      0 there is "other", which becomes "don't care", and all ids are one lower

    Args:
        data: the folder that holds all phases.
        phases: the first that is there is taken: "train", "val" …
        instances: whether to take instance maps where there are some.

    Returns:
        What is there; None where no such folder is.

    Raises:
        InputError: `data` is no folder, a folder is empty, a file has no partner.
    """
    data = Path(data)
    if not data.is_dir():
        raise InputError(f"{data} is no folder; expected one that holds label maps and photos")
    for phase in phases:
        if (labels := data / "gtFine" / phase).is_dir():
            return _cityscapes(labels, data / "leftImg8bit" / phase, instances=instances)
        if (labels := data / f"{phase}_label").is_dir():
            numbers = data / f"{phase}_inst"
            return SemanticSet(
                files=_by_name(labels, data / f"{phase}_img", numbers if instances and numbers.is_dir() else None),
                layout="COCO-Stuff's",
            )
        # Elsewhere "annotations/train" may hold anything, ids from 0 for instance.
        if phase in ("training", "validation") and (labels := data / "annotations" / phase).is_dir():
            return SemanticSet(files=_by_name(labels, data / "images" / phase, None), layout="ADE20K's", first_id=1)
    return None


def match_semantic(label_dir: Path | str, image_dir: Path | str, instance_dir: Path | str | None = None) -> SemanticSet:
    """Label maps, photos and instance maps of folders of their own, which belong together by stem.

    Raises:
        InputError: a folder is missing or empty, two files share a stem, a file has no partner.
    """
    numbers = None if instance_dir is None else Path(instance_dir)
    return SemanticSet(files=_by_name(Path(label_dir), Path(image_dir), numbers), layout="folders of one's own")


def fingerprint_semantic(files: Sequence[SemanticFiles]) -> str:
    """`i2i.data.folders.fingerprint` of label maps, photos and instance maps."""
    return fingerprint_groups(
        [("semantic", [one.labels, one.image, *([one.instances] if one.instances else [])]) for one in files]
    )


class SemanticImages(Dataset[dict[str, Tensor]]):
    """Label maps and photos as the network takes them.

    An item is {"labels", "image"}:

    - "labels": int64 (1 or 2, H, W): the class, 0 … classes - 1, or `classes` for "don't care"; where there are
      instance maps, then 1 at the edges of instances and else 0
    - "image": float32 (3, H, W) in [-1, 1]

    Ask with a `Draw` for a randomly transformed item, and with a plain index for the item as evaluation sees it.
    """

    def __init__(
        self,
        *,
        files: Sequence[SemanticFiles],
        transform: ImageTransform,
        classes: int,
        dont_care: bool,
        image: SideInfo,
        first_id: int = 0,
        palette: np.ndarray | None = None,
    ) -> None:
        """
        Args:
            files: from `find_semantic` or `match_semantic`.
            transform: what to do to a photo and all that belongs to it.
            classes: how many there are.
            dont_care: whether there may be pixels of no class.
            image: the photos as the network was or will be trained.
            first_id: as in `SemanticSet`.
            palette: (classes, 3) uint8 RGB, where the label maps are colour-coded.
        """
        self.files = files
        self.transform = transform
        self.classes = classes
        self.dont_care = dont_care
        self.image = image
        self.first_id = first_id
        self.palette = palette

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        """
        Raises:
            InputError: a file cannot be read, has ids out of range, or does not fit the others or the transform.
        """
        index, seed = (item.index, item.seed) if isinstance(item, Draw) else (item, None)
        one = self.files[index]
        maps = [self._read_labels(one.labels)]
        if one.instances is not None:
            maps.append(read_instances(one.instances))
        photo = with_channels(read_finite(one.image), self.image.channels, file=one.image, whose="photos")
        try:
            photo, *maps = self.transform(photo, labels=maps, seed=seed)
        except InputError as error:
            raise InputError(f"{one.labels} and what belongs to it: {error}") from error
        labels = torch.from_numpy(np.stack(maps).astype(np.int64))
        labels[1:] = instance_edges(labels[1:])
        return {
            "labels": labels,
            "image": to_tensor(photo, self.image.data_range),
        }

    def _read_labels(self, file: Path) -> np.ndarray:
        stored = read_labels(file, palette=self.palette)
        try:
            ids = class_ids(stored, classes=self.classes, dont_care=self.dont_care, first_id=self.first_id)
        except InputError as error:
            raise InputError(f"{file}: {error}. It may have changed since all files were checked") from error
        return ids.astype(np.int32)  # which moves faster


def _cityscapes(label_dir: Path, image_dir: Path, *, instances: bool) -> SemanticSet:
    labels = _named(label_dir, "_gtFine_labelIds.png")
    images = _named(image_dir, "_leftImg8bit.png")
    numbers = _named(label_dir, "_gtFine_instanceIds.png") if instances else None
    return SemanticSet(files=_matched(labels, images, numbers), layout="Cityscapes'")


def _named(folder: Path, ending: str) -> dict[str, Path]:
    """Files of that ending in a folder and in its folders, by what comes before it."""
    files = sorted([*folder.glob(f"*{ending}"), *folder.glob(f"*/*{ending}")])
    if not files:
        raise InputError(f"{folder} holds no files named *{ending}, which Cityscapes has there; unpack it again")
    return {file.name.removesuffix(ending): file for file in files}


def _by_name(label_dir: Path, image_dir: Path, instance_dir: Path | None) -> list[SemanticFiles]:
    return _matched(
        by_stem(images_in(label_dir, "label maps")),
        by_stem(images_in(image_dir, "photos")),
        by_stem(images_in(instance_dir, "instance maps")) if instance_dir is not None else None,
    )


def _matched(
    labels: Mapping[str, Path], images: Mapping[str, Path], instances: Mapping[str, Path] | None
) -> list[SemanticFiles]:
    """Those of equal names, sorted."""
    _check_partners(labels, images, "photo")
    _check_partners(images, labels, "label map")
    if instances is not None:
        remedy = ", or leave instance maps out with --no-instances"
        _check_partners(labels, instances, "instance map", remedy)
        _check_partners(instances, labels, "label map", remedy)
    return [
        SemanticFiles(labels=labels[name], image=images[name], instances=instances[name] if instances else None)
        for name in sorted(labels)
    ]


def _check_partners(files: Mapping[str, Path], partners: Mapping[str, Path], what: str, remedy: str = "") -> None:
    alone = sorted(files.keys() - partners.keys())
    if alone:
        place = next(iter(partners.values())).parent
        raise InputError(
            f"{files[alone[0]]} has no {what} of the same name in {place} ({len(alone)} of {len(files)} files have "
            f"none); add what is missing or remove these files{remedy}"
        )
