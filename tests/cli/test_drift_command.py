"""`i2i drift`: what it prints, writes and exits with."""

import json
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --live"),
        (["--save", "x", "--check"], "need --live"),
        (["--live", "nowhere"], "does not exist"),
        (["--live", "live", "--threads", "0"], "--threads"),
        (["--live", "live", "--out", "live/0.png"], "is a file"),
        (["--reference", "live/0.png", "--live", "live"], "cannot be read as statistics"),
    ],
)
def test_what_cannot_be_done_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    given = arguments if "--reference" in arguments else ["--reference", "reference", *arguments]
    assert drift(*given) == 2
    assert message in capsys.readouterr().err
