"""Random blur kernels of cameras and of image processing (Wang et al. 2021, section 3), and the blur itself."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(count: int, limits: tuple[float, float]) -> Tensor:
    """(count,) numbers between the limits, from torch's global generator on the CPU."""
    low, high = limits
    return low + (high - low) * torch.rand(count)


def draw_kernels(
    count: int,
    *,
    kernel_weights: tuple[float, ...],
    kernel_px: tuple[int, int],
    sigma_px: tuple[float, float],
    generalised_beta: tuple[float, float],
    plateau_beta: tuple[float, float],
) -> Tensor:
    """Random kernels of the six shapes (section 3.1): (count, K, K) on the CPU, with K the largest of `kernel_px`.

    The arguments are those of `i2i.data.degrade.Degradation`.
    """
    shape = torch.multinomial(torch.tensor(kernel_weights, dtype=torch.float), count, replacement=True)
    isotropic, family = shape % 2 == 0, shape // 2  # 0: Gaussian, 1: generalised, 2: plateau
    sigma_x, sigma_y = uniform(count, sigma_px), uniform(count, sigma_px)
    generalised, plateau = _around_one(count, generalised_beta), _around_one(count, plateau_beta)
    return gaussian_kernels(
        sizes_px=_draw_sizes(count, kernel_px),
        largest_px=kernel_px[1],
        sigma_px=torch.stack([sigma_x, torch.where(isotropic, sigma_x, sigma_y)], dim=1),
        angle=uniform(count, (-math.pi, math.pi)),
        beta=torch.where(family == 0, 1.0, torch.where(family == 1, generalised, plateau)),
        plateau=family == 2,
    )


def draw_sinc_kernels(count: int, *, kernel_px: tuple[int, int], long_from: float) -> Tensor:
    """Random sinc kernels (section 3.3): (count, K, K) on the CPU, with K the largest of `kernel_px`.

    long_from: the lowest cutoff of kernels of 13 px and more; that of smaller ones is π/3, and the highest is π.
    """
    sizes_px = _draw_sizes(count, kernel_px)
    lowest = torch.where(sizes_px < 13, math.pi / 3, long_from)
    cutoff = lowest + (math.pi - lowest) * torch.rand(count)
    return sinc_kernels(sizes_px=sizes_px, largest_px=kernel_px[1], cutoff=cutoff)


def gaussian_kernels(
    *, sizes_px: Tensor, largest_px: int, sigma_px: Tensor, angle: Tensor, beta: Tensor, plateau: Tensor
) -> Tensor:
    """Gaussian kernels, generalised ones and plateaus: exp(−d^β / 2) or 1 / (1 + d^β), where d = xᵀ Σ⁻¹ x.

    Args:
        sizes_px: (N,), odd; what lies outside is 0.
        largest_px: K, odd.
        sigma_px: (N, 2), deviations along the two axes of the ellipse; Σ holds their squares.
        angle: (N,) in radians, from the columns' axis to the ellipse's first one, downwards.
        beta: (N,); 1 makes a Gaussian.
        plateau: (N,), bool.

    Returns:
        (N, K, K), each with the sum 1.
    """
    x, y = _grid(largest_px)
    cos, sin = torch.cos(angle).double()[:, None, None], torch.sin(angle).double()[:, None, None]
    along, across = (x * cos + y * sin), (y * cos - x * sin)
    sigma = sigma_px.double()[:, :, None, None]
    distance = ((along / sigma[:, 0]) ** 2 + (across / sigma[:, 1]) ** 2) ** beta.double()[:, None, None]
    values = torch.where(plateau[:, None, None], 1 / (1 + distance), torch.exp(-distance / 2))
    return _cut(values, sizes_px)


def sinc_kernels(*, sizes_px: Tensor, largest_px: int, cutoff: Tensor) -> Tensor:
    """Ideal low-pass filters of a circle of frequencies, which ring and overshoot (equation 6).

    k(r) = ω J₁(ω r) / (2π r), with ω the cutoff and J₁ the Bessel function of the first kind.

    Args:
        sizes_px: (N,), odd; what lies outside is 0.
        largest_px: K, odd.
        cutoff: (N,) in radians per pixel, up to π.

    Returns:
        (N, K, K), each with the sum 1.
    """
    x, y = _grid(largest_px)
    radius = torch.hypot(x, y)
    omega = cutoff.double()[:, None, None]
    elsewhere = omega * torch.special.bessel_j1(omega * radius) / (2 * math.pi * radius)
    return _cut(torch.where(radius == 0, omega**2 / (4 * math.pi), elsewhere), sizes_px)


def pulse(size_px: int) -> Tensor:
    """(K, K), the kernel that changes nothing; K is odd."""
    kernel = torch.zeros(size_px, size_px)
    kernel[size_px // 2, size_px // 2] = 1
    return kernel


def blur(images: Tensor, kernels: Tensor) -> Tensor:
    """Each image correlated with its own kernel, the border mirrored about the outermost pixels.

    images: (N, C, H, W) of any size.
    kernels: (N, K, L), K and L odd.
    """
    count, channels = images.shape[:2]
    padded = _mirrored(_mirrored(images, kernels.shape[1] // 2, dim=2), kernels.shape[2] // 2, dim=3)
    planes = padded.reshape(1, count * channels, *padded.shape[2:])
    weights = kernels.to(images).repeat_interleave(channels, dim=0).unsqueeze(1)
    # Measured on a CPU: as fast as through the Fourier transform at 256 px, and faster at 384.
    return F.conv2d(planes, weights, groups=count * channels).view_as(images)


def _mirrored(images: Tensor, reach: int, *, dim: int) -> Tensor:
    """`F.pad(mode="reflect")` along one dimension, for images smaller than the reach too."""
    length = images.shape[dim]
    period = max(2 * length - 2, 1)
    places = torch.arange(-reach, length + reach, device=images.device).remainder(period)
    return images.index_select(dim, torch.minimum(places, period - places))


def _draw_sizes(count: int, kernel_px: tuple[int, int]) -> Tensor:
    smallest, largest = kernel_px
    return smallest + 2 * torch.randint((largest - smallest) // 2 + 1, (count,))


def _around_one(count: int, limits: tuple[float, float]) -> Tensor:
    """As often below 1 as above."""
    low, high = limits
    return torch.where(torch.rand(count) < 0.5, uniform(count, (low, 1)), uniform(count, (1, high)))


def _grid(size_px: int) -> tuple[Tensor, Tensor]:
    """Distances from the centre along the columns' and the rows' axis, (K, K) each."""
    places = torch.arange(size_px, dtype=torch.float64) - size_px // 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    return x, y


def _cut(values: Tensor, sizes_px: Tensor) -> Tensor:
    x, y = _grid(values.shape[-1])
    inside = torch.maximum(x.abs(), y.abs()) <= (sizes_px // 2)[:, None, None]
    kernels = torch.where(inside, values, 0.0)
    return (kernels / kernels.sum(dim=(1, 2), keepdim=True)).float()
