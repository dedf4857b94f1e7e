"""The setting that computes activations again reaches the generators, changes no number and leaves no trace."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_methods import train_toy
from toy_numbers import trainer_for

from i2i.discriminators import DCGANDiscriminator, MLPDiscriminator, PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import MLPGenerator, ResNetGenerator, SNGANGenerator, StyleGANGenerator
from i2i.methods.gan import GAN
from i2i.methods.pix2pix import Pix2Pix
from i2i.methods.stylegan import StyleGAN, StyleSettings
from i2i.training.config import FREE_ON_RESUME, TrainingSettings
from i2i.training.drawing import DrawingSettings, plan_drawing

SETTINGS = TrainingSettings(steps=3, accumulation=2, ema_decay=0.9, device="cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_are_the_same_to_the_bit(precision: str) -> None:
    settings = replace(SETTINGS, precision=precision)
    outcomes = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        generator = ResNetGenerator(in_channels=1, out_channels=1, width=4, blocks=2, norm="batch", dropout=True)
        method = Pix2Pix(
            generator=generator, discriminator=PatchDiscriminator(in_channels=2, width=2, layers=1, spectral=True)
        )
        batches = [{"input": torch.rand(2, 1, 16, 16), "target": torch.rand(2, 1, 16, 16)} for _ in range(6)]
        trainer = trainer_for(method, replace(settings, checkpointing=checkpointing), batches)
        assert ("forward" in vars(generator.stem)) == checkpointing
        losses = [trainer.step(step).losses for step in range(3)]
        assert trainer.ema is not None
        states = [trainer.ema.networks["generator"].state_dict(), *trainer.state_dict()["networks"]]
        outcomes.append((losses, [tensor for state in states for tensor in state.values()]))
        trainer.release()
        assert "forward" not in vars(generator.stem)
    assert outcomes[0][0] == outcomes[1][0]
    assert all(torch.equal(a, b) for a, b in zip(outcomes[0][1], outcomes[1][1], strict=True))


def test_a_run_that_needs_less_memory_may_go_on_with_it() -> None:
    assert "checkpointing" in FREE_ON_RESUME


def test_a_generator_without_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--checkpointing .* stages\(\)"):
        train_toy("plain", tmp_path / "run", checkpointing=True)
    assert not (tmp_path / "run").exists()


def test_a_drawing_generator_without_stages_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    class Networks:
        def make(self, task: object) -> tuple[MLPGenerator, MLPDiscriminator]:
            return MLPGenerator(latent_channels=2, out_channels=2), MLPDiscriminator(in_channels=2)

    training = replace(SETTINGS, checkpointing=True)
    settings = DrawingSettings(out=tmp_path / "run", networks=Networks(), training=training)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"--checkpointing .* stages\(\)"):
        plan_drawing(settings, task=None, title="", game=GAN)  # type: ignore[arg-type]


def draws(kind: str) -> GAN:
    shared = {"latent_channels": 4, "size": 16, "width": 8}
    discriminator = DCGANDiscriminator(size=16, width=2, norm="none")
    if kind == "biggan":
        return GAN(generator=SNGANGenerator(**shared, spectral=True, attention_px=8), discriminator=discriminator)
    generator = StyleGANGenerator(**shared, style_channels=4, mapping_layers=1, layers=kind)  # type: ignore[arg-type]
    return StyleGAN(generator=generator, discriminator=discriminator, styles=StyleSettings(path_length_every_steps=1))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["biggan", "adain", "modulated"])
def test_drawing_is_learnt_the_same_to_the_bit(kind: str, precision: str) -> None:
    """With path lengths, whose gradients go through a gradient."""
    outcomes = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        batches = [{"real": torch.rand(2, 3, 16, 16)} for _ in range(6)]
        settings = replace(SETTINGS, precision=precision, checkpointing=checkpointing)
        trainer = trainer_for(draws(kind), settings, batches)  # type: ignore[arg-type]
        losses = [trainer.step(step).losses for step in range(3)]
        states = trainer.state_dict()["networks"]
        outcomes.append((losses, [tensor for state in states for tensor in state.values()]))
    assert outcomes[0][0] == outcomes[1][0]
    assert all(torch.equal(a, b) for a, b in zip(outcomes[0][1], outcomes[1][1], strict=True))
