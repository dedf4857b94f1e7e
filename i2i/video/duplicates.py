"""Frames, and parts of frames, that stay as they were: computed once and used again.

`Planner` says for each frame what the network must compute, `Assembler` makes the frame's result of it; between the
two, frames may be computed in any order and by several workers.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from i2i.errors import InputError
from i2i.inference.tiling import Span, Window

# How finely it is told what changed.
CELL_PX = 4
# Of windows around what changed. Smaller ones would be mostly context, and torch computes images of less than some 83
# px square on a CPU in another way than larger ones, with another rounding.
SIDES_PX = (96, 128, 192, 256, 384, 512, 768, 1024)
# A whole frame is one call; windows must leave less than this share of its pixels.
WORTHWHILE = 0.7

Enlarge = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What is to be computed for a frame.

    Attributes:
        image: the frame, (H, W, C) uint8 or uint16.
        windows: parts of it, of one size, up to where the frame ends; one that is the whole frame; or none, where the
            last result is used again.
    """

    image: np.ndarray
    windows: tuple[Window, ...]

    @property
    def crops(self) -> list[np.ndarray]:
        """What goes through the network, in the order in which `Assembler.assemble` takes the results."""
        return [_crop(self.image, window) for window in self.windows]

    @property
    def whole(self) -> bool:
        """Whether the frame is to be computed whole."""
        return any(_pixels(window) == math.prod(self.image.shape[:2]) for window in self.windows)

    @property
    def computed_px(self) -> int:
        """Input pixels that go through the network."""
        return sum(map(_pixels, self.windows))


@dataclass(kw_only=True)
class Reuse:
    """What was saved.

    Attributes:
        frames: planned so far.
        repeated: frames of which nothing was computed.
        in_parts: frames of which only parts were computed.
        frames_px: input pixels of all frames.
        computed_px: input pixels that went through the network, those of checks among them.
    """

    frames: int = 0
    repeated: int = 0
    in_parts: int = 0
    frames_px: int = 0
    computed_px: int = 0

    @property
    def share_saved(self) -> float:
        """Of the network's work; below 0 where checks took more than they saved."""
        return 1 - self.computed_px / self.frames_px if self.frames_px else 0.0

    def __str__(self) -> str:
        return (
            f"{self.share_saved:.0%} of the network's work saved: of {self.frames} frames {self.repeated} repeated the "
            f"one before, and {self.in_parts} were computed in parts"
        )


class Planner:
    """Says for each frame what must be computed, given the frames before it.

    An output pixel is computed anew if anything within the network's reach of it has changed. A network may round
    otherwise in a window than in the whole frame, for its convolutions are done in another order. So before the first
    use of a size of windows, the corners of a frame of noise are computed alone and whole, and only a size whose
    results agree is ever used.

    Agreement holds for calls with one image each, as the check makes them. On accelerators, where results depend on
    what else is in the batch, the check proves little: leave `reach_px` None there, unless the threshold allows for it.

    Args:
        enlarge: the network on one image, (H, W, C) uint8 or uint16 → (scale · H, scale · W, C') of the same dtype,
            on the device and in the way in which plans are computed. Called for checks, in the thread that plans.
        reach_px: how far at most an output pixel looks beyond the input pixel that it lies in, in input pixels
            (`i2i.inference.graph.receptive_radius`, and what is done besides). None: frames are repeated whole or not
            at all.
        size_multiple: windows begin at multiples of it, in pixels; the network's.
        threshold: the largest difference of a value that counts as unchanged, in levels of 8 bits (257 levels of
            uint16). The difference is to whatever the result in use was computed from, so that slow changes do not
            go unnoticed; and results in windows may differ as much from whole ones. 0: results are those of computing
            every frame whole, bit for bit.
        check_after: a size of windows is checked once it would have saved the work of so many whole frames; until then
            frames are computed whole. A check takes that of two to four, and nothing else is planned meanwhile.

    Attributes:
        reuse: what was saved so far.

    Raises:
        InputError: the threshold is no number from 0 to 255.
    """

    def __init__(
        self,
        *,
        enlarge: Enlarge,
        reach_px: int | None,
        size_multiple: int = 1,
        threshold: float = 0.0,
        check_after: float = 0.0,
    ) -> None:
        if not 0 <= threshold < 255:
            raise InputError(
                f"threshold: expected levels of 8 bits, from 0 (exact) to below 255 (mostly 1 to 4), got {threshold}"
            )
        self.reuse = Reuse()
        self._enlarge = enlarge
        self._reach_px = reach_px
        self._size_multiple = size_multiple
        self._threshold = threshold
        self._used: _Used | None = None
        self._check_after = check_after
        self._agreements: dict[tuple[tuple[int, ...], np.dtype, int], bool] = {}
        self._missed_px: Counter[tuple[tuple[int, ...], np.dtype, int]] = Counter()

    def forget(self) -> None:
        """Compute the next frame whole, as the first of a segment whose result depends on no other."""
        self._used = None

    def plan(self, image: np.ndarray) -> Plan:
        """Say what must be computed for the next frame.

        Args:
            image: (H, W, C) uint8 or uint16; kept, so that it may not be written to afterwards.
        """
        whole = (Window(*(Span(0, length, 0, length) for length in image.shape[:2])),)
        used = self._used
        if used is None or (used.lowest.shape, used.lowest.dtype) != (image.shape, image.dtype):
            windows: tuple[Window, ...] = whole
        else:
            changed = _changed_cells(image, used, most=self._threshold * _level(image.dtype))
            windows = (self._find_windows(image, changed) or whole) if changed.any() else ()
        plan = Plan(image=image, windows=windows)
        self._remember(plan)
        self.reuse.frames += 1
        self.reuse.repeated += not windows
        self.reuse.in_parts += bool(windows) and not plan.whole
        self.reuse.frames_px += math.prod(image.shape[:2])
        self.reuse.computed_px += plan.computed_px
        return plan

    def _find_windows(self, image: np.ndarray, changed: np.ndarray) -> tuple[Window, ...] | None:
        """The windows with the fewest pixels that show all that becomes of the changed cells."""
        if self._reach_px is None:
            return None
        reach_cells = -(-self._reach_px // CELL_PX)
        affected = cv2.dilate(changed.astype(np.uint8), np.ones((2 * reach_cells + 1,) * 2, np.uint8)).astype(bool)
        most_px = int(WORTHWHILE * math.prod(image.shape[:2]))
        found = []
        for side in (_round_up(side, self._size_multiple) for side in SIDES_PX):
            if side > 4 * self._reach_px + self._size_multiple:
                windows = self._cover(affected, side, image.shape[:2], most_px=most_px)
                found += [(sum(map(_pixels, windows)), side, windows)] if windows else []
        whole_px = math.prod(image.shape[:2])
        return next(
            (windows for px, side, windows in sorted(found) if self._agrees(image, side, saved_px=whole_px - px)), None
        )

    def _cover(
        self, affected: np.ndarray, side: int, size: tuple[int, ...], *, most_px: int
    ) -> tuple[Window, ...] | None:
        """Windows whose used parts hold all affected cells, laid from the top and from the left; None if too many."""
        height, width = size
        rest, windows, total_px = affected.copy(), [], 0
        while rest.any():
            rows = self._place(int(rest.any(axis=1).argmax()) * CELL_PX, side, height)
            band = rest[_cells(rows, height)]
            columns = self._place(int(band.any(axis=0).argmax()) * CELL_PX, side, width)
            band[:, _cells(columns, width)] = False
            windows.append(Window(rows, columns))
            total_px += _pixels(windows[-1])
            if total_px > most_px:
                return None
        return tuple(windows)

    def _place(self, first: int, side: int, length: int) -> Span:
        """The span of `side` px along an axis of `length` px whose used part begins at `first`, or a little before."""
        assert self._reach_px is not None
        # The frame is padded inside to a multiple; a span that ends with it is cut off there and padded alike.
        latest = max(0, _round_up(length, self._size_multiple) - side)
        start = min(max(0, first - self._reach_px) // self._size_multiple * self._size_multiple, latest)
        stop = start + side
        first = start + self._reach_px if start > 0 else 0
        return Span(start, min(stop, length), first, stop - self._reach_px if stop < length else length)

    def _agrees(self, image: np.ndarray, side: int, *, saved_px: int) -> bool:
        """Whether windows of this side, by which so much would be saved, are known to give what the frame gives."""
        key = (image.shape, image.dtype, side)
        if key not in self._agreements:
            self._missed_px[key] += saved_px
            if self._missed_px[key] < self._check_after * math.prod(image.shape[:2]):
                return False
            self._agreements[key] = self._check(image.shape, image.dtype, side)
        return self._agreements[key]

    def _check(self, shape: tuple[int, ...], dtype: np.dtype, side: int) -> bool:
        height, width = shape[:2]
        corners = (
            Window(self._place(0, side, height), self._place(0, side, width)),
            Window(self._place(height, side, height), self._place(width, side, width)),
        )
        # In the frames' own dtype, which may decide on the network's precision; and in 16 bits, which show what 8
        # would in one of a million values.
        for kind in {dtype, np.dtype(np.uint16)}:
            noise = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
            result = self._enlarge(noise)
            scale, rest = divmod(result.shape[0], height)
            self.reuse.computed_px += height * width + sum(map(_pixels, corners))
            if rest or result.shape[1] != scale * width:
                return False
            for window in corners:
                part = self._enlarge(_crop(noise, window))
                if part.shape[:2] != tuple(scale * (span.stop - span.start) for span in window):
                    return False
                expected, got = _used_part(result, window, scale), _inner_part(part, window, scale)
                if cv2.norm(expected, got, cv2.NORM_INF) > self._threshold * _level(kind):
                    return False
        return True

    def _remember(self, plan: Plan) -> None:
        """What the result in use is computed from, from now on."""
        if self._used is None or plan.whole or (plan.windows and self._threshold == 0):
            self._used = _Used(plan.image, plan.image)
        elif plan.windows:
            assert self._reach_px is not None
            self._used = self._used.replaced(plan, reach_px=self._reach_px)


class Assembler:
    """Makes each frame's result of what was computed for it; takes the plans in the order of the frames."""

    def __init__(self) -> None:
        self._result: np.ndarray | None = None

    def assemble(self, plan: Plan, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The frame's result.

        Args:
            plan: the next frame's.
            parts: results of `plan.crops`, each (scale · h, scale · w, C).

        Returns:
            (scale · H, scale · W, C): the very array of the frame before where nothing was computed; not to be
            written to.
        """
        if plan.whole:
            self._result = parts[0]
        elif plan.windows:
            assert self._result is not None, "the first plan is of a whole frame"
            scale = self._result.shape[0] // plan.image.shape[0]
            self._result = self._result.copy()  # the one before may still be being written
            for window, part in zip(plan.windows, parts, strict=True):
                _used_part(self._result, window, scale)[...] = _inner_part(part, window, scale)
        assert self._result is not None, "the first plan is of a whole frame"
        return self._result


class _Used(NamedTuple):
    """The range of what each value was in the inputs that the result in use was computed from; one object if equal.

    A value lies in the reach of many results, and not all of them are computed anew together.
    """

    lowest: np.ndarray
    highest: np.ndarray

    def replaced(self, plan: Plan, *, reach_px: int) -> "_Used":
        """The range after the plan's windows were computed."""
        image, lowest, highest = plan.image, self.lowest.copy(), self.highest.copy()
        anew = np.zeros(image.shape[:2], np.uint8)
        for window in plan.windows:
            seen, least, most = _crop(image, window), _crop(lowest, window), _crop(highest, window)
            np.minimum(least, seen, out=least)
            np.maximum(most, seen, out=most)
            _used_part(anew, window, 1)[...] = 1
        # Values of which no result from before is left; beyond the frame's border there is none.
        settled = cv2.erode(anew, np.ones((2 * reach_px + 1,) * 2, np.uint8))
        return _Used(cv2.copyTo(image, settled, lowest), cv2.copyTo(image, settled, highest))


def _changed_cells(image: np.ndarray, used: _Used, *, most: float) -> np.ndarray:
    """Which cells of CELL_PX square hold a value that differs by more than `most`: bool (⌈H / CELL_PX⌉, …)."""
    difference = cv2.absdiff(image, used.lowest)
    if used.highest is not used.lowest:
        difference = cv2.max(difference, cv2.absdiff(image, used.highest))
    channels = image.shape[2]
    same = cv2.inRange(difference, (0,) * channels, (math.floor(most),) * channels)
    # From here on to the right and down, so that every CELL_PX-th value is a cell's least; also at the border.
    return cv2.erode(same, np.ones((CELL_PX, CELL_PX), np.uint8), anchor=(0, 0))[::CELL_PX, ::CELL_PX] == 0


def _cells(span: Span, length: int) -> slice:
    """The cells that lie in the used part of a span."""
    return slice(-(-span.first // CELL_PX), None if span.last == length else span.last // CELL_PX)


def _level(dtype: np.dtype) -> int:
    """A level of 8 bits."""
    return int(np.iinfo(dtype).max) // 255


def _pixels(window: Window) -> int:
    """What goes through the network."""
    return math.prod(span.stop - span.start for span in window)


def _crop(image: np.ndarray, window: Window) -> np.ndarray:
    rows, columns = window
    return image[rows.start : rows.stop, columns.start : columns.stop]


def _used_part(result: np.ndarray, window: Window, scale: int) -> np.ndarray:
    """The place of a window's results in those of the frame."""
    rows, columns = window
    return result[rows.first * scale : rows.last * scale, columns.first * scale : columns.last * scale]


def _inner_part(part: np.ndarray, window: Window, scale: int) -> np.ndarray:
    """A window's results without those for which context lacks."""
    (top, _, first_row, last_row), (left, _, first_column, last_column) = window
    return part[
        (first_row - top) * scale : (last_row - top) * scale,
        (first_column - left) * scale : (last_column - left) * scale,
    ]


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
