"""Mixtures of Gaussians in the plane: the small data on which mode collapse shows (Metz et al. 2017)."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.sampler import Draw


class GaussianGrid(Dataset[dict[str, Tensor]]):
    """Points around the nodes of a square grid.

    Items are {"real": (2,) float32, "label": int64 number of the node}; a draw's point follows from its seed.

    Args:
        side: nodes per side; 5 gives the grid of 25.
        spacing: distance between neighbouring nodes.
        deviation: standard deviation around each node.
        length: items per epoch.
    """

    def __init__(
        self, *, side: int = 5, spacing: float = 0.5, deviation: float = 0.0125, length: int = 100_000
    ) -> None:
        places = spacing * (np.arange(side) - (side - 1) / 2)
        self.centres = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2).astype(np.float32)
        self.deviation = deviation
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        seed = draw.seed if isinstance(draw, Draw) else draw
        random = np.random.default_rng(seed)
        label = int(random.integers(len(self.centres)))
        point = self.centres[label] + self.deviation * random.standard_normal(2, dtype=np.float32)
        return {"real": torch.from_numpy(point), "label": torch.tensor(label)}

    def coverage(self, points: Tensor) -> tuple[int, float]:
        """How many nodes points (N, 2) cover, and the share of good points.

        A point is good within three standard deviations of its nearest node; a node is covered by at least one
        good point, as PacGAN (Lin et al. 2018, section 4.1) counts them.
        """
        distance, nearest = torch.cdist(points.cpu().float(), torch.from_numpy(self.centres)).min(dim=1)
        good = distance <= 3 * self.deviation
        return int(nearest[good].unique().numel()), float(good.float().mean())
