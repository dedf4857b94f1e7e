"""Every listed network can be rebuilt from its arguments, which JSON can hold."""

import json

import pytest
import torch
from torch import nn

from i2i.discriminators import DISCRIMINATORS
from i2i.generators import GENERATORS

ARGUMENTS = {
    "unet": {"in_channels": 4, "out_channels": 2, "width": 3, "depth": 4, "norm": "instance"},
    "resnet": {"in_channels": 4, "out_channels": 2, "width": 3, "blocks": 2, "upsampling": "resize"},
    "spade": {"in_channels": 4, "out_channels": 2, "width": 2, "num_upsampling_layers": "most", "hidden_width": 3},
    "rrdb": {"in_channels": 4, "out_channels": 2, "width": 3, "growth": 2, "blocks": 1, "unshuffle": 2, "plus": True},
    "srresnet": {"in_channels": 4, "out_channels": 2, "width": 3, "blocks": 1, "scale": 2, "output_activation": "tanh"},
    "msrresnet": {"in_channels": 1, "out_channels": 2, "width": 3, "blocks": 1, "scale": 3},
    "compact": {"in_channels": 2, "out_channels": 2, "width": 3, "convs": 1, "scale": 3, "activation": "relu"},
    "patch": {"in_channels": 4, "width": 3, "layers": 2, "spectral": True, "minibatch": "stddev"},
    "pixel": {"in_channels": 4, "width": 3, "norm": "none"},
    "multiscale": {"in_channels": 4, "width": 3, "layers": 2, "scales": 2, "norm": "batch", "spectral": False},
}
LATENT_ARGUMENTS = {
    "dcgan": {"latent_channels": 5, "out_channels": 2, "width": 3, "size": 16, "classes": 3, "upsampling": "resize"},
    "mlp": {"latent_channels": 5, "out_channels": 2, "width": 4, "layers": 2, "classes": 3},
    "stylegan": {
        "latent_channels": 5,
        "out_channels": 2,
        "width": 4,
        "size": 16,
        "classes": 3,
        "style_channels": 6,
        "mapping_layers": 2,
        "mapping_rate": 0.1,
        "layers": "adain",
        "widest_px": 8,
    },
    "sngan": {
        "latent_channels": 5,
        "out_channels": 2,
        "width": 8,
        "size": 64,
        "classes": 3,
        "attention_px": 16,
        "spectral": True,
        "widest_px": 16,
        "shared_embedding": 4,
        "skip_z": True,
        "init": "orthogonal",
    },
    "progressive": {
        "latent_channels": 5,
        "out_channels": 2,
        "width": 8,
        "size": 16,
        "classes": 3,
        "widest_px": 4,
    },
    "transgan": {
        "latent_channels": 5,
        "out_channels": 2,
        "width": 8,
        "size": 16,
        "classes": 3,
        "blocks": [1, 2],
        "heads": 2,
        "widest_px": 16,
        "grid_px": 4,
        "grid_from_px": 8,
        "patch_px": 2,
        "norm": "layer",
    },
}
JUDGE_ARGUMENTS = {
    "dcgan": {"in_channels": 2, "width": 3, "size": 16, "spectral": True, "classes": 3, "minibatch": "discrimination"},
    "mlp": {"in_channels": 2, "width": 4, "layers": 2, "classes": 3, "minibatch": "stddev"},
    "sngan": {
        "in_channels": 2,
        "width": 8,
        "size": 16,
        "classes": 3,
        "spectral": False,
        "attention_px": 8,
        "minibatch": "stddev",
        "widest_px": 4,
        "init": "orthogonal",
    },
    "progressive": {"in_channels": 2, "width": 8, "size": 16, "classes": 3, "widest_px": 4},
    "stylegan": {"in_channels": 2, "width": 4, "size": 16, "classes": 3, "group_size": 2, "widest_px": 8},
    "transgan": {
        "in_channels": 2,
        "width": 8,
        "size": 16,
        "classes": 3,
        "patch_px": 1,
        "scales": 3,
        "blocks": [1, 2],
        "heads": 2,
        "grid_px": 4,
        "grid_from_px": 8,
        "norm": "layer",
        "minibatch": "stddev",
    },
    "vgg": {"in_channels": 4, "width": 3, "size_px": 16},
    "unet": {"in_channels": 4, "width": 3, "skips": False},
}
CASES = [(kind, (ARGUMENTS | LATENT_ARGUMENTS)[name]) for name, kind in GENERATORS.items()]
CASES += [(kind, (ARGUMENTS | JUDGE_ARGUMENTS)[name]) for name, kind in DISCRIMINATORS.items()]


@pytest.mark.parametrize(("kind", "arguments"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_arguments_rebuild_the_network(kind: type[nn.Module], arguments: dict[str, object]) -> None:
    network = kind(**arguments)
    assert arguments.items() <= network.arguments.items()
    twin = type(network)(**json.loads(json.dumps(network.arguments)))
    assert twin.arguments == network.arguments
    twin.load_state_dict(network.state_dict())
    latent = "latent_channels" in arguments or kind.__name__ == "MLPDiscriminator"
    side = max(16, getattr(network, "size_multiple", 1))
    channels = network.latent_channels if "latent_channels" in arguments else network.in_channels
    x = torch.randn(2, channels, *(() if latent else (side, side)))
    labels = (torch.tensor([2, 0]),) if "classes" in arguments else ()
    result = network.eval()(x, *labels)
    torch.testing.assert_close(twin.eval()(x, *labels), result, rtol=0, atol=0)
    last = result[0][-1] if isinstance(result, list) else result
    assert last.shape[1:2] in ((network.out_channels,), ())
