"""Whether the lights are on: how well the bright pixels of a night scene are found."""

import torch
from torch import Tensor

from i2i.errors import InputError

LIT_LUMA = 0.5
"""Above it a pixel is lit: in the built-in streets by night lamps, headlights and lit windows, not what they shine on.
That is 5 % of the pixels at 64 px."""


def lit_pixels(images: Tensor) -> Tensor:
    """Where images are lit: their luma (0.299 R + 0.587 G + 0.114 B, Rec. 601, of [0, 1]) is above LIT_LUMA.

    Args:
        images: (N, 3, H, W) in [-1, 1].

    Returns:
        (N, H, W) bool.

    Raises:
        InputError: not three channels.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"lit pixels are found in RGB images (N, 3, H, W), got {tuple(images.shape)}")
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    return torch.einsum("nchw,c->nhw", (images.float() + 1) / 2, weights) > LIT_LUMA


def lit_figures(output: Tensor, truth: Tensor) -> dict[str, float]:
    """How well the output's lit pixels agree with the truth's, each figure the mean over images.

    An image in which only one of the two has lit pixels counts 0 in both figures, one in which neither has any 1.
    A picture that is bright all over has recall 1, so look at both figures.

    Args:
        output, truth: (N, 3, H, W) in [-1, 1].

    Returns:
        lit_recall: share of the truth's lit pixels that are lit in the output.
        lit_precision: share of the output's lit pixels that are lit in the truth.

    Raises:
        InputError: the shapes differ, or not three channels.
    """
    if output.shape != truth.shape:
        raise InputError(
            f"expected two batches of images of one shape, got {tuple(output.shape)}, {tuple(truth.shape)}"
        )
    output_lit, truth_lit = lit_pixels(output), lit_pixels(truth)
    both = (output_lit & truth_lit).sum(dim=(1, 2))
    neither = ~(output_lit | truth_lit).any(dim=2).any(dim=1)

    def share_of(lit: Tensor) -> float:
        return torch.where(neither, 1.0, both / lit.sum(dim=(1, 2)).clamp(min=1)).mean().item()

    return {"lit_recall": share_of(truth_lit), "lit_precision": share_of(output_lit)}
