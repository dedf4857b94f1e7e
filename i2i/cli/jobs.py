"""Take image files through a network, one after another, while the next is read and the last is written."""

import errno
import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from i2i.checkpoints.store import GeneratorSpec
from i2i.cli.plan import Job, remove_leftovers
from i2i.cli.progress import FileProgress, duration
from i2i.cli.share import Share, find_share
from i2i.data.image_io import ImageFile, Provenance, check_format_holds, write_image_file
from i2i.errors import InputError, RunStopped
from i2i.inference.engine import Progress, Work

# After these no other file could be written either.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
HOLDS_ANYTHING = (".tif", ".tiff", ".npy")
LARGE = 2**22  # values in an image
CORNER_PX = 64
INTERRUPTED = 130  # the exit code

Reading = TypeVar("Reading")


class Result(NamedTuple):
    """What came of a job, and what it took."""

    file: ImageFile
    work: Work


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[Reading]):
    """What a command does with each file.

    Attributes:
        read: what a job needs; runs beside the network.
        compute: the result; told a function to call with the share that is done.
        provenance: what to note in the files of results, if anything.
    """

    read: Callable[[Job], Reading]
    compute: Callable[[Job, Reading, Progress], Result]
    provenance: Provenance | None = None


@dataclass(kw_only=True)
class Tally:
    """What became of the files."""

    done: int = 0
    skipped: int = 0
    failures: dict[Path, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    redone: int = 0
    slowest: tuple[Path, Work] | None = None

    @contextmanager
    def attempt(self, job: Job) -> Iterator[None]:
        """Turn an error into a failure of this job, so that the others go on.

        Raises:
            RunStopped: no other job could be written either.
        """
        try:
            yield
        except Exception as error:  # whatever it is, it is told, and a long job must not end at one file
            reason = str(error) if isinstance(error, (InputError, RunStopped)) else f"{type(error).__name__}: {error}"
            if isinstance(error, OSError):
                reason = f"{error.filename or job.target}: {error.strerror or error}"
                if error.errno in FATAL:
                    raise RunStopped(
                        f"{reason}. What was finished is whole; put it right, and the same command with "
                        "--skip-existing goes on"
                    ) from error
            named = str(job.source) in reason or str(job.target) in reason
            self.failures[job.source] = reason if named else f"{job.source}: {reason}"
            print(self.failures[job.source], file=sys.stderr)

    def record(self, job: Job, result: Result) -> None:
        """Remember what was said about a file, and what its result took."""
        work = result.work
        self.notes.update(result.file.notes)
        self.redone += work.redone_bf16 + work.redone_fp32
        if self.slowest is None or work.seconds > self.slowest[1].seconds:
            self.slowest = (job.source, work)


def run_jobs(jobs: Sequence[Job], prepare: Callable[[Share], Steps[Reading]], *, skip_existing: bool, done: str) -> int:
    """Do this process's share of the jobs, and say what became of them.

    Args:
        jobs: those of all processes.
        prepare: loads the network, and says how it is used.
        skip_existing: leave out jobs whose result is there.
        done: what happens to the files, in a word for the summary: "translated".

    Returns:
        The exit code: 0; 1 where a file failed; 130 when interrupted.

    Raises:
        InputError: nothing could start.
        RunStopped: the disk is full or may not be written to.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold bytes that are no text
    share = find_share()
    mine = share.of(jobs)
    remove_leftovers(job.target for job in mine)
    waiting = [job for job in mine if not (skip_existing and job.target.exists())]
    tally = Tally(skipped=len(mine) - len(waiting))
    begun = time.perf_counter()
    with share.beside_others("images") as wait_for_others:
        steps = prepare(share)
        try:
            with FileProgress(total=len(waiting), show=share.rank == 0 and bool(waiting)) as progress:
                work_through(waiting, steps, tally=tally, progress=progress)
        except KeyboardInterrupt:
            print("Interrupted. The same command with --skip-existing goes on.", file=sys.stderr)
            return INTERRUPTED
        finally:
            _summarise(tally, share, done=done, seconds=time.perf_counter() - begun)
        if tally.failures:
            wait_for_others()
            return 1
    return 0


def work_through(jobs: Sequence[Job], steps: Steps[Reading], *, tally: Tally, progress: FileProgress) -> None:
    """Compute one by one, while the next job is read and the last result is written."""
    writing: tuple[Job, Future[tuple[str, ...]]] | None = None
    with ThreadPoolExecutor(1) as writer:
        try:
            for job, reading in _read_ahead(jobs, steps.read):
                progress.begin(str(job.source))
                result = None
                with tally.attempt(job):
                    result = steps.compute(job, reading.result(), progress.within)
                    tally.record(job, result)
                written, writing = writing, None
                _finish(written, tally)
                if result is not None:
                    file, note = result.file, steps.provenance
                    writing = (job, writer.submit(write_image_file, job.target, file, provenance=note))
                progress.advance()
        finally:  # when interrupted, too, so that what is there is counted
            _finish(writing, tally)


def check_formats(jobs: Sequence[Job], spec: GeneratorSpec) -> None:
    """Raise InputError where a file could hold no result of such a network."""
    physical = spec.input is not None and "float32" in (spec.input.dtype, spec.output.dtype)
    if not physical and spec.output.channels <= 4:
        return
    for job in jobs:
        if job.target.suffix.lower() not in HOLDS_ANYTHING:
            what = f"{spec.output.channels} channels" + (" of float32" if physical else "")
            raise InputError(
                f"the network returns {what}, which {job.target} cannot hold; give "
                "--format tif, or for a single image a name that ends in .tif"
            )


def check_large_result(job: Job, image: ImageFile, compute: Callable[[ImageFile], ImageFile]) -> None:
    """Compute the corner of a large image first, lest hours pass before its format turns out to be the wrong one."""
    if max(page.size for page in image.pages) > LARGE:
        corner = replace(image, pages=tuple(page[:CORNER_PX, :CORNER_PX] for page in image.pages))
        check_format_holds(job.target, compute(corner))


def _read_ahead(jobs: Sequence[Job], read: Callable[[Job], Reading]) -> Iterator[tuple[Job, Future[Reading]]]:
    """Each job with what it needs; while one is in use, the next is read."""
    with ThreadPoolExecutor(1) as reader:
        following = (reader.submit(read, job) for job in jobs)
        upcoming = next(following, None)
        for job in jobs:
            reading, upcoming = upcoming, next(following, None)
            assert reading is not None
            yield job, reading


def _finish(writing: tuple[Job, Future[tuple[str, ...]]] | None, tally: Tally) -> None:
    if writing is not None:
        job, future = writing
        with tally.attempt(job):
            tally.notes.update(future.result())
            tally.done += 1


def _summarise(tally: Tally, share: Share, *, done: str, seconds: float) -> None:
    who = f"process {share.rank} of {share.world_size}: " if share.world_size > 1 else ""
    skipped = f", {tally.skipped} skipped, for their results are there" if tally.skipped else ""
    failed = f", {len(tally.failures)} failed" if tally.failures else ""
    lines = [f"{who}{tally.done} {done}{skipped}{failed}, in {duration(seconds)}"]
    lines += [f"  {note} ({count} image{'s' * (count > 1)})" for note, count in tally.notes.most_common()]
    if tally.redone:
        lines.append(
            f"  {tally.redone} tiles or images came out as NaN or infinity and were computed again, more widely"
        )
    if tally.slowest is not None:
        source, work = tally.slowest
        lines.append(f"  the slowest, {source}: {work}" if tally.done > 1 else f"  {work}")
    lines += [f"  failed: {reason}" for reason in tally.failures.values()]
    # In one piece, so that the summaries of several processes do not mix.
    print("\n".join(lines), flush=True)
