"""What unpaired translation is trained on: a person's own images, or built-in streets by day and by night."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from i2i.checkpoints import ImageSide
from i2i.data.folders import (
    ImageFolder,
    ImagesInfo,
    Pair,
    PairedImages,
    Side,
    find_sides,
    fingerprint_sides,
    has_phase,
    match_sides,
    probe_images,
    probe_pairs,
    side_images,
)
from i2i.data.image_io import read_header
from i2i.data.streets import StreetPairs, StreetPhotos
from i2i.data.transforms import ImageTransform
from i2i.data.unpaired import HeldOutPairs, Unpaired
from i2i.errors import InputError
from i2i.methods.base import COMPARED, Comparison
from i2i.metrics import lit_figures, paired_metrics, unpaired_baselines
from i2i.metrics.transfer import ColourTransfer, MeanImage
from i2i.metrics.wasserstein import SMALLEST_IMAGE_PX
from i2i.training.measures import BaselineImages

TRAINING_STREETS = 1000
HELD_OUT_STREETS = 200
STREET_SIZE_PX = 64
# A smaller side cannot spare any: what it learns from is then shown again.
FEWEST_TO_HOLD_OUT = 10
# Training images of each side that the baselines look at.
BASELINE_IMAGES = 1000
# From a side, to the other, and how the names of figures end.
DIRECTIONS = (("a", "b", ""), ("b", "a", "_b_to_a"))

Figures = Callable[[Tensor, Tensor], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class UnpairedData:
    """Which images of A and of B, and how they are cut.

    With neither `load_size` nor `crop_size` images keep their sizes, which may then differ at batch size 1 only.
    Held-out ones that differ are cut about the centre to one size.

    Attributes:
        data: folder with trainA/, trainB/, testA/, testB/ (or valA/ …, or A/train/ …). None: the built-in streets, A by
            day and B by night.
        a_dir: in place of `data`: folder of A's images.
        b_dir: in place of `data`: folder of B's images.
        test_pairs: held-out images of A and B with equal names show the same thing, so that translations can be
            compared with the truth. Those without a partner are left out.
        load_size: training images are first resized to a square of this side in px; None: not resized.
        crop_size: training images are then cropped at random to a square of this side in px; None: not cropped.
        flip: mirror half of the training images.
        a_range: values of A's images that mean black and white; None: those of the files' depth.
        b_range: likewise, of B's images.
    """

    data: Path | None = None
    a_dir: Path | None = None
    b_dir: Path | None = None
    test_pairs: bool = False
    load_size: int | None = 286
    crop_size: int | None = 256
    flip: bool = True
    a_range: tuple[float, float] | None = None
    b_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.data is not None and (self.a_dir or self.b_dir):
            raise InputError("--data and --a-dir with --b-dir exclude each other. Give one of the two.")
        if (self.a_dir is None) != (self.b_dir is None):
            raise InputError("--a-dir and --b-dir belong together. Give both, or --data.")
        for name in ("load_size", "crop_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {value}.")

    @property
    def streets(self) -> bool:
        return self.data is None and self.a_dir is None

    @property
    def side_px(self) -> int | None:
        """Side of the squares that the networks see; None: images keep their sizes."""
        return STREET_SIZE_PX if self.streets else self.crop_size or self.load_size


@dataclass(frozen=True, kw_only=True)
class UnpairedTask:
    """The data of a run, and what is known about it.

    Attributes:
        training, held_out: items for the method.
        a, b: the two sides.
        name: of the data, in a word or two.
        about: what A and B are, how many images there are, and a warning where they are too few; a line each.
        fingerprint: identifies the training data.
        figures: what to say about a translation of A whose truth is known.
        baselines: figures without training, by name; those of B → A end in "_b_to_a".
        baseline_images: what these show, for `i2i.training.loop.train`.
    """

    training: Dataset[dict[str, Tensor]]
    held_out: Dataset[dict[str, Tensor]]
    a: ImageSide
    b: ImageSide
    name: str
    about: str
    fingerprint: str
    figures: Figures
    baselines: dict[str, dict[str, float]]
    baseline_images: BaselineImages


def unpaired_task(
    data: UnpairedData, *, seed: int, batch_size: int, size_multiple: int, smallest_px: int
) -> UnpairedTask:
    """Find and check the images.

    Args:
        data: which.
        seed: of the run.
        batch_size: of the run, in one process.
        size_multiple: what the networks need the images' sides to be multiples of; images that are neither resized
            nor cropped are cut down to one.
        smallest_px: the shortest side that the networks can take; figures need 16 px.

    Raises:
        InputError: a side is missing or empty, or holds images that cannot be used together or by the networks.
    """
    side_px, smallest_px = data.side_px, max(smallest_px, size_multiple, SMALLEST_IMAGE_PX)
    if side_px and (side_px % size_multiple or side_px < smallest_px):
        raise InputError(
            f"Images need sides that are multiples of {size_multiple} px and at least {smallest_px} px, and these will "
            f"be {side_px} px: give another --crop-size, or fewer --discriminator-layers."
        )
    if data.streets:
        return _street_task(seed)
    return _folder_task(data, seed=seed, batch_size=batch_size, size_multiple=size_multiple, smallest_px=smallest_px)


def _street_task(seed: int) -> UnpairedTask:
    size, count = STREET_SIZE_PX, TRAINING_STREETS
    day = StreetPhotos(photo="day", count=count, size=size)
    night = StreetPhotos(photo="night", count=count, size=size, first_seed=count)
    same = StreetPairs(count=HELD_OUT_STREETS, size=size, first_seed=2 * count, source="day", target="night")
    held_out = HeldOutPairs(pairs=same)
    image = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    return UnpairedTask(
        training=Unpaired(a=day, b=night, seed=seed),
        held_out=held_out,
        a=image,
        b=image,
        name="streets by day and by night",
        about=f"A is streets by day, B other streets by night ({count} each to learn from). {HELD_OUT_STREETS} more "
        "are held out; their truth is the same street at the other time of day.",
        fingerprint=f"{day.pairs.fingerprint} {night.pairs.fingerprint}",
        figures=night_figures,
        baselines=_baselines(training={"a": day, "b": night}, held_out=held_out, figures=night_figures),
        baseline_images=_baseline_images(training={"a": day, "b": night}, held_out=held_out),
    )


def night_figures(output: Tensor, truth: Tensor) -> dict[str, float]:
    """`paired_metrics`, and whether the lights are on where they should be."""
    return paired_metrics(output, truth) | lit_figures(output, truth)


def _folder_task(
    data: UnpairedData, *, seed: int, batch_size: int, size_multiple: int, smallest_px: int
) -> UnpairedTask:
    files_a, files_b, test_a, test_b = _find(data)
    info_a = probe_images(files_a, side="A", data_range=data.a_range)
    info_b = probe_images(files_b, side="B", data_range=data.b_range)
    test_info_a = probe_images(test_a, side="A", like=info_a.side)
    test_info_b = probe_images(test_b, side="B", like=info_b.side)
    _check_sizes(data, files_a, info_a, side="A", batch_size=batch_size, smallest_px=smallest_px)
    _check_sizes(data, files_b, info_b, side="B", batch_size=batch_size, smallest_px=smallest_px)
    _check_sizes(data, test_a, test_info_a, side="A", batch_size=1, smallest_px=smallest_px)
    _check_sizes(data, test_b, test_info_b, side="B", batch_size=1, smallest_px=smallest_px)
    transform = ImageTransform(
        load_size=data.load_size, crop_size=data.crop_size, flip=data.flip, size_multiple=size_multiple
    )
    training_a = ImageFolder(files=files_a, transform=transform, side=info_a.side)
    training_b = ImageFolder(files=files_b, transform=transform, side=info_b.side)

    held_out: HeldOutPairs | Unpaired
    if data.test_pairs:
        pairs = [Pair(input=a, target=b) for a, b in zip(test_a, test_b, strict=True)]
        probe_pairs(
            pairs,
            input_channels=info_a.side.channels,
            target_channels=info_b.side.channels,
            input_range=info_a.side.data_range,
            target_range=info_b.side.data_range,
        )
        cut = _to_one_size(transform, test_info_a)
        held_out = HeldOutPairs(pairs=PairedImages(pairs=pairs, transform=cut, input=info_a.side, target=info_b.side))
    else:
        held_out = Unpaired(
            a=ImageFolder(files=test_a, transform=_to_one_size(transform, test_info_a), side=info_a.side),
            b=ImageFolder(files=test_b, transform=_to_one_size(transform, test_info_b), side=info_b.side),
            seed=seed,
        )

    return UnpairedTask(
        training=Unpaired(a=training_a, b=training_b, seed=seed),
        held_out=held_out,
        a=ImageSide(**asdict(info_a.side)),
        b=ImageSide(**asdict(info_b.side)),
        name=data.data.resolve().name if data.data else f"{files_a[0].parent.name} and {files_b[0].parent.name}",
        about="\n".join(
            [
                *(_described("A", files_a, info_a), _described("B", files_b, info_b)),
                _described_held_out(data, [("A", files_a, test_a), ("B", files_b, test_b)]),
                *(_warnings("A", files_a, test_a) + _warnings("B", files_b, test_b)),
            ]
        ),
        fingerprint=fingerprint_sides(files_a, files_b),
        figures=paired_metrics,
        baselines=_baselines(training={"a": training_a, "b": training_b}, held_out=held_out, figures=paired_metrics),
        baseline_images=_baseline_images(training={"a": training_a, "b": training_b}, held_out=held_out),
    )


def _baselines(
    *,
    training: Mapping[str, StreetPhotos | ImageFolder],
    held_out: HeldOutPairs | Unpaired,
    figures: Figures,
) -> dict[str, dict[str, float]]:
    """What can be had without training: A → B by its names, B → A with "_b_to_a" to them."""
    rows: dict[str, dict[str, float]] = {}

    def items() -> Iterator[dict[str, Tensor]]:
        return (held_out[index] for index in range(len(held_out)))

    for source, target, ending in DIRECTIONS:
        found = unpaired_baselines(
            training_b=_looked_at(training[target]),
            held_out_a=((item[source], item.get(f"truth_{target}")) for item in items()),
            held_out_b=(item[target] for item in items()),
            figures=paired_metrics if ending else figures,
        )
        for name, values in found.items():
            rows.setdefault(name, {}).update({metric + ending: value for metric, value in values.items()})
    return rows


def _looked_at(images: StreetPhotos | ImageFolder) -> Iterator[Tensor]:
    return (images[index] for index in range(0, len(images), -(-len(images) // BASELINE_IMAGES)))


def _baseline_images(
    *, training: Mapping[str, StreetPhotos | ImageFolder], held_out: HeldOutPairs | Unpaired
) -> BaselineImages:
    """What `_baselines` measures, image by image."""

    @cache
    def learnt(target: str) -> tuple[ColourTransfer, Tensor | None]:
        transfer, mean = ColourTransfer(), MeanImage()
        for image in _looked_at(training[target]):
            transfer.add(image)
            mean.add(image)
        return transfer, mean.image

    def nothing(image: Tensor, target: str) -> Tensor | None:
        return image if len(image) == learnt(target)[0].channels else None

    def transferred(image: Tensor, target: str) -> Tensor | None:
        transfer = learnt(target)[0]
        return transfer(image) if len(image) == transfer.channels else None

    def mean(image: Tensor, target: str) -> Tensor | None:
        of_target = learnt(target)[1]
        return of_target if of_target is not None and of_target.shape[1:] == image.shape[1:] else None

    def batches(translate: Callable[[Tensor, str], Tensor | None]) -> Iterator[dict[str, Comparison]]:
        for index in range(len(held_out)):
            item, batch = held_out[index], {}
            for source, target, ending in DIRECTIONS:
                output, truth = translate(item[source], target), item.get(f"truth_{target}")
                if output is not None:
                    batch[COMPARED + ending] = Comparison(
                        generated=output[None], real=item[target][None], truth=None if truth is None else truth[None]
                    )
            if batch:
                yield batch

    named = {"do nothing": nothing, "colour transfer": transferred, "mean image": mean}
    return {name: partial(batches, translate) for name, translate in named.items()}


def _find(data: UnpairedData) -> tuple[list[Path], list[Path], list[Path], list[Path]]:
    """Files to learn from and held-out files, of A and of B each; without held-out folders every tenth is held out.

    With `test_pairs` the held-out files of A and of B are pairs.
    """
    if data.data is None:
        assert data.a_dir is not None and data.b_dir is not None
        a, b = side_images(data.a_dir, side="A"), side_images(data.b_dir, side="B")
    else:
        a, b = find_sides(data.data, phase="train")
        for phase in ("test", "val"):
            if has_phase(data.data, phase):
                test_a, test_b = find_sides(data.data, phase=phase)
                return a, b, *(_pairs_of(test_a, test_b) if data.test_pairs else (test_a, test_b))
    if data.test_pairs:
        test_a, test_b = (files[::10] for files in _pairs_of(a, b))
    else:
        test_a, test_b = (files if len(files) < FEWEST_TO_HOLD_OUT else files[::10] for files in (a, b))
    return _others(a, test_a), _others(b, test_b), test_a, test_b


def _pairs_of(a: list[Path], b: list[Path]) -> tuple[list[Path], list[Path]]:
    pairs = match_sides(a, b)
    return [pair.input for pair in pairs], [pair.target for pair in pairs]


def _others(files: list[Path], held_out: list[Path]) -> list[Path]:
    """Those that are not held out; all, if none were left."""
    return sorted(set(files) - set(held_out)) or files


def _check_sizes(
    data: UnpairedData, files: list[Path], info: ImagesInfo, *, side: Side, batch_size: int, smallest_px: int
) -> None:
    """See that the images of a side can be cut as the settings say, and batched."""
    if data.load_size is not None:
        return
    needed_px = data.crop_size or smallest_px
    if min(info.smallest_px) < needed_px:
        headers = {file: read_header(file) for file in files}
        file, header = min(headers.items(), key=lambda item: min(item[1].height, item[1].width))
        raise InputError(
            f"{file} is {header.width} x {header.height} px, and images of side {side} need at least {needed_px} px: "
            "give --load-size, or a --crop-size that fits into all of them"
        )
    if data.crop_size is None and batch_size > 1 and info.smallest_px != info.largest_px:
        raise InputError(
            f"The sides of {side}'s images go from {min(info.smallest_px)} to {max(info.largest_px)} px. Batches need "
            "one size: give --crop-size or --load-size, or --batch-size 1."
        )


def _to_one_size(transform: ImageTransform, info: ImagesInfo) -> ImageTransform:
    """For held-out images, which share batches and pictures: those that keep their sizes are cut where these differ."""
    if transform.load_size or transform.crop_size or info.smallest_px == info.largest_px:
        return transform
    side_px = min(info.smallest_px)
    return replace(transform, crop_size=side_px - side_px % transform.size_multiple)


def _described(side: Side, files: list[Path], info: ImagesInfo) -> str:
    channels = "1 channel" if info.side.channels == 1 else f"{info.side.channels} channels"
    low, high = info.side.data_range
    count = f"{len(files)} {'image' if len(files) == 1 else 'images'} to learn from"
    depth = f"{channels} of {info.side.dtype}, black at {low:g} and white at {high:g}"
    return f"{side} is {files[0].parent} ({count}, {depth})."


def _described_held_out(data: UnpairedData, sides: list[tuple[Side, list[Path], list[Path]]]) -> str:
    if data.test_pairs:
        return f"Held out are {len(sides[0][2])} of A and those of B with the same names, which are their truth."
    spared = [f"{len(test)} of {side}" for side, files, test in sides if test != files]
    return f"Held out are {' and '.join(spared)}." if spared else "Nothing is held out."


def _warnings(side: Side, files: list[Path], held_out: list[Path]) -> list[str]:
    warnings = []
    if len(files) == 1:
        warnings.append(f"Warning: {side} has a single image to learn from, and what is learnt will fit little else.")
    if files == held_out:
        warnings.append(f"{side} is too small to hold any out: figures are over the images that it learns from.")
    return warnings
