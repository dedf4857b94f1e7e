"""Feature matching: generated images shall make the discriminator's layers respond as real ones do.

Each its own real image, where there is one (`feature_matching`), or on average (`mean_feature_matching`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from i2i.errors import InputError


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of features, summed over layers (Wang et al. 2018, eq. 4), mean over scales.

    The paper adds the scales up. Without the weight, which is 10 in pix2pixHD and SPADE. Computed in at least float32.

    Args:
        real, fake: for each scale what each layer of the discriminator gave, of one shape in both. The last of a scale
            are its scores, which do not count.

    Returns:
        A scalar, at least 0.

    Raises:
        InputError: the two differ in scales, layers or shapes.
    """
    shapes = [[[features.shape for features in scale] for scale in side] for side in (real, fake)]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise InputError(f"expected features of the same scales, layers and shapes, got {shapes[0]} and {shapes[1]}")
    scales = [
        sum(_l1(there, here) for there, here in zip(real_scale[:-1], fake_scale[:-1], strict=True))
        for real_scale, fake_scale in zip(real, fake, strict=True)
    ]
    return torch.stack([torch.as_tensor(scale) for scale in scales]).mean()


def mean_feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """‖E f(x) − E f(G(z))‖²₂, divided by the number of features (Salimans et al. 2016, arXiv:1606.03498, section 3.1).

    E is the mean over a batch alone, so that each place of a map is a feature of its own; without the division a weight
    would mean more the larger the layer. Computed in at least float32.

    Args:
        real, fake: what a layer of the discriminator gave for a batch of each, (N, …), of one shape but for N.

    Returns:
        A scalar, at least 0.

    Raises:
        InputError: the shapes of single samples differ.
    """
    if real.shape[1:] != fake.shape[1:]:
        raise InputError(
            "expected features of one layer for real and fake samples of one size, got "
            f"{tuple(real.shape)} and {tuple(fake.shape)}"
        )
    return (_widen(fake).mean(dim=0) - _widen(real).mean(dim=0)).square().mean()


def _l1(real: Tensor, fake: Tensor) -> Tensor:
    return (_widen(fake) - _widen(real)).abs().mean()


def _widen(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))
