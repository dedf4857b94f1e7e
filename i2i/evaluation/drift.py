"""Whether the images that come in now are still such as a model was made for.

Statistics of both sets are held against each other, each by a two-sample test; Holm's correction keeps false alarms
over all of them together below 5 %. What is significant but small is told, and is no alarm.
"""

import hashlib
import inspect
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from i2i.data.image_io import read_header
from i2i.errors import InputError
from i2i.evaluation.describing import Describing
from i2i.evaluation.image_sets import ImageSet
from i2i.files import replacing
from i2i.metrics.appearance import CHANNELS, SMALLEST_PX, STATISTICS, composition, measure_appearance
from i2i.metrics.two_samples import categories, holm, kolmogorov_smirnov, smallest_seen, told_apart

LEVEL = 0.05
LITTLE = 0.1
"""Effects below are little: less than a tenth of the images lie elsewhere, or would have to change category."""
LITTLE_TOLD_APART = 0.6
"""Likewise, of the area under the ROC curve by which composition tells images apart."""
COMPARED = 1000
"""Images of each set that are compared by composition at most."""
FACTS = ("channels", "depth", "format")
_FORMAT = "i2i drift reference 1"
_SAID = 6  # changes in the verdict, names in a note
_COARSE = 0.5  # where nothing below it would be seen, that nothing is seen says little
_FARTHEST = 99.0  # deviations: all that is farther counts as this

# What it means that a statistic has become larger or smaller.
DIRECTIONS = {
    "height_px": ("larger height", "smaller height"),
    "width_px": ("larger width", "smaller width"),
    "brightness": ("brighter", "darker"),
    "contrast": ("more contrast", "less contrast"),
    "saturation": ("more saturated", "less saturated"),
    "sharpness": ("sharper", "blurrier"),
    "noise": ("noisier", "less noisy"),
    "blockiness": ("blockier, as JPEG compression makes images", "less blocky"),
    "black": ("more black pixels", "fewer black pixels"),
    "white": ("more white pixels", "fewer white pixels"),
}
IMPORTANCE = (
    *("height_px", "width_px", *FACTS),
    *("brightness", "saturation", *(f"channel_{number}" for number in range(CHANNELS))),
    *("contrast", "sharpness", "noise", "black", "white", "composition", "blockiness"),
)
"""In this order changes of one verdict are told: what a person can do most about comes first."""
SHARES = ("black", "white")
"""These are 0 in most images, so that their means are looked at in place of medians, in steps of a thousandth."""
SMALLEST_DEVIATION = 0.001
"""Of numbers between 0 and 1, and of thousands of pixels: a reference that varies less is taken to vary so much."""
COLOURS = ("red", "green", "blue")

Verdict = Literal["moved", "moved a little", "not seen"]


class AppearanceDescriber:
    """Gives each statistic of `i2i.metrics.appearance` as a row, and the composition.

    Args:
        images: what is described, to name a file that is too small.
    """

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        code = [Path(inspect.getfile(function)).read_bytes() for function in (measure_appearance, composition)]
        self.key = f"appearance {hashlib.sha256(b''.join(code)).hexdigest()}"
        self.rows: Mapping[str, torch.dtype] = dict.fromkeys((*STATISTICS, "composition"), torch.float32)
        self.moments: Mapping[str, int] = {}

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        _check_size(images, self._images.files[indices[0]])
        found = {name: values[:, None] for name, values in measure_appearance(images).items()}
        return found | {"composition": composition(images)}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What is kept of a set of images: statistics, no images.

    Attributes:
        count: images in the set.
        statistics: by name (n,), of at most `i2i.evaluation.describing.KEPT` images evenly spread over the set.
        indices: by name (n,), which images these and the composition are of; empty where they come from a file.
        composition: (n, D); in a file of at most COMPARED images.
        facts: how many images are of which kind, by channels, depth and format of their files.
        left_out: further files, which cannot be used: why not, by name.
    """

    count: int
    statistics: Mapping[str, Tensor]
    indices: Mapping[str, Tensor]
    composition: Tensor
    facts: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: ImageSet, *, what: str, describing: Describing, cached: bool = False) -> "Snapshot":
        """Describe images.

        Raises:
            InputError: an image cannot be read, or has sides below 3 px.
        """
        described = describing.of(images, AppearanceDescriber(images), what=what, cached=cached)
        rows = described.rows
        return cls(
            count=len(images),
            statistics={name: rows[name][:, 0] for name in STATISTICS if name in rows},
            indices=described.indices,
            composition=rows["composition"],
            facts=_facts(images),
        )

    def save(self, file: Path) -> None:
        """Write a safetensors file. It holds no image, but a thumbnail of 8 x 8 px of up to COMPARED images.

        Raises:
            InputError: one image is no reference; or a file of something else is there.
        """
        from safetensors.torch import save_file

        check_reference_file(file)
        if self.count < 2:
            raise InputError(f"expected at least 2 images to compare others with, got {self.count}")
        tensors = {f"statistics/{name}": values.contiguous() for name, values in self.statistics.items()}
        tensors["composition"] = _spread(self.composition).contiguous()
        file.parent.mkdir(parents=True, exist_ok=True)
        notes = {"format": _FORMAT, "count": str(self.count), "facts": json.dumps(self.facts)}
        with replacing(file) as temporary:
            save_file(tensors, temporary, metadata=notes)

    @classmethod
    def read(cls, file: Path) -> "Snapshot":
        """Read what `save` wrote.

        Raises:
            InputError: it is no such file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt") as content:
                notes = content.metadata() or {}
                if notes.get("format") != _FORMAT:
                    raise InputError(f"{file} holds no statistics of images; expected what `i2i drift --save` wrote")
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
            statistics = {name: tensors[f"statistics/{name}"] for name in STATISTICS if f"statistics/{name}" in tensors}
            return cls(
                count=int(notes["count"]),
                statistics=statistics,
                indices={},
                composition=tensors["composition"],
                facts=json.loads(notes["facts"]),
            )
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{file} cannot be read as statistics ({error}); expected what `i2i drift --save` wrote"
            ) from error


def check_reference_file(file: Path) -> None:
    """Refuse to write a reference over anything else, such as a model.

    Raises:
        InputError: a file is there that `Snapshot.save` did not write.
    """
    if file.exists():
        try:
            Snapshot.read(file)
        except InputError as error:
            raise InputError(f"{file} is there already and holds something else; give another name") from error


def describe_live(images: ImageSet, *, describing: Describing) -> tuple[Snapshot, ImageSet]:
    """What comes in may be damaged, which must not end the report: files that cannot be used are left out.

    Returns:
        The snapshot, which names what is left out, and the images that it is of.

    Raises:
        InputError: fewer than two images can be used.
    """
    try:
        return Snapshot.of(images, what="live", describing=describing), images
    except InputError:
        with ThreadPoolExecutor(describing.threads) as pool:
            troubles = list(pool.map(lambda index: _trouble(images, index), range(len(images))))
        usable = [index for index, trouble in enumerate(troubles) if trouble is None]
        if not 2 <= len(usable) < len(images):
            raise
    files = [file.relative_to(images.root).as_posix() for file in images.files]
    left_out = {file: trouble for file, trouble in zip(files, troubles, strict=True) if trouble is not None}
    images = images.subset(usable)
    return replace(Snapshot.of(images, what="live", describing=describing), left_out=left_out), images


def _trouble(images: ImageSet, index: int) -> str | None:
    """Why an image cannot be used; None where it can."""
    try:
        _check_size(images.read(index), images.files[index])
    except InputError as error:
        return str(error)
    return None


def _check_size(images: Tensor, file: Path) -> None:
    """(…, H, W) of a file."""
    height, width = images.shape[-2:]
    if min(height, width) < SMALLEST_PX:
        raise InputError(f"{file} is {width} x {height} px; expected at least {SMALLEST_PX} x {SMALLEST_PX}: remove it")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of one statistic.

    Attributes:
        name: the statistic's, or "composition".
        verdict: what is to be made of it.
        words: the same in words; empty where nothing is seen.
        effect: of a number the largest difference between the distribution functions, of a fact the share of images
            that would have to change category, of composition the area under the ROC curve of who tells them apart.
        p_value: by Holm's correction for all statistics together.
        reference, live: medians of numbers, means of shares; counts of facts; None of composition.
        shift: by how many deviations of the reference that moved; None of others.
    """

    name: str
    verdict: Verdict
    words: str
    effect: float
    p_value: float
    reference: float | Mapping[str, int] | None
    live: float | Mapping[str, int] | None
    shift: float | None


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A live image far from the reference: its index, in which statistic, its value there, and how many deviations."""

    index: int
    name: str
    value: float
    deviations: float


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What was found.

    Attributes:
        moved: whether any statistic moved by more than a little.
        verdict: in a sentence.
        changes: of all statistics, those that moved first; see `IMPORTANCE`.
        outliers: the live images that are farthest from the reference, farthest first.
        notes: what else to know, a sentence each.
        images: in the reference and live.
        smallest_seen: differences between distribution functions below this would not have been seen; inf if none.
    """

    moved: bool
    verdict: str
    changes: tuple[Change, ...]
    outliers: tuple[Outlier, ...]
    notes: tuple[str, ...]
    images: tuple[int, int]
    smallest_seen: float


def find_drift(reference: Snapshot, live: Snapshot, *, outliers: int = 8, seed: int = 0) -> Drift:
    """Hold live images against the reference.

    Numbers are compared by Kolmogorov and Smirnov's test, facts of the files by a permutation test of chi-square,
    composition by a classifier two-sample test.

    Args:
        reference, live: both sets, at least two images each.
        outliers: live images that are named as farthest from the reference.
        seed: decides the permutations.

    Raises:
        InputError: fewer than two images in a set.
    """
    # One could not even say how much images differ among themselves.
    if min(reference.count, live.count) < 2:
        raise InputError(f"expected at least 2 images in either set, got {reference.count} and {live.count}")
    names = [name for name in STATISTICS if name in reference.statistics and name in live.statistics]
    found = {name: kolmogorov_smirnov(_values(name, reference), _values(name, live)) for name in names}
    found |= {name: categories(reference.facts[name], live.facts[name], seed=seed) for name in FACTS}
    found["composition"] = told_apart(_spread(reference.composition), _spread(live.composition), seed=seed)
    # What is the same in all images of both sets is no chance for a false alarm.
    tested = [name for name in found if _varies(name, reference, live)]
    p_values = dict.fromkeys(found, 1.0) | dict(
        zip(tested, holm([found[name].p_value for name in tested]), strict=True)
    )

    changes = [_number(name, reference, live, found[name].effect, p_values[name]) for name in names]
    changes += [_fact(name, reference, live, found[name].effect, p_values[name]) for name in FACTS]
    changes.append(_composed(found["composition"].effect, p_values["composition"]))
    order = ["moved", "moved a little", "not seen"]
    changes.sort(key=lambda change: (order.index(change.verdict), IMPORTANCE.index(change.name)))

    least = smallest_seen(
        min(map(len, reference.statistics.values())), min(map(len, live.statistics.values())), level=LEVEL / len(tested)
    )
    return Drift(
        moved=any(change.verdict == "moved" for change in changes),
        verdict=_verdict(changes, reference.count, live.count, least),
        changes=tuple(changes),
        outliers=_outliers(reference, live)[:outliers],
        notes=_notes(reference, live, too_few=math.isinf(least) and changes[0].verdict == "not seen"),
        images=(reference.count, live.count),
        smallest_seen=least,
    )


def label(name: str, channels: int) -> str:
    """What a statistic is called, in images of so many channels."""
    if name.startswith("channel_"):
        number = int(name.removeprefix("channel_"))
        return COLOURS[number] if channels <= len(COLOURS) else f"channel {number + 1}"
    return name.replace("_px", " in px")


def _facts(images: ImageSet) -> dict[str, dict[str, int]]:
    def facts(file: Path) -> tuple[str, str, str]:
        header = read_header(file)
        suffix = file.suffix.lower().lstrip(".")
        return str(header.channels), header.dtype, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)

    with ThreadPoolExecutor() as pool:
        every = list(pool.map(facts, images.files))
    return {name: dict(sorted(Counter(one[place] for one in every).items())) for place, name in enumerate(FACTS)}


def _values(name: str, images: Snapshot) -> Tensor:
    """Numbers as they are compared: whether a single pixel is black is nothing to be told of."""
    values = images.statistics[name].double()
    return (values * 1000).round() / 1000 if name in SHARES else values


def _varies(name: str, reference: Snapshot, live: Snapshot) -> bool:
    if name in FACTS:
        return len(reference.facts[name].keys() | live.facts[name].keys()) > 1
    if name in STATISTICS:
        values = torch.cat([_values(name, reference), _values(name, live)])
        return bool((values != values[0]).any())
    return True


def _spread(rows: Tensor) -> Tensor:
    """At most COMPARED rows, evenly spread."""
    return rows if len(rows) <= COMPARED else rows[torch.arange(COMPARED) * len(rows) // COMPARED]


def _verdict_of(effect: float, p_value: float, *, little: float) -> Verdict:
    if p_value >= LEVEL:
        return "not seen"
    return "moved" if effect >= little else "moved a little"


def _scale(values: Tensor, *, least: float) -> tuple[float, float]:
    """Median and deviation; the larger of the robust and the plain one, for statistics that are mostly one number."""
    low, middle, high = torch.quantile(values.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return middle, max((high - low) / 1.349, values.double().std().item(), least)


def _least(name: str) -> float:
    return SMALLEST_DEVIATION * (1000 if name.endswith("_px") else 1)


def _number(name: str, reference: Snapshot, live: Snapshot, effect: float, p_value: float) -> Change:
    before, deviation = _scale(reference.statistics[name], least=_least(name))
    now, spread = _scale(live.statistics[name], least=_least(name))
    if name in SHARES:
        before, now = (images.statistics[name].double().mean().item() for images in (reference, live))
    shift = max(-_FARTHEST, min(_FARTHEST, (now - before) / deviation))
    verdict = _verdict_of(effect, p_value, little=LITTLE)
    channels = max(map(int, reference.facts["channels"]))
    called = label(name, channels)
    larger, smaller = DIRECTIONS.get(name, (f"more {called}", f"less {called}"))
    if verdict == "not seen":
        words = ""
    elif name in SHARES:
        words = f"{larger if shift > 0 else smaller} ({before:.2%} → {now:.2%})"
    elif abs(shift) >= LITTLE:
        words = f"{larger if shift > 0 else smaller} (median {called} {before:.3g} → {now:.3g})"
    elif spread > 1.1 * deviation or spread < deviation / 1.1:
        wider = "wider" if spread > deviation else "narrower"
        words = f"{called} spreads {wider} (deviation {deviation:.3g} → {spread:.3g})"
    else:
        words = f"{called} is distributed differently"
    return Change(
        name=name,
        verdict=verdict,
        words=words,
        effect=effect,
        p_value=p_value,
        reference=before,
        live=now,
        shift=shift,
    )


def _fact(name: str, reference: Snapshot, live: Snapshot, effect: float, p_value: float) -> Change:
    before, now = reference.facts[name], live.facts[name]
    verdict = _verdict_of(effect, p_value, little=LITTLE)
    words = "" if verdict == "not seen" else f"other {name} ({_shares(before)} → {_shares(now)})"
    return Change(
        name=name, verdict=verdict, words=words, effect=effect, p_value=p_value, reference=before, live=now, shift=None
    )


def _composed(effect: float, p_value: float) -> Change:
    verdict = _verdict_of(effect, p_value, little=LITTLE_TOLD_APART)
    words = f"other composition (of a live and a reference image, {effect:.0%} are told apart; chance is 50%)"
    return Change(
        name="composition",
        verdict=verdict,
        words="" if verdict == "not seen" else words,
        effect=effect,
        p_value=p_value,
        reference=None,
        live=None,
        shift=None,
    )


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {count / total:.0%}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))


def _verdict(changes: Sequence[Change], reference: int, live: int, least: float) -> str:
    moved, little = ([change for change in changes if change.verdict == kind] for kind in ("moved", "moved a little"))
    if moved:
        return f"The input has moved: {_listed(moved)}."
    if little:
        return f"The input has moved, but by little: {_listed(little)}."
    if math.isinf(least):
        return f"Nothing can be told from {reference} and {live} images."
    if least > _COARSE:
        return f"No change is seen, but so few images ({reference} and {live}) show only the coarsest changes."
    return (
        f"No change is seen. With {reference} and {live} images, a change is seen where it moves {least:.0%} of the "
        "images past some value."
    )


def _listed(changes: Sequence[Change]) -> str:
    """Changes in words; those of channels go without saying where brightness has changed."""
    names = {change.name for change in changes}
    said = [change.words for change in changes if not (change.name.startswith("channel_") and "brightness" in names)]
    return "; ".join([*said[:_SAID], f"and {len(said) - _SAID} more"] if len(said) > _SAID else said)


def _notes(reference: Snapshot, live: Snapshot, *, too_few: bool) -> tuple[str, ...]:
    notes = []
    if live.left_out:
        names, count = list(live.left_out), len(live.left_out)
        more = f" and {count - _SAID} more" if count > _SAID else ""
        notes.append(
            f"Of {live.count + count} live files {count} cannot be used and were left out: "
            f"{', '.join(names[:_SAID])}{more}. The first: {live.left_out[names[0]]}."
        )
    if too_few:
        notes.append(
            f"{reference.count} and {live.count} images are too few: even wholly different ones could not be told from "
            "chance; gather more."
        )
    for name in FACTS:
        for kind, count in live.facts[name].items():
            if kind not in reference.facts[name]:
                notes.append(f"{count} of {live.count} live images have {name} {kind}, which the reference never has.")
    missing = reference.statistics.keys() ^ live.statistics.keys()
    if missing:
        notes.append(f"Only one of the sets has {', '.join(sorted(missing))}, which were not compared.")
    return tuple(notes)


def _outliers(reference: Snapshot, live: Snapshot) -> tuple[Outlier, ...]:
    """All live images, farthest first, each by the statistic in which it is farthest."""
    farthest: dict[int, Outlier] = {}

    def consider(name: str, indices: Tensor, values: Tensor, deviations: Tensor) -> None:
        for index, value, far in zip(indices.tolist(), values.tolist(), deviations.tolist(), strict=True):
            if index not in farthest or far > farthest[index].deviations:
                farthest[index] = Outlier(index=index, name=name, value=value, deviations=min(far, _FARTHEST))

    for name, values in live.statistics.items():
        if name in reference.statistics:
            middle, deviation = _scale(reference.statistics[name], least=_least(name))
            away = (values.double() - middle).abs() / deviation
            consider(name, live.indices[name], values, away)
    known = _spread(reference.composition)
    own = torch.cdist(known, known).fill_diagonal_(math.inf).amin(dim=1)
    middle, deviation = _scale(own, least=_least("composition"))
    nearest = torch.cdist(live.composition, known).amin(dim=1)
    consider("composition", live.indices["composition"], nearest, (nearest.double() - middle) / deviation)
    return tuple(sorted(farthest.values(), key=lambda outlier: (-outlier.deviations, outlier.index)))
