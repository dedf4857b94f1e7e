"""Which images are nearest to which: neighbours among rows of numbers, and small pictures in which copies are near.

A copy need not be equal to the last bit: it may be compressed, resized, brighter, mirrored, turned, or be a part only.
Small pictures, of equal brightness and contrast, are the same for the first three; `in_all_poses` mirrors and turns
them, `parts_at_a_glance` says where a part may come from, and `aligned` finds what was cut off.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PICTURE_PX = 32
GLANCE_PX = 8
# In memory at once: distances of so many rows to so many others, 4 MB.
ROWS_AT_ONCE = 128
OTHERS_AT_ONCE = 8192
# Of the range of 2: what varies less is flat, and is not blown up to the contrast of others.
LEAST_CONTRAST = 0.01
# What a picture looks like at a glance is what a blur by so many pixels leaves; its details are the differences from
# the wider blur, next to their own strength thereabouts or to this share of the picture's contrast.
BLUR_PX = 1.0
SURROUNDINGS_PX = 3.0
LEAST_DETAIL = 0.1
# From coarse to fine: pictures are shrunk by so much, then blurred by so many of their pixels; a step moves by about as
# much as that.
ALIGNING_STEPS = ((2, 2.0), (2, 1.0), (2, 1.0), (1, 1.0), (1, 1.0), (1, 1.0))
# Where parts are looked for; `aligned` finds those in between. Windows are the sides and the middle of what is seen,
# (width, height, x, y), where a whole picture is (1, 1, 0, 0) and reaches from -1 to 1.
Window = tuple[float, float, float, float]
WHOLE: Window = (1, 1, 0, 0)
PARTS: tuple[Window, ...] = (
    *((0.75, 0.75, x, y) for x, y in ((-0.25, -0.25), (0.25, -0.25), (0, 0), (-0.25, 0.25), (0.25, 0.25))),
    *((0.5, 0.5, x, y) for x, y in product((-0.5, 0, 0.5), repeat=2)),
    *((0.5, 1, x, 0) for x in (-0.5, 0, 0.5)),
    *((1, 0.5, 0, y) for y in (-0.5, 0, 0.5)),
)
POSES = 8
MIRRORED = 4  # the first pose that is


class Neighbours(NamedTuple):
    """Of N rows the k nearest others, the nearest first.

    distances: (N, k) float32.
    indices: (N, k) int64; of equally near ones the lower comes first.
    poses: (N, k) int64, which of the row's poses is the nearest one; 0 where it has but one.
    """

    distances: Tensor
    indices: Tensor
    poses: Tensor


def nearest_neighbours(rows: Tensor, others: Tensor, *, k: int = 1, skipped: Tensor | None = None) -> Neighbours:
    """The nearest others of each row by Euclidean distance, in bounded memory.

    Args:
        rows: (N, D), any floating type; or (N, P, D), each in several poses, the nearest of which counts.
        others: (M, D).
        k: how many are wanted.
        skipped: (N,) int64, for each row an index of `others` that does not count, such as itself; None: all count.

    Returns:
        min(k, M) of them, or min(k, M − 1) with `skipped`.
    """
    k = min(k, len(others) - (skipped is not None))
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        poses = rows[some].float()
        if poses.ndim == 2:
            poses = poses[:, None]
        parts.append(_nearest(poses.unbind(1), others, k=k, skipped=None if skipped is None else skipped[some]))
    return Neighbours(*map(torch.cat, zip(*parts, strict=True)))


def _nearest(poses: Sequence[Tensor], others: Tensor, *, k: int, skipped: Tensor | None) -> Neighbours:
    """As `nearest_neighbours`, of few rows, whose poses (n, D) come one after another."""
    count = len(poses[0])
    squares = torch.full((count, 0), torch.inf)
    indices = torch.zeros(count, 0, dtype=torch.int64)
    for start in range(0, len(others), OTHERS_AT_ONCE):
        some = others[start : start + OTHERS_AT_ONCE].float()
        lengths = some.square().sum(1)
        found = torch.full((count, len(some)), torch.inf)
        for pose in poses:
            found = torch.minimum(
                found, torch.addmm(lengths + pose.square().sum(1, keepdim=True), pose, some.T, alpha=-2)
            )
        if skipped is not None:
            mine = (skipped >= start) & (skipped < start + len(some))
            found[mine, skipped[mine] - start] = torch.inf
        places = torch.arange(start, start + len(some)).expand(count, -1)
        squares, indices = torch.cat([squares, found], 1), torch.cat([indices, places], 1)
        squares, order = squares.topk(min(k, squares.shape[1]), largest=False)
        indices = indices.gather(1, order)
    indices = indices.sort(1).values
    # Again and exactly: differences of large products cannot tell what is equal.
    gathered = others[indices].float()
    distances, pose = torch.stack([(pose[:, None] - gathered).norm(dim=2) for pose in poses]).min(0)
    distances, order = distances.sort(dim=1, stable=True)
    return Neighbours(distances, indices.gather(1, order), pose.gather(1, order))


def in_pose(images: Tensor, pose: int) -> Tensor:
    """Images (…, H, W) turned by pose · 90° counter-clockwise; from `MIRRORED` on, the left and right sides of them are
    swapped before."""
    if pose >= MIRRORED:
        images = images.flip(-1)
    return images.rot90(pose % MIRRORED, (-2, -1))


def in_all_poses(pictures: Tensor) -> Tensor:
    """(N, …, S, S) to (N, 8, …, S, S)."""
    return torch.stack([in_pose(pictures, pose) for pose in range(POSES)], dim=1)


def undone(pose: int) -> int:
    """The pose that brings back what was in this one."""
    return pose if pose >= MIRRORED else -pose % MIRRORED


def small_pictures(images: Tensor) -> Tensor:
    """Images made comparable: averaged to 32 × 32, of equal brightness and contrast.

    Args:
        images: (N, C, H, W) in [-1, 1], of any size and shape.

    Returns:
        (N, C, 32, 32) float32; mean square 1, or less where an image is flat.
    """
    images = images.float()
    if min(images.shape[-2:]) < PICTURE_PX:
        images = F.interpolate(images, (PICTURE_PX, PICTURE_PX), mode="bilinear", antialias=True)
    return _equalised(F.adaptive_avg_pool2d(images, PICTURE_PX), least=LEAST_CONTRAST)


def layouts(pictures: Tensor) -> Tensor:
    """What small pictures (N, C, 32, 32) look like at a glance, for `nearest_neighbours`: (N, C · 256) float32.

    The distance of two is 1.4 for unrelated pictures and 0 for equal ones.
    """
    blurred = F.avg_pool2d(_at_a_glance(pictures.float()), 2).flatten(1)
    return blurred / blurred.shape[1] ** 0.5


def parts_at_a_glance(pictures: Tensor, window: Window = WHOLE) -> Tensor:
    """What a part of small pictures (N, C, 32, 32) looks like from afar, for `nearest_neighbours`: (N, C · 64) float32.

    To find what whole pictures may be parts of. The distance of two is 1.4 for unrelated ones and 0 for equal ones.
    """
    seen = _equalised(
        F.adaptive_avg_pool2d(_at_a_glance(cut(pictures.float(), torch.tensor([window]))), GLANCE_PX)
    ).flatten(1)
    return seen / seen.shape[1] ** 0.5


def views(pictures: Tensor) -> Tensor:
    """Two ways to look at small pictures, for `view_distances`: at a glance, and in detail.

    In detail, local differences are taken next to their strength thereabouts (Jarrett et al. 2009, section 2.1): a
    strong silhouette, which many images of a kind share, weighs no more than what lies within. At a glance, colours and
    large forms count. A copy is alike in both.

    Args:
        pictures: (N, C, 32, 32) as `small_pictures` gives them.

    Returns:
        (N, 2, C, 32, 32) float32.
    """
    pictures = pictures.float()
    differences = _blurred(pictures, BLUR_PX) - _blurred(pictures, SURROUNDINGS_PX)
    strength = _blurred(differences.square().mean(1, keepdim=True), SURROUNDINGS_PX).sqrt()
    return torch.stack([_at_a_glance(pictures), _equalised(differences / (strength + LEAST_DETAIL))], dim=1)


def view_distances(first: Tensor, second: Tensor) -> Tensor:
    """Root mean square differences of `views`, (N, 2): 1.4 for unrelated pictures and 0 for equal ones."""
    return (first - second).square().mean((2, 3, 4)).sqrt()


def aligned(pictures: Tensor, others: Tensor, windows: Tensor, *, smallest: float) -> Tensor:
    """The window of each other picture that looks most like the picture, as if that were a cutting of it.

    By least squares on the pictures' gradients, step by step (Lucas & Kanade 1981), for a window's sides and middle,
    and the contrast.

    Args:
        pictures, others: (N, C, 32, 32) as `small_pictures` gives them.
        windows: (N, 4) to begin with, as `PARTS` has them.
        smallest: how short a side may become.

    Returns:
        (N, 4), windows within the others; the first ones where none is nearer. `cut` cuts them out.
    """
    pictures, others = pictures.float(), others.float()
    best, least = windows, _glance_error(pictures, cut(others, windows))
    for shrunk, blur_px in ALIGNING_STEPS:
        coarse, coarse_others = (F.avg_pool2d(some, shrunk) for some in (pictures, others))
        size = coarse.shape[-1]
        across = (torch.arange(size) + 0.5) / size * 2 - 1
        wanted = _equalised(_blurred(coarse, blur_px))
        found = cut(_blurred(coarse_others, blur_px), windows)
        slope_x, slope_y = (
            slope / (2 / size * side.view(-1, 1, 1, 1))
            for slope, side in zip(_slopes(found), windows[:, :2].unbind(1), strict=True)
        )
        changes = torch.stack([slope_x * across, slope_y * across[:, None], slope_x, slope_y, found], 1)
        changes = (changes - changes.mean((2, 3, 4), keepdim=True)).flatten(2)
        products = changes @ changes.mT
        # A flat picture has no slopes: it stays where it is.
        steady = 1e-3 * products.diagonal(dim1=1, dim2=2).amax(1)[:, None, None] + 1e-6
        step = torch.linalg.solve(
            products + steady * torch.eye(5), changes @ (wanted - found).flatten(1)[..., None]
        ).squeeze(2)
        sides = (windows[:, :2] + step[:, :2]).clamp(smallest, 1)
        middles = (windows[:, 2:] + step[:, 2:4]).clamp(sides - 1, 1 - sides)
        windows = torch.cat([sides, middles], 1)
        error = _glance_error(pictures, cut(others, windows))
        best = torch.where((error < least)[:, None], windows, best)
        least = torch.minimum(error, least)
    return best


def cut(pictures: Tensor, windows: Tensor) -> Tensor:
    """What a window (1 or N, 4) of each picture (N, C, S, S) shows, enlarged to the whole's size and equalised."""
    size = pictures.shape[-1]
    across = (torch.arange(size) + 0.5) / size * 2 - 1

    def enlarging(side: Tensor, middle: Tensor) -> Tensor:
        """(…, size, size), bilinear: each row says what a pixel is made of; those at the border go on beyond it."""
        places = ((across * side[:, None] + middle[:, None] + 1) / 2 * size - 0.5).clamp(0, size - 1)
        return (1 - (places[..., None] - torch.arange(size)).abs()).clamp(min=0)[:, None]

    width, height, x, y = windows.unbind(1)
    return _equalised(enlarging(height, y) @ pictures @ enlarging(width, x).mT, least=LEAST_CONTRAST)


def _glance_error(pictures: Tensor, others: Tensor) -> Tensor:
    """(N,) mean square difference of what is seen at a glance."""
    return (_at_a_glance(pictures) - _at_a_glance(others)).square().mean((1, 2, 3))


def _at_a_glance(pictures: Tensor) -> Tensor:
    return _equalised(_blurred(pictures, BLUR_PX))


def _slopes(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Differences from pixel to pixel along x and y, 0 at the borders."""
    x, y = torch.zeros_like(pictures), torch.zeros_like(pictures)
    x[..., 1:-1] = (pictures[..., 2:] - pictures[..., :-2]) / 2
    y[..., 1:-1, :] = (pictures[..., 2:, :] - pictures[..., :-2, :]) / 2
    return x, y


def _equalised(pictures: Tensor, *, least: float = 1e-3) -> Tensor:
    """Without their brightness, at a mean square of 1; what varies less than `least` stays below."""
    pictures = pictures - pictures.mean((1, 2, 3), keepdim=True)
    return pictures / pictures.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=least)


def _blurred(pictures: Tensor, blur_px: float) -> Tensor:
    """Smoothed by a Gaussian; the pixels at the border go on beyond it."""
    smoothing = _smoothing(pictures.shape[-1], blur_px)
    return smoothing @ pictures @ smoothing.T


@cache
def _smoothing(size: int, blur_px: float) -> Tensor:
    """(size, size): each row says what a smoothed pixel is made of."""
    reach = round(3 * blur_px + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-offsets.float().square() / (2 * blur_px**2))
    places = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)
    return torch.zeros(size, size).scatter_add_(1, places, (weights / weights.sum()).expand(size, -1))
