"""PNG at its full depth, 8 or 16 bit, with its colour profile, transparency and orientation.

Source: Portable Network Graphics, third edition (W3C 2025). The codec decodes and encodes the pixels; the chunks that
say how to see them are read and written here.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from i2i.data.pixels import ImageFile, ImageHeader, check_claim, header_of, orientation_in, upright
from i2i.data.provenance import Provenance, in_words
from i2i.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # the signature, then IHDR's length, kind, 13 bytes and check sum
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; 3 is a palette, which becomes RGB
_MOST_DEFLATED = 1032  # bytes that deflate can pack into one
_LARGEST_PROFILE = 1 << 24  # bytes
_LONGEST_TEXT = 1 << 16  # bytes


@dataclass(frozen=True, kw_only=True)
class _Chunks:
    """What the chunks say about the pixels."""

    height: int
    width: int
    bits: int
    colour_type: int
    transparent: bool  # has tRNS: a transparent colour, or an alpha for each colour of the palette
    orientation: int
    icc_profile: bytes | None

    @property
    def header(self) -> ImageHeader:
        shape = (self.height, self.width, _CHANNELS[self.colour_type] + self.transparent)
        return header_of(shape, np.dtype("uint16" if self.bits == 16 else "uint8"), orientation=self.orientation)


def read_png_header(path: Path) -> ImageHeader:
    """See `i2i.data.image_io.read_header`."""
    return _read_chunks(path).header


def read_png(path: Path, *, labels: bool = False) -> ImageFile:
    """See `i2i.data.image_io.read_image_file`. Grey with transparency has two channels."""
    import imagecodecs

    chunks = _read_chunks(path)
    if labels and chunks.colour_type in (0, 3):
        numbers = imagecodecs.png_decode(_as_grey(path, chunks))
        if chunks.bits < 8:
            numbers //= 255 // (2**chunks.bits - 1)  # the decoder stretches them to 0–255
        return ImageFile(pages=(upright(numbers[..., None], chunks.orientation),))
    pixels = imagecodecs.png_decode(_for_decoder(path))
    notes = []
    if chunks.colour_type == 3:
        notes.append("palette became RGB")
    elif chunks.bits < 8:
        notes.append(f"{chunks.bits} bit became 8 bit")
    return ImageFile(
        pages=(upright(pixels.reshape(*pixels.shape[:2], -1), chunks.orientation),),
        alpha=chunks.transparent or chunks.colour_type in (4, 6),
        icc_profile=chunks.icc_profile,
        notes=tuple(notes),
    )


def write_png(path: Path, image: np.ndarray, *, icc_profile: bytes | None, provenance: Provenance | None) -> None:
    """Write (H, W, C), uint8 or uint16; C of 1, 2 (grey, alpha), 3 or 4 (RGB, alpha)."""
    import imagecodecs

    height, width, channels = image.shape
    raw = height * (1 + width * channels * image.itemsize)
    # The codec's own guess forgets that each row has a byte for its filter; noise grows a little when deflated.
    data = imagecodecs.png_encode(image, level=3, out=raw + raw // 256 + 4096)
    with path.open("wb") as file:
        file.write(data[:_HEADER_END])
        if icc_profile:
            file.write(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
        if provenance:
            for keyword, text in provenance.texts.items():
                file.write(_text(keyword, text))
        file.write(memoryview(data)[_HEADER_END:])


def read_png_provenance(path: Path) -> Provenance | None:
    """See `i2i.data.image_io.read_provenance`."""
    with path.open("rb") as file:
        for kind, length in _walk(file):
            if kind in (b"tEXt", b"iTXt") and length < _LONGEST_TEXT:
                found = in_words(_text_in(kind, file.read(length)))
                if found:
                    return found
    return None


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _text(keyword: str, text: str) -> bytes:
    """A chunk of text in any letters: the keyword, no compression, no language, no translation, UTF-8."""
    return _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode())


def _text_in(kind: bytes, data: bytes) -> str:
    """What a chunk of text says; nothing where it is deflated, as only long ones are."""
    _, _, text = data.partition(b"\0")
    if kind == b"tEXt":
        return text.decode("latin-1")
    deflated, rest = text[:1] != b"\0", text[2:].split(b"\0", 2)
    return "" if deflated or len(rest) < 3 else rest[2].decode("utf-8", "replace")


def _read_chunks(path: Path) -> _Chunks:
    small: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        for kind, length in _walk(file):
            if kind in (b"IHDR", b"tRNS", b"acTL", b"eXIf", b"iCCP"):
                small[kind] = file.read(length)
    width, height, bits, colour_type = struct.unpack(">IIBB", small[b"IHDR"][:10])
    if b"acTL" in small:
        frames = int.from_bytes(small[b"acTL"][:4])
        raise InputError(f"expected one image, got an animation of {frames} frames; save each as a file of its own")
    channels = 1 if colour_type == 3 else _CHANNELS[colour_type]
    check_claim(height * (width * bits * channels // 8), held=path.stat().st_size, expansion=_MOST_DEFLATED)
    return _Chunks(
        height=height,
        width=width,
        bits=bits,
        colour_type=colour_type,
        transparent=b"tRNS" in small and colour_type in (0, 2, 3),
        orientation=orientation_in(small.get(b"eXIf")),
        icc_profile=_profile(small[b"iCCP"]) if b"iCCP" in small else None,
    )


def _for_decoder(path: Path) -> bytearray:
    """The file without what only describes its pixels: the decoder prints warnings about damage there to stderr."""
    kept = bytearray(_SIGNATURE)
    with path.open("rb") as file:
        for kind, length in _walk(file):
            if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
                file.seek(-8, os.SEEK_CUR)
                kept += file.read(length + 12)
    return kept


def _as_grey(path: Path, chunks: _Chunks) -> bytearray:
    """The file as one of grey without transparency, whose numbers are a palette's indices."""
    kept = bytearray(_SIGNATURE)
    header = struct.pack(">IIBB", chunks.width, chunks.height, chunks.bits, 0)
    with path.open("rb") as file:
        for kind, length in _walk(file):
            if kind in (b"IHDR", b"IDAT", b"IEND"):
                data = file.read(length)
                data = header + data[10:] if kind == b"IHDR" else data
                kept += _chunk(kind, data)
    return kept


def _walk(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of every chunk, with the file at its data; the end mark must come."""
    position = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        file.seek(position)
        start = file.read(8)
        if len(start) < 8:
            raise InputError("the PNG is truncated; replace or remove the file")
        length, kind = struct.unpack(">I4s", start)
        yield kind, length
        position += 8 + length + 4


def _profile(chunk: bytes) -> bytes:
    """The profile in an iCCP chunk: a name that ends in 0, the method 0, deflated bytes."""
    deflated = chunk[chunk.index(0) + 2 :]
    return zlib.decompressobj().decompress(deflated, _LARGEST_PROFILE)
