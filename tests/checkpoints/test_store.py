import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from i2i.checkpoints.store import GeneratorSpec, ImageSide, find_generator, load_generator, save_generator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator, ResNetGenerator, UNetGenerator

SPEC = GeneratorSpec(
    input=ImageSide(channels=5, dtype="uint16", data_range=(0, 4095)),
    output=ImageSide(channels=1, dtype="float32", data_range=(-1000, 3000), network_range=(0, 1)),
    normalisation="per_image",
    dropout=True,
)

DRAWN = GeneratorSpec(input=None, output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)))


def small_unet() -> UNetGenerator:
    return UNetGenerator(in_channels=5, out_channels=1, width=4, depth=2, upsampling="resize")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_generator(tmp_path / "generator", network=small_unet(), spec=SPEC, card="# Streets")
    return tmp_path / "generator"


def edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "network",
    [
        small_unet(),
        ResNetGenerator(in_channels=5, out_channels=1, width=4, blocks=1, norm="batch", dropout=True),
    ],
)
def test_what_was_saved_comes_back(network: nn.Module, tmp_path: Path) -> None:
    images = torch.randn(2, 5, 16, 24)
    network(images)  # moves BatchNorm's running statistics away from their start
    save_generator(tmp_path / "new" / "generator", network=network, spec=SPEC, card="text")
    loaded, spec = load_generator(tmp_path / "new" / "generator")
    assert spec == SPEC
    assert type(loaded) is type(network)
    assert loaded.arguments == network.arguments
    assert not loaded.training
    torch.testing.assert_close(loaded(images), network.eval()(images), rtol=0, atol=0)


def test_weights_are_plain_safetensors_under_the_networks_own_names(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "generator.safetensors")
    assert tensors.keys() == small_unet().state_dict().keys()


def test_config_says_how_to_use_the_network(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == 1
    assert config["network"] == "unet"
    assert config["scale"] == 1
    assert config["size_multiple"] == 4
    assert config["input"]["data_range"] == [0, 4095]


def test_a_label_map_is_told_from_an_image(folder: Path) -> None:
    side = ImageSide(channels=5, dtype="uint8", data_range=(0, 1), labels=True, dont_care=True, first_id=2)
    assert (side.classes, side.dont_care_id) == (4, 255)
    labels = replace(SPEC, input=side)
    save_generator(folder, network=small_unet(), spec=labels, card="")
    assert load_generator(folder)[1] == labels


def test_a_folder_that_says_nothing_of_labels_holds_images(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for side in ("input", "output"):
        for name in ("labels", "dont_care", "instances", "first_id"):
            del config[side][name]
    edit_config(folder, **config)
    assert load_generator(folder)[1] == SPEC


def test_channels_last_weights_are_stored_as_others(tmp_path: Path) -> None:
    network = small_unet()
    expected = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    save_generator(tmp_path, network=network.to(memory_format=torch.channels_last), spec=SPEC, card="")
    torch.testing.assert_close(load_generator(tmp_path)[0].state_dict(), expected, rtol=0, atol=0)


def test_loading_leaves_the_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_generator(folder)
    assert torch.equal(torch.rand(4), expected)


def test_the_hub_reads_the_model_card(folder: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(folder / "README.md")
    assert card.data.to_dict()["library_name"] == "i2i"
    assert card.data.pipeline_tag == "image-to-image"
    assert card.data.tags == ["image-to-image", "unet"]
    assert card.data.license is None
    assert card.text.strip().startswith("# Streets")
    assert 'i2i.load("' in card.text


def test_a_generator_of_latent_vectors_is_stored_too(tmp_path: Path) -> None:
    network = DCGANGenerator(latent_channels=3, width=4, size=8).eval()
    save_generator(tmp_path, network=network, spec=DRAWN, card="")
    loaded, spec = load_generator(tmp_path)
    latents = torch.randn(2, 3)
    assert spec == DRAWN
    assert torch.equal(loaded(latents), network(latents))


@pytest.mark.parametrize(
    ("classes", "task", "pipeline", "usage"),
    [
        (0, "unconditional-image-generation", "unconditional-image-generation", "out = t(seed=1)  #"),
        (3, "class-conditional-image-generation", None, "out = t(seed=1, label=0)  #"),
    ],
)
def test_the_card_says_how_to_draw(classes: int, task: str, pipeline: str | None, usage: str, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    network = DCGANGenerator(latent_channels=3, width=4, size=8, classes=classes)
    save_generator(tmp_path, network=network, spec=DRAWN, card="# Shapes")
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert (card.data.pipeline_tag, card.data.tags) == (pipeline, [task, "dcgan"])
    assert usage in card.text
    code = card.text.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", str(tmp_path))
    names: dict = {}
    exec(code, names)  # as a person would
    assert names["out"].shape == (8, 8, 3)


def test_names_of_classes_are_stored(tmp_path: Path) -> None:
    network = DCGANGenerator(latent_channels=3, width=4, size=8, classes=2)
    named = replace(DRAWN, classes=("disc", "ring"))
    save_generator(tmp_path, network=network, spec=named, card="")
    assert load_generator(tmp_path)[1] == named
    edit_config(tmp_path, classes=["disc"])
    with pytest.raises(InputError, match=r"config\.json is garbled: classes: .*2 classes, got 1"):
        load_generator(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["classes"]  # as in older folders
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_generator(tmp_path)[1] == DRAWN


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("disc", "disc", "ring"), "names that all differ"),
        (("disc", "", "ring"), "a name for each"),
        (("disc", 1, "ring"), "a name for each"),
        (("disc",), "names for the network's 3 classes, got 1"),
    ],
)
def test_names_that_name_nothing(names: tuple, message: str, tmp_path: Path) -> None:
    network = DCGANGenerator(latent_channels=3, width=4, size=8, classes=3)
    with pytest.raises(InputError, match=message):
        save_generator(tmp_path / "generator", network=network, spec=replace(DRAWN, classes=names), card="")
    assert not (tmp_path / "generator").exists()


def test_a_network_that_i2i_does_not_know_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Sequential.*unet, resnet"):
        save_generator(tmp_path / "generator", network=nn.Sequential(small_unet()), spec=SPEC, card="")
    assert not (tmp_path / "generator").exists()


def test_a_full_disk_leaves_what_was_there(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # room for the small files only
    try:
        with pytest.raises(InputError, match=r"generator\.safetensors cannot be written \(File too large\)"):
            save_generator(folder, network=small_unet(), spec=SPEC, card="# Streets")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file.*cannot be written"):
        save_generator(tmp_path / "file", network=small_unet(), spec=SPEC, card="")


def drop_tensor(folder: Path) -> None:
    file = folder / "generator.safetensors"
    tensors = safetensors.torch.load_file(file)
    del tensors["head.weight"]
    safetensors.torch.save_file(tensors, file)


def reshape_tensor(folder: Path) -> None:
    file = folder / "generator.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["head.weight"] = torch.zeros(7)
    safetensors.torch.save_file(tensors, file)


def add_tensor(folder: Path) -> None:
    file = folder / "generator.safetensors"
    safetensors.torch.save_file({**safetensors.torch.load_file(file), "extra": torch.zeros(1)}, file)


def cut_weights_short(folder: Path) -> None:
    file = folder / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def set_side(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit_config(folder, input={**config["input"], **changes})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json cannot be read"),
        (lambda f: (f / "config.json").write_text('{"format": 1'), r"config\.json is no JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), r"config\.json is no JSON"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json.*expected a JSON object, got list"),
        (lambda f: (f / "config.json").write_text('{"format": 1}'), r"config\.json lacks 'network'"),
        (lambda f: edit_config(f, format=2), r"config\.json has format 2.*update i2i"),
        (lambda f: edit_config(f, network="vit"), r"config\.json names the network 'vit'.*unet, resnet"),
        (lambda f: edit_config(f, network=["unet"]), r"config\.json names the network \['unet'\]"),
        (lambda f: edit_config(f, arguments={"depth": 2}), r"config\.json: unet cannot be built"),
        (lambda f: edit_config(f, arguments=3), r"config\.json: unet cannot be built"),
        (lambda f: edit_config(f, arguments={"depth": 10**9}), r"unet cannot be built.*weights are only \d+ numbers"),
        (lambda f: edit_config(f, arguments={"blocks": [1, 10**9]}), r"unet cannot.*weights are only \d+ numbers"),
        (lambda f: edit_config(f, normalisation="best"), r"config\.json is garbled: normalisation.*'best'"),
        (lambda f: edit_config(f, input=3), r"config\.json is garbled"),
        (lambda f: edit_config(f, classes=3), r"config\.json is garbled"),
        (lambda f: edit_config(f, classes=[3]), r"config\.json is garbled: classes: expected a name for each"),
        (lambda f: set_side(f, dtype="uint7"), r"config\.json is garbled: dtype.*'uint7'"),
        (lambda f: set_side(f, data_range=[5, 5]), r"config\.json is garbled: data_range.*\(5, 5\)"),
        (lambda f: set_side(f, data_range=[5]), r"config\.json is garbled"),
        (lambda f: set_side(f, channels="three"), r"config\.json is garbled"),
        (lambda f: set_side(f, labels="yes"), r"config\.json is garbled: labels.*'yes'"),
        (lambda f: set_side(f, dont_care=1), r"config\.json is garbled: dont_care.*got 1"),
        (lambda f: (f / "generator.safetensors").unlink(), r"generator\.safetensors cannot be read"),
        (lambda f: (f / "generator.safetensors").write_bytes(b""), r"generator\.safetensors is no safetens"),
        (cut_weights_short, r"generator\.safetensors is no safetensors file, or cut short"),
        (drop_tensor, r"generator\.safetensors does not fit.*head\.weight is missing"),
        (
            reshape_tensor,
            r"generator\.safetensors.*head\.weight has shape \(7,\), expected \(1, 8, 3, 3\)",
        ),
        (add_tensor, r"generator\.safetensors does not fit.*extra is left over"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, harm: Callable[[Path], object], message: str) -> None:
    harm(folder)
    with pytest.raises(InputError, match=message) as raised:
        load_generator(folder)
    assert str(folder) in str(raised.value)


def test_a_generator_is_found_in_its_folder_and_in_its_run(folder: Path) -> None:
    (folder.parent / "state").mkdir()
    assert find_generator(folder) == folder
    assert find_generator(folder.parent) == folder


def test_several_generators_are_listed(folder: Path) -> None:
    folder.rename(folder.with_name("B_to_A"))
    save_generator(folder.with_name("A_to_B"), network=small_unet(), spec=SPEC, card="")
    with pytest.raises(InputError, match=r"several generators; give one of: \S+A_to_B, \S+B_to_A$"):
        find_generator(folder.parent)


def test_no_generator_is_said(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    for path, message in [
        (tmp_path, "holds no generator"),
        (tmp_path / "elsewhere", "does not exist"),
        (tmp_path / "weights.pth", "is a file"),
    ]:
        with pytest.raises(InputError, match=message):
            find_generator(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 0},
        {"data_range": (0, float("inf"))},
        {"dtype": "int8"},
        {"labels": 1},
        {"labels": True, "dtype": "float32"},
        {"dont_care": True},
        {"instances": True},
        {"first_id": 1},
        {"first_id": -1, "labels": True},
        {"channels": 2, "labels": True, "dont_care": True, "instances": True},
    ],
)
def test_an_impossible_side_is_refused(changes: dict) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        ImageSide(**{"channels": 3, "dtype": "uint8", "data_range": (0, 255), **changes})
