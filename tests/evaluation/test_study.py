"""Blind studies: what is written tells nothing, and what comes back is checked and summed up."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i.data.image_io import read_image, write_image
from i2i.errors import InputError
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.study import Study, write_study
from i2i.evaluation.study_scores import Rater, read_results, score

QUESTION = "Which </script> is <b>better</b>?"


def images(folder: Path, *, count: int = 6, suffix: str = ".png", dtype: str = "uint8", side: int = 16) -> ImageSet:
    random = np.random.default_rng(len(folder.name))
    for number in range(count):
        values = random.integers(0, np.iinfo(dtype).max, (side, side, 3), endpoint=True).astype(dtype)
        write_image(folder / f"{number}{suffix}", values)
    return ImageSet.find(folder)


def results(
    study: Study, folder: Path, *, name: str = "ann", seed: int = 1, prefers: Callable[[int], str] = lambda number: "a"
) -> Path:
    """The file of a person who has A on the left in every second pair, and answers a, b, tie, left or right."""
    judgements = []
    for number, pair in enumerate(study.pairs):
        left, right = (pair.a, pair.b) if number % 2 else (pair.b, pair.a)
        wanted = prefers(number)
        if wanted in ("a", "b"):
            wanted = "left" if (left == pair.a) == (wanted == "a") else "right"
        judgements.append({"left": left, "right": right, "repeat": False, "choice": wanted, "ms": 2000})
    file = folder / f"results-{name}-{seed}.json"
    content = {"format": "i2i study results 1", "study": study.id, "rater": name, "seed": seed, "complete": True}
    file.write_text(json.dumps(content | {"judgements": judgements}))
    return file


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "s", images(tmp_path / "a"), images(tmp_path / "bb"), question=QUESTION, repeats=0)[0]


def judged(study: Study, *files: Path) -> tuple[Rater, ...]:
    return read_results(study, files)[0]


def test_files_tell_nothing_but_the_pixels(tmp_path: Path) -> None:
    """A is 16-bit TIFF, B is 8-bit JPEG with EXIF and a profile of colours; both come out alike."""
    a = images(tmp_path / "a", suffix=".tif", dtype="uint16")
    (tmp_path / "b").mkdir()
    for number in range(6):
        exif = Image.Exif()
        exif[0x0131] = "made by B"
        picture = Image.fromarray(np.full((16, 16, 3), 40 * number, np.uint8))
        picture.save(tmp_path / "b" / f"{number}.jpg", exif=exif, comment=b"made by B")
    study, notes = write_study(tmp_path / "s", a, ImageSet.find(tmp_path / "b"), question=QUESTION)
    assert not notes
    files = sorted((tmp_path / "s" / "images").iterdir())
    assert [file.stem for file in files] == sorted(token for pair in study.pairs for token in (pair.a, pair.b))
    for file in files:
        assert re.fullmatch(r"[0-9a-f]{16}\.png", file.name)
        content = file.read_bytes()
        chunks = [kind for kind in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"iCCP", b"tIME", b"pHYs") if kind in content]
        assert not chunks and content[24] == 8 and content[25] == 2  # 8-bit RGB
    for number, pair in enumerate(study.pairs):
        original = read_image(tmp_path / "a" / f"{number}.tif")
        assert np.array_equal(read_image(tmp_path / "s" / "images" / f"{pair.a}.png"), np.round(original / 257))
        assert np.array_equal(
            read_image(tmp_path / "s" / "images" / f"{pair.b}.png"), read_image(tmp_path / "b" / f"{number}.jpg")
        )


def test_the_page_holds_no_key_and_cannot_be_left_by_the_question(study: Study, tmp_path: Path) -> None:
    page = (tmp_path / "s" / "index.html").read_text()
    data = json.loads(re.search(r'id="study">(.*?)</script>', page, re.DOTALL)[1])
    assert data["question"] == QUESTION
    assert {frozenset(pair["images"]) for pair in data["pairs"]} == {frozenset((p.a, p.b)) for p in study.pairs}
    assert "key.json" not in page and '"bb"' not in page and "@" not in re.sub(r"@media", "", page)


def test_neither_place_in_the_page_nor_time_of_the_file_tells_whose_an_image_is(tmp_path: Path) -> None:
    """Over 60 pairs each of them falls to A as often as a coin does (within 4 deviations)."""
    a, b = images(tmp_path / "a", count=60), images(tmp_path / "bb", count=60)
    study, _ = write_study(tmp_path / "s", a, b, question=QUESTION)
    page = (tmp_path / "s" / "index.html").read_text()
    data = json.loads(re.search(r'id="study">(.*?)</script>', page, re.DOTALL)[1])
    of_a = {pair.a for pair in study.pairs}
    assert 15 < sum(pair["images"][0] in of_a for pair in data["pairs"]) < 45
    stamped = {
        token: (tmp_path / "s" / "images" / f"{token}.png").stat().st_mtime_ns
        for p in study.pairs
        for token in (p.a, p.b)
    }
    assert 15 < sum(stamped[pair.a] < stamped[pair.b] for pair in study.pairs) < 45
    assert [pair["images"] for pair in data["pairs"]] == sorted(pair["images"] for pair in data["pairs"])
    again, _ = write_study(tmp_path / "s2", a, b, question=QUESTION)
    assert not of_a & {pair.a for pair in again.pairs}  # the same command, other names


def test_pairs_are_chosen_by_the_seed_and_matched_with_references(tmp_path: Path) -> None:
    a, b, inputs = images(tmp_path / "a"), images(tmp_path / "bb", count=5), images(tmp_path / "ccc", suffix=".npy")
    chosen = []
    for number, seed in enumerate((1, 1, 2)):
        study, notes = write_study(
            tmp_path / f"s{number}", a, b, question=QUESTION, references={"Input": inputs}, count=3, seed=seed
        )
        assert notes == ("Only images that all have are used, 5; there are A 6, B 5, Input 6.",)
        chosen.append([pair.name for pair in study.pairs])
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(len(set(names)) == 3 and set(names) <= set(b.names) for names in chosen)
    assert len(list((tmp_path / "s0" / "images").iterdir())) == 9


def test_the_key_is_read_back(study: Study, tmp_path: Path) -> None:
    assert Study.read(tmp_path / "s") == study
    assert (study.a, study.b) == ("a", "bb")


def test_systems_are_called_by_what_tells_their_folders_apart(tmp_path: Path) -> None:
    a, b = images(tmp_path / "first" / "out"), images(tmp_path / "second" / "out")
    study, notes = write_study(tmp_path / "s", a, b, question=QUESTION)
    assert (study.a, study.b) == ("first/out", "second/out")
    assert "Pairs of two times the same image" in notes[0] and "6 of 6" in notes[0]


def test_one_folder_given_twice_is_called_by_its_name_alone(tmp_path: Path) -> None:
    a = images(tmp_path / "a")
    assert write_study(tmp_path / "s", a, a, question=QUESTION)[0].a == "a, A"
    left, right = (ImageSet.find(tmp_path / "a", half=half) for half in ("left", "right"))
    named = [write_study(tmp_path / f"s{n}", left, b, question=QUESTION)[0] for n, b in enumerate((right, left))]
    assert [(study.a, study.b) for study in named] == [("a, left", "a, right"), ("a, A", "a, B")]


def test_two_sizes_are_told_and_two_shapes_refused(tmp_path: Path) -> None:
    a = images(tmp_path / "a")
    _, notes = write_study(tmp_path / "s", a, images(tmp_path / "bb", side=32), question=QUESTION)
    assert "Pairs with images of two sizes: 6 of 6." in notes[0]
    write_image(tmp_path / "bb" / "3.png", np.zeros((16, 32, 3), np.uint8))
    with pytest.raises(InputError, match=r"3 is 16 x 16 px in .* and 32 x 16 px in"):
        write_study(tmp_path / "t", a, ImageSet.find(tmp_path / "bb"), question=QUESTION)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "bb", "s"]  # nothing half-written


def test_a_folder_with_something_in_it_and_other_names_are_refused(tmp_path: Path) -> None:
    a, b = images(tmp_path / "a"), images(tmp_path / "bb")
    with pytest.raises(InputError, match="is there already"):
        write_study(tmp_path / "bb", a, b, question=QUESTION)
    write_image(tmp_path / "ccc" / "other.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(InputError, match="no images of equal names"):
        write_study(tmp_path / "s", a, ImageSet.find(tmp_path / "ccc"), question=QUESTION)
    with pytest.raises(InputError, match="repeats: expected 0 to 3"):
        write_study(tmp_path / "s", a, b, question=QUESTION, repeats=4)


def test_choices_are_counted_for_whom_they_were_meant(study: Study, tmp_path: Path) -> None:
    answers = ["a", "a", "tie", "b", "a", "a"]
    scores = score(study, judged(study, results(study, tmp_path, prefers=lambda number: answers[number])))
    assert scores.preference.share == pytest.approx(4.5 / 6)
    (person,) = scores.raters
    assert (person.judgements, person.share, person.ties) == (6, pytest.approx(4.5 / 6), pytest.approx(1 / 6))
    assert scores.verdict.startswith("No difference can be told: a was chosen 75%")


def test_a_planted_preference_of_several_people_is_found(tmp_path: Path) -> None:
    study, _ = write_study(
        tmp_path / "s", images(tmp_path / "a", count=30), images(tmp_path / "bb", count=30), question=QUESTION
    )
    random = np.random.default_rng(0)
    for_b = random.permutation(180) < 144  # 80 % of all, some people's more and some pairs' more
    files = [
        results(
            study, tmp_path, name=f"p{person}", prefers=lambda pair, of=for_b[30 * person :]: "b" if of[pair] else "a"
        )
        for person in range(6)
    ]
    scores = score(study, judged(study, *files))
    assert scores.preference.over == "pairs and people" and scores.sign_test < 0.001
    assert re.match(r"bb is preferred: 80% \((6[5-9]|7\d)% to (8[2-9]|9[0-2])%\)", scores.verdict)
    assert not scores.warnings


@pytest.mark.parametrize(
    ("people", "verdict"),
    [(1, "This person prefers a: 100%"), (2, "These 2 people prefer a: 100%"), (6, "a is preferred: 100% (6")],
)
def test_few_people_speak_for_themselves_only(study: Study, tmp_path: Path, people: int, verdict: str) -> None:
    files = [results(study, tmp_path, name=f"p{number}") for number in range(people)]
    scores = score(study, judged(study, *files))
    assert scores.verdict.startswith(verdict) and scores.as_json()["verdict"] == scores.verdict


@pytest.mark.parametrize(
    ("people", "for_a", "advice"),
    [
        (1, lambda person, pair: pair < 8, r"About \d+ more pairs would settle a difference of this size\."),
        (
            7,
            lambda person, pair: pair < 8,
            r"About \d+ more pairs would .* size; more people for the same pairs would not\.",
        ),
        (9, lambda person, pair: person < 6, r"About \d+ more people would .* size; more pairs would not\."),
        (8, lambda person, pair: person < 4, r"either was chosen equally often, 50% \(\d+% to \d+%\)\."),
    ],
)
def test_where_nothing_can_be_told_what_would_tell_is_said(
    people: int, for_a: Callable[[int, int], bool], advice: str, tmp_path: Path
) -> None:
    """Of people who agree on every pair, and of people who each prefer one system in all pairs."""
    study, _ = write_study(
        tmp_path / "s", images(tmp_path / "a", count=12), images(tmp_path / "bb", count=12), question=QUESTION
    )
    files = [
        results(study, tmp_path, name=f"p{person}", prefers=lambda pair, of=person: "a" if for_a(of, pair) else "b")
        for person in range(people)
    ]
    verdict = score(study, judged(study, *files)).verdict
    assert verdict.startswith("No difference can be told: ") and re.search(advice, verdict), verdict


def test_two_people_who_find_both_equal_prefer_neither(tmp_path: Path) -> None:
    a, b = images(tmp_path / "a", count=400, side=3), images(tmp_path / "bb", count=400, side=3)
    study, _ = write_study(tmp_path / "s", a, b, question=QUESTION, repeats=0)
    files = [results(study, tmp_path, name=name, prefers=lambda _: "tie") for name in ("ann", "ben")]
    assert score(study, judged(study, *files)).verdict.startswith("These 2 people prefer neither: ")


def test_answers_before_one_can_look_are_warned_of(tmp_path: Path) -> None:
    study, _ = write_study(
        tmp_path / "s",
        images(tmp_path / "a", count=20),
        images(tmp_path / "bb", count=20),
        question=QUESTION,
        repeats=0,
    )
    file = results(study, tmp_path)
    content = json.loads(file.read_text())
    for hasty, warned in ((1, False), (2, True)):
        content["judgements"][hasty]["ms"] = 120
        file.write_text(json.dumps(content))
        scores = score(study, judged(study, file))
        assert scores.raters[0].unseen == hasty / 20
        assert any(f"ann gave {hasty / 20:.0%} of the answers within 0.3 s" in one for one in scores.warnings) == warned


def test_a_person_who_always_says_left_is_warned_of(tmp_path: Path) -> None:
    study, _ = write_study(
        tmp_path / "s", images(tmp_path / "a", count=20), images(tmp_path / "bb", count=20), question=QUESTION
    )
    scores = score(study, judged(study, results(study, tmp_path, prefers=lambda _: "left")))
    assert scores.preference.share == 0.5 and "equally often" in scores.verdict
    assert any("The left image was chosen in 100%" in warning for warning in scores.warnings)


def test_repeats_say_how_consistent_a_person_is_and_count_for_nothing_else(study: Study, tmp_path: Path) -> None:
    file = results(study, tmp_path)
    content = json.loads(file.read_text())
    for number, entry in enumerate(content["judgements"][:4]):
        side = {"left": "right", "right": "left"}[entry["choice"]] if number else entry["choice"]
        again = {"left": entry["right"], "right": entry["left"], "repeat": True, "choice": side, "ms": 100}
        content["judgements"].append(again)
    file.write_text(json.dumps(content))
    scores = score(study, judged(study, file))
    assert scores.preference.judgements == 6 and scores.preference.share == 1
    assert (scores.raters[0].consistent, scores.raters[0].repeats) == (3, 4)


def test_of_one_sitting_saved_twice_the_longer_file_counts(study: Study, tmp_path: Path) -> None:
    whole = results(study, tmp_path)
    half = tmp_path / "half.json"
    content = json.loads(whole.read_text())
    half.write_text(json.dumps(content | {"judgements": content["judgements"][:2]}))
    for files in ([whole, half], [half, whole]):
        raters, notes = read_results(study, files)
        assert Counter(rater.name for rater in raters) == {"ann": 1} and len(raters[0].judgements) == 6
        assert len(notes) == 1 and "of one sitting of ann" in notes[0]
    _, notes = read_results(study, [half])
    assert notes == (f"ann judged 2 of 6 ({half}).",)
    _, notes = read_results(study, [whole, results(study, tmp_path, seed=2)])
    assert "two sittings under the name ann" in notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content | {"study": "0123"}, r"is of another study \(0123"),
        (lambda content: content | {"format": "x"}, "is of format 'x'"),
        (lambda content: {"a": 1}, "is damaged or holds no results"),
        (lambda content: content | {"judgements": content["judgements"] * 2}, "more often than the page asks"),
        (
            lambda content: content | {"judgements": [content["judgements"][0] | {"left": "feed"}]},
            "names an image 'feed' that the study has not",
        ),
        (
            lambda content: (
                content | {"judgements": [content["judgements"][0] | {"left": content["judgements"][1]["left"]}]}
            ),
            "which are no pair",
        ),
        (lambda content: content | {"judgements": [content["judgements"][0] | {"choice": "up"}]}, "is damaged"),
    ],
)
def test_files_that_cannot_be_right_are_refused(
    study: Study, tmp_path: Path, change: Callable[[dict], dict], message: str
) -> None:
    file = results(study, tmp_path)
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(InputError, match=message):
        read_results(study, [file])


def test_half_a_file_is_refused(study: Study, tmp_path: Path) -> None:
    file = results(study, tmp_path)
    file.write_text(file.read_text()[:100])
    with pytest.raises(InputError, match="is damaged or holds no results"):
        read_results(study, [file])
    with pytest.raises(InputError, match="hold no judgements"):
        score(study, [])
