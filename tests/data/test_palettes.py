"""Palettes: read from text, chosen to be told apart, painted with."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from i2i.data.palettes import default_palette, paint_labels, read_palette
from i2i.errors import InputError


def test_colours_are_numbered_by_their_order(tmp_path: Path) -> None:
    file = tmp_path / "palette.txt"
    file.write_text("# the classes\n\n128 64 128 road\n#\n  #F423e8\tside walk\n70,70,70\n#000000\n0 0 142 # a car\n")
    expected = [(128, 64, 128), (0xF4, 0x23, 0xE8), (70, 70, 70), (0, 0, 0), (0, 0, 142)]
    palette = read_palette(file)
    assert palette.dtype == np.uint8 and palette.tolist() == [list(colour) for colour in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n4 5\n", r"line 2: '4 5' is no colour"),
        ("1 2 3\n\n4 5 256\n", r"line 3: '4 5 256' is no colour"),
        ("0 1 2 3\n", r"line 1: '0 1 2 3' is no colour"),
        ("#comment\n", r"line 1: '#comment' is no colour; .* \(a comment begins with # and a blank\)"),
        ("1 2 3\n#010203\n", r"line 2: the colour \(1, 2, 3\) stands in line 1 already"),
        ("# nothing\n", "holds no colours"),
    ],
)
def test_what_is_no_palette_is_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "palette.txt").write_text(text)
    with pytest.raises(InputError, match=rf"palette\.txt.*{message}"):
        read_palette(tmp_path / "palette.txt")


def test_a_palette_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "palette.png").write_bytes(b"\x89PNG\xff")
    for name in ("palette.png", "none.txt"):
        with pytest.raises(InputError, match="cannot be read as a palette"):
            read_palette(tmp_path / name)


def closest(palette: np.ndarray) -> float:
    """The least distance of two colours in CIELAB."""
    places = cv2.cvtColor(palette[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    return float(distances[~np.eye(len(palette), dtype=bool)].min())


@pytest.mark.parametrize(("classes", "least"), [(10, 50), (34, 28), (182, 11), (1000, 3)])
def test_colours_can_be_told_apart(classes: int, least: float) -> None:
    """2.3 is just noticeable. The best of a hundred random palettes comes nowhere near."""
    palette = default_palette(classes)
    assert palette.shape == (classes, 3) and palette.dtype == np.uint8
    assert closest(np.concatenate([palette, [(0, 0, 0), (255, 255, 255)]])) > least
    np.testing.assert_array_equal(default_palette(classes), palette)


def test_fewer_classes_have_the_first_colours() -> None:
    np.testing.assert_array_equal(default_palette(34), default_palette(182)[:34])


def test_painting_by_hand() -> None:
    palette = np.array([(255, 0, 51), (0, 102, 0)], dtype=np.uint8)
    labels = torch.tensor([[[[0, 1, 2]], [[0, 1, 0]]]])
    expected = torch.tensor([[255, 0, 51], [127.5, 178.5, 127.5], [0, 0, 0]])  # the middle one half-way to white
    painted = paint_labels(labels, palette)
    torch.testing.assert_close(painted[0, :, 0].T, expected / 127.5 - 1)
    torch.testing.assert_close(paint_labels(labels[:, :1], palette)[0, :, 0, 1], torch.tensor([-1, -0.2, -1]))
