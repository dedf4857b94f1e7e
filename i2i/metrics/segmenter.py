"""A small segmentation network, trained in a minute, that judges images made from label maps.

Where no network pretrained on a data set's classes is at hand, one trained on its real photographs reads the classes
off generated ones. One trained on generated photographs and tested on real ones says what those are good for: unlike
the classes read off them, that falls when they lack variety or detail.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.errors import InputError
from i2i.metrics.small_networks import cache_path, convolutions, fit, holds_network, kept, load_network, save_network

METADATA_KEY = "i2i.segmenter"
BYTES_A_PIXEL = 5  # three of colour and two of class
HELD_BYTES = 1 << 30  # up to here a data set is held in memory while a segmenter trains on it


class Segmenter(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of four scales: photographs to the classes of their pixels.

    Images (N, 3, H, W) in [-1, 1], of any size → logits (N, classes, H, W).

    Args:
        classes: how many are told apart.
        width: channels at full size; 2, 4 and 4 times as many at a half, a quarter and an eighth of it.
    """

    def __init__(self, *, classes: int, width: int = 16) -> None:
        super().__init__()
        self.arguments = {"classes": classes, "width": width}
        self.classes = classes
        widths = [width, 2 * width, 4 * width, 4 * width]
        # One convolution at full size, where each takes longest; two where they see far.
        self.down = nn.ModuleList([convolutions(3, width)])
        self.down.extend(convolutions(finer, here, here) for finer, here in pairwise(widths))
        self.up = nn.ModuleList(convolutions(here + coarser, here) for here, coarser in reversed([*pairwise(widths)]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        *skipped, maps = self._encode(images)
        for stage, skip in zip(self.up, reversed(skipped), strict=True):
            maps = stage(torch.cat([skip, F.interpolate(maps, scale_factor=2.0)], dim=1))
        return self.head(maps)[..., :height, :width]

    def features(self, images: Tensor) -> Tensor:
        """What the coarsest maps hold on average: (N, 3, H, W) in [-1, 1] → (N, 4 · width)."""
        return self._encode(images)[-1].mean(dim=(2, 3))

    def _encode(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        multiple = 2 ** (len(self.down) - 1)
        maps = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        scales: list[Tensor] = []
        for stage in self.down:
            maps = stage(F.max_pool2d(maps, 2) if scales else maps)
            scales.append(maps)
        return scales


@dataclass(frozen=True, kw_only=True)
class SegmenterTraining:
    """How a segmenter is trained: for a fixed number of steps, so that figures of different images compare.

    width: of the `Segmenter`.
    steps, batch_size: training lasts steps × batch_size images, drawn without repetition until all were seen.
    learning_rate: the highest; it rises for a tenth of the steps and falls to 0 along a cosine.
    flip: mirror half of the images, where left and right mean nothing.
    seed: decides initial weights and draws.
    """

    width: int = 16
    steps: int = 1500
    batch_size: int = 4
    learning_rate: float = 1e-2
    flip: bool = False
    seed: int = 0


def train_segmenter(
    data: Dataset[dict[str, Tensor]],
    *,
    classes: int,
    training: SegmenterTraining | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Segmenter:
    """Train a segmenter by cross-entropy, with AdamW. Torch's global random state is left as it was.

    Args:
        data: items {"image": (3, H, W) in [-1, 1], "labels": integers (1 or more, H, W)}, of one size. Channel 0 of
            the labels is the class; pixels of the id `classes` ("don't care") are ignored. A set of up to a gigabyte
            of 8-bit pixels is read once and held in memory.
        classes: how many there are.
        training: how; None: as a `SegmenterTraining` says by default, which suits images of 64 px.
        device: where.
        progress: called after each step with the steps done and all steps.

    Returns:
        The segmenter in evaluation mode, without gradients.

    Raises:
        InputError: no items, or items of different sizes.
    """
    training = training or SegmenterTraining()
    device = torch.device(device)
    batches = _batches(data, training)

    def loss(network: Segmenter) -> Tensor:
        images, labels = (part.to(device) for part in next(batches))
        logits = network(images.contiguous(memory_format=torch.channels_last))
        return F.cross_entropy(logits, labels, ignore_index=classes)

    return fit(
        lambda: Segmenter(classes=classes, width=training.width),
        loss=loss,
        steps=training.steps,
        learning_rate=training.learning_rate,
        seed=training.seed,
        device=device,
        progress=progress,
    )


def cached_segmenter(
    data: Dataset[dict[str, Tensor]],
    *,
    fingerprint: str,
    classes: int,
    training: SegmenterTraining | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Segmenter:
    """`train_segmenter`, or what it gave before for the same data: kept in `i2i.download.cache_folder()`.

    Args:
        fingerprint: identifies what `data` holds. Settings and the code of this file are part of the key as well.
        data, classes, training, device, progress: as for `train_segmenter`.
    """
    training = training or SegmenterTraining()
    network = kept(
        lambda: train_segmenter(data, classes=classes, training=training, device=device, progress=progress),
        load=load_segmenter,
        save=save_segmenter,
        path=cache_path("segmenters", fingerprint, classes, asdict(training), code=__file__),
    )
    return network.to(device)


def save_segmenter(network: Segmenter, path: Path) -> None:
    """Write weights and arguments to a .safetensors file."""
    save_network(network, path, metadata_key=METADATA_KEY)


def holds_segmenter(path: Path) -> bool:
    """Whether `save_segmenter` wrote the file, as far as its header says."""
    return holds_network(path, metadata_key=METADATA_KEY)


def load_segmenter(path: Path) -> Segmenter:
    """Read what `save_segmenter` wrote, in evaluation mode, without gradients.

    Raises:
        InputError: the file holds no segmenter, or is damaged.
    """
    return load_network(path, Segmenter, metadata_key=METADATA_KEY)


def _batches(data: Any, training: SegmenterTraining) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (N, 3, H, W) in [-1, 1] and classes (N, H, W) int64, without end."""
    if not len(data):
        raise InputError("a segmenter needs at least one image to train on, got an empty data set")
    pixels = data[0]["labels"][0].numel()
    held = _read(data, range(len(data))) if len(data) * pixels * BYTES_A_PIXEL <= HELD_BYTES else None
    generator = torch.Generator().manual_seed(training.seed)
    order: list[int] = []
    while True:
        while len(order) < training.batch_size:
            order += torch.randperm(len(data), generator=generator).tolist()
        indices, order = order[: training.batch_size], order[training.batch_size :]
        images, labels = (part[indices] for part in held) if held else _read(data, indices)
        if training.flip:
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
            labels = torch.where(mirrored[:, None, None], labels.flip(2), labels)
        yield images / 127.5 - 1, labels.long()


def _read(data: Any, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) uint8 and classes (N, H, W) int16: few bytes, so that many fit into memory."""
    first = data[indices[0]]
    images = torch.empty(len(indices), *first["image"].shape, dtype=torch.uint8)
    labels = torch.empty(len(indices), *first["labels"].shape[1:], dtype=torch.int16)
    for place, index in enumerate(indices):
        item = data[index]
        if item["image"].shape != images.shape[1:] or item["labels"].shape[1:] != images.shape[2:]:
            raise InputError(
                f"a segmenter trains on images of one size, {tuple(images.shape[1:])} as the first one, with labels "
                f"of that size, got item {index} with an image {tuple(item['image'].shape)} and labels "
                f"{tuple(item['labels'].shape)}: resize or crop them"
            )
        images[place] = ((item["image"] + 1) * 127.5).round().clamp(0, 255)
        labels[place] = item["labels"][0]
    return images, labels
