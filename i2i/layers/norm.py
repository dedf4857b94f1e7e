"""Normalisation of feature maps (N, C, H, W): over the batch or each image; told by label maps, styles or classes."""

from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.labels import LabelConv2d

Norm = Literal["batch", "instance", "none"]
ParameterFreeNorm = Literal["batch", "sync_batch", "instance"]
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
        if self.training and features.numel() == features.shape[1]:
            raise InputError(
                "batch norm needs more than one value a channel while training, and got a single image whose map is "
                "one pixel here: give --norm instance, a larger --batch-size, or larger images"
            )
        return super().forward(features)


class SyncBatchNorm2d(BatchNorm2d):
    """Batch normalisation that in training takes its statistics over the batches of all processes.

    For a single process it is `BatchNorm2d`. Unlike PyTorch's own it works on the CPU, too. The processes' batches may
    differ in size, but all must call it equally often.
    """

    def forward(self, features: Tensor) -> Tensor:
        distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not (distributed and self.training):
            return super().forward(features)
        values = features.to(torch.promote_types(features.dtype, torch.float32))
        own_count = values.new_tensor([values.numel() / values.shape[1]])
        totals = _sum_over_processes(torch.cat([values.sum((0, 2, 3)), own_count]))
        count = totals[-1]
        mean = totals[:-1] / count
        centred = values - mean[:, None, None]
        variance = _sum_over_processes(centred.square().sum((0, 2, 3))) / count
        self._follow(mean.detach(), (variance * count / (count - 1)).detach())
        normal = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(features.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Let the running statistics follow those of a batch, the variance being the unbiased one."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        self.num_batches_tracked.add_(1)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # every process's result depends on every one's values
        (gradient,) = gradients
        return _SumOverProcesses.forward(ctx, gradient)


def _sum_over_processes(values: Tensor) -> Tensor:
    return _SumOverProcesses.apply(values)


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

    Features (N, channels, h, w) and label maps of the same size, (N, 1 or 2, h, w), integer, or one-hot
    (N, label_channels, h, w), floating point, → (N, channels, h, w): norm(features) · (1 + γ(labels)) + β(labels),
    where γ and β share a first convolution.

    Args:
        label_channels: of the one-hot form.
        norm: over the batch ("sync_batch": over those of all processes), with running statistics, or over each image;
            none learns scale or shift of its own.
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

        padding = kernel_size // 2
        self.norm = _parameter_free_norm(norm, channels)
        self.shared = nn.Sequential(LabelConv2d(label_channels, hidden_width, kernel_size, padding=padding), nn.ReLU())
        self.gamma = nn.Conv2d(hidden_width, channels, kernel_size, padding=padding)
        self.beta = nn.Conv2d(hidden_width, channels, kernel_size, padding=padding)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        hidden = self.shared(labels)
        return self.norm(features) * (1 + self.gamma(hidden)) + self.beta(hidden)


def _parameter_free_norm(kind: ParameterFreeNorm, channels: int) -> nn.Module:
    match kind:
        case "batch":
            return BatchNorm2d(channels, affine=False)
        case "sync_batch":
            return SyncBatchNorm2d(channels, affine=False)
        case "instance":
            return InstanceNorm2d(channels)
        case _:
            raise InputError(f'expected norm to be "batch", "sync_batch" or "instance", got {kind!r}')


def adaptive_instance_norm(content: Tensor, style: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Give each channel of `content` the mean and the standard deviation that it has in `style`.

    Huang & Belongie 2017, eq. 8.

    Args:
        content: (N, C, H, W).
        style: (N, C, h, w), of any size.
        eps: added to variances.

    Returns:
        (N, C, H, W).
    """
    variance, mean = torch.var_mean(style, (2, 3), correction=0, keepdim=True)
    return _normalise_each_image(content, None, None, eps) * (variance + eps).sqrt() + mean


class AdaIN(nn.Module):
    """Normalise each image, then scale and shift its channels as a style vector says (Karras et al. 2019, eq. 1).

    Features (N, channels, H, W) and styles (N, style_channels) → (N, channels, H, W):
    instance_norm(features) · (1 + scale(style)) + shift(style), where scale and shift come from a linear layer.
    """

    def __init__(self, channels: int, *, style_channels: int) -> None:
        super().__init__()
        self.norm = InstanceNorm2d(channels)
        self.scale_and_shift = nn.Linear(style_channels, 2 * channels)
        nn.init.zeros_(self.scale_and_shift.bias)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift(style)[:, :, None, None].chunk(2, dim=1)
        return self.norm(features) * (1 + scale) + shift


class ClassConditionalBatchNorm2d(nn.Module):
    """Batch normalisation with a gain and a bias for each class (Dumoulin et al. 2017, eq. 5; de Vries et al. 2017).

    Features (N, channels, H, W) and the class of each image (N,), int64 from 0 to classes - 1, → (N, channels, H, W).
    """

    def __init__(self, channels: int, *, classes: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, affine=False)
        # No nn.Embedding, whose weight spectral norm would divide.
        self.gain = nn.Parameter(torch.ones(classes, channels))
        self.bias = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        gain, bias = F.embedding(classes, self.gain), F.embedding(classes, self.bias)
        return self.norm(features) * gain[:, :, None, None] + bias[:, :, None, None]


class VectorConditionalBatchNorm2d(nn.Module):
    """Batch normalisation with a gain and a bias out of a vector: BigGAN's (Brock et al. 2019, arXiv:1809.11096, §3).

    Features (N, channels, H, W) and conditions (N, condition_channels) → (N, channels, H, W):
    norm(features) · (1 + gain(condition)) + bias(condition), each of them a linear layer.
    """

    def __init__(self, channels: int, *, condition_channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(condition_channels, channels)
        self.bias = nn.Linear(condition_channels, channels)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        return self.norm(features) * gain[:, :, None, None] + bias[:, :, None, None]


class PixelNorm(nn.Module):
    """Scale the feature vector of every pixel to a mean square of 1 (Karras et al. 2018, eq. in §4.2).

    (N, C, …) → the same, latent vectors (N, C) too. Nothing is learnt. arXiv:1710.10196.

    Args:
        dim: where the channels are; -1: tokens (…, C), as in TransGAN (Jiang et al. 2021, arXiv:2102.07074, §3.4).
    """

    def __init__(self, *, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        values = features.to(torch.promote_types(features.dtype, torch.float32))  # squares are too much for fp16
        return (values * torch.rsqrt(values.square().mean(self.dim, keepdim=True) + self.eps)).to(features.dtype)


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
