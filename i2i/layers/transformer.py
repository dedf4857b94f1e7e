"""Transformers on maps of tokens, without convolutions (Jiang, Chang & Wang 2021, "TransGAN", arXiv:2102.07074).

Tokens are vectors along the last axis: maps are (N, H, W, C) and sequences (N, T, C). Attention is written out, since
the fused kernels behind `F.scaled_dot_product_attention` have no second derivative, which gradient penalties need.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.init import init_xavier
from i2i.layers.norm import PixelNorm

TokenNormalisation = Literal["pixel", "layer"]


def make_token_norm(kind: TokenNormalisation, channels: int) -> nn.Module:
    """The norm of tokens (…, C): "pixel" is the paper's "modified normalization", §3.4, without parameters.

    "layer" is layer norm, with a gain and a bias (Ba et al. 2016, arXiv:1607.06450).
    """
    match kind:
        case "pixel":
            return PixelNorm(dim=-1)
        case "layer":
            return nn.LayerNorm(channels)
        case _:
            raise InputError(f'expected norm to be "pixel" or "layer", got {kind!r}')


class MultiHeadAttention(nn.Module):
    """Every token gathers from all others, in each head on its own: (N, T, channels) → the same.

    softmax(QKᵀ / √d + E) V, Q, K and V being linear in the tokens, without biases, d the channels of a head, and E the
    relative position encoding of §3.4: a learnt number for each head and each way from one place to another, E_ij =
    `relative`[i − j]. Vaswani et al. 2017, arXiv:1706.03762, is without E.

    Args:
        heads: of channels / heads channels each.
        side: the tokens are those of a square map of so many a side, row by row. None: a sequence of any length,
            without relative positions.

    Raises:
        InputError: channels that heads cannot share evenly.
    """

    def __init__(self, channels: int, *, heads: int, side: int | None = None) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise InputError(f"expected channels that {heads} heads can share evenly, got {channels}")
        self.heads = heads
        self.side = side
        self.qkv = init_xavier(nn.Linear(channels, 3 * channels, bias=False))
        self.out = init_xavier(nn.Linear(channels, channels))
        ways = 0 if side is None else 2 * side - 1
        self.relative = None if side is None else parameter_from_noise(heads, ways, ways)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, heads, T, d)
        affinity = (q * q.shape[-1] ** -0.5) @ k.mT
        if self.relative is not None:
            affinity += self._position_encoding()  # in place: these are the largest tensors, and no gradient needs them
        return self.out((affinity.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def _position_encoding(self) -> Tensor:
        """E (heads, T, T): of tokens at (i, j) and (k, l), `relative`[i − k + side − 1, j − l + side − 1]."""
        assert self.relative is not None and self.side is not None
        # Windows of `side` numbers that start at i and j; read backwards, they go along k and l.
        ways = self.relative.unfold(1, self.side, 1).unfold(2, self.side, 1).flip(3, 4)
        return ways.flatten(3, 4).flatten(1, 2)


class TransformerBlock(nn.Module):
    """Attention, then a perceptron of each token by itself, each added to what was: (N, T, channels) → the same.

    Either is normalised before, not after, so that what is added up stays as it is from block to block (Dosovitskiy et
    al. 2021, arXiv:2010.11929).

    Args:
        heads, side: as of `MultiHeadAttention`.
        norm: see `make_token_norm`.
        expansion: how many times as many channels the perceptron has in between.
    """

    def __init__(
        self, channels: int, *, heads: int, side: int | None, norm: TokenNormalisation = "pixel", expansion: int = 4
    ) -> None:
        super().__init__()
        self.norm1 = make_token_norm(norm, channels)
        self.attention = MultiHeadAttention(channels, heads=heads, side=side)
        self.norm2 = make_token_norm(norm, channels)
        self.mlp = nn.Sequential(
            init_xavier(nn.Linear(channels, expansion * channels)),
            nn.GELU(),
            init_xavier(nn.Linear(expansion * channels, channels)),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class TransformerStage(nn.Module):
    """Blocks on a map of one size: (N, side, side, channels) → the same.

    Each place has a learnt vector that is added first. On large maps tokens attend only to those of their own square of
    `grid` x `grid` (grid self-attention, §3.3): work and memory then grow with the number of tokens, not its square.
    Nothing passes from one square to another within a stage; smaller maps are there for that.

    By default those vectors start from N(0, 1), as long as tokens are, not from the authors' N(0, 0.02²): beside short
    ones, norms make a faint token and a strong one look the same.

    Args:
        blocks: how many, at least 1.
        heads, norm: as of `TransformerBlock`.
        grid: a divisor of `side`; None: all tokens attend to all.
        position_std: of the numbers in the vectors of places at first.

    Raises:
        InputError: no blocks, or a grid that the map cannot be cut into.
    """

    def __init__(
        self,
        channels: int,
        *,
        side: int,
        blocks: int,
        heads: int,
        norm: TokenNormalisation = "pixel",
        grid: int | None = None,
        position_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.grid = side if grid is None else grid
        if blocks < 1:
            raise InputError(f"expected at least 1 block in each stage, got {blocks}")
        if self.grid < 1 or side % self.grid:
            raise InputError(f"expected a grid that divides the {side} tokens of a side, got {self.grid}")
        self.positions = parameter_from_noise(side, side, channels, std=position_std)
        self.blocks = nn.Sequential(
            *(TransformerBlock(channels, heads=heads, side=self.grid, norm=norm) for _ in range(blocks))
        )

    def forward(self, maps: Tensor) -> Tensor:
        maps = maps + self.positions
        # Norms and perceptrons work on single tokens, so it is enough to cut once for all blocks.
        return join_grids(self.blocks(split_grids(maps, side=self.grid)), like=maps, side=self.grid)


def split_grids(maps: Tensor, *, side: int) -> Tensor:
    """Squares of side x side tokens, row by row, each as a sequence: (N, H, W, C) → (N · squares, side², C)."""
    squares = (
        maps.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
    )  # (N, rows, columns, side, side, C)
    return squares.flatten(3, 4).flatten(0, 2)


def join_grids(tokens: Tensor, *, like: Tensor, side: int) -> Tensor:
    """What `split_grids` of maps shaped as `like` was made of."""
    count, height, width, _ = like.shape
    squares = tokens.unflatten(1, (side, side)).unflatten(0, (count, height // side, width // side))
    return squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shuffle_pixels(maps: Tensor, *, factor: int = 2) -> Tensor:
    """Enlarge a map by giving each token's channels to factor² tokens: (N, H, W, C) → (N, fH, fW, C / f²).

    The channels of one token of the result lie factor² apart, as in `torch.nn.PixelShuffle` (Shi et al. 2016,
    arXiv:1609.05158).
    """
    return F.pixel_shuffle(maps.movedim(-1, 1), factor).movedim(1, -1)


def interpolate_tokens(maps: Tensor) -> Tensor:
    """Double the size of a map by bicubic interpolation: (N, H, W, C) → (N, 2H, 2W, C)."""
    return F.interpolate(maps.movedim(-1, 1), scale_factor=2.0, mode="bicubic", align_corners=False).movedim(1, -1)


def pool_tokens(maps: Tensor) -> Tensor:
    """The mean of every 2x2 tokens: (N, 2H, 2W, C) → (N, H, W, C)."""
    return F.avg_pool2d(maps.movedim(-1, 1), 2).movedim(1, -1)


def parameter_from_noise(*shape: int, std: float = 0.02) -> nn.Parameter:
    """Numbers to be learnt, from N(0, std²) at first, none of them beyond ±2."""
    parameter = nn.Parameter(torch.empty(shape))
    if not parameter.is_meta:
        nn.init.trunc_normal_(parameter, std=std)
    return parameter
