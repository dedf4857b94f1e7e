"""How images that are too large for one pass are divided; whole ones are in test_translator.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.data.image_io import ImageFile, read_image, read_image_file
from i2i.errors import InputError
from i2i.generators import ResNetGenerator, RRDBGenerator
from i2i.inference import engine
from i2i.inference.graph import receptive_radius
from i2i.inference.translator import Translator

RGB = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
PHYSICAL = ImageSide(channels=4, dtype="float32", data_range=(-1000, 3000))


def resnet(*, norm: str = "batch", blocks: int = 1, channels: int = 3) -> ResNetGenerator:
    network = ResNetGenerator(in_channels=channels, out_channels=channels, width=8, blocks=blocks, norm=norm)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    return network


def translator(network: nn.Module, side: ImageSide = RGB) -> Translator:
    return Translator(generator=network, spec=GeneratorSpec(input=side, output=side))


def smooth_image(height: int, width: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(height)
    waves = [np.sin(np.linspace(0, rng.uniform(5, 20), n) + rng.uniform(0, 6)) for n in (height, width, channels)]
    noise = rng.normal(0, 0.1, (height, width, channels))
    image = waves[0][:, None, None] + waves[1][:, None] + waves[2] + noise
    return ((image + 4) * 30).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(300, 411), (301, 97), (97, 640)])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_bands_give_what_the_whole_image_gives(size: tuple[int, int], norm: str) -> None:
    t = translator(resnet(norm=norm))
    image = smooth_image(*size).astype(np.float32) / 255
    whole = t(image)
    assert t.work.tiles == t.work.stages == 0
    divided = t(image, tile_px=64, exact=True)
    assert (t.work.stages > 1) == (norm == "instance")
    np.testing.assert_allclose(divided, whole, atol=1e-5)


@pytest.mark.parametrize("tile_px", [160, 256])
def test_blended_tiles_come_close_to_the_whole_image(tile_px: int) -> None:
    t = translator(resnet(blocks=2))
    image = smooth_image(300, 411)
    whole = t(image).astype(int)
    difference = np.abs(t(image, tile_px=tile_px, exact=False) - whole)
    assert t.work.tiles > 3
    assert difference.max() <= 2
    assert difference.mean() < 0.01


def test_statistics_over_the_image_are_kept_unless_told_otherwise() -> None:
    t = translator(resnet(norm="instance", blocks=2))
    image = smooth_image(200, 260)
    whole = t(image).astype(int)
    assert np.abs(t(image, tile_px=96) - whole).max() <= 1
    assert t.work.stages > 1
    assert "exact" in str(t.work)
    assert np.abs(t(image, tile_px=96, exact=False) - whole).max() > 1
    assert t.work.tiles > 1
    assert "colours may be off" in str(t.work)


def test_four_bands_of_physical_values_pass_in_tiles() -> None:
    t = translator(resnet(channels=4), PHYSICAL)
    image = np.random.default_rng(0).uniform(-1000, 3000, (150, 210, 4)).astype(np.float32)
    np.testing.assert_allclose(t(image, tile_px=128, exact=True), t(image), atol=0.1)  # of 4,000


def test_wide_images_go_in_strips_that_overlap_by_what_the_network_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    t = translator(resnet())
    image = smooth_image(60, 1500).astype(np.float32) / 255
    whole = t(image)
    monkeypatch.setattr(engine, "working_budget", lambda device: 2**21)
    divided = t(image, exact=True)
    assert t.work.stages == 1
    assert t.work.scratch_bytes == 0
    assert t.work.context_px == receptive_radius(t.generator)
    assert 1 < t.work.extra_work < 2
    np.testing.assert_allclose(divided, whole, atol=1e-5)


def test_what_would_need_maps_on_disk_goes_in_tiles_unless_exactness_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
    t = translator(RRDBGenerator(in_channels=3, out_channels=3, width=8, growth=4, blocks=3, scale=2), side)
    image = smooth_image(40, 400)
    whole = t(image).astype(int)
    monkeypatch.setattr(engine, "working_budget", lambda device: 2**19)
    assert np.abs(t(image) - whole).max() <= 1
    assert t.work.tiles > 1
    assert np.abs(t(image, exact=True) - whole).max() <= 1
    assert t.work.tiles == 0
    assert t.work.stages > 1


def test_large_images_are_divided_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    t = translator(resnet())
    image = smooth_image(260, 300)
    whole = t(image).astype(int)
    assert t.work.stages == 0
    monkeypatch.setattr(engine, "working_budget", lambda device: 5 * 2**20)
    assert np.abs(t(image) - whole).max() <= 1  # where rounding meets a half
    assert t.work.stages == 1
    assert np.abs(t(image, exact=False) - whole).max() <= 2
    assert t.work.tiles > 1
    t(image[:40, :40])
    assert t.work.tiles == t.work.stages == 0


class SmallMemory(nn.Module):
    """A 1×1 convolution that runs out of memory beyond so many pixels at once."""

    in_channels = 3
    scale = 1
    size_multiple = 4

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.eye_(self.conv.weight.data[:, :, 0, 0])
        self.pixels = pixels

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] * images.shape[3] > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.conv(images)


@pytest.mark.parametrize("tile_px", [None, 256])
def test_tiles_shrink_until_they_fit(tile_px: int | None) -> None:
    t = translator(SmallMemory(100 * 100))
    image = smooth_image(300, 280)
    np.testing.assert_array_equal(t(image, tile_px=tile_px), image)
    assert t.work.tile_px <= 100


def test_an_image_that_no_tile_can_help_is_refused() -> None:
    t = translator(SmallMemory(100))
    with pytest.raises(InputError, match=r"memory on cpu does not suffice, not even for tiles of"):
        t(smooth_image(300, 280))


class Poisoned(nn.Module):
    """Returns NaN wherever the input is brighter than a threshold."""

    in_channels = 3
    scale = 1
    size_multiple = 1

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return torch.where(images > 0.9, torch.nan, self.gain * images)


@pytest.mark.parametrize("tile_px", [None, 64])
def test_results_that_are_no_numbers_are_refused(tile_px: int | None) -> None:
    t = translator(Poisoned())
    good = np.zeros((100, 100, 3), np.uint8)
    bad = good.copy()
    bad[70:, 70:] = 255
    np.testing.assert_array_equal(t(good, tile_px=tile_px), good)
    with pytest.raises(InputError, match=r"images\[1\]: the network returns NaN or infinite values, in fp32 too"):
        t([good, bad], tile_px=tile_px)


def test_progress_rises_to_one() -> None:
    t = translator(resnet())
    shares: list[float] = []
    t([smooth_image(300, 280), smooth_image(40, 40), smooth_image(41, 300)], tile_px=128, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_work_is_told_in_words() -> None:
    t = translator(resnet())
    t(smooth_image(300, 280), tile_px=128, exact=False)
    assert str(t.work).startswith("1 image in ")
    assert "tiles of 128 px, each with" in str(t.work)


class Enlarger(nn.Module):
    """Repeats every pixel two by two, and says that it shows the same picture."""

    in_channels = 3
    scale = 2
    size_multiple = 1
    restores = True

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.gain * images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_and_profile_of_a_file_are_kept(dtype: type) -> None:
    page = smooth_image(20, 30, 4).astype(dtype) * dtype(257 if dtype == np.uint16 else 1)
    page[..., 3] = np.iinfo(dtype).max  # opaque stays opaque
    file = ImageFile(pages=(page, page[::-1]), alpha=True, icc_profile=b"colours", notes=("so",))
    result = translator(Enlarger()).translate_file(file)
    assert (result.alpha, result.icc_profile, result.notes) == (True, b"colours", ("so",))
    for before, after in zip(file.pages, result.pages, strict=True):
        np.testing.assert_array_equal(after, before.repeat(2, axis=0).repeat(2, axis=1))


def test_grey_comes_back_grey_from_networks_that_restore() -> None:
    page = smooth_image(20, 30, 1)
    file = ImageFile(pages=(page,), alpha=False, icc_profile=b"grey", notes=())
    restored = translator(Enlarger()).translate_file(file)
    np.testing.assert_array_equal(restored.pages[0], page.repeat(2, axis=0).repeat(2, axis=1))
    assert restored.icc_profile == b"grey"

    painted = translator(resnet()).translate_file(file)
    assert painted.pages[0].shape == (20, 30, 3)
    assert painted.icc_profile is None
    assert any("profile" in note for note in painted.notes)


@pytest.mark.data
def test_real_images_with_transparency_and_sixteen_bits(data_dir: Path) -> None:
    t = i2i.load(data_dir / "weights" / "realesr-animevideov3.pth")
    for name, dtype, channels in [
        ("tree_alpha_16bit.png", np.uint16, 4),
        ("children-alpha.png", np.uint8, 4),
        ("wolf_gray.jpg", np.uint8, 1),
        ("0014.jpg", np.uint8, 3),
    ]:
        file = read_image_file(data_dir / "images" / name)
        cropped = tuple(np.ascontiguousarray(page[100:148, 100:164]) for page in file.pages)
        result = t.translate_file(
            ImageFile(pages=cropped, alpha=file.alpha, icc_profile=file.icc_profile, notes=file.notes)
        )
        page = result.pages[0]
        assert (page.shape, page.dtype) == ((192, 256, channels), dtype)
        # It shows the same picture: averaged down, it is what went in, but for noise and what cannot be seen.
        before, after = (seen / np.iinfo(dtype).max for seen in (cropped[0], page))
        if file.alpha:
            before[..., :-1] *= before[..., -1:]
            after[..., :-1] *= after[..., -1:]
        down = after.reshape(48, 4, 64, 4, channels).mean(axis=(1, 3))
        assert np.abs(down - before).mean() < 0.06
        assert np.abs((down - before).mean(axis=(0, 1))).max() < 0.02


@pytest.mark.data
def test_tiles_of_a_real_network_leave_no_seams(data_dir: Path) -> None:
    t = i2i.load(data_dir / "weights" / "realesr-animevideov3.pth")
    image = read_image(data_dir / "sr" / "Set14" / "LRx4" / "img_001.png")
    whole = t(image).astype(int)
    difference = np.abs(t(image, tile_px=64, exact=False) - whole)
    assert t.work.tiles > 1
    assert difference.max() <= 1
