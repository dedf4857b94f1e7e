"""Halving, doubling and bicubic resizing against filters written out, Pillow and what MATLAB made."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from i2i.data.image_io import read_image
from i2i.errors import InputError
from i2i.layers.resample import BlurDownsample, BlurUpsample, PickEvery, PooledConv2d, bicubic, blur, gaussian_blur


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


def along_both(x: np.ndarray, line: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.apply_along_axis(line, 3, np.apply_along_axis(line, 2, x))


def test_blur_is_the_filter_1_3_3_1() -> None:
    """Spread out, pad, filter and pick in NumPy, a line at a time; then what PyTorch calls bilinear."""
    x = torch.randn(2, 3, 6, 10, dtype=torch.float64)

    def up(line: np.ndarray) -> np.ndarray:
        spread = np.zeros(2 * len(line) + 3)
        spread[2:-2:2] = line
        return np.convolve(spread, np.array([1, 3, 3, 1]) / 4, mode="valid")

    def down(line: np.ndarray) -> np.ndarray:
        return np.convolve(np.pad(line, 1), np.array([1, 3, 3, 1]) / 8, mode="valid")[::2]

    spread = torch.zeros(2, 3, 11, 19, dtype=torch.float64)
    spread[:, :, ::2, ::2] = x
    doubled, halved = 4 * blur(spread, padding=2), blur(x, padding=1, stride=2)
    np.testing.assert_allclose(doubled, along_both(x.numpy(), up), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(halved, along_both(x.numpy(), down), rtol=1e-12, atol=1e-12)

    inner = (..., slice(1, -1), slice(1, -1))  # border pixels are no longer the only ones that are near
    expected = F.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(doubled[inner], expected[inner])
    expected = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(halved[inner], expected[inner])


def test_pooled_convolution_is_a_convolution_and_then_a_mean() -> None:
    layer = PooledConv2d(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    expected = F.avg_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=1), 2)
    torch.testing.assert_close(layer(x), expected)


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


def cubic(distance: float) -> float:
    """Keys 1981, equation 4 with a = -1/2."""
    x = abs(distance)
    if x <= 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def matlabs_matrix(length: int, scale: float) -> np.ndarray:
    """What each pixel of the result takes from each pixel of a line, (⌈scale · length⌉, length), as MATLAB says it.

    Pixels are counted from 1, and the line goes on in its mirror image on either side.
    """
    result_length = math.ceil(scale * length)
    kernel_width = min(scale, 1)
    matrix = np.zeros((result_length, length))
    for row in range(result_length):
        u = (row + 1) / scale + 0.5 * (1 - 1 / scale)
        for place in range(-3 * length, 4 * length):
            mirrored = [*range(length), *reversed(range(length))][(place - 1) % (2 * length)]
            matrix[row, mirrored] += kernel_width * cubic(kernel_width * (u - place))
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 1 / 2, 0.7, 1.0, 1.5, 2, 3, 4])
@pytest.mark.parametrize("size", [(13, 20), (8, 24)])
def test_bicubic_is_matlabs(scale: float, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    rows, columns = (matlabs_matrix(length, scale) for length in size)
    expected = np.einsum("yh,nchw,xw->ncyx", rows, images.numpy(), columns)
    found = bicubic(images, scale=scale)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-12)
    single = bicubic(images.float(), scale=scale)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_bicubic_of_one_pixel() -> None:
    """The kernel at 0.25, 0.75, 1.25 and 1.75 px, in 256ths."""
    line = torch.zeros(1, 1, 1, 9, dtype=torch.float64)
    line[..., 4] = 256
    doubled = bicubic(line, scale=2)[0, 0, 0]
    assert doubled[5:13].tolist() == [-6, -18, 58, 222, 222, 58, -18, -6]
    assert doubled.sum() == 512


@pytest.mark.parametrize("scale", [1 / 4, 1 / 2, 3])
def test_bicubic_is_pillows_within_the_border(scale: float) -> None:
    """Beyond the border, Pillow leaves out what MATLAB mirrors."""
    image = torch.rand(48, 64)
    expected = Image.fromarray(image.numpy()).resize((int(64 * scale), int(48 * scale)), Image.Resampling.BICUBIC)
    edge = max(2, math.ceil(2 * scale))
    inner = (slice(edge, -edge), slice(edge, -edge))
    found = bicubic(image[None, None], scale=scale)[0, 0].numpy()
    np.testing.assert_allclose(found[inner], np.asarray(expected)[inner], atol=1e-5)


def test_unusable_images_and_scales_are_refused() -> None:
    with pytest.raises(InputError, match="uint8"):
        bicubic(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), scale=2)
    with pytest.raises(InputError, match=r"\(3, 8, 8\)"):
        bicubic(torch.zeros(3, 8, 8), scale=2)
    for scale in (0, -1, math.nan, math.inf):
        with pytest.raises(InputError, match="scale above 0"):
            bicubic(torch.zeros(1, 3, 8, 8), scale=scale)


@pytest.mark.data
@pytest.mark.parametrize(("name", "high", "scale"), [("Set5", "HR", 4), ("Set14", "HR", 4), ("Set5", "HRx2", 2)])
def test_shrunk_photographs_are_matlabs(name: str, high: str, scale: int, data_dir: Path) -> None:
    """Those that came with the sets, to one grey level: MATLAB rounds between the two directions."""
    folder = data_dir / "sr" / name
    near = []
    for file in sorted((folder / high).iterdir()):
        photo = torch.from_numpy(read_image(file)).movedim(-1, 0)[None].double()
        expected = read_image(folder / f"LRx{scale}" / file.name)
        found = bicubic(photo, scale=1 / scale).round().clamp(0, 255)[0].movedim(0, -1).numpy()
        near.append((abs(found - expected) <= 1).mean())
    assert np.mean(near) >= 0.99
