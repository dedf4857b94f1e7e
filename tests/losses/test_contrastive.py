"""PatchNCE against the paper's formula in loops, and what surrounds it: projector, positions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.losses.contrastive import PatchProjector, draw_positions, features_at, mirrored_positions, patch_nce


def unit_vectors(*shape: int) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def written_out(queries: np.ndarray, keys: np.ndarray, temperature: float) -> float:
    """Equation 2 for every position of every image, as it stands in the paper, and the mean of them."""
    losses = []
    for image in range(len(queries)):
        for place, query in enumerate(queries[image]):
            positive = math.exp(query @ keys[image][place] / temperature)
            negatives = [math.exp(query @ k / temperature) for s, k in enumerate(keys[image]) if s != place]
            losses.append(-math.log(positive / (positive + sum(negatives))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_patch_nce_is_the_papers(temperature: float) -> None:
    queries, keys = unit_vectors(2, 5, 7), unit_vectors(2, 5, 7)
    loss = patch_nce(queries, keys, temperature=temperature)
    assert loss.item() == pytest.approx(written_out(queries.numpy(), keys.numpy(), temperature), rel=1e-12)


def test_temperature_is_the_papers_unless_given() -> None:
    queries, keys = unit_vectors(1, 4, 3), unit_vectors(1, 4, 3)
    assert torch.equal(patch_nce(queries, keys), patch_nce(queries, keys, temperature=0.07))


@pytest.mark.parametrize("places", [1, 2, 16])
def test_least_and_undecided_loss_in_closed_form(places: int) -> None:
    """Orthogonal keys that the queries meet: log(1 + (P − 1)·e^(−1/τ)). All alike: log P."""
    corners = torch.eye(16, dtype=torch.float64)[:places].expand(3, -1, -1)
    least = math.log1p((places - 1) * math.exp(-1 / 0.5))
    assert patch_nce(corners, corners, temperature=0.5).item() == pytest.approx(least, rel=1e-12, abs=1e-15)
    alike = unit_vectors(1, 1, 6).expand(3, places, 6)
    assert patch_nce(alike, alike).item() == pytest.approx(math.log(places), abs=1e-12)


def test_keys_get_no_gradient_and_queries_the_right_one() -> None:
    queries, keys = unit_vectors(2, 4, 3).requires_grad_(), unit_vectors(2, 4, 3).requires_grad_()
    patch_nce(queries, keys).backward()
    assert keys.grad is None
    assert queries.grad is not None and queries.grad.abs().min() > 0
    assert torch.autograd.gradcheck(lambda q: patch_nce(q, keys.detach()), queries)


def test_float32_under_autocast_and_for_half_types() -> None:
    queries, keys = unit_vectors(1, 64, 32).float(), unit_vectors(1, 64, 32).float()
    exact = patch_nce(queries, keys)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (queries @ keys.mT).dtype == torch.bfloat16  # else this test would show nothing
        assert torch.equal(patch_nce(queries, keys), exact)
    assert patch_nce(queries.bfloat16(), keys.bfloat16()).dtype == torch.float32


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"\(1, 4, 3\) and \(1, 5, 3\)"):
        patch_nce(torch.zeros(1, 4, 3), torch.zeros(1, 5, 3))
    with pytest.raises(InputError, match="positions, channels"):
        patch_nce(torch.zeros(4, 3), torch.zeros(4, 3))


def test_projector_written_out() -> None:
    projector = PatchProjector(channels=[3, 5], width=16).double()
    features = [torch.randn(2, 7, channels, dtype=torch.float64) for channels in (3, 5)]
    weights = [dict(stage.named_parameters()) for stage in projector.stages]
    for vectors, own, projected in zip(features, weights, projector(features), strict=True):
        hidden = (vectors @ own["0.weight"].T + own["0.bias"]).clamp(min=0)
        expected = hidden @ own["2.weight"].T + own["2.bias"]
        torch.testing.assert_close(projected, expected / expected.square().sum(2, keepdim=True).sqrt())


def test_projector_starts_as_the_authors_does() -> None:
    projector = PatchProjector(channels=[3, 128])
    shapes = [tuple(parameter.shape) for parameter in projector.parameters()]
    assert shapes == [(256, 3), (256,), (256, 256), (256,), (256, 128), (256,), (256, 256), (256,)]
    for name, parameter in projector.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1)
            assert parameter.mean().item() == pytest.approx(0, abs=0.002)


def test_features_of_nothing_give_a_bounded_gradient() -> None:
    """Instance norms make zeros of what is flat, and these lie on no sphere."""
    projector = PatchProjector(channels=[4])
    features = torch.randn(1, 8, 4)
    features[:, :4] = 0
    (queries,) = projector([features])
    assert not queries[:, :4].any()
    torch.testing.assert_close(queries[:, 4:].norm(dim=2), torch.ones(1, 4))
    patch_nce(queries, unit_vectors(1, 8, 256).float()).backward()
    largest = max(parameter.grad.abs().max().item() for parameter in projector.parameters())
    assert 0 < largest < 1e5


@pytest.mark.parametrize(("count", "found"), [(5, 5), (12, 12), (256, 12)])
def test_positions_are_distinct_and_each_images_own(count: int, found: int) -> None:
    positions = draw_positions(torch.zeros(20, 2, 3, 4), count)
    assert positions.shape == (20, found) and positions.dtype == torch.int64
    assert positions.min() >= 0 and positions.max() < 12
    assert all(len(set(row)) == found for row in positions.tolist())
    if found < 12:
        assert len({frozenset(row) for row in positions.tolist()}) > 10


def test_every_place_is_drawn_equally_often() -> None:
    counts = draw_positions(torch.zeros(6000, 1, 2, 5), 3).flatten().bincount()
    assert len(counts) == 10
    # Each is in 3 of 10 draws: 1800, give or take a standard deviation of 35.
    assert (counts - 1800).abs().max() < 5 * 35


def test_features_are_taken_at_row_and_column() -> None:
    features = torch.randn(3, 2, 4, 5)
    positions = draw_positions(features, 6)
    taken = features_at(features, positions)
    for image in range(3):
        for place, position in enumerate(positions[image].tolist()):
            assert torch.equal(taken[image, place], features[image, :, position // 5, position % 5])


def test_mirrored_positions_find_the_same_in_mirrored_maps() -> None:
    features = torch.randn(3, 2, 4, 5)
    positions = draw_positions(features, 20)
    taken = features_at(features.flip(3), mirrored_positions(positions, 5))
    assert torch.equal(taken, features_at(features, positions))
