"""DIV2K: 900 photographs of 2K resolution, the usual training set of super-resolution. About 4 GB.

python datasets/div2k.py

Downloads the archives, verifies and unpacks them into datasets/div2k: train/HR and val/HR, and train/LRx4 and val/LRx4,
which were shrunk by bicubic interpolation. `--scales 2 3 4` fetches those of other scales too, `--scales` none of them:
training then shrinks by itself. What is there already is only counted. `--dry-run` touches nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i2i.cli.entry import run
from i2i.data import public_sets
from i2i.data.public_sets import Archive, PublicSet, lay_out

Scale = Literal[2, 3, 4]
Phase = Literal["train", "valid"]

ADDRESS = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
FOLDERS: dict[Phase, str] = {"train": "train", "valid": "val"}
COUNTS: dict[Phase, int] = {"train": 800, "valid": 100}

# TensorFlow Datasets verifies the same archives of HR and scale 2, Guild AI's example of SRGAN those of scale 4.
HR: dict[Phase, Archive] = {
    "train": Archive(
        name="DIV2K_train_HR.zip",
        url=f"{ADDRESS}/DIV2K_train_HR.zip",
        sha256="9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
        size_bytes=3_530_603_713,
        members={"DIV2K_train_HR/*": "train/HR"},
    ),
    "valid": Archive(
        name="DIV2K_valid_HR.zip",
        url=f"{ADDRESS}/DIV2K_valid_HR.zip",
        sha256="20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
        size_bytes=448_993_893,
        members={"DIV2K_valid_HR/*": "val/HR"},
    ),
}
LR_SHA256: dict[tuple[Phase, Scale], str] = {
    ("train", 2): "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850",
    ("valid", 2): "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57",
    ("train", 4): "f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a",
    ("valid", 4): "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553",
}


def low_resolution(phase: Phase, scale: Scale) -> Archive:
    name = f"DIV2K_{phase}_LR_bicubic_X{scale}.zip"
    return Archive(
        name=name,
        url=f"{ADDRESS}/{name}",
        sha256=LR_SHA256.get((phase, scale)),
        members={f"DIV2K_{phase}_LR_bicubic/X{scale}/*": f"{FOLDERS[phase]}/LRx{scale}"},
    )


def div2k(scales: tuple[Scale, ...]) -> PublicSet:
    """The set with LR of these scales."""
    archives = {phase: (HR[phase], *(low_resolution(phase, scale) for scale in scales)) for phase in FOLDERS}
    return PublicSet(
        name="div2k",
        about="photographs with a longer side of 2040 px (HR), and the same shrunk by bicubic interpolation (LR)",
        source="DIV2K (Agustsson and Timofte 2017), https://data.vision.ee.ethz.ch/cvl/DIV2K",
        terms="for academic research only; the photographs belong to whoever took them. Publications cite both papers "
        "named at the source",
        archives=(*archives["train"], *archives["valid"]),
        counts={
            folder: COUNTS[phase]
            for phase in FOLDERS
            for archive in archives[phase]
            for folder in archive.members.values()
        },
        recipe="superres_psnr.py",
    )


@dataclass(frozen=True, kw_only=True)
class Settings(public_sets.Settings):
    """What is fetched, where it comes from, and where it goes.

    Attributes:
        scales: of the LR images.
    """

    scales: tuple[Scale, ...] = (4,)


def main(settings: Settings) -> None:
    lay_out(div2k(settings.scales), settings)


if __name__ == "__main__":
    run(main, Settings(out=Path("datasets/div2k")), description=__doc__ or "")
