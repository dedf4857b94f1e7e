"""The metrics against scikit-image, NumPy and closed forms."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from i2i.errors import InputError
from i2i.metrics import l1, laplacian_energy, psnr, ssim

SHAPES = [(2, 3, 40, 51), (1, 1, 11, 11), (3, 5, 16, 12)]


def images(shape: tuple[int, ...], data_range: float) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.rand(shape, dtype=torch.float64)
    output = (target + 0.2 * torch.randn_like(target)).clamp(0, 1)
    return output * data_range, target * data_range


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_is_scikit_images(shape: tuple[int, ...], data_range: float):
    output, target = images(shape, data_range)
    expected = [
        structural_similarity(
            a.numpy(),
            b.numpy(),
            channel_axis=0,
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(output, target, strict=True)
    ]
    np.testing.assert_allclose(ssim(output, target, data_range=data_range), expected, atol=1e-12)
    single = ssim(output.float(), target.float(), data_range=data_range)
    np.testing.assert_allclose(single, expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_psnr_is_scikit_images(shape: tuple[int, ...], data_range: float):
    output, target = images(shape, data_range)
    expected = [
        peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=data_range)
        for a, b in zip(output, target, strict=True)
    ]
    np.testing.assert_allclose(psnr(output, target, data_range=data_range), expected, rtol=1e-12)


def test_equal_images_have_ssim_one_and_infinite_psnr():
    image = torch.rand(1, 3, 20, 20)
    assert math.isclose(ssim(image, image).item(), 1.0, abs_tol=1e-6)
    assert psnr(image, image).item() == math.inf


def test_l1_is_each_images_own_mean():
    target = torch.zeros(2, 3, 4, 4)
    output = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), -2.0)])
    assert l1(output, target).tolist() == [0.5, 2.0]


def test_laplacian_energy_of_a_parabola_and_of_a_plane():
    x = torch.arange(9, dtype=torch.float64)
    parabola = (x**2).expand(1, 1, 7, 9)  # second derivative 2 along x, 0 along y
    plane = (3 * x + 2 * torch.arange(7, dtype=torch.float64)[:, None]).expand(1, 3, 7, 9)
    assert laplacian_energy(parabola).tolist() == [4.0]
    assert laplacian_energy(plane).tolist() == [0.0]


def test_laplacian_energy_looks_at_the_mean_of_the_channels():
    image = torch.rand(1, 1, 8, 8)
    assert laplacian_energy(torch.cat([image, -image], dim=1)).item() == 0.0


def test_half_precision_is_measured_in_single():
    output, target = images((1, 1, 20, 20), 1.0)
    assert ssim(output.half(), target.half()).dtype == torch.float32


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="11 by 11"):
        ssim(torch.zeros(1, 3, 10, 30), torch.zeros(1, 3, 10, 30))
    with pytest.raises(InputError, match="3 by 3"):
        laplacian_energy(torch.zeros(3, 8, 8))
