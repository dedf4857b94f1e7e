"""What semantic synthesis is measured by, on data where the right figures are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.checkpoints import ImageSide
from i2i.discriminators import MultiscaleDiscriminator
from i2i.errors import InputError
from i2i.methods.spade import SemanticSynthesis
from i2i.training.config import TrainingSettings
from i2i.training.judging import Examiner, Judging, Painted, class_colours, colour_taken
from i2i.training.measures import Measures
from i2i.training.semantic import SemanticTask

PALETTE = np.array([(255, 0, 0), (0, 0, 255)], np.uint8)
SHAPE = (3, 16, 16)


class Squares(Dataset):
    """A square of class 1 on class 0; each class is a grey of its own, in a light of each picture's own."""

    def __init__(self, count: int, *, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        random = np.random.default_rng(self.first + index)
        labels = torch.zeros(1, *SHAPE[1:], dtype=torch.int64)
        top, left = random.integers(0, 8, 2)
        labels[:, top : top + 8, left : left + 8] = 1
        noise = torch.from_numpy(random.normal(0, 0.02, SHAPE).astype(np.float32))
        return {"labels": labels, "image": labels * 0.8 - 0.6 + light(self.first + index) + noise}


def light(seed: int) -> float:
    return 0.02 * (seed % 10)


class Painter(nn.Module):
    """A generator whose styles are lights, read off a photo's mean and added to each class's grey."""

    in_channels = 2
    latent_channels = 1
    takes_label_ids = True

    def __init__(self, *, strength: float) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(strength))
        self.style_encoder = Light()

    def forward(self, labels: Tensor, z: Tensor | None = None) -> Tensor:
        brightness = 0.0 if z is None else self.strength * z[:, :, None, None]
        return (labels[:, :1] * 0.8 - 0.6 + brightness).expand(-1, 3, -1, -1)


class Light(nn.Module):
    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        # A quarter of each picture is of class 1: what is left is the light.
        mean = photos.mean((1, 2, 3))[:, None] + 0.6 - 0.8 / 4
        return mean, torch.zeros_like(mean)


def make_task() -> SemanticTask:
    return SemanticTask(
        training=Squares(24),
        held_out=Squares(16, first=100),
        input=ImageSide(channels=2, dtype="uint8", data_range=(0, 1), network_range=(0, 1), labels=True),
        output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)),
        classes=2,
        palette=PALETTE,
        name="squares",
        about="Squares.",
        fingerprint="squares",
    )


def make_method(*, strength: float = 1.0, judge: object = None) -> SemanticSynthesis:
    discriminator = MultiscaleDiscriminator(in_channels=5, width=4, layers=1, scales=1)
    return SemanticSynthesis(
        generator=Painter(strength=strength), discriminator=discriminator, palette=PALETTE, judge=judge
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


@torch.no_grad()
def test_a_painter_of_true_colours_reaches_the_ceiling(tmp_path: Path) -> None:
    examiner = Examiner(Judging(segmenter_steps=150), make_task())
    baselines = examiner.baselines()
    said: list[str] = []
    torch.manual_seed(0)
    figures = examiner.of(make_method(judge=examiner.judge), out=tmp_path)(said.append)
    assert baselines["real photos"]["trained_miou"] == baselines["real photos"]["read_miou"] > 0.95
    assert figures["trained_miou"] > 0.95
    assert figures["style_colour"] == pytest.approx(1, abs=0.05)
    assert figures["style_miou_change"] < 0.02
    assert "150 steps" in said[0]


def test_baselines_have_a_runs_metrics() -> None:
    task = make_task()
    measures = Measures(TrainingSettings(steps=1, metrics=("variety", "l1")), device=torch.device("cpu"))
    found = measures.baselines(Examiner(Judging(), task).baseline_images(), count=len(task.held_out))
    learnt = [task.training[index] for index in range(len(task.training))]
    pixels = {c: torch.cat([one["image"][:, one["labels"][0] == c] for one in learnt], 1).mean(1) for c in (0, 1)}
    errors = []
    for index in range(len(task.held_out)):
        item = task.held_out[index]
        painted = torch.where(item["labels"][:1] == 1, pixels[1][:, None, None], pixels[0][:, None, None])
        errors.append((painted - item["image"]).abs().mean().item() / 2)
    assert found["class mean"]["l1"] == pytest.approx(np.mean(errors), rel=0.02)  # rounded to 8 bits
    # Other photos are no answer to held-out label maps, and as varied.
    assert found["real photos"].keys() == {"variety"} and found["real photos"]["variety"] == pytest.approx(1, abs=0.3)


@torch.no_grad()
def test_a_painter_that_ignores_styles_takes_no_colours(tmp_path: Path) -> None:
    figures = Examiner(Judging(), make_task()).of(make_method(strength=0.0), out=tmp_path)(print)
    assert figures == {"style_colour": pytest.approx(0, abs=1e-3)}


@torch.no_grad()
def test_the_grid_of_styles_has_maps_at_the_left_and_photos_on_top(tmp_path: Path) -> None:
    Examiner(Judging(), make_task()).of(make_method(), out=tmp_path)(print)
    grid = np.asarray(Image.open(tmp_path / "pictures" / "styles.png"))
    rows, columns = ((length - 4) // 20 for length in grid.shape[:2])
    assert (rows, columns) == (1 + 6, 1 + 5 + 3)

    def tile(row: int, column: int) -> np.ndarray:
        return grid[4 + 20 * row :, 4 + 20 * column :][:16, :16]

    assert (tile(0, 0) == 255).all() and (tile(0, 6) == 255).all()
    assert {tuple(colour) for colour in tile(1, 0).reshape(-1, 3)} == {(255, 0, 0), (0, 0, 255)}
    photo = Squares(16, first=100)[16 * 2 // 5]["image"]
    np.testing.assert_allclose(tile(0, 3), (photo.permute(1, 2, 0) + 1) * 127.5, atol=1)


@torch.no_grad()
def test_one_held_out_photo_and_few_steps_are_enough_to_go_on(tmp_path: Path) -> None:
    for steps in (1, 2, 10, 20):
        task = replace(make_task(), held_out=Squares(1, first=100))
        examiner = Examiner(Judging(segmenter_steps=steps), task)
        assert examiner.baselines()["class mean"].keys() == {"swd", "read_miou", "read_accuracy", "trained_miou"}
        assert examiner.of(make_method(judge=examiner.judge), out=tmp_path)(print).keys() == {"trained_miou"}


def test_painted_items_keep_all_but_the_image() -> None:
    data = Squares(5)
    painted = Painted(data, lambda labels: (labels * 0.6 - 0.301).expand(-1, 3, -1, -1))
    assert len(painted) == 5
    assert torch.equal(painted[3]["labels"], data[3]["labels"])
    values = painted[3]["image"].unique()
    torch.testing.assert_close(values, torch.tensor([89.0, 166.0]) / 127.5 - 1)  # whole grey levels


def test_colours_of_classes_are_means_over_all_images_without_dont_care() -> None:
    labels = torch.tensor([[[[0, 0], [1, 3]]], [[[1, 3], [1, 1]]]])
    image = torch.arange(24.0).view(2, 3, 2, 2)
    colours = class_colours([{"labels": labels[:1], "image": image[:1]}, {"labels": labels[1:], "image": image[1:]}],
                            classes=3)  # fmt: skip
    torch.testing.assert_close(colours[0], torch.tensor([0.5, 4.5, 8.5], dtype=torch.float64))
    torch.testing.assert_close(colours[1], torch.tensor([43 / 4, 59 / 4, 75 / 4], dtype=torch.float64))
    assert colours[2].isnan().all()


def test_colours_taken_are_the_slope_of_least_squares() -> None:
    random = np.random.default_rng(0)
    lent = random.normal(size=(6, 3, 3))
    taken = 0.4 * lent + random.normal(size=(6, 3, 3)) * 0.1 + 5
    lent[2, 1] = np.nan
    x, y = [], []
    for cell in np.ndindex(3, 3):
        there = ~np.isnan(lent[:, *cell])
        x.append(lent[there, *cell] - lent[there, *cell].mean())
        y.append(taken[there, *cell] - taken[there, *cell].mean())
    slope = np.linalg.lstsq(np.concatenate(x)[:, None], np.concatenate(y), rcond=None)[0][0]
    assert colour_taken(torch.from_numpy(lent), torch.from_numpy(taken)) == pytest.approx(slope)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="give both"):
        Judging(judge_ids=(0, 1))
    with pytest.raises(InputError, match="at least 0"):
        Judging(segmenter_steps=-1)
