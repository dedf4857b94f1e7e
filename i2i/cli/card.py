"""Fill a generator's model card: what was measured, what its data are, what it is for, and where its limits lie.

    i2i card runs/facades --evaluation evaluation/evaluation.json --profile profile.json
    i2i card runs/facades --licence cc-by-4.0 --data-source "CMP facades" --data-licence "CC BY-SA 4.0"
    i2i card runs/facades --intended-use "Sketches of facades in teaching." --limits "Knows no buildings by night."

README.md in the generator's folder is written anew, section by section. What is not given here stays as it is. Sections
that a person wrote or changed are kept, and so are entries of the header; it is said where something given had no place
for that reason.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tyro.conf import DisallowNone, Positional

from i2i.checkpoints.card import (
    DATA,
    EVALUATION,
    FINGERPRINT,
    INTENDED_USE,
    LICENCE,
    LIMITS,
    NOT_STATED,
    PERFORMANCE,
    SOURCE,
    TITLE,
    WEIGHTS_LICENCE,
    Card,
    Section,
    bullets,
    data_section,
    entries_in,
    section,
    updated,
    with_data,
    with_entry,
)
from i2i.checkpoints.identity import RUN, name_model
from i2i.checkpoints.store import (
    CARD,
    NO_INTENDED_USE,
    find_generator,
    load_generator,
    new_card,
    read_card,
    usual_limits,
    write_card,
)
from i2i.errors import InputError
from i2i.evaluation.card_sections import check_model, evaluation_section, hub_results, maker, performance_section
from i2i.evaluation.report import JSON
from i2i.inference.profile import Profile

# https://huggingface.co/docs/hub/repositories-licenses; others are "other" there, with a name beside it.
HUB_LICENCES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0
artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0
epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c
ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
llama2 gemma unknown
"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Whose card, and what to write into it.

    Args:
        generator: a generator's folder, or the folder of a run with one in it.
        evaluation: evaluation.json, or the folder with it, from `i2i evaluate --weights`.
        profile: the file that `i2i profile --out` wrote.
        data_source: where the training data come from.
        data_licence: their licence.
        intended_use: what the model is for.
        limits: what it cannot do or must not be used for, a sentence each, beside what holds for all its kind.
        licence: of the weights: one that the Hugging Face Hub knows, such as cc-by-4.0 or MIT, or words.
    """

    generator: Positional[Path]
    evaluation: DisallowNone[Path | None] = None
    profile: DisallowNone[Path | None] = None
    data_source: DisallowNone[str | None] = None
    data_licence: DisallowNone[str | None] = None
    intended_use: DisallowNone[str | None] = None
    limits: tuple[str, ...] = ()
    licence: DisallowNone[str | None] = None


def main(settings: Settings) -> None:
    """Write the card anew.

    Raises:
        InputError: no generator, a file that is no evaluation or profile, or one of other weights.
    """
    folder = find_generator(settings.generator)
    network, spec = load_generator(folder)
    model = name_model(folder)
    usual = new_card(network, spec=spec, text=f"# {model.partition(' (')[0]}")
    card = _complete(read_card(folder), usual)
    given = []
    if settings.intended_use is not None:
        given.append(section(INTENDED_USE, " ".join(settings.intended_use.split())))
    if settings.limits:
        given.append(section(LIMITS, bullets([*settings.limits, *usual_limits(network, spec)])))
    given += _data(settings, card, folder)
    header = card.header
    if settings.licence is not None:
        header = _with_licence(header, settings.licence)
        given.append(section(WEIGHTS_LICENCE, " ".join(settings.licence.split())))
    if settings.evaluation is not None:
        file = settings.evaluation / JSON if settings.evaluation.is_dir() else settings.evaluation
        with _naming(file):
            evaluation = _read_json(file)
            given.append(evaluation_section(evaluation))
            made_by = maker(evaluation)
            if made_by is not None:
                check_model(made_by, model=model)
                title = next((part.heading.strip("# ") for part in card.sections if part.name == TITLE), model)
                header = with_entry(header, "model-index", hub_results(evaluation, name=title, task=_task(usual)))
            else:
                header = with_entry(header, "model-index", None)
                print(
                    f"{file}: not known who made these images: the card says so, and the Hub is not told the figures. "
                    "`i2i evaluate --weights` makes them itself, and i2i notes in the images that it writes who made "
                    "them.",
                    file=sys.stderr,
                )
    if settings.profile is not None:
        with _naming(settings.profile):
            profile = Profile.from_json(_read_json(settings.profile))
            check_model(profile.model, model=model)
            given.append(performance_section(profile))
    card, kept = updated(replace(card, header=header), given)
    write_card(folder, card)
    print(folder / CARD)
    for name in kept:
        print(
            f'"{name}" was written or changed by hand and is as it was; without that section the same command writes '
            "its own.",
            file=sys.stderr,
        )
    if open_points := list(_not_stated(card)):
        print(f"Not stated yet: {', '.join(open_points)}.", file=sys.stderr)


def _complete(card: Card, usual: Card) -> Card:
    """The card with what every card should have; nothing of it is changed."""
    if not card.sections:
        return usual
    card = with_data(card)
    names = {part.name for part in card.sections}
    card, _ = updated(card, [part for part in usual.sections if part.name not in names])
    return card if card.header else replace(card, header=usual.header)


def _data(settings: Settings, card: Card, folder: Path) -> Iterator[Section]:
    """What is known of the data: from here, from the card, and from the run that the generator lies in."""
    text = card.text(DATA)
    known = {name: None if fact == NOT_STATED else fact for name, fact in entries_in(text).items()}
    fingerprint = (known.get(FINGERPRINT) or "").strip("`") or _fingerprint_of_run(folder)
    made = data_section(
        fingerprint=fingerprint,
        licence=settings.data_licence or known.get(LICENCE),
        source=settings.data_source or known.get(SOURCE),
    )
    ours = any(part.ours for part in card.sections if part.name == DATA)
    if ours or settings.data_licence is not None or settings.data_source is not None:
        yield made


def _fingerprint_of_run(folder: Path) -> str | None:
    for above in folder.resolve().parents[:2]:
        if (above / RUN).exists():
            return _read_json(above / RUN).get("data fingerprint")
    return None


def _with_licence(header: str, licence: str) -> str:
    """The header with the licence as the Hub wants it: by an identifier, "CC BY 4.0" being cc-by-4.0."""
    name = re.sub(r"[^a-z0-9.+]+", "-", licence.lower()).strip("-.") or "own"
    known = name in HUB_LICENCES.split()
    header = with_entry(header, "license", name if known else "other")
    return with_entry(header, "license_name", None if known else name)


def _task(card: Card) -> str:
    """The first tag."""
    return next(line.removeprefix("- ") for line in card.header.splitlines() if line.startswith("- "))


def _not_stated(card: Card) -> Iterator[str]:
    """What a person who shares the model should still say, and by which option."""
    if card.text(INTENDED_USE) == NO_INTENDED_USE:
        yield "what it is for (--intended-use)"
    facts = entries_in(card.text(DATA))
    for name, option in ((SOURCE, "--data-source"), (LICENCE, "--data-licence")):
        if facts.get(name) == NOT_STATED:
            yield f"the {name.lower()} of the data ({option})"
    if not re.search(r"^license:", card.header, re.MULTILINE):
        yield "the licence of the weights (--licence)"
    names = {part.name for part in card.sections}
    for name, option in ((EVALUATION, "--evaluation"), (PERFORMANCE, "--profile")):
        if name not in names:
            yield f"{name.lower()} ({option})"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise InputError(f"{file} is no JSON: {error}; make it anew") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Let an error say which file it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(file) in str(error) else f"{file}: {error}") from error
