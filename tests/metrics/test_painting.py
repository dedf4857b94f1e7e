"""The painting baseline against means taken by hand, cell by cell."""

import pytest
import torch
from torch import Tensor

from i2i.metrics import COLOUR_LEVELS, MeanPainter, colours_as_classes, painting_baseline, paired_metrics


def scenes(count: int, *, height: int = 12, width: int = 9, classes: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randint(classes, (count, height, width)), torch.rand(count, 3, height, width) * 2 - 1


def mean_where(images: Tensor, mask: Tensor) -> Tensor:
    """Mean colour over the pixels of a mask (N, H, W)."""
    return torch.stack([images[:, channel][mask].mean() for channel in range(images.shape[1])])


@pytest.mark.parametrize("rows", [1, 2, 5, 12])
def test_every_class_and_band_gets_its_mean(rows: int) -> None:
    labels, images = scenes(3)
    painter = MeanPainter(classes=4, rows=rows)
    painter.add(labels[:1], images[:1])
    painter.add(labels[1:], images[1:])
    painted = painter.paint(labels)
    assert painted.shape == images.shape and painted.dtype == torch.float32
    band = torch.tensor([y * rows // 12 for y in range(12)])[:, None].expand(12, 9)
    for row in range(rows):
        for label in range(4):
            mask = (labels == label) & (band == row)
            if mask.any():
                expected = mean_where(images, mask)
                torch.testing.assert_close(painted.movedim(1, -1)[mask], expected.expand(int(mask.sum()), 3))


def test_bands_follow_the_height() -> None:
    """Learned at one size, painted at another."""
    painter = MeanPainter(classes=1, rows=2)
    image = torch.cat([torch.full((1, 1, 4, 3), 0.5), torch.full((1, 1, 4, 3), -0.5)], dim=2)
    painter.add(torch.zeros(1, 8, 3).long(), image)
    painted = painter.paint(torch.zeros(1, 4, 2).long())
    assert painted[0, 0, :, 0].tolist() == [0.5, 0.5, -0.5, -0.5]


def test_what_was_never_seen() -> None:
    """A class new to a band gets its colour over all bands; a new class the mean of everything."""
    labels = torch.tensor([[[0, 0], [1, 1]]])
    image = torch.tensor([[[[0.1, 0.3], [-0.5, -0.7]]]])
    painter = MeanPainter(classes=3, rows=2)
    painter.add(labels, image)
    painted = painter.paint(torch.tensor([[[1, 2], [0, 2]]]))
    torch.testing.assert_close(painted, torch.tensor([[[[-0.6, -0.2], [0.2, -0.2]]]]))


def test_no_other_painting_by_class_is_nearer() -> None:
    """The mean minimises the squared error."""
    labels, images = scenes(4)
    painter = MeanPainter(classes=4)
    painter.add(labels, images)
    painted = painter.paint(labels)
    best = (painted - images).square().mean()
    for label in range(4):
        other = painted + 0.05 * (labels == label)[:, None]
        assert (other - images).square().mean() > best


def test_colours_become_classes() -> None:
    colours = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [-1, -1, 1], [-1, 1, -1], [0.999, -0.999, 0.01]])
    labels = colours_as_classes(colours.T.reshape(1, 3, 1, 5))
    assert labels.shape == (1, 1, 5)
    assert labels.flatten().tolist() == [0, COLOUR_LEVELS**3 - 1, 5, 30, 5 * 36 + 0 * 6 + 3]


def test_every_8_bit_colour_has_a_class() -> None:
    grey = torch.arange(256)[None, None, None] / 127.5 - 1
    labels = colours_as_classes(grey)
    assert labels.min() == 0 and labels.max() == COLOUR_LEVELS - 1
    assert labels.flatten().diff().min() >= 0


def test_baseline_is_the_mean_over_held_out_images() -> None:
    labels, images = scenes(6, height=16, width=16)
    training = list(zip(labels[:4], images[:4], strict=True))
    held_out = list(zip(labels[4:], images[4:], strict=True))
    figures = painting_baseline(MeanPainter(classes=4), training=training, held_out=iter(held_out))
    painter = MeanPainter(classes=4)
    painter.add(labels[:4], images[:4])
    painted = painter.paint(labels[4:])
    assert figures["l1"] == pytest.approx((painted - images[4:]).abs().mean().item() / 2, rel=1e-5)
    assert figures == pytest.approx(paired_metrics(painted, images[4:]), rel=1e-5)
