"""Both SRResNets: shapes, gradients, and what the output adds to or passes through."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from i2i.errors import InputError
from i2i.generators import MSRResNetGenerator, SRResNetGenerator
from i2i.generators.srresnet import ShuffleUp


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("kind", [SRResNetGenerator, MSRResNetGenerator])
def test_forward_and_backward(kind: type[nn.Module], scale: int) -> None:
    network = kind(in_channels=1, out_channels=2, width=6, blocks=2, scale=scale)
    output = network(torch.rand(2, 1, 7, 5))
    assert output.shape == (2, 2, 7 * scale, 5 * scale)
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_output_activation_keeps_the_range() -> None:
    def make(activation: str) -> nn.Module:
        torch.manual_seed(0)
        return SRResNetGenerator(
            in_channels=3,
            out_channels=3,
            width=4,
            blocks=1,
            scale=2,
            output_activation=activation,  # type: ignore[arg-type]
        ).eval()

    images = torch.rand(1, 3, 6, 6)
    raw = make("none")(images)
    torch.testing.assert_close(make("sigmoid")(images), torch.sigmoid(raw))
    # By the identity (tanh(x) + 1) / 2 = sigmoid(2 x).
    torch.testing.assert_close(make("tanh")(images), torch.sigmoid(2 * raw))


def test_details_are_added_to_the_input_enlarged() -> None:
    network = MSRResNetGenerator(in_channels=1, out_channels=1, width=4, blocks=1, scale=3)
    nn.init.zeros_(network.head.weight)
    images = torch.rand(1, 1, 5, 7)
    enlarged = Image.fromarray(images[0, 0].numpy()).resize((21, 15), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(enlarged))[None, None]
    torch.testing.assert_close(network(images), pixels, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="got 3 in, 1 out"):
        MSRResNetGenerator(in_channels=3, out_channels=1)


def test_shuffle_puts_channels_side_by_side() -> None:
    up = ShuffleUp(2, factor=3, activation=nn.Identity())
    features = torch.randn(1, 2, 4, 5)
    wide = F.conv2d(features, up.conv.weight, up.conv.bias, padding=1)
    for channel, row, column in [(0, 0, 0), (0, 2, 1), (1, 1, 2)]:
        torch.testing.assert_close(up(features)[:, channel, row::3, column::3], wide[:, channel * 9 + row * 3 + column])
