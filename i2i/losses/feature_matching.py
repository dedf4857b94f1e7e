"""Feature matching: generated images shall make the discriminator's layers respond as real ones do."""

from collections.abc import Sequence

import torch
from torch import Tensor

from i2i.errors import InputError


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of features, summed over layers (Wang et al. 2018, eq. 4), mean over scales.

    The paper adds the scales up. Without the weight, which is 10 in pix2pixHD and SPADE. Computed in at least float32.

    Args:
        real, fake: for each scale what each layer of the discriminator gave, of one shape in both. The last of a scale
            are its scores, which do not count. No gradient goes into `real`.

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


def _l1(real: Tensor, fake: Tensor) -> Tensor:
    wide = torch.promote_types(fake.dtype, torch.float32)
    return (fake.to(wide) - real.detach().to(wide)).abs().mean()
