"""What a model card says of an evaluation and of a profile, from the files that these commands leave."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from i2i.checkpoints.card import EVALUATION, PERFORMANCE, Section, bullets, last_name, section, table, without_folders
from i2i.errors import InputError
from i2i.inference.profile import Profile, facts_in_words, notes_in_words, rows_in_words

MEASURED_ON = (
    "Measured by `i2i evaluate` on files as they are. Figures of the same names from training are over its held-out "
    "data as it was prepared there, and do not compare with these."
)
MADE_BY = "made by "  # what evaluation.json says before the name of a model
_FINGERPRINT = re.compile(r"\(sha256 ([0-9a-f]+)\)")


def check_model(told: str, *, model: str) -> None:
    """Raise InputError where figures are of other weights than the card, or of a mixture of several.

    Args:
        told: what they are of, with digits of the weights' sha256 in brackets.
        model: the same of the card's generator, from `name_model`.
    """
    if _FINGERPRINT.findall(told) != _FINGERPRINT.findall(model):
        raise InputError(f"its figures are of {told}, and the card is of {model}; measure this one")


def maker(evaluation: Mapping[str, Any]) -> str | None:
    """The model that made the images, by `name_model`: it was made to, or is named in their files; None: not known.

    Args:
        evaluation: what `evaluation.json` holds.
    """
    about = evaluation["sets"]["generated"]
    place: str = about["place"]
    return place.removeprefix(MADE_BY) if place.startswith(MADE_BY) else about.get("made_by")


def performance_section(profile: Profile) -> Section:
    """Latency, memory, parameters and operations."""
    facts = [f"{name}: {text}" for name, text in facts_in_words(profile) if name != "model"]
    parts = [bullets(facts), table(rows_in_words(profile)), bullets(list(notes_in_words(profile)))]
    return section(PERFORMANCE, "\n\n".join(parts))


def evaluation_section(evaluation: Mapping[str, Any]) -> Section:
    """Figures with their intervals, what is missing, whether training images are copied, and groups.

    Args:
        evaluation: what `evaluation.json` holds.

    Raises:
        InputError: it holds something else.
    """
    try:
        return section(EVALUATION, "\n\n".join(part for part in _evaluation(evaluation) if part))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"expected an evaluation.json as `i2i evaluate --out` writes it, but it lacks {error}; make it anew"
        ) from error


def hub_results(evaluation: Mapping[str, Any], *, name: str, task: str) -> list[dict[str, Any]]:
    """The entry "model-index" of a card's header, by which the Hub shows figures.

    Args:
        evaluation: what `evaluation.json` holds.
        name: of the model.
        task: of the Hub, such as "image-to-image".
    """
    data = shown_place(evaluation["sets"]["real"]["place"])
    metrics = [
        {"type": figure, "name": figure, "value": about["value"]}
        for figure, about in evaluation["figures"].items()
        if about["value"] is not None
    ]
    results = {"task": {"type": task}, "dataset": {"type": "image-folder", "name": data}, "metrics": metrics}
    return [{"name": name, "results": [results]}]


def shown_place(place: str) -> str:
    """Where images lie, without the folders above, which are nobody else's business."""
    return "this model's own" if place.startswith(MADE_BY) else last_name(place)


def _evaluation(evaluation: Mapping[str, Any]) -> Iterator[str]:
    yield MEASURED_ON
    yield bullets([_set(part, about) for part, about in evaluation["sets"].items()])
    if maker(evaluation) is None:
        yield "**It is not known which model made these images:** their files do not tell."
    rows = [
        [name, _value(about), _interval(about), "" if about["images"] is None else str(about["images"])]
        for name, about in evaluation["figures"].items()
    ]
    meanings = _once(about.get("meaning", "") for about in evaluation["figures"].values())
    rows = [[*row, meaning] for row, meaning in zip(rows, meanings, strict=True)]
    yield table([["figure", "value", "95 % interval", "images", "what it means"], *rows])
    if evaluation["missing"]:
        yield f"Not measured, for what that needs was not at hand: {', '.join(evaluation['missing'])}."
    yield f"**Copies of training images:** {_memorisation(evaluation)}"
    yield f"**Groups:** {_groups(evaluation.get('groups'))}"
    if evaluation["warnings"]:
        yield "Before you believe these figures:"
        places = [about["place"] for about in evaluation["sets"].values()]
        yield bullets([without_folders(warning, places=places) for warning in evaluation["warnings"]])


def _set(part: str, about: Mapping[str, Any]) -> str:
    half = f", {about['half']} halves" if about.get("half") else ""
    count = f"{about['images']} images" if "images" in about else "a video"
    fingerprint = f", fingerprint `{about['fingerprint']}`" if about.get("fingerprint") else ""
    return f"{part}: {shown_place(about['place'])}, {count}{half}{fingerprint}"


def _value(about: Mapping[str, Any]) -> str:
    return str(about.get("is", "undefined")) if about["value"] is None else f"{about['value']:.4g}"


def _interval(about: Mapping[str, Any]) -> str:
    return "" if about["low"] is None or about["high"] is None else f"{about['low']:.4g} … {about['high']:.4g}"


def _once(texts: Iterable[str]) -> Iterator[str]:
    """Each text the first time, and nothing after that."""
    said: set[str] = set()
    for text in texts:
        yield "" if text in said else text
        said.add(text)


def _memorisation(evaluation: Mapping[str, Any]) -> str:
    """The verdict by each way of looking that there was."""
    verdicts = []
    for name, about in evaluation["details"].items():
        if not name.startswith("memorisation") or "copies" not in about:
            continue
        where = name.removeprefix("memorisation")
        images = evaluation["figures"][f"copies{where}"]["images"]
        count = len(about["copies"])
        found = f"{count} of {images} generated images copy one" if count else f"none among {images} generated images"
        verdicts.append(f"{found}, by {f'features of {where[1:]}' if where else 'small pictures'}")
    return f"{'; '.join(verdicts)}." if verdicts else "not looked for (`i2i evaluate --training` does)."


def _groups(groups: Mapping[str, Any] | None) -> str:
    """A table: groups down, figures across."""
    if not groups:
        return "not compared (`i2i evaluate --groups` does)."
    names = list(dict.fromkeys(name for about in groups["by_group"].values() for name in about["figures"]))
    rows = [["group", "images", *names]]
    for group, about in groups["by_group"].items():
        found = about["figures"]
        rows.append(
            [group, str(about["images"]), *(_bracketed(found[name]) if name in found else "" for name in names)]
        )
    gaps: Mapping[str, Any] = groups["gaps"]
    rows.append(["largest gap", "", *(f"{gaps[name]['gap']:.4g}" if name in gaps else "" for name in names)])
    apart = [name for name in names if name in gaps and gaps[name]["intervals_overlap"] is False]
    verdict = (
        f"they differ in {', '.join(apart)} by more than chance." if apart else "no figure tells them apart for sure."
    )
    return f"{verdict}\n\n{table(rows)}"


def _bracketed(about: Mapping[str, Any]) -> str:
    interval = _interval(about)
    return f"{_value(about)} ({interval})" if interval else _value(about)
