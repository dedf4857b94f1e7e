"""Whether generated images are copies of training images, and whether they tell what their generator was trained on.

Copies are found by the nearest training image of each generated one: Carlini et al. 2023 (arXiv:2301.13188, section
4.2), with small pictures in place of pixels. Membership: Chen et al. 2020 (arXiv:1909.03935).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2i.download import sha256_of
from i2i.errors import InputError
from i2i.evaluation.describing import Describer, Describing, Progress
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.pages import alike
from i2i.evaluation.sets import FeatureDescriber
from i2i.metrics import neighbours
from i2i.metrics.intervals import LEVEL, REPLICATES, from_error, resamples, wilson
from i2i.metrics.neighbours import (
    GLANCE_PX,
    MIRRORED,
    PARTS,
    PICTURE_PX,
    WHOLE,
    aligned,
    cut,
    in_all_poses,
    in_pose,
    layouts,
    nearest_neighbours,
    parts_at_a_glance,
    small_pictures,
    undone,
    view_distances,
    views,
)
from i2i.metrics.ranking import auroc, auroc_error

# A copy is nearer to its original than to the others around, by this share or less of the mean distance to so many.
LARGEST_COPY_RATIO = 0.45
SURROUNDING = 50
# Where few real images tell how near they come, only what is nearly equal is a copy.
FEWEST_TO_CALIBRATE = 10
FEW_TO_CALIBRATE = 20
LARGEST_UNCALIBRATED = 0.15
# Real images reach down to their 5 % quantile; copies lie so many times as far below the median, in logarithms.
REACH_TIMES = 4.0
# Added to distances, so that the noise of equal images is no difference.
NOISE = 0.02
# So many training images, and so many parts of them, are looked at in detail, each cut as fits best.
CANDIDATES = 4
SMALLEST_WHOLE, SMALLEST_PART = 0.75, 0.45  # of a side
LOOKED_AT_ONCE = 64
# So many training images at most, and as many held-out ones, are held against all others, to know what is usual.
CALIBRATED_BY = 1000
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
    poses: (N,) int64, in which pose (see `in_pose`) the generated image is like it.
    windows: (N, 4), and which part of it (see `cut`).
    """

    ratios: Tensor
    places: Tensor
    poses: Tensor
    windows: Tensor


class _Space(NamedTuple):
    """Images as rows of numbers, and how copies are told in them. All sides are (N, D).

    name: "" for pixels, else the feature network's.
    pixels: rows are small pictures, which are also searched turned, mirrored and in parts.
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
        describing: reads the images; takes 6 KB of memory for each, and 26 KB more for those of training, besides the
            features.
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
        findings |= _copies(space, generated, training, settings=settings, progress=describing.progress)
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


def _copies(
    space: _Space,
    generated: ImageSet,
    training: ImageSet,
    *,
    settings: MemorisationSettings,
    progress: Progress | None,
) -> Findings:
    """Which generated images are copies: share, list, verdict and picture."""
    by = f" by features of {space.name}" if space.name else ""
    searched = _Pictures(space.training) if space.pixels else space.training

    def closest(rows: Tensor, what: str, *, skipped: Tensor | None = None) -> _Closest:
        def tell(done: int) -> None:
            if progress is not None:
                progress(f"{what} beside training images{by}", done, len(rows))

        return _closest(rows, searched, tell=tell, skipped=skipped)

    found = closest(space.generated, "generated")
    some = _spread(len(space.training))
    among_training = closest(space.training[some], "training", skipped=some).ratios
    among_held_out = None
    if space.held_out is not None:
        among_held_out = closest(space.held_out[_spread(len(space.held_out))], "real").ratios
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
                **(_how(found, place) if space.pixels else {}),
            }
            for place, original in copies
        ],
    }
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
        if space.pixels and among_held_out.median() < LARGEST_COPY_RATIO:
            warnings.append(
                "most held-out images are as near to training images as copies would be (are they the same, or frames "
                "of one video?), so that copies cannot be told; give images that were not trained on"
            )
        elif space.pixels and known:
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
    if space.pixels:
        columns["the same, cut and turned alike"] = alike(
            _made_alike(training.read(original), found, place) for place, original in shown
        )
    return Findings(
        figures={f"copies{_suffix(space)}": share},
        warnings=tuple(warnings),
        pictures={f"Closest pairs{by}, nearest first ({_marked(min(len(copies), len(shown)))})": columns},
        details={f"memorisation{_suffix(space)}": section},
    )


def _how(found: _Closest, place: int) -> dict[str, Any]:
    """What makes the training image like the generated one: cutting, then mirroring, then turning."""
    width, height, x, y = ((found.windows[place] * torch.tensor([1, 1, 0.5, 0.5])).double()).tolist()
    pose = undone(int(found.poses[place]))
    return {
        "left_top_width_height": [0.5 + x - width / 2, 0.5 + y - height / 2, width, height],
        "mirrored": pose >= MIRRORED,
        "turned_degrees": pose % MIRRORED * 90,
    }


def _made_alike(image: Tensor, found: _Closest, place: int) -> Tensor:
    """A training image (C, H, W), cut and turned as the generated one is."""
    how = _how(found, place)
    left, top, width, height = how["left_top_width_height"]
    rows, columns = image.shape[1:]
    top_px, left_px = min(round(top * rows), rows - 1), min(round(left * columns), columns - 1)
    part = image[:, top_px : max(round((top + height) * rows), top_px + 1)]
    part = part[..., left_px : max(round((left + width) * columns), left_px + 1)]
    return in_pose(part, undone(int(found.poses[place])))


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
    `LARGEST_COPY_RATIO`. Of held-out and of training images the one counts that gives less; where there are fewer
    than `FEW_TO_CALIBRATE` of both, it is `LARGEST_UNCALIBRATED` at most.

    Args:
        among_training: (N,) ratios of training images held against all others. Those that have a twin there, as copies
            would, do not count.
        among_held_out: (M,) ratios of real images that were not trained on. If they come as near as copies do, as the
            frames of one video would, nearness is no sign, and there are no copies.
    """
    most = max(len(among_training), 0 if among_held_out is None else len(among_held_out))
    largest = LARGEST_COPY_RATIO if most >= FEW_TO_CALIBRATE else LARGEST_UNCALIBRATED
    for ratios in (among_training[among_training >= LARGEST_COPY_RATIO], among_held_out):
        if ratios is not None and len(ratios) >= FEWEST_TO_CALIBRATE:
            low, median = torch.quantile(ratios.double(), torch.tensor([0.05, 0.5], dtype=torch.float64)).tolist()
            largest = min(largest, median * (low / median) ** REACH_TIMES)
    return largest


def _closest(
    rows: Tensor, training: "_Pictures | Tensor", *, tell: Callable[[int], None], skipped: Tensor | None
) -> _Closest:
    """The training image that each row is nearest to, next to how near others are; `skipped` ones do not count.

    `tell` is called with the number of rows done.
    """
    parts = []
    for start in range(0, len(rows), LOOKED_AT_ONCE):
        some = rows[start : start + LOOKED_AT_ONCE].float()
        without = None if skipped is None else skipped[start : start + LOOKED_AT_ONCE]
        if isinstance(training, _Pictures):
            parts.append(_closest_pictures(_pictures(some), training, skipped=without))
        else:
            near = nearest_neighbours(some, training, k=SURROUNDING + 1, skipped=without)
            usual = near.distances[:, 1:].mean(1)
            noise = NOISE * usual.clamp(min=1e-12)
            ratios = (near.distances[:, 0] + noise) / (usual + noise)
            parts.append(
                _Closest(ratios, near.indices[:, 0], near.poses[:, 0], torch.tensor([WHOLE]).expand(len(some), 4))
            )
        tell(start + len(some))
    return _Closest(*map(torch.cat, zip(*parts, strict=True)))


def _pictures(rows: Tensor) -> Tensor:
    """(N, C · 32 · 32) to (N, C, 32, 32)."""
    return rows.unflatten(1, (-1, PICTURE_PX, PICTURE_PX))


class _Pictures:
    """Small pictures of training images as they are searched: of each 26 KB."""

    def __init__(self, rows: Tensor) -> None:
        self.pictures = _pictures(rows)
        chunks = self.pictures.split(LOOKED_AT_ONCE)
        self.views = torch.cat([views(some).half() for some in chunks])
        self.whole = torch.cat([parts_at_a_glance(some) for some in chunks])
        self.parts = [torch.cat([parts_at_a_glance(some, part).half() for some in chunks]) for part in PARTS]


def _closest_pictures(pictures: Tensor, training: _Pictures, *, skipped: Tensor | None) -> _Closest:
    """As `_closest`, of small pictures (N, C, 32, 32)."""
    each = torch.arange(len(pictures))
    in_poses, views_in_poses = in_all_poses(pictures), in_all_poses(views(pictures))
    glances = in_all_poses(parts_at_a_glance(pictures).unflatten(1, (-1, GLANCE_PX, GLANCE_PX))).flatten(2)
    near = nearest_neighbours(glances, training.whole, k=SURROUNDING + 1, skipped=skipped)
    usual = torch.stack(
        [
            view_distances(views_in_poses[each, poses], training.views[places].float())
            for places, poses in zip(near.indices[:, 1:].unbind(1), near.poses[:, 1:].unbind(1), strict=True)
        ]
    ).mean(0)

    def compared(places: Tensor, poses: Tensor, windows: Tensor, *, smallest: float) -> _Closest:
        """With the best windows of these training images."""
        others = training.pictures[places].float()
        windows = aligned(in_poses[each, poses], others, windows, smallest=smallest)
        distances = view_distances(views_in_poses[each, poses], views(cut(others, windows)))
        return _Closest(((distances + NOISE) / (usual + NOISE)).amax(1), places, poses, windows)

    whole = torch.tensor([WHOLE]).expand(len(pictures), 4)
    candidates = [
        compared(near.indices[:, column], near.poses[:, column], whole, smallest=SMALLEST_WHOLE)
        for column in range(min(CANDIDATES, near.indices.shape[1]))
    ]
    # Of the parts, those that look most like the picture or its mirrored twin, which is the first pose of the others.
    found = [nearest_neighbours(glances[:, ::MIRRORED], part, skipped=skipped) for part in training.parts]
    distances, places, poses = (torch.cat(some, dim=1) for some in zip(*found, strict=True))
    for part in distances.argsort(dim=1, stable=True)[:, :CANDIDATES].unbind(1):
        windows = torch.tensor(PARTS)[part]
        candidates.append(compared(places[each, part], poses[each, part] * MIRRORED, windows, smallest=SMALLEST_PART))
    ratios = torch.stack([candidate.ratios for candidate in candidates])
    best = ratios.argmin(0)
    return _Closest(*(torch.stack(column)[best, each] for column in zip(*candidates, strict=True)))


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
        searched = layouts(_pictures(others))
        looks = [
            torch.stack([layouts(look) for look in (some, some.flip(3))], dim=1)
            for some in _pictures(rows).split(LOOKED_AT_ONCE)
        ]
        return torch.cat([nearest_neighbours(some, searched).distances[:, 0] for some in looks])

    count = min(len(space.training), len(space.held_out))
    to_members = nearest(space.generated, space.training)
    to_others = nearest(space.generated, _shuffled(space.held_out, seed=settings.seed)[:count])
    noise = NOISE * torch.cat([to_members, to_others]).mean().clamp(min=1e-12)
    # Of more images one is nearer by chance; by how much, held-out images tell, which are no copies of any.
    some = space.held_out[_spread(len(space.held_out))]
    parts = _shuffled(space.training, seed=settings.seed).split(count)[: len(space.training) // count]
    to_parts = torch.stack([nearest(some, part) for part in parts], dim=1)
    to_all = nearest(some, space.training)
    ratios = (to_members + noise) / (to_others + noise)

    def corrected(drawn: Tensor, held_out: Tensor) -> Tensor:
        by_chance = (to_all[held_out].median() + noise) / (to_parts[held_out].median() + noise)
        return ratios[drawn].median() / by_chance

    # The correction is as uncertain as what it corrects: held-out images are drawn again, too.
    replicated = torch.stack(
        [
            corrected(drawn, held_out)
            for drawn, held_out in zip(
                resamples(len(ratios), replicates=settings.replicates, seed=settings.seed),
                resamples(len(some), replicates=settings.replicates, seed=settings.seed + 1),
                strict=True,
            )
        ]
    )
    low, high = torch.quantile(replicated, torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2])).tolist()
    value = corrected(torch.arange(len(ratios)), torch.arange(len(some))).item()
    figures = {f"nearest_ratio{where}": Figure(value=value, low=low, high=high, images=len(ratios))}

    nearness = -torch.cat([nearest(rows, space.generated) for rows in (space.training, space.held_out)])
    member = torch.arange(len(nearness)) < len(space.training)
    area, error = auroc(nearness, member), auroc_error(nearness, member)
    # Of one held-out image there is no error, and so no interval.
    ends = [] if math.isnan(error) else [min(max(end, 0.0), 1.0) for end in from_error(area, error)]
    low, high = ends or (None, None)
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
