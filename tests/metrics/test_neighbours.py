"""Nearest neighbours against all distances, small pictures against changes of images, windows against the truth."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from i2i.metrics import neighbours
from i2i.metrics.neighbours import (
    PARTS,
    POSES,
    WHOLE,
    aligned,
    cut,
    in_all_poses,
    in_pose,
    layouts,
    nearest_neighbours,
    parts_at_a_glance,
    small_pictures,
    undone,
    view_distances,
    views,
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(neighbours, "OTHERS_AT_ONCE", 11)


def whole(count: int) -> Tensor:
    return torch.tensor([WHOLE]).expand(count, 4)


def photos(count: int, *, size: tuple[int, int] = (96, 96), seed: int = 0) -> Tensor:
    """Smooth random images with detail at several scales, (count, 3, H, W) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.randn(count, 3, cells, cells, generator=generator), size, mode="bicubic") * cells**-0.5
        for cells in (4, 8, 16, 32)
    ]
    return torch.stack(layers).sum(0).clamp(-1, 1)


@pytest.mark.parametrize("k", [1, 3, 40])
def test_neighbours_are_those_of_all_distances(k: int) -> None:
    rows, others = torch.randn(30, 5), torch.randn(40, 5)
    distances, indices = torch.cdist(rows.double(), others.double()).sort(1)
    found = nearest_neighbours(rows, others, k=k)
    torch.testing.assert_close(found.distances, distances[:, :k].float())
    assert (found.indices == indices[:, :k]).all() and not found.poses.any()


def test_equal_rows_are_at_no_distance_and_come_in_order() -> None:
    others = torch.randn(30, 50).repeat(2, 1) + 100
    found = nearest_neighbours(others[:30], others, k=2)
    assert (found.distances == 0).all()
    assert (found.indices == torch.stack([torch.arange(30), torch.arange(30, 60)], 1)).all()


def test_a_row_can_be_left_out() -> None:
    rows = torch.randn(40, 5)
    chosen = torch.arange(0, 40, 3)
    distances = torch.cdist(rows, rows).fill_diagonal_(torch.inf)[chosen]
    found = nearest_neighbours(rows[chosen], rows, skipped=chosen)
    assert (found.indices[:, 0] == distances.argmin(1)).all()
    assert nearest_neighbours(rows[chosen], rows, k=99, skipped=chosen).indices.shape == (14, 39)


def test_the_nearest_of_several_poses_counts() -> None:
    rows, others = torch.randn(20, 3, 5), torch.randn(40, 5)
    each = torch.cdist(rows.transpose(0, 1), others)
    found = nearest_neighbours(rows, others, k=2)
    nearest = each.amin(0).argsort(1)[:, :2]
    assert (found.indices == nearest).all()
    assert (found.poses == each.argmin(0).gather(1, nearest)).all()


def test_poses_are_all_ways_to_lay_a_square_picture() -> None:
    pictures = torch.randn(2, 3, 4, 4)
    poses = in_all_poses(pictures)
    assert poses.shape == (2, POSES, 3, 4, 4)
    assert len({tuple(pose[0].flatten().tolist()) for pose in poses.unbind(1)}) == POSES
    assert (poses[:, 1, :, -1, 0] == pictures[..., 0, 0]).all()  # turned counter-clockwise, upper left is lower left
    for pose in range(POSES):
        assert (in_pose(poses[:, pose], undone(pose)) == pictures).all()


def test_brightness_contrast_and_size_do_not_matter() -> None:
    images = 0.5 * photos(3, size=(128, 160))
    pictures = small_pictures(images)
    assert pictures.shape == (3, 3, 32, 32)
    torch.testing.assert_close(pictures.square().mean((1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(small_pictures(images * 0.7 + 0.2), pictures, atol=1e-4, rtol=0)
    for size in ((64, 64), (256, 320), (100, 90)):
        resized = small_pictures(F.interpolate(images, size, mode="bicubic", antialias=True))
        assert (layouts(resized) - layouts(pictures)).norm(dim=1).max() < 0.05
    assert torch.cdist(layouts(pictures), layouts(pictures)).fill_diagonal_(9).min() > 0.7


def test_flat_images_have_flat_pictures() -> None:
    flat = small_pictures(torch.full((1, 3, 20, 20), 0.3))
    assert flat.abs().max() < 1e-4
    noisy = small_pictures(torch.full((1, 3, 64, 64), 0.3) + torch.randn(1, 3, 64, 64) / 255)
    assert noisy.square().mean() < 0.2
    windows = aligned(flat, flat, whole(1), smallest=0.5)
    assert windows.isfinite().all() and cut(flat, windows).isfinite().all() and views(flat).isfinite().all()
    assert parts_at_a_glance(flat).isfinite().all()


@pytest.mark.parametrize("margins", [(6, 0, 3, 9), (0, 10, 0, 0), (5, 5, 5, 5), (0, 0, 0, 0)])
def test_the_window_that_was_cut_out_is_found(margins: tuple[int, int, int, int]) -> None:
    """Of 96 px, so that 10 px are three pixels of a small picture."""
    images = photos(12)
    left, top, right, bottom = margins
    pictures, cutting = small_pictures(images), small_pictures(images[..., top : 96 - bottom, left : 96 - right])
    before = view_distances(views(cutting), views(pictures))
    windows = aligned(cutting, pictures, whole(12), smallest=0.75)
    after = view_distances(views(cutting), views(cut(pictures, windows)))
    if any(margins):
        assert (before[:, 1] > 0.25).all()
    assert (after < 0.2).all()
    truth = (96 - left - right, 96 - top - bottom, left - right, top - bottom)
    torch.testing.assert_close(windows, torch.tensor([truth]).expand(12, 4) / 96, atol=0.02, rtol=0)


def test_parts_are_cut_where_they_say() -> None:
    """Halves and quarters of 32 px, whose pixels are each enlarged to two: the same as cutting images."""
    images = photos(4)
    pictures = small_pictures(images)
    for window in PARTS:
        width, height, x, y = (round(48 * value) for value in window)
        part = images[..., 48 + y - height : 48 + y + height, 48 + x - width : 48 + x + width]
        found, wanted = parts_at_a_glance(pictures, window), parts_at_a_glance(small_pictures(part))
        assert ((found - wanted).norm(dim=1) < 0.35).all(), window
        assert ((found - wanted.roll(1, 0)).norm(dim=1) > 0.7).all(), window


def test_a_part_between_those_looked_for_is_found() -> None:
    images = photos(12)
    part = small_pictures(images[..., 6:60, 38:92])  # of 54 px, next to one of 48 px from (48, 0)
    windows = torch.tensor([(0.5, 0.5, 0.5, -0.5)]).expand(12, 4)
    found = aligned(part, small_pictures(images), windows, smallest=0.45)
    near = (found - torch.tensor([54, 54, 34, -30]) / 96).abs().amax(1) < 0.03
    assert near.float().mean() > 0.7


def test_other_images_have_no_such_window() -> None:
    pictures, others = small_pictures(photos(12)), small_pictures(photos(12, seed=1))
    windows = aligned(pictures, others, whole(12), smallest=0.75)
    assert (view_distances(views(pictures), views(cut(others, windows))) > 1).all()


def test_what_is_aligned_is_never_less_alike() -> None:
    pictures, others = small_pictures(photos(12)), small_pictures(photos(12, seed=1))
    windows = aligned(pictures, others, whole(12), smallest=0.75)
    first, before, after = (layouts(some) for some in (pictures, others, cut(others, windows)))
    assert ((first - after).norm(dim=1) < (first - before).norm(dim=1) + 0.02).all()
