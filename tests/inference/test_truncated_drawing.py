"""Truncation and styles: what is drawn nearer to the middle, and what layers are told apart."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import i2i
from i2i import Sampler
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import draw as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import read_image
from i2i.errors import InputError
from i2i.generators import MLPGenerator, StyleGANGenerator

UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
POINTS = ImageSide(channels=2, dtype="float32", data_range=(-1, 1))


def points_sampler(latent_channels: int = 4000) -> Sampler:
    torch.manual_seed(0)
    network = MLPGenerator(latent_channels=latent_channels, out_channels=2, width=4, layers=1)
    return Sampler(generator=network, spec=GeneratorSpec(input=None, output=POINTS))


def style_sampler(*, classes: int = 0, layers: Any = "modulated") -> Sampler:
    torch.manual_seed(0)
    network = StyleGANGenerator(
        latent_channels=6, style_channels=5, width=4, size=16, mapping_layers=2, classes=classes, layers=layers
    )
    for _ in range(3):
        network.train()(torch.randn(8, 6), *([torch.arange(8) % classes] if classes else []))  # moves mean_style
    network.mean_style.mul_(20)
    output = ImageSide(channels=3, dtype="float32", data_range=(-1, 1))
    return Sampler(generator=network, spec=GeneratorSpec(input=None, output=output))


@pytest.mark.parametrize("truncation", [0.02, 0.5, 1, 2.5])
def test_values_beyond_the_threshold_are_drawn_again(truncation: float) -> None:
    t = points_sampler()
    plain, drawn = t.draw_latent(3), t.draw_latent(3, truncation=truncation)
    within = plain.abs() <= truncation
    assert torch.equal(drawn[within], plain[within])
    assert drawn.abs().max() <= truncation
    # The truncated normal distribution, in closed form: its variance, and how much lies within half the threshold.
    density = math.exp(-(truncation**2) / 2) / math.sqrt(2 * math.pi)
    share = math.erf(truncation / math.sqrt(2))
    assert drawn.var().item() == pytest.approx(1 - 2 * truncation * density / share, rel=0.1)
    half = math.erf(truncation / 2 / math.sqrt(2)) / share
    # What was drawn again is distributed like the rest, and does not follow from it.
    for values in (drawn, drawn[~within]):
        assert (values.abs() < truncation / 2).float().mean().item() == pytest.approx(half, abs=0.06)
        assert values.mean().item() == pytest.approx(0, abs=0.1 * truncation)
    assert abs(torch.corrcoef(torch.stack([plain, drawn])[:, ~within])[0, 1]) < 0.1


def test_nothing_is_left_at_zero() -> None:
    t = points_sampler()
    assert torch.equal(t.draw_latent(3, truncation=0), torch.zeros(4000))
    assert torch.equal(t.draw_latent(3, truncation=100), t.draw_latent(3))


def test_a_seed_decides() -> None:
    t = points_sampler(20)
    state = torch.get_rng_state()
    many = t(seed=[5, 2**63 - 1, 0], truncation=0.5)
    for drawn, seed in zip(many, [5, 2**63 - 1, 0], strict=True):
        np.testing.assert_allclose(t(seed=seed, truncation=0.5), drawn, atol=1e-6)
        np.testing.assert_array_equal(t(latents=t.draw_latent(seed, truncation=0.5)), t(seed=seed, truncation=0.5))
    assert len({drawn.tobytes() for drawn in many}) == 3
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layers", ["adain", "modulated"])
def test_styles_are_drawn_to_their_mean(layers: str) -> None:
    t = style_sampler(layers=layers)
    mean = t.generator.mean_style
    styles = t.generator.styles(t.draw_latent(1)[None])[0].detach()
    assert not torch.allclose(styles[0], mean, atol=0.01)
    for truncation in (0.0, 0.3, 1, 1.5):
        expected = mean + truncation * (styles - mean)
        torch.testing.assert_close(t.styles(seed=1, truncation=truncation), expected)
        values = t.generator.synthesise(expected[None])[0].detach().permute(1, 2, 0).numpy()
        np.testing.assert_allclose(t(seed=1, truncation=truncation), values, atol=1e-5)
        np.testing.assert_allclose(t(latents=t.draw_latent(1), truncation=truncation), values, atol=1e-5)
    np.testing.assert_allclose(t(seed=1, truncation=0), t(seed=2, truncation=0), atol=1e-6)
    assert np.abs(t(seed=1) - t(seed=2)).max() > 1e-3


def test_styles_make_the_image_that_they_came_from() -> None:
    t = style_sampler()
    np.testing.assert_array_equal(t(styles=t.styles(seed=4)), t(seed=4))
    many = t(styles=t.styles(seed=[4, 5]))
    assert isinstance(many, list)
    for drawn, expected in zip(many, t(seed=[4, 5]), strict=True):
        np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_allclose(t(seed=4), t.generator(t.draw_latent(4)[None])[0].detach().permute(1, 2, 0), atol=1e-5)
    one, other = t.styles(seed=[4, 5])
    mixed = t(styles=torch.cat([one[:2], other[2:]]))
    crossover, latents = torch.tensor([2]), (t.draw_latent(4)[None], t.draw_latent(5)[None])
    expected = t.generator(latents[0], other_latents=latents[1], crossover=crossover)[0].detach().permute(1, 2, 0)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    assert len(t(styles=torch.empty(0, t.style_layers, 5))) == 0 and t.styles(seed=[]).shape == (0, t.style_layers, 5)


def test_styles_of_classes() -> None:
    t = style_sampler(classes=3)
    latents, labels = t.draw_latent(1).expand(3, -1), torch.arange(3)
    torch.testing.assert_close(t.styles(seed=1, label=[0, 1, 2]), t.generator.styles(latents, labels).detach())
    np.testing.assert_allclose(t(styles=t.styles(seed=1, label=2)), t(seed=1, label=2), atol=1e-6)
    assert t.styles(seed=1, label=2).shape == (t.style_layers, 5)


def test_where_styles_are_kept() -> None:
    t = style_sampler().double()
    assert t.styles(seed=1).dtype == t.mean_style.dtype == torch.float32
    assert t(styles=t.styles(seed=1)).dtype == np.float32


STYLES = torch.zeros(6, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"styles": torch.zeros(5, 5)}, r"styles: expected a tensor \(6, 5\) or \(N, 6, 5\), got \(5, 5\)"),
        ({"styles": torch.zeros(5)}, r"got \(5,\)"),
        ({"styles": np.zeros((6, 5))}, "got ndarray"),
        ({"styles": STYLES / 0}, "styles: expected finite values"),
        ({"styles": STYLES, "seed": 1}, "leave out seed, latents, label and truncation"),
        ({"styles": STYLES, "label": 1}, "leave out seed, latents, label and truncation"),
        ({"styles": STYLES, "truncation": 0.5}, "leave out seed, latents, label and truncation"),
        ({"seed": 1, "truncation": -0.1}, r"truncation: expected a finite number from 0 .* got -0.1"),
        ({"seed": 1, "truncation": math.nan}, "got nan"),
        ({"seed": 1, "truncation": math.inf}, "got inf"),
        ({"seed": 1, "truncation": "0.5"}, "got '0.5'"),
        ({"seed": 1, "truncation": True}, "got True"),
        ({"latents": torch.zeros(5)}, r"latents: expected a tensor \(6,\) or \(N, 6\), got \(5,\)"),
    ],
)
def test_what_cannot_be_drawn_from_styles(call: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        style_sampler()(**call)


def test_generators_without_styles_say_so() -> None:
    t = points_sampler(5)
    for call in (lambda: t(styles=STYLES), lambda: t.styles(seed=1), lambda: t.mean_style):
        with pytest.raises(InputError, match="MLPGenerator has no styles"):
            call()
    with pytest.raises(InputError, match=r"nothing is drawn again; .*draw_latent\(seed, truncation"):
        t(latents=torch.zeros(5), truncation=0.5)
    for truncation in (-1, math.nan):
        with pytest.raises(InputError, match="truncation: expected a finite number"):
            t.draw_latent(1, truncation=truncation)
    with pytest.raises(InputError, match=r"truncates styles.*t\.styles"):
        style_sampler().draw_latent(1, truncation=0.5)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    network = style_sampler().generator
    save_generator(tmp_path / "weights", network=network, spec=GeneratorSpec(input=None, output=UINT8), card="")
    return tmp_path / "weights"


def draw(*arguments: str | Path) -> int:
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


def test_the_command_truncates(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t = i2i.load(weights)
    assert draw(tmp_path / "out", "--weights", weights, "--count", "2", "--truncation", "0.5") == 0
    for seed in (0, 1):
        drawn = read_image(tmp_path / "out" / f"00000{seed}_t0.5.png")
        np.testing.assert_array_equal(drawn, t(seed=seed, truncation=0.5))
        assert (drawn != t(seed=seed)).any()
    assert draw(tmp_path / "none", "--weights", weights, "--truncation", "-1") != 0
    assert "truncation: expected a finite number from 0" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_truncated_weights_come_back(weights: Path) -> None:
    """The mean style is stored with them."""
    mean: Tensor = style_sampler().mean_style
    torch.testing.assert_close(i2i.load(weights).mean_style, mean)
    assert isinstance(i2i.load(weights).generator, nn.Module)
