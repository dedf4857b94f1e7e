"""The recipes of super-resolution as a person runs them: images in, a generator that loads out, clear refusals."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

import i2i
from i2i.checkpoints import load_network
from i2i.checkpoints.store import GeneratorSpec, ImageSide, load_generator, save_generator
from i2i.data.image_io import read_image, write_image
from i2i.generators import CompactGenerator
from i2i.layers.resample import bicubic
from i2i.training import superres

RunRecipe = Callable[..., int]
RECIPES = Path(__file__).parents[2] / "recipes"

SMALL = (
    *("--steps", "2", "--batch-size", "2", "--validate-every-steps", "2", "--save-every-steps", "1"),
    *("--preview-images", "2", "--workers", "0", "--device", "cpu", "--threads", "1", "--log-every-steps", "1"),
    *("--network", "compact", "--width", "4", "--blocks", "1", "--crop-px", "32"),
)
GAN = ("--perceptual", "off", "--discriminator", "unet", "--discriminator-width", "2")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Smooth images of two sizes, twelve of them."""
    for number in range(12):
        torch.manual_seed(number)
        image = bicubic(torch.rand(1, 3, 12, 10 + number % 2), scale=4)[0].clamp(0, 1)
        write_image(tmp_path / "photos" / f"{number:02}.png", (image * 255).byte().permute(1, 2, 0).numpy())
    return tmp_path / "photos"


def losses_of(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if "losses" in line]


def metrics_of(out: Path) -> dict[str, dict[str, float]]:
    summary = json.loads((out / "metrics.json").read_text())
    return {"this run": summary["metrics"], **summary["baselines"]}


FIGURES = {"psnr", "ssim", "gradient", "swd"}


def test_photos_give_a_generator_that_loads(run_recipe: RunRecipe, photos: Path, tmp_path: Path) -> None:
    arguments = ("--data", photos, "--out", tmp_path / "run", *SMALL, "--pixel-loss", "charbonnier")
    assert run_recipe("superres_psnr", *arguments) == 0
    enlarged = i2i.load(tmp_path / "run")(np.zeros((9, 11, 3), np.uint16))
    assert enlarged.shape == (36, 44, 3) and enlarged.dtype == np.uint16
    assert losses_of(tmp_path / "run")[0].keys() == {"pixel"}
    metrics = metrics_of(tmp_path / "run")
    assert metrics.keys() == {"this run", "bicubic"}
    assert all(figures.keys() == FIGURES for figures in metrics.values())
    assert run_recipe("superres_psnr", *arguments) == 0  # found finished, not trained again
    assert len(losses_of(tmp_path / "run")) == 2


def test_the_gan_stage_goes_on_from_the_first_one(run_recipe: RunRecipe, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--data", photos, "--out", out, *SMALL, *GAN, "--psnr-steps", "3")
    assert run_recipe("esrgan", *arguments) == 0
    assert len(losses_of(out / "psnr")) == 3
    assert losses_of(out)[0].keys() == {"pixel", "adversarial", "discriminator"}
    metrics = metrics_of(out)
    # Before its first step the second stage is as good as the first one in the end.
    first = next(json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())["metrics"]
    assert first == pytest.approx(metrics_of(out / "psnr")["this run"], rel=1e-5)
    assert metrics["first stage"] == pytest.approx(first, rel=1e-5)
    assert (out / "pictures" / "stages.png").exists()
    assert "no perceptual loss" in (out / "report.html").read_text()
    assert type(load_network(out)) is type(load_network(out / "psnr")) is CompactGenerator


@pytest.mark.parametrize("recipe", ["esrgan", "realesrgan"])
def test_four_steps_are_two_and_two_more(recipe: str, run_recipe: RunRecipe, photos: Path, tmp_path: Path) -> None:
    arguments = ("--data", photos, *SMALL, *GAN, "--schedule", "constant", "--psnr-steps", "2")
    arguments = (*arguments, *(("--keep-px", "24", "--pool-pairs", "3") if recipe == "realesrgan" else ()))
    assert run_recipe(recipe, *arguments, "--steps", "4", "--out", tmp_path / "whole") == 0
    for steps in ("2", "4"):
        assert run_recipe(recipe, *arguments, "--steps", steps, "--out", tmp_path / "parts") == 0
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    for name in ("generator/generator.safetensors", "samples/00000004.png", "pictures/stages.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_degraded_photos_are_what_real_esrgan_learns_from(
    run_recipe: RunRecipe, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--data", photos, *SMALL, *GAN, "--psnr-steps", "1", "--keep-px", "24")
    assert run_recipe("realesrgan", *arguments, "--out", tmp_path / "run") == 0
    assert "degraded at random" in capsys.readouterr().out
    assert run_recipe("esrgan", *arguments[:-2], "--out", tmp_path / "clean") == 0
    degraded, clean = (metrics_of(tmp_path / name)["bicubic"]["psnr"] for name in ("run", "clean"))
    assert degraded < clean - 3


def test_published_weights_are_trained_on(run_recipe: RunRecipe, photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=2, scale=4)
    torch.save({"params_ema": generator.state_dict()}, tmp_path / "compact.pth")  # as Real-ESRGAN has them
    options = ("--init-generator", tmp_path / "compact.pth", "--generator-learning-rate", "1e-4")
    assert run_recipe("esrgan", "--data", photos, "--out", tmp_path / "run", *SMALL, *GAN, *options) == 0
    tuned = load_network(tmp_path / "run")
    assert isinstance(tuned, CompactGenerator) and tuned.arguments == generator.arguments
    moved = [(a - b).abs().max() for a, b in zip(tuned.parameters(), generator.parameters(), strict=True)]
    assert 0 < max(moved) < 1e-3
    assert not (tmp_path / "run" / "psnr").exists()


@pytest.mark.data
def test_a_published_discriminator_is_trained_on(
    run_recipe: RunRecipe, photos: Path, tmp_path: Path, data_dir: Path
) -> None:
    options = ("--data", photos, "--out", tmp_path / "run", *SMALL, "--perceptual", "off", "--psnr-steps", "1")
    weights = data_dir / "golden" / "realesrgan-unet-discriminator-sn" / "weights.pth"
    assert run_recipe("esrgan", *options, "--init-discriminator", weights) == 0
    assert "init_discriminator_sha256" in (tmp_path / "run" / "run.json").read_text()


def test_pairs_and_held_out_images_of_ones_own(run_recipe: RunRecipe, photos: Path, tmp_path: Path) -> None:
    for image in photos.iterdir():
        write_image(tmp_path / "pairs" / "HR" / image.name, np.full((40, 40, 3), 200, np.uint8))
        write_image(tmp_path / "pairs" / "LRx4" / image.name, np.full((10, 10, 3), 200, np.uint8))
    arguments = ("--data", tmp_path / "pairs", "--held-out", photos, "--out", tmp_path / "run", *SMALL)
    assert run_recipe("superres_psnr", *arguments) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "12 images to learn from, 12 held out; those of low resolution are as given" in page


def test_the_first_stage_can_be_made_longer(run_recipe: RunRecipe, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--data", photos, "--out", out, *SMALL, *GAN, "--schedule", "constant")
    assert run_recipe("esrgan", *arguments, "--psnr-steps", "2") == 0
    assert run_recipe("esrgan", *arguments, "--psnr-steps", "3") == 2  # the second stage began with the shorter one
    assert len(losses_of(out / "psnr")) == 3
    shutil.rmtree(out / "state")
    assert run_recipe("esrgan", *arguments, "--psnr-steps", "3") == 0


def test_what_the_second_stage_would_refuse_is_refused_before_the_first(
    run_recipe: RunRecipe, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(*options: str | Path, out: Path = tmp_path / "run", data: Path = photos) -> str:
        assert run_recipe("esrgan", "--data", data, "--out", out, *SMALL, "--psnr-steps", "1", *options) == 2
        assert not (out / "psnr").exists()
        return capsys.readouterr().err

    assert "typo" in complaint(*GAN, "--compare", tmp_path / "typo")
    assert "--lpips" in complaint(*GAN, "--best-metric", "lpips")
    assert "at least 24 px" in complaint(*GAN[:2], "--crop-px", "20", "--discriminator", "patch")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    assert "is no run's folder" in complaint(*GAN, out=tmp_path / "full")
    for image in photos.iterdir():
        write_image(tmp_path / "grey" / image.name, read_image(image)[..., :1])
    with torch.device("meta"):
        theirs = torchvision.models.vgg19(weights=None).features
    torch.save({f"features.{name}": torch.zeros(tensor.shape) for name, tensor in theirs.state_dict().items()},
               tmp_path / "vgg19.pth")  # fmt: skip
    options = ("--perceptual-weights", tmp_path / "vgg19.pth", *GAN[2:])
    assert "--perceptual off" in complaint(*options, data=tmp_path / "grey")


@pytest.mark.slow
def test_two_processes_with_workers_resume_exactly(photos: Path, tmp_path: Path) -> None:
    def start(out: Path, steps: str) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command += [RECIPES / "realesrgan.py", "--data", photos, "--out", out, *SMALL, *GAN, "--psnr-steps", "1"]
        command += ["--keep-px", "24", "--pool-pairs", "3", "--schedule", "constant", "--workers", "1"]
        done = subprocess.run([*map(str, command), "--steps", steps], capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stderr
        assert "2 processes on cpu" in done.stdout

    start(tmp_path / "whole", "4")
    start(tmp_path / "parts", "2")
    start(tmp_path / "parts", "4")
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    weights = [(tmp_path / name / "generator" / "generator.safetensors").read_bytes() for name in ("parts", "whole")]
    assert weights[0] == weights[1]


def test_bad_input_is_told_in_a_sentence(
    run_recipe: RunRecipe, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(name: str, *options: str | Path, data: Path = photos) -> str:
        assert run_recipe(name, "--data", data, "--out", tmp_path / "run", *SMALL, *options) == 2
        assert not (tmp_path / "run" / "log.jsonl").exists()
        return capsys.readouterr().err

    said = complaint("esrgan", *GAN)
    assert "--init-generator" in said and "--psnr-steps" in said
    assert "recipes/superres_psnr.py" in complaint("realesrgan", *GAN, "--keep-px", "24")

    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
    twice = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
    save_generator(tmp_path / "x2", network=twice, spec=GeneratorSpec(input=side, output=side), card="")
    said = complaint("superres_psnr", "--init-generator", tmp_path / "x2")
    assert "x2" in said and "2" in said and "4" in said

    assert "--crop-px 64" in complaint("superres_psnr", "--crop-px", "64")
    assert "--crop-px must be a multiple of the scale, 4" in complaint("superres_psnr", "--crop-px", "34")
    assert "--keep-px" in complaint("realesrgan", *GAN, "--keep-px", "64", "--psnr-steps", "1")
    assert "--perceptual off" in complaint("esrgan", "--psnr-steps", "1", "--perceptual-weights", tmp_path / "no.pth")
    assert "--low-dir" in complaint("realesrgan", *GAN, "--keep-px", "24", "--psnr-steps", "1", "--low-dir", photos)

    for name in ("0.png", "1.png"):
        write_image(tmp_path / "pairs" / "HR" / name, np.zeros((40, 40, 3), np.uint8))
        write_image(tmp_path / "pairs" / "LRx4" / name, np.zeros((20, 20, 3), np.uint8))
    said = complaint("superres_psnr", data=tmp_path / "pairs")
    assert "20 x 20" in said and "40 x 40" in said and "scale 4" in said


@pytest.mark.slow
def test_the_streets_are_learned(run_recipe: RunRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of the default are nearer to the truth than bicubic resizing, and much sharper."""
    monkeypatch.setattr(superres, "TRAINING_STREETS", 100)  # streets take a while to draw
    monkeypatch.setattr(superres, "HELD_OUT_STREETS", 8)
    monkeypatch.setattr(superres, "STREET_SIZE_PX", 128)
    assert run_recipe("superres_psnr", "--out", tmp_path / "run", "--steps", "300", "--threads", "1") == 0
    metrics = metrics_of(tmp_path / "run")
    assert metrics["this run"]["psnr"] > metrics["bicubic"]["psnr"] + 0.1
    assert metrics["this run"]["gradient"] > metrics["bicubic"]["gradient"]


def test_the_second_stage_begins_with_averaged_weights(run_recipe: RunRecipe, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--data", photos, "--out", out, *SMALL, *GAN, "--psnr-steps", "3", "--ema-decay", "0.9")
    assert run_recipe("esrgan", *arguments) == 0
    network, spec = load_generator(out / "psnr" / "generator")
    assert network.scale == 4 and spec.input is not None and spec.input.network_range == (0.0, 1.0)
    assert metrics_of(out)["first stage"]["psnr"] == pytest.approx(metrics_of(out / "psnr")["this run"]["psnr"])
