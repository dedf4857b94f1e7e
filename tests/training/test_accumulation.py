"""Micro-batches and processes divide a batch without changing what is learned."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toy_jobs import TwoProcesses
from toy_numbers import BATCHES, Styled, double_pix2pix, trained, trained_by_hand, weights_of

from i2i.methods.stabilisers import HistoricalAveraging


@pytest.fixture(scope="module")
def by_hand() -> list[Tensor]:
    return trained_by_hand()


def assert_equal(weights: list[Tensor], by_hand: list[Tensor]) -> None:
    assert all(weight.dtype == torch.float64 for weight in weights)
    torch.testing.assert_close(weights, by_hand, rtol=0, atol=1e-6)


def test_training_moves_the_weights(by_hand: list[Tensor]) -> None:
    initial = weights_of(double_pix2pix())
    assert all((after - before).abs().max() > 1e-2 for before, after in zip(initial, by_hand, strict=True))


@pytest.mark.parametrize("accumulation", [1, 2, 4, 8])
def test_micro_batches_equal_one_batch(accumulation: int, by_hand: list[Tensor]) -> None:
    micro_batches = [part for numbers in BATCHES for part in numbers.chunk(accumulation)]
    assert_equal(trained(double_pix2pix(), micro_batches, accumulation=accumulation), by_hand)


def test_micro_batches_of_a_method_with_a_past(by_hand: list[Tensor]) -> None:
    """How far weights are from their mean counts once for a batch, however many parts it has."""
    weights = [
        trained(
            HistoricalAveraging(double_pix2pix(), weight=10.0),
            [part for numbers in BATCHES for part in numbers.chunk(accumulation)],
            accumulation=accumulation,
        )
        for accumulation in (1, 4)
    ]
    assert_equal(weights[1], weights[0])
    assert any((with_past - without).abs().max() > 1e-3 for with_past, without in zip(weights[0], by_hand, strict=True))


def trained_by_styles(accumulation: int) -> list[Tensor]:
    parts = [part for numbers in BATCHES for part in numbers.chunk(accumulation)]
    return trained(Styled(), parts, accumulation=accumulation)


def test_micro_batches_of_a_method_that_follows_a_mean() -> None:
    """That of path lengths: it moves once a step, by all of the step's."""
    whole = trained_by_styles(1)
    assert_equal(trained_by_styles(4), whole)
    method = Styled()
    method.styles = replace(method.styles, path_length=0.0)
    without = trained(method, BATCHES)
    assert any((one - other).abs().max() > 1e-3 for one, other in zip(whole, without, strict=True))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_follow_one_mean(accumulation: int, two_processes: TwoProcesses) -> None:
    whole = trained_by_styles(1)
    for found in two_processes.found:
        assert_equal(found["styled halves"][accumulation], whole)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_equal_one_with_the_whole_batch(
    accumulation: int, by_hand: list[Tensor], two_processes: TwoProcesses
) -> None:
    for found in two_processes.found:
        assert_equal(found["halves"][accumulation], by_hand)
