"""What unpaired translation is trained on: a person's own images, or built-in streets by day and by night."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from i2i.checkpoints import ImageSide
from i2i.data.folders import (
    ImageFolder,
    ImagesInfo,
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
from i2i.data.streets import StreetPairs, StreetPhotos
from i2i.data.transforms import ImageTransform
from i2i.data.unpaired import HeldOutPairs, Unpaired
from i2i.errors import InputError
from i2i.metrics import lit_figures, paired_metrics, unpaired_baselines

TRAINING_STREETS = 1000
HELD_OUT_STREETS = 200
STREET_SIZE_PX = 64
# A smaller side cannot spare any: what it was trained on is then shown again.
FEWEST_TO_HOLD_OUT = 10
# Images of B that the baselines look at.
BASELINE_IMAGES = 1000

Figures = Callable[[Tensor, Tensor], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class UnpairedData:
    """Which images of A and of B, and how they are cut.

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

    @property
    def streets(self) -> bool:
        return self.data is None and self.a_dir is None


@dataclass(frozen=True, kw_only=True)
class UnpairedTask:
    """The data of a run, and what is known about it.

    Attributes:
        training, held_out: items for the method.
        a, b: the two sides.
        name: of the data, in a word or two.
        about: what A and B are, and how many images there are.
        fingerprint: identifies the training data.
        figures: what to say about a translation of A whose truth is known.
        baselines: figures of A → B without training, by name.
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


def unpaired_task(data: UnpairedData, *, seed: int, size_multiple: int) -> UnpairedTask:
    """Find and check the images.

    Args:
        data: which.
        seed: of the run.
        size_multiple: what the sides of images that are neither resized nor cropped are cut down to.

    Raises:
        InputError: a side is missing or empty, or holds images that cannot be used together.
    """
    return _street_task(seed) if data.streets else _folder_task(data, seed=seed, size_multiple=size_multiple)


def _street_task(seed: int) -> UnpairedTask:
    size, count = STREET_SIZE_PX, TRAINING_STREETS
    day = StreetPhotos(photo="day", count=count, size=size)
    night = StreetPhotos(photo="night", count=count, size=size, first_seed=count)
    same = StreetPairs(count=HELD_OUT_STREETS, size=size, first_seed=2 * count, source="day", target="night")
    image = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    return UnpairedTask(
        training=Unpaired(a=day, b=night, seed=seed),
        held_out=HeldOutPairs(pairs=same),
        a=image,
        b=image,
        name="streets by day and by night",
        about=f"A is streets by day, B other streets by night ({count} each to learn from). {HELD_OUT_STREETS} more "
        "are held out; their truth is the same street at the other time of day.",
        fingerprint=f"{day.pairs.fingerprint} {night.pairs.fingerprint}",
        figures=night_figures,
        baselines=unpaired_baselines(
            training_b=(night[index] for index in range(count)),
            held_out_a=((pair["input"], pair["target"]) for pair in (same[index] for index in range(len(same)))),
            held_out_b=(same[index]["target"] for index in range(len(same))),
            figures=night_figures,
        ),
    )


def night_figures(output: Tensor, truth: Tensor) -> dict[str, float]:
    """`paired_metrics`, and whether the lights are on where they should be."""
    return paired_metrics(output, truth) | lit_figures(output, truth)


def _folder_task(data: UnpairedData, *, seed: int, size_multiple: int) -> UnpairedTask:
    files_a, files_b, test_a, test_b = _find(data)
    info_a = probe_images(files_a, side="A", data_range=data.a_range)
    info_b = probe_images(files_b, side="B", data_range=data.b_range)
    transform = ImageTransform(
        load_size=data.load_size, crop_size=data.crop_size, flip=data.flip, size_multiple=size_multiple
    )

    def side(files: list[Path], info: ImagesInfo) -> ImageFolder:
        return ImageFolder(files=files, transform=transform, side=info.side)

    held_out: HeldOutPairs | Unpaired
    if data.test_pairs:
        pairs = match_sides(test_a, test_b)
        probe_pairs(
            pairs,
            input_channels=info_a.side.channels,
            target_channels=info_b.side.channels,
            input_range=info_a.side.data_range,
            target_range=info_b.side.data_range,
        )
        same = PairedImages(pairs=pairs, transform=transform, input=info_a.side, target=info_b.side)
        held_out = HeldOutPairs(pairs=same)
    else:
        probe_images(test_a, side="A", like=info_a.side)
        probe_images(test_b, side="B", like=info_b.side)
        held_out = Unpaired(a=side(test_a, info_a), b=side(test_b, info_b), seed=seed)

    training_b = side(files_b[:: -(-len(files_b) // BASELINE_IMAGES)], info_b)

    def held_out_items() -> Iterator[dict[str, Tensor]]:
        return (held_out[index] for index in range(len(held_out)))

    return UnpairedTask(
        training=Unpaired(a=side(files_a, info_a), b=side(files_b, info_b), seed=seed),
        held_out=held_out,
        a=ImageSide(**asdict(info_a.side)),
        b=ImageSide(**asdict(info_b.side)),
        name=data.data.name if data.data else f"{files_a[0].parent.name} and {files_b[0].parent.name}",
        about=f"{_described('A', files_a, info_a)} {_described('B', files_b, info_b)}",
        fingerprint=fingerprint_sides(files_a, files_b),
        figures=paired_metrics,
        baselines=unpaired_baselines(
            training_b=(training_b[index] for index in range(len(training_b))),
            held_out_a=((item["a"], item.get("truth_b")) for item in held_out_items()),
            held_out_b=(item["b"] for item in held_out_items()),
        ),
    )


def _find(data: UnpairedData) -> tuple[list[Path], list[Path], list[Path], list[Path]]:
    """Files to learn from and held-out files, of A and of B each; without held-out folders every tenth is held out."""
    if data.data is None:
        assert data.a_dir is not None and data.b_dir is not None
        a, b = side_images(data.a_dir, side="A"), side_images(data.b_dir, side="B")
    else:
        a, b = find_sides(data.data, phase="train")
        for phase in ("test", "val"):
            if has_phase(data.data, phase):
                return a, b, *find_sides(data.data, phase=phase)
    (a, test_a), (b, test_b) = _hold_out(a), _hold_out(b)
    return a, b, test_a, test_b


def _hold_out(files: list[Path]) -> tuple[list[Path], list[Path]]:
    if len(files) < FEWEST_TO_HOLD_OUT:
        return files, files
    return [file for number, file in enumerate(files) if number % 10], files[::10]


def _described(side: Side, files: list[Path], info: ImagesInfo) -> str:
    channels = "1 channel" if info.side.channels == 1 else f"{info.side.channels} channels"
    low, high = info.side.data_range
    count = f"{info.count} images" if info.count > 1 else "a single image, which teaches little"
    depth = f"{channels} of {info.side.dtype}, black at {low:g} and white at {high:g}"
    return f"{side} is {files[0].parent} ({count}, {depth})."
