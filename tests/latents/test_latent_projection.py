"""The projector finds what drew an image, says how near it came, and what it cannot take."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from toy_generators import dcgan, known_noise, known_styles, stylegan

from i2i import Sampler
from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.generators import SNGANGenerator
from i2i.latents import Descent, LatentSpace, project
from i2i.latents.projection import Bank, descend, pyramid
from i2i.metrics import Lpips

QUICK: dict[str, Any] = {"steps": 150, "starts": 8, "candidates": 300}


def sngan() -> Sampler:
    torch.manual_seed(0)
    spec = dcgan(classes=2).spec
    network = SNGANGenerator(latent_channels=8, width=8, size=16, classes=2)
    with torch.no_grad():
        network.head.weight.mul_(4)
    return Sampler(generator=network, spec=spec)


@pytest.mark.parametrize(
    ("t", "space", "label"),
    [
        (dcgan(), "z", None),
        (dcgan(classes=2), "z", 1),
        (sngan(), "z", 0),
        (stylegan(), "w", None),
        (stylegan(), "z", None),
    ],
    ids=["dcgan", "dcgan with classes", "sngan", "stylegan", "stylegan z"],
)
def test_a_generated_image_is_found_again(t: Sampler, space: Any, label: int | None) -> None:
    targets = t(seed=[101, 102, 103], label=label)
    found = project(t, targets, space=space, label=label, **QUICK)
    for projection, target in zip(found, targets, strict=True):
        assert projection.psnr > 30
        np.testing.assert_array_equal(projection.target, target)
        error = np.square((projection.image.astype(float) - target) / 255).mean()
        assert projection.psnr == pytest.approx(-10 * np.log10(error))
        drawn_from = {"styles": projection.styles} if space == "w" else {"latents": projection.latents, "label": label}
        again = t(**drawn_from)
        np.testing.assert_array_equal(again, projection.image)
    # Others are not found by chance: the nearest of as many candidates is far off.
    nearest = max(-10 * np.log10(np.square((image - targets[0].astype(float)) / 255).mean())
                  for image in t(seed=range(1000, 1300), label=label))  # fmt: skip
    assert nearest < found[0].psnr - 5


def test_a_linear_generator_is_inverted() -> None:
    t = known_noise()
    latent = t.draw_latent(77)
    found = project(t, t(latents=latent), **QUICK)
    torch.testing.assert_close(found.latents, latent, atol=0.02, rtol=0)
    with pytest.raises(InputError, match="has no styles"):
        _ = found.styles


def test_one_alone_is_found_as_among_others() -> None:
    t = dcgan()
    targets = t(seed=[5, 6, 7])
    alone = project(t, targets[1], **QUICK | {"steps": 5})
    among = project(t, targets, **QUICK | {"steps": 5})[1]
    torch.testing.assert_close(alone.point, among.point, atol=1e-3, rtol=0)
    assert torch.equal(alone.point, project(t, targets[1], **QUICK | {"steps": 5}).point)
    assert not torch.equal(alone.point, project(t, targets[1], **QUICK | {"steps": 5}, seed=1).point)


def test_the_class_that_comes_nearest_is_chosen() -> None:
    t = dcgan(classes=3)
    found = project(t, t(seed=9, label=2), **QUICK)
    assert found.label == 2 and found.psnr > 30


def test_a_style_for_each_layer() -> None:
    t = known_styles()
    styles = torch.cat([t.styles(seed=1)[:2], t.styles(seed=2)[2:]])
    mixed = t(styles=styles)
    one, each = project(t, mixed, **QUICK), project(t, mixed, per_layer=True, **QUICK)
    assert one.point.shape == (6,) and each.point.shape == each.styles.shape == (4, 6)
    assert each.psnr > one.psnr + 10
    with pytest.raises(InputError, match=r"projected to w: use \.styles"):
        _ = each.latents
    with pytest.raises(InputError, match="only styles differ from layer to layer"):
        project(t, mixed, space="z", per_layer=True)


def test_any_kind_of_image(tmp_path: Path) -> None:
    t = dcgan()
    target = t(seed=5)
    write_image(tmp_path / "target.png", target)
    few: dict[str, Any] = {"steps": 2, "starts": 1, "candidates": 4}
    tensor = torch.from_numpy(target).permute(2, 0, 1)
    expected = project(t, target, **few)
    for image in (tmp_path / "target.png", str(tmp_path / "target.png"), Image.fromarray(target), tensor):
        found = project(t, image, **few)
        np.testing.assert_array_equal(found.target, target)
        assert torch.equal(found.point, expected.point)
    assert project(t, [], **few) == []
    assert torch.equal(project(t, (target / 255).astype(np.float32), **few).point, expected.point)


def test_history_and_picture() -> None:
    t = dcgan()
    found = project(t, t(seed=5), **QUICK)
    assert len(found.history) == 150
    assert found.history[-1] > found.history[0] + 5
    assert found.history[-1] == pytest.approx(found.psnr, abs=4)  # rounded to 8 bits or not
    steps = [step for step, _ in found.stages]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] < 150
    assert found.picture().shape == (64 + 8 + 14, (2 + len(steps)) * 68 + 4, 3)


def test_progress_is_told_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    t = dcgan()
    project(t, t(seed=5), steps=2, starts=1, candidates=4)
    assert capsys.readouterr().out == ""
    project(t, t(seed=5), steps=2, starts=1, candidates=4, progress=True)
    assert "100%" in capsys.readouterr().out


def test_weights_and_random_numbers_are_left_alone() -> None:
    t = stylegan()
    before = {name: tensor.clone() for name, tensor in t.state_dict().items()}
    state = torch.get_rng_state()
    project(t, t(seed=5), steps=3, starts=2, candidates=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in t.state_dict().items())
    assert all(parameter.grad is None for parameter in t.parameters())


def test_pyramid_is_the_mean_squared_difference_at_each_scale() -> None:
    one, other = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    expected = sum((F.avg_pool2d(one, k) - F.avg_pool2d(other, k)).square().mean(dim=(1, 2, 3)) for k in (1, 2, 4))
    torch.testing.assert_close((pyramid(one) - pyramid(other)).square().sum(dim=1), expected)
    assert pyramid(one, most_px=8).shape == (2, 3 * (64 + 16))


def test_perceptual_differences_count() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    perceptual = Lpips(backbone=backbone, layers=[1], heads=[torch.ones(1, 4, 1, 1)], smallest_px=8)
    t = dcgan()
    other = t(seed=6)[::-1].copy()  # upside down, which it cannot draw
    plain, seen = (project(t, other, perceptual=given, **QUICK) for given in (None, perceptual))

    def distance(image: np.ndarray) -> float:
        images = [torch.from_numpy(i).permute(2, 0, 1)[None] / 127.5 - 1 for i in (image, other)]
        return float(perceptual(*images))

    assert distance(seen.image) < distance(plain.image)


def test_screening_finds_the_nearest_candidate() -> None:
    t = dcgan()
    space = LatentSpace(t)
    bank = Bank(space, count=50, seed=3)
    images = space.draw_images(bank.points, bank.labels)
    target = t.codec.encode(torch.from_numpy(t(seed=5)).permute(2, 0, 1), range(16), range(16), torch.device("cpu"))
    expected = sum((F.avg_pool2d(images, k) - F.avg_pool2d(target, k)).square().mean(dim=(1, 2, 3)) for k in (1, 2, 4))
    assert bank.nearest(target[None], 3)[0].tolist() == expected.topk(3, largest=False).indices.tolist()
    found = descend(space, target[None], descent=Descent(steps=1, starts=1, learning_rate=0, noise=0), bank=bank)
    torch.testing.assert_close(found.points[0], bank.points[expected.argmin()])


@pytest.mark.parametrize("shape", [(32, 32, 3), (16, 20, 3), (8, 16, 3)])
def test_an_image_of_another_size_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    t = dcgan()
    image = np.zeros(shape, np.uint8)
    size = f"{shape[1]} x {shape[0]} px"
    with pytest.raises(InputError, match=rf"image is {size}, and this generator draws 16 x 16 px: .*resize"):
        project(t, image)
    write_image(tmp_path / "photo.png", image)
    with pytest.raises(InputError, match=rf"photo\.png is {size}, and this generator draws 16 x 16 px"):
        project(t, [tmp_path / "photo.png"])


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((16, 16, 4), np.uint8), {}, "expected 3 channels, as the network takes, got 4"),
        (np.full((16, 16, 3), np.nan, np.float32), {}, "NaN or infinite values"),
        (np.full((16, 16, 3), 200, np.float32), {}, r"expected floats in \[0, 1\]"),
        (torch.zeros(2, 3, 16, 16), {}, "expected one image, got 2; give a list"),
        (7, {}, "is of type int; expected a path"),
        (np.zeros((16, 16, 3), np.uint8), {"space": "w"}, "has no styles, and so no w"),
        (np.zeros((16, 16, 3), np.uint8), {"space": "x"}, 'expected "z" or "w"'),
        (np.zeros((16, 16, 3), np.uint8), {"label": 1}, "no classes to choose from"),
        (np.zeros((16, 16, 3), np.uint8), {"steps": 0}, "steps: expected at least 1, got 0"),
        (np.zeros((16, 16, 3), np.uint8), {"starts": 0}, "starts: expected at least 1"),
    ],
)
def test_what_cannot_be_projected(image: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        project(dcgan(), image, **options)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.png"):
        project(dcgan(), tmp_path / "nothing.png")
