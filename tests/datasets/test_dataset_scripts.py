"""The scripts in datasets/: what they say fits together, and as commands they lay out what the recipes read."""

import importlib.util
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from i2i.data.folders import find_pairs, read_pair
from i2i.data.public_sets import PublicSet

SCRIPTS = Path(__file__).parents[2] / "datasets"
NAMED = {"facades": "FACADES", "maps": "MAPS", "edges2shoes": "EDGES2SHOES", "horse2zebra": "HORSE2ZEBRA"}


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_script", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    return script


def all_sets() -> Iterator[PublicSet]:
    for script, variable in NAMED.items():
        yield getattr(module(script), variable)
    for script in ("pix2pix_sets", "cyclegan_sets"):
        sets = module(script).SETS
        assert all(name == public.name for name, public in sets.items())
        yield from sets.values()


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / f"{script}.py", *map(str, arguments)], capture_output=True, text=True, cwd=cwd
    )


def archive(path: Path, folders: dict[str, np.ndarray]) -> Path:
    """A zip with two pictures in each folder."""
    with zipfile.ZipFile(path, "w") as file:
        for folder, image in folders.items():
            for number in range(2):
                file.writestr(f"{path.stem}/{folder}/{number}.png", io.BytesIO(cv2.imencode(".png", image)[1]).read())
    return path


def test_what_the_scripts_say_fits_together() -> None:
    sets = list(all_sets())
    assert len({public.name for public in sets}) == len(sets) == 17
    assert len({one.name for public in sets for one in public.archives}) == 17
    for public in sets:
        assert {folder for one in public.archives for folder in one.members.values()} == public.counts.keys()
        unpaired = public.recipe.startswith("cyclegan.py")
        assert ({"trainA", "trainB", "testA", "testB"} if unpaired else {"train", "val"}) <= public.counts.keys()
        for one in public.archives:
            assert one.url is None or one.url.endswith(f"berkeley.edu/{one.url.split('/')[3]}/datasets/{one.name}")
            assert (one.url is None) == bool(public.by_hand)
            assert one.sha256 is None or re.fullmatch("[0-9a-f]{64}", one.sha256)
            assert one.name.endswith(".zip" if unpaired else ".tar.gz")


def test_facades_come_out_as_pairs(tmp_path: Path) -> None:
    both = np.concatenate([np.full((8, 8, 3), 10, np.uint8), np.full((8, 8, 3), 200, np.uint8)], axis=1)
    own = archive(tmp_path / "facades.zip", dict.fromkeys(["train", "val", "test"], both))
    done = run("facades", "--archive", own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Pictures as published: train 400, val 100, test 106" in done.stdout
    assert "datasets/facades holds: train 2, val 2, test 2" in done.stdout
    assert "Warning: that is not what was published" in done.stderr
    assert "Next: python recipes/pix2pix.py --direction BtoA --data datasets/facades --out runs/facades" in done.stdout
    pairs = find_pairs(tmp_path / "datasets" / "facades", phase="train", direction="BtoA")
    labels, photo = read_pair(pairs[0])
    assert len(pairs) == 2 and (labels == 200).all() and (photo == 10).all()


def test_a_set_by_name(tmp_path: Path) -> None:
    folders = ["trainA", "trainB", "testA", "testB"]
    own = archive(tmp_path / "cityscapes.zip", dict.fromkeys(folders, np.zeros((8, 8, 3), np.uint8)))
    done = run("cyclegan_sets", "cityscapes_unpaired", "--archive", own, "--out", "sets/streets", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "sets" / "streets").iterdir()) == sorted(folders)
    assert own.exists()


def test_without_a_name_the_sets_are_listed(tmp_path: Path) -> None:
    done = run("pix2pix_sets", cwd=tmp_path)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "cityscapes",
        "edges2handbags",
        "night2day",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("pix2pix_sets", ["cityscapes"], "It was withdrawn, for Cityscapes' licence"),
        (
            "horse2zebra",
            ["--archive", "horses.zip"],
            r"horses\.zip has sha256 .*, expected a74d9d392eecca99.* Give another",
        ),
        ("maps", ["--url", "http://127.0.0.1:9/maps.tar.gz"], "no connection .*put it at .*/datasets/maps.tar.gz"),
    ],
)
def test_what_is_wrong_ends_in_a_sentence(script: str, arguments: list[str], message: str, tmp_path: Path) -> None:
    archive(tmp_path / "horses.zip", {"trainA": np.zeros((8, 8, 3), np.uint8)})
    done = run(script, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(message, done.stderr) and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("train*")) and not list(tmp_path.rglob("*.lock"))
