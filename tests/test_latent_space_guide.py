"""The examples in docs/latent-space.md run as they stand there, one after the other."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from i2i.checkpoints import GeneratorSpec, ImageSide, save_discriminator, save_generator
from i2i.data.image_io import read_image
from i2i.discriminators import DCGANDiscriminator
from i2i.generators import StyleGANGenerator

TEXT = (Path(__file__).parents[1] / "docs" / "latent-space.md").read_text()


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = StyleGANGenerator(latent_channels=8, style_channels=8, width=4, size=16, mapping_layers=2)
    spec = GeneratorSpec(input=None, output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)))
    run = tmp_path / "runs" / "stylegan"
    save_generator(run / "generator", network=network, spec=spec, card="")
    save_discriminator(
        run / "discriminators" / "discriminator.safetensors", network=DCGANDiscriminator(size=16, width=4)
    )
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(examples) == 7
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    pictures = re.findall(r'write_image\("(.*?)"', TEXT)
    assert pictures and all(read_image(picture).shape[2] == 3 for picture in pictures)
    assert names["again"].shape == names["edited"].shape == (16, 16, 3)
    assert len(names["suspicious"]) == 8
