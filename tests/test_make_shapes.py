"""datasets/make_shapes.py: what it writes is read again as the built-in shapes, with their classes."""

import subprocess
import sys
from pathlib import Path

import torch

from i2i.data.classes import ClassImages, check_same_classes, find_classes, probe_classes
from i2i.data.shapes import CLASSES, Shapes
from i2i.data.transforms import ImageTransform

SCRIPT = Path(__file__).parents[1] / "datasets" / "make_shapes.py"


def make(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--out", out, "--train", "23", "--test", "11", "--size", "20", *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    out = tmp_path / "shapes"
    done = make(out, "--first-seed", "7")
    assert done.returncode == 0, done.stderr
    assert "34 shapes of 10 classes" in done.stdout
    training, test = (find_classes(out, phase=phase) for phase in ("train", "test"))
    check_same_classes(training, test)
    assert set(training.names) == set(CLASSES)
    for found, built_in in (
        (training, Shapes(count=23, size=20, first_seed=7)),
        (test, Shapes(count=11, size=20, first_seed=30)),
    ):
        read = ClassImages(found=found, transform=ImageTransform(flip=False), side=probe_classes(found).side)
        assert len(read) == len(built_in)
        for file, item in zip(found.files, (read[index] for index in range(len(read))), strict=True):
            same = built_in[int(file.stem)]
            assert torch.equal(item["real"], same["real"])
            assert read.names[item["label"]] == CLASSES[same["label"]]

    again = make(out)
    assert again.returncode == 2
    assert "not an empty folder" in again.stderr and "Traceback" not in again.stderr


def test_every_class_has_to_have_a_shape(tmp_path: Path) -> None:
    refused = make(tmp_path / "few", "--test", "9")
    assert refused.returncode == 2
    assert "need 10 shapes or more" in refused.stderr
    assert not (tmp_path / "few").exists()
