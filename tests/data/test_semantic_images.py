"""Label maps, photos and instance maps: found in the layouts that people have, and served as the network takes them."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from i2i.data.folders import SideInfo
from i2i.data.image_io import write_image
from i2i.data.sampler import Draw
from i2i.data.semantic import (
    SemanticFiles,
    SemanticImages,
    SemanticSet,
    find_semantic,
    fingerprint_semantic,
    match_semantic,
)
from i2i.data.transforms import ImageTransform
from i2i.errors import InputError

PHOTOS = SideInfo(channels=3, dtype="uint8", data_range=(0, 255))
BLACK = np.zeros((4, 4, 1), dtype=np.uint8)


def write(folder: Path, names: Iterable[str], image: np.ndarray = BLACK) -> Path:
    for name in names:
        write_image(folder / name, image)
    return folder


def cityscapes(data: Path, *, phase: str = "train", cities: bool = True) -> Path:
    for city in ("aachen", "bonn"):
        labels = data / "gtFine" / phase / (city if cities else "")
        photos = data / "leftImg8bit" / phase / (city if cities else "")
        for number in ("000000_000019", "000001_000019"):
            stem = f"{city}_{number}"
            write(photos, [f"{stem}_leftImg8bit.png"])
            write(labels, [f"{stem}_gtFine_{kind}.png" for kind in ("labelIds", "instanceIds", "color")])
            (labels / f"{stem}_gtFine_polygons.json").write_text("{}")
    return data


def coco_stuff(data: Path, *, phase: str = "train") -> Path:
    for kind, suffix in (("label", "png"), ("img", "jpg"), ("inst", "png")):
        write(data / f"{phase}_{kind}", [f"{number:012}.{suffix}" for number in (139, 785)])
    return data


def ade20k(data: Path, *, phase: str = "training") -> Path:
    for kind, suffix in (("annotations", "png"), ("images", "jpg")):
        write(data / kind / phase, [f"ADE_train_{number:08}.{suffix}" for number in (1, 2, 3)])
    return data


def found(data: Path, *phases: str, instances: bool = True) -> SemanticSet:
    result = find_semantic(data, phases=phases or ("train", "training"), instances=instances)
    assert result is not None
    return result


@pytest.mark.parametrize("cities", [True, False])
def test_cityscapes(cities: bool, tmp_path: Path) -> None:
    result = found(cityscapes(tmp_path, cities=cities))
    stems = [f"{city}_00000{number}_000019" for city in ("aachen", "bonn") for number in (0, 1)]
    place = "{0}/" if cities else ""
    expected = [
        SemanticFiles(
            labels=tmp_path / f"gtFine/train/{place}{{1}}_gtFine_labelIds.png".format(stem.split("_")[0], stem),
            image=tmp_path / f"leftImg8bit/train/{place}{{1}}_leftImg8bit.png".format(stem.split("_")[0], stem),
            instances=tmp_path / f"gtFine/train/{place}{{1}}_gtFine_instanceIds.png".format(stem.split("_")[0], stem),
        )
        for stem in stems
    ]
    assert result == SemanticSet(files=expected, layout="Cityscapes'", first_id=0)


def test_coco_stuff(tmp_path: Path) -> None:
    result = found(coco_stuff(tmp_path))
    folders = ("train_label/{}.png", "train_img/{}.jpg", "train_inst/{}.png")
    for one, stem in zip(result.files, ("000000000139", "000000000785"), strict=True):
        assert [one.labels, one.image, one.instances] == [tmp_path / place.format(stem) for place in folders]
    assert result.has_instances and result.first_id == 0


def test_ade20k_has_no_instance_maps_and_ids_from_1(tmp_path: Path) -> None:
    result = found(ade20k(tmp_path))
    assert len(result.files) == 3 and not result.has_instances and result.first_id == 1
    assert result.files[2].image == tmp_path / "images" / "training" / "ADE_train_00000003.jpg"


def test_the_first_phase_that_is_there_is_taken(tmp_path: Path) -> None:
    ade20k(tmp_path, phase="validation")
    assert found(tmp_path, "val", "validation", "test").files[0].labels.parent.name == "validation"
    assert find_semantic(tmp_path, phases=("train", "training")) is None
    coco_stuff(tmp_path, phase="val")
    assert found(tmp_path, "val", "validation", "test").layout == "COCO-Stuff's"


def test_annotations_of_others_are_not_taken_for_ade20k(tmp_path: Path) -> None:
    """Their ids may begin at 0, and would silently be one lower."""
    ade20k(tmp_path, phase="train")
    assert find_semantic(tmp_path, phases=("train", "training")) is None


@pytest.mark.parametrize("lay_out", [cityscapes, coco_stuff])
def test_instance_maps_may_be_left_out(lay_out: type, tmp_path: Path) -> None:
    assert found(lay_out(tmp_path)).has_instances
    assert not found(tmp_path, instances=False).has_instances


def test_instance_maps_may_be_missing_as_a_whole(tmp_path: Path) -> None:
    for file in (coco_stuff(tmp_path) / "train_inst").iterdir():
        file.unlink()
    (tmp_path / "train_inst").rmdir()
    assert not found(tmp_path).has_instances


def test_folders_of_ones_own_go_by_stem(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels", ["a.png", "b.tif"])
    photos = write(tmp_path / "photos", ["b.png", "a.jpg"])
    result = match_semantic(labels, photos)
    assert [(one.labels.name, one.image.name, one.instances) for one in result.files] == [
        ("a.png", "a.jpg", None),
        ("b.tif", "b.png", None),
    ]
    numbers = write(tmp_path / "numbers", ["a.npy", "b.npy"])
    assert [one.instances for one in match_semantic(labels, photos, numbers).files] == [
        numbers / "a.npy",
        numbers / "b.npy",
    ]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("train_label/000000000139.png", r"train_img/000000000139\.jpg has no label map .* in \S+/train_label "),
        (
            "train_img/000000000139.jpg",
            r"train_label/000000000139\.png has no photo .* in \S+/train_img .*1 of 2 files",
        ),
        ("train_inst/000000000139.png", r"train_label/000000000139\.png has no instance map .*--no-instances"),
    ],
)
def test_what_has_no_partner_is_named(gone: str, message: str, tmp_path: Path) -> None:
    coco_stuff(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(InputError, match=message):
        found(tmp_path)


def test_instance_maps_of_other_names_are_refused(tmp_path: Path) -> None:
    write(coco_stuff(tmp_path) / "train_inst", ["other.png"])
    with pytest.raises(InputError, match=r"train_inst/other\.png has no label map .*--no-instances"):
        found(tmp_path)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no folder"):
        find_semantic(tmp_path / "nowhere", phases=("train",))
    (cityscapes(tmp_path / "a") / "leftImg8bit").rename(tmp_path / "a" / "photos")
    with pytest.raises(InputError, match=r"leftImg8bit/train holds no files named \*_leftImg8bit\.png"):
        found(tmp_path / "a")
    (coco_stuff(tmp_path / "b") / "train_img").rename(tmp_path / "b" / "photos")
    with pytest.raises(InputError, match="train_img is no folder; expected a folder of photos"):
        found(tmp_path / "b")


def test_a_fingerprint_sees_every_file(tmp_path: Path) -> None:
    files = found(coco_stuff(tmp_path)).files
    seen = {fingerprint_semantic(files)}
    for place in ("train_label/000000000139.png", "train_img/000000000785.jpg", "train_inst/000000000139.png"):
        write_image(tmp_path / place, np.full((5, 5), len(seen), np.uint8))
        seen.add(fingerprint_semantic(files))
    assert len(seen) == 4
    assert fingerprint_semantic(files[:1]) not in seen


@pytest.fixture
def scene(tmp_path: Path) -> SemanticFiles:
    """A house of two instances on grass; the photo shows what the label map says, 60 levels of grey a class."""
    labels = np.zeros((60, 90), np.uint8)
    labels[20:50, 10:80] = 2
    labels[:5] = 255
    numbers = np.where(labels == 2, 24_000, 0).astype(np.uint16)
    numbers[20:50, 45:80] += 1
    grey = np.select([labels == 255, labels == 2], [250, 120], default=0).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(numbers).save(tmp_path / "numbers.png")
    Image.fromarray(grey).convert("RGB").save(tmp_path / "photo.png")
    return SemanticFiles(
        labels=tmp_path / "labels.png", image=tmp_path / "photo.png", instances=tmp_path / "numbers.png"
    )


def images(
    one: SemanticFiles, transform: ImageTransform, *, classes: int = 3, dont_care: bool = True
) -> SemanticImages:
    return SemanticImages(files=[one], transform=transform, classes=classes, dont_care=dont_care, image=PHOTOS)


def test_an_item_as_it_is(scene: SemanticFiles) -> None:
    item = images(scene, ImageTransform())[0]
    labels, edges = item["labels"]
    assert item["labels"].dtype == torch.int64 and item["image"].dtype == torch.float32
    assert labels.unique().tolist() == [0, 2, 3]
    grey = torch.tensor([0.0, 60.0, 120.0, 250.0])[labels] / 127.5 - 1
    torch.testing.assert_close(item["image"], grey.expand(3, -1, -1))
    expected = torch.zeros(60, 90, dtype=torch.int64)
    expected[19:51, 10:80] = expected[20:50, 9:81] = 1  # both sides of the house's outline …
    expected[21:49, 11:44] = expected[21:49, 46:79] = 0  # … and of the wall between the two
    torch.testing.assert_close(edges, expected)


@pytest.mark.parametrize("seed", range(6))
def test_an_augmented_item_stays_aligned(seed: int, scene: SemanticFiles) -> None:
    transform = ImageTransform(load_size=(70, 110), crop_size=(48, 64))
    data = images(scene, transform)
    item = data[Draw(index=0, seed=seed, number=0)]
    labels, edges = item["labels"].numpy()
    assert labels.shape == (48, 64) and item["image"].shape == (3, 48, 64)
    assert set(np.unique(labels)) <= {0, 2, 3} and set(np.unique(edges)) <= {0, 1}
    shown = (item["image"][0].numpy() + 1) * 127.5
    level = np.array([0, 60, 120, 250])[labels]
    # Where no other class is near, the photo shows exactly what the label map says.
    inner = cv2.erode(labels.astype(np.float32), np.ones((5, 5))) == cv2.dilate(
        labels.astype(np.float32), np.ones((5, 5))
    )
    assert inner.mean() > 0.5
    np.testing.assert_allclose(shown[inner], level[inner], atol=1)
    again = data[Draw(index=0, seed=seed, number=9)]
    assert all(torch.equal(again[key], item[key]) for key in item)


def test_edges_are_two_pixels_wide_at_any_size(scene: SemanticFiles) -> None:
    """They are found after resizing; resized edges would be wider or lost."""
    for size in ((30, 45), (240, 360)):
        edges = images(scene, ImageTransform(load_size=size))[0]["labels"][1]
        middle = edges[size[0] * 35 // 60]
        assert middle.sum() == 6  # left, between, right


def test_without_instance_maps_there_is_one_channel(scene: SemanticFiles) -> None:
    one = SemanticFiles(labels=scene.labels, image=scene.image)
    assert images(one, ImageTransform())[0]["labels"].shape == (1, 60, 90)


def test_colour_coded_maps_and_lowest_ids(scene: SemanticFiles, tmp_path: Path) -> None:
    palette = np.array([(0, 0, 0), (1, 1, 1), (120, 120, 120), (250, 250, 250)], dtype=np.uint8)
    coded = SemanticFiles(labels=scene.image, image=scene.image)
    item = SemanticImages(
        files=[coded],
        transform=ImageTransform(),
        classes=3,
        dont_care=True,
        image=PHOTOS,
        palette=palette,
        first_id=1,
    )[0]
    assert item["labels"].unique().tolist() == [1, 2, 3]
    assert torch.equal(item["labels"] == 3, (item["image"] == -1)[:1])  # 0 became "don't care", ids are one lower


def test_files_that_changed_are_told(scene: SemanticFiles) -> None:
    with pytest.raises(
        InputError, match=r"labels\.png: 2,100 pixels have class ids .* such as 2; .* It may have changed since"
    ):
        images(scene, ImageTransform(), classes=2)[0]
    with pytest.raises(InputError, match=r"450 pixels .* such as 255; expected 0 to 2\. It may"):
        images(scene, ImageTransform(), dont_care=False)[0]
    Image.new("L", (90, 61)).save(scene.labels)
    with pytest.raises(InputError, match=r"labels\.png and what belongs to it: expected images of one size"):
        images(scene, ImageTransform())[0]


@pytest.mark.data
def test_a_sample_of_coco_stuff(data_dir: Path) -> None:
    result = found(data_dir / "semantic" / "coco_stuff")
    assert len(result.files) == 13 and result.has_instances
    data = SemanticImages(
        files=result.files,
        transform=ImageTransform(load_size=286, crop_size=256),
        classes=182,
        dont_care=True,
        image=PHOTOS,
    )
    for index, one in enumerate(result.files):
        labels, edges = data[index]["labels"].numpy()
        stored = np.array(Image.open(one.labels).resize((256, 256), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(labels, np.where(stored == 255, 182, stored))
        numbers = np.array(Image.open(one.instances).resize((256, 256), Image.Resampling.NEAREST)).astype(int)
        padded = np.pad(numbers, 1, mode="edge")
        around = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
        np.testing.assert_array_equal(edges, np.any([numbers != other for other in around], axis=0))
