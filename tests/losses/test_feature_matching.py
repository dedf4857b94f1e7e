"""Feature matching against its formulas in NumPy, and losses over the scales of a discriminator."""

import numpy as np
import pytest
import torch
from torch import Tensor

from i2i.errors import InputError
from i2i.losses.adversarial import Hinge, over_scales
from i2i.losses.feature_matching import feature_matching, mean_feature_matching

SHAPES = [[(2, 4, 8, 8), (2, 8, 4, 4), (2, 1, 3, 3)], [(2, 4, 4, 4), (2, 8, 2, 2), (2, 1, 1, 1)]]


def features(dtype: torch.dtype = torch.float64) -> list[list[Tensor]]:
    return [[torch.randn(shape, dtype=dtype) for shape in scale] for scale in SHAPES]


def test_it_is_spades() -> None:
    """Each layer's mean absolute difference but the scores', divided by the number of discriminators."""
    real, fake = features(), features()
    expected = 0.0
    for scale in range(2):
        for layer in range(2):
            expected += np.abs(real[scale][layer].numpy() - fake[scale][layer].numpy()).mean() / 2
    assert feature_matching(real, fake).item() == pytest.approx(expected, rel=1e-12)


def test_scores_do_not_count_and_features_of_both_have_gradients() -> None:
    """Into real ones too: there is a way there where discriminators' weights depend on the generator (`Unrolled`)."""
    real, fake = features(), features()
    for scale in [*real, *fake]:
        for tensor in scale:
            tensor.requires_grad_()
    feature_matching(real, fake).backward()
    for real_scale, fake_scale in zip(real, fake, strict=True):
        for ours, theirs in zip(fake_scale[:-1], real_scale[:-1], strict=True):
            assert ours.grad is not None and theirs.grad is not None and ours.grad.abs().min() > 0
            assert torch.equal(theirs.grad, -ours.grad)
        assert fake_scale[-1].grad is None and real_scale[-1].grad is None


def test_half_types_are_summed_in_float32() -> None:
    real, fake = features(torch.bfloat16), features(torch.bfloat16)
    wide = feature_matching(*([[t.float() for t in scale] for scale in side] for side in (real, fake)))
    assert feature_matching(real, fake).dtype == torch.float32
    assert torch.equal(feature_matching(real, fake), wide)


def test_features_that_do_not_match_are_refused() -> None:
    real = features()
    for fake in (real[:1], [real[0][:2], real[1]], [real[1], real[0]], []):
        with pytest.raises(InputError, match="same scales"):
            feature_matching(real, fake)


def test_means_over_a_batch_are_matched() -> None:
    """Salimans et al. 2016, section 3.1, whatever the numbers of samples, per feature."""
    real, fake = torch.randn(5, 3, 2, 4, dtype=torch.float64), torch.randn(7, 3, 2, 4, dtype=torch.float64)
    difference = real.numpy().mean(0) - fake.numpy().mean(0)
    found = mean_feature_matching(real, fake)
    assert found.item() == pytest.approx((difference**2).sum() / 24, rel=1e-12)
    # A layer of twice the features weighs the same, and the order of samples does not matter.
    wider = mean_feature_matching(*(torch.cat([side, side], dim=1).flip(0) for side in (real, fake)))
    torch.testing.assert_close(wider, found)


def test_means_pull_at_each_other() -> None:
    real, fake = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    mean_feature_matching(real, fake).backward()
    pull = 2 * (fake.mean(0) - real.mean(0)) / 3 / 5
    torch.testing.assert_close(fake.grad, pull.detach().expand(5, 3))
    torch.testing.assert_close(real.grad, -pull.detach().expand(5, 3))


def test_means_of_half_types_are_taken_in_float32() -> None:
    real, fake = (5 + torch.randn(2, 1000, 4)).half()
    found = mean_feature_matching(real, fake)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, mean_feature_matching(real.double(), fake.double()).float())
    with pytest.raises(InputError, match=r"\(1000, 4\) and \(1000, 3\)"):
        mean_feature_matching(real, fake[:, :3])


def test_a_loss_over_scales_is_the_mean_of_the_scales_whatever_their_sizes() -> None:
    real, fake = ([scale[-1] for scale in side] for side in (features(), features()))
    hinge = Hinge()
    both = [hinge.discriminator_loss(real[0], fake[0]).item(), hinge.discriminator_loss(real[1], fake[1]).item()]
    assert over_scales(hinge.discriminator_loss, real, fake).item() == pytest.approx(sum(both) / 2, rel=1e-12)
    of_generator = -(fake[0].mean() + fake[1].mean()).item() / 2
    assert over_scales(hinge.generator_loss, fake).item() == pytest.approx(of_generator, rel=1e-12)
