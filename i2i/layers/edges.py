"""Where one instance ends and the next begins: the edge map of SPADE's and pix2pixHD's label maps."""

import torch
from torch import Tensor


def instance_edges(instances: Tensor) -> Tensor:
    """Mark both sides of every boundary between instances (Wang et al. 2018, "pix2pixHD", §3.3).

    Args:
        instances: integers (..., H, W), a number for each object. Of a whole image: a part of it lacks the boundaries
            to its neighbours.

    Returns:
        bool (..., H, W): whether a pixel's neighbour to the right, left, above or below has another number. The
        image's own border is none.
    """
    edges = torch.zeros_like(instances, dtype=torch.bool)
    across = instances[..., :, 1:] != instances[..., :, :-1]
    down = instances[..., 1:, :] != instances[..., :-1, :]
    edges[..., :, 1:] |= across
    edges[..., :, :-1] |= across
    edges[..., 1:, :] |= down
    edges[..., :-1, :] |= down
    return edges
