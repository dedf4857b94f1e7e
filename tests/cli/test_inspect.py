"""`i2i inspect`: what it says agrees with what the files were made from."""

import json
from pathlib import Path

import pytest
import torch

from i2i.checkpoints import GeneratorSpec, ImageSide, save_generator
from i2i.cli.inspect import Settings, main
from i2i.errors import InputError
from i2i.generators import GENERATORS

Printed = pytest.CaptureFixture[str]


def inspect(capsys: Printed, path: Path, *assignments: str) -> dict:
    main(Settings(file=str(path), json=True, set=assignments))
    description = json.loads(capsys.readouterr().out)
    description["findings"] = {finding["name"]: finding for finding in description["findings"]}
    return description


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    network = GENERATORS["unet"](in_channels=5, out_channels=1, width=4, depth=3, norm="batch", dropout=False)
    spec = GeneratorSpec(
        input=ImageSide(channels=5, dtype="uint16", data_range=(0, 4095)),
        output=ImageSide(channels=1, dtype="float32", data_range=(-1000, 3000)),
        normalisation="per_image",
    )
    save_generator(tmp_path / "generator", network=network, spec=spec, card="A test.")
    return tmp_path / "generator"


def test_a_folder_of_ours_is_certain_of_everything(capsys: Printed, ours: Path) -> None:
    found = inspect(capsys, ours)
    assert found["network"] == "UNetGenerator"
    assert (found["in_channels"], found["out_channels"], found["scale"], found["size_multiple"]) == (5, 1, 1, 8)
    assert found["input"]["data_range"] == [0, 4095]
    assert found["output"]["data_range"] == [-1000, 3000]
    assert found["findings"]["normalisation"]["value"] == "per_image"
    assert all(finding["certain"] for finding in found["findings"].values())


def test_the_text_says_the_same(capsys: Printed, ours: Path) -> None:
    main(Settings(file=str(ours)))
    out = capsys.readouterr().out
    assert "5 channels, uint16 from 0 to 4095; -1 to 1 inside the network" in out
    assert "1 channels, float32 from -1000 to 3000" in out
    assert "multiples of 8 px" in out
    assert "marks guesses" not in out


def test_the_receptive_field_of_a_stack_of_convolutions(capsys: Printed, tmp_path: Path) -> None:
    """4 + 2 convolutions of 3 × 3 see 6 px to each side: the compact network in its published layout."""
    shapes = {0: (8, 3, 3, 3), 2: (8, 8, 3, 3), 4: (8, 8, 3, 3), 6: (8, 8, 3, 3), 8: (8, 8, 3, 3), 10: (12, 8, 3, 3)}
    tensors = {f"body.{n}.weight": torch.zeros(shape) for n, shape in shapes.items()}
    tensors |= {f"body.{n}.bias": torch.zeros(shape[0]) for n, shape in shapes.items()}
    tensors |= {f"body.{n}.weight": torch.zeros(8) for n in (1, 3, 5, 7, 9)}
    torch.save({"params": tensors}, tmp_path / "x2.pth")
    found = inspect(capsys, tmp_path / "x2.pth")
    assert found["receptive_radius_px"] == 6
    assert found["scale"] == 2
    assert found["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    assert found["input"]["network_range"] == [0, 1]
    assert found["findings"]["convs"]["value"] == 4
    assert "body.10" in found["findings"]["convs"]["source"]
    assert not found["findings"]["input_range"]["certain"]


def test_a_generator_of_noise_has_no_image_side(capsys: Printed, tmp_path: Path) -> None:
    network = GENERATORS["dcgan"](latent_channels=7, width=4, size=16)
    spec = GeneratorSpec(input=None, output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)))
    save_generator(tmp_path / "generator", network=network, spec=spec, card="A test.")
    found = inspect(capsys, tmp_path)
    assert found["input"] is None
    assert found["output"]["channels"] == 3
    assert not {"scale", "size_multiple", "receptive_radius_px"} & found.keys()
    main(Settings(file=str(tmp_path)))
    text = capsys.readouterr().out
    assert "7 latent values" in text
    assert "called by their ids" not in text


@pytest.mark.parametrize(
    ("names", "text"), [(None, "3, called by their ids"), (("disc", "ring", "star"), "0 disc, 1 ring, 2 star")]
)
def test_classes_to_draw(names: tuple[str, ...] | None, text: str, capsys: Printed, tmp_path: Path) -> None:
    network = GENERATORS["dcgan"](latent_channels=7, width=4, size=16, classes=3)
    photo = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    spec = GeneratorSpec(input=None, output=photo, classes=names)
    save_generator(tmp_path / "generator", network=network, spec=spec, card="A test.")
    found = inspect(capsys, tmp_path)
    assert (found["latent_channels"], found["class_count"]) == (7, 3)
    assert found["classes"] == (names and list(names))
    main(Settings(file=str(tmp_path)))
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("encoder", [None, 4])
def test_what_a_painter_of_label_maps_knows(encoder: int | None, capsys: Printed, tmp_path: Path) -> None:
    size = {"latent_channels": 7, "latent_height": 1, "latent_width": 2, "style_encoder_width": encoder}
    network = GENERATORS["spade"](in_channels=6, width=1, hidden_width=2, style_px=16, **size)
    side = ImageSide(channels=6, dtype="uint8", data_range=(0, 1), labels=True, dont_care=True, instances=True)
    photo = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    save_generator(tmp_path / "generator", network=network, spec=GeneratorSpec(input=side, output=photo), card="")
    found = inspect(capsys, tmp_path)
    assert (found["input"]["dont_care"], found["input"]["instances"]) == (True, True)
    assert (found["latent_channels"], found["only_size"]) == (7, [32, 64])
    assert found["style_encoder_px"] == (16 if encoder else None)
    assert found["findings"]["instance_edges"]["certain"]
    main(Settings(file=str(tmp_path)))
    text = capsys.readouterr().out
    assert "label maps: 4 classes from id 0 on, don't care, edges between instances" in text
    assert "64 x 32 px only" in text
    assert "a latent vector of 7 values" in text
    assert ("read off a photo" in text) == bool(encoder)
    assert ("no style encoder" in text) != bool(encoder)


def test_what_is_no_weight_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "photo.pth").write_text("no weights")
    with pytest.raises(InputError, match=r"photo\.pth is no weight file"):
        main(Settings(file=str(tmp_path / "photo.pth")))


def test_videos_are_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom")
    with pytest.raises(InputError, match=r"clip\.mp4 is a video, which inspect does not look into: expected a weight"):
        main(Settings(file=str(tmp_path / "clip.mp4")))


@pytest.mark.data
def test_guesses_are_marked_and_can_be_overruled(capsys: Printed, data_dir: Path) -> None:
    file = data_dir / "golden" / "spade-generator-normal" / "weights.pth"
    guess = inspect(capsys, file)["findings"]["num_upsampling_layers"]
    assert (guess["value"], guess["certain"]) == ("normal", False)
    said = inspect(capsys, file, "num_upsampling_layers=more")
    assert said["findings"]["num_upsampling_layers"]["certain"]
    assert said["size_multiple"] == 64
    main(Settings(file=str(file)))
    out = capsys.readouterr().out
    assert '"normal" ?' in out
    assert "? marks guesses" in out


@pytest.mark.data
def test_a_discriminator_is_told_as_such(capsys: Printed, data_dir: Path) -> None:
    found = inspect(capsys, data_dir / "golden" / "junyanz-patchgan70-batch" / "weights.pth")
    assert "discriminator" in found["family"]
    assert found["in_channels"] == 6
    assert not {"input", "scale", "receptive_radius_px"} & found.keys()


@pytest.mark.data
def test_instance_norm_sees_the_whole_image(capsys: Printed, data_dir: Path) -> None:
    file = data_dir / "golden" / "junyanz-resnet9-instance" / "weights.pth"
    assert inspect(capsys, file)["receptive_radius_px"] is None
    main(Settings(file=str(file)))
    assert "whole image (global statistics)" in capsys.readouterr().out
