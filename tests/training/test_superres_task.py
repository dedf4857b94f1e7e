"""What super-resolution is trained and measured on, and how the loop takes it."""

import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.checkpoints import GeneratorSpec
from i2i.data.degrade import Degradation
from i2i.data.image_io import read_image, write_image
from i2i.data.sampler import Draw
from i2i.errors import InputError
from i2i.generators import CompactGenerator, RRDBGenerator
from i2i.layers.resample import bicubic
from i2i.methods.base import Batch, Losses, Outputs
from i2i.methods.superres import RandomDegradation, SuperResolution
from i2i.metrics import luma, psnr
from i2i.training import superres
from i2i.training.config import TrainingSettings
from i2i.training.loop import train
from i2i.training.measures import Measures
from i2i.training.report import RunFacts
from i2i.training.stages import Discriminator, FirstStage, Network
from i2i.training.superres import Bicubic, HeldOut, SuperResolutionData, super_resolution_task


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def write_photos(tmp_path: Path) -> Callable[..., Path]:
    """Smooth images of the given sizes in a folder."""

    def write(folder: str, *sizes: tuple[int, int], channels: int = 3) -> Path:
        for number, (height, width) in enumerate(sizes):
            torch.manual_seed(number)
            image = bicubic(torch.rand(1, channels, height // 2, width // 2), scale=2)[0].clamp(0, 1)
            write_image(tmp_path / folder / f"{number}.png", (255 * image).byte().permute(1, 2, 0).numpy())
        return tmp_path / folder

    return write


@pytest.fixture
def few_streets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streets take a while to draw."""
    monkeypatch.setattr(superres, "TRAINING_STREETS", 4)
    monkeypatch.setattr(superres, "HELD_OUT_STREETS", 2)
    monkeypatch.setattr(superres, "STREET_SIZE_PX", 128)


DATA = SuperResolutionData(crop_px=32)
SIZES = ((48, 50), (64, 48), (50, 54))
DEGRADATION = RandomDegradation(settings=Degradation(), crop_px=24)


def test_held_out_images_stay_whole_and_previews_are_squares(write_photos: Callable[..., Path]) -> None:
    data = replace(DATA, data=write_photos("photos", *SIZES), held_out=write_photos("others", *SIZES[::-1]))
    task = super_resolution_task(data)
    assert [tuple(task.held_out[i]["target"].shape) for i in range(3)] == [(3, 48, 52), (3, 64, 48), (3, 48, 48)]
    assert {tuple(task.preview[i]["target"].shape) for i in range(3)} == {(3, 48, 48)}
    assert task.side.network_range == (0.0, 1.0) and task.side.data_range == (0, 255)
    image = torch.tensor(read_image(data.held_out / "0.png")).permute(2, 0, 1) / 255
    torch.testing.assert_close(task.held_out[0]["target"], image[:, :48, :52])
    small = (bicubic(image[None, :, :48, :52], scale=1 / 4)[0] * 255).round() / 255
    # Rounded between the axes, too, as MATLAB does.
    assert (task.held_out[0]["input"] - small).abs().max() < 1.01 / 255
    assert "3 images to learn from, 3 held out" in task.about


def test_figures_are_means_over_images_of_any_size(write_photos: Callable[..., Path]) -> None:
    data = replace(DATA, data=write_photos("photos", *SIZES), held_out=write_photos("others", *SIZES))
    task = super_resolution_task(data)
    found = task.figures(Bicubic(scale=4), device=torch.device("cpu"))
    expected = []
    for index in range(3):
        item = {name: image[None] for name, image in task.held_out[index].items()}
        enlarged = luma(bicubic(item["input"], scale=4).clamp(0, 1))[..., 4:-4, 4:-4]
        error = enlarged - luma(item["target"])[..., 4:-4, 4:-4]
        expected.append(-10 * error.square().mean().log10().item())
    assert found["psnr"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert found.keys() == {"psnr", "ssim", "gradient", "swd"}


def test_a_baseline_has_a_runs_metrics(write_photos: Callable[..., Path]) -> None:
    task = super_resolution_task(replace(DATA, data=write_photos("photos", *SIZES), held_out=write_photos("o", *SIZES)))
    shown = partial(task.compared, Bicubic(scale=4), device=torch.device("cpu"))
    measures = Measures(TrainingSettings(steps=1, metrics=("l1",)), device=torch.device("cpu"))
    items = [task.held_out[index] for index in range(3)]
    errors = [(bicubic(item["input"][None], scale=4)[0].clamp(0, 1) - item["target"]).abs().mean() for item in items]
    found = measures.baselines({"bicubic": shown}, count=3)
    assert found["bicubic"]["l1"] == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_held_out_images_are_cut_to_what_a_network_takes(write_photos: Callable[..., Path]) -> None:
    data = replace(DATA, data=write_photos("photos", *SIZES), held_out=write_photos("others", *SIZES))
    network = RRDBGenerator(in_channels=3, out_channels=3, width=2, growth=2, blocks=1, scale=4, unshuffle=2)
    task = super_resolution_task(data, size_multiple=network.size_multiple)
    for index, (height, width) in enumerate(SIZES):
        target = task.held_out[index]["target"]
        assert tuple(target.shape[1:]) == (height // 8 * 8, width // 8 * 8)
        assert network(task.held_out[index]["input"][None]).shape[1:] == target.shape
    with pytest.raises(InputError, match="multiple of 16"):
        super_resolution_task(replace(data, crop_px=40), size_multiple=4)


def test_degraded_held_out_images_are_always_the_same(write_photos: Callable[..., Path]) -> None:
    data = replace(DATA, data=write_photos("photos", *SIZES), held_out=write_photos("others", *SIZES))
    task = super_resolution_task(data, degradation=DEGRADATION)
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    first = task.held_out[1]["input"]
    assert torch.rand(()) == expected  # training's random numbers go on as if nobody had looked
    torch.testing.assert_close(task.held_out[1]["input"], first, rtol=0, atol=0)
    # What was made once is kept for later runs, whose settings tell it apart.
    again = super_resolution_task(data, degradation=DEGRADATION)
    torch.testing.assert_close(again.held_out[1]["input"], first, rtol=0, atol=0)
    other = replace(DEGRADATION, settings=Degradation(second_blur_probability=0.0))
    assert not torch.equal(super_resolution_task(data, degradation=other).held_out[1]["input"], first)
    assert task.training[Draw(index=0, seed=1, number=0)].keys() == {"target"}
    assert not torch.equal(task.held_out[0]["input"][:, :12, :12], first[:, :12, :12])
    assert "degraded at random" in task.about


def test_figures_of_large_images_are_those_of_their_middle(write_photos: Callable[..., Path]) -> None:
    data = replace(DATA, data=write_photos("photos", *SIZES), held_out=write_photos("others", (96, 64)))
    task = super_resolution_task(replace(data, held_out_px=40))
    whole = super_resolution_task(data).held_out[0]
    assert "the middle counts, 40 px a side" in task.about
    torch.testing.assert_close(task.held_out[0]["target"], whole["target"][:, 28:68, 12:52])
    torch.testing.assert_close(task.held_out[0]["input"], whole["input"][:, 7:17, 3:13])


def test_what_low_resolution_is_is_told(write_photos: Callable[..., Path], tmp_path: Path) -> None:
    high = write_photos("pairs/HR", *SIZES)
    for image in high.iterdir():
        height, width = read_image(image).shape[:2]
        write_image(tmp_path / "pairs" / "LRx4" / image.name, np.zeros((height // 4, width // 4, 3), np.uint8))
    data = replace(DATA, data=tmp_path / "pairs", held_out=write_photos("others", *SIZES))
    task = super_resolution_task(data)
    assert "as given, and shrunk bicubically for held-out images" in task.about
    assert task.training[Draw(index=0, seed=1, number=0)]["input"].max() == 0
    degraded = super_resolution_task(data, degradation=DEGRADATION)
    assert "degraded at random (and not those that lie beside them)" in degraded.about
    assert degraded.held_out[0]["input"].max() > 0
    with pytest.raises(InputError, match="--held-out is --data itself"):
        replace(data, held_out=tmp_path / "others" / ".." / "pairs")


def test_scale_1_needs_images_to_restore(write_photos: Callable[..., Path]) -> None:
    data = replace(DATA, scale=1, data=write_photos("photos", *SIZES), held_out=write_photos("others", *SIZES))
    for one in (data, replace(DATA, scale=1)):
        with pytest.raises(InputError, match="--scale 1 needs LR images"):
            super_resolution_task(one)
    task = super_resolution_task(data, degradation=DEGRADATION)
    assert task.held_out[0]["input"].shape == task.held_out[0]["target"].shape


@pytest.mark.usefixtures("few_streets")
def test_streets_may_be_degraded() -> None:
    task = super_resolution_task(DATA, degradation=DEGRADATION)
    clean = super_resolution_task(DATA)
    assert task.training[Draw(index=0, seed=1, number=0)].keys() == {"target"}
    assert (task.held_out[0]["input"] - clean.held_out[0]["input"]).abs().mean() > 0.01


@pytest.mark.usefixtures("few_streets")
def test_the_streets_are_there_without_any_files() -> None:
    task = super_resolution_task(DATA)
    assert tuple(task.training[Draw(index=3, seed=1, number=0)]["input"].shape) == (3, 8, 8)
    assert tuple(task.held_out[0]["target"].shape) == (3, 128, 128)


def test_other_held_out_images_are_another_run(write_photos: Callable[..., Path]) -> None:
    data = replace(DATA, data=write_photos("photos", *SIZES), held_out=write_photos("others", *SIZES))
    again = replace(data, held_out=write_photos("more", *SIZES[:2]))
    assert super_resolution_task(data).fingerprint != super_resolution_task(again).fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_px": 30}, "--crop-px must be a multiple of the scale, 4, and at least 19, and is 30"),
        ({"crop_px": 16}, "at least 19"),
        ({"scale": 0}, "--scale must be at least 1"),
        ({"low_dir": Path("low")}, "--low-dir belongs to --data"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(DATA, **changes)  # type: ignore[arg-type]


def test_images_too_small_for_figures_are_told(write_photos: Callable[..., Path]) -> None:
    data = replace(DATA, data=write_photos("photos", *SIZES), held_out=write_photos("tiny", (16, 18)))
    with pytest.raises(InputError, match="a side of 16 px"):
        super_resolution_task(data)


@pytest.mark.usefixtures("few_streets")
def test_networks_are_what_was_asked_for() -> None:
    task = super_resolution_task(DATA)
    assert Network(network="rrdb", width=4, growth=2).make(task, initial=None).arguments["blocks"] == 23
    assert Network(network="srresnet", width=4).make(task, initial=None).arguments["blocks"] == 16
    assert Network(network="compact", width=4, blocks=3).make(task, initial=None).arguments["convs"] == 3
    with pytest.raises(InputError, match="--unshuffle is for --network rrdb"):
        Network(network="compact", unshuffle=2)
    with pytest.raises(InputError, match="--psnr-steps"):
        FirstStage().check(Network())
    FirstStage(psnr_steps=1).check(Network())
    FirstStage().check(Network(init_generator=Path("weights.pth")))
    images = torch.rand(2, 3, 32, 32)
    patches = Discriminator(discriminator="patch", discriminator_width=4).make(task, crop_px=32)
    assert patches(images).shape[:2] == (2, 1)
    with pytest.raises(InputError, match="--discriminator patch needs crops of at least 24 px"):
        Discriminator(discriminator="patch", discriminator_width=4).make(task, crop_px=20)
    assert Discriminator(discriminator="unet", discriminator_width=4).make(task, crop_px=32)(images).shape == (
        2,
        1,
        32,
        32,
    )
    assert Discriminator(discriminator="vgg", discriminator_width=4).make(task, crop_px=32)(images).shape == (2, 1)


class Numbered(Dataset[dict[str, Tensor]]):
    """Grey squares, two sizes of them in turns."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        number = item if isinstance(item, int) else item.index
        side = 24 if isinstance(item, Draw) or number % 2 else 32
        return {"target": torch.full((1, side, side), number / 10), "input": torch.full((1, side // 2, side // 2), 0.5)}


class Brightened(SuperResolution):
    """Sees batches that were made brighter on the device, and remembers them."""

    seen: list[Tensor]

    def prepare(self, batch: Batch, step: int) -> Batch:
        return batch | {"target": batch["target"] + torch.rand(())}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        self.seen.append(batch["target"].clone())
        return super().generator_losses(batch, out, step)


@pytest.mark.usefixtures("few_streets")
def test_the_loop_prepares_batches_and_measures_images_of_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = Brightened(generator=CompactGenerator(in_channels=1, out_channels=1, width=2, convs=0, scale=2))
    method.seen = []
    data = Numbered()
    settings = TrainingSettings(steps=3, batch_size=4, workers=0, device="cpu", threads=1, generator_learning_rate=1e-9)
    side = super_resolution_task(DATA).side
    spec = GeneratorSpec(input=replace(side, channels=1), output=replace(side, channels=1))
    result = train(
        method=method,
        training_data=data,
        validation_data=data,
        preview_data=HeldOut(images=data, scale=2, size_multiple=12),
        specs={"generator": spec},
        settings=settings,
        out=tmp_path / "run",
        facts=RunFacts(title="", about="", settings={}, fingerprint=""),
    )
    # A step's images are brightened alike, and no two steps.
    for batch in method.seen:
        tenths = 10 * (batch - batch.min())
        torch.testing.assert_close(tenths, tenths.round(), rtol=0, atol=1e-5)
    assert len({round(batch.min().item() * 10 % 1, 4) for batch in method.seen}) == 3
    network = method.generators["generator"].eval()
    expected = []
    for index in range(5):
        item = data[index]
        with torch.no_grad():
            output = network(item["input"][None]).clamp(0, 1)
        expected.append(psnr(output, item["target"][None], crop_border=2).item())
    assert result.metrics["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)


class AskedToEnd(SuperResolution):
    """Is asked to end while the last step's pictures are made."""

    previews = 0

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        self.previews += 1
        if self.previews == 2:
            signal.raise_signal(signal.SIGTERM)
        return super().preview(batch)


@pytest.mark.usefixtures("few_streets")
def test_a_request_to_end_after_the_last_step_ends_the_program(tmp_path: Path) -> None:
    """Or the next stage would begin."""
    side = super_resolution_task(DATA).side
    spec = GeneratorSpec(input=replace(side, channels=1), output=replace(side, channels=1))
    data = HeldOut(images=Numbered(), scale=2, size_multiple=12)
    with pytest.raises(SystemExit, match="130"):
        train(
            method=AskedToEnd(generator=CompactGenerator(in_channels=1, out_channels=1, width=2, convs=0, scale=2)),
            training_data=Numbered(),
            validation_data=data,
            specs={"generator": spec},
            settings=TrainingSettings(steps=2, batch_size=1, workers=0, device="cpu", threads=1),
            out=tmp_path / "run",
            facts=RunFacts(title="", about="", settings={}, fingerprint=""),
        )
    assert (tmp_path / "run" / "state" / "step-00000002").is_dir() and (tmp_path / "run" / "report.html").exists()
