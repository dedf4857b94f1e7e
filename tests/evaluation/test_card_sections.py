"""What a model card says of an evaluation and of a profile."""

from typing import Any

import pytest

from i2i.errors import InputError
from i2i.evaluation.card_sections import (
    check_model,
    evaluation_section,
    hub_results,
    maker,
    performance_section,
    shown_place,
)
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.report import Evaluation, as_json
from i2i.inference.profile import Cost, Latency, Measurement, Profile


def an_evaluation(**details: Any) -> dict[str, Any]:
    """As `i2i evaluate` writes it."""
    figures = {
        "psnr": Figure(value=23.456789, low=22.0, high=24.5, images=8),
        "swd": Figure(value=float("inf"), images=8),
        "swd_0": Figure(value=3.0, images=None),
        "copies": Figure(value=0.25, low=0.1, high=0.5, images=8),
        "copies_dinov2": Figure(value=0.0, low=0.0, high=0.3, images=8),
    }
    findings = Findings(
        figures=figures,
        missing={"fid": "/root/secret is missing"},
        warnings=("few | images", "1 is a copy (1 from anna/IMG.png), by /home/anna/photos/test"),
        details=details,
    )
    sets = {
        "generated": {"place": "made by net (sha256 0123456789ab)", "half": None, "images": 8, "fingerprint": "f1"},
        "real": {"place": "/home/anna/photos/test", "half": "left", "images": 9, "fingerprint": "f2"},
    }
    return as_json(Evaluation(title="/home/anna/x", sets=sets, findings=findings, settings={}))


def test_figures_with_their_intervals() -> None:
    text = evaluation_section(an_evaluation()).text
    assert text.startswith("Measured by `i2i evaluate` on files as they are.")
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert rows["psnr"].startswith("| psnr | 23.46 | 22 … 24.5 | 8 | nearness to the truth")
    assert rows["swd"].startswith("| swd | infinite |  | 8 | sliced")
    assert rows["swd_0"].startswith("| swd_0 | 3 |  |  | ")
    assert "- generated: this model's own, 8 images, fingerprint `f1`" in text
    assert "not known" not in text
    assert "- real: test, 9 images, left halves, fingerprint `f2`" in text
    assert "not at hand: fid." in text
    assert "- few | images" in text
    assert "- 1 is a copy (1 from IMG.png), by test\n" in text + "\n"
    for private in ("anna", "secret"):
        assert private not in text


def test_whether_training_images_are_copied() -> None:
    assert "**Copies of training images:** not looked for" in evaluation_section(an_evaluation()).text
    found = an_evaluation(memorisation={"copies": [{}, {}]}, memorisation_dinov2={"copies": []})
    assert (
        "**Copies of training images:** 2 of 8 generated images copy one, by small pictures; none among 8 generated "
        "images, by features of dinov2."
    ) in evaluation_section(found).text


def test_groups() -> None:
    assert "**Groups:** not compared" in evaluation_section(an_evaluation()).text
    groups = {
        "by_group": {
            "day": {"images": 5, "figures": {"psnr": {"value": 30.0, "low": 29.0, "high": 31.0, "images": 5}}},
            "night": {"images": 3, "figures": {"psnr": {"value": 20.0, "low": None, "high": None, "images": 3}}},
        },
        "gaps": {"psnr": {"gap": 10.0, "lowest": "night", "highest": "day", "intervals_overlap": False}},
    }
    text = evaluation_section(an_evaluation(groups=groups)).text
    assert "**Groups:** they differ in psnr by more than chance." in text
    assert "| day | 5 | 30 (29 … 31) |\n| night | 3 | 20 |\n| largest gap |  | 10 |" in text


def test_figures_for_the_hub() -> None:
    (entry,) = hub_results(an_evaluation(), name="Streets", task="image-to-image")
    (result,) = entry["results"]
    assert entry["name"] == "Streets"
    assert result["dataset"]["name"] == "test"
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "psnr": 23.456789,
        "swd_0": 3.0,
        "copies": 0.25,
        "copies_dinov2": 0.0,
    }


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("made by x (sha256 0)", "this model's own"),
        ("/a/b/c", "c"),
        ("anna.meier/gen", "gen"),
        ("C:\\Users\\anna\\real", "real"),
    ],
)
def test_places(place: str, shown: str) -> None:
    assert shown_place(place) == shown


def test_other_things_are_refused() -> None:
    for content in ({}, {"sets": []}, {**an_evaluation(), "figures": {"psnr": {}}}):
        with pytest.raises(InputError, match=r"expected an evaluation\.json"):
            evaluation_section(content)
    check_model("a (sha256 0123456789ab)", model="b (sha256 0123456789ab)")
    for told in ("a folder of images", "0.5 · b (sha256 0123456789ab) + 0.5 · c (sha256 ffffffffffff)"):
        with pytest.raises(InputError, match="its figures are of"):
            check_model(told, model="b (sha256 0123456789ab)")
    with pytest.raises(InputError, match=r"of a \(sha256 0123456789ab\), and the card is of b \(sha256 ffffffffffff\)"):
        check_model("a (sha256 0123456789ab)", model="b (sha256 ffffffffffff)")


def test_who_made_the_images() -> None:
    evaluation = an_evaluation()
    assert maker(evaluation) == "net (sha256 0123456789ab)"
    evaluation["sets"]["generated"]["place"] = "~/gen"
    assert maker(evaluation) is None
    assert "**It is not known which model made these images:**" in evaluation_section(evaluation).text
    evaluation["sets"]["generated"]["made_by"] = "other"
    assert maker(evaluation) == "other"
    assert "not known" not in evaluation_section(evaluation).text


def test_performance() -> None:
    latency = Latency(p50_ms=12.345, p90_ms=123.4, p99_ms=1234.5, readings=500)
    measurement = Measurement(
        height=256,
        width=512,
        precision="bf16",
        batch=4,
        of="network",
        latency=latency,
        images_per_s=324.01,
        peak_memory_bytes=123_456_789,
        flop_per_s=1.5e12,
        share_of_product=0.375,
    )
    profile = Profile(
        model="a (sha256 0)",
        network="UNetGenerator",
        parameters=1234567,
        machine={
            "processor": "P",
            "cores": "8",
            "threads": "4",
            "accelerator": "none",
            "system": "Linux",
            "torch": "2",
        },
        memory="allocated",
        costs=(Cost(height=256, width=512, output=(3, 256, 512), multiply_adds=10**9, flop=2 * 10**9),),
        product_flop_per_s={"bf16": 4e12},
        measurements=(measurement,),
        missing=("a whole call",),
    )
    text = performance_section(profile).text
    assert "| 256 x 512 | bf16 | 4 | network alone | 12.3 | 123 | 1,234 | 500 | 324 | 123 | 1,500 | 38% |" in text
    assert "1,234,567 parameters" in text
    assert "2 GFLOP an image, which is 1 G multiply-adds" in text
    assert "P, 4 of 8 cores; torch 2, Linux" in text
    assert "Not measured: a whole call." in text
    assert "fewer than" not in text
