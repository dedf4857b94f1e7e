"""Cityscapes: label maps, instance maps and photographs of streets (SPADE, pix2pixHD).

python datasets/cityscapes.py --archive leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip

Unpacks what Cityscapes hands out to people who register into datasets/cityscapes: photographs in leftImg8bit/train and
leftImg8bit/val, label maps (*_labelIds.png) and instance maps (*_instanceIds.png) in gtFine/train and gtFine/val. The
folders of cities are left out; the names of files begin with them. So are test photographs, whose labels are withheld.
"""

from functools import partial
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

CITYSCAPES = PublicSet(
    name="cityscapes",
    about="photographs of streets in 21 cities with classes and instances by pixel, 2048 x 1024 px each; 12 GB",
    source="Cityscapes (Cordts et al. 2016), https://www.cityscapes-dataset.com",
    terms="for non-commercial use by people who register, and may not be handed on",
    archives=(
        Archive(
            name="leftImg8bit_trainvaltest.zip",
            members={
                "leftImg8bit/train/*/*_leftImg8bit.png": "leftImg8bit/train",
                "leftImg8bit/val/*/*_leftImg8bit.png": "leftImg8bit/val",
            },
        ),
        Archive(
            name="gtFine_trainvaltest.zip",
            members={
                "gtFine/train/*/*_gtFine_labelIds.png": "gtFine/train",
                "gtFine/train/*/*_gtFine_instanceIds.png": "gtFine/train",
                "gtFine/val/*/*_gtFine_labelIds.png": "gtFine/val",
                "gtFine/val/*/*_gtFine_instanceIds.png": "gtFine/val",
            },
        ),
    ),
    counts={"leftImg8bit/train": 2975, "leftImg8bit/val": 500, "gtFine/train": 2 * 2975, "gtFine/val": 2 * 500},
    # SPADE's settings. It counts 35 classes, of which the last never occurs.
    recipe="spade.py --classes 35 --load-size 512 --crop-size 512 --aspect-ratio 2",
    by_hand="Register at https://www.cityscapes-dataset.com, fetch leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip there, and give both with --archive.",
)

if __name__ == "__main__":
    run(partial(lay_out, CITYSCAPES), Settings(out=Path("datasets/cityscapes")), description=__doc__ or "")
