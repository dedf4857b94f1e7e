"""TIFF as instruments and editors write it, against tifffile, Pillow and OpenCV."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.io
import tifffile
from PIL import Image

from i2i.data import tiff
from i2i.data.image_io import ImageFile, read_header, read_image, read_image_file, write_image, write_image_file
from i2i.errors import InputError


def random_image(dtype: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def read_checked(path: Path) -> np.ndarray:
    """Read, and hold the header against what was read."""
    image, header = read_image(path), read_header(path)
    assert image.shape == (header.height, header.width, header.channels)
    assert image.dtype == header.dtype
    return image


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
    image = random_image(dtype, 20, 30, channels)
    Image.fromarray(image.squeeze()).save(tmp_path / "x.tif", compression=compression)
    np.testing.assert_array_equal(read_checked(tmp_path / "x.tif"), image)


def test_a_stack_of_images_is_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 5, 20, 30), np.uint16))
    with pytest.raises(InputError, match=r"x\.tif.*several"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
)
@pytest.mark.parametrize(
    ("compression", "predictor"),
    [(None, False), ("lzw", False), ("lzw", True), ("zlib", False), ("zlib", True), ("zstd", False), ("zstd", True)],
)
def test_every_kind_of_number(tmp_path: Path, dtype: str, compression: str | None, predictor: bool):
    image = random_image(dtype, 20, 30, 3)
    tifffile.imwrite(
        tmp_path / "x.tif", image, photometric="rgb", compression=compression, predictor=predictor, tile=(16, 16)
    )
    kept = dtype if dtype in ("uint8", "uint16", "float32") else "float32"
    read = read_image_file(tmp_path / "x.tif")
    np.testing.assert_array_equal(read.pages[0], image.astype(kept))
    assert read.notes == (() if dtype == kept else (f"{dtype} became float32",))
    read_checked(tmp_path / "x.tif")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiles_planes_and_bigtiff(tmp_path: Path, planar: str, tile: tuple[int, int] | None, bigtiff: bool):
    image = random_image("uint16", 40, 50, 7)
    stored = image if planar == "contig" else image.transpose(2, 0, 1)
    tifffile.imwrite(
        tmp_path / "x.tif", stored, photometric="minisblack", planarconfig=planar, tile=tile, bigtiff=bigtiff
    )
    np.testing.assert_array_equal(read_checked(tmp_path / "x.tif"), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_inside(tmp_path: Path, channels: int):
    even = np.asarray(Image.fromarray(random_image("uint8", 4, 5, 3)).resize((80, 64), Image.Resampling.BICUBIC))
    Image.fromarray(even if channels == 3 else even[..., 0]).save(tmp_path / "x.tif", compression="jpeg")
    with Image.open(tmp_path / "x.tif") as opened:
        seen = np.asarray(opened).reshape(64, 80, channels)
    np.testing.assert_allclose(read_checked(tmp_path / "x.tif").astype(int), seen, atol=4)  # two chroma upsamplers


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_stored_as_zero_is_white(tmp_path: Path, dtype: str):
    image = random_image(dtype, 20, 30)
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="miniswhite")
    read = read_image_file(tmp_path / "x.tif")
    np.testing.assert_array_equal(read.pages[0][..., 0], np.iinfo(dtype).max - image)
    assert "darkness" in read.notes[0]


@pytest.mark.parametrize("compression", ["group3", "group4", "packbits", None])
def test_faxes(tmp_path: Path, compression: str | None):
    fax = Image.fromarray(random_image("uint8", 20, 30)).convert("1")
    fax.save(tmp_path / "x.tif", compression=compression)
    np.testing.assert_array_equal(read_checked(tmp_path / "x.tif")[..., 0], np.asarray(fax.convert("L")))


@pytest.mark.parametrize(("bits", "unit"), [(1, 255), (4, 17), (12, 1)])
def test_numbers_narrower_than_their_type(tmp_path: Path, bits: int, unit: int):
    """Below 8 bits they are stretched as in PNG; of a 12-bit camera they stay what they are."""
    image = random_image("uint16", 20, 30) >> (16 - bits)
    dtype = np.uint16 if bits > 8 else np.uint8
    tifffile.imwrite(tmp_path / "x.tif", image.astype(dtype), bitspersample=bits, photometric="minisblack")
    np.testing.assert_array_equal(read_checked(tmp_path / "x.tif")[..., 0], image * unit)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("colours", [1, 3])
def test_colours_multiplied_by_alpha_are_divided_by_it(tmp_path: Path, dtype: str, colours: int):
    full = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    rng = np.random.default_rng(0)
    straight, alpha = rng.random((20, 30, colours)), rng.uniform(0.5, 1, (20, 30, 1))
    alpha[:5] = 0
    stored = (np.dstack([straight * alpha, alpha]) * full + (0 if full == 1 else 0.5)).astype(dtype)
    photometric = "rgb" if colours == 3 else "minisblack"
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, stored, photometric=photometric, planarconfig="contig", extrasamples=["assocalpha"])
    read = read_image_file(path)
    assert read.alpha and "alpha" in read.notes[0]
    np.testing.assert_array_equal(read.pages[0][..., -1], stored[..., -1])
    error = read.pages[0][5:, :, :-1] / full - straight[5:]
    assert np.abs(error).max() < (1e-6 if dtype == "float32" else 2.01 / full)
    assert (read.pages[0][:5, :, :-1] == 0).all()
    if (dtype, colours) == ("uint8", 3):
        with Image.open(path) as opened:
            seen = np.asarray(opened.convert("RGBA"))
        np.testing.assert_allclose(read.pages[0][5:].astype(int), seen[5:], atol=2)  # Pillow rounds down


def test_a_fourth_band_is_transparency_only_if_the_file_says_so(tmp_path: Path):
    image = random_image("uint8", 20, 30, 4)
    for said, alpha in (("unassalpha", True), ("unspecified", False)):
        tifffile.imwrite(tmp_path / "x.tif", image, photometric="rgb", extrasamples=[said])
        assert read_image_file(tmp_path / "x.tif").alpha is alpha
        np.testing.assert_array_equal(read_checked(tmp_path / "x.tif"), image)
    write_image(tmp_path / "x.tif", image)
    assert read_image_file(tmp_path / "x.tif").alpha is False


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [2, 3, 4, 6])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_other_readers_understand_what_is_written(tmp_path: Path, dtype: str, channels: int, alpha: bool):
    image = random_image(dtype, 20, 30, channels)
    write_image_file(tmp_path / "x.tif", ImageFile(pages=(image,), alpha=alpha))
    np.testing.assert_array_equal(skimage.io.imread(tmp_path / "x.tif"), image)
    assert read_image_file(tmp_path / "x.tif").alpha is alpha
    if channels == 3 and not alpha:
        seen = cv2.imread(str(tmp_path / "x.tif"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(seen[..., ::-1], image)


def test_pages_of_different_shape_and_depth_stay_in_order(tmp_path: Path):
    pages = (
        random_image("uint8", 20, 30, 3),
        random_image("uint16", 10, 15, 1),
        random_image("uint8", 20, 30, 3),
        random_image("float32", 40, 60, 5),
    )
    write_image_file(tmp_path / "x.tif", ImageFile(pages=pages))
    read = read_image_file(tmp_path / "x.tif").pages
    assert len(read) == 4
    for page, wanted, seen in zip(read, pages, tifffile.TiffFile(tmp_path / "x.tif").pages, strict=True):
        assert page.dtype == wanted.dtype
        np.testing.assert_array_equal(page, wanted)
        np.testing.assert_array_equal(seen.asarray().reshape(page.shape), wanted)


def test_a_page_half_as_large_is_a_page(tmp_path: Path):
    pages = [Image.fromarray(random_image("uint8", size, size, 3)) for size in (64, 32)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    assert [page.shape for page in read_image_file(tmp_path / "x.tif").pages] == [(64, 64, 3), (32, 32, 3)]


def test_an_odd_page_among_many_is_read_as_it_is(tmp_path: Path):
    pages = [random_image("uint8", 8, 9, 1)] * 12
    pages[4] = random_image("uint16", 5, 6, 3)
    write_image_file(tmp_path / "x.tif", ImageFile(pages=tuple(pages)))
    for page, wanted in zip(read_image_file(tmp_path / "x.tif").pages, pages, strict=True):
        np.testing.assert_array_equal(page, wanted)


def test_several_pages_where_one_is_wanted(tmp_path: Path):
    pages = tuple(random_image("uint8", 3, 20, 30, 3))
    write_image_file(tmp_path / "x.tif", ImageFile(pages=pages))
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=r"x\.tif: .*3 pages; read_image_file and i2i translate"):
            read(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("options", "axes", "pages", "channels"),
    [
        ({"imagej": True}, "TYX", 4, 1),
        ({"imagej": True}, "ZYX", 4, 1),
        ({"imagej": True}, "CYX", 1, 4),
        ({"imagej": True}, "ZCYX", 4, 5),
        ({"imagej": True}, "ZYXS", 4, 3),
        ({"ome": True}, "ZYX", 4, 1),
        ({"ome": True}, "CYX", 1, 4),
        ({"ome": True}, "TCYX", 4, 5),
        ({"ome": True}, "TZYX", 20, 1),
        ({"ome": True}, "CZYX", 5, 4),
    ],
)
def test_axes_with_names_are_pages_or_channels(tmp_path: Path, options: dict, axes: str, pages: int, channels: int):
    shape = (4, 5) if len(axes) == 4 and "S" not in axes else (4,)
    array = random_image("uint8", *shape, 20, 30, *([3] if "S" in axes else []))
    photometric = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", array, **options, photometric=photometric, metadata={"axes": axes})
    read = read_image_file(tmp_path / "x.tif").pages
    assert len(read) == pages
    match axes:
        case "CYX":
            wanted = np.moveaxis(array, 0, -1)[None]
        case "ZCYX" | "TCYX":
            wanted = np.moveaxis(array, 1, -1)
        case "CZYX":
            wanted = np.moveaxis(array, 0, -1)
        case _:
            wanted = array.reshape(pages, 20, 30, channels)
    np.testing.assert_array_equal(read, wanted)


def test_an_array_without_names_whose_axes_could_be_anything_is_pages(tmp_path: Path):
    array = random_image("uint8", 30, 30, 40)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="minisblack")
    np.testing.assert_array_equal(read_image_file(tmp_path / "x.tif").pages, array[..., None])


def test_overviews_thumbnails_and_masks_are_no_pages(tmp_path: Path):
    image = random_image("uint8", 64, 64, 3)
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        options = {"photometric": "rgb", "metadata": None}
        file.write(image, subifds=1, **options)
        file.write(image[::2, ::2], subfiletype=1, **options)
        file.write(image[::4, ::4], subfiletype=1, **options)
        file.write(image[..., 0] > 9, subfiletype=4, photometric="mask", metadata=None)
    np.testing.assert_array_equal(read_checked(tmp_path / "x.tif"), image)


@pytest.mark.parametrize("compression", ["lzw", "jpeg"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("pages", [1, 3])
def test_what_goes_through_libtiff_is_what_tifffile_sees(
    tmp_path: Path, compression: str, planar: str, tile: tuple[int, int] | None, pages: int
):
    images = random_image("uint8", pages, 40, 50, 3)
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for image in images if planar == "contig" else images.transpose(0, 3, 1, 2):
            file.write(image, photometric="rgb", planarconfig=planar, tile=tile, compression=compression, metadata=None)
    read = read_image_file(tmp_path / "x.tif").pages
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        for page, wanted in zip(read, file.pages, strict=True):
            seen = wanted.asarray()
            np.testing.assert_array_equal(page, seen if planar == "contig" else seen.transpose(1, 2, 0))


def test_lzw_that_speaks_of_what_it_has_not_said(tmp_path: Path):
    """The first code after a clear must be a plain byte; imagecodecs' own LZW decoder crashes here."""
    tifffile.imwrite(tmp_path / "x.tif", random_image("uint8", 70, 90), compression="lzw")
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        (start, *_) = file.pages[0].dataoffsets
    data = bytearray((tmp_path / "x.tif").read_bytes())
    codes = int.from_bytes(data[start : start + 4])
    assert codes >> 23 == 256  # clear; codes are of nine bits here
    data[start : start + 4] = (256 << 23 | 300 << 14 | 258 << 5 | codes & 0b11111).to_bytes(4)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.tif"):
        read_image(tmp_path / "x.tif")


def test_a_file_whose_strips_are_too_few_is_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "x.tif", random_image("uint8", 20, 30), rowsperstrip=20)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        place = file.pages[0].tags["ImageLength"].valueoffset
    data = bytearray((tmp_path / "x.tif").read_bytes())
    data[place : place + 2] = (2000).to_bytes(2, "little")
    (tmp_path / "x.tif").write_bytes(data)
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=r"x\.tif: the TIFF is truncated"):
            read(tmp_path / "x.tif")


def test_a_compression_that_is_not_read_is_named(tmp_path: Path):
    tifffile.imwrite(tmp_path / "x.tif", random_image("uint8", 20, 30), compression="png")
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=r"x\.tif: its compression PNG is not read; save"):
            read(tmp_path / "x.tif")


def test_bigtiff_is_written_where_offsets_need_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image = random_image("uint8", 20, 30, 3)
    starts = []
    for largest in (image.nbytes, image.nbytes - 1):
        monkeypatch.setattr(tiff, "_LARGEST_CLASSIC", largest)
        write_image(tmp_path / "x.tif", image)
        starts.append((tmp_path / "x.tif").read_bytes()[2:3])
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "x.tif"), image)
    assert starts == [b"*", b"+"]


@pytest.mark.parametrize(("photometric", "channels"), [("cielab", 3), ("ycbcr", 3)])
def test_colours_that_cannot_be_converted_are_refused(tmp_path: Path, photometric: str, channels: int):
    tifffile.imwrite(tmp_path / "x.tif", random_image("uint8", 20, 30, channels), photometric=photometric)
    for read in (read_image, read_header):
        with pytest.raises(InputError, match="convert"):
            read(tmp_path / "x.tif")


def test_planes_that_are_not_there_are_missed(tmp_path: Path):
    tifffile.imwrite(tmp_path / "x.ome.tif", random_image("uint8", 2, 20, 30), ome=True, photometric="minisblack")
    data = (tmp_path / "x.ome.tif").read_bytes()
    assert b'SizeZ="1"' in data
    (tmp_path / "x.ome.tif").write_bytes(data.replace(b'SizeZ="1"', b'SizeZ="3"'))
    with pytest.raises(InputError, match=r"x\.ome\.tif: planes that the TIFF speaks of"):
        read_image_file(tmp_path / "x.ome.tif")
