"""A stage of a GAN that grows: what its networks are shown, how far it is faded in, and what is looked at."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from i2i.discriminators import DCGANDiscriminator, ProgressiveDiscriminator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator, ProgressiveGenerator
from i2i.losses.adversarial import Wasserstein
from i2i.losses.penalties import Penalties
from i2i.methods.base import StandIn
from i2i.methods.progressive import ProgressiveGAN


def make(size: int = 8, *, classes: int = 0, **arguments: object) -> ProgressiveGAN:
    generator = ProgressiveGenerator(latent_channels=5, width=4, size=size, classes=classes)
    discriminator = ProgressiveDiscriminator(width=4, size=size, classes=classes)
    return ProgressiveGAN(generator=generator, discriminator=discriminator, **arguments)  # type: ignore


def fades(method: ProgressiveGAN) -> list[float]:
    networks = (*method.generators.values(), *method.discriminators.values())
    return [network.fade.item() for network in networks]


def halved(images: Tensor) -> Tensor:
    return images.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))


def doubled(images: Tensor) -> Tensor:
    return images.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_real_images_are_shrunk_and_blended_as_far_as_the_networks_are() -> None:
    method, real = make(fade_steps=4), torch.randn(3, 3, 32, 32)
    small = halved(halved(real))
    for step, fade in ((0, 0.0), (1, 0.25), (3, 0.75), (4, 1.0), (9, 1.0)):
        shown = method.prepare({"real": real, "label": torch.zeros(3)}, step)
        assert fades(method) == [fade, fade] and set(shown) == {"real", "label"}
        expected = (1 - fade) * doubled(halved(small)) + fade * small
        torch.testing.assert_close(shown["real"], expected, rtol=0, atol=1e-6)
    plain = make()
    assert fades(plain) == [1.0, 1.0]
    torch.testing.assert_close(plain.prepare({"real": real}, 0)["real"], small)
    assert torch.equal(plain.prepare({"real": small}, 0)["real"], small)


def test_the_step_that_ends_fading_in_leaves_it_ended() -> None:
    method = make(fade_steps=4)
    assert fades(method) == [0.0, 0.0]
    method.prepare({"real": torch.randn(2, 3, 8, 8)}, 3)
    method.stepped(3, critic_only=True)
    assert fades(method) == [0.75, 0.75]
    method.stepped(3, critic_only=False)
    assert fades(method) == [1.0, 1.0]


def test_networks_behind_wrappers_are_told_too() -> None:
    method = make(fade_steps=4)
    networks = [method.generators["generator"], method.discriminators["discriminator"]]
    method.generators["generator"] = StandIn(networks[0], lambda run, *inputs: run(*inputs))
    method.prepare({"real": torch.randn(2, 3, 8, 8)}, 1)
    assert [network.fade.item() for network in networks] == [0.25, 0.25]


def test_what_is_looked_at_and_measured_has_the_full_size() -> None:
    method, real = make(fade_steps=4), torch.randn(30, 3, 32, 32).clamp(-1, 1)
    torch.manual_seed(1)
    sample = method.preview({"real": real})["sample"]
    assert sample.shape == real.shape
    torch.manual_seed(1)
    drawn = method.sample(torch.randn(30, 5))
    torch.testing.assert_close(sample, doubled(doubled(drawn)))
    figures = method.distances(dict(method.validate({"real": real})))
    assert figures.keys() == {"swd", "variety"}

    # One stage begins with the figures at which the last one, not averaged, ended.
    for network in (*method.generators.values(), *method.discriminators.values()):
        network.fade_in(1.0)
    larger = make(16, fade_steps=4)
    for own, trained in (
        (larger.generators["generator"], method.generators["generator"]),
        (larger.discriminators["discriminator"], method.discriminators["discriminator"]),
    ):
        own.take_over(trained)
    torch.manual_seed(2)
    before = method.distances(dict(method.validate({"real": real})))
    torch.manual_seed(2)
    assert larger.distances(dict(larger.validate({"real": real}))) == pytest.approx(before, rel=1e-4)


def test_classes_are_shown_at_the_full_size() -> None:
    method = make(classes=2, class_names=("cat", "dog"))
    batch = {"real": torch.randn(4, 3, 16, 16), "label": torch.tensor([0, 1, 1, 0])}
    pictures = method.preview(batch)
    assert list(pictures) == ["cat", "dog", "real"]
    assert {picture.shape for picture in pictures.values()} == {(4, 3, 16, 16)}


def test_losses_are_those_of_a_gan_and_the_drift() -> None:
    """0.001 E D(x)² over real images, as the paper's appendix A.1 has it."""
    method = make(objective=Wasserstein(), penalties=Penalties(gradient_penalty=10.0), drift=0.001)
    batch = method.prepare({"real": torch.randn(4, 3, 32, 32)}, 0)
    out = method.translate(batch, 0)
    assert out["sample"].shape == batch["real"].shape == (4, 3, 8, 8)
    losses = method.discriminator_losses(batch, out, 0)
    assert losses.terms.keys() == {"discriminator", "gradient_penalty", "drift"}
    scores = method.discriminators["discriminator"](batch["real"])
    torch.testing.assert_close(losses.terms["drift"], 0.001 * (scores**2).mean())
    losses.total.backward()
    assert all(p.grad is not None for p in method.discriminators["discriminator"].parameters())
    assert make().discriminator_losses(batch, out, 0).terms.keys() == {"discriminator"}


def test_a_penalty_is_differentiated_through_the_blend() -> None:
    """½ E ‖∇D‖² against differences, where half of the stage is faded in."""
    method = make(penalties=Penalties(r1=1.0), fade_steps=2)
    critic = method.discriminators["discriminator"].double()
    batch = {"real": torch.randn(2, 3, 8, 8, dtype=torch.float64)}
    real = method.prepare(batch, 1)["real"]
    r1 = method.penalties.terms(critic, real=real, fake=real, step=0)["r1"]
    slopes, width = torch.zeros_like(real), 1e-6
    for place in range(real.numel()):
        shift = F.one_hot(torch.tensor(place), real.numel()).double().view_as(real) * width
        slopes.view(-1)[place] = (critic(real + shift).sum() - critic(real - shift).sum()).detach() / (2 * width)
    assert r1.item() == pytest.approx((slopes**2).flatten(1).sum(1).mean().item() / 2, rel=1e-5)


def test_what_cannot_be_played_is_told() -> None:
    with pytest.raises(InputError, match="grow by stages, got DCGANGenerator and DCGANDiscriminator"):
        ProgressiveGAN(generator=DCGANGenerator(width=1, size=8), discriminator=DCGANDiscriminator(width=1, size=8))
    with pytest.raises(InputError, match="one size, got 8 and 16 px"):
        ProgressiveGAN(
            generator=ProgressiveGenerator(width=1, size=8), discriminator=ProgressiveDiscriminator(width=1, size=16)
        )
    for wrong in ({"fade_steps": -1}, {"drift": -1.0}, {"drift": float("nan")}):
        with pytest.raises(InputError, match="fade_steps and drift"):
            make(**wrong)
    with pytest.raises(InputError, match="no newer block"):
        make(4, fade_steps=2)
    for shape in ((24, 24), (12, 12), (16, 8), (4, 4)):
        with pytest.raises(InputError, match=f"square images of 8 px, .* got {shape[0]} x {shape[1]}"):
            make().prepare({"real": torch.randn(2, 3, *shape)}, 0)
