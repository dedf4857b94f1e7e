"""Let people judge which of two systems makes the better images, without their knowing which is which.

    i2i compare a/ b/ --out study/ --inputs photos/ --question "Which looks more real?"
    i2i compare --score study/ results-anna.json results-ben.json

The first writes a page: open study/index.html, or send the folder without key.json to others. Images of equal names
are pairs; their order and sides are random for each person. At the end, the page gives each person a results file. The
second says how often A (the first folder) was preferred, and whether that is more than chance. Without files it takes
those that lie in the study's folder.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from i2i.cli.plan import check_writable
from i2i.errors import InputError
from i2i.evaluation.image_sets import Half, ImageSet
from i2i.evaluation.study import KEY, Study, write_study
from i2i.evaluation.study_scores import RaterScore, Scores, check_scores_file, read_results, score
from i2i.files import replacing


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to compare, or what to score.

    Args:
        places: two folders of images, A's and B's; with --score the study's folder and people's results.
        out: the folder for the study; with --score the file for all figures, or a folder for scores.json; the study's
            unless given.
        score: say what people preferred.
        question: that the page asks.
        inputs: a folder with what both were made from, to be shown beside each pair.
        truth: a folder with how the images should look, to be shown likewise.
        count: pairs at most, chosen at random.
        repeats: pairs that are shown twice, to see how consistent people are; a tenth, at most ten, unless given.
        ties: whether people may answer "no difference".
        pixelated: enlarge small images without smoothing.
        a_half: which half of A's files is meant, where two images lie side by side.
        b_half: the same for B's.
        inputs_half: the same for the inputs.
        truth_half: the same for the truth.
        data_range: what is black and white in the images' own units: 0 1 of most floats, 0 4095 of a 12-bit camera.
        seed: decides which pairs are chosen.
    """

    places: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="A B | STUDY RESULTS…")]]
    out: Path | None = None
    score: bool = False
    question: str = "Which looks more real?"
    inputs: Path | None = None
    truth: Path | None = None
    count: int | None = None
    repeats: int | None = None
    ties: bool = True
    pixelated: bool = False
    a_half: Half | None = None
    b_half: Half | None = None
    inputs_half: Half | None = None
    truth_half: Half | None = None
    data_range: tuple[float, float] | None = None
    seed: int = 0


def main(settings: Settings) -> None:
    """Write the page, or say what people preferred.

    Raises:
        InputError: no pairs, no study, or results that cannot be used.
        OSError: the disk is full, for instance.
    """
    if settings.score:
        _score(settings)
    else:
        _write(settings)


def _write(settings: Settings) -> None:
    if len(settings.places) != 2 or settings.out is None:
        raise InputError(
            "expected two folders of images and a folder for the study, `i2i compare A B --out STUDY`, "
            "or for its results `i2i compare --score STUDY`"
        )
    check_writable(settings.out.expanduser())

    def find(place: Path, half: Half | None) -> ImageSet:
        return ImageSet.find(place, half=half, data_range=settings.data_range)

    references = {}
    if settings.inputs is not None:
        references["Input"] = find(settings.inputs, settings.inputs_half)
    if settings.truth is not None:
        references["Truth"] = find(settings.truth, settings.truth_half)
    folder = settings.out.expanduser()
    study, notes = write_study(
        folder,
        find(settings.places[0], settings.a_half),
        find(settings.places[1], settings.b_half),
        question=settings.question,
        references=references,
        count=settings.count,
        repeats=settings.repeats,
        ties=settings.ties,
        pixelated=settings.pixelated,
        seed=settings.seed,
    )
    for note in notes:
        print(f"Note: {note}")
    count = "1 pair" if len(study.pairs) == 1 else f"{len(study.pairs)} pairs"
    print(
        f"{count} of {study.a} (A) and {study.b} (B). Open {folder / 'index.html'}, or send the "
        f"folder without {KEY}, which says whose images they are, to those who judge."
    )
    print(f"Then: i2i compare --score {settings.out} results-*.json")


def _score(settings: Settings) -> None:
    folders = [place for place in settings.places if place.expanduser().is_dir()]
    if len(folders) != 1:
        raise InputError(
            f"expected one folder of a study and files of results, `i2i compare --score STUDY RESULTS…`; "
            f"got {len(folders)} folders"
        )
    folder = folders[0].expanduser()
    study = Study.read(folder)
    files = [place.expanduser() for place in settings.places if place is not folders[0]]
    files = files or sorted(folder.glob("results-*.json"))
    if not files:
        raise InputError(f"{folder} holds no results-*.json; name the files that people got from the page")
    target = (settings.out or folder).expanduser()
    if target.is_dir():
        target = target / "scores.json"
    check_writable(target.parent)
    check_scores_file(target)
    raters, notes = read_results(study, files)
    scores = score(study, raters)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        content = scores.as_json() | {"notes": list(notes)}
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    _print(scores, notes)
    print(f"All figures: {target}")


def _print(scores: Scores, notes: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "judged", "prefers A", "95 % interval", "ties", "left", "consistent", "median time", box=None)
    for rater in scores.raters:
        table.add_row(*_row(rater))
    found = scores.preference
    if len(scores.raters) > 1:
        table.add_row("all", str(found.judgements), f"{found.share:.0%}", f"{found.low:.0%} to {found.high:.0%}")
    print(f"{scores.study.question}  A: {scores.study.a}, B: {scores.study.b}")
    Console(highlight=False, markup=False).print(table)
    print(
        f"Over {found.over}; as certain as {found.effective:.0f} independent judgements. "
        f"Sign test over pairs: p = {scores.sign_test:.2g}."
    )
    for sentence in notes:
        print(f"Note: {sentence}")
    for sentence in scores.warnings:
        print(f"Warning: {sentence}")
    print(scores.verdict)


def _row(rater: RaterScore) -> list[str]:
    return [
        rater.rater,
        str(rater.judgements),
        f"{rater.share:.0%}",
        f"{rater.low:.0%} to {rater.high:.0%}",
        f"{rater.ties:.0%}",
        "" if rater.left is None else f"{rater.left:.0%}",
        f"{rater.consistent} of {rater.repeats}" if rater.repeats else "",
        f"{rater.median_s:.1f} s",
    ]
