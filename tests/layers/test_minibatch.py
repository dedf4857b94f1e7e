"""Statistics of the batch against naive loops."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.minibatch import MinibatchDiscrimination, MinibatchLayer, MinibatchStdDev, make_minibatch
from i2i.methods.shared import can_join

SHAPES = [(6, 3), (6, 3, 4, 5)]


def layers(shape: tuple[int, ...]) -> list[MinibatchLayer]:
    return [MinibatchStdDev(), MinibatchDiscrimination(int(np.prod(shape[1:])), kernels=4, kernel_features=2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_stddev_against_numpy(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    result = MinibatchStdDev()(x)
    assert torch.equal(result[:, :3], x)
    np.testing.assert_allclose(result[:, 3:], np.full((6, 1, *shape[2:]), x.numpy().std(axis=0).mean()), rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "group_size", "groups"),
    [(6, 2, [2, 2, 2]), (7, 3, [4, 3]), (5, 4, [5]), (3, 4, [3]), (11, 4, [6, 5]), (6, None, [6])],
)
def test_stddev_in_groups(size: int, group_size: int | None, groups: list[int]) -> None:
    """A batch that is no multiple is split evenly; no group is smaller than asked for, unless the batch is."""
    x = torch.randn(size, 3, 2, 2)
    result = MinibatchStdDev(group_size=group_size)(x)
    for own, whole in zip(x.split(groups), result.split(groups), strict=True):
        expected = own.numpy().std(axis=0).mean()
        np.testing.assert_allclose(whole[:, 3], np.full((len(own), 2, 2), expected), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_discrimination_against_a_loop(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    layer = layers(shape)[1].double()
    matrix = layer.tensor.weight.detach().numpy().T.reshape(-1, 4, 2)  # the paper's T: A × B × C
    measured = [np.tensordot(sample.flatten().numpy(), matrix, axes=1) for sample in x]
    result = layer(x).detach()
    assert torch.equal(result[:, :3], x)
    for i in range(6):
        for b in range(4):
            others = [np.exp(-np.abs(measured[i][b] - measured[j][b]).sum()) for j in range(6) if j != i]
            np.testing.assert_allclose(result[i, 3 + b], np.full(shape[2:], sum(others)), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_in_another_order_get_the_same(shape: tuple[int, ...]) -> None:
    x, order = torch.randn(shape), torch.tensor([3, 0, 5, 1, 4, 2])
    for layer in layers(shape):
        torch.testing.assert_close(layer(x[order]), layer(x)[order])


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_that_are_alike_are_seen(shape: tuple[int, ...]) -> None:
    """The finite gradient is what pulls a collapsed generator apart."""
    alike = torch.randn(shape)[:1].repeat(6, *[1] * (len(shape) - 1)).requires_grad_()
    stddev, discrimination = layers(shape)
    assert stddev(alike)[:, 3:].max() < 1.1e-4
    torch.testing.assert_close(discrimination(alike)[:, 3:], torch.full((6, 4, *shape[2:]), 5.0))
    for layer in (stddev, discrimination):
        (gradient,) = torch.autograd.grad(layer(alike).square().sum(), alike)
        assert torch.isfinite(gradient).all()


def test_gradients_of_gradients() -> None:
    """Gradient penalties and unrolled steps need them."""
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    for layer in layers((4, 3)):
        assert torch.autograd.gradgradcheck(layer.double(), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_keep_their_precision_in_16_bits(shape: tuple[int, ...]) -> None:
    """Far from zero, bfloat16 could not tell the samples' deviations."""
    x = (100 + torch.randn(shape)).bfloat16()
    for layer in layers(shape):
        with torch.autocast("cpu", torch.bfloat16):
            result = layer(x)
        assert result.dtype == torch.bfloat16
        found = layer.statistics(x.float()).bfloat16()
        assert torch.equal(result[:, 3:], found.reshape(*found.shape, *[1] * (x.ndim - 2)).expand_as(result[:, 3:]))


def test_a_batch_of_one_is_refused() -> None:
    for layer in layers((1, 3)):
        with pytest.raises(InputError, match="got a batch of 1: give a larger --batch-size, or"):
            layer(torch.randn(1, 3))
    with pytest.raises(InputError, match="groups of at least 2 samples, got 1"):
        MinibatchStdDev(group_size=1)


@pytest.mark.parametrize(("kind", "added"), [("none", 0), ("stddev", 1), ("discrimination", 16)])
@pytest.mark.parametrize("shape", SHAPES)
def test_by_name(kind: str, added: int, shape: tuple[int, ...]) -> None:
    layer, channels = make_minibatch(kind, 3, places=int(np.prod(shape[2:])))  # type: ignore[arg-type]
    assert layer(torch.randn(shape)).shape == (6, channels, *shape[2:])
    assert channels == 3 + added
    with pytest.raises(InputError, match="got 'std'"):
        make_minibatch("std", 3)  # type: ignore[arg-type]


def test_batches_are_not_joined_where_they_would_mix() -> None:
    batches: list[Tensor] = [torch.randn(2, 3), torch.randn(2, 3)]
    assert can_join(nn.Sequential(nn.Linear(3, 3)), batches)
    for layer in layers((2, 3)):
        assert not can_join(nn.Sequential(nn.Linear(3, 3), layer), batches)
