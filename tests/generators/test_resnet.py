"""The residual generator: shapes, gradients, sizes."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from i2i.errors import InputError
from i2i.generators import ResNetGenerator
from i2i.generators.resnet import ResidualBlock
from i2i.layers.conv import OutputActivation


@pytest.mark.parametrize(
    ("upsampling", "antialias", "downsamplings"),
    [("transposed", False, 2), ("resize", False, 1), ("bilinear", True, 2), ("transposed", True, 3)],
)
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_forward_and_backward(norm: str, upsampling: str, antialias: bool, downsamplings: int) -> None:
    network = ResNetGenerator(
        in_channels=1,
        out_channels=4,
        width=4,
        blocks=3,
        norm=norm,  # type: ignore[arg-type]
        dropout=True,
        upsampling=upsampling,  # type: ignore[arg-type]
        antialias=antialias,
        downsamplings=downsamplings,
    )
    output = network(torch.randn(2, 1, 40, 24))
    assert output.shape == (2, 4, 40, 24)
    assert output.abs().max() <= 1
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_residual_block_against_functions() -> None:
    block = ResidualBlock(4, norm="instance", dropout=False)

    def conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.instance_norm(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight))

    x = torch.randn(2, 4, 7, 9)
    expected = x + conv(F.relu(conv(x, block.first[0].weight)), block.second[0].weight)
    torch.testing.assert_close(block(x), expected)


def test_six_and_nine_blocks_have_the_published_size() -> None:
    """11.4 million parameters with 9 blocks, of which each has two 3×3 convolutions of 256 channels."""
    sizes = {
        blocks: sum(p.numel() for p in ResNetGenerator(in_channels=3, out_channels=3, blocks=blocks).parameters())
        for blocks in (6, 9)
    }
    assert sizes[9] == pytest.approx(11.4e6, rel=0.01)
    assert sizes[9] - sizes[6] == 3 * 2 * 256 * 256 * 9


def test_dropout_only_where_asked() -> None:
    for dropout, expected in ((True, 2), (False, 0)):
        network = ResNetGenerator(in_channels=3, out_channels=3, width=1, blocks=2, dropout=dropout)
        assert sum(isinstance(module, nn.Dropout) for module in network.modules()) == expected


def test_widths_double_with_each_halving() -> None:
    network = ResNetGenerator(in_channels=3, out_channels=3, width=2, blocks=1, downsamplings=4)
    assert [block[0].out_channels for block in network.down] == [4, 8, 16, 32]
    assert [block[0].out_channels for block in network.up] == [16, 8, 4, 2]


def test_output_activation() -> None:
    networks = {
        kind: ResNetGenerator(in_channels=3, out_channels=3, width=2, blocks=1, output_activation=kind).eval()
        for kind in get_args(OutputActivation)
    }
    for network in networks.values():
        network.load_state_dict(networks["none"].state_dict())
    x = torch.randn(1, 3, 16, 16)
    raw = networks["none"](x)
    torch.testing.assert_close(networks["tanh"](x), torch.tanh(raw))
    torch.testing.assert_close(networks["sigmoid"](x), 1 / (1 + torch.exp(-raw)))
    assert networks["sigmoid"].output_range == (0, 1)
    assert networks["tanh"].output_range == networks["none"].output_range == (-1, 1)


def test_a_label_map_is_zeros_and_ones() -> None:
    images, labels = (
        ResNetGenerator(in_channels=35, out_channels=3, width=1, blocks=1, takes_labels=takes_labels)
        for takes_labels in (False, True)
    )
    assert (images.input_range, labels.input_range) == ((-1, 1), (0, 1))


def test_wrong_sizes_are_refused() -> None:
    network = ResNetGenerator(in_channels=3, out_channels=3, width=1, blocks=1)
    assert network(torch.randn(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    with pytest.raises(InputError, match="multiples of 4 px, got 21 x 16"):
        network(torch.randn(1, 3, 21, 16))
    with pytest.raises(InputError, match="at least 8 px, got 4 x 16"):
        network(torch.randn(1, 3, 4, 16))
    deep = ResNetGenerator(in_channels=3, out_channels=3, width=1, blocks=1, downsamplings=4)
    assert (deep.size_multiple, deep.smallest_px) == (16, 32)
    assert deep(torch.randn(1, 3, 32, 48)).shape == (1, 3, 32, 48)
    with pytest.raises(InputError, match="at least 32 px, got 16 x 48"):
        deep(torch.randn(1, 3, 16, 48))
    with pytest.raises(InputError, match="at least one downsampling, got 0"):
        ResNetGenerator(in_channels=3, out_channels=3, downsamplings=0)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("downsamplings", [1, 3])
def test_skips_and_residual(norm: str, downsamplings: int) -> None:
    network = ResNetGenerator(
        in_channels=3,
        out_channels=3,
        width=4,
        blocks=2,
        norm=norm,  # type: ignore[arg-type]
        downsamplings=downsamplings,
        skips=True,
        residual=1.5,
    )
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    network(images).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name

    # The features of the full size meet the head directly: without the rest the output still depends on them.
    with torch.no_grad():
        network.head.weight[:, :4] = 0
        for up in network.up[:-1]:
            up[0].weight.zero_()
        expected = torch.tanh(
            network.head(torch.cat([torch.zeros(2, 4, 32, 48), network.stem(images)], 1)) + 1.5 * images
        )
    torch.testing.assert_close(network(images), expected)
    with pytest.raises(InputError, match="as many channels out as in"):
        ResNetGenerator(in_channels=1, out_channels=3, residual=1.0)


def test_an_untrained_residual_network_shows_its_input() -> None:
    network = ResNetGenerator(in_channels=1, out_channels=1, blocks=1, residual=1.5)
    images = torch.rand(1, 1, 16, 16) * 2 - 1
    torch.testing.assert_close(network(images), torch.tanh(1.5 * images), rtol=0, atol=0.4)
    network.head.weight.data.zero_()
    torch.testing.assert_close(network(images), torch.tanh(1.5 * images))


def test_taps_are_the_stages_and_their_channels() -> None:
    network = ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=4, skips=True).eval()
    images = torch.rand(2, 3, 32, 32)
    stages = [images, network.stem(images)]
    for stage in (*network.down, *network.blocks):
        stages.append(stage(stages[-1]))
    assert network.tap_channels == tuple(features.shape[1] for features in stages)

    output, features = network(images, taps=(0, 3, 5))
    assert torch.equal(output, network(images))
    assert all(torch.equal(tapped, stages[tap]) for tap, tapped in zip((0, 3, 5), features, strict=True))

    called = []
    network.blocks[3].register_forward_hook(lambda *_: called.append("behind the last tap"))
    output, features = network(images, taps=(0, 3, 6), decode=False)
    assert output is None and torch.equal(features[2], stages[6]) and not called
