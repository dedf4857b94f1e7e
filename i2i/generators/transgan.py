"""The generator of TransGAN, a transformer without convolutions (Jiang, Chang & Wang 2021, arXiv:2102.07074)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_latents, check_power_of_two, constructor_arguments
from i2i.layers.classes import append_classes
from i2i.layers.init import init_xavier
from i2i.layers.transformer import (
    TokenNormalisation,
    TransformerStage,
    interpolate_tokens,
    make_token_norm,
    shuffle_pixels,
)

# Side of the first map of tokens.
FIRST_PX = 8


class TransGANGenerator(nn.Module):
    """Latent vectors (N, latent_channels), usually from N(0, 1), → (N, out_channels, size, size) in [-1, 1].

    A linear layer makes 8x8 tokens, and stages of transformer blocks follow. Between two stages the side doubles: up to
    `widest_px` by bicubic interpolation, which keeps the channels, and beyond by pixel shuffle, which gives the
    channels of each token to four, so that each has a quarter (§3.1). A linear layer makes the pixels of each of the
    last tokens.

    The paper's ends there. Here the last tokens are normalised before that layer and tanh follows, since values far
    beyond those of real images give a generator away at once that has only begun to learn.

    With the default arguments the tokens are those of the paper's network for CIFAR-10; for 256 px the authors take
    latent_channels=512, blocks=(5, 4) and widest_px=32.

    Args:
        width: channels of the tokens up to `widest_px`.
        size: side of the image in pixels, a power of two from 16 on.
        classes: number of classes, whose one-hot ids (N,) int64 are joined to the latent vectors; 0: none.
        blocks: in each stage, from 8x8 tokens on; the last number holds for all larger maps, too.
        heads: of attention; every stage's channels must be a multiple of it.
        widest_px: side of the largest map with `width` channels, a power of two from 8 on.
        grid_px: side of the squares that attention is confined to on maps from `grid_from_px` on, a power of two.
        grid_from_px: side of the smallest map with such squares.
        patch_px: side of the square of pixels that each of the last tokens makes; 1 in the paper. 2 saves the last,
            largest stage.
        norm: of tokens, see `i2i.layers.transformer.make_token_norm`.

    Raises:
        InputError: sizes other than these.
    """

    output_range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        latent_channels: int = 256,
        out_channels: int = 3,
        width: int = 1024,
        size: int = 32,
        classes: int = 0,
        blocks: Sequence[int] = (5, 4, 2),
        heads: int = 4,
        widest_px: int = 8,
        grid_px: int = 16,
        grid_from_px: int = 64,
        patch_px: int = 1,
        norm: TokenNormalisation = "pixel",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals()) | {"blocks": list(blocks)}  # as files give it back
        check_power_of_two("size", size, least=16)
        check_power_of_two("widest_px", widest_px, least=FIRST_PX)
        check_power_of_two("patch_px", patch_px, least=1)
        check_power_of_two("grid_px", grid_px, least=1)
        if size // patch_px < FIRST_PX:
            raise InputError(f"expected patch_px to be at most {size // FIRST_PX} for {size} px, got {patch_px}")
        if heads < 1:
            raise InputError(f"expected heads to be at least 1, got {heads}")
        if not blocks or min(blocks) < 1:
            raise InputError(f"expected the numbers of blocks of the stages, at least one block in each, got {blocks}")
        sides = [FIRST_PX * 2**level for level in range((size // patch_px // FIRST_PX).bit_length())]  # 8, 16 …
        shrinks = [max(1, side // widest_px) ** 2 for side in sides]
        if width < 1 or width % (shrinks[-1] * heads):
            raise InputError(
                f"expected width to be a multiple of {shrinks[-1] * heads}, for {heads} heads and 1/{shrinks[-1]} of "
                f"the channels at {sides[-1]} x {sides[-1]} tokens, got {width}"
            )
        self.latent_channels = latent_channels
        self.classes = classes
        self.out_channels = out_channels
        self.patch_px = patch_px
        self.width = width
        self.project = nn.Linear(latent_channels + classes, FIRST_PX**2 * width)
        if not self.project.weight.is_meta:
            # Tokens of variance 1, so that what blocks add at first does not drown what the latent vector says.
            nn.init.normal_(self.project.weight, std=latent_channels**-0.5)
            nn.init.zeros_(self.project.bias)
        self.levels = nn.ModuleList(
            TransformerStage(
                width // shrink,
                side=side,
                blocks=blocks[min(level, len(blocks) - 1)],
                heads=heads,
                norm=norm,
                grid=min(grid_px, side) if side >= grid_from_px else None,
            )
            for level, (side, shrink) in enumerate(zip(sides, shrinks, strict=True))
        )
        self.norm = make_token_norm(norm, width // shrinks[-1])
        # From a nearly grey image on; strong noise, a pattern in each token, took many steps to fade.
        self.head = init_xavier(nn.Linear(width // shrinks[-1], out_channels * patch_px**2), gain=0.1)
        self.enlarge = [shuffle_pixels if side > widest_px else interpolate_tokens for side in sides[1:]]

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        return [block for level in self.levels for block in level.get_submodule("blocks").children()]

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_latents(latents, channels=self.latent_channels)
        tokens = self.project(append_classes(latents, labels, classes=self.classes))
        maps = self.levels[0](tokens.unflatten(1, (FIRST_PX, FIRST_PX, self.width)))
        for enlarge, stage in zip(self.enlarge, list(self.levels)[1:], strict=True):
            maps = stage(enlarge(maps))
        pixels = shuffle_pixels(self.head(self.norm(maps)), factor=self.patch_px)
        return torch.tanh(pixels.movedim(-1, 1)).contiguous()
