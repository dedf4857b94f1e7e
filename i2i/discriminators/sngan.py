"""The residual discriminator of spectrally normalised GANs (Miyato et al. 2018, arXiv:1802.05957, appendix B.4).

Classes are told by projection (Miyato & Koyama 2018, arXiv:1802.05637).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.attention import SelfAttention
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.classes import check_classes
from i2i.layers.conv import add_spectral_norm
from i2i.layers.init import ResidualInit, init_residual, init_xavier, make_embedding
from i2i.layers.minibatch import Minibatch, make_minibatch
from i2i.layers.resample import PooledConv2d
from i2i.layers.sides import sides_up_to, width_at


class SNGANDiscriminator(nn.Module):
    """(N, in_channels, size, size), usually in [-1, 1], → (N,) raw scores. Other sizes raise InputError.

    With the default arguments it is the paper's network for CIFAR-10: two residual blocks, each of which halves the
    size, two that keep 8×8, ReLU, sum over all places, linear layer. With classes it also takes the class id of each
    image, (N,) int64, and the score is y'Vφ(x) + ψ(φ(x)) (Miyato & Koyama 2018, eq. 3), φ(x) being those sums, V the
    `embedding` of the class y, and ψ the linear layer, `head`.

    Args:
        width: channels of the maps up to `widest_px`; larger ones have half as many whenever the size doubles.
        size: side of the image in pixels, a power of two from 16 on.
        classes: number of classes; 0: none.
        spectral: normalise every weight by its largest singular value.
        attention_px: side of the map that self-attention is applied to, a power of two from 8 to size / 2; None: none.
            SAGAN (Zhang et al. 2019, arXiv:1805.08318) takes 32 px.
        minibatch: statistics of the batch that are joined to φ(x).
        widest_px: side of the largest map with `width` channels, a power of two from 4 on; 8 leaves a CPU a fraction of
            the work.
        init: initial weights: "xavier" as in the authors' code (https://github.com/pfnet-research/sngan_projection),
            "orthogonal" as BigGAN's (Brock et al. 2019, arXiv:1809.11096).
    """

    out_channels = 1

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 128,
        size: int = 32,
        classes: int = 0,
        spectral: bool = True,
        attention_px: int | None = None,
        minibatch: Minibatch = "none",
        widest_px: int = 16,
        init: ResidualInit = "xavier",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        sides = sides_up_to(size, least=16)[-2:0:-1]  # size / 2 … 8
        widths = [width_at(side, width=width, widest_px=widest_px) for side in sides]
        self.in_channels = in_channels
        self.size = size
        self.classes = classes

        if attention_px is not None and attention_px not in sides:
            raise InputError(f"expected attention_px to be one of {sides}, got {attention_px}")
        self.blocks = nn.Sequential()
        channels = in_channels
        for side, outputs in zip(sides, widths, strict=True):
            self.blocks.append(_Block(channels, outputs, halve=True, first=side == sides[0]))
            if side == attention_px:
                self.blocks.append(SelfAttention(outputs))
            channels = outputs
        self.blocks.extend(_Block(channels, channels) for _ in range(2))
        self.minibatch, channels = make_minibatch(minibatch, channels)
        self.head = init_xavier(nn.Linear(channels, 1))
        self.embedding = init_xavier(make_embedding(classes, channels)) if classes else None
        init_residual(self, init)
        if spectral:
            add_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        check_images(images, channels=self.in_channels)
        if tuple(images.shape[2:]) != (self.size, self.size):
            raise InputError(
                f"expected images of {self.size} x {self.size} px, got {images.shape[2]} x {images.shape[3]}"
            )
        features = self.minibatch(F.relu(self.blocks(images)).sum((2, 3)))
        scores = self.head(features).squeeze(1)
        if self.embedding is None:
            return scores
        labels = check_classes(labels, classes=self.classes, count=len(images))
        return scores + (self.embedding(labels) * features).sum(1)


class _Block(nn.Module):
    """A residual block: (N, in, H, W) → (N, out, H, W), or half the size by taking the mean of every 2×2 pixels.

    first: of the network, which starts without a ReLU, for its input is an image.
    """

    def __init__(self, in_channels: int, out_channels: int, *, halve: bool = False, first: bool = False) -> None:
        super().__init__()
        hidden, gain = out_channels if first else in_channels, 2**0.5
        self.first = first
        self.conv1 = init_xavier(nn.Conv2d(in_channels, hidden, 3, padding=1), gain=gain)
        conv2 = PooledConv2d if halve else nn.Conv2d
        self.conv2 = init_xavier(conv2(hidden, out_channels, 3, padding=1), gain=gain)
        self.shortcut = init_xavier(nn.Conv2d(in_channels, out_channels, 1)) if halve else nn.Identity()
        self.halve = nn.AvgPool2d(2) if halve else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        residual = self.conv1(features if self.first else F.relu(features))
        # A 1×1 convolution gives the same after a mean as before it, for a quarter of the work.
        return self.conv2(F.relu(residual)) + self.shortcut(self.halve(features))
