"""Translate an image piece by piece: overlapping tiles through the network, one picture out of them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from i2i.errors import InputError


class Span(NamedTuple):
    """One tile along one axis, in input pixels: [start, stop) goes through the network, [first, last) is used."""

    start: int
    stop: int
    first: int
    last: int


class Window(NamedTuple):
    """One tile: rows and columns."""

    rows: Span
    columns: Span


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How an image is cut into tiles. All in input pixels.

    Args:
        tile_px: side of what goes through the network at once, a multiple of the network's size multiple.
        context_px: how much around the pixels that are used is computed and thrown away, for lack of neighbours.
            From the network's receptive radius on, the result is that of the whole image.
        ramp_px: width of the stripe in which two neighbours fade into each other, even; 0 cuts between them.
    """

    tile_px: int
    context_px: int
    ramp_px: int

    def spans(self, length: int, *, multiple: int) -> list[Span]:
        """Cut an axis of `length` pixels into tiles of equal length that start at multiples of `multiple`.

        Raises:
            InputError: the tile is too small for its context.
        """
        tile = self.tile_px
        if length <= tile:
            return [Span(0, length, 0, length)]
        smallest = self.smallest_px(context_px=self.context_px, ramp_px=self.ramp_px, multiple=multiple)
        if tile < smallest:
            raise InputError(
                f"tile_px: expected at least {smallest} for a context of {self.context_px} px around each tile, got "
                f"{tile}"
            )
        stride = tile - _round_up(2 * self.context_px + self.ramp_px, multiple)
        count = 1 - (tile - length) // stride
        starts = [(length - tile) * i // (count - 1) // multiple * multiple for i in range(count)]
        middles = [(left + tile + right) // 2 for left, right in pairwise(starts)]
        firsts = [0, *(middle - self.ramp_px // 2 for middle in middles)]
        lasts = [*(middle + self.ramp_px // 2 for middle in middles), length]
        return [
            Span(start, start + tile, first, last) for start, first, last in zip(starts, firsts, lasts, strict=True)
        ]

    @staticmethod
    def smallest_px(*, context_px: int, ramp_px: int, multiple: int) -> int:
        """The smallest side of a tile with such a context and ramp, for a network of this size multiple."""
        # No pixel may lie in two ramps.
        return _round_up(2 * context_px + ramp_px, multiple) + _round_up(max(1, 2 * ramp_px), multiple)

    def extra_work(self, height: int, width: int, *, multiple: int) -> float:
        """Pixels that go through the network for each pixel of the image."""
        rows, columns = self.spans(height, multiple=multiple), self.spans(width, multiple=multiple)
        computed = sum(row.stop - row.start for row in rows) * sum(column.stop - column.start for column in columns)
        return computed / (height * width)


def blend_tiles(
    run: Callable[[list[Window]], Tensor],
    write: Callable[[int, Tensor], None],
    *,
    rows: list[Span],
    columns: list[Span],
    scale: int,
    batch_size: int,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Run all tiles, row by row, and hand over the rows of the picture from top to bottom as they get ready.

    Args:
        run: takes windows of equal size, returns their translations (N, C, h · scale, w · scale), floating point.
        write: takes the number of the first output row and float32 rows (C, n, W · scale).
        rows, columns: from `Tiling.spans`.
        batch_size: how many tiles go through the network together.
        progress: told the share that is done.
    """
    width = columns[-1].stop
    carry: Tensor | None = None  # what this row of tiles has already of the next one's ramp
    for r, row in enumerate(rows):
        band: Tensor | None = None
        for start in range(0, len(columns), batch_size):
            batch = columns[start : start + batch_size]
            outputs = run([Window(row, column) for column in batch])
            if band is None:
                band = outputs.new_zeros(outputs.shape[1], (row.last - row.first) * scale, width * scale)
                band = band.to("cpu", torch.float32)
                if carry is not None:
                    band[:, : carry.shape[1]] = carry
            for column, output in zip(batch, outputs.to(band.device), strict=True):
                used = _used(output, row, scale).transpose(1, 2)
                used = _used(used, column, scale).transpose(1, 2)
                share = _fade(row, rows, scale)[:, None] * _fade(column, columns, scale)
                band[:, :, column.first * scale : column.last * scale] += used * share
            if progress is not None:
                progress((r + min(start + batch_size, len(columns)) / len(columns)) / len(rows))
        assert band is not None
        end = row.last if row is rows[-1] else rows[r + 1].first
        ready = (end - row.first) * scale
        write(row.first * scale, band[:, :ready])
        carry = band[:, ready:].clone()


def _used(output: Tensor, span: Span, scale: int) -> Tensor:
    """The part of a tile's translation (C, h, …) that is used along the first spatial axis."""
    return output[:, (span.first - span.start) * scale : (span.last - span.start) * scale]


def _fade(span: Span, spans: list[Span], scale: int) -> Tensor:
    """How much of each output pixel of a tile counts: two neighbours' shares add up to one everywhere."""
    share = torch.ones((span.last - span.first) * scale)
    position = spans.index(span)
    if position > 0:
        ramp = _ramp(spans[position - 1].last - span.first, scale)
        share[: len(ramp)] *= ramp
    if position < len(spans) - 1:
        ramp = _ramp(span.last - spans[position + 1].first, scale)
        share[len(share) - len(ramp) :] *= 1 - ramp
    return share


def _round_up(length: int, multiple: int) -> int:
    return length + -length % multiple


def _ramp(width: int, scale: int) -> Tensor:
    return (torch.arange(width * scale) + 0.5) / max(1, width * scale)
