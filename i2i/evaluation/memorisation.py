"""Whether generated images are copies of training images, and whether they tell what their generator was trained on.

Copies are found by the nearest training image of each generated one: Carlini et al. 2023 (arXiv:2301.13188, section
4.2), with small pictures in place of pixels. Membership: Chen et al. 2020 (arXiv:1909.03935).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2i.download import sha256_of
from i2i.errors import InputError
from i2i.evaluation.describing import Describer, Describing
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.pages import alike
from i2i.evaluation.sets import FeatureDescriber
from i2i.metrics import neighbours
from i2i.metrics.intervals import LEVEL, REPLICATES, from_error, resamples, wilson
from i2i.metrics.neighbours import (
    PICTURE_PX,
    Neighbours,
    aligned,
    layouts,
    nearest_neighbours,
    small_pictures,
    view_distances,
    views,
)
from i2i.metrics.ranking import auroc, auroc_error

# A copy is nearer to its original than to the others around, by this share or less of the mean distance to so many.
LARGEST_COPY_RATIO = 0.45
SURROUNDING = 50
# Real images reach down to their 5 % quantile; copies lie so many times as far below the median, in logarithms.
REACH_TIMES = 4.0
# Added to distances, so that the noise of equal images is no difference.
NOISE = 0.02
# Candidates are looked at in detail, each cut as fits best.
CANDIDATES = 4
LOOKED_AT_ONCE = 64
# So many training images at most, and as many held-out ones, are held against all others, to know what is usual.
CALIBRATED_BY = 1000
FEWEST_TO_CALIBRATE = 10
FEWEST_TRAINING = 5
FEW_IMAGES = 50
# Membership is warned of where chance gives the figure once in so many evaluations, and not with fewer images.
MEMBERSHIP_DEVIATIONS = 3.09  # one in a thousand
FEWEST_MEMBERS = 20
NAMED = 3


@dataclass(frozen=True, kw_only=True)
class MemorisationSettings:
    """How generated images are held against training images.

    Attributes:
        shown: pairs in the picture of the closest ones.
        replicates: samples for the interval of nearest_ratio.
        seed: decides them, and which images of a larger set stand for a set of as many as the smaller has.
    """

    shown: int = 24
    replicates: int = REPLICATES
    seed: int = 0


class _Closest(NamedTuple):
    """Of N images the training image that each is most likely a copy of.

    ratios: (N,), its distance as a share of the usual one thereabouts; copies are far below 1.
    places: (N,) int64, which it is.
    """

    ratios: Tensor
    places: Tensor


class _Space(NamedTuple):
    """Images as rows of numbers, and how copies are told in them. All sides are (N, D).

    name: "" for pixels, else the feature network's.
    pixels: rows are small pictures, which are also searched mirrored and cut.
    """

    name: str
    pixels: bool
    generated: Tensor
    training: Tensor
    held_out: Tensor | None


class _SmallPictures:
    """A `Describer` that gives small pictures, of equal brightness and contrast."""

    key = f"small pictures {sha256_of(Path(neighbours.__file__))}"
    rows: Mapping[str, torch.dtype] = {"picture": torch.float16}
    moments: Mapping[str, int] = {}

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        return {"picture": small_pictures(images).flatten(1).half()}


def memorisation_findings(
    generated: ImageSet,
    training: ImageSet,
    held_out: ImageSet | None,
    *,
    settings: MemorisationSettings,
    describing: Describing,
    features: Sequence[FeatureDescriber] = (),
) -> Findings:
    """Look for each generated image's nearest training image.

    Figures, those of feature networks with _ and the network's name:
        copies: share of generated images that copy a training image; warned of, and listed in the details.
        nearest_ratio: median distance to the nearest training image as a share of that to the nearest held-out one,
            corrected for there being more of one kind than of the other: about 1 where nothing was memorised.
        membership_auroc: how well training images are told from held-out ones by their nearest generated image.

    The rule for copies is never fitted to the generated images: held-out real images, and training images held against
    all others, say how near images come that are no copies.

    Args:
        generated: the images that are judged.
        training: what their generator was trained on.
        held_out: real images that it was not trained on; None: there are none, so that the last two figures are
            missing.
        settings: how.
        describing: reads the images; takes 10 KB of memory for each, besides the features.
        features: networks in whose features, besides pixels, images are compared.

    Raises:
        InputError: an image cannot be read, or sets differ in channels.
    """
    if len(training) < FEWEST_TRAINING:
        why = f"{training.root} holds {len(training)} training images; at least {FEWEST_TRAINING} tell what is usual"
        return Findings(missing=dict.fromkeys(("copies", "nearest_ratio", "membership_auroc"), why))
    _check_channels(generated, training, held_out)

    spaces: list[tuple[str, Describer, str]] = [("", _SmallPictures(), "picture")]
    spaces += [(describer.extractor.slug, describer, "features") for describer in features]
    findings = Findings()
    for name, describer, row in spaces:
        space = _Space(
            name=name,
            pixels=not name,
            generated=_rows(generated, describer, row, describing, what="generated images"),
            training=_rows(training, describer, row, describing, what="training images", cached=True),
            held_out=_rows(held_out, describer, row, describing, what="real images", cached=True) if held_out else None,
        )
        findings |= _copies(space, generated, training, settings=settings)
        findings |= _nearness(space, settings=settings)
    few = [
        f"{count} {what}"
        for count, what in (
            (len(generated), "generated"),
            (len(training), "training"),
            (FEW_IMAGES if held_out is None else len(held_out), "held-out"),
        )
        if count < FEW_IMAGES
    ]
    if few:
        return findings | Findings(warnings=(f"figures of memorisation are over few images: {', '.join(few)}",))
    return findings


def _copies(space: _Space, generated: ImageSet, training: ImageSet, *, settings: MemorisationSettings) -> Findings:
    """Which generated images are copies: share, list, verdict and picture."""
    found = _closest(space.generated, space)
    some = _spread(len(space.training))
    among_training = _closest(space.training[some], space, skipped=some).ratios
    among_held_out = None
    if space.held_out is not None:
        among_held_out = _closest(space.held_out[_spread(len(space.held_out))], space).ratios
    largest = copy_threshold(among_training=among_training, among_held_out=among_held_out)

    order = found.ratios.argsort(stable=True).tolist()
    pairs = [(place, int(found.places[place])) for place in order]
    copies = [(place, original) for place, original in pairs if found.ratios[place] < largest]
    section: dict[str, Any] = {
        "threshold": largest,
        "smallest_ratio": found.ratios.min().item(),
        "smallest_ratio_of_training_images": among_training.min().item(),
        "copies": [
            {
                "generated": generated.names[place],
                "training": training.names[original],
                "ratio": found.ratios[place].item(),
            }
            for place, original in copies
        ],
    }
    by = f" by features of {space.name}" if space.name else ""
    warnings = []
    if copies:
        named = ", ".join(
            f"{generated.names[place]} from {training.names[original]}" for place, original in copies[:NAMED]
        )
        more = f" and {len(copies) - NAMED} more" if len(copies) > NAMED else ""
        warnings.append(
            f"memorised{by}: {len(copies)} of {len(generated)} generated images are copies of training images "
            f"({named}{more})"
        )
    if among_held_out is not None:
        known = int((among_held_out < largest).sum())
        section |= {"smallest_ratio_of_held_out_images": among_held_out.min().item(), "held_out_copies": known}
        if known and space.pixels:
            warnings.append(
                f"{known} of {len(among_held_out)} held-out images are copies of training images by the same rule: "
                "they were not held out"
            )
    low, high = wilson(len(copies), len(generated))
    share = Figure(value=len(copies) / len(generated), low=low, high=high, images=len(generated))
    shown = pairs[: settings.shown]
    columns = {
        "generated": alike([generated.read(place) for place, _ in shown]),
        "nearest training image": alike([training.read(original) for _, original in shown]),
    }
    return Findings(
        figures={f"copies{_suffix(space)}": share},
        warnings=tuple(warnings),
        pictures={f"Closest pairs{by}, nearest first ({_marked(min(len(copies), len(shown)))})": columns},
        details={f"memorisation{_suffix(space)}": section},
    )


def _spread(count: int) -> Tensor:
    """Indices of at most `CALIBRATED_BY` of so many images, evenly spread."""
    chosen = min(count, CALIBRATED_BY)
    return torch.arange(chosen) * count // chosen


def _marked(copies: int) -> str:
    """Which pairs of a picture are copies."""
    match copies:
        case 0:
            return "none is a copy"
        case 1:
            return "the first is a copy"
        case _:
            return f"the first {copies} are copies"


def copy_threshold(*, among_training: Tensor, among_held_out: Tensor | None = None) -> float:
    """Below which ratio an image is a copy: real images that are none hardly ever come there.

    As far below the median as `REACH_TIMES` the way down to the 5 % quantile, on a logarithmic scale, and at most
    `LARGEST_COPY_RATIO`. Of held-out and of training images the one counts that gives less.

    Args:
        among_training: (N,) ratios of training images held against all others. Those that have a twin there, as copies
            would, do not count.
        among_held_out: (M,) ratios of real images that were not trained on. If they come as near as copies do, as the
            frames of one video would, nearness is no sign, and there are no copies.
    """
    largest = LARGEST_COPY_RATIO
    for ratios in (among_training[among_training >= LARGEST_COPY_RATIO], among_held_out):
        if ratios is not None and len(ratios) >= FEWEST_TO_CALIBRATE:
            low, median = torch.quantile(ratios.double(), torch.tensor([0.05, 0.5], dtype=torch.float64)).tolist()
            largest = min(largest, median * (low / median) ** REACH_TIMES)
    return largest


def _closest(rows: Tensor, space: _Space, *, skipped: Tensor | None = None) -> _Closest:
    """The training image that each row is nearest to, next to how near others are; `skipped` ones do not count."""
    parts = []
    shape = (-1, PICTURE_PX, PICTURE_PX)
    training = space.training
    searched = layouts(training.unflatten(1, shape)) if space.pixels else training
    for start in range(0, len(rows), LOOKED_AT_ONCE):
        some = rows[start : start + LOOKED_AT_ONCE].float()
        without = None if skipped is None else skipped[start : start + LOOKED_AT_ONCE]
        if space.pixels:
            pictures = some.unflatten(1, shape)
            near = _near(pictures, searched, k=SURROUNDING + 1, skipped=without)
            parts.append(_looked_at(pictures, training.unflatten(1, shape), near))
        else:
            near = nearest_neighbours(some, searched, k=SURROUNDING + 1, skipped=without)
            usual = near.distances[:, 1:].mean(1)
            noise = NOISE * usual.clamp(min=1e-12)
            parts.append(_Closest((near.distances[:, 0] + noise) / (usual + noise), near.indices[:, 0]))
    return _Closest(*map(torch.cat, zip(*parts, strict=True)))


def _near(pictures: Tensor, searched: Tensor, *, k: int, skipped: Tensor | None = None) -> Neighbours:
    """The nearest layouts of small pictures (N, C, 32, 32), mirrored or not."""
    return nearest_neighbours(layouts(pictures), searched, k=k, mirrored=layouts(pictures.flip(3)), skipped=skipped)


def _looked_at(pictures: Tensor, training: Tensor, near: Neighbours) -> _Closest:
    """Compare small pictures (N, C, 32, 32) with those of their neighbours, the nearest ones cut as fits best."""
    as_they_are, turned = views(pictures), views(pictures.flip(3))

    def distances(column: int, others: Tensor) -> Tensor:
        """(N, 2) of views, from others that take the place of the neighbours in a column."""
        mirrored = near.mirrored[:, column].view(-1, 1, 1, 1, 1)
        return view_distances(torch.where(mirrored, turned, as_they_are), views(others))

    columns = range(near.indices.shape[1])
    usual = torch.stack([distances(column, training[near.indices[:, column]]) for column in columns[1:]]).mean(0)
    ratios = []
    for column in columns[:CANDIDATES]:
        mirrored = near.mirrored[:, column].view(-1, 1, 1, 1)
        window = aligned(torch.where(mirrored, pictures.flip(3), pictures), training[near.indices[:, column]])
        ratios.append(((distances(column, window) + NOISE) / (usual + NOISE)).amax(1))
    ratio, candidate = torch.stack(ratios).min(0)
    return _Closest(ratio, near.indices.gather(1, candidate[:, None])[:, 0])


def _nearness(space: _Space, *, settings: MemorisationSettings) -> Findings:
    """Whether generated images lie nearer to training than to held-out images."""
    where = _suffix(space)
    if space.held_out is None:
        why = "no real images that the generator was not trained on: give some"
        return Findings(missing={f"nearest_ratio{where}": why, f"membership_auroc{where}": why})

    def nearest(rows: Tensor, others: Tensor) -> Tensor:
        """(N,) distances."""
        if not space.pixels:
            return nearest_neighbours(rows, others).distances[:, 0]
        shape = (-1, PICTURE_PX, PICTURE_PX)
        searched = layouts(others.unflatten(1, shape))
        parts = rows.split(LOOKED_AT_ONCE)
        return torch.cat([_near(part.unflatten(1, shape), searched, k=1).distances[:, 0] for part in parts])

    count = min(len(space.training), len(space.held_out))
    to_members = nearest(space.generated, space.training)
    to_others = nearest(space.generated, _shuffled(space.held_out, seed=settings.seed)[:count])
    noise = NOISE * torch.cat([to_members, to_others]).median().clamp(min=1e-12)
    # Of more images one is nearer by chance; by how much, held-out images tell, which are no copies of any.
    some = space.held_out[_spread(len(space.held_out))]
    parts = _shuffled(space.training, seed=settings.seed).split(count)[: len(space.training) // count]
    to_parts = torch.cat([nearest(some, part) for part in parts]).median()
    by_chance = (nearest(some, space.training).median() + noise) / (to_parts + noise)
    ratios = (to_members + noise) / (to_others + noise) / by_chance
    medians = torch.stack(
        [ratios[drawn].median() for drawn in resamples(len(ratios), replicates=settings.replicates, seed=settings.seed)]
    )
    low, high = torch.quantile(medians, torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2])).tolist()
    figures = {
        f"nearest_ratio{where}": Figure(value=ratios.median().item(), low=low, high=high, images=len(ratios)),
    }

    nearness = -torch.cat([nearest(rows, space.generated) for rows in (space.training, space.held_out)])
    member = torch.arange(len(nearness)) < len(space.training)
    area, error = auroc(nearness, member), auroc_error(nearness, member)
    low, high = (min(max(end, 0.0), 1.0) for end in from_error(area, error))
    figures[f"membership_auroc{where}"] = Figure(value=area, low=low, high=high, images=len(nearness))
    warnings = []
    if area - MEMBERSHIP_DEVIATIONS * error > 0.5 and len(space.held_out) >= FEWEST_MEMBERS:
        by = f" by features of {space.name}" if space.name else ""
        warnings.append(
            f"generated images tell training images from held-out ones{by} (membership_auroc {area:.2f}): what they "
            "were trained on can be inferred, unless the two sets differ for other reasons"
        )
    return Findings(figures=figures, warnings=tuple(warnings))


def _rows(
    images: ImageSet, describer: Describer, row: str, describing: Describing, *, what: str, cached: bool = False
) -> Tensor:
    """(N, D), of all images."""
    return describing.of(images, describer, what=what, cached=cached, kept=None).rows[row]


def _shuffled(rows: Tensor, *, seed: int) -> Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]


def _check_channels(generated: ImageSet, training: ImageSet, held_out: ImageSet | None) -> None:
    expected = len(generated.read(0))
    for images in (training, held_out):
        if images is not None and len(images.read(0)) != expected:
            raise InputError(
                f"{images.files[0]} has {len(images.read(0))} channels, and {generated.files[0]} has {expected}; "
                "expected images of the same kind"
            )


def _suffix(space: _Space) -> str:
    return f"_{space.name}" if space.name else ""
