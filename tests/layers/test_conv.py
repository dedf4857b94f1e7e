"""Convolution blocks, spectral norm and up-sampling against PyTorch's functions and the SVD."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from i2i.errors import InputError
from i2i.layers.conv import add_spectral_norm, conv_block
from i2i.layers.init import init_orthogonal, init_residual, init_small, init_weights, init_xavier
from i2i.layers.resample import upsample_conv


def test_conv_block_is_conv_norm_activation() -> None:
    block = conv_block(
        3, 5, kernel_size=3, stride=2, padding=1, padding_mode="reflect", norm="instance", activation="relu"
    )
    x = torch.randn(2, 3, 9, 8)
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    expected = F.relu(F.instance_norm(F.conv2d(padded, block[0].weight, stride=2)))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("norm", "biased"), [("batch", False), ("instance", False), ("none", True)])
def test_bias_only_where_no_norm_subtracts_it(norm: str, biased: bool) -> None:
    block = conv_block(3, 5, kernel_size=1, norm=norm)  # type: ignore[arg-type]
    assert (block[0].bias is not None) == biased


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(3, 8, 4, 2, 1), nn.Linear(6, 5), nn.Embedding(4, 6)],
    ids=lambda m: type(m).__name__,
)
def test_spectral_norm_against_svd(layer: nn.Module) -> None:
    network = init_weights(nn.Sequential(layer), std=0.5)
    raw = layer.weight.detach().clone()
    add_spectral_norm(network)
    for _ in range(200):  # a power iteration each
        weight = network[0].weight
    # Output channels come second in a transposed convolution.
    matrix = (raw.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else raw).flatten(1)
    sigma = torch.linalg.svdvals(matrix)[0]
    torch.testing.assert_close(weight, raw / sigma, rtol=1e-4, atol=1e-5)


def test_initial_statistics() -> None:
    network = init_weights(
        nn.Sequential(nn.Conv2d(64, 64, 4), nn.BatchNorm2d(4096), nn.ConvTranspose2d(64, 64, 4), nn.Linear(300, 300))
    )
    for layer, mean in zip(network, (0, 1, 0, 0), strict=True):
        weight = layer.weight
        assert weight.mean().item() == pytest.approx(mean, abs=5 * 0.02 / weight.numel() ** 0.5)
        assert weight.std().item() == pytest.approx(0.02, rel=0.06)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("layer", "fans"),
    [(nn.Conv2d(32, 64, 3), 96 * 9), (nn.Linear(100, 300), 400), (nn.Embedding(40, 80), 120)],
    ids=lambda case: type(case).__name__,
)
def test_xavier_initial_weights(layer: nn.Module, fans: int) -> None:
    init_xavier(layer, gain=1.5)
    limit = 1.5 * (6 / fans) ** 0.5
    assert 0.99 * limit < layer.weight.abs().max() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.03)
    assert isinstance(layer, nn.Embedding) or not layer.bias.any()


def test_small_initial_weights() -> None:
    conv = init_small(nn.Conv2d(64, 128, 3), scale=0.5)
    assert conv.weight.std().item() == pytest.approx(0.5 * (2 / (64 * 9)) ** 0.5, rel=0.02)
    assert conv.bias is not None and not conv.bias.any()


def test_initialisation_reaches_spectrally_normalised_weights() -> None:
    network = nn.Sequential(nn.Conv2d(64, 64, 4))
    add_spectral_norm(network)
    init_weights(network, std=0.5)
    assert network[0].parametrizations.weight.original.std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("kernel_size", [3, 4])
@pytest.mark.parametrize("upsampling", ["transposed", "resize", "bilinear"])
def test_upsampling_doubles_any_size(upsampling: str, kernel_size: int) -> None:
    layer = upsample_conv(3, 5, kernel_size=kernel_size, upsampling=upsampling, bias=True)  # type: ignore[arg-type]
    assert layer(torch.randn(2, 3, 7, 1)).shape == (2, 5, 14, 2)


def test_resize_convolution_has_no_checkerboard() -> None:
    """With equal weights everywhere, a flat map stays flat away from the border; a transposed one does not."""
    flat = torch.ones(1, 1, 8, 8)
    spread = {}
    for upsampling in ("transposed", "resize"):
        layer = upsample_conv(1, 1, kernel_size=3, upsampling=upsampling, bias=False)  # type: ignore[arg-type]
        for parameter in layer.parameters():
            nn.init.ones_(parameter)
        spread[upsampling] = layer(flat)[..., 2:-2, 2:-2].std().item()
    assert spread["resize"] == 0
    assert spread["transposed"] > 0.5


@pytest.mark.parametrize("size", [(6, 5), (17, 16)])
def test_resize_convolution_against_interpolate(size: tuple[int, int]) -> None:
    """Small and large maps, which are computed in different ways, forward and backward."""
    layer = upsample_conv(3, 5, kernel_size=4, upsampling="resize", bias=True).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight, bias = layer.parameters()
    expected = F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), weight, bias, padding=1)
    torch.testing.assert_close(layer(x), expected)
    pull = torch.randn_like(expected)
    gradients = torch.autograd.grad(layer(x), (x, weight, bias), pull)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (x, weight, bias), pull))


def test_unknown_upsampling_is_refused() -> None:
    with pytest.raises(InputError, match="got 'bicubic'"):
        upsample_conv(1, 1, kernel_size=4, upsampling="bicubic", bias=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 7, 3), nn.Conv2d(2, 40, 3), nn.Linear(6, 50), nn.Linear(50, 6), nn.Embedding(5, 9)],
    ids=lambda m: f"{type(m).__name__} {tuple(m.weight.shape)}",
)
def test_orthogonal_weights_by_their_singular_values(layer: nn.Module) -> None:
    """All are 1; and no two draws are alike."""
    assert init_orthogonal(layer) is layer
    first = layer.weight.detach().clone()
    singular = torch.linalg.svdvals(first.flatten(1))
    torch.testing.assert_close(singular, torch.ones_like(singular), rtol=0, atol=1e-5)
    assert not init_orthogonal(layer).weight.allclose(first)
    assert getattr(layer, "bias", None) is None or not layer.bias.any()


def test_initial_weights_of_residual_networks_have_names() -> None:
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    assert torch.equal(init_residual(layer, "xavier").weight, before)
    init_residual(layer, "orthogonal")
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(3))
    with pytest.raises(InputError, match='"xavier" or "orthogonal", got \'kaiming\''):
        init_residual(layer, "kaiming")  # type: ignore[arg-type]
