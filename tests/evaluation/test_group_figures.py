"""Figures of groups against the same figures of their images alone."""

from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.evaluation import Describing, Findings, ImageSet
from i2i.evaluation.groups import group_findings, read_groups
from i2i.evaluation.pairs import PairMeter, PairSettings
from i2i.evaluation.sets import SetSettings, set_findings, wasserstein_of_some

NOISE = {"day": 4, "night": 20}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


def sets(tmp_path: Path, *, count: int = 12) -> tuple[ImageSet, ImageSet, dict[str, list[float]]]:
    """Images of two groups, of which one comes out noisier; each pair's PSNR."""
    random = np.random.default_rng(0)
    psnr: dict[str, list[float]] = {group: [] for group in NOISE}
    for number in range(count):
        group = "day" if number % 3 else "night"
        real = random.integers(60, 190, (16, 16, 3))
        made = real + random.normal(0, NOISE[group] * (1 + number / 50), real.shape)
        pair = [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (made, real)]
        for folder, image in zip(("made", "real"), pair, strict=True):
            write_image(tmp_path / folder / "sub" / f"{number:02d}.png", image)
        psnr[group].append(peak_signal_noise_ratio(pair[1], pair[0]))
    return ImageSet.find(tmp_path / "made"), ImageSet.find(tmp_path / "real"), psnr


def table(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def found(made: ImageSet, real: ImageSet, groups: dict[str, str], *, paired: bool = True) -> Findings:
    return group_findings(
        made,
        real,
        groups=groups,
        meter=PairMeter(PairSettings(lpips="off")) if paired else None,
        describing=Describing(),
    )


def test_each_groups_mean_and_the_gap(tmp_path: Path) -> None:
    made, real, psnr = sets(tmp_path)
    lines = ["image,group", *(f"sub/{n:02d}.jpg,{'day' if n % 3 else 'night'}" for n in range(12))]
    findings = found(made, real, read_groups(table(tmp_path / "groups.csv", lines)))
    groups = findings.details["groups"]
    assert list(groups["by_group"]) == ["day", "night"]
    for group, values in psnr.items():
        about = groups["by_group"][group]
        figure = about["figures"]["psnr"]
        assert about["images"] == figure.images == len(values)
        assert figure.value == pytest.approx(np.mean(values), rel=1e-5)
        assert min(values) <= figure.low + 1e-4 and figure.high <= max(values) + 1e-4
    gap = groups["gaps"]["psnr"]
    assert gap["gap"] == pytest.approx(np.mean(psnr["day"]) - np.mean(psnr["night"]), rel=1e-5)
    assert (gap["lowest"], gap["highest"], gap["intervals_overlap"]) == ("night", "day", False)
    assert groups["images_not_found"] == groups["images_without_group"] == 0
    words = " ".join(findings.warnings)
    assert "groups differ in psnr" in words and "do not overlap" in words
    assert "fewer than 10 images say little: day (8), night (4)" in words


def test_groups_that_are_alike_are_not_said_to_differ(tmp_path: Path) -> None:
    made, real, _ = sets(tmp_path, count=24)
    groups = {f"sub/{number:02d}": ("even", "odd")[number % 2] for number in range(24)}
    findings = found(made, real, groups)
    assert findings.details["groups"]["gaps"]["psnr"]["intervals_overlap"] is True
    assert "groups differ in psnr" not in " ".join(findings.warnings)


def test_groups_without_pairs_are_compared_as_sets_of_one_size(tmp_path: Path) -> None:
    """Noise is further from the real images; both groups are measured on as many of them."""
    made, _, _ = sets(tmp_path)
    random = np.random.default_rng(1)
    for number in range(12):
        write_image(tmp_path / "others" / f"r{number}.png", random.integers(60, 190, (16, 16, 3)).astype(np.uint8))
    groups = {f"sub/{number:02d}": "day" if number % 3 else "night" for number in range(12)}
    groups |= {f"r{number}": ("day", "night")[number % 2] for number in range(12)}
    findings = found(made, ImageSet.find(tmp_path / "others"), groups, paired=False)
    by_group = findings.details["groups"]["by_group"]
    assert [about["figures"]["swd"].images for about in by_group.values()] == [4, 4]
    assert by_group["night"]["figures"]["swd"].value > by_group["day"]["figures"]["swd"].value
    assert set(by_group["day"]["figures"]) == {"swd"}


def test_images_are_described_once_for_all_groups(tmp_path: Path) -> None:
    """And what is known of the whole set gives each group the figure that its images alone have."""
    made, real, _ = sets(tmp_path)
    passes: list[str] = []
    describing = Describing(progress=lambda what, done, total: passes.append(what) if done == total else None)
    groups = {f"sub/{number:02d}": f"group {number % 4}" for number in range(12)}
    by_group = group_findings(made, real, groups=groups, meter=None, describing=describing).details["groups"][
        "by_group"
    ]
    assert sorted(passes) == ["generated images", "real images"]
    whole = wasserstein_of_some(made, real, indices=(range(12), range(12)), describing=Describing())
    expected = set_findings(made, real, settings=SetSettings(features=()), describing=Describing()).figures["swd"]
    assert whole == expected
    distances = [about["figures"]["swd"].value for about in by_group.values()]
    assert len(set(distances)) == 4
    alone = wasserstein_of_some(
        *(images.subset([0, 4, 8]) for images in (made, real)), indices=(range(3), range(3)), describing=Describing()
    )
    assert alone is not None
    assert distances[0] == pytest.approx(alone.value, rel=0.2)  # patches lie elsewhere, by the images' places


def test_strangers_are_counted_and_named(tmp_path: Path) -> None:
    made, real, _ = sets(tmp_path)
    groups = {f"{number:02d}": "all" for number in range(10)} | {"99": "all", "nobody": "none"}
    findings = found(made, real, groups)
    about = findings.details["groups"]
    assert (about["images_not_found"], about["images_without_group"]) == (2, 2)
    words = " ".join(findings.warnings)
    assert "2 generated images have no group: sub/10, sub/11" in words
    assert "2 images with a group are not there: 99, nobody" in words
    with pytest.raises(InputError, match=r"none of the 1 images with a group \(such as x\) .*\(such as sub/00\)"):
        found(made, real, {"x": "all"})


def test_tables_in_many_forms(tmp_path: Path) -> None:
    expected = {"a": "x", "sub/b.c": "y"}
    for lines in (
        ["a.png,x", "sub/b.c.png,y"],
        ["image,group", "a,x", "", "sub/b.c.JPG, y"],
        ["age,Image,Group", "3,a.png,x", r"4,sub\b.c.tif,y"],
        ["file,kind", '"a.png",x', "./sub/b.c.png,y"],
        ["image;group", "a;x", "sub/b.c.png;y"],
        ["a.png\tx", "sub/b.c.png\ty"],
        ["", "age;image;group", "3,5;a;x", '4;"sub/b.c.png";y'],
        ['"a";x', "sub/b.c;y"],
    ):
        assert read_groups(table(tmp_path / "groups.csv", lines)) == expected
    lines = ["image,age,sex", "a,30,x", "sub/b.c.png,40,y"]
    assert read_groups(table(tmp_path / "groups.csv", lines), column="sex") == expected
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfimage,group\r\na,x\r\nsub/b.c.png,y\r\n")
    assert read_groups(tmp_path / "bom.csv") == expected
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbfimage;group\r\na;x\r\nsub/b.c.png;y\r\n")
    assert read_groups(tmp_path / "excel.csv") == expected
    (tmp_path / "mac.csv").write_bytes(b"image;group\ra;x\rsub/b.c.png;y\r")
    assert read_groups(tmp_path / "mac.csv") == expected
    lines = ["image,group", '"a;b;c.png","red, or blue"']
    assert read_groups(table(tmp_path / "groups.csv", lines)) == {"a;b;c": "red, or blue"}
    assert read_groups(table(tmp_path / "groups.csv", ["Smith, J.png\tx"])) == {"Smith, J": "x"}


@pytest.mark.parametrize(
    ("lines", "column", "message"),
    [
        (["image,group", "a"], None, "line 2: expected an image and its group, got 'a'"),
        (["a,x", "a.png,y"], None, "line 2: a is in the group x already"),
        (["image,age,sex", "a,3,x"], None, "has no column group, only image, age, sex; say with --group-column"),
        (["image,age,sex", "a,3,x"], "colour", "has no column colour"),
        (["a,x"], "sex", "--group-column sex needs a first line"),
        (["image,group"], None, "holds no images"),
        ([""], None, "holds no images"),
    ],
)
def test_tables_that_cannot_be_used(lines: list[str], column: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_groups(table(tmp_path / "groups.csv", lines), column=column)
    with pytest.raises(InputError, match="cannot be read"):
        read_groups(tmp_path / "none.csv")
