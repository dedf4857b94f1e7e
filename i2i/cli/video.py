"""What commands that take videos have in common: options, progress, and what is said in the end."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import DisallowNone

from i2i.cli.entry import refuse, refuse_without
from i2i.cli.jobs import INTERRUPTED, Reading, Steps, Tally, run_jobs
from i2i.cli.plan import Job, VideoJob
from i2i.cli.progress import duration
from i2i.cli.share import Share, find_share
from i2i.errors import InputError
from i2i.video.encoding import Codec, Encoding
from i2i.video.frames import Source
from i2i.video.job import Job as Work
from i2i.video.job import Options, Summary
from i2i.video.networks import Treatment
from i2i.video.sequence import ImageSequence, find_sequence
from i2i.video.source import VideoFile

EVERY_S = 10.0  # between two lines, where the output is no terminal


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """How videos are read and written.

    Args:
        codec: x264 plays everywhere; x265 and av1 take less space and more time; ffv1 loses nothing; those named after
            a maker (nvenc, qsv, amf, videotoolbox) are fast and need the hardware.
        crf: how much may be lost; smaller is better and larger on disk. Unless given, 16 of x264, 19 of x265, 21 of av1
            and vp9, near what can be told from the original.
        preset: time against space, in the encoder's own words: ultrafast … veryslow of x264 and x265.
        pix_fmt: such as yuv420p, or yuv420p10le for 10 bits; depth and chroma of the source unless given.
        deinterlace: make whole frames of video that is woven of two fields.
        skip_duplicates: use results again where nothing has changed since the frame before, bit for bit.
        threshold: with it, the largest difference that counts as no change, in levels of 8 bits.
        stabilise: less flicker where the source stands still, for a little sharpness.
        compare: also write this video, with the source, enlarged, and the result side by side.
        preview: an image file that shows the latest frame of both.
        preview_every_s: seconds between two of them.
        drop_streams: leave out what the result's container cannot hold.
        tag_matrix: where the source does not say its colour matrix, let the result say the one that was assumed.
        overwrite: the result may be there; it is replaced once the new one is whole. A folder of frames is not: one
            with something in it stays as it is.
        fps: frames a second of a sequence of images: 24, 23.976, 30000/1001.
        threads: cores that the network may use on a CPU; all unless given.
        segment_frames: frames of a part, which is what a killed job loses at most; some twenty seconds of work on four
            cores unless given.
    """

    codec: Codec = "x264"
    crf: DisallowNone[float | None] = None
    preset: DisallowNone[str | None] = None
    pix_fmt: DisallowNone[str | None] = None
    deinterlace: bool = False
    skip_duplicates: bool = False
    threshold: float = 0.0
    stabilise: bool = False
    compare: DisallowNone[Path | None] = None
    preview: DisallowNone[Path | None] = None
    preview_every_s: float = 10.0
    drop_streams: bool = False
    tag_matrix: bool = False
    overwrite: bool = False
    fps: DisallowNone[str | None] = None
    threads: DisallowNone[int | None] = None
    segment_frames: DisallowNone[int | None] = None

    def options(self, frames: str | None) -> Options:
        """For a video or, with the format `frames`, a folder of images."""
        match frames:
            case None | "png" | "tif":
                pass
            case _:
                raise InputError(f"--format {frames}: frames of a video become png or tif, which lose nothing")
        return Options(
            encoding=Encoding(codec=self.codec, crf=self.crf, preset=self.preset, pix_fmt=self.pix_fmt),
            frames=frames,
            drop_streams=self.drop_streams,
            tag_matrix=self.tag_matrix,
            skip_duplicates=self.skip_duplicates,
            threshold=self.threshold,
            stabilise=self.stabilise,
            compare=self.compare,
            preview=self.preview,
            preview_every_s=self.preview_every_s,
            overwrite=self.overwrite,
            threads=self.threads,
            segment_frames=self.segment_frames,
        )


def check_videos(jobs: Sequence[VideoJob], settings: VideoSettings) -> None:
    """Find out before any work whether the settings suit the videos.

    Raises:
        InputError: they cannot be, or some would be without effect.
    """
    if not jobs:
        refuse(settings, [field.name for field in fields(settings)], why="for videos, of which there are none here")
        return
    if len(jobs) > 1 and (settings.compare or settings.preview):
        raise InputError("--compare and --preview are for one video; take the videos one by one")
    for job in jobs:
        settings.options(job.frames)
    if settings.preview is None:
        refuse_without("--preview", settings, ("preview_every_s",))
    if settings.compare is None and all(job.frames is not None for job in jobs):
        names = ("codec", "crf", "preset", "pix_fmt", "drop_streams", "tag_matrix")
        refuse(settings, names, why="for results that are videos; these are images")
    if any(job.source.is_file() for job in jobs):
        refuse(settings, ("fps",), why="for sequences of images; the frames of a video keep their own times")
    else:
        refuse(settings, ("deinterlace", "drop_streams", "tag_matrix"), why="for sources that are videos, not images")


def run_all(
    images: Sequence[Job],
    videos: Sequence[VideoJob],
    *,
    prepare: Callable[[Share], Steps[Reading]],
    treat: Callable[[Share], Treatment],
    settings: VideoSettings,
    skip_existing: bool,
    done: str,
) -> int:
    """Do the images, then the videos; see `run_jobs` and `run_videos`."""
    code = run_jobs(images, prepare, skip_existing=skip_existing, done=done) if images else 0
    if not videos or code == INTERRUPTED:
        return code
    return run_videos(videos, treat, settings, skip_existing=skip_existing, done=done, code=code)


def run_videos(
    jobs: Sequence[VideoJob],
    prepare: Callable[[Share], Treatment],
    settings: VideoSettings,
    *,
    skip_existing: bool,
    done: str,
    code: int = 0,
) -> int:
    """Make the videos one after another, each together with the other processes, and say what became of them.

    Args:
        jobs: the videos, for which `check_videos` has been called.
        prepare: loads the network, and says how it is used.
        settings: how they are read and written.
        skip_existing: leave out those whose result is there.
        done: what happens to frames, in a word for the summary: "upscaled".
        code: the exit code of what was done before.

    Returns:
        The exit code: 0, or `code`; 1 where a video failed or is cut off; 130 when interrupted.

    Raises:
        InputError: nothing could start, or the only video failed.
        RunStopped: the disk is full or may not be written to.
    """
    share = find_share()
    waiting = [job for job in jobs if not (skip_existing and _is_there(job.target))]
    tally = Tally(skipped=len(jobs) - len(waiting))
    cut_off = False
    with share.beside_others("videos") as wait_for_others:
        treatment = prepare(share)
        try:
            for job in waiting:
                with tally.attempt(job) if len(jobs) > 1 else nullcontext():
                    summary = _make(job, treatment, settings, share)
                    tally.done += 1
                    cut_off = cut_off or (summary.record.missing > 0 and share.rank == 0)
                    _say(job, summary, share, done=done, skips=settings.skip_duplicates)
        except KeyboardInterrupt:
            print("Interrupted. The same command goes on where it stopped.", file=sys.stderr)
            return INTERRUPTED
        finally:
            if len(jobs) > 1 or tally.skipped:
                _say_of_all(tally, share, done=done)
        if tally.failures or cut_off:
            code = 1
        if code:
            wait_for_others()
    return code


def _is_there(target: Path) -> bool:
    """An empty folder is no result."""
    return any(target.iterdir()) if target.is_dir() else target.exists()


def _make(job: VideoJob, treatment: Treatment, settings: VideoSettings, share: Share) -> Summary:
    options = settings.options(job.frames)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with closing(_open(job.source, settings)) as source:
        work = Work(
            source=source,
            target=job.target,
            treatment=treatment,
            options=options,
            rank=share.rank,
            world_size=share.world_size,
        )
        if share.rank == 0:
            for note in work.notes:
                print(note, file=sys.stderr)
        if source.interlaced and share.rank == 0:
            print(
                f"{source.name} is interlaced: each frame is woven of two moments, whose combs are enlarged with it. "
                "--deinterlace makes whole frames.",
                file=sys.stderr,
            )
        said = work.notes
        with _progress(share, name=str(job.target)) as progress:
            summary = work.run(progress)
        return replace(summary, notes=tuple(note for note in summary.notes if note not in said))


def _open(place: Path, settings: VideoSettings) -> Source:
    if place.is_file():
        return VideoFile(place, deinterlace=settings.deinterlace)
    paths = find_sequence(place)
    if settings.fps is None:
        raise InputError(f"{place}: say with --fps how many of the {len(paths)} images are shown in a second")
    return ImageSequence(paths, rate=_rate(settings.fps))


def _rate(text: str) -> Fraction:
    """Frames a second; 23.976, 29.97 and 59.94 are the names of what broadcasters use."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 10_000:
        raise InputError(f"--fps: expected a number such as 24, 23.976 or 30000/1001, got {text!r}")
    broadcast = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return broadcast if abs(rate - broadcast) < rate / 2000 else rate


@contextmanager
def _progress(share: Share, *, name: str) -> Iterator[Callable[[int, int], None]]:
    """Shows frames, frames a second and the time left: a live line on a terminal, a line now and then elsewhere."""
    console = Console()
    shows = share.rank == 0
    prints = shows and not console.is_terminal
    bar = Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("frames, {task.fields[fps]} a second,"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        disable=not (shows and console.is_terminal),
        speed_estimate_period=120,
    )
    task = bar.add_task(name, total=None, fps="?", left="left")
    # All that is slow in the beginning lies before the first frame.
    first: tuple[float, int] | None = None
    printed = time.perf_counter()
    through = False

    def update(done: int, total: int) -> None:
        nonlocal first, printed, through
        now = time.perf_counter()
        bar.update(task, completed=done, total=max(done, total))
        if done and first is None:
            first = now, done
        if first is not None and done > first[1]:
            speed = (done - first[1]) / (now - first[0])
            bar.update(task, fps=f"{speed:.1f}")
            if prints and now - printed >= EVERY_S:
                printed = now
                left = duration(max(0, total - done) / speed)
                print(f"{done}/{total} frames, {speed:.1f} a second, {left} left", flush=True)
        if done >= total and share.world_size > 1 and not through:
            through = True
            bar.update(task, left="left, waiting for the other processes")
            if prints:
                print(f"all {done} frames of this process are done; waiting for the other processes", flush=True)

    with bar:
        yield update


def _say(job: VideoJob, summary: Summary, share: Share, *, done: str, skips: bool) -> None:
    record, load = summary.record, summary.load
    computed = record.frames - summary.found
    speed = f", {computed / summary.seconds:.2f} a second" if computed > 0 and share.world_size == 1 else ""
    found = f", {summary.found} of them by an earlier run" if summary.found else ""
    lines = [f"{_who(share)}{job.target}: {record.frames} frames {done}{found}, in {duration(summary.seconds)}{speed}"]
    if load.wall_s:
        lines.append(f"  the network waited for {load.waiting:.0%} of the time")
    if skips and record.pixels:
        saved = max(0.0, 1 - record.computed / record.pixels)
        hint = "" if saved else "; compressed video seldom repeats exactly: try --threshold 2"
        lines.append(f"  {saved:.0%} of the network's work was saved where nothing changed{hint}")
    if record.redone:
        lines.append(f"  {record.redone} images came out as NaN or infinity and were computed again, more widely")
    damage = ((record.repeated, "repeated"), (record.missing, "missing at the end"))
    counts = [f"{_counted(number, 'frame')} {what}" for number, what in damage if number]
    if counts:
        lines.append(f"  {' and '.join(counts)}{':' if record.reasons else ''}")
    lines += [f"  {'  ' if counts else ''}{reason}" for reason in record.reasons]
    lines += [f"  {note}" for note in (summary.notes if share.rank == 0 else ())]
    print("\n".join(lines), flush=True)


def _say_of_all(tally: Tally, share: Share, *, done: str) -> None:
    skipped = f", {tally.skipped} skipped, for their results are there" if tally.skipped else ""
    failed = f", {len(tally.failures)} failed" if tally.failures else ""
    lines = [f"{_who(share)}{_counted(tally.done, 'video')} {done}{skipped}{failed}"]
    lines += [f"  failed: {reason}" for reason in tally.failures.values()]
    print("\n".join(lines), flush=True)


def _who(share: Share) -> str:
    return f"process {share.rank} of {share.world_size}: " if share.world_size > 1 else ""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
