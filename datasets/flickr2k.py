"""Flickr2K: 2650 photographs of 2K resolution, which super-resolution trains on beside DIV2K.

python datasets/flickr2k.py

Downloads the archive and unpacks its photographs into datasets/flickr2k/HR. Shrunk ones, of which the archive holds
many, are left out: training shrinks by itself. What is there already is only counted. `--dry-run` touches nothing, and
says how large the archive is.
"""

from functools import partial
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

FLICKR2K = PublicSet(
    name="flickr2k",
    about="photographs with a longer side of 2040 px",
    source="Flickr, gathered for EDSR (Lim et al. 2017), https://github.com/limbee/NTIRE2017",
    terms="no licence is stated where it is published; the photographs belong to whoever put them on Flickr, whose "
    "terms apply",
    archives=(
        Archive(
            name="Flickr2K.tar",
            url="https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar",
            members={"Flickr2K_HR/*": "HR"},
        ),
    ),
    counts={"HR": 2650},
    recipe="superres_psnr.py",
)

if __name__ == "__main__":
    run(partial(lay_out, FLICKR2K), Settings(out=Path("datasets/flickr2k")), description=__doc__ or "")
