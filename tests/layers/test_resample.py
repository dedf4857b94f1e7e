"""Halving and doubling against filters written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from i2i.layers.resample import BlurDownsample, BlurUpsample, PickEvery, gaussian_blur


def kernel(*taps: float) -> Tensor:
    """(3, 1, n, n): the same separable filter, of sum one, for each of three channels."""
    line = torch.tensor(taps, dtype=torch.float64)
    return (line.outer(line) / line.sum() ** 2).expand(3, 1, -1, -1)


@pytest.mark.parametrize("size", [(2, 2), (6, 9), (13, 4)])
def test_blur_downsample_is_a_binomial_filter(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel(1, 2, 1), stride=2, groups=3)
    torch.testing.assert_close(BlurDownsample()(x), expected)


@pytest.mark.parametrize("size", [(1, 1), (6, 9), (13, 4)])
def test_blur_upsample_spreads_and_blurs(size: tuple[int, int]) -> None:
    """The transposed filter [1 3 3 1] on the edge-padded map, cut to twice the size about its centre."""
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    spread = F.conv_transpose2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 4 * kernel(1, 3, 3, 1), stride=2, groups=3)
    expected = spread[..., 3:-3, 3:-3]
    assert expected.shape[2:] == (2 * size[0], 2 * size[1])
    torch.testing.assert_close(BlurUpsample()(x), expected)


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_labels_are_picked_as_nearest_neighbours_are(factor: int) -> None:
    labels = torch.randint(9, (2, 1, 16, 24)).float()
    expected = F.interpolate(labels, size=(16 // factor, 24 // factor), mode="nearest")
    assert torch.equal(PickEvery(factor)(labels), expected)


@pytest.mark.parametrize("deviation_px", [0.3, 1.0, 2.5])
def test_gaussian_blur_against_scipy(deviation_px: float) -> None:
    images = torch.randn(2, 3, 9, 14)
    expected = gaussian_filter(
        images.numpy(),
        (0, 0, deviation_px, deviation_px),
        mode="nearest",
        radius=(0, 0, *[math.ceil(3 * deviation_px)] * 2),
    )
    torch.testing.assert_close(gaussian_blur(images, deviation_px=deviation_px), torch.from_numpy(expected))


def test_hardly_any_blur_is_none() -> None:
    """A Gaussian of 0.2 px weighs its neighbours by exp(-12.5), 4e-6."""
    images = torch.randn(1, 1, 8, 8)
    assert gaussian_blur(images, deviation_px=0.19) is images
    torch.testing.assert_close(gaussian_blur(images, deviation_px=0.2), images, rtol=0, atol=1e-4)
