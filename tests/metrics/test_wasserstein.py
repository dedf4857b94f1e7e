"""The sliced Wasserstein distance against SciPy and closed forms."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d
from scipy.stats import chi2, wasserstein_distance
from torch import Tensor

from i2i.errors import InputError
from i2i.metrics import (
    join_descriptors,
    patch_descriptors,
    sliced_wasserstein,
    sliced_wasserstein_influences,
)
from i2i.metrics.wasserstein import laplacian_pyramid, wasserstein_1

SIZES = [(64, 64), (65, 97), (33, 32), (130, 40), (16, 90)]


def smooth_images(count: int = 24, size: int = 64) -> Tensor:
    """Images with details of all scales, (N, 3, size, size) in [-1, 1]."""
    coarse = torch.nn.functional.interpolate(torch.randn(count, 3, 8, 8), size=size, mode="bicubic")
    return (0.3 * coarse + 0.1 * torch.randn(count, 3, size, size)).clamp(-1, 1)


@pytest.mark.parametrize("counts", [(50, 50), (50, 70), (64, 16), (1, 9), (13, 1)])
def test_one_dimension_is_scipys(counts: tuple[int, int]) -> None:
    first, second = torch.randn(5, counts[0]).double(), 2 * torch.randn(5, counts[1]).double() + 1
    expected = [wasserstein_distance(a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(wasserstein_1(first, second), expected, rtol=1e-12)


@pytest.mark.parametrize("counts", [(6, 6), (6, 9)])
def test_patches_along_one_line(counts: tuple[int, int]) -> None:
    """All patches are multiples of one v: a projection on u scales their distance by |u · v|, known on average."""
    channels, projections = 2, 6000
    dimensions = channels * 49
    # The second channel is nearly even, so it varies less than the first, by which it must not be normalised.
    direction = torch.cat([torch.randn(49), 1 + 0.1 * torch.randn(49)])
    real_steps, fake_steps = 3 + torch.randn(counts[0], 10), 3.4 + 1.5 * torch.randn(counts[1], 10)
    real, fake = ({"low": steps[..., None] * direction} for steps in (real_steps, fake_steps))

    numbers = real["low"].numpy().reshape(-1, channels, 49)
    deviation = np.repeat([numbers[:, channel].std() for channel in range(channels)], 49)
    along = np.linalg.norm(direction.numpy() / deviation)
    # The mean of |u · v| over unit vectors u in d dimensions is |v| Γ(d/2) / (√π Γ((d + 1)/2)).
    gamma_ratio = math.exp(math.lgamma(dimensions / 2) - math.lgamma((dimensions + 1) / 2))
    expected = 1000 * wasserstein_distance(real_steps.flatten(), fake_steps.flatten())
    expected *= along * gamma_ratio / math.sqrt(math.pi)

    distances = sliced_wasserstein(real, fake, projections=projections)
    assert distances["swd_low"] == pytest.approx(expected, rel=0.03)
    assert distances["swd"] == distances["swd_low"]


def test_a_colour_shift_counts_in_the_coarsest_level_only() -> None:
    """A constant is no detail. Added to all, it moves each projection of the coarsest level by the same length."""
    images = smooth_images()[:, :1]
    real, fake = (patch_descriptors(some, like=images) for some in (images, images + 0.1))
    distances = sliced_wasserstein(real, fake, projections=6000)
    gamma_ratio = math.exp(math.lgamma(49 / 2) - math.lgamma(50 / 2))
    length = 0.1 * math.sqrt(49) / real["low"].numpy().std()
    assert distances["swd_low"] == pytest.approx(1000 * length * gamma_ratio / math.sqrt(math.pi), rel=0.03)
    assert distances["swd_0"] < 0.01 and distances["swd_1"] < 0.01
    assert distances["swd"] == pytest.approx(distances["swd_low"] / 3, rel=0.01)


def test_equal_sets_are_at_zero_in_any_order() -> None:
    real = patch_descriptors(smooth_images())
    fake = patch_descriptors(0.9 * smooth_images(20))
    order = torch.randperm(20)
    shuffled = {level: patches[order] for level, patches in fake.items()}
    assert set(sliced_wasserstein(real, real).values()) == {0.0}
    assert sliced_wasserstein(fake, shuffled)["swd"] < 1e-3
    assert sliced_wasserstein(real, shuffled) == pytest.approx(sliced_wasserstein(real, fake), rel=1e-5)


def test_twice_the_same_set_is_the_same_set() -> None:
    real = patch_descriptors(smooth_images())
    fake = patch_descriptors(0.9 * smooth_images(20))
    twice = join_descriptors([fake, fake])
    assert sliced_wasserstein(real, twice) == pytest.approx(sliced_wasserstein(real, fake), rel=1e-4)


def test_noise_and_blur_grow() -> None:
    images, other = smooth_images().chunk(2)
    real = patch_descriptors(images)

    def distance(fakes: Tensor) -> dict[str, float]:
        return sliced_wasserstein(real, patch_descriptors(fakes, seed=1), projections=128)

    noise = torch.randn_like(other)
    by_noise = [distance(other + amount * noise)["swd_0"] for amount in (0, 0.05, 0.1, 0.2)]
    assert by_noise == sorted(by_noise) and by_noise[-1] > 5 * by_noise[0]
    blurred = [other]
    for _ in range(3):
        blurred.append(torch.nn.functional.avg_pool2d(blurred[-1], 3, stride=1, padding=1, count_include_pad=False))
    by_blur = [distance(fakes)["swd_0"] for fakes in blurred]
    assert by_blur == sorted(by_blur) and by_blur[-1] > 5 * by_blur[0]


def blurred(image: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        image = convolve1d(image, np.array([1, 4, 6, 4, 1]) / 16, axis=axis, mode="mirror")
    return image


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_pyramid_is_scipys(size: tuple[int, int], channels: int) -> None:
    """Also at the border, but for the last two rows of odd sides, where OpenCV enlarges in a way of its own."""
    level = np.random.default_rng(0).random((*size, channels))
    *bands, low = laplacian_pyramid(level)
    for band in bands:
        half = blurred(level)[::2, ::2]
        # Zeros in between, and an image that is mirrored about its last row, whether or not it has been kept.
        spread = np.zeros_like(level)
        spread[::2, ::2] = 4 * half
        expected = level - blurred(spread)
        inner = tuple(slice(side - 2 * (side % 2) or None) for side in size)
        np.testing.assert_allclose(band[inner], expected[inner], atol=1e-12)
        level = half
        size = level.shape[:2]
    np.testing.assert_allclose(low, level, atol=1e-12)
    assert 16 <= min(low.shape[:2]) < 32


def test_a_constant_has_no_details() -> None:
    *bands, low = laplacian_pyramid(np.full((65, 130, 1), 0.3, np.float32))
    assert [band.shape for band in bands] == [(65, 130, 1), (33, 65, 1)] and low.shape == (17, 33, 1)
    assert all(abs(band).max() < 1e-6 for band in bands)
    np.testing.assert_allclose(low, 0.3, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_patches_are_cut_from_the_levels(size: tuple[int, int], channels: int) -> None:
    images = torch.rand(2, channels, *size) * 2 - 1
    descriptors = patch_descriptors(images, patches_per_image=6)
    for place, image in enumerate(images):
        pyramid = [*laplacian_pyramid(image.movedim(0, 2).numpy())]
        assert list(descriptors) == [*map(str, range(len(pyramid) - 1)), "low"]
        for patches, level in zip(descriptors.values(), pyramid, strict=True):
            assert patches.shape == (2, 6, channels * 49) and patches.dtype == torch.float32
            windows = torch.from_numpy(level).unfold(0, 7, 1).unfold(1, 7, 1)
            everywhere = windows.reshape(-1, channels * 49)
            assert all((everywhere == patch).all(dim=1).any() for patch in patches[place])


def test_positions_reach_every_pixel_and_leave_torchs_generator_alone() -> None:
    places = torch.arange(16.0 * 20).reshape(1, 1, 16, 20)
    state = torch.get_rng_state()
    patches = patch_descriptors(places, patches_per_image=2000)["low"]
    assert torch.equal(torch.get_rng_state(), state)
    assert patches.unique().tolist() == places.flatten().tolist()
    assert torch.equal(patch_descriptors(places, patches_per_image=2000)["low"], patches)
    assert not torch.equal(patch_descriptors(places, patches_per_image=2000, seed=1)["low"], patches)


def test_sets_of_mixed_sizes_share_levels() -> None:
    parts = [patch_descriptors(torch.rand(1, 3, side, side + 9), patches_per_image=4) for side in (20, 64, 200)]
    joined = join_descriptors(parts)
    assert {level: len(patches) for level, patches in joined.items()} == {"low": 3, "0": 2, "1": 2, "2": 1}
    distances = sliced_wasserstein(joined, parts[1])
    assert set(distances) == {"swd", "swd_0", "swd_1", "swd_low"}
    assert distances["swd"] == pytest.approx(sum(distances[f"swd_{level}"] for level in ("0", "1", "low")) / 3)


def test_flat_images_have_finite_distances() -> None:
    flat = patch_descriptors(torch.full((2, 3, 40, 40), 0.3))
    distances = sliced_wasserstein(flat, patch_descriptors(torch.full((2, 3, 40, 40), 0.3) + 1e-7))
    assert all(value < 3 for value in distances.values())


@pytest.mark.parametrize("channels", [1, 3])
def test_influences_are_derivatives(channels: int) -> None:
    """With one image more of 30 × 20, where each is there twenty times. Channels are alike, and so is their weight."""
    images = smooth_images(30, 32)[:, :1].expand(-1, channels, -1, -1)
    real = patch_descriptors(images, patches_per_image=16)
    fake = patch_descriptors(1.2 * images.flip(0) + 0.2, patches_per_image=16, seed=1)
    distances = sliced_wasserstein(real, fake)
    influences = sliced_wasserstein_influences(real, fake)
    assert influences.keys() == distances.keys() - {"swd"}
    for side in (0, 1):
        found, expected = [], []
        for image in range(0, 30, 6):
            many = [join_descriptors([one] * 20) for one in (real, fake)]
            more = {level: patches[image : image + 1] for level, patches in (real, fake)[side].items()}
            many[side] = join_descriptors([many[side], more])
            for level, value in sliced_wasserstein(*many).items():
                if level != "swd":
                    expected.append(601 * (value - distances[level]))
                    found.append(influences[level][side][image].item())
        difference = (torch.tensor(found) - torch.tensor(expected)).norm()
        assert difference < 0.1 * torch.tensor(expected).norm()
        assert all(abs(parts[side].mean()) < 0.01 * parts[side].std() for parts in influences.values())


def test_the_error_is_how_much_the_distance_varies() -> None:
    """Of sets that differ; that of sets of one distribution is on the wide side."""
    distances, errors = [], []
    for _ in range(60):
        images = smooth_images(80, 32)
        real = patch_descriptors(images[:40], patches_per_image=8)
        fake = patch_descriptors(1.4 * images[40:] + 0.1, patches_per_image=8)
        distances.append(sliced_wasserstein(real, fake, projections=256)["swd_0"])
        of_real, of_fake = sliced_wasserstein_influences(real, fake, projections=256)["swd_0"]
        errors.append(math.sqrt(of_real.var() / 40 + of_fake.var() / 40))
    assert np.mean(errors) == pytest.approx(np.std(distances), rel=0.3)


def test_patches_know_nothing_of_order_and_batches() -> None:
    images = smooth_images(5)
    together = patch_descriptors(images, patches_per_image=3)
    turned = patch_descriptors(images.flip(0), patches_per_image=3)
    alone = patch_descriptors(images[2:3], patches_per_image=3)
    for level, patches in together.items():
        assert torch.equal(turned[level].flip(0), patches) and torch.equal(alone[level][0], patches[2])


def test_each_image_is_looked_at_in_other_places() -> None:
    """Even where images look much alike from afar: hardly any two pixels' counts are further apart than by chance."""
    images = 0.5 + 0.1 * torch.randn(400, 1, 22, 22)
    corners = torch.zeros(16, 16)
    for image, patches in zip(images, patch_descriptors(images, patches_per_image=8)["low"], strict=True):
        everywhere = image[0].unfold(0, 7, 1).unfold(1, 7, 1).reshape(-1, 49)
        places = (everywhere[None] == patches[:, None]).all(2).int().argmax(1)
        corners.view(-1).index_add_(0, places, torch.ones(8))
    assert corners.sum() == 400 * 8
    chi_square = ((corners - 12.5) ** 2 / 12.5).sum().item()
    assert 0.001 < chi2.sf(chi_square, 255) < 0.999


@pytest.mark.parametrize("tilt", [0.0, 0.05])
def test_sets_that_look_alike_from_afar_are_as_far_apart_as_in_random_places(tilt: float) -> None:
    """A bright centre and noise, in 400 images and in 80, which may be a little darker on the left."""
    down, across = torch.meshgrid(torch.linspace(-1, 1, 31), torch.linspace(-1, 1, 31), indexing="ij")
    images = (0.8 - down**2 - across**2) / 2 + 0.1 * torch.randn(480, 1, 31, 31)
    found, expected = [], []
    random = np.random.default_rng(0)
    for some, count in ((images[:400], 16), (images[400:] + tilt * across, 80)):
        found.append(patch_descriptors(some, patches_per_image=count))
        windows = some[:, 0].unfold(1, 7, 1).unfold(2, 7, 1)
        rows, columns = random.integers(25, size=(2, len(some), count))
        expected.append({"low": windows[torch.arange(len(some))[:, None], rows, columns].flatten(2)})
    distance = sliced_wasserstein(*expected, projections=128)["swd"]
    assert sliced_wasserstein(*found, projections=128)["swd"] == pytest.approx(distance, rel=0.1, abs=5)


def test_pairs_are_looked_at_in_the_same_places() -> None:
    images = smooth_images(5)
    truth, output = (patch_descriptors(some, like=images) for some in (images, images + 0.1))
    assert torch.equal(truth["low"], patch_descriptors(images)["low"])
    assert (output["low"] - truth["low"]).numpy() == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("value", [-7.0, -1.0, 1.0, 7.0, math.inf, math.nan])
def test_images_of_any_values_have_patches(value: float) -> None:
    patches = patch_descriptors(torch.full((1, 3, 16, 16), value), patches_per_image=2)["low"]
    assert patches.numpy() == pytest.approx(np.full((1, 2, 147), value), nan_ok=True)


def test_sixteen_bits_are_enough() -> None:
    real, fake = (patch_descriptors(images) for images in (smooth_images(), 0.9 * smooth_images()))
    half = [{level: patches.half() for level, patches in one.items()} for one in (real, fake)]
    assert sliced_wasserstein(*half) == pytest.approx(sliced_wasserstein(real, fake), rel=1e-3)


def test_projecting_takes_little_memory() -> None:
    """All 512 projections of 200 images at once would take 52 MB a set, and what a thread has of them 4."""
    real, fake = ({"low": torch.randn(200, 128, 49)} for _ in range(2))
    tracemalloc.start()  # sees NumPy's sorted copies
    sliced_wasserstein(real, fake)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 4e6 < peak < 1e7 * torch.get_num_threads()


def test_any_number_of_threads_finds_the_same() -> None:
    real, fake = ({"low": torch.randn(300, 100, 49, generator=torch.Generator().manual_seed(seed))} for seed in (0, 1))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append((sliced_wasserstein(real, fake), sliced_wasserstein_influences(real, fake)["swd_low"]))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0][0] == found[1][0]
    assert all(torch.equal(one, other) for one, other in zip(found[0][1], found[1][1], strict=True))


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(InputError, match="16 by 16"):
        patch_descriptors(torch.zeros(1, 3, 15, 40))
    with pytest.raises(InputError, match="N, C, H, W"):
        patch_descriptors(torch.zeros(3, 40, 40))
    grey, colour = patch_descriptors(torch.rand(1, 1, 20, 20)), patch_descriptors(torch.rand(1, 3, 20, 20))
    with pytest.raises(InputError, match="channels"):
        sliced_wasserstein(grey, colour)
    with pytest.raises(InputError, match="at least one image"):
        sliced_wasserstein(grey, {"low": grey["low"][:0]})
    with pytest.raises(InputError, match="same levels"):
        sliced_wasserstein(grey, {})
