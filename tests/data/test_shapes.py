"""The built-in shapes: the same for a seed everywhere, well seen, and of a form that alone tells the class."""

import hashlib
import pickle
import random

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from i2i.data import shapes as shapes_module
from i2i.data.sampler import Draw, DrawSampler, worker_init
from i2i.data.shapes import CLASSES, Drawing, Shapes, draw_shape
from i2i.errors import InputError

# Grey thumbnails of 4 x 4 pixels of the first ten seeds at 32 px, which must agree to 2 grey levels: OpenCV's last bits
# differ between versions.
FROZEN = (
    "798c8e7f8de3e49f85dce1a778808c791d41351d4ed0d03455cad03d2e554c2fc9859dcc7b243fca"
    "be3f84cbcdc8cdcddcd9bfe5d57b7ae5d9938cd7e4e0ded8eea8c3cbdf6746d0d2836facf2d9e0ed"
    "2e8f3a364fb7bb5862a8a337333f6f2eb1a3a8afb28a3ea7835f2f9ba6667db1d1c6c2cd8a5a55d0"
    "82496dccc7a8acd2ca91a1d8c35247d8d8b6c2d8d8d8d8d8c9c9c9c9cbc1578bcc8c2f8dce8491c4"
)


def thumbnail(drawn: Drawing) -> np.ndarray:
    return cv2.resize(drawn.image, (4, 4), interpolation=cv2.INTER_AREA)


def digest(seed: int) -> str:
    return hashlib.sha256(draw_shape(seed, size=48).image.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return [draw_shape(seed, size=32) for seed in range(1000, 1400)]


def test_shapes_are_frozen() -> None:
    frozen = np.frombuffer(bytes.fromhex(FROZEN), np.uint8).reshape(10, 4, 4).astype(int)
    for seed, expected in enumerate(frozen):
        found = thumbnail(draw_shape(seed, size=32)).mean(axis=2)
        np.testing.assert_allclose(found, expected, atol=2)


def test_a_seed_alone_decides() -> None:
    """Whatever was drawn before, and wherever the global generators stand; that processes agree, FROZEN shows."""
    digests = [digest(seed) for seed in range(300)]
    assert len(set(digests)) == 300
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert [digest(seed) for seed in range(299, -1, -1)] == digests[::-1]


@pytest.mark.parametrize("size", [16, 33, 64])
def test_items(size: int) -> None:
    data = Shapes(count=25, size=size, first_seed=7)
    assert len(data) == 25
    for index in range(25):
        item = data[index]
        assert item["real"].shape == (3, size, size) and item["real"].dtype == torch.float32
        assert item["real"].min() >= -1 and item["real"].max() <= 1
        assert item["label"].shape == () and item["label"].dtype == torch.int64
        drawn = draw_shape(7 + index, size=size)
        assert item["label"] == drawn.label == (7 + index) % 10
        np.testing.assert_allclose((item["real"].permute(1, 2, 0).numpy() + 1) * 127.5, drawn.image, atol=1e-3)
        again = data[Draw(index=index, seed=99, number=3)]
        assert torch.equal(again["real"], item["real"]) and again["label"] == item["label"]
    with pytest.raises(IndexError):
        data[25]


def test_classes_are_balanced() -> None:
    data = Shapes(count=100, first_seed=3)
    labels = torch.stack([data[index]["label"] for index in range(100)])
    assert torch.bincount(labels).tolist() == [10] * len(CLASSES)


def test_pictures_use_the_whole_range(drawings: list[Drawing]) -> None:
    pixels = np.stack([drawn.image for drawn in drawings])
    assert pixels.min() < 25 and pixels.max() > 250


def test_every_shape_stands_out_and_lies_within(drawings: list[Drawing]) -> None:
    """By the brightness that television gives to colours, just inside the outline and a little outside of it."""
    for drawn in drawings:
        luma = drawn.image @ np.array([0.299, 0.587, 0.114])
        inside = cv2.erode(drawn.coverage, np.ones((3, 3))) > 0.99
        outside = drawn.coverage == 0
        assert inside.sum() >= 10 and outside.sum() >= 300
        near = cv2.dilate(drawn.coverage, np.ones((5, 5))) > 0
        difference = abs(np.median(luma[inside]) - np.median(luma[outside & near]))
        assert difference > 60, f"{CLASSES[drawn.label]}: {difference:.0f}"
        border = np.concatenate([drawn.coverage[[0, -1]].ravel(), drawn.coverage[:, [0, -1]].ravel()])
        assert border.max() == 0


def test_coverage_is_where_the_shape_is(drawings: list[Drawing]) -> None:
    """Found again without it: Otsu's threshold parts shape from background in most of the pictures."""
    agreements = []
    for drawn in drawings:
        grey = cv2.cvtColor(drawn.image, cv2.COLOR_RGB2GRAY)
        _, found = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        share = np.mean(found == (drawn.coverage > 0.5))
        agreements.append(max(share, 1 - share))
    assert np.median(agreements) > 0.97


@pytest.mark.parametrize("seed", range(10))
def test_another_size_is_the_same_picture(seed: int) -> None:
    small, large = draw_shape(seed, size=32), draw_shape(seed, size=64)
    shrunk = cv2.resize(large.image, (32, 32), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(shrunk - small.image).mean() < 6
    other = draw_shape(seed + 10, size=32).image  # of the same class
    assert np.abs(shrunk - other).mean() > 12


def cut_out(drawn: Drawing) -> np.ndarray:
    """The form by itself: (256,), wherever and however large it was drawn."""
    y, x = np.where(drawn.coverage > 0.5)
    form = drawn.coverage[y.min() : y.max() + 1, x.min() : x.max() + 1]
    return cv2.resize(form, (16, 16), interpolation=cv2.INTER_AREA).ravel()


def nearest_neighbours_agree(features: np.ndarray, labels: np.ndarray) -> float:
    """How often one of the second half has the label of the nearest one of the first half."""
    half = len(labels) // 2
    distances = np.square(features[:half]).sum(axis=1) - 2 * features[half:] @ features[:half].T
    return float((labels[:half][distances.argmin(axis=1)] == labels[half:]).mean())


def test_form_tells_the_class() -> None:
    drawings = [draw_shape(seed, size=32) for seed in range(1200)]
    labels = np.array([drawn.label for drawn in drawings])
    assert nearest_neighbours_agree(np.stack([cut_out(drawn) for drawn in drawings]), labels) > 0.98


def test_colour_does_not_tell_the_class() -> None:
    """The colours of the shape and of two corners find it no more often than chance."""
    drawings = [draw_shape(seed, size=32) for seed in range(1200)]
    labels = np.array([drawn.label for drawn in drawings])
    colours = [
        np.concatenate([np.median(drawn.image[drawn.coverage > 0.99], axis=0), drawn.image[0, 0], drawn.image[-1, -1]])
        for drawn in drawings
    ]
    assert nearest_neighbours_agree(np.stack(colours), labels) < 0.15


def test_places_sizes_and_colours_vary(drawings: list[Drawing]) -> None:
    """Within each class, so that there is something to lose."""
    for label in range(len(CLASSES)):
        mine = [drawn for drawn in drawings if drawn.label == label]
        areas = np.array([drawn.coverage.sum() for drawn in mine])
        assert areas.max() > 1.7 * areas.min()
        grid = np.arange(32)
        x = np.array([(drawn.coverage.sum(axis=0) * grid).sum() / drawn.coverage.sum() for drawn in mine])
        y = np.array([(drawn.coverage.sum(axis=1) * grid).sum() / drawn.coverage.sum() for drawn in mine])
        assert np.ptp(x) > 6 and np.ptp(y) > 6
        darker = [drawn.image[drawn.coverage > 0.9].mean() < drawn.image[drawn.coverage == 0].mean() for drawn in mine]
        assert 0.2 < np.mean(darker) < 0.8


def test_workers_and_pickles_give_the_same() -> None:
    data = Shapes(count=20, size=16)
    loader = DataLoader(
        data,
        batch_sampler=DrawSampler(length=20, batch_size=5, seed=0),
        num_workers=2,
        worker_init_fn=worker_init,
        multiprocessing_context="fork",
    )
    batch = next(iter(loader))
    indices = [draw.index for draw in next(iter(DrawSampler(length=20, batch_size=5, seed=0)))]
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(batch["real"], torch.stack([copy[index]["real"] for index in indices]))
    assert batch["label"].tolist() == [index % 10 for index in indices]


def test_the_fingerprint_tells_what_is_shown(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Shapes(count=20)
    assert plain.fingerprint == Shapes(count=20).fingerprint
    others = [Shapes(count=21), Shapes(count=20, size=33), Shapes(count=20, first_seed=1)]
    code = tmp_path / "shapes.py"
    code.write_text("drawn otherwise")
    monkeypatch.setattr(shapes_module, "__file__", str(code))
    others.append(Shapes(count=20))
    assert len({data.fingerprint for data in (plain, *others)}) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count of at least 1, got 0"),
        ({"count": 5, "size": 15}, "at least 16 x 16 pixels, got size=15"),
        ({"count": 5, "first_seed": -1}, "from 0 up, got -1"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Shapes(**arguments)
