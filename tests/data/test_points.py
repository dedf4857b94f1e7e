"""The grid of Gaussians, and a WGAN-GP that has to find all of it."""

import pytest
import torch

from i2i.data.points import GaussianGrid
from i2i.data.sampler import Draw


def test_points_lie_around_the_nodes() -> None:
    grid = GaussianGrid()
    assert len(grid) == 100_000 and grid.centres.shape == (25, 2)
    assert sorted(set(grid.centres.flatten().tolist())) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert grid.centres.unique(dim=0).shape == (25, 2)
    counts = torch.bincount(grid.labels, minlength=25)
    assert counts.min() > 3700 and counts.max() < 4300  # 4000 ± 62
    offsets = grid.points - grid.centres[grid.labels]
    torch.testing.assert_close(offsets.T.cov(), 0.0125**2 * torch.eye(2), rtol=0.03, atol=3e-6)
    torch.testing.assert_close(offsets.mean(0), torch.zeros(2), rtol=0, atol=2e-4)


def test_items() -> None:
    grid = GaussianGrid(side=3, spacing=2.0, deviation=0.1, length=10)
    item = grid[4]
    assert item["real"].dtype == torch.float32 and item["real"].shape == (2,)
    assert item["label"].dtype == torch.int64 and item["label"].shape == ()
    drawn = grid[Draw(index=4, seed=77, number=0)]
    assert torch.equal(drawn["real"], item["real"]) and torch.equal(drawn["label"], item["label"])
    assert torch.equal(GaussianGrid(side=3, spacing=2.0, deviation=0.1, length=10).points, grid.points)
    assert not torch.equal(GaussianGrid(side=3, spacing=2.0, deviation=0.1, length=10, seed=1).points, grid.points)


def test_coverage_counts_nodes_with_good_points() -> None:
    grid = GaussianGrid(side=2, spacing=1.0, deviation=0.1)
    points = torch.tensor([[-0.5, -0.5], [-0.5, -0.21], [-0.5, -0.19], [0.5, 0.5 + 0.29], [0.5, -0.1], [9.0, 9.0]])
    modes, good = grid.coverage(points)
    assert modes == 2 and good == pytest.approx(3 / 6)
    assert grid.coverage(torch.zeros(4, 2)) == (0, 0.0)


def test_coverage_of_the_data_itself() -> None:
    """P(within 3 σ in the plane) = 1 − exp(−9 / 2)."""
    grid = GaussianGrid()
    modes, good = grid.coverage(grid.points)
    assert modes == 25 and good == pytest.approx(0.98889, abs=1e-3)
