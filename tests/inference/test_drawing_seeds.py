"""Drawing from noise: what comes out is what the network itself gives, in the data's units."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import i2i
from i2i import Sampler, Translator
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator, MLPGenerator, SNGANGenerator, UNetGenerator
from i2i.inference.upscale import Upscaler
from i2i.video import translate

UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
POINTS = ImageSide(channels=2, dtype="float32", data_range=(-1, 1))
NAMES = ("disc", "ring", "2")


def trained(network: nn.Module, *, factor: float = 20) -> nn.Module:
    """With running statistics of its own, and an output that spans its range."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)
    latents = torch.randn(64, network.latent_channels)
    network.train()(latents, *([torch.arange(64) % network.classes] if network.classes else []))
    return network


def sampler(
    *, classes: int = 0, names: tuple[str, ...] | None = None, output: ImageSide = UINT8, **how: Any
) -> Sampler:
    network = trained(
        DCGANGenerator(latent_channels=5, out_channels=output.channels, width=4, size=16, classes=classes)
    )
    return Sampler(generator=network, spec=GeneratorSpec(input=None, output=output, classes=names), **how)


def latent(seed: int, channels: int = 5) -> Tensor:
    return torch.randn(1, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("output", "dtype"),
    [
        (UINT8, np.uint8),
        (ImageSide(channels=1, dtype="uint16", data_range=(0, 4095)), np.uint16),
        (ImageSide(channels=2, dtype="float32", data_range=(-1000, 3000)), np.float32),
    ],
)
def test_an_image_in_the_datas_own_units(output: ImageSide, dtype: type) -> None:
    t = sampler(output=output)
    image = t(seed=7)
    assert (image.shape, image.dtype) == ((16, 16, output.channels), dtype)
    values = t.generator(latent(7))[0].detach().permute(1, 2, 0).numpy()  # from -1 to 1
    low, high = output.data_range
    expected = low + (values + 1) / 2 * (high - low)
    assert np.abs(image - expected).max() <= (1e-3 if dtype is np.float32 else 0.5001)
    assert np.ptp(expected) > 0.3 * (high - low)


def test_points() -> None:
    network = MLPGenerator(latent_channels=3, out_channels=2, width=8, classes=4)
    t = Sampler(generator=network, spec=GeneratorSpec(input=None, output=POINTS))
    drawn = t(seed=[4, 5], label=[3, 0])
    expected = network(torch.cat([latent(4, 3), latent(5, 3)]), torch.tensor([3, 0])).detach()
    assert [point.shape for point in drawn] == [(2,), (2,)]
    np.testing.assert_allclose(np.stack(drawn), expected, atol=1e-6)


@pytest.mark.parametrize("normalisation", ["eval", "per_image"])
def test_a_seed_decides_whatever_is_drawn_beside_it(normalisation: Any) -> None:
    t = sampler(output=POINTS)
    t = Sampler(generator=t.generator, spec=GeneratorSpec(input=None, output=POINTS, normalisation=normalisation))
    state = torch.get_rng_state()
    alone = [t(seed=seed) for seed in range(9)]
    for batch_size in (None, 1, 4, 9):
        for image, expected in zip(t(seed=range(9), batch_size=batch_size), alone, strict=True):
            np.testing.assert_allclose(image, expected, atol=1e-4)
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    assert torch.equal(torch.get_rng_state(), state)


def test_classes_by_id_and_by_name() -> None:
    t = sampler(classes=3, names=NAMES)
    with torch.no_grad():
        values = t.generator(latent(1).expand(3, -1), torch.arange(3))
    expected = ((values + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert (expected[0] != expected[1]).any()
    for label, place in [(0, 0), ("ring", 1), (np.int64(1), 1), ("1", 1), ("2", 2), (torch.tensor(2), 2)]:
        np.testing.assert_array_equal(t(seed=1, label=label), expected[place])
    np.testing.assert_array_equal(np.stack(t(seed=1, label=["disc", 1, 2])), expected)


def test_classes_told_by_norms() -> None:
    network = SNGANGenerator(latent_channels=5, width=4, size=16, classes=3, spectral=True)
    for parameter in network.parameters():
        nn.init.normal_(parameter)  # all classes start alike
    trained(network, factor=1)
    t = Sampler(generator=network, spec=GeneratorSpec(input=None, output=POINTS))
    expected = network(latent(1).expand(3, -1), torch.arange(3)).detach().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(np.stack(t(seed=1, label=range(3))), expected, atol=1e-3)
    assert np.abs(expected[0] - expected[1]).max() > 0.1


def test_a_name_goes_before_an_id() -> None:
    t = sampler(classes=3, names=("0", "10", "1"))
    assert [t.class_id(label) for label in ("1", 1, "10", "2")] == [2, 1, 1, 2]


def test_one_goes_with_many() -> None:
    t = sampler(classes=3)
    pairs = [(1, 0), (2, 0), (1, 2)]
    one, two, three = (t(seed=seed, label=label) for seed, label in pairs)
    for drawn, expected in [
        (t(seed=[1, 2], label=0), [one, two]),
        (t(seed=1, label=(0, 2)), [one, three]),
        (t(seed=[1, 2, 1], label=[0, 0, 2]), [one, two, three]),
        (t(seed=[2], label=[0]), [two]),
        (t(seed=np.array([1, 2]), label=0), [one, two]),
        (t(seed=torch.tensor([1, 2], dtype=torch.int32), label=torch.tensor(0)), [one, two]),
        (t(seed=1, label=np.array([0, 2], dtype=np.uint8)), [one, three]),
        (t(seed=torch.arange(1, 3), label=torch.tensor([0, 0])), [one, two]),
        (t(seed=[], label=0), []),
        (t(latents=torch.cat([latent(1), latent(2)]), label=0), [one, two]),
        (t(latents=latent(1)[0], label=[0, 2]), [one, three]),
    ]:
        assert isinstance(drawn, list)
        assert len(drawn) == len(expected)
        for image, same in zip(drawn, expected, strict=True):
            assert np.abs(image.astype(int) - same).max() <= 1  # rounding


def test_latents_stand_for_seeds() -> None:
    t = sampler()
    assert torch.equal(t.draw_latent(3), latent(3)[0])
    np.testing.assert_array_equal(t(latents=t.draw_latent(3)), t(seed=3))
    halfway = (t.draw_latent(3) + t.draw_latent(4)) / 2
    between = t(latents=halfway.double())
    assert not np.array_equal(between, t(seed=3))
    np.testing.assert_array_equal(between, t(latents=halfway[None])[0])


def test_large_numbers_go_through_in_batches() -> None:
    t = sampler()
    seen: list[int] = []
    t.generator.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert len(t(seed=range(600))) == 600
    assert seen == [1, 256, 256, 87]  # of 16 by 16 px each
    seen.clear()
    t(seed=range(5), batch_size=2)
    assert seen == [2, 2, 1]


def test_nothing_leaves_inference_mode() -> None:
    t = sampler()
    statistics = t.generator.blocks[0][1].running_mean.clone()
    before = t(seed=1)
    nn.Sequential(t).train()
    assert not any(module.training for module in t.modules())
    np.testing.assert_array_equal(t(seed=1), before)
    assert torch.equal(t.generator.blocks[0][1].running_mean, statistics)


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_precision(precision: Any) -> None:
    t = sampler(precision=precision, output=POINTS)
    difference = np.abs(t(seed=2) - t.generator(latent(2))[0].detach().permute(1, 2, 0).numpy()).max()
    assert (difference < 1e-6) == (precision != "bf16")
    assert difference < 0.5


def test_a_network_in_float64() -> None:
    t = sampler(output=POINTS)
    image = t(seed=2)
    np.testing.assert_allclose(t.double()(seed=2), image, atol=1e-4)


def test_damaged_weights_are_told() -> None:
    t = sampler()
    with torch.no_grad():
        t.generator.head[0].bias.fill_(torch.nan)
    with pytest.raises(InputError, match="NaN or infinite values"):
        t(seed=[1, 2])


@pytest.mark.parametrize(
    ("classes", "names", "call", "message"),
    [
        (0, None, {}, "nothing to draw from: give seed=, latents= or, to a generator with styles, styles="),
        (0, None, {"seed": 1, "latents": torch.zeros(5)}, "either seed= or latents= to draw from, got both"),
        (0, None, {"seed": -1}, r"from 0 to 2\*\*63 - 1, got -1"),
        (0, None, {"seed": [1, 2**63]}, r"got 9223372036854775808"),
        (0, None, {"seed": 1.5}, "got 1.5"),
        (0, None, {"seed": np.array([1.5])}, "got 1.5"),
        (0, None, {"seed": np.ones((2, 2), dtype=int)}, "expected an integer from 0"),
        (0, None, {"seed": True}, "got True"),
        (0, None, {"seed": 1, "label": 0}, "no classes to choose from; leave it out"),
        (0, None, {"seed": 1, "batch_size": 0}, "batch_size: expected at least 1"),
        (0, None, {"latents": torch.zeros(4)}, r"expected a tensor \(5,\) or \(N, 5\), got \(4,\)"),
        (0, None, {"latents": torch.zeros(1, 5, 1)}, r"got \(1, 5, 1\)"),
        (0, None, {"latents": np.zeros(5)}, "got ndarray"),
        (0, None, {"latents": torch.tensor([0, 0, 0, 0, torch.inf])}, "expected finite values"),
        (3, None, {"seed": 1}, "draws 3 classes: give label, a class id from 0 to 2$"),
        (3, NAMES, {"seed": 1}, r"give label, a class id from 0 to 2 or a name \(disc, ring, 2\)"),
        (3, None, {"seed": 1, "label": 3}, "class id from 0 to 2, got 3"),
        (3, None, {"seed": 1, "label": [0, -1]}, "got -1"),
        (3, None, {"seed": 1, "label": 1.0}, "got 1.0"),
        (3, None, {"seed": 1, "label": True}, "got True"),
        (3, None, {"seed": 1, "label": "disc"}, "got 'disc'"),
        (3, NAMES, {"seed": 1, "label": "Disc"}, r"or a name \(disc, ring, 2\), got 'Disc'"),
        (3, None, {"seed": [1, 2], "label": [0, 1, 2]}, "as many as seeds or latents, 2; got 3"),
        (3, None, {"seed": [1], "label": [0, 1, 2]}, "as many as seeds or latents, 1; got 3"),
    ],
)
def test_what_cannot_be_drawn(classes: int, names: Any, call: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampler(classes=classes, names=names)(**call)


def test_many_classes_are_not_all_listed() -> None:
    t = sampler(classes=1000, names=tuple(f"n{number}" for number in range(1000)))
    with pytest.raises(InputError, match=r"n19 and 980 more\)$"):
        t(seed=1)


def test_what_translates_draws_nothing() -> None:
    network = UNetGenerator(in_channels=3, out_channels=3, width=4, depth=2)
    with pytest.raises(InputError, match=r"UNetGenerator translates images.*Translator"):
        Sampler(generator=network, spec=GeneratorSpec(input=UINT8, output=UINT8))


def test_names_fit_the_network() -> None:
    with pytest.raises(InputError, match="names for the network's 2 classes, got 3"):
        sampler(classes=2, names=NAMES)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    t = sampler(classes=3, names=NAMES)
    save_generator(tmp_path / "shapes" / "generator", network=t.generator, spec=t.spec, card="")
    return tmp_path / "shapes"


def test_load_gives_a_sampler(run: Path) -> None:
    t = i2i.load(run)
    assert isinstance(t, Sampler)
    assert t.spec.classes == NAMES
    expected = sampler(classes=3)
    expected.generator.load_state_dict(t.generator.state_dict())
    np.testing.assert_array_equal(t(seed=1, label="ring"), expected(seed=1, label=1))
    assert i2i.load(run, device="cpu", precision="bf16", normalisation="per_image").spec.normalisation == "per_image"


def test_a_range_of_ones_own(run: Path) -> None:
    image, physical = i2i.load(run)(seed=1, label=0), i2i.load(run, output_range=(-1000, 3000))(seed=1, label=0)
    assert physical.dtype == np.float32
    assert np.abs(image / 255 * 4000 - 1000 - physical).max() < 4000 / 255


@pytest.mark.parametrize(
    ("option", "value"),
    [("tile_px", 64), ("exact", False), ("input_range", (0, 1)), ("dont_care", True), ("first_id", 0)],
)
def test_what_only_translators_take(run: Path, option: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{option}: .*draws from noise"):
        i2i.load(run, **{option: value})


def test_what_needs_a_translator_says_so(run: Path, tmp_path: Path) -> None:
    t = i2i.load(run)
    message = "DCGANGenerator draws from noise and translates nothing; use `i2i draw`"
    with pytest.raises(InputError, match=message):
        Upscaler(t)
    with pytest.raises(InputError, match=message):
        translate(tmp_path / "in.mp4", tmp_path / "out.mp4", weights=t)
    with pytest.raises(InputError, match="draws from noise"):
        Translator(generator=t.generator, spec=t.spec)
