"""Set5, Set14, BSD100 and Urban100, by which super-resolution is compared. 250 MB.

python datasets/sr_test_sets.py

Downloads the archive that EDSR was published with, verifies and unpacks it into datasets/sr_test_sets: in each of
Set5/, Set14/, BSD100/ and Urban100/ the pictures (HR/), and the same shrunk by MATLAB's bicubic interpolation (LRx2/,
LRx3/ and LRx4/; for each scale HR was first cut at the bottom and right to a multiple of it). What is there already is
only counted. `--dry-run` touches nothing. Manga109 is given only to people who ask, http://www.manga109.org/en.
"""

from functools import partial
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

# What the sets are called here and in the archive, and how many pictures they have.
SETS = (("Set5", "Set5", 5), ("Set14", "Set14", 14), ("BSD100", "B100", 100), ("Urban100", "Urban100", 100))
FOLDERS = {"HR": "HR", "LRx2": "LR_bicubic/X2", "LRx3": "LR_bicubic/X3", "LRx4": "LR_bicubic/X4"}

SR_TEST_SETS = PublicSet(
    name="sr_test_sets",
    about="pictures (HR) and the same shrunk (LR), 228 to 1280 px",
    source="Set5 (Bevilacqua et al. 2012), Set14 (Zeyde et al. 2010), BSD100 (the test pictures of BSDS300, Martin et "
    "al. 2001) and Urban100 (Huang et al. 2015), as prepared for EDSR (Lim et al. 2017), https://cv.snu.ac.kr/research/"
    "EDSR",
    terms="BSDS300 is for non-commercial research and education; no licence is stated for the others. Publications "
    "cite the papers named",
    archives=(
        Archive(
            name="benchmark.tar",
            url="https://cv.snu.ac.kr/research/EDSR/benchmark.tar",
            sha256="80c21c333bbf6ceb5308b7243761f8284478274413a97b96f1d63e9045fd93e8",
            size_bytes=250_112_000,
            members={
                f"{theirs}/{path}/*": f"{ours}/{folder}" for ours, theirs, _ in SETS for folder, path in FOLDERS.items()
            },
        ),
    ),
    counts={f"{ours}/{folder}": count for ours, _, count in SETS for folder in FOLDERS},
)

if __name__ == "__main__":
    run(partial(lay_out, SR_TEST_SETS), Settings(out=Path("datasets/sr_test_sets")), description=__doc__ or "")
