"""Discriminators that give one score for a whole sample."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.discriminators import DCGANDiscriminator, MLPDiscriminator, PatchDiscriminator, SNGANDiscriminator
from i2i.errors import InputError
from i2i.layers.attention import SelfAttention

LABELS = torch.tensor([1, 0, 1])


def learn(network: nn.Module, scores: Tensor) -> None:
    """A gradient reaches every parameter."""
    scores.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("size", [8, 32, 128])
def test_dcgan(size: int, norm: str, spectral: bool) -> None:
    network = DCGANDiscriminator(in_channels=2, width=4, size=size, norm=norm, spectral=spectral)  # type: ignore[arg-type]
    scores = network(torch.randn(3, 2, size, size))
    assert scores.shape == (3,)
    learn(network, scores)


def test_dcgan_widths_double_down_to_four_pixels() -> None:
    network = DCGANDiscriminator(width=64, size=64)
    assert [block[0].out_channels for block in network.blocks] == [64, 128, 256, 512]
    assert network.blocks(torch.randn(1, 3, 64, 64)).shape == (1, 512, 4, 4)


@pytest.mark.parametrize("kind", [DCGANDiscriminator, SNGANDiscriminator])
def test_other_sizes_are_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(InputError, match="images of 64 x 64 px, got 65 x 64"):
        kind(width=4, size=64)(torch.randn(1, 3, 65, 64))
    with pytest.raises(InputError, match=r"power of two of at least [0-9]+ px, got 100"):
        kind(size=100)


def test_mlp() -> None:
    network = MLPDiscriminator(in_channels=2, width=16, layers=2)
    scores = network(torch.randn(9, 2))
    assert scores.shape == (9,)
    learn(network, scores)


@pytest.mark.parametrize("minibatch", ["none", "stddev", "discrimination"])
@pytest.mark.parametrize("attention_px", [None, 8])
@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("size", [16, 64])
def test_sngan(size: int, classes: int, spectral: bool, attention_px: int | None, minibatch: str) -> None:
    network = SNGANDiscriminator(
        in_channels=2,
        width=16,
        size=size,
        classes=classes,
        spectral=spectral,
        attention_px=attention_px,
        minibatch=minibatch,  # type: ignore[arg-type]
    )
    for module in network.modules():
        if isinstance(module, SelfAttention):
            nn.init.ones_(module.gamma)
    scores = network(torch.randn(3, 2, size, size), LABELS if classes else None)
    assert scores.shape == (3,)
    learn(network, scores)


def test_sngan_has_the_papers_maps() -> None:
    """Two blocks of 128 that halve, two that do not, ReLU, sum over all places, dense."""
    network, shapes = SNGANDiscriminator(spectral=False), []
    for module in (*network.blocks, network.minibatch):
        module.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    assert network(torch.randn(2, 3, 32, 32)).shape == (2,)
    assert shapes == [(128, 16, 16), (128, 8, 8), (128, 8, 8), (128, 8, 8), (128,)]

    conv = (128 * 9 + 1) * 128
    first, halving = (3 * 9 + 1) * 128 + conv + (3 + 1) * 128, 2 * conv + (128 + 1) * 128
    assert sum(p.numel() for p in network.parameters()) == first + halving + 2 * 2 * conv + 128 + 1


def test_sngan_is_narrower_before_16_px() -> None:
    network = SNGANDiscriminator(width=64, size=128)
    assert [block.conv2.out_channels for block in network.blocks] == [16, 32, 64, 64, 64, 64]
    network = SNGANDiscriminator(width=64, size=64, widest_px=8)
    assert [block.conv2.out_channels for block in network.blocks] == [16, 32, 64, 64, 64]
    network = SNGANDiscriminator(width=2, size=128)
    assert [block.conv2.out_channels for block in network.blocks] == [1, 1, 2, 2, 2, 2]


def test_sngan_blocks_written_out() -> None:
    """As the authors have them: in the first block the shortcut takes the mean first, in others last."""
    network = SNGANDiscriminator(in_channels=2, width=6, spectral=False).double()

    def convolve(conv: nn.Module, x: Tensor) -> Tensor:
        return F.conv2d(x, conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2)

    x = torch.randn(3, 2, 32, 32, dtype=torch.float64)
    first, second, third, _ = network.blocks
    residual = F.avg_pool2d(convolve(first.conv2, convolve(first.conv1, x).clamp(min=0)), 2)
    torch.testing.assert_close(first(x), residual + convolve(first.shortcut, F.avg_pool2d(x, 2)))
    x = first(x)
    residual = convolve(second.conv2, convolve(second.conv1, x.clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(second(x), F.avg_pool2d(residual + convolve(second.shortcut, x), 2))
    x = second(x)
    residual = convolve(third.conv2, convolve(third.conv1, x.clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(third(x), residual + x)


def test_sngan_projection_written_out() -> None:
    """Miyato & Koyama 2018, eq. 3: y'Vφ(x) + ψ(φ(x)), with V divided by its largest singular value."""
    network = SNGANDiscriminator(width=6, classes=2).train()
    x = torch.randn(3, 3, 32, 32)
    for _ in range(200):  # a power iteration each
        assert network.embedding.weight.isfinite().all() and network.head.weight.isfinite().all()
    network.eval()
    phi = network.blocks(x).clamp(min=0).sum((2, 3))
    v, psi = (module.parametrizations.weight.original for module in (network.embedding, network.head))
    v, psi = (weight / torch.linalg.svdvals(weight)[0] for weight in (v, psi))
    one_hot = torch.eye(2)[LABELS]
    expected = (one_hot @ v * phi).sum(1) + phi @ psi[0] + network.head.bias
    torch.testing.assert_close(network(x, LABELS), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [DCGANDiscriminator, SNGANDiscriminator, MLPDiscriminator])
def test_class_ids_are_told_and_checked(kind: type[nn.Module]) -> None:
    images = kind is not MLPDiscriminator
    network = kind(in_channels=3, width=16, classes=3, **({"size": 32} if images else {})).eval()
    x = torch.randn(1, 3, *((32, 32) if images else ())).repeat(3, *[1] * (3 if images else 1))
    scores = network(x, torch.tensor([0, 1, 2]))
    assert len(set(scores.tolist())) == 3
    torch.testing.assert_close(network(x, torch.tensor([2, 0, 1])), scores[[2, 0, 1]])
    with pytest.raises(InputError, match="3 classes: expected the class ids of 3 samples"):
        network(x)
    for wrong in (3, -1):
        with pytest.raises(InputError, match=f"from 0 to 2, got {wrong}"):
            network(x, torch.tensor([0, wrong, 0]))


@pytest.mark.parametrize("side", [8, 16, 32])
def test_sngan_attends_to_the_map_that_was_asked_for(side: int) -> None:
    shapes = []
    network = SNGANDiscriminator(width=32, size=64, attention_px=side)
    (attention,) = (module for module in network.modules() if isinstance(module, SelfAttention))
    attention.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    network(torch.randn(2, 3, 64, 64))
    assert shapes == [(2, 16 if side == 32 else 32, side, side)]


def test_sngan_starts_with_the_authors_spread() -> None:
    """Glorot's, times √2 in the convolutions of residual branches."""
    network = SNGANDiscriminator(width=64, classes=20, spectral=False)
    for layer, gain, fans in (
        (network.blocks[1].conv1, 2**0.5, 2 * 64 * 9),
        (network.blocks[3].conv2, 2**0.5, 2 * 64 * 9),
        (network.blocks[1].shortcut, 1, 2 * 64),
        (network.embedding, 1, 20 + 64),
    ):
        limit = gain * (6 / fans) ** 0.5
        assert 0.99 * limit < layer.weight.abs().max() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)


def test_sngan_refuses_maps_that_it_does_not_have() -> None:
    for side in (4, 12, 32):
        with pytest.raises(InputError, match=rf"one of \[16, 8\], got {side}"):
            SNGANDiscriminator(attention_px=side)
    for side in (0, 2, 12):
        with pytest.raises(InputError, match=f"power of two of at least 4 px, got {side}"):
            SNGANDiscriminator(widest_px=side)


def test_mlp_has_a_hidden_layer() -> None:
    with pytest.raises(InputError, match="at least one hidden layer, got 0"):
        MLPDiscriminator(in_channels=2, layers=0)


NETWORKS = {
    "dcgan": lambda kind: DCGANDiscriminator(width=4, size=32, norm="none", minibatch=kind),
    "sngan": lambda kind: SNGANDiscriminator(width=8, minibatch=kind),
    "patch": lambda kind: PatchDiscriminator(in_channels=3, width=4, norm="none", minibatch=kind),
    "mlp": lambda kind: MLPDiscriminator(in_channels=3, width=8, minibatch=kind),
}


@pytest.mark.parametrize("minibatch", ["stddev", "discrimination"])
@pytest.mark.parametrize("name", NETWORKS)
def test_minibatch_statistics_tell_a_batch_from_its_parts(name: str, minibatch: str) -> None:
    x = torch.randn(4, 3, *(() if name == "mlp" else (32, 32)), dtype=torch.float64)
    alone = NETWORKS[name]("none").double().eval()
    torch.testing.assert_close(alone(x)[:2], alone(x[:2]))
    if (name, minibatch) == ("patch", "discrimination"):
        with pytest.raises(InputError, match='"none" or "stddev"'):
            NETWORKS[name](minibatch)
        return
    network = NETWORKS[name](minibatch).double()
    learn(network, network(x))
    network.eval()
    assert (network(x)[:2] - network(x[:2])).abs().max() > 1e-7
    torch.testing.assert_close(network(x.flip(0)), network(x).flip(0))
    with pytest.raises(InputError, match="--batch-size"):
        network(x[:1])


@pytest.mark.parametrize("name", NETWORKS)
def test_features_go_into_the_head(name: str) -> None:
    """Feature matching taps them there."""
    tapped = []
    network = NETWORKS[name]("stddev")
    network.head.register_forward_pre_hook(lambda module, inputs: tapped.append(inputs[0]))
    network(torch.randn(4, 3, *(() if name == "mlp" else (32, 32))))
    assert len(tapped) == 1 and len(tapped[0]) == 4


@pytest.mark.parametrize("name", NETWORKS)
def test_in_16_bits(name: str) -> None:
    network = NETWORKS[name]("stddev" if name == "patch" else "discrimination")
    x = torch.randn(4, 3, *(() if name == "mlp" else (32, 32)))
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(x)
    learn(network, scores.float())


def test_gradient_penalties_go_through_all_parts() -> None:
    network = SNGANDiscriminator(width=8, classes=2, attention_px=8, minibatch="discrimination")
    nn.init.ones_(next(m for m in network.modules() if isinstance(m, SelfAttention)).gamma)
    x = torch.randn(3, 3, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(network(x, LABELS).sum(), x, create_graph=True)
    slope.square().sum().backward()
    for name, parameter in network.named_parameters():
        if "bias" not in name:
            assert parameter.grad is not None and parameter.grad.any(), name
