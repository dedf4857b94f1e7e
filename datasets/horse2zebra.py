"""Horse to zebra: photographs of horses and of zebras, unpaired (CycleGAN).

python datasets/horse2zebra.py

Downloads the archive, verifies and unpacks it into datasets/horse2zebra: trainA/ and testA/ with horses, trainB/ and
testB/ with zebras. What is there already is only counted. `--dry-run` touches nothing.
"""

from functools import partial
from pathlib import Path

from i2i.cli.entry import run
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out

HORSE2ZEBRA = PublicSet(
    name="horse2zebra",
    about="photographs of wild horses (A) and of zebras (B), 256 x 256 px",
    source="ImageNet (Deng et al. 2009), https://www.image-net.org, as gathered for CycleGAN (Zhu et al. 2017), "
    "https://junyanz.github.io/CycleGAN",
    terms="ImageNet is for non-commercial research and education; the photographs belong to whoever took them",
    archives=(
        Archive(
            name="horse2zebra.zip",
            url="https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/horse2zebra.zip",
            # TensorFlow Datasets verifies the same archive by it.
            sha256="a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1",
            size_bytes=116_867_962,
            members={"trainA/*": "trainA", "trainB/*": "trainB", "testA/*": "testA", "testB/*": "testB"},
        ),
    ),
    counts={"trainA": 1067, "trainB": 1334, "testA": 120, "testB": 140},
    recipe="cyclegan.py",
)

if __name__ == "__main__":
    run(partial(lay_out, HORSE2ZEBRA), Settings(out=Path("datasets/horse2zebra")), description=__doc__ or "")
