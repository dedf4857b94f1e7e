"""How steady a video is: what is left of the difference between neighbouring frames once motion is undone.

The warping error of Lai et al. 2018 ("Learning Blind Video Temporal Consistency", section on evaluation metrics),

    E = Σ M · |V(t) − warp(V(t+1))|² / Σ M,

with M = 1 where nothing is occluded; here per value rather than per RGB vector, over all pixels of all pairs of frames
rather than as a mean over pairs, and by OpenCV's optical flow: dense inverse search, Kroeger et al. 2016.

What it says and what not: a picture with detail errs more than a blurred one wherever the flow is a little wrong, and
blur lowers it most of all. Set it beside the figure of an interpolated enlargement of the same video, and beside a
measure of sharpness such as `i2i.metrics.gradient_energy`.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from i2i.errors import InputError

SMALLEST_PX = 16  # OpenCV's flow crashes on less
# Two frames of one scene, after motion is undone, have gradients that correlate by more than this. Between photographs
# it is 0.1, 0.2 at most; between neighbouring frames of a hand-held video 0.97, through fast motion and pans of an
# eighth of the width 0.5, through a flash that doubles the light 0.6.
SAME_SCENE = 0.35
_THUMBNAIL_PX = (128, 96)
_GRADIENT_NOISE = 0.25  # levels of 255, squared, in the thumbnail's gradients: so that two frames without detail agree


@dataclass(frozen=True, kw_only=True)
class Flicker:
    """How steady a video is.

    Attributes:
        outside: root of the mean squared warp error where nothing is occluded, values being in [0, 1]: lower is
            steadier. NaN where there is no such pixel.
        inside: that of pixels which the next frame does not show, where errors are seen least.
        occluded: share of pixels that are inside.
        pairs: of frames that were compared.
        cuts: pairs that were not, because a scene ends between them.
    """

    outside: float
    inside: float
    occluded: float
    pairs: int
    cuts: int


class FlickerMeter:
    """Takes the frames of a video one by one, of which it keeps one, and says how steady they are.

    >>> meter = FlickerMeter()
    >>> for frame, source in zip(enlarged, sources):
    ...     meter.add(frame, reference=source)
    >>> meter.result().outside
    """

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self.totals = np.zeros(6)
        """Squared errors outside and inside of occlusions, pixels outside and inside, pairs of frames, and cuts. Those
        of parts of a video, each of which begins with the last frame of the one before, add up; see `flicker_of`."""

    def add(self, frame: np.ndarray, *, reference: np.ndarray | None = None) -> None:
        """Compare a frame with the one before.

        Args:
            frame: (H, W, 3) RGB, uint8 or uint16 of full range, at least 16×16.
            reference: (h, w, 3), the frame that it was made from. Motion, occlusions and cuts are found there,
                enlarged bicubically to H×W, so that different results are measured alike and none by the motion that
                its own flicker feigns. None: in the frame itself.

        Raises:
            InputError: another shape or dtype, or one that differs from the frame before.
        """
        reference = frame if reference is None else reference
        for image in (frame, reference):
            _check(image)
        before, self._before = self._before, (frame, reference)
        if before is None:
            return
        for earlier, later in zip(before, self._before, strict=True):
            _check_alike(earlier, later)
        if scene_cut(before[1], reference):
            self.totals[5] += 1
            return
        height, width = frame.shape[:2]
        there, here = (
            cv2.resize(_grey(image), (width, height), interpolation=cv2.INTER_CUBIC) for image in (before[1], reference)
        )
        flow = _flow(there, here)
        occluded = occlusions(flow, _flow(here, there))
        errors = warp_error(before[0], frame, flow=flow)
        self.totals[4] += 1
        for place, pixels in enumerate((~occluded, occluded)):
            self.totals[place] += errors.sum(where=pixels, dtype=np.float64)
            self.totals[2 + place] += np.count_nonzero(pixels)

    def result(self) -> Flicker:
        """Of all frames so far."""
        return flicker_of(self.totals)


def flicker_of(totals: np.ndarray) -> Flicker:
    """How steady a video is whose parts have these `FlickerMeter.totals` (6,) in all."""
    outside, inside = (
        math.sqrt(total / count) if count else math.nan for total, count in zip(totals[:2], totals[2:4], strict=True)
    )
    return Flicker(
        outside=outside,
        inside=inside,
        occluded=float(totals[3] / totals[2:4].sum()) if totals[4] else math.nan,
        pairs=int(totals[4]),
        cuts=int(totals[5]),
    )


def warp_error(before: np.ndarray, after: np.ndarray, *, flow: np.ndarray) -> np.ndarray:
    """Squared difference between a frame and the next one moved back, mean over channels, values being in [0, 1].

    Args:
        before, after: (H, W, 3), uint8 or uint16.
        flow: (H, W, 2) float32, from `optical_flow(before, after)`.

    Returns:
        (H, W) float32. Where the flow leaves the picture, its border goes on.

    Raises:
        InputError: the shapes or dtypes differ.
    """
    _check_alike(before, after)
    highest = np.iinfo(before.dtype).max
    # Bilinear interpolation would blur the second frame alone.
    moved = cv2.remap(after.astype(np.float32), _targets(flow), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.square((moved - before) / np.float32(highest)).mean(axis=2)


def optical_flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where each pixel of one frame is in the next.

    Args:
        before, after: (H, W, 3), uint8 or uint16, at least 16×16.

    Returns:
        (H, W, 2) float32, px to the right and down.

    Raises:
        InputError: another shape or dtype, or two that differ.
    """
    _check(before)
    _check_alike(before, after)
    return _flow(_grey(before), _grey(after))


def occlusions(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Pixels that the next frame does not show: there and back again leads elsewhere, or out of the picture.

    |f + b|² > 0.01 (|f|² + |b|²) + 0.5, where b is the flow back at the place that f leads to (Sundaram et al. 2010;
    Ruder et al. 2016, "Artistic Style Transfer for Videos").

    Args:
        forward, backward: (H, W, 2) float32, px; from `optical_flow`, between the same frames.

    Returns:
        (H, W) bool.
    """
    height, width = forward.shape[:2]
    targets = _targets(forward)
    back = cv2.remap(backward, targets, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    elsewhere = _squared_length(forward + back) > 0.01 * (_squared_length(forward) + _squared_length(back)) + 0.5
    within = ((targets >= -0.5) & (targets <= (width - 0.5, height - 0.5))).all(axis=2)  # pixels have a width
    return elsewhere | ~within


def scene_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two neighbouring frames show different scenes.

    Their gradients are compared in thumbnails after motion is undone: panning moves them and a flash scales them, but
    neither makes others of them, as a cut does.

    Args:
        before, after: (H, W, 3), uint8 or uint16.
    """
    here, there = (cv2.resize(_grey(image), _THUMBNAIL_PX, interpolation=cv2.INTER_AREA) for image in (before, after))
    moved = cv2.remap(there, _targets(_flow(here, there)), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    one, other = _gradients(here), _gradients(moved)
    common = 2 * np.mean(one * other) + _GRADIENT_NOISE
    return bool(common / (np.mean(one**2) + np.mean(other**2) + _GRADIENT_NOISE) < SAME_SCENE)


def _flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Between (H, W) uint8."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(before, after, None)


def _targets(flow: np.ndarray) -> np.ndarray:
    """Columns and rows that the pixels move to: (H, W, 2)."""
    height, width = flow.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return flow + np.dstack((columns, rows))


def _gradients(grey: np.ndarray) -> np.ndarray:
    """To the right and down, in levels a pixel: (2, H, W) float32."""
    return np.stack([cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0)])


def _squared_length(flow: np.ndarray) -> np.ndarray:
    return np.square(flow).sum(axis=2)


def _grey(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey if grey.dtype == np.uint8 else cv2.convertScaleAbs(grey, alpha=1 / 257)


def _check(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"expected RGB frames (H, W, 3), uint8 or uint16, got {image.shape} {image.dtype}")
    if min(image.shape[:2]) < SMALLEST_PX:
        raise InputError(
            f"optical flow needs frames of at least {SMALLEST_PX} by {SMALLEST_PX} pixels, got {image.shape}"
        )


def _check_alike(before: np.ndarray, after: np.ndarray) -> None:
    if before.shape != after.shape or before.dtype != after.dtype:
        raise InputError(
            "frames of one video have one shape and depth, "
            f"got {before.shape} {before.dtype}, then {after.shape} {after.dtype}"
        )
