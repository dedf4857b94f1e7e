"""`i2i weights`: the list, and the state of what has been downloaded."""

import json
from pathlib import Path

import pytest

from i2i.checkpoints import catalogue
from i2i.checkpoints.catalogue import CATALOGUE, KnownWeights
from i2i.cli import weights
from i2i.cli.weights import Settings, main


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[KnownWeights, ...]:
    """Two entries in an empty cache, and nobody to download from."""
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    first, second = (
        KnownWeights(name=name, url="http://127.0.0.1:9/x.pth", sha256=sha256, scale=2, licence="MIT", about="tests")
        for name, sha256 in [
            # sha256sum of the file "a", and of no file
            ("one", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
            ("two", "0" * 64),
        ]
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", (first, second))
    monkeypatch.setattr(weights, "CATALOGUE", (first, second))
    (tmp_path / "weights").mkdir()
    first.path.write_text("a")
    return first, second


def test_the_table_shows_every_name_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main(Settings())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [known.name for known in CATALOGUE]


def test_json_says_what_is_there(toys: tuple[KnownWeights, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Settings(json=True)) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["downloaded"] is True
    assert first["path"] == str(toys[0].path)
    assert second["downloaded"] is False
    assert second["url"] == "http://127.0.0.1:9/x.pth"


def test_a_name_gives_its_path(toys: tuple[KnownWeights, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Settings(names=("ONE",))) == 0
    assert capsys.readouterr().out == f"{toys[0].path}\n"


def test_verify_finds_the_damaged_file(toys: tuple[KnownWeights, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Settings(verify=True)) == 0
    assert "1 of 1 downloaded files are as they should be" in capsys.readouterr().out
    toys[1].path.write_text("a")
    assert main(Settings(verify=True)) == 1
    out = capsys.readouterr().out
    assert f"{toys[1].path} has sha256 ca97" in out
    assert "1 of 2 downloaded files are as they should be" in out
    assert main(Settings(names=("one",), verify=True)) == 0
