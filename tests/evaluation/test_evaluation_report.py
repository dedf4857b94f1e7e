"""What an evaluation writes: JSON that any parser reads, a table, a page; the same bytes each time."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2i.data.image_io import write_image
from i2i.evaluation import Figure, Findings, ImageSet
from i2i.evaluation.report import Evaluation, about_set, meaning_of, print_evaluation, sample_findings, write_evaluation

FINDINGS = Findings(
    figures={
        "psnr": Figure(value=math.inf, images=3),
        "ssim": Figure(value=0.123456789, low=0.1, high=0.2, images=3),
        "l1": Figure(value=math.nan, how="of brightness"),
        "frechet_odd_name": Figure(value=12.0),
    },
    missing={"fid": "no weights <here> | there", "kid": "no weights <here> | there", "lpips": "off"},
    hints=("put them at /home/anna",),
    warnings=("Only 3 images & no more", "group <b>_a_</b> of file_name_1 &amp; [x](y)"),
    pictures={"Worst pairs by ssim: a/b, c": {"generated": torch.zeros(2, 3, 8, 8), "real": torch.ones(2, 3, 8, 8)}},
    details={
        "groups": {
            "by_group": {
                "day": {
                    "images": 2,
                    "figures": {
                        "ssim": Figure(value=0.9, low=0.8, high=1.0, images=2, how="of brightness"),
                        "swd": Figure(value=4.0, low=3.0, high=5.0, images=2),
                    },
                },
                "night *": {"images": 1, "figures": {"ssim": Figure(value=0.5, images=1)}},
            },
            "gaps": {"ssim": {"gap": 0.4, "lowest": "night *", "highest": "day", "intervals_overlap": None}},
        },
        "pairs": {"images": {"a": {"psnr": math.inf}}, "path": Path("x")},
        "memorisation": {"copies": [{"generated": f"m{n}", "training": f"t{n}", "ratio": 0.1} for n in range(12)]},
    },
)
EVALUATION = Evaluation(
    title="<made> beside real",
    sets={"generated": {"place": "made", "half": "left", "images": 3, "fingerprint": "f"}, "real": {"place": "real"}},
    findings=FINDINGS,
    settings={"data_range": (0.0, 1.0), "real": Path("real")},
)


def test_json_is_strict_and_whole(tmp_path: Path) -> None:
    write_evaluation(tmp_path, EVALUATION)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert found["figures"]["psnr"] | {"meaning": ""} == {
        "value": None,
        "is": "infinite",
        "low": None,
        "high": None,
        "images": 3,
        "meaning": "",
    }
    assert found["figures"]["ssim"]["value"] == 0.123456789
    assert found["figures"]["l1"]["is"] == "undefined"
    assert found["missing"] == dict(FINDINGS.missing)
    assert found["warnings"] == list(FINDINGS.warnings)
    assert found["groups"]["gaps"]["ssim"]["lowest"] == "night *"
    of_group = found["groups"]["by_group"]["day"]["figures"]["ssim"]
    assert of_group.keys() == found["figures"]["ssim"].keys()
    assert of_group["meaning"] == f"{meaning_of('ssim')} (of brightness)"
    assert found["details"].pop("memorisation")["copies"][11]["training"] == "t11"
    assert found["details"] == {"pairs": {"images": {"a": {"psnr": None}}, "path": "x"}}
    assert found["settings"] == {"data_range": [0.0, 1.0], "real": "real"}
    assert found["sets"]["generated"]["fingerprint"] == "f"


def test_two_folders_hold_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_evaluation(tmp_path / folder, EVALUATION)
    files = [path.relative_to(tmp_path / "one") for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    names = ["evaluation.html", "evaluation.json", "evaluation.md", "pictures/worst-pairs-by-ssim.png"]
    assert sorted(map(str, files)) == names
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_table_has_a_row_a_figure(tmp_path: Path) -> None:
    write_evaluation(tmp_path, EVALUATION)
    text = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert "| ssim | 0.1235 | 0.1 … 0.2 | 3 | likeness to the truth in structure; 1 is equal |" in text
    assert re.search(r"\| psnr \| infinite \|  \| 3 \| nearness", text)
    assert "- fid, kid: no weights \\<here> \\| there\n- lpips: off" in text
    assert "- group \\<b>\\_a\\_\\</b> of file_name_1 \\&amp; \\[x\\](y)" in text
    groups = [line.split(" | ") for line in text.partition("## Groups")[2].splitlines() if line.startswith("|")]
    assert [[cell.strip("| ") for cell in row] for row in groups[2:]] == [
        ["ssim", "day", "0.9", "0.8 … 1", "2"],
        ["", "night \\*", "0.5", "needs several", "1"],
        ["", "largest gap", "0.4", "", ""],
        ["swd (see below)", "day", "4", "3 … 5", "2"],
        ["", "night \\*", "-", "", ""],
    ]
    assert "swd is over 2 generated and as many real images of each group" in text
    assert "- m0 from t0, m1 from t1" in text and "m9 from t9, and 2 more, which evaluation.json lists" in text
    assert "whole range; lower is better (of brightness)" in text
    assert "generated: made (left halves), 3 images" in text
    for link in re.findall(r"\]\((.+?\.png)\)", text):
        assert Image.open(tmp_path / link).size == (2 * 12 + 2 * 4, 2 * 12 + 4)


class Tags(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.images.append(values["src"] or "")
        self.links += [values[name] or "" for name in ("href",) if name in values]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_needs_no_other_file_and_escapes_names(tmp_path: Path) -> None:
    write_evaluation(tmp_path, EVALUATION)
    page = Tags()
    page.feed((tmp_path / "evaluation.html").read_text(encoding="utf-8"))
    assert page.images and all(source.startswith("data:image/webp;base64,") for source in page.images)
    assert not page.links
    words = " ".join(page.words).replace("\u00a0", " ")
    for said in (
        "<made> beside real",
        "Only 3 images & no more",
        "fid, kid: no weights <here> | there",
        "Worst pairs by ssim: a/b, c",
        "From left to right: generated, real.",
        "0.1 … 0.2",
        "largest gap",
    ):
        assert said in words


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(EVALUATION)
    printed = capsys.readouterr().out
    for said in (
        "ssim",
        "0.1235",
        "0.1 … 0.2",
        "infinite",
        "not measured: lpips: off",
        "note: Only 3 images & no more",
    ):
        assert said in printed


def test_paths_of_this_machine_are_printed_and_in_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(EVALUATION)
    assert "on this machine: put them at /home/anna" in capsys.readouterr().out
    write_evaluation(tmp_path, EVALUATION)
    for file in ("evaluation.json", "evaluation.md", "evaluation.html"):
        assert "/home/anna" not in (tmp_path / file).read_text(encoding="utf-8")


def test_each_row_says_what_it_means_and_why_it_has_no_interval(tmp_path: Path) -> None:
    names = ("swd", "swd_0", "swd_1", "swd_3", "copies", "copies_pixels", "nearest_ratio")
    findings = Findings(figures={name: Figure(value=-3.032e-14, images=7) for name in names}, details={"frames": {}})
    write_evaluation(tmp_path, Evaluation(title="a", sets={}, findings=findings, settings={}))
    lines = (tmp_path / "evaluation.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert [row[:4] for row in rows] == [[name, "0", "needs several videos", "7"] for name in names]
    assert all(row[4] for row in rows)
    assert rows[3][4] == "its part of details of 8 times that size" != rows[2][4] != rows[0][4]


def test_figures_of_networks_mean_what_their_kind_does() -> None:
    assert meaning_of("frechet_odd_name") == meaning_of("frechet") != ""
    assert meaning_of("nothing_of_the_kind") == ""


def test_samples_stand_beside_their_partners_and_inputs(tmp_path: Path) -> None:
    for number in range(30):
        for place, folder in enumerate(("inputs", "made", "real")):
            write_image(tmp_path / folder / f"{number:02d}.png", np.full((9, 12, 3), 8 * number + place, np.uint8))
    inputs, made, real = (ImageSet.find(tmp_path / folder) for folder in ("inputs", "made", "real"))
    (columns,) = sample_findings(made, real, inputs=inputs, paired=True).pictures.values()
    assert list(columns) == ["input", "generated", "real"]
    levels = [((images[:, 0, 0, 0] + 1) * 127.5).round() for images in columns.values()]
    assert (levels[1] - levels[0] == 1).all() and (levels[2] - levels[0] == 2).all() and len(levels[0]) == 12
    apart = sample_findings(made, real, paired=False).pictures
    assert [list(columns) for columns in apart.values()] == [["generated"], ["real"]]
    assert about_set(made, place="there") == {
        "place": "there",
        "half": None,
        "images": 30,
        "fingerprint": made.fingerprint,
    }
