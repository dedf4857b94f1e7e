"""How near a video comes to the one that it should be, frame by frame, and how steady it is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from i2i.data.folders import to_tensor
from i2i.errors import InputError
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.pages import alike
from i2i.evaluation.pairs import NAMES, PairMeter, PairSettings, mean_findings
from i2i.metrics.flicker import SMALLEST_PX, FlickerMeter
from i2i.video import ImageSequence, VideoFile, find_sequence
from i2i.video.frames import Frame, Source

SHOWN = 6  # frames in the picture
SHOWN_PX = 480
ANY_RATE = Fraction(25)  # of frames in a folder, of which only the order counts


def clip_findings(
    generated: Path,
    real: Path,
    *,
    settings: PairSettings,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Findings:
    """Figures of pairs of frames, and temporal consistency; one frame of each video is held at a time.

    There are no confidence intervals: neighbouring frames are nearly one, and nothing says how many count.

    Args:
        generated, real: videos, or folders of frames whose numbers say their order.
        settings: how frames are compared.
        device: where LPIPS computes.
        progress: is told the frames done, and frames in all.

    Returns:
        Means over frames of the figures of `pairs.NAMES`; flicker, the root of the mean squared warp error between
        neighbouring frames, in levels of 255, along the real video's motion; and flicker_real, that of the real video.

    Raises:
        InputError: one is no video, or their sizes or numbers of frames differ.
    """
    meter = PairMeter(settings, device=device)
    flicker, real_flicker = FlickerMeter(), FlickerMeter()
    values: list[Tensor] = []
    shown: dict[str, list[Tensor]] = {"generated": [], "real": []}
    with side_by_side([generated, real]) as (sources, frames):
        one, other = ((source.format.width, source.format.height) for source in sources)
        if one != other:
            raise InputError(
                f"{generated} has {one[0]} x {one[1]} px, {real} {other[0]} x {other[1]}; expected videos of one size"
            )
        count = len(sources[0].timeline)
        wanted = {number * count // min(count, SHOWN) for number in range(min(count, SHOWN))}
        measures_flicker = min(one) >= SMALLEST_PX
        for number, (output, truth) in enumerate(frames):
            pair = [
                to_tensor(frame.image, (0, np.iinfo(frame.image.dtype).max)).to(device) for frame in (output, truth)
            ]
            values.append(meter(*pair))
            if measures_flicker:
                flicker.add(output.image, reference=truth.image)
                real_flicker.add(truth.image)
            if number in wanted:
                for name, image in zip(shown, pair, strict=True):
                    shown[name].append(image)
            if progress is not None:
                progress(number + 1, count)
        notes = [
            f"{source.name}: {source.damage.repeated} frames could not be read, and the one before stands for each"
            for source in sources
            if source.damage.repeated
        ]
    by_name = dict(zip(NAMES, torch.stack(values).T, strict=True))
    figures, missing = {}, {}
    steady, real_steady = flicker.result(), real_flicker.result()
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
