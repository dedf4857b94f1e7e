"""The residual generator of spectrally normalised GANs (Miyato et al. 2018, arXiv:1802.05957, appendix B.4).

SAGAN's (Zhang et al. 2019, arXiv:1805.08318) and BigGAN's (Brock et al. 2019, arXiv:1809.11096) are this one with more.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.attention import SelfAttention
from i2i.layers.checks import check_latents, constructor_arguments
from i2i.layers.classes import append_classes, check_classes
from i2i.layers.conv import add_spectral_norm
from i2i.layers.init import ResidualInit, init_residual, init_xavier, make_embedding
from i2i.layers.norm import BatchNorm2d, ClassConditionalBatchNorm2d, VectorConditionalBatchNorm2d
from i2i.layers.resample import ResizeConv2d
from i2i.layers.sides import sides_up_to, width_at


class SNGANGenerator(nn.Module):
    """Latent vectors (N, latent_channels), usually from N(0, 1), → (N, out_channels, size, size) in [-1, 1].

    With classes it also takes the class id of each image, (N,) int64, which chooses the gains and biases of the batch
    norms (Miyato & Koyama 2018, arXiv:1802.05637, §4).

    With the default arguments it is the paper's network for CIFAR-10: 4×4×256, three blocks, each of which doubles the
    size, then batch norm, ReLU, 3×3 convolution and tanh. SAGAN has attention at 32 px and spectral norm in the
    generator, too. BigGAN has all of that, and a shared embedding of 128 channels, skip-z and orthogonal weights.

    Args:
        width: channels of the maps up to `widest_px`; larger ones have half as many whenever the size doubles, as in
            the paper's network for ImageNet.
        size: side of the image in pixels, a power of two from 16 on.
        classes: number of classes to choose from; 0: none.
        attention_px: side of the map that self-attention is applied to, a power of two from 8 to `size`; None: none.
        spectral: normalise every weight by its largest singular value, as BigGAN's authors do also in the linear layers
            that make gains and biases; but for gains and biases that are learnt themselves, and the shared embedding.
        widest_px: side of the largest map with `width` channels, a power of two from 4 on; 8 leaves a CPU a fraction of
            the work.
        shared_embedding: channels of one vector for each class, out of which every block's batch norms get their gains
            and biases by linear layers, the gains centred at 1; it takes `classes`. 0: each norm learns a gain and a
            bias of its own for each class.
        skip_z: split the latent vector into equal chunks, the first for the first layer and one for each block, where
            it joins the class (its shared embedding, or else its one-hot vector) as what the norms are told; without
            classes they are told the chunk alone. `latent_channels` must then be a multiple of log2(size) - 1, which is
            the number of blocks + 1.
        init: initial weights: "xavier" as in the authors' code (https://github.com/pfnet-research/sngan_projection),
            "orthogonal" as BigGAN's.

    Raises:
        InputError: an argument is none of these, or they do not go together.
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
        shared_embedding: int = 0,
        skip_z: bool = False,
        init: ResidualInit = "xavier",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        sides = sides_up_to(size, least=16)
        widths = [width_at(side, width=width, widest_px=widest_px) for side in sides]
        if shared_embedding < 0 or (shared_embedding and not classes):
            raise InputError(
                "expected shared_embedding to be 0, or the channels of a vector for each of several classes, got "
                f"{shared_embedding} with {classes} classes"
            )
        self.latent_channels = latent_channels
        self.classes = classes
        self.out_channels = out_channels

        self.chunks = len(sides) if skip_z else 1  # for the first layer and each block
        if latent_channels % self.chunks:
            below = latent_channels // self.chunks * self.chunks
            fitting = " or ".join(str(channels) for channels in (below, below + self.chunks) if channels)
            raise InputError(
                f"expected latent_channels that skip-z can split evenly, for the first layer and {len(sides) - 1} "
                f"blocks: a multiple of {self.chunks}, such as {fitting}, got {latent_channels}"
            )
        chunk = latent_channels // self.chunks
        if attention_px is not None and attention_px not in sides[1:]:
            raise InputError(f"expected attention_px to be one of {sides[1:]}, got {attention_px}")
        self.project = init_xavier(nn.Linear(chunk, widths[0] * 4 * 4))
        told = (shared_embedding or classes) + chunk if skip_z else shared_embedding
        self.blocks = nn.ModuleList(_UpBlock(*pair, classes=classes, told=told) for pair in pairwise(widths))
        self.attentions = nn.ModuleList(
            SelfAttention(channels) if side == attention_px else nn.Identity()
            for channels, side in zip(widths[1:], sides[1:], strict=True)
        )
        self.norm = BatchNorm2d(widths[-1])
        self.head = init_xavier(nn.Conv2d(widths[-1], out_channels, 3, padding=1))
        init_residual(self, init)
        if spectral:
            add_spectral_norm(self)
        # After that, which would divide it, too.
        embedding = make_embedding(classes, shared_embedding) if shared_embedding else None
        self.shared_embedding = embedding and init_residual(init_xavier(embedding), init)

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        return [*self.blocks, *(each for each in self.attentions if isinstance(each, SelfAttention))]

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_latents(latents, channels=self.latent_channels)
        labels = check_classes(labels, classes=self.classes, count=len(latents)) if self.classes else None
        first, *rest = latents.chunk(self.chunks, 1)
        features = self.project(first).unflatten(1, (-1, 4, 4))
        told = self._told(labels, rest)
        for block, attention, condition in zip(self.blocks, self.attentions, told, strict=True):
            features = attention(block(features, condition))
        return torch.tanh(self.head(F.relu(self.norm(features))))

    def _told(self, labels: Tensor | None, chunks: list[Tensor]) -> list[Tensor | None]:
        """What the norms of each block are told: class ids, vectors, or nothing."""
        if self.shared_embedding is not None:
            shared = self.shared_embedding(labels)
            return [torch.cat([shared, chunk], 1) for chunk in chunks] or [shared] * len(self.blocks)
        joined = [append_classes(chunk, labels, classes=self.classes) for chunk in chunks]
        return [*joined] or [labels] * len(self.blocks)


class _UpBlock(nn.Module):
    """A residual block that doubles the size, every pixel being repeated: (N, in, H, W) → (N, out, 2H, 2W).

    told: channels of the vector that its norms are told; 0: they are told the class id, if there are `classes`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, classes: int, told: int) -> None:
        super().__init__()
        gain = 2**0.5
        self.norm1 = _make_norm(in_channels, classes, told)
        self.conv1 = init_xavier(ResizeConv2d(in_channels, out_channels, 3, padding=1), gain=gain)
        self.norm2 = _make_norm(out_channels, classes, told)
        self.conv2 = init_xavier(nn.Conv2d(out_channels, out_channels, 3, padding=1), gain=gain)
        self.shortcut = init_xavier(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        told = () if condition is None else (condition,)
        residual = self.conv1(F.relu(self.norm1(features, *told)))
        residual = self.conv2(F.relu(self.norm2(residual, *told)))
        # A 1×1 convolution gives the same before the pixels are repeated as after, for a quarter of the work.
        return residual + F.interpolate(self.shortcut(features), scale_factor=2.0, mode="nearest")


def _make_norm(channels: int, classes: int, told: int) -> nn.Module:
    if told:
        norm = VectorConditionalBatchNorm2d(channels, condition_channels=told)
        init_xavier(norm)
        return norm
    return ClassConditionalBatchNorm2d(channels, classes=classes) if classes else BatchNorm2d(channels)
