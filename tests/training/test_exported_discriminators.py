"""A run keeps its discriminators where others can read them, beside its generators."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy_methods import ToyGAN, networks, train_toy

from i2i.checkpoints import load_discriminator
from i2i.methods.base import Batch
from i2i.methods.gan import GAN


class Own(nn.Linear):
    """A discriminator that the library does not know."""

    classes = 0

    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points)[:, 0]


class WithOwn(ToyGAN):
    def __init__(self) -> None:
        GAN.__init__(self, generator=networks()["generator"], discriminator=Own(2, 1))


class Pictured(ToyGAN):
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {"real": torch.zeros(1, 1, 4, 4)}


@pytest.mark.parametrize("toy", ["pool", "nested"])
def test_they_are_exported_as_they_train(toy: str, tmp_path: Path) -> None:
    _, method = train_toy(toy, tmp_path / "run")
    judge = load_discriminator(tmp_path / "run")
    for name, tensor in method.discriminators["discriminator"].state_dict().items():
        torch.testing.assert_close(judge.state_dict()[name], tensor, rtol=0, atol=0)


def test_the_best_has_its_own(tmp_path: Path) -> None:
    """The metric is alike at every validation, so that the first, after three of four steps, stays the best."""
    train_toy("three", tmp_path / "three", method=Pictured(), steps=3)
    train_toy("four", tmp_path / "four", method=Pictured(), steps=4, best_metric="x")
    best, after_three = (
        load_discriminator(path).state_dict() for path in (tmp_path / "four" / "best", tmp_path / "three")
    )
    last = load_discriminator(tmp_path / "four").state_dict()
    for name, tensor in best.items():
        torch.testing.assert_close(tensor, after_three[name], rtol=0, atol=0)
    assert any(not torch.equal(best[name], last[name]) for name in best)


def test_one_of_ones_own_stays_in_the_state(tmp_path: Path) -> None:
    train_toy("own", tmp_path / "run", method=WithOwn())
    assert (tmp_path / "run" / "generator" / "generator.safetensors").exists()
    assert not (tmp_path / "run" / "discriminators").exists()
