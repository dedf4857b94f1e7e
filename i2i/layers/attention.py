"""Self-attention over the places of a map (Zhang et al. 2019, "SAGAN", arXiv:1805.08318)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.layers.init import init_xavier


class SelfAttention(nn.Module):
    """Let every place of a map gather from all others: (N, channels, H, W) → the same, of any size.

    As in the authors' code (https://github.com/brain-research/self-attention-gan), f and g have channels / 8, h has
    channels / 2, none has a bias, and f and h are max-pooled by 2, which leaves a quarter of the places to gather from.
    The last pixel of an odd side is pooled by itself.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.f = init_xavier(nn.Conv2d(channels, few, 1, bias=False))
        self.g = init_xavier(nn.Conv2d(channels, few, 1, bias=False))
        self.h = init_xavier(nn.Conv2d(channels, half, 1, bias=False))
        self.v = init_xavier(nn.Conv2d(half, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))  # at first, only what is near counts

    def forward(self, features: Tensor) -> Tensor:
        f, h = (F.max_pool2d(conv(features), 2, ceil_mode=True).flatten(2) for conv in (self.f, self.h))
        g = self.g(features).flatten(2)
        # Not by F.scaled_dot_product_attention, whose fused kernels gradient penalties cannot go through.
        attention = torch.softmax(g.transpose(1, 2) @ f, dim=2)  # eq. 1: β (N, places, pooled places)
        gathered = (h @ attention.transpose(1, 2)).unflatten(2, features.shape[2:])
        return features + self.gamma * self.v(gathered)  # eq. 2 and 3
