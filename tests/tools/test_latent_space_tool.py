"""tools/latent_space.py on untrained networks: every picture that they can have, and what they cannot is said."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import i2i
from i2i.checkpoints import GeneratorSpec, ImageSide, save_discriminator, save_generator
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import read_image, write_image
from i2i.discriminators import DCGANDiscriminator
from i2i.generators import DCGANGenerator, StyleGANGenerator, UNetGenerator

SPEC = GeneratorSpec(input=None, output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)))
SMALL = ("--count", "3", "--steps", "3", "--images", "10", "--pairs", "10", "--threads", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "latent_space.py"
    spec = importlib.util.spec_from_file_location("latent_space", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(tool: ModuleType, *arguments: str | Path) -> int:
    threads = torch.get_num_threads()
    try:
        settings = parse(tool.Settings, [str(argument) for argument in arguments], description="")
        return exit_code(lambda: tool.main(settings), debug=False)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("stylegan")
    network = StyleGANGenerator(latent_channels=6, style_channels=6, width=4, size=16, mapping_layers=1)
    save_generator(run / "generator", network=network, spec=SPEC, card="")
    save_discriminator(
        run / "discriminators" / "discriminator.safetensors", network=DCGANDiscriminator(width=2, size=16)
    )
    return run


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("dcgan")
    network = DCGANGenerator(latent_channels=6, width=2, size=16, classes=2)
    save_generator(run / "generator", network=network, spec=SPEC, card="")
    return run


PICTURES = ["direction-brightness", "direction-principal-1", "direction-principal-2", "direction-principal-3"]
PICTURES += ["interpolation", "projection", "truncation"]


def test_all_that_a_stylegan_has(
    tool: ModuleType, styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert call(tool, "--weights", styled, "--out", out, "--normal", "streets", "--other", "shapes", *SMALL) == 0
    pictures = sorted([*PICTURES, "mixing-coarse", "mixing-fine", "anomaly", "anomaly-scores"])
    assert sorted(path.stem for path in out.glob("*.png")) == pictures
    assert all(read_image(path).dtype == np.uint8 for path in out.glob("*.png"))
    figures = json.loads((out / "figures.json").read_text())
    assert len(figures["projection"]["psnr"]) == 4 and figures["projection"]["space"] == "w"
    assert [entry["crossover"] for entry in figures["mixing"]["correlations"]] == list(range(1, 6))
    assert 0 <= figures["anomaly"]["auroc"] <= 1
    printed = capsys.readouterr().out
    assert re.search(r"fine from layer 3: layout of coarse \S+, of fine \S+, by chance \S+; colour of coarse", printed)
    assert "left out" not in printed and f"AUROC {figures['anomaly']['auroc']:.4f}" in printed


def test_what_a_dcgan_has_not_is_said(
    tool: ModuleType, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = i2i.load(plain)(seed=3, label=1)
    write_image(tmp_path / "target.png", image)
    arguments = ("--weights", plain, "--out", tmp_path / "out", "--label", "1", "--image", tmp_path / "target.png")
    assert call(tool, *arguments, "--normal", "streets", "--other", "shapes", *SMALL) == 0
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.png")) == sorted(PICTURES)
    printed = capsys.readouterr().out
    assert "mixing: left out, for DCGANGenerator has no styles" in printed
    assert "anomaly: left out" in printed and "holds no discriminator" in printed
    assert len(json.loads((tmp_path / "out" / "figures.json").read_text())["projection"]["psnr"]) == 1


def test_what_cannot_be_used(tool: ModuleType, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    large, told = tmp_path / "large.png", ("--normal", "streets", "--other", "shapes")
    write_image(large, np.zeros((20, 20, 3), np.uint8))
    save_generator(
        tmp_path / "unet",
        network=UNetGenerator(in_channels=3, out_channels=3, width=4, depth=2),
        spec=GeneratorSpec(input=SPEC.output, output=SPEC.output),
        card="",
    )
    for arguments, message in [
        (("--weights", plain, "--normal", "streets"), "--normal and --other go together"),
        (("--weights", plain, "--count", "1"), "--count: expected at least 2"),
        (("--weights", tmp_path / "unet"), "translates images and draws none"),
        (("--weights", tmp_path / "nothing"), "nothing"),
        (("--weights", plain, "--image", large), f"--image: {large} is 20 x 20 px, and this generator draws 16"),
        (("--weights", plain, "--label", "7"), "--label: expected a class id from 0 to 1"),
        (("--weights", plain, "--steps", "0"), "--steps: expected at least 1, got 0"),
        (("--weights", plain, "--pairs", "2"), "--pairs: expected at least 3, got 2"),
        (("--weights", plain, "--images", "7"), "--images: expected at least 8, got 7"),
        (("--weights", plain, "--seed", "-1"), "--seed: expected at least 0, got -1"),
        (("--weights", plain, "--threads", "0"), "--threads: expected at least 1, got 0"),
        (("--weights", plain, "--discriminator", large), "--discriminator is for the anomaly score"),
        (("--weights", plain, *told, "--discriminator", large), f"--discriminator: {large} is no discriminator"),
    ]:
        assert call(tool, *arguments, "--out", out) == 2
        assert message in " ".join(capsys.readouterr().err.split())
        assert not out.exists()  # it is said before anything is drawn
