"""The other sets of pairs that pix2pix was published with, by name; without one, they are listed.

python datasets/pix2pix_sets.py night2day

Each goes into datasets/NAME: train/ and val/ (and test/), A left of B in each picture. They are so much alike that they
share this script; facades, maps and edges2shoes have their own. `--dry-run` touches nothing.
"""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import DisallowNone, Positional

from i2i.cli.entry import run
from i2i.data import public_sets
from i2i.data.public_sets import Archive, PublicSet

Name = Literal["cityscapes", "edges2handbags", "night2day"]

SETS: dict[Name, PublicSet] = {
    "cityscapes": PublicSet(
        name="cityscapes",
        about="photographs of streets (A) and class colours (B) side by side, 256 x 256 px each",
        source="Cityscapes (Cordts et al. 2016), https://www.cityscapes-dataset.com, as prepared for pix2pix",
        terms="Cityscapes is for non-commercial use by people who register, and may not be handed on",
        archives=(Archive(name="cityscapes.tar.gz", members={"train/*": "train", "val/*": "val"}),),
        counts={"train": 2975, "val": 500},
        recipe="pix2pix.py --direction BtoA",
        by_hand="It was withdrawn, for Cityscapes' licence does not allow handing it on. If you have that archive from "
        "before, give it with --archive; otherwise register at https://www.cityscapes-dataset.com.",
    ),
    "edges2handbags": PublicSet(
        name="edges2handbags",
        about="edges found by HED (A) and photographs of handbags (B) side by side, 256 x 256 px each; 8 GB",
        source="Amazon, gathered for iGAN (Zhu et al. 2016), https://github.com/junyanz/iGAN, as prepared for pix2pix",
        terms="no licence is stated where it is published; the photographs are Amazon's and its sellers'",
        archives=(
            Archive(
                name="edges2handbags.tar.gz",
                url="https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/edges2handbags.tar.gz",
                members={"train/*": "train", "val/*": "val"},
            ),
        ),
        counts={"train": 138_567, "val": 200},
        recipe="pix2pix.py",
    ),
    "night2day": PublicSet(
        name="night2day",
        about="pictures of 91 webcams by night (A) and by day (B) side by side, 256 x 256 px each; 2 GB",
        source="Transient Attributes (Laffont et al. 2014), http://transattr.cs.brown.edu, as prepared for pix2pix",
        terms="no licence is stated where it is published; the pictures belong to the webcams' owners. Publications "
        "cite Laffont et al.",
        archives=(
            Archive(
                name="night2day.tar.gz",
                url="https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/night2day.tar.gz",
                members={"train/*": "train", "val/*": "val", "test/*": "test"},
            ),
        ),
        counts={"train": 17_823, "val": 10, "test": 2287},
        recipe="pix2pix.py",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Settings(public_sets.Settings):
    """Which set, where it comes from, and where it goes.

    Attributes:
        name: of the set; all are listed unless given.
    """

    name: Positional[DisallowNone[Name | None]] = None


def main(settings: Settings) -> None:
    public_sets.lay_out_one_of(SETS, settings.name, settings)


if __name__ == "__main__":
    run(main, Settings(), description=__doc__ or "")
