"""The discriminator of TransGAN, a transformer that reads patches (Jiang, Chang & Wang 2021, arXiv:2102.07074)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, check_power_of_two, constructor_arguments
from i2i.layers.classes import check_classes
from i2i.layers.init import init_xavier, make_embedding
from i2i.layers.minibatch import Minibatch, make_minibatch
from i2i.layers.transformer import (
    TokenNormalisation,
    TransformerBlock,
    TransformerStage,
    make_token_norm,
    parameter_from_noise,
    pool_tokens,
)

Pooling = Literal["token", "mean"]

# Gain of the layers that read patches, and deviation of the vectors of places, at first: so what is in a patch, a sum
# of values below 1, is not drowned by where it lies.
PATCH_GAIN = 3.0
POSITION_STD = 0.3


class TransGANDiscriminator(nn.Module):
    """(N, in_channels, size, size), usually in [-1, 1], → (N,) raw scores. Other sizes raise InputError.

    The image is cut into patches at several scales (the multi-scale discriminator of §3.2). Those of the finest make
    the tokens of the first stage. After a stage every 2x2 tokens are averaged, and joined by tokens made of patches
    twice as long, with as many channels. At the end a class token is put in front, and what it has gathered from the
    others after one more block goes into the linear layer `head`; or the mean of all tokens does. With classes it also
    takes the class id of each image, (N,) int64, and its embedding's product with the same features is added to the
    score (Miyato & Koyama 2018, arXiv:1802.05637, eq. 3), which is not in the paper.

    With the default arguments it is the authors' network for CIFAR-10, but for the norm, which there is layer norm; for
    256 px they take patch_px=4 and scales=3, and share channels out among scales otherwise.

    Args:
        width: channels of the last stage's tokens; half as many in the one before, and so on.
        size: side of the image in pixels, a power of two from 16 on.
        classes: number of classes; 0: none.
        patch_px: side of the finest patches, a power of two.
        scales: how many sizes of patches, and of stages, at least 1; the last stage must keep 2x2 tokens.
        blocks: in each stage, from the finest on; the last number holds for all further ones, too.
        heads: of attention; every stage's channels must be a multiple of it.
        grid_px: side, in tokens, of the squares that attention is confined to on maps of `grid_from_px` and more tokens
            a side.
        grid_from_px: see `grid_px`.
        norm: of tokens, see `i2i.layers.transformer.make_token_norm`.
        pooling: what of the last tokens goes into `head`: what the class token has gathered ("token", the paper's), or
            their mean ("mean"), without class token and further block.
        minibatch: statistics of the batch that are joined to that.
    """

    out_channels = 1

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 384,
        size: int = 32,
        classes: int = 0,
        patch_px: int = 2,
        scales: int = 2,
        blocks: Sequence[int] = (3,),
        heads: int = 4,
        grid_px: int = 16,
        grid_from_px: int = 64,
        norm: TokenNormalisation = "pixel",
        pooling: Pooling = "token",
        minibatch: Minibatch = "none",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals()) | {"blocks": list(blocks)}  # as files give it back
        check_power_of_two("size", size, least=16)
        check_power_of_two("patch_px", patch_px, least=1)
        check_power_of_two("grid_px", grid_px, least=1)
        if heads < 1:
            raise InputError(f"expected heads to be at least 1, got {heads}")
        if not blocks or min(blocks) < 1:
            raise InputError(f"expected the numbers of blocks of the stages, at least one block in each, got {blocks}")
        if scales < 1 or size < patch_px * 2**scales:
            raise InputError(
                f"expected at least 1 scale, and patches at the last one of at most {size // 2} px, half of the image, "
                f"got {scales} scales from {patch_px} px on: choose fewer, or smaller patches"
            )
        if width < 1 or width % (2 ** (scales - 1) * heads):
            raise InputError(
                f"expected width to be a multiple of {2 ** (scales - 1) * heads}, for {heads} heads and {scales} "
                f"scales, got {width}"
            )
        self.in_channels = in_channels
        self.size = size
        self.classes = classes

        self.patches = [patch_px * 2**level for level in range(scales)]
        widths = [width // 2 ** (scales - 1 - level) for level in range(scales)]
        # What a stage gets of its own patches; the rest comes from the stage before.
        added = [widths[0], *widths[:-1]]
        self.embed = nn.ModuleList(
            init_xavier(nn.Linear(in_channels * patch**2, channels), gain=PATCH_GAIN)
            for patch, channels in zip(self.patches, added, strict=True)
        )
        self.levels = nn.ModuleList(
            TransformerStage(
                channels,
                side=size // patch,
                blocks=blocks[min(level, len(blocks) - 1)],
                heads=heads,
                norm=norm,
                grid=min(grid_px, size // patch) if size // patch >= grid_from_px else None,
                position_std=POSITION_STD,
            )
            for level, (patch, channels) in enumerate(zip(self.patches, widths, strict=True))
        )
        match pooling:
            case "token":
                self.class_token = parameter_from_noise(width)
                self.gather: nn.Module | None = TransformerBlock(width, heads=heads, side=None, norm=norm)
            case "mean":
                self.gather = None
            case _:
                raise InputError(f'expected pooling to be "token" or "mean", got {pooling!r}')
        self.norm = make_token_norm(norm, width)
        self.minibatch, channels = make_minibatch(minibatch, width)
        self.head = init_xavier(nn.Linear(channels, 1))
        self.embedding = init_xavier(make_embedding(classes, channels)) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        check_images(images, channels=self.in_channels)
        if tuple(images.shape[2:]) != (self.size, self.size):
            raise InputError(
                f"expected images of {self.size} x {self.size} px, got {images.shape[2]} x {images.shape[3]}"
            )
        maps: Tensor | None = None
        for patch, embed, stage in zip(self.patches, self.embed, self.levels, strict=True):
            tokens = embed(F.pixel_unshuffle(images, patch).movedim(1, -1))
            maps = stage(tokens if maps is None else torch.cat([pool_tokens(maps), tokens], dim=-1))
        assert maps is not None
        features = self.minibatch(self._pool(maps.flatten(1, 2)))
        scores = self.head(features).squeeze(1)
        if self.embedding is None:
            return scores
        labels = check_classes(labels, classes=self.classes, count=len(images))
        return scores + (self.embedding(labels) * features).sum(1)

    def _pool(self, tokens: Tensor) -> Tensor:
        """What of the last tokens (N, T, width) tells all: (N, width)."""
        if self.gather is None:
            return self.norm(tokens).mean(1)
        first = self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1)
        return self.norm(self.gather(torch.cat([first, tokens], dim=1))[:, 0])
