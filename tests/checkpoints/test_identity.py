"""What models are called in notes."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from i2i.checkpoints.identity import name_model
from i2i.checkpoints.store import WEIGHTS, GeneratorSpec, ImageSide, save_generator
from i2i.errors import InputError
from i2i.generators import CompactGenerator


def save(folder: Path) -> str:
    """A generator; returns the digits of its weights' sha256 that are shown."""
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1)
    save_generator(folder, network=network, spec=GeneratorSpec(input=side, output=side), card="")
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:12]


def test_a_generator_is_called_by_its_folder_below_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "private" / "Straßen"
    last, best = save(run / "generator"), save(run / "best" / "generator")
    assert name_model(run / "generator") == f"generator (sha256 {last})"  # copied out of a run
    (run / "run.json").write_text("{}")
    for given in (run / "generator", run / "generator" / WEIGHTS):
        assert name_model(given) == f"Straßen/generator (sha256 {last})"
    assert name_model(run / "best") == f"Straßen/best/generator (sha256 {best})"
    monkeypatch.chdir(run / "generator")
    assert name_model(".") == f"Straßen/generator (sha256 {last})"
    monkeypatch.chdir(run.parent)
    assert name_model("Straßen/generator") == f"Straßen/generator (sha256 {last})"


def test_files_are_called_by_their_names(tmp_path: Path) -> None:
    file = tmp_path / "night x4.pth"
    torch.save({"a": torch.ones(1)}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert name_model(file) == f"night x4.pth (sha256 {digest[:12]})"
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/line\nbreak\xff.pth"))
    file.rename(strange)
    assert name_model(strange) == f"line?break?.pth (sha256 {digest[:12]})"


def test_well_known_weights_are_called_as_they_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cache" / "0123abcd.pth"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    monkeypatch.setattr("i2i.checkpoints.identity.find_weights", lambda weights: file)
    digest = hashlib.sha256(b"weights").hexdigest()[:12]
    assert name_model("RealESRGAN_x4plus") == f"RealESRGAN_x4plus (sha256 {digest})"


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        name_model(tmp_path / "none.pth")
