"""Reading and writing against Pillow, OpenCV and tifffile, with every depth and channel count."""

import io
import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from i2i.data.image_io import dtype_range, read_header, read_image, rescale, write_image
from i2i.errors import InputError


def random_image(dtype: str, channels: int) -> np.ndarray:
    rng = np.random.default_rng(channels)
    if dtype == "float32":
        return rng.normal(size=(20, 30, channels)).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (20, 30, channels), dtype=dtype, endpoint=True)


def read_checked(path: Path) -> np.ndarray:
    """Read, and hold the header against what was read."""
    image, header = read_image(path), read_header(path)
    assert image.shape == (header.height, header.width, header.channels)
    assert image.dtype == header.dtype
    return image


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels"),
    [
        *itertools.product([".tif", ".npy"], ["uint8", "uint16", "float32"], [1, 2, 3, 4, 5]),
        *itertools.product([".png"], ["uint8", "uint16"], [1, 3, 4]),
        *itertools.product([".webp"], ["uint8"], [3, 4]),
        *itertools.product([".bmp"], ["uint8"], [1, 3]),
    ],
)
def test_lossless_formats_return_every_bit(tmp_path: Path, suffix: str, dtype: str, channels: int):
    image = random_image(dtype, channels)
    write_image(tmp_path / f"x{suffix}", image)
    np.testing.assert_array_equal(read_checked(tmp_path / f"x{suffix}"), image)
    assert [file.name for file in tmp_path.iterdir()] == [f"x{suffix}"], "a temporary file was left behind"


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_what_pillow_understands(tmp_path: Path, channels: int):
    image = np.broadcast_to(np.array([250, 120, 10], np.uint8)[:channels], (16, 24, channels))
    for suffix in (".png", ".jpg", ".bmp", ".tif"):
        write_image(tmp_path / f"x{suffix}", image)
        with Image.open(tmp_path / f"x{suffix}") as opened:
            seen = np.asarray(opened).reshape(image.shape)
        np.testing.assert_allclose(seen.astype(int), image.astype(int), atol=2)


@pytest.mark.parametrize(
    ("mode", "name", "channels"),
    [
        ("1", "x.png", 1),
        ("L", "x.png", 1),
        ("L", "x.jpg", 1),
        ("P", "x.png", 3),
        ("P", "x.bmp", 3),
        ("P", "x.tif", 3),
        ("LA", "x.png", 2),
        ("RGBA", "x.png", 4),
        ("RGBA", "x.webp", 4),
        ("CMYK", "x.jpg", 3),
        ("1", "x.tif", 1),
    ],
)
def test_pillows_modes_become_grey_or_rgb_with_or_without_alpha(tmp_path: Path, mode: str, name: str, channels: int):
    image = Image.fromarray(random_image("uint8", 3 if mode == "P" else 4)).convert(mode)
    image.save(tmp_path / name)
    wanted = np.asarray(Image.open(tmp_path / name).convert({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]))
    read = read_checked(tmp_path / name)
    assert read.dtype == np.uint8
    tolerance = 3 if name.endswith(".jpg") else 0  # two decoders
    np.testing.assert_allclose(read.astype(int), wanted.reshape(read.shape).astype(int), atol=tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_cameras_orientation_is_applied(tmp_path: Path, orientation: int):
    upright = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((16, 16), np.uint8))
    # How each value of the tag says that the stored picture was turned (EXIF 2.32, tag 274).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    for name in ("x.png", "x.jpg", "x.webp"):
        Image.fromarray(np.ascontiguousarray(stored)).convert("RGB").save(tmp_path / name, exif=exif, quality=100)
        read = read_checked(tmp_path / name)
        assert np.abs(read[..., 0].astype(int) - upright).mean() < 2, name


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "float32", "float64"])
@pytest.mark.parametrize(
    "layout",
    [
        {"planarconfig": "contig", "photometric": "minisblack"},
        {"planarconfig": "separate", "photometric": "minisblack"},
        {"metadata": {"axes": "CYX"}, "ome": True},
        {},
    ],
    ids=["interleaved", "planar", "ome", "pages"],
)
def test_tiff_channels_are_found_wherever_they_lie(tmp_path: Path, dtype: str, layout: dict):
    image = np.random.default_rng(0).integers(0, 100, (20, 30, 5)).astype(dtype)
    stored = image if layout.get("planarconfig") == "contig" else np.moveaxis(image, -1, 0)
    tifffile.imwrite(tmp_path / "x.tif", stored, **layout)
    read = read_checked(tmp_path / "x.tif")
    np.testing.assert_array_equal(read, image)
    assert read.dtype == (np.uint8 if dtype == "uint8" else np.uint16 if "u" in dtype else np.float32)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 3), ("uint8", 1), ("uint16", 1)])
def test_compressed_tiff(tmp_path: Path, compression: str, dtype: str, channels: int):
    image = random_image(dtype, channels)
    Image.fromarray(image.squeeze()).save(tmp_path / "x.tif", compression=compression)
    np.testing.assert_array_equal(read_checked(tmp_path / "x.tif"), image)


def test_an_array_without_channels_gets_one(tmp_path: Path):
    image = random_image("uint16", 1)
    for name in ("x.npy", "x.png", "x.tif"):
        write_image(tmp_path / name, image[..., 0])
        np.testing.assert_array_equal(read_checked(tmp_path / name), image)


def test_floats_of_other_widths_are_kept_as_float32(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([[[-1000.5], [3.0]]]))
    assert read_checked(tmp_path / "x.npy").tolist() == [[[-1000.5], [3.0]]]
    assert read_image(tmp_path / "x.npy").dtype == np.float32


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".npy"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, kept: float):
    path = tmp_path / f"x{suffix}"
    write_image(path, np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=path.name):
        read_image(path)
    if suffix not in (".bmp", ".webp"):
        with pytest.raises(InputError, match=path.name):
            read_header(path)


def test_a_truncated_16_bit_png_is_refused(tmp_path: Path):
    path = tmp_path / "x.png"
    write_image(path, random_image("uint16", 3))
    path.write_bytes(path.read_bytes()[:-200])
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=r"x\.png"):
            read(path)


def test_a_truncated_jpeg_with_a_thumbnail_is_refused(tmp_path: Path):
    thumbnail, photo = io.BytesIO(), io.BytesIO()
    Image.fromarray(random_image("uint8", 3)).save(thumbnail, "JPEG")
    Image.fromarray(random_image("uint8", 3)).resize((300, 200)).save(photo, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail.getvalue())) + thumbnail.getvalue()
    data = photo.getvalue()[:2] + segment + photo.getvalue()[2:]
    (tmp_path / "whole.jpg").write_bytes(data + b"what a phone appends \xff\xda")
    assert read_checked(tmp_path / "whole.jpg").shape == (200, 300, 3)
    (tmp_path / "cut.jpg").write_bytes(data[:-3000])
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=r"cut\.jpg: the JPEG is truncated"):
            read(tmp_path / "cut.jpg")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_what_is_no_image_is_refused(tmp_path: Path, suffix: str):
    path = tmp_path / f"notes{suffix}"
    path.write_text("no image at all")
    for read in (read_image, read_header):
        with pytest.raises(InputError, match="notes"):
            read(path)
        with pytest.raises(InputError, match=r"absent.*No such file"):
            read(tmp_path / "absent.png")
        with pytest.raises(InputError, match="directory"):
            read(tmp_path)


def test_arrays_that_are_no_image_are_refused(tmp_path: Path):
    for array in (np.zeros((2, 3, 4, 5)), np.zeros(3), np.zeros((0, 4, 1)), np.zeros((4, 4), complex)):
        np.save(tmp_path / "x.npy", array)
        for read in (read_image, read_header):
            with pytest.raises(InputError, match=r"x\.npy"):
                read(tmp_path / "x.npy")


def test_pickled_arrays_are_never_opened(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"x\.npy"):
        read_image(tmp_path / "x.npy")


def test_a_stack_of_images_is_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 5, 20, 30), np.uint16))
    with pytest.raises(InputError, match=r"x\.tif.*several"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("name", "dtype", "channels"),
    [("x.jpg", "uint16", 3), ("x.png", "float32", 1), ("x.png", "uint8", 5), ("x.gif", "uint8", 3), ("x", "uint8", 1)],
)  # fmt: skip
def test_a_format_that_cannot_hold_the_image_is_refused(tmp_path: Path, name: str, dtype: str, channels: int):
    with pytest.raises(InputError, match="tiff"):
        write_image(tmp_path / name, random_image(dtype, channels))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".npy"])
def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str):
    path = tmp_path / f"x{suffix}"
    write_image(path, random_image("uint8", 3))
    old = path.read_bytes()

    def full_disk(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_image(path, random_image("uint8", 3)[::-1])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == old


def test_16_bit_grey_with_alpha_keeps_its_depth(tmp_path: Path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    grey_alpha = np.array([[[1000, 60000], [40001, 3]]], ">u2")
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 4, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" + grey_alpha.tobytes()))
        + chunk(b"IEND", b"")
    )
    assert read_checked(tmp_path / "x.png").tolist() == grey_alpha.tolist()


def test_ranges_of_types():
    assert dtype_range("uint8") == (0, 255)
    assert dtype_range(np.uint16) == (0, 65535)
    assert dtype_range(np.dtype(np.float32)) is None


def test_rescale_maps_ends_to_ends_for_arrays_and_tensors():
    hounsfield = [-1000, 0, 3000]
    array = rescale(np.array(hounsfield, np.int16), source=(-1000, 3000), target=(-1, 1))
    tensor = rescale(torch.tensor(hounsfield), source=(-1000, 3000), target=(-1, 1))
    assert array.dtype == np.float32 and tensor.dtype == torch.float32
    assert array.tolist() == tensor.tolist() == [-1, -0.5, 1]


def test_every_16_bit_value_survives_the_network_range():
    values = np.arange(65536, dtype=np.uint16)
    there = rescale(values, source=(0, 65535), target=(-1, 1))
    np.testing.assert_array_equal(np.rint(rescale(there, source=(-1, 1), target=(0, 65535))), values)


def test_rescale_refuses_an_empty_range():
    with pytest.raises(InputError, match="different ends"):
        rescale(np.zeros(1), source=(3, 3), target=(0, 1))


@pytest.mark.data
def test_real_files_keep_depth_and_channels(data_dir: Path, tmp_path: Path):
    images = data_dir / "images"
    expected = {
        "00017_gray.png": (np.uint8, 1),
        "wolf_gray.jpg": (np.uint8, 1),
        "0014.jpg": (np.uint8, 3),
        "children-alpha.png": (np.uint8, 4),
        "tree_alpha_16bit.png": (np.uint16, 4),
    }
    for name, (dtype, channels) in expected.items():
        image = read_checked(images / name)
        assert (image.dtype, image.shape[2]) == (dtype, channels), name
        with Image.open(images / name) as opened:
            assert opened.size == (image.shape[1], image.shape[0])
            difference = image / np.iinfo(dtype).max - np.asarray(opened).reshape(image.shape) / 255
        assert np.abs(difference).max() < 0.02, name  # colours not swapped
        write_image(tmp_path / "copy.tif", image)
        np.testing.assert_array_equal(read_checked(tmp_path / "copy.tif"), image)
