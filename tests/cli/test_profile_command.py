"""`i2i profile`: what it prints and writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import profile as command
from i2i.cli.entry import exit_code, parse
from i2i.generators import CompactGenerator
from i2i.inference import profiling
from i2i.inference.profile import INTERRUPTED, Profile


def run(*arguments: str | Path) -> int:
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    side = ImageSide(channels=1, dtype="uint16", data_range=(0, 4095))
    network = CompactGenerator(in_channels=1, out_channels=1, width=4, convs=1, scale=1)
    save_generator(tmp_path / "net", network=network, spec=GeneratorSpec(input=side, output=side), card="")
    return tmp_path / "net"


def test_table_and_file(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "profile.json"
    options = ("--sizes", "32x48", "--precisions", "fp32", "--batch-sizes", "1", "--seconds", "0.2")
    assert run("--weights", weights, *options, "--out", out) == 0
    printed = capsys.readouterr()
    assert "measuring memory: 32 x 48 px, fp32 …" in printed.err
    lines = printed.out.splitlines()
    assert lines[0].split() == ["model", "net", "(sha256", Profile.from_json(json.loads(out.read_text())).model[-13:]]
    heading = next(line for line in lines if "p50 ms" in line)
    assert heading.split("  ")[0].strip() == "height x width"
    rows = [line.split("  ") for line in lines if line.strip().startswith("32 x 48")]
    assert [[cell.strip() for cell in row if cell][:4] for row in rows] == [
        ["32 x 48", "fp32", "1", "network alone"],
        ["32 x 48", "fp32", "1", "whole call"],
    ]

    content = json.loads(out.read_text())
    assert content["network"] == "CompactGenerator"
    assert [(entry["height"], entry["width"]) for entry in content["costs"]] == [(32, 48)]
    for entry in content["measurements"]:
        latency = entry["latency"]
        assert 0 < latency["p50_ms"] <= latency["p90_ms"] <= latency["p99_ms"]
        assert latency["readings"] >= 3
        assert entry["images_per_s"] == pytest.approx(1000 * entry["batch"] / latency["p50_ms"])
        assert 0 < entry["peak_memory_bytes"] < 10**9
    assert content["machine"]["torch"]


def test_only_profiles_are_replaced(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "_peak_memory", lambda *given: None)
    options = ("--sizes", "32", "--precisions", "fp32", "--batch-sizes", "1", "--seconds", "0.1")
    before = {file: file.read_bytes() for file in weights.iterdir()}
    for out in before:
        assert run("--weights", weights, *options, "--out", out) == 2
        assert f"--out {out} is there, and is no profile" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in weights.iterdir()}
    for _ in range(2):
        assert run("--weights", weights, *options, "--out", tmp_path / "profile.json") == 0


def test_an_interrupted_profile_is_written(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "_peak_memory", lambda *given: None)

    def turns(steps: dict[Any, Any], **others: Any) -> Any:
        return profiling_turns(steps, **{**others, "seconds": 0.1})[0], True

    profiling_turns = profiling.take_turns
    monkeypatch.setattr(profiling, "take_turns", turns)
    options = ("--sizes", "32", "--precisions", "fp32", "--batch-sizes", "1")
    assert run("--weights", weights, *options, "--out", tmp_path / "p.json") == 130
    found = Profile.from_json(json.loads((tmp_path / "p.json").read_text()))
    assert found.missing == (INTERRUPTED,)
    assert len(found.measurements) == 2


def test_json_in_place_of_the_table(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "_peak_memory", lambda *given: None)
    options = ("--sizes", "32", "--precisions", "bf16", "--batch-sizes", "1", "--seconds", "0.1")
    assert run("--weights", weights, *options, "--json") == 0
    found = Profile.from_json(json.loads(capsys.readouterr().out))
    assert {entry.precision for entry in found.measurements} == {"bf16"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sizes", "big"), "--sizes: expected a side in pixels such as 256, or height x width as in 720x1280"),
        (("--sizes", "0"), "sides from 1 px on"),
        (("--threads", "0"), "--threads: expected at least 1"),
        (("--batch-sizes", "0"), "batch sizes: expected numbers from 1 on"),
        (("--device", "abacus"), "abacus"),
        (("--out", "."), "is a folder; expected a name for a file"),
    ],
)
def test_refused(weights: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--weights", weights, *options) == 2
    assert words in capsys.readouterr().err
