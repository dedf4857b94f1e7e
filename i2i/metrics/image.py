"""How near pictures are to the truth, and how much detail they have: (N, C, H, W) in, one number each out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError


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


def psnr(output: Tensor, target: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio over all pixels and channels.

    Args:
        output, target: (N, C, H, W).
        data_range: largest minus smallest value possible (1 for images in [0, 1], 2 for [-1, 1]).

    Returns:
        (N,) in dB; infinite for equal images.

    Raises:
        InputError: the shapes differ.
    """
    output, target = _comparable(output, target)
    mean_squared_error = (output - target).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(data_range**2 / mean_squared_error)


def ssim(output: Tensor, target: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity (Wang et al. 2004, eq. 13), mean over channels and every whole 11×11 window.

    The windows are Gaussian with a standard deviation of 1.5 px; K1 = 0.01, K2 = 0.03; no padding. These are
    the numbers of scikit-image with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.
    torchmetrics treats the border otherwise, which moves the third decimal: hence not from there.

    Args:
        output, target: (N, C, H, W), at least 11×11, in [0, data_range]: an offset changes the result.
        data_range: largest minus smallest value possible.

    Returns:
        (N,), 1 for equal images.

    Raises:
        InputError: the shapes differ, or a side is shorter than 11.
    """
    output, target = _comparable(output, target)
    if min(output.shape[-2:]) < 11:
        raise InputError(f"SSIM needs images of at least 11 by 11 pixels, got {tuple(output.shape)}")
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (
        _gaussian_mean(image) for image in (output, target, output**2, target**2, output * target)
    )
    variance_x = mean_xx - mean_x**2
    variance_y = mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return similarity.mean(dim=(1, 2, 3))


def laplacian_energy(image: Tensor) -> Tensor:
    """Mean squared response of the 4-neighbour Laplacian on the mean of the channels: low where blurred.

    Args:
        image: (N, C, H, W), at least 3×3, any range.

    Returns:
        (N,), in squared units of the image.

    Raises:
        InputError: not (N, C, H, W), or a side is shorter than 3.
    """
    if image.ndim != 4 or min(image.shape[-2:]) < 3:
        raise InputError(f"expected images (N, C, H, W) of at least 3 by 3 pixels, got {tuple(image.shape)}")
    grey = _at_least_float32(image).mean(dim=1)
    centre = grey[:, 1:-1, 1:-1]
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (neighbours - 4 * centre).square().mean(dim=(1, 2))


def paired_metrics(output: Tensor, target: Tensor) -> dict[str, float]:
    """How near outputs come to the truth, each figure the mean over images.

    Args:
        output, target: (N, C, H, W) in [-1, 1].

    Returns:
        psnr: dB. ssim: at most 1. l1: mean absolute difference as a share of the whole range.
        sharpness: Laplacian energy next to the truth's; 1 is as sharp, below 1 blurred, above 1 noisy.
    """
    energy = laplacian_energy(output) / laplacian_energy(target).clamp(min=1e-8)
    return {
        "psnr": psnr(output, target, data_range=2.0).mean().item(),
        "ssim": ssim((output + 1) / 2, (target + 1) / 2).mean().item(),
        "l1": l1(output, target).mean().item() / 2,
        "sharpness": energy.mean().item(),
    }


def _gaussian_mean(image: Tensor) -> Tensor:
    """Weighted mean of each whole 11×11 window: (N, C, H, W) to (N, C, H - 10, W - 10)."""
    offsets = torch.arange(-5, 6, device=image.device, dtype=image.dtype)
    weights = torch.exp(-(offsets**2) / (2 * 1.5**2))
    weights = weights / weights.sum()
    planes = image.flatten(0, 1).unsqueeze(1)
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes.squeeze(1).unflatten(0, image.shape[:2])


def _comparable(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if output.ndim != 4 or output.shape != target.shape:
        raise InputError(
            "expected two batches of images of one shape (N, C, H, W), "
            f"got {tuple(output.shape)} and {tuple(target.shape)}"
        )
    return _at_least_float32(output), _at_least_float32(target)


def _at_least_float32(image: Tensor) -> Tensor:
    return image if image.dtype == torch.float64 else image.float()
