"""Lit pixels against counts by hand, OpenCV's grey and the built-in streets by night."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from i2i.data.streets import CLASSES, StreetPairs
from i2i.errors import InputError
from i2i.metrics import LIT_LUMA, lit_figures, lit_pixels


def picture(*lit: int) -> Tensor:
    """(1, 3, 2, 4), dark but for the pixels of these numbers."""
    image = torch.full((3, 8), -0.9)
    image[:, list(lit)] = 0.8
    return image.reshape(1, 3, 2, 4)


def test_brightness_is_opencvs() -> None:
    images = torch.rand(4, 3, 30, 30) * 2 - 1
    grey = np.stack([cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2GRAY) for image in ((images + 1) / 2).movedim(1, -1)])
    lit = lit_pixels(images)
    assert (lit.numpy() == (grey > LIT_LUMA))[abs(grey - LIT_LUMA) > 1e-3].all()
    assert 0.3 < lit.float().mean() < 0.7


def test_recall_and_precision_by_hand() -> None:
    output = torch.cat([picture(0, 1, 2, 3), picture(5)])
    truth = torch.cat([picture(2, 3, 4), picture(4, 5)])
    figures = lit_figures(output, truth)
    assert figures["lit_recall"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["lit_precision"] == pytest.approx((2 / 4 + 1) / 2)


@pytest.mark.parametrize(
    ("output", "truth", "recall", "precision"),
    [
        (picture(), picture(1), 0, 0),
        (picture(1), picture(), 0, 0),
        (picture(), picture(), 1, 1),
        (picture(*range(8)), picture(1), 1, 1 / 8),
    ],
)
def test_images_without_lit_pixels(output: Tensor, truth: Tensor, recall: float, precision: float) -> None:
    assert lit_figures(output, truth) == {"lit_recall": recall, "lit_precision": precision}


def test_lights_of_a_street_by_night() -> None:
    """Lit are windows, cars' headlights and heads of lamps, hardly anything else, and 5 % of all."""
    streets = StreetPairs(count=12, size=64, first_seed=3000, target="night", cache=False)
    lit = lit_pixels(torch.stack([streets[index]["target"] for index in range(len(streets))]))
    classes = torch.stack([torch.tensor(streets.labels(index)) for index in range(len(streets))])
    assert 0.03 < lit.float().mean() < 0.07
    share = {name: lit[classes == index].float().mean().item() for index, name in enumerate(CLASSES)}
    lights = {name: share.pop(name) for name in ("window", "car", "lamp")}
    assert min(lights.values()) > 0.1 and max(share.values()) < 0.03


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(InputError, match="RGB"):
        lit_figures(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="one shape"):
        lit_figures(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 4, 4))
