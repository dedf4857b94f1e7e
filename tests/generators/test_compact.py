"""The compact network against spandrel's, and what it does with bad arguments."""

import pytest
import torch
from spandrel.architectures.Compact import Compact
from torch import nn

from i2i.errors import InputError
from i2i.generators import CompactGenerator


@pytest.mark.parametrize(
    ("ours", "theirs"), [("prelu", "prelu"), ("relu", "relu"), ("leaky_relu", "leakyrelu")], ids=lambda name: name
)
@pytest.mark.parametrize(("channels", "convs", "scale"), [(3, 3, 1), (1, 0, 2), (4, 1, 3), (3, 2, 4), (3, 1, 8)])
def test_equal_to_spandrel(channels: int, convs: int, scale: int, ours: str, theirs: str) -> None:
    reference = Compact(
        num_in_ch=channels, num_out_ch=channels, num_feat=6, num_conv=convs, upscale=scale, act_type=theirs
    )
    for module in reference.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -1, 1)
    network = CompactGenerator(
        in_channels=channels,
        out_channels=channels,
        width=6,
        convs=convs,
        scale=scale,
        activation=ours,  # type: ignore[arg-type]
    )
    network.load_state_dict(reference.state_dict())
    images = torch.rand(2, channels, 5, 7)
    torch.testing.assert_close(network(images), reference(images))


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_every_parameter_learns(scale: int) -> None:
    network = CompactGenerator(in_channels=3, out_channels=3, width=6, convs=2, scale=scale)
    output = network(torch.rand(2, 3, 5, 7))
    assert output.shape == (2, 3, 5 * scale, 7 * scale)
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_bad_arguments_are_told() -> None:
    with pytest.raises(InputError, match="got 4 in, 3 out"):
        CompactGenerator(in_channels=4, out_channels=3)
    with pytest.raises(InputError, match="scale of at least 1, got 0"):
        CompactGenerator(in_channels=3, out_channels=3, scale=0)
    with pytest.raises(InputError, match="got 'gelu'"):
        CompactGenerator(in_channels=3, out_channels=3, activation="gelu")  # type: ignore[arg-type]
