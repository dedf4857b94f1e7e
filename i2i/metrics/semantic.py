"""Whether images show what their label maps ask for: classes read off them by a segmentation network.

The measures of semantic image synthesis (Park et al. 2019, section 4): mean IoU, pixel accuracy, Fréchet distance.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from i2i.errors import InputError
from i2i.metrics.distribution import frechet_distance
from i2i.metrics.wasserstein import join_descriptors


def confusion_matrix(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How many pixels of each class were taken for each class.

    Args:
        predictions: classes of pixels, integers from 0 to classes − 1, any shape.
        labels: the truth, of the same shape. Pixels outside 0 … classes − 1 ("don't care") are not counted.
        classes: how many there are.

    Returns:
        (classes, classes) int64: a row for each true class, a column for each predicted one.

    Raises:
        InputError: the shapes differ, or a counted prediction is no class.
    """
    if predictions.shape != labels.shape:
        raise InputError(
            "expected predicted and true classes of the same shape, "
            f"got {tuple(predictions.shape)} and {tuple(labels.shape)}"
        )
    counted = (labels >= 0) & (labels < classes)
    predicted, true = predictions[counted].long(), labels[counted].long()
    if predicted.numel() and not 0 <= predicted.min() <= predicted.max() < classes:
        raise InputError(
            f"expected predictions from 0 to {classes - 1}, got {predicted.min().item()} to {predicted.max().item()}"
        )
    return torch.bincount(true * classes + predicted, minlength=classes**2).view(classes, classes)


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union of each class: TP / (TP + FP + FN).

    Args:
        confusion: (C, C), or (C, P) where columns beyond C count predictions of classes that the truth cannot have.

    Returns:
        (C,) float64; NaN for a class that neither truth nor prediction has.
    """
    hits = confusion.diagonal().double()
    return hits / (confusion.sum(0)[: len(confusion)] + confusion.sum(1) - hits)


def mean_iou(confusion: Tensor) -> float:
    """Mean of `class_iou` over the classes that occur, in truth or in prediction, as in Cityscapes' own evaluation.

    `confusion` is that of a whole set: the mean of single images' figures is another number.
    """
    return class_iou(confusion).nanmean().item()


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of counted pixels whose class was found, from a confusion matrix; NaN where none was counted."""
    return (confusion.diagonal().sum().double() / confusion.sum()).item()


class SegmentationJudge:
    """Reads classes off images with a segmentation network, and compares them with the label maps behind the images.

    Args:
        segmenter: images (N, 3, H, W) in [-1, 1] → logits (N, K, h, w), or a dictionary with them under "out" as
            torchvision's networks give it, or classes (N, h, w) int64. Other sizes than the label map's are resized.
            Where it has a method `features`, images → (N, D), their Fréchet distance is measured too.
        classes: of the label maps.
        ids: for each of them the segmenter's class that means the same, −1 for none: such pixels are not counted.
            Several may mean one. None: the segmenter's classes are the label maps'.

    Raises:
        InputError: `ids` does not have an entry for each class, or all are −1.
    """

    def __init__(self, *, segmenter: nn.Module, classes: int, ids: Sequence[int] | None = None) -> None:
        ids = list(range(classes) if ids is None else ids)
        if len(ids) != classes or max(ids) < 0:
            raise InputError(
                f"expected for each of {classes} classes the segmenter's, or -1, as `ids` (--judge-ids), got {ids}"
            )
        self.segmenter = segmenter
        self.classes = classes
        self.largest = max(ids)
        shared = sorted({id for id in ids if id >= 0})
        self.shared = len(shared)
        # Rows and columns of the confusion matrix are the shared classes; the last column is any other prediction.
        row = {id: place for place, id in enumerate(shared)}
        self.row_of_class = torch.tensor([row.get(id, -1) for id in ids] + [-1])
        self.column_of_id = torch.tensor([row.get(id, self.shared) for id in range(self.largest + 2)])

    @torch.no_grad()
    def describe(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What `figures` has to know of images; that of several batches is joined along the first dimension.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            labels: (N, 1 or more, H, W) integers; channel 0 holds the classes, and `classes` itself is "don't care".

        Returns:
            "confusion": (1, J, J + 1) int64 for the J classes that segmenter and label maps share, the last column for
            any other prediction. "features": (N, D) float, where the segmenter has them.

        Raises:
            InputError: the segmenter's output is none of those expected.
        """
        predictions = self._read(images, size=labels.shape[-2:]).clamp(max=self.largest + 1)
        columns = self.column_of_id.to(predictions.device)[predictions]
        rows = self.row_of_class.to(labels.device)[labels[:, 0].long().clamp(max=self.classes)]
        descriptors = {"confusion": confusion_matrix(columns, rows, self.shared + 1)[None, :-1]}
        features = getattr(self.segmenter, "features", None)
        if features is not None:
            descriptors["features"] = features(images)
        return descriptors

    def figures(self, generated: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> dict[str, float]:
        """Figures of a set of images from the joined descriptors of all of them.

        Args:
            generated: of the images that are judged.
            real: of the photographs; without "features", no distance to them is measured.

        Returns:
            read_miou: mean IoU of the classes read off the generated images, over classes that occur.
            read_accuracy: share of pixels whose class is the label map's.
            frechet: distance between the segmenter's features of the two sets.
        """
        confusion = generated["confusion"].sum(0)
        figures = {"read_miou": mean_iou(confusion), "read_accuracy": pixel_accuracy(confusion)}
        if (
            "features" in generated
            and "features" in real
            and min(map(len, (generated["features"], real["features"]))) > 1
        ):
            figures["frechet"] = frechet_distance(generated["features"], real["features"])
        return figures

    def _read(self, images: Tensor, *, size: Sequence[int]) -> Tensor:
        """The segmenter's classes (N, H, W) int64 at the label maps' size."""
        output = self.segmenter(images)
        logits = output["out"] if isinstance(output, Mapping) else output
        match logits.ndim:
            case 4 if logits.is_floating_point() and logits.shape[1] > self.largest:
                if logits.shape[-2:] != size:
                    logits = F.interpolate(logits, size=tuple(size), mode="bilinear")
                return logits.argmax(1)
            case 3 if not logits.is_floating_point():
                if logits.shape[-2:] != size:
                    logits = F.interpolate(logits[:, None].double(), size=tuple(size), mode="nearest-exact")[:, 0]
                return logits.long()
            case _:
                raise InputError(
                    f"expected the segmenter to give logits (N, K, h, w) of K ≥ {self.largest + 1} classes or integer "
                    f"classes (N, h, w), got {tuple(logits.shape)} {logits.dtype}: if its classes are not those of "
                    "the label maps, say with `ids` (--judge-ids) which mean the same"
                )


def judged(
    judge: SegmentationJudge,
    data: Dataset[dict[str, Tensor]],
    *,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """The joined descriptors of a data set's images, on the CPU: items {"image", "labels"} as `describe` takes them."""
    described = (
        judge.describe(batch["image"].to(device), batch["labels"].to(device))
        for batch in DataLoader(data, batch_size=batch_size)
    )
    return join_descriptors([{name: part.cpu() for name, part in parts.items()} for parts in described])
