"""ESRGAN's generator: shapes, gradients, its dense block written out, ranges at the start of training."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError
from i2i.generators import RRDBGenerator
from i2i.generators.rrdb import DenseBlock


@pytest.mark.parametrize(
    ("scale", "unshuffle", "plus"),
    [
        (1, 1, False),
        (2, 1, True),
        (3, 1, False),
        (4, 1, False),
        (8, 1, False),
        (2, 2, False),
        (1, 4, True),
        (1, 2, False),
    ],
)
def test_forward_and_backward(scale: int, unshuffle: int, plus: bool) -> None:
    network = RRDBGenerator(
        in_channels=5, out_channels=2, width=6, growth=3, blocks=2, scale=scale, unshuffle=unshuffle, plus=plus
    )
    height, width = 3 * unshuffle, 5 * unshuffle
    output = network(torch.randn(2, 5, height, width))
    assert output.shape == (2, 2, scale * height, scale * width)
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("plus", [False, True])
def test_dense_block_against_functions(plus: bool) -> None:
    block = DenseBlock(4, growth=3, plus=plus)
    x = torch.randn(2, 4, 6, 7)

    def grow(number: int, *seen: Tensor) -> Tensor:
        conv = block.convs[number]
        return F.conv2d(torch.cat(seen, 1), conv.weight, conv.bias, padding=1)

    def leaky(features: Tensor) -> Tensor:
        return torch.where(features > 0, features, 0.2 * features)

    x1 = leaky(grow(0, x))
    x2 = leaky(grow(1, x, x1))
    if plus:
        assert block.skip is not None
        x2 = x2 + torch.einsum("oi,nihw->nohw", block.skip.weight[:, :, 0, 0], x)
    x3 = leaky(grow(2, x, x1, x2))
    x4 = leaky(grow(3, x, x1, x2, x3)) + (x2 if plus else 0)
    torch.testing.assert_close(block(x), x + 0.2 * grow(4, x, x1, x2, x3, x4))


def test_untrained_dense_blocks_are_close_to_the_identity() -> None:
    network = RRDBGenerator(in_channels=3, out_channels=3, width=16, growth=8, blocks=2)
    features = torch.randn(1, 16, 12, 12)
    for block in network.blocks:
        for dense in block.dense:
            assert 0 < (dense(features) - features).std() < 0.02


def test_bad_input_is_told() -> None:
    network = RRDBGenerator(in_channels=3, out_channels=3, width=4, growth=2, blocks=1, scale=2, unshuffle=2)
    assert network.size_multiple == 2
    with pytest.raises(InputError, match="multiples of 2 px, got 5 x 6"):
        network(torch.zeros(1, 3, 5, 6))
    with pytest.raises(InputError, match="scale of 3 or a power of two, got 6"):
        RRDBGenerator(in_channels=3, out_channels=3, scale=6)
    with pytest.raises(InputError, match="unshuffle to be at least 1, got 0"):
        RRDBGenerator(in_channels=3, out_channels=3, unshuffle=0)
