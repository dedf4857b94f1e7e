"""datasets/make_shapes.py: what it writes is read again as the built-in shapes, with their classes."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from i2i.data.classes import ClassImages, check_same_classes, find_classes, probe_classes
from i2i.data.shapes import CLASSES, Shapes
from i2i.data.transforms import ImageTransform

SCRIPT = Path(__file__).parents[1] / "datasets" / "make_shapes.py"


Make = Callable[..., int]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Runs the script with these options in this process; gives its exit code."""

    def call(out: Path, *options: str) -> int:
        arguments = ["--out", str(out), "--train", "23", "--test", "11", "--size", "20", *options]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code

    return call


def test_what_is_written_is_read_again(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shapes"
    assert make(out, "--first-seed", "7") == 0
    assert "34 shapes of 10 classes" in capsys.readouterr().out
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

    assert make(out) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_every_class_has_to_have_a_shape(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "few", "--test", "9") == 2
    assert "need 10 shapes or more" in capsys.readouterr().err
    assert not (tmp_path / "few").exists()
