"""Edges to shoes: drawn outlines and photographs of shoes, in pairs (pix2pix). About 2 GB.

python datasets/edges2shoes.py

Downloads the archive, verifies and unpacks it into datasets/edges2shoes: train/ and val/, each picture the edges (A)
left of the photograph (B). What is there already is only counted. `--dry-run` touches nothing.
"""

from functools import partial
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

EDGES2SHOES = PublicSet(
    name="edges2shoes",
    about="edges found by HED (A) and photographs of shoes (B) side by side, 256 x 256 px each",
    source="UT Zappos50K (Yu and Grauman 2014), http://vision.cs.utexas.edu/projects/finegrained/utzap50k, as prepared "
    "for pix2pix (Isola et al. 2017)",
    terms="UT Zappos50K is for academic, non-commercial use. Publications cite Yu and Grauman",
    archives=(
        Archive(
            name="edges2shoes.tar.gz",
            url="https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/edges2shoes.tar.gz",
            members={"train/*": "train", "val/*": "val"},
        ),
    ),
    counts={"train": 49_825, "val": 200},
    recipe="pix2pix.py",
)

if __name__ == "__main__":
    run(partial(lay_out, EDGES2SHOES), Settings(out=Path("datasets/edges2shoes")), description=__doc__ or "")
