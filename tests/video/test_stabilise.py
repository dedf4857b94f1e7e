"""Frames are steadied where the source stands still, and nowhere else; wherever reading began."""

import cv2
import numpy as np
import pytest

from i2i.video.stabilise import Stabiliser

REACH = Stabiliser.REACH
WINDOW = 2 * REACH + 1


def steadied(sources: list[np.ndarray], results: list[np.ndarray]) -> list[np.ndarray]:
    stabiliser = Stabiliser()
    out = [steady for pair in zip(sources, results, strict=True) for steady in stabiliser.push(*pair)]
    return out + stabiliser.finish()


def photo(height: int = 48, width: int = 64, *, seed: int = 0) -> np.ndarray:
    """Smooth colours with some texture, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (height // 8, width // 8, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(smooth + rng.integers(-10, 11, smooth.shape), 0, 255).astype(np.uint8)


def noisy(image: np.ndarray, count: int, *, deviation: float, dtype: type = np.uint8) -> list[np.ndarray]:
    """Frames (2 H, 2 W, 3) that differ by independent noise; `deviation` in units of the dtype."""
    rng = np.random.default_rng(1)
    large = image.repeat(2, 0).repeat(2, 1) * (np.iinfo(dtype).max / 255)
    highest = np.iinfo(dtype).max
    return [
        np.clip(np.rint(large + rng.normal(0, deviation, large.shape)), 0, highest).astype(dtype) for _ in range(count)
    ]


@pytest.mark.parametrize(("dtype", "deviation"), [(np.uint8, 8.0), (np.uint16, 2000.0)])
def test_noise_falls_as_that_of_a_mean(dtype: type, deviation: float) -> None:
    """At the ends, where there are fewer frames, it falls less."""
    image = photo()
    source = (image * (np.iinfo(dtype).max / 255)).astype(dtype)
    results = noisy(image, 12, deviation=deviation, dtype=dtype)
    truth = image.repeat(2, 0).repeat(2, 1) * (np.iinfo(dtype).max / 255)
    out = steadied([source] * 12, results)
    assert all(frame.dtype == dtype and frame.shape == (96, 128, 3) for frame in out)
    for place, frame in enumerate(out):
        frames = min(place, REACH) + 1 + min(11 - place, REACH)
        assert np.std(frame - truth) == pytest.approx(deviation / frames**0.5, rel=0.03), place


def test_a_still_frame_is_the_plain_mean() -> None:
    results = noisy(photo(), WINDOW, deviation=8)
    out = steadied([photo()] * WINDOW, results)
    assert np.abs(out[REACH] - np.mean(results, axis=0)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_source_noise_counts_as_still(dtype: type) -> None:
    rng = np.random.default_rng(2)
    unit = np.iinfo(dtype).max / 255
    values = [(photo() + rng.normal(0, 1, (48, 64, 3))).clip(0, 255) for _ in range(5)]
    sources = [np.rint(frame * unit).astype(dtype) for frame in values]
    results = noisy(photo(), 5, deviation=8)
    assert np.abs(steadied(sources, results)[2] - np.mean(results, axis=0)).mean() < 0.3
    shifted = [np.roll(source, 5 * t, axis=1) for t, source in enumerate(sources)]
    np.testing.assert_array_equal(steadied(shifted, results), results)


def test_what_moves_stays_bit_for_bit_and_the_rest_is_steadied() -> None:
    """A patterned square passes; where neither it nor its traces come near, the result is that of an empty scene."""
    square = np.random.default_rng(6).integers(0, 256, (12, 12, 3), np.uint8)
    sources, places = [], [8 + 3 * t for t in range(10)]
    for x in places:
        frame = photo()
        frame[16:28, x : x + 12] = square
        sources.append(frame)
    results = noisy(photo(), 10, deviation=8)
    out = steadied(sources, results)
    empty = steadied([photo()] * 10, results)
    for t in range(10):
        before, after = (places[u] for u in (max(t - 1, 0), min(t + 1, 9)))
        moving = np.s_[2 * 16 : 2 * 28, 2 * before : 2 * (after + 12)]
        np.testing.assert_array_equal(out[t][moving], results[t][moving])
        np.testing.assert_array_equal(out[t][: 2 * 8], empty[t][: 2 * 8])
        np.testing.assert_array_equal(out[t][2 * 36 :], empty[t][2 * 36 :])


def test_nothing_mixes_across_a_cut() -> None:
    """Each side comes out as if it were alone."""
    scenes = [photo(seed=0), 255 - photo(seed=5)]
    results = [noisy(scene, 5, deviation=8) for scene in scenes]
    together = steadied([scenes[0]] * 5 + [scenes[1]] * 5, results[0] + results[1])
    alone = steadied([scenes[0]] * 5, results[0]) + steadied([scenes[1]] * 5, results[1])
    np.testing.assert_array_equal(together, alone)


def test_a_flash_parts_what_is_before_from_what_is_after() -> None:
    """Though before and after are the same; and where the flash is not seen, nothing is parted."""
    image = photo()
    flash = image.copy()
    flash[:, :32] = np.clip(image[:, :32] * 1.3 + 30, 0, 255)
    results = noisy(image, 9, deviation=8)
    out = np.stack(steadied([image] * 4 + [flash] + [image] * 4, results))
    left, right = np.s_[:, :, : 2 * 32], np.s_[:, :, 2 * 38 :]
    parted = [*steadied([image] * 4, results[:4]), results[4], *steadied([image] * 4, results[5:])]
    np.testing.assert_array_equal(out[left], np.stack(parted)[left])
    np.testing.assert_array_equal(out[right], np.stack(steadied([image] * 9, results))[right])


def test_a_change_of_colour_alone_counts_as_motion() -> None:
    """Red becomes green of the same luma, which a look at brightness alone would miss."""
    red, green = (np.full((32, 32, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 102, 0)))
    results = noisy(red, 4, deviation=8)
    out = steadied([red, red, green, green], results)
    np.testing.assert_array_equal(out[:2], steadied([red] * 2, results[:2]))


@pytest.mark.parametrize("first", [0, 1, 5, 11])
@pytest.mark.parametrize("count", [1, 4])
def test_a_part_with_context_is_that_of_the_whole(first: int, count: int) -> None:
    """Bit for bit, in a scene in which some stands still, some moves, and some is unsure."""
    rng = np.random.default_rng(3)
    sources = []
    for t in range(16):
        frame = np.clip(photo() + rng.normal(0, 2.5, (48, 64, 3)), 0, 255).astype(np.uint8)
        frame[10:20, 3 * t : 3 * t + 10] = 255
        sources.append(frame)
    results = noisy(photo(), 16, deviation=8)
    whole = steadied(sources, results)
    begin, end = max(first - REACH, 0), min(first + count + REACH, 16)
    part = steadied(sources[begin:end], results[begin:end])[first - begin :][:count]
    np.testing.assert_array_equal(part, whole[first : first + count])
    assert (whole[first] != results[first]).any()


def test_frames_come_as_soon_as_they_are_ready() -> None:
    stabiliser = Stabiliser()
    counts = [len(stabiliser.push(photo(), result)) for result in noisy(photo(), 7, deviation=1)]
    assert counts == [0] * REACH + [1] * (7 - REACH)
    assert len(stabiliser.finish()) == REACH


@pytest.mark.parametrize("count", range(4))
def test_short_videos(count: int) -> None:
    assert len(steadied([photo()] * count, noisy(photo(), count, deviation=1))) == count


@pytest.mark.parametrize("size", [(48, 64), (131, 173), (30, 40)])
def test_any_ratio_of_sizes(size: tuple[int, int]) -> None:
    """Even numbers that no weight is exact for come back: the weights add up to 1 everywhere."""
    result = np.full((*size, 3), 65535, np.uint16)
    rng = np.random.default_rng(4)
    sources = [np.clip(photo() + rng.normal(0, 2.5, (48, 64, 3)), 0, 255).astype(np.uint8) for _ in range(5)]
    np.testing.assert_array_equal(steadied(sources, [result] * 5), [result] * 5)
