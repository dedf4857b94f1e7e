"""The scripts in datasets/: what they say fits together, and as commands they lay out what the recipes read."""

import importlib.util
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from i2i.data.folders import find_pairs, read_pair
from i2i.data.labels import read_instances, read_labels
from i2i.data.public_sets import PublicSet, Settings, lay_out
from i2i.data.semantic import find_semantic
from i2i.data.superres import find_high_low, find_training, probe_high_low

SCRIPTS = Path(__file__).parents[2] / "datasets"
NAMED = {"facades": "FACADES", "maps": "MAPS", "edges2shoes": "EDGES2SHOES", "horse2zebra": "HORSE2ZEBRA"}
SEMANTIC = {"cityscapes": "CITYSCAPES", "ade20k": "ADE20K", "coco_stuff": "COCO_STUFF"}
SUPER_RESOLUTION = {"flickr2k": "FLICKR2K", "sr_test_sets": "SR_TEST_SETS"}


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


def semantic_set(name: str) -> PublicSet:
    return without_sums(getattr(module(name), SEMANTIC[name]))


def without_sums(public: PublicSet) -> PublicSet:
    """Without the sums of the real archives, which those made here cannot have."""
    return replace(public, archives=tuple(replace(one, sha256=None) for one in public.archives))


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


def test_what_the_semantic_scripts_say_fits_together() -> None:
    for public in map(semantic_set, SEMANTIC):
        made = set() if public.finish is None else {"train_inst", "val_inst"}
        passing = set() if public.finish is None else {"annotations"}
        unpacked = {folder for one in public.archives for folder in one.members.values()}
        assert unpacked | made == public.counts.keys() | passing
        assert (not any(one.url for one in public.archives)) == bool(public.by_hand)
        assert public.recipe.startswith("spade.py --classes ")


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def test_what_the_scripts_of_super_resolution_say_fits_together() -> None:
    sets = [getattr(module(name), variable) for name, variable in SUPER_RESOLUTION.items()]
    div2k = module("div2k").div2k
    for public in (*sets, div2k(()), div2k((4,)), div2k((2, 3, 4))):
        assert {folder for one in public.archives for folder in one.members.values()} == public.counts.keys()
        for one in public.archives:
            assert one.url is not None and one.url.endswith(f"/{one.name}")
            assert one.sha256 is None or re.fullmatch("[0-9a-f]{64}", one.sha256)
    assert div2k(()).counts == {"train/HR": 800, "val/HR": 100}
    assert sum(count for folder, count in sets[1].counts.items() if folder.endswith("/LRx4")) == 219


def test_cityscapes_comes_out_as_it_is_found(tmp_path: Path) -> None:
    photos, labels = {"README": b"", "license.txt": b""}, {"README": b""}
    for phase, city in (("train", "aachen"), ("train", "ulm"), ("val", "lindau"), ("test", "berlin")):
        stem = f"{city}_000000_000019"
        photos[f"leftImg8bit/{phase}/{city}/{stem}_leftImg8bit.png"] = png(np.zeros((8, 16, 3), np.uint8))
        for kind, depth in (("labelIds", np.uint8), ("instanceIds", np.uint16), ("color", np.uint8)):
            labels[f"gtFine/{phase}/{city}/{stem}_gtFine_{kind}.png"] = png(np.full((8, 16), 7, depth))
        labels[f"gtFine/{phase}/{city}/{stem}_gtFine_polygons.json"] = b"{}"
    archives = (
        zipped(tmp_path / "leftImg8bit_trainvaltest.zip", photos),
        zipped(tmp_path / "gtFine_trainvaltest.zip", labels),
    )
    done = run("cityscapes", "--archive", *archives, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "holds: leftImg8bit/train 2, leftImg8bit/val 1, gtFine/train 4, gtFine/val 2" in done.stdout
    assert "Next: python recipes/spade.py --classes 35 --load-size 512" in done.stdout
    found = find_semantic(tmp_path / "datasets" / "cityscapes", phases=["train"])
    assert found is not None and len(found.files) == 2 and found.has_instances and found.layout == "Cityscapes'"
    assert (read_labels(found.files[1].labels) == 7).all()
    assert find_semantic(tmp_path / "datasets" / "cityscapes", phases=["test"]) is None


def test_ade20k_comes_out_as_it_is_found(tmp_path: Path) -> None:
    files = {"ADEChallengeData2016/objectInfo150.txt": b"", "ADEChallengeData2016/sceneCategories.txt": b""}
    for phase in ("training", "validation"):
        files[f"ADEChallengeData2016/images/{phase}/ADE_train_1.jpg"] = png(np.zeros((8, 8, 3), np.uint8))
        files[f"ADEChallengeData2016/annotations/{phase}/ADE_train_1.png"] = png(np.full((8, 8), 150, np.uint8))
    own = zipped(tmp_path / "ade.zip", files)
    refused = run("ade20k", "--archive", own, cwd=tmp_path)
    assert refused.returncode == 2 and "expected 7ff1be44964418441f542a7cc1e1a650" in refused.stderr
    lay_out(semantic_set("ade20k"), Settings(out=tmp_path / "ade", archive=(own,)))
    found = find_semantic(tmp_path / "ade", phases=["validation"])
    assert found is not None and found.first_id == 1 and len(found.files) == 1


def test_coco_stuff_comes_out_with_instance_maps(tmp_path: Path) -> None:
    labels = np.full((10, 12), 20, np.uint8)
    labels[2:8, 1:11] = 0  # persons, COCO's category 1
    photos, maps, told = {}, {}, {}
    for phase in ("train", "val"):
        photos[phase] = {f"{phase}2017/000000000139.jpg": png(np.zeros((10, 12, 3), np.uint8))}
        maps[f"{phase}2017/000000000139.png"] = png(labels)
        annotations = {
            "images": [{"id": 139, "file_name": "000000000139.jpg"}, {"id": 5, "file_name": "000000000005.jpg"}],
            "annotations": [person([(0, 1), (5.9, 1), (5.9, 9), (0, 9)]) | {"image_id": 139}],
        }
        told[f"annotations/instances_{phase}2017.json"] = json.dumps(annotations).encode()
        told[f"annotations/captions_{phase}2017.json"] = b"{}"
    archives = (
        zipped(tmp_path / "train2017.zip", photos["train"]),
        zipped(tmp_path / "val2017.zip", photos["val"]),
        zipped(tmp_path / "stuffthingmaps_trainval2017.zip", maps),
        zipped(tmp_path / "annotations_trainval2017.zip", told),
    )
    out = tmp_path / "coco"
    lay_out(semantic_set("coco_stuff"), Settings(out=out, archive=archives))
    assert not (out / "annotations").exists()
    found = find_semantic(out, phases=["val"])
    assert found is not None and found.has_instances
    expected = labels.astype(int)
    expected[2:8, 1:6] = 256
    assert found.files[0].instances is not None
    np.testing.assert_array_equal(read_instances(found.files[0].instances), expected)


def person(*polygons: list[tuple[float, float]], area: float = 1.0, category: int = 1) -> dict[str, Any]:
    corners = [[number for corner in polygon for number in corner] for polygon in polygons]
    return {"iscrowd": 0, "category_id": category, "area": area, "segmentation": corners}


def square(left: int, top: int, side: int) -> list[tuple[float, float]]:
    right, bottom = left + side - 0.1, top + side - 0.1
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def test_objects_of_coco_by_hand() -> None:
    labels = np.zeros((20, 20), np.int64)
    labels[:, 15:] = 61
    objects = [
        person(square(2, 2, 4), area=16),  # in front of the next, though it comes first
        person(square(0, 0, 10), square(8, 8, 10), area=200),  # a hole would be where the two overlap
        person(square(14, 0, 4), area=15, category=62),  # its pixels of another class are none of it
        {"iscrowd": 1, "category_id": 1, "area": 400, "segmentation": {"counts": [0, 400], "size": [20, 20]}},
    ]
    expected = labels.copy()
    expected[0:10, 0:10] = expected[8:18, 8:15] = 256
    expected[2:6, 2:6] = 257
    expected[0:4, 15:18] = 258
    numbers = module("coco_stuff").instance_map(labels, objects)
    assert numbers.dtype == np.uint16
    np.testing.assert_array_equal(numbers, expected)


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
        ("cityscapes", [], r"leftImg8bit_trainvaltest\.zip of cityscapes cannot be downloaded\. Register at"),
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


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def picture(height: int, width: int) -> bytes:
    return png(np.random.default_rng(height).integers(256, size=(height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("scales", [(), (2, 4)])
def test_div2k_comes_out_as_it_is_found(scales: tuple[int, ...], tmp_path: Path) -> None:
    archives = []
    for phase, numbers in (("train", range(1, 4)), ("valid", range(801, 803))):
        files = {f"DIV2K_{phase}_HR/{number:04}.png": picture(48, 64) for number in numbers}
        archives.append(zipped(tmp_path / f"DIV2K_{phase}_HR.zip", files))
        for scale in scales:
            folder = f"DIV2K_{phase}_LR_bicubic/X{scale}"
            files = {f"{folder}/{number:04}x{scale}.png": picture(48 // scale, 64 // scale) for number in numbers}
            archives.append(zipped(tmp_path / f"DIV2K_{phase}_LR_bicubic_X{scale}.zip", files))
    out = tmp_path / "div2k"
    lay_out(without_sums(module("div2k").div2k(scales)), Settings(out=out, archive=tuple(archives)))
    training, held_out = find_training(out, scale=4)
    assert [one.high.name for one in training] == ["0001.png", "0002.png", "0003.png"]
    assert [one.low and one.low.name for one in held_out] == (["0801x4.png", "0802x4.png"] if scales else [None, None])
    assert probe_high_low([*training, *held_out], scale=4).largest_px == (48, 64)
    refused = run("div2k", "--archive", *archives, "--scales", *scales, cwd=tmp_path)
    assert refused.returncode == 2 and "expected 9d0b9c463f6e35b6c62cc6a930ee2224" in refused.stderr


def test_flickr2k_comes_out_as_it_is_found(tmp_path: Path) -> None:
    files = {f"Flickr2K/Flickr2K_HR/{number:06}.png": picture(24, 32) for number in range(1, 4)}
    files["Flickr2K/Flickr2K_LR_bicubic/X4/000001x4.png"] = picture(6, 8)
    done = run("flickr2k", "--archive", tarred(tmp_path / "Flickr2K.tar", files), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "datasets/flickr2k holds: HR 3" in done.stdout
    assert "Next: python recipes/superres_psnr.py --data datasets/flickr2k --out runs/flickr2k" in done.stdout
    training, held_out = find_training(tmp_path / "datasets" / "flickr2k", scale=4)
    assert len(training) == 2 and len(held_out) == 1 and training[0].low is None


def test_sets_to_test_super_resolution_come_out_as_they_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """HR is larger than its LR by less than the scale."""
    files = {"benchmark/readme.txt": b""}
    for name in ("Set5", "Set14", "B100", "Urban100"):
        files[f"benchmark/{name}/HR/baby.png"] = picture(50, 65)
        for scale in (2, 3, 4):
            low = picture(50 // scale, 65 // scale)
            files[f"benchmark/{name}/LR_bicubic/X{scale}/babyx{scale}.png"] = low
    own = tarred(tmp_path / "benchmark.tar", files)
    public = without_sums(module("sr_test_sets").SR_TEST_SETS)
    lay_out(public, Settings(out=tmp_path / "sets", archive=(own,)))
    assert "Next" not in capsys.readouterr().out
    for name in ("Set5", "Set14", "BSD100", "Urban100"):
        for scale in (2, 3, 4):
            (one,) = find_high_low(tmp_path / "sets" / name, scale=scale)
            assert one.low is not None and one.low.name == f"babyx{scale}.png"
            probe_high_low([one], scale=scale)
