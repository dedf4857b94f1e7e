"""The text of a model card: Markdown in sections, of which i2i writes only those anew that nobody has changed.

Below the heading of a section that i2i wrote stands a comment, which no page shows, with digits of the sha256 of its
text. A section without it, or whose text has other digits, is a person's, and is kept as it is.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

NOT_STATED = "not stated"
SOURCE, LICENCE, FINGERPRINT = "Source", "Licence", "Fingerprint"
"""What is said of the training data."""

TITLE = "#"
"""What a section with the card's title is called among sections; all others are called by their headings."""
INTENDED_USE = "Intended use"
LIMITS = "Limits"
DATA = "Data"
HELD_OUT = "Held-out metrics"
SETTINGS = "Settings"
EVALUATION = "Evaluation"
PERFORMANCE = "Performance"
NOTICE = "What it makes is synthetic"
WEIGHTS_LICENCE = "Licence of the weights"
USE = "Use"
ORDER = (TITLE, INTENDED_USE, LIMITS, DATA, HELD_OUT, EVALUATION, PERFORMANCE, SETTINGS, NOTICE, WEIGHTS_LICENCE, USE)

_HEADING = re.compile(r"#{1,2} +\S")
_FENCE = re.compile(r" {0,3}(~{3,}|`{3,}(?!.*`))(.*)")
_COMMENT = re.compile(r"<!-- i2i wrote this section \(([0-9a-f]{8})\).* -->")
_ENTRY = re.compile(r"^- \*\*(.+?):\*\* (.*)$", re.MULTILINE)
_HEADER = re.compile(r"---\n(.*?)\n?---\n", re.DOTALL)
_KEY = re.compile(r"[A-Za-z_][\w-]*:")
_PATH = re.compile(r"[^\s(),;\"']*[/\\][^\s(),;\"']*")

# Sections as i2i wrote them before it marked them.
_UNMARKED = {
    TITLE: re.compile(r".*\n\nTrained for \d+ steps\.", re.DOTALL),
    HELD_OUT: re.compile(r"(\|.*\|\n?)+"),
    SETTINGS: re.compile(r"(```json\n[^`]*```)\n\nData fingerprint: `([^`]*)`"),
    USE: re.compile(r"```python\nimport [^`]*```"),
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading of the first or second level, and what stands below it.

    Attributes:
        heading: with its marks: "# Streets", "## Data"; empty for what stands before the first one.
        text: Markdown without blank lines at its ends.
        ours: whether i2i wrote it, and nobody has changed it since.
    """

    heading: str
    text: str
    ours: bool = True

    @property
    def name(self) -> str:
        """The heading without its marks, or `TITLE`."""
        return TITLE if self.heading.startswith("# ") else self.heading.removeprefix("##").strip()


@dataclass(frozen=True, kw_only=True)
class Card:
    """A whole card.

    Attributes:
        header: YAML that the Hub reads (https://huggingface.co/docs/hub/model-cards), without the lines around it.
        sections: in their order.
    """

    header: str
    sections: tuple[Section, ...]

    def text(self, name: str) -> str:
        """Of the section of that name; empty where there is none."""
        return next((section.text for section in self.sections if section.name == name), "")


def section(name: str, text: str) -> Section:
    """A section of i2i's."""
    return Section(heading=f"## {name}", text=text.strip("\n"))


def parse_card(text: str) -> Card:
    """A card that lies in a file, whoever wrote it."""
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    header = _HEADER.match(text)
    body = text[header.end() :] if header else text
    return Card(header=header[1] if header else "", sections=tuple(_sections(body)))


def render_card(card: Card) -> str:
    """The card as it lies in a file; `parse_card` reads it."""
    parts = [f"---\n{card.header}\n---\n"] if card.header else []
    for part in card.sections:
        lines = [part.heading] if part.heading else []
        if part.ours and part.heading:
            lines.append(f"<!-- i2i wrote this section ({_digits(part.text)}); it keeps what you change here -->")
        parts.append("\n".join([*lines, *([""] if lines and part.text else []), *([part.text] if part.text else [])]))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def updated(card: Card, new: Iterable[Section]) -> tuple[Card, tuple[str, ...]]:
    """The card with new sections in the place of i2i's own ones of the same names, or where `ORDER` wants them.

    Returns:
        It, and the names of new sections that were left out, for a person wrote those.
    """
    sections, kept = list(card.sections), []
    for addition in new:
        place = next((i for i, old in enumerate(sections) if old.name == addition.name), None)
        if place is None:
            sections.insert(_place(sections, addition), addition)
        elif sections[place].ours:
            sections[place] = addition
        elif sections[place].text != addition.text:
            kept.append(addition.name)
    return replace(card, sections=tuple(sections)), tuple(kept)


def written_anew(old: Card, new: Card) -> Card:
    """A new card for new weights in the place of an old one: of that, what was measured is gone.

    What a person wrote is left, and what `i2i card` was told of use, limits, data and licence.
    """
    if not old.sections:
        return replace(new, header=old.header or new.header)
    if _is_from_before_marks(old, new):
        old = replace(old, sections=tuple(replace(part, ours=True) for part in old.sections))
    before, now = entries_in(old.text(DATA)), entries_in(new.text(DATA))
    if _fingerprint_in(old.text(DATA)) == _fingerprint_in(new.text(DATA)):
        now |= {name: fact for name, fact in before.items() if now.get(name) == NOT_STATED}
    fresh = {part.name: part for part in (*new.sections, section(DATA, entries(now)))}
    told = (INTENDED_USE, LIMITS, WEIGHTS_LICENCE)
    stays = [part for part in old.sections if not part.ours or part.name in told]
    left = [part if part in stays else fresh[part.name] for part in old.sections if part in stays or part.name in fresh]
    names = {part.name for part in left}
    header = old.header or new.header
    if any(part.ours for part in old.sections):  # in a card that is all a person's, the figures are, too
        header = with_entry(header, "model-index", None)
    card = Card(header=header, sections=tuple(left))
    return updated(card, [part for part in fresh.values() if part.name not in names])[0]


def entries_in(text: str) -> dict[str, str]:
    """What a list of entries says, by their names."""
    return {found[1]: found[2] for found in _ENTRY.finditer(text)}


def entries(facts: Mapping[str, str]) -> str:
    """A list of entries: "- **Licence:** CC BY 4.0"."""
    return "\n".join(f"- **{name}:** {' '.join(value.split())}" for name, value in facts.items())


def data_section(*, fingerprint: str | None = None, licence: str | None = None, source: str | None = None) -> Section:
    """What the training data are; what is not known is said not to be."""
    facts = {SOURCE: source, LICENCE: licence, FINGERPRINT: fingerprint and f"`{shown_fingerprint(fingerprint)}`"}
    return section(DATA, entries({name: value or NOT_STATED for name, value in facts.items()}))


def shown_fingerprint(fingerprint: str) -> str:
    """A fingerprint as people see it: one that is joined of several parts by blanks as the sha256 of the whole.

    Runs are told apart by the parts as they are, so that those begun by earlier versions of i2i go on.
    """
    return hashlib.sha256(fingerprint.encode()).hexdigest() if " " in fingerprint else fingerprint


def with_data(card: Card) -> Card:
    """The card with the fingerprint of the data in its place; earlier versions of i2i wrote it below the settings."""
    found = _UNMARKED[SETTINGS].fullmatch(card.text(SETTINGS))
    if found is None:
        return card
    data = data_section(fingerprint=found[2])
    if _fingerprint_in(card.text(DATA) or data.text) != shown_fingerprint(found[2]):
        return card
    settings = section(SETTINGS, found[1])
    sections = tuple(settings if part.name == SETTINGS else part for part in card.sections)
    card = replace(card, sections=sections)
    return card if card.text(DATA) else updated(card, [data])[0]


def _fingerprint_in(text: str) -> str | None:
    """What a list of entries says of the data's fingerprint; earlier versions of i2i wrote its parts."""
    found = entries_in(text).get(FINGERPRINT)
    return found and shown_fingerprint(found.strip("`"))


def last_name(place: str) -> str:
    """The last part of a path of any system: what stands above it may say who people are, and nothing of the model."""
    return re.split(r"[/\\]", place.rstrip("/\\"))[-1] or place


def without_folders(text: str, *, places: Iterable[str] = ()) -> str:
    """The text with paths by their last names; `places`: paths that may stand in it and have blanks."""
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, last_name(place))
    return _PATH.sub(lambda found: last_name(found[0]), text)


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its heading."""
    heading, *rest = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join([f"| {heading} |", "|" + "---|" * len(rows[0]), *(f"| {row} |" for row in rest)])


def with_entry(header: str, key: str, value: Any) -> str:
    """The header with one entry set anew, or left out for None, and all else as it is, comments too."""
    # A placeholder that speaks of the entry has done its work.
    lines = [line for line in header.splitlines() if not line.startswith(f"# {key}:")]
    kept, inside = [], False
    for line in lines:
        if _KEY.match(line):
            inside = line.startswith(f"{key}:")
        if not inside:
            kept.append(line)
    entry = [] if value is None else [f"{key}: {json.dumps(value, ensure_ascii=False)}"]  # JSON is YAML, too
    return "\n".join([*kept, *entry])


def _sections(body: str) -> Iterator[Section]:
    heading = ""
    fence: str | None = None
    lines: list[str] = []
    for line in body.split("\n"):
        mark = _FENCE.match(line)
        if mark and fence is None:
            fence = mark[1]
        elif mark and fence and mark[1].startswith(fence) and not mark[2].strip():  # by as many letters, or more
            fence = None
        if fence is None and _HEADING.match(line):
            yield from _section(heading, lines)
            heading, lines = line, []
        else:
            lines.append(line)
    yield from _section(heading, lines)


def _section(heading: str, lines: list[str]) -> Iterator[Section]:
    text = "\n".join(lines).strip("\n")
    mark = _COMMENT.match(text)
    text = text[mark.end() :].strip("\n") if mark else text
    if heading or text:
        yield Section(heading=heading, text=text, ours=mark is not None and mark[1] == _digits(text))


def _is_from_before_marks(old: Card, new: Card) -> bool:
    """Whether i2i wrote all of an old card before it marked what it wrote, and nobody has changed it since.

    What was trained on what is told in any words: they must be those of the new card.
    """
    about = [card.text(TITLE).rpartition("\n\n")[0] for card in (old, new)]
    known = (part.name in _UNMARKED and _UNMARKED[part.name].fullmatch(part.text) for part in old.sections)
    return all(known) and without_folders(about[0]) == about[1]


def _digits(text: str) -> str:
    """Of the words alone: editors change blanks and ends of lines by themselves."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:8]


def _place(sections: Sequence[Section], addition: Section) -> int:
    """Before the first section that comes later, or at the end."""
    if addition.name not in ORDER:
        return len(sections)
    rank = ORDER.index(addition.name)
    later = (i for i, part in enumerate(sections) if part.name in ORDER and ORDER.index(part.name) > rank)
    return next(later, len(sections))
