"""Generator and discriminator that grow by stages: their maps, how a stage comes in, and what it takes over."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.discriminators import ProgressiveDiscriminator
from i2i.errors import InputError
from i2i.generators import ProgressiveGenerator

LABELS = torch.tensor([1, 0, 1])


def generator(size: int, **arguments: int) -> ProgressiveGenerator:
    return ProgressiveGenerator(**{"latent_channels": 7, "width": 6, "size": size, "widest_px": 8, **arguments})


def discriminator(size: int, **arguments: int) -> ProgressiveDiscriminator:
    return ProgressiveDiscriminator(**{"width": 6, "size": size, "widest_px": 8, **arguments})


def learn(network: nn.Module, output: Tensor) -> None:
    """A gradient reaches every parameter."""
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("size", [4, 8, 64])
def test_every_weight_learns_while_a_stage_comes_in(size: int, classes: int) -> None:
    labels = LABELS if classes else None
    draws = generator(size, classes=classes, out_channels=5)
    judges = discriminator(size, classes=classes, in_channels=5)
    for network in (draws, judges):
        network.fade_in(0.3)
    images = draws(torch.randn(3, 7), labels)
    assert images.shape == (3, 5, size, size)
    learn(draws, images)
    scores = judges(torch.randn(3, 5, size, size), labels)
    assert scores.shape == (3,)
    learn(judges, scores)


def test_maps_and_widths_of_the_paper() -> None:
    """Table 2: 512 channels from 4 to 32 px, then 256, 128, 64; the networks for 256 px as on its lower lines."""
    with torch.device("meta"):
        draws, judges = ProgressiveGenerator(size=256), ProgressiveDiscriminator(size=256)
    widths = [512, 512, 512, 512, 256, 128, 64]
    assert [block.conv2.out_channels for block in draws.blocks[1:]] == widths[1:]
    assert [block.conv1.in_channels for block in judges.blocks[1:]] == widths[1:]
    assert [block.conv2.out_channels for block in judges.blocks[1:]] == widths[:-1]
    generators = (512 + 1) * 512 * 16 + 512 * 512 * 9 + 512  # dense, with a bias for each place
    discriminators = 513 * 512 * 9 + 512 + 512 * 512 * 16 + 512 + 512 + 1
    for small, large in pairwise(widths):
        generators += small * large * 9 + large * large * 9 + 2 * large
        discriminators += large * large * 9 + large * small * 9 + large + small
    rgb = (64 + 128) * 3
    assert sum(p.numel() for p in draws.parameters()) == generators + rgb + 6
    assert sum(p.numel() for p in judges.parameters()) == discriminators + rgb + 64 + 128


def test_generator_written_out() -> None:
    """Weights N(0, 1) times He's constant; doubling, 3×3 convolution, leaky ReLU and pixel norm, twice a block."""
    network = generator(8).double()
    network.fade_in(0.25)
    z = torch.randn(3, 7, dtype=torch.float64)

    def normalise(x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()

    def convolve(layer: nn.Module, x: Tensor) -> Tensor:
        fan_in = layer.weight[0].numel()
        x = F.conv2d(x, layer.weight * (2 / fan_in) ** 0.5, layer.bias, padding=1)
        return normalise(torch.where(x > 0, x, 0.2 * x))

    def to_rgb(side: str, x: Tensor) -> Tensor:
        layer = network.to_rgb[side]
        return F.conv2d(x, layer.weight / layer.in_channels**0.5, layer.bias)

    first, second = network.blocks
    # The paper's 4×4 convolution of a 1×1 map with a border of 3: its kernel meets the vector at one place each.
    kernel = first.project.weight.unflatten(0, (6, 4, 4)).permute(0, 3, 1, 2).flip(2, 3)
    x = F.conv2d(normalise(z)[:, :, None, None], kernel * (2 / (7 * 16)) ** 0.5, padding=3)
    x = x + first.project.bias.view(6, 4, 4)
    x = convolve(first.conv, normalise(torch.where(x > 0, x, 0.2 * x)))
    old = to_rgb("4", x)
    for conv, x_in in ((second.conv1, x.repeat_interleave(2, 2).repeat_interleave(2, 3)), (second.conv2, None)):
        x = convolve(conv, x if x_in is None else x_in)
    expected = 0.75 * old.repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.25 * to_rgb("8", x)
    torch.testing.assert_close(network(z), expected)


def test_discriminator_written_out() -> None:
    network = discriminator(8).double()
    network.fade_in(0.25)
    images = torch.randn(8, 3, 8, 8, dtype=torch.float64)

    def activate(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    def convolve(layer: nn.Module, x: Tensor) -> Tensor:
        fan_in, side = layer.weight[0].numel(), layer.weight.shape[-1]
        return F.conv2d(x, layer.weight * (2 / fan_in) ** 0.5, layer.bias, padding=side // 2)

    def halve(x: Tensor) -> Tensor:
        return x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))

    last, newest = network.blocks
    x = activate(convolve(network.from_rgb["8"], images))
    x = activate(halve(convolve(newest.conv2, activate(convolve(newest.conv1, x)))))
    x = 0.75 * activate(convolve(network.from_rgb["4"], halve(images))) + 0.25 * x
    spread = torch.stack([group.std(0, correction=0).mean() for group in x.split(4)]).repeat_interleave(4)
    x = torch.cat([x, spread.view(8, 1, 1, 1).expand(-1, 1, 4, 4)], dim=1)
    x = activate(convolve(last.conv, x)).flatten(1)
    x = activate(x @ (last.dense.weight * (2 / (6 * 16)) ** 0.5).T + last.dense.bias)
    expected = x @ network.head.weight[0] / 6**0.5 + network.head.bias
    torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("size", [8, 32])
def test_a_stage_begins_where_the_smaller_one_stood(size: int, classes: int) -> None:
    labels = LABELS if classes else None
    z, images = torch.randn(3, 7), torch.randn(3, 3, size, size)
    small_draws, small_judges = generator(size // 2, classes=classes), discriminator(size // 2, classes=classes)
    draws, judges = generator(size, classes=classes), discriminator(size, classes=classes)
    other_z, other_images = draws(z, labels), judges(images, labels)
    draws.take_over(small_draws)
    judges.take_over(small_judges)
    enlarged = F.interpolate(small_draws(z, labels), scale_factor=2.0, mode="nearest")
    torch.testing.assert_close(draws(z, labels), enlarged, rtol=0, atol=1e-6)
    halved = small_judges(F.avg_pool2d(images, 2), labels)
    torch.testing.assert_close(judges(images, labels), halved, rtol=0, atol=1e-5)

    # And once faded in, the old way has no say any more.
    for network in (draws, judges):
        network.fade_in(1.0)
    drawn, judged = draws(z, labels), judges(images, labels)
    assert not torch.allclose(drawn, enlarged) and not torch.allclose(judged, halved)
    assert not torch.allclose(drawn, other_z) and not torch.allclose(judged, other_images)
    for way in (draws.to_rgb, judges.from_rgb):
        nn.init.zeros_(way[str(size // 2)].weight)
    assert torch.equal(draws(z, labels), drawn) and torch.equal(judges(images, labels), judged)


@pytest.mark.parametrize("make", [generator, discriminator])
def test_stages_have_their_blocks_in_common(make: type) -> None:
    """All of a smaller stage is in the larger one, but for the older of its two ways to or from RGB."""
    small, large = (make(size).state_dict() for size in (16, 32))
    assert {name for name in small if name not in large} == {
        name for name in small if name.startswith(("to_rgb.8.", "from_rgb.8."))
    }
    assert all(large[name].shape == value.shape for name, value in small.items() if name in large)


def test_what_cannot_be_taken_over_is_told() -> None:
    network = generator(32)
    with pytest.raises(InputError, match="32 px takes over one of 16 px, and got one of 8 px"):
        network.take_over(generator(8))
    with pytest.raises(InputError, match="ProgressiveGenerator, got those of a ProgressiveDiscriminator"):
        network.take_over(discriminator(16))
    with pytest.raises(InputError, match=r"made with latent_channels=7, width=5, and this one with .*, width=6"):
        generator(32, latent_channels=8).take_over(generator(16, width=5))


@pytest.mark.parametrize("make", [generator, discriminator])
def test_sizes_that_cannot_be(make: type) -> None:
    for size in (0, 2, 12, 48):
        with pytest.raises(InputError, match=f"size to be a power of two of at least 4 px, got {size}"):
            make(size)
    for side in (0, 2, 12):
        with pytest.raises(InputError, match=f"widest_px to be a power of two of at least 4 px, got {side}"):
            make(8, widest_px=side)


def test_inputs_of_another_shape() -> None:
    with pytest.raises(InputError, match=r"\(N, 7\), got \(2, 8\)"):
        generator(8)(torch.randn(2, 8))
    with pytest.raises(InputError, match="8 x 8 px, got 16 x 16"):
        discriminator(8)(torch.randn(2, 3, 16, 16))
    with pytest.raises(InputError, match=r"\(N, 3, H, W\)"):
        discriminator(8)(torch.randn(2, 1, 8, 8))
    with pytest.raises(InputError, match="class ids"):
        generator(8, classes=2)(torch.randn(2, 7))
    with pytest.raises(InputError, match="class ids"):
        discriminator(8, classes=2)(torch.randn(2, 3, 8, 8))
    with pytest.raises(InputError, match="a batch of 1"):
        discriminator(8)(torch.randn(1, 3, 8, 8))


def test_each_class_has_a_picture_of_its_own() -> None:
    draws, judges = generator(8, classes=3), discriminator(8, classes=3)
    together = draws(torch.randn(1, 7).expand(3, 7), torch.arange(3))
    assert (together[0] - together[1]).abs().max() > 1e-2 < (together[1] - together[2]).abs().max()
    scores = judges(torch.randn(1, 3, 8, 8).expand(3, -1, -1, -1), torch.arange(3))
    assert len(scores.unique()) == 3


def test_half_precision_keeps_near_the_full_one() -> None:
    draws, judges, z = generator(16, width=32), discriminator(16, width=32), torch.randn(4, 7)
    images = draws(z)
    scores = judges(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = draws(z)
        half_scores = judges(images)
    assert half.dtype == half_scores.dtype == torch.bfloat16
    assert (half.float() - images).abs().mean() < 0.02 * images.abs().mean()
    assert (half_scores.float() - scores).abs().mean() < 0.02 * scores.abs().mean() + 0.02
