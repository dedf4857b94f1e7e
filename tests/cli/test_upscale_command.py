"""`i2i upscale`: files in, larger files out, and the flags of Real-ESRGAN's users."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import i2i
from i2i.checkpoints.catalogue import CATALOGUE
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import upscale as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import read_image, read_image_file, write_image
from i2i.generators import CompactGenerator, ResNetGenerator
from i2i.inference.upscale import Upscaler


def upscale(*arguments: str | Path) -> int:
    """Run `i2i upscale` in this process; returns its exit code."""
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


def save_network(folder: Path, *, std: float = 0.02, **changes: Any) -> Path:
    """A compact network of scale 4 that repeats each pixel and adds something random to it."""
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=4)
    torch.nn.init.normal_(network.body[-1].weight, std=std)
    torch.nn.init.zeros_(network.body[-1].bias)
    side = ImageSide(**{"channels": 3, "dtype": "uint8", "data_range": (0, 255), "network_range": (0, 1)} | changes)
    save_generator(folder, network=network, spec=GeneratorSpec(input=side, output=side), card="")
    return folder


def random_image(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_network(tmp_path / "weights")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    write_image(folder / "a.png", random_image(9, 14, 3))
    write_image(folder / "deep" / "b.png", random_image(5, 70, 4, dtype=np.uint16))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_in_either_spelling(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(photos, tmp_path / "ours", "--weights", weights, "--scale", "2", "--tile", "64") == 0
    assert upscale("-i", "inputs", "-o", "results", "-n", weights, "-s", "2", "-t", "64") == 0
    assert "2 upscaled, in " in capsys.readouterr().out
    assert names(tmp_path / "ours") == names(tmp_path / "results") == ["a.png", "deep/b.png"]
    for name, shape in (("a.png", (18, 28, 3)), ("deep/b.png", (10, 140, 4))):
        result = read_image(tmp_path / "ours" / name)
        assert (result.shape, result.dtype) == (shape, read_image(photos / name).dtype)
        np.testing.assert_array_equal(read_image(tmp_path / "results" / name), result)


def test_results_are_those_of_the_library(photos: Path, weights: Path) -> None:
    options = ("--scale", "3.5", "--colour-fix", "--ensemble", "--alpha-upsampler", "bicubic", "--device", "cpu")
    assert upscale(photos, "out", "--weights", weights, *options) == 0
    upscaler = Upscaler(i2i.load(weights), scale=3.5, alpha_upsampler="bicubic", colour_fix=True, ensemble=True)
    for name in ("a.png", "deep/b.png"):
        np.testing.assert_array_equal(read_image(Path("out") / name), upscaler(photos / name))


def test_every_flag_of_real_esrgan(photos: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "-t 0 --tile_pad 10 --pre_pad 0 --fp32 --alpha_upsampler realesrgan --ext png --suffix _out --outscale 4"
    assert upscale("--input", photos / "a.png", "--output", "new", "--model_path", weights, *flags.split()) == 0
    assert names(Path("new")) == ["a_out.png"]
    np.testing.assert_array_equal(read_image("new/a_out.png"), i2i.load(weights)(photos / "a.png"))
    error = capsys.readouterr().err
    assert "--tile-pad is not needed" in error
    assert "--pre-pad is not needed" in error


def test_depth_grey_transparency_and_profile_are_kept(weights: Path) -> None:
    grey_profile = _grey_profile()
    Image.fromarray(random_image(8, 9)).save("grey.png", icc_profile=grey_profile)
    write_image("grey16.png", random_image(8, 9, 2, dtype=np.uint16))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    opaque = random_image(8, 9, 4)
    opaque[..., 3] = 255
    Image.fromarray(opaque).save("opaque.png", icc_profile=srgb)
    for scale in ("4", "2.5"):
        for name, channels, dtype, profile in (
            ("grey.png", 1, np.uint8, grey_profile),
            ("grey16.png", 2, np.uint16, None),
            ("opaque.png", 4, np.uint8, srgb),
        ):
            assert upscale(name, f"{scale}/{name}", "--weights", weights, "-s", scale) == 0
            file = read_image_file(f"{scale}/{name}")
            height, width = round(8 * float(scale)), round(9 * float(scale))
            assert file.pages[0].shape == (height, width, channels)
            assert file.pages[0].dtype == dtype
            assert file.alpha == (channels in (2, 4))
            assert file.icc_profile == profile
        assert (read_image(f"{scale}/opaque.png")[..., 3] == 255).all()


def _grey_profile() -> bytes:
    """An sRGB profile whose header says grey; nobody here reads on."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    return bytes(profile)


def test_denoise_blends_with_the_other_weights(photos: Path, tmp_path: Path) -> None:
    denoiser, keeper = save_network(tmp_path / "denoiser"), save_network(tmp_path / "keeper", std=0.05)
    common = (photos / "a.png", "--weights", denoiser, "--denoise-weights", keeper)
    for strength in ("0", "0.3", "1"):
        assert upscale(common[0], f"{strength}.tif", *common[1:], "-dn", strength) == 0
    image = read_image(photos / "a.png")
    np.testing.assert_array_equal(read_image("1.tif"), i2i.load(denoiser)(image))
    np.testing.assert_array_equal(read_image("0.tif"), i2i.load(keeper)(image))
    mixed = i2i.load(denoiser)
    parameters = zip(mixed.generator.parameters(), i2i.load(keeper).generator.parameters(), strict=True)
    for ours, theirs in parameters:
        ours.data = 0.3 * ours.data + 0.7 * theirs.data
    assert np.abs(read_image("0.3.tif").astype(int) - mixed(image)).max() <= 1


def test_the_twin_beside_the_weights_is_found(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    opened: list[object] = []
    monkeypatch.setattr(command, "open_checkpoint", lambda path: opened.append(path))
    monkeypatch.setattr(command, "blend", lambda twin, weights, *, alpha: opened.append(alpha))
    monkeypatch.setattr(i2i, "load", stop)
    beside = Path("models/realesr-general-wdn-x4v3.pth")
    beside.parent.mkdir()
    beside.touch()
    beside.with_name("realesr-general-x4v3.pth").touch()
    assert upscale(photos, "out", "-n", "models/realesr-general-x4v3.pth", "-dn", "0.25") == 130
    assert opened == [Path("models/realesr-general-x4v3.pth"), beside, 0.25]
    assert command._find_twin("realesr-general-x4v3") in {known.name for known in CATALOGUE}


def test_no_image_is_overwritten(photos: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (photos / "a.png").read_bytes()
    assert upscale(photos, photos, "--weights", weights) == 2
    assert upscale(photos / "a.png", photos, "--weights", weights) == 2
    assert "would overwrite the image" in capsys.readouterr().err
    assert (photos / "a.png").read_bytes() == before


def test_one_bad_file_does_not_stop_the_rest_and_skipping_goes_on(
    photos: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "c.png").write_bytes(b"")
    assert upscale(photos, "out", "--weights", weights) == 1
    assert names(Path("out")) == ["a.png", "deep/b.png"]
    assert upscale(photos, "out", "--weights", weights, "--skip-existing") == 1
    assert "0 upscaled, 2 skipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inputs", "out"], "scale: expected a number above 0, such as 2 or 3.5, got 0"),
        (["inputs"], "OUTPUT is missing: expected i2i upscale INPUT OUTPUT, or -i INPUT -o OUTPUT"),
        (["inputs", "out", "-i", "other"], "INPUT is given twice, as inputs and as -i other"),
    ],
)
def test_what_is_missing_or_out_of_range_is_told(
    photos: Path, weights: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert upscale(*arguments, "--weights", weights, "--scale", "0") == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tile", "5"], "--tile: expected auto, or a side of at least 64 px, got 5"),
        (["--denoise", "0.5"], "no twin of weights that leaves noise in is known; give it with --denoise-weights"),
        (["--denoise", "1.5"], "--denoise: expected a number from 0 (noise is left in) to 1, got 1.5"),
        (["--denoise-weights", "weights"], "--denoise-weights: say with --denoise"),
        (["--set", "colour=red"], "colour"),
    ],
)
def test_options_that_cannot_be_are_told(
    photos: Path, weights: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert upscale(photos, "out", "--weights", "weights", *options) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_tile_that_is_no_number_is_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        upscale(photos, "out", "--weights", "weights", "--tile", "large")
    assert end.value.code == 2
    assert "'auto'" in capsys.readouterr().err


def test_networks_that_do_not_enlarge_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1)
    photo = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    labels = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), labels=True)
    for side in (photo, labels):
        save_generator(Path("gan"), network=network, spec=GeneratorSpec(input=side, output=photo), card="")
        assert upscale(photos, "out", "--weights", "gan") == 2
        assert "ResNetGenerator makes another picture of an image, and does not enlarge it" in capsys.readouterr().err


@pytest.mark.data
def test_a_discriminator_is_refused(photos: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = data_dir / "golden" / "junyanz-patchgan70-batch" / "weights.pth"
    assert upscale(photos, "out", "--weights", weights) == 2
    assert "discriminator, which translates no images" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [("tree_alpha_16bit.png", 4, np.uint16), ("wolf_gray.jpg", 1, np.uint8), ("children-alpha.png", 4, np.uint8)],
)
def test_real_images(data_dir: Path, name: str, channels: int, dtype: type) -> None:
    """Every image at hand comes out as what it was, and on the whole as bright."""
    source = read_image_file(data_dir / "images" / name)
    weights = data_dir / "weights" / "realesr-animevideov3.pth"
    assert upscale(data_dir / "images" / name, "large", "--weights", weights, "--scale", "2") == 0
    result = read_image_file(Path("large") / name)
    height, width = source.pages[0].shape[:2]
    assert result.pages[0].shape == (2 * height, 2 * width, channels)
    assert (result.pages[0].dtype, result.alpha, result.icc_profile) == (dtype, source.alpha, source.icc_profile)
    assert abs(_on_grey(result) - _on_grey(source)) < 0.02


def _on_grey(file: Any) -> float:
    page = file.pages[0] / np.iinfo(file.pages[0].dtype).max
    if not file.alpha:
        return float(page.mean())
    return float((page[..., :-1] * page[..., -1:] + 0.5 * (1 - page[..., -1:])).mean())
