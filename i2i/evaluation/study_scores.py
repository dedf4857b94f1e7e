"""What people said in a blind study: read from the files that the page gave them, checked, and summed up."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from i2i.errors import InputError
from i2i.evaluation.study import Pair, Study
from i2i.metrics.intervals import wilson
from i2i.metrics.preference import (
    FEWEST_RATERS,
    Further,
    Preference,
    measure_preference,
    sign_test,
    what_would_tell,
)

_FORMAT = "i2i study results 1"
_SCORES_FORMAT = "i2i study scores 1"
_VALUES = {"left": 1.0, "right": 0.0, "tie": 0.5}  # of a judgement, for the left image
_HASTY_S = 0.7
_UNSEEN_S = 0.3  # nobody has looked at two images sooner
_UNSEEN_SHARE = 0.05
_SIDED_P = 0.01
_EQUAL = 0.05  # shares within this of a half count as no difference


class Judgement(NamedTuple):
    """Of one pair by one person: 1 where A was preferred, 0 where B was, 1/2 for no difference."""

    pair: str
    value: float
    left: float
    repeat: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Rater:
    """What one person judged, and the file that says so."""

    name: str
    seed: int
    file: Path
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, kw_only=True)
class RaterScore:
    """One person's judgements in numbers.

    Attributes:
        rater: the name that the person gave.
        judgements: pairs judged, without repeats.
        share, low, high: how often A was preferred, a tie counting half, and Wilson's interval.
        ties: share of ties.
        left: how often the left image was chosen, of all choices that were no ties; None without any.
        consistent, repeats: how many of the repeats were answered as the first time.
        median_s: half of the answers took no longer.
        unseen: share of answers that came sooner than one can look, such as keys pressed twice.
    """

    rater: str
    judgements: int
    share: float
    low: float
    high: float
    ties: float
    left: float | None
    consistent: int
    repeats: int
    median_s: float
    unseen: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a study says.

    Attributes:
        study: whose.
        preference: how often A was preferred, over all people.
        sign_test: p-value of the pairs, each counting for the system that more people preferred in it.
        sided: p-value of the choice between left and right.
        raters: each person's.
        verdict: one sentence.
        warnings: what to know before believing it, a sentence each.
    """

    study: Study
    preference: Preference
    sign_test: float
    sided: float
    raters: tuple[RaterScore, ...]
    verdict: str
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "format": _SCORES_FORMAT,
            "study": self.study.id,
            "question": self.study.question,
            "a": self.study.a,
            "b": self.study.b,
            "verdict": self.verdict,
            "preference": asdict(self.preference),
            "sign_test": self.sign_test,
            "sided": self.sided,
            "raters": [asdict(rater) for rater in self.raters],
            "warnings": list(self.warnings),
        }


def check_scores_file(file: Path) -> None:
    """Refuse to write scores over anything else, such as the key or what people said.

    Raises:
        InputError: a file is there that holds no scores.
    """
    if not file.exists():
        return
    try:
        kind = json.loads(file.read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if kind != _SCORES_FORMAT:
        raise InputError(f"{file} is there already and holds no scores; give another name for them")


def read_results(study: Study, files: Sequence[Path]) -> tuple[tuple[Rater, ...], tuple[str, ...]]:
    """Read and check people's files.

    Of two files from one sitting (saved half way and at the end, or twice) the longer one counts.

    Returns:
        The people in the order of their names, and what to know about the files, a sentence each.

    Raises:
        InputError: a file is damaged, of another study, or names images that the study has not.
    """
    notes: list[str] = []
    sittings: dict[tuple[str, int], Rater] = {}
    for file in files:
        rater = _read(study, file)
        key = (rater.name, rater.seed)
        other = sittings.get(key)
        if other is not None:
            notes.append(f"{file} and {other.file} are of one sitting of {rater.name}; the longer one counts.")
            if len(other.judgements) >= len(rater.judgements):
                continue
        sittings[key] = rater
    raters = sorted(sittings.values(), key=lambda rater: (rater.name, rater.seed))
    expected = len(study.pairs) + study.repeats
    for number, rater in enumerate(raters):
        if number and raters[number - 1].name == rater.name:
            notes.append(
                f"{raters[number - 1].file} and {rater.file} are two sittings under the name {rater.name}, and count "
                "as two people; leave one out if they are not."
            )
        if len(rater.judgements) < expected:
            notes.append(f"{rater.name} judged {len(rater.judgements)} of {expected} ({rater.file}).")
    return tuple(rater for rater in raters if rater.judgements), tuple(notes)


def score(study: Study, raters: Sequence[Rater]) -> Scores:
    """Sum up what people said. Repeats tell how consistent they are and count for nothing else.

    Raises:
        InputError: there are no judgements.
    """
    first = [(rater, judgement) for rater in raters for judgement in rater.judgements if not judgement.repeat]
    if not first:
        raise InputError("the results hold no judgements; ask people to judge some pairs")
    number = {pair.name: place for place, pair in enumerate(study.pairs)}
    person = {id(rater): place for place, rater in enumerate(raters)}
    values = torch.tensor([judgement.value for _, judgement in first], dtype=torch.float64)
    pairs = torch.tensor([number[judgement.pair] for _, judgement in first])
    judges = torch.tensor([person[id(rater)] for rater, _ in first])
    found = measure_preference(values, raters=judges, pairs=pairs)
    further = what_would_tell(values, raters=judges, pairs=pairs)
    balance = [values[pairs == pair].mean().item() for pair in pairs.unique()]
    choices = [judgement.left for rater in raters for judgement in rater.judgements if judgement.left != 0.5]
    sided = sign_test(choices.count(1.0), choices.count(0.0))
    people = tuple(_of_one(rater) for rater in raters)
    return Scores(
        study=study,
        preference=found,
        sign_test=sign_test(sum(value > 0.5 for value in balance), sum(value < 0.5 for value in balance)),
        sided=sided,
        raters=people,
        verdict=_verdict(study, found, further, people=len(people)),
        warnings=_warnings(people, choices, sided),
    )


def _read(study: Study, file: Path) -> Rater:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise InputError(f"{file} is of format {content['format']!r}; this version of i2i reads {_FORMAT!r}")
        if content["study"] != study.id:
            raise InputError(
                f"{file} is of another study ({content['study']}, where {study.id} was expected); "
                "leave it out, or give the folder of its study"
            )
        sides = {token: (pair, token == pair.a) for pair in study.pairs for token in (pair.a, pair.b)}
        judgements = tuple(_judgement(sides, entry, file) for entry in content["judgements"])
        rater = Rater(name=str(content["rater"]), seed=int(content["seed"]), file=file, judgements=judgements)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; expected results that the page gave") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file} is damaged or holds no results ({error!r}); ask for it once more: the browser that judged still "
            "has it, under Results"
        ) from error
    seen = [(judgement.pair, judgement.repeat) for judgement in judgements]
    twice = next((pair for number, pair in enumerate(seen) if pair in seen[:number]), None)
    if twice is not None:
        raise InputError(f"{file} judges {twice[0]} more often than the page asks; take the file as the page gave it")
    return rater


def _judgement(sides: dict[str, tuple[Pair, bool]], entry: dict[str, Any], file: Path) -> Judgement:
    for side in ("left", "right"):
        if entry[side] not in sides:
            raise InputError(f"{file} names an image {entry[side]!r} that the study has not; leave the file out")
    (pair, a_left), (other, a_right) = sides[entry["left"]], sides[entry["right"]]
    if pair is not other or a_left == a_right:
        raise InputError(f"{file} holds {entry['left']} beside {entry['right']}, which are no pair; leave the file out")
    left = _VALUES[entry["choice"]]
    return Judgement(
        pair=pair.name,
        value=left if a_left else 1 - left,
        left=left,
        repeat=bool(entry["repeat"]),
        seconds=float(entry["ms"]) / 1000,
    )


def _of_one(rater: Rater) -> RaterScore:
    first = {judgement.pair: judgement.value for judgement in rater.judgements if not judgement.repeat}
    again = [judgement for judgement in rater.judgements if judgement.repeat]
    choices = [judgement.left for judgement in rater.judgements if judgement.left != 0.5]
    total = sum(first.values())
    low, high = wilson(total, len(first)) if first else (0.0, 1.0)
    return RaterScore(
        rater=rater.name,
        judgements=len(first),
        share=total / len(first) if first else 0.5,
        low=low,
        high=high,
        ties=sum(value == 0.5 for value in first.values()) / max(len(first), 1),
        left=sum(choices) / len(choices) if choices else None,
        consistent=sum(first.get(judgement.pair) == judgement.value for judgement in again),
        repeats=len(again),
        median_s=median(judgement.seconds for judgement in rater.judgements),
        unseen=sum(judgement.seconds < _UNSEEN_S for judgement in rater.judgements) / len(rater.judgements),
    )


def _verdict(study: Study, found: Preference, further: Further | None, *, people: int) -> str:
    winner, share, low, high = study.a, found.share, found.low, found.high
    if share < 0.5:
        winner, share, low, high = study.b, 1 - share, 1 - high, 1 - low
    amount = f"{share:.0%} ({low:.0%} to {high:.0%})"
    if people >= FEWEST_RATERS:
        preferred, neither = f"{winner} is preferred", "Neither is preferred"
    else:  # what few people prefer says nothing about others
        these = "This person prefers" if people == 1 else f"These {people} people prefer"
        preferred, neither = f"{these} {winner}", f"{these} neither"
    if low > 0.5:
        return f"{preferred}: {amount}."
    if low > 0.5 - _EQUAL and high < 0.5 + _EQUAL:
        return f"{neither}: {winner} was chosen {amount}."
    if further is None:
        return f"No difference can be told: either was chosen equally often, {amount}."
    return f"No difference can be told: {winner} was chosen {amount}. {_advice(further, people=people)}"


def _advice(further: Further, *, people: int) -> str:
    """What would tell a difference of this size, and what would not."""
    more_people = "1 more person" if further.people == 1 else f"{_rounded(further.people)} more people"
    more_pairs = "1 more pair" if further.pairs == 1 else f"{_rounded(further.pairs)} more pairs"
    settle = "would settle a difference of this size"
    if further.people and further.pairs:
        return f"About {more_people} and {more_pairs} together {settle}; neither would alone."
    if further.people:
        return f"About {more_people} {settle}{'' if further.other_would else '; more pairs would not'}."
    # What more people than one would say, one person's judgements do not tell.
    unless = "" if further.other_would or people == 1 else "; more people for the same pairs would not"
    return f"About {more_pairs} {settle}{unless}."


def _rounded(count: int) -> int:
    """To two digits, upwards: more would feign precision."""
    step = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step


def _warnings(people: Sequence[RaterScore], choices: Sequence[float], sided: float) -> tuple[str, ...]:
    warnings = []
    if sided < _SIDED_P:
        warnings.append(
            f"The left image was chosen in {sum(choices) / len(choices):.0%} of all choices, which chance does not "
            f"explain (p = {sided:.2g}); sides are random, so this favours neither, but blurs the difference."
        )
    repeats, consistent = sum(person.repeats for person in people), sum(person.consistent for person in people)
    if repeats and wilson(consistent, repeats)[0] <= 0.5 and consistent / repeats < 0.75:
        warnings.append(
            f"Only {consistent} of {repeats} pairs shown twice were answered as the first time; guessing gives half."
        )
    for person in people:
        if person.median_s < _HASTY_S:
            warnings.append(f"{person.rater} took {person.median_s:.1f} s for most answers, too little to look.")
        elif person.unseen > _UNSEEN_SHARE:
            warnings.append(
                f"{person.rater} gave {person.unseen:.0%} of the answers within {_UNSEEN_S} s, too little to look."
            )
    if 1 < len(people) < FEWEST_RATERS:
        warnings.append(
            f"The interval holds for pairs like these as these {len(people)} people see them; "
            f"from {FEWEST_RATERS} people on, it says something about others, too."
        )
    elif len(people) == 1:
        warnings.append("One person judged: the interval holds for pairs like these as this person sees them.")
    return tuple(warnings)
