"""Equalised layers against plain ones with He's weights, and how fast they learn."""

import math

import pytest
import torch
from torch import nn

from i2i.layers.equalised import EqualisedConv2d, EqualisedLinear


def test_is_a_plain_convolution_with_scaled_weights() -> None:
    layer, images = EqualisedConv2d(5, 7, 3, gain=2**0.5), torch.randn(2, 5, 9, 6)
    nn.init.normal_(layer.bias)
    plain = nn.Conv2d(5, 7, 3, padding=1)
    plain.load_state_dict({"weight": layer.weight * math.sqrt(2 / (5 * 9)), "bias": layer.bias})
    torch.testing.assert_close(layer(images), plain(images))


def test_weights_start_from_a_standard_normal_and_maps_keep_their_deviation() -> None:
    layer = EqualisedConv2d(64, 256, 3)
    assert layer.weight.std().item() == pytest.approx(1, rel=0.02)
    assert not layer.bias.any()
    inner = layer(torch.randn(4, 64, 16, 16))[:, :, 1:-1, 1:-1]
    assert inner.std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_a_linear_layer_starts_alike_whatever_its_multiplier(multiplier: float) -> None:
    layer = EqualisedLinear(400, 300, learning_rate_multiplier=multiplier, initial_bias=1.0)
    outputs = layer(torch.randn(200, 400))
    assert outputs.mean().item() == pytest.approx(1, abs=0.02)
    assert outputs.std().item() == pytest.approx(1, rel=0.05)


def test_a_multiplier_slows_adam_down_by_as_much() -> None:
    def moved_by_one_step(multiplier: float) -> float:
        torch.manual_seed(0)
        layer, features = EqualisedLinear(8, 8, learning_rate_multiplier=multiplier), torch.randn(16, 8)
        before = layer(features).detach()
        optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
        layer(features).square().mean().backward()
        optimiser.step()
        return (layer(features) - before).norm().item()

    assert moved_by_one_step(0.01) == pytest.approx(0.01 * moved_by_one_step(1.0), rel=0.02)


def test_layers_can_be_built_without_weights() -> None:
    with torch.device("meta"):
        assert EqualisedConv2d(2, 3, 1, bias=False).weight.is_meta
        assert EqualisedLinear(2, 3).weight.is_meta
