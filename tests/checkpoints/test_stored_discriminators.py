"""Discriminators in files of our own: what was saved comes back, and damage is told."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from i2i.checkpoints import load_discriminator, open_checkpoint, save_discriminator, save_generator
from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.cli.inspect import describe
from i2i.discriminators import (
    DCGANDiscriminator,
    MLPDiscriminator,
    MultiscaleDiscriminator,
    PatchDiscriminator,
    SNGANDiscriminator,
)
from i2i.errors import InputError
from i2i.generators import DCGANGenerator
from i2i.training.finetune import fingerprints, initial_discriminator, initial_generator

IMAGES = torch.rand(4, 3, 16, 16) * 2 - 1


PATCH = PatchDiscriminator(in_channels=3, width=2)
MULTISCALE = MultiscaleDiscriminator(in_channels=3, width=2)


def small() -> DCGANDiscriminator:
    return DCGANDiscriminator(width=4, size=16, spectral=True, minibatch="stddev")


def classed() -> SNGANDiscriminator:
    return SNGANDiscriminator(width=4, size=16, classes=3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    network = small()
    network(IMAGES)  # moves running statistics and the vectors of the spectral norm away from their start
    save_discriminator(tmp_path / "run" / "discriminators" / "discriminator.safetensors", network=network)
    return tmp_path / "run" / "discriminators" / "discriminator.safetensors"


def rewritten(file: Path, header: Any = None, **changes: Any) -> None:
    """The file with something else in its header, or with other tensors."""
    with safetensors.safe_open(file, framework="pt") as opened:
        told = json.loads(opened.metadata()["i2i"])
    tensors = safetensors.torch.load_file(file) | changes.pop("tensors", {})
    tensors = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    text = header if isinstance(header, str) else json.dumps(told | changes)
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt", "i2i": text})


@pytest.mark.parametrize("network", [small(), classed(), PATCH, MULTISCALE])
def test_what_was_saved_comes_back(network: nn.Module, tmp_path: Path) -> None:
    images = IMAGES.repeat(1, 1, 4, 4) if not hasattr(network, "size") else IMAGES
    inputs = (images, torch.tensor([0, 1, 2, 0])) if getattr(network, "classes", 0) else (images,)
    network(*inputs)
    save_discriminator(tmp_path / "judge.safetensors", network=network)
    state = torch.get_rng_state()
    for loaded in (load_discriminator(tmp_path / "judge.safetensors"), open_checkpoint(tmp_path / "judge.safetensors")):
        loaded = loaded if isinstance(loaded, nn.Module) else loaded.network
        assert type(loaded) is type(network) and loaded.arguments == network.arguments and not loaded.training
        torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(loaded(*inputs), network.eval()(*inputs))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_folder_means_its_only_one(file: Path) -> None:
    run = file.parent.parent
    for path in (run, file.parent, str(run)):
        assert load_discriminator(path).arguments == small().arguments
    save_discriminator(file.with_name("other.safetensors"), network=classed())
    with pytest.raises(InputError, match=r"several discriminators; give one of: .*discriminator\.safetensors, .*other"):
        load_discriminator(run)


def test_what_is_known_about_it(file: Path) -> None:
    checkpoint = open_checkpoint(file)
    assert checkpoint.spec is None and checkpoint.family == "i2i dcgan discriminator"
    description = describe(checkpoint)
    assert {found["name"]: found["value"] for found in description["findings"]} == small().arguments
    assert all(found["certain"] and "header" in found["source"] for found in description["findings"])


def test_training_may_start_from_it(file: Path) -> None:
    assert initial_discriminator(file, side_px=16).training
    assert list(fingerprints({"init_discriminator": file})) == ["init_discriminator_sha256"]
    with pytest.raises(InputError, match="for images of 16 x 16 px, and these will be 32 px"):
        initial_discriminator(file, side_px=32)
    with pytest.raises(InputError, match="give it as --init-discriminator"):
        initial_generator(file)


def test_only_known_classes_are_stored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Sequential is none of the discriminators that can be stored"):
        save_discriminator(tmp_path / "judge.safetensors", network=nn.Sequential(nn.Linear(2, 1)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": "{"}, "is no JSON"),
        ({"header": "[]"}, "expected a JSON object, got list"),
        ({"format": 7}, "has format 7; .*update i2i"),
        ({"network": "oracle"}, "names the network 'oracle'; .*update i2i"),
        ({"network": ["dcgan"]}, "names the network"),
        ({"arguments": {"size": 12}}, "dcgan cannot be built with"),
        ({"arguments": {"width": 10**9}}, "its weights are only"),
        ({"arguments": 3}, "dcgan cannot be built with 3"),
        ({"tensors": {"head.bias": None}}, "head.bias is missing"),
        ({"tensors": {"more": torch.ones(1)}}, "more is left over"),
        ({"tensors": {"head.bias": torch.ones(2)}}, r"head.bias has shape \(2,\), expected \(1,\)"),
        ({"tensors": {"head.bias": torch.tensor([torch.nan])}}, None),
    ],
)
def test_damage_is_told(file: Path, changes: dict[str, Any], message: str | None) -> None:
    rewritten(file, **changes)
    with pytest.raises(InputError, match=message or "values of head.bias are NaN") as caught:
        open_checkpoint(file)
    assert str(file) in str(caught.value)
    if message:
        with pytest.raises(InputError, match=message):
            load_discriminator(file)


@pytest.mark.parametrize("kept", [0, 5, 100, 2000, -1])
def test_a_file_cut_short(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    for load in (load_discriminator, open_checkpoint):
        with pytest.raises(InputError, match=r"discriminator\.safetensors"):
            load(file)


def test_a_header_without_the_network(file: Path) -> None:
    rewritten(file, header='{"format": 1}')
    with pytest.raises(InputError, match="lacks 'network' in its header"):
        load_discriminator(file)


def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        load_discriminator(tmp_path / "nowhere")
    spec = GeneratorSpec(input=None, output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)))
    save_generator(tmp_path / "generator", network=DCGANGenerator(width=2, size=8), spec=spec, card="")
    for path in (tmp_path, tmp_path / "generator"):
        with pytest.raises(InputError, match=r"holds no discriminator: expected discriminators/<name>\.safetensors"):
            load_discriminator(path)
    with pytest.raises(InputError, match="is no discriminator that a run of i2i wrote"):
        load_discriminator(tmp_path / "generator" / "generator.safetensors")


def test_an_older_file_stays_when_the_disk_is_full(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        save_discriminator(file, network=small())
    assert file.read_bytes() == before and len(list(file.parent.iterdir())) == 1


def test_points_too(tmp_path: Path) -> None:
    network = MLPDiscriminator(in_channels=2, width=4, layers=2)
    save_discriminator(tmp_path / "judge.safetensors", network=network)
    torch.testing.assert_close(load_discriminator(tmp_path / "judge.safetensors")(IMAGES[:, 0, 0, :2]),
                               network(IMAGES[:, 0, 0, :2]))  # fmt: skip
