"""PatchNCE: each patch of a translation shall be told apart from the others by the patch it came from.

Park et al. 2020 (arXiv:2007.15651), section 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.errors import InputError


def patch_nce(queries: Tensor, keys: Tensor, *, temperature: float = 0.07) -> Tensor:
    """How poorly each query finds its own key among all keys of the same image: eq. 2, mean over queries.

        ℓ(v, v⁺, v⁻) = −log exp(v·v⁺/τ) / (exp(v·v⁺/τ) + Σₙ exp(v·vₙ⁻/τ))

    Computed in at least float32, also under autocast.

    Args:
        queries: (N, P, D), of unit length: what was found at P positions of each translation.
        keys: (N, P, D), likewise at the same positions of its source; no gradient goes there. The other P − 1 keys
            are a query's negatives.
        temperature: τ.

    Returns:
        A scalar, in nats: log P where nothing is told apart.

    Raises:
        InputError: the shapes differ.
    """
    if queries.ndim != 3 or queries.shape != keys.shape:
        raise InputError(
            "expected queries and keys of one shape (N, positions, channels), "
            f"got {tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    with torch.autocast(queries.device.type, enabled=False):
        similarity = _widen(queries) @ _widen(keys.detach()).transpose(1, 2)
        # Row i of an image is query i against every key; its own lies on the diagonal.
        return -(similarity / temperature).log_softmax(dim=2).diagonal(dim1=1, dim2=2).mean()


class PatchProjector(nn.Module):
    """A two-layer network for each tapped stage, from its features to the unit sphere (H_l of section 3).

    Weights start from N(0, 0.02²), biases at 0.

    Args:
        channels: of each stage.
        width: of the hidden layer and of the result.
    """

    # Shorter vectors stay short: else the gradient at a projection of zero, as flat images give, would be boundless.
    SHORTEST = 1e-4

    def __init__(self, *, channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width)) for inputs in channels
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Vectors (N, P, channels[i]) of each stage → (N, P, width) of unit length, in at least float32."""
        return [
            F.normalize(_widen(project(vectors)), dim=2, eps=self.SHORTEST)
            for project, vectors in zip(self.stages, features, strict=True)
        ]


def draw_positions(features: Tensor, count: int) -> Tensor:
    """Distinct positions of each map at random: (N, C, H, W) → (N, min(count, H·W)) int64, row · W + column.

    From torch's global generator.
    """
    places = features.shape[2] * features.shape[3]
    return torch.rand(len(features), places, device=features.device).topk(min(count, places)).indices


def features_at(features: Tensor, positions: Tensor) -> Tensor:
    """What maps (N, C, H, W) hold at `positions` (N, P), as `draw_positions` counts them: (N, P, C)."""
    image = torch.arange(len(features), device=features.device).unsqueeze(1)
    width = features.shape[3]
    return features[image, :, positions // width, positions % width]


def mirrored_positions(positions: Tensor, width: int) -> Tensor:
    """The same places after maps of that width are mirrored left to right."""
    return positions + width - 1 - 2 * (positions % width)


def _widen(vectors: Tensor) -> Tensor:
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
