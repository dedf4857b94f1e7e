"""datasets/make_streets.py: every layout holds what it says, under the names that pair it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from i2i.data.image_io import read_image
from i2i.data.streets import make_scene, make_video

SCRIPT = Path(__file__).parents[1] / "datasets" / "make_streets.py"
SIZE = (32, 48)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_streets", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write(script: ModuleType, layout: str, out: Path) -> set[str]:
    """Write two training streets, one to validate and one to test; the names of all files."""
    settings = script.Settings(layout=layout, out=out, train=2, val=1, test=1, size=SIZE, first_seed=20)
    for job in script.jobs(settings):
        script.write_street(job, size=SIZE)
    return {path.relative_to(out).as_posix() for path in out.rglob("*.png")}


def test_aligned(script: ModuleType, tmp_path: Path) -> None:
    names = write(script, "aligned", tmp_path)
    assert names == {"train/00000.png", "train/00001.png", "val/00000.png", "test/00000.png"}
    scene = make_scene(21, size=SIZE)
    both = read_image(tmp_path / "train" / "00001.png")
    np.testing.assert_array_equal(both[:, :48], scene.day)
    np.testing.assert_array_equal(both[:, 48:], scene.label_image)


def test_paired(script: ModuleType, tmp_path: Path) -> None:
    names = write(script, "paired", tmp_path)
    assert {name for name in names if name.startswith("train")} == {
        f"train{side}/0000{number}.png" for side in "AB" for number in (0, 1)
    }
    scene = make_scene(23, size=SIZE)
    np.testing.assert_array_equal(read_image(tmp_path / "testA" / "00000.png"), scene.day)
    np.testing.assert_array_equal(read_image(tmp_path / "testB" / "00000.png"), scene.label_image)


def test_unpaired_trains_on_different_streets_and_tests_on_the_same(script: ModuleType, tmp_path: Path) -> None:
    write(script, "unpaired", tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path / "trainA" / "00001.png"), make_scene(21, size=SIZE).day)
    np.testing.assert_array_equal(read_image(tmp_path / "trainB" / "00001.png"), make_scene(23, size=SIZE).night)
    np.testing.assert_array_equal(read_image(tmp_path / "testA" / "00000.png"), make_scene(25, size=SIZE).day)
    np.testing.assert_array_equal(read_image(tmp_path / "testB" / "00000.png"), make_scene(25, size=SIZE).night)


def test_spade(script: ModuleType, tmp_path: Path) -> None:
    write(script, "spade", tmp_path)
    scene = make_scene(22, size=SIZE)
    instances = read_image(tmp_path / "val" / "instance" / "00000.png")
    assert instances.dtype == np.uint16
    np.testing.assert_array_equal(instances[..., 0], scene.instances)
    np.testing.assert_array_equal(read_image(tmp_path / "val" / "label" / "00000.png")[..., 0], scene.labels)
    np.testing.assert_array_equal(read_image(tmp_path / "val" / "image" / "00000.png"), scene.day)


def test_video(script: ModuleType, tmp_path: Path) -> None:
    settings = script.Settings(layout="video", out=tmp_path, frames=3, size=SIZE, first_seed=4)
    assert script.write_video(1, settings=settings) == 3
    last = list(make_video(5, size=SIZE, frames=3))[-1]
    np.testing.assert_array_equal(read_image(tmp_path / "001" / "000002.png"), last.day)


def test_command_writes_once_and_refuses_a_folder_in_use(tmp_path: Path) -> None:
    out = tmp_path / "streets"
    command = [sys.executable, SCRIPT, "--layout", "sr", "--out", out]
    command += ["--train", "2", "--val", "0", "--test", "1", "--size", *map(str, SIZE)]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "3 pictures of 3 streets" in first.stdout
    assert len(list(out.rglob("*.png"))) == 3
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 2
    assert "not an empty folder" in second.stderr and "Traceback" not in second.stderr
