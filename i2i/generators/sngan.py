"""The residual generator of spectrally normalised GANs (Miyato et al. 2018, arXiv:1802.05957, appendix B.4)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.attention import SelfAttention
from i2i.layers.checks import check_latents, constructor_arguments
from i2i.layers.classes import check_classes
from i2i.layers.conv import add_spectral_norm
from i2i.layers.init import init_xavier
from i2i.layers.norm import BatchNorm2d, ClassConditionalBatchNorm2d
from i2i.layers.resample import ResizeConv2d


class SNGANGenerator(nn.Module):
    """Latent vectors (N, latent_channels), usually from N(0, 1), → (N, out_channels, size, size) in [-1, 1].

    With classes it also takes the class id of each image, (N,) int64, which chooses the gains and biases of the batch
    norms (Miyato & Koyama 2018, arXiv:1802.05637, §4).

    With the default arguments it is the paper's network for CIFAR-10: 4×4×256, three blocks, each of which doubles the
    size, then batch norm, ReLU, 3×3 convolution and tanh. SAGAN (Zhang et al. 2019, arXiv:1805.08318) has attention at
    32 px and spectral norm in the generator, too.

    Args:
        width: channels of the maps up to `widest_px`; larger ones have half as many whenever the size doubles, as in
            the paper's network for ImageNet.
        size: side of the image in pixels, a power of two from 16 on.
        classes: number of classes to choose from; 0: none.
        attention_px: side of the map that self-attention is applied to, a power of two from 8 to `size`; None: none.
        spectral: normalise every weight by its largest singular value, but for the batch norms'.
        widest_px: side of the largest map with `width` channels, a power of two from 4 on; 8 leaves a CPU a fraction of
            the work.

    Weights start as in the authors' code (https://github.com/pfnet-research/sngan_projection).
    """

    output_range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        latent_channels: int = 128,
        out_channels: int = 3,
        width: int = 256,
        size: int = 32,
        classes: int = 0,
        attention_px: int | None = None,
        spectral: bool = False,
        widest_px: int = 32,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        if size < 16 or size.bit_count() != 1:
            raise InputError(f"expected size to be a power of two of at least 16 px, got {size}")
        if widest_px < 4 or widest_px.bit_count() != 1:
            raise InputError(f"expected widest_px to be a power of two of at least 4 px, got {widest_px}")
        self.latent_channels = latent_channels
        self.classes = classes
        self.out_channels = out_channels

        sides = [4 * 2**level for level in range(size.bit_length() - 2)]  # 4, 8 … size
        if attention_px is not None and attention_px not in sides[1:]:
            raise InputError(f"expected attention_px to be one of {sides[1:]}, got {attention_px}")
        widths = [max(1, width * widest_px // max(side, widest_px)) for side in sides]
        self.project = init_xavier(nn.Linear(latent_channels, widths[0] * 4 * 4))
        self.blocks = nn.ModuleList(_UpBlock(*pair, classes=classes) for pair in pairwise(widths))
        self.attentions = nn.ModuleList(
            SelfAttention(channels) if side == attention_px else nn.Identity()
            for channels, side in zip(widths[1:], sides[1:], strict=True)
        )
        self.norm = BatchNorm2d(widths[-1])
        self.head = init_xavier(nn.Conv2d(widths[-1], out_channels, 3, padding=1))
        if spectral:
            add_spectral_norm(self)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_latents(latents, channels=self.latent_channels)
        labels = check_classes(labels, classes=self.classes, count=len(latents)) if self.classes else None
        features = self.project(latents).unflatten(1, (-1, 4, 4))
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            features = attention(block(features, labels))
        return torch.tanh(self.head(F.relu(self.norm(features))))


class _UpBlock(nn.Module):
    """A residual block that doubles the size, every pixel being repeated: (N, in, H, W) → (N, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int, *, classes: int) -> None:
        super().__init__()
        gain = 2**0.5
        self.norm1 = _make_norm(in_channels, classes)
        self.conv1 = init_xavier(ResizeConv2d(in_channels, out_channels, 3, padding=1), gain=gain)
        self.norm2 = _make_norm(out_channels, classes)
        self.conv2 = init_xavier(nn.Conv2d(out_channels, out_channels, 3, padding=1), gain=gain)
        self.shortcut = init_xavier(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        told = () if labels is None else (labels,)
        residual = self.conv1(F.relu(self.norm1(features, *told)))
        residual = self.conv2(F.relu(self.norm2(residual, *told)))
        # A 1×1 convolution gives the same before the pixels are repeated as after, for a quarter of the work.
        return residual + F.interpolate(self.shortcut(features), scale_factor=2.0, mode="nearest")


def _make_norm(channels: int, classes: int) -> nn.Module:
    return ClassConditionalBatchNorm2d(channels, classes=classes) if classes else BatchNorm2d(channels)
