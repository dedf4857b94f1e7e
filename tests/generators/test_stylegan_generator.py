"""StyleGAN's generators against their papers' equations, written out image by image."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.generators import StyleGANGenerator
from i2i.generators.stylegan import MEAN_STYLE_DECAY, StyleLayers

KINDS: tuple[StyleLayers, ...] = ("adain", "modulated")
BOTH = pytest.mark.parametrize("layers", KINDS)


def make(layers: StyleLayers, **changes: int) -> StyleGANGenerator:
    """A small one whose noise is heard; noise starts with strength 0."""
    arguments = {"latent_channels": 5, "style_channels": 6, "width": 8, "size": 16, "widest_px": 8, **changes}
    network = StyleGANGenerator(layers=layers, **arguments)  # type: ignore[arg-type]
    for name, parameter in network.named_parameters():
        if name.endswith(("strength", "bias")):
            nn.init.normal_(parameter)
    return network


@BOTH
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [8, 32, 128])
def test_a_gradient_reaches_every_parameter(size: int, classes: int, layers: StyleLayers) -> None:
    network = StyleGANGenerator(
        latent_channels=5, out_channels=2, width=8, size=size, classes=classes, style_channels=6, layers=layers
    )
    images = network(torch.randn(3, 5), torch.tensor([2, 0, 1]) if classes else None)
    assert images.shape == (3, 2, size, size)
    images.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@BOTH
def test_the_papers_network_has_the_papers_layers(layers: StyleLayers) -> None:
    """Of 1024 px: 18 layers of styles of 512, after 8 of the mapping.

    The mapping and the synthesis have 26.2 million weights (2019, section 2), or about 30 (2020, table 1).
    """
    with torch.device("meta"):
        network = StyleGANGenerator(size=1024, layers=layers, widest_px=32 if layers == "adain" else 64)
    assert network.style_layers == 18 and network.mean_style.shape == (512,)
    assert sum(isinstance(module, nn.Linear) for module in network.mapping) == 8
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx({"adain": 26.2, "modulated": 30.3}[layers], abs=0.1)


@BOTH
def test_wide_maps_are_small(layers: StyleLayers) -> None:
    shapes: list[tuple[int, ...]] = []
    network = StyleGANGenerator(width=32, size=64, widest_px=16, layers=layers)
    for layer in network.synthesis.layers:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.randn(2, 512))
    assert shapes[::-2] == [(8, 64, 64), (16, 32, 32), (32, 16, 16), (32, 8, 8), (32, 4, 4)]


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def convolved(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(in, H, W) by (out, in, 3, 3), zeros beyond the border."""
    return np.stack([sum(correlate2d(c, k, mode="same") for c, k in zip(x, ks, strict=True)) for ks in weight])


def doubled(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Pixels spread out, convolved, and blurred by [1 3 3 1] / 4, so that their mean stays: (out, 2H, 2W)."""
    spread = np.zeros((len(x), 2 * x.shape[1] - 1, 2 * x.shape[2] - 1))
    spread[:, ::2, ::2] = x
    full = [sum(convolve2d(c, k) for c, k in zip(spread, ks, strict=True)) for ks in weight]
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16
    return np.stack([convolve2d(np.pad(channel, 1), taps, mode="valid") for channel in full])


@pytest.mark.parametrize("up", [False, True])
def test_modulated_layer_written_out(up: bool) -> None:
    """2020, eq. 1 and 3: each image has weights of its own."""
    network = make("modulated").double().eval()
    layer = network.synthesis.layers[3 if up else 2]
    features, style = torch.randn(2, 8, 8, 8, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    result = layer(features, style).detach().numpy()
    weight = layer.conv.weight.detach().numpy() / math.sqrt(8 * 9)
    scales = (style @ layer.affine.weight.T / math.sqrt(6) + layer.affine.bias).detach().numpy()
    for x, s, image in zip(features.numpy(), scales, result, strict=True):
        modulated = weight * s[None, :, None, None]
        demodulated = modulated / np.sqrt((modulated**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        y = doubled(x, demodulated) if up else convolved(x, demodulated)
        y = y + layer.noise.fixed[0].numpy() * layer.noise.strength.item() + layer.bias.detach().numpy()
        np.testing.assert_allclose(image, leaky(y), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("up", [False, True])
def test_adain_layer_written_out(up: bool) -> None:
    """2019, eq. 1, after noise with a strength for each channel."""
    network = make("adain").double().eval()
    layer = network.synthesis.layers[4 if up else 3]
    features, style = torch.randn(2, 8, 8, 8, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    result = layer(features, style).detach().numpy()
    weight = layer.conv.weight.detach().numpy() / math.sqrt(8 * 9)
    affine = layer.scale_and_shift
    told = (style @ affine.weight.T / math.sqrt(6) + affine.bias).detach().numpy()[:, :, None, None]
    for x, y_told, image in zip(features.numpy(), told, result, strict=True):
        y = doubled(x, weight) if up else convolved(x, weight)
        y = y + layer.noise.fixed[0].numpy() * layer.noise.strength.detach().numpy() + layer.bias.detach().numpy()
        y = leaky(y)
        y = (y - y.mean((1, 2), keepdims=True)) / np.sqrt(y.var((1, 2), keepdims=True) + 1e-5)
        scale, shift = np.split(y_told, 2)
        np.testing.assert_allclose(image, y * (1 + scale) + shift, rtol=1e-7, atol=1e-7)


def test_images_of_all_sizes_are_added_up() -> None:
    """2020, figure 7b, with bilinear enlargement; 1×1 convolutions scaled by the style, not demodulated."""
    network = make("modulated").double().eval()
    maps: list[Tensor] = []
    for layer in network.synthesis.layers:
        layer.register_forward_hook(lambda module, inputs, output: maps.append(output))
    styles = torch.randn(2, network.style_layers, 6, dtype=torch.float64)
    result, total = network.synthesise(styles), torch.zeros(2, 3, 2, 2, dtype=torch.float64)
    for level, (features, rgb) in enumerate(zip(maps[::2], network.synthesis.to_rgb, strict=True)):
        scale = styles[:, 2 * level + 1] @ rgb.affine.weight.T / math.sqrt(6) + rgb.affine.bias
        weight = rgb.conv.weight[:, :, 0, 0] / math.sqrt(features.shape[1])
        image = torch.einsum("oc,nc,nchw->nohw", weight, scale, features) + rgb.conv.bias[:, None, None]
        total = torch.nn.functional.interpolate(total, scale_factor=2, mode="bilinear") + image
    torch.testing.assert_close(result, total)


@BOTH
def test_each_layer_is_told_its_style(layers: StyleLayers) -> None:
    """In 2020 an image of one size is told what the first layer of the next is told."""
    network = make(layers)
    told: dict[str, float] = {}
    for name, module in network.synthesis.named_modules():
        if name.endswith(("affine", "scale_and_shift")):
            module.register_forward_pre_hook(lambda m, inputs, name=name: told.update({name: inputs[0].mean().item()}))
    number = torch.arange(6.0).reshape(1, 6, 1).expand(2, 6, 6)
    network.synthesise(number)
    if layers == "adain":
        assert told == {f"layers.{index}.scale_and_shift": index for index in range(6)}
    else:
        expected = {f"layers.{index}.affine": index for index in range(5)}
        assert told == expected | {f"to_rgb.{level}.affine": 2 * level + 1 for level in range(3)}


@BOTH
def test_forward_is_synthesis_of_styles(layers: StyleLayers) -> None:
    network = make(layers, classes=3).eval()
    latents, labels = torch.randn(4, 5), torch.tensor([0, 2, 1, 1])
    styles = network.styles(latents, labels)
    assert styles.shape == (4, 6, 6)
    assert torch.equal(network(latents, labels), network.synthesise(styles))
    assert not torch.allclose(network(latents, labels), network(latents, labels.flip(0)))


def test_the_mapping_written_out() -> None:
    """Pixel norm, then layers whose weights are multiplied by 0.01, and therefore start a hundred times as large."""
    network = StyleGANGenerator(latent_channels=5, style_channels=6, mapping_layers=2, width=4, size=8)
    latents = torch.randn(300, 5)
    w = latents / (latents.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer, inputs in zip(network.mapping[::2], (5, 6), strict=True):
        w = torch.nn.functional.leaky_relu(w @ (layer.weight * 0.01).T / math.sqrt(inputs) + layer.bias * 0.01, 0.2)
        w = w * math.sqrt(2)
        assert 60 < layer.weight.std() < 140
    torch.testing.assert_close(network.styles(latents)[:, 0], w)
    torch.testing.assert_close(network.styles(3 * latents)[:, 3], w)


@BOTH
def test_mixing_takes_the_other_styles_from_the_crossover_on(layers: StyleLayers) -> None:
    """Layers before it do not hear of the other latent vector, the one at it does; each image has its own crossover."""
    network = make(layers).eval()
    heard: list[Tensor] = []
    for layer in network.synthesis.layers:
        layer.register_forward_hook(lambda module, inputs, output: heard.append(output))
    crossover = torch.tensor([1, 2, 3, 4, 6])
    one, other, another = torch.randn(3, 5, 5)
    network(one, None, other, crossover)
    first = heard.copy()
    heard.clear()
    network(one, None, another, crossover)
    for index, (before, after) in enumerate(zip(first, heard, strict=True)):
        unchanged = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert unchanged == [index < first_other for first_other in crossover.tolist()]
    torch.testing.assert_close(network(one, None, other, torch.full((5,), 6)), network(one))
    torch.testing.assert_close(network(one, None, other, torch.zeros(5).long()), network(other))


def test_with_adain_the_mean_colour_is_that_of_the_last_style() -> None:
    """The last layer's style says the mean of each map, and the image is linear in these; nothing else moves it."""
    network = make("adain").double().eval()
    one, other = torch.randn(2, 4, 5, dtype=torch.float64)
    mixed = network(one, None, other, torch.full((4,), network.style_layers - 1))
    torch.testing.assert_close(mixed.mean((2, 3)), network(other).mean((2, 3)))
    assert (mixed - network(other)).abs().max() > 0.1

    network = make("modulated").double().eval()
    mixed = network(one, None, other, torch.full((4,), network.style_layers - 1))
    assert (mixed.mean((2, 3)) - network(other).mean((2, 3))).abs().max() > 0.1


@BOTH
def test_noise_is_fresh_in_training_and_fixed_after(layers: StyleLayers) -> None:
    network, latents = make(layers), torch.randn(1, 5).expand(3, 5)
    first, second, third = network(latents)
    assert not torch.allclose(first, second) and not torch.allclose(second, third)
    network.eval()
    images = network(latents)
    torch.testing.assert_close(images, images[:1].expand_as(images))
    assert torch.equal(images, network(latents))
    twin = make(layers)
    twin.load_state_dict(network.state_dict())
    assert torch.equal(images, twin.eval()(latents))  # it is saved with the weights


@BOTH
def test_the_mean_style_follows_in_training_and_truncation_goes_to_its_image(layers: StyleLayers) -> None:
    network, latents = make(layers), torch.randn(64, 5)
    for _ in range(3):
        network(latents)
    mean = network.styles(latents)[:, 0].mean(0)
    torch.testing.assert_close(network.mean_style, (1 - MEAN_STYLE_DECAY**3) * mean)
    network.eval()(latents)
    torch.testing.assert_close(network.mean_style, (1 - MEAN_STYLE_DECAY**3) * mean)

    styles = torch.lerp(network.mean_style.expand(64, 6, 6), network.styles(latents), 0.0)
    mean_image = network.synthesise(network.mean_style.expand(1, 6, 6))
    torch.testing.assert_close(network.synthesise(styles), mean_image.expand(64, -1, -1, -1))


@BOTH
def test_slopes_can_be_differentiated_again(layers: StyleLayers) -> None:
    network = make(layers, size=8, width=3, style_channels=2).double().eval()
    styles = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network.synthesise, styles, fast_mode=True)
    assert torch.autograd.gradgradcheck(network.synthesise, styles, fast_mode=True)


@BOTH
def test_in_16_bits(layers: StyleLayers) -> None:
    network, latents = make(layers).eval(), torch.randn(8, 5)
    exact = network(latents)
    with torch.autocast("cpu", torch.bfloat16):
        images = network(latents)
    assert images.dtype == torch.bfloat16
    assert 1e-5 < (images.float() - exact).abs().mean() < 0.05 * exact.std()


def test_weights_are_demodulated_in_32_bits() -> None:
    layer, scale = make("modulated").synthesis.layers[0], torch.randn(4, 8).bfloat16()
    lengths = [(layer.conv.weight * s[:, None, None] / math.sqrt(8 * 9)).flatten(1).norm(dim=1) for s in scale.float()]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer._demodulation(scale), 1 / torch.stack(lengths))


def test_what_it_cannot_take_is_refused() -> None:
    for size in (4, 48):
        with pytest.raises(InputError, match=f"power of two of at least 8 px, got {size}"):
            StyleGANGenerator(size=size)
    with pytest.raises(InputError, match="power of two of at least 4 px, got 12"):
        StyleGANGenerator(widest_px=12)
    with pytest.raises(InputError, match='"adain" or "modulated", got \'both\''):
        StyleGANGenerator(width=1, layers="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1 layer, got 0"):
        StyleGANGenerator(mapping_layers=0)
    for rate in (0.0, math.inf):
        with pytest.raises(InputError, match=f"mapping_rate to be above 0 and finite, got {rate}"):
            StyleGANGenerator(mapping_rate=rate)
    network = make("modulated", classes=2)
    with pytest.raises(InputError, match=r"\(N, 5\), got \(2, 6\)"):
        network(torch.randn(2, 6))
    with pytest.raises(InputError, match="2 classes: expected the class ids of 2 samples"):
        network(torch.randn(2, 5))
    with pytest.raises(InputError, match="from 0 to 1, got 2"):
        network(torch.randn(2, 5), torch.tensor([0, 2]))
    with pytest.raises(InputError, match=r"\(N, 6, 6\), got \(2, 6\)"):
        network.synthesise(torch.randn(2, 6))
    for crossover in (None, torch.tensor([1])):
        with pytest.raises(InputError, match=r"a crossover of shape \(2,\)"):
            network(torch.randn(2, 5), torch.tensor([0, 1]), torch.randn(2, 5), crossover)


@BOTH
def test_built_on_meta_and_filled(layers: StyleLayers) -> None:
    network = make(layers, classes=3).eval()
    with torch.device("meta"):
        twin = StyleGANGenerator(**network.arguments).eval()
    twin.load_state_dict(network.state_dict(), assign=True)
    latents, labels = torch.randn(2, 5), torch.tensor([2, 0])
    assert torch.equal(twin(latents, labels), network(latents, labels))
