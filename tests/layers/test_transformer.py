"""Transformer layers against PyTorch's own attention, masks, and sums written out."""

import cv2
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.norm import PixelNorm
from i2i.layers.transformer import (
    MultiHeadAttention,
    TransformerBlock,
    TransformerStage,
    interpolate_tokens,
    join_grids,
    make_token_norm,
    pool_tokens,
    shuffle_pixels,
    split_grids,
)


def position_encoding(table: Tensor, side: int) -> Tensor:
    """E (heads, side², side²), number by number."""
    places = [(i, j) for i in range(side) for j in range(side)]
    rows = [[table[:, i - k + side - 1, j - l + side - 1] for k, l in places] for i, j in places]  # noqa: E741
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def stirred(module: nn.Module) -> nn.Module:
    """In double precision, with parameters that all matter."""
    module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_is_pytorchs_own(heads: int) -> None:
    layer, x = stirred(MultiHeadAttention(12, heads=heads)), torch.randn(2, 7, 12, dtype=torch.float64)
    twin = nn.MultiheadAttention(12, heads, bias=True, batch_first=True).double()
    state = {
        "in_proj_weight": layer.qkv.weight,
        "in_proj_bias": torch.zeros(36),
        "out_proj.weight": layer.out.weight,
        "out_proj.bias": layer.out.bias,
    }
    twin.load_state_dict(state)
    torch.testing.assert_close(layer(x), twin(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("side", [1, 2, 3])
def test_relative_positions_are_added_to_affinities(side: int) -> None:
    layer, x = stirred(MultiHeadAttention(8, heads=2, side=side)), torch.randn(3, side**2, 8, dtype=torch.float64)
    q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in layer.qkv(x).chunk(3, dim=2))
    gathered = F.scaled_dot_product_attention(q, k, v, attn_mask=position_encoding(layer.relative, side))
    torch.testing.assert_close(layer(x), layer.out(gathered.transpose(1, 2).flatten(2)))


def test_attention_of_channels_that_heads_cannot_share() -> None:
    for heads in (0, 3):
        with pytest.raises(InputError, match=f"{heads} heads can share evenly, got 8"):
            MultiHeadAttention(8, heads=heads)


def test_block_adds_attention_and_perceptron_after_norms() -> None:
    block, x = stirred(TransformerBlock(4, heads=2, side=2, norm="layer")), torch.randn(3, 4, 4, dtype=torch.float64)

    def normalised(x: Tensor, norm: nn.Module) -> Tensor:
        deviation = x.var(-1, keepdim=True, correction=0).add(1e-5).sqrt()
        return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias

    first, _, second = block.mlp
    y = x + block.attention(normalised(x, block.norm1))
    hidden = normalised(y, block.norm2) @ first.weight.T + first.bias
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    assert hidden.shape[-1] == 16
    torch.testing.assert_close(block(x), y + hidden @ second.weight.T + second.bias)


def test_pixel_norm_of_tokens_scales_to_a_mean_square_of_one() -> None:
    x = torch.randn(2, 5, 3, 8, dtype=torch.float64) * 10
    y = make_token_norm("pixel", 8)(x)
    torch.testing.assert_close(y, x / x.square().mean(-1, keepdim=True).sqrt())
    torch.testing.assert_close(y, PixelNorm()(x.movedim(-1, 1)).movedim(1, -1))


def test_unknown_norm() -> None:
    with pytest.raises(InputError, match='"pixel" or "layer", got \'batch\''):
        make_token_norm("batch", 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("grid", [None, 1, 2, 3, 6])
def test_grid_attention_is_masked_full_attention(grid: int | None) -> None:
    """One block: tokens of other squares are masked out of attention over the whole map."""
    side, channels = 6, 4
    stage = stirred(TransformerStage(channels, side=side, blocks=1, heads=2, grid=grid))
    x = torch.randn(2, side, side, channels, dtype=torch.float64)
    block = stage.blocks[0]
    edge = grid or side
    tokens = (x + stage.positions).flatten(1, 2)
    q, k, v = (p.unflatten(2, (2, 2)).transpose(1, 2) for p in block.attention.qkv(block.norm1(tokens)).chunk(3, 2))
    mask = torch.full((2, side**2, side**2), -torch.inf, dtype=torch.float64)
    for a in range(side**2):
        for b in range(side**2):
            (i, j), (m, n) = divmod(a, side), divmod(b, side)
            if (i // edge, j // edge) == (m // edge, n // edge):
                mask[:, a, b] = block.attention.relative[:, i - m + edge - 1, j - n + edge - 1].detach()
    gathered = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
    tokens = tokens + block.attention.out(gathered)
    expected = (tokens + block.mlp(block.norm2(tokens))).unflatten(1, (side, side))
    torch.testing.assert_close(stage(x), expected)


def test_a_stage_tells_faint_tokens_from_strong_ones() -> None:
    """Though its norms make all tokens equally strong: beside short position vectors it would not."""
    x = torch.randn(20, 4, 4, 8)

    def seen(strength: float, stage: nn.Module) -> Tensor:
        return stage.blocks[0].norm1(split_grids(strength * x + stage.positions, side=4))

    stage = TransformerStage(8, side=4, blocks=1, heads=1)
    assert stage.positions.std().item() == pytest.approx(0.88, rel=0.2)  # of N(0, 1) cut at two
    assert (seen(1, stage) - seen(2, stage)).abs().mean() > 0.2
    nn.init.normal_(stage.positions, std=0.02)
    assert (seen(1, stage) - seen(2, stage)).abs().mean() < 0.02


def test_a_stage_has_its_blocks_one_after_another() -> None:
    stage = stirred(TransformerStage(4, side=4, blocks=3, heads=1, grid=2))
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    tokens = split_grids(x + stage.positions, side=2)
    for block in stage.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(stage(x), join_grids(tokens, like=x, side=2))
    assert len(stage.blocks) == 3


def test_stages_that_cannot_be() -> None:
    with pytest.raises(InputError, match="at least 1 block in each stage, got 0"):
        TransformerStage(4, side=8, blocks=0, heads=1)
    for grid in (3, 16, 0):
        with pytest.raises(InputError, match=f"divides the 8 tokens of a side, got {grid}"):
            TransformerStage(4, side=8, blocks=1, heads=1, grid=grid)


def test_squares_of_a_map() -> None:
    maps = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    squares = split_grids(maps, side=2)
    assert squares.shape == (12, 4, 1)
    assert squares[0].flatten().tolist() == [0, 1, 6, 7]
    assert squares[1].flatten().tolist() == [2, 3, 8, 9]
    assert squares[3].flatten().tolist() == [12, 13, 18, 19]
    assert squares[6].flatten().tolist() == [24, 25, 30, 31]
    assert torch.equal(join_grids(squares, like=maps, side=2), maps)


def test_shuffled_pixels_are_those_of_a_picture() -> None:
    """Each 2x2 pixels of a picture in the channels of a token, channel by channel, give the picture."""
    picture = torch.randn(2, 3, 6, 4)
    tokens = torch.empty(2, 3, 2, 12)
    for i in range(3):
        for j in range(2):
            tokens[:, i, j] = picture[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1)
    assert torch.equal(shuffle_pixels(tokens), picture.movedim(1, -1))
    assert torch.equal(shuffle_pixels(tokens, factor=1), tokens)


def test_halved_and_doubled_maps() -> None:
    maps = torch.randn(2, 4, 6, 3)
    pooled = pool_tokens(maps)
    assert pooled.shape == (2, 2, 3, 3)
    torch.testing.assert_close(pooled[:, 1, 2], maps[:, 2:, 4:].mean((1, 2)))
    doubled = interpolate_tokens(maps)
    assert doubled.shape == (2, 8, 12, 3)
    for found, map in zip(doubled, maps, strict=True):
        expected = cv2.resize(map.numpy(), (12, 8), interpolation=cv2.INTER_CUBIC)
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["pixel", "layer"])
def test_gradients_of_gradients(norm: str) -> None:
    """Of inputs and of parameters, the position encodings' among them."""
    stage = stirred(TransformerStage(2, side=2, blocks=1, heads=1, norm=norm, grid=2))  # type: ignore[arg-type]
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*stage.named_parameters(), strict=True)
    assert "blocks.0.attention.relative" in names and "positions" in names

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(stage, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters))
    assert torch.autograd.gradgradcheck(run, (x, *parameters))
