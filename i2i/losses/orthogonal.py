"""Orthogonal regularisation of weights, as BigGAN relaxed it (Brock et al. 2019, arXiv:1809.11096, section 3.1)."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def orthogonal_penalty(weight: Tensor) -> Tensor:
    """‖WᵀW ⊙ (1 − I)‖²_F: how far filters are from being at right angles, whatever their lengths (eq. 3, without β).

    The sum over all pairs of different filters of the square of their product. Computed in at least float32, under any
    mixed precision. Many short filters, such as those of a layer that enlarges, take little memory: no matrix is made
    that is more than twice as large as the weight.

    Args:
        weight: (filters, …), a filter being what one output channel is made by: a column of the paper's W, for its
            layouts have output channels last.

    Returns:
        A scalar, at least 0 but for rounding.
    """
    with torch.autocast(weight.device.type, enabled=False):
        filters = weight.flatten(1).to(torch.promote_types(weight.dtype, torch.float32))
        if filters.shape[0] <= 2 * filters.shape[1]:
            products = filters @ filters.T
            return (products - products.diag().diag()).square().sum()
        # ‖F Fᵀ‖ = ‖Fᵀ F‖, which here is the smaller one. So many filters are so far from being at right angles that the
        # difference of two large sums is large as well.
        return (filters.T @ filters).square().sum() - filters.square().sum(1).square().sum()


def orthogonal_weights(network: nn.Module) -> list[Tensor]:
    """The weights (filters, …) that orthogonal regularisation is about: of convolutions and linear layers.

    Embeddings, biases and the gains of norms are none of them. Under spectral norm it is the weight that is learnt, as
    it is before the division: that is what the authors' code regularises
    (https://github.com/ajbrock/BigGAN-PyTorch), and looking at the divided one would take a step of power iteration.
    """
    weights = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            normalised = parametrize.is_parametrized(module, "weight")
            weight = module.get_parameter("parametrizations.weight.original") if normalised else module.weight
            weights.append(weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight)
    return weights
