"""Files of class ids, written by Pillow, OpenCV and NumPy: the numbers that went in come out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from i2i.data.image_io import read_image, read_image_file
from i2i.errors import InputError


def some_ids(classes: int) -> np.ndarray:
    return np.random.default_rng(classes).integers(0, classes, (11, 13), dtype=np.uint8)


@pytest.mark.parametrize("classes", [2, 4, 16, 200])  # Pillow takes 1, 2, 4 and 8 bits for them
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_is_read_by_its_indices(classes: int, suffix: str, tmp_path: Path) -> None:
    ids = some_ids(classes)
    image = Image.fromarray(ids)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 3 * classes, dtype=np.uint8).tobytes())
    assert image.mode == "P"
    options = {"transparency": 1, "bits": {2: 1, 4: 2, 16: 4}.get(classes, 8)} if suffix == ".png" else {}
    image.save(tmp_path / f"ids{suffix}", **options)
    assert read_image(tmp_path / f"ids{suffix}").shape[2] >= 3
    np.testing.assert_array_equal(read_image(tmp_path / f"ids{suffix}", labels=True), ids[..., None])
    file = read_image_file(tmp_path / f"ids{suffix}", labels=True)
    assert (file.alpha, file.notes) == (False, ())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_one_bit_is_not_stretched(suffix: str, tmp_path: Path) -> None:
    ids = some_ids(2)
    Image.fromarray(ids.astype(bool)).save(tmp_path / f"ids{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"ids{suffix}", labels=True), ids[..., None])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_read_as_it_is(dtype: type, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (11, 13), dtype=dtype)
    for suffix in (".png", ".tif"):
        cv2.imwrite(str(tmp_path / f"ids{suffix}"), ids)
        np.testing.assert_array_equal(read_image(tmp_path / f"ids{suffix}", labels=True), ids[..., None])


@pytest.mark.parametrize("mode", ["RGB", "LA", "RGBA"])
def test_grey_as_colour_has_one_channel(mode: str, tmp_path: Path) -> None:
    ids = some_ids(9)
    Image.fromarray(ids).convert(mode).save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_image(tmp_path / "ids.png", labels=True), ids[..., None])


def test_colours_stay_three_channels(tmp_path: Path) -> None:
    colours = np.stack([some_ids(9), some_ids(9), some_ids(8)], axis=2)
    Image.fromarray(colours).save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_image(tmp_path / "ids.png", labels=True), colours)


@pytest.mark.parametrize("dtype", [bool, np.int16, np.int32, np.uint32, np.int64, ">u2"])
def test_integers_of_numpy_stay_integers(dtype: type, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 2, (11, 13)).astype(dtype)
    np.save(tmp_path / "ids.npy", ids)
    found = read_image(tmp_path / "ids.npy", labels=True)
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found, ids[..., None])


def test_jpeg_is_refused(tmp_path: Path) -> None:
    Image.fromarray(some_ids(9)).save(tmp_path / "ids.png", "JPEG")  # whatever it is called
    with pytest.raises(InputError, match=r"ids\.png: JPEG changes numbers"):
        read_image(tmp_path / "ids.png", labels=True)
