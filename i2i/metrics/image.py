"""How near pictures are to the truth, and how much detail they have: (N, C, H, W) in, one number each out."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError

WINDOW_PX, WINDOW_DEVIATION_PX = 11, 1.5
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Whole windows at the coarsest scale, too.
MS_SSIM_SMALLEST_PX = WINDOW_PX * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
# Numbers of images that SSIM looks at together in float64. With fewer, threads that compare images would wait for each
# other at every small step; a whole photo of 12 megapixels would take gigabytes.
WIDENED_AT_ONCE = 1 << 18
# Mean squared Laplacian of an image without detail.
FLAT = 1e-8

PairMetric = Literal["psnr", "ssim", "ms_ssim", "l1", "lpips", "sharpness"]


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference, in the units of the images.

    Args:
        output, target: (N, C, H, W), any range.

    Returns:
        (N,), at least 0.

    Raises:
        InputError: the shapes differ.
    """
    output, target = _comparable(output, target)
    return (output - target).abs().mean(dim=(1, 2, 3))


def psnr(
    prediction: Tensor, target: Tensor, *, data_range: float = 1.0, crop_border: int = 0, y_channel: bool = False
) -> Tensor:
    """Peak signal-to-noise ratio over all pixels and channels.

    Published figures of super-resolution are those of `y_channel` and a `crop_border` of as many pixels as the scale,
    with images rounded to 8 bits first.

    Args:
        prediction, target: (N, C, H, W).
        data_range: largest minus smallest value possible (1 for images in [0, 1], 2 for [-1, 1]).
        crop_border: so many pixels at each border are left out.
        y_channel: compare `luma` of RGB images in [0, data_range].

    Returns:
        (N,) in dB; infinite for equal images.

    Raises:
        InputError: the shapes differ, nothing is left within the border, or luma is asked of other than RGB images.
    """
    prediction, target = _comparable(
        prediction, target, data_range=data_range, crop_border=crop_border, y_channel=y_channel
    )
    mean_squared_error = (prediction - target).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(data_range**2 / mean_squared_error)


def ssim(
    prediction: Tensor, target: Tensor, *, data_range: float = 1.0, crop_border: int = 0, y_channel: bool = False
) -> Tensor:
    """Structural similarity (Wang et al. 2004, eq. 13), mean over channels and every whole 11×11 window.

    The windows are Gaussian with a standard deviation of 1.5 px; K1 = 0.01, K2 = 0.03; no padding. These are
    the numbers of scikit-image with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.
    torchmetrics treats the border otherwise, which moves the third decimal: hence not from there.

    Args:
        prediction, target: (N, C, H, W), at least 11×11 within the border, in [0, data_range]: an offset changes the
            result.
        data_range, crop_border, y_channel: as for `psnr`.

    Returns:
        (N,) float64 (float32 on Apple's GPUs), 1 for equal images.

    Raises:
        InputError: the shapes differ, a side is shorter than 11, or luma is asked of other than RGB images.
    """
    prediction, target = _comparable(
        prediction, target, data_range=data_range, crop_border=crop_border, y_channel=y_channel
    )
    if min(prediction.shape[-2:]) < WINDOW_PX:
        raise InputError(f"SSIM needs images of at least 11 by 11 pixels, got {tuple(prediction.shape)}")
    similarity, _ = _similarity(prediction, target, data_range=data_range)
    return similarity.mean(dim=1)


def ms_ssim(
    prediction: Tensor, target: Tensor, *, data_range: float = 1.0, crop_border: int = 0, y_channel: bool = False
) -> Tensor:
    """Structural similarity over five scales (Wang, Simoncelli, Bovik 2003, eq. 7), mean over channels.

        l₅^β₅ · Π cs_j^β_j, with β = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333

    Each scale is the mean of 2×2 pixels of the one before, without the last row or column where their number is odd.
    Its windows and constants are those of `ssim`. Where a scale's structures are opposed (cs_j < 0), the result is 0.

    Args:
        prediction, target: (N, C, H, W), at least 176×176 within the border, in [0, data_range].
        data_range, crop_border, y_channel: as for `psnr`.

    Returns:
        (N,), of the type that `ssim` has, 1 for equal images.

    Raises:
        InputError: the shapes differ, a side is shorter than 176, or luma is asked of other than RGB images.
    """
    prediction, target = _comparable(
        prediction, target, data_range=data_range, crop_border=crop_border, y_channel=y_channel
    )
    return _ssim_and_ms_ssim(prediction, target, data_range=data_range)[1]


def luma(images: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Brightness as MATLAB's `rgb2ycbcr` has it, with footroom and headroom (ITU-R BT.601), not rounded.

    Args:
        images: (N, 3, H, W), RGB in [0, data_range].

    Returns:
        (N, 1, H, W) in [16/255, 235/255] · data_range.

    Raises:
        InputError: other than three channels.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"luma is that of RGB images (N, 3, H, W), got {tuple(images.shape)}: compare all channels")
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=images.dtype, device=images.device) / 255
    return torch.einsum("nchw,c->nhw", images, weights)[:, None] + data_range * 16 / 255


def laplacian_energy(image: Tensor) -> Tensor:
    """Mean squared response of the 4-neighbour Laplacian on the mean of the channels: low where blurred.

    Args:
        image: (N, C, H, W), at least 3×3, any range.

    Returns:
        (N,), in squared units of the image.

    Raises:
        InputError: not (N, C, H, W), or a side is shorter than 3.
    """
    grey = _mean_of_channels(image, smallest_px=3)
    centre = grey[:, 1:-1, 1:-1]
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (neighbours - 4 * centre).square().mean(dim=(1, 2))


def gradient_energy(image: Tensor) -> Tensor:
    """Mean squared difference of neighbours, to the right and below, on the mean of the channels: low where blurred.

    Args:
        image: (N, C, H, W), at least 2×2, any range.

    Returns:
        (N,), in squared units of the image.

    Raises:
        InputError: not (N, C, H, W), or a side is shorter than 2.
    """
    grey = _mean_of_channels(image, smallest_px=2)
    return grey.diff(dim=1).square().mean(dim=(1, 2)) + grey.diff(dim=2).square().mean(dim=(1, 2))


def pair_figures(
    output: Tensor,
    truth: Tensor,
    *,
    names: Sequence[PairMetric],
    y_channel: bool = False,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Each pair's figures, as training and evaluation have them.

    Args:
        output, truth: (N, C, H, W) in [-1, 1].
        names: which ones.
        y_channel: psnr, ssim, ms_ssim and l1 are those of `luma`.
        lpips: what measures it, of both images; needed for "lpips" alone.

    Returns:
        By name (N,). psnr: dB, infinite for equal images. ssim, ms_ssim: at most 1. l1: mean absolute difference as a
        share of the whole range. sharpness: Laplacian energy next to the truth's; 1 is as sharp, below 1 blurred, above
        1 noisy, NaN where the truth has no detail.

    Raises:
        InputError: as the functions of this file do.
    """
    shares = [(image + 1) / 2 for image in (output, truth)]
    if y_channel:
        shares = [luma(share) for share in shares]
    both = _ssim_and_ms_ssim(*shares) if "ms_ssim" in names else None
    figures: dict[str, Tensor] = {}
    for name in names:
        match name:
            case "psnr":
                figures[name] = psnr(*shares)
            case "ssim":
                figures[name] = ssim(*shares) if both is None else both[0]
            case "ms_ssim":
                assert both is not None
                figures[name] = both[1]
            case "l1":
                figures[name] = l1(*shares)
            case "lpips":
                assert lpips is not None
                figures[name] = lpips(output, truth)
            case "sharpness":
                energy, of_truth = laplacian_energy(output), laplacian_energy(truth)
                figures[name] = torch.where(of_truth > FLAT, energy / of_truth, torch.nan)
    return figures


def mean_of_pairs(values: Sequence[float]) -> float:
    """The mean of one of the figures that `pair_figures` gave, of all pairs that have it.

    Those that have none (NaN) are left out, and equal images, whose psnr is infinite; unless all pairs are such.
    """
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        return math.fsum(finite) / len(finite)
    return math.inf if math.inf in values else math.nan


def paired_metrics(output: Tensor, target: Tensor) -> dict[str, float]:
    """How near outputs come to the truth: psnr, ssim, l1 and sharpness as `pair_figures`, the means over images.

    Args:
        output, target: (N, C, H, W) in [-1, 1].
    """
    figures = pair_figures(output, target, names=("psnr", "ssim", "l1", "sharpness"))
    return {name: mean_of_pairs(values.tolist()) for name, values in figures.items()}


def _ssim_and_ms_ssim(prediction: Tensor, target: Tensor, *, data_range: float = 1.0) -> tuple[Tensor, Tensor]:
    """Both (N,), for the first is found on the way to the second."""
    if min(prediction.shape[-2:]) < MS_SSIM_SMALLEST_PX:
        raise InputError(
            f"MS-SSIM needs images of at least {MS_SSIM_SMALLEST_PX} by {MS_SSIM_SMALLEST_PX} pixels for its five "
            f"scales, got {tuple(prediction.shape)}"
        )
    scales = []
    for _ in MS_SSIM_WEIGHTS:
        scales.append(_similarity(prediction, target, data_range=data_range))
        prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
    factors = [structure for _, structure in scales[:-1]] + [scales[-1][0]]
    product = torch.ones_like(factors[0])
    for factor, weight in zip(factors, MS_SSIM_WEIGHTS, strict=True):
        product = product * factor.clamp(min=0) ** weight
    return scales[0][0].mean(dim=1), product.mean(dim=1)


def _similarity(prediction: Tensor, target: Tensor, *, data_range: float) -> tuple[Tensor, Tensor]:
    """Means over all windows (N, C): of SSIM, and of its factor for contrast and structure alone."""
    together = max(1, WIDENED_AT_ONCE // (prediction.shape[2] * prediction.shape[3]))
    parts = [
        _similarity_of_planes(x, y, data_range=data_range)
        for x, y in zip(*(images.flatten(0, 1).split(together) for images in (prediction, target)), strict=True)
    ]
    similarity, structure = torch.cat(parts, dim=1).unflatten(1, prediction.shape[:2])
    return similarity, structure


def _similarity_of_planes(prediction: Tensor, target: Tensor, *, data_range: float) -> Tensor:
    """The two means (2, N) of single channels (N, H, W), some rows at a time."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    rows, columns = (side - WINDOW_PX + 1 for side in prediction.shape[1:])
    strip = max(WINDOW_PX, WIDENED_AT_ONCE // prediction.shape[2])
    sums = []
    for top in range(0, rows, strip):
        x, y = (_exact(planes[:, top : top + strip + WINDOW_PX - 1]) for planes in (prediction, target))
        # Of both variances only the sum counts.
        means = _gaussian_mean(torch.cat([x, y, x * x + y * y, x * y]))
        mean_x, mean_y, mean_squares, mean_product = means.unflatten(0, (4, -1))
        squares, product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
        luminance = (2 * product + c1) / (squares + c1)
        structure = (2 * (mean_product - product) + c2) / (mean_squares - squares + c2)
        sums.append(torch.stack([(luminance * structure).sum((1, 2)), structure.sum((1, 2))]))
    return torch.stack(sums).sum(0) / (rows * columns)


def _exact(image: Tensor) -> Tensor:
    """In float64 where the device knows it: in float32, variances as differences cost the fourth digit of SSIM."""
    return image if image.device.type == "mps" else image.double()


def _gaussian_mean(planes: Tensor) -> Tensor:
    """Weighted mean of each whole 11×11 window: (N, H, W) to (N, H - 10, W - 10)."""
    if planes.device.type == "cpu" and not planes.requires_grad:
        # A quarter of the time, and one step for which threads need not wait for each other.
        blurred = [cv2.GaussianBlur(plane, (WINDOW_PX, WINDOW_PX), WINDOW_DEVIATION_PX) for plane in planes.numpy()]
        border = WINDOW_PX // 2
        return torch.from_numpy(np.stack(blurred)[:, border:-border, border:-border])
    return _gaussian_mean_on_any_device(planes)


def _gaussian_mean_on_any_device(planes: Tensor) -> Tensor:
    offsets = torch.arange(-(WINDOW_PX // 2), WINDOW_PX // 2 + 1, device=planes.device, dtype=planes.dtype)
    weights = torch.exp(-(offsets**2) / (2 * WINDOW_DEVIATION_PX**2))
    # Not by convolution: GPUs round what goes into one to 10 bits, which variances as differences cannot bear.
    for dim in (1, 2):
        length = planes.shape[dim] - WINDOW_PX + 1
        mean = torch.zeros_like(planes.narrow(dim, 0, length))
        for first, weight in enumerate((weights / weights.sum()).tolist()):
            mean = mean.add_(planes.narrow(dim, first, length), alpha=weight)
        planes = mean
    return planes


def _mean_of_channels(image: Tensor, *, smallest_px: int) -> Tensor:
    """(N, C, H, W) to (N, H, W), in at least float32."""
    if image.ndim != 4 or min(image.shape[-2:]) < smallest_px:
        raise InputError(
            f"expected images (N, C, H, W) of at least {smallest_px} by {smallest_px} pixels, got {tuple(image.shape)}"
        )
    return _at_least_float32(image).mean(dim=1)


def _comparable(
    output: Tensor, target: Tensor, *, data_range: float = 1.0, crop_border: int = 0, y_channel: bool = False
) -> tuple[Tensor, Tensor]:
    if output.ndim != 4 or output.shape != target.shape:
        raise InputError(
            "expected two batches of images of one shape (N, C, H, W), "
            f"got {tuple(output.shape)} and {tuple(target.shape)}"
        )
    if crop_border < 0 or min(output.shape[-2:]) <= 2 * crop_border:
        raise InputError(f"a border of {crop_border} px leaves nothing of images {tuple(output.shape)}; crop less")
    inner = slice(crop_border, -crop_border or None)
    output, target = (_at_least_float32(image[..., inner, inner]) for image in (output, target))
    return (luma(output, data_range=data_range), luma(target, data_range=data_range)) if y_channel else (output, target)


def _at_least_float32(image: Tensor) -> Tensor:
    return image if image.dtype == torch.float64 else image.float()
