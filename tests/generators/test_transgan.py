"""TransGAN's generator."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError
from i2i.generators import TransGANGenerator
from i2i.layers.recompute import recompute_activations

SMALL = {"latent_channels": 7, "width": 32, "blocks": (1,), "heads": 2, "grid_px": 4, "grid_from_px": 16}


def learn(network: torch.nn.Module, output: Tensor) -> None:
    """A gradient reaches every parameter."""
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("norm", ["pixel", "layer"])
@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize(
    ("size", "widest_px", "patch_px"), [(16, 8, 1), (16, 8, 2), (16, 64, 1), (32, 8, 1), (32, 16, 2), (64, 32, 1)]
)
def test_draws_and_learns(size: int, widest_px: int, patch_px: int, classes: int, norm: str) -> None:
    network = TransGANGenerator(
        **SMALL, out_channels=5, size=size, classes=classes, widest_px=widest_px, patch_px=patch_px, norm=norm
    )
    output = network(torch.randn(3, 7), torch.tensor([1, 0, 1]) if classes else None)
    assert output.shape == (3, 5, size, size)
    assert output.abs().max() <= 1
    learn(network, output)


def maps_of(network: TransGANGenerator) -> list[tuple[int, ...]]:
    """Sides, channels, squares of attention and blocks of each stage."""
    found = []
    for stage in network.levels:
        height, width, channels = stage.positions.shape
        assert height == width
        found.append((height, channels, stage.grid, len(stage.blocks)))
    return found


def test_has_the_papers_maps() -> None:
    """For CIFAR-10: 8x8x1024, 16x16x256 and 32x32x64, of 5, 4 and 2 blocks that attend to everything."""
    with torch.device("meta"):
        network = TransGANGenerator()
    assert maps_of(network) == [(8, 1024, 8, 5), (16, 256, 16, 4), (32, 64, 32, 2)]
    block = [12 * c**2 + (4 + 1 + 1) * c + 4 * (2 * s - 1) ** 2 for s, c in ((8, 1024), (16, 256), (32, 64))]
    positions = 8**2 * 1024 + 16**2 * 256 + 32**2 * 64
    expected = (256 + 1) * 8 * 8 * 1024 + 5 * block[0] + 4 * block[1] + 2 * block[2] + positions + (64 + 1) * 3
    assert sum(p.numel() for p in network.parameters()) == expected


def test_has_the_authors_maps_for_256_px() -> None:
    with torch.device("meta"):
        network = TransGANGenerator(size=256, latent_channels=512, blocks=(5, 4), widest_px=32)
    large = [(64, 256, 16, 4), (128, 64, 16, 4), (256, 16, 16, 4)]
    assert maps_of(network) == [(8, 1024, 8, 5), (16, 1024, 16, 4), (32, 1024, 32, 4), *large]


def test_written_out() -> None:
    """A linear layer; interpolation, then pixel shuffle; a norm, the pixels of each token, tanh."""
    network = TransGANGenerator(**SMALL, size=64, widest_px=16, patch_px=2).double()
    z = torch.randn(2, 7, dtype=torch.float64)
    tokens = z @ network.project.weight.T + network.project.bias
    x = network.levels[0](tokens.view(2, 8, 8, 32))
    x = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=2, mode="bicubic")
    x = network.levels[1](x.permute(0, 2, 3, 1))
    x = network.levels[2](torch.nn.PixelShuffle(2)(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    pixels = torch.tanh(x @ network.head.weight.T + network.head.bias)
    assert pixels.shape == (2, 32, 32, 3 * 4)
    expected = torch.empty(2, 3, 64, 64, dtype=torch.float64)
    for i in range(2):
        for j in range(2):
            expected[:, :, i::2, j::2] = pixels[..., 2 * i + j :: 4].permute(0, 3, 1, 2)
    torch.testing.assert_close(network(z), expected)


def test_starts_nearly_grey_and_with_all_that_latent_vectors_say() -> None:
    """Otherwise a discriminator knows generated images at once by their noise."""
    network = TransGANGenerator(latent_channels=64, width=64, size=32, blocks=(1,), heads=2)
    tokens = network.project(torch.randn(50, 64))
    assert tokens.std().item() == pytest.approx(1, rel=0.05)
    drawn = network(torch.randn(50, 64))
    assert drawn.abs().mean() < 0.2
    assert drawn.std(0).mean() > 0.3 * drawn.std()


def test_classes_are_joined_to_the_latent_vectors() -> None:
    network = TransGANGenerator(**SMALL, size=16, classes=3)
    z = torch.randn(1, 7).expand(3, 7)
    drawn = network(z, torch.tensor([0, 1, 2]))
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(network(z, torch.tensor([2, 0, 1])), drawn[[2, 0, 1]])
    with pytest.raises(InputError, match="3 classes"):
        network(z)
    with pytest.raises(InputError, match="from 0 to 2, got 3"):
        network(z, torch.tensor([0, 1, 3]))


def test_in_16_bits() -> None:
    network, z = TransGANGenerator(**SMALL, size=32), torch.randn(3, 7)
    whole = network(z)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(z)
    assert (output.float() - whole).abs().mean() < 0.05 * whole.abs().mean()
    learn(network, output.float())


def test_activations_can_be_computed_again() -> None:
    network, z = TransGANGenerator(**SMALL, size=32), torch.randn(3, 7)
    learn(network, network(z))
    kept = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    runs = []
    network.levels[1].blocks[0].attention.register_forward_hook(lambda *_: runs.append(1))
    recompute_activations(network)
    learn(network, network(z))
    assert len(runs) == 2
    for parameter, gradient in zip(network.parameters(), kept, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_built_on_meta_and_filled() -> None:
    """As generators are read from folders."""
    network = TransGANGenerator(**SMALL, size=32, classes=3).eval()
    with torch.device("meta"):
        twin = TransGANGenerator(**network.arguments).eval()
    twin.load_state_dict(network.state_dict(), assign=True)
    latents, labels = torch.randn(2, 7), torch.tensor([2, 0])
    assert torch.equal(twin(latents, labels), network(latents, labels))


def test_refuses_what_it_cannot_take() -> None:
    for size in (8, 48):
        with pytest.raises(InputError, match=f"size to be a power of two of at least 16 px, got {size}"):
            TransGANGenerator(size=size)
    with pytest.raises(InputError, match="widest_px to be a power of two of at least 8 px, got 4"):
        TransGANGenerator(widest_px=4)
    for name in ("patch_px", "grid_px"):
        with pytest.raises(InputError, match=f"{name} to be a power of two of at least 1 px, got 3"):
            TransGANGenerator(**{name: 3})
    with pytest.raises(InputError, match="patch_px to be at most 4 for 32 px, got 8"):
        TransGANGenerator(patch_px=8)
    with pytest.raises(InputError, match="heads to be at least 1, got 0"):
        TransGANGenerator(heads=0)
    for width in (0, 40):
        with pytest.raises(InputError, match=f"multiple of 64, for 4 heads and 1/16 of the channels .*, got {width}"):
            TransGANGenerator(width=width)
    for blocks in ((), (2, 0)):
        with pytest.raises(InputError, match="at least one block"):
            TransGANGenerator(width=64, blocks=blocks)
    with pytest.raises(InputError, match=r"\(N, 7\), got \(2, 7, 1, 1\)"):
        TransGANGenerator(**SMALL, size=16)(torch.randn(2, 7, 1, 1))
