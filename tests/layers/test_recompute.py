"""Networks that compute activations again are held against the same networks that keep them."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from i2i.errors import InputError
from i2i.generators import (
    DCGANGenerator,
    MLPGenerator,
    ProgressiveGenerator,
    ResNetGenerator,
    RRDBGenerator,
    SNGANGenerator,
    SPADEGenerator,
    StyleGANGenerator,
    UNetGenerator,
)
from i2i.inference.graph import trace
from i2i.layers.norm import set_inference_mode
from i2i.layers.recompute import keep_activations, recompute_activations

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet, batch norm and dropout": lambda: ResNetGenerator(
        in_channels=3, out_channels=3, width=4, blocks=2, norm="batch", dropout=True
    ),
    "resnet, instance norm and skips": lambda: ResNetGenerator(
        in_channels=3, out_channels=3, width=4, blocks=2, skips=True, residual=1.0, antialias=True
    ),
    "unet, batch norm and dropout": lambda: UNetGenerator(in_channels=3, out_channels=3, width=2, depth=6),
    "unet, full size": lambda: UNetGenerator(in_channels=3, out_channels=3, width=4, depth=2, full_size_skip=True),
    "spade, spectral norm": lambda: SPADEGenerator(in_channels=3, width=1, hidden_width=4),
    "rrdb": lambda: RRDBGenerator(in_channels=3, out_channels=3, width=4, growth=2, blocks=2, scale=1),
}


def trained(network: nn.Module) -> dict[str, list[Tensor]]:
    """Losses of four steps of two calls each, and what they leave in the network."""
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-2)
    torch.manual_seed(1)
    losses: list[Tensor] = []
    for _ in range(4):
        first, second = torch.rand(2, 2, 3, 64, 64)
        optimiser.zero_grad()
        loss = network(network(first)).square().mean() + network(second).sin().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return {"losses": losses, "gradients": gradients, "state": list(network.state_dict().values())}


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_differs_to_the_bit(name: str) -> None:
    network = NETWORKS[name]().train()
    again = copy.deepcopy(network)
    recompute_activations(again)
    expected, found = trained(network), trained(again)
    assert len(expected["gradients"]) == len(list(network.parameters()))
    for what in expected:
        assert all(torch.equal(a, b) for a, b in zip(expected[what], found[what], strict=True)), what


DRAWING: dict[str, Callable[[], nn.Module]] = {
    "dcgan": lambda: DCGANGenerator(latent_channels=6, width=4, size=32, classes=3),
    "sngan": lambda: SNGANGenerator(latent_channels=6, width=8, size=32, classes=3, attention_px=16),
    "biggan": lambda: SNGANGenerator(
        latent_channels=6, width=8, size=16, classes=3, spectral=True, shared_embedding=4, skip_z=True
    ),
    "progressive": lambda: ProgressiveGenerator(latent_channels=6, width=8, size=32, classes=3),
    "stylegan, adain": lambda: StyleGANGenerator(
        latent_channels=6, style_channels=5, width=8, size=32, classes=3, mapping_layers=2, layers="adain"
    ),
    "stylegan, modulated": lambda: StyleGANGenerator(
        latent_channels=6, style_channels=5, width=8, size=32, classes=3, mapping_layers=2
    ),
}


@pytest.mark.parametrize("name", DRAWING)
def test_what_is_drawn_does_not_differ_to_the_bit(name: str) -> None:
    """With the noise, running statistics and vectors of spectral norm of two calls in a step."""
    torch.manual_seed(0)
    network = DRAWING[name]().train()
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if parameter_name.endswith(("strength", "gamma")):
                parameter.fill_(0.5)
    again = copy.deepcopy(network)
    recompute_activations(again)
    latents, labels = torch.randn(2, 4, 6), torch.tensor([0, 2, 1, 2])
    found = []
    for each in (network, again):
        torch.manual_seed(1)
        optimiser, losses = torch.optim.SGD(each.parameters(), lr=1e-2), []
        for _ in range(2):
            optimiser.zero_grad()
            loss = each(latents[0], labels).square().mean() + each(latents[1], labels).sin().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        gradients = [parameter.grad for parameter in each.parameters()]
        assert all(gradient is not None for gradient in gradients)
        found.append([*losses, *gradients, *each.state_dict().values(), torch.rand(1)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", DRAWING)
def test_drawing_keeps_less(name: str) -> None:
    network, latents, labels = DRAWING[name](), torch.randn(4, 6), torch.tensor([0, 2, 1, 2])
    before = saved_bytes(network, latents, labels)
    recompute_activations(network)
    assert saved_bytes(network, latents, labels) < before * 2 / 3


def saved_bytes(network: nn.Module, *inputs: Tensor) -> int:
    """What autograd keeps of a call, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(*inputs)
    assert output.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_resnet_keeps_less_than_half(norm: str) -> None:
    network = ResNetGenerator(in_channels=3, out_channels=3, width=8, blocks=9, norm=norm)  # type: ignore[arg-type]
    images = torch.rand(1, 3, 64, 64)
    before = saved_bytes(network, images)
    recompute_activations(network)
    assert saved_bytes(network, images) < before / 2
    keep_activations(network)
    assert saved_bytes(network, images) == before


def test_a_copy_runs_its_own_weights() -> None:
    network = NETWORKS["resnet, batch norm and dropout"]()
    recompute_activations(network)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    images = torch.rand(1, 3, 16, 16)
    assert network(images).abs().max() == 0
    assert other(images).abs().max() > 0
    assert network.state_dict().keys() == NETWORKS["resnet, batch norm and dropout"]().state_dict().keys()


def test_networks_are_taken_apart_as_before() -> None:
    network = NETWORKS["resnet, batch norm and dropout"]()
    set_inference_mode(network, normalisation="eval", dropout=False)
    names = [step.name for step in trace(network)]
    recompute_activations(network)
    assert [step.name for step in trace(network)] == names


def test_gradients_of_gradients_pass_through() -> None:
    """As a penalty on the generator's gradient needs it; the stages then run again more than once."""
    network = NETWORKS["spade, spectral norm"]().train()
    again = copy.deepcopy(network)
    recompute_activations(again)
    penalties = []
    for each in (network, again):
        labels = torch.ones(2, 3, 32, 32).requires_grad_()
        (gradient,) = torch.autograd.grad(each(labels).sum(), labels, create_graph=True)
        gradient.square().sum().backward()
        penalties.append([parameter.grad for parameter in each.parameters() if parameter.grad is not None])
    assert penalties[0] and all(torch.equal(a, b) for a, b in zip(*penalties, strict=True))


def test_a_network_without_stages_is_refused() -> None:
    with pytest.raises(InputError, match=r"--checkpointing .* MLPGenerator has no method stages"):
        recompute_activations(MLPGenerator(latent_channels=2, out_channels=2))
