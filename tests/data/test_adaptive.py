"""ADA's augmentations against torch.flip, NumPy's padding, OpenCV, the paper's matrices, and their distributions."""

from collections import Counter
from math import pi, sqrt

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from i2i.data.adaptive import (
    AdaptiveAugment,
    draw_colour,
    draw_geometry,
    recolour,
    resample,
    rotation,
    scaling,
    translation,
)
from i2i.errors import InputError

BLIT = {"geometry": False, "colour": False}
GEOMETRY = {"blit": False, "colour": False}
COLOUR = {"blit": False, "geometry": False}
GROUPS = (BLIT, GEOMETRY, COLOUR)


def images(count: int = 5, channels: int = 3, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(count, channels, height, width) * 2 - 1


def moved(image: np.ndarray, *, right: int, down: int) -> np.ndarray:
    """(C, H, W) moved within its reflection."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (8, 8), (8, 8)), mode="reflect")
    return padded[:, 8 - down : 8 - down + height, 8 - right : 8 - right + width]


@pytest.mark.parametrize(("height", "width", "quarters"), [(8, 8, range(4)), (8, 25, (0, 2))])
def test_blitting_is_every_flip_turn_and_move_and_nothing_else(height: int, width: int, quarters: range) -> None:
    """All outcomes are made by NumPy; what comes out is one of them, as often as it should be."""
    image = images(1, 2, height, width)[0]
    reach_x, reach_y, count = width // 8, height // 8, 4000
    expected = {
        (mirror, turn, right, down): moved(
            np.rot90(image.numpy()[..., :: 1 - 2 * mirror], turn, axes=(1, 2)), right=right, down=down
        )
        for mirror in range(2)
        for turn in quarters
        for right in range(-reach_x, reach_x + 1)
        for down in range(-reach_y, reach_y + 1)
    }
    outcomes = AdaptiveAugment(probability=1, **BLIT)(image.expand(count, -1, -1, -1))
    candidates = torch.from_numpy(np.stack(list(expected.values())))
    nearest = torch.cdist(outcomes.flatten(1), candidates.flatten(1), p=1).min(dim=1)
    assert nearest.values.max() < 1e-3
    found = [list(expected)[number] for number in nearest.indices]
    assert set(found) == set(expected)
    for part, (size, extent) in {0: (2, None), 1: (len(quarters), None), 2: (0, width), 3: (0, height)}.items():
        for value, times in Counter(outcome[part] for outcome in found).items():
            # A move of up to 1/8 each way is rounded to whole pixels, so that the outermost have less than their share.
            share = (
                1 / size if extent is None else (min(abs(value) + 0.5, extent / 8) - abs(value) + 0.5) / (extent / 4)
            )
            assert times / count == pytest.approx(share, abs=4 * sqrt(share * (1 - share) / count))


@pytest.mark.parametrize(("height", "width"), [(16, 24), (17, 10), (2, 9), (9, 2)])
def test_resampling_agrees_with_opencv(height: int, width: int) -> None:
    """Borders included, to the 1/32 of a pixel to which OpenCV rounded places before its version 5."""
    batch = images(height=height, width=width)
    source = torch.eye(3) + torch.randn(5, 3, 3) * torch.tensor([[0.2, 0.2, 3], [0.2, 0.2, 3], [0, 0, 0]])
    to_middle = translation(torch.tensor([-(width - 1) / 2]), torch.tensor([-(height - 1) / 2]))
    found = resample(batch, source)
    for number, matrix in enumerate(torch.linalg.inv(to_middle) @ source @ to_middle):
        expected = cv2.warpAffine(
            batch[number].permute(1, 2, 0).numpy(),
            matrix[:2].double().numpy(),
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        np.testing.assert_allclose(found[number].permute(1, 2, 0).numpy(), expected, atol=0.08)


def test_resampling_finds_the_right_places() -> None:
    """Pictures of their own coordinates tell from where each pixel comes, to the 1/20 by which cubics leave lines."""
    y, x = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(41.0) - 20, indexing="ij")
    angle, scale, right = torch.tensor([0.3]), torch.tensor([0.6]), torch.tensor([2.25])
    source = scaling(scale, scale) @ rotation(angle) @ translation(right, -right)
    expected_x = 0.6 * (np.cos(0.3) * (x + 2.25) - np.sin(0.3) * (y - 2.25))
    expected_y = 0.6 * (np.sin(0.3) * (x + 2.25) + np.cos(0.3) * (y - 2.25))
    found = resample(torch.stack([x, y])[None], source)[0]
    inside = (expected_x.abs() < 18) & (expected_y.abs() < 14)
    assert inside.float().mean() > 0.8
    torch.testing.assert_close(found[:, inside], torch.stack([expected_x, expected_y])[:, inside], rtol=0, atol=0.05)


def test_distributions_of_geometry() -> None:
    """Scale, stretch and turns are read from the maps' singular values; the move is what remains at the middle."""
    maps = draw_geometry(torch.empty(8000, 1, 8, 80), 1.0)
    linear, offset = maps[:, :2, :2].double(), maps[:, :2, 2:].double()
    left, values, right = torch.linalg.svd(linear)
    large, small = values.T
    assert_normal((large * small).log2() / 2, deviation=0.2)
    stretch = (large / small).log2() / 2
    assert stretch.square().mean().sqrt() == pytest.approx(0.2, rel=0.04)  # of which sign, singular values don't tell
    assert_normal(stretch * (1 - 2 * torch.randint(2, (8000,))), deviation=0.2)
    for axes in (left[:, :, 0], right[:, 0, :]):  # the angles of the two rotations, up to half turns
        assert_even(torch.atan2(axes[:, 1], axes[:, 0]) % pi, 0, pi)
    assert_even(torch.atan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1]), -pi, pi)
    # The paper moves last: along the outcome's sides, by the deviation of 1/8 of each.
    moves_x, moves_y = torch.linalg.solve(linear, offset)[..., 0].T
    assert_normal(moves_x, deviation=10)
    assert_normal(moves_y, deviation=1)
    assert torch.stack([moves_x, moves_y, stretch, large * small]).corrcoef().triu(1).abs().max() < 0.05


def test_distributions_of_colour() -> None:
    draws = draw_colour(torch.empty(8000, 3, 4, 4), 1.0)
    assert_normal(draws["brightness"], deviation=0.2)
    assert_normal(draws["contrast"].log2(), deviation=0.5)
    assert_normal(draws["saturation"].log2(), deviation=1)
    assert_even(draws["hue"], -pi, pi)
    assert sorted(draws["luma"].unique().tolist()) == [-1, 1]
    assert draws["luma"].float().mean().abs() < 4 / sqrt(8000)
    assert torch.stack([draw.float() for draw in draws.values()]).corrcoef().triu(1).abs().max() < 0.05


def assert_normal(values: Tensor, *, deviation: float) -> None:
    """Mean, deviation and the shares within one and two of them."""
    values = values / deviation
    assert values.mean().abs() < 0.05
    assert values.std() == pytest.approx(1, rel=0.04)
    assert (values.abs() < 1).float().mean() == pytest.approx(0.683, abs=0.02)
    assert (values.abs() < 2).float().mean() == pytest.approx(0.954, abs=0.01)


def assert_even(values: Tensor, lowest: float, highest: float) -> None:
    """Evenly spread over ten parts from the lowest to the highest."""
    assert lowest <= values.min() and values.max() <= highest
    shares = torch.histc(values.float(), 10, lowest, highest) / len(values)
    assert (shares - 0.1).abs().max() < 4 * sqrt(0.09 / len(values))


@pytest.mark.parametrize("probability", [0.2, 0.7])
@pytest.mark.parametrize("group", range(3))
def test_each_transformation_has_the_probability(group: int, probability: float) -> None:
    """An image stays as it is where none of a group's transformations was applied, or changed nothing when it was."""
    p, count = probability, 4000
    batch = images(1, 3, 16, 16).expand(count, -1, -1, -1)
    augmented = AdaptiveAugment(probability=p, **GROUPS[group])(batch)
    stayed = ((augmented - batch).abs().amax((1, 2, 3)) < 1e-4).float().mean()
    expected = (
        (1 - p / 2) * (1 - p * 3 / 4) * (1 - p * 15 / 16),  # of 16 moves of up to 2 pixels each way, one is none
        (1 - p) ** 4,  # scale, rotations, stretch, move
        (1 - p) ** 4 * (1 - p / 2),  # luma flips half of the time
    )[group]
    assert stayed == pytest.approx(expected, abs=4 * sqrt(expected * (1 - expected) / count))


def test_each_of_the_geometry_and_of_the_colour_has_the_probability() -> None:
    count, bound = 6000, 4 * sqrt(0.3 * 0.7 / 6000)
    linear, offset = draw_geometry(torch.empty(count, 3, 16, 16), 0.3).split((2, 1), dim=2)
    linear = linear[:, :2]
    values = torch.linalg.svdvals(linear)
    happened = {
        "scale": (values.prod(dim=1).log2().abs() > 1e-4),
        "stretch": (values[:, 0] / values[:, 1]).log2() > 1e-4,
        "rotation": linear[:, [0, 1], [1, 0]].abs().amax(dim=1) > 1e-4,
        "move": offset[:, :2].abs().amax(dim=(1, 2)) > 1e-4,
    }
    neutral = {"brightness": 0, "contrast": 1, "hue": 0, "saturation": 1}
    draws = draw_colour(torch.empty(count, 3, 16, 16), 0.3)
    happened |= {name: draws[name] != value for name, value in neutral.items()}
    shares = {name: times.float().mean().item() for name, times in happened.items()}
    assert shares == pytest.approx(dict.fromkeys(happened, 0.3), abs=bound)
    assert (draws["luma"] == -1).float().mean() == pytest.approx(0.15, abs=bound)
    correlations = torch.stack([times.float() for times in happened.values()]).corrcoef()
    assert correlations.triu(1).abs().max() < 0.06


def colour_draws(count: int = 5) -> dict[str, Tensor]:
    draws = draw_colour(torch.empty(count, 3, 4, 4), 1.0)
    return draws | {"luma": 1 - 2 * (torch.arange(count) % 2)}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_colour_is_the_product_of_the_papers_matrices(channels: int) -> None:
    """Appendix B writes homogeneous matrices for RGB; here they have as many dimensions as there are channels."""
    batch, draws = images(channels=channels), colour_draws()
    found = recolour(batch, **draws)
    size = channels + 1
    axis = np.append(np.full(channels, channels**-0.5), 0)
    grey = np.outer(axis, axis)
    for number, image in enumerate(batch.double().numpy()):
        brightness, contrast, luma, hue, saturation = (draw[number].item() for draw in draws.values())
        shift, scale, turn = np.eye(size), np.eye(size), np.eye(size)
        shift[:channels, -1] = brightness
        scale[:channels, :channels] *= contrast
        flip = np.eye(size) - (2 * grey if luma < 0 else 0)
        if channels == 3:
            turn[:3, :3] = cv2.Rodrigues(hue * axis[:3])[0]
        saturate = grey + (np.eye(size) - grey) * saturation
        homogeneous = np.concatenate([image, np.ones_like(image[:1])])
        expected = np.einsum("ij,jhw->ihw", saturate @ turn @ flip @ scale @ shift, homogeneous)
        if channels == 1:  # no colour beside grey: saturation would only touch the homogeneous coordinate
            expected = np.einsum("ij,jhw->ihw", flip @ scale @ shift, homogeneous)
        np.testing.assert_allclose(found[number].numpy(), expected[:channels], atol=1e-5)


def neutral(count: int, **changed: float) -> dict[str, Tensor]:
    values = {"brightness": 0.0, "contrast": 1.0, "luma": 1.0, "hue": 0.0, "saturation": 1.0} | changed
    return {name: torch.full((count,), value) for name, value in values.items()}


def test_hue_turns_around_the_grey_axis() -> None:
    batch = images()
    grey = batch.mean(dim=1, keepdim=True).expand_as(batch)
    turned = recolour(batch, **neutral(5, hue=2 * pi / 3))
    torch.testing.assert_close(turned, batch.roll(1, dims=1))  # red becomes green, green blue, blue red
    any_hue = neutral(5) | {"hue": torch.rand(5) * 2 * pi, "saturation": torch.rand(5) * 4}
    torch.testing.assert_close(recolour(grey, **any_hue), grey)
    torch.testing.assert_close(recolour(batch, **any_hue).mean(dim=1), batch.mean(dim=1))


def test_no_saturation_is_grey_and_luma_flips_it() -> None:
    batch = images()
    grey = batch.mean(dim=1, keepdim=True).expand_as(batch)
    torch.testing.assert_close(recolour(batch, **neutral(5, saturation=0)), grey)
    torch.testing.assert_close(recolour(batch, **neutral(5, luma=-1)), batch - 2 * grey)
    torch.testing.assert_close(recolour(batch, **neutral(5)), batch)


def test_images_joined_along_channels_stay_a_pair() -> None:
    batch = images(20, 3, 16, 16)
    first, second = AdaptiveAugment(probability=0.8)(torch.cat([batch, batch], dim=1)).chunk(2, dim=1)
    assert torch.equal(first, second)
    pair = images(5, 6)
    joined = recolour(pair, **(draws := colour_draws()))
    apart = torch.cat([recolour(half, **draws) for half in pair.chunk(2, dim=1)], dim=1)
    torch.testing.assert_close(joined, apart)


def test_plain_images_stay_plain_wherever_they_move() -> None:
    """What comes in from outside is the reflection, nothing else."""
    batch = images(50, 3, 1, 1).expand(-1, -1, 16, 24)
    augmented = AdaptiveAugment(probability=1, colour=False)(batch)
    torch.testing.assert_close(augmented, batch, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (2, 3), (7, 2), (33, 20)])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6])
def test_any_size(channels: int, height: int, width: int) -> None:
    batch = images(1, channels, height, width)
    augmented = AdaptiveAugment(probability=1)(batch)
    assert augmented.shape == batch.shape and augmented.isfinite().all()


def test_probability_of_zero_changes_nothing_and_draws_nothing() -> None:
    batch = images()
    augment = AdaptiveAugment()
    before = torch.get_rng_state()
    assert augment.probability == 0 and augment(batch) is batch
    assert torch.equal(torch.get_rng_state(), before)
    augment.probability = 1.0
    assert not torch.equal(augment(batch), batch)
    switched_off = AdaptiveAugment(blit=False, geometry=False, colour=False, probability=1)
    assert torch.equal(switched_off(batch), batch)


@pytest.mark.parametrize("group", range(3))
def test_gradients(group: int) -> None:
    """For fixed draws each is affine in the images; its gradient is compared with differences."""
    augment = AdaptiveAugment(probability=0.9, **GROUPS[group])

    def same_draws(batch: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augment(batch)

    batch = torch.rand(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(same_draws, batch)


def test_draws_follow_from_the_seed_and_differ_between_images() -> None:
    batch = images(count=1).expand(4, -1, -1, -1)
    augment = AdaptiveAugment(probability=0.9)
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outcomes.append(augment(batch))
    assert torch.equal(outcomes[0], outcomes[1]) and not torch.equal(outcomes[0], outcomes[2])
    assert not any(torch.equal(outcomes[0][0], other) for other in outcomes[0][1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_mixed_precision_moves_nothing_elsewhere(dtype: torch.dtype) -> None:
    batch = images(height=8, width=3000).to(dtype)
    torch.manual_seed(1)
    expected = AdaptiveAugment(probability=1)(batch.float())
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = AdaptiveAugment(probability=1)(batch)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=0)


def test_what_cannot_be_augmented_is_refused() -> None:
    with pytest.raises(InputError, match=r"AdaptiveAugment takes .*\(N, C, H, W\), got \(5, 2\)"):
        AdaptiveAugment()(torch.zeros(5, 2))
    for probability in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1, got"):
            AdaptiveAugment(probability=probability)(images())
