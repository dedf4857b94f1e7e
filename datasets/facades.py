"""Facades: photographs of facades and what their parts are, in pairs (pix2pix).

python datasets/facades.py

Downloads the archive, verifies and unpacks it into datasets/facades: train/, val/ and test/, each picture the
photograph (A) left of its label colours (B). What is there already is only counted. `--dry-run` touches nothing.
"""

from functools import partial
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

FACADES = PublicSet(
    name="facades",
    about="photographs of facades (A) and colours of their parts (B) side by side, 256 x 256 px each",
    source="CMP Facade Database (Tyleček and Šára 2013), https://cmp.felk.cvut.cz/~tylecr1/facade, as prepared for "
    "pix2pix (Isola et al. 2017)",
    terms="made for research; no licence is stated where it is published. Publications cite Tyleček and Šára",
    archives=(
        Archive(
            name="facades.tar.gz",
            url="https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/facades.tar.gz",
            size_bytes=30_168_306,
            members={"train/*": "train", "val/*": "val", "test/*": "test"},
        ),
    ),
    counts={"train": 400, "val": 100, "test": 106},
    recipe="pix2pix.py --direction BtoA",
)

if __name__ == "__main__":
    run(partial(lay_out, FACADES), Settings(out=Path("datasets/facades")), description=__doc__ or "")
