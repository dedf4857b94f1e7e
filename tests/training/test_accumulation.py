"""Micro-batches and processes divide a batch without changing what is learned."""

import pytest
import torch
from conftest import TwoProcesses
from torch import Tensor
from torch.nn import functional as F
from toy_numbers import BATCHES, SETTINGS, as_batch, double_pix2pix, trained


@pytest.fixture(scope="module")
def by_hand() -> list[Tensor]:
    """pix2pix's training written out: one Adam a side, both on the losses at the weights before the step."""
    method = double_pix2pix()
    generator, discriminator = method.generators["generator"], method.discriminators["discriminator"]
    adams = [
        torch.optim.Adam(network.parameters(), lr=rate, betas=SETTINGS.adam_betas)
        for network, rate in (
            (generator, SETTINGS.generator_learning_rate),
            (discriminator, SETTINGS.discriminator_learning_rate),
        )
    ]
    for numbers in BATCHES:
        batch = as_batch(numbers)
        given, truth = batch["input"], batch["target"]
        output = generator(given)
        fake = discriminator(torch.cat([given, output], 1))
        loss = F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake)) + 100 * (output - truth).abs().mean()
        of_generator = torch.autograd.grad(loss, list(generator.parameters()))
        real = discriminator(torch.cat([given, truth], 1))
        fake = discriminator(torch.cat([given, output.detach()], 1))
        loss = 0.5 * (
            F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
            + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        )
        of_discriminator = torch.autograd.grad(loss, list(discriminator.parameters()))
        for network, gradients in ((generator, of_generator), (discriminator, of_discriminator)):
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
        for adam in adams:
            adam.step()
    return [parameter.detach() for network in (generator, discriminator) for parameter in network.parameters()]


def assert_equal(weights: list[Tensor], by_hand: list[Tensor]) -> None:
    assert all(weight.dtype == torch.float64 for weight in weights)
    torch.testing.assert_close(weights, by_hand, rtol=0, atol=1e-6)


def test_training_moves_the_weights(by_hand: list[Tensor]) -> None:
    method = double_pix2pix()
    networks = (method.generators["generator"], method.discriminators["discriminator"])
    initial = [parameter.detach() for network in networks for parameter in network.parameters()]
    assert all((after - before).abs().max() > 1e-2 for before, after in zip(initial, by_hand, strict=True))


@pytest.mark.parametrize("accumulation", [1, 2, 4, 8])
def test_micro_batches_equal_one_batch(accumulation: int, by_hand: list[Tensor]) -> None:
    micro_batches = [part for numbers in BATCHES for part in numbers.chunk(accumulation)]
    assert_equal(trained(double_pix2pix(), micro_batches, accumulation=accumulation), by_hand)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_equal_one_with_the_whole_batch(
    accumulation: int, by_hand: list[Tensor], two_processes: TwoProcesses
) -> None:
    for found in two_processes.found:
        assert_equal(found["halves"][accumulation], by_hand)
