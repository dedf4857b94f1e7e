"""The metrics against scikit-image, NumPy, closed forms and published figures."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from i2i.data.image_io import read_image
from i2i.errors import InputError
from i2i.layers.resample import bicubic
from i2i.metrics import gradient_energy, l1, laplacian_energy, luma, ms_ssim, paired_metrics, psnr, ssim
from i2i.metrics.image import mean_of_pairs, pair_figures

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


@pytest.mark.parametrize("noise", [0.05, 0.5])
@pytest.mark.parametrize("shape", [(2, 3, 176, 208), (1, 1, 256, 192)])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ms_ssim_is_that_of_two_other_libraries(shape: tuple[int, ...], data_range: float, noise: float):
    from pytorch_msssim import ms_ssim as theirs
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as torchmetrics_one

    smooth = torch.nn.functional.interpolate(torch.rand(*shape[:2], 12, 12, dtype=torch.float64), shape[2:])
    output = (smooth + noise * torch.randn_like(smooth)).clamp(0, 1) * data_range
    target = smooth * data_range
    found = ms_ssim(output, target, data_range=data_range)
    # Theirs holds its windows in float32.
    expected = theirs(output.float(), target.float(), data_range=data_range, size_average=False)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    if shape[1] == 1:  # of several channels it multiplies the means over them
        other = torchmetrics_one(output, target, data_range=data_range, normalize="relu", reduction="none")
        np.testing.assert_allclose(found, other, atol=2e-3)


def test_ms_ssim_of_an_inverted_image_is_zero_and_an_odd_row_is_left_out():
    image = torch.rand(1, 3, 176, 177)
    assert ms_ssim(image, 1 - image).item() == 0.0
    assert ms_ssim(image, image).item() == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(InputError, match=r"176 by 176 pixels for its five scales, got \(1, 3, 175, 300\)"):
        ms_ssim(torch.zeros(1, 3, 175, 300), torch.zeros(1, 3, 175, 300))


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_luma_is_scikit_images(data_range: float):
    image = torch.rand(2, 3, 8, 9, dtype=torch.float64)
    expected = rgb2ycbcr(image.numpy(), channel_axis=1)[:, :1] / 255 * data_range
    np.testing.assert_allclose(luma(image * data_range, data_range=data_range), expected, rtol=1e-12)


@pytest.mark.parametrize("y_channel", [False, True])
@pytest.mark.parametrize("crop_border", [0, 4])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_border_and_luma_are_left_to_scikit_image(y_channel: bool, crop_border: int, data_range: float):
    output, target = images((2, 3, 40, 31), data_range)
    inner = slice(crop_border, None if crop_border == 0 else -crop_border)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected_psnr, expected_ssim = [], []
    for one, other in zip(output.numpy() / data_range, target.numpy() / data_range, strict=True):
        if y_channel:
            one, other = (rgb2ycbcr(image, channel_axis=0)[:1] / 255 for image in (one, other))
        one, other = (image[:, inner, inner] for image in (one, other))
        expected_psnr.append(peak_signal_noise_ratio(other, one, data_range=1))
        expected_ssim.append(structural_similarity(one, other, channel_axis=0, data_range=1, **settings))
    found_psnr, found_ssim = (
        metric(output, target, data_range=data_range, crop_border=crop_border, y_channel=y_channel)
        for metric in (psnr, ssim)
    )
    np.testing.assert_allclose(found_psnr, expected_psnr, rtol=1e-12)
    np.testing.assert_allclose(found_ssim, expected_ssim, atol=1e-12)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "scale", "high", "expected_psnr", "expected_ssim"),
    [
        ("Set5", 4, "HR", 28.42, 0.8104),
        ("Set5", 2, "HRx2", 33.66, 0.9299),
        ("Set14", 4, "HR", 26.09, 0.7056),
        ("Set14", 2, "HRx2", 30.33, None),
    ],
)
def test_bicubic_enlarging_has_its_published_figures(
    name: str, scale: int, high: str, expected_psnr: float, expected_ssim: float | None, data_dir: Path
):
    """For Set14, whose files differ, they were computed elsewhere from the files at hand."""
    folder = data_dir / "sr" / name
    figures = []
    for file in sorted((folder / high).iterdir()):
        target, low = (
            torch.from_numpy(read_image(one)).movedim(-1, 0)[None].expand(-1, 3, -1, -1).double() / 255
            for one in (file, folder / f"LRx{scale}" / file.name)
        )
        enlarged = (bicubic(low, scale=scale) * 255).round().clamp(0, 255) / 255
        measured = (metric(enlarged, target, crop_border=scale, y_channel=True) for metric in (psnr, ssim))
        figures.append([one.item() for one in measured])
    mean_psnr, mean_ssim = np.mean(figures, axis=0)
    assert mean_psnr == pytest.approx(expected_psnr, abs=0.03)
    assert expected_ssim is None or mean_ssim == pytest.approx(expected_ssim, abs=0.001)


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


def test_gradient_energy_of_a_plane():
    plane = (3 * torch.arange(9.0) + 2 * torch.arange(7.0)[:, None]).expand(1, 3, 7, 9)
    assert gradient_energy(plane).tolist() == [3**2 + 2**2]


def test_half_precision_is_measured_in_single():
    output, target = images((1, 1, 20, 20), 1.0)
    assert psnr(output.half(), target.half()).dtype == torch.float32


def test_bright_flat_areas_cost_ssim_no_digits():
    """Variances as differences of float32 are off by 3e-5 there."""
    random = torch.Generator().manual_seed(0)
    target = 0.95 + 0.002 * torch.randn(1, 3, 64, 64, generator=random)
    output = target + 0.002 * torch.randn(1, 3, 64, 64, generator=random)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(
        output[0].double().numpy(), target[0].double().numpy(), channel_axis=0, data_range=1, **settings
    )
    assert ssim(output, target).item() == pytest.approx(expected, abs=1e-9)


def test_large_images_are_compared_in_strips(monkeypatch: pytest.MonkeyPatch):
    output, target = images((2, 3, 190, 181), 1.0)
    whole = [metric(output, target) for metric in (ssim, ms_ssim)]
    monkeypatch.setattr("i2i.metrics.image.WIDENED_AT_ONCE", 6 * 181 * 23)
    for metric, expected in zip((ssim, ms_ssim), whole, strict=True):
        torch.testing.assert_close(metric(output, target), expected, rtol=0, atol=1e-13)


def test_pairs_are_measured_one_by_one_and_those_without_a_figure_left_out():
    output, truth = (2 * part - 1 for part in images((3, 3, 20, 20), 1.0))
    truth[1], output[2] = 0.3, truth[2]
    found = pair_figures(output, truth, names=("psnr", "l1", "sharpness"))
    expected = [
        peak_signal_noise_ratio(t.numpy(), o.numpy(), data_range=2) for o, t in zip(output[:2], truth[:2], strict=True)
    ]
    assert found["psnr"].tolist() == pytest.approx([*expected, math.inf])
    assert found["l1"].tolist() == pytest.approx(((output - truth).abs() / 2).mean((1, 2, 3)).tolist())
    energies = [laplacian_energy(part).tolist() for part in (output, truth)]
    assert found["sharpness"][0].item() == pytest.approx(energies[0][0] / energies[1][0])
    assert math.isnan(found["sharpness"][1]) and found["sharpness"][2] == 1
    large = images((2, 3, 180, 176), 1.0)
    both = pair_figures(*(2 * part - 1 for part in large), names=("ssim", "ms_ssim"))
    for name, metric in (("ssim", ssim), ("ms_ssim", ms_ssim)):
        torch.testing.assert_close(both[name], metric(*large))
    luminance = pair_figures(output, truth, names=("l1",), y_channel=True)["l1"]
    brightness = [rgb2ycbcr((part.numpy() + 1) / 2, channel_axis=1)[:, :1] / 255 for part in (output, truth)]
    assert luminance.tolist() == pytest.approx(np.abs(brightness[0] - brightness[1]).mean((1, 2, 3)).tolist())
    means = {name: mean_of_pairs(values.tolist()) for name, values in found.items()}
    assert means["psnr"] == pytest.approx(np.mean(expected))
    assert means["sharpness"] == pytest.approx((energies[0][0] / energies[1][0] + 1) / 2)
    metrics = paired_metrics(output, truth)
    assert metrics["psnr"] == means["psnr"] and metrics["sharpness"] == means["sharpness"]
    assert mean_of_pairs(found["psnr"][2:].tolist()) == math.inf and math.isnan(
        mean_of_pairs(found["sharpness"][1:2].tolist())
    )


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="11 by 11"):
        ssim(torch.zeros(1, 3, 10, 30), torch.zeros(1, 3, 10, 30))
    with pytest.raises(InputError, match="3 by 3"):
        laplacian_energy(torch.zeros(3, 8, 8))
    with pytest.raises(InputError, match="2 by 2"):
        gradient_energy(torch.zeros(1, 3, 1, 8))
    with pytest.raises(InputError, match="border of 4 px leaves nothing"):
        psnr(torch.zeros(1, 3, 8, 20), torch.zeros(1, 3, 8, 20), crop_border=4)
    with pytest.raises(InputError, match="11 by 11"):
        ssim(torch.zeros(1, 3, 18, 18), torch.zeros(1, 3, 18, 18), crop_border=4)
    with pytest.raises(InputError, match=r"RGB images .*\(1, 1, 8, 8\)"):
        psnr(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), y_channel=True)


def test_ssim_can_be_a_loss() -> None:
    """Where gradients are wanted, torch computes it, as on GPUs: the same to the last digits, and derivatives fit."""
    prediction, target = torch.rand(2, 3, 180, 190).double(), torch.rand(2, 3, 180, 190).double()
    target = 0.7 * prediction + 0.3 * target
    step = 1e-6 * torch.randn_like(prediction)
    leaf = prediction.clone().requires_grad_()
    for measure in (ssim, ms_ssim):
        value = measure(leaf, target)
        torch.testing.assert_close(value.detach(), measure(prediction, target), rtol=1e-12, atol=0)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        change = (measure(prediction + step, target) - measure(prediction - step, target)).sum().item() / 2
        assert change == pytest.approx((gradient * step).sum().item(), rel=1e-4)
