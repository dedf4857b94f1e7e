"""Stabilisers around methods that translate: they train, and a run in two halves ends as a whole one."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from toy_methods import digest, logged_numbers

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.data.adaptive import AdaptiveAugment
from i2i.data.sampler import Draw
from i2i.discriminators import PatchDiscriminator
from i2i.generators import ResNetGenerator
from i2i.layers.norm import Norm
from i2i.losses.adversarial import NonSaturating
from i2i.losses.penalties import Penalties
from i2i.methods.adaptive import AdaptiveAugmentation
from i2i.methods.base import Method
from i2i.methods.cyclegan import CycleGAN
from i2i.methods.pix2pix import Pix2Pix
from i2i.methods.stabilisers import HistoricalAveraging, InstanceNoise, Replay, WeightClipping
from i2i.methods.unrolled import Unrolled
from i2i.training.config import TrainingSettings
from i2i.training.loop import train
from i2i.training.report import RunFacts

IMAGE = ImageSide(channels=1, dtype="float32", data_range=(-1, 1))
SPEC = GeneratorSpec(input=IMAGE, output=IMAGE)


class Sides(Dataset[dict[str, Tensor]]):
    def __init__(self, *names: str) -> None:
        self.names = names

    def __len__(self) -> int:
        return 6

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(draw if isinstance(draw, int) else draw.index)
        return {name: torch.rand(1, 16, 16, generator=random) * 2 - 1 for name in self.names}


def generator() -> ResNetGenerator:
    return ResNetGenerator(in_channels=1, out_channels=1, width=2, blocks=1)


def judge(channels: int, *, norm: Norm) -> PatchDiscriminator:
    return PatchDiscriminator(in_channels=channels, width=2, layers=1, norm=norm)


def steadied(make: Callable[[AdaptiveAugment], Method]) -> Method:
    """Inside all stabilisers at once."""
    augment = AdaptiveAugment()
    method = AdaptiveAugmentation(make(augment), augment=augment, target=-0.99, ramp_images=40, every_steps=1)
    method = HistoricalAveraging(WeightClipping(method, limit=0.5), weight=0.1)
    return InstanceNoise(Unrolled(Replay(method, capacity=3), steps=2, learning_rate=0.1), deviation=0.1, steps=6)


def pix2pix(augment: AdaptiveAugment) -> Method:
    """Unrolled, a penalty needs third derivatives, which PyTorch's batch and instance norm do not have."""
    judges = judge(2, norm="none")
    return Pix2Pix(generator=generator(), discriminator=judges, augment=augment, penalties=Penalties(r1=0.1))


def cyclegan(augment: AdaptiveAugment) -> Method:
    return CycleGAN(
        a_to_b=generator(),
        b_to_a=generator(),
        discriminator_a=judge(1, norm="batch"),
        discriminator_b=judge(1, norm="batch"),
        objective=NonSaturating(),
        augment=augment,
        pool_size=3,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("make", "sides"), [(pix2pix, ("input", "target")), (cyclegan, ("a", "b"))])
def test_all_at_once(
    make: Callable[[AdaptiveAugment], Method], sides: tuple[str, str], precision: str, tmp_path: Path
) -> None:
    def run(out: Path, steps: int) -> Method:
        torch.manual_seed(0)
        method = steadied(make)
        with patch("i2i.training.loop.write_report"), patch("i2i.training.record.write_report"):
            train(
                method=method,
                training_data=Sides(*sides),
                validation_data=Sides(*sides),
                specs=dict.fromkeys(method.generators, SPEC),
                settings=TrainingSettings(
                    steps=steps,
                    batch_size=2,
                    critic_steps=2,
                    schedule="constant",
                    precision=precision,  # type: ignore
                    ema_decay=0.9,
                    workers=0,
                    device="cpu",
                ),
                out=out,
                facts=RunFacts(title="", about="", settings={}, fingerprint=""),
            )
        return method

    torch.manual_seed(0)
    initial = digest(steadied(make))
    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "halves", 2)
    assert digest(run(tmp_path / "halves", 4)) == digest(whole) != initial
    steps = logged_numbers(tmp_path / "whole")
    assert logged_numbers(tmp_path / "halves") == steps and len(steps) == 4
    assert {"history_of_generators", "history_of_discriminators"} <= steps[-1].keys()
    # Four images a step, of 40 that lead to 1; logged as it was in the step's last round.
    assert [step["augmentation"] for step in steps] == pytest.approx([0.05, 0.15, 0.25, 0.35])
