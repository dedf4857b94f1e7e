"""Orthogonal regularisation against its equation and its gradient written out."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from i2i.generators import SNGANGenerator
from i2i.losses.orthogonal import orthogonal_penalty, orthogonal_weights

# Fewer filters than each has numbers, as many, and more.
SHAPES = [(3, 2, 2, 2), (8, 2, 2, 2), (20, 1, 3, 3), (5, 4), (1, 6), (6, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_equation_3(shape: tuple[int, ...]) -> None:
    """‖WᵀW ⊙ (1 − I)‖²_F, filters being W's columns; and its gradient, 4 W (WᵀW ⊙ (1 − I))."""
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    w = weight.detach().numpy().reshape(shape[0], -1).T
    apart = (w.T @ w) * (1 - np.eye(shape[0]))
    penalty = orthogonal_penalty(weight)
    assert penalty.shape == () and penalty.item() == pytest.approx((apart**2).sum(), abs=1e-9)
    (gradient,) = torch.autograd.grad(penalty, weight)
    np.testing.assert_allclose(gradient.flatten(1).T, 4 * w @ apart, atol=1e-9)


def test_lengths_do_not_count() -> None:
    filters = torch.diag(torch.tensor([0.1, 2.0, 30.0]))
    assert orthogonal_penalty(filters) == 0
    assert orthogonal_penalty(torch.cat([filters, filters[:1]])).item() == pytest.approx(2 * 0.01**2)  # both ways round


@pytest.mark.parametrize("shape", [(30, 4, 3, 3), (40, 1, 3, 3)])
def test_sixteen_bits_are_widened(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = orthogonal_penalty(weight)
    assert under.dtype == torch.float32 and torch.equal(under, orthogonal_penalty(weight))
    narrow = weight.bfloat16()
    torch.testing.assert_close(orthogonal_penalty(narrow), orthogonal_penalty(narrow.float()), rtol=0, atol=0)


def test_enlarging_layers_take_little_memory() -> None:
    """A hundred thousand filters, whose products with one another would take 40 GB; a thousand are the same sum."""
    few = torch.randn(1000, 3)
    w = few.double().numpy()
    lengths = ((w**2).sum(1) ** 2).sum()
    all_pairs = ((w @ w.T) ** 2).sum()
    assert orthogonal_penalty(few).item() == pytest.approx(all_pairs - lengths, rel=1e-5)
    assert orthogonal_penalty(few.repeat(100, 1)).item() == pytest.approx(100**2 * all_pairs - 100 * lengths, rel=1e-4)


def test_weights_of_convolutions_and_linear_layers() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Embedding(4, 5), nn.ConvTranspose2d(3, 7, 4))
    network.append(spectral_norm(nn.Linear(7, 2)))
    original = network[4].parametrizations.weight.original
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    found = orthogonal_weights(network)
    assert [tuple(weight.shape) for weight in found] == [(3, 2, 3, 3), (7, 3, 4, 4), (2, 7)]
    assert found[0] is network[0].weight and found[2] is original
    torch.testing.assert_close(found[1][5, 2], network[3].weight[2, 5])
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())  # no power iteration


@pytest.mark.parametrize("spectral", [False, True])
def test_weights_of_a_whole_generator(spectral: bool) -> None:
    """All with more than one dimension, but for the class's vectors."""
    network = SNGANGenerator(
        latent_channels=8, width=16, classes=3, shared_embedding=5, skip_z=True, attention_px=8, spectral=spectral
    )
    expected = {id(p) for name, p in network.named_parameters() if p.ndim > 1 and name != "shared_embedding.weight"}
    found = orthogonal_weights(network)
    assert {id(weight) for weight in found} == expected and len(found) == len(expected)
