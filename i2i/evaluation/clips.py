"""How near a video comes to the one that it should be, frame by frame, and how steady it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2i.data.folders import to_tensor
from i2i.data.image_io import rescale
from i2i.errors import InputError
from i2i.evaluation.describing import VALUES_IN_MEMORY, cores, in_threads
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import depth_warnings, range_in
from i2i.evaluation.pages import alike
from i2i.evaluation.pairs import NAMES, PairMeter, mean_figure, mean_findings
from i2i.metrics.flicker import SMALLEST_PX, FlickerMeter, flicker_of
from i2i.metrics.intervals import REPLICATES
from i2i.video import ImageSequence, VideoFile, find_sequence
from i2i.video.frames import Frame, Source

SHOWN = 6  # frames in the picture
SHOWN_PX = 480
SHOWN_VIDEOS = 6
FEW_VIDEOS = 10
FULL = (0.0, 65535.0)  # black and white in 16 bits
FLICKER_TOTALS = 6
Frames = tuple[Frame, ...]  # of the generated and of the real video
ANY_RATE = Fraction(25)  # of frames in a folder, of which only the order counts


def check_clip(generated: Path, real: Path, *, meter: PairMeter) -> None:
    """See whether a generated video, or folder of frames, can be compared with a real one.

    Raises:
        InputError: one is no video, their sizes or numbers of frames differ, or the meter's border leaves nothing.
    """
    with side_by_side([generated, real]) as (sources, _):
        _size_of(sources, meter=meter)


def clip_findings(
    generated: Path,
    real: Path,
    *,
    meter: PairMeter,
    device: torch.device | str = "cpu",
    data_range: tuple[float, float] | None = None,
    threads: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Findings:
    """Figures of pairs of frames, and temporal consistency; a few frames of each video are held at a time.

    There are no confidence intervals: neighbouring frames are nearly one, and nothing says how many count.

    Args:
        generated, real: videos, or folders of frames whose numbers say their order.
        meter: compares frames.
        device: the meter's.
        data_range: what is black and white in frames of 16 bits that use fewer; None: 0 and 65535.
        threads: that compare frames; None: one for each core.
        rank, world_size: this process, and how many share the work: torch.distributed joins what they find. All read
            every frame, which costs little, and each compares its own.
        progress: is told the frames done, and frames in all.

    Returns:
        Means over frames of the figures of `pairs.NAMES`; flicker, the root of the mean squared warp error between
        neighbouring frames, in levels of 255, along the real video's motion; and flicker_real, that of the real video.

    Raises:
        InputError: as `check_clip`.
    """
    device = torch.device(device)
    shown: dict[str, list[Tensor]] = {"generated": [], "real": []}
    units = range_in(np.dtype("uint16"), data_range) or FULL
    highest: dict[str, int] = {}  # value in frames of 16 bits
    with side_by_side([generated, real]) as (sources, frames):
        size = _size_of(sources, meter=meter)
        count = len(sources[0].timeline)
        wanted = {number * count // min(count, SHOWN) for number in range(min(count, SHOWN))}

        def with_the_one_before() -> Iterator[tuple[int, Frames, Frames | None]]:
            """The frames that this process compares, and those of the same videos that stand before them."""
            before = None
            for number, stored in enumerate(frames):
                for which, frame in zip(shown, stored, strict=True):
                    if frame.image.dtype == np.uint16:
                        highest[which] = max(highest.get(which, 0), int(frame.image.max()))
                here = tuple(_stretched(frame, units) for frame in stored)
                if number in wanted:
                    for images, frame in zip(shown.values(), here, strict=True):
                        images.append(_tensor(frame))
                if number % world_size == rank:
                    yield number, here, before
                before = here
                if progress is not None:
                    progress(number + 1, count)

        def compare(work: tuple[int, Frames, Frames | None]) -> tuple[int, Tensor]:
            number, here, before = work
            figures = meter(*(_tensor(frame)[None].to(device) for frame in here))[0]
            return number, torch.cat([figures, *_flickers(here, before)])

        several = _threads(threads, device=device, size=size)
        found = dict(in_threads(compare, with_the_one_before(), threads=several, waiting=several))
        notes = [
            f"{source.name}: {source.damage.repeated} frames could not be read, and the one before stands for each"
            for source in sources
            if source.damage.repeated
        ]
    notes += depth_warnings(highest, white=units[1], said=data_range == units, what="frames")
    values, *flickers = _joined(found, world_size=world_size).split([len(NAMES), FLICKER_TOTALS, FLICKER_TOTALS], dim=1)
    by_name = dict(zip(NAMES, values.T, strict=True))
    figures, missing = {}, {}
    steady, real_steady = (flicker_of(totals.sum(0).numpy()) for totals in flickers)
    if steady.pairs and steady.outside == steady.outside:
        figures["flicker"] = Figure(value=255 * steady.outside, images=steady.pairs)
        figures["flicker_real"] = Figure(value=255 * real_steady.outside, images=real_steady.pairs)
    else:
        missing["flicker"] = f"it needs two neighbouring frames of one scene, of at least {SMALLEST_PX} px"
    means = mean_findings(by_name, meter=meter, what="frames", replicates=None)
    return means | Findings(
        figures=figures,
        missing=missing,
        warnings=tuple(notes),
        pictures={"Frames": {name: alike(images, largest_px=SHOWN_PX) for name, images in shown.items()}},
        details={
            "frames": {
                "count": len(values),
                "cuts": steady.cuts,
                "occluded": steady.occluded,
                **{name: column.tolist() for name, column in by_name.items() if not column.isnan().all()},
            }
        },
    )


def findings_of_clips(
    clips: Mapping[str, tuple[Path, Path]],
    *,
    measure: Callable[[str, Path, Path], Findings],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Findings:
    """Means over several videos of what `clip_findings` says of each: a long one counts as much as a short one.

    Args:
        clips: generated and real videos, by name.
        measure: gives the `clip_findings` of one, from its name and the two.
        replicates, seed: of the samples that intervals come from: how means would vary with other videos.

    Returns:
        With details under "videos": by name each video's frames and figures.
    """
    found: dict[str, Findings] = {}
    all_of_them = Findings()
    for name, pair in clips.items():
        one = measure(name, *pair)
        found[name] = one if len(found) < SHOWN_VIDEOS else replace(one, pictures={})  # which take megabytes
        all_of_them |= found[name]
    figures, warnings = {}, []
    for kind in all_of_them.figures:
        having = {name: one.figures[kind] for name, one in found.items() if kind in one.figures}
        finite = {name: figure for name, figure in having.items() if isfinite(figure.value)}
        if finite and len(finite) < len(having):
            equal = ", ".join(name for name in having if name not in finite)
            warnings.append(f"{kind}, infinite for {equal}, is the mean over the others")
        values = torch.tensor([figure.value for figure in having.values()], dtype=torch.float64)
        frames = sum(figure.images or 0 for figure in (finite or having).values())
        mean = mean_figure(values, replicates=replicates, seed=seed)
        figures[kind] = replace(mean, images=frames, how=next(iter(having.values())).how)
    warnings += [
        f"{kind} is not over {', '.join(name for name, one in found.items() if kind in one.missing)}: {reason}"
        for kind, reason in all_of_them.missing.items()
        if kind in figures
    ]
    warnings += [f"{name}: {warning}" for name, one in found.items() for warning in one.warnings]
    if 1 < len(clips) < FEW_VIDEOS:
        warnings.append(f"intervals over few videos ({len(clips)}) come out too narrow")
    return Findings(
        figures=figures,
        missing={kind: reason for kind, reason in all_of_them.missing.items() if kind not in figures},
        hints=all_of_them.hints,
        warnings=tuple(warnings),
        pictures={
            f"Frames of video {number}: {name}": columns
            for number, (name, one) in enumerate(found.items(), start=1)
            for columns in one.pictures.values()
        },
        details={"videos": {name: {**one.details, "figures": one.figures} for name, one in found.items()}},
    )


def _size_of(sources: Sequence[Source], *, meter: PairMeter) -> tuple[int, int]:
    """The (width, height) of a generated and a real video; raises InputError where they cannot be compared."""
    one, other = ((source.format.width, source.format.height) for source in sources)
    if one != other:
        raise InputError(
            f"{sources[0].name} has {one[0]} x {one[1]} px, {sources[1].name} {other[0]} x {other[1]}; expected videos "
            "of one size"
        )
    meter.check(torch.empty(1, 3, one[1], one[0], device="meta"))
    return one


def _stretched(frame: Frame, units: tuple[float, float]) -> Frame:
    """The frame with black and white, which are at `units`, at the ends of 16 bits, where flow wants them."""
    if frame.image.dtype != np.uint16 or units == FULL:
        return frame
    image = rescale(frame.image, source=units, target=FULL)
    return frame._replace(image=np.rint(image).clip(*FULL).astype(np.uint16))


def _tensor(frame: Frame) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    return to_tensor(frame.image, (0, np.iinfo(frame.image.dtype).max))


def _flickers(here: Frames, before: Frames | None) -> list[Tensor]:
    """The generated and the real video's `FlickerMeter.totals` (6,) of two neighbouring frames, by the real motion."""
    meters = [FlickerMeter(), FlickerMeter()]
    if before is not None and min(here[0].image.shape[:2]) >= SMALLEST_PX:
        for output, truth in (before, here):
            for meter, frame in zip(meters, (output, truth), strict=True):
                meter.add(frame.image, reference=truth.image)
    return [torch.from_numpy(meter.totals) for meter in meters]


def _threads(threads: int | None, *, device: torch.device, size: tuple[int, int]) -> int:
    """How many compare frames (width, height) at one time, as far as memory lets them and the device is shared."""
    if device.type != "cpu":
        return 1
    return max(1, min(threads or cores(), VALUES_IN_MEMORY // (3 * size[0] * size[1])))


def _joined(found: dict[int, Tensor], *, world_size: int) -> Tensor:
    """What all processes found, a row for each frame."""
    parts: list[Any] = [found]
    if world_size > 1:
        parts = [None] * world_size
        torch.distributed.all_gather_object(parts, found)
    rows = {number: row for part in parts for number, row in part.items()}
    return torch.stack([rows[number] for number in sorted(rows)])


@contextmanager
def side_by_side(
    places: Sequence[Path], *, count: int | None = None
) -> Iterator[tuple[list[Source], Iterator[tuple[Frame, ...]]]]:
    """Read videos that show the same frames, in step.

    Args:
        places: video files, or folders of numbered images.
        count: only so many frames from the beginning; None: all.

    Returns:
        The opened videos, and tuples of a frame of each.

    Raises:
        InputError: one cannot be opened, or their numbers of frames differ.
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(closing(_opened(place))) for place in places]
        counts = [len(source.timeline) for source in sources]
        for source, frames in zip(sources, counts, strict=True):
            if frames != counts[0]:
                raise InputError(
                    f"{sources[0].name} has {counts[0]} frames, {source.name} {frames}; "
                    "expected videos that show the same frames"
                )
        yield (
            sources,
            islice(zip(*(source.read(source.timeline[0]) for source in sources), strict=False), count or counts[0]),
        )


def _opened(place: Path) -> Source:
    return ImageSequence(find_sequence(place), rate=ANY_RATE) if place.is_dir() else VideoFile(place)
