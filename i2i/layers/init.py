"""Initial weights.

Nothing is drawn on the "meta" device, where networks are built that a file will fill: there is nothing to fill there,
and PyTorch would import its compiler for it, which takes seconds.
"""

from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from i2i.errors import InputError

Network = TypeVar("Network", bound=nn.Module)
ResidualInit = Literal["xavier", "orthogonal"]


def draw_normal(*shape: int) -> Tensor:
    """Numbers from N(0, 1)."""
    numbers = torch.empty(shape)
    return numbers if numbers.is_meta else numbers.normal_()


def make_embedding(classes: int, channels: int) -> nn.Embedding:
    """A learnt vector of so many channels for each class, from N(0, 1) at first."""
    return nn.Embedding.from_pretrained(draw_normal(classes, channels), freeze=False)


def init_weights(network: Network, *, std: float = 0.02) -> Network:
    """Draw convolution and linear weights from N(0, std²), batch norm's from N(1, std²); zero all biases.

    DCGAN (Radford et al. 2016, §3), kept by pix2pix and CycleGAN. Changes `network` and returns it.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)):
            mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
            # By name, since a spectrally normalised weight lives deeper than `module.weight`.
            for name, parameter in module.named_parameters():
                if parameter.is_meta:
                    continue
                if name == "bias":
                    nn.init.zeros_(parameter)
                else:
                    nn.init.normal_(parameter, mean, std)
    return network


def init_small(network: Network, *, scale: float = 0.1) -> Network:
    """Draw convolution weights from N(0, scale² · 2 / fan-in); zero all biases.

    He initialisation, scaled down: deep residual networks without normalisation then start close to the identity
    (ESRGAN, Wang et al. 2018, §3.1). Changes `network` and returns it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight)
            with torch.no_grad():
                module.weight.mul_(scale)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def init_xavier(network: Network, *, gain: float = 1.0) -> Network:
    """Draw convolution, linear and embedding weights from U(−a, a), a = gain · √(6 / (fan-in + fan-out)).

    All biases are zeroed. Glorot & Bengio 2010, eq. 16, as SNGAN has it. Changes `network` and returns it.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)) and not module.weight.is_meta:
            nn.init.xavier_uniform_(module.weight, gain)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.zeros_(bias)
    return network


def init_orthogonal(network: Network) -> Network:
    """Draw convolution, linear and embedding weights as random matrices with orthonormal rows, or columns if fewer.

    A row holds the weights of one output channel, a convolution's taps side by side, or an embedding's one vector. All
    biases are zeroed. Saxe et al. 2014 (arXiv:1312.6120), as BigGAN has it. Changes `network` and returns it.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)) and not module.weight.is_meta:
            nn.init.orthogonal_(module.weight)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.zeros_(bias)
    return network


def init_residual(network: Network, kind: ResidualInit) -> Network:
    """A residual network whose layers have drawn their weights by `init_xavier`, as it is or "orthogonal" instead."""
    match kind:
        case "xavier":
            return network
        case "orthogonal":
            return init_orthogonal(network)
        case _:
            raise InputError(f'expected init to be "xavier" or "orthogonal", got {kind!r}')
