"""What a network does to frames of video is what it does to images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.errors import InputError
from i2i.generators import CompactGenerator, ResNetGenerator, UNetGenerator
from i2i.inference.translator import Translator
from i2i.inference.upscale import Upscaler
from i2i.video.networks import Treatment, translation, upscaling


def load(folder: Path, network: nn.Module, *, output: int = 3, dropout: bool = False, **changes: Any) -> Translator:
    given = {"channels": 3, "dtype": "uint8", "data_range": (0, 255)} | changes
    sides = {"input": ImageSide(**given), "output": ImageSide(**{**given, "channels": output})}
    save_generator(folder, network=network, spec=GeneratorSpec(**sides, dropout=dropout), card="")
    return i2i.load(folder, device="cpu")


def compact(channels: int = 3, output: int = 3) -> CompactGenerator:
    network = CompactGenerator(in_channels=channels, out_channels=output, width=4, convs=1, scale=2)
    torch.nn.init.normal_(network.body[-1].weight, std=0.05)
    return network


def frames(dtype: type, *, count: int = 2, height: int = 12, width: int = 17) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (count, height, width, 3), dtype, endpoint=True)


def treated(treatment: Treatment, images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) → (N, H', W', 3); one by one, for larger batches are rounded a little differently."""
    batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(1)
    return torch.cat([treatment.network(batch) for batch in batches]).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "how", [{}, {"scale": 3.0}, {"scale": 1.5, "colour_fix": True}, {"ensemble": True}, {"scale": 0.3}]
)
def test_frames_are_enlarged_as_images_are(how: dict[str, Any], dtype: type, translator: Translator) -> None:
    upscaler = Upscaler(translator, **how)
    treatment, images = upscaling(upscaler), frames(dtype)
    results = treated(treatment, images)
    assert results.dtype == dtype
    for image, result in zip(images, results, strict=True):
        assert result.shape[:2] == treatment.size(*image.shape[:2])
        np.testing.assert_array_equal(result, upscaler(image))
    assert treatment.identity["scale"] == how.get("scale", 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_are_translated_as_images_are(dtype: type, tmp_path: Path) -> None:
    network = ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1)
    translator = load(tmp_path / "gan", network)
    treatment, images = translation(translator), frames(dtype)
    for image, result in zip(images, treated(treatment, images), strict=True):
        np.testing.assert_array_equal(result, translator(image))
    assert treatment.size(12, 17) == (12, 17)
    assert treatment.reach_px is None  # its norms look at the whole frame


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_networks_for_grey_images_see_luma(dtype: type, tmp_path: Path) -> None:
    translator = load(tmp_path / "grey", compact(1, 1), output=1, channels=1)
    images = frames(dtype)
    results = treated(translation(translator), images)
    assert results.dtype == dtype
    for image, result in zip(images, results, strict=True):
        luma = np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(dtype)
        wanted = translator(luma[..., None]).reshape(24, 34, 1)
        # Halves may be rounded either way, for weights have few digits in float32.
        step = 1 if dtype is np.uint8 else 2
        assert np.abs(result.astype(int) - wanted).max() <= 2 * step
        assert (np.ptp(result, axis=-1) == 0).all()


def test_a_picture_in_grey_of_one_in_colour(tmp_path: Path) -> None:
    network = UNetGenerator(in_channels=3, out_channels=1, width=4, depth=2)
    translator = load(tmp_path / "edges", network, output=1)
    images = frames(np.uint8, height=16, width=16)
    for image, result in zip(images, treated(translation(translator), images), strict=True):
        np.testing.assert_array_equal(result, np.broadcast_to(translator(image).reshape(16, 16, 1), (16, 16, 3)))


def test_how_far_a_pixel_of_the_result_looks(translator: Translator) -> None:
    """By changing one pixel and seeing what becomes different."""
    treatment = upscaling(Upscaler(translator))
    assert treatment.reach_px is not None
    images = frames(np.uint8, height=31, width=31)
    images[1] = images[0]
    images[1, 15, 15] = 255 - images[0, 15, 15]
    one, other = treated(treatment, images)
    rows, columns = np.nonzero((one != other).any(axis=-1))
    assert max(15 - rows.min() // 2, rows.max() // 2 - 15, 15 - columns.min() // 2) <= treatment.reach_px
    for how in ({"scale": 3.0}, {"colour_fix": True}, {"ensemble": True}):
        assert upscaling(Upscaler(translator, **how)).reach_px is None


def test_what_results_depend_on(weights: Path) -> None:
    identity = dict(upscaling(Upscaler(i2i.load(weights, device="cpu"))).identity)
    assert upscaling(Upscaler(i2i.load(weights, device="cpu"))).identity == identity
    other = i2i.load(weights, device="cpu")
    with torch.no_grad():
        next(other.generator.parameters()).view(-1)[0] += 1e-4
    assert upscaling(Upscaler(other)).identity != identity
    assert upscaling(Upscaler(i2i.load(weights, device="cpu"), scale=3)).identity != identity
    assert upscaling(Upscaler(i2i.load(weights, device="cpu", precision="bf16"))).identity != identity


def test_dropout_is_told_of(tmp_path: Path) -> None:
    network = ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1, dropout=0.5)
    assert "by chance" in translation(load(tmp_path / "on", network, dropout=True)).notes[0]
    assert translation(load(tmp_path / "off", network)).notes == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": True}, "ResNetGenerator paints label maps, of which there are no videos"),
        ({"dtype": "float32", "data_range": (0, 1)}, "values in units of their own"),
    ],
)
def test_networks_that_make_no_video_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    network = ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1)
    with pytest.raises(InputError, match=message):
        translation(load(tmp_path / "gan", network, **changes))


def test_channels_that_no_video_has_are_refused(tmp_path: Path) -> None:
    network = ResNetGenerator(in_channels=3, out_channels=2, width=4, blocks=1)
    with pytest.raises(InputError, match="makes 2 channels of 3; video frames have 3, or 1 that is grey"):
        translation(load(tmp_path / "gan", network, output=2))
