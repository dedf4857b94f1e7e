"""Mixtures of Gaussians, and the figures that say how well points cover them."""

import math

import pytest
import torch
from torch.nn import functional as F

from i2i.data.points import Coverage, Gaussians
from i2i.data.sampler import Draw
from i2i.errors import InputError


def test_grid_of_25() -> None:
    grid = Gaussians.grid()
    assert len(grid) == 100_000 and grid.centres.unique(dim=0).shape == (25, 2)
    assert sorted(set(grid.centres.flatten().tolist())) == [-4.0, -2.0, 0.0, 2.0, 4.0]
    assert grid.deviation == 0.05


def test_ring_of_8() -> None:
    ring = Gaussians.ring()
    torch.testing.assert_close(ring.centres.norm(dim=1), torch.full((8,), 2.0))
    neighbours = (ring.centres - ring.centres.roll(1, dims=0)).norm(dim=1)
    torch.testing.assert_close(neighbours, torch.full((8,), 4 * math.sin(math.pi / 8)))
    assert ring.deviation == 0.02


@pytest.mark.parametrize("data", [Gaussians.ring(), Gaussians.grid()], ids=["ring", "grid"])
def test_points_lie_around_the_centres(data: Gaussians) -> None:
    modes = len(data.centres)
    counts = torch.bincount(data.labels, minlength=modes)
    expected, deviation = len(data) / modes, math.sqrt(len(data) / modes * (1 - 1 / modes))
    assert (counts - expected).abs().max() < 4 * deviation
    offsets = data.points - data.centres[data.labels]
    torch.testing.assert_close(offsets.T.cov() / data.deviation**2, torch.eye(2), rtol=0.02, atol=0.02)
    torch.testing.assert_close(offsets.mean(0) / data.deviation, torch.zeros(2), rtol=0, atol=0.015)


def test_items() -> None:
    grid = Gaussians.grid(side=3, deviation=0.1, length=10)
    item = grid[4]
    assert item["real"].dtype == torch.float32 and item["real"].shape == (2,)
    assert item["label"].dtype == torch.int64 and item["label"].shape == ()
    drawn = grid[Draw(index=4, seed=77, number=0)]
    assert torch.equal(drawn["real"], item["real"]) and torch.equal(drawn["label"], item["label"])
    assert torch.equal(Gaussians.grid(side=3, deviation=0.1, length=10).points, grid.points)
    assert not torch.equal(Gaussians.grid(side=3, deviation=0.1, length=10, seed=1).points, grid.points)


def test_coverage_by_hand() -> None:
    """Centres at (±1, ±1): three points of eight are good, at two of four; (4, 1, 2, 1) points are nearest to each."""
    grid = Gaussians.grid(side=2, deviation=0.1, length=1)
    points = [[-1, -1], [-1, -0.71], [-1, -0.69], [-0.1, -0.1], [1, 1.29], [1, 0.5], [-5, 2], [9, -0.5]]
    found = grid.coverage(torch.tensor(points))
    shares = torch.tensor([4, 1, 1, 2]) / 8  # in the centres' order: (-1, -1), (-1, 1), (1, -1), (1, 1)
    assert found.modes == 2 and found.good == 3 / 8
    # PyTorch's KL(target ‖ input), whose input is the logarithm of the second.
    expected = F.kl_div(torch.full((4,), 0.25).log(), shares, reduction="sum")
    assert found.reverse_kl == pytest.approx(expected.item(), abs=1e-6)


def test_reverse_kl_of_missing_modes() -> None:
    """log(25 / k) where k of 25 modes share the points evenly: reverse, since forward it would be infinite."""
    grid = Gaussians.grid(length=1)
    for modes in (1, 5, 25):
        found = grid.coverage(grid.centres[:modes].repeat(3, 1))
        assert found == Coverage(modes=modes, good=1.0, reverse_kl=pytest.approx(math.log(25 / modes), abs=1e-9))
    assert grid.coverage(torch.full((4, 2), 1.0)).modes == 0


@pytest.mark.parametrize("data", [Gaussians.ring(), Gaussians.grid()], ids=["ring", "grid"])
def test_coverage_of_the_data_itself(data: Gaussians) -> None:
    """P(within 3 σ in the plane) = 1 − exp(−9 / 2); the expected KL of n draws is (modes − 1) / 2n, nearly."""
    found = data.coverage(data.points)
    assert found.modes == len(data.centres)
    assert found.good == pytest.approx(1 - math.exp(-4.5), abs=1e-3)
    assert 0 < found.reverse_kl < 3 * (found.modes - 1) / 2 / len(data)


@pytest.mark.parametrize("points", [torch.empty(0, 2), torch.zeros(3, 3), torch.tensor([[0.0, float("nan")]])])
def test_points_that_say_nothing(points: torch.Tensor) -> None:
    with pytest.raises(InputError, match="at least one point"):
        Gaussians.grid(length=1).coverage(points)
