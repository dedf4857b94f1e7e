"""The worked example in CONTRIBUTING.md trains as it stands there."""

import re
import types
from pathlib import Path

import torch

from i2i.checkpoints import GeneratorSpec, ImageSide, load_generator
from i2i.generators import UNetGenerator
from i2i.training.config import TrainingSettings
from i2i.training.loop import train
from i2i.training.report import RunFacts

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


class Brighter(torch.utils.data.Dataset):
    """Dark pictures as inputs, the same pictures brighter as targets."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, draw):
        index = getattr(draw, "index", draw)
        picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index)) - 1
        return {"input": picture, "target": picture + 0.5}


def test_example_method_trains(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(# i2i/methods.*?)```", TEXT, flags=re.DOTALL)
    module = types.ModuleType("regression")
    exec(code, module.__dict__)
    image = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    result = train(
        method=module.Regression(
            generator=UNetGenerator(in_channels=3, out_channels=3, width=8, depth=2, dropout=False)
        ),
        training_data=Brighter(),
        validation_data=Brighter(),
        specs={"generator": GeneratorSpec(input=image, output=image)},
        settings=TrainingSettings(
            steps=40, batch_size=4, generator_learning_rate=5e-3, workers=0, device="cpu", best_metric="l1"
        ),
        out=tmp_path / "run",
        facts=RunFacts(title="Regression", about="Brightens.", settings={}, fingerprint="random"),
    )
    assert result.metrics["l1"] < 0.15  # doing nothing gives 0.25
    load_generator(tmp_path / "run" / "generator")
    load_generator(tmp_path / "run" / "best" / "generator")
    assert "Regression" in (tmp_path / "run" / "report.html").read_text()
