"""Initial weights."""

from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def init_weights(network: Network, *, std: float = 0.02) -> Network:
    """Draw convolution and linear weights from N(0, std²), batch norm's from N(1, std²); zero all biases.

    DCGAN (Radford et al. 2016, §3), kept by pix2pix and CycleGAN. Changes `network` and returns it.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)):
            mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
            # By name, since a spectrally normalised weight lives deeper than `module.weight`.
            for name, parameter in module.named_parameters():
                if name == "bias":
                    nn.init.zeros_(parameter)
                else:
                    nn.init.normal_(parameter, mean, std)
    return network
