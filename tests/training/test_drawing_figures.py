"""What recipes that draw say of figures that cannot be trusted."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.checkpoints import ImageSide
from i2i.training.drawing_data import DrawingTask
from i2i.training.drawing_figures import Examiner


class Greys(Dataset[dict[str, Tensor]]):
    """Images that are dark in one class, and bright in the other."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"real": torch.full((3, 16, 16), index % 2 - 0.5), "label": torch.tensor(index % 2)}


class Guesses(nn.Module):
    """A classifier that is right, or always sees the first class."""

    def __init__(self, *, right: bool) -> None:
        super().__init__()
        self.right = right

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3)) > 0
        return torch.nn.functional.one_hot((bright & self.right).long(), 2).float()


def remarks(monkeypatch: pytest.MonkeyPatch, *, held_out: int, right: bool, classes: tuple[str, ...]) -> list[str]:
    classifier = Guesses(right=right)
    monkeypatch.setattr("i2i.training.drawing_figures.cached_classifier", lambda *_, **__: classifier)
    task = DrawingTask(
        training=Greys(8),
        held_out=Greys(held_out),
        output=ImageSide(channels=3, dtype="uint8", data_range=(0.0, 255.0), network_range=(-1.0, 1.0)),
        size_px=16,
        classes=classes,
        name="greys",
        about="greys",
        fingerprint="x",
    )
    examiner = Examiner(task, out=Path("out"))
    if classes:
        assert examiner.baselines()["real images"]["class_agreement"] == (1.0 if right else 0.5)
    return examiner.remarks()


def test_figures_that_say_little_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    few = "Held-out figures are over so few images (48) that they say little."
    unfit = (
        "The classifier itself recognises only 50% of the held-out real images, so that class_agreement says little."
    )
    both = ("dark", "bright")
    assert remarks(monkeypatch, held_out=48, right=False, classes=both) == [few, unfit]
    assert remarks(monkeypatch, held_out=50, right=False, classes=both) == [unfit]
    assert remarks(monkeypatch, held_out=50, right=True, classes=both) == []
    assert remarks(monkeypatch, held_out=48, right=False, classes=()) == [few]
