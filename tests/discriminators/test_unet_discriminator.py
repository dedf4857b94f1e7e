"""Real-ESRGAN's discriminator: scores for every pixel at any size, spectral norm, what skips carry."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from i2i.discriminators import UNetDiscriminator
from i2i.errors import InputError


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 32), (13, 31)])
def test_every_parameter_learns_at_any_size(height: int, width: int, skips: bool) -> None:
    network = UNetDiscriminator(in_channels=5, width=3, skips=skips)
    scores = network(torch.rand(2, 5, height, width))
    assert scores.shape == (2, 1, height, width)
    scores.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_published_widths_and_norms() -> None:
    with torch.device("meta"):
        network = UNetDiscriminator(in_channels=3)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [64, 128, 256, 512, 256, 128, 64, 64, 64, 1]
    assert [is_parametrized(conv, "weight") for conv in convs] == [False] + 8 * [True] + [False]
    # 4.38 million parameters, added up by hand.
    pairs = [(64, 128, 16), (128, 256, 16), (256, 512, 16), (512, 256, 9), (256, 128, 9), (128, 64, 9)]
    pairs += [(64, 64, 9), (64, 64, 9)]
    expected = 27 * 64 + 64 + sum(taps * inputs * outputs for inputs, outputs, taps in pairs) + 9 * 64 + 1
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_training_brings_the_spectral_norms_to_one() -> None:
    network = UNetDiscriminator(in_channels=3, width=4)
    for _ in range(50):
        network(torch.rand(1, 3, 8, 8))
    for conv in (*network.down, *network.up, *network.refine):
        norm = torch.linalg.matrix_norm(conv.weight.detach().flatten(1), ord=2)
        torch.testing.assert_close(norm, torch.tensor(1.0), rtol=0, atol=1e-3)


@torch.no_grad()
def test_with_skips_a_pixel_reaches_its_score_past_the_halvings() -> None:
    def change(*, skips: bool) -> Tensor:
        network = UNetDiscriminator(in_channels=1, width=4, skips=skips).eval()
        remove_parametrizations(network.down[0], "weight")
        network.down[0].weight.zero_()  # nothing passes through the halvings
        image = torch.rand(1, 1, 16, 16)
        other = image.clone()
        other[..., 8, 8] += 1
        return (network(other) - network(image))[0, 0]

    assert not change(skips=False).any()
    rows, columns = change(skips=True).nonzero(as_tuple=True)
    # Four convolutions of 3 x 3 see 4 px to each side.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 12, 4, 12)


def test_other_images_are_refused() -> None:
    network = UNetDiscriminator(in_channels=3, width=1)
    with pytest.raises(InputError, match="at least 8 px, got 7 x 20"):
        network(torch.zeros(1, 3, 7, 20))
    with pytest.raises(InputError, match=r"shape \(N, 3, H, W\), got \(1, 1, 16, 16\)"):
        network(torch.zeros(1, 1, 16, 16))


def test_bfloat16_and_channels_last_change_nothing_but_the_last_digits() -> None:
    network = UNetDiscriminator(in_channels=3, width=8).eval()
    images = torch.rand(2, 3, 24, 20)
    expected = network(images)
    network = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = network(images)
    torch.testing.assert_close(scores.float(), expected, rtol=0.05, atol=0.01)


@pytest.mark.slow
def test_compiled_it_scores_and_learns_alike() -> None:
    network = UNetDiscriminator(in_channels=3, width=4)
    images = torch.rand(2, 3, 16, 24)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def step(run: nn.Module) -> tuple[Tensor, list[Tensor]]:
        network.load_state_dict(state)
        scores = run(images)
        return scores, list(torch.autograd.grad(scores.square().mean(), list(network.parameters())))

    torch.testing.assert_close(step(torch.compile(network)), step(network))
