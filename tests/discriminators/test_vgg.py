"""The VGG-style discriminator: sizes, widths, gradients."""

import pytest
import torch
from torch import nn

from i2i.discriminators import VGGDiscriminator
from i2i.errors import InputError


@pytest.mark.parametrize("size_px", [6, 8, 48, 96, 128])
def test_every_parameter_learns(size_px: int) -> None:
    network = VGGDiscriminator(in_channels=5, width=3, size_px=size_px)
    scores = network(torch.rand(3, 5, size_px, size_px))
    assert scores.shape == (3, 1)
    scores.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("size_px", "left_px", "widths"),
    [
        (64, 4, [64, 64, 128, 128, 256, 256, 512, 512]),
        (96, 3, [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]),
        (128, 4, [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]),
        (192, 3, [64, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512]),
        (256, 4, [64, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512]),
    ],
)
def test_published_widths(size_px: int, left_px: int, widths: list[int]) -> None:
    with torch.device("meta"):
        network = VGGDiscriminator(in_channels=3, size_px=size_px)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == widths
    hidden, _ = (module for module in network.modules() if isinstance(module, nn.Linear))
    assert hidden.in_features == 512 * left_px**2


def test_size_of_the_network() -> None:
    """That of ESRGAN's discriminator for 128 px, added up by hand."""
    with torch.device("meta"):
        network = VGGDiscriminator(in_channels=3)
    pairs = [(64, 64, 16), (64, 128, 9), (128, 128, 16), (128, 256, 9), (256, 256, 16), (256, 512, 9)]
    pairs += [(512, 512, 16), (512, 512, 9), (512, 512, 16)]
    expected = 27 * 64 + 64 + sum(taps * inputs * outputs + 2 * outputs for inputs, outputs, taps in pairs)
    expected += 512 * 16 * 100 + 100 + 100 + 1
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("size_px", [0, 3, 4, 5, 80, 100, 160])
def test_sizes_that_do_not_halve_to_three_or_four(size_px: int) -> None:
    with pytest.raises(InputError, match=rf"size_px to be 3 or 4 times a power of two.* got {size_px}"):
        VGGDiscriminator(in_channels=3, width=1, size_px=size_px)


def test_other_images_are_refused() -> None:
    network = VGGDiscriminator(in_channels=3, width=1, size_px=16)
    with pytest.raises(InputError, match="images of 16 x 16 px, got 16 x 17"):
        network(torch.zeros(1, 3, 16, 17))
    with pytest.raises(InputError, match=r"shape \(N, 3, H, W\), got \(1, 1, 16, 16\)"):
        network(torch.zeros(1, 1, 16, 16))


def test_bfloat16_and_channels_last_change_nothing_but_the_last_digits() -> None:
    network = VGGDiscriminator(in_channels=3, width=8, size_px=32)
    images = torch.rand(4, 3, 32, 32)
    expected = network(images)
    network = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = network(images)
    assert scores.dtype == torch.bfloat16
    torch.testing.assert_close(scores.float(), expected, rtol=0.05, atol=0.03)
