"""Mixtures of Gaussians in the plane: the small data on which mode collapse shows.

The ring is that of Metz et al. 2017 (Unrolled GANs, arXiv:1611.02163, appendix A), the grid that of Srivastava et al.
2017 (VEEGAN, arXiv:1705.07761, section 4.1) and Lin et al. 2018 (PacGAN, arXiv:1712.04086, section 4.1).
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.sampler import Draw
from i2i.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What points tell about a mixture they should have been drawn from (Lin et al. 2018, section 4.1).

    Attributes:
        modes: how many modes have at least one good point, that is, one within three standard deviations.
        good: the share of points that are good.
        reverse_kl: Σ q log(q / p) in nats, where q is the share of points to which a mode is the nearest, and p is
            the mixture's own share, the same for all. 0: all modes are alike, as they should be; log(modes): all
            points are at one. A mode without points adds nothing: q log q → 0.
    """

    modes: int
    good: float
    reverse_kl: float


class Gaussians(Dataset[dict[str, Tensor]]):
    """Points of a mixture of equally likely, round Gaussians.

    Items are {"real": (2,) float32, "label": int64 number of the Gaussian}.

    Args:
        centres: (modes, 2).
        deviation: standard deviation around each centre.
        length: number of points.
        seed: decides the points; give held-out ones another.
    """

    def __init__(self, *, centres: Tensor, deviation: float, length: int = 100_000, seed: int = 0) -> None:
        self.centres = centres
        self.deviation = deviation
        self.points, self.labels = self.draw(length, random=torch.Generator().manual_seed(seed))

    @classmethod
    def ring(cls, *, modes: int = 8, deviation: float = 0.02, length: int = 100_000, seed: int = 0) -> Self:
        """At even distances on the circle of radius 2."""
        angles = 2 * math.pi * torch.arange(modes) / modes
        centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)
        return cls(centres=centres, deviation=deviation, length=length, seed=seed)

    @classmethod
    def grid(cls, *, side: int = 5, deviation: float = 0.05, length: int = 100_000, seed: int = 0) -> Self:
        """At the nodes of a square grid around 0, neighbours 2 apart: 25 over [-4, 4]²."""
        places = 2 * torch.arange(side) - (side - 1.0)
        return cls(centres=torch.cartesian_prod(places, places), deviation=deviation, length=length, seed=seed)

    def draw(self, count: int, *, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """New points (count, 2) and the numbers of their Gaussians (count,)."""
        labels = torch.randint(len(self.centres), (count,), generator=random)
        return self.centres[labels] + self.deviation * torch.randn(count, 2, generator=random), labels

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        index = draw.index if isinstance(draw, Draw) else draw
        return {"real": self.points[index], "label": self.labels[index]}

    def coverage(self, points: Tensor) -> Coverage:
        """How well points (N, 2) cover the mixture. InputError if there are none, or if one is not a number."""
        points = points.detach().cpu().float()
        if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not points.isfinite().all():
            raise InputError(f"expected at least one point (N, 2), all of them finite, got {tuple(points.shape)}")
        distance, nearest = torch.cdist(points, self.centres).min(dim=1)
        good = distance <= 3 * self.deviation
        shares = torch.bincount(nearest, minlength=len(self.centres)).double() / len(points)
        return Coverage(
            modes=len(nearest[good].unique()),
            good=good.double().mean().item(),
            reverse_kl=torch.xlogy(shares, shares * len(self.centres)).sum().item(),
        )
