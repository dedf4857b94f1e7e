"""Discriminators that give one score for a whole sample."""

import pytest
import torch

from i2i.discriminators import DCGANDiscriminator, MLPDiscriminator
from i2i.errors import InputError


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("size", [8, 32, 128])
def test_dcgan(size: int, norm: str, spectral: bool) -> None:
    network = DCGANDiscriminator(in_channels=2, width=4, size=size, norm=norm, spectral=spectral)  # type: ignore[arg-type]
    scores = network(torch.randn(3, 2, size, size))
    assert scores.shape == (3,)
    scores.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_dcgan_widths_double_down_to_four_pixels() -> None:
    network = DCGANDiscriminator(width=64, size=64)
    assert [block[0].out_channels for block in network.blocks] == [64, 128, 256, 512]
    assert network.blocks(torch.randn(1, 3, 64, 64)).shape == (1, 512, 4, 4)


def test_dcgan_refuses_other_sizes() -> None:
    with pytest.raises(InputError, match="images of 64 x 64 px, got 65 x 64"):
        DCGANDiscriminator(width=1)(torch.randn(1, 3, 65, 64))
    with pytest.raises(InputError, match="power of two of at least 8 px, got 100"):
        DCGANDiscriminator(size=100)


def test_mlp() -> None:
    network = MLPDiscriminator(in_channels=2, width=16, layers=2)
    scores = network(torch.randn(9, 2))
    assert scores.shape == (9,)
    scores.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
