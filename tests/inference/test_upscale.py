"""`Upscaler`: what it adds to a network's own enlargement."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import i2i
from i2i import Translator
from i2i.checkpoints import GeneratorSpec, ImageSide, open_checkpoint, save_generator
from i2i.data.image_io import ImageFile, read_image_file
from i2i.errors import InputError
from i2i.generators import CompactGenerator, ResNetGenerator
from i2i.inference.upscale import Upscaler


def side(**changes: Any) -> ImageSide:
    return ImageSide(**{"channels": 3, "dtype": "uint8", "data_range": (0, 255), "network_range": (0, 1)} | changes)


def translator(network: nn.Module, **changes: Any) -> Translator:
    return Translator(generator=network, spec=GeneratorSpec(input=side(**changes), output=side(**changes)))


def repeating(*, scale: int = 4, channels: int = 3) -> CompactGenerator:
    """Repeats each pixel, for the input is added to an output of zeros."""
    network = CompactGenerator(in_channels=channels, out_channels=channels, width=4, convs=1, scale=scale)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


class Leaning(CompactGenerator):
    """Adds something that depends on where a pixel's left neighbour is, and a cast of colour."""

    cast = (0.0, 0.0, 0.0)

    def forward(self, images: Tensor) -> Tensor:
        enlarged = super().forward(images * 0.5 + 0.25)
        lean = 0.1 * (enlarged - enlarged.roll(1, dims=3))
        return enlarged + lean + torch.tensor(self.cast).view(1, 3, 1, 1)


def leaning(*, cast: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Leaning:
    network = Leaning(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
    network.load_state_dict(repeating(scale=2).state_dict())
    network.cast = cast
    return network


def random_image(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize(
    ("scale", "size"), [(None, (28, 36)), (4, (28, 36)), (2, (14, 18)), (3.5, (24, 32)), (8, (56, 72)), (0.01, (1, 1))]
)
def test_any_size(scale: float | None, size: tuple[int, int]) -> None:
    """7 · 3.5 = 24.5 goes to the even neighbour, as round() does."""
    assert Upscaler(translator(repeating()), scale=scale)(random_image(7, 9, 3)).shape == (*size, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("scale", [2.5, 6])
def test_another_scale_is_pillows_bicubic_rounded_once(dtype: Any, scale: float) -> None:
    image = random_image(12, 10, 3, dtype=dtype)
    result = Upscaler(translator(repeating()), scale=scale)(image)
    assert result.dtype == dtype
    full = np.iinfo(dtype).max if dtype != np.float32 else 1
    for channel in range(3):
        plane = Image.fromarray((image[..., channel] / np.float32(full)).repeat(4, axis=0).repeat(4, axis=1))
        expected = np.asarray(plane.resize((int(10 * scale), int(12 * scale)), Image.Resampling.BICUBIC)) * full
        error = np.abs(result[..., channel] - expected.clip(0, full))
        assert error.max() <= (1e-5 * full if dtype != np.uint8 else 0.51)


@pytest.mark.parametrize("scale", [4, 3])
def test_kinds_come_back(scale: int) -> None:
    upscaler = Upscaler(translator(repeating()), scale=scale)
    grey = upscaler(random_image(5, 6, dtype=np.uint16))
    assert (grey.shape, grey.dtype) == ((5 * scale, 6 * scale), np.uint16)
    picture = upscaler(Image.fromarray(random_image(5, 6, 2), "LA"))
    assert (picture.mode, picture.size) == ("LA", (6 * scale, 5 * scale))
    batch = upscaler(torch.rand(2, 3, 5, 6))
    assert (batch.shape, batch.dtype) == ((2, 3, 5 * scale, 6 * scale), torch.float32)


def test_the_networks_own_scale_is_what_the_translator_gives() -> None:
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=2, scale=2)
    t = translator(network)
    image = random_image(20, 30, 3)
    np.testing.assert_array_equal(Upscaler(t)(image), t(image))


def test_ensemble_is_the_mean_over_turns_and_mirrorings() -> None:
    t = translator(leaning())
    image = random_image(6, 9, 3, dtype=np.float32)
    results = []
    for mirrored in (image, image[:, ::-1]):
        for turns in range(4):
            back = np.rot90(t(np.ascontiguousarray(np.rot90(mirrored, turns))), -turns)
            results.append(back[:, ::-1] if mirrored is not image else back)
    assert np.abs(results[0] - results[5]).max() > 0.02
    told: list[float] = []
    upscaler = Upscaler(t, ensemble=True)
    np.testing.assert_allclose(upscaler(image, progress=told.append), np.mean(results, axis=0), atol=1e-6)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
    assert upscaler.work.images == 1


def test_ensemble_of_16_bits_is_rounded_once() -> None:
    t = translator(leaning())
    image = random_image(6, 9, 3, dtype=np.uint16)
    whole = Upscaler(t, ensemble=True)((image / 65535).astype(np.float32))
    found = Upscaler(t, ensemble=True)(image)
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found, whole.astype(np.float64) * 65535, atol=0.6)


def test_colour_fix_gives_large_areas_the_images_colours() -> None:
    image = np.empty((96, 192, 3), np.uint8)
    image[:, :96], image[:, 96:] = (90, 140, 200), (120, 100, 60)
    image[::2, ::2] += 20  # fine detail, which is the network's
    shifting = translator(leaning(cast=(0.1, -0.08, 0.05)))
    for scale in (2, 3):
        plain = Upscaler(shifting, scale=scale)(image)
        fixed = Upscaler(shifting, scale=scale, colour_fix=True)(image)
        for columns in (slice(0, 64), slice(128, 192)):
            there = slice(columns.start * scale, columns.stop * scale)
            mean = image[:, columns].mean(axis=(0, 1))
            assert np.abs(plain[:, there].mean(axis=(0, 1)) - mean).max() > 10
            assert np.abs(fixed[:, there].mean(axis=(0, 1)) - mean).max() < 0.3
        detail = [np.diff(result[:, : 64 * scale].astype(float), axis=1).std() for result in (plain, fixed)]
        assert detail[1] == pytest.approx(detail[0], rel=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("alpha_upsampler", ["network", "bicubic"])
def test_transparency(dtype: Any, scale: int, alpha_upsampler: Any) -> None:
    """The network makes opaque a little transparent; it must not show."""
    full = np.iinfo(dtype).max
    page = random_image(20, 30, 4, dtype=dtype)
    page[..., 3] = 0
    page[5:15, 5:25, 3] = full
    upscaler = Upscaler(translator(leaning()), scale=scale, alpha_upsampler=alpha_upsampler)
    result = upscaler.upscale_file(ImageFile(pages=(page,), alpha=True)).pages[0]
    assert result.dtype == dtype
    assert (result[6 * scale : 14 * scale, 6 * scale : 24 * scale, 3] == full).all()
    assert (result[: 4 * scale, :, 3] == 0).all()
    page[..., 3] = full
    result = upscaler.upscale_file(ImageFile(pages=(page,), alpha=True)).pages[0]
    assert (result[..., 3] == full).all()


def test_the_network_enlarges_transparency_as_it_does_grey() -> None:
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=2, scale=2)
    nn.init.normal_(network.body[-1].weight, std=0.02)
    t = translator(network)
    page = random_image(20, 30, 4)
    result = Upscaler(t, alpha_upsampler="network").upscale_file(ImageFile(pages=(page,), alpha=True)).pages[0]
    through = t(page[..., 3:].repeat(3, axis=2)).mean(axis=2).round()
    inside = np.abs(result[..., 3] - through) < 1
    assert inside.mean() > 0.8  # the rest is confined to what lies around
    assert not (np.abs(result[..., 3] - np.asarray(t(Image.fromarray(page)))[..., 3]) < 1).all()


def test_soft_transparency_stays_soft() -> None:
    """A cut-out goes through the network by default, and smoke does not."""
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=2, scale=2)
    nn.init.normal_(network.body[-1].weight, std=0.02)
    t = translator(network)
    cut_out, smoke = random_image(40, 40, 4), random_image(40, 40, 4)
    cut_out[..., 3] = np.where(np.hypot(*np.mgrid[-20:20, -20:20]) < 12, 255, 0)
    smoke[..., 3] = np.linspace(0, 255, 40).astype(np.uint8)
    for page, way in ((cut_out, "network"), (smoke, "bicubic")):
        results = {
            name: Upscaler(t, alpha_upsampler=name).upscale_file(ImageFile(pages=(page,), alpha=True)).pages[0]
            for name in ("auto", "network", "bicubic")
        }
        np.testing.assert_array_equal(results["auto"], results[way])
        assert not np.array_equal(results["network"], results["bicubic"])


def test_transparency_in_other_units_does_not_go_through_the_network() -> None:
    t = translator(repeating(), dtype="any", data_range=(0, 4095))
    page = random_image(12, 12, 4, dtype=np.uint16)
    page[..., :3] //= 16
    network, bicubic = (
        Upscaler(t, alpha_upsampler=way).upscale_file(ImageFile(pages=(page,), alpha=True)).pages[0]
        for way in ("network", "bicubic")
    )
    np.testing.assert_array_equal(network, bicubic)


def test_pages_profile_and_notes_are_kept() -> None:
    pages = (random_image(5, 6, 1), random_image(7, 4, 1))
    upscaler = Upscaler(translator(repeating()), scale=2)
    result = upscaler.upscale_file(ImageFile(pages=pages, icc_profile=b"grey", notes=("so",)))
    assert [page.shape for page in result.pages] == [(10, 12, 1), (14, 8, 1)]
    assert (result.icc_profile, result.notes, upscaler.work.images) == (b"grey", ("so",), 2)


def test_work_counts_all_passes() -> None:
    t = Translator(generator=repeating(), spec=GeneratorSpec(input=side(), output=side()), tile_px=64, exact=False)
    upscaler = Upscaler(t, ensemble=True)
    upscaler(random_image(70, 60, 3))
    assert (upscaler.work.tiles, upscaler.work.tile_px) == (8 * 2, 64)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    t = translator(repeating())
    for scale in (0, -2, float("nan"), float("inf")):
        with pytest.raises(InputError, match="scale: expected a number above 0"):
            Upscaler(t, scale=scale)
    with pytest.raises(InputError, match="alpha_upsampler: expected one of"):
        Upscaler(t, alpha_upsampler="lanczos")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"ResNetGenerator makes another picture.*i2i translate"):
        Upscaler(translator(ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1)))
    with pytest.raises(InputError, match=r"the result has 1000000000 x .* Cut the image"):
        Upscaler(t, scale=1e8)(random_image(9, 10, 3))
    with pytest.raises(InputError, match="expected 3 channels"):
        Upscaler(t)(random_image(9, 10, 5))


def test_an_open_checkpoint_is_loaded_as_it_is(tmp_path: Path) -> None:
    network = repeating(scale=2)
    nn.init.normal_(network.body[-1].weight, std=0.02)
    spec = GeneratorSpec(input=side(), output=side())
    save_generator(tmp_path, network=network, spec=spec, card="")
    checkpoint, image = open_checkpoint(tmp_path), random_image(6, 7, 3)
    np.testing.assert_array_equal(i2i.load(checkpoint)(image), i2i.load(tmp_path)(image))
    with pytest.raises(InputError, match="give style encoder and overrides to open_checkpoint"):
        i2i.load(checkpoint, blocks=3)


@pytest.mark.data
def test_edges_of_real_cutouts_do_not_darken(data_dir: Path) -> None:
    """With black under what is transparent, the edge on white is as light as with any other colour there."""
    upscaler = Upscaler(i2i.load(data_dir / "weights" / "realesr-animevideov3.pth"))
    file = read_image_file(data_dir / "images" / "children-alpha.png")
    page = file.pages[0][60:140, 270:350].copy()
    composites = []
    for hidden in (0, 255):
        page[page[..., 3] == 0, :3] = hidden
        result = upscaler.upscale_file(ImageFile(pages=(page.copy(),), alpha=True)).pages[0].astype(float)
        alpha = result[..., 3:] / 255
        composites.append(result[..., :3] * alpha + 255 * (1 - alpha))
    np.testing.assert_array_equal(*composites)
