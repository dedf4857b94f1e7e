"""The exponential moving average of the generators' weights."""

import copy

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Averaged copies of networks; they give steadier pictures than the last step's weights.

    Only parameters are averaged. Buffers (BatchNorm's running statistics are averages already) are taken
    over from the trained network by `copy_buffers` before the copies are used.

    The decay ramps up as min(decay, (1 + n) / (10 + n)) with the number n of updates, so that the start,
    far from any use, is forgotten soon.
    """

    def __init__(self, networks: dict[str, nn.Module], *, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.networks = {name: copy.deepcopy(network).requires_grad_(False) for name, network in networks.items()}

    @torch.no_grad()
    def restart(self, trained: dict[str, nn.Module]) -> None:
        """Take over the trained weights as they are."""
        for name, network in self.networks.items():
            network.load_state_dict(trained[name].state_dict())

    def update(self, trained: dict[str, nn.Module]) -> None:
        """Move the averages towards the trained networks, once per optimiser step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, network in self.networks.items():
            averages: list[Tensor] = list(network.parameters())
            current = [parameter.detach() for parameter in trained[name].parameters()]
            torch._foreach_lerp_(averages, current, 1 - decay)

    @torch.no_grad()
    def copy_buffers(self, trained: dict[str, nn.Module]) -> None:
        for name, network in self.networks.items():
            for average, current in zip(network.buffers(), trained[name].buffers(), strict=True):
                average.copy_(current)

    def state_dict(self) -> dict:
        return {
            "updates": self.updates,
            "parameters": {
                name: [parameter.detach() for parameter in network.parameters()]
                for name, network in self.networks.items()
            },
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        for name, network in self.networks.items():
            for parameter, saved in zip(network.parameters(), state["parameters"][name], strict=True):
                parameter.copy_(saved)
