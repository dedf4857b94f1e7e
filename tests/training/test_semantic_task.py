"""What `semantic_task` finds in a person's folders, what it holds out, and what it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from i2i.checkpoints import ImageSide
from i2i.data.image_io import write_image
from i2i.data.palettes import default_palette
from i2i.data.sampler import Draw
from i2i.data.semantic import SemanticImages
from i2i.data.streets import PALETTE
from i2i.errors import InputError
from i2i.training import semantic
from i2i.training.semantic import SemanticData, semantic_task

SMALL = SemanticData(load_size=None, crop_size=16)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(folder: Path, count: int, *, label: str, photo: str, numbers: str | None = None, low: int = 0) -> Path:
    """Label maps of ids low … low + 4, photos of the same, and instance maps; 20 x 24 px."""
    rng = np.random.default_rng(count)
    for number in range(count):
        ids = np.kron(rng.integers(low, low + 5, (4, 5)), np.ones((5, 5))).astype(np.uint8)[:, :24]
        ids = np.pad(ids, [(0, 0), (0, 24 - ids.shape[1])], mode="edge")
        ids[0, :5] = np.arange(low, low + 5)
        write_image(folder / label / f"{number:03}.png", ids)
        write_image(folder / photo / f"{number:03}.png", np.repeat(ids[..., None] * np.uint8(20), 3, axis=2))
        if numbers is not None:
            write_image(folder / numbers / f"{number:03}.png", ids.astype(np.uint16) * 1000)
    return folder


def coco(folder: Path, *, training: int = 4, held_out: int = 3, numbers: bool = True) -> Path:
    for phase, count in (("train", training), ("val", held_out)):
        write(
            folder,
            count,
            label=f"{phase}_label",
            photo=f"{phase}_img",
            numbers=f"{phase}_inst" if numbers else None,
        )
    return folder


def names(data: object) -> list[str]:
    assert isinstance(data, SemanticImages)
    return [one.labels.stem for one in data.files]


def test_a_folder_of_phases(tmp_path: Path) -> None:
    task = semantic_task(replace(SMALL, data=coco(tmp_path / "mine")), size_multiple=4)
    assert (len(names(task.training)), len(names(task.held_out))) == (4, 3)
    assert task.classes == 5 and task.name == "mine"
    assert task.input.channels == 6 and task.input.labels and task.input.instances and not task.input.dont_care
    assert task.output == ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    np.testing.assert_array_equal(task.palette, default_palette(5))
    assert f"Label maps are in {tmp_path}/mine/train_label and photos in {tmp_path}/mine/train_img" in task.about
    assert "(COCO-Stuff's layout), with instance maps: 4 to learn from, 5 classes." in task.about
    assert "Held out are 3." in task.about and "Warning" not in task.about
    for item in (task.training[Draw(index=0, seed=1, number=0)], task.held_out[2]):
        assert item["labels"].shape == (2, 16, 16) and item["image"].shape == (3, 16, 16)
        torch.testing.assert_close((item["image"][0] + 1) * 127.5 / 20, item["labels"][0].float(), atol=1e-4, rtol=0)


def test_every_tenth_of_folders_of_ones_own_is_held_out(tmp_path: Path) -> None:
    write(tmp_path, 21, label="labels", photo="photos", numbers="numbers")
    data = replace(SMALL, label_dir=tmp_path / "labels", image_dir=tmp_path / "photos")
    task = semantic_task(data, size_multiple=4)
    assert names(task.held_out) == ["000", "010", "020"] and len(names(task.training)) == 18
    assert not task.input.instances and task.held_out[0]["labels"].shape == (1, 16, 16)
    with_instances = semantic_task(replace(data, instance_dir=tmp_path / "numbers"), size_multiple=4)
    assert with_instances.input.channels == 6
    assert with_instances.fingerprint != task.fingerprint


def test_a_set_too_small_to_hold_any_out_is_shown_again(tmp_path: Path) -> None:
    write(tmp_path, 9, label="labels", photo="photos")
    task = semantic_task(replace(SMALL, label_dir=tmp_path / "labels", image_dir=tmp_path / "photos"), size_multiple=4)
    assert names(task.held_out) == names(task.training) and len(names(task.training)) == 9
    assert "too few to hold any out: figures are over the images that are learnt from" in task.about


def test_ade20k(tmp_path: Path) -> None:
    for phase, count in (("training", 3), ("validation", 2)):
        write(tmp_path, count, label=f"annotations/{phase}", photo=f"images/{phase}")
    data = replace(SMALL, data=tmp_path, load_size=24, crop_size=24, classes=150, dont_care=True, flip=False)
    task = semantic_task(data, size_multiple=4)
    assert task.input.channels == 151 and task.input.dont_care and task.input.first_id == 1
    assert 'Id 0, "other", became "don\'t care", and all ids are one lower.' in task.about
    ids = task.held_out[0]["labels"][0].unique().tolist()
    assert ids == [0, 1, 2, 3, 150]
    with pytest.raises(InputError, match=r"id 0 .*--dont-care"):
        semantic_task(replace(data, dont_care=False), size_multiple=4)


def test_held_out_files_are_checked_too(tmp_path: Path) -> None:
    coco(tmp_path)
    write_image(tmp_path / "val_label" / "001.png", np.full((20, 24), 77, np.uint8))
    with pytest.raises(InputError, match=r"val_label/001\.png has 480 pixels of id 77 .* but 5 classes"):
        semantic_task(replace(SMALL, data=tmp_path, classes=5), size_multiple=4)
    task = semantic_task(replace(SMALL, data=tmp_path), size_multiple=4)
    assert task.classes == 78
    assert "never occur. Set it right with --classes" in task.about
    coco(tmp_path / "whole")
    assert "never occur" not in semantic_task(replace(SMALL, data=tmp_path / "whole"), size_multiple=4).about


def test_colour_coded_label_maps(tmp_path: Path) -> None:
    coco(tmp_path, numbers=False)
    (tmp_path / "palette.txt").write_text("".join(f"{20 * id} {20 * id} {20 * id} class {id}\n" for id in range(7)))
    data = replace(
        SMALL, label_dir=tmp_path / "train_img", image_dir=tmp_path / "train_img", palette=tmp_path / "palette.txt"
    )
    task = semantic_task(data, size_multiple=4)
    assert task.classes == 7 and task.palette.tolist() == [[20 * id] * 3 for id in range(7)]
    assert task.input.palette == tuple((20 * id,) * 3 for id in range(7))
    item = task.held_out[1]
    torch.testing.assert_close((item["image"][:1] + 1) * 127.5 / 20, item["labels"].float(), atol=1e-4, rtol=0)
    with pytest.raises(InputError, match=r"palette\.txt has 7 colours, and --classes is 8"):
        semantic_task(replace(data, classes=8), size_multiple=4)


def test_sizes_go_by_the_aspect_ratio(tmp_path: Path) -> None:
    data = replace(SMALL, data=coco(tmp_path), load_size=64, crop_size=48, aspect_ratio=1.5)
    assert data.size_px == (32, 48)
    task = semantic_task(data, size_multiple=16)
    for item in (task.training[Draw(index=0, seed=1, number=0)], task.held_out[0]):
        assert item["labels"].shape == (2, 32, 48)


def test_instance_maps_of_one_phase_only(tmp_path: Path) -> None:
    for file in (coco(tmp_path) / "val_inst").iterdir():
        file.unlink()
    (tmp_path / "val_inst").rmdir()
    with pytest.raises(InputError, match=r"val_label/000\.png has no instance map, .*--no-instances"):
        semantic_task(replace(SMALL, data=tmp_path), size_multiple=4)
    assert not semantic_task(replace(SMALL, data=tmp_path, instances=False), size_multiple=4).input.instances


def test_a_layout_that_is_not_known(tmp_path: Path) -> None:
    write(tmp_path, 2, label="masks/train", photo="photos/train")
    with pytest.raises(InputError, match=r"holds no label maps in a layout known here: .*--label-dir and --image-dir"):
        semantic_task(replace(SMALL, data=tmp_path), size_multiple=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": 250, "load_size": 286}, "250 x 250 px: give --crop-size 256"),
        ({"crop_size": 300, "load_size": 300}, "300 x 300 px: give --crop-size 288"),
        ({"crop_size": 250, "load_size": 250}, "--crop-size 256 and a --load-size of at least 256"),
        ({"crop_size": 500, "load_size": 512, "aspect_ratio": 2}, "500 x 250 px: give --crop-size 512"),
        ({"crop_size": 256, "aspect_ratio": 1.001, "load_size": None}, None),
        ({"crop_size": 32, "aspect_ratio": 31.7, "load_size": None}, "give another --aspect-ratio"),
    ],
)
def test_a_size_that_the_networks_cannot_take(settings: dict[str, float], message: str | None, tmp_path: Path) -> None:
    data = replace(SMALL, data=tmp_path, **settings)
    if message is None:
        assert data.size_px == (256, 256)
        return
    with pytest.raises(InputError, match=f"multiples of 32 px, .*{message}"):
        semantic_task(data, size_multiple=32)


def test_photos_smaller_than_the_crop_are_named(tmp_path: Path) -> None:
    coco(tmp_path)
    with pytest.raises(
        InputError, match=r"train_img/000\.png is smaller than the 24 x 24 px of a crop: give --load-size"
    ):
        semantic_task(replace(SMALL, data=tmp_path, crop_size=24), size_multiple=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": Path("a"), "label_dir": Path("b"), "image_dir": Path("c")}, "exclude each other"),
        ({"label_dir": Path("b")}, "belong together"),
        ({"data": Path("a"), "instance_dir": Path("b")}, "exclude each other"),
        ({"instance_dir": Path("b")}, "--instance-dir needs --label-dir"),
        (
            {"label_dir": Path("a"), "image_dir": Path("b"), "instance_dir": Path("c"), "instances": False},
            "no --no-instances",
        ),
        ({"classes": 3}, "label maps of your own"),
        ({"dont_care": True}, "label maps of your own"),
        ({"palette": Path("a")}, "label maps of your own"),
        ({"data": Path("a"), "classes": 0}, "--classes must be at least 1, and is 0"),
        ({"crop_size": 0}, "--crop-size must be at least 1"),
        ({"aspect_ratio": 0.0}, "--aspect-ratio is width by height"),
        ({"aspect_ratio": float("nan")}, "--aspect-ratio is width by height"),
        ({"load_size": 200}, "--load-size 200 must be at least as large as --crop-size 256"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SemanticData(**settings)


def test_built_in_streets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(semantic, "TRAINING_STREETS", 3)
    monkeypatch.setattr(semantic, "HELD_OUT_STREETS", 2)
    task = semantic_task(SemanticData(), size_multiple=16)
    assert (len(task.training), len(task.held_out)) == (3, 2)
    assert task.input.channels == 11 and task.input.instances and task.classes == 10
    assert task.palette is PALETTE and "3 to learn from. Held out are 2 more." in task.about
    assert task.training[0]["labels"].shape == (2, 64, 64)
    plain = semantic_task(SemanticData(instances=False), size_multiple=16)
    assert plain.input.channels == 10 and torch.equal(plain.held_out[1]["labels"], task.held_out[1]["labels"][:1])
    assert SemanticData().size_px == (64, 64)
    with pytest.raises(InputError, match="built-in streets need a network that asks for less"):
        semantic_task(SemanticData(), size_multiple=128)


@pytest.mark.data
def test_a_sample_of_coco_stuff_as_spade_takes_it(data_dir: Path) -> None:
    data = SemanticData(data=data_dir / "semantic" / "coco_stuff", classes=182, dont_care=True)
    task = semantic_task(data, size_multiple=32)
    assert task.input.channels == 184 and (len(task.training), len(task.held_out)) == (13, 8)
    item = task.training[Draw(index=5, seed=2, number=0)]
    assert item["labels"].shape == (2, 256, 256) and item["labels"][0].max() <= 182
    with pytest.raises(InputError, match=r"id 255 .*--dont-care"):
        semantic_task(replace(data, dont_care=False), size_multiple=32)
