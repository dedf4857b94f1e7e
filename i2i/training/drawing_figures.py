"""What recipes that draw from noise measure beside their losses: real images, and a generator at the end."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from i2i.evaluation.pages import write_grid
from i2i.methods.base import COMPARED, Comparison
from i2i.methods.gan import GAN
from i2i.methods.shared import describe_sides, describe_variety, relative_variety, side_distance
from i2i.metrics.classifier import (
    Classifier,
    ClassifierTraining,
    agreement_by_class,
    cached_classifier,
    class_agreement,
    class_confusion,
)
from i2i.metrics.neighbours import nearest_neighbours
from i2i.training.drawing_data import DrawingTask, Items
from i2i.training.loop import Examine
from i2i.training.measures import BaselineImages
from i2i.training.progress import StepsBar
from i2i.training.report import PICTURES

BATCH_SIZE = 50
CLASSIFIER = ClassifierTraining()
# How many samples a classifier looks at, shared evenly by all classes.
SAMPLES_CLASSIFIED = 1000
# How many samples are shown beside the training images nearest to them, among how many, and compared at which size.
SAMPLES_SHOWN = 24
IMAGES_SEARCHED = 5000
COMPARED_PX = 32
# Figures over fewer held-out images than this, and class_agreement by a classifier that recognises a smaller share of
# them, say little.
FEW_HELD_OUT = 50
KNOWN_SHARE = 0.9


class Examiner:
    """Takes the figures that the training loop's validation does not: of baselines, and of a generator at the end."""

    def __init__(self, task: DrawingTask, *, out: Path) -> None:
        """Train the classifier that tells classes apart, or find it in the cache; without classes there is none."""
        self.task = task
        self.out = out
        self.device = PartialState().device
        self.classifier: Classifier | None = None
        # Share of the held-out real images in which it sees their class.
        self.recognised = math.nan
        if task.classes:
            self.classifier = cached_classifier(
                task.training,
                fingerprint=task.fingerprint,
                classes=len(task.classes),
                training=CLASSIFIER,
                device=self.device,
                progress=StepsBar("a classifier learns the classes from real images"),
            )
            held_out = _items(task.held_out)
            labels = torch.tensor([int(item["label"]) for item in held_out])
            confusion = self._confusion(torch.stack([item["real"] for item in held_out]), labels)
            self.recognised = class_agreement(confusion)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Figures of real images, which samples can hardly beat, and of their mean, which takes no training.

        Real images are other ones than those held out, as many where there are: two real sets are not at distance 0.
        """
        rows = {name: set_figures(images, real) for name, (images, real) in self._baseline_images().items()}
        if self.classifier is not None:
            rows["real images"]["class_agreement"] = self.recognised
        return rows

    def baseline_images(self) -> BaselineImages:
        """The images of `baselines`, for `i2i.training.loop.train`."""

        def batches(name: str) -> Iterator[dict[str, Comparison]]:
            sides = (side.split(BATCH_SIZE) for side in self._baseline_images()[name])
            for images, real in zip(*sides, strict=True):
                yield {COMPARED: Comparison(generated=images, real=real)}

        return {name: partial(batches, name) for name in ("real images", "mean image")}

    def _baseline_images(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By name, images (N, C, H, W) and as many held-out ones."""
        held_out = _images(self.task.held_out)
        others = _images(_some_of(self.task.training, len(held_out)))
        mean = others.mean(dim=0, keepdim=True).expand_as(held_out)
        return {"real images": (others, held_out[: len(others)]), "mean image": (mean, held_out)}

    def remarks(self) -> list[str]:
        """What to know before believing figures, a sentence each."""
        lines, count = [], _length(self.task.held_out)
        if count < FEW_HELD_OUT:
            lines.append(f"Held-out figures are over so few images ({count}) that they say little.")
        if self.classifier is not None and self.recognised < KNOWN_SHARE:
            lines.append(
                f"The classifier itself recognises only {self.recognised:.0%} of the held-out real images, so that "
                "class_agreement says little."
            )
        return lines

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
            if self.recognised >= KNOWN_SHARE:
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
        nearest = nearest_neighbours(_small(samples), known).indices[:, 0]
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
