"""ADE20K: label maps and photographs of scenes of all kinds, indoors and outdoors (SPADE).

python datasets/ade20k.py

Downloads the archive of the scene parsing challenge, verifies and unpacks it into datasets/ade20k: photographs in
images/training and images/validation, label maps of 150 classes in annotations/training and annotations/validation,
where 0 is what belongs to no class. `--dry-run` touches nothing. The full ADE20K, with parts and more than 3000 names,
is handed out to people who register at its site.
"""

from functools import partial
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

FOLDERS = ("images/training", "images/validation", "annotations/training", "annotations/validation")

ADE20K = PublicSet(
    name="ade20k",
    about="photographs of scenes of all kinds with 150 classes by pixel, of all sizes",
    source="ADE20K (Zhou et al. 2017), https://ade20k.csail.mit.edu, as in the MIT Scene Parsing Benchmark",
    terms="the photographs are for non-commercial research and education, and belong to whoever took them; annotations "
    "are under the 3-clause BSD licence. Publications cite Zhou et al.",
    archives=(
        Archive(
            name="ADEChallengeData2016.zip",
            url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
            # TensorFlow Datasets verifies the same archive by it.
            sha256="7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
            size_bytes=967_382_037,
            members={f"{folder}/*": folder for folder in FOLDERS},
        ),
    ),
    counts=dict(zip(FOLDERS, (20_210, 2000, 20_210, 2000), strict=True)),
    recipe="spade.py --classes 150 --dont-care",
)

if __name__ == "__main__":
    run(partial(lay_out, ADE20K), Settings(out=Path("datasets/ade20k")), description=__doc__ or "")
