"""A small classifier, trained in half a minute, that judges whether the class asked for was drawn.

It has to name one of its classes for every image, for a shapeless one too: high agreement says that the classes of
drawn images can be told apart as those of real ones are, and not that the images look real.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.errors import InputError
from i2i.metrics.semantic import confusion_matrix
from i2i.metrics.small_networks import cache_path, convolutions, fit, holds_network, kept, load_network, save_network

METADATA_KEY = "i2i.classifier"
LARGEST_PX = 64  # what images are averaged down to: a class shows in small ones, too
HELD_BYTES = 1 << 30  # up to here 8-bit images are remembered while a classifier trains on them
JUDGED_AT_ONCE = 256


class Classifier(nn.Module):
    """Four scales of convolutions, and the mean of the coarsest: which class an image shows.

    Images (N, channels, H, W) in [-1, 1], of 8 px or more a side → logits (N, classes).

    Args:
        classes: how many are told apart.
        channels: of the images.
        width: channels at full size; 2, 4 and 4 times as many at a half, a quarter and an eighth of it.
    """

    def __init__(self, *, classes: int, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.arguments = {"classes": classes, "channels": channels, "width": width}
        self.classes = classes
        self.scales = nn.ModuleList(
            [
                convolutions(channels, width),
                convolutions(width, 2 * width),
                convolutions(2 * width, 4 * width, 4 * width),
                convolutions(4 * width, 4 * width),
            ]
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """What the class is read off: (N, channels, H, W) in [-1, 1] → (N, 4 · width)."""
        height, width = images.shape[-2:]
        maps = images
        if max(height, width) > LARGEST_PX:
            maps = F.interpolate(images, (min(height, LARGEST_PX), min(width, LARGEST_PX)), mode="area")
        for number, scale in enumerate(self.scales):
            maps = scale(F.max_pool2d(maps, 2) if number else maps)
        return maps.mean(dim=(2, 3))


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining:
    """How a classifier is trained: for a fixed number of steps, so that figures of different images compare.

    width: of the `Classifier`.
    steps, batch_size: training lasts steps × batch_size images, drawn without repetition until all were seen.
    learning_rate: the highest; it rises for a tenth of the steps and falls to 0 along a cosine.
    flip: mirror half of the images, where left and right mean nothing.
    seed: decides initial weights, draws and augmentation.
    """

    width: int = 16
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 1e-2
    flip: bool = False
    seed: int = 0


def train_classifier(
    data: Dataset[dict[str, Tensor]],
    *,
    classes: int,
    training: ClassifierTraining | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """Train a classifier by cross-entropy on lightly changed images. Torch's global random state is left as it was.

    Args:
        data: items {"real": (C, H, W) in [-1, 1], "label": integer scalar}, of one size. Each is asked for by its
            index.
        classes: how many there are; labels are 0 … classes − 1.
        training: how; None: as a `ClassifierTraining` says by default.
        device: where.
        progress: called after each step with the steps done and all steps.

    Returns:
        The classifier in evaluation mode, without gradients.

    Raises:
        InputError: no items, items of different sizes, or a label out of range.
    """
    training = training or ClassifierTraining()
    device = torch.device(device)
    if not len(data):  # type: ignore[arg-type]
        raise InputError("a classifier needs at least one image to train on, got an empty data set")
    channels = len(data[0]["real"])
    batches = _batches(data, classes, training)

    def loss(network: Classifier) -> Tensor:
        images, labels = (part.to(device) for part in next(batches))
        changed = _changed(images, flip=training.flip)
        return F.cross_entropy(network(changed.contiguous(memory_format=torch.channels_last)), labels)

    return fit(
        lambda: Classifier(classes=classes, channels=channels, width=training.width),
        loss=loss,
        steps=training.steps,
        learning_rate=training.learning_rate,
        seed=training.seed,
        device=device,
        progress=progress,
    )


def cached_classifier(
    data: Dataset[dict[str, Tensor]],
    *,
    fingerprint: str,
    classes: int,
    training: ClassifierTraining | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """`train_classifier`, or what it gave before for the same data: kept in `i2i.download.cache_folder()`.

    Args:
        fingerprint: identifies what `data` holds. Settings and the code of this file are part of the key as well.
        data, classes, training, device, progress: as for `train_classifier`.
    """
    training = training or ClassifierTraining()
    network = kept(
        lambda: train_classifier(data, classes=classes, training=training, device=device, progress=progress),
        load=load_classifier,
        save=save_classifier,
        path=cache_path("classifiers", fingerprint, classes, asdict(training), code=__file__),
    )
    return network.to(device)


def save_classifier(network: Classifier, path: Path) -> None:
    """Write weights and arguments to a .safetensors file."""
    save_network(network, path, metadata_key=METADATA_KEY)


def holds_classifier(path: Path) -> bool:
    """Whether `save_classifier` wrote the file, as far as its header says."""
    return holds_network(path, metadata_key=METADATA_KEY)


def load_classifier(path: Path) -> Classifier:
    """Read what `save_classifier` wrote, in evaluation mode, without gradients.

    Raises:
        InputError: the file holds no classifier, or is damaged.
    """
    return load_network(path, Classifier, metadata_key=METADATA_KEY)


@torch.no_grad()
def class_confusion(classifier: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """How many images of each class were taken for each class.

    Args:
        classifier: images to logits (N, classes), in evaluation mode.
        images: (N, C, H, W) in [-1, 1], on the classifier's device.
        labels: (N,) integers, the classes that were asked for.

    Returns:
        (classes, classes) int64: a row for each class asked for, a column for each one seen.

    Raises:
        InputError: no images, not a label for each image, or a label out of range.
    """
    if not len(images):
        raise InputError("expected at least one image to classify, got none")
    logits = torch.cat([classifier(some) for some in images.split(JUDGED_AT_ONCE)])
    classes = logits.shape[1]
    if not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(
            f"expected classes from 0 to {classes - 1}, got {labels.min().item()} to {labels.max().item()}"
        )
    return confusion_matrix(logits.argmax(1), labels.to(logits.device), classes)


def class_agreement(confusion: Tensor) -> float:
    """Share of images that show the class asked for, from a `class_confusion`; several add up."""
    return (confusion.diagonal().sum().double() / confusion.sum()).item()


def agreement_by_class(confusion: Tensor) -> Tensor:
    """`class_agreement` of each class by itself: (classes,) float64, NaN for one never asked for."""
    return confusion.diagonal().double() / confusion.sum(1)


def _changed(images: Tensor, *, flip: bool) -> Tensor:
    """Images (N, C, H, W) moved, lit otherwise and made noisy, a little: it is the form that should count.

    By torch's global random numbers, drawn on the CPU so that they are the same on every device.
    """
    count, _, height, width = images.shape
    reach = max(1, min(height, width) // 16)
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    top, left = (int(shift) for shift in torch.randint(2 * reach + 1, (2,)))
    moved = padded[..., top : top + height, left : left + width]
    if flip:
        mirrored = (torch.rand(count, 1, 1, 1) < 0.5).to(images.device)
        moved = torch.where(mirrored, moved.flip(3), moved)
    contrast, brightness = (0.2 * (2 * torch.rand(2, count, 1, 1, 1) - 1)).to(images.device)
    noise = (0.05 * torch.rand(count, 1, 1, 1) * torch.randn(images.shape)).to(images.device)
    return (moved * (1 + contrast) + brightness + noise).clamp(-1, 1)


def _batches(data: Any, classes: int, training: ClassifierTraining) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (N, C, H, W) in [-1, 1] and labels (N,) int64, without end."""
    size = data[0]["real"].shape
    hold = len(data) * size.numel() <= HELD_BYTES
    held: dict[int, tuple[Tensor, int]] = {}

    def read(index: int) -> tuple[Tensor, int]:
        """(C, H, W) uint8 and the class."""
        if index in held:
            return held[index]
        item = data[index]
        image, label = item["real"], int(item["label"])
        if image.shape != size:
            raise InputError(
                f"a classifier trains on images of one size, {tuple(size)} as the first one, got item {index} of "
                f"{tuple(image.shape)}: resize or crop them"
            )
        if not 0 <= label < classes:
            raise InputError(f"expected labels from 0 to {classes - 1}, got {label} for item {index}")
        read = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), label
        if hold:
            held[index] = read
        return read

    generator = torch.Generator().manual_seed(training.seed)
    order: list[int] = []
    while True:
        while len(order) < training.batch_size:
            order += torch.randperm(len(data), generator=generator).tolist()
        indices, order = order[: training.batch_size], order[training.batch_size :]
        images, labels = zip(*map(read, indices), strict=True)
        yield torch.stack(images) / 127.5 - 1, torch.tensor(labels)
