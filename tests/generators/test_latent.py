"""Generators that start from noise."""

import pytest
import torch

from i2i.errors import InputError
from i2i.generators import DCGANGenerator, MLPGenerator


@pytest.mark.parametrize("size", [8, 32, 128])
def test_dcgan(size: int) -> None:
    network = DCGANGenerator(latent_channels=7, out_channels=5, width=4, size=size)
    output = network(torch.randn(3, 7))
    assert output.shape == (3, 5, size, size)
    assert output.abs().max() <= 1
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_dcgan_has_the_maps_of_the_papers_figure() -> None:
    """Figure 1: 4×4×1024, 8×8×512, 16×16×256, 32×32×128, then 64×64×3."""
    network = DCGANGenerator(latent_channels=100, width=128, size=64)
    x, shapes = torch.randn(1, 100, 1, 1), []
    for block in network.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32)]
    assert network.head(x).shape == (1, 3, 64, 64)


def test_dcgan_refuses_what_it_cannot_take() -> None:
    for size in (4, 48):
        with pytest.raises(InputError, match=f"power of two of at least 8 px, got {size}"):
            DCGANGenerator(size=size)
    with pytest.raises(InputError, match=r"\(N, 100\), got \(2, 100, 1, 1\)"):
        DCGANGenerator(width=1)(torch.randn(2, 100, 1, 1))


@pytest.mark.parametrize("layers", [1, 3])
def test_mlp(layers: int) -> None:
    network = MLPGenerator(latent_channels=7, out_channels=2, width=16, layers=layers)
    points = network(torch.randn(9, 7))
    assert points.shape == (9, 2)
    points.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    assert sum(p.numel() for p in network.parameters()) == 8 * 16 + (layers - 1) * 17 * 16 + 17 * 2
