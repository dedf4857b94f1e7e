"""What commands that take videos have in common: options, progress, and what is said in the end."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import DisallowNone

from i2i.cli.plan import VideoJob
from i2i.cli.progress import duration
from i2i.cli.share import Share, find_share
from i2i.errors import InputError
from i2i.video.encoding import Codec, Encoding
from i2i.video.frames import Source
from i2i.video.job import Job, Options, Summary
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
        crf: how much may be lost; smaller is better and larger on disk. Near what can be told from the original unless
            given.
        preset: time against space, in the encoder's own words.
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
        overwrite: the result may be there; it is replaced once the new one is whole.
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


def run_videos(
    jobs: Sequence[VideoJob],
    prepare: Callable[[Share], Treatment],
    settings: VideoSettings,
    *,
    skip_existing: bool,
    done: str,
) -> int:
    """Make the videos one after another, each together with the other processes, and say what became of them.

    Args:
        jobs: the videos.
        prepare: loads the network, and says how it is used.
        settings: how they are read and written.
        skip_existing: leave out those whose result is there.
        done: what happens to frames, in a word for the summary: "upscaled".

    Returns:
        The exit code: 0; 1 where a video failed or is cut off; 130 when interrupted.

    Raises:
        InputError: nothing could start, or the only video failed.
    """
    share = find_share()
    if len(jobs) > 1 and (settings.compare or settings.preview):
        raise InputError("--compare and --preview are for one video; take the videos one by one")
    treatment = prepare(share)
    code = 0
    for job in jobs:
        if skip_existing and job.target.exists():
            continue
        try:
            summary = _make(job, treatment, settings, share)
        except KeyboardInterrupt:
            print("Interrupted. The same command goes on where it stopped.", file=sys.stderr)
            return 130
        except InputError as error:
            if len(jobs) == 1:
                raise
            print(error, file=sys.stderr)
            code = 1
            continue
        _say(summary, share, done=done)
        if summary.record.missing and share.rank == 0:
            code = 1
    return code


def _make(job: VideoJob, treatment: Treatment, settings: VideoSettings, share: Share) -> Summary:
    options = settings.options(job.frames)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with closing(_open(job.source, settings)) as source:
        work = Job(
            source=source,
            target=job.target,
            treatment=treatment,
            options=options,
            rank=share.rank,
            world_size=share.world_size,
        )
        if source.interlaced and share.rank == 0:
            print(
                f"{source.name} is interlaced: each frame is woven of two moments, whose combs are enlarged with it. "
                "--deinterlace makes whole frames.",
                file=sys.stderr,
            )
        with _progress(show=share.rank == 0, name=str(job.target)) as progress:
            return work.run(progress)


def _open(place: Path, settings: VideoSettings) -> Source:
    if place.is_file():
        if settings.fps is not None:
            raise InputError(f"--fps is for sequences of images; the frames of {place} keep their own times")
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
def _progress(*, show: bool, name: str) -> Iterator[Callable[[int, int], None]]:
    """Shows frames, frames a second and the time left: a live line on a terminal, a line now and then elsewhere."""
    console = Console()
    begun = printed = time.perf_counter()
    bar = Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("frames, {task.fields[fps]} a second,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not (show and console.is_terminal),
        speed_estimate_period=120,
    )
    task = bar.add_task(name, total=None, fps="0")

    def update(done: int, total: int) -> None:
        nonlocal printed
        now = time.perf_counter()
        speed = done / (now - begun)
        bar.update(task, completed=done, total=max(done, total), fps=f"{speed:.1f}")
        if show and not console.is_terminal and done and now - printed >= EVERY_S:
            printed = now
            left = duration(max(0, total - done) / speed)
            print(f"{done}/{total} frames, {speed:.1f} a second, {left} left", flush=True)

    with bar:
        yield update


def _say(summary: Summary, share: Share, *, done: str) -> None:
    record, load = summary.record, summary.load
    who = f"process {share.rank} of {share.world_size}: " if share.world_size > 1 else ""
    computed = record.frames - summary.found
    speed = f", {computed / summary.seconds:.2f} a second" if computed > 0 and share.world_size == 1 else ""
    found = f", {summary.found} of them by an earlier run" if summary.found else ""
    lines = [f"{who}{summary.target}: {record.frames} frames {done}{found}, in {duration(summary.seconds)}{speed}"]
    if load.wall_s:
        lines.append(f"  the network waited for {load.waiting:.0%} of the time")
    if record.computed < record.pixels:
        lines.append(
            f"  {1 - record.computed / record.pixels:.0%} of the network's work was saved where nothing changed"
        )
    if record.redone:
        lines.append(f"  {record.redone} images came out as NaN or infinity and were computed again, more widely")
    if record.repeated:
        lines.append(f"  {record.repeated} frames could not be decoded; the one before stands in their place")
    if record.missing:
        lines.append(f"  {record.missing} frames are missing at the end, where the video is cut off")
    lines += [f"  {reason}" for reason in (*record.reasons, *(summary.notes if share.rank == 0 else ()))]
    print("\n".join(lines), flush=True)
