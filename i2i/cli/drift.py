"""Say whether the images that come in now are still such as a model was made for.

    i2i drift --reference photos/train --live inbox/ --out drift/
    i2i drift --reference photos/train --save reference.safetensors
    i2i drift --reference reference.safetensors --live inbox/ --check

Sizes, light, colours, sharpness, noise, traces of compression, kinds of files and composition of both sets are held
against each other. A table says which have moved, and drift.html in --out shows it. With --save, statistics of the
reference are kept in a small file that takes its place where the images themselves may not go; it holds thumbnails of
8 x 8 px without their brightness.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from i2i.cli.plan import check_outside, check_writable
from i2i.cli.progress import FileProgress
from i2i.errors import InputError
from i2i.evaluation.describing import Describing
from i2i.evaluation.drift import Drift, Snapshot, check_reference_file, describe_live, find_drift
from i2i.evaluation.drift_report import PAGE_FILE, table, write_report
from i2i.evaluation.image_sets import Half, ImageSet


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to compare.

    Args:
        reference: a folder of images such as the model was made for, or a file that --save wrote.
        live: a folder of images as they come in now.
        out: a folder for drift.html, drift.md and drift.json.
        save: a file for the reference's statistics, .safetensors.
        check: exit with 1 if the input has moved by more than a little, for scripts.
        reference_half: which half of the reference's files counts, where two images lie side by side.
        live_half: the same of live files.
        data_range: what is black and white in the images' own units: 0 1 of most floats, 0 4095 of a 12-bit camera.
        threads: that read images; one for each core unless given.
    """

    reference: Path
    live: Path | None = None
    out: Path | None = None
    save: Path | None = None
    check: bool = False
    reference_half: Half | None = None
    live_half: Half | None = None
    data_range: tuple[float, float] | None = None
    threads: int | None = None


def main(settings: Settings) -> int:
    """Compare as the settings say.

    Returns:
        The exit code: 0; with `check` 1 if the input has moved.

    Raises:
        InputError: something given cannot be used.
        OSError: the disk is full, for instance.
    """
    _check(settings)
    place = settings.reference.expanduser()
    images = None
    if not place.is_file():
        images = ImageSet.find(place, half=settings.reference_half, data_range=settings.data_range)
    live_images = None
    if settings.live is not None:
        live_images = ImageSet.find(settings.live, half=settings.live_half, data_range=settings.data_range)
    total = sum(len(one) for one in (images, live_images) if one is not None)
    with FileProgress(total=total, show=True) as progress:
        describing = Describing(threads=settings.threads, progress=_told(progress))
        if images is None:
            reference = Snapshot.read(place)
        else:
            reference = Snapshot.of(images, what="reference", describing=describing, cached=True)
        live = None
        if live_images is not None:
            live, live_images = describe_live(live_images, describing=describing)
    if settings.save is not None:
        reference.save(settings.save.expanduser())
        print(f"Statistics of {reference.count} images: {settings.save}")
    if live is None or live_images is None:
        return 0
    drift = find_drift(reference, live)
    _print(drift, channels=max(map(int, reference.facts["channels"])))
    if settings.out is not None:
        out = settings.out.expanduser()
        write_report(out, drift, reference=reference, live=live, images=(images, live_images))
        print(f"Look at {out / PAGE_FILE}")
    return 1 if settings.check and drift.moved else 0


def _check(settings: Settings) -> None:
    if settings.live is None and settings.save is None:
        raise InputError("expected --live, images to compare with the reference, or --save, a file to keep it in")
    if settings.live is None and (settings.out is not None or settings.check):
        raise InputError("--out and --check need --live, images to compare with the reference")
    if settings.threads is not None and settings.threads < 1:
        raise InputError(f"--threads: expected at least 1, got {settings.threads}")
    for place in (settings.out, settings.save.parent if settings.save is not None else None):
        if place is not None:
            check_writable(place.expanduser())
    for place in (settings.reference, settings.live):
        if settings.out is not None and place is not None:
            check_outside(settings.out, place)
    if settings.save is not None:
        check_reference_file(settings.save.expanduser())


def _told(progress: FileProgress) -> Callable[[str, int, int], None]:
    """Shows both passes over images as one."""
    before: dict[str, int] = {}

    def tell(what: str, done: int, total: int) -> None:
        progress.begin(what)
        for _ in range(done - before.get(what, 0)):
            progress.advance()
        before[what] = max(done, before.get(what, 0))  # live images are described anew where one cannot be read

    return tell


def _print(drift: Drift, *, channels: int) -> None:
    from rich.console import Console
    from rich.table import Table

    head, *rows = table(drift, channels)
    shown = Table(*head, box=None)
    for row in rows:
        shown.add_row(*row)
    Console(highlight=False, markup=False).print(shown)
    for note in drift.notes:
        print(f"Note: {note}")
    print(drift.verdict)
