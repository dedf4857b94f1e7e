"""Walks and sweeps: what lies between seeds, and on the way to the middle."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from toy_generators import UINT8, KnownNoise, dcgan, known_noise, known_styles, stylegan

from i2i import Sampler
from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.errors import InputError
from i2i.generators import MLPGenerator
from i2i.latents import interpolation, paths, slerp, truncation_sweep
from i2i.latents.pictures import grid


def test_slerp_goes_along_the_circle_at_constant_speed() -> None:
    start, end = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, math.sqrt(3)])  # of length 2, 120 degrees apart
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):
        angle = share * math.radians(120)
        expected = 2 * torch.tensor([math.cos(angle), math.sin(angle)])
        torch.testing.assert_close(slerp(start, end, share), expected)
    shares = torch.linspace(0, 1, 7)
    torch.testing.assert_close(slerp(start, end, shares), torch.stack([slerp(start, end, float(s)) for s in shares]))


def test_slerp_as_the_formula_has_it_for_vectors_of_unequal_lengths() -> None:
    start, end = torch.randn(2, 3, 50, dtype=torch.float64)
    found = slerp(start, end, torch.tensor([0.3, 0.8], dtype=torch.float64))
    for row in range(3):
        a, b = start[row].numpy(), end[row].numpy()
        omega = math.acos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        for place, s in enumerate((0.3, 0.8)):
            expected = (math.sin((1 - s) * omega) * a + math.sin(s * omega) * b) / math.sin(omega)
            np.testing.assert_allclose(found[place, row].numpy(), expected, atol=1e-9)


def test_slerp_of_the_same_direction_is_straight() -> None:
    start = torch.randn(9)
    torch.testing.assert_close(slerp(start, 3 * start, 0.5), 2 * start)
    torch.testing.assert_close(slerp(start, start, torch.tensor([0.0, 0.4])), start.expand(2, -1))


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (torch.ones(3), -torch.ones(3), "opposite directions"),
        (torch.ones(3), torch.zeros(3), "vector of zeros"),
        (torch.ones(3), torch.ones(4), r"got \(3,\) and \(4,\)"),
    ],
)
def test_no_arc(start: torch.Tensor, end: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        slerp(start, end, 0.5)


def test_a_walk_in_z() -> None:
    t = known_noise()
    walk = interpolation(t, seeds=[3, 4, 5], frames=4)
    assert walk.space == "z" and len(walk.images) == len(walk.points) == 9
    for place, seed in zip((0, 4, 8), (3, 4, 5), strict=True):
        np.testing.assert_allclose(walk.images[place], t(seed=seed), atol=1e-6)
    halfway = slerp(t.draw_latent(4), t.draw_latent(5), 0.5)
    np.testing.assert_allclose(walk.images[6], t(latents=halfway), atol=1e-6)
    assert walk.picture().shape == (2 * 68 + 4 + 14, 72 + 5 * 68 + 4, 3)


def test_a_walk_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(paths, "grid", lambda rows, **how: given.update(how))
    walk = interpolation(known_noise(), seeds=[4, 50], closed=True)
    walk.picture()
    assert walk.seeds == (4, 50, 4)
    assert given["margin"] == ["seed 4 to 50", "seed 50 to 4"]
    assert given["headings"] == ["0", "0.125", "0.25", "0.375", "0.5", "0.625", "0.75", "0.875", "1"]


def test_what_stands_before_rows_has_room() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    assert grid([[image]], side=UINT8, margin=["seed 1"]).shape[1] == 72 + 64 + 8
    wide = grid([[image]], side=UINT8, margin=["seed 100000000 to 100000001"])
    left = wide.shape[1] - 64 - 8
    assert left > 72 and (wide[:, left - 4 : left + 4] == 255).all() and (wide[:, :left] < 128).any()


def test_a_walk_in_w_is_straight() -> None:
    t = known_styles()
    walk = interpolation(t, seeds=[3, 4], frames=2, truncation=0.5)
    ends = t.styles(seed=[3, 4], truncation=0.5)
    assert walk.space == "w"
    for image, styles in zip(walk.images, (ends[0], ends.mean(dim=0), ends[1]), strict=True):
        np.testing.assert_allclose(image, t(styles=styles), atol=1e-5)
    closed = interpolation(t, seeds=[3, 4], frames=2, closed=True)
    np.testing.assert_allclose(closed.images[0], closed.images[4], atol=1e-6)
    round_z = interpolation(t, seeds=[3, 4], frames=2, space="z")
    np.testing.assert_allclose(round_z.images[1], t(latents=slerp(t.draw_latent(3), t.draw_latent(4), 0.5)), atol=1e-5)


def test_from_class_to_class_in_w() -> None:
    t = known_styles(classes=3)
    walk = interpolation(t, seeds=[3, 3], label=[0, 2], frames=2)
    np.testing.assert_allclose(walk.images[0], t(seed=3, label=0), atol=1e-5)
    np.testing.assert_allclose(walk.images[1], t(seed=3, label=1), atol=1e-5)  # classes lie on a line in this one
    with pytest.raises(InputError, match="as many as seeds, 2; got 3"):
        interpolation(t, seeds=[3, 3], label=[0, 2, 1])
    t = dcgan(classes=2)
    walk = interpolation(t, seeds=[3, 4], label=1, frames=1)
    np.testing.assert_array_equal(walk.images[1], t(seed=4, label=1))
    with pytest.raises(InputError, match="no way from class to class"):
        interpolation(t, seeds=[3, 4], label=[0, 1])


def test_no_walk() -> None:
    with pytest.raises(InputError, match="at least two to walk between, got 1"):
        interpolation(known_noise(), seeds=[1])
    with pytest.raises(InputError, match="frames: expected at least 1"):
        interpolation(known_noise(), seeds=[1, 2], frames=0)
    with pytest.raises(InputError, match=r'has no styles, and so no w; expected "z"'):
        interpolation(known_noise(), seeds=[1, 2], space="w")
    with pytest.raises(InputError, match=r"seeds: expected a list or a range, .* got 3"):
        interpolation(known_noise(), seeds=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"frames: expected at least 1 step .* got 1\.5"):
        interpolation(known_noise(), seeds=[1, 2], frames=1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="this generator truncates w"):
        interpolation(known_styles(), seeds=[1, 2], space="z", truncation=0.5)
    points = ImageSide(channels=2, dtype="float32", data_range=(-1, 1))
    network = MLPGenerator(latent_channels=3, out_channels=2, width=8)
    with pytest.raises(InputError, match="MLPGenerator draws points; expected a generator of images"):
        interpolation(Sampler(generator=network, spec=GeneratorSpec(input=None, output=points)), seeds=[1, 2])


@pytest.mark.parametrize("t", [known_noise(), stylegan()], ids=["z", "w"])
def test_a_truncation_sweep(t: Sampler) -> None:
    sweep = truncation_sweep(t, seeds=[1, 2], truncations=[0.0, 0.5, 1])
    for seed, row in zip((1, 2), sweep.images, strict=True):
        for truncation, image in zip((0, 0.5, 1), row, strict=True):
            np.testing.assert_allclose(image, t(seed=seed, truncation=truncation), atol=1e-6)
    np.testing.assert_allclose(sweep.images[0][0], sweep.images[1][0], atol=1e-6)
    assert sweep.picture().dtype == np.uint8 and sweep.picture().shape[2] == 3
    assert len(truncation_sweep(t, seeds=[1]).truncations) == 6
    with pytest.raises(InputError, match=r"seeds: expected a list or a range, such as \[1, 2\], got 5"):
        truncation_sweep(t, seeds=5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"truncations: expected a list or a range, .* got 0.5"):
        truncation_sweep(t, seeds=[5], truncations=0.5)  # type: ignore[arg-type]
    assert truncation_sweep(t, seeds=np.array([1]), truncations=[1]).seeds == (1,)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got 0 and 6"):
        truncation_sweep(t, seeds=[])


@pytest.mark.parametrize(
    ("channels", "dtype", "data_range"), [(1, "uint16", (0, 4095)), (2, "float32", (-5, 5)), (5, "uint8", (0, 255))]
)
def test_pictures_of_any_kind_of_image(channels: int, dtype: str, data_range: tuple[float, float]) -> None:
    t = dcgan(output=ImageSide(channels=channels, dtype=dtype, data_range=data_range))  # type: ignore[arg-type]
    picture = interpolation(t, seeds=[1, 2], frames=1).picture()
    low, high = data_range
    first = t(seed=1)[..., 0].astype(float)
    shown = picture[18 : 18 + 64 : 4, 76 : 76 + 64 : 4, 0]
    assert np.abs(shown - (first - low) / (high - low) * 255).max() <= 0.51


def test_known_noise_is_known() -> None:
    """The toy is what the tests take it for."""
    network = KnownNoise()
    images = network(torch.eye(5))
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), torch.tensor([0.1, 0, 0, 0, 0]), atol=1e-6, rtol=0)
