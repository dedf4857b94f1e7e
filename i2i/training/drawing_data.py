"""What recipes that draw from noise learn from: a person's own images, squares of built-in streets, or shapes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from torch.utils.data import Dataset

from i2i.checkpoints import ImageSide
from i2i.data.classes import ClassFiles, ClassImages, check_same_classes, find_classes, probe_classes
from i2i.data.crops import Crops, Reals
from i2i.data.folders import ImagesInfo, Range, has_phase
from i2i.data.shapes import CLASSES as SHAPES
from i2i.data.shapes import Shapes
from i2i.data.streets import StreetPhotos
from i2i.data.transforms import ImageTransform
from i2i.errors import InputError
from i2i.metrics.wasserstein import SMALLEST_IMAGE_PX

TRAINING_STREETS = 2000
TRAINING_SHAPES = 20_000
HELD_OUT = 200
# A smaller set cannot spare any: samples are then compared with what they were learnt from.
FEWEST_TO_HOLD_OUT = 10
# A class with fewer images to learn from is named, up to so many classes.
FEW_OF_A_CLASS = 10
CLASSES_NAMED = 5

Items = Dataset[dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class DrawingData:
    """Which images are learnt from, and how they are cut.

    Attributes:
        data: folder of images, or of one folder of images for each class; or with train/ and test/ (or val/), each of
            them such a folder. None: `built_in` ones.
        built_in: without `data`: squares out of the built-in streets, or shapes with a class each.
        labels: tell the networks the classes, where there are any.
        size_px: side of the squares that are drawn, a power of two.
        crops: cut such squares out of the images in `data` at random places; else each is resized to one.
        flip: mirror half of the images in `data`; built-in ones stay as they are.
        data_range: values of the images in `data` that mean black and white; None: those of the files' depth.
    """

    data: Path | None = None
    built_in: Literal["streets", "shapes"] = "streets"
    labels: bool = True
    size_px: int = 64
    crops: bool = False
    flip: bool = True
    data_range: Range | None = None

    def __post_init__(self) -> None:
        if self.size_px < SMALLEST_IMAGE_PX or self.size_px.bit_count() != 1:
            raise InputError(
                f"--size-px must be a power of two of at least {SMALLEST_IMAGE_PX}, and is {self.size_px}."
            )
        if self.data is None and (self.crops or self.data_range is not None):
            raise InputError("--crops and --data-range are about images of your own. Give --data, too.")


@dataclass(frozen=True, kw_only=True)
class DrawingTask:
    """The data of a run, and what is known about it.

    Attributes:
        training, held_out: items {"real": (C, size, size) in [-1, 1], "label": class id}; no "label" without classes.
        output: what is drawn.
        size_px: side of what is drawn.
        classes: their names; empty without classes.
        name: of the data, in a word or two.
        about: where the data lie and how many there are, and which classes have few.
        fingerprint: identifies what all the images show, to learn from and held out, by which figures can be compared.
    """

    training: Items
    held_out: Items
    output: ImageSide
    size_px: int
    classes: tuple[str, ...]
    name: str
    about: str
    fingerprint: str


class Unlabelled(Dataset[dict[str, Tensor]]):
    """Items without their classes."""

    def __init__(self, items: Items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, item: Any) -> dict[str, Tensor]:
        return {"real": self.items[item]["real"]}


def drawing_task(data: DrawingData) -> DrawingTask:
    """Find and check the images.

    Raises:
        InputError: there are none, they cannot be used together, or they are too small to be cut.
    """
    task = _folder_task(data) if data.data is not None else _built_in_task(data)
    if data.labels or not task.classes:
        return task
    return replace(task, training=Unlabelled(task.training), held_out=Unlabelled(task.held_out), classes=())


def _built_in_task(data: DrawingData) -> DrawingTask:
    size = data.size_px
    colour = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    match data.built_in:
        case "streets":
            whole_px = size * 5 // 4
            training, held_out = (
                StreetPhotos(photo="day", count=count, size=whole_px, first_seed=first)
                for count, first in ((TRAINING_STREETS, 0), (HELD_OUT, TRAINING_STREETS))
            )
            return DrawingTask(
                training=Crops(Reals(training), size=size),
                held_out=Crops(Reals(held_out), size=size),
                output=colour,
                size_px=size,
                classes=(),
                name="streets",
                about=f"Squares of {size} px cut at random out of {TRAINING_STREETS} built-in streets of {whole_px} "
                f"px. Held out are squares of {HELD_OUT} more.",
                fingerprint=f"{training.pairs.fingerprint} {size}",
            )
        case "shapes":
            shapes = Shapes(count=TRAINING_SHAPES, size=size)
            return DrawingTask(
                training=shapes,
                held_out=Shapes(count=HELD_OUT, size=size, first_seed=TRAINING_SHAPES),
                output=colour,
                size_px=size,
                classes=SHAPES,
                name="shapes",
                about=f"{TRAINING_SHAPES} built-in shapes of {len(SHAPES)} classes. Held out are {HELD_OUT} more.",
                fingerprint=shapes.fingerprint,
            )


def _folder_task(data: DrawingData) -> DrawingTask:
    assert data.data is not None
    found, held_out_files = _find(data.data)
    info = probe_classes(found, data_range=data.data_range)
    for some in (info, probe_classes(held_out_files, like=info.side)):
        _check_sizes(data, some)
    load_size = None if data.crops else data.size_px
    training, held_out = (
        ClassImages(found=files, transform=ImageTransform(load_size=load_size, flip=data.flip), side=info.side)
        for files in (found, held_out_files)
    )
    # What items asked for by their index show, which judges see; mirroring does not change that.
    shown = (data.size_px, data.crops, *map(float, info.side.data_range))
    return DrawingTask(
        training=Crops(training, size=data.size_px) if data.crops else training,
        held_out=Crops(held_out, size=data.size_px) if data.crops else held_out,
        output=ImageSide(**asdict(info.side)),
        size_px=data.size_px,
        classes=found.names,
        name=data.data.resolve().name,
        about=_described(data, found, held_out_files),
        fingerprint=f"{training.fingerprint} {held_out.fingerprint} {shown}",
    )


def _described(data: DrawingData, found: ClassFiles, held_out: ClassFiles) -> str:
    count = f"{len(found.files)} {'image' if len(found.files) == 1 else 'images'} to learn from"
    of_classes = f" of {len(found.names)} classes" if found.names else ""
    about = [f"{data.data} holds {count}{of_classes}, drawn at {data.size_px} px."]
    if found.files == held_out.files:
        about.append("They are too few to hold any out: figures are over the images that are learnt from.")
    else:
        about.append(f"Held out are {len(held_out.files)}.")
    counts = Counter(found.labels)
    few = [f"{name} ({counts[label]})" for label, name in enumerate(found.names) if counts[label] < FEW_OF_A_CLASS]
    if few:
        others = f" and {len(few) - CLASSES_NAMED} more" if len(few) > CLASSES_NAMED else ""
        about.append(f"Classes with few images to learn from: {', '.join(few[:CLASSES_NAMED])}{others}.")
    return " ".join(about)


def _find(data: Path) -> tuple[ClassFiles, ClassFiles]:
    """Files to learn from and held-out files; where no folder is for the latter, every tenth of each class.

    A class of a single image keeps it to learn from.
    """
    found = find_classes(data, phase="train")
    for phase in ("test", "val"):
        if has_phase(data, phase):
            held_out = find_classes(data, phase=phase)
            check_same_classes(found, held_out)
            return found, held_out
    labels = found.labels or (0,) * len(found.files)
    of_each = [list(places) for _, places in groupby(range(len(labels)), key=labels.__getitem__)]
    spared = {place for places in of_each if len(places) > 1 for place in places[::10]}
    if len(labels) < FEWEST_TO_HOLD_OUT or not spared:
        return found, found
    return _some(found, [place for place in range(len(labels)) if place not in spared]), _some(found, sorted(spared))


def _some(found: ClassFiles, places: Sequence[int]) -> ClassFiles:
    labels = tuple(found.labels[place] for place in places) if found.labels else ()
    return replace(found, files=tuple(found.files[place] for place in places), labels=labels)


def _check_sizes(data: DrawingData, info: ImagesInfo) -> None:
    if data.crops and min(info.smallest_px) < data.size_px:
        raise InputError(
            f"The smallest side of an image is {min(info.smallest_px)} px, and squares of {data.size_px} px are to be "
            "cut out: give a smaller --size-px, or --no-crops, which resizes images."
        )
