"""Class ids as networks take them in: checked, and by concatenation (Mirza & Osindero 2014, arXiv:1411.1784)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_classes(labels: Tensor | None, *, classes: int, count: int) -> Tensor:
    """The class ids, (count,) integers from 0 to classes - 1, as int64; InputError if there are none, or others.

    Ids on an accelerator are not looked at, for that would wait for it at every step: whoever puts them there has
    checked them before, as the training loop has (`Method.check`).
    """
    if labels is None:
        raise InputError(f"this network draws or judges {classes} classes: expected the class ids of {count} samples")
    if labels.shape != (count,) or labels.dtype not in INTEGERS:
        raise InputError(f"expected integer class ids of shape ({count},), got {labels.dtype} {tuple(labels.shape)}")
    if labels.device.type == "cpu" and count and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        wrong = labels[(labels < 0) | (labels >= classes)]
        raise InputError(f"expected class ids from 0 to {classes - 1}, got {int(wrong[0])}")
    return labels.long()


def append_classes(samples: Tensor, labels: Tensor | None, *, classes: int) -> Tensor:
    """Join one-hot class ids to channels: (N, C, …) and (N,) int64 → (N, C + classes, …), alike at every position.

    Without classes the samples come back as they are.
    """
    if classes == 0:
        return samples
    one_hot = F.one_hot(check_classes(labels, classes=classes, count=len(samples)), classes).to(samples.dtype)
    one_hot = one_hot.reshape(*one_hot.shape, *(1,) * (samples.ndim - 2))
    return torch.cat([samples, one_hot.expand(-1, -1, *samples.shape[2:])], dim=1)
