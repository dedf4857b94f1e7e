"""`i2i draw`: files that are what the seed and class in their names draw."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import draw as command
from i2i.cli import translate, upscale
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import Provenance, read_image, write_image
from i2i.generators import CompactGenerator, DCGANGenerator, MLPGenerator

UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
NAMES = ("disc", "a/b", "ring")
GAP_PX = 4


def draw(*arguments: str | Path) -> int:
    """Run `i2i draw` in this process; returns its exit code."""
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def save(
    folder: Path,
    *,
    classes: int = 0,
    names: tuple[str, ...] | None = None,
    output: ImageSide = UINT8,
    factor: float = 20,
) -> Path:
    network = DCGANGenerator(latent_channels=4, out_channels=output.channels, width=4, size=8, classes=classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)  # so that images differ
    save_generator(folder, network=network, spec=GeneratorSpec(input=None, output=output, classes=names), card="")
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_seeds_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, out = save(tmp_path / "weights"), tmp_path / "deep" / "out"
    assert draw(out, "--weights", weights, "--count", "3", "--seed", "9") == 0
    assert names_in(out) == ["000009.png", "000010.png", "000011.png", "overview.png"]
    images = i2i.load(weights)(seed=[9, 10, 11])
    for number, image in zip(("09", "10", "11"), images, strict=True):
        np.testing.assert_array_equal(read_image(out / f"0000{number}.png"), image)
    assert (images[0] != images[1]).any()
    assert capsys.readouterr().out.startswith("3 drawn, in ")


def test_classes_take_turns(tmp_path: Path) -> None:
    t = i2i.load(save(tmp_path / "weights", classes=3, names=NAMES))
    assert draw(tmp_path / "all", "--weights", tmp_path / "weights", "--count", "5") == 0
    files = ["000000_disc.png", "000001_a-b.png", "000002_ring.png", "000003_disc.png", "000004_a-b.png"]
    assert names_in(tmp_path / "all") == [*files, "overview.png"]
    for seed, file in enumerate(files):
        np.testing.assert_array_equal(read_image(tmp_path / "all" / file), t(seed=seed, label=seed % 3))

    assert draw(tmp_path / "some", "--weights", tmp_path / "weights", "--count", "3", "--label", "ring", "0") == 0
    assert names_in(tmp_path / "some") == ["000000_ring.png", "000001_disc.png", "000002_ring.png", "overview.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "some" / "000002_ring.png"), t(seed=2, label="ring"))


def test_classes_without_names_are_called_by_their_ids(tmp_path: Path) -> None:
    weights = save(tmp_path / "weights", classes=12)
    assert draw(tmp_path / "out", "--weights", weights, "--count", "2", "--label", "11") == 0
    assert names_in(tmp_path / "out") == ["000000_11.png", "000001_11.png", "overview.png"]


def test_the_overview_has_a_column_a_class(tmp_path: Path) -> None:
    t = i2i.load(save(tmp_path / "weights", classes=3))
    assert draw(tmp_path, "--weights", tmp_path / "weights", "--count", "6") == 0
    overview = read_image(tmp_path / "overview.png")
    down, across = 8 + GAP_PX, 8 + 2 * GAP_PX
    assert overview.shape == (2 * down + GAP_PX, 3 * across + GAP_PX, 3)
    for seed in range(6):
        top, left = GAP_PX + seed // 3 * down, GAP_PX + seed % 3 * across
        np.testing.assert_array_equal(overview[top : top + 8, left : left + 8], t(seed=seed, label=seed % 3))


@pytest.mark.parametrize(
    ("side", "suffix"),
    [
        (ImageSide(channels=1, dtype="uint16", data_range=(0, 4095)), "png"),
        (ImageSide(channels=3, dtype="float32", data_range=(-1000, 3000)), "tif"),
        (ImageSide(channels=5, dtype="uint8", data_range=(0, 255)), "tif"),
    ],
)
def test_the_depth_of_the_training_images(side: ImageSide, suffix: str, tmp_path: Path) -> None:
    weights = save(tmp_path / "weights", output=side)
    assert draw(tmp_path / "out", "--weights", weights, "--count", "2", "--device", "cpu") == 0
    image = read_image(tmp_path / "out" / f"000001.{suffix}")
    assert image.dtype == side.dtype
    np.testing.assert_array_equal(image, i2i.load(weights)(seed=1))
    shown = read_image(tmp_path / "out" / "overview.png")[GAP_PX : GAP_PX + 8, GAP_PX : GAP_PX + 8, 0]
    low, high = side.data_range
    first = i2i.load(weights)(seed=0)[..., 0].astype(float)
    assert np.abs(shown - (first - low) / (high - low) * 255).max() <= 0.51


def test_what_is_there_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, out = save(tmp_path / "weights"), tmp_path / "out"
    mark = np.zeros((2, 2, 3), np.uint8)
    write_image(out / "000001.png", mark)
    (out / ".000002.png.part-abcdefgh.png").touch()
    assert draw(out, "--weights", weights, "--count", "3", "--skip-existing") == 0
    np.testing.assert_array_equal(read_image(out / "000001.png"), mark)
    assert "2 drawn, 1 skipped, for they are there, in " in capsys.readouterr().out
    assert names_in(out) == ["000000.png", "000001.png", "000002.png", "overview.png"]
    assert draw(out, "--weights", weights, "--count", "3") == 0
    assert read_image(out / "000001.png").shape == (8, 8, 3)


def test_what_is_there_is_another_image_where_truncation_is_another(tmp_path: Path) -> None:
    weights, out = save(tmp_path / "weights", classes=3, names=NAMES), tmp_path / "out"
    arguments = (out, "--weights", weights, "--count", "2", "--skip-existing")
    for truncation in (None, 0.5, 1):
        assert draw(*arguments, *(() if truncation is None else ("--truncation", str(truncation)))) == 0
    stems = ("000000_disc", "000001_a-b")
    files = [f"{stem}{end}.png" for stem in stems for end in ("", "_t0.5", "_t1")]
    assert names_in(out) == [*files, "overview.png"]
    t = i2i.load(weights)
    for seed, stem in enumerate(stems):
        for truncation in (0.5, 1):
            again = t(seed=seed, label=seed, truncation=truncation)
            np.testing.assert_array_equal(read_image(out / f"{stem}_t{truncation}.png"), again)
    mark = np.zeros((2, 2, 3), np.uint8)
    write_image(out / "000000_disc_t0.5.png", mark)
    assert draw(*arguments, "--truncation", "0.50") == 0
    np.testing.assert_array_equal(read_image(out / "000000_disc_t0.5.png"), mark)


def test_processes_share_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, out = save(tmp_path / "weights"), tmp_path / "out"
    monkeypatch.setenv("WORLD_SIZE", "2")
    drawn = []
    for rank in "10":
        monkeypatch.setenv("RANK", rank)
        assert draw(out, "--weights", weights, "--count", "5", "--batch-size", "1") == 0
        drawn.append(names_in(out))
    assert drawn[0] == ["000001.png", "000003.png"]
    assert drawn[1] == ["000000.png", "000001.png", "000002.png", "000003.png", "000004.png", "overview.png"]


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weights, out = save(tmp_path / "weights"), tmp_path / "out"

    def interrupt(path: Path, image: np.ndarray, *, provenance: Provenance) -> None:
        if path.name == "000002.png":
            raise KeyboardInterrupt
        write_image(path, image, provenance=provenance)

    monkeypatch.setattr(command, "write_image", interrupt)
    assert draw(out, "--weights", weights) == 130
    assert names_in(out) == ["000000.png", "000001.png"]
    assert "--skip-existing goes on" in capsys.readouterr().err


def test_what_cannot_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, classes = save(tmp_path / "plain"), save(tmp_path / "classes", classes=3, names=NAMES)
    points = GeneratorSpec(input=None, output=ImageSide(channels=2, dtype="float32", data_range=(-1, 1)))
    save_generator(tmp_path / "points", network=MLPGenerator(latent_channels=2, out_channels=2), spec=points, card="")
    enlarger = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
    save_generator(tmp_path / "x2", network=enlarger, spec=GeneratorSpec(input=UINT8, output=UINT8), card="")
    (tmp_path / "file").touch()
    for arguments, message in [
        (("--weights", plain, "--count", "0"), "--count: expected at least 1"),
        (("--weights", plain, "--seed", "-1"), "seed: expected an integer from 0"),
        (("--weights", plain, "--batch-size", "0"), "batch_size: expected at least 1"),
        (("--weights", plain, "--label", "0"), "no classes to choose from"),
        (("--weights", classes, "--label", "star"), "or a name (disc, a/b, ring), got 'star'"),
        (("--weights", classes, "--label", "3"), "class id from 0 to 2"),
        (("--weights", tmp_path / "points"), "draws points, not images"),
        (("--weights", tmp_path / "x2"), "use `i2i translate`"),
    ]:
        assert draw(tmp_path / "out", *arguments) == 2, arguments
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert draw(tmp_path / "file", "--weights", plain) == 2
    assert "file is a file; give another place" in capsys.readouterr().err


@pytest.mark.parametrize("other", [translate, upscale])
def test_others_point_here(other: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "weights")
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    arguments = [str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--weights", str(tmp_path / "weights")]
    settings = parse(other.Settings, arguments, description="")
    assert exit_code(lambda: other.main(settings), debug=False) == 2
    assert "draws from noise and translates nothing; use `i2i draw`" in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()
