"""Which images and videos a command reads and which files it writes, settled before any work."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from i2i.data.image_io import READABLE_SUFFIXES
from i2i.errors import InputError
from i2i.files import MARK, VIDEO_SUFFIXES

GLOB_CHARACTERS = frozenset("*?[")
KEPT_CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image file to read and the one to write; see `VideoJob` for others."""

    source: Path
    target: Path


@dataclass(frozen=True, kw_only=True)
class VideoJob(Job):
    """One video to make.

    Attributes:
        source: a video, or the folder, "%06d" or "*" pattern of images that it is to be made of.
        target: a video, or a folder for its frames.
        frames: the format of these, such as "png"; None for a video.
    """

    frames: str | None = None


def plan(
    source: str, target: str, *, suffix: str = "", image_format: str | None = None
) -> tuple[list[Job], list[VideoJob]]:
    """Find the images and the videos, and name their results; see `plan_jobs`.

    A video becomes a video or, with an image format and a folder, a folder of frames. Images become a video where
    `target` is the name of one. Videos in a folder keep their names, in .mkv where their container cannot be written.

    Raises:
        InputError: as `plan_jobs`; or the source is the address of a stream, or a pipe.
    """
    _check_readable(source)
    images, videos = _find_jobs(source, target, suffix=suffix, image_format=image_format)
    for job in videos:
        check_writable(job.target.parent)
    _check_apart([*images, *videos])
    return images, videos


def _find_jobs(source: str, target: str, *, suffix: str, image_format: str | None) -> tuple[list[Job], list[VideoJob]]:
    place, result = Path(source).expanduser(), Path(target).expanduser()
    to_folder = result.is_dir() or not result.suffix or target.endswith(("/", os.sep))
    if (suffix or image_format) and not to_folder and result.suffix.lower() in VIDEO_SUFFIXES:
        raise _says_all(target)
    if place.is_file() and place.suffix.lower() not in READABLE_SUFFIXES:
        if to_folder and image_format is not None:
            if suffix:
                raise InputError(f"--suffix: the frames in {target} are numbered; leave it out")
            return [], [VideoJob(source=place, target=result, frames=image_format)]
        return [], [VideoJob(source=place, target=_name_video(place, result, suffix) if to_folder else result)]
    if not to_folder and result.suffix.lower() in VIDEO_SUFFIXES:
        if not place.exists() and GLOB_CHARACTERS.isdisjoint(source) and "%" not in place.name:
            raise _missing(place)
        return [], [VideoJob(source=place, target=result)]
    if place.is_dir() or not GLOB_CHARACTERS.isdisjoint(source):
        base, videos = _find_files(place, excluded=result.resolve(), suffixes=VIDEO_SUFFIXES)
        jobs = [
            VideoJob(source=video, target=_name_video(video, result / video.relative_to(base).parent, suffix))
            if image_format is None
            else VideoJob(
                source=video,
                target=result / video.relative_to(base).with_name(f"{video.stem}{suffix}"),
                frames=image_format,
            )
            for video in videos
        ]
        if videos and not _find_files(place, excluded=result.resolve(), suffixes=READABLE_SUFFIXES)[1]:
            return [], jobs
        return plan_jobs(source, target, suffix=suffix, image_format=image_format), jobs
    return plan_jobs(source, target, suffix=suffix, image_format=image_format), []


def plan_jobs(source: str, target: str, *, suffix: str = "", image_format: str | None = None) -> list[Job]:
    """Find the images and name their results. Nothing is written, and no result takes the place of an image.

    Args:
        source: a file; a folder, searched with its subfolders; or a pattern such as "photos/**/*.png". In folders
            and patterns, hidden files, files without an image's suffix and all that lies in `target` are left out.
        target: for one file, a file name, whose suffix decides the format, or a folder (one that exists, or a name
            without a suffix or with a slash at its end); otherwise a folder, in which `source`'s subfolders are
            repeated.
        suffix: appended to the names of results in a folder: "_x4" makes photo_x4.png.
        image_format: of results in a folder, such as "png"; None: that of each image.

    Returns:
        The jobs in an order that depends on the names alone.

    Raises:
        InputError: no such image; a target that is no folder, or cannot be written to; two images with one result;
            a result that is one of the images.
    """
    place = Path(source).expanduser()
    folder = Path(target).expanduser()
    if place.is_file() and folder.suffix and not (folder.is_dir() or target.endswith(("/", os.sep))):
        if suffix or image_format:
            raise _says_all(target)
        if folder.suffix.lower() not in READABLE_SUFFIXES:
            raise InputError(
                f"{target} names no image format: expected a file name that ends in one of "
                f"{', '.join(sorted(READABLE_SUFFIXES))}, or for a folder a slash at its end"
            )
        jobs = [Job(source=place, target=folder)]
        folder = folder.parent
    else:
        base, images = place.parent, [place]
        if not place.is_file():
            base, images = _find_files(place, excluded=folder.resolve(), suffixes=READABLE_SUFFIXES)
        if not images:
            raise InputError(f"{place} has no image: expected files that end in {', '.join(sorted(READABLE_SUFFIXES))}")
        if folder.suffix.lower() in READABLE_SUFFIXES and not folder.is_dir():
            raise InputError(f"{target} reads as the name of an image; expected a folder")
        jobs = [
            Job(source=image, target=_name_result(image, folder / image.relative_to(base), suffix, image_format))
            for image in images
        ]
    check_writable(folder)
    _check_apart(jobs)
    return jobs


def match_by_stem(jobs: Sequence[Job], folder: Path, *, what: str) -> dict[Path, Path]:
    """For the source of each job the image below `folder` that is called the same but for its suffix.

    Args:
        folder: searched with its subfolders.
        what: what lies in it, for messages.

    Raises:
        InputError: there is none for a source, or there are several.
    """
    found: dict[str, list[Path]] = {}
    for path in _walk(folder, READABLE_SUFFIXES, above=()):
        found.setdefault(path.stem, []).append(path)
    for job in jobs:
        images = found.get(job.source.stem, [])
        if len(images) != 1:
            names = f"{len(images)}: {', '.join(map(str, images))}" if images else "none"
            raise InputError(
                f"{job.source}: expected one file {job.source.stem}.* among the {what} in {folder}, got {names}"
            )
    return {job.source: found[job.source.stem][0] for job in jobs}


def remove_leftovers(results: Iterable[Path]) -> None:
    """Remove the temporary files that a killed process left of these results, and no others."""
    names: dict[Path, set[str]] = {}
    for path in results:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, mine in names.items():
        for file in folder.iterdir() if folder.is_dir() else ():
            mark = re.fullmatch(rf"\.(.+)\.{MARK}\w{{8}}(\.\w+)?", file.name)
            if mark and mark[1] in mine:
                file.unlink(missing_ok=True)


def find_clips(place: Path, *, frames: bool) -> dict[str, Path]:
    """Videos to be compared with others, by name: of a folder, the paths below it without suffix; "" for a single one.

    Args:
        place: a video, or a folder of videos.
        frames: folders of images are videos, too.

    Returns:
        Nothing where the place is or holds images, without `frames`.

    Raises:
        InputError: it does not exist, two videos have one name, or with `frames` it holds no frames, or frames beside
            others.
    """
    if place.is_file():
        if place.suffix.lower() in VIDEO_SUFFIXES:
            return {"": place}
        if frames:
            raise InputError(f"{place} is no video; expected one, or with --frames a folder of frames")
        return {}
    if not place.is_dir():
        raise InputError(f"{place} does not exist; expected a folder of images, or a video")
    images = _walk(place, READABLE_SUFFIXES, above=())
    if not frames and next(images, None):
        return {}
    videos = [*_walk(place, VIDEO_SUFFIXES, above=())]
    if frames:
        folders = dict.fromkeys(image.parent for image in images)
        if [*folders] == [place] and not videos:
            return {"": place}
        if place in folders:
            raise InputError(
                f"{place} holds images, and videos or folders of images as well; expected the frames of one video, or "
                "several videos: take the others out"
            )
        videos += folders
        if not videos:
            raise InputError(f"{place} holds no images that can be read, and no videos")
    found: dict[str, Path] = {}
    for video in videos:
        name = (video if video.is_dir() else video.with_suffix("")).relative_to(place).as_posix()
        if found.setdefault(name, video) != video:
            raise InputError(f"{found[name]} and {video} have one name; give each video a name of its own")
    return found


def check_writable(folder: Path) -> None:
    """Raise InputError where nothing can be written below a folder, whether it is there or to be made."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be made: {existing} is a file; give another place for the results")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{existing} may not be written to; give another place for the results, or its permissions")


def check_outside(out: Path, place: Path) -> None:
    """Raise InputError where results would come among the images below a place, for which they would be taken."""
    if out.expanduser().resolve().is_relative_to(place.expanduser().resolve()):
        raise InputError(f"--out {out} lies in {place}, among the images that are read; give another folder")


def _find_files(place: Path, *, excluded: Path, suffixes: frozenset[str]) -> tuple[Path, list[Path]]:
    """The folder or pattern's files, and the folder that their names in the target are relative to."""
    if place.is_dir():
        base = place
        found = _walk(place, suffixes, above=())
    elif GLOB_CHARACTERS.isdisjoint(str(place)):
        raise _missing(place)
    else:
        base, pattern = _split_pattern(place)
        found = (path for path in sorted(base.glob(pattern)) if _is_meant(path.relative_to(base), path, suffixes))

    if base.resolve() == excluded:
        raise InputError(
            f"{excluded} holds the images themselves; give another folder for the results, such as "
            f"{base / 'results'}, so that none is taken for an image or written over one"
        )
    if excluded.is_relative_to(base.resolve()):
        found = (path for path in found if not path.resolve().is_relative_to(excluded))
    return base, list(found)


def _check_readable(source: str) -> None:
    if "://" in source:
        raise InputError(f"{source} is no file; streams are taken from Python: i2i.video.upscale_live")
    place = Path(source).expanduser()
    if source == "-" or (place.exists() and not place.is_file() and not place.is_dir()):
        raise InputError(f"{source}: expected a file that can be read twice, got a pipe or a device; save it as a file")


def _says_all(target: str) -> InputError:
    return InputError(
        f"{target} is a file name, which says all; --suffix and --format are for results in a folder: leave them out, "
        f"or give {target}/"
    )


def _missing(place: Path) -> InputError:
    return InputError(f"{place} does not exist, or is neither a file nor a folder; check the path")


def _walk(folder: Path, suffixes: frozenset[str], *, above: tuple[Path, ...]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link that leads back up
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from _walk(path, suffixes, above=(*above, real))
        elif _is_meant(path.relative_to(folder), path, suffixes):
            yield path


def _split_pattern(pattern: Path) -> tuple[Path, str]:
    """The part before the first wildcard, and the rest."""
    first = next(i for i, part in enumerate(pattern.parts) if not GLOB_CHARACTERS.isdisjoint(part))
    rest = pattern.parts[first:]
    # Alone, ** stands for folders in some versions of pathlib and for files too in others.
    return Path(*pattern.parts[:first]), "/".join([*rest, "*"] if rest[-1] == "**" else rest)


def _is_meant(name: Path, path: Path, suffixes: frozenset[str]) -> bool:
    hidden = any(part.startswith(".") for part in name.parts)
    # A link to nowhere is kept, so that it is told of.
    return not hidden and name.suffix.lower() in suffixes and (path.is_file() or path.is_symlink())


def _name_video(video: Path, folder: Path, suffix: str) -> Path:
    ending = video.suffix.lower()
    return folder / f"{video.stem}{suffix}{ending if ending in KEPT_CONTAINERS else '.mkv'}"


def _name_result(image: Path, place: Path, suffix: str, image_format: str | None) -> Path:
    ending = image.suffix if image_format is None else f".{image_format}"
    if "/" in suffix or os.sep in suffix:
        raise InputError(f"--suffix: expected a part of a file name such as _x4, got {suffix!r}")
    if ending.lower() not in READABLE_SUFFIXES:
        raise InputError(f"{image}: its suffix names no image format; say which the result shall have with --format")
    return place.with_name(f"{image.stem}{suffix}{ending}")


def _check_apart(jobs: Sequence[Job]) -> None:
    sources = {
        _identity(job.source): f"{'video' if isinstance(job, VideoJob) else 'image'} {job.source}" for job in jobs
    }
    first: dict[Path, Path] = {}
    for job in jobs:
        if job.target in first:
            advice = (
                "each with a name of its own for the result"
                if isinstance(job, VideoJob)
                else "or keep their formats apart by leaving --format out"
            )
            raise InputError(
                f"{first[job.target]} and {job.source} would both become {job.target}; take them one by one, {advice}"
            )
        first[job.target] = job.source
        there = _identity(job.target)
        if there is not None and there in sources:
            raise InputError(
                f"the result of {job.source} would overwrite the {sources[there]}; give another place for the results"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file share, whatever links lie between; None where no file can be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
