"""The anomaly score: what it measures, that it tells images apart, and the area under the curve."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toy_generators import FLOATS, dcgan, known_noise, stylegan

from i2i import Sampler
from i2i.data.image_io import write_image
from i2i.discriminators import DCGANDiscriminator, SNGANDiscriminator
from i2i.errors import InputError
from i2i.latents import Anomalies, AnomalyScorer, Descent, auroc, histogram

QUICK = Descent(steps=60, starts=2, candidates=200, noise=0.0)


def judge(*, classes: int = 0, minibatch: Any = "none") -> nn.Module:
    torch.manual_seed(1)
    return DCGANDiscriminator(width=4, size=16, classes=classes, minibatch=minibatch)


def scorer(t: Sampler | None = None, discriminator: nn.Module | None = None, **how: Any) -> AnomalyScorer:
    return AnomalyScorer(t or dcgan(), discriminator or judge(), descent=QUICK, **how)


def strange(count: int) -> list[np.ndarray]:
    """Discs on even grounds, which are plain, and which no such generator draws."""
    random = np.random.default_rng(0)
    down, across = np.mgrid[:16, :16]
    images = []
    for _ in range(count):
        inside = np.hypot(down - random.uniform(5, 11), across - random.uniform(5, 11)) < random.uniform(3, 6)
        images.append(np.where(inside[..., None], *random.integers(0, 255, (2, 3))).astype(np.uint8))
    return images


@pytest.fixture(scope="module")
def fitted() -> AnomalyScorer:
    return scorer().fit(dcgan()(seed=range(40)))


def test_images_of_another_kind_score_higher(fitted: AnomalyScorer) -> None:
    normal = fitted.score(dcgan()(seed=range(100, 130)))
    other = fitted.score(strange(30))
    truth = torch.arange(60) >= 30
    assert auroc(torch.cat([normal.scores, other.scores]), truth) > 0.97
    threshold = fitted.threshold(90)
    assert (other.scores > threshold).float().mean() > 0.9
    assert (normal.scores > threshold).float().mean() < 0.4
    for part in ("residuals", "feature_distances"):
        assert getattr(other, part).mean() > getattr(normal, part).mean()


def test_the_parts_are_what_the_class_says() -> None:
    t, network = dcgan(), judge()
    one = scorer(t, network, weight=0.3).fit(t(seed=range(16)))
    found = one.score(strange(3))
    error = (found.images - found.reconstructions).square().mean(dim=(1, 2, 3)).sqrt()
    contrast = found.images.sub(found.images.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(found.residuals, error / contrast)
    images = [image.permute(1, 2, 0).numpy() for image in (found.images + 1) * 127.5]
    for image, given in zip(images, strange(3), strict=True):
        np.testing.assert_allclose(image, given, atol=0.01)

    normal = one.score(t(seed=range(16)))

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network.blocks(images).mean(dim=(2, 3))

    # Mahalanobis, with half of the covariance replaced by an even one, in NumPy.
    differences = (features(normal.images) - features(normal.reconstructions)).double().numpy()
    covariance = np.cov(differences.T)
    covariance = (covariance + np.eye(len(covariance)) * np.trace(covariance) / len(covariance)) / 2
    away = (features(found.images) - features(found.reconstructions)).numpy() - differences.mean(axis=0)
    expected = np.sqrt(np.einsum("nd,de,ne->n", away, np.linalg.inv(covariance), away))
    np.testing.assert_allclose(found.feature_distances, expected, rtol=2e-2)

    # Scores are (1 − λ) residual + λ distance, each in deviations of normal images.
    assert one.normal_scores is not None
    assert one.normal_scores.mean().item() == pytest.approx(0, abs=1e-4)
    deviation, mean = normal.residuals.std(), normal.residuals.mean()
    parts = (found.scores - 0.7 * (found.residuals - mean) / deviation) / 0.3  # the distances', standardised
    slope = parts.diff() / found.feature_distances.diff()
    assert slope.std() / slope.mean() < 0.05 and slope.mean() > 0


def test_residuals_do_not_depend_on_contrast() -> None:
    """A faint image of the wrong kind is as wrong as a strong one, however small its residual is in itself."""
    t = known_noise()
    one = AnomalyScorer(t, judge(), descent=Descent(steps=200, starts=2, candidates=200, noise=0.0), weight=0)
    one.fit(t(seed=range(10)))
    board = np.tile(np.where(np.indices((16, 16)).sum(axis=0) % 2, 1, -1)[..., None], 3).astype(np.float32)
    strong, faint = one.score([0.4 * board, 0.2 * board]).residuals
    assert strong > 0.8 and abs(strong - faint) < 0.05


@pytest.mark.parametrize("minibatch", ["none", "stddev", "discrimination"])
def test_an_image_is_scored_as_if_it_were_alone(minibatch: Any) -> None:
    t = dcgan()
    one = scorer(t, judge(minibatch=minibatch)).fit(t(seed=range(10)))
    images = [*strange(3), *t(seed=[50, 51])]
    together = one.score(images).scores
    for place in (0, 4):
        assert one.score([images[place]]).scores[0].item() == pytest.approx(together[place].item(), rel=0.02, abs=0.05)
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    torch.testing.assert_close(one.score(tensor).scores, together)


def test_one_image_is_a_list_of_one(fitted: AnomalyScorer, tmp_path: Path) -> None:
    image = strange(1)[0]
    write_image(tmp_path / "one.png", image)
    expected = fitted.score([image]).scores
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for one in (image, tensor, Image.fromarray(image), tmp_path / "one.png", str(tmp_path / "one.png")):
        torch.testing.assert_close(fitted.score(one).scores, expected)
    torch.testing.assert_close(fitted.score(image[None]).scores, expected)  # of an array of them, each


def test_classes_and_styles() -> None:
    t = dcgan(classes=3)
    one = scorer(t, judge(classes=3)).fit(t(seed=range(12), label=[0, 1, 2] * 4))
    assert one.score(strange(2)).scores.shape == (2,)
    t = stylegan()
    sngan = SNGANDiscriminator(width=4, size=16)
    one = scorer(t, sngan).fit(t(seed=range(12)))
    assert one.space.name == "w" and one.score(strange(2)).scores.isfinite().all()
    assert not sngan.training


def test_pictures(fitted: AnomalyScorer) -> None:
    found = fitted.score([*strange(2), *dcgan()(seed=range(300, 303))])
    assert found.picture(2).shape == (4 * 68 + 4, 72 + 2 * 68 + 4, 3)
    least = int(found.scores.argmax())
    shown = found.picture(2)[4 + 2 * 68 : 68 + 2 * 68 : 4, 76 : 76 + 64 : 4]
    expected = ((found.images[least] + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(shown - expected).max() <= 0.51
    pixels = histogram({"normal": torch.randn(50), "other": torch.randn(50) + 3}, threshold=1.0)
    assert pixels.shape == (300, 600, 3) and pixels.dtype == np.uint8 and pixels.std() > 10


def test_pictures_say_of_what_kind_they_are(fitted: AnomalyScorer) -> None:
    found = fitted.score(strange(2))
    plain, named = found.picture(2), found.picture(2, kind="shapes")
    assert plain.shape == named.shape
    np.testing.assert_array_equal(plain[:, 72:], named[:, 72:])
    assert (plain[:68, :72] != named[:68, :72]).any() and (plain[68:136, :72] == named[68:136, :72]).all()
    with pytest.raises(InputError, match="count: expected at least 1 image to show, got 0"):
        found.picture(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scorer(weight=1.5), "weight: expected a number from 0 to 1, got 1.5"),
        (lambda: scorer(discriminator=nn.Sequential(nn.Conv2d(3, 1, 16))), "Sequential has no last layer `head`"),
        (lambda: scorer(discriminator=judge(classes=2)), "draws 0 classes, and the discriminator knows 2"),
        (
            lambda: scorer(discriminator=DCGANDiscriminator(width=4, size=32)),
            "3 channels of 16 x 16 px, and the discriminator judges 3 channels of 32 x 32",
        ),
        (
            lambda: scorer(discriminator=DCGANDiscriminator(width=4, size=16, in_channels=1)),
            "discriminator judges 1 channels",
        ),
        (lambda: scorer().score(strange(1)), r"call fit\(normal_images\) first"),
        (lambda: scorer().fit(dcgan()(seed=range(8))).score([]), "expected some to score, got none"),
        (lambda: scorer().threshold(), r"call fit\(normal_images\) first"),
        (lambda: scorer().fit(strange(1)[0]), "expected at least 8 normal ones to learn from, got 1"),
        (lambda: scorer().fit(strange(7)), "expected at least 8 normal ones to learn from, got 7"),
        (
            lambda: scorer().fit([np.zeros((16, 17, 3), np.uint8)] * 8),
            r"images\[0\] is 17 x 16 px, and this generator draws 16 x 16 px",
        ),
        (lambda: scorer(space="w"), "has no styles"),
        (lambda: Descent(noise=float("nan")), "noise: expected a finite number"),
    ],
)
def test_what_cannot_be_scored(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_percentiles(fitted: AnomalyScorer) -> None:
    assert fitted.normal_scores is not None
    assert fitted.threshold(100) == pytest.approx(float(fitted.normal_scores.max()))
    with pytest.raises(InputError, match="percentile: expected a number from 0 to 100, got 101"):
        fitted.threshold(101)


def test_units_of_ones_own_are_shown_right() -> None:
    t = dcgan(output=FLOATS)
    found: Anomalies = scorer(t).fit(t(seed=range(10))).score(t(seed=[20]))
    shown = found.picture(1)[4:68:4, 76:140:4]
    assert np.abs(shown - (t(seed=20) + 1) * 127.5).max() <= 0.51
