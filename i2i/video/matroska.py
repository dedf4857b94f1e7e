"""The display size in Matroska and WebM files, which PyAV cannot ask FFmpeg to write.

Source: RFC 8794 (EBML) and RFC 9559 (Matroska). An element is a number that says which, its size, and its data.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEADER, _SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_TRACK_NUMBER, _NAME, _VOID = 0xD7, 0x536E, 0xEC
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_PX, _RATIO = 0, 3  # units
_TRACKS_BEGIN_WITHIN = 2**16  # bytes

# To be put at the end of the track's title, so that there is room.
PADDING = " " * 32


class _Element(NamedTuple):
    """Where an element lies: from `begin` to `end`, with its data from `data` on."""

    kind: int
    begin: int
    data: int
    end: int


def set_display_size(path: Path, *, track: int, width: int, height: int, ratio: bool = False) -> None:
    """Say at what size a track is displayed, in a file that is otherwise complete.

    The file keeps its length: the size takes the place of the padding.

    Args:
        path: the file, written without check sums.
        track: its number, from 1.
        width, height: in px.
        ratio: they are no sizes, and only stand in the right ratio to each other.
    """
    with path.open("r+b") as file:
        head = file.read(_TRACKS_BEGIN_WITHIN)
        segment = next(element for element in _elements(head, 0, len(head)) if element.kind == _SEGMENT)
        tracks = next(element for element in _elements(head, segment.data, len(head)) if element.kind == _TRACKS)
        file.seek(0)
        head = file.read(tracks.end)
        for entry in _elements(head, tracks.data, tracks.end):
            if entry.kind == _TRACK and _number(head, entry) == track:
                file.seek(entry.begin)
                file.write(_with_display_size(head, entry, (width, height), unit=_RATIO if ratio else _PX))


def _with_display_size(head: bytes, entry: _Element, size: tuple[int, int], *, unit: int) -> bytes:
    """The same track with a display size and without padding, and as long."""
    body = b""
    for element in _elements(head, entry.data, entry.end):
        data = head[element.data : element.end]
        if element.kind == _VIDEO:
            kept = [part for part in _elements(head, element.data, element.end) if part.kind != _DISPLAY_UNIT]
            data = b"".join(head[part.begin : part.end] for part in kept)
            data += b"".join(
                _element(kind, value.to_bytes(4))
                for kind, value in ((_DISPLAY_WIDTH, size[0]), (_DISPLAY_HEIGHT, size[1]), (_DISPLAY_UNIT, unit))
                if (kind, value) != (_DISPLAY_UNIT, _PX)  # which goes without saying
            )
        elif element.kind == _NAME:
            data = data.removesuffix(PADDING.encode())
        if element.kind != _VOID and (data or element.kind != _NAME):
            body += _element(element.kind, data)
    empty = len(_element(_TRACK, body + _element(_VOID, b"", size_bytes=8), size_bytes=8))
    void = _element(_VOID, bytes(entry.end - entry.begin - empty), size_bytes=8)
    return _element(_TRACK, body + void, size_bytes=8)


def _elements(data: bytes, begin: int, end: int) -> Iterator[_Element]:
    """Those that follow one another from `begin` to `end`, as far as they begin in `data`."""
    while begin < min(end, len(data)):
        kind_bytes = 9 - data[begin].bit_length()
        kind = int.from_bytes(data[begin : begin + kind_bytes])
        place = begin + kind_bytes
        size_bytes = 9 - data[place].bit_length()
        size = int.from_bytes(data[place : place + size_bytes]) - (1 << 7 * size_bytes)
        yield _Element(kind, begin, place + size_bytes, place + size_bytes + size)
        begin = place + size_bytes + size


def _element(kind: int, data: bytes, *, size_bytes: int | None = None) -> bytes:
    size_bytes = size_bytes or next(count for count in range(1, 9) if len(data) < (1 << 7 * count) - 1)
    return kind.to_bytes((kind.bit_length() + 7) // 8) + (len(data) + (1 << 7 * size_bytes)).to_bytes(size_bytes) + data


def _number(head: bytes, entry: _Element) -> int:
    (number,) = (part for part in _elements(head, entry.data, entry.end) if part.kind == _TRACK_NUMBER)
    return int.from_bytes(head[number.data : number.end])
