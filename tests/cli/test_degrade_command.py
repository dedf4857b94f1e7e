"""`i2i degrade`: pictures for a person to look at."""

from pathlib import Path

import numpy as np
import pytest

from i2i.cli.degrade import Settings, main
from i2i.cli.entry import parse
from i2i.data.image_io import read_image, write_image
from i2i.errors import InputError

GAP_PX = 4


def run(*arguments: str | Path) -> int:
    return main(parse(Settings, [str(argument) for argument in arguments], description=""))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    ramp = np.linspace(0, 255, 90 * 70 * 3).reshape(90, 70, 3)
    ramp[30:50, 20:40] = (200, 30, 60)
    write_image(tmp_path / "photo.png", ramp.astype(np.uint8))
    return tmp_path / "photo.png"


def cells(picture: np.ndarray, *, height: int, width: int) -> list[np.ndarray]:
    return [
        picture[top : top + height, left : left + width]
        for top in range(GAP_PX, picture.shape[0] - height, height + GAP_PX)
        for left in range(GAP_PX, picture.shape[1] - width, width + GAP_PX)
    ]


def test_shows_the_middle_and_degraded_versions(photo: Path, tmp_path: Path) -> None:
    run(photo, tmp_path / "shown.png", "--count", "5", "--crop-px", "60", "--scale", "4")
    original, *versions = cells(read_image(tmp_path / "shown.png"), height=60, width=60)
    np.testing.assert_array_equal(original, read_image(photo)[15:75, 5:65])
    assert len(versions) == 5
    for number, version in enumerate(versions):
        # Each pixel of a version is a square of the picture.
        np.testing.assert_array_equal(version, version[::4, ::4].repeat(4, axis=0).repeat(4, axis=1))
        assert all(not np.array_equal(version, other) for other in versions[:number])
        assert 1 < np.abs(version.astype(float) - original).mean() < 60


def test_seed_and_settings_decide(photo: Path, tmp_path: Path) -> None:
    shown = {}
    for name, options in {
        "first": [],
        "again": [],
        "other seed": ["--seed", "1"],
        "milder": ["--jpeg-quality", "90", "95", "--second-jpeg-quality", "90", "95"],
    }.items():
        run(photo, tmp_path / f"{name}.png", *options)
        shown[name] = read_image(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(shown["first"], shown["again"])
    assert not np.array_equal(shown["first"], shown["other seed"])
    assert not np.array_equal(shown["first"], shown["milder"])


@pytest.mark.parametrize(
    ("name", "dtype", "channels"),
    [("grey.png", np.uint8, 1), ("deep.tif", np.uint16, 5), ("alpha.png", np.uint8, 4), ("floats.npy", np.float32, 3)],
)
def test_images_of_other_kinds(tmp_path: Path, name: str, dtype: type, channels: int) -> None:
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    image = np.random.default_rng(0).random((33, 40, channels)) * top
    write_image(tmp_path / name, image.astype(dtype))
    run(tmp_path / name, f"{tmp_path}/shown/", "--count", "2")
    picture = read_image((tmp_path / "shown" / name).with_suffix(".png"))
    original, *_ = cells(picture, height=32, width=40)
    expected = image.repeat(3, axis=2) if channels == 1 else image[..., :3]
    assert np.abs(original - expected[:32] / top * 255).max() <= 1


def test_what_cannot_be_shown(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"shown.jpg: expected a name that ends in .png"):
        run(photo, tmp_path / "shown.jpg")
    assert run(photo, tmp_path / "shown.png", "--scale", "100") == 1
    assert "photo.png: expected at least 100 px a side, got 90 by 70" in capsys.readouterr().err
    assert not (tmp_path / "shown.png").exists()


def test_one_bad_image_does_not_stop_the_others(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    np.save(folder / "heat.npy", np.full((8, 8), 300.0, np.float32))
    (folder / "torn.png").write_bytes(photo.read_bytes()[:200])
    photo.rename(folder / "whole.png")
    assert run(folder, f"{tmp_path}/shown/", "--count", "1") == 1
    error = capsys.readouterr().err
    assert "heat.npy: expected 8 or 16 bits, or floats between 0 and 1" in error and "torn.png" in error
    assert [file.name for file in (tmp_path / "shown").iterdir()] == ["whole.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop-px", "3"], "--crop-px: expected at least the scale, 4, got 3"),
        (["--count", "0"], "expected a --count and a --scale of at least 1, got 0 and 4"),
        (["--jpeg-quality", "30", "200"], "jpeg_quality: expected a range between 1 and 100"),
    ],
)
def test_settings_that_cannot_be(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("photo.png", "shown.png", *options)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
