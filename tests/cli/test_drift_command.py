"""`i2i drift`: what it prints, writes and exits with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from i2i.cli import drift as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import write_image


def drift(*arguments: str | Path) -> int:
    """Run `i2i drift` in this process; returns its exit code."""
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images side by side: left as the reference has them, right darker."""
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for folder in ("reference", "live"):
        for number in range(30):
            image = random.normal(130 + random.normal(0, 10), 20, (24, 48, 3))
            image[:, 24:] *= 0.7
            write_image(Path(folder) / f"{number}.png", image.clip(0, 255).astype(np.uint8))


def test_moved_input_is_told_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--reference", "reference", "--reference-half", "left", "--live", "live"]
    assert drift(*arguments, "--live-half", "right", "--out", "out") == 0
    out = capsys.readouterr().out
    assert "The input has moved: " in out and "darker (median brightness 0.5" in out and "Look at out/drift.html" in out
    found = json.loads(Path("out/drift.json").read_text())
    assert found["moved"] and found["images"] == [30, 30] and found["verdict"] in out
    assert sorted(file.name for file in Path("out").iterdir()) == ["drift.html", "drift.json", "drift.md"]
    assert drift(*arguments, "--live-half", "right", "--check") == 1
    assert drift(*arguments, "--live-half", "left", "--check") == 0
    assert "No change is seen" in capsys.readouterr().out


def test_statistics_are_shipped_in_place_of_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert drift("--reference", "reference", "--reference-half", "left", "--save", "kept/reference.safetensors") == 0
    assert "Statistics of 30 images: kept/reference.safetensors" in capsys.readouterr().out
    for folder in ("reference", "cache"):
        for file in Path(folder).rglob("*.*"):
            file.unlink()
    arguments = ["--reference", "kept/reference.safetensors", "--live", "live", "--live-half", "right"]
    assert drift(*arguments, "--out", "out", "--check") == 1
    assert "darker" in capsys.readouterr().out


def test_a_broken_live_file_is_named_and_the_rest_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("live/broken.png").write_bytes(b"no image")
    assert drift("--reference", "reference", "--live", "live", "--out", "out") == 0
    out = capsys.readouterr().out
    assert "Of 31 live files 1 cannot be used and were left out: broken.png." in out and "No change is seen" in out
    assert json.loads(Path("out/drift.json").read_text())["images"] == [30, 30]
    assert "broken.png" in Path("out/drift.html").read_text()


def test_a_saved_reference_overwrites_only_its_like(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"weight": torch.zeros(3)}, "generator.safetensors")
    before = Path("generator.safetensors").read_bytes()
    assert drift("--reference", "reference", "--save", "generator.safetensors") == 2
    assert "is there already and holds something else" in capsys.readouterr().err
    assert Path("generator.safetensors").read_bytes() == before
    for _ in range(2):
        assert drift("--reference", "reference", "--save", "reference.safetensors") == 0


def test_a_single_image_is_no_reference(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 30):
        Path(f"reference/{number}.png").unlink()
    assert drift("--reference", "reference", "--save", "x.safetensors") == 2
    assert "expected at least 2 images to compare others with, got 1" in capsys.readouterr().err
    assert not Path("x.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --live"),
        (["--save", "x", "--check"], "need --live"),
        (["--live", "nowhere"], "does not exist"),
        (["--live", "live", "--threads", "0"], "--threads"),
        (["--live", "live", "--out", "live/0.png"], "is a file"),
        (["--live", "live", "--out", "live/new"], "among the images that are read; give another folder"),
        (["--reference", "live/0.png", "--live", "live"], "cannot be read as statistics"),
    ],
)
def test_what_cannot_be_done_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    given = arguments if "--reference" in arguments else ["--reference", "reference", *arguments]
    assert drift(*given) == 2
    assert message in capsys.readouterr().err
