"""The average of weights against its formula written out."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from toy_numbers import BATCHES, SETTINGS, as_batch, double_pix2pix, trainer_for

from i2i.training.ema import ExponentialMovingAverage


def averaged(values: list[Tensor], *, decay: float) -> Tensor:
    """Σₖ (1 − dₖ) (Πⱼ>ₖ dⱼ) vₖ + (Π d) v₀, with dₖ the decay of the k-th update."""
    decays = [min(decay, (1 + n) / (10 + n)) for n in range(len(values) - 1)]
    total = math.prod(decays) * values[0]
    for k, value in enumerate(values[1:]):
        total = total + (1 - decays[k]) * math.prod(decays[k + 1 :]) * value
    return total


@pytest.mark.parametrize("decay", [0.15, 0.999])
def test_closed_form(decay: float) -> None:
    network = nn.Linear(3, 1, bias=False).double()
    average = ExponentialMovingAverage({"a": network}, decay=decay)
    values = [network.weight.detach().clone()]
    for _ in range(12):
        with torch.no_grad():
            network.weight.copy_(torch.randn(1, 3, dtype=torch.float64))
        values.append(network.weight.detach().clone())
        average.update({"a": network})
    torch.testing.assert_close(average.networks["a"].weight, nn.Parameter(averaged(values, decay=decay), False))


def test_updated_once_a_step_however_many_micro_batches_and_critic_rounds() -> None:
    settings = replace(SETTINGS, ema_decay=0.3, accumulation=2, critic_steps=3)
    method = double_pix2pix()
    trainer = trainer_for(method, settings, [as_batch(numbers) for numbers in BATCHES * 4])
    weight = method.generators["generator"].head.weight
    values = [weight.detach().clone()]
    for step in range(4):
        trainer.step(step)
        values.append(weight.detach().clone())
    assert trainer.ema is not None
    average = trainer.ema.networks["generator"].head.weight
    torch.testing.assert_close(average.detach(), averaged(values, decay=0.3))
    assert not torch.equal(average, weight)


def test_buffers_are_taken_over_and_state_comes_back() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ExponentialMovingAverage({"a": network}, decay=0.9)
    network(torch.randn(8, 2) + 5)
    average.update({"a": network})
    average.copy_buffers({"a": network})
    torch.testing.assert_close(average.networks["a"][1].running_mean, network[1].running_mean)

    other = ExponentialMovingAverage({"a": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))}, decay=0.9)
    other.load_state_dict(average.state_dict())
    assert other.updates == 1
    for ours, theirs in zip(other.networks["a"].parameters(), average.networks["a"].parameters(), strict=True):
        assert torch.equal(ours, theirs)
