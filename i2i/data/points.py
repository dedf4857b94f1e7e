"""Mixtures of Gaussians in the plane: the small data on which mode collapse shows (Metz et al. 2017)."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.sampler import Draw


class GaussianGrid(Dataset[dict[str, Tensor]]):
    """Points around the nodes of a square grid.

    Items are {"real": (2,) float32, "label": int64 number of the node}.

    Args:
        side: nodes per side; 5 gives the grid of 25.
        spacing: distance between neighbouring nodes.
        deviation: standard deviation around each node.
        length: number of points.
        seed: decides the points; give held-out ones another.
    """

    def __init__(
        self,
        *,
        side: int = 5,
        spacing: float = 0.5,
        deviation: float = 0.0125,
        length: int = 100_000,
        seed: int = 0,
    ) -> None:
        places = spacing * (torch.arange(side) - (side - 1) / 2)
        self.centres = torch.cartesian_prod(places, places)
        self.deviation = deviation
        random = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(len(self.centres), (length,), generator=random)
        self.points = self.centres[self.labels] + deviation * torch.randn(length, 2, generator=random)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        index = draw.index if isinstance(draw, Draw) else draw
        return {"real": self.points[index], "label": self.labels[index]}

    def coverage(self, points: Tensor) -> tuple[int, float]:
        """How many nodes points (N, 2) cover, and the share of good points.

        A point is good within three standard deviations of its nearest node; a node is covered by at least one
        good point, as PacGAN (Lin et al. 2018, section 4.1) counts them.
        """
        distance, nearest = torch.cdist(points.cpu().float(), self.centres).min(dim=1)
        good = distance <= 3 * self.deviation
        return int(nearest[good].unique().numel()), float(good.float().mean())
