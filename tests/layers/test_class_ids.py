"""Class ids: what is taken, what is refused, and how they are joined to samples."""

import pytest
import torch

from i2i.errors import InputError
from i2i.layers.classes import append_classes, check_classes


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_any_integers_are_ids(dtype: torch.dtype) -> None:
    ids = check_classes(torch.tensor([0, 4], dtype=dtype), classes=5, count=2)
    assert ids.dtype == torch.int64 and ids.tolist() == [0, 4]
    assert check_classes(torch.empty(0, dtype=dtype), classes=5, count=0).shape == (0,)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "5 classes: expected the class ids of 2 samples"),
        (torch.tensor([0, 5]), "from 0 to 4, got 5"),
        (torch.tensor([-1, 0]), "from 0 to 4, got -1"),
        (torch.tensor([0]), r"shape \(2,\), got torch.int64 \(1,\)"),
        (torch.tensor([[0], [1]]), r"got torch.int64 \(2, 1\)"),
        (torch.tensor([0.0, 1.0]), r"got torch.float32 \(2,\)"),
        (torch.tensor([False, True]), r"got torch.bool \(2,\)"),
    ],
)
def test_others_are_refused(labels: torch.Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_classes(labels, classes=5, count=2)


@pytest.mark.parametrize("places", [(), (4, 5)])
def test_one_hot_ids_at_every_place(places: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *places)
    result = append_classes(x, torch.tensor([1, 0]), classes=2)
    assert torch.equal(result[:, :3], x)
    for sample, expected in zip(result[:, 3:], ([0.0, 1.0], [1.0, 0.0]), strict=True):
        for channel, value in zip(sample, expected, strict=True):
            assert (channel == value).all()
    assert append_classes(x, None, classes=0) is x
