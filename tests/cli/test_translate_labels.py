"""`i2i translate` of label maps: what it writes is what the translator returns in Python."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import translate as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import read_image
from i2i.generators import SPADEGenerator

PHOTOS = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
Printed = pytest.CaptureFixture[str]


def translate(*arguments: str | Path) -> int:
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


def save(folder: Path, *, styles: bool) -> Path:
    """Four classes, don't care and edges; where there are styles, 64 × 32 px."""
    torch.manual_seed(0)
    arguments = {"latent_channels": 3, "latent_height": 1, "latent_width": 2, "style_encoder_width": 4, "style_px": 16}
    network = SPADEGenerator(in_channels=6, width=1, hidden_width=4, **(arguments if styles else {}))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
        network.head.weight.mul_(20)
    side = ImageSide(channels=6, dtype="uint8", data_range=(0, 1), labels=True, dont_care=True, instances=True)
    save_generator(folder, network=network, spec=GeneratorSpec(input=side, output=PHOTOS), card="")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save(tmp_path / "weights", styles=True)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Two label maps, the second as a palette's indices; instances and photos that are called alike."""
    rng = np.random.default_rng(0)
    for name in ("labels/deep", "instances", "photos/more"):
        (tmp_path / name).mkdir(parents=True)
    for place, stem in (("labels", "a"), ("labels/deep", "b")):
        ids = rng.integers(0, 4, (8, 16), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
        ids[:4, :4] = 255
        image = Image.fromarray(ids)
        if stem == "b":
            image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
        image.save(tmp_path / place / f"{stem}.png")
        Image.fromarray(rng.integers(0, 9, (32, 64), dtype=np.uint8)).save(tmp_path / "instances" / f"{stem}.png")
        photo = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
        photo.save(tmp_path / ("photos" if stem == "a" else "photos/more") / f"{stem}.jpg")
    return tmp_path / "labels"


def results(folder: Path) -> list[np.ndarray]:
    return [read_image(folder / name) for name in ("a.png", "deep/b.png")]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert other.std() > 3
        np.testing.assert_array_equal(one, other)


def test_a_folder_in_styles_of_its_own_with_instances(weights: Path, labels: Path, tmp_path: Path) -> None:
    options = ["--style", tmp_path / "photos", "--instances", tmp_path / "instances", "--device", "cpu"]
    assert translate(labels, tmp_path / "out", "--weights", weights, *options) == 0
    t = i2i.load(weights)
    maps = [labels / "a.png", labels / "deep" / "b.png"]
    instances = [tmp_path / "instances" / name for name in ("a.png", "b.png")]
    photos = [tmp_path / "photos" / name for name in ("a.jpg", "more/b.jpg")]
    assert_same(results(tmp_path / "out"), t(maps, style=photos, instances=instances))
    assert np.any(results(tmp_path / "out")[0] != t(maps[0], style=photos[1], instances=instances[0]))
    assert np.any(results(tmp_path / "out")[0] != t(maps[0], style=photos[0]))


def test_one_style_for_all(weights: Path, labels: Path, tmp_path: Path) -> None:
    t, maps, photo = i2i.load(weights), [labels / "a.png", labels / "deep" / "b.png"], tmp_path / "photos" / "a.jpg"
    for option, value, expected in (("--style", photo, t(maps, style=photo)), ("--seed", "7", t(maps, seed=7))):
        assert translate(labels, tmp_path / "out", "--weights", weights, option, value, "--device", "cpu") == 0
        assert_same(results(tmp_path / "out"), expected)


def test_an_instance_map_for_one_label_map(weights: Path, labels: Path, tmp_path: Path) -> None:
    instances = tmp_path / "instances" / "b.png"  # called otherwise
    options = ["--instances", instances, "--device", "cpu"]
    assert translate(labels / "a.png", tmp_path / "out.png", "--weights", weights, *options) == 0
    expected = i2i.load(weights)(labels / "a.png", instances=instances)
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), expected)


def refused(capsys: Printed, *arguments: str | Path) -> str:
    assert translate(*arguments, "--device", "cpu") == 2
    return capsys.readouterr().err


def test_what_cannot_be_is_refused_before_any_work(
    weights: Path, labels: Path, tmp_path: Path, capsys: Printed
) -> None:
    call = (labels, tmp_path / "out", "--weights", weights)
    photos = tmp_path / "photos"
    assert "--style and --seed are two ways" in refused(capsys, *call, "--style", photos / "a.jpg", "--seed", "1")
    assert "seed: expected an integer from 0" in refused(capsys, *call, "--seed", "-1")
    assert "nowhere.jpg cannot be read" in refused(capsys, *call, "--style", "nowhere.jpg")
    assert "expected a folder with an instance map for each of 2" in refused(capsys, *call, "--instances", labels / "a")
    (photos / "more" / "b.jpg").rename(photos / "a.png")
    (tmp_path / "instances" / "b.png").unlink()
    message = refused(capsys, *call, "--style", photos)
    assert "labels/a.png: expected one file a.* among the photos for the style" in message
    assert "got 2: " in message
    message = refused(capsys, *call, "--instances", tmp_path / "instances")
    assert "labels/deep/b.png: expected one file b.* among the instance maps" in message
    plain = save(tmp_path / "plain", styles=False)
    for option in (("--seed", "1"), ("--style", photos / "a.jpg")):
        assert "this generator has no latent vector" in refused(
            capsys, labels, tmp_path / "out", "--weights", plain, *option
        )
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_label_maps(weights: Path, tmp_path: Path, capsys: Printed) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    ids = np.random.default_rng(0).integers(0, 4, (32, 64), dtype=np.uint8)
    Image.fromarray(ids).save(folder / "lossy.jpg")
    Image.fromarray(np.stack([ids, ids.T.reshape(32, 64), ids], axis=2)).save(folder / "colours.png")
    Image.fromarray(ids + 2).save(folder / "unknown.png")
    assert translate(folder, tmp_path / "out", "--weights", weights, "--device", "cpu") == 1
    lines = capsys.readouterr().err.splitlines()
    for name, sentence in (
        ("lossy.jpg", "JPEG changes numbers a little"),
        ("colours.png", "expected a label map of one channel, class ids from 0 to 3, got 3 channels"),
        ("unknown.png", "has the class id 4 in"),
    ):
        [line] = [line for line in lines if name in line]
        assert sentence in line
