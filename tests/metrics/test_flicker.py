"""Warp errors that arithmetic predicts, occlusions that are known, and cuts told from pans and flashes."""

import math
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from i2i.data.image_io import read_image
from i2i.errors import InputError
from i2i.metrics import FlickerMeter, occlusions, optical_flow, scene_cut, warp_error
from i2i.metrics.flicker import Flicker


def texture(height: int = 160, width: int = 200, *, seed: int = 0) -> np.ndarray:
    """Blobs of all sizes from 2 px, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    layers = [deviation * cv2.GaussianBlur(noise, (0, 0), deviation) for deviation in (2, 4, 8)]
    return np.clip(128 + 45 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)


def measured(frames: list[np.ndarray], references: list[np.ndarray] | None = None) -> Flicker:
    meter = FlickerMeter()
    for frame, reference in zip(frames, references or [None] * len(frames), strict=True):
        meter.add(frame, reference=reference)
    return meter.result()


def panned(count: int = 4, *, right: int = 3, down: int = 2) -> list[np.ndarray]:
    """The texture, moving to the left and up by whole pixels."""
    return [texture()[t * down :, t * right :][:120, :160] for t in range(count)]


def test_still_frames_do_not_flicker() -> None:
    assert measured([texture()] * 3) == Flicker(
        outside=0, inside=pytest.approx(math.nan, nan_ok=True), occluded=0, pairs=2, cuts=0
    )


def test_translation_is_no_flicker() -> None:
    """Without motion undone, the error is fifty times as large; what leaves the picture is occluded."""
    found = measured(panned())
    plain = np.mean(np.square(panned()[1] / 255 - panned()[0] / 255)) ** 0.5
    assert found.outside < 0.02 * plain
    leaving = 1 - (1 - 3 / 160) * (1 - 2 / 120)
    assert found.occluded == pytest.approx(leaving, rel=0.2)
    assert (found.pairs, found.cuts) == (3, 0)


@pytest.mark.parametrize(("dtype", "deviation"), [(np.uint8, 5.0), (np.uint16, 900.0)])
def test_independent_noise_gives_its_deviation_twice(dtype: type, deviation: float) -> None:
    """√(s² + s²), the source being still."""
    highest = np.iinfo(dtype).max
    clean = texture(80, 100).astype(np.float64) / 255 * highest
    rng = np.random.default_rng(1)
    frames = [np.rint(clean + rng.normal(0, deviation, clean.shape)).clip(0, highest).astype(dtype) for _ in range(5)]
    found = measured(frames, [clean.astype(dtype)] * 5)
    assert found.outside == pytest.approx(2**0.5 * deviation / highest, rel=0.02)


def test_noise_on_what_moves() -> None:
    """The motion being whole pixels and known, interpolation changes little of it."""
    rng = np.random.default_rng(2)
    frames = [np.clip(frame + rng.normal(0, 5, frame.shape), 0, 255).astype(np.uint8) for frame in panned()]
    assert measured(frames, panned()).outside == pytest.approx(2**0.5 * 5 / 255, rel=0.05)


def test_a_smaller_reference_steers() -> None:
    """Light that comes and goes in the result alone is all flicker; motion is found in small frames nearly as well."""
    source = texture(40, 50)
    large = cv2.resize(source, (200, 160), interpolation=cv2.INTER_CUBIC).clip(20, 235)
    frames = [large, large + 10, large, large + 10]
    assert measured(frames, [source] * 4).outside == pytest.approx(10 / 255, rel=1e-4)
    moving = [texture()[:, 4 * t :][:120, :160] for t in range(3)]
    small = [cv2.resize(frame, (80, 60), interpolation=cv2.INTER_AREA) for frame in moving]
    assert measured(moving, small).outside < 2 * measured(moving).outside + 0.01


def test_depth_does_not_matter() -> None:
    frames = panned()
    deep = measured([frame.astype(np.uint16) * 257 for frame in frames])
    assert deep.outside == pytest.approx(measured(frames).outside, rel=1e-3)


def test_a_cut_is_counted_and_not_compared() -> None:
    frames = [texture()] * 3 + [texture(seed=7)] * 3
    found = measured(frames)
    assert (found.pairs, found.cuts, found.outside) == (4, 1, 0)


def test_cuts_are_those_of_the_source() -> None:
    """A result may change as much as it likes: that is flicker, not a cut."""
    found = measured([texture(), texture(seed=7), texture()], [texture(80, 100)] * 3)
    assert (found.pairs, found.cuts) == (2, 0)
    assert found.outside == pytest.approx(np.mean(np.square(texture() / 255 - texture(seed=7) / 255)) ** 0.5, rel=0.01)


def test_one_frame_says_nothing() -> None:
    found = measured([texture()])
    assert (found.pairs, found.cuts) == (0, 0)
    assert all(math.isnan(value) for value in (found.outside, found.inside, found.occluded))


def test_what_a_moving_square_covers_is_occluded() -> None:
    """An 8 px wide strip ahead of it, which the error inside belongs to."""
    ground, square = texture(96, 128), texture(40, 40, seed=3)
    frames = []
    for x in (30, 38):
        frame = ground.copy()
        frame[28:68, x : x + 40] = square
        frames.append(frame)
    occluded = occlusions(optical_flow(*frames), optical_flow(*frames[::-1]))
    covered = np.zeros((96, 128), bool)
    covered[28:68, 70:78] = True
    assert (occluded & covered).sum() > 0.6 * covered.sum()
    elsewhere = np.ones((96, 128), bool)
    elsewhere[20:76, 22:86] = False  # flow bends around the square's outline
    assert occluded[elsewhere].mean() < 0.01
    assert not occluded[36:60, 38:62].any()
    found = measured(frames)
    assert found.inside > 3 * found.outside
    assert found.occluded == pytest.approx(occluded.mean())


def test_occlusions_of_known_flows() -> None:
    forward = np.zeros((20, 30, 2), np.float32)
    forward[..., 0] = 2.0
    leaving = np.zeros((20, 30), bool)
    leaving[:, -2:] = True
    np.testing.assert_array_equal(occlusions(forward, -forward), leaving)
    astray = -forward
    astray[5:10, 12:15] = (-2.85, 0.0)  # 0.85² > 0.01 (4 + 8.12) + 0.5, found where the flow comes from
    expected = leaving.copy()
    expected[5:10, 10:13] = True
    np.testing.assert_array_equal(occlusions(forward, astray), expected)
    astray[5:10, 12:15] = (-2.7, 0.0)  # 0.7² < 0.01 (4 + 7.29) + 0.5
    np.testing.assert_array_equal(occlusions(forward, astray), leaving)


def test_warp_error_of_a_known_flow() -> None:
    before, after = texture(), np.roll(texture(), (2, -3), axis=(0, 1))
    flow = np.broadcast_to(np.float32([-3, 2]), (160, 200, 2))
    inner = np.s_[4:-4, 4:-4]
    assert warp_error(before, after, flow=flow)[inner].max() < 1e-6
    still = np.zeros((160, 200, 2), np.float32)
    expected = np.square(before / 255 - after / 255).mean(axis=2)
    np.testing.assert_allclose(warp_error(before, after, flow=still), expected, atol=1e-6)


def test_half_pixels_are_interpolated() -> None:
    """A wave of 16 px, of which even bilinear interpolation would lose 2 %."""
    columns = np.broadcast_to(np.arange(64)[None, :, None], (32, 64, 3))
    waves = [(32768 + 26214 * np.cos((columns + shift) * np.pi / 8)).astype(np.uint16) for shift in (0, 0.5)]
    flow = np.broadcast_to(np.float32([-0.5, 0]), (32, 64, 2))
    assert warp_error(*waves, flow=flow)[:, 4:-4].max() ** 0.5 < 0.4 * 0.01


def test_flow_points_from_the_first_frame_to_the_second() -> None:
    flow = optical_flow(*panned(2))
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), (-3, -2), atol=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_cuts_pans_and_flashes(seed: int) -> None:
    image = texture(seed=seed)
    other = texture(seed=seed + 50)
    noise = np.random.default_rng(seed).normal(0, 10, image.shape)
    assert scene_cut(image, other)
    assert scene_cut(image // 4, other // 4)  # by night
    assert scene_cut(image, np.zeros_like(image))
    assert scene_cut(image.astype(np.uint16) * 257, other.astype(np.uint16) * 257)
    assert not scene_cut(image, image)
    assert not scene_cut(image[:, :180], image[:, 20:])  # a pan by a ninth of the width
    assert not scene_cut(image, np.clip(image * 1.5 + 60.0, 0, 255).astype(np.uint8))
    assert not scene_cut(image, (image * 0.4).astype(np.uint8))
    assert not scene_cut(image, np.clip(image + noise, 0, 255).astype(np.uint8))


def test_two_frames_without_detail_are_one_scene() -> None:
    rng = np.random.default_rng(0)
    walls = [np.clip(rng.normal(128, 2, (120, 160, 3)), 0, 255).astype(np.uint8) for _ in range(2)]
    assert not scene_cut(*walls)
    assert not scene_cut(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8))


@pytest.mark.data
def test_cuts_between_photographs(data_dir: Path) -> None:
    photos = [read_image(path) for path in sorted((data_dir / "sr" / "train").iterdir())[:60:2]]
    photos = [photo for photo in photos if photo.shape == (321, 481, 3)]
    assert len(photos) > 10
    assert all(scene_cut(*pair) for pair in pairwise(photos))
    assert not any(scene_cut(photo[:, :460], photo[:, 20:480]) for photo in photos)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([np.zeros((32, 32), np.uint8)], r"expected RGB frames \(H, W, 3\), uint8 or uint16, got \(32, 32\) uint8"),
        ([np.zeros((32, 32, 3), np.float32)], "got .* float32"),
        ([np.zeros((12, 64, 3), np.uint8)], "at least 16 by 16 pixels"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 40, 3), np.uint8)], "one shape and depth"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint16)], "one shape and depth"),
    ],
)
def test_frames_that_cannot_be_measured(frames: list[np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured(frames)
    with pytest.raises(InputError, match=message):
        measured([texture()] * len(frames), frames)
