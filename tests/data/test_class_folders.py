"""Folders with a class each: what is found, what is refused, what the network gets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from i2i.data.classes import (
    ClassFiles,
    ClassImages,
    check_same_classes,
    find_classes,
    fingerprint_classes,
    probe_classes,
)
from i2i.data.image_io import write_image
from i2i.data.sampler import Draw
from i2i.data.transforms import ImageTransform
from i2i.errors import InputError

WHOLE = ImageTransform(flip=False)


def flat(value: int, *, channels: int = 3) -> np.ndarray:
    return np.full((8, 6, channels), value, np.uint8)


def lay(folder: Path, classes: dict[str, list[int]]) -> None:
    for name, values in classes.items():
        for value in values:
            write_image(folder / name / f"{value:03d}.png", flat(value))


def serve(found: ClassFiles, transform: ImageTransform = WHOLE) -> ClassImages:
    return ClassImages(found=found, transform=transform, side=probe_classes(found).side)


@pytest.mark.parametrize(
    "phases", [{"train": "train", "test": "test"}, {"train": "train", "val": "val"}, {"train": "."}]
)
def test_every_layout_is_found(tmp_path: Path, phases: dict[str, str]) -> None:
    for folder in phases.values():
        lay(tmp_path / folder, {"dog": [7, 5], "cat": [3], "eel": [8]})
        (tmp_path / folder / "README.txt").write_text("no image, and in nobody's way")
        (tmp_path / folder / ".thumbnails").mkdir()
    for phase in phases:
        found = find_classes(tmp_path, phase=phase)
        assert found.names == ("cat", "dog", "eel")
        assert [file.relative_to(tmp_path / phases[phase]).as_posix() for file in found.files] == [
            "cat/003.png",
            "dog/005.png",
            "dog/007.png",
            "eel/008.png",
        ]
        assert found.labels == (0, 1, 1, 2)


@pytest.mark.parametrize("folder", ["train", ""])
def test_without_folders_of_classes_there_are_none(tmp_path: Path, folder: str) -> None:
    lay(tmp_path, {folder: [4, 2]})
    found = find_classes(tmp_path, phase="train")
    assert (found.names, found.labels) == ((), ())
    data = serve(found)
    assert len(data) == 2
    assert set(data[0]) == {"real"}
    assert data[0]["real"][0, 0, 0] == pytest.approx(2 / 127.5 - 1)


def test_items_are_images_in_the_networks_range_with_the_class_they_lie_in(tmp_path: Path) -> None:
    lay(tmp_path, {"b": [255, 51], "a": [0]})
    data = serve(find_classes(tmp_path, phase="train"))
    assert data.names == ("a", "b")
    for index, (value, label) in enumerate([(-1, 0), (-0.6, 1), (1, 1)]):
        item = data[index]
        assert item["real"].shape == (3, 8, 6) and item["real"].dtype == torch.float32
        torch.testing.assert_close(item["real"], torch.full((3, 8, 6), float(value)))
        assert item["label"].shape == () and item["label"].dtype == torch.int64 and item["label"] == label


def test_a_draw_transforms_the_image_and_not_its_class(tmp_path: Path) -> None:
    for name in ("left", "right"):
        image = flat(0)
        image[:, :3] = 255
        write_image(tmp_path / name / "image.png", image if name == "left" else image[:, ::-1])
    data = serve(find_classes(tmp_path, phase="train"), ImageTransform(flip=True))
    items = [data[Draw(index=1, seed=seed, number=0)] for seed in range(20)]
    assert {int(item["label"]) for item in items} == {1}
    assert {float(item["real"][0, 0, 0]) for item in items} == {-1.0, 1.0}
    again = data[Draw(index=1, seed=3, number=9)]
    assert torch.equal(again["real"], items[3]["real"])


def test_stray_grey_images_become_colour_and_held_out_ones_are_held_to_the_training_ones(tmp_path: Path) -> None:
    lay(tmp_path / "train", {"a": [1, 2], "b": [3]})
    write_image(tmp_path / "train" / "b" / "grey.png", flat(9, channels=1))
    training = find_classes(tmp_path, phase="train")
    info = probe_classes(training)
    assert (info.count, info.side.channels, info.smallest_px, info.largest_px) == (4, 3, (8, 6), (8, 6))
    assert serve(training)[3]["real"].shape == (3, 8, 6)
    lay(tmp_path / "test", {"a": [1]})
    write_image(tmp_path / "test" / "b" / "clear.png", flat(9, channels=4))
    with pytest.raises(InputError, match=r"clear\.png has a channel count of 4; expected 3"):
        probe_classes(find_classes(tmp_path, phase="test"), like=info.side)


def test_the_fingerprint_knows_contents_and_classes_and_not_the_place(tmp_path: Path) -> None:
    def fingerprint(place: str, classes: dict[str, list[int]]) -> str:
        lay(tmp_path / place, classes)
        return fingerprint_classes(find_classes(tmp_path / place, phase="train"))

    plain = fingerprint("plain", {"a": [1, 2], "b": [3]})
    assert plain == fingerprint("moved", {"a": [1, 2], "b": [3]})
    assert plain == serve(find_classes(tmp_path / "moved", phase="train")).fingerprint
    others = [{"a": [1, 2], "c": [3]}, {"a": [1], "b": [2, 3]}, {"a": [1, 2], "b": [4]}, {"": [1, 2, 3]}]
    assert len({plain, *(fingerprint(str(place), classes) for place, classes in enumerate(others))}) == 5


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    lay(tmp_path, {"cat": [1], "dog": [2]})
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "notes.txt").write_text("soon")
    with pytest.raises(InputError, match=r"emu holds no images of class 'emu'"):
        find_classes(tmp_path, phase="train")


def test_an_image_beside_the_classes_is_named(tmp_path: Path) -> None:
    lay(tmp_path / "train", {"cat": [1], "dog": [2], "": [77, 78]})
    with pytest.raises(InputError, match=r"train/077\.png lies beside the folders .*\(cat, …\).*2 such images"):
        find_classes(tmp_path, phase="train")


def test_phases_that_are_not_there_are_missed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no folder"):
        find_classes(tmp_path / "nowhere", phase="train")
    lay(tmp_path / "test", {"cat": [1]})
    for phase in ("train", "val"):
        with pytest.raises(InputError, match=f"holds no folder {phase}/"):
            find_classes(tmp_path, phase=phase)
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="train holds no images"):
        find_classes(tmp_path, phase="train")


def test_training_and_held_out_images_have_the_same_classes(tmp_path: Path) -> None:
    lay(tmp_path / "train", {"cat": [1], "dog": [2], "emu": [3]})
    lay(tmp_path / "test", {"cat": [1], "emu": [2], "fox": [3]})
    training, held_out = (find_classes(tmp_path, phase=phase) for phase in ("train", "test"))
    with pytest.raises(InputError, match="got dog only in training and fox only in held-out images"):
        check_same_classes(training, held_out)
    check_same_classes(training, training)
    lay(tmp_path / "test", {"dog": [1]})
    with pytest.raises(InputError, match="got fox only in held-out images"):
        check_same_classes(training, find_classes(tmp_path, phase="test"))
    lay(tmp_path / "plain", {"": [5]})
    with pytest.raises(InputError, match="got cat, dog, emu only in training"):
        check_same_classes(training, find_classes(tmp_path / "plain", phase="train"))
