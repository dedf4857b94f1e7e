"""Which images are nearest to which: neighbours among rows of numbers, and small pictures in which copies are near.

A copy need not be equal to the last bit: it may be compressed, resized, mirrored, brighter, or cut a little at its
borders. Small pictures, of equal brightness and contrast, are the same for all these but the last; `aligned` finds the
cut.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PICTURE_PX = 32
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
# From coarse to fine; a step moves by about as much as the picture is blurred.
ALIGNING_BLURS_PX = (2.0, 2.0, 2.0, 1.0, 1.0, 1.0)
SMALLEST_WINDOW = 0.75


class Neighbours(NamedTuple):
    """Of N rows the k nearest others, the nearest first.

    distances: (N, k) float32.
    indices: (N, k) int64; of equally near ones the lower comes first.
    mirrored: (N, k) bool, whether the row's mirrored twin is the nearer one.
    """

    distances: Tensor
    indices: Tensor
    mirrored: Tensor


def nearest_neighbours(
    rows: Tensor, others: Tensor, *, k: int = 1, mirrored: Tensor | None = None, skipped: Tensor | None = None
) -> Neighbours:
    """The nearest others of each row by Euclidean distance, in bounded memory.

    Args:
        rows: (N, D), any floating type.
        others: (M, D).
        k: how many are wanted.
        mirrored: (N, D), of each row's mirrored image; the nearer of the two counts. None: there is none.
        skipped: (N,) int64, for each row an index of `others` that does not count, such as itself; None: all count.

    Returns:
        min(k, M) of them, or min(k, M − 1) with `skipped`.
    """
    k = min(k, len(others) - (skipped is not None))
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        looks = [part[some].float() for part in (rows, mirrored) if part is not None]
        parts.append(_nearest(looks, others, k=k, skipped=None if skipped is None else skipped[some]))
    return Neighbours(*map(torch.cat, zip(*parts, strict=True)))


def _nearest(looks: list[Tensor], others: Tensor, *, k: int, skipped: Tensor | None) -> Neighbours:
    """As `nearest_neighbours`, of few rows; `looks` are they and, if any, their mirrored twins."""
    count = len(looks[0])
    squares = torch.full((count, 0), torch.inf)
    indices = torch.zeros(count, 0, dtype=torch.int64)
    for start in range(0, len(others), OTHERS_AT_ONCE):
        some = others[start : start + OTHERS_AT_ONCE].float()
        lengths = some.square().sum(1)
        found = torch.stack([look.square().sum(1, keepdim=True) + lengths - 2 * look @ some.T for look in looks]).amin(
            0
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
    each = torch.stack([(look[:, None] - gathered).norm(dim=2) for look in looks])
    distances, look = each.min(0)
    distances, order = distances.sort(dim=1, stable=True)
    return Neighbours(distances, indices.gather(1, order), look.gather(1, order).bool())


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


def aligned(pictures: Tensor, others: Tensor) -> Tensor:
    """Cut out of each other picture the window that looks most like the picture, as if that were a cutting of it.

    By least squares on the pictures' gradients, step by step (Lucas & Kanade 1981), for a window's place and two sides,
    and the contrast; from the whole picture on, down to 0.75 of a side.

    Args:
        pictures, others: (N, C, 32, 32) as `small_pictures` gives them.

    Returns:
        (N, C, 32, 32), the window of each other picture, equalised; the whole of it where no window is nearer.
    """
    pictures, others = pictures.float(), others.float()
    count, size = len(pictures), pictures.shape[-1]
    across = (torch.arange(size) + 0.5) / size * 2 - 1
    side, middle = torch.ones(count, 2), torch.zeros(count, 2)  # of the window, both in x and y; the whole is 1 and 0
    best, best_error = others, _glance_error(pictures, others)
    for blur_px in ALIGNING_BLURS_PX:
        wanted = _equalised(_blurred(pictures, blur_px))
        found = _equalised(_window(_blurred(others, blur_px), side, middle))
        slope_x, slope_y = (slope / (2 / size * side[:, i].view(-1, 1, 1, 1)) for i, slope in enumerate(_slopes(found)))
        changes = torch.stack([slope_x * across, slope_y * across[:, None], slope_x, slope_y, found], -1)
        changes = (changes - changes.mean((1, 2, 3), keepdim=True)).flatten(1, 3)
        products = changes.mT @ changes
        # A flat picture has no slopes: it stays where it is.
        steady = 1e-3 * products.diagonal(dim1=1, dim2=2).amax(1)[:, None, None] + 1e-6
        step = torch.linalg.solve(
            products + steady * torch.eye(5), changes.mT @ (wanted - found).flatten(1)[..., None]
        ).squeeze(2)
        side = (side + step[:, :2]).clamp(SMALLEST_WINDOW, 1)
        middle = torch.maximum(torch.minimum(middle + step[:, 2:4], 1 - side), side - 1)
        window = _window(others, side, middle)
        error = _glance_error(pictures, window)
        best = torch.where((error < best_error).view(-1, 1, 1, 1), window, best)
        best_error = torch.minimum(error, best_error)
    return _equalised(best, least=LEAST_CONTRAST)


def _glance_error(pictures: Tensor, others: Tensor) -> Tensor:
    """(N,) mean square difference of what is seen at a glance."""
    return (_at_a_glance(pictures) - _at_a_glance(others)).square().mean((1, 2, 3))


def _at_a_glance(pictures: Tensor) -> Tensor:
    return _equalised(_blurred(pictures, BLUR_PX))


def _window(pictures: Tensor, side: Tensor, middle: Tensor) -> Tensor:
    """What a window of each picture shows, at the picture's own size; sides and middle (N, 2) of x and y in [-1, 1]."""
    across = (torch.arange(pictures.shape[-1]) + 0.5) / pictures.shape[-1] * 2 - 1
    x, y = (side[:, i, None] * across + middle[:, i, None] for i in (0, 1))
    size = len(across)
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


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
