"""What a run can start from, and what it says of files that do not fit."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_numbers import trainer_for

from i2i.checkpoints import GeneratorSpec, ImageSide, load_network, save_generator
from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import CompactGenerator, DCGANGenerator, RRDBGenerator, SPADEGenerator, UNetGenerator
from i2i.methods.pix2pix import Pix2Pix
from i2i.methods.superres import SuperResolution
from i2i.training.config import TrainingSettings
from i2i.training.finetune import check_channels, fingerprints, initial_discriminator, initial_generator

IMAGE = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))


def stored(folder: Path, network: nn.Module) -> Path:
    save_generator(folder, network=network, spec=GeneratorSpec(input=IMAGE, output=IMAGE), card="")
    return folder


def unet() -> UNetGenerator:
    return UNetGenerator(in_channels=3, out_channels=3, width=4, depth=3, norm="instance", dropout=False)


def golden(data_dir: Path, name: str) -> Path:
    return data_dir / "golden" / f"junyanz-{name}" / "weights.pth"


@pytest.mark.parametrize("name", ["run", "run/generator", "run/generator/generator.safetensors"])
def test_a_generator_of_ours_goes_on(tmp_path: Path, name: str) -> None:
    """With its own architecture and weights, wherever in the run's folder the path points."""
    network = unet()
    stored(tmp_path / "run" / "generator", network)
    found = initial_generator(tmp_path / name, side_px=40)
    assert found.arguments == network.arguments
    for key, tensor in network.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor)
    check_ready(found)


def check_ready(network: nn.Module) -> None:
    assert all(module.training for module in network.modules())
    for parameter in network.parameters():
        assert parameter.requires_grad and parameter.dtype == torch.float32 and parameter.device.type == "cpu"


@pytest.mark.data
@pytest.mark.parametrize("generator", ["unet128-batch", "resnet6-instance-old-running-stats"])
@pytest.mark.parametrize("discriminator", ["patchgan70-batch", "pixel-discriminator-batch"])
def test_two_steps_from_golden_files(data_dir: Path, generator: str, discriminator: str) -> None:
    paths = golden(data_dir, generator), golden(data_dir, discriminator)
    networks = initial_generator(paths[0], side_px=128), initial_discriminator(paths[1], side_px=128)
    check_channels(networks[0], path=paths[0], in_channels=3, out_channels=3)
    check_channels(networks[1], path=paths[1], in_channels=6, out_channels=1)
    before = [load_network(path) for path in paths]
    for network in networks:
        check_ready(network)
    method = Pix2Pix(generator=networks[0], discriminator=networks[1])
    batches = [{"input": torch.rand(1, 3, 128, 128), "target": torch.rand(1, 3, 128, 128)} for _ in range(2)]
    trainer = trainer_for(method, TrainingSettings(steps=2, device="cpu", schedule="constant"), batches)
    assert not any(trainer.step(step).skipped for step in range(2))
    # Adam moves a weight by about its learning rate a step, wherever it began.
    for network, old in zip(networks, before, strict=True):
        assert type(network) is type(old)
        moved = torch.cat(
            [(a - b).abs().flatten() for a, b in zip(network.parameters(), old.parameters(), strict=True)]
        )
        assert moved.median() > 1e-4 and moved.max() < 5e-4


@pytest.mark.data
@pytest.mark.parametrize("discriminator", ["esrgan-vgg-discriminator-128", "realesrgan-unet-discriminator-sn"])
@pytest.mark.parametrize("generator", ["weights/realesr-animevideov3.pth", "golden/esrgan-basicsr-x4/weights.pth"])
def test_two_steps_of_super_resolution_from_published_layouts(
    data_dir: Path, generator: str, discriminator: str
) -> None:
    paths = data_dir / generator, data_dir / "golden" / discriminator / "weights.pth"
    networks = (
        initial_generator(paths[0], side_px=32, input_range=(0, 1), output_range=(0, 1), scale=4),
        initial_discriminator(paths[1], side_px=128),
    )
    check_channels(networks[1], path=paths[1], in_channels=3, out_channels=1)
    for network in networks:
        check_ready(network)
    before = [[parameter.clone() for parameter in network.parameters()] for network in networks]
    method = SuperResolution(generator=networks[0], discriminator=networks[1], adversarial_weight=0.1)
    batches = [{"input": torch.rand(2, 3, 32, 32), "target": torch.rand(2, 3, 128, 128)} for _ in range(2)]
    trainer = trainer_for(method, TrainingSettings(steps=2, device="cpu", schedule="constant"), batches)
    assert not any(trainer.step(step).skipped for step in range(2))
    for network, old in zip(networks, before, strict=True):
        for (name, parameter), start in zip(network.named_parameters(), old, strict=True):
            assert torch.isfinite(parameter).all() and not torch.equal(parameter, start), name


@pytest.mark.parametrize(("scale", "asked"), [(2, 4), (4, 2), (1, 4), (4, 1)])
def test_weights_of_another_scale(scale: int, asked: int, tmp_path: Path) -> None:
    stored(tmp_path / "run", CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=scale))
    says = {1: "keeps the size of images", 2: "enlarges images by 2", 4: "enlarges images by 4"}
    with pytest.raises(
        InputError, match=rf"run holds .* that {says[scale]}, where one that {says[asked]} .* --scale {scale}"
    ):
        initial_generator(tmp_path / "run", input_range=(0, 1), output_range=(0, 1), scale=asked)
    network = initial_generator(tmp_path / "run", input_range=(0, 1), output_range=(0, 1), scale=scale)
    assert network.scale == scale


def test_translation_does_not_start_super_resolution(tmp_path: Path) -> None:
    stored(tmp_path / "run", unet())
    with pytest.raises(
        InputError, match=r"takes values in \(-1\.0, 1\.0\) .* where \(0, 1\) and \(0, 1\) are expected"
    ):
        initial_generator(tmp_path / "run", input_range=(0, 1), output_range=(0, 1))


@pytest.mark.data
def test_a_discriminator_for_crops_of_one_size(data_dir: Path) -> None:
    path = data_dir / "golden" / "esrgan-vgg-discriminator-128" / "weights.pth"
    for side_px in (None, 128):
        initial_discriminator(path, side_px=side_px)
    with pytest.raises(InputError, match=r"for images of 128 x 128 px, and these will be 192 px: crop to another size"):
        initial_discriminator(path, side_px=192)


@pytest.mark.data
def test_generators_and_discriminators_are_told_apart(data_dir: Path) -> None:
    judge, painter = golden(data_dir, "patchgan70-batch"), golden(data_dir, "unet128-batch")
    with pytest.raises(InputError, match=r"weights\.pth holds a discriminator .*PatchGAN.* --init-discriminator"):
        initial_generator(judge)
    with pytest.raises(InputError, match=r"weights\.pth holds a generator .*U-Net.* --init-generator"):
        initial_discriminator(painter)


@pytest.mark.data
def test_images_too_small_for_a_golden_file(data_dir: Path) -> None:
    with pytest.raises(InputError, match=r"multiples of 256 px .* will be 128 px: crop to another size"):
        initial_generator(golden(data_dir, "unet256-instance"), side_px=128)
    with pytest.raises(InputError, match=r"at least 24 px, and these will be 16 px"):
        initial_discriminator(golden(data_dir, "patchgan70-batch"), side_px=16)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2), "enlarges images by 2"),
        (DCGANGenerator(latent_channels=4, width=2, size=8), "takes no images"),
        (RRDBGenerator(in_channels=3, out_channels=3, width=4, growth=2, blocks=1, scale=1), r"takes values in \(0\.0"),
        (SPADEGenerator(in_channels=3, width=1, hidden_width=4), r"takes values in \(0\.0"),
        (
            UNetGenerator(in_channels=3, out_channels=3, width=4, depth=2, output_activation="sigmoid"),
            r"gives values in \(0\.0",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_generators_of_other_images_are_refused(network: nn.Module, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"run holds .*{says}.*expected.*: give another file"):
        initial_generator(stored(tmp_path / "run", network))


def test_sizes_that_the_network_cannot_take(tmp_path: Path) -> None:
    stored(tmp_path / "run", unet())
    for side_px in (None, 8, 16):
        initial_generator(tmp_path / "run", side_px=side_px)
    for side_px in (12, 20):
        with pytest.raises(InputError, match=rf"run holds .* multiples of 8 px .* will be {side_px} px"):
            initial_generator(tmp_path / "run", side_px=side_px)


@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 3), (3, 4)])
def test_other_channels_are_refused(in_channels: int, out_channels: int) -> None:
    expected = rf"old\.pth holds a network of 3 channels in and 3 out, .* {in_channels} in and {out_channels} out"
    with pytest.raises(InputError, match=expected):
        check_channels(unet(), path=Path("old.pth"), in_channels=in_channels, out_channels=out_channels)
    check_channels(unet(), path=Path("old.pth"), in_channels=3, out_channels=3)
    judge = PatchDiscriminator(in_channels=6, width=4)
    check_channels(judge, path=Path("old.pth"), in_channels=6, out_channels=1)


def test_fingerprints_are_sha256_sums(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"weights")
    folder = stored(tmp_path / "run" / "generator", unet())
    sums = [
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("config.json", "generator.safetensors")
    ]
    found = fingerprints({"init_generator": tmp_path / "run", "init_discriminator": file, "other": None})
    assert found == {
        "init_generator_sha256": " ".join(sums),
        "init_discriminator_sha256": hashlib.sha256(b"weights").hexdigest(),
    }
