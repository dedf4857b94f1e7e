"""PatchGAN and PixelGAN: shapes, gradients, what a score sees."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from i2i.discriminators import PatchDiscriminator, PixelDiscriminator
from i2i.errors import InputError


def assert_learns(network: nn.Module, scores: torch.Tensor) -> None:
    # Squared, since the sum alone cannot move a bias that a norm would subtract.
    scores.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("layers", [1, 3, 5])
def test_patchgan_on_odd_sizes(layers: int, norm: str, spectral: bool) -> None:
    network = PatchDiscriminator(in_channels=5, width=4, layers=layers, norm=norm, spectral=spectral)  # type: ignore[arg-type]
    scores = network(torch.randn(2, 5, 131, 167))
    assert scores.shape == (2, 1, 131 // 2**layers - 2, 167 // 2**layers - 2)
    assert_learns(network, scores)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == layers + 2
    assert all(is_parametrized(conv, "weight") == spectral for conv in convs)


@pytest.mark.parametrize(("layers", "field_px"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_receptive_field(layers: int, field_px: int) -> None:
    """Isola et al. 2017, §6.1.2: 16×16, 70×70 …; found by the gradient of one score."""
    network = PatchDiscriminator(in_channels=1, width=1, layers=layers, norm="none")
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)  # no weight is zero, no path is shut
    images = torch.ones(1, 1, 320, 320, requires_grad=True)
    scores = network(images)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    assert images.grad is not None
    rows, columns = images.grad[0, 0].nonzero(as_tuple=True)
    assert rows.max() - rows.min() + 1 == field_px
    assert columns.max() - columns.min() + 1 == field_px


def test_widths_double_up_to_eight_fold() -> None:
    network = PatchDiscriminator(in_channels=6, layers=5)
    assert [block[0].out_channels for block in network.blocks] == [64, 128, 256, 512, 512, 512]
    assert sum(p.numel() for p in PatchDiscriminator(in_channels=6).parameters()) == pytest.approx(2.769e6, rel=1e-3)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_smallest_image(norm: str) -> None:
    network = PatchDiscriminator(in_channels=3, width=2, layers=3, norm=norm).eval()  # type: ignore[arg-type]
    assert network(torch.randn(1, 3, 24, 24)).shape == (1, 1, 1, 1)
    with pytest.raises(InputError, match="at least 24 px, got 23 x 24"):
        network(torch.randn(1, 3, 23, 24))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="at least one layer, got 0"):
        PatchDiscriminator(in_channels=3, layers=0)
    with pytest.raises(InputError, match=r"\(N, 6, H, W\), got \(1, 3, 64, 64\)"):
        PatchDiscriminator(in_channels=6, width=1)(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_pixelgan(norm: str) -> None:
    network = PixelDiscriminator(in_channels=4, width=3, norm=norm)  # type: ignore[arg-type]
    scores = network(torch.randn(2, 4, 7, 5))
    assert scores.shape == (2, 1, 7, 5)
    assert_learns(network, scores)


def test_pixelgan_sees_single_pixels() -> None:
    images = torch.randn(1, 4, 7, 5, requires_grad=True)
    PixelDiscriminator(in_channels=4, norm="none")(images)[0, 0, 3, 2].backward()
    assert images.grad is not None
    assert images.grad.abs().sum((0, 1)).nonzero().tolist() == [[3, 2]]
