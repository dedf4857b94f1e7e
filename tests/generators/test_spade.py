"""The SPADE generator against the paper written out, its sizes, label maps as ids, and its styles."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError
from i2i.generators import SPADEGenerator, Styled, StyleEncoder


def label_maps(classes: int, height: int, width: int, *, count: int = 2) -> Tensor:
    return F.one_hot(torch.randint(classes, (count, height, width)), classes).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(("layers", "multiple"), [("normal", 32), ("more", 64), ("most", 128)])
@pytest.mark.parametrize("latent_channels", [None, 5])
def test_forward_and_backward(latent_channels: int | None, layers: str, multiple: int, norm: str) -> None:
    network = SPADEGenerator(
        in_channels=4,
        width=2,
        num_upsampling_layers=layers,  # type: ignore[arg-type]
        norm=norm,  # type: ignore[arg-type]
        hidden_width=3,
        latent_channels=latent_channels,
        latent_height=2,
        latent_width=3,
    )
    torch.nn.init.normal_(network.coarse.weight)  # so small a network would round its gradients away
    assert network.size_multiple == multiple
    z = None if latent_channels is None else torch.randn(2, latent_channels)
    output = network(label_maps(4, 2 * multiple, 3 * multiple), z)
    assert output.shape == (2, 3, 2 * multiple, 3 * multiple)
    assert output.abs().max() <= 1
    output.square().mean().backward()
    last = f"blocks.{len(network.blocks) - 1}.second.bias"
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        # A bias that every later path normalises away has no effect.
        useless = name.endswith(("first.bias", "second.bias", "coarse.bias")) and name != last
        assert useless or parameter.grad.any(), name


@pytest.mark.parametrize("layers", ["normal", "more", "most"])
def test_against_the_paper_written_out(layers: str) -> None:
    """Figures 3 and 4 by PyTorch's functions alone, without spectral norm, for instance normalisation."""
    network = SPADEGenerator(
        in_channels=3,
        width=2,
        num_upsampling_layers=layers,  # type: ignore[arg-type]
        norm="instance",
        spectral=False,
        hidden_width=4,
        label_kernel_size=5,
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    p = dict(network.named_parameters())
    labels = label_maps(3, 256, 128)

    def conv(x: Tensor, name: str) -> Tensor:
        weight = p[f"{name}.weight"]
        return F.conv2d(x, weight, p.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def spade(x: Tensor, name: str) -> Tensor:
        hidden = F.relu(conv(F.interpolate(labels, size=x.shape[2:], mode="nearest"), f"{name}.shared.0"))
        normal = F.instance_norm(x) if x.shape[2:] != (1, 1) else torch.zeros_like(x)
        return normal * (1 + conv(hidden, f"{name}.gamma")) + conv(hidden, f"{name}.beta")

    def block(x: Tensor, number: int) -> Tensor:
        name = f"blocks.{number}"
        dx = conv(F.leaky_relu(spade(x, f"{name}.first_norm"), 0.2), f"{name}.first")
        dx = conv(F.leaky_relu(spade(dx, f"{name}.second_norm"), 0.2), f"{name}.second")
        learnt = f"{name}.shortcut.weight" in p
        assert learnt == (number > 2)
        return dx + (conv(spade(x, f"{name}.shortcut_norm"), f"{name}.shortcut") if learnt else x)

    def double(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    times = {"normal": 5, "more": 6, "most": 7}[layers]
    x = block(conv(F.interpolate(labels, scale_factor=0.5**times, mode="nearest"), "coarse"), 0)
    x = block(double(x), 1)
    x = block(x if layers == "normal" else double(x), 2)
    for number in range(3, len(network.blocks)):
        x = block(double(x), number)
    expected = torch.tanh(conv(F.leaky_relu(x, 0.2), "head"))
    assert expected.std() > 0.05
    torch.testing.assert_close(network(labels), expected, rtol=0, atol=1e-5)


def test_published_size() -> None:
    """93.0 million parameters for Cityscapes: 35 classes and the edges between instances."""
    with torch.device("meta"):
        network = SPADEGenerator(in_channels=36)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(93.0e6, rel=1e-3)


def test_spectral_norm_spares_what_reads_the_labels() -> None:
    network = SPADEGenerator(in_channels=3, width=1, hidden_width=2)
    normed = {name.partition(".parametrizations")[0] for name in network.state_dict() if "._u" in name}
    expected = {f"blocks.{b}.{conv}" for b in range(7) for conv in ("first", "second")}
    assert normed == expected | {f"blocks.{b}.shortcut" for b in range(3, 7)}


def test_no_style_vector_is_the_mean_of_all() -> None:
    network = SPADEGenerator(in_channels=3, width=1, hidden_width=2, latent_channels=4, latent_height=2, latent_width=2)
    network.eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    labels = label_maps(3, 64, 64)
    assert torch.equal(network(labels), network(labels, torch.zeros(2, 4)))
    assert not torch.allclose(network(labels), network(labels, torch.ones(2, 4)), atol=1e-3)


# Few classes are multiplied, many looked up.
@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("latent_channels", [None, 5])
def test_class_ids_paint_what_their_one_hot_form_paints(latent_channels: int | None, edges: bool, classes: int) -> None:
    network = SPADEGenerator(
        in_channels=classes + edges,
        width=2,
        norm="instance",
        hidden_width=3,
        label_kernel_size=5,
        latent_channels=latent_channels,
        latent_height=2,
        latent_width=2,
    ).double()
    network.eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ids, between = torch.randint(classes, (2, 1, 64, 64)), torch.randint(2, (2, 1, 64, 64))
    labels = torch.cat([ids, between], dim=1) if edges else ids
    hot = torch.cat([F.one_hot(ids[:, 0], classes).movedim(-1, 1), labels[:, 1:]], dim=1).double()
    found, expected = network(labels), network(hot)
    assert found.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)

    def gradients(images: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(images.square().sum(), list(network.parameters()))

    torch.testing.assert_close(gradients(found), gradients(expected), rtol=1e-6, atol=1e-6)


def styled_generator() -> SPADEGenerator:
    return SPADEGenerator(
        in_channels=3,
        width=2,
        hidden_width=3,
        latent_channels=4,
        latent_height=1,
        latent_width=1,
        style_encoder_width=2,
        style_px=16,
    )


def test_a_photo_sets_the_style() -> None:
    network = styled_generator().eval()
    assert isinstance(network.style_encoder, StyleEncoder)
    labels, photos = label_maps(3, 32, 32), torch.rand(2, 3, 20, 30) * 2 - 1
    torch.manual_seed(7)
    styled = network(labels, style=photos)
    assert isinstance(styled, Styled)
    torch.testing.assert_close((styled.mean, styled.log_variance), tuple(network.style_encoder(photos)))
    torch.manual_seed(7)
    z = styled.mean + torch.randn(2, 4) * torch.exp(styled.log_variance).sqrt()
    torch.testing.assert_close(styled.image, network(labels, z))


def test_the_style_encoder_learns_from_the_image() -> None:
    network = styled_generator()
    styled = network(label_maps(3, 32, 32), style=torch.rand(2, 3, 16, 16))
    for gradient in torch.autograd.grad(styled.image.square().sum(), list(network.style_encoder.parameters())):
        assert gradient.any()


def test_latent_vectors_have_the_photos_mean_and_variance() -> None:
    style = StyleEncoder(width=2, latent_channels=3, image_px=8)(torch.randn(1, 3, 8, 8))
    style = type(style)(
        torch.tensor([[1.0, -2, 0]]).expand(100_000, 3), torch.tensor([[0.0, 2, -2]]).expand(100_000, 3)
    )
    drawn = style.sample()
    torch.testing.assert_close(drawn.mean(0), torch.tensor([1.0, -2, 0]), rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std(0), torch.tensor([1, math.e, 1 / math.e]), rtol=0.02, atol=0)


def test_wrong_input_is_refused() -> None:
    network = SPADEGenerator(in_channels=3, width=1, hidden_width=2)
    with pytest.raises(InputError, match="multiples of 32 px, got 64 x 65"):
        network(torch.randn(1, 3, 64, 65))
    with pytest.raises(InputError, match="made without latent_channels"):
        network(torch.randn(1, 3, 64, 64), torch.randn(1, 4))
    styled = SPADEGenerator(in_channels=3, width=1, hidden_width=2, latent_channels=4, latent_height=2, latent_width=4)
    with pytest.raises(InputError, match=r"64 x 128 px, the only size .* got 64 x 64"):
        styled(torch.randn(1, 3, 64, 64))
    with pytest.raises(InputError, match=r"shape \(1, 4\), got \(1, 5\)"):
        styled(torch.randn(1, 3, 64, 128), torch.randn(1, 5))
    with pytest.raises(InputError, match="made without style_encoder_width"):
        styled(torch.randn(1, 3, 64, 128), style=torch.randn(1, 3, 64, 64))
    with pytest.raises(InputError, match="latent vectors or photos for the style, got both"):
        styled_generator()(torch.randn(1, 3, 32, 32), torch.randn(1, 4), torch.randn(1, 3, 64, 64))
    with pytest.raises(InputError, match=r"shape \(N, 3, H, W\), got \(1, 1, 64, 64\)"):
        styled_generator()(torch.randn(1, 3, 32, 32), style=torch.randn(1, 1, 64, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_upsampling_layers": "few"}, '"normal", "more" or "most", got \'few\''),
        ({"norm": "none"}, '"batch", "sync_batch" or "instance", got \'none\''),
        ({"label_kernel_size": 4}, "odd kernel size for SPADE, got 4"),
        ({"num_upsampling_layers": "most", "width": 1}, "width of at least 2"),
        ({"style_encoder_width": 2}, "give latent_channels with style_encoder_width"),
        ({"style_encoder_width": 2, "latent_channels": 2, "style_px": 48}, "power of two of at least 8, got 48"),
    ],
)
def test_impossible_arguments_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SPADEGenerator(**{"in_channels": 3, "width": 1, "hidden_width": 2} | changes)
