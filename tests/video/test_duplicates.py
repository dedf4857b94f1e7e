"""`Planner` and `Assembler`: what did not change is not computed again, and what they make equals computing it all."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import i2i
from i2i import Translator
from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.errors import InputError
from i2i.inference.graph import receptive_radius
from i2i.video.duplicates import Assembler, Planner

Enlarge = Callable[[np.ndarray], np.ndarray]


class Exact(nn.Module):
    """Weights so few and round that float32 holds every sum, in whatever order it is made."""

    in_channels = 3
    restores = True
    scale = 2

    def __init__(self, *, size_multiple: int = 1) -> None:
        super().__init__()
        self.size_multiple = size_multiple
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=size_multiple, padding=2, padding_mode="reflect"),
            nn.ReLU(),
            nn.Conv2d(4, 3 * (2 * size_multiple) ** 2, 3, padding=1),
            nn.PixelShuffle(2 * size_multiple),
        )
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randint(-1, 2, parameter.shape) / 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def exact(*, size_multiple: int = 1) -> Translator:
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), network_range=(0, 65535))
    return Translator(generator=Exact(size_multiple=size_multiple), spec=GeneratorSpec(input=side, output=side))


def box(image: np.ndarray) -> np.ndarray:
    """The mean over 5 x 5 px, with integers, at the same size: reaches 2 px."""
    padded = np.pad(image.astype(np.int64), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(0, 1))
    return (windows.sum(axis=(-2, -1)) // 25).astype(image.dtype)


def noise(height: int = 120, width: int = 160, *, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


def clip_with_patches(first: np.ndarray, *, count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """In each frame one or two patches are new, some of them at the border, some a single pixel, some long."""
    rng = np.random.default_rng(seed)
    image, (height, width, _) = first, first.shape
    yield image
    for _ in range(count - 1):
        image = image.copy()
        for _ in range(rng.integers(1, 3)):
            y, x = rng.integers(0, height), rng.integers(0, width)
            patch = image[y : y + rng.integers(1, 120), x : x + rng.integers(1, 12)]
            patch[...] = rng.integers(0, np.iinfo(first.dtype).max, patch.shape)
        yield image


def run(planner: Planner, frames: list[np.ndarray], enlarge: Enlarge) -> list[np.ndarray]:
    assembler = Assembler()
    plans = [planner.plan(frame) for frame in frames]
    return [assembler.assemble(plan, [enlarge(crop) for crop in plan.crops]) for plan in plans]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size_multiple", [1, 4])
@pytest.mark.parametrize("size", [(200, 320), (211, 297)])
def test_parts_make_the_whole(dtype: Any, size_multiple: int, size: tuple[int, int]) -> None:
    t = exact(size_multiple=size_multiple)
    frames = list(clip_with_patches(noise(*size, dtype=dtype), count=16))
    planner = Planner(enlarge=t, reach_px=receptive_radius(t.generator), size_multiple=size_multiple)
    for result, frame in zip(run(planner, frames, t), frames, strict=True):
        np.testing.assert_array_equal(result, t(frame))
    assert planner.reuse.in_parts >= 8


@pytest.mark.parametrize(("told", "in_parts"), [(3, 5), (2, 0)])
def test_a_reach_that_is_too_small_is_found_out(told: int, in_parts: int) -> None:
    t = exact()
    assert receptive_radius(t.generator) == 3
    frames = [noise()]
    for place in range(5):
        frames.append(frames[-1].copy())
        frames[-1][60, 30 * place] ^= 128
    planner = Planner(enlarge=t, reach_px=told)
    for result, frame in zip(run(planner, frames, t), frames, strict=True):
        np.testing.assert_array_equal(result, t(frame))
    assert planner.reuse.in_parts == in_parts


def of_size(image: np.ndarray) -> np.ndarray:
    """Another rounding for small images than for large ones."""
    return image // 2 + (image.size < 40000)


def test_a_network_that_rounds_parts_otherwise_sees_whole_frames() -> None:
    frames = list(clip_with_patches(noise(), count=5))
    planner = Planner(enlarge=of_size, reach_px=0)
    for result, frame in zip(run(planner, frames, of_size), frames, strict=True):
        np.testing.assert_array_equal(result, of_size(frame))
    assert planner.reuse.in_parts == 0

    lenient = Planner(enlarge=of_size, reach_px=0, threshold=1)
    for result, frame in zip(run(lenient, frames, of_size), frames, strict=True):
        np.testing.assert_allclose(result, of_size(frame), atol=1)
    assert lenient.reuse.in_parts > 0


def test_a_scale_that_is_no_integer_leaves_frames_whole() -> None:
    def enlarge(image: np.ndarray) -> np.ndarray:
        return image.repeat(3, axis=0).repeat(3, axis=1)[::2, ::2]

    planner = Planner(enlarge=enlarge, reach_px=2)
    frames = list(clip_with_patches(noise(121, 161), count=4))
    for result, frame in zip(run(planner, frames, enlarge), frames, strict=True):
        np.testing.assert_array_equal(result, enlarge(frame))
    assert planner.reuse.in_parts == 0


def test_windows_are_checked_once_they_would_have_paid() -> None:
    frames = [noise()]
    for place in range(20):
        frames.append(frames[-1].copy())
        frames[-1][60, 7 * place] ^= 128
    calls: list[np.ndarray] = []

    def enlarge(image: np.ndarray) -> np.ndarray:
        calls.append(image)
        return image.repeat(2, axis=0).repeat(2, axis=1)

    planner = Planner(enlarge=enlarge, reach_px=0, check_after=4)
    before = [len(planner.plan(frame).windows) and not calls for frame in frames]
    saved = 1 - 96**2 / (120 * 160)  # by one window
    assert before.index(False) == 1 + math.ceil(4 / saved) - 1
    assert planner.reuse.in_parts == 20 - math.ceil(4 / saved) + 1


@pytest.mark.parametrize("reach", [2, None])
def test_frames_that_repeat_are_the_same_array(reach: int | None) -> None:
    distinct = [noise(24, 32, seed=seed) for seed in range(4)]
    frames = [frame.copy() for frame in distinct for _ in range(3)]
    planner = Planner(enlarge=box, reach_px=reach)
    results = run(planner, frames, box)
    assert [now is before for before, now in pairwise(results)] == [True, True, False] * 3 + [True, True]
    for result, frame in zip(results, frames, strict=True):
        np.testing.assert_array_equal(result, box(frame))
    reuse = planner.reuse
    assert (reuse.frames, reuse.repeated, reuse.in_parts) == (12, 8, 0)
    assert reuse.share_saved == pytest.approx(2 / 3)
    assert "67%" in str(reuse)


def test_results_before_stay_as_they_were() -> None:
    frames = list(clip_with_patches(noise(), count=8))
    results = run(Planner(enlarge=box, reach_px=2), frames, box)  # all of them made before any is looked at
    for result, frame in zip(results, frames, strict=True):
        np.testing.assert_array_equal(result, box(frame))


def test_without_a_reach_frames_go_whole() -> None:
    frames = list(clip_with_patches(noise(), count=4))
    planner = Planner(enlarge=box, reach_px=None)
    assert all(planner.plan(frame).whole for frame in frames)
    assert planner.reuse.share_saved == 0


def test_work_is_counted() -> None:
    """A change in the corner: 96 px square, and once the check, in 8 and in 16 bits, of a frame and two corners."""
    first = noise()
    second = first.copy()
    second[0, 0] ^= 1
    planner = Planner(enlarge=box, reach_px=2)
    plans = [planner.plan(frame) for frame in (first, second, first)]
    whole, window = 120 * 160, 96 * 96
    assert [plan.computed_px for plan in plans] == [whole, window, window]
    assert planner.reuse.computed_px == whole + 2 * window + 2 * (whole + 2 * window)
    assert planner.reuse.frames_px == 3 * whole


@pytest.mark.parametrize("reach", [2, None])
def test_a_cut_a_new_size_and_a_new_segment_begin_anew(reach: int | None) -> None:
    planner = Planner(enlarge=box, reach_px=reach)
    dull = np.full_like(noise(), 7)
    wider = noise(120, 164)
    deeper = wider.astype(np.uint16)
    assert all(planner.plan(frame).whole for frame in (noise(), dull, wider, deeper))
    assert not planner.plan(deeper).windows
    planner.forget()
    assert planner.plan(deeper).whole


def test_a_change_all_over_is_no_work_for_windows() -> None:
    first = noise()
    second = first.copy()
    second[::20, ::20] ^= 255
    planner = Planner(enlarge=box, reach_px=2)
    planner.plan(first)
    assert planner.plan(second).whole


@pytest.mark.parametrize(("dtype", "level"), [(np.uint8, 1), (np.uint16, 257)])
def test_slow_changes_do_not_go_unnoticed(dtype: Any, level: int) -> None:
    """One level brighter with each frame: within 2 levels of the first are two more."""
    frames = [np.full((24, 32, 3), value * level, dtype) for value in range(9)]
    planner = Planner(enlarge=box, reach_px=2, threshold=2)
    assert [plan.whole for plan in map(planner.plan, frames)] == [True, False, False] * 3
    assert Planner(enlarge=box, reach_px=2, threshold=2).plan(frames[0]).whole


@pytest.mark.parametrize("seed", range(3))
def test_no_result_in_use_is_of_values_that_differ_by_more_than_the_threshold(seed: int) -> None:
    """Checked value by value against the frames that results came from, while a patch flashes and values wander."""
    reach, threshold = 3, 4
    rng = np.random.default_rng(seed)
    planner = Planner(enlarge=lambda image: image, reach_px=reach, threshold=threshold)
    image = rng.integers(100, 150, (100, 200, 3), np.uint8)
    frames: list[np.ndarray] = []
    came_from = np.zeros(image.shape[:2], int)
    reused = 0.0
    for number in range(200):
        image = image.copy()
        image[40:60, 90:94] += rng.choice(np.array([0, 2, 254], np.uint8), (1, 4, 1))  # where its window ends
        image[10:14, 10:14] ^= np.uint8(128 * (rng.random() < 0.2))
        frames.append(image)
        for rows, columns in planner.plan(image).windows:
            came_from[rows.first : rows.last, columns.first : columns.last] = number
        reused += (came_from < number).mean() / 200
        for origin in np.unique(came_from):
            difference = np.abs(image.astype(int) - frames[origin]).max(axis=2).astype(np.uint8)
            in_reach = cv2.dilate(difference, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
            assert in_reach[came_from == origin].max() <= threshold
    assert reused > 0.2


@pytest.mark.parametrize("threshold", [-1, 255, float("nan")])
def test_a_threshold_that_means_nothing(threshold: float) -> None:
    with pytest.raises(InputError, match="levels of 8 bits"):
        Planner(enlarge=box, reach_px=2, threshold=threshold)


@pytest.mark.data
def test_a_published_network_sees_only_what_changes(data_dir: Path) -> None:
    t = i2i.load(data_dir / "weights" / "realesr-animevideov3.pth")
    reach = receptive_radius(t.generator)
    photo = cv2.imread(str(data_dir / "images" / "OST_009.png"))[100:212, 100:244]
    frames = list(clip_with_patches(photo, count=4))
    planner = Planner(enlarge=t, reach_px=reach)
    for result, frame in zip(run(planner, frames, t), frames, strict=True):
        np.testing.assert_array_equal(result, t(frame))
