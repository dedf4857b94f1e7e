"""Class ids and instance numbers come out of files as they went in, or the file is refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from i2i.data.labels import class_ids, read_instances, read_labels
from i2i.errors import InputError

IDS = np.random.default_rng(0).integers(0, 4, (12, 18))
# Its entries are neither in order nor grey, so that indices and colours cannot be mixed up.
PALETTE = np.array([(200, 10, 30), (0, 0, 0), (128, 64, 128), (255, 255, 255)], dtype=np.uint8)


def write(path: Path, kind: str) -> Path:
    grey = Image.fromarray(IDS.astype(np.uint8))
    match kind:
        case "grey.png" | "grey.bmp":
            grey.save(path)
        case "grey.webp":
            grey.convert("RGB").save(path, lossless=True)
        case "rgb.png":
            grey.convert("RGB").save(path)
        case "opaque.png":
            grey.convert("RGBA").save(path)
        case "indexed.png":
            grey.putpalette(PALETTE.tobytes())
            grey.save(path)
        case "16bit.png":
            Image.fromarray((IDS * 300).astype(np.uint16)).save(path)
        case "signed.tiff":
            tifffile.imwrite(path, (IDS - 1).astype(np.int16))
        case "signed.npy":
            np.save(path, IDS - 1)
        case "large.npy":
            np.save(path, IDS.astype(np.uint32) + 2**31)
    return path


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((f"grey.{suffix}", IDS) for suffix in ("png", "bmp", "webp")),
        *((f"{kind}.png", IDS) for kind in ("rgb", "opaque", "indexed")),
        ("16bit.png", IDS * 300),
        ("signed.tiff", IDS - 1),
        ("signed.npy", IDS - 1),
        ("large.npy", IDS + 2**31),
    ],
)
def test_ids_are_the_numbers_in_the_file(kind: str, expected: np.ndarray, tmp_path: Path) -> None:
    ids = read_labels(write(tmp_path / kind, kind))
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, expected)


def test_a_mask_of_one_bit_has_ids_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(IDS > 1).save(tmp_path / "mask.png")
    assert Image.open(tmp_path / "mask.png").mode == "1"
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.png"), IDS > 1)


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_colours_are_looked_up_in_a_palette(mode: str, tmp_path: Path) -> None:
    Image.fromarray(PALETTE[IDS]).convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", palette=PALETTE), IDS)


def test_grey_is_a_colour_too_where_there_is_a_palette(tmp_path: Path) -> None:
    Image.fromarray((IDS > 1).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    ids = read_labels(tmp_path / "mask.png", palette=np.array([(255, 255, 255), (0, 0, 0)], dtype=np.uint8))
    np.testing.assert_array_equal(ids, IDS <= 1)


def test_colours_need_a_palette(tmp_path: Path) -> None:
    Image.fromarray(PALETTE[IDS]).save(tmp_path / "coded.png")
    with pytest.raises(InputError, match=r"coded\.png is colour-coded.*--palette FILE"):
        read_labels(tmp_path / "coded.png")


def test_a_colour_beyond_the_palette_is_told(tmp_path: Path) -> None:
    colours = PALETTE[IDS]
    colours[3, :5] = 128, 64, 120
    colours[4, 0] = 1, 2, 3
    Image.fromarray(colours).save(tmp_path / "coded.png")
    message = (
        r"coded\.png: 6 of 216 pixels \(2\.8%\) .* most often \(128, 64, 120\) \(5 pixels\); the nearest is "
        r"\(128, 64, 128\), of class 2"
    )
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "coded.png", palette=PALETTE)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_files_are_refused(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"lossy.{suffix}"
    Image.fromarray(PALETTE[IDS]).save(file, quality=95)
    for read in (read_labels, read_instances):
        with pytest.raises(InputError, match=rf"lossy\.{suffix} is compressed with loss .* as PNG"):
            read(file)
    with pytest.raises(InputError, match=rf"lossy\.{suffix}: .* pixels .*%\) have a colour .* compression is lossy"):
        read_labels(file, palette=PALETTE)


def test_a_jpeg_whose_colours_survived_is_taken(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (255, 255, 255)).save(tmp_path / "white.jpg")
    assert (read_labels(tmp_path / "white.jpg", palette=PALETTE) == 3).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 4), 0.5, np.float32), "holds fractions, not class ids"),
        (np.full((4, 4), np.nan, np.float32), "holds fractions, not class ids"),
        (np.zeros((4, 4, 5), np.uint8) + np.arange(5, dtype=np.uint8), "its 5 channels differ"),
    ],
)
def test_what_holds_no_ids_is_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "odd.npy", array)
    with pytest.raises(InputError, match=rf"odd\.npy.*{message}"):
        read_labels(tmp_path / "odd.npy")


def test_ids_that_may_have_been_rounded_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.full((4, 4), 2.0**24, np.float32))
    with pytest.raises(InputError, match=r"large\.npy holds class ids as floats, too large to be exact"):
        read_labels(tmp_path / "large.npy")


def test_large_ids_of_tiff_are_exact(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "large.tiff", np.full((4, 4), 2**24 + 1, np.uint32))
    assert (read_instances(tmp_path / "large.tiff") == 2**24 + 1).all()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png cannot be read"):
        read_labels(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("kind", "expected"), [("16bit.png", IDS * 300), ("large.npy", IDS + 2**31), ("signed.tiff", (IDS - 1) % 2**32)]
)
def test_instance_numbers_of_any_depth(kind: str, expected: np.ndarray, tmp_path: Path) -> None:
    numbers = read_instances(write(tmp_path / kind, kind))
    assert numbers.dtype == np.uint32
    np.testing.assert_array_equal(numbers, expected)


def test_instance_numbers_in_three_channels(tmp_path: Path) -> None:
    """COCO's panoptic maps: red is the lowest byte."""
    numbers = IDS * 70_000 + 7
    channels = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=-1).astype(np.uint8)
    Image.fromarray(channels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_instances(tmp_path / "a.png"), numbers)


def test_instance_numbers_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((4, 4), 2**32))
    with pytest.raises(InputError, match=r"a\.npy has instance numbers from 4294967296"):
        read_instances(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("found", "classes", "first_id", "expected"),
    [
        ([0, 33, 255, -1], 34, 0, [0, 33, 34, 34]),  # Cityscapes
        ([0, 1, 150], 150, 1, [150, 0, 149]),  # ADE20K
        ([255, 299, 65535], 300, 0, [255, 299, 300]),  # 255 is a class
    ],
)
def test_ids_become_places_of_channels(found: list[int], classes: int, first_id: int, expected: list[int]) -> None:
    ids = class_ids(np.array(found), classes=classes, dont_care=True, first_id=first_id)
    assert ids.tolist() == expected


@pytest.mark.parametrize(
    ("found", "dont_care", "message"),
    [
        ([0, 34, 40, 255], True, "2 pixels have class ids that are not known, such as 34; expected 0 to 33 or 255"),
        ([0, -1, 255], False, "2 pixels have class ids that are not known, such as -1; expected 0 to 33$"),
    ],
)
def test_ids_out_of_range_are_refused(found: list[int], dont_care: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_ids(np.array(found), classes=34, dont_care=dont_care)
