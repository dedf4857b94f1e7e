"""What generated images are good for: a small network is trained on them and tested on real ones.

The classification accuracy score of Ravuri & Vinyals 2019 (arXiv:1905.10887), and the same with label maps. Unlike
figures of how images look, it falls when they lack variety or do not show what they should. A second network is trained
on as many real images for as many steps, which says what could be had at most.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from i2i.data.labels import read_labels
from i2i.data.palettes import read_palette
from i2i.errors import InputError
from i2i.evaluation.describing import KEPT, Describing
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.metrics.classifier import ClassifierTraining, cached_classifier
from i2i.metrics.intervals import LEVEL, REPLICATES, resamples, wilson
from i2i.metrics.segmenter import SegmenterTraining, cached_segmenter
from i2i.metrics.semantic import class_iou, confusion_matrix

Usefulness = Literal["classes", "labels"]

SMALLEST_PX = 8
TESTED_AT_ONCE = 64
# What a network trained on real images reaches less than this, says little of others.
LEAST_ADVANTAGE = 0.1
FEW_IMAGES = 50
# Simple label maps may be equal by chance; more of them are not.
SHARED_BY_CHANCE = 0.5
NAMED = 5
# Names that `i2i draw` gives: number, class, truncation.
DRAWN = re.compile(r"\d+_(?P<name>.+?)(?:_t[-+.\de]+)?")
OVERVIEW = "overview"
OF_NO_CLASS = (255, 65535)


@dataclass(frozen=True, kw_only=True)
class UsefulnessSettings:
    """How small networks are trained on generated images, and on real ones for comparison.

    Attributes:
        size_px: side of the squares that all images are resized to; less where the first test image is smaller.
        steps: of training; None: 400 of a classifier, 1500 of a segmenter.
        flip: mirror half of the images, where left and right mean nothing.
        replicates: samples for intervals of mean IoU.
        seed: decides initial weights, draws, and which images of a larger set are left out.
    """

    size_px: int = 64
    steps: int | None = None
    flip: bool = False
    replicates: int = REPLICATES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size_px < SMALLEST_PX:
            raise InputError(f"usefulness: expected images of at least {SMALLEST_PX} px, got size_px={self.size_px}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"usefulness: expected at least 1 step of training, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """Images and their label maps, of equal names.

    Attributes:
        images, labels: matched by their names; those without a partner do not count.
        palette: a file with the colour of each class, where label maps are colour-coded.
        first_id: of the first class in label maps; what is below it is of no class.
    """

    images: ImageSet
    labels: ImageSet
    palette: Path | None = None
    first_id: int = 0


def check_classes(training: ImageSet, test: ImageSet, *, generated: ImageSet | None = None) -> None:
    """Raises InputError where `class_usefulness_findings` would on account of names, before anything is read."""
    sets = (generated or training, training, test)
    images = [_classes_of(some) for some in sets]
    _check_classes(sorted(set(images[1][1])), images, sets)


def match_labels(given: LabelledSet, *, kind: str) -> tuple[ImageSet, ImageSet]:
    """The images that have label maps, and these.

    Raises:
        InputError: there are none; `kind` says of what images.
    """
    images, maps = given.images.matched(given.labels)
    if not len(images):
        raise InputError(
            f"no {kind} image in {given.images.root} is called like a label map in {given.labels.root} (such as "
            f"{given.images.names[0]} and {given.labels.names[0]}); they need equal names"
        )
    return images, maps


def class_usefulness_findings(
    generated: ImageSet,
    training: ImageSet,
    test: ImageSet,
    *,
    settings: UsefulnessSettings,
    describing: Describing,
) -> Findings:
    """Accuracy on real images of a classifier trained on generated ones, beside one trained on real ones.

    An image's class is the first folder of its name (disc/00012.png) or, in a flat folder, what follows the number in
    names such as `i2i draw` gives: 000012_disc.png. Both classifiers train on as many images of each class.

    Args:
        generated, training: images to train on; of each class as many are taken as there are in the smaller set.
        test: real images that neither has seen.
        settings: how.
        describing: reads the images; at most 10,000 of each set, evenly spread.

    Returns:
        The figures trained_accuracy and real_accuracy.

    Raises:
        InputError: an image's class cannot be told, the classes of the sets differ, or there is but one.
    """
    images = [_classes_of(some) for some in (generated, training, test)]
    names = sorted(set(images[1][1]))
    _check_classes(names, images, (generated, training, test))
    size = _size(test, settings)
    pictures, labels = [], []
    for (found, classes), what in zip(images, ("generated images", "training images", "real images"), strict=True):
        described = describing.of(found, _Resized(size), what=what, cached=what != "generated images")
        places = described.indices["image"].tolist()
        pictures.append(described.rows["image"].unflatten(1, (-1, size, size)))
        labels.append(torch.tensor([names.index(classes[place]) for place in places]))
    drawn = _as_many_of_each(labels[:2], seed=settings.seed)
    steps = settings.steps or ClassifierTraining.steps
    accuracies = []
    for kind, chosen in enumerate(drawn):
        classifier = cached_classifier(
            _Labelled(pictures[kind][chosen], labels[kind][chosen]),
            fingerprint=f"{images[kind][0].fingerprint} {size} {KEPT} {_digest(chosen)}",
            classes=len(names),
            training=ClassifierTraining(steps=steps, flip=settings.flip, seed=settings.seed),
            device=describing.device,
            progress=_told(describing, ("generated", "real")[kind]),
        )
        seen = torch.cat([classifier(_floats(some, describing)).argmax(1).cpu() for some in _few(pictures[2])])
        accuracies.append(seen == labels[2])
    figures = {}
    for name, right in zip(("trained_accuracy", "real_accuracy"), accuracies, strict=True):
        low, high = wilson(int(right.sum()), len(right))
        figures[name] = Figure(value=right.double().mean().item(), low=low, high=high, images=len(right))
    chance = labels[2].bincount().max().item() / len(labels[2])
    details = {
        "by_class": {
            name: {
                kind: right[labels[2] == number].double().mean().item()
                for kind, right in zip(("trained", "real"), accuracies, strict=True)
            }
            for number, name in enumerate(names)
            if (labels[2] == number).any()
        }
    }
    return _findings(figures, details, chance=chance, trained_on=len(drawn[0]), size=size, steps=steps)


def label_usefulness_findings(
    generated: LabelledSet,
    training: LabelledSet,
    test: LabelledSet,
    *,
    settings: UsefulnessSettings,
    describing: Describing,
) -> Findings:
    """Mean IoU on real images of a segmenter trained on generated ones, beside one trained on real ones.

    Both segmenters train on as many images. Classes are those up to the largest id in training's label maps; 255 is of
    no class.

    Args:
        generated, training: images to train on, with the label maps that they were made from or that belong to them;
            of the larger set some are left out.
        test: real images that neither has seen, and theirs.
        settings: how.
        describing: reads the images; at most 10,000 of each set, evenly spread.

    Returns:
        The figures trained_miou and real_miou.

    Raises:
        InputError: no image has a label map of its name, a label map cannot be read or has classes that training's
            do not have, or images are not RGB.
    """
    size = _size(test.images, settings)
    kinds = ("generated", "training", "real")
    sets = [
        _labelled(given, size=size, kind=kind, describing=describing)
        for given, kind in zip((generated, training, test), kinds, strict=True)
    ]
    classes = int(sets[1].labels.max()) + 1
    if classes < 2:
        raise InputError(f"{training.labels.root}: expected label maps of two classes or more, got {classes}")
    for given, found, kind in zip((generated, test), (sets[0], sets[2]), ("generated", "real"), strict=True):
        if found.labels.max() >= classes:
            raise InputError(
                f"{given.labels.root}: label maps of {kind} images go up to class "
                f"{int(found.labels.max()) + given.first_id}, and those of training images up to "
                f"{classes - 1 + training.first_id}; expected the same classes"
            )
    count = min(len(sets[0].images), len(sets[1].images))
    steps = settings.steps or SegmenterTraining.steps
    confusions = []
    for found, kind in zip(sets[:2], ("generated", "real"), strict=True):
        chosen = _drawn(len(found.images), count, seed=settings.seed)
        segmenter = cached_segmenter(
            _Segmented(found.images[chosen], torch.where(found.labels < 0, classes, found.labels)[chosen]),
            fingerprint=f"{found.fingerprint} {size} {KEPT} {_digest(chosen)}",
            classes=classes,
            training=SegmenterTraining(steps=steps, flip=settings.flip, seed=settings.seed),
            device=describing.device,
            progress=_told(describing, kind),
        )
        read = torch.cat([segmenter(_floats(some, describing)).argmax(1).cpu() for some in _few(sets[2].images)])
        pairs = zip(read, sets[2].labels, strict=True)
        confusions.append(torch.stack([confusion_matrix(ids, truth, classes) for ids, truth in pairs]).double())
    figures = {
        name: _mean_iou(confusion, settings=settings)
        for name, confusion in zip(("trained_miou", "real_miou"), confusions, strict=True)
    }
    ious = [class_iou(confusion.sum(0)).tolist() for confusion in confusions]
    details = {
        "class_iou": {
            str(number + training.first_id): {"trained": trained, "real": real}
            for number, (trained, real) in enumerate(zip(*ious, strict=True))
            if real == real
        }
    }
    # That of the commonest class, painted everywhere.
    truth = confusions[1].sum((0, 2))
    chance = (truth.max() / truth.sum() / (truth > 0).sum()).item()
    findings = _findings(figures, details, chance=chance, trained_on=count, size=size, steps=steps)
    tested_on = {_digest(labels) for labels in sets[2].labels}
    shared = sum(_digest(labels) in tested_on for labels in sets[0].labels)
    if shared <= SHARED_BY_CHANCE * len(sets[0].labels):
        return findings
    return findings | Findings(
        warnings=(
            f"usefulness flatters: {shared} of {len(sets[0].labels)} generated images have label maps of the very real "
            "images that are tested on, which the segmenter trained on real images never sees; make images from the "
            "training label maps, and give these as --generated-labels",
        )
    )


class _Resized:
    """A `Describer` that gives images as squares of `size` pixels, 8 bits deep."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.key = f"resized {size}"
        self.rows: Mapping[str, torch.dtype] = {"image": torch.uint8}
        self.moments: Mapping[str, int] = {}

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        size = (self.size, self.size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return {"image": ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).flatten(1)}


class _ResizedLabelled:
    """Likewise, with the classes of each image's label map: −1 where there is none."""

    def __init__(self, size: int, maps: ImageSet, of: LabelledSet) -> None:
        self.images = _Resized(size)
        self.maps = maps
        self.first_id = of.first_id
        self.palette = None if of.palette is None else read_palette(of.palette)
        self.key = repr((self.images.key, maps, of.palette, of.first_id))
        self.rows: Mapping[str, torch.dtype] = {"image": torch.uint8, "labels": torch.int32}  # gloo has no int16
        self.moments: Mapping[str, int] = {}

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        if images.shape[1] != 3:
            raise InputError(f"--usefulness labels needs RGB images, got {images.shape[1]} channels")
        labels = torch.stack([self._labels(index) for index in indices])
        return {**self.images(images, indices), "labels": labels.flatten(1)}

    def _labels(self, index: int) -> Tensor:
        """(size, size) int32."""
        stored = read_labels(self.maps.files[index], palette=self.palette)
        ids = stored - self.first_id
        ids[(ids < 0) | np.isin(stored, OF_NO_CLASS)] = -1
        size = (self.images.size, self.images.size)
        return F.interpolate(torch.from_numpy(ids)[None, None].double(), size, mode="nearest-exact")[0, 0].int()


class _LabelledImages(NamedTuple):
    """Images (N, 3, H, W) uint8 with classes (N, H, W) int32, and what identifies them."""

    images: Tensor
    labels: Tensor
    fingerprint: str


def _labelled(given: LabelledSet, *, size: int, kind: str, describing: Describing) -> _LabelledImages:
    """The images that have label maps, all of one size."""
    images, maps = match_labels(given, kind=kind)
    described = describing.of(images, _ResizedLabelled(size, maps, given), what=f"{kind} images and label maps")
    return _LabelledImages(
        images=described.rows["image"].unflatten(1, (3, size, size)),
        labels=described.rows["labels"].unflatten(1, (size, size)),
        fingerprint=f"{images.fingerprint} {maps.fingerprint} {given.palette} {given.first_id}",
    )


class _Labelled(Dataset[dict[str, Tensor]]):
    """Items as `train_classifier` takes them, of images (N, C, H, W) uint8 and classes (N,)."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"real": self.images[index] / 127.5 - 1, "label": self.labels[index]}


class _Segmented(Dataset[dict[str, Tensor]]):
    """Items as `train_segmenter` takes them, of images (N, 3, H, W) uint8 and classes (N, H, W)."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.images[index] / 127.5 - 1, "labels": self.labels[index][None]}


def _classes_of(images: ImageSet) -> tuple[ImageSet, list[str]]:
    """Images, without the overview that `i2i draw` adds, and the class of each."""
    flat = not any("/" in name for name in images.names)
    kept = [place for place, name in enumerate(images.names) if not (flat and name == OVERVIEW)]
    classes = []
    for place in kept:
        folder, slash, _ = images.names[place].partition("/")
        drawn = DRAWN.fullmatch(folder)
        if not slash and drawn is None:
            raise InputError(
                f"{images.files[place]} does not say its class; expected a folder for each class, or names such as "
                "000012_cat.png"
            )
        # As `i2i draw` writes names, which may hold no other characters.
        classes.append(re.sub(r"\W+", "-", folder if slash or drawn is None else drawn["name"]))
    return images.subset(kept), classes


def _check_classes(
    names: Sequence[str], images: Sequence[tuple[ImageSet, list[str]]], sets: Sequence[ImageSet]
) -> None:
    """Complain unless generated images have all of training's classes and no others, and test images no others."""
    if len(names) < 2:
        raise InputError(f"{sets[1].root}: expected images of two classes or more, got {', '.join(names)} alone")
    for (_, classes), some, what in ((images[0], sets[0], "generated"), (images[2], sets[2], "test")):
        strange = sorted(set(classes).difference(names))
        lacking = sorted(set(names).difference(classes)) if what == "generated" else []
        if strange or lacking:
            listed = ", ".join((strange or lacking)[:NAMED])
            raise InputError(
                f"{some.root}: {what} images {'have' if strange else 'lack'} classes that training images "
                f"{'do not have' if strange else 'have'} ({listed}); expected the same, which are those of "
                f"{sets[1].root}: {', '.join(names[: 2 * NAMED])}{' …' if len(names) > 2 * NAMED else ''}"
            )


def _as_many_of_each(labels: Sequence[Tensor], *, seed: int) -> list[Tensor]:
    """Indices of two sets that have as many images of each class, drawn by the seed where one has more."""
    places: list[dict[int, list[int]]] = []
    for some in labels:
        of_class = defaultdict(list)
        for place in torch.randperm(len(some), generator=torch.Generator().manual_seed(seed)).tolist():
            of_class[int(some[place])].append(place)
        places.append(of_class)
    counts = {number: min(len(of_class[number]) for of_class in places) for number in places[1]}
    return [
        torch.tensor(sorted(place for number, count in counts.items() for place in of_class[number][:count]))
        for of_class in places
    ]


def _drawn(available: int, count: int, *, seed: int) -> Tensor:
    """So many indices in order, drawn by the seed."""
    return torch.randperm(available, generator=torch.Generator().manual_seed(seed))[:count].sort().values


def _size(test: ImageSet, settings: UsefulnessSettings) -> int:
    """The side in pixels that all images are resized to."""
    return max(SMALLEST_PX, min(settings.size_px, *test.read(0).shape[1:]))


def _mean_iou(confusion: Tensor, *, settings: UsefulnessSettings) -> Figure:
    """From confusion matrices (N, classes, classes) of images; whole images are resampled."""
    images = len(confusion)
    value = class_iou(confusion.sum(0)).nanmean().item()
    sampled = torch.stack(
        [
            class_iou(confusion[drawn].sum(0)).nanmean()
            for drawn in resamples(images, replicates=settings.replicates, seed=settings.seed)
        ]
    )
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = torch.quantile(sampled.double(), ends).tolist()
    return Figure(value=value, low=low, high=high, images=images)


def _findings(
    figures: Mapping[str, Figure], details: Mapping[str, Any], *, chance: float, trained_on: int, size: int, steps: int
) -> Findings:
    """Figures with what share of the real one is reached, and warnings."""
    trained, real = figures.values()
    section = {
        "share_of_real": trained.value / real.value if real.value else None,
        "chance": chance,
        "trained_on_images": trained_on,
        "size_px": size,
        "steps": steps,
        **details,
    }
    warnings = []
    if real.value < chance + LEAST_ADVANTAGE * (1 - chance):
        name = [*figures][1]
        warnings.append(
            f"usefulness says little: trained on real images, the network is hardly better than chance ({name} "
            f"{real.value:.2f}, chance {chance:.2f}); more training images or steps are needed"
        )
    if trained_on < FEW_IMAGES or (real.images or 0) < FEW_IMAGES:
        warnings.append(f"usefulness is of {trained_on} images to train on and {real.images} to test on, which is few")
    how = f"trained on {trained_on} images of {size} px"
    figures = {name: replace(figure, how=how) for name, figure in figures.items()}
    return Findings(figures=figures, warnings=tuple(warnings), details={"usefulness": section})


def _told(describing: Describing, which: str) -> Any:
    """For the training of a network: says how far it is."""
    if describing.progress is None:
        return None
    progress = describing.progress
    return lambda done, steps: progress(f"training on {which} images", done, steps)


def _floats(images: Tensor, describing: Describing) -> Tensor:
    """(N, C, H, W) uint8 to [-1, 1], on the device."""
    return (images / 127.5 - 1).to(describing.device)


def _few(images: Tensor) -> tuple[Tensor, ...]:
    """Images in batches to be tested."""
    return images.split(TESTED_AT_ONCE)


def _digest(numbers: Tensor) -> str:
    """Identifies integers."""
    return hashlib.sha256(repr(numbers.tolist()).encode()).hexdigest()
