"""Reading and writing against Pillow, OpenCV and tifffile, with every depth and channel count."""

import io
import itertools
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps

from i2i.data.image_io import (
    ImageFile,
    dtype_range,
    read_header,
    read_image,
    read_image_file,
    rescale,
    write_image,
    write_image_file,
)
from i2i.errors import InputError


def random_image(dtype: str, channels: int) -> np.ndarray:
    rng = np.random.default_rng(channels)
    if dtype == "float32":
        return rng.normal(size=(20, 30, channels)).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (20, 30, channels), dtype=dtype, endpoint=True)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def cmyk_profile() -> bytes:
    """A colour profile of inks that nobody owns: a table of 2 to the 4 colours in Lab (ICC.1:2001-04, lut8Type)."""
    inks = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), axis=-1).reshape(16, 4)
    paper = 1 - inks[:, 3]
    lightness = 100 * paper * (1 - inks[:, :3] @ [0.3, 0.5, 0.1])
    green_red = 40 * (inks[:, 1] - inks[:, 0]) * paper
    blue_yellow = 50 * (inks[:, 2] - inks[:, 0]) * paper
    table = np.stack([lightness * 2.55, green_red + 128, blue_yellow + 128], axis=1).round().astype(np.uint8)
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"A2B0": b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + table.tobytes() + ramp * 3,
    }
    index, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        index += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data
    size = 128 + len(index) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"", 0x02100000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    return head.ljust(68, b"\0") + white + bytes(48) + index + body


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
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif"])
def test_a_cameras_orientation_is_applied(tmp_path: Path, name: str, orientation: int):
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(random_image("uint8", 3)).resize((64, 48))
    stored.save(tmp_path / name, **({"tiffinfo": {274: orientation}} if name == "x.tif" else {"exif": exif}))
    with Image.open(tmp_path / name) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    np.testing.assert_array_equal(read_checked(tmp_path / name), wanted)


def test_an_orientation_after_the_pixels_of_a_png_is_applied(tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6
    image = random_image("uint8", 1)
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0]).save(buffer, "PNG")
    end = buffer.getvalue()[-12:]
    (tmp_path / "x.png").write_bytes(
        buffer.getvalue()[:-12] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + end
    )
    np.testing.assert_array_equal(read_checked(tmp_path / "x.png"), np.rot90(image, -1))


def test_a_damaged_orientation_does_no_harm(tmp_path: Path):
    image = random_image("uint8", 3)
    Image.fromarray(image).save(tmp_path / "x.png", exif=b"Exif\0\0no such thing")
    np.testing.assert_array_equal(read_checked(tmp_path / "x.png"), image)


@pytest.mark.parametrize(
    ("suffix", "dtype", "colours"),
    [*itertools.product([".png", ".tif"], ["uint8", "uint16"], [1, 3]), (".webp", "uint8", 3)],
)
def test_transparency_goes_there_and_back(tmp_path: Path, suffix: str, dtype: str, colours: int):
    image = random_image(dtype, colours + 1)
    write_image_file(tmp_path / f"x{suffix}", ImageFile(pages=(image,), alpha=True))
    read = read_image_file(tmp_path / f"x{suffix}")
    assert read.alpha and not read.notes
    np.testing.assert_array_equal(read.pages[0], image)
    read_checked(tmp_path / f"x{suffix}")
    if dtype == "uint8":
        with Image.open(tmp_path / f"x{suffix}") as opened:
            np.testing.assert_array_equal(np.asarray(opened.convert("LA" if colours == 1 else "RGBA")), image)


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint8", 3), ("uint16", 3), ("uint16", 4)])
def test_transparent_colours_of_a_png_become_alpha(tmp_path: Path, dtype: str, channels: int):
    image = random_image(dtype, min(channels, 3))
    key = struct.pack(f">{image.shape[2]}H", *image[3, 4].tolist())
    data = imagecodecs.png_encode(image)
    (tmp_path / "x.png").write_bytes(data[:33] + chunk(b"tRNS", key) + data[33:])
    read = read_image_file(tmp_path / "x.png")
    assert read.alpha
    opaque = np.iinfo(dtype).max
    np.testing.assert_array_equal(read.pages[0][..., :-1], image)
    np.testing.assert_array_equal(read.pages[0][..., -1], np.where((image == image[3, 4]).all(2), 0, opaque))
    read_checked(tmp_path / "x.png")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_is_what_opencv_understands(tmp_path: Path, channels: int):
    image = random_image("uint16", channels)
    write_image(tmp_path / "x.png", image)
    seen = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED).reshape(image.shape)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    np.testing.assert_array_equal(seen[..., order], image)
    assert len(np.unique(read_image(tmp_path / "x.png"))) > 256


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_the_colour_profile_stays(tmp_path: Path, suffix: str):
    profile = imagecodecs.cms_profile("srgb", gamma=1.8)
    path = tmp_path / f"x{suffix}"
    image = ImageFile(pages=(random_image("uint8", 3),), icc_profile=profile)
    assert write_image_file(path, image) == ()
    with Image.open(path) as opened:
        assert opened.info["icc_profile"] == profile
    read = read_image_file(path)
    assert read.icc_profile == profile
    write_image_file(tmp_path / f"again{suffix}", read)
    assert read_image_file(tmp_path / f"again{suffix}").icc_profile == profile


@pytest.mark.parametrize("name", ["x.bmp", "x.npy"])
def test_a_profile_that_the_format_cannot_hold_is_spoken_of(tmp_path: Path, name: str):
    image = ImageFile(pages=(random_image("uint8", 3),), icc_profile=imagecodecs.cms_profile("srgb"))
    assert write_image_file(tmp_path / name, image) == (f"{name[1:]} cannot hold the colour profile",)
    np.testing.assert_array_equal(read_image(tmp_path / name), image.pages[0])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize(("channels", "space"), [(1, "RGB"), (3, "GRAY"), (3, "CMYK"), (1, "CMYK")])
def test_a_profile_of_other_colours_is_left_out(tmp_path: Path, suffix: str, channels: int, space: str):
    profile = {"RGB": imagecodecs.cms_profile("srgb"), "GRAY": imagecodecs.cms_profile("gray"), "CMYK": cmyk_profile()}
    image = ImageFile(pages=(random_image("uint8", channels),), icc_profile=profile[space])
    (note,) = write_image_file(tmp_path / f"x{suffix}", image)
    assert space in note
    assert read_image_file(tmp_path / f"x{suffix}").icc_profile is None


def test_a_profile_that_does_not_fit_is_read_without_a_word_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture):
    """The decoder would complain about an RGB profile of a grey picture, which is common."""
    profile = imagecodecs.cms_profile("srgb")
    Image.fromarray(random_image("uint8", 1)[..., 0]).save(tmp_path / "x.png", icc_profile=profile)
    assert read_image_file(tmp_path / "x.png").icc_profile == profile
    assert capfd.readouterr().err == ""


def ink(dtype: str = "uint8") -> np.ndarray:
    """CMYK in broad patches, which JPEG keeps."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (3, 4, 4)).repeat(16, axis=0).repeat(16, axis=1)
    return patches.astype(dtype) * (257 if dtype == "uint16" else 1)


def as_pillow_sees(cmyk: np.ndarray, profile: bytes | None) -> np.ndarray:
    image = Image.frombytes("CMYK", cmyk.shape[1::-1], cmyk.tobytes())
    if profile is None:
        return np.asarray(image.convert("RGB"))
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
    assert converted is not None
    return np.asarray(converted)


@pytest.mark.parametrize("with_profile", [True, False])
@pytest.mark.parametrize("kind", ["jpeg", "jpeg of another program", "ycck", "tiff", "tiff 16 bit", "tiff, alpha"])
def test_cmyk_becomes_rgb(tmp_path: Path, kind: str, with_profile: bool):
    path = tmp_path / "x"
    cmyk = ink("uint16" if kind == "tiff 16 bit" else "uint8")
    profile = cmyk_profile() if with_profile else None
    if kind == "jpeg":
        image = Image.frombytes("CMYK", cmyk.shape[1::-1], cmyk.tobytes())
        image.save(path, "JPEG", quality=100, subsampling=0, icc_profile=profile)
    elif kind.startswith("tiff"):
        alpha = np.full((*cmyk.shape[:2], 1), 77, cmyk.dtype)
        pixels, extra = (np.dstack([cmyk, alpha]), ["unassalpha"]) if "alpha" in kind else (cmyk, None)
        tifffile.imwrite(path, pixels, photometric="separated", extrasamples=extra, iccprofile=profile)
    else:
        data = imagecodecs.jpeg8_encode(255 - cmyk, 100, colorspace="cmyk", outcolorspace="ycck")
        if kind == "jpeg of another program":  # no Adobe marker: 255 is full ink
            data = imagecodecs.jpeg8_encode(cmyk, 100, colorspace="cmyk", outcolorspace="cmyk")
            start = data.index(b"\xff\xee")
            data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4]) :]
        segment = b"ICC_PROFILE\0\1\1" + profile if profile else b""
        insert = b"\xff\xe2" + struct.pack(">H", len(segment) + 2) + segment if profile else b""
        path.write_bytes(data[:2] + insert + data[2:])
    read = read_image_file(path)
    (pixels,) = read.pages
    unit = 257 if kind == "tiff 16 bit" else 1
    wanted = as_pillow_sees((cmyk // unit).astype(np.uint8), profile)
    # JPEG's chroma bleeds over the edges of the patches.
    inside = np.ix_(*(np.arange(length)[np.arange(length) % 16 // 4 % 3 > 0] for length in wanted.shape[:2]))
    np.testing.assert_allclose(pixels[..., :3][inside] / unit, wanted[inside], atol=1 if "tiff" in kind else 6)
    assert read.alpha == ("alpha" in kind) and (not read.alpha or (pixels[..., 3] == 77).all())
    assert read.icc_profile is None
    assert len(read.notes) == 1 and "CMYK" in read.notes[0] and ("profile" in read.notes[0]) == with_profile
    read_checked(path)


def test_an_unusable_profile_of_inks_counts_as_none(tmp_path: Path):
    broken = cmyk_profile()[:128] + bytes(200)
    tifffile.imwrite(tmp_path / "x.tif", ink(), photometric="separated", iccprofile=broken)
    np.testing.assert_allclose(read_image(tmp_path / "x.tif").astype(int), as_pillow_sees(ink(), None), atol=1)


@pytest.mark.parametrize(
    ("mode", "name", "word"),
    [("P", "x.png", "palette"), ("P", "x.bmp", "palette"), ("P", "x.tif", "palette"), ("1", "x.png", "1 bit")],
)
def test_what_was_converted_is_told(tmp_path: Path, mode: str, name: str, word: str):
    Image.fromarray(random_image("uint8", 3)).convert(mode).save(tmp_path / name)
    (note,) = read_image_file(tmp_path / name).notes
    assert word in note


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
    if suffix != ".bmp":
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


def test_an_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "x.png").touch()
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=r"x\.png: the file is empty"):
            read(tmp_path / "x.png")


def test_the_content_decides_and_not_the_name(tmp_path: Path):
    image = random_image("uint8", 3)
    for written in ("x.png", "x.tif", "x.npy", "x.bmp", "x.webp"):
        write_image(tmp_path / written, image)
        (tmp_path / written).rename(tmp_path / "wrong.jpg")
        np.testing.assert_array_equal(read_checked(tmp_path / "wrong.jpg"), image)


@pytest.mark.parametrize("name", ["x.png", "x.webp"])
def test_an_animation_is_refused(tmp_path: Path, name: str):
    frames = [Image.fromarray(random_image("uint8", channels)[..., :3]) for channels in (3, 4, 5)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    for read in (read_image, read_header):
        with pytest.raises(InputError, match="animation of 3 frames"):
            read(tmp_path / name)


def test_arrays_that_are_no_image_are_refused(tmp_path: Path):
    for array in (np.zeros((2, 3, 4, 5)), np.zeros(3), np.zeros((0, 4, 1)), np.zeros((4, 4), complex)):
        np.save(tmp_path / "x.npy", array)
        for read in (read_image, read_header):
            with pytest.raises(InputError, match=r"x\.npy"):
                read(tmp_path / "x.npy")
        for suffix in (".png", ".tif", ".npy"):
            with pytest.raises(InputError, match=rf"y\{suffix}"):
                write_image(tmp_path / f"y{suffix}", array)
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_pickled_arrays_are_never_opened(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([[Payload(tmp_path / "mark")]], dtype=object), allow_pickle=True)
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=r"x\.npy"):
            read(tmp_path / "x.npy")
    assert not (tmp_path / "mark").exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert (tmp_path / "mark").exists()


def test_arrays_by_columns_and_of_the_other_byte_order_are_read(tmp_path: Path):
    image = random_image("uint16", 3)
    np.save(tmp_path / "x.npy", np.asfortranarray(image.astype(">u2")))
    np.testing.assert_array_equal(read_checked(tmp_path / "x.npy"), image)


def test_numbers_that_are_not_finite_are_read_as_they_are(tmp_path: Path):
    image = random_image("float32", 2)
    image[3, 4], image[5, 6] = np.nan, -np.inf
    for name in ("x.npy", "x.tif"):
        write_image(tmp_path / name, image)
        np.testing.assert_array_equal(read_checked(tmp_path / name), image)


def test_what_was_read_may_be_changed(tmp_path: Path):
    for name in ("x.png", "x.jpg", "x.tif", "x.webp", "x.bmp", "x.npy"):
        write_image(tmp_path / name, random_image("uint8", 3))
        read_image(tmp_path / name)[0, 0] = 0


def huge(name: str) -> bytes:
    """A small file whose header speaks of billions of pixels."""
    image = random_image("uint8", 3)
    buffer = io.BytesIO()
    match name:
        case "x.png":
            start = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
            return imagecodecs.png_encode(image)[:8] + chunk(b"IHDR", start) + imagecodecs.png_encode(image)[33:]
        case "x.jpg":
            data = imagecodecs.jpeg8_encode(image, 90)
            size = data.index(b"\xff\xc0") + 5
            return data[:size] + struct.pack(">HH", 65_000, 65_000) + data[size + 4 :]
        case "x.bmp":
            Image.fromarray(image).save(buffer, "BMP")
            return buffer.getvalue()[:18] + struct.pack("<ii", 100_000, 100_000) + buffer.getvalue()[26:]
        case "x.tif":
            tifffile.imwrite(buffer, image, compression="zlib")
            buffer.seek(0)
            with tifffile.TiffFile(buffer) as file:
                for tag in ("ImageWidth", "ImageLength"):
                    place = file.pages[0].tags[tag].valueoffset
                    buffer.getbuffer()[place : place + 4] = struct.pack("<I", 1_000_000)
            return buffer.getvalue()
    np.save(buffer, image)
    return buffer.getvalue().replace(b"(20, 30, 3), }      ", b"(200000, 300000, 3),}")


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.bmp", "x.tif", "x.npy"])
def test_a_header_that_claims_too_much_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(huge(name))
    for read in (read_header, read_image):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".npy"])
def test_an_image_of_20000_by_20000_is_read(tmp_path: Path, suffix: str):
    image = np.zeros((20_000, 20_000, 1), np.uint8)
    image[-1000:, -1000:] = 255
    write_image(tmp_path / f"x{suffix}", image)
    np.testing.assert_array_equal(read_checked(tmp_path / f"x{suffix}"), image)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("step", ["read", "write"])
def test_few_copies_are_held(tmp_path: Path, suffix: str, step: str):
    """Noise, so that the compressed file is as large as the image."""
    image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    np.save(tmp_path / "array.npy", image)
    write_image(tmp_path / f"x{suffix}", image)
    code = (
        "import resource, sys, numpy, imagecodecs, tifffile; from i2i.data.image_io import read_image, write_image\n"
        "unit = 1 if sys.platform == 'darwin' else 1024\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit\n"
        "array = numpy.load(sys.argv[2]) if sys.argv[3] == 'write' else 0\n"
        "before = peak()\n"
        "write_image(sys.argv[1], array) if sys.argv[3] == 'write' else read_image(sys.argv[1])\n"
        "print(peak() - before)"
    )
    arguments = [tmp_path / f"x{suffix}", tmp_path / "array.npy", step]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    held = int(done.stdout) / image.nbytes
    # Two beside the image; memory comes in blocks.
    assert held < (3.2 if step == "read" else 2.2)


@pytest.mark.parametrize(
    ("name", "dtype", "channels"),
    [("x.jpg", "uint16", 3), ("x.png", "float32", 1), ("x.png", "uint8", 5), ("x.gif", "uint8", 3), ("x", "uint8", 1)],
)  # fmt: skip
def test_a_format_that_cannot_hold_the_image_is_refused(tmp_path: Path, name: str, dtype: str, channels: int):
    with pytest.raises(InputError, match="tiff"):
        write_image(tmp_path / name, random_image(dtype, channels))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("x.jpg", ImageFile(pages=(random_image("uint8", 4),), alpha=True), r"transparency; \.png"),
        ("x.bmp", ImageFile(pages=(random_image("uint8", 2),), alpha=True), r"transparency; \.png"),
        ("x.webp", ImageFile(pages=(random_image("uint8", 2),), alpha=True), "tiff"),
        ("x.png", ImageFile(pages=(random_image("uint8", 4),)), "4 channels of uint8"),
        ("x.png", ImageFile(pages=(random_image("uint8", 3),) * 2), "2 pages"),
        ("x.npy", ImageFile(pages=(random_image("uint8", 3),) * 2), "2 pages"),
        ("x.tif", ImageFile(pages=()), "no pages"),
        ("x.tif", ImageFile(pages=(random_image("uint8", 1),), alpha=True), "beside the transparency"),
        ("x.jpg", ImageFile(pages=(np.zeros((1, 65_501, 3), np.uint8),)), "65501 x 1"),
        ("x.webp", ImageFile(pages=(np.zeros((16_384, 1, 3), np.uint8),)), "1 x 16384"),
        ("x.png", ImageFile(pages=(np.zeros((1, 1_000_001, 1), np.uint8),)), "1000001 x 1"),
    ],
)
def test_a_format_that_cannot_hold_the_file_is_refused(tmp_path: Path, name: str, image: ImageFile, message: str):
    with pytest.raises(InputError, match=rf"{name}.*{message}"):
        write_image_file(tmp_path / "new folder" / name, image)
    assert not list(tmp_path.iterdir())


def test_the_folder_is_made(tmp_path: Path):
    write_image(tmp_path / "a" / "b" / "x.png", random_image("uint8", 3))
    assert (tmp_path / "a" / "b" / "x.png").exists()


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


@pytest.mark.data
@pytest.mark.parametrize("suffix", [".tif", "the same"])
def test_real_files_go_there_and_back(data_dir: Path, tmp_path: Path, suffix: str):
    files = [file for file in (data_dir / "images").iterdir() if file.suffix in (".png", ".jpg")]
    assert len(files) >= 5
    for file in files:
        # JPEG is not lossless.
        copy = tmp_path / f"copy{'.png' if suffix == 'the same' else suffix}"
        read = read_image_file(file)
        write_image_file(copy, read)
        again = read_image_file(copy)
        np.testing.assert_array_equal(again.pages[0], read.pages[0])
        assert (again.alpha, again.icc_profile) == (read.alpha, read.icc_profile), file.name
        assert read_header(copy) == read_header(file)
        if read.pages[0].dtype == np.uint16:
            assert len(np.unique(again.pages[0])) > 256


def samples(folder: Path) -> list[bytes]:
    """A small file of each kind."""
    image = np.asarray(Image.fromarray(random_image("uint8", 3)).resize((60, 50)))
    for number, name in enumerate(["x.png", "x.jpg", "x.tif", "x.webp", "x.bmp", "x.npy"]):
        write_image(folder / f"{number}{name}", image)
    write_image(folder / "16.png", image.astype(np.uint16) * 257)
    write_image(folder / "float.tif", image.astype(np.float32))
    exif = Image.Exif()
    exif[274] = 6
    picture = Image.fromarray(image)
    picture.quantize(16).save(folder / "palette.png", transparency=2, exif=exif)
    picture.quantize(16).save(folder / "palette.bmp")
    picture.quantize(16).save(folder / "palette.tif")
    picture.convert("CMYK").save(folder / "cmyk.jpg", exif=exif, icc_profile=cmyk_profile())
    picture.save(folder / "progressive.jpg", progressive=True)
    picture.save(folder / "lossy.webp", exif=exif, icc_profile=imagecodecs.cms_profile("srgb"))
    for compression in ("lzw", "zstd", "jpeg", "packbits"):
        tifffile.imwrite(folder / f"{compression}.tif", image, compression=compression)
    tifffile.imwrite(folder / "tiles.tif", image, tile=(16, 16), compression="zlib", predictor=True)
    tifffile.imwrite(folder / "planar.tif", image.transpose(2, 0, 1), planarconfig="separate", photometric="rgb")
    for kind in ("imagej", "ome"):
        tifffile.imwrite(folder / f"{kind}.tif", image.transpose(2, 0, 1), **{kind: True}, photometric="minisblack")
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def test_damaged_files_end_in_an_image_or_in_a_sentence(tmp_path: Path):
    rng = np.random.default_rng(0)
    (tmp_path / "whole").mkdir()
    whole = samples(tmp_path / "whole")
    path = tmp_path / "damaged"
    ends = {"read": 0, "refused": 0}
    for number in range(20 * len(whole)):
        data = bytearray(whole[number % len(whole)])
        near_start = int(rng.choice([64, 400, len(data)]))
        match rng.choice(["flip", "cut", "splice", "fill"]):
            case "flip":
                for _ in range(rng.integers(1, 8)):
                    data[rng.integers(min(near_start, len(data)))] ^= 1 << int(rng.integers(8))
            case "cut":
                del data[rng.integers(len(data)) :]
            case "splice":
                other = whole[rng.integers(len(whole))]
                data = data[: rng.integers(len(data))] + other[rng.integers(len(other)) :]
            case "fill":
                place = rng.integers(min(near_start, len(data)))
                data[place : place + 4] = bytes(rng.choice([0, 1, 127, 255], 4).tolist())
        path.write_bytes(data)
        for read in (read_header, read_image_file):
            try:
                read(path)
                ends["read"] += 1
            except InputError as error:
                assert "damaged" in str(error)
                ends["refused"] += 1
    assert min(ends.values()) > 100, "the damage is too small or too great to tell anything"
