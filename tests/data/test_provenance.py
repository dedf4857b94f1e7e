"""The note that an image is synthetic: what other programs read, and that pixels and all else stay as they are."""

import io
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from i2i import __version__
from i2i.data.image_io import ImageFile, Provenance, read_image_file, read_provenance, write_image, write_image_file
from i2i.errors import InputError

MODEL = 'Straßenbilder/generator <日本 & "more"> (sha256 0123456789ab)'
DRAWN = Provenance(kind="drawn", model=MODEL)
SENTENCE = f"synthetic image, drawn by a neural network; model: {MODEL}; made with i2i {__version__}"
SOFTWARE, DESCRIPTION = 0x0131, 0x010E
CASES = [
    (".png", 1, "uint8", False, 1),
    (".png", 4, "uint8", True, 1),
    (".png", 3, "uint16", False, 1),
    (".png", 2, "uint16", True, 1),
    (".jpg", 3, "uint8", False, 1),
    (".jpeg", 1, "uint8", False, 1),
    (".webp", 3, "uint8", False, 1),
    (".webp", 4, "uint8", True, 1),
    (".tif", 3, "uint8", False, 3),
    (".tiff", 5, "float32", False, 1),
    (".tif", 4, "uint16", True, 2),
]


def random_file(channels: int, dtype: str, *, alpha: bool, pages: int, profile: bool = True) -> ImageFile:
    rng = np.random.default_rng(0)
    shown = channels - alpha == 3 and profile
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if shown else None
    arrays = tuple((rng.random((9, 13, channels)) * 250).astype(dtype) for _ in range(pages))
    return ImageFile(pages=arrays, alpha=alpha, icc_profile=icc)


def seen_by_others(path: Path) -> list[tuple[str, str, bytes]]:
    """Software, description and XMP packet of each page, as Pillow and tifffile find them."""
    if path.suffix.startswith(".tif"):
        with tifffile.TiffFile(path) as file:
            return [(page.software, page.description, bytes(page.tags.valueof(700))) for page in file.pages]
    with Image.open(path) as image:
        info: dict[str, Any] = image.info
        if path.suffix == ".png":
            return [(info["Software"], info["Description"], info["XML:com.adobe.xmp"].encode())]
        tags = image.getexif()
        return [(tags[SOFTWARE], tags[DESCRIPTION].encode("latin-1").decode(), info["xmp"])]


@pytest.mark.parametrize(("suffix", "channels", "dtype", "alpha", "pages"), CASES)
def test_other_programs_read_it_and_nothing_else_changes(
    tmp_path: Path, suffix: str, channels: int, dtype: str, alpha: bool, pages: int
) -> None:
    file = random_file(channels, dtype, alpha=alpha, pages=pages)
    noted, plain = tmp_path / f"with a note{suffix}", tmp_path / f"plain{suffix}"
    assert write_image_file(noted, file, provenance=DRAWN) == write_image_file(plain, file) == ()
    for software, description, packet in seen_by_others(noted):
        assert software == f"i2i {__version__}"
        assert description == SENTENCE
        (said,) = ET.fromstring(packet.decode().strip("\ufeff")).iter(
            "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
        )
        assert said.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == (
            "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
        )
    assert len(seen_by_others(noted)) == pages
    assert read_provenance(noted) == DRAWN
    assert read_provenance(plain) is None
    if suffix.startswith(".tif"):  # Pillow has no images of five channels
        with tifffile.TiffFile(plain) as tiff:
            assert not any(page.software or page.description for page in tiff.pages)
    else:
        with Image.open(plain) as image:
            assert not {SOFTWARE, DESCRIPTION} & image.getexif().keys() and "Software" not in image.info

    with_note, without = read_image_file(noted), read_image_file(plain)
    for a, b in zip(with_note.pages, without.pages, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)
    assert (with_note.alpha, with_note.icc_profile, with_note.notes) == (alpha, file.icc_profile, ())
    assert (without.alpha, without.icc_profile) == (alpha, file.icc_profile)
    if suffix not in (".jpg", ".jpeg"):
        np.testing.assert_array_equal(with_note.pages[0], file.pages[0])


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype"), [(".png", 3, "uint8"), (".png", 4, "uint16"), (".webp", 3, "uint8")]
)
def test_other_decoders_see_the_same_pixels(tmp_path: Path, suffix: str, channels: int, dtype: str) -> None:
    file = random_file(channels, dtype, alpha=channels == 4, pages=1)
    write_image_file(tmp_path / f"a{suffix}", file, provenance=DRAWN)
    decoded = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    order = [2, 1, 0, 3][:channels]
    np.testing.assert_array_equal(decoded[..., order], file.pages[0])


def test_chunks_of_a_png_are_whole(tmp_path: Path) -> None:
    """Lengths and check sums, counted here; texts stand before the pixels, where readers of headers find them."""
    write_image_file(tmp_path / "a.png", random_file(3, "uint8", alpha=False, pages=1), provenance=DRAWN)
    data, position, kinds = (tmp_path / "a.png").read_bytes(), 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        body = data[position + 4 : position + 8 + length]
        assert struct.unpack(">I", data[position + 8 + length : position + 12 + length]) == (zlib.crc32(body),)
        kinds.append(body[:4].decode())
        position += 12 + length
    assert kinds[:5] == ["IHDR", "iCCP", "iTXt", "iTXt", "iTXt"]
    assert kinds[-1] == "IEND"


def test_enlarged_photos_are_called_enhanced(tmp_path: Path) -> None:
    enlarged = Provenance(kind="enlarged", model="RealESRGAN_x4plus (sha256 4fa0d3890511)", version="9.9")
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8), provenance=enlarged)
    assert read_provenance(tmp_path / "a.png") == enlarged
    assert b"digitalsourcetype/algorithmicallyEnhanced" in (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("suffix", [".npy", ".bmp"])
def test_formats_without_room_say_so(tmp_path: Path, suffix: str) -> None:
    file = random_file(3, "uint8", alpha=False, pages=1, profile=False)
    assert write_image_file(tmp_path / f"a{suffix}", file, provenance=DRAWN) == (
        f"{suffix} cannot hold the note that the image is synthetic",
    )
    assert write_image_file(tmp_path / f"a{suffix}", file) == ()
    assert read_provenance(tmp_path / f"a{suffix}") is None


def test_a_file_says_nothing_of_when_or_where(tmp_path: Path) -> None:
    file = random_file(3, "uint8", alpha=False, pages=1)
    for name in ("a", "b"):
        for suffix in (".png", ".jpg", ".webp", ".tif"):
            write_image_file(tmp_path / name / f"x{suffix}", file, provenance=DRAWN)
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        assert (tmp_path / "a" / f"x{suffix}").read_bytes() == (tmp_path / "b" / f"x{suffix}").read_bytes()


def test_it_survives_being_saved_anew_by_others(tmp_path: Path) -> None:
    """As text of either kind in PNG, and as EXIF from JPEG to WebP."""
    plain = Provenance(kind="translated", model="facades/generator (sha256 0123456789ab)")
    picture = np.zeros((8, 8, 3), np.uint8)
    write_image(tmp_path / "a.jpg", picture, provenance=plain)
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.webp", exif=image.info["exif"])
    assert read_provenance(tmp_path / "a.webp") == plain

    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Comment", "a picture")
    texts.add_text("Description", plain.sentence)  # tEXt
    Image.fromarray(picture).save(tmp_path / "b.png", pnginfo=texts)
    assert read_provenance(tmp_path / "b.png") == plain


def test_what_others_wrote_is_no_note(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[DESCRIPTION] = "a synthetic image, drawn by a neural network"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=tags)
    (tmp_path / "damaged.jpg").write_bytes(_jpeg_with_exif(b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, 3), np.uint8))
    for name in ("a.jpg", "damaged.jpg", "a.tif"):
        assert read_provenance(tmp_path / name) is None


def _jpeg_with_exif(exif: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind: expected one of"):
        Provenance(kind="photographed", model="x")  # type: ignore[arg-type]
    for model in ("", " ", "two\nlines", "zero\0"):
        with pytest.raises(InputError, match="model: expected a line of text"):
            Provenance(kind="drawn", model=model)
    with pytest.raises(InputError, match=r"none\.png cannot be read"):
        read_provenance(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image at all")
    with pytest.raises(InputError, match=r"text\.png is no readable image"):
        read_provenance(tmp_path / "text.png")
