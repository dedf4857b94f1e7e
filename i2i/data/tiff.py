"""TIFF of any depth, any number of channels and pages, in any of the layouts that instruments and editors write.

Source: TIFF 6.0 (Adobe 1992) and its technical notes; BigTIFF, ImageJ and OME-TIFF through tifffile.
"""

import logging
import math
import mmap
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from i2i.data.pixels import (
    ImageFile,
    ImageHeader,
    as_image,
    check_claim,
    cmyk_to_rgb,
    dtype_notes,
    header_of,
    upright,
)
from i2i.data.provenance import Provenance, in_words
from i2i.errors import InputError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# Without a handler Python prints tifffile's warnings to stderr; a person's own handlers still get them.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_MOST_COMPRESSED = 40_000  # bytes that one can become, in zstd of an even area
_LARGEST_CLASSIC = 2**32 - 2**25  # bytes; offsets are of 32 bits, and some are needed beside the pixels
_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of ExtraSamples
_XMP, _BYTE = 700, 1  # a tag (Adobe, XMP Specification Part 3) and its type
# tifffile's decoders for these read beyond their memory where data are damaged.
_THROUGH_LIBTIFF = frozenset({"LZW", "JPEG"})
_THROUGH_TIFFFILE = frozenset(
    {"NONE", "CCITTRLE", "CCITTFAX3", "CCITTFAX4", "ADOBE_DEFLATE", "DEFLATE", "LZMA", "ZSTD", "PACKBITS", "WEBP"}
    | {"JPEG2000", "APERIO_JP2000_YCBC", "APERIO_JP2000_RGB", "LERC", "JPEGXL"}
)
# Whose further series are labels, thumbnails and the like, not pages.
_SLIDE_SCANNERS = ("svs", "ndpi", "scn", "bif", "avs", "philips", "qpi", "lsm")


def read_tiff_header(path: Path) -> ImageHeader:
    """See `i2i.data.image_io.read_header`.

    Raises:
        InputError: also where the file has several pages.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        images = _images(file)
        # No memory is taken for these pixels, which are all the same one.
        pages = [
            (page, image)
            for image in images
            for page in _split(np.broadcast_to(np.zeros((), image.dtype), image.shape), image.axes)
        ]
        check_one_page(pages)
        [(page, image)] = pages
        seen, _ = _as_seen(page[:1, :1], image.keyframe, None)
        return header_of(
            (*page.shape[:2], seen.shape[2]), seen.dtype, orientation=image.keyframe.tags.valueof("Orientation", 1)
        )


def read_tiff(path: Path, *, labels: bool = False) -> ImageFile:
    """See `i2i.data.image_io.read_image_file`.

    Pages are the IFDs of the file, and the axes of ImageJ and OME that are neither image nor channels; channels are
    the samples of a pixel and axes named C. Overviews, thumbnails and masks are not read. Where an array was
    stored without naming its axes, a third axis is the channels if it is the shortest, else the pages.
    Fewer than 8 bits are stretched to 0–255.
    """
    import tifffile

    pages: list[np.ndarray] = []
    notes: dict[str, None] = {}  # as an ordered set: what holds for each page is said once
    with tifffile.TiffFile(path) as file:
        images = _images(file)
        profile = images[0].keyframe.tags.valueof("InterColorProfile")
        for image in images:
            keyframe = image.keyframe
            for page in _split(_decode(image), image.axes):
                if labels:
                    pages.append(upright(page, keyframe.tags.valueof("Orientation", 1)))
                    continue
                seen, what = _as_seen(page, keyframe, profile)
                notes.update(dict.fromkeys([*what, *dtype_notes(seen.dtype)]))
                pages.append(as_image(upright(seen, keyframe.tags.valueof("Orientation", 1))))
        if images[0].keyframe.photometric.name == "SEPARATED":
            profile = None
        alpha = all(_has_alpha(image.keyframe) for image in images)
    return ImageFile(pages=tuple(pages), alpha=alpha, icc_profile=profile, notes=tuple(notes))


def write_tiff(path: Path, image: ImageFile, *, icc_profile: bytes | None, provenance: Provenance | None) -> None:
    """Write pages (H, W, C) of any depth, one IFD each, losslessly compressed; BigTIFF where they need it."""
    import tifffile

    packet = provenance.xmp.encode() if provenance else b""
    size = sum(page.nbytes for page in image.pages)
    with tifffile.TiffWriter(path, bigtiff=size > _LARGEST_CLASSIC) as file:
        for page in image.pages:
            channels = page.shape[2]
            rgb = channels - image.alpha == 3
            unspecified = channels - (3 if rgb else 1) - image.alpha
            file.write(
                page if channels > 1 else page[..., 0],
                photometric="rgb" if rgb else "minisblack",
                planarconfig="contig" if channels > 1 else None,
                extrasamples=["unspecified"] * unspecified + ["unassalpha"] * image.alpha or None,
                compression="zlib",
                predictor=True,
                iccprofile=icc_profile,
                software=provenance.software if provenance else False,  # None would name tifffile
                description=provenance.sentence.encode() if provenance else None,
                extratags=[(_XMP, _BYTE, len(packet), packet, False)] if provenance else None,
                metadata=None,  # with it, readers would take the pages for one array
            )


def read_tiff_provenance(path: Path) -> Provenance | None:
    """See `i2i.data.image_io.read_provenance`."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        return in_words(file.pages.first.description)


def check_one_page(pages: Iterable[object]) -> None:
    """Raises InputError where there are several."""
    count = len(tuple(pages))
    if count > 1:
        raise InputError(
            f"expected one image, got several: {count} pages; read_image_file and i2i translate take them all"
        )


def _images(file: "TiffFile") -> "list[TiffPage | TiffPageSeries]":
    """What the file holds to be seen, in order; each has keyframe, shape, axes, dtype and asarray."""
    file.is_uniform = False  # or tifffile takes the first, second, eighth and last page for all
    len(file.pages)  # finds where directories lead in a circle, in which `series` would go round without end
    series, size = file.series, file.filehandle.size
    kind = series[0].kind if series else "generic"
    if kind in ("generic", "uniform"):
        # tifffile would sort IFDs by shape, and take a page of half the size for an overview.
        found = [file.pages.get(index) for index in range(len(file.pages))]
    else:
        found = series[:1] if kind in _SLIDE_SCANNERS else series
    for image in found:
        _check_readable(image)
    full = [image for image in found if not (image.keyframe.is_reduced or image.keyframe.is_mask)]
    images = full or found
    if not images:
        raise InputError("the TIFF holds no image; replace or remove the file")
    claimed = sum(math.prod(image.shape) * image.dtype.itemsize for image in images)
    check_claim(claimed, held=size, expansion=_MOST_COMPRESSED)
    return images


def _directories(image: "TiffPage | TiffPageSeries") -> "Sequence[TiffPage]":
    """The IFDs that an image lies in, which may be of several files."""
    import tifffile

    directories = image.pages if isinstance(image, tifffile.TiffPageSeries) else [image]
    if None in directories:
        raise InputError("planes that the TIFF speaks of are not in it; put its other files beside it")
    return directories


def _check_readable(image: "TiffPage | TiffPageSeries") -> None:
    compression = image.keyframe.compression.name
    if compression not in _THROUGH_LIBTIFF | _THROUGH_TIFFFILE:
        raise InputError(f"its compression {compression} is not read; save the file with another one")
    segments, page_bytes = math.prod(image.keyframe.chunked), image.keyframe.nbytes
    for directory in _directories(image):
        ends = map(operator.add, directory.dataoffsets, directory.databytecounts)
        beyond_the_end = max(ends, default=0) > directory.parent.filehandle.size
        # tifffile would fill what is not there with zeros.
        too_few = len(directory.dataoffsets) < segments and sum(directory.databytecounts) < page_bytes
        if beyond_the_end or too_few:
            raise InputError("the TIFF is truncated; replace or remove the file")


def _decode(image: "TiffPage | TiffPageSeries") -> np.ndarray:
    """The pixels as they are stored, of the image's shape and axes."""
    if image.keyframe.compression.name in _THROUGH_TIFFFILE:
        return image.asarray()
    pages = [_decode_with_libtiff(directory) for directory in _directories(image)]
    return (pages[0] if len(pages) == 1 else np.stack(pages)).reshape(image.shape)


def _decode_with_libtiff(directory: "TiffPage") -> np.ndarray:
    import imagecodecs

    with (
        Path(directory.parent.filehandle.path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        pixels = imagecodecs.tiff_decode(data, index=directory.index)
    # Planes of JPEG come interleaved, all others as they are stored.
    planes = directory.compression.name == "JPEG" and directory.axes == "SYX"
    return np.moveaxis(pixels, -1, 0) if planes else pixels


def _split(array: np.ndarray, axes: str) -> np.ndarray:
    """An array whose axes have names to pages (N, H, W, C)."""
    if len(axes) == 3 and axes.count("Q") == 1 and not set(axes) & set("CS"):
        *shorter, longer = sorted(array.shape)
        if shorter[0] < shorter[1] <= longer:
            return np.moveaxis(array, int(np.argmin(array.shape)), -1)[None]
    if not {"Y", "X"} <= set(axes):
        raise InputError(f"expected an image with axes Y and X, got {axes} of shape {array.shape}; convert the file")
    channels = [axis for axis, name in enumerate(axes) if name in "CS"]
    pages = [axis for axis, name in enumerate(axes) if name not in "CSYX"]
    order = [*pages, axes.index("Y"), axes.index("X"), *channels]
    height, width = (array.shape[axes.index(name)] for name in "YX")
    count = math.prod(array.shape[axis] for axis in pages)
    return array.transpose(order).reshape(count, height, width, -1)


def _as_seen(page: np.ndarray, keyframe: "TiffPage", profile: bytes | None) -> tuple[np.ndarray, list[str]]:
    """Numbers in the file (H, W, C) to grey or RGB with straight alpha, and what was done, in words."""
    notes = []
    bits = keyframe.bitspersample
    match keyframe.photometric.name:
        case "PALETTE":
            colours = keyframe.colormap.T
            # Some writers fill only the low byte of what should be 16 bits.
            colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
            return colours[page[..., 0]], ["palette became RGB"]
        case "MINISWHITE" if page.dtype.kind in "bu":
            page = ~page if page.dtype.kind == "b" else (2**bits - 1) - page
            notes.append("grey stored as darkness became brightness")
        case "SEPARATED" if page.shape[2] - len(keyframe.extrasamples) == 4:
            rgb, note = cmyk_to_rgb(np.ascontiguousarray(page[..., :4]), profile)
            page = np.concatenate([rgb, page[..., 4:]], axis=2)
            notes.append(note)
        case "CIELAB" | "ICCLAB" | "ITULAB" as space:
            raise InputError(f"expected grey, RGB, a palette or CMYK, got {space}; convert the file to RGB")
        case "YCBCR" if "JPEG" not in keyframe.compression.name:
            raise InputError("its YCbCr colours are not JPEG-compressed, which cannot be read; convert it to RGB")
    if bits in (1, 2, 4):
        notes.append(f"{bits} bit became 8 bit")
        if page.dtype.kind == "u":
            page = page * np.uint8(255 // (2**bits - 1))
    if keyframe.extrasamples and keyframe.extrasamples[-1] == _ASSOCIATED:
        page = _straight(page)
        notes.append("colours multiplied by alpha were divided by it")
    return page, notes


def _has_alpha(keyframe: "TiffPage") -> bool:
    return bool(keyframe.extrasamples) and keyframe.extrasamples[-1] in (_ASSOCIATED, _UNASSOCIATED)


def _straight(image: np.ndarray) -> np.ndarray:
    """Undo the multiplication of (H, W, C) by its last channel; where that is 0 the colours stay as they are."""
    integers = image.dtype.kind in "iu"
    full = np.iinfo(image.dtype).max if integers else 1
    alpha = image[..., -1:].astype(np.float32)
    colours = image[..., :-1] * np.divide(full, alpha, out=np.ones_like(alpha), where=alpha > 0)
    if integers:
        colours = np.rint(colours).clip(0, full)
    return np.concatenate([colours.astype(image.dtype), image[..., -1:]], axis=2)
