"""Label maps: the class of every pixel, and where instances meet.

A label map is an integer tensor (N, 1 or 2, H, W): channel 0 holds class ids, "don't care" being the last of them where
there is such a class, channel 1, where there are instances, 1 at their boundaries and 0 elsewhere. Its one-hot form has
a channel for each class, and the boundaries as they are in one more.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def one_hot(labels: Tensor, *, channels: int) -> Tensor:
    """Label maps (N, 1 or 2, H, W), integer, → (N, channels, H, W), float32, of zeros and ones.

    Args:
        channels: as many as there are classes, and one more if the map has two channels.
    """
    classes = channels - (labels.shape[1] - 1)
    hot = F.one_hot(labels[:, 0].long(), classes).movedim(-1, 1).float()
    return torch.cat([hot, labels[:, 1:].float()], dim=1)
