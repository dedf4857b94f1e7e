"""`i2i compare`: from two folders to a verdict. What the page does is seen in test_compare_in_browser.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from i2i.cli import compare as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import write_image


def compare(*arguments: str | Path) -> int:
    """Run `i2i compare` in this process; returns its exit code."""
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


@pytest.fixture
def study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    for folder in ("a", "b", "pairs"):
        for number in range(10):
            image = np.full((20, 40, 3), 20 * number + len(folder), np.uint8)
            write_image(tmp_path / folder / f"{number}.png", image)
    arguments = ["--inputs", tmp_path / "pairs", "--inputs-half", "left", "--a-half", "left", "--b-half", "right"]
    assert compare(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "study", *arguments) == 0
    assert "10 pairs of a (A) and b (B)" in capsys.readouterr().out
    return tmp_path / "study"


def save_results(study: Path, name: str, *, for_a: int) -> None:
    """Of a person who prefers A in so many pairs, by left and right in turns."""
    key = json.loads((study / "key.json").read_text())
    judgements = []
    for number, pair in enumerate(key["pairs"]):
        left, right = (pair["a"], pair["b"]) if number % 2 else (pair["b"], pair["a"])
        choice = "left" if (number % 2 == 1) == (number < for_a) else "right"
        judgements.append({"left": left, "right": right, "repeat": False, "choice": choice, "ms": 1500 + number})
    content = {"format": "i2i study results 1", "study": key["study"], "rater": name, "seed": 3, "complete": True}
    (study / f"results-{name}.json").write_text(json.dumps(content | {"judgements": judgements}))


def test_a_study_is_written_and_scored(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(entry.name for entry in study.iterdir()) == ["images", "index.html", "key.json"]
    save_results(study, "ann", for_a=10)
    save_results(study, "ben", for_a=9)
    assert compare("--score", study) == 0
    out = capsys.readouterr().out
    assert "These 2 people prefer a: 95%" in out and "Sign test over pairs: p = 0.0039" in out  # 9 of 9; 2 / 2 ** 9
    scores = json.loads((study / "scores.json").read_text())
    assert [rater["share"] for rater in scores["raters"]] == [1, 0.9]
    assert scores["preference"]["share"] == 0.95
    assert scores["notes"] == [f"{name} judged 10 of 11 ({study / f'results-{name}.json'})." for name in ("ann", "ben")]


def test_results_may_be_named_before_or_after_the_study(study: Path, tmp_path: Path) -> None:
    save_results(study, "ann", for_a=5)
    save_results(study, "ben", for_a=0)
    ann = study / "results-ann.json"
    for number, places in enumerate(([study, ann], [ann, study])):
        assert compare("--score", *places, "--out", tmp_path / f"{number}.json") == 0
        assert len(json.loads((tmp_path / f"{number}.json").read_text())["raters"]) == 1


def test_scores_go_into_a_folder_and_over_older_ones(study: Path, tmp_path: Path) -> None:
    save_results(study, "ann", for_a=5)
    (tmp_path / "scores").mkdir()
    for _ in range(2):
        assert compare("--score", study, "--out", tmp_path / "scores") == 0
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())["raters"][0]["share"] == 0.5


@pytest.mark.parametrize("file", ["study/results-ann.json", "study/key.json", "study/index.html", "a/1.png"])
def test_scores_overwrite_nothing_else(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    save_results(study, "ann", for_a=5)
    before = (tmp_path / file).read_bytes()
    assert compare("--score", study, "--out", tmp_path / file) == 2
    assert "is there already and holds no scores" in capsys.readouterr().err
    assert (tmp_path / file).read_bytes() == before


def test_a_single_pair_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "a" / "1.png", np.zeros((8, 8, 3), np.uint8))
    assert compare(tmp_path / "a", tmp_path / "a", "--out", tmp_path / "study") == 0
    assert "1 pair of a, A (A) and a, B (B)." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "expected two folders"),
        (["a", "b"], "expected two folders"),
        (["--score"], "expected one folder of a study"),
        (["--score", "study"], "holds no results-*.json"),
        (["--score", "a"], "holds no key.json"),
        (["--score", "study", "none.json"], "cannot be read"),
        (["a", "b", "--out", "study"], "is there already"),
    ],
)
def test_what_cannot_be_done_is_said(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(study.parent)
    assert compare(*arguments) == 2
    assert message in capsys.readouterr().err
