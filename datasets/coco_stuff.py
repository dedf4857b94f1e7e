"""COCO-Stuff: label maps, instance maps and photographs of everyday scenes (SPADE).

python datasets/coco_stuff.py

Downloads the photographs of COCO 2017, COCO-Stuff's label maps and COCO's annotations (21 GB in all), verifies and
unpacks them into datasets/coco_stuff: train_img/, train_label/, val_img/ and val_label/. The instance maps train_inst/
and val_inst/ are drawn from the annotations. `--dry-run` touches nothing.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from i2i.cli.entry import run
from i2i.data.image_io import write_image
from i2i.data.labels import read_labels
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

FIRST_OBJECT = 256  # lower numbers are those of classes


def draw_instances(folder: Path) -> None:
    """Make `<phase>_inst/` from `<phase>_label/` and annotations/, which is then removed.

    Raises:
        InputError: a label map cannot be read.
        OSError: the disk cannot be written.
    """
    for phase in ("train", "val"):
        objects = read_objects(folder / "annotations" / f"instances_{phase}2017.json")
        files = sorted((folder / f"{phase}_label").iterdir())
        targets = [folder / f"{phase}_inst" / file.name for file in files]
        with ThreadPoolExecutor() as pool:  # OpenCV and the codecs let other threads run
            drawn = pool.map(draw_one, files, targets, [objects[file.stem] for file in files])
            for _ in track(drawn, f"Drawing {phase}_inst", total=len(files), console=Console(stderr=True)):
                pass
    shutil.rmtree(folder / "annotations")


def read_objects(file: Path) -> defaultdict[str, list[dict[str, Any]]]:
    """COCO's annotations by the names of the images, without suffix."""
    told = json.loads(file.read_text(encoding="utf-8"))
    stems = {image["id"]: Path(image["file_name"]).stem for image in told["images"]}
    objects: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in told["annotations"]:
        objects[stems[one["image_id"]]].append(one)
    return objects


def draw_one(labels: Path, target: Path, objects: Sequence[dict[str, Any]]) -> None:
    write_image(target, instance_map(read_labels(labels), objects))


def instance_map(labels: np.ndarray, objects: Sequence[dict[str, Any]]) -> np.ndarray:
    """Number the objects of an image.

    Crowds, which COCO does not take apart, count as their class does.

    Args:
        labels: (H, W) integers: COCO-Stuff's classes, where things are COCO's categories less 1.
        objects: COCO's annotations of the image.

    Returns:
        (H, W) uint16: 256, 257 … where there are objects, each limited to pixels of its own class and smaller ones in
        front of larger ones; elsewhere the class.
    """
    numbers = labels.astype(np.uint16)
    whole = [one for one in objects if not one["iscrowd"]]
    for number, one in enumerate(sorted(whole, key=lambda one: -one["area"]), start=FIRST_OBJECT):
        shape = np.zeros(labels.shape, dtype=np.uint8)
        for polygon in one["segmentation"]:  # together, where they overlap they would leave a hole
            corners = np.floor(polygon).astype(np.int32).reshape(-1, 2)  # the first pixel goes from 0 to 1
            cv2.fillPoly(shape, [corners], 1)
        numbers[(shape == 1) & (labels == one["category_id"] - 1)] = number
    return numbers


COCO_STUFF = PublicSet(
    name="coco_stuff",
    about="photographs of everyday scenes with 182 classes and their instances by pixel, about 640 x 480 px; 21 GB",
    source="COCO 2017 (Lin et al. 2014), https://cocodataset.org, with the labels of COCO-Stuff (Caesar et al. 2018), "
    "https://github.com/nightrome/cocostuff",
    terms="annotations of both are under CC BY 4.0; the photographs belong to whoever put them on Flickr, whose terms "
    "apply",
    archives=(
        # TensorFlow Datasets verifies the same archives of COCO by their sums.
        Archive(
            name="train2017.zip",
            url="http://images.cocodataset.org/zips/train2017.zip",
            sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            size_bytes=19_336_861_798,
            members={"train2017/*": "train_img"},
        ),
        Archive(
            name="val2017.zip",
            url="http://images.cocodataset.org/zips/val2017.zip",
            sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            size_bytes=815_585_330,
            members={"val2017/*": "val_img"},
        ),
        Archive(
            name="stuffthingmaps_trainval2017.zip",
            url="http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip",
            members={"train2017/*": "train_label", "val2017/*": "val_label"},
        ),
        Archive(
            name="annotations_trainval2017.zip",
            url="http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
            sha256="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            size_bytes=252_907_541,
            members={"instances_train2017.json": "annotations", "instances_val2017.json": "annotations"},
        ),
    ),
    counts={
        "train_img": 118_287,
        "train_label": 118_287,
        "train_inst": 118_287,
        "val_img": 5000,
        "val_label": 5000,
        "val_inst": 5000,
    },
    recipe="spade.py --classes 182 --dont-care",
    finish=draw_instances,
)

if __name__ == "__main__":
    run(partial(lay_out, COCO_STUFF), Settings(out=Path("datasets/coco_stuff")), description=__doc__ or "")
