"""The losses of super-resolution against the papers' formulas, written out, and its figures against scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from i2i.data.degrade import Degradation
from i2i.errors import InputError
from i2i.layers.resample import bicubic
from i2i.losses.adversarial import NonSaturating, RelativisticAverage
from i2i.losses.penalties import Penalties
from i2i.methods.superres import RandomDegradation, SuperResolution, pixel_loss, random_crop, restoration_figures


class Enlarge(nn.Module):
    """Each pixel becomes 2 × 2 others."""

    scale = 2

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 3, 2, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        return self.up(images)


def make(**arguments: object) -> SuperResolution:
    torch.manual_seed(0)
    return SuperResolution(generator=Enlarge(), **arguments)  # type: ignore[arg-type]


def make_batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"input": torch.rand(2, 3, 8, 9), "target": torch.rand(2, 3, 16, 18)}


def probability(scores: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-scores))


def test_the_first_stage_regresses() -> None:
    method, batch = make(pixel_weight=3.0), make_batch()
    out = method.translate(batch, 0)
    losses = method.generator_losses(batch, out, 0)
    assert not method.discriminators
    assert losses.terms.keys() == {"pixel"}
    torch.testing.assert_close(losses.total, 3 * (out["output"] - batch["target"]).abs().sum() / 2 / 3 / 16 / 18)


def test_charbonnier_is_the_l1_loss_rounded_at_zero() -> None:
    output, target = torch.tensor([0.0, 0.5, 0.5]), torch.tensor([0.0, 0.5, 0.1])
    found = pixel_loss(output, target, kind="charbonnier")
    torch.testing.assert_close(found, torch.tensor((2 * 1e-3 + math.sqrt(0.16 + 1e-6)) / 3))
    with pytest.raises(InputError, match='"l1" or "charbonnier", got \'l2\''):
        pixel_loss(output, target, kind="l2")  # type: ignore[arg-type]


def test_srgans_adversarial_loss() -> None:
    """Ledig et al. 2017, eq. 6: −log D(G(input))."""
    judge = nn.Conv2d(3, 1, 3)
    method, batch = make(discriminator=judge, objective=NonSaturating(), adversarial_weight=0.1), make_batch()
    out = method.translate(batch, 0)
    fake, real = judge(out["output"]), judge(batch["target"])
    losses = method.generator_losses(batch, out, 0)
    torch.testing.assert_close(losses.terms["adversarial"], -0.1 * probability(fake).log().mean())

    judged = method.discriminator_losses(batch, out, 0)
    expected = -(probability(real).log().mean() + (1 - probability(fake)).log().mean())
    torch.testing.assert_close(judged.total, expected)
    torch.testing.assert_close((*judged.real_scores, *judged.fake_scores), (real, fake))
    assert judged.objective is method.objective


def test_esrgans_adversarial_loss() -> None:
    """Wang et al. 2018, eq. 1 and 2: more real than the others on average?"""
    judge = nn.Conv2d(3, 1, 3)
    method, batch = make(discriminator=judge, objective=RelativisticAverage(), adversarial_weight=1.0), make_batch()
    out = method.translate(batch, 0)
    fake, real = judge(out["output"]), judge(batch["target"])
    of_real, of_fake = probability(real - fake.mean()), probability(fake - real.mean())
    losses = method.generator_losses(batch, out, 0)
    torch.testing.assert_close(
        losses.terms["adversarial"], -(1 - of_real).log().mean() - of_fake.log().mean(), rtol=1e-5, atol=1e-5
    )


def test_penalties_are_at_images_as_they_are_judged() -> None:
    """The slope of Σ x² at x is 2 x, wherever x is rolled to; R2 is taken at what the generator made."""

    class Judge(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.square().sum(dim=(1, 2, 3))

    penalties = Penalties(r1=3.0, r2=5.0, every_steps=2)
    method, batch = make(discriminator=Judge(), penalties=penalties, shift_px=4), make_batch()
    out = {"output": batch["target"] / 3}
    terms = method.discriminator_losses(batch, out, 2).terms
    square = batch["target"].square().sum() / 2
    torch.testing.assert_close(terms["r1"], 2 * 3 * 2 * square)
    torch.testing.assert_close(terms["r2"], 2 * 5 * 2 * square / 9)
    assert set(method.discriminator_losses(batch, out, 3).terms) == {"discriminator"}


def test_the_discriminator_sees_images_rolled_alike() -> None:
    seen = []

    class Judge(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.detach().clone())
            return images.mean(dim=(1, 2, 3))

    method, batch = make(discriminator=Judge(), shift_px=4), make_batch()
    places = set()
    for seed in range(20):
        torch.manual_seed(seed)
        seen.clear()
        method.discriminator_losses(batch, {"output": batch["target"] + 1}, 0)
        fake, real = seen
        torch.testing.assert_close(fake, real + 1)
        (place,) = [
            (down, right)
            for down in range(16)
            for right in range(18)
            if torch.equal(batch["target"].roll((down, right), (2, 3)), real)
        ]
        places.add(place)
    assert len(places) > 8 and max(max(place) for place in places) == 3


def test_the_perceptual_loss_sees_both_in_its_own_range() -> None:
    seen = []

    class Perceptual(nn.Module):
        def forward(self, fake: Tensor, real: Tensor) -> Tensor:
            seen.append((fake, real))
            return (fake - real).square().mean()

    method, batch = make(perceptual=Perceptual(), perceptual_weight=5.0), make_batch()
    out = method.translate(batch, 0)
    losses = method.generator_losses(batch, out, 0)
    torch.testing.assert_close(seen, [(2 * out["output"] - 1, 2 * batch["target"] - 1)])
    expected = 5 * 4 * (out["output"] - batch["target"]).square().mean()
    torch.testing.assert_close(losses.terms["perceptual"], expected)


def test_figures_are_those_of_brightness_without_the_border() -> None:
    torch.manual_seed(0)
    target = torch.rand(2, 3, 24, 30)
    output = (target + 0.1 * torch.randn_like(target)).clamp(0, 1)
    found = restoration_figures(output, target, scale=3)
    pairs = [
        [rgb2ycbcr(image.permute(1, 2, 0).double().numpy())[3:-3, 3:-3, 0] for image in pair]
        for pair in zip(target, output, strict=True)
    ]
    assert found["psnr"] == pytest.approx(
        np.mean([peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs]), abs=1e-3
    )
    options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    # scikit-image pads and leaves out the five pixels at each border that this spoils.
    assert found["ssim"] == pytest.approx(np.mean([structural_similarity(a, b, **options) for a, b in pairs]), abs=1e-4)
    dx, dy = np.diff(output[0].mean(0).numpy(), axis=1), np.diff(output[0].mean(0).numpy(), axis=0)
    tx, ty = np.diff(target[0].mean(0).numpy(), axis=1), np.diff(target[0].mean(0).numpy(), axis=0)
    alone = restoration_figures(output[:1], target[:1], scale=3)
    assert alone["gradient"] == pytest.approx(((dx**2).mean() + (dy**2).mean()) / ((tx**2).mean() + (ty**2).mean()))


def test_other_than_rgb_images_have_figures_of_all_channels() -> None:
    figures = restoration_figures(torch.zeros(1, 1, 20, 20), torch.full((1, 1, 20, 20), 0.1), scale=2)
    assert figures["psnr"] == pytest.approx(20, abs=1e-4)


def test_validation_clips_and_measures_the_distance() -> None:
    method = make()
    with torch.no_grad():
        method.generators["generator"].up.weight.zero_()
        method.generators["generator"].up.bias.fill_(7.0)  # beyond white
    white = {"input": torch.rand(2, 3, 8, 9), "target": torch.ones(2, 3, 16, 18)}
    found = method.validate(white)
    assert found["psnr"] == math.inf
    descriptors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    assert method.distances(descriptors)["swd"] == pytest.approx(0, abs=1e-6)
    assert method.distances({**descriptors, **method.validate(make_batch())})  # and of others it can be had, too


def test_previews_have_one_size() -> None:
    batch = make_batch()
    pictures = make().preview(batch)
    assert {picture.shape for picture in pictures.values()} == {batch["target"].shape}
    torch.testing.assert_close(pictures["bicubic"], (2 * bicubic(batch["input"], scale=2) - 1).clamp(-1, 1))


def test_crops_show_the_same_place() -> None:
    target = torch.rand(2, 3, 24, 40)
    input = target[:, :, ::2, ::2]
    places = set()
    for seed in range(8):
        torch.manual_seed(seed)
        small, large = random_crop(input, target, crop_px=16)
        assert large.shape == (2, 3, 16, 16)
        torch.testing.assert_close(small, large[:, :, ::2, ::2])
        places.add(large[0, 0, 0, 0].item())
    assert len(places) > 4


def test_degraded_batches_follow_from_the_seed_and_the_pool() -> None:
    degradation = RandomDegradation(settings=Degradation(), crop_px=32, pool_pairs=4)
    targets = torch.rand(2, 3, 48, 48)

    def batches(method: SuperResolution, seeds: range) -> list[dict[str, Tensor]]:
        made = []
        for seed in seeds:
            torch.manual_seed(seed)
            made.append(method.prepare({"target": targets}, seed))
        return made

    method = make(degradation=degradation)
    first = batches(method, range(3))
    remembered = method.state_dict()
    last = batches(method, range(3, 6))
    assert {name: tuple(value.shape) for name, value in last[0].items()} == {
        "input": (2, 3, 16, 16),
        "target": (2, 3, 32, 32),
        "sharpened": (2, 3, 32, 32),
    }
    resumed = make(degradation=degradation)
    resumed.load_state_dict(remembered)
    torch.testing.assert_close(batches(resumed, range(3, 6)), last, rtol=0, atol=0)
    torch.testing.assert_close(batches(make(degradation=degradation), range(3)), first, rtol=0, atol=0)


def test_the_discriminator_judges_targets_that_are_not_sharpened() -> None:
    """Real-ESRGAN, section 3.4: only the other losses compare with sharpened ones."""
    judge = nn.Conv2d(3, 1, 3)
    method, batch = make(discriminator=judge), make_batch()
    batch["sharpened"] = batch["target"] + 1
    out = method.translate(batch, 0)
    torch.testing.assert_close(method.discriminator_losses(batch, out, 0).real_scores[0], judge(batch["target"]))
    expected = (out["output"] - batch["target"] - 1).abs().mean()
    torch.testing.assert_close(method.generator_losses(batch, out, 0).terms["pixel"], expected)
