"""Weights that are drawn, and that nothing is drawn for networks without any memory."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from i2i.layers.conv import add_spectral_norm
from i2i.layers.init import draw_normal, make_embedding

BUILDS = """
import inspect, sys, torch
from i2i.discriminators import DISCRIMINATORS
from i2i.generators import GENERATORS
built = []
with torch.device("meta"):
    for name, network in [*GENERATORS.items(), *DISCRIMINATORS.items()]:
        takes = inspect.signature(network).parameters
        if "classes" not in takes:
            continue
        needed = {name: 3 for name in ("latent_channels", "out_channels", "in_channels") if name in takes}
        more = [{"layers": "adain"}] if "style_channels" in takes else []
        more += [{"spectral": True, "init": "orthogonal"}] if "init" in takes else []
        for options in ({}, *more):
            built.append(network(**needed, **options, classes=3))
            assert all(tensor.is_meta for tensor in built[-1].state_dict().values())
            if "torch._dynamo" in sys.modules:
                sys.exit(f"{name} with {options}")
print(len(built))
"""


def test_building_without_weights_does_not_import_the_compiler() -> None:
    """Which takes seconds; reading a file starts by building its network so."""
    done = subprocess.run([sys.executable, "-c", BUILDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 14


def test_drawn_as_pytorch_does() -> None:
    torch.manual_seed(0)
    expected = nn.Embedding(3, 4).weight, torch.randn(1, 2, 5, 5)
    torch.manual_seed(0)
    embedding = make_embedding(3, 4)
    assert embedding.weight.requires_grad and type(embedding.weight) is nn.Parameter
    assert torch.equal(embedding.weight, expected[0]) and torch.equal(draw_normal(1, 2, 5, 5), expected[1])


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding])
def test_spectral_norm_is_filled_later(kind: type[nn.Module]) -> None:
    """It then divides, and goes on iterating, as the one that it was filled from."""
    sizes = (3, 4, 5) if "Conv" in kind.__name__ else (3, 4)
    layer = kind(*sizes)
    add_spectral_norm(layer)
    drawn = torch.get_rng_state()
    with torch.device("meta"):
        twin = kind(*sizes)
        add_spectral_norm(twin)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(tensor.is_meta for tensor in twin.state_dict().values())
    twin.load_state_dict({name: tensor.clone() for name, tensor in layer.state_dict().items()}, assign=True)
    for training in (False, True, False):
        layer.train(training)
        twin.train(training)
        assert torch.equal(twin.weight, layer.weight)  # type: ignore[arg-type]
    for name, tensor in twin.state_dict().items():
        assert torch.equal(tensor, layer.state_dict()[name])
