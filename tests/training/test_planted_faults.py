"""The monitor on real training: silent while pix2pix learns streets, and outspoken on each planted fault."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.data.streets import StreetPairs
from i2i.discriminators import PatchDiscriminator
from i2i.generators import UNetGenerator
from i2i.methods.base import Batch, Losses, Outputs
from i2i.methods.pix2pix import Pix2Pix
from i2i.training.config import TrainingSettings
from i2i.training.loop import train
from i2i.training.report import RunFacts

SETTINGS = TrainingSettings(
    steps=300,
    batch_size=4,
    generator_learning_rate=4e-4,
    validate_every_steps=100,
    save_every_steps=300,
    best_metric="l1",
    workers=0,
    device="cpu",
)


@cache
def streets(*, count: int) -> StreetPairs:
    return StreetPairs(count=count, size=64, first_seed=count, cache=False)


def pix2pix(discriminator_inputs: int = 6) -> Pix2Pix:
    torch.manual_seed(0)
    return Pix2Pix(
        generator=UNetGenerator(in_channels=3, out_channels=3, width=8, depth=4, dropout=False),
        discriminator=PatchDiscriminator(in_channels=discriminator_inputs, width=8, layers=2),
    )


class Informed(Pix2Pix):
    """The discriminator sees a channel that says which images are real."""

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        fake, real = self._judge_told(batch, out["output"], -1.0), self._judge_told(batch, batch["target"], 1.0)
        loss = 0.5 * self.objective.discriminator_loss(real, fake)
        return Losses(terms={"discriminator": loss}, real_scores=[real], fake_scores=[fake])

    def _pairs(self, batch: Batch, image: Tensor, told: float = -1.0) -> Tensor:
        return torch.cat([super()._pairs(batch, image), torch.full_like(image[:, :1], told)], dim=1)

    def _judge_told(self, batch: Batch, image: Tensor, told: float) -> Tensor:
        return self.discriminators["discriminator"](self._pairs(batch, image, told))


class Constant(UNetGenerator):
    """Returns one learned picture, whatever comes in."""

    def __init__(self) -> None:
        super().__init__(in_channels=3, out_channels=3, width=8, depth=4)
        self.picture = nn.Parameter(0.1 * torch.randn(3, 64, 64))
        for parameter in (*self.down.parameters(), *self.up.parameters(), *self.head.parameters()):
            parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.picture.tanh().expand(len(images), -1, -1, -1)


def informed() -> Pix2Pix:
    method = pix2pix(discriminator_inputs=7)
    return Informed(**method.generators, **method.discriminators)


def constant() -> Pix2Pix:
    return Pix2Pix(generator=Constant(), discriminator=pix2pix().discriminators["discriminator"])


def alarms(method: Pix2Pix, settings: TrainingSettings, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    # The planted generator is in no list of those that can be stored.
    monkeypatch.setattr("i2i.training.record.save_generator", lambda *arguments, **named: None)
    image = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    result = train(
        method=method,
        training_data=streets(count=64),
        validation_data=streets(count=8),
        specs={"generator": GeneratorSpec(input=image, output=image)},
        settings=settings,
        out=out,
        facts=RunFacts(title="Planted fault", about="", settings={}, fingerprint=""),
    )
    return [alarm.text for alarm in result.alarms]


def test_silent_while_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert alarms(pix2pix(), SETTINGS, tmp_path, monkeypatch) == []


@pytest.mark.parametrize(
    ("plant", "says"),
    [(informed, "The discriminator has won"), (constant, "collapse to one image")],
)
def test_planted_network_is_reported(
    plant: Callable[[], Pix2Pix], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = alarms(plant(), SETTINGS, tmp_path, monkeypatch)
    assert any(says in text for text in said), said


def test_learning_rate_a_thousand_times_too_high_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, generator_learning_rate=0.4, discriminator_learning_rate=0.2)
    assert alarms(pix2pix(), settings, tmp_path, monkeypatch)
