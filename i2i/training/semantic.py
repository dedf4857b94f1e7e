"""What semantic synthesis is trained on: a person's own label maps and photos, or the built-in streets."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from i2i.checkpoints import ImageSide
from i2i.data.label_scan import LabelScan, count_classes, scan_labels
from i2i.data.palettes import default_palette, read_palette
from i2i.data.sampler import Draw
from i2i.data.semantic import (
    SemanticFiles,
    SemanticImages,
    SemanticSet,
    find_semantic,
    fingerprint_semantic,
    match_semantic,
)
from i2i.data.streets import CLASSES, PALETTE, StreetLabels
from i2i.data.transforms import ImageTransform
from i2i.errors import InputError

TRAINING_STREETS = 1000
HELD_OUT_STREETS = 200
STREET_SIZE_PX = 64
# A smaller set cannot spare any: what is learnt from is then shown again.
FEWEST_TO_HOLD_OUT = 10
TRAINING_PHASES = ("train", "training")
HELD_OUT_PHASES = ("val", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class SemanticData:
    """Which label maps and photos, and how they are cut.

    Label maps hold a class id a pixel. They are resized by nearest neighbour, and photos smoothly.

    Attributes:
        data: folder in the layout of Cityscapes (gtFine/ and leftImg8bit/), COCO-Stuff (train_label/, train_img/,
            train_inst/, val_label/ …) or ADE20K (annotations/ and images/). None: the built-in streets.
        label_dir: in place of `data`: folder of label maps.
        image_dir: in place of `data`: folder of photos, with the same names.
        instance_dir: beside `label_dir`: folder of instance maps, with the same names.
        classes: how many there are, with ids from 0 up; None: up to the highest id, or the palette's.
        dont_care: pixels of 255 (in ADE20K, 0) are of no class, and get a channel of their own.
        palette: file with the colours of the classes, one a line (128 64 128, or #804080), where label maps are
            colour-coded.
        load_size: training images are first resized to this width in px; None: not resized.
        crop_size: training images are then cropped at random to this width in px.
        aspect_ratio: width of all these by height; 2 for Cityscapes.
        flip: mirror half of the training images.
        instances: show the network where instances meet, if there are instance maps.
    """

    data: Path | None = None
    label_dir: Path | None = None
    image_dir: Path | None = None
    instance_dir: Path | None = None
    classes: int | None = None
    dont_care: bool = False
    palette: Path | None = None
    load_size: int | None = 286
    crop_size: int = 256
    aspect_ratio: float = 1.0
    flip: bool = True
    instances: bool = True

    def __post_init__(self) -> None:
        if self.data is not None and (self.label_dir or self.image_dir or self.instance_dir):
            raise InputError("--data and --label-dir with --image-dir exclude each other. Give one of the two.")
        if (self.label_dir is None) != (self.image_dir is None):
            raise InputError("--label-dir and --image-dir belong together. Give both, or --data.")
        if self.instance_dir is not None and (self.label_dir is None or not self.instances):
            raise InputError("--instance-dir needs --label-dir and --image-dir beside it, and no --no-instances.")
        if self.streets and (self.classes is not None or self.dont_care or self.palette is not None):
            raise InputError(
                "--classes, --dont-care and --palette are about label maps of your own. Give --data, or --label-dir "
                "with --image-dir."
            )
        for name in ("classes", "load_size", "crop_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {value}.")
        if not 0 < self.aspect_ratio < math.inf:
            raise InputError(f"--aspect-ratio is width by height and above 0, and is {self.aspect_ratio}.")
        if self.load_size is not None and self.load_size < self.crop_size:
            raise InputError(f"--load-size {self.load_size} must be at least as large as --crop-size {self.crop_size}.")

    @property
    def streets(self) -> bool:
        return self.data is None and self.label_dir is None

    @property
    def size_px(self) -> tuple[int, int]:
        """(height, width) of what the networks see."""
        return (STREET_SIZE_PX, STREET_SIZE_PX) if self.streets else self.height_and_width(self.crop_size)

    def height_and_width(self, width: int) -> tuple[int, int]:
        """As the aspect ratio has it, in px."""
        return max(1, round(width / self.aspect_ratio)), width


@dataclass(frozen=True, kw_only=True)
class SemanticTask:
    """The data of a run, and what is known about it.

    Attributes:
        training, held_out: items {"labels": int64 (1 or 2, H, W), "image": float32 (3, H, W) in [-1, 1]}, as
            `i2i.data.semantic.SemanticImages` has them.
        input: the label maps.
        output: the photos.
        classes: how many there are, "don't care" not counted.
        palette: (classes, 3) uint8 RGB, to show label maps in.
        name: of the data, in a word or two.
        about: where the data lie, how many there are, and a warning where they are too few; a line each.
        fingerprint: identifies the training data.
    """

    training: Dataset[dict[str, Tensor]]
    held_out: Dataset[dict[str, Tensor]]
    input: ImageSide
    output: ImageSide
    classes: int
    palette: np.ndarray
    name: str
    about: str
    fingerprint: str


class WithoutEdges(Dataset[dict[str, Tensor]]):
    """Items whose label maps have classes only."""

    def __init__(self, items: StreetLabels) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        found = self.items[item]
        return found | {"labels": found["labels"][:1]}


def semantic_task(data: SemanticData, *, size_multiple: int, changing_light: bool = False) -> SemanticTask:
    """Find and check label maps, photos and instance maps; all of them, before training starts.

    Args:
        data: which.
        size_multiple: what the networks need the sides to be multiples of.
        changing_light: built-in streets are taken at any time between midday and dusk, for networks that learn styles.

    Raises:
        InputError: something is missing, label maps hold other ids than they should, or files do not fit together or
            the networks.
    """
    _check_multiple(data, size_multiple)
    return _street_task(data, changing_light) if data.streets else _folder_task(data)


def _street_task(data: SemanticData, changing_light: bool) -> SemanticTask:
    training, held_out = (
        StreetLabels(count=count, size=STREET_SIZE_PX, first_seed=first, changing_light=changing_light)
        for count, first in ((TRAINING_STREETS, 0), (HELD_OUT_STREETS, TRAINING_STREETS))
    )
    light = "between midday and dusk" if changing_light else "at midday"
    return SemanticTask(
        training=training if data.instances else WithoutEdges(training),
        held_out=held_out if data.instances else WithoutEdges(held_out),
        input=_label_side(len(CLASSES), dont_care=False, instances=data.instances),
        output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)),
        classes=len(CLASSES),
        palette=PALETTE,
        name="streets",
        about=f"Built-in streets, as label maps of {len(CLASSES)} classes and photos {light}: {TRAINING_STREETS} to "
        f"learn from. Held out are {HELD_OUT_STREETS} more.",
        fingerprint=training.fingerprint,
    )


def _folder_task(data: SemanticData) -> SemanticTask:
    colours = None if data.palette is None else read_palette(data.palette)
    if colours is not None and data.classes not in (None, len(colours)):
        raise InputError(f"{data.palette} has {len(colours)} colours, and --classes is {data.classes}: make them equal")
    found, held_out_files = _find(data)
    training_files = _others(found.files, held_out_files)
    scan = scan_labels(
        [*training_files, *(held_out_files if held_out_files != training_files else [])], palette=colours
    )
    _check_sizes(data, scan)
    first_id = found.first_id if colours is None else 0  # a palette begins with the first class
    classes = count_classes(
        scan,
        classes=data.classes if colours is None else len(colours),
        dont_care=data.dont_care,
        first_id=first_id,
    )

    def images(files: list[SemanticFiles]) -> SemanticImages:
        return SemanticImages(
            files=files,
            transform=ImageTransform(
                load_size=None if data.load_size is None else data.height_and_width(data.load_size),
                crop_size=data.size_px,
                flip=data.flip,
            ),
            classes=classes,
            dont_care=data.dont_care,
            image=scan.photos,
            first_id=first_id,
            palette=colours,
        )

    return SemanticTask(
        training=images(training_files),
        held_out=images(held_out_files),
        input=_label_side(
            classes,
            dont_care=data.dont_care,
            instances=found.has_instances,
            first_id=first_id,
            palette=None if colours is None else tuple(map(tuple, colours.tolist())),
        ),
        output=ImageSide(**asdict(scan.photos)),
        classes=classes,
        palette=default_palette(classes) if colours is None else colours,
        name=data.data.resolve().name if data.data else training_files[0].labels.parent.name,
        about="\n".join(
            [
                _described(data, found, classes=classes, training=training_files, held_out=held_out_files),
                *(_absent(scan, classes, first_id) if data.classes is None and colours is None else []),
            ]
        ),
        fingerprint=_fingerprint(data, training_files, classes=classes, palette=colours),
    )


def _fingerprint(data: SemanticData, files: list[SemanticFiles], *, classes: int, palette: np.ndarray | None) -> str:
    """Of what the items show: the files, and what is made of them."""
    shown = (data.size_px, data.load_size, data.dont_care, classes, None if palette is None else palette.tolist())
    return hashlib.sha256(f"{fingerprint_semantic(files)} {shown}".encode()).hexdigest()


def _find(data: SemanticData) -> tuple[SemanticSet, list[SemanticFiles]]:
    """What was found for training, and what is held out; without a held-out phase, that is every tenth of it."""
    held_out = None
    if data.data is None:
        assert data.label_dir is not None and data.image_dir is not None
        found = match_semantic(data.label_dir, data.image_dir, data.instance_dir)
    else:
        training = find_semantic(data.data, phases=TRAINING_PHASES, instances=data.instances)
        if training is None:
            raise InputError(
                f"{data.data} holds no label maps in a layout known here: expected gtFine/train/ with "
                "leftImg8bit/train/ (Cityscapes), train_label/ with train_img/ (COCO-Stuff), or annotations/training/ "
                "with images/training/ (ADE20K); give other folders with --label-dir and --image-dir"
            )
        found = training
        held_out = find_semantic(data.data, phases=HELD_OUT_PHASES, instances=found.has_instances)
    if held_out is None:
        files = found.files
        return found, list(files) if len(files) < FEWEST_TO_HOLD_OUT else list(files[::10])
    if held_out.has_instances != found.has_instances:
        raise InputError(
            f"{held_out.files[0].labels} has no instance map, and those to learn from have: add the folder of instance "
            "maps, or leave them out with --no-instances"
        )
    return found, list(held_out.files)


def _others(files: Sequence[SemanticFiles], held_out: list[SemanticFiles]) -> list[SemanticFiles]:
    """Those that are not held out; all, if none were left."""
    spared = set(held_out)
    return [one for one in files if one not in spared] or list(files)


def _label_side(
    classes: int,
    *,
    dont_care: bool,
    instances: bool,
    first_id: int = 0,
    palette: tuple[tuple[int, int, int], ...] | None = None,
) -> ImageSide:
    return ImageSide(
        channels=classes + dont_care + instances,
        dtype="uint8" if classes <= 255 else "uint16",
        data_range=(0, 1),
        network_range=(0, 1),
        labels=True,
        dont_care=dont_care,
        instances=instances,
        first_id=first_id,
        palette=palette,
    )


def _check_multiple(data: SemanticData, multiple: int) -> None:
    """See that the networks can take the size; name the nearest crop size that would do."""

    def fits(width: int) -> bool:
        return all(side % multiple == 0 for side in (data.height_and_width(width)))

    height, width = data.size_px
    if height % multiple == 0 and width % multiple == 0:
        return
    sizes = [size for size in range(multiple, 8 * max(data.crop_size, multiple), multiple) if fits(size)]
    nearest = min(sizes, key=lambda size: abs(size - data.crop_size), default=None)
    remedy = f"give --crop-size {nearest}" if nearest else "give another --aspect-ratio"
    if data.streets:
        remedy = "the built-in streets need a network that asks for less"
    elif nearest and data.load_size is not None and nearest > data.load_size:
        remedy += f" and a --load-size of at least {nearest}"
    raise InputError(
        f"Images need sides that are multiples of {multiple} px, and these will be {width} x {height} px: {remedy}."
    )


def _check_sizes(data: SemanticData, scan: LabelScan) -> None:
    """See that images which are not resized can be cropped."""
    height, width = data.size_px
    lowest, narrowest = scan.smallest_px
    if data.load_size is None and (lowest < height or narrowest < width):
        file = scan.lowest if lowest < height else scan.narrowest
        raise InputError(
            f"{file} is smaller than the {width} x {height} px of a crop: give --load-size, or a --crop-size that fits "
            "into all images"
        )


def _absent(scan: LabelScan, classes: int, first_id: int) -> list[str]:
    """A hint where the highest id may not be what a person thinks."""
    absent = set(range(first_id, first_id + classes)) - set(scan.ids)
    if not absent:
        return []
    return [f"The highest id says how many classes there are; {len(absent)} never occur. Set it right with --classes."]


def _described(
    data: SemanticData,
    found: SemanticSet,
    *,
    classes: int,
    training: list[SemanticFiles],
    held_out: list[SemanticFiles],
) -> str:
    ids = f"{classes} classes" + (' and "don\'t care"' if data.dont_care else "")
    with_instances = "with instance maps" if found.has_instances else "without instance maps"
    other = ' Id 0, "other", became "don\'t care", and all ids are one lower.' if found.first_id == 1 else ""
    lines = [
        f"Label maps are in {training[0].labels.parent} and photos in {training[0].image.parent} ({found.layout} "
        f"layout), {with_instances}: {len(training)} to learn from, {ids}.{other}",
        f"Held out are {len(held_out)}."
        if held_out != training
        else "There are too few to hold any out: figures are over the images that are learnt from.",
    ]
    if len(training) == 1:
        lines.append("Warning: there is a single image to learn from, and what is learnt will fit little else.")
    return "\n".join(lines)
