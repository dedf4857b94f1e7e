from pathlib import Path

import pytest
import torch

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.generators import CompactGenerator
from i2i.inference.translator import Translator


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compact network of scale 2 that repeats each pixel and adds something random to it."""
    folder = tmp_path_factory.mktemp("network") / "weights"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
        torch.nn.init.normal_(network.body[-1].weight, std=0.05)
        torch.nn.init.zeros_(network.body[-1].bias)
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
    save_generator(folder, network=network, spec=GeneratorSpec(input=side, output=side), card="")
    return folder


@pytest.fixture(scope="session")
def translator(weights: Path) -> Translator:
    return i2i.load(weights, device="cpu")
