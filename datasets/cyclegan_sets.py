"""The other unpaired sets that CycleGAN was published with, by name; without one, they are listed.

python datasets/cyclegan_sets.py monet2photo

Each goes into datasets/NAME: trainA/, trainB/, testA/ and testB/. They are so much alike that they share this script;
horse2zebra has its own, and so have facades and maps as pairs for pix2pix. `--dry-run` touches nothing.
"""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import DisallowNone, Positional

from i2i.cli.entry import run
from i2i.data import public_sets
from i2i.data.public_sets import Archive, PublicSet

Name = Literal[
    "apple2orange",
    "summer2winter_yosemite",
    "monet2photo",
    "cezanne2photo",
    "ukiyoe2photo",
    "vangogh2photo",
    "iphone2dslr_flower",
    "maps_unpaired",
    "facades_unpaired",
    "cityscapes_unpaired",
]

CYCLEGAN = "CycleGAN (Zhu et al. 2017), https://junyanz.github.io/CycleGAN"
ADDRESS = "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets"
MEMBERS = {"trainA/*": "trainA", "trainB/*": "trainB", "testA/*": "testA", "testB/*": "testB"}


def _archive(name: str, *, sha256: str, size_bytes: int) -> Archive:
    # The sha256 are those by which TensorFlow Datasets verifies these archives.
    return Archive(name=name, url=f"{ADDRESS}/{name}", sha256=sha256, size_bytes=size_bytes, members=MEMBERS)


def _counts(train_a: int, train_b: int, test_a: int, test_b: int) -> dict[str, int]:
    return {"trainA": train_a, "trainB": train_b, "testA": test_a, "testB": test_b}


def _paintings(name: str, about: str, *, archive: Archive, counts: dict[str, int]) -> PublicSet:
    return PublicSet(
        name=name,
        about=f"{about} (A) and photographs of landscapes (B), 256 x 256 px",
        source=f"WikiArt, https://www.wikiart.org, and Flickr, gathered for {CYCLEGAN}",
        terms="no licence is stated where it is published; the photographs belong to whoever took them",
        archives=(archive,),
        counts=counts,
        recipe="cyclegan.py",
    )


SETS: dict[Name, PublicSet] = {
    "apple2orange": PublicSet(
        name="apple2orange",
        about="photographs of apples (A) and of navel oranges (B), 256 x 256 px",
        source=f"ImageNet (Deng et al. 2009), https://www.image-net.org, as gathered for {CYCLEGAN}",
        terms="ImageNet is for non-commercial research and education; the photographs belong to whoever took them",
        archives=(
            _archive(
                "apple2orange.zip",
                sha256="845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8",
                size_bytes=78_456_409,
            ),
        ),
        counts=_counts(995, 1019, 266, 248),
        recipe="cyclegan.py",
    ),
    "summer2winter_yosemite": PublicSet(
        name="summer2winter_yosemite",
        about="photographs of Yosemite in summer (A) and in winter (B), 256 x 256 px",
        source=f"Flickr, gathered for {CYCLEGAN}",
        terms="no licence is stated where it is published; the photographs belong to whoever took them",
        archives=(
            _archive(
                "summer2winter_yosemite.zip",
                sha256="167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9",
                size_bytes=132_640_856,
            ),
        ),
        counts=_counts(1231, 962, 309, 238),
        recipe="cyclegan.py",
    ),
    "monet2photo": _paintings(
        "monet2photo",
        "paintings by Monet",
        archive=_archive(
            "monet2photo.zip",
            sha256="88f91b00fc228f97c9411fbf1880ec1d119c98f1722e4cfcfaa2fb35fac05b04",
            size_bytes=305_231_073,
        ),
        counts=_counts(1072, 6287, 121, 751),
    ),
    "cezanne2photo": _paintings(
        "cezanne2photo",
        "paintings by Cézanne",
        archive=_archive(
            "cezanne2photo.zip",
            sha256="3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff",
            size_bytes=279_885_071,
        ),
        counts=_counts(525, 6287, 58, 751),
    ),
    "ukiyoe2photo": _paintings(
        "ukiyoe2photo",
        "ukiyo-e prints",
        archive=_archive(
            "ukiyoe2photo.zip",
            sha256="02a2a2fb5ecf425ca1bf86aca7304377da64a2a1d3b86df54eb65e4068bf3b08",
            size_bytes=292_946_532,
        ),
        counts=_counts(562, 6287, 263, 751),
    ),
    "vangogh2photo": _paintings(
        "vangogh2photo",
        "paintings by Van Gogh",
        archive=_archive(
            "vangogh2photo.zip",
            sha256="362c3473e70be0944bda08d49d660eafdc2854df55d697835b8186d1d79caaff",
            size_bytes=306_590_349,
        ),
        counts=_counts(400, 6287, 400, 751),
    ),
    "iphone2dslr_flower": PublicSet(
        name="iphone2dslr_flower",
        about="flowers photographed by telephones (A) and with a shallow depth of field (B)",
        source=f"Flickr, gathered for {CYCLEGAN}",
        terms="no licence is stated where it is published; the photographs belong to whoever took them",
        archives=(
            _archive(
                "iphone2dslr_flower.zip",
                sha256="8fcb5e374d631b107e1d961b8c4cd0a186aa2a4ff3e279923f4c426128de7113",
                size_bytes=339_964_458,
            ),
        ),
        counts=_counts(1812, 3325, 569, 480),
        recipe="cyclegan.py",
    ),
    "maps_unpaired": PublicSet(
        name="maps_unpaired",
        about="aerial photographs (A) and maps (B), 600 x 600 px; 1.5 GB",
        source=f"Google Maps, gathered for pix2pix (Isola et al. 2017) and {CYCLEGAN}",
        terms="no licence is stated where it is published; the pictures are Google's and its suppliers', under the "
        "terms of Google Maps",
        archives=(
            _archive(
                "maps.zip",
                sha256="639534f69dbf9f36bef8d6292a7698006361221f83f0285d7c9ca78afe6e8a9e",
                size_bytes=1_476_754_427,
            ),
        ),
        counts=_counts(1096, 1096, 1098, 1098),
        recipe="cyclegan.py",
    ),
    "facades_unpaired": PublicSet(
        name="facades_unpaired",
        about="photographs of facades (A) and colours of their parts (B), 256 x 256 px",
        source="CMP Facade Database (Tyleček and Šára 2013), https://cmp.felk.cvut.cz/~tylecr1/facade, as prepared for "
        f"{CYCLEGAN}",
        terms="made for research; no licence is stated where it is published. Publications cite Tyleček and Šára",
        archives=(
            _archive(
                "facades.zip",
                sha256="9a31ebf3a31b9b5cd195dd5bf62e9308e00cb94604d1019e3889ac84248695c0",
                size_bytes=35_135_868,
            ),
        ),
        counts=_counts(400, 400, 106, 106),
        recipe="cyclegan.py",
    ),
    "cityscapes_unpaired": PublicSet(
        name="cityscapes_unpaired",
        about="photographs of streets (A) and class colours (B)",
        source=f"Cityscapes (Cordts et al. 2016), https://www.cityscapes-dataset.com, as prepared for {CYCLEGAN}",
        terms="Cityscapes is for non-commercial use by people who register, and may not be handed on",
        archives=(Archive(name="cityscapes.zip", members=MEMBERS),),
        counts=_counts(2975, 2975, 500, 500),
        recipe="cyclegan.py",
        by_hand="It was withdrawn, for Cityscapes' licence does not allow handing it on. If you have that archive from "
        "before, give it with --archive; otherwise register at https://www.cityscapes-dataset.com.",
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
