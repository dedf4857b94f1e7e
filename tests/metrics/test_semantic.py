"""Confusion and IoU against loops and scikit-image; what a judge reads off images."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.errors import InputError
from i2i.metrics import (
    SegmentationJudge,
    class_iou,
    confusion_matrix,
    frechet_distance,
    judged,
    mean_iou,
    pixel_accuracy,
)


def test_confusion_counts_pixels_by_true_and_predicted_class() -> None:
    predictions, labels = torch.randint(4, (3, 9, 7)), torch.randint(5, (3, 9, 7))
    expected = np.zeros((4, 4), np.int64)
    for predicted, true in zip(predictions.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if true != 4:
            expected[true, predicted] += 1
    found = confusion_matrix(predictions, labels, 4)
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), expected)
    assert np.array_equal(confusion_matrix(predictions.byte(), labels.byte(), 4).numpy(), expected)


def test_dont_care_hides_any_prediction() -> None:
    assert confusion_matrix(torch.tensor([0, 1, 7]), torch.tensor([1, 1, 2]), 2).tolist() == [[0, 0], [1, 1]]


def test_figures_of_sets_of_pixels() -> None:
    """IoU from the sets themselves. Class 3 is only predicted, and counts 0; class 4 does not occur, and not at all."""
    predictions, labels = torch.randint(4, (2, 20, 20)), torch.randint(3, (2, 20, 20))
    ious = []
    for of_class in range(4):
        predicted = {place for place, value in enumerate(predictions.flatten().tolist()) if value == of_class}
        true = {place for place, value in enumerate(labels.flatten().tolist()) if value == of_class}
        ious.append(len(predicted & true) / len(predicted | true))
    confusion = confusion_matrix(predictions, labels, 5)
    assert class_iou(confusion)[:4].tolist() == pytest.approx(ious, rel=1e-12)
    assert math.isnan(class_iou(confusion)[4])
    assert ious[3] == 0
    assert mean_iou(confusion) == pytest.approx(sum(ious) / 4, rel=1e-12)
    assert pixel_accuracy(confusion) == pytest.approx((predictions == labels).double().mean().item(), rel=1e-12)


def test_predictions_that_are_no_class_are_refused() -> None:
    with pytest.raises(InputError, match="from 0 to 1, got 0 to 2"):
        confusion_matrix(torch.tensor([0, 2]), torch.tensor([0, 1]), 2)
    with pytest.raises(InputError, match="same shape"):
        confusion_matrix(torch.zeros(1, 4, 4).long(), torch.zeros(4, 4).long(), 2)


class Painted(Dataset[dict[str, Tensor]]):
    """Label maps whose images show the class as brightness, with a boundary channel and pixels of no class."""

    def __init__(self, *, classes: int, wrong: bool = False) -> None:
        self.labels = torch.randint(classes + 1, (5, 2, 12, 16))
        shown = self.labels[:, :1].clamp(max=classes - 1)
        if wrong:
            shown = torch.where(torch.rand(shown.shape) < 0.3, (shown + 1) % classes, shown)
        self.shown = shown
        self.images = (shown / 10 * 2 - 1).expand(-1, 3, -1, -1)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.images[index], "labels": self.labels[index]}


class Reader(nn.Module):
    """Reads brightness as classes, after `ids`, and answers in the way asked for."""

    def __init__(self, answer: Callable[[Tensor], object], *, classes: int, ids: list[int] | None = None) -> None:
        super().__init__()
        self.answer, self.classes, self.ids = answer, classes, torch.tensor(ids or range(classes))

    def forward(self, images: Tensor) -> object:
        read = ((images[:, 0] + 1) * 5).round().long()
        return self.answer(nn.functional.one_hot(self.ids[read], self.classes).movedim(3, 1).float())

    def features(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


ANSWERS: dict[str, Callable[[Tensor], object]] = {
    "logits": lambda logits: logits,
    "dictionary": lambda logits: {"out": logits, "aux": None},
    "classes": lambda logits: logits.argmax(1),
    "larger logits": lambda logits: nn.functional.interpolate(logits, scale_factor=2.0, mode="bilinear"),
    "larger classes": lambda logits: logits.argmax(1).repeat_interleave(2, 1).repeat_interleave(2, 2),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_judge_finds_the_classes_that_are_shown(answer: str) -> None:
    right, wrong = Painted(classes=4), Painted(classes=4, wrong=True)
    judge = SegmentationJudge(segmenter=Reader(ANSWERS[answer], classes=4), classes=4)
    real, generated = judged(judge, right, batch_size=2), judged(judge, wrong, batch_size=2)
    assert real["confusion"].shape == (3, 4, 5)
    assert real["features"].shape == (5, 3)
    figures = judge.figures(real, real)
    assert figures == pytest.approx({"read_miou": 1, "read_accuracy": 1, "frechet": 0}, abs=1e-12)
    counted = wrong.labels[:, 0] < 4
    agreeing = (wrong.shown[:, 0] == wrong.labels[:, 0])[counted].double().mean().item()
    figures = judge.figures(generated, real)
    assert figures["read_accuracy"] == pytest.approx(agreeing, rel=1e-12)
    features = wrong.images.mean(dim=(2, 3)), right.images.mean(dim=(2, 3))
    assert figures["frechet"] == pytest.approx(frechet_distance(*features), rel=1e-6)


def test_the_judges_classes_may_be_others() -> None:
    """Two classes mean one of the judge's, one means none and is not counted; others of the judge's are mistakes."""
    data = Painted(classes=4)
    ids = [5, 2, -1, 5]
    reader = Reader(lambda logits: logits, classes=7, ids=[5, 2, 0, 6])
    judge = SegmentationJudge(segmenter=reader, classes=4, ids=ids)
    figures = judge.figures(judged(judge, data), {})
    counts = torch.bincount(data.labels[:, 0].flatten(), minlength=5).double()
    # Class 3 is shown as the judge's class 6, which no class of the label maps means.
    ious = [1.0, (counts[0] / (counts[0] + counts[3])).item()]
    assert figures["read_miou"] == pytest.approx(sum(ious) / 2, rel=1e-12)
    right = (counts[0] + counts[1]) / (counts[0] + counts[1] + counts[3])
    assert figures["read_accuracy"] == pytest.approx(right.item(), rel=1e-12)
    assert "frechet" not in figures


def test_unusable_judges_are_refused() -> None:
    data = Painted(classes=4)
    for ids in ([0, 1], [-1] * 4):
        with pytest.raises(InputError, match="for each of 4 classes"):
            SegmentationJudge(segmenter=nn.Identity(), classes=4, ids=ids)
    for network, found in [
        (Reader(lambda logits: logits[:, :3], classes=4), r"K ≥ 4 classes.*\(5, 3, 12, 16\)"),
        (Reader(lambda logits: logits[:, 0], classes=4), r"\(5, 12, 16\) torch.float32"),
    ]:
        with pytest.raises(InputError, match=found):
            judged(SegmentationJudge(segmenter=network, classes=4), data)
