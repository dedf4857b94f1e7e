"""What recipes that draw from noise share: images, what steadies the game, the run, and how samples are judged."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.data import DataLoader, Dataset, Subset

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.data.adaptive import AdaptiveAugment
from i2i.data.augment import DiffAugment
from i2i.data.classes import ClassFiles, ClassImages, check_same_classes, find_classes, probe_classes
from i2i.data.crops import Crops, Reals
from i2i.data.folders import ImagesInfo, Range, has_phase
from i2i.data.shapes import CLASSES as SHAPES
from i2i.data.shapes import Shapes
from i2i.data.streets import StreetPhotos
from i2i.data.transforms import ImageTransform
from i2i.discriminators import DCGANDiscriminator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator
from i2i.layers.minibatch import Minibatch, MinibatchLayer
from i2i.layers.norm import Norm
from i2i.layers.resample import Upsampling
from i2i.losses.adversarial import Objective, make_objective
from i2i.losses.penalties import Penalties
from i2i.methods.adaptive import AdaptiveAugmentation
from i2i.methods.base import Method
from i2i.methods.gan import GAN
from i2i.methods.shared import describe_sides, describe_variety, penalty_remarks, relative_variety, side_distance
from i2i.methods.stabilisers import HistoricalAveraging, InstanceNoise, Replay, WeightClipping
from i2i.methods.unrolled import Unrolled
from i2i.metrics.classifier import Classifier, agreement_by_class, cached_classifier, class_agreement, class_confusion
from i2i.metrics.wasserstein import SMALLEST_IMAGE_PX
from i2i.training.config import TrainingSettings
from i2i.training.loop import Examine, train
from i2i.training.report import PICTURES, RunFacts, figures_of, print_figures, write_grid

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TRAINING_STREETS = 2000
TRAINING_SHAPES = 20_000
HELD_OUT = 200
# A smaller set cannot spare any: samples are then compared with what they were learnt from.
FEWEST_TO_HOLD_OUT = 10
# With fewer images and nothing against it, discriminators learn them by heart.
FEW_IMAGES = 2000
BATCH_SIZE = 50
# How many samples a classifier looks at, shared evenly by all classes.
SAMPLES_CLASSIFIED = 1000
# How many samples are shown beside the training images nearest to them, among how many, and compared at which size.
SAMPLES_SHOWN = 24
IMAGES_SEARCHED = 5000
COMPARED_PX = 32

Items = Dataset[dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class DrawingData:
    """Which images are learnt from, and how they are cut.

    Attributes:
        data: folder of images, or of one folder of images for each class; or with train/ and test/ (or val/), each of
            them such a folder. None: `built_in` ones.
        built_in: squares out of the built-in streets, or shapes with a class each.
        labels: tell the networks the classes, where there are any.
        size_px: side of the squares that are drawn, a power of two.
        crops: cut such squares out of your images at random places; else each image is resized to one.
        flip: mirror half of your images.
        data_range: values of your images that mean black and white; None: those of the files' depth.
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


@dataclass(frozen=True, kw_only=True)
class DrawingTask:
    """The data of a run, and what is known about it.

    Attributes:
        training, held_out: items {"real": (C, size, size) in [-1, 1], "label": class id}; no "label" without classes.
        output: what is drawn.
        size_px: side of what is drawn.
        classes: their names; empty without classes.
        name: of the data, in a word or two.
        about: where the data lie and how many there are; a line each.
        fingerprint: identifies the training data.
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


@dataclass(frozen=True, kw_only=True)
class Stabilisers:
    """What the two networks play for, and what keeps their game steady.

    Settings of the loop do so too (--critic-steps, two learning rates, --ema-decay), and those of the networks.

    Attributes:
        objective: adversarial loss.
        real_label: what the discriminator is taught about real images; 0.9 is one-sided label smoothing.
        penalties: on the discriminator's gradient; it must then have no batch norm.
        feature_matching_weight: of the distance between the discriminator's mean features of samples and of real
            images; 0: none.
        mismatched_share: with classes, this share of what the discriminator is to refuse are real images under the name
            of another class, so that classes are told apart sooner; at the cost of variety if it is large. 0: none.
        augment: change all that the discriminator sees at random: always ("diff", DiffAugment), or as often as it
            overfits ("adaptive", ADA), for a few thousand images or fewer.
        ada_target: how sure of real images the discriminator may become, with "adaptive".
        ada_ramp_images: in how many images "adaptive" may go from never to always.
        instance_noise: deviation of noise on all that the discriminator sees, at first; 0: none.
        instance_noise_steps: over which that noise falls to 0.
        replay: how many samples of earlier steps are kept to be shown to the discriminator again; 0: none.
        weight_clipping: the discriminator's weights are held within this of 0, as the first WGAN's, 0.01; None: free.
        history_weight: of the distance of both networks' weights from their mean over the past; 0: none.
        unrolled_steps: how many steps of the discriminator the generator looks ahead; 0: none.
        unrolled_learning_rate: of those steps, which are plain gradient descent.
    """

    objective: Objective = "non_saturating"
    real_label: float = 1.0
    penalties: Penalties = field(default_factory=Penalties)
    feature_matching_weight: float = 0.0
    mismatched_share: float = 0.0
    augment: Literal["off", "diff", "adaptive"] = "off"
    ada_target: float = 0.6
    ada_ramp_images: int = 500_000
    instance_noise: float = 0.0
    instance_noise_steps: int = 10_000
    replay: int = 0
    weight_clipping: float | None = None
    history_weight: float = 0.0
    unrolled_steps: int = 0
    unrolled_learning_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("feature_matching_weight", "instance_noise", "history_weight", "replay", "unrolled_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be at least 0, and is {getattr(self, name)}.")
        if not 0 <= self.mismatched_share < 1:
            raise InputError(f"--mismatched-share must be at least 0 and below 1, and is {self.mismatched_share}.")
        for name in ("ada_ramp_images", "instance_noise_steps", "weight_clipping", "unrolled_learning_rate"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be above 0, and is {value}.")
        if self.augment == "adaptive" and self.objective == "wgan":
            raise InputError("--augment adaptive goes by how sure the discriminator is, and a critic's scores do not "
                             "say: take --augment diff, or another --objective.")  # fmt: skip
        make_objective(self.objective, real_label=self.real_label)  # says now what is wrong with it

    def check(self, discriminator: nn.Module, training: TrainingSettings) -> None:
        """See that the discriminator can be trained so.

        Raises:
            InputError: a norm that a penalty cannot go through, or minibatch statistics of single images.
        """
        modules = list(discriminator.modules())
        if self.penalties.any and any(isinstance(module, _BatchNorm) for module in modules):
            raise InputError(
                "Gradient penalties are of single images, and batch norm lets those of a batch influence one another: "
                "give --discriminator-norm none (or instance), or no penalty."
            )
        if self.penalties.any and self.unrolled_steps and any(isinstance(module, _NormBase) for module in modules):
            raise InputError(
                "Unrolled steps need the gradient of a penalty's gradient, which PyTorch's norms do not have: give "
                "--discriminator-norm none, or no penalty, or no --unrolled-steps."
            )
        if training.batch_size < 2 and any(isinstance(module, MinibatchLayer) for module in modules):
            raise InputError(
                "Minibatch statistics compare the images of a batch, and --batch-size is 1: give a larger one, or "
                "--minibatch none."
            )

    def steadied(self, generator: nn.Module, discriminator: nn.Module) -> tuple[GAN, Method]:
        """The game of the two networks, by itself and with all that stands around it."""
        augment: nn.Module | None = None
        match self.augment:
            case "diff":
                augment = DiffAugment()
            case "adaptive":
                augment = AdaptiveAugment()
        gan = GAN(
            generator=generator,
            discriminator=discriminator,
            objective=make_objective(self.objective, real_label=self.real_label),
            penalties=self.penalties,
            augment=augment,
            feature_matching_weight=self.feature_matching_weight,
            mismatched_share=self.mismatched_share,
        )
        method: Method = gan
        if self.weight_clipping is not None:
            method = WeightClipping(method, limit=self.weight_clipping)
        if self.history_weight:
            method = HistoricalAveraging(method, weight=self.history_weight)
        if self.instance_noise:
            method = InstanceNoise(method, deviation=self.instance_noise, steps=self.instance_noise_steps)
        if self.replay:
            method = Replay(method, capacity=self.replay)
        if self.augment == "adaptive":
            assert augment is not None
            method = AdaptiveAugmentation(
                method, augment=augment, target=self.ada_target, ramp_images=self.ada_ramp_images
            )
        if self.unrolled_steps:
            method = Unrolled(method, steps=self.unrolled_steps, learning_rate=self.unrolled_learning_rate)
        return gan, method


@dataclass(frozen=True, kw_only=True)
class DCGANNetworks:
    """A DCGAN generator and its mirror image, the discriminator.

    Attributes:
        latent_channels: length of the noise vector.
        width: channels of the generator's last hidden map; twice as many at half the size, and so on down to 4 x 4.
        discriminator_width: channels after the discriminator's first layer, likewise.
        upsampling: of the generator; "resize" avoids checkerboard patterns.
        discriminator_norm: normalisation in the discriminator; penalties do not go with "batch".
        spectral: spectral norm in the discriminator.
        minibatch: what the discriminator is told about a batch as a whole, against samples that are all alike.
    """

    latent_channels: int = 100
    width: int = 64
    discriminator_width: int = 64
    upsampling: Upsampling = "transposed"
    discriminator_norm: Norm = "batch"
    spectral: bool = False
    minibatch: Minibatch = "none"

    def __post_init__(self) -> None:
        check_widths(self, "latent_channels", "width", "discriminator_width")

    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for a task."""
        shared = {"size": task.size_px, "classes": len(task.classes)}
        generator = DCGANGenerator(
            latent_channels=self.latent_channels,
            out_channels=task.output.channels,
            width=self.width,
            upsampling=self.upsampling,
            **shared,
        )
        discriminator = DCGANDiscriminator(
            in_channels=task.output.channels,
            width=self.discriminator_width,
            norm=self.discriminator_norm,
            spectral=self.spectral,
            minibatch=self.minibatch,
            **shared,
        )
        return generator, discriminator


def check_widths(settings: "DataclassInstance", *names: str) -> None:
    """Raise InputError where a setting of a network is below 1."""
    for name in names:
        if getattr(settings, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(settings, name)}.")


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
    found, held_out = _find(data.data)
    info = probe_classes(found, data_range=data.data_range)
    for some in (info, probe_classes(held_out, like=info.side)):
        _check_sizes(data, some)

    def items(files: ClassFiles) -> Items:
        resized = ImageTransform(load_size=None if data.crops else data.size_px, flip=data.flip)
        images = ClassImages(found=files, transform=resized, side=info.side)
        return Crops(images, size=data.size_px) if data.crops else images

    training = ClassImages(found=found, transform=ImageTransform(), side=info.side)
    count = f"{len(found.files)} {'image' if len(found.files) == 1 else 'images'} to learn from"
    of_classes = f" of {len(found.names)} classes" if found.names else ""
    about = [f"{data.data} holds {count}{of_classes}, drawn at {data.size_px} px."]
    if found.files == held_out.files:
        about.append("They are too few to hold any out: figures are over the images that are learnt from.")
    else:
        about.append(f"Held out are {len(held_out.files)}.")
    return DrawingTask(
        training=items(found),
        held_out=items(held_out),
        output=ImageSide(**asdict(info.side)),
        size_px=data.size_px,
        classes=found.names,
        name=data.data.resolve().name,
        about=" ".join(about),
        fingerprint=f"{training.fingerprint} {data.size_px} {data.crops}",
    )


def _find(data: Path) -> tuple[ClassFiles, ClassFiles]:
    """Files to learn from and held-out files; where no folder is for the latter, every tenth."""
    found = find_classes(data, phase="train")
    for phase in ("test", "val"):
        if has_phase(data, phase):
            held_out = find_classes(data, phase=phase)
            check_same_classes(found, held_out)
            return found, held_out
    if len(found.files) < FEWEST_TO_HOLD_OUT:
        return found, found
    places = range(len(found.files))
    return _some(found, [place for place in places if place % 10]), _some(found, places[::10])


def _some(found: ClassFiles, places: Sequence[int]) -> ClassFiles:
    labels = tuple(found.labels[place] for place in places) if found.labels else ()
    return replace(found, files=tuple(found.files[place] for place in places), labels=labels)


def _check_sizes(data: DrawingData, info: ImagesInfo) -> None:
    if data.crops and min(info.smallest_px) < data.size_px:
        raise InputError(
            f"The smallest side of an image is {min(info.smallest_px)} px, and squares of {data.size_px} px are to be "
            "cut out: give a smaller --size-px, or --no-crops, which resizes images."
        )


def train_drawing(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    task: DrawingTask,
    stabilisers: Stabilisers,
    recorded: dict[str, Any],
    compare: Sequence[Path],
    title: str,
    training: TrainingSettings,
    out: Path,
) -> None:
    """Train a generator to draw images like those of a task, and print how well it does.

    Leaves a picture of samples beside the training images nearest to them.

    Args:
        generator, discriminator: as `i2i.methods.gan.GAN` takes them, with the task's number of classes.
        recorded: all that was chosen, which a resumed run must have in common with this one.
        compare: folders of other runs on the same data.
        title: for the report.

    Raises:
        InputError: the discriminator cannot be trained so, or a run cannot be compared with.
    """
    stabilisers.check(discriminator, training)
    about = "\n".join([task.about, *remarks(task, stabilisers, discriminator, training)])
    is_main, baselines = PartialState().is_main_process, {}
    gan, method = stabilisers.steadied(generator, discriminator)
    examine: Examine | None = None
    if is_main:
        print(about)
        examiner = Examiner(task, out=out)
        baselines = examiner.baselines() | figures_of(compare, fingerprint=task.fingerprint)
        examine = examiner.of(gan)
    result = train(
        method=method,
        training_data=task.training,
        validation_data=task.held_out,
        specs={"generator": GeneratorSpec(input=None, output=task.output, classes=task.classes or None)},
        settings=training,
        out=out,
        facts=RunFacts(title=title, about=about, settings=recorded, fingerprint=task.fingerprint, baselines=baselines),
        examine=examine,
    )
    if is_main:
        print_figures(result.metrics, baselines)
        print(f"Look at {out / 'samples.png'} and {out / 'report.html'}")


def remarks(
    task: DrawingTask, stabilisers: Stabilisers, discriminator: nn.Module, training: TrainingSettings
) -> list[str]:
    """What whoever starts a run should know, a sentence each."""
    said = penalty_remarks(stabilisers.penalties, discriminator=discriminator, precision=training.precision)
    if len(task.training) < FEW_IMAGES and stabilisers.augment == "off":  # type: ignore[arg-type]
        said.append("These are few images, which a discriminator soon knows by heart: --augment adaptive helps.")
    if stabilisers.objective == "wgan" and not stabilisers.penalties.any and stabilisers.weight_clipping is None:
        said.append(
            "Warning: nothing holds the critic's slope, so its scores will run away. Give --gradient-penalty 10, or "
            "--weight-clipping 0.01."
        )
    return said


class Examiner:
    """Takes the figures that the training loop's validation does not: of baselines, and of a generator at the end."""

    def __init__(self, task: DrawingTask, *, out: Path) -> None:
        """Train the classifier that tells classes apart, or find it in the cache; without classes there is none."""
        self.task = task
        self.out = out
        self.device = PartialState().device
        self.classifier: Classifier | None = None
        if task.classes:
            print("A classifier learns the classes from real images, to judge samples by.")
            self.classifier = cached_classifier(
                task.training, fingerprint=task.fingerprint, classes=len(task.classes), device=self.device
            )

    def baselines(self) -> dict[str, dict[str, float]]:
        """Figures of real images, which samples can hardly beat, and of their mean, which takes no training.

        Real images are other ones than those held out, as many where there are: two real sets are not at distance 0.
        """
        held_out = _images(self.task.held_out)
        others = _images(_some_of(self.task.training, len(held_out)))
        rows = {"real images": set_figures(others, held_out[: len(others)])}
        rows["mean image"] = set_figures(others.mean(dim=0, keepdim=True).expand_as(held_out), held_out)
        if self.classifier is not None:
            labels = torch.tensor([int(item["label"]) for item in _items(self.task.held_out)])
            rows["real images"]["class_agreement"] = class_agreement(self._confusion(held_out, labels))
        return rows

    def of(self, gan: GAN) -> Examine:
        """For `i2i.training.loop.train`: figures of a generator, and a picture of its samples in `out`."""

        def examine(say: Callable[[str], None]) -> dict[str, float]:
            self._show_nearest(gan)
            if self.classifier is None:
                return {}
            classes = len(self.task.classes)
            labels = torch.arange(classes).repeat(max(1, SAMPLES_CLASSIFIED // classes))
            confusion = self._confusion(self._samples(gan, labels), labels)
            by_class = agreement_by_class(confusion)
            worst = int(by_class.argmin())
            say(f"The class seen least often where it was asked for is {self.task.classes[worst]} "
                f"({by_class[worst]:.0%}).")  # fmt: skip
            return {"class_agreement": class_agreement(confusion)}

        return examine

    def _samples(self, gan: GAN, labels: Tensor) -> Tensor:
        """One sample for each label (N,), where there are classes, on the CPU."""
        samples = []
        for some in labels.to(self.device).split(BATCH_SIZE):
            latents = torch.randn(len(some), gan.latent_channels, device=self.device)
            samples.append(gan.sample(latents, some).float().clamp(-1, 1).cpu())
        return torch.cat(samples)

    def _confusion(self, images: Tensor, labels: Tensor) -> Tensor:
        assert self.classifier is not None
        return class_confusion(self.classifier, images.to(self.device), labels)

    def _show_nearest(self, gan: GAN) -> None:
        """Samples beside the training images nearest to them: copies would show that they were learnt by heart."""
        searched = _some_of(self.task.training, IMAGES_SEARCHED)
        labels = torch.arange(SAMPLES_SHOWN) % max(1, len(self.task.classes))
        samples = self._samples(gan, labels)
        known = torch.cat([_small(batch["real"]) for batch in DataLoader(searched, batch_size=BATCH_SIZE)])
        nearest = torch.cdist(_small(samples), known).argmin(dim=1)
        images = torch.stack([searched[int(place)]["real"] for place in nearest])
        (self.out / PICTURES).mkdir(exist_ok=True)
        write_grid(self.out / PICTURES / "nearest.png", {"sample": samples, "nearest training image": images})


def set_figures(images: Tensor, real: Tensor) -> dict[str, float]:
    """What `GAN.validate` measures, of any images (N, C, H, W) beside as many real ones."""
    parts = [
        describe_sides("sample", fake=some, real=held_out) | describe_variety(fake=some, real=held_out)
        for some, held_out in zip(images.split(BATCH_SIZE), real.split(BATCH_SIZE), strict=True)
    ]
    descriptors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {"swd": side_distance("sample", descriptors), "variety": relative_variety(descriptors)}


def _small(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, features): details do not count in how near two images are."""
    side = min(COMPARED_PX, images.shape[-1])
    return F.adaptive_avg_pool2d(images, side).flatten(1)


def _length(data: Items) -> int:
    return len(data)  # type: ignore[arg-type]


def _items(data: Items) -> list[dict[str, Tensor]]:
    return [data[index] for index in range(_length(data))]


def _images(data: Items) -> Tensor:
    return torch.stack([item["real"] for item in _items(data)])


def _some_of(data: Items, count: int) -> Items:
    """At most so many items, drawn once and for all: evenly spread ones might all be of one class."""
    order = torch.randperm(_length(data), generator=torch.Generator().manual_seed(0))
    return Subset(data, order[:count].tolist())
