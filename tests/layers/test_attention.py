"""Self-attention against SAGAN's equations, place by place."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from i2i.layers.attention import SelfAttention


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 6), (1, 1)])
def test_equations_place_by_place(size: tuple[int, int]) -> None:
    layer = SelfAttention(16).double()
    nn.init.constant_(layer.gamma, 0.7)
    height, width = size
    x = torch.randn(2, 16, *size, dtype=torch.float64)
    f, g, h, v = (getattr(layer, name).weight.detach()[:, :, 0, 0].numpy() for name in "fghv")
    assert f.shape == g.shape == (2, 16) and h.shape == (8, 16) and v.shape == (16, 8)
    result = layer(x).detach().numpy()
    for image, found in zip(x.numpy(), result, strict=True):

        def pooled(weight: np.ndarray, image: np.ndarray = image) -> np.ndarray:
            maps = np.tensordot(weight, image, axes=1)
            cells = [(i, j) for i in range(0, height, 2) for j in range(0, width, 2)]
            return np.stack([maps[:, i : i + 2, j : j + 2].max(axis=(1, 2)) for i, j in cells], axis=1)

        keys, values = pooled(f), pooled(h)
        for i, j in np.ndindex(height, width):
            s = keys.T @ (g @ image[:, i, j])
            beta = np.exp(s) / np.exp(s).sum()
            np.testing.assert_allclose(found[:, i, j], 0.7 * v @ (values @ beta) + image[:, i, j], rtol=1e-9)


def test_against_pytorchs_own() -> None:
    layer, x = SelfAttention(8), torch.randn(2, 8, 6, 6)
    nn.init.ones_(layer.gamma)
    f, h = (F.max_pool2d(conv(x), 2).flatten(2).mT[:, None] for conv in (layer.f, layer.h))
    o = F.scaled_dot_product_attention(layer.g(x).flatten(2).mT[:, None], f, h, scale=1.0)
    torch.testing.assert_close(layer(x), x + layer.v(o[:, 0].mT.unflatten(2, (6, 6))))


def test_starts_as_the_identity() -> None:
    layer, x = SelfAttention(4), torch.randn(2, 4, 6, 6)
    assert torch.equal(layer(x), x)
    layer(x).square().mean().backward()
    assert layer.gamma.grad is not None and layer.gamma.grad != 0


def test_gradients_of_gradients() -> None:
    layer = SelfAttention(8).double()
    nn.init.ones_(layer.gamma)
    assert torch.autograd.gradgradcheck(layer, torch.randn(1, 8, 2, 3, dtype=torch.float64, requires_grad=True))
