"""What recipes that draw learn from: what is held out, which classes are named, and what fingerprints tell apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.training.drawing_data import DrawingData, DrawingTask, Items, drawing_task


def write_classes(data: Path, **counts: int) -> Path:
    """Images of 24 x 20 px, each of a grey of its own, in a folder for each class."""
    greys = iter(range(256))
    for name, count in counts.items():
        for number in range(count):
            write_image(data / name / f"{number:02}.png", np.full((20, 24, 3), next(greys), np.uint8))
    return data


def greys(items: Items) -> set[int]:
    """Which of the files the items are."""
    return {round((float(items[index]["real"].mean()) + 1) * 127.5) for index in range(len(items))}


def counted(task: DrawingTask, items: Items) -> dict[str, int]:
    return dict(Counter(task.classes[int(items[index]["label"])] for index in range(len(items))))


def task_of(data: Path, **options: object) -> DrawingTask:
    return drawing_task(DrawingData(data=data, size_px=16, **options))


def test_each_class_is_held_out_and_keeps_images_to_learn_from(tmp_path: Path) -> None:
    task = task_of(write_classes(tmp_path / "data", cat=20, dog=1, emu=5))
    assert counted(task, task.training) == {"cat": 18, "dog": 1, "emu": 4}
    assert counted(task, task.held_out) == {"cat": 2, "emu": 1}
    assert not greys(task.training) & greys(task.held_out)
    assert greys(task.training) | greys(task.held_out) == set(range(26))
    assert task.about.endswith("23 images to learn from of 3 classes, drawn at 16 px. Held out are 3. "
                               "Classes with few images to learn from: dog (1), emu (4).")  # fmt: skip


def test_of_many_classes_with_few_images_some_are_named(tmp_path: Path) -> None:
    task = task_of(write_classes(tmp_path / "data", **dict.fromkeys("abcdefgh", 1), i=30))
    assert task.about.endswith("few images to learn from: a (1), b (1), c (1), d (1), e (1) and 3 more.")


@pytest.mark.parametrize("counts", [{"cat": 5, "dog": 4}, {f"class{number:02}": 1 for number in range(12)}])
def test_where_none_can_be_spared_none_is_held_out(counts: dict[str, int], tmp_path: Path) -> None:
    task = task_of(write_classes(tmp_path / "data", **counts))
    assert counted(task, task.training) == counted(task, task.held_out) == counts
    assert "too few to hold any out" in task.about


def test_images_without_classes(tmp_path: Path) -> None:
    data = write_classes(tmp_path, photos=21) / "photos"
    task = task_of(data)
    assert not task.classes
    assert task.about.endswith("/photos holds 18 images to learn from, drawn at 16 px. Held out are 3.")
    assert greys(task.held_out) == {0, 10, 20} and len(task.training) == 18
    assert task.training[0].keys() == {"real"}


def test_the_fingerprint_is_of_what_judges_see(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", **{"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1})
    plain = task_of(data)
    same = [task_of(data), task_of(data, flip=False), task_of(data, labels=False), task_of(data, data_range=(0, 255))]
    assert {task.fingerprint for task in same} == {plain.fingerprint}
    for task in same:  # mirroring is for training's draws only
        assert torch.equal(task.training[1]["real"], plain.training[1]["real"])
    others = [task_of(data, data_range=(0, 300)), task_of(data, crops=True)]
    assert not torch.equal(others[0].training[1]["real"], plain.training[1]["real"])
    write_image(data / "test" / "cat" / "00.png", np.full((20, 24, 3), 255, np.uint8))
    others.append(task_of(data))
    assert len({task.fingerprint for task in [plain, *others]}) == 4


@pytest.mark.parametrize("options", [{"crops": True}, {"data_range": (0.0, 1.0)}])
def test_options_for_ones_own_images_need_some(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Give --data, too"):
        DrawingData(**options)
