"""Maps: aerial photographs and maps of New York, in pairs (pix2pix).

python datasets/maps.py

Downloads the archive, verifies and unpacks it into datasets/maps: train/ and val/, each picture the aerial photograph
(A) left of its map (B). What is there already is only counted. `--dry-run` touches nothing.
"""

from functools import partial
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

MAPS = PublicSet(
    name="maps",
    about="aerial photographs (A) and maps (B) side by side, 600 x 600 px each",
    source="Google Maps, gathered for pix2pix (Isola et al. 2017), https://phillipi.github.io/pix2pix",
    terms="no licence is stated where it is published; the pictures are Google's and its suppliers', under the "
    "terms of Google Maps",
    archives=(
        Archive(
            name="maps.tar.gz",
            url="https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/maps.tar.gz",
            size_bytes=250_242_400,
            members={"train/*": "train", "val/*": "val"},
        ),
    ),
    counts={"train": 1096, "val": 1098},
    recipe="pix2pix.py",
)

if __name__ == "__main__":
    run(partial(lay_out, MAPS), Settings(out=Path("datasets/maps")), description=__doc__ or "")
