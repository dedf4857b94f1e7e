"""Generators that start from noise."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.generators import DCGANGenerator, MLPGenerator, SNGANGenerator
from i2i.layers.attention import SelfAttention
from i2i.layers.norm import BatchNorm2d, set_inference_mode

LABELS = torch.tensor([1, 0, 1])


def learn(network: nn.Module, output: Tensor) -> None:
    """A gradient reaches every parameter."""
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("size", [8, 32, 128])
def test_dcgan(size: int, classes: int, upsampling: str) -> None:
    network = DCGANGenerator(
        latent_channels=7,
        out_channels=5,
        width=4,
        size=size,
        classes=classes,
        upsampling=upsampling,  # type: ignore[arg-type]
    )
    output = network(torch.randn(3, 7), LABELS if classes else None)
    assert output.shape == (3, 5, size, size)
    assert output.abs().max() <= 1
    learn(network, output)


def test_dcgan_has_the_maps_of_the_papers_figure() -> None:
    """Figure 1: 4×4×1024, 8×8×512, 16×16×256, 32×32×128, then 64×64×3."""
    network = DCGANGenerator(latent_channels=100, width=128, size=64)
    x, shapes = torch.randn(1, 100, 1, 1), []
    for block in network.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32)]
    assert network.head(x).shape == (1, 3, 64, 64)


def test_dcgan_by_resizing_has_3x3_kernels() -> None:
    by_kind = {kind: DCGANGenerator(width=4, size=16, upsampling=kind) for kind in ("transposed", "resize")}  # type: ignore[arg-type]
    kernels = {kind: [p.shape[2:] for p in network.parameters() if p.ndim == 4] for kind, network in by_kind.items()}
    assert kernels == {"transposed": [(4, 4)] * 3, "resize": [(4, 4), (3, 3), (3, 3)]}


def test_dcgan_refuses_what_it_cannot_take() -> None:
    for size in (4, 48):
        with pytest.raises(InputError, match=f"power of two of at least 8 px, got {size}"):
            DCGANGenerator(size=size)
    with pytest.raises(InputError, match=r"\(N, 100\), got \(2, 100, 1, 1\)"):
        DCGANGenerator(width=1)(torch.randn(2, 100, 1, 1))


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("layers", [1, 3])
def test_mlp(layers: int, classes: int) -> None:
    network = MLPGenerator(latent_channels=7, out_channels=2, width=16, layers=layers, classes=classes)
    points = network(torch.randn(3, 7), LABELS if classes else None)
    assert points.shape == (3, 2)
    learn(network, points)
    expected = (8 + classes) * 16 + (layers - 1) * 17 * 16 + 17 * 2
    assert sum(p.numel() for p in network.parameters()) == expected


def test_mlp_has_a_hidden_layer() -> None:
    with pytest.raises(InputError, match="at least one hidden layer, got 0"):
        MLPGenerator(latent_channels=2, out_channels=2, layers=0)


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("attention_px", [None, 8, 16])
@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("size", [16, 32, 128])
def test_sngan(size: int, classes: int, attention_px: int | None, spectral: bool) -> None:
    network = SNGANGenerator(
        latent_channels=7,
        out_channels=5,
        width=16,
        size=size,
        classes=classes,
        attention_px=attention_px,
        spectral=spectral,
    )
    for module in network.modules():
        if isinstance(module, SelfAttention):
            nn.init.ones_(module.gamma)
    output = network(torch.randn(3, 7), LABELS if classes else None)
    assert output.shape == (3, 5, size, size)
    assert output.abs().max() <= 1
    learn(network, output)


def test_sngan_has_the_papers_maps() -> None:
    """Dense, 4×4×256; three blocks of 256, to 32×32; batch norm, ReLU, 3×3 convolution."""
    network, shapes = SNGANGenerator(), []
    for module in (*network.blocks, network.norm):
        module.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    assert network(torch.randn(2, 128)).shape == (2, 3, 32, 32)
    assert shapes == [(256, 8, 8), (256, 16, 16), (256, 32, 32), (256, 32, 32)]

    dense = (128 + 1) * 256 * 4 * 4
    block = 2 * (256 + 256) + 2 * (256 * 9 + 1) * 256 + (256 + 1) * 256
    assert sum(p.numel() for p in network.parameters()) == dense + 3 * block + (256 + 256) + (256 * 9 + 1) * 3


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_sngan_attends_to_the_map_that_was_asked_for(side: int) -> None:
    shapes = []
    network = SNGANGenerator(width=32, size=64, attention_px=side)
    (attention,) = (module for module in network.modules() if isinstance(module, SelfAttention))
    attention.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    network(torch.randn(2, 128))
    assert shapes == [(2, 16 if side == 64 else 32, side, side)]


def test_sngan_narrows_beyond_32_px() -> None:
    network = SNGANGenerator(width=64, size=128)
    assert [block.conv2.out_channels for block in network.blocks] == [64, 64, 64, 32, 16]
    network = SNGANGenerator(width=64, size=32, widest_px=8)
    assert [block.conv2.out_channels for block in network.blocks] == [64, 32, 16]
    network = SNGANGenerator(width=2, size=256)
    assert [block.conv2.out_channels for block in network.blocks] == [2, 2, 2, 1, 1, 1]


def test_sngan_block_written_out() -> None:
    """As the authors have it: pixels are repeated before either convolution; each class has gains and biases."""
    network = SNGANGenerator(latent_channels=4, width=6, size=16, classes=2).double()
    block = network.blocks[0]
    for norm in (block.norm1, block.norm2):
        nn.init.normal_(norm.gain)
        nn.init.normal_(norm.bias)
    x = torch.randn(3, 6, 4, 4, dtype=torch.float64)

    def normalise(norm: nn.Module, x: Tensor) -> Tensor:
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        normal = (x - mean) / (variance + 1e-5).sqrt()
        return normal * norm.gain[LABELS][:, :, None, None] + norm.bias[LABELS][:, :, None, None]

    def convolve(conv: nn.Module, x: Tensor) -> Tensor:
        return F.conv2d(x, conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2)

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    residual = convolve(block.conv1, twice(normalise(block.norm1, x).clamp(min=0)))
    residual = convolve(block.conv2, normalise(block.norm2, residual).clamp(min=0))
    torch.testing.assert_close(block(x, LABELS), residual + convolve(block.shortcut, twice(x)))


def test_sngan_starts_with_the_authors_spread() -> None:
    """Glorot's, times √2 in the convolutions of residual branches."""
    network = SNGANGenerator(width=64)
    block = network.blocks[0]
    for layer, gain, fans in (
        (block.conv1, 2**0.5, 2 * 64 * 9),
        (block.conv2, 2**0.5, 2 * 64 * 9),
        (block.shortcut, 1, 2 * 64),
        (network.project, 1, 128 + 64 * 16),
    ):
        limit = gain * (6 / fans) ** 0.5
        assert 0.99 * limit < layer.weight.abs().max() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
        assert not layer.bias.any()


def test_sngan_draws_the_class_that_was_asked_for() -> None:
    """Each image depends on its own class alone, once running statistics are used."""
    network = SNGANGenerator(latent_channels=4, width=8, size=16, classes=3)
    for name, parameter in network.named_parameters():
        if name.endswith(("norm1.bias", "norm2.bias")):
            nn.init.normal_(parameter)
    set_inference_mode(network, normalisation="eval", dropout=False)
    latents = torch.randn(1, 4).expand(3, 4)
    together = network(latents, torch.tensor([0, 1, 2]))
    for label, image in enumerate(together):
        torch.testing.assert_close(network(latents[:1], torch.tensor([label]))[0], image)
    assert (together[0] - together[1]).abs().max() > 1e-2 < (together[1] - together[2]).abs().max()


BIGGAN = {"shared_embedding": 6, "skip_z": True, "init": "orthogonal"}


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize(("classes", "shared_embedding"), [(0, 0), (2, 0), (2, 6)])
@pytest.mark.parametrize("skip_z", [False, True])
@pytest.mark.parametrize("size", [16, 64])
def test_biggan(size: int, skip_z: bool, classes: int, shared_embedding: int, spectral: bool) -> None:
    network = SNGANGenerator(
        latent_channels=15,
        out_channels=5,
        width=8,
        size=size,
        classes=classes,
        shared_embedding=shared_embedding,
        skip_z=skip_z,
        spectral=spectral,
        init="orthogonal",
    )
    output = network(torch.randn(3, 15), LABELS if classes else None)
    assert output.shape == (3, 5, size, size)
    assert output.abs().max() <= 1
    learn(network, output)


@pytest.mark.parametrize(("classes", "shared"), [(0, 0), (3, 0), (3, 2)])
def test_each_block_is_told_its_part_of_the_latents_and_the_class(classes: int, shared: int) -> None:
    """Figure 15: the first chunk starts the image, each other one joins the class on its way to a block's norms."""
    network = SNGANGenerator(
        latent_channels=12, width=4, size=32, classes=classes, shared_embedding=shared, skip_z=True
    ).eval()
    told: dict[str, list[Tensor]] = {}
    for name, module in network.named_modules():
        if name == "project" or name.endswith(("norm1", "norm2")):
            module.register_forward_hook(lambda _, given, __, name=name: told.setdefault(name, []).append(given[-1]))
    latents = torch.arange(36.0).reshape(3, 12)
    labels = torch.tensor([2, 0, 1]) if classes else None
    network(latents, labels)
    kind = torch.zeros(3, 0)
    if classes:
        kind = network.shared_embedding.weight[labels] if shared else torch.eye(3)[labels]
    assert told.keys() == {"project"} | {f"blocks.{i}.norm{k}" for i in range(3) for k in (1, 2)}
    assert torch.equal(told["project"][0], latents[:, :3])
    for i in range(3):
        chunk = latents[:, 3 * i + 3 : 3 * i + 6]
        expected = sorted(torch.cat([kind, chunk], 1)[0].tolist())
        for norm in ("norm1", "norm2"):
            (found,) = told[f"blocks.{i}.{norm}"]
            assert sorted(found[0].tolist()) == expected and found.shape == (3, 3 + kind.shape[1])


def test_a_shared_embedding_alone_says_the_class() -> None:
    network = SNGANGenerator(latent_channels=5, width=4, size=16, classes=3, shared_embedding=2)
    told: list[Tensor] = []
    for block in network.blocks:
        block.norm1.register_forward_hook(lambda _, given, __: told.append(given[-1]))
    network(torch.randn(3, 5), LABELS)
    assert network.project.in_features == 5 and len(told) == 2
    assert all(torch.equal(given, network.shared_embedding.weight[LABELS]) for given in told)


def test_biggan_draws_the_class_that_was_asked_for() -> None:
    """Each image depends on its own class alone; another class or another chunk makes another image."""
    network = SNGANGenerator(latent_channels=6, width=8, size=16, classes=3, **BIGGAN)  # type: ignore[arg-type]
    set_inference_mode(network, normalisation="eval", dropout=False)
    latents = torch.randn(1, 6).expand(3, 6)
    together = network(latents, torch.tensor([0, 1, 2]))
    for label, image in enumerate(together):
        torch.testing.assert_close(network(latents[:1], torch.tensor([label]))[0], image)
    assert (together[0] - together[1]).abs().max() > 1e-3 < (together[1] - together[2]).abs().max()
    for chunk in range(3):
        changed = latents[:1].clone()
        changed[:, 2 * chunk] += 1
        assert (network(changed, torch.tensor([0])) - together[:1]).abs().max() > 1e-3


def test_biggan_starts_with_orthogonal_weights() -> None:
    """Of each layer, and the class's vectors; spectral norm then changes none of them."""
    network = SNGANGenerator(latent_channels=12, width=16, classes=3, attention_px=8, spectral=True, **BIGGAN)  # type: ignore[arg-type]
    weights = [p for name, p in network.named_parameters() if p.ndim > 1]
    for weight in weights:
        singular = torch.linalg.svdvals(weight.flatten(1))
        torch.testing.assert_close(singular, torch.ones_like(singular), rtol=0, atol=1e-4)
    assert any(weight is network.shared_embedding.weight for weight in weights)


def test_biggan_is_as_large_as_the_papers_for_128_px() -> None:
    """Google's compare_gan (resnet_biggan_test.py) has 70,433,988 weights; its gains and biases have no biases."""
    with torch.device("meta"):
        network = SNGANGenerator(
            latent_channels=120,
            width=16 * 96,
            size=128,
            classes=1000,
            attention_px=64,
            spectral=True,
            widest_px=8,
            shared_embedding=128,
            skip_z=True,
            init="orthogonal",
        )
    channels = [16 * 96, 16 * 96, 8 * 96, 4 * 96, 2 * 96, 96]
    extra = 2 * (sum(channels[:-1]) + sum(channels[1:]))
    assert sum(p.numel() for p in network.parameters()) == 70_433_988 + extra


def test_options_of_biggan_leave_the_plain_network_as_it_was() -> None:
    """Checkpoints from before there were any are read."""
    names = set(SNGANGenerator(width=4, size=16, classes=2).state_dict())
    norms = [f"norm{k}.{rest}" for k in (1, 2) for rest in ("gain", "bias", *(f"norm.{n}" for n in RUNNING))]
    convolutions = [f"{layer}.{rest}" for layer in ("conv1", "conv2", "shortcut") for rest in ("weight", "bias")]
    expected = {f"blocks.{i}.{name}" for i in range(2) for name in (*norms, *convolutions)}
    expected |= {f"{layer}.{rest}" for layer in ("project", "head", "norm") for rest in ("weight", "bias")}
    assert names == expected | {f"norm.{name}" for name in RUNNING}


RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def test_biggan_refuses_what_it_cannot_take() -> None:
    for size, channels, message in (
        (32, 130, r"first layer and 3 blocks: a multiple of 4, such as 128 or 132, got 130"),
        (256, 128, r"6 blocks: a multiple of 7, such as 126 or 133, got 128"),
        (16, 2, r"2 blocks: a multiple of 3, such as 3, got 2"),
    ):
        with pytest.raises(InputError, match=message):
            SNGANGenerator(size=size, latent_channels=channels, skip_z=True)
    for classes, channels in ((0, 128), (3, -1)):
        with pytest.raises(InputError, match=f"got {channels} with {classes} classes"):
            SNGANGenerator(classes=classes, shared_embedding=channels)
    with pytest.raises(InputError, match='"xavier" or "orthogonal", got \'he\''):
        SNGANGenerator(init="he")  # type: ignore[arg-type]
    network = SNGANGenerator(latent_channels=4, width=4, classes=3, shared_embedding=2, skip_z=True)
    with pytest.raises(InputError, match="3 classes: expected the class ids of 2 samples"):
        network(torch.randn(2, 4))
    with pytest.raises(InputError, match="from 0 to 2, got 3"):
        network(torch.randn(2, 4), torch.tensor([0, 3]))


def test_sngan_spectral_norm_leaves_batch_norms_alone() -> None:
    network = SNGANGenerator(latent_channels=4, width=8, size=16, classes=3, attention_px=8, spectral=True)
    plain = {name for name, _ in network.named_parameters() if "original" not in name}
    assert {name.split(".")[-1] for name in plain} == {"weight", "bias", "gain", "gamma"}
    owners = {network.get_submodule(name.removesuffix(".weight")) for name in plain if name.endswith(".weight")}
    assert owners == {network.norm} and isinstance(network.norm, BatchNorm2d)


def test_biggan_spectral_norm_holds_what_makes_gains_and_biases() -> None:
    network = SNGANGenerator(latent_channels=6, width=8, size=16, classes=3, spectral=True, **BIGGAN)  # type: ignore[arg-type]
    for block in network.blocks:
        for linear in (block.norm1.gain, block.norm1.bias, block.norm2.gain, block.norm2.bias):
            assert torch.linalg.svdvals(linear.weight)[0].item() == pytest.approx(1, abs=1e-3)
            assert hasattr(linear, "parametrizations")
    assert not hasattr(network.shared_embedding, "parametrizations")


def test_sngan_refuses_what_it_cannot_take() -> None:
    for size in (8, 48):
        with pytest.raises(InputError, match=f"power of two of at least 16 px, got {size}"):
            SNGANGenerator(size=size)
    for side in (4, 12, 64):
        with pytest.raises(InputError, match=rf"one of \[8, 16, 32\], got {side}"):
            SNGANGenerator(attention_px=side)
    for side in (0, 2, 12):
        with pytest.raises(InputError, match=f"power of two of at least 4 px, got {side}"):
            SNGANGenerator(widest_px=side)
    with pytest.raises(InputError, match=r"\(N, 128\), got \(2, 100\)"):
        SNGANGenerator(width=1)(torch.randn(2, 100))


@pytest.mark.parametrize("kind", [DCGANGenerator, SNGANGenerator, MLPGenerator])
def test_class_ids_are_checked(kind: type[nn.Module]) -> None:
    network = kind(latent_channels=4, out_channels=3, width=4, classes=3)
    latents = torch.randn(2, 4)
    with pytest.raises(InputError, match="3 classes: expected the class ids of 2 samples"):
        network(latents)
    for wrong in (3, -1):
        with pytest.raises(InputError, match=f"from 0 to 2, got {wrong}"):
            network(latents, torch.tensor([0, wrong]))
    with pytest.raises(InputError, match=r"shape \(2,\)"):
        network(latents, torch.tensor([0]))


@pytest.mark.parametrize("kind", [DCGANGenerator, SNGANGenerator, MLPGenerator])
def test_built_on_meta_and_filled(kind: type[nn.Module]) -> None:
    """As generators are read from folders."""
    more = {"attention_px": 16, "spectral": True, **BIGGAN} if kind is SNGANGenerator else {}
    network = kind(latent_channels=4, out_channels=3, width=4, classes=3, **more).eval()
    with torch.device("meta"):
        twin = kind(**network.arguments).eval()
    twin.load_state_dict(network.state_dict(), assign=True)
    latents, labels = torch.randn(2, 4), torch.tensor([2, 0])
    assert torch.equal(twin(latents, labels), network(latents, labels))
