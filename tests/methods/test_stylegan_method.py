"""StyleGAN's game: path lengths of a Jacobian that is known, and which styles are mixed."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from i2i.discriminators import StyleGANDiscriminator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator, StyleGANGenerator
from i2i.losses.penalties import Penalties
from i2i.methods.base import unwrapped
from i2i.methods.stylegan import StyleGAN, StyleSettings, path_lengths
from i2i.training.config import TrainingSettings
from i2i.training.loop import make_accelerator


def make(*, classes: int = 0, styles: StyleSettings | None = None, penalties: Penalties | None = None) -> StyleGAN:
    return StyleGAN(
        generator=StyleGANGenerator(
            latent_channels=5, style_channels=6, width=8, size=16, classes=classes, mapping_layers=2
        ),
        discriminator=StyleGANDiscriminator(width=4, size=16, classes=classes),
        styles=styles,
        penalties=penalties or Penalties(),
    )


def test_a_generator_without_styles_is_refused() -> None:
    with pytest.raises(InputError, match="got a DCGANGenerator without style_layers, styles, synthesise"):
        StyleGAN(generator=DCGANGenerator(width=2, size=16), discriminator=StyleGANDiscriminator(width=4, size=16))


def batch_of(count: int, *, classes: int = 0) -> dict[str, Tensor]:
    labels = {"label": torch.arange(count) % classes} if classes else {}
    return {"real": torch.randn(count, 3, 16, 16), **labels}


def test_path_lengths_of_a_linear_generator() -> None:
    """Its images hold the first layer's style twice as large, and one that is a third: E ‖J' y‖² = Σ J² / side²."""
    side, channels = 4, 48

    def synthesise(styles: Tensor) -> Tensor:
        return (2 * styles[:, 0] + styles[:, 1] / 3).reshape(-1, 3, side, side)

    styles = torch.randn(20_000, 2, channels, requires_grad=True)
    lengths = path_lengths(synthesise, styles)
    assert lengths.shape == (20_000,)
    mean_square = (4 + 1 / 9) / 2 * channels / side**2  # of the two layers
    assert lengths.square().mean().item() == pytest.approx(mean_square, rel=0.01)
    # ‖y‖ of 48 normal numbers has a mean of √2 Γ(49/2) / Γ(48/2).
    mean_norm = math.sqrt(2) * math.exp(math.lgamma(49 / 2) - math.lgamma(48 / 2))
    assert lengths.mean().item() == pytest.approx(math.sqrt((4 + 1 / 9) / 2) * mean_norm / side, rel=0.01)


def test_path_lengths_can_be_differentiated_again() -> None:
    """Of images g · w, they are g · ‖y‖ / side, whose derivative by g is the length over g."""
    gain = torch.tensor(3.0, requires_grad=True)
    styles = torch.randn(5, 1, 12, requires_grad=True)
    lengths = path_lengths(lambda w: (gain * w[:, 0]).reshape(-1, 3, 2, 2), styles)
    (slope,) = torch.autograd.grad(lengths.sum(), gain)
    torch.testing.assert_close(slope, (lengths.sum() / gain).detach())


def test_the_penalty_and_its_running_mean_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    styles = StyleSettings(path_length=3.0, path_length_every_steps=4, path_length_decay=0.25)
    method, batch = make(styles=styles), batch_of(4)
    out = method.translate(batch, 0)
    given = iter([[2.0, 4.0], [7.0, 8.0], [6.0], [9.0]])
    for owner in (method, twin := make(styles=styles)):
        monkeypatch.setattr(owner, "_path_lengths", lambda batch: torch.tensor(next(given)))
    started = method.generator_losses(batch, out, 0)
    assert started.terms.keys() == {"adversarial"} and started.figures["mean_path_length"].item() == 3
    method.stepped(0, critic_only=False)
    later = method.generator_losses(batch, out, 1)
    assert later.terms.keys() == {"adversarial"} and not later.figures
    method.stepped(1, critic_only=False)

    # Two micro-batches, after a round of the critic's own, are held to the mean of before: 3 + (7 - 3) / 4 = 4 follows.
    method.stepped(4, critic_only=True)
    for length, penalty in ((7.5, (16 + 25) / 2), (6.0, 9.0)):
        losses = method.generator_losses(batch, out, 4)
        assert losses.terms["path_length"].item() == pytest.approx(3 * 4 * penalty)
        assert losses.figures["mean_path_length"].item() == pytest.approx(length)
        twin.load_state_dict(method.state_dict())
    before = method.state_dict()
    method.stepped(4, critic_only=False)
    assert method.state_dict()["mean_length"].item() == pytest.approx(4.0)
    assert before["mean_length"].item() == 3 and before["seen"].tolist() == [21, 3]  # what was handed out stays

    # A step that is taken back, and what another process of the same past would have.
    method.generator_losses(batch, out, 8)
    method.load_state_dict(before)
    method.stepped(4, critic_only=False)
    twin.stepped(4, critic_only=False)
    assert method.state_dict()["mean_length"].item() == twin.state_dict()["mean_length"].item() == pytest.approx(4.0)


@pytest.mark.parametrize("classes", [0, 3])
def test_the_penalty_reaches_all_of_the_generator(classes: int) -> None:
    """All that its slope depends on: of the last layers' biases and the images' it does not."""
    method, batch = make(classes=classes), batch_of(5, classes=classes)
    seen: list[int] = []
    generator = method.generators["generator"]
    generator.synthesis.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    method._path_lengths(batch).sum().backward()
    assert seen == [3]  # half of five, rounded up
    for name, parameter in generator.named_parameters():
        if "to_rgb" not in name or "bias" not in name:
            assert parameter.grad is not None and parameter.grad.any(), name


def test_path_lengths_are_in_full_precision(tmp_path: Path) -> None:
    method, batch = make(), batch_of(4)
    torch.manual_seed(0)
    exact = method._path_lengths(batch)
    accelerator = make_accelerator(TrainingSettings(steps=1, precision="bf16", device="cpu"), tmp_path)
    method.generators["generator"] = accelerator.prepare_model(method.generators["generator"])
    assert method.sample(torch.ones(1, 5)).dtype == torch.float32  # accelerate widens what comes out …
    torch.manual_seed(0)
    assert torch.equal(method._path_lengths(batch), exact)
    # … of arithmetic in 16 bits, which is not what the lengths are computed in.
    torch.manual_seed(0)
    latents = method._latents(batch["real"][:2])
    prepared, inner = method.generators["generator"], unwrapped(method.generators["generator"])
    assert not torch.equal(prepared.eval()(latents), inner.synthesise(inner.styles(latents)))


@pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])
def test_so_many_samples_have_two_styles(mixing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    method = make(styles=StyleSettings(mixing=mixing))
    told: list[Tensor] = []
    generator = method.generators["generator"]
    generator.synthesis.register_forward_pre_hook(lambda module, inputs: told.append(inputs[0]))
    with torch.no_grad():
        method.translate(batch_of(2000), 0)
        method.sample(torch.randn(2000, 5))
    changes = (told[0][:, 1:] != told[0][:, :-1]).any(2)
    assert changes.sum(1).max() <= 1
    assert changes.any(1).float().mean().item() == pytest.approx(mixing, abs=0.04)
    where = changes.float().mean(0)  # any layer but the first
    torch.testing.assert_close(where, torch.full_like(where, mixing / 5), rtol=0, atol=0.03)
    assert (told[1] == told[1][:, :1]).all()  # what is shown is of one style


def test_both_regularisations_take_turns() -> None:
    penalties = Penalties(r1=1.0, every_steps=3)
    method = make(styles=StyleSettings(path_length_every_steps=2), penalties=penalties)
    found = []
    for step in range(6):
        batch = batch_of(4)
        out = method.translate(batch, step)
        of_generator = method.generator_losses(batch, out, step).terms
        of_discriminator = method.discriminator_losses(batch, {"sample": out["sample"].detach()}, step).terms
        method.stepped(step, critic_only=False)
        found.append(("path_length" in of_generator, "r1" in of_discriminator))
    # The first lengths only start the mean.
    assert found == [(False, True), (False, False), (True, False), (False, True), (True, False), (False, False)]


def test_settings_that_cannot_be_used_are_refused() -> None:
    for wrong, flag in (
        ({"mixing": 1.1}, "--mixing"),
        ({"path_length": -1.0}, "--path-length"),
        ({"path_length": math.inf}, "--path-length"),
        ({"path_length_decay": 0.0}, "--path-length-decay"),
        ({"path_length_every_steps": 0}, "--path-length-every-steps"),
        ({"path_length_shrink": 0}, "--path-length-shrink"),
    ):
        with pytest.raises(InputError, match=f"{flag} must be"):
            StyleSettings(**wrong)  # type: ignore[arg-type]
