"""tools/flicker.py tells steady videos from flickering ones, and shows them."""

import importlib
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import cv2
import numpy as np
import pytest

from i2i.data.image_io import read_image
from i2i.errors import InputError

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("flicker")


def write(path: Path, images: list[np.ndarray]) -> Path:
    """Without loss, as RGB."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")))
        out.mux(stream.encode())
    return path


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """Six still frames; enlarged bicubically; that with noise of 6 levels; that of half the size."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (30, 40, 3), np.uint8), (5, 5), 0)
    large = cv2.resize(image, (160, 120), interpolation=cv2.INTER_CUBIC)
    noisy = [np.clip(np.rint(large + rng.normal(0, 6, large.shape)), 0, 255).astype(np.uint8) for _ in range(6)]
    half = cv2.resize(large, (80, 60), interpolation=cv2.INTER_AREA)
    return [
        write(tmp_path / f"{name}.mkv", images)
        for name, images in {"source": [image] * 6, "noisy": noisy, "steady": [large] * 6, "half": [half] * 6}.items()
    ]


def test_figures_and_picture(videos: list[Path], tmp_path: Path) -> None:
    """√2 · 6 = 8.5 levels; a pixel's values over time lie side by side, four times each."""
    picture = tmp_path / "slices.png"
    done = subprocess.run(
        [sys.executable, TOOLS / "flicker.py", *videos, "--picture", picture],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"│\s+([\d.]+)\s+│\s+[\d.na]+\s+│\s+([\d.]+)\s+│", done.stdout)
    flicker, sharpness = np.array(rows, float).T
    assert flicker[1] == pytest.approx(8.5, rel=0.05), done.stdout
    assert flicker[[0, 2, 3]] == pytest.approx(0, abs=0.02), done.stdout
    assert sharpness[1] == 1
    assert sharpness[0] == pytest.approx(sharpness[2], rel=0.05)
    assert sharpness[2] < 0.5
    assert "5 pairs of frames, 0 cuts, 0.0% of pixels occluded" in done.stdout
    seen = read_image(picture)
    assert seen.shape == (120, 4 * 6 * 4 + 3 * 8, 3)
    bicubic, noisy, steady, half = (seen[:, left : left + 24].astype(int) for left in (0, 32, 64, 96))
    assert (np.diff(noisy, axis=1)[:, 3::4] != 0).any()
    for video in (bicubic, steady, half):
        assert (np.diff(video, axis=1) == 0).all()
    assert (np.diff(noisy.reshape(120, 6, 4, 3), axis=2) == 0).all()
    assert np.abs(bicubic - steady).max() <= 1
    assert np.abs(half - steady).mean() < 10


def test_only_the_first_frames(tool: ModuleType, videos: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    tool.main(tool.Comparison(source=videos[0], results=(videos[2],), frames=3))
    assert "2 pairs of frames" in capsys.readouterr().out


def test_other_frames(tool: ModuleType, videos: list[Path], tmp_path: Path) -> None:
    short = write(tmp_path / "short.mkv", [np.zeros((120, 160, 3), np.uint8)] * 4)
    with pytest.raises(
        InputError, match=r"source\.mkv has 6 frames, .*short\.mkv 4; expected videos that show the same"
    ):
        tool.main(tool.Comparison(source=videos[0], results=(videos[1], short)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"results": ()}, "at least one video"),
        ({"frames": 1}, "--frames: expected at least 2, got 1"),
        ({"column": 1.5}, "--column: expected a share of the width"),
    ],
)
def test_settings_that_make_no_sense(tool: ModuleType, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tool.Comparison(**{"source": Path("a.mp4"), "results": (Path("b.mp4"),), **settings})
