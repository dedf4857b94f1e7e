"""Label maps, and convolutions that read them.

A label map is an integer tensor (N, 1 or 2, H, W). Channel 0 holds class ids from 0 on, the last of them for "don't
care" where that exists. Channel 1, where it exists, is 1 at the edges of instances and 0 elsewhere. The one-hot form
has a channel of zeros and ones for each class, and the edges as they are in one more.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.layers.checks import check_images

# From so many channels of the one-hot form on, looking weights up is faster than multiplying: on a CPU 1.6 times with
# 184 channels, as fast with 36, slower by a tenth with 11, in a whole training step of SPADE's generator.
_LOOKUP_CHANNELS = 32


def check_labels(labels: Tensor, *, channels: int, multiple: int = 1) -> None:
    """Raise InputError unless `labels` is a label map, or the one-hot form (N, channels, H, W) of one.

    H and W must be multiples of `multiple` pixels. Values are not looked at.
    """
    is_map = not labels.is_floating_point() and labels.shape[1:2] in ((1,), (2,))
    check_images(labels, channels=labels.shape[1] if is_map else channels, multiple=multiple)


def one_hot(labels: Tensor, *, channels: int) -> Tensor:
    """Label maps (N, 1 or 2, H, W), integer, → (N, channels, H, W), float32.

    Args:
        channels: one for each class, and one for the edges where the map has them.
    """
    classes = torch.arange(_count_classes(labels, channels), device=labels.device)
    return torch.cat([labels[:, :1] == classes[:, None, None], labels[:, 1:]], dim=1).float()


def halve_one_hot(labels: Tensor, *, channels: int) -> Tensor:
    """The one-hot form at half the size, by 3×3 means of stride 2, without making it at full size first.

    Label maps (N, 1 or 2, H, W), integer, → (N, channels, ⌈H/2⌉, ⌈W/2⌉), float32: what
    `avg_pool2d(one_hot, 3, stride=2, padding=1, count_include_pad=False)` gives.
    """
    outside = _count_classes(labels, channels)
    ids = labels[:, 0].long()
    windows = _windows(ids, (3, 3), stride=(2, 2), padding=(1, 1), border=outside).flatten(3).movedim(3, 1)
    counts = torch.zeros(len(labels), outside + 1, *windows.shape[2:], device=labels.device)
    counts.scatter_add_(1, windows, torch.ones_like(windows, dtype=counts.dtype))
    means = counts[:, :-1] / (9 - counts[:, -1:])
    if labels.shape[1] == 1:
        return means
    edges = F.avg_pool2d(labels[:, 1:].float(), 3, stride=2, padding=1, count_include_pad=False)
    return torch.cat([means, edges], dim=1)


class LabelConv2d(nn.Conv2d):
    """A convolution of label maps that looks weights up instead of multiplying them by zeros and ones.

    Label maps (N, 1 or 2, H, W), integer, or their one-hot form (N, in_channels, H, W), floating point, →
    (N, out_channels, H', W'), the same for both to rounding. For an integer map of many classes no one-hot form is
    made, which would take 4 × in_channels bytes a pixel. Padding is by zeros, where there is no class.
    """

    def forward(self, labels: Tensor) -> Tensor:
        if labels.is_floating_point():
            return super().forward(labels)
        if self.in_channels < _LOOKUP_CHANNELS:
            return super().forward(one_hot(labels, channels=self.in_channels).to(self.weight.dtype))
        return _look_up(labels, self.weight, self.bias, stride=self.stride, padding=self.padding)


class LabelledConv2d(nn.Conv2d):
    """A convolution of images beside label maps, as if the one-hot form came before each image's channels.

    Images (N, C, H, W) and label maps (N, 1 or 2, H, W), integer, → (N, out_channels, H', W'). The one-hot form has
    in_channels - C channels, and is not made if they are many. Without label maps C = in_channels.
    """

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None:
            return super().forward(images)
        channels = self.in_channels - images.shape[1]
        if channels < _LOOKUP_CHANNELS:
            return super().forward(torch.cat([one_hot(labels, channels=channels).to(images.dtype), images], dim=1))
        label_weight, image_weight = self.weight.split([channels, images.shape[1]], dim=1)
        of_labels = _look_up(labels, label_weight, self.bias, stride=self.stride, padding=self.padding)
        return of_labels + F.conv2d(images, image_weight, None, self.stride, self.padding)


def _look_up(
    labels: Tensor, weight: Tensor, bias: Tensor | None, *, stride: tuple[int, ...], padding: str | tuple[int, ...]
) -> Tensor:
    """The convolution of the one-hot form with `weight` (out_channels, channels, height, width)."""
    assert not isinstance(padding, str)
    out_channels, channels, *kernel_size = weight.shape
    outside = _count_classes(labels, channels)
    # For each class and each place in the kernel, the row that it adds to the result; zeros for what is outside.
    rows = F.pad(weight[:, :outside].permute(1, 2, 3, 0), (0, 0, 0, 0, 0, 0, 0, 1))
    ids = labels[:, 0].int()
    if labels.shape[1] == 2:  # classes with an edge are classes of their own
        rows = torch.cat([rows, rows + weight[:, outside:].permute(1, 2, 3, 0)])
        ids = ids + (outside + 1) * labels[:, 1].int()
    windows = _windows(ids, kernel_size, stride=stride, padding=padding, border=outside)
    places = torch.arange(windows.shape[3] * windows.shape[4], dtype=windows.dtype, device=windows.device)
    bags = windows.flatten(3) * len(places) + places
    result = F.embedding_bag(bags.flatten(0, 2), rows.flatten(0, 2), mode="sum")
    if bias is not None:
        result.add_(bias)
    # Not before, since thousands of gradients add up in each row.
    if torch.is_autocast_enabled(labels.device.type):
        result = result.to(torch.get_autocast_dtype(labels.device.type))
    return result.view(*bags.shape[:3], out_channels).permute(0, 3, 1, 2)


def _windows(ids: Tensor, size: Sequence[int], *, stride: Sequence[int], padding: Sequence[int], border: int) -> Tensor:
    """What a kernel sees at each of its positions: ids (N, H, W) → (N, H', W', height, width)."""
    rows, columns = padding
    padded = F.pad(ids, (columns, columns, rows, rows), value=border)
    return padded.unfold(1, size[0], stride[0]).unfold(2, size[1], stride[1])


def _count_classes(labels: Tensor, channels: int) -> int:
    return channels - (labels.shape[1] - 1)
