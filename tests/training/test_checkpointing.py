"""The setting that computes activations again reaches the generators, changes no number and leaves no trace."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_methods import train_toy
from toy_numbers import trainer_for

from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import ResNetGenerator
from i2i.methods.pix2pix import Pix2Pix
from i2i.training.config import FREE_ON_RESUME, TrainingSettings

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
