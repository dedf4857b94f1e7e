"""Normalisation of feature maps (N, C, H, W): over the batch, over each image, told by a label map, or none."""

from typing import Literal

import torch
from torch import Tensor, nn

from i2i.errors import InputError

Norm = Literal["batch", "instance", "none"]
ParameterFreeNorm = Literal["batch", "instance"]
Normalisation = Literal["eval", "per_image"]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) that can also normalise each image by itself at inference.

    With `per_image` set, evaluation mode uses the statistics of every image alone, never of its
    neighbours in the batch, in place of the running ones. That is what pix2pix does at test time with
    batches of one. A map of a single pixel has no spread: the result is then the learnt bias.
    """

    per_image: bool = False

    def forward(self, features: Tensor) -> Tensor:
        if self.per_image and not self.training:
            return _normalise_each_image(features, self.weight, self.bias, self.eps)
        return super().forward(features)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al. 2016) without scale, shift or running statistics.

    Unlike PyTorch's own, it also takes maps of a single pixel, whose result is zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)

    def forward(self, features: Tensor) -> Tensor:
        return _normalise_each_image(features, None, None, self.eps)


def _normalise_each_image(features: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    # torch.instance_norm lies below the check in torch.nn.functional that refuses maps of one pixel.
    return torch.instance_norm(features, weight, bias, None, None, True, 0.0, eps, torch.backends.cudnn.enabled)


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """The normalisation layer for maps of `channels` channels.

    "instance" has no learnt parameters, "none" is the identity.
    """
    match kind:
        case "batch":
            return BatchNorm2d(channels)
        case "instance":
            return InstanceNorm2d(channels)
        case "none":
            return nn.Identity()
        case _:
            raise InputError(f'expected norm to be "batch", "instance" or "none", got {kind!r}')


class SPADE(nn.Module):
    """Normalise, then scale and shift every pixel by what a label map says there (Park et al. 2019, eq. 1).

    Features (N, channels, h, w) and label maps of the same size (N, label_channels, h, w) → (N, channels, h, w):
    norm(features) · (1 + γ(labels)) + β(labels), where γ and β share a first convolution.

    Args:
        norm: over the batch, with running statistics, or over each image; neither learns scale or shift of its own.
        hidden_width: channels after the first convolution.
        kernel_size: of all three convolutions, odd.
    """

    def __init__(
        self,
        channels: int,
        *,
        label_channels: int,
        norm: ParameterFreeNorm = "batch",
        hidden_width: int = 128,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise InputError(f"expected an odd kernel size for SPADE, got {kernel_size}")

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)

        self.norm = _parameter_free_norm(norm, channels)
        self.shared = nn.Sequential(conv(label_channels, hidden_width), nn.ReLU(inplace=True))
        self.gamma = conv(hidden_width, channels)
        self.beta = conv(hidden_width, channels)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        hidden = self.shared(labels)
        return self.norm(features) * (1 + self.gamma(hidden)) + self.beta(hidden)


def _parameter_free_norm(kind: ParameterFreeNorm, channels: int) -> nn.Module:
    match kind:
        case "batch":
            return BatchNorm2d(channels, affine=False)
        case "instance":
            return InstanceNorm2d(channels)
        case _:
            raise InputError(f'expected norm to be "batch" or "instance", got {kind!r}')


def set_inference_mode(network: nn.Module, *, normalisation: Normalisation, dropout: bool) -> None:
    """Put `network` into evaluation mode, with the given normalisation and with or without dropout.

    Args:
        normalisation: "eval" uses the running statistics of batch norms, "per_image" those of each image.
        dropout: whether dropout layers stay active, as the source of noise that pix2pix uses them for.
    """
    if normalisation not in ("eval", "per_image"):
        raise InputError(f'expected normalisation to be "eval" or "per_image", got {normalisation!r}')
    network.eval()
    for module in network.modules():
        if isinstance(module, BatchNorm2d):
            module.per_image = normalisation == "per_image"
        elif isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.train(dropout)
