"""What was found of drift, as a file for programs, a table, and a page with histograms and images."""

import html
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from PIL import Image

from i2i.evaluation.drift import FACTS, LEVEL, LITTLE, LITTLE_TOLD_APART, SHARES, Change, Drift, Snapshot, label
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.pages import PAGE, inline
from i2i.files import replacing

PAGE_FILE = "drift.html"
SHOWN = 8  # images of each set
_SIDE_PX = 200
_CAVEAT = (
    "The tests take images for independent of each other. Frames of one video and photos of one afternoon are not: "
    "of those, take some from many days, or expect false alarms."
)


def write_report(
    folder: Path, drift: Drift, *, reference: Snapshot, live: Snapshot, images: tuple[ImageSet | None, ImageSet]
) -> None:
    """Write drift.json, drift.md and drift.html.

    Args:
        folder: made where it is missing.
        drift: what was found of `reference` and `live`.
        images: the reference's, None if they are not at hand, and the live ones, for the page to show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    channels = max(map(int, reference.facts["channels"]))
    for name, content in (
        ("drift.json", json.dumps(as_json(drift, images[1]), indent=1, ensure_ascii=False)),
        ("drift.md", _markdown(drift, channels, images[1])),
        (PAGE_FILE, _page(drift, channels, reference, live, images)),
    ):
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


def as_json(drift: Drift, live: ImageSet) -> dict[str, Any]:
    content = asdict(drift) | {"smallest_seen": None if math.isinf(drift.smallest_seen) else drift.smallest_seen}
    outliers = [asdict(outlier) | {"image": live.names[outlier.index]} for outlier in drift.outliers]
    return {"level": LEVEL, "little": LITTLE} | content | {"outliers": outliers}


def table(drift: Drift, channels: int) -> list[list[str]]:
    """Rows of text under a head: what, reference, live, shift in deviations, effect, p-value, verdict."""
    head = ["", "reference", "live", "shift", "effect", "p", "verdict"]
    return [head, *([label(change.name, channels), *_cells(change)] for change in drift.changes)]


def _cells(change: Change) -> list[str]:
    shift = "" if change.shift is None else f"{change.shift:+.2f}"
    effect, p_value = f"{change.effect:.2f}", "< 0.001" if change.p_value < 0.001 else f"{change.p_value:.3f}"
    return [
        _shown(change.name, change.reference),
        _shown(change.name, change.live),
        shift,
        effect,
        p_value,
        change.verdict,
    ]


def _shown(name: str, value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.2%}" if name in SHARES else f"{value:.3g}"
        case dict():
            return ", ".join(f"{kind} ({count})" for kind, count in value.items())
    raise AssertionError(value)


def _markdown(drift: Drift, channels: int, live: ImageSet) -> str:
    head, *rows = table(drift, channels)
    lines = ["# Drift", "", drift.verdict, "", *(f"- {note}" for note in drift.notes), ""]
    lines += ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    lines += ["", *_explained(drift), "", "Farthest from the reference:", ""]
    lines += [
        f"- {live.names[one.index]}: {label(one.name, channels)} {one.value:.3g}, {_far(one.deviations)}"
        for one in drift.outliers
    ]
    return "\n".join(lines) + "\n"


def _explained(drift: Drift) -> list[str]:
    reference, live = drift.images
    return [
        f"{reference} reference and {live} live images. Shift: by how many of the reference's deviations the median "
        "(of black and white pixels the mean) moved. Effect: how many more images, as a share, lie on one side of some "
        "value, or have another kind of file; of composition, how often a live image and one of the reference are told "
        "apart, where 0.5 is chance. p: by Holm's correction for all rows together; "
        f"{LEVEL:g} and more may be chance. "
        f"Effects below {LITTLE:g} (of composition {LITTLE_TOLD_APART:g}) are little, and no alarm.",
        "",
        _CAVEAT,
    ]


def _far(deviations: float) -> str:
    return "unlike any of the reference" if deviations >= 99 else f"{deviations:.1f} deviations away"


def _page(
    drift: Drift, channels: int, reference: Snapshot, live: Snapshot, images: tuple[ImageSet | None, ImageSet]
) -> str:
    head, *rows = table(drift, channels)
    body = ["<h1>Drift</h1>", f'<p class="{"alarm" if drift.moved else ""}">{html.escape(drift.verdict)}</p>']
    body += [f"<p>{html.escape(note)}</p>" for note in drift.notes]
    cells = [["".join(f"<td>{html.escape(cell)}</td>" for cell in row)] for row in rows]
    body.append("<table><tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>")
    body += [f"<tr>{row[0]}</tr>" for row in cells]
    body.append("</table>")
    body += [f"<p>{html.escape(line)}</p>" for line in _explained(drift) if line]
    body += ["<h2>Distributions</h2>", inline(_histograms(drift, channels, reference, live), "image/png", "Histograms")]
    reference_images, live_images = images
    if reference_images is not None:
        body += ["<h2>Reference</h2>", _images(reference_images, _some(len(reference_images)))]
    body += ["<h2>Live</h2>", _images(live_images, _some(len(live_images)))]
    captions = [f"{label(one.name, channels)} {one.value:.3g}, {_far(one.deviations)}" for one in drift.outliers]
    body += [
        "<h2>Live images farthest from the reference</h2>",
        _images(live_images, [one.index for one in drift.outliers], captions),
    ]
    return PAGE.format(title="Drift", body="\n".join(body))


def _some(count: int) -> list[int]:
    """Evenly spread over the set."""
    return [number * count // SHOWN for number in range(SHOWN)] if count > SHOWN else list(range(count))


def _images(images: ImageSet, indices: Sequence[int], captions: Sequence[str] | None = None) -> str:
    figures = []
    for place, index in enumerate(indices):
        image = images.read(index)[:3]
        shrunk = min(1.0, _SIDE_PX / max(image.shape[1:]))
        if shrunk < 1:
            size = [max(1, round(side * shrunk)) for side in image.shape[1:]]
            image = F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
        pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "WEBP", quality=90)
        name = html.escape(images.names[index])
        caption = f"{name}<br>{html.escape(captions[place])}" if captions else name
        picture = inline(buffer.getvalue(), "image/webp", name)
        figures.append(f'<figure style="flex: 0 0 {_SIDE_PX}px">{picture}<figcaption>{caption}</figcaption></figure>')
    return f'<div class="over-time">{"".join(figures)}</div>'


def _histograms(drift: Drift, channels: int, reference: Snapshot, live: Snapshot) -> bytes:
    """Of every statistic, both sets in one frame, and of facts bars; those that moved come first."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [change for change in drift.changes if change.reference is not None]
    across = 4
    figure = Figure(figsize=(3.2 * across, 2.3 * -(-len(shown) // across)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, change in enumerate(shown):
        axes = figure.add_subplot(-(-len(shown) // across), across, place + 1)
        axes.set_title(f"{label(change.name, channels)}: {change.verdict}", fontsize=10)
        axes.tick_params(labelsize=8)
        if change.name in FACTS:
            kinds = sorted(reference.facts[change.name].keys() | live.facts[change.name].keys())
            for offset, (name, images) in zip((-0.2, 0.2), (("reference", reference), ("live", live)), strict=True):
                shares = [images.facts[change.name].get(kind, 0) / images.count for kind in kinds]
                axes.bar(np.arange(len(kinds)) + offset, shares, width=0.4, label=name)
            axes.set_xticks(range(len(kinds)), kinds)
        else:
            values = [images.statistics[change.name].double().numpy() for images in (reference, live)]
            low, high = min(map(np.min, values)), max(map(np.max, values))
            edges = np.linspace(low, high, 31) if high > low else np.linspace(low - 0.5, low + 0.5, 31)
            axes.locator_params(axis="x", nbins=4)
            for name, part in zip(("reference", "live"), values, strict=True):
                axes.hist(part, bins=edges.tolist(), weights=np.full(len(part), 1 / len(part)), alpha=0.6, label=name)
        axes.set_yticks([])
        if place == 0:
            axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
