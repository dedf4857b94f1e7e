"""Bad photos from good ones: the second-order degradations of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833).

All is computed on the device that the images lie on, a batch at once. Random numbers come from torch's global
generators, so that seeding them repeats a result: the settings of each step are drawn on the CPU and so are the same on
every device, the noise itself on the images' device.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.data.degrade_blur import blur, draw_kernels, draw_sinc_kernels, pulse, uniform
from i2i.data.degrade_codecs import YCBCR, h264, jpeg
from i2i.errors import InputError

Range = tuple[float, float]
RESIZES = ("area", "bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """What may befall an image on its way from the camera to the person who wants it restored.

    The defaults are those that Real-ESRGAN ×4 was trained with. Images are blurred, resized, made noisy and saved as
    JPEG; then all of it once more, by the settings that begin with `second_`; then comes a sinc filter, before or after
    the last JPEG. Ranges are (lowest, highest), and values in them equally likely.

    Attributes:
        kernel_weights: how often a blur is iso, aniso, generalised_iso, generalised_aniso, plateau_iso, plateau_aniso;
            as shares of their sum.
        kernel_px: smallest and largest side of all kernels, odd.
        sinc_probability: of a sinc kernel, which rings, in place of those six.
        generalised_beta: exponents of generalised Gaussians; as often below 1, which is a Gaussian, as above.
        plateau_beta: exponents of plateaus, likewise.
        sigma_px: deviations of the blur along either axis.
        resize_weights: how often to enlarge, to shrink and to keep the size.
        resize_range: factors of the size: up to 1 to shrink, from 1 on to enlarge.
        gaussian_probability: of Gaussian noise; else it is Poisson noise.
        gaussian_levels: deviations of Gaussian noise in levels of 255.
        poisson_scale: what Poisson noise is multiplied by.
        grey_noise_probability: of noise that is the same in all channels.
        jpeg_probability: of being saved as JPEG, each time.
        jpeg_quality: of JPEG, between 1 and 100.
        second_blur_probability: of a second blur; the first one is certain.
        second_sigma_px: as `sigma_px`.
        second_resize_weights: as `resize_weights`.
        second_resize_range: as `resize_range`, here of the size that the result will have.
        second_gaussian_levels: as `gaussian_levels`.
        second_poisson_scale: as `poisson_scale`.
        second_jpeg_quality: as `jpeg_quality`.
        final_sinc_probability: of the last sinc filter.
        h264_probability: of being a frame of an H.264 video in the end, which is slow: some 2 ms an image of 64 px.
        h264_crf: its rate factors: 0 is nearly lossless, 51 the worst.

    Raises:
        InputError: a value out of its bounds.
    """

    kernel_weights: tuple[float, float, float, float, float, float] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    kernel_px: tuple[int, int] = (7, 21)
    sinc_probability: float = 0.1
    generalised_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    sigma_px: Range = (0.2, 3.0)
    resize_weights: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    gaussian_probability: float = 0.5
    gaussian_levels: Range = (1.0, 30.0)
    poisson_scale: Range = (0.05, 3.0)
    grey_noise_probability: float = 0.4
    jpeg_probability: float = 1.0
    jpeg_quality: Range = (30.0, 95.0)
    second_blur_probability: float = 0.8
    second_sigma_px: Range = (0.2, 1.5)
    second_resize_weights: tuple[float, float, float] = (0.3, 0.4, 0.3)
    second_resize_range: Range = (0.3, 1.2)
    second_gaussian_levels: Range = (1.0, 25.0)
    second_poisson_scale: Range = (0.05, 2.5)
    second_jpeg_quality: Range = (30.0, 95.0)
    final_sinc_probability: float = 0.8
    h264_probability: float = 0.0
    h264_crf: Range = (20.0, 36.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            fault = _fault(field.name.removeprefix("second_"), getattr(self, field.name))
            if fault:
                raise InputError(f"{field.name}: expected {fault}, got {getattr(self, field.name)}")


def _fault(name: str, value: Any) -> str | None:
    """What a setting should have been, if it is not that."""
    match name.rpartition("_")[2]:
        case "probability":
            return None if 0 <= value <= 1 else "a probability between 0 and 1"
        case "weights":
            fine = all(0 <= weight < math.inf for weight in value) and sum(value) > 0
            return None if fine else "weights of 0 or more, not all of them 0"
    low, high = value
    match name:
        case "kernel_px":
            return None if 1 <= low <= high and low % 2 == high % 2 == 1 else "two odd sizes, the smaller one first"
        case "generalised_beta" | "plateau_beta" | "resize_range":
            return None if 0 < low <= 1 <= high < math.inf else "a range around 1 that begins above 0"
        case "sigma_px":
            return None if 0 < low <= high < math.inf else "a range above 0, the lower end first"
        case "jpeg_quality":
            return None if 1 <= low <= high <= 100 else "a range between 1 and 100, the lower end first"
        case "h264_crf":
            return None if 0 <= low <= high <= 51 else "a range between 0 and 51, the lower end first"
        case _:
            return None if 0 <= low <= high < math.inf else "a range of 0 or more, the lower end first"


@torch.no_grad()
def degrade(targets: Tensor, *, scale: int, settings: Degradation) -> Tensor:
    """Degrade images and shrink them.

    Each image has a blur, noise and JPEG quality of its own. The factors and ways of resizing, and whether the last
    JPEG comes before or after the last resizing, are the batch's; `PairPool` mixes batches.

    Args:
        targets: (N, C, H, W) in [0, 1], with any number of channels; H and W multiples of `scale`. Other than three
            channels are saved as JPEG one by one.
        scale: how many times smaller the result is along either side.
        settings: what is done, how often and how much.

    Returns:
        (N, C, H / scale, W / scale) in [0, 1], float32, of 8 bits.

    Raises:
        InputError: images of another shape or kind, or a scale below 1.
    """
    if targets.ndim != 4 or not targets.is_floating_point() or 0 in targets.shape:
        raise InputError(f"expected images (N, C, H, W) of floats, got {targets.dtype} {tuple(targets.shape)}")
    height, width = targets.shape[2:]
    if scale < 1 or height % scale or width % scale:
        raise InputError(
            f"expected a scale of 1 or more and images whose sides are multiples of it, got scale {scale} and "
            f"{height} by {width} px; crop the images"
        )
    size = (height // scale, width // scale)
    with torch.autocast(targets.device.type, enabled=False):
        images = blur(targets.float(), _draw_blur(len(targets), settings, probability=1.0, sigma_px=settings.sigma_px))
        factor = _draw_factor(settings.resize_weights, settings.resize_range)
        images = _resize(images, (int(height * factor), int(width * factor)))
        images = _add_noise(
            images, settings, gaussian_levels=settings.gaussian_levels, poisson_scale=settings.poisson_scale
        )
        images = _save_as_jpeg(images, settings, quality=settings.jpeg_quality)

        kernels = _draw_blur(
            len(images), settings, probability=settings.second_blur_probability, sigma_px=settings.second_sigma_px
        )
        images = blur(images, kernels)
        factor = _draw_factor(settings.second_resize_weights, settings.second_resize_range)
        images = _resize(images, (int(size[0] * factor), int(size[1] * factor)))
        images = _add_noise(
            images,
            settings,
            gaussian_levels=settings.second_gaussian_levels,
            poisson_scale=settings.second_poisson_scale,
        )
        if torch.rand(()) < 0.5:
            images = blur(_resize(images, size), _draw_final_sinc(len(images), settings))
            images = _save_as_jpeg(images, settings, quality=settings.second_jpeg_quality)
        else:
            images = _save_as_jpeg(images, settings, quality=settings.second_jpeg_quality)
            images = blur(_resize(images, size), _draw_final_sinc(len(images), settings))
        images = (images * 255).round().clamp(0, 255) / 255
        filmed = torch.rand(len(images)) < settings.h264_probability
        if filmed.any():
            images[filmed] = h264(images[filmed], crf=uniform(len(images), settings.h264_crf)[filmed])
    return images


def _draw_blur(count: int, settings: Degradation, *, probability: float, sigma_px: Range) -> Tensor:
    """Kernels (count, K, K), those of images that are not to be blurred a pulse."""
    kernels = draw_kernels(
        count,
        kernel_weights=settings.kernel_weights,
        kernel_px=settings.kernel_px,
        sigma_px=sigma_px,
        generalised_beta=settings.generalised_beta,
        plateau_beta=settings.plateau_beta,
    )
    sincs = draw_sinc_kernels(count, kernel_px=settings.kernel_px, long_from=math.pi / 5)
    kernels = _choose(sincs, kernels, probability=settings.sinc_probability)
    return _choose(kernels, pulse(settings.kernel_px[1]), probability=probability)


def _draw_final_sinc(count: int, settings: Degradation) -> Tensor:
    sincs = draw_sinc_kernels(count, kernel_px=settings.kernel_px, long_from=math.pi / 3)
    return _choose(sincs, pulse(settings.kernel_px[1]), probability=settings.final_sinc_probability)


def _choose(these: Tensor, others: Tensor, *, probability: float) -> Tensor:
    """For each item of a batch one of `these` with the probability, else of `others`."""
    chosen = torch.rand(len(these)) < probability
    return torch.where(chosen.to(these.device).view(-1, *[1] * (these.ndim - 1)), these, others)


def _draw_factor(weights: tuple[float, float, float], limits: Range) -> float:
    low, high = limits
    match int(torch.multinomial(torch.tensor(weights, dtype=torch.float), 1)):
        case 0:
            return float(uniform(1, (1, high)))
        case 1:
            return float(uniform(1, (low, 1)))
        case _:
            return 1.0


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """To the size, at least one pixel, in one of three ways, of which two alias where they shrink, as published."""
    mode = RESIZES[int(torch.randint(len(RESIZES), ()))]
    return F.interpolate(images, size=(max(size[0], 1), max(size[1], 1)), mode=mode)


def _add_noise(images: Tensor, settings: Degradation, *, gaussian_levels: Range, poisson_scale: Range) -> Tensor:
    """Noise of either kind, of its own for each image; the result lies in [0, 1]."""
    images = images.clamp(0, 1)
    count = len(images)
    gaussian = (torch.rand(count) < settings.gaussian_probability).tolist()
    grey = (torch.rand(count) < settings.grey_noise_probability).tolist()
    levels, scales = uniform(count, gaussian_levels).tolist(), uniform(count, poisson_scale).tolist()
    noise = [
        gaussian_noise(image, levels=levels[i], grey=grey[i])
        if gaussian[i]
        else poisson_noise(image, scale=scales[i], grey=grey[i])
        for i, image in enumerate(images)
    ]
    return (images + torch.stack(noise)).clamp(0, 1)


def gaussian_noise(image: Tensor, *, levels: float, grey: bool) -> Tensor:
    """Normal noise for an image (C, H, W), of a deviation in levels of 255; `grey`: the same in all channels."""
    noise = torch.randn_like(image[:1] if grey else image) * (levels / 255)
    return noise.expand_as(image)


def poisson_noise(image: Tensor, *, scale: float, grey: bool) -> Tensor:
    """Shot noise for an image (C, H, W) in [0, 1]: its variance grows with the brightness.

    As many photons make white as there are 8-bit values in the image, rounded up to a power of two.

    Args:
        image: (C, H, W) in [0, 1].
        scale: what the noise is multiplied by.
        grey: the same noise in all channels, from their luma, or their mean where there are not three.
    """
    if grey:
        weights = image.new_tensor(YCBCR[0] if len(image) == 3 else [1 / len(image)] * len(image))
        clean = torch.einsum("c,chw->hw", weights, image)[None]
    else:
        clean = image
    levels = (clean * 255).round().clamp(0, 255)
    clean = levels / 255
    present = image.new_zeros(256).scatter_(0, levels.flatten().long(), 1.0)
    photons = torch.exp2(present.sum().log2().ceil())
    return ((torch.poisson(clean * photons) / photons - clean) * scale).expand_as(image)


def _save_as_jpeg(images: Tensor, settings: Degradation, *, quality: Range) -> Tensor:
    coded = jpeg(images.clamp(0, 1), quality=uniform(len(images), quality))
    return _choose(coded, images, probability=settings.jpeg_probability)


@torch.no_grad()
def sharpen(targets: Tensor) -> Tensor:
    """Unsharp masking of what a network is to make of degraded images (section 3.4), which makes it bolder.

    Half the difference from a blur by a Gaussian of 8 px is added, where that difference is above 10 levels of 255 and,
    fading out, near such places.

    Args:
        targets: (N, C, H, W) in [0, 1].

    Returns:
        (N, C, H, W) in [0, 1], float32.
    """
    targets = targets.float()
    # 51 px and the deviation that OpenCV gives such a kernel.
    offsets = torch.arange(-25, 26, device=targets.device)
    weights = torch.softmax(-(offsets**2) / (2 * 8.0**2), dim=0).expand(len(targets), 1, -1)

    def blurred(images: Tensor) -> Tensor:
        return blur(blur(images, weights), weights.transpose(1, 2))

    with torch.autocast(targets.device.type, enabled=False):
        difference = targets - blurred(targets)
        edges = blurred((difference.abs() * 255 > 10).float())
        return torch.lerp(targets, (targets + difference / 2).clamp(0, 1), edges)


class PairPool:
    """Mixes the pairs of batches, whose images share factors and ways of resizing (section 4.1).

    Until the pool is full, each pair is kept and handed out. After that each one takes the place of a random one in the
    pool, which is handed out instead, so that none is lost and none comes twice.

    Random numbers come from torch's global generator on the CPU.

    Args:
        capacity: pairs in the pool, which lie on the device; 0 hands out every pair as it is.
    """

    def __init__(self, *, capacity: int = 180) -> None:
        if capacity < 0:
            raise InputError(f"expected a pool for 0 pairs or more, got {capacity}")
        self.capacity = capacity
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def exchange(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, C, h, w) and their targets (N, C, H, W) for as many others of the same sizes."""
        if self.capacity == 0:
            return inputs, targets
        pool, handed_out = self.pairs.copy(), []
        for pair in zip(inputs, targets, strict=True):
            kept = (pair[0].clone(), pair[1].clone())
            if len(pool) < self.capacity:
                pool.append(kept)
                handed_out.append(kept)
            else:
                place = int(torch.randint(self.capacity, ()))
                handed_out.append(pool[place])
                pool[place] = kept
        self.pairs = pool
        new_inputs, new_targets = zip(*handed_out, strict=True)
        return (
            torch.stack([image.to(inputs.device) for image in new_inputs]),
            torch.stack([image.to(targets.device) for image in new_targets]),
        )

    def state_dict(self) -> dict[str, Any]:
        """The pairs themselves, of which none is ever written into."""
        return {"pairs": self.pairs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pairs = list(state["pairs"])
