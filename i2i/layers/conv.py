"""Convolution with its normalisation and activation, and spectral normalisation of weights."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from i2i.errors import InputError
from i2i.layers.norm import Norm, make_norm

Activation = Literal["relu", "leaky_relu", "none"]
OutputActivation = Literal["tanh", "sigmoid", "none"]


def conv_block(
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    padding_mode: Literal["zeros", "reflect"] = "zeros",
    norm: Norm,
    activation: Activation = "none",
) -> nn.Sequential:
    """Convolution, normalisation, activation: (N, in, H, W) → (N, out, H', W')."""
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding,
        padding_mode=padding_mode,
        bias=needs_bias(norm),
    )
    return nn.Sequential(conv, make_norm(norm, out_channels), make_activation(activation, after=norm))


def make_activation(kind: Activation, *, after: Norm) -> nn.Module:
    """The activation that follows a normalisation; "leaky_relu" has a slope of 0.2 below zero."""
    # PyTorch's instance norm returns a view, of which autograd makes copies if it is changed in place.
    inplace = after != "instance"
    match kind:
        case "relu":
            return nn.ReLU(inplace)
        case "leaky_relu":
            return nn.LeakyReLU(0.2, inplace)
        case "none":
            return nn.Identity()
        case _:
            raise InputError(f'expected activation to be "relu", "leaky_relu" or "none", got {kind!r}')


def activate_output(images: Tensor, kind: OutputActivation) -> Tensor:
    """What a generator's last convolution passes through: into (-1, 1), into (0, 1), or as it is."""
    match kind:
        case "tanh":
            return torch.tanh(images)
        case "sigmoid":
            return torch.sigmoid(images)
        case "none":
            return images
        case _:
            raise InputError(f'expected output_activation to be "tanh", "sigmoid" or "none", got {kind!r}')


def needs_bias(norm: Norm) -> bool:
    """Whether a convolution that `norm` follows has use for a bias.

    Batch and instance norm subtract the mean of every channel, and with it any bias, so that its
    gradient would be zero.
    """
    return norm == "none"


def add_spectral_norm(network: nn.Module) -> None:
    """Divide every convolution's, linear layer's and embedding's weight by its largest singular value.

    Miyato et al. 2018, eq. 8, by one power iteration per training forward. Initialise the weights
    first: the iteration starts from them.
    """
    for module in list(network.modules()):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
            if module.weight.is_meta:
                _add_empty_spectral_norm(module)
            else:
                spectral_norm(module)


def _add_empty_spectral_norm(layer: nn.Module) -> None:
    """What `spectral_norm` adds, without drawing vectors and iterating.

    There is nothing to iterate on "meta", and PyTorch would import its compiler for it, which takes seconds.
    """
    assert isinstance(layer.weight, Tensor)
    dim = int(isinstance(layer, nn.ConvTranspose2d))  # of the output channels
    with torch.random.fork_rng(devices=[]):
        small = spectral_norm(nn.Linear(1, 1, device="cpu"), dim=dim)
    norm = small.get_submodule("parametrizations.weight.0")
    norm._u = layer.weight.new_empty(layer.weight.shape[dim])
    norm._v = layer.weight.new_empty(layer.weight.numel() // layer.weight.shape[dim])
    register_parametrization(layer, "weight", norm, unsafe=True)  # unsafe: it is not tried out
