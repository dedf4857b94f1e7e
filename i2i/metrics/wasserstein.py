"""How near two sets of images are, without pairs and without a trained network.

The sliced Wasserstein distance between patches of Laplacian pyramids: Karras et al. 2018, arXiv:1710.10196, section 5.
Each level of the pyramid holds the details of one scale, and its distance says whether that scale looks right.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from zlib import crc32

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from i2i.errors import InputError

Result = TypeVar("Result")
Image = NDArray[Any]

PATCH_PX = 7
# Levels are halved down to 16 … 31 px; the paper's coarsest one has 16.
HALVED_FROM_PX = 32
SMALLEST_IMAGE_PX = 16
# A twentieth of an 8-bit step. What varies less is flat, and dividing by it would measure rounding errors.
SMALLEST_DEVIATION = 1e-4
# Of each level of a set's pyramids. Of images of three channels they take 19 MB in float16.
PATCHES = 1 << 16
PATCHES_PER_IMAGE = 128
# Few enough to keep what a thread works on small (2 MB for each set), enough to be quick.
PROJECTED_AT_ONCE = 1 << 19
BINS = 4096
# What patches' positions follow from. Rounding errors hardly ever change the 8-bit values of so few means.
FINGERPRINT_PX = 8


def patch_descriptors(
    images: Tensor, *, patches_per_image: int = PATCHES_PER_IMAGE, like: Tensor | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Patches of 7×7 px at random positions in each level of each image's Laplacian pyramid.

    Levels are numbered by how often the image was halved: "0" has its finest details, "1" those of half the size.
    The coarsest one, with a smaller side of 16 to 31 px, is no difference but the small image itself, and named "low":
    images of 64 px have "0" (64 px), "1" (32 px) and "low" (16 px). Odd sides are halved upwards (33 to 17 px).
    Images of any size and shape, a set of mixed sizes too, thus share "low" and as many of the finest levels as the
    smaller ones have.

    Where an image's patches lie is decided by what it shows: a set has the same ones in whatever order, batches and
    processes it comes.

    Takes `patches_per_image` × C × 196 bytes for an image and level: 15 MB for 200 images of three channels.

    Args:
        images: (N, C, H, W) in [-1, 1], H and W at least 16.
        patches_per_image: patches in each level of each image; they may overlap.
        like: of pairs, the truths (N, C, H, W): patches of images and of truths then lie in the same places, so that
            the distance of few pairs tells more. None: where the images themselves say.
        seed: decides with them where patches lie, at least 0.

    Returns:
        For each level (N, patches_per_image, C · 49), float32, channel by channel; finest level first.

    Raises:
        InputError: not (N, C, H, W), or a side is shorter than 16.
    """
    if images.ndim != 4 or min(images.shape[-2:]) < SMALLEST_IMAGE_PX:
        raise InputError(
            f"expected images (N, C, H, W) of at least {SMALLEST_IMAGE_PX} by {SMALLEST_IMAGE_PX} pixels, "
            f"got {tuple(images.shape)}"
        )
    names = [*map(str, range(_halvings(images.shape[-2:]))), "low"]
    found: dict[str, list[Tensor]] = {}
    shown, deciding = (
        some.detach().float().cpu().movedim(1, 3).contiguous().numpy()
        for some in (images, images if like is None else like)
    )
    for image, decides in zip(shown, deciding, strict=True):
        generator = np.random.default_rng([seed, _fingerprint(decides)])
        # Level by level, for a photo's whole pyramid would take much memory.
        for name, level in zip(names, laplacian_pyramid(image), strict=True):
            found.setdefault(name, []).append(_random_patches(level, patches_per_image, generator))
    return {name: torch.stack(patches).to(images.device) for name, patches in found.items()}


def enough_patches(images: int) -> int:
    """How many patches of each image to take of a set of so many: 128, and fewer of more than 512 images.

    The distance is one of pooled patches, and more than PATCHES would take memory and change little.
    """
    return max(1, min(PATCHES_PER_IMAGE, PATCHES // images))


def is_flat(patches: Tensor) -> bool:
    """Whether patches of real images (N, patches, C · 49) have a channel that does not vary.

    Distances from such a set are none to believe: they are measured in its deviations.
    """
    channels = patches.unflatten(2, (-1, PATCH_PX**2))
    return any(channels[:, :, c].float().std().item() < SMALLEST_DEVIATION for c in range(channels.shape[2]))


def sliced_wasserstein(
    real: dict[str, Tensor], fake: dict[str, Tensor], *, projections: int = 512, seed: int = 0
) -> dict[str, float]:
    """Distance between two sets of patches: 0 for equal sets, larger for less alike ones.

    Patches are pooled over images and normalised channel by channel with mean and deviation of the real set: a fake set
    of other colours or contrast is further away. (The paper normalises each set with its own and does not see that.)
    The distance is the mean over random directions of the Wasserstein-1 distance of the projected patches, times 1000.
    Finite sets of the same origin are not at 0: the fewer images, the further apart. Compare only figures of equally
    many images. A second or so for 200 images of 64 px in each set, with two cores.

    Args:
        real, fake: what `patch_descriptors` gave; the two may differ in size.
        projections: random directions.
        seed: decides the directions.

    Returns:
        "swd", the mean over levels, and each level's under "swd_0", "swd_1", …, "swd_low". A level that only one of the
        sets has is left out.

    Raises:
        InputError: a set is empty, or they have no level in common or different numbers of channels.
    """
    levels = [level for level in real if level in fake]
    if not levels:
        raise InputError(f"expected two sets with patches of the same levels, got {[*real]} and {[*fake]}")
    distances = {
        f"swd_{level}": _patch_distance(real[level], fake[level], projections=projections, seed=seed)
        for level in levels
    }
    return {"swd": sum(distances.values()) / len(distances)} | distances


def sliced_wasserstein_influences(
    real: dict[str, Tensor], fake: dict[str, Tensor], *, projections: int = 512, seed: int = 0
) -> dict[str, tuple[Tensor, Tensor]]:
    """How much each image moves the distance of each level: its derivative by the image's share of its set.

    Their variance over the images of a set, divided by their number and summed over both sets, is that of the level's
    figure (the infinitesimal jackknife; Efron 1982, chapter 6). Patches of one image go together, as they are alike.
    Sets of one distribution vary about 1.4 times less than that.

    Args:
        real, fake: as for `sliced_wasserstein`.
        projections, seed: as for the figures in question. Fewer directions tell more of chance, and less of the images.

    Returns:
        Under "swd_0", …, "swd_low": (N,) of the real images and (M,) of the fake ones, with means of 0.
    """
    return {
        f"swd_{level}": _patch_influences(real[level], fake[level], projections=projections, seed=seed)
        for level in real
        if level in fake
    }


def join_descriptors(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The descriptors of a set from those of its parts; levels that only some images have hold fewer of them."""
    levels = dict.fromkeys(level for part in parts for level in part)
    return {level: torch.cat([part[level] for part in parts if level in part]) for level in levels}


def laplacian_pyramid(image: Image) -> Iterator[Image]:
    """What each halving loses, from fine to coarse, and last the small image that is left (Burt and Adelson 1983).

    Halved while the smaller side has at least 32 px, after a blur by [1 4 6 4 1] / 16; borders are mirrored, as OpenCV
    does it. By OpenCV also because it takes a fifth of the time of torch's many small steps, each of which would wait
    for Python's lock where several threads describe images.

    Args:
        image: (H, W, C), float32 or float64 in any range.

    Yields:
        (H, W, C), (⌈H/2⌉, ⌈W/2⌉, C), …, of its dtype. Enlarging the last, adding the one before, and so on gives the
        image back.
    """
    for _ in range(_halvings(image.shape[:2])):
        # OpenCV drops the third dimension of grey images.
        half = cv2.pyrDown(image).reshape(*((side + 1) // 2 for side in image.shape[:2]), -1)
        yield image - cv2.pyrUp(half, dstsize=image.shape[1::-1]).reshape(image.shape)
        image = half
    yield image


def wasserstein_1(first: Tensor, second: Tensor) -> Tensor:
    """Wasserstein-1 distance between sets of numbers: the area between their quantile functions.

    Args:
        first, second: (P, n) and (P, m): P pairs of sets, on the CPU.

    Returns:
        (P,), exact for different n and m too.
    """
    n, m = first.shape[1], second.shape[1]
    if n == m:
        return (_sorted(first) - _sorted(second)).abs().mean(1)
    # The quantile functions step at multiples of 1/n and 1/m. In units of 1/nm, these are integers.
    steps = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).unique()
    starts, shares = steps[:-1], steps.diff().to(first.dtype) / (n * m)
    return (_sorted(first)[:, starts // m] - _sorted(second)[:, starts // n]).abs() @ shares


def potentials(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """What each number adds to `wasserstein_1`, which is the mean of the first's less that of the second's.

    W₁ = ∫ |F − G| = E ψ(first) − E ψ(second) with ψ(x) = ∫ sign(F(t) − G(t)) 1[t ≥ x] dt, and to first order ψ stays as
    it is where numbers change. Computed on a grid of BINS from the smallest to the largest number.

    Args:
        first, second: (P, n) and (P, m), as for `wasserstein_1`.

    Returns:
        (P, n) and (P, m).
    """
    low = torch.minimum(first.amin(1), second.amin(1))[:, None]
    width = (torch.maximum(first.amax(1), second.amax(1))[:, None] - low).clamp(min=1e-12) / BINS
    bins = [((values - low) / width).long().clamp(max=BINS - 1) for values in (first, second)]
    densities = [
        torch.zeros(len(low), BINS).scatter_add_(1, places, torch.ones(places.shape)) / places.shape[1]
        for places in bins
    ]
    potential = -width * (densities[0] - densities[1]).cumsum(1).sign().cumsum(1)
    of_first, of_second = (potential.gather(1, places) for places in bins)
    return of_first, of_second


def _halvings(size: Sequence[int]) -> int:
    """How often an image (H, W) is halved."""
    count, side = 0, min(size)
    while side >= HALVED_FROM_PX:
        count, side = count + 1, (side + 1) // 2
    return count


def _patch_distance(real: Tensor, fake: Tensor, *, projections: int, seed: int) -> float:
    return 1000 * torch.cat([*_projected(real, fake, wasserstein_1, projections=projections, seed=seed)]).mean().item()


def _patch_influences(real: Tensor, fake: Tensor, *, projections: int, seed: int) -> tuple[Tensor, Tensor]:
    def by_image(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        by_patch = potentials(first, second)
        return by_patch[0].sum(0).view(len(real), -1).mean(1), by_patch[1].sum(0).view(len(fake), -1).mean(1)

    of_real, of_fake = torch.zeros(len(real)), torch.zeros(len(fake))
    for parts in _projected(real, fake, by_image, projections=projections, seed=seed):
        of_real += parts[0]
        of_fake += parts[1]
    distance = of_real.mean() - of_fake.mean()
    # A real image of more contrast than others raises the deviations that all is divided by.
    spread = _spread_by_image(real)
    of_real = of_real - distance * (spread / spread.mean(0).clamp(min=SMALLEST_DEVIATION**2)).mean(1) / 2
    return 1000 / projections * (of_real - of_real.mean()), 1000 / projections * (of_fake.mean() - of_fake)


def _spread_by_image(patches: Tensor) -> Tensor:
    """Mean squared difference of each image's numbers from the mean of all: (N, C)."""
    images = patches.detach().cpu().unflatten(2, (-1, PATCH_PX**2))
    # Image by image, as copies of all in float32 would take much memory.
    mean = torch.stack([image.float().mean(dim=(0, 2)) for image in images]).mean(0)
    return torch.stack([(image.float() - mean[:, None]).square().mean(dim=(0, 2)) for image in images])


def _projected(
    real: Tensor, fake: Tensor, work: Callable[[Tensor, Tensor], Result], *, projections: int, seed: int
) -> Iterator[Result]:
    """What `work` makes of the patches of all images along random directions, (P, N · patches) and (P, M · patches).

    Some directions at a time, in order; as many threads as torch has share them, each by one core.
    """
    if real.shape[-1] != fake.shape[-1] or not len(real) or not len(fake):
        raise InputError(
            "expected patches (N, patches, C · 49) of at least one image in both sets, with the same number of "
            f"channels, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    real, fake = (patches.detach().cpu().float().flatten(0, 1) for patches in (real, fake))
    deviation, mean = torch.std_mean(real.unflatten(1, (-1, PATCH_PX**2)), dim=(0, 2))
    # It is the directions and the projected numbers that are normalised: few, and no copies of the sets.
    mean, deviation = (part.repeat_interleave(PATCH_PX**2) for part in (mean, deviation.clamp(min=SMALLEST_DEVIATION)))
    directions = torch.randn(projections, real.shape[1], generator=torch.Generator().manual_seed(seed))
    directions /= directions.norm(dim=1, keepdim=True) * deviation

    def along(some: Tensor) -> Result:
        moved = (some @ mean)[:, None]
        return work((some @ real.T).sub_(moved), (some @ fake.T).sub_(moved))

    # NumPy sorts on one core, and torch's own threads would wait for it.
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(along, directions.split(max(1, PROJECTED_AT_ONCE // max(len(real), len(fake)))))
    finally:
        torch.set_num_threads(threads)  # the pool's have set it for all


def _fingerprint(image: Image) -> int:
    """A number that tells images (H, W, C) in [-1, 1] apart, but for what is lost where they are small."""
    small = cv2.resize(image.mean(2), (FINGERPRINT_PX, FINGERPRINT_PX), interpolation=cv2.INTER_AREA)
    return crc32(np.rint(np.nan_to_num(small).clip(-1, 1) * 127).astype(np.int8).tobytes())


def _random_patches(level: Image, count: int, generator: np.random.Generator) -> Tensor:
    """(H, W, C) to (count, C · 49)."""
    windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH_PX, PATCH_PX), axis=(0, 1))
    top, left = (generator.integers(places, size=count) for places in windows.shape[:2])
    return torch.from_numpy(windows[top, left].reshape(count, -1))


def _sorted(rows: Tensor) -> Tensor:
    # NumPy sorts ten times as fast as torch on a CPU, and sorting is nearly all of the time.
    return torch.from_numpy(np.sort(rows.numpy(), axis=1))
