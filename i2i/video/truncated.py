"""Whether a video file is cut off, as interrupted downloads and recordings are.

The containers say in front how long they are: MP4 and QuickTime box by box (ISO/IEC 14496-12), Matroska and WebM in the
size of the segment (RFC 9559), AVI in the size of each RIFF chunk. MPEG transport streams say nothing.
"""

import struct
from pathlib import Path
from typing import BinaryIO

_SEGMENT = b"\x18\x53\x80\x67"
_EBML = b"\x1a\x45\xdf\xa3"
# Each comes in the top level of MP4 and QuickTime files only.
_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"wide", b"skip", b"styp", b"sidx", b"pnot")


def bytes_announced(path: Path) -> int | None:
    """How long the file should be; None where it does not say."""
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[4:8] in _BOXES:
            return max((end for _, end in _boxes(file)), default=None)
        if head.startswith(_EBML):
            return _segment_end(file)
        if head.startswith(b"RIFF") and head[8:] == b"AVI ":
            return _riff_end(file)
    return None


def lacks_index(path: Path) -> bool:
    """Whether it is an MP4 or QuickTime file without its index, or with a part of it."""
    with path.open("rb") as file:
        boxes = _boxes(file)
        size = file.seek(0, 2)
    if not boxes or boxes[0][0] not in _BOXES:
        return False
    return not any(kind == b"moov" and end <= size for kind, end in boxes)


def _boxes(file: BinaryIO) -> list[tuple[bytes, int]]:
    """Kind and end of each box of the top level."""
    size = file.seek(0, 2)
    boxes = []
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8))
        elif length == 0:  # up to the end of the file
            length = size - position
        if length < 8:
            break
        position += length
        boxes.append((kind, position))
    return boxes


def _segment_end(file: BinaryIO) -> int | None:
    file.seek(len(_EBML))
    length = _ebml_size(file)
    file.seek(length or 0, 1)
    if length is None or file.read(4) != _SEGMENT:
        return None
    length = _ebml_size(file)
    return None if length is None else file.tell() + length


def _ebml_size(file: BinaryIO) -> int | None:
    """The variable-length number that comes next; None for all ones, which stand for a size that is not known."""
    first = file.read(1)
    if first in (b"", b"\0"):
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(extra)) - (1 << 7 * (extra + 1))
    return None if value == (1 << 7 * (extra + 1)) - 1 else value


def _riff_end(file: BinaryIO) -> int:
    """Files of more than 1 GiB have several RIFF chunks, one after another."""
    end = 0
    while (head := file.read(8))[:4] == b"RIFF" and len(head) == 8:
        length = struct.unpack("<I", head[4:])[0]
        end = file.tell() + length
        file.seek(end + length % 2)
    return end
