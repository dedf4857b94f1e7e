"""StyleGAN's discriminator: its blocks written out, what it refuses, and its slopes."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn

from i2i.discriminators import StyleGANDiscriminator
from i2i.errors import InputError
from i2i.losses.penalties import r1_penalty

LABELS = torch.tensor([2, 0, 1, 1])


def assert_learns(network: nn.Module, *, but: str = "nothing") -> None:
    for name, parameter in network.named_parameters():
        if but not in name:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


@pytest.mark.parametrize("group_size", [None, 2, 4])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [8, 64])
def test_a_gradient_reaches_every_parameter(size: int, classes: int, group_size: int | None) -> None:
    network = StyleGANDiscriminator(in_channels=2, width=6, size=size, classes=classes, group_size=group_size)
    scores = network(torch.randn(4, 2, size, size), LABELS if classes else None)
    assert scores.shape == (4,)
    scores.square().mean().backward()
    assert_learns(network)


def test_the_papers_network() -> None:
    """Figure 7c at 1024 px: 32 channels at first, 512 from 64 px down to 4; about 29 million weights."""
    with torch.device("meta"):
        network = StyleGANDiscriminator(size=1024)
    assert [block.conv2.in_channels for block in network.blocks] == [32, 64, 128, 256, 512, 512, 512, 512]
    assert network.conv.in_channels == 513 and network.dense.in_features == 512 * 16
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(29.0, abs=0.1)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def filtered(x: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    return np.stack([sum(correlate2d(c, k, mode="valid") for c, k in zip(x, ks, strict=True)) for ks in kernels])


def blurred(x: np.ndarray, padding: int) -> np.ndarray:
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    return np.stack([correlate2d(np.pad(channel, padding), taps, mode="valid") for channel in x])


def test_block_written_out() -> None:
    network = StyleGANDiscriminator(in_channels=2, width=3, size=16, widest_px=8).double()
    block = network.blocks[0]
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    weights = [
        conv.weight.detach().numpy() / math.sqrt(conv.weight[0].numel())
        for conv in (block.conv1, block.conv2, block.shortcut)
    ]
    biases = [conv.bias.detach().numpy()[:, None, None] for conv in (block.conv1, block.conv2)]
    channels = weights[0].shape[1]
    images = torch.randn(2, channels, 16, 16, dtype=torch.float64)
    for x, result in zip(images.numpy(), block(images).detach().numpy(), strict=True):
        hidden = leaky(filtered(np.pad(x, ((0, 0), (1, 1), (1, 1))), weights[0]) + biases[0])
        residual = leaky(filtered(blurred(hidden, 2), weights[1])[:, ::2, ::2] + biases[1])
        shortcut = filtered(blurred(x, 1)[:, ::2, ::2], weights[2])
        np.testing.assert_allclose(result, (residual + shortcut) / math.sqrt(2), rtol=1e-9, atol=1e-9)


def test_projection_written_out() -> None:
    network, features = StyleGANDiscriminator(width=6, size=16, classes=3), []
    network.head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    images = torch.randn(4, 3, 16, 16)
    scores = network(images, LABELS)
    (phi,) = features
    one_hot = torch.eye(3)[LABELS]
    expected = phi @ network.head.weight[0] / math.sqrt(6) + network.head.bias
    expected = expected + (one_hot @ network.embedding.weight * phi).sum(1) / math.sqrt(6)
    torch.testing.assert_close(scores, expected)


def test_samples_influence_their_group_alone() -> None:
    images = torch.randn(8, 3, 16, 16, dtype=torch.float64)
    changed = images.clone()
    changed[0] *= 2
    for group_size, influenced in ((None, 1), (2, 2), (4, 4)):
        network = StyleGANDiscriminator(width=6, size=16, group_size=group_size).double()
        differ = (network(images) - network(changed)).abs() > 1e-9
        assert differ.tolist() == [index < influenced for index in range(8)]


def test_slopes_can_be_differentiated_again() -> None:
    network = StyleGANDiscriminator(width=6, size=16, classes=3)
    r1_penalty(lambda images: network(images, LABELS), torch.randn(4, 3, 16, 16)).backward()
    assert_learns(network, but="bias")
    small = StyleGANDiscriminator(in_channels=1, width=2, size=8).double()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(small, images, fast_mode=True)


def test_in_16_bits() -> None:
    network, images = StyleGANDiscriminator(width=6, size=16), torch.randn(4, 3, 16, 16)
    exact = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(images)
    assert scores.dtype == torch.bfloat16
    torch.testing.assert_close(scores.float(), exact, rtol=0.1, atol=0.1)


def test_what_it_cannot_take_is_refused() -> None:
    for size in (4, 48):
        with pytest.raises(InputError, match=f"power of two of at least 8 px, got {size}"):
            StyleGANDiscriminator(size=size)
    with pytest.raises(InputError, match="power of two of at least 4 px, got 6"):
        StyleGANDiscriminator(widest_px=6)
    with pytest.raises(InputError, match="at least 2 samples, got 1"):
        StyleGANDiscriminator(width=1, size=8, group_size=1)
    network = StyleGANDiscriminator(width=2, size=16, classes=3)
    with pytest.raises(InputError, match="16 x 16 px, got 16 x 32"):
        network(torch.randn(4, 3, 16, 32), LABELS)
    with pytest.raises(InputError, match=r"\(N, 3, H, W\), got \(4, 1, 16, 16\)"):
        network(torch.randn(4, 1, 16, 16), LABELS)
    with pytest.raises(InputError, match="3 classes: expected the class ids of 4 samples"):
        network(torch.randn(4, 3, 16, 16))
    with pytest.raises(InputError, match="--batch-size"):
        network(torch.randn(1, 3, 16, 16), LABELS[:1])
