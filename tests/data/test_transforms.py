"""One draw for an image or a whole pair, decided by the seed alone, at any depth and channel count."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from i2i.data.transforms import ImageTransform
from i2i.errors import InputError


def coordinates(height: int, width: int) -> np.ndarray:
    """A float image whose two channels are each pixel's own row and column."""
    return np.stack(np.indices((height, width), dtype=np.float32), axis=-1)


ALL = ImageTransform(load_size=40, crop_size=32, flip=True, vertical_flip=True, quarter_turns=True)


@pytest.mark.parametrize("seed", range(20))
def test_both_images_get_the_same_draw(seed: int):
    input = coordinates(30, 50)
    noise = np.random.default_rng(0).normal(size=(30, 50, 3)).astype(np.float32)
    moved, target = ALL(input, np.concatenate([noise, input], axis=-1), seed=seed)
    np.testing.assert_allclose(target[..., 3:], moved, atol=1e-4)


def test_only_the_seed_decides():
    image = coordinates(50, 60)
    first = [ALL(image, seed=seed)[0] for seed in range(10)]
    again = [ALL(image, seed=seed)[0] for seed in reversed(range(10))]
    np.testing.assert_array_equal(first, again[::-1])
    fresh = ImageTransform(load_size=40, crop_size=32, flip=True, vertical_flip=True, quarter_turns=True)
    np.testing.assert_array_equal(fresh(image, seed=7)[0], first[7])
    assert len({picture.tobytes() for picture in first}) == 10


def _first_corner(seed: int) -> list[float]:
    return ALL(coordinates(50, 60), seed=seed)[0][0, 0].tolist()


def test_the_seed_decides_in_other_processes_too():
    with ProcessPoolExecutor(max_workers=1) as pool:
        assert list(pool.map(_first_corner, range(4))) == [_first_corner(seed) for seed in range(4)]


def test_flips_and_turns_are_independent():
    """All eight arrangements of a square occur, each as often as the next."""
    transform = ImageTransform(flip=True, vertical_flip=False, quarter_turns=True)
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    seen = Counter(transform(image, seed=seed)[0].tobytes() for seed in range(800))
    assert len(seen) == 8
    assert min(seen.values()) > 60  # 100 ± 9 expected

    transform = ImageTransform(flip=True, vertical_flip=True)
    seen = Counter(transform(image, seed=seed)[0].tobytes() for seed in range(400))
    assert len(seen) == 4
    assert min(seen.values()) > 60


def test_crops_reach_every_corner():
    transform = ImageTransform(crop_size=6, flip=False)
    corners = {tuple(transform(coordinates(8, 9), seed=seed)[0][0, 0]) for seed in range(300)}
    assert corners == {(row, column) for row in range(3) for column in range(4)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [(1, 3), (5, 1), (4, 7)])
def test_any_depth_and_channel_count_is_opencvs_resize_of_each_channel(dtype: str, channels: tuple[int, int]):
    rng = np.random.default_rng(0)
    highest = 1 if dtype == "float32" else np.iinfo(dtype).max
    input, target = ((rng.random((24, 31, c)) * highest).astype(dtype) for c in channels)
    for size, interpolation in ((40, cv2.INTER_CUBIC), (12, cv2.INTER_AREA)):
        results = ImageTransform(load_size=size, flip=False)(input, target, seed=3)
        for image, result in zip((input, target), results, strict=True):
            planes = [
                cv2.resize(plane, (size, size), interpolation=interpolation) for plane in image.transpose(2, 0, 1)
            ]
            assert result.dtype == image.dtype
            np.testing.assert_allclose(
                result.astype(float), np.stack(planes, axis=-1), atol=1e-4 if dtype == "float32" else 1
            )


@pytest.mark.parametrize(
    ("transform", "size", "expected"),
    [
        (ImageTransform(load_size=286, crop_size=256), (300, 200), (256, 256)),
        (ImageTransform(load_size=64), (300, 200), (64, 64)),
        (ImageTransform(crop_size=128), (300, 200), (128, 128)),
        (ImageTransform(size_multiple=32), (300, 200), (288, 192)),
        (ImageTransform(), (301, 203), (301, 203)),
    ],
)
def test_evaluation_has_the_size_of_training_and_no_chance(
    transform: ImageTransform, size: tuple[int, int], expected: tuple[int, int]
):
    image = coordinates(*size)
    (evaluated,) = transform(image)
    assert evaluated.shape == (*expected, 2)
    assert transform(image, seed=1)[0].shape == (*expected, 2)
    np.testing.assert_array_equal(transform(image)[0], evaluated)
    middle = evaluated.mean(axis=(0, 1))
    np.testing.assert_allclose(middle, [(size[0] - 1) / 2, (size[1] - 1) / 2], atol=1)
    assert evaluated[0, 0, 0] < evaluated[-1, 0, 0] and evaluated[0, 0, 1] < evaluated[0, -1, 1]


def test_evaluation_of_the_references_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ImageTransform(load_size=286, crop_size=256)(image)[0], image)


def test_images_that_do_not_fit_are_refused():
    image = coordinates(20, 30)
    with pytest.raises(InputError, match="30 x 20 px is smaller than crop_size=25"):
        ImageTransform(crop_size=25)(image, seed=0)
    with pytest.raises(InputError, match="64 px that the network needs"):
        ImageTransform(size_multiple=64)(image)
    with pytest.raises(InputError, match="one size"):
        ImageTransform()(image, image[:-1], seed=0)


@pytest.mark.parametrize("sizes", [{"load_size": 128, "crop_size": 256}, {"crop_size": 0}, {"size_multiple": 0}])
def test_impossible_sizes_are_refused(sizes: dict[str, int]):
    with pytest.raises(InputError, match="size"):
        ImageTransform(**sizes)


@pytest.mark.parametrize("size", [(40, 40), (31, 77), (300, 200), (9, 11)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint32", "int64", "bool"])
def test_labels_are_resized_as_pillow_takes_the_nearest(size: tuple[int, int], dtype: str):
    ids = np.random.default_rng(0).integers(0, 60_000, (48, 64)).astype(dtype)
    (resized,) = ImageTransform(load_size=size)(labels=[ids])
    numbers = np.unique(ids)
    places = Image.fromarray(np.searchsorted(numbers, ids).astype(np.int32)).resize(
        size[::-1], Image.Resampling.NEAREST
    )
    assert resized.dtype == ids.dtype
    np.testing.assert_array_equal(resized, numbers[np.array(places)])


@pytest.mark.parametrize("load", [(40, 60), (91, 122), (61, 80)])
@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_labels_stay_where_the_image_is(load: tuple[int, int], seed: int | None):
    """Numbers of rows and columns, taken smoothly and by nearest neighbour, differ by rounding, never by a shift."""
    image = coordinates(61, 80)
    rows, columns = image.astype(np.int64).transpose(2, 0, 1)
    transform = ImageTransform(load_size=load, crop_size=(30, 50), vertical_flip=True)
    moved, *labels = transform(image, labels=[rows, columns.astype(np.uint8)], seed=seed)
    difference = moved - np.stack(labels, axis=-1)
    inner = difference[2:-2, 2:-2]
    assert np.abs(inner).max() < 0.6 and np.abs(inner.mean(axis=(0, 1))).max() < 0.1


def test_labels_are_turned_and_cut_as_the_image_is():
    image = coordinates(50, 70)
    for transform in (
        ImageTransform(crop_size=32, vertical_flip=True, quarter_turns=True),
        ImageTransform(size_multiple=16, vertical_flip=True, quarter_turns=True),
    ):
        for seed in range(10):
            moved, rows = transform(image, labels=[image[..., 0].astype(np.int64)], seed=seed)
            np.testing.assert_array_equal(moved[..., 0], rows)


def test_sizes_may_be_wider_than_high():
    image = coordinates(100, 300)
    wide = ImageTransform(load_size=(60, 120), crop_size=(48, 96))
    assert wide(image)[0].shape == wide(image, seed=1)[0].shape == (48, 96, 2)
    assert ImageTransform(crop_size=(48, 96))(image)[0].shape == (48, 96, 2)
    with pytest.raises(InputError, match=r"crop_size=\(64, 96\) exceeds"):
        ImageTransform(load_size=(60, 120), crop_size=(64, 96))
    with pytest.raises(InputError, match="300 x 100 px is smaller than"):
        ImageTransform(crop_size=(101, 200))(image)
    with pytest.raises(InputError, match="quarter_turns needs squares, and images will be 96 x 48 px"):
        ImageTransform(crop_size=(48, 96), quarter_turns=True)
    with pytest.raises(InputError, match="one size"):
        wide(image, labels=[np.zeros((99, 300), np.int64)])
