"""DiffAugment against its definition in the paper, written out in NumPy for one image at a time."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from i2i.data.augment import DiffAugment, adjust_colour, cut_out, translate
from i2i.errors import InputError

COLOUR = {"translation": False, "cutout": False}
TRANSLATION = {"colour": False, "cutout": False}
CUTOUT = {"colour": False, "translation": False}


def images(count: int = 5, channels: int = 3, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(count, channels, height, width) * 2 - 1


def numpy_images(batch: Tensor) -> Iterator[np.ndarray]:
    return (image.astype(np.float64) for image in batch.numpy())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colour_written_out(channels: int) -> None:
    batch = images(channels=channels)
    brightness, saturation, contrast = torch.rand(5) - 0.5, torch.rand(5) * 2, torch.rand(5) + 0.5
    found = adjust_colour(batch, brightness=brightness, saturation=saturation, contrast=contrast)
    for number, image in enumerate(numpy_images(batch)):
        image = image + brightness[number].item()
        grey = sum(image) / channels
        image = np.stack([saturation[number].item() * (plane - grey) + grey for plane in image])
        image = contrast[number].item() * (image - image.mean()) + image.mean()
        np.testing.assert_allclose(found[number].numpy(), image, atol=1e-5)


def test_translation_written_out() -> None:
    batch = images()
    right, down = torch.tensor([0, 1, -3, 3, 2]), torch.tensor([0, -2, 2, 1, -1])
    found = translate(batch, right=right, down=down)
    for number, image in enumerate(numpy_images(batch)):
        moved = np.zeros_like(image)
        for row in range(16):
            for column in range(24):
                to_row, to_column = row + down[number].item(), column + right[number].item()
                if 0 <= to_row < 16 and 0 <= to_column < 24:
                    moved[:, to_row, to_column] = image[:, row, column]
        np.testing.assert_array_equal(found[number].numpy(), moved)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (17, 10)])
def test_cutout_written_out(height: int, width: int) -> None:
    """The corners, the middle, and beyond the border on each side."""
    batch = images(height=height, width=width) + 3
    x, y = torch.tensor([0, width, 5, 0, width]), torch.tensor([0, height, 8, height, 3])
    found = cut_out(batch, x=x, y=y)
    cut_height, cut_width = -(-height // 2), -(-width // 2)
    for number, image in enumerate(numpy_images(batch)):
        left, top = x[number].item() - cut_width // 2, y[number].item() - cut_height // 2
        image[:, max(0, top) : max(0, top + cut_height), max(0, left) : max(0, left + cut_width)] = 0
        np.testing.assert_array_equal(found[number].numpy(), image)


def test_ranges_of_colour() -> None:
    """An image of which the three factors can be read: two grey levels, one of them with colour."""
    flat = torch.tensor([[0.0, 0.0], [-0.2, 0.4]])  # two pixels of two channels
    batch = flat.T.reshape(1, 2, 1, 2).repeat(4000, 1, 1, 1)
    first, second = DiffAugment(**COLOUR)(batch).unbind(1)
    grey = (first + second)[:, 0] / 2
    contrast = (grey[:, 1] - grey[:, 0]) / 0.1
    saturation = (second - first)[:, 0, 1] / 0.6 / contrast
    brightness = grey.mean(dim=1) - 0.05
    for values, lowest, highest in ((brightness, -0.5, 0.5), (saturation, 0.0, 2.0), (contrast, 0.5, 1.5)):
        assert_even(values, lowest, highest)
    assert torch.stack([brightness, saturation, contrast]).corrcoef().triu(1).abs().max() < 0.06


def assert_even(values: Tensor, lowest: float, highest: float) -> None:
    """Evenly spread from the lowest to the highest, ends included."""
    reach = highest - lowest
    assert values.min() == pytest.approx(lowest, abs=0.01 * reach)
    assert values.max() == pytest.approx(highest, abs=0.01 * reach)
    assert values.mean() == pytest.approx((lowest + highest) / 2, abs=0.02 * reach)
    assert values.std() == pytest.approx(reach / 12**0.5, rel=0.05)


def test_ranges_of_translation() -> None:
    batch = torch.zeros(4000, 1, 16, 40)
    batch[:, :, 8, 20] = 1
    moved = DiffAugment(**TRANSLATION)(batch)
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(4000))
    rows, columns = moved[:, 0].nonzero()[:, 1] - 8, moved[:, 0].nonzero()[:, 2] - 20
    for shifts, reach in ((rows, 2), (columns, 5)):
        counts = torch.bincount(shifts + reach)
        assert len(counts) == 2 * reach + 1
        assert (counts.double() / 4000 * len(counts) - 1).abs().max() < 0.2
    assert torch.stack([rows, columns]).double().corrcoef()[0, 1].abs() < 0.06


def test_ranges_of_cutout() -> None:
    """A quarter of the image at most, where the centre is inside; a sixteenth at least."""
    kept = DiffAugment(**CUTOUT)(torch.ones(4000, 2, 16, 32))
    assert torch.equal(kept[:, 0], kept[:, 1])
    cut = (kept[:, 0] == 0).sum((1, 2)) / (16 * 32)
    assert cut.min() == 1 / 16 and cut.max() == 1 / 4
    # Along each side a centre c of 0 … n cuts min(c + n/4, n) - max(c - n/4, 0), whose mean follows by summing.
    shares = [np.mean([min(c + n // 4, n) - max(c - n // 4, 0) for c in range(n + 1)]) / n for n in (16, 32)]
    assert cut.mean() == pytest.approx(shares[0] * shares[1], rel=0.02)


def test_large_images_move_by_whole_pixels() -> None:
    batch = torch.rand(2, 1, 1, 4096)
    (left, right) = translate(batch, right=torch.tensor([-511, 512]), down=torch.tensor([0, 0]))
    assert torch.equal(left[..., :-511], batch[0, ..., 511:]) and torch.equal(right[..., 512:], batch[1, ..., :-512])


@pytest.mark.parametrize("policies", [COLOUR, TRANSLATION, CUTOUT, {}])
def test_gradients(policies: dict[str, bool]) -> None:
    """Each is linear in the images, but for the brightness; its gradient is compared with differences."""
    augment = DiffAugment(**policies)

    def same_draws(batch: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augment(batch)

    batch = torch.rand(2, 3, 8, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(same_draws, batch)


def test_draws_follow_from_the_seed_and_differ_between_images() -> None:
    batch = images(count=1).expand(4, -1, -1, -1)
    augment = DiffAugment()
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outcomes.append(augment(batch))
    assert torch.equal(outcomes[0], outcomes[1]) and not torch.equal(outcomes[0], outcomes[2])
    assert not any(torch.equal(outcomes[0][0], other) for other in outcomes[0][1:])
    assert not torch.equal(augment(batch), augment(batch))


def test_nothing_switched_on_changes_nothing() -> None:
    batch = images()
    assert torch.equal(DiffAugment(colour=False, translation=False, cutout=False)(batch), batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixed_precision_moves_nothing_elsewhere(dtype: torch.dtype) -> None:
    batch = images(height=8, width=6000).to(dtype)
    torch.manual_seed(1)
    expected = DiffAugment()(batch.float())
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = DiffAugment()(batch)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=0)


def test_points_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(N, C, H, W\), got \(5, 2\)"):
        DiffAugment()(torch.zeros(5, 2))
