"""What commands note in the images that they write, unless they are told not to."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

import i2i
from i2i import __version__
from i2i.checkpoints.store import WEIGHTS, GeneratorSpec, ImageSide, save_generator
from i2i.cli import draw, inspect, translate, upscale
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import Provenance, read_image, read_provenance, write_image
from i2i.generators import CompactGenerator, DCGANGenerator

UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))


def run(command: Any, *arguments: str | Path) -> int:
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network that enlarges, one that is its twin, one that draws, and a photo."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("x2", "twin"):
        enlarger = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
        save_generator(name, network=enlarger, spec=GeneratorSpec(input=UINT8, output=UINT8), card="")
    drawer = DCGANGenerator(latent_channels=4, out_channels=3, width=4, size=8)
    save_generator("noise", network=drawer, spec=GeneratorSpec(input=None, output=UINT8), card="")
    write_image("photo.png", np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8))
    return tmp_path


def called(name: str) -> str:
    return f"{name} (sha256 {hashlib.sha256(Path(name, WEIGHTS).read_bytes()).hexdigest()[:12]})"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_translated_images(suffix: str) -> None:
    assert run(translate, "photo.png", f"a result{suffix}", "--weights", "x2") == 0
    assert read_provenance(f"a result{suffix}") == Provenance(kind="translated", model=called("x2"))
    assert run(translate, "photo.png", f"plain{suffix}", "--weights", "x2", "--no-provenance") == 0
    assert read_provenance(f"plain{suffix}") is None
    assert b"i2i" not in Path(f"plain{suffix}").read_bytes()
    np.testing.assert_array_equal(read_image(f"plain{suffix}"), read_image(f"a result{suffix}"))


def test_enlarged_images_and_a_mixture_of_two_networks() -> None:
    assert run(upscale, "photo.png", "a.png", "--weights", "x2") == 0
    assert read_provenance("a.png") == Provenance(kind="enlarged", model=called("x2"))
    assert run(upscale, "photo.png", "b.png", "--weights", "x2", "--denoise", "0.75", "--denoise-weights", "twin") == 0
    model = f"0.75 · {called('x2')} + 0.25 · {called('twin')}"
    assert read_provenance("b.png") == Provenance(kind="enlarged", model=model)
    assert run(upscale, "photo.png", "c.png", "--weights", "x2", "--no-provenance") == 0
    assert read_provenance("c.png") is None


def test_drawn_images_and_their_overview() -> None:
    assert run(draw, "drawn", "--weights", "noise", "--count", "2") == 0
    for name in ("000000.png", "000001.png", "overview.png"):
        assert read_provenance(Path("drawn", name)) == Provenance(kind="drawn", model=called("noise"))
    assert run(draw, "plain", "--weights", "noise", "--count", "2", "--no-provenance") == 0
    for name in ("000000.png", "000001.png", "overview.png"):
        assert read_provenance(Path("plain", name)) is None
    np.testing.assert_array_equal(read_image("plain/000001.png"), read_image("drawn/000001.png"))


def test_the_last_network_is_named() -> None:
    """Nothing of a source's own note, whoever wrote it, is in the result."""
    tags = Image.Exif()
    tags[0x010E] = "holidays in Greece"
    Image.fromarray(read_image("photo.png")).save("photo.jpg", exif=tags)
    assert run(draw, "drawn", "--weights", "noise", "--count", "1") == 0
    for source in ("photo.jpg", "drawn/000000.png"):
        assert run(upscale, source, "a.jpg", "--weights", "x2") == 0
        assert read_provenance("a.jpg") == Provenance(kind="enlarged", model=called("x2"))
        data = Path("a.jpg").read_bytes()
        assert b"Greece" not in data
        assert b"noise" not in data


def test_what_cannot_hold_a_note_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        write_image(f"photos/{number}.png", read_image("photo.png"))
    assert run(translate, "photos", "bare", "--weights", "x2", "--format", "bmp") == 0
    assert "  .bmp cannot hold the note that the image is synthetic (3 images)\n" in capsys.readouterr().out
    assert run(translate, "photos", "bare", "--weights", "x2", "--format", "bmp", "--no-provenance") == 0
    assert "synthetic" not in capsys.readouterr().out


@pytest.mark.parametrize("image_format", ["png", "tif"])
def test_frames_of_a_video(image_format: str) -> None:
    make_clip(Path("in.mp4"), frames=3)
    assert run(upscale, "in.mp4", "frames", "--weights", "x2", "--format", image_format) == 0
    assert run(translate, "in.mp4", "plain", "--weights", "x2", "--format", image_format, "--no-provenance") == 0
    assert len(list(Path("frames").iterdir())) == 3
    for frame in Path("frames").iterdir():
        assert read_provenance(frame) == Provenance(kind="enlarged", model=called("x2"))
        assert read_provenance(Path("plain", frame.name)) is None


def test_inspect_says_what_an_image_says_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(translate, "photo.png", "a.png", "--weights", "x2") == 0
    capsys.readouterr()
    assert run(inspect, "a.png") == 0
    assert capsys.readouterr().out == (
        f"a.png: synthetic image, translated by a neural network; model: {called('x2')}; made with i2i {__version__}\n"
    )
    assert run(inspect, "a.png", "--json") == 0
    said = {"kind": "translated", "model": called("x2"), "version": __version__}
    assert json.loads(capsys.readouterr().out) == {"path": "a.png", "provenance": said}
    assert run(inspect, "photo.png") == 0
    assert "photo.png carries no note of i2i's" in capsys.readouterr().out
    Path("bad.png").write_text("no image")
    assert run(inspect, "bad.png") == 2


def test_in_python_nothing_is_noted() -> None:
    """What becomes of an array is its owner's business."""
    translated = i2i.load("x2")(read_image("photo.png"))
    write_image("a.png", translated)
    assert read_provenance("a.png") is None


def test_results_are_those_of_the_library_bit_for_bit() -> None:
    assert run(translate, "photo.png", "a.png", "--weights", "x2") == 0
    np.testing.assert_array_equal(read_image("a.png"), i2i.load("x2")("photo.png"))
