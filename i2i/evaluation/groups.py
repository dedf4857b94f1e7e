"""Whether a generator serves all groups alike: figures of each group of images, and how far apart they are."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from i2i.data.image_io import READABLE_SUFFIXES
from i2i.errors import InputError
from i2i.evaluation.describing import Describing
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.pairs import PairMeter, compare_pairs, mean_figure
from i2i.evaluation.sets import wasserstein_of_some
from i2i.metrics.intervals import REPLICATES

DELIMITERS = "\t;,"  # where a line could be cut in as many parts by several, commas belong to names most likely
NAMED = 5  # images in a warning
FEW = 10  # images, of which an interval says little


def read_groups(path: Path, *, column: str | None = None) -> dict[str, str]:
    """The group of each image, from a CSV file.

    Args:
        path: a line for each image, first its name, then its group, with a comma, semicolon or tab between. With a
            heading that has "image" (or "file", "name", "path"), the columns may be others too.
        column: the heading of the column with the groups; None: "group", or without headings the second column.

    Returns:
        Groups by images' paths with / and without suffix, in the order of the file.

    Raises:
        InputError: the file cannot be read, has no such column, a line without a group, or two groups for one image.
    """
    path = path.expanduser()
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
        delimiter = _delimiter(text)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        lines = [[cell.strip() for cell in row] for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read ({error}); expected a CSV file in UTF-8 with the columns image,group"
        ) from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if any(line)]
    image_place, group_place = 0, 1
    heading = [cell.lower() for cell in numbered[0][1]] if numbered else []
    image_names = [name for name in ("image", "file", "filename", "name", "path") if name in heading]
    if image_names:
        image_place = heading.index(image_names[0])
        wanted = column or "group"
        if wanted.lower() in heading:
            group_place = heading.index(wanted.lower())
        elif column is not None or len(heading) != 2:
            columns = ", ".join(numbered[0][1])
            raise InputError(f"{path} has no column {wanted}, only {columns}; say with --group-column which one it is")
        else:
            group_place = 1 - image_place
        del numbered[0]
    elif column is not None:
        raise InputError(
            f"{path}: --group-column {column} needs a first line with the columns' names, image among them"
        )
    groups: dict[str, str] = {}
    for number, line in numbered:
        if max(image_place, group_place) >= len(line) or not line[image_place] or not line[group_place]:
            raise InputError(f"{path}, line {number}: expected an image and its group, got {delimiter.join(line)!r}")
        name, group = _plain(line[image_place]), line[group_place]
        if groups.setdefault(name, group) != group:
            raise InputError(f"{path}, line {number}: {name} is in the group {groups[name]} already; an image has one")
    if not groups:
        raise InputError(f"{path} holds no images; expected lines with an image and its group")
    return groups


def group_findings(
    generated: ImageSet,
    real: ImageSet,
    *,
    groups: Mapping[str, str],
    meter: PairMeter | None,
    describing: Describing,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Findings:
    """Figures of each group, and the largest gap between groups.

    Args:
        generated, real: the images.
        groups: of images, by name; from `read_groups`.
        meter: compares images with equal names; None: they are no pairs.
        describing: reads the images.
        replicates, seed: of the samples that intervals come from.

    Returns:
        No figures, but details under "groups": "by_group", for each group its generated images and their figures, and
        "gaps", for each figure the gap between the lowest and the highest group and whether the intervals of these two
        overlap. A mean over one image has no interval. Where they do not overlap, a warning says so. Where real images
        have groups too, figures include the sliced Wasserstein distance between a group's generated and real images, as
        many of either kind in each group.

    Raises:
        InputError: no generated image has a group, or as `compare_pairs`.
    """
    names = _listed(generated, groups)
    if not names:
        raise InputError(
            f"none of the {len(groups)} images with a group (such as {next(iter(groups))}) is among the generated ones "
            f"(such as {generated.names[0]}); expected their paths below {generated.root}"
        )
    members = _members(names, groups)
    figures: dict[str, dict[str, Figure]] = {group: {} for group in sorted(members)}
    if meter is not None:
        compared = compare_pairs(generated, real, meter=meter, describing=describing)
        place_of = {file: place for place, file in enumerate(compared.generated.files)}
        for group, found in figures.items():
            files = [generated.files[index] for index in members[group]]
            places = [place_of[file] for file in files if file in place_of]
            for name, values in compared.values.items():
                if not values[places].isnan().all():
                    mean = mean_figure(values[places], replicates=replicates, seed=seed)
                    found[name] = replace(mean, how=meter.settings.how(name))
    real_members = _members(_listed(real, groups), groups)
    shared = [group for group in figures if len(members[group]) > 1 and len(real_members.get(group, ())) > 1]
    if len(shared) > 1:
        # The fewer images, the larger the distance: as many in each group, or the figures would not compare.
        count = min(len(indices[group]) for indices in (members, real_members) for group in shared)
        for group in shared:
            some = _spread(members[group], count), _spread(real_members[group], count)
            distance = wasserstein_of_some(generated, real, indices=some, describing=describing)
            if distance is not None:
                figures[group]["swd"] = distance
    by_group = {group: {"images": len(members[group]), "figures": found} for group, found in figures.items()}
    gaps = _gaps(figures)
    without = [name for index, name in enumerate(generated.names) if index not in names]
    not_found = sorted(set(groups) - set(names.values()) - set(_listed(real, groups).values()))
    return Findings(
        warnings=tuple(_warnings(by_group, gaps, not_found=not_found, without=without)),
        details={
            "groups": {
                "by_group": by_group,
                "gaps": gaps,
                "images_not_found": len(not_found),
                "images_without_group": len(without),
            }
        },
    )


def _delimiter(text: str) -> str:
    """The one that cuts the first line that is not empty into most parts."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(DELIMITERS, key=lambda delimiter: len(next(csv.reader([first], delimiter=delimiter), [])))


def _plain(name: str) -> str:
    """An image's name as `ImageSet.names` has it."""
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in READABLE_SUFFIXES else path)


def _listed(images: ImageSet, groups: Mapping[str, str]) -> dict[int, str]:
    """By index of those images that have a group the name that `groups` has for them.

    That is their own or, where no name is the same, the one with the same last part, if that is unique.
    """
    same = {index: name for index, name in enumerate(images.names) if name in groups}
    if same:
        return same
    by_stem: dict[str, list[str]] = {}
    for name in groups:
        by_stem.setdefault(name.rpartition("/")[2], []).append(name)
    stems = (name.rpartition("/")[2] for name in images.names)
    return {index: by_stem[stem][0] for index, stem in enumerate(stems) if len(by_stem.get(stem, ())) == 1}


def _members(names: Mapping[int, str], groups: Mapping[str, str]) -> dict[str, list[int]]:
    """The indices of each group's images."""
    members: dict[str, list[int]] = {}
    for index, name in names.items():
        members.setdefault(groups[name], []).append(index)
    return members


def _spread(indices: Sequence[int], count: int) -> list[int]:
    return [indices[number * len(indices) // count] for number in range(count)]


def _gaps(figures: Mapping[str, Mapping[str, Figure]]) -> dict[str, dict[str, Any]]:
    """How far the groups with the lowest and the highest value are apart, for each figure that two groups have."""
    gaps = {}
    for name in dict.fromkeys(name for found in figures.values() for name in found):
        having = {group: found[name] for group, found in figures.items() if name in found}
        if len(having) < 2:
            continue
        lowest = min(having, key=lambda group: having[group].value)
        highest = max(having, key=lambda group: having[group].value)
        below, above = having[lowest].high, having[highest].low
        gaps[name] = {
            "gap": having[highest].value - having[lowest].value,
            "lowest": lowest,
            "highest": highest,
            "intervals_overlap": None if below is None or above is None else above <= below,
        }
    return gaps


def _warnings(
    by_group: Mapping[str, Mapping[str, Any]],
    gaps: Mapping[str, Mapping[str, Any]],
    *,
    not_found: Sequence[str],
    without: Sequence[str],
) -> Iterator[str]:
    for name, gap in gaps.items():
        if gap["intervals_overlap"] is False:
            low, high = (by_group[gap[end]]["figures"][name].value for end in ("lowest", "highest"))
            yield (
                f"groups differ in {name}: {low:.4g} in {gap['lowest']}, {high:.4g} in {gap['highest']}, and their "
                "95 % intervals do not overlap"
            )
    few = [f"{group} ({about['images']})" for group, about in by_group.items() if about["images"] < FEW]
    if few:
        yield f"groups of fewer than {FEW} images say little: {', '.join(few)}"
    for names, what in ((without, "generated images have no group"), (not_found, "images with a group are not there")):
        if names:
            rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"{len(names)} {what}: {', '.join(names[:NAMED])}{rest}"
