"""The look at a whole set before training: what it finds, what it refuses, and that it is done once."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from i2i.data import label_scan
from i2i.data.folders import SideInfo
from i2i.data.image_io import write_image
from i2i.data.label_scan import Occurrence, count_classes, scan_labels
from i2i.data.semantic import SemanticFiles
from i2i.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


Add = Callable[..., SemanticFiles]


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """Writes a label map with a photo of its size."""

    def write(name: str, labels: np.ndarray, *, channels: int = 3) -> SemanticFiles:
        one = SemanticFiles(labels=tmp_path / f"labels/{name}.png", image=tmp_path / f"photos/{name}.png")
        write_image(one.labels, labels)
        write_image(one.image, np.zeros((*labels.shape[:2], channels), np.uint8))
        return one

    return write


def ids(*counts: tuple[int, int], width: int = 10) -> np.ndarray:
    """A label map (…, width) uint8 of so many pixels of each id."""
    return np.repeat(*np.array(counts).T).reshape(-1, width).astype(np.uint8)


def test_ids_are_counted(add: Add, tmp_path: Path) -> None:
    files = [add("b", ids((0, 60), (3, 40))), add("a", ids((3, 100), (255, 20), (1, 80), width=20))]
    scan = scan_labels(files)
    assert scan.ids == {
        0: Occurrence(file=str(tmp_path / "labels/b.png"), pixels=60, all_files=1, all_pixels=60),
        1: Occurrence(file=str(tmp_path / "labels/a.png"), pixels=80, all_files=1, all_pixels=80),
        3: Occurrence(file=str(tmp_path / "labels/b.png"), pixels=40, all_files=2, all_pixels=140),
        255: Occurrence(file=str(tmp_path / "labels/a.png"), pixels=20, all_files=1, all_pixels=20),
    }
    assert list(scan.ids) == [0, 1, 3, 255]
    assert scan.photos == SideInfo(channels=3, dtype="uint8", data_range=(0, 255))
    assert scan.smallest_px == (10, 10)
    assert scan.lowest == scan.narrowest == str(tmp_path / "photos/b.png")


def test_negative_and_large_ids_are_counted(tmp_path: Path, add: Add) -> None:
    one = add("a", ids((0, 100)))
    labels = np.full((10, 10), -1)
    labels[0] = 3_000_000
    np.save(tmp_path / "a.npy", labels)
    scan = scan_labels([SemanticFiles(labels=tmp_path / "a.npy", image=one.image)])
    assert {number: seen.pixels for number, seen in scan.ids.items()} == {-1: 90, 3_000_000: 10}


def test_an_unchanged_set_is_looked_at_once(add: Add, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [add("a", ids((0, 60), (3, 40))), add("b", ids((0, 100)))]
    looked: list[str] = []
    look = label_scan.read_labels
    monkeypatch.setattr(
        label_scan, "read_labels", lambda path, palette: (looked.append(path.name), look(path, palette=palette))[1]
    )
    first = scan_labels(files)
    assert scan_labels(files) == first and len(looked) == 2

    before = files[1].labels.stat()
    write_image(files[1].labels, ids((0, 99), (2, 1)))
    os.utime(files[1].labels, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert 2 in scan_labels(files).ids and len(looked) == 4
    os.utime(files[0].image)  # photos and instance maps count too
    scan_labels(files)
    assert len(looked) == 6

    palette = np.array([(number, number, number) for number in range(4)], dtype=np.uint8)
    scan_labels(files, palette=palette)
    scan_labels(files, palette=palette)
    scan_labels(files[:1])
    assert len(looked) == 9

    for kept in cache.rglob("*.json"):
        kept.write_text("{")
    scan_labels(files)
    assert len(looked) == 11


def test_without_a_place_for_the_cache_it_works(add: Add, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("in the way")
    assert scan_labels([add("a", ids((0, 100)))]).ids[0].pixels == 100


@pytest.mark.parametrize(("classes", "expected"), [(None, 4), (4, 4), (9, 9), (255, 255)])
def test_classes_are_counted_or_given(classes: int | None, expected: int, add: Add) -> None:
    scan = scan_labels([add("a", ids((0, 60), (3, 40)))])
    assert count_classes(scan, classes=classes, dont_care=False) == expected


def test_ids_of_ade20k_begin_at_1(add: Add) -> None:
    scan = scan_labels([add("a", ids((0, 60), (150, 40)))])
    assert count_classes(scan, classes=None, dont_care=True, first_id=1) == 150
    with pytest.raises(InputError, match=r'a\.png has 60 pixels of id 0 .* "don\'t care": give --dont-care'):
        count_classes(scan, classes=150, dont_care=False, first_id=1)
    with pytest.raises(InputError, match=r"id 150 .* 100 classes have ids from 1 to 100: give --classes 150"):
        count_classes(scan, classes=100, dont_care=True, first_id=1)


def test_255_needs_to_be_expected(add: Add) -> None:
    scan = scan_labels([add("a", ids((0, 60), (3, 40))), add("b", ids((2, 1), (255, 99))), add("c", ids((255, 1000)))])
    with pytest.raises(
        InputError, match=r"labels/b\.png has 99 pixels of id 255 \(in all, 1,099 pixels in 2 files\).*--dont-care"
    ):
        count_classes(scan, classes=None, dont_care=False)
    assert count_classes(scan, classes=None, dont_care=True) == 4


def test_ids_beyond_the_classes_are_told(add: Add) -> None:
    scan = scan_labels([add("a", ids((0, 60), (3, 40))), add("b", ids((4, 93), (7, 7))), add("c", ids((4, 100)))])
    message = (
        r"labels/b\.png has 93 pixels of id 4 \(in all, 193 pixels in 2 files\), but 4 classes have ids from 0 to 3: "
        r"give --classes 8 for all that occur, up to 7"
    )
    with pytest.raises(InputError, match=message):
        count_classes(scan, classes=4, dont_care=True)


def test_255_may_be_a_class_among_many(tmp_path: Path, add: Add) -> None:
    one = add("a", np.zeros((10, 10), np.uint8))
    write_image(one.labels, np.repeat([255, 299, 65535], [50, 30, 20]).reshape(10, 10).astype(np.uint16))
    scan = scan_labels([one])
    assert count_classes(scan, classes=None, dont_care=True) == 300
    with pytest.raises(InputError, match="20 pixels of id 65535"):
        count_classes(scan, classes=300, dont_care=False)


def test_label_maps_without_a_class_are_refused(add: Add) -> None:
    with pytest.raises(InputError, match=r'a\.png and all other label maps hold "don\'t care" only'):
        count_classes(scan_labels([add("a", ids((255, 100)))]), classes=None, dont_care=True)


def test_sizes_must_agree(add: Add, tmp_path: Path) -> None:
    one = add("a", ids((0, 100)))
    write_image(one.image, np.zeros((10, 11, 3), np.uint8))
    with pytest.raises(InputError, match=r"photos/a\.png is 11 x 10 px but \S+/labels/a\.png is 10 x 10 px"):
        scan_labels([one])
    one = add("b", ids((0, 100)))
    numbers = tmp_path / "numbers.png"
    write_image(numbers, np.zeros((9, 10), np.uint16))
    with pytest.raises(InputError, match=r"numbers\.png is 10 x 9 px but \S+/labels/b\.png is 10 x 10 px"):
        scan_labels([SemanticFiles(labels=one.labels, image=one.image, instances=numbers)])


def test_unfit_files_are_named(add: Add, tmp_path: Path) -> None:
    good = add("a", ids((0, 100)))
    write_image(tmp_path / "numbers.jpg", np.zeros((10, 10), np.uint8))
    with pytest.raises(InputError, match=r"numbers\.jpg is compressed with loss .* smears instance numbers"):
        scan_labels([SemanticFiles(labels=good.labels, image=good.image, instances=tmp_path / "numbers.jpg")])
    with pytest.raises(InputError, match=r"photos/b\.png has a channel count of 4; expected 3, as for all photos"):
        scan_labels([good, add("b", ids((0, 100)), channels=4)])
    grey = add("c", ids((0, 100)), channels=1)
    assert scan_labels([grey]).photos.channels == 3


@pytest.mark.data
def test_a_sample_of_coco_stuff_is_known(data_dir: Path) -> None:
    folder = data_dir / "semantic" / "coco_stuff"
    files = [
        SemanticFiles(labels=file, image=folder / "val_img" / f"{file.stem}.jpg")
        for file in sorted((folder / "val_label").iterdir())
    ]
    scan = scan_labels(files)
    assert count_classes(scan, classes=182, dont_care=True) == 182
    assert sum(seen.all_pixels for seen in scan.ids.values()) > 8 * 400 * 400
