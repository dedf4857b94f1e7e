"""What an evaluation leaves: evaluation.json for programs, evaluation.md and evaluation.html for people, pictures.

None of it tells the time or the place where it lies: the same evaluation writes the same bytes.
"""

import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from i2i import __version__
from i2i.data.image_io import dtype_range, read_header, read_provenance
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.pages import PAGE, alike, columns_of, picture, write_grid
from i2i.files import replacing
from i2i.metrics.meanings import MEANINGS

JSON, MARKDOWN, PAGE_FILE, PICTURES = "evaluation.json", "evaluation.md", "evaluation.html", "pictures"
SAMPLES = 12
NOTES_READ = 50  # of a set's images, for the model that made them
LARGEST_PX = 2000  # of a picture in the page
COPIES = 10  # named
TINY = 1e-9  # rounding's remainder in any figure


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that there is to say.

    Attributes:
        title: what was held against what.
        sets: what was looked at, by the part it plays ("generated", "real", …): see `about_set`.
        findings: figures and all else.
        settings: how it was done, JSON-able.
    """

    title: str
    sets: Mapping[str, Mapping[str, Any]]
    findings: Findings
    settings: Mapping[str, Any]


def about_set(images: ImageSet, *, place: str) -> dict[str, Any]:
    """What a report says of a set of images; `place` is where they lie or came from, in words.

    "made_by" is there where the files themselves say that one model made them.
    """
    about: dict[str, Any] = {
        "place": place,
        "half": images.half,
        "images": len(images),
        "fingerprint": images.fingerprint,
    }
    about |= {"fitted": list(images.size)} if images.size else {}
    dtype = np.dtype(read_header(images.files[0]).dtype)
    data_range = images.range_of(dtype)
    about |= {"data_range": list(data_range)} if data_range and data_range != dtype_range(dtype) else {}
    count = min(len(images), NOTES_READ)
    notes = [read_provenance(images.files[number * len(images) // count]) for number in range(count)]
    models = {note and note.model for note in notes}
    return about | ({"made_by": models.pop()} if len(models) == 1 and None not in models else {})


def sample_findings(generated: ImageSet, real: ImageSet, *, paired: bool, inputs: ImageSet | None = None) -> Findings:
    """Pictures of some images, evenly spread.

    paired: real images are those that generated ones of the same names should be, and are shown beside these.
    inputs: what the generated images were made from.
    """
    outputs, truths = generated.matched(real)
    if not paired or not len(outputs):
        pictures = {
            "Generated images": {"generated": _some(generated)},
            "Real images": {"real": _some(real)},
        }
        return Findings(pictures=pictures)
    columns = {"generated": _some(outputs), "real": _some(truths)}
    if inputs is not None:
        sources, _ = inputs.matched(outputs)
        if sources.names == outputs.names:
            columns = {"input": _some(sources), **columns}
    return Findings(pictures={"Generated beside real images": columns})


def write_evaluation(out: Path, evaluation: Evaluation) -> None:
    """Write all of it into the folder `out`, which is made if need be. What was there under the names is replaced.

    Raises:
        OSError: it cannot be written.
    """
    pictures = out / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    for title, columns in evaluation.findings.pictures.items():
        files[title] = pictures / f"{_slug(title)}.png"
        write_grid(files[title], dict(columns))
    _write(out / MARKDOWN, _markdown(evaluation, files))
    _write(out / PAGE_FILE, _page(evaluation, files))
    # Last, for programs take it that all is there.
    _write(out / JSON, json.dumps(as_json(evaluation), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """What evaluation.json holds. JSON has no infinity: such a value is null, and "is" says "infinite"."""
    findings = evaluation.findings
    details = dict(findings.details)
    return {
        "i2i_version": __version__,
        "title": evaluation.title,
        "sets": _finite(evaluation.sets),
        "figures": _finite(findings.figures),
        "missing": dict(findings.missing),
        "warnings": list(findings.warnings),
        "groups": _finite(details.pop("groups", None)),
        "details": _finite(details),
        "settings": _finite(evaluation.settings),
    }


def print_evaluation(evaluation: Evaluation) -> None:
    """Show figures, what is missing and warnings on the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None)
    for heading in ("figure", "value", "95 % interval", ""):
        table.add_column(heading, justify="right" if heading in ("value", "95 % interval") else "left", overflow="fold")
    _, *rows = _rows(evaluation.findings)
    for name, value, interval, _, meaning in rows:
        table.add_row(*map(Text, (name, value, interval, meaning)))
    console.print(table)
    findings = evaluation.findings
    parts = (("not measured", _missing(findings)), ("on this machine", findings.hints), ("note", findings.warnings))
    for heading, lines in parts:
        for line in lines:
            console.print(Text(f"{heading}: {line}"))


def meaning_of(name: str) -> str:
    """What a figure means, in a few words; for one of a network that is none of ours that of its kind ("frechet")."""
    while name not in MEANINGS and "_" in name:
        name = name.rpartition("_")[0]
    return MEANINGS.get(name, "")


def _meaning(name: str, figure: Figure) -> str:
    return meaning_of(name) + (f" ({figure.how})" if figure.how else "")


def _some(images: ImageSet) -> Any:
    count = min(len(images), SAMPLES)
    return alike(images.read(number * len(images) // count) for number in range(count))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _slug(title: str) -> str:
    """A file name from what stands before the names of images."""
    return re.sub(r"\W+", "-", title.partition(":")[0].lower()).strip("-")


def _finite(value: Any) -> Any:
    """The value as JSON knows it: infinity and NaN become null, paths text, and figures what `_entry` says."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return str(value)
        case Mapping():
            return {
                str(key): _entry(key, entry) if isinstance(entry, Figure) else _finite(entry)
                for key, entry in value.items()
            }
        case list() | tuple():
            return [_finite(entry) for entry in value]
        case _:
            return value


def _entry(name: str, figure: Figure) -> dict[str, Any]:
    """A figure as the JSON file has it."""
    what = {} if math.isfinite(figure.value) else {"is": "infinite" if math.isinf(figure.value) else "undefined"}
    return {
        "value": _finite(figure.value),
        **what,
        "low": _finite(figure.low),
        "high": _finite(figure.high),
        "images": figure.images,
        "meaning": _meaning(name, figure),
    }


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    if abs(value) < TINY:
        return "0"
    return "infinite" if math.isinf(value) else f"{value:.4g}"


def _interval(figure: Figure, *, several: str = "needs several") -> str:
    """The interval; without one, what it would need."""
    if figure.low is None:
        return several if math.isfinite(figure.value) else ""
    return f"{_number(figure.low)} … {_number(figure.high)}"


def _missing(findings: Findings) -> list[str]:
    """A line for each reason."""
    names: dict[str, list[str]] = {}
    for name, why in findings.missing.items():
        names.setdefault(why, []).append(name)
    return [f"{', '.join(together)}: {why}" for why, together in names.items()]


def _sets(evaluation: Evaluation) -> Iterator[str]:
    for part, about in evaluation.sets.items():
        half = f" ({about['half']} halves)" if about.get("half") else ""
        count = "".join(f", {about[what]} {what}" for what in ("images", "videos") if what in about)
        height, width = about.get("fitted", (0, 0))
        fitted = f", cut around the middle and resized to {width} x {height} px" if width else ""
        low, high = about.get("data_range", (0, 0))
        units = f", black is {low:g} and white {high:g}" if high > low else ""
        yield f"{part}: {about['place']}{half}{count}{fitted}{units}"


def _rows(findings: Findings) -> Iterator[tuple[str, str, str, str, str]]:
    """Headings, and a row for each figure."""
    # Frames of one video are too much alike to say how another would be.
    of_videos = bool({"frames", "videos"} & findings.details.keys())
    several = "needs several videos" if of_videos else "needs several"
    yield "figure", "value", "95 % interval", "frames" if of_videos else "images", "what it means"
    for name, figure in findings.figures.items():
        images = "" if figure.images is None else str(figure.images)
        yield name, _number(figure.value), _interval(figure, several=several), images, _meaning(name, figure)


def _video_table(findings: Findings) -> list[list[str]]:
    """Headings, and of each of several videos a row; nothing without them."""
    videos = findings.details.get("videos")
    if not videos:
        return []
    rows = [["video", "frames", *findings.figures]]
    for video, about in videos.items():
        values = (about["figures"][name].value if name in about["figures"] else None for name in findings.figures)
        rows.append([video, str(about["frames"]["count"]), *map(_number, values)])
    return rows


def _group_table(findings: Findings) -> list[list[str]]:
    """Headings and rows: under each figure all groups, and the largest gap between two; nothing without groups.

    Downwards, so that pages hold any number of either.
    """
    groups = findings.details.get("groups")
    if not groups:
        return []
    rows = [["figure", "group", "value", "95 % interval", "images"]]
    overlaps = {True: "intervals overlap", False: "intervals do not overlap", None: ""}
    for name in dict.fromkeys(name for about in groups["by_group"].values() for name in about["figures"]):
        heading = f"{name} (see below)" if name == "swd" else name
        for group, about in groups["by_group"].items():
            figure = about["figures"].get(name)
            cells = [_number(figure.value), _interval(figure), str(figure.images)] if figure else ["-", "", ""]
            rows.append([heading, group, *cells])
            heading = ""
        if gap := groups["gaps"].get(name):
            rows.append(["", "largest gap", _number(gap["gap"]), overlaps[gap["intervals_overlap"]], ""])
    return rows


def _group_note(findings: Findings) -> str:
    """What to know of the table's figures."""
    by_group = findings.details["groups"]["by_group"].values()
    counts = {about["figures"]["swd"].images for about in by_group if "swd" in about["figures"]}
    if not counts:
        return ""
    return (
        f"swd is over {max(counts)} generated and as many real images of each group. It compares among groups only: "
        "fewer images give larger figures."
    )


def _usefulness_table(findings: Findings) -> list[list[str]]:
    """Headings and rows: what a network that was trained on generated images tells of each class, and one on real."""
    section = findings.details.get("usefulness", {})
    of_class = section.get("by_class") or section.get("class_iou")
    if not of_class:
        return []
    measure = "accuracy" if "by_class" in section else "IoU"
    rows = [[name, _number(found["trained"]), _number(found["real"])] for name, found in of_class.items()]
    return [["class", f"{measure}, trained on generated images", f"{measure}, trained on real images"], *rows]


def _usefulness_note(findings: Findings) -> str:
    section = findings.details["usefulness"]
    share = (
        "" if section["share_of_real"] is None else f"That is {section['share_of_real']:.0%} of what real ones give. "
    )
    return (
        f"Two networks, one trained on {section['trained_on_images']} generated images and one on as many real ones, "
        f"are tested on real images that neither has seen. {share}By chance it would be {section['chance']:.2g}."
    )


def _copies(findings: Findings) -> list[str]:
    """Copies of training images, the clearest first, a line for each way in which they were found."""
    lines = []
    for name, section in findings.details.items():
        copies = section.get("copies") if name.startswith("memorisation") else None
        if copies:
            pairs = ", ".join(f"{copy['generated']} from {copy['training']}" for copy in copies[:COPIES])
            by = name.removeprefix("memorisation").lstrip("_")
            more = f", and {len(copies) - COPIES} more, which {JSON} lists" if len(copies) > COPIES else ""
            lines.append(f"{f'by features of {by}: ' if by else ''}{pairs}{more}")
    return lines


def _as_markdown(text: str) -> str:
    """Text, such as people's names for files and groups, as Markdown that shows it and means nothing else."""
    special = r"[\\`*\[\]<|~]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])"  # not _ within words, as in swd_0
    return re.sub(special, r"\\\g<0>", " ".join(text.split()))


def _markdown(evaluation: Evaluation, files: Mapping[str, Path]) -> str:
    findings = evaluation.findings

    def table(rows: Sequence[Sequence[str]]) -> list[str]:
        heading, *rest = (" | ".join(map(_as_markdown, row)) for row in rows)
        return [f"| {heading} |", "|" + "---|" * len(rows[0]), *(f"| {row} |" for row in rest), ""]

    def points(lines: Sequence[str]) -> list[str]:
        return [*(f"- {_as_markdown(line)}" for line in lines), ""]

    parts = [f"# {_as_markdown(evaluation.title)}", "", *points(list(_sets(evaluation)))]
    if findings.warnings:
        parts += ["## Before you believe it", "", *points(findings.warnings)]
    parts += ["## Figures", "", *table([*_rows(findings)])]
    if findings.missing:
        parts += ["## Not measured", "", *points(_missing(findings))]
    if rows := _video_table(findings):
        parts += ["## Each video", "", *table(rows)]
    if rows := _group_table(findings):
        parts += ["## Groups", "", *table(rows), _group_note(findings), ""]
    if rows := _usefulness_table(findings):
        parts += ["## What the images are good for", "", _usefulness_note(findings), "", *table(rows)]
    if copies := _copies(findings):
        parts += ["## Copies of training images", "", *points(copies)]
    for title, file in files.items():
        shown = _as_markdown(title)
        parts += [f"## {shown}", "", columns_of(file), "", f"![{shown}]({PICTURES}/{file.name})", ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*parts, f"Made with i2i {__version__}.", ""]))


def _page(evaluation: Evaluation, files: Mapping[str, Path]) -> str:
    findings = evaluation.findings

    def text(content: str) -> str:
        return html.escape(content, quote=True)

    def table(rows: Sequence[Sequence[str]], *, words: tuple[int, ...] = ()) -> str:
        """`words`: columns of sentences, which begin at the left and are not squeezed."""

        def line(cells: Sequence[str], tag: str) -> str:
            sentences = ' style="text-align: left; min-width: 11rem; overflow-wrap: anywhere"'
            styles = (sentences if place in words else "" for place in range(len(cells)))
            unbroken = [text(cell).replace(" … ", "&nbsp;…&nbsp;") for cell in cells]
            unbroken[0] = unbroken[0].replace("_", "_<wbr>")  # where long names of figures may be broken
            marked = (f"<{tag}{style}>{cell}</{tag}>" for style, cell in zip(styles, unbroken, strict=True))
            return f"<tr>{''.join(marked)}</tr>"

        heading, *rest = rows
        body = "\n".join(line(row, "td") for row in rest)
        return f'<div style="overflow-x: auto"><table>\n{line(heading, "th")}\n{body}\n</table></div>'

    def points(lines: Sequence[str]) -> str:
        return "<ul>" + "\n".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"

    parts = [f"<h1>{text(evaluation.title)}</h1>", points(list(_sets(evaluation)))]
    parts += [f'<p class="alarm">{text(warning)}</p>' for warning in findings.warnings]
    parts += ["<h2>Figures</h2>", table([*_rows(findings)], words=(4,))]
    if findings.missing:
        parts += ["<h2>Not measured</h2>", points(_missing(findings))]
    if rows := _video_table(findings):
        parts += ["<h2>Each video</h2>", table(rows)]
    if rows := _group_table(findings):
        parts += [
            "<h2>Groups</h2>",
            table(rows, words=(1,)),
            *(f"<p>{text(note)}</p>" for note in [_group_note(findings)] if note),
        ]
    if rows := _usefulness_table(findings):
        parts += ["<h2>What the images are good for</h2>", f"<p>{text(_usefulness_note(findings))}</p>", table(rows)]
    if copies := _copies(findings):
        parts += ["<h2>Copies of training images</h2>", points(copies)]
    for title, file in files.items():
        parts += [f"<h2>{text(title)}</h2>", f"<p>{columns_of(file)}</p>", picture(file, largest_px=LARGEST_PX)]
    settings = json.dumps(_finite(evaluation.settings), indent=2, ensure_ascii=False)
    parts += ["<h2>Settings</h2>", f"<pre>{text(settings)}</pre>", f"<p>Made with i2i {__version__}.</p>"]
    return PAGE.format(title=text(evaluation.title), body="\n".join(parts))
