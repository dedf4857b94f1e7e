"""Less flicker where nothing moves: enlarged frames are averaged over time wherever the source stands still."""

from typing import NamedTuple

import cv2
import numpy as np

# Differences of the smoothed source, in levels of 255: up to the first is noise, from the second on something moves.
# Chosen on a photograph with noise of 2 to 4 levels, as it is and from x264 at CRF 20 and 26, before which something
# passes; on pans of 0.05 to 0.6 px a frame; and on two hand-held clips.
STILL = 2.0
MOVES = 6.0
_NEAR_PX = 7  # side of the square around a pixel of the source in which nothing may move


class _Moment(NamedTuple):
    source: np.ndarray  # (h, w, 3) float32, smoothed, in levels of 255
    result: np.ndarray


class Stabiliser:
    """Steadies enlarged frames: each becomes a weighted mean of itself and the `REACH` ones on either side.

    The weight of another frame at a pixel says how surely the source stands still around it from that frame to this
    one; where anything moves, flashes or changes it is 0 and the frame stays as it is, bit for bit. A result follows
    from the frames within `REACH` alone, so that a part of a video, read with so many frames more on either side, comes
    out as it does within the whole.

    Attributes:
        REACH: frames before and after that a result depends on.
    """

    REACH = 2

    def __init__(self) -> None:
        self._window: list[_Moment] = []  # those that results still depend on
        self._due = 0  # place in the window of the frame whose result comes next

    def push(self, source: np.ndarray, result: np.ndarray) -> list[np.ndarray]:
        """Take the next frame.

        Args:
            source: (h, w, 3), uint8 or uint16 of full range.
            result: its enlargement, (H, W, 3), likewise.

        Returns:
            The frame that is `REACH` back, (H, W, 3) of the result's dtype, once there is one.
        """
        self._window.append(_Moment(_smoothed(source), result))
        if self._due > self.REACH:
            del self._window[0]
            self._due -= 1
        if self._due + self.REACH >= len(self._window):
            return []
        self._due += 1
        return [self._steadied(self._due - 1)]

    def finish(self) -> list[np.ndarray]:
        """The frames that are left, at most `REACH`; nothing can be pushed any more."""
        return [self._steadied(place) for place in range(self._due, len(self._window))]

    def _steadied(self, place: int) -> np.ndarray:
        now = self._window[place]
        others: list[tuple[np.ndarray, np.ndarray]] = []  # results, and their weights at the source's size
        for step in (-1, 1):
            weight = np.ones(now.source.shape[:2], np.float32)
            for other in range(place + step, place + step * (self.REACH + 1), step):
                if not 0 <= other < len(self._window):
                    break
                # The least on the way there, so that nothing is averaged across a flash.
                weight = np.minimum(weight, _stillness(now.source, self._window[other].source))
                if not weight.any():
                    break
                others.append((self._window[other].result, weight))
        if not others:
            return now.result
        own = 1 / (1 + np.sum([weight for _, weight in others], axis=0))
        mean = _weighted(now.result, own)
        for result, weight in others:
            cv2.add(mean, _weighted(result, weight * own), dst=mean)
        return np.rint(mean, out=mean).astype(now.result.dtype)


def _smoothed(source: np.ndarray) -> np.ndarray:
    """Noise is finer than most of what moves."""
    levels = source.astype(np.float32) * np.float32(255 / np.iinfo(source.dtype).max)
    return cv2.GaussianBlur(levels, (3, 3), 0)


def _stillness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How surely nothing moves near each pixel: (h, w) float32 from 0 to 1."""
    difference = np.maximum.reduce(cv2.split(cv2.absdiff(one, other)))
    largest = cv2.dilate(difference, np.ones((_NEAR_PX, _NEAR_PX), np.uint8))
    return np.clip((MOVES - largest) / (MOVES - STILL), 0, 1)


def _weighted(result: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The product in float32, the weight (h, w) being enlarged to the result's size."""
    height, width = result.shape[:2]
    return cv2.multiply(result, cv2.resize(cv2.merge([weight] * 3), (width, height)), dtype=cv2.CV_32F)
