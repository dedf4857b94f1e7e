"""Translate images with a trained network: a file, a folder with all below it, or a quoted pattern.

i2i translate photo.jpg photo_x4.png --weights realesr-animevideov3

i2i translate scans/ results/ --weights runs/demo --format tif

i2i translate "photos/**/*.jpg" results/ --weights latest_net_G.pth --skip-existing

i2i translate labels/ photos/ --weights runs/gaugan --style sunset.jpg --instances instances/

Every result is written whole or not at all, and nothing is overwritten in place. A file that fails does not stop the
others; the exit code is then 1. Several processes started by a launcher (torchrun, accelerate launch, or anything that
sets RANK and WORLD_SIZE) share the files.
"""

import errno
import io
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro

import i2i
from i2i.checkpoints.store import GeneratorSpec
from i2i.cli.overrides import parse_overrides
from i2i.cli.plan import Job, match_by_stem, plan_jobs, remove_leftovers
from i2i.cli.progress import FileProgress, duration
from i2i.cli.share import Share, find_share
from i2i.data.image_io import ImageFile, check_format_holds, read_image_file, write_image_file
from i2i.errors import InputError, RunStopped
from i2i.inference.engine import Work
from i2i.inference.precision import Precision
from i2i.inference.styles import AnyStyle
from i2i.inference.translator import Translator
from i2i.layers.norm import Normalisation

# After these no other file could be written either.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
HOLDS_ANYTHING = (".tif", ".tiff", ".npy")
LARGE = 2**22  # values in an image
CORNER_PX = 64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to translate, with what, and how.

    Args:
        input: an image; a folder, searched with its subfolders; or a pattern in quotes, "photos/*.png".
        output: for one image a file name, whose suffix decides the format, or a folder; for several a folder.
        weights: a generator's folder, a weight file of i2i or of another project, a name that `i2i weights` lists, or
            the id of a generator on the Hugging Face Hub.
        format: of the results; that of each image unless given.
        suffix: put at the end of the results' names, such as _x4.
        skip_existing: leave out images whose result is there, to go on after a break.
        device: cpu, cuda, cuda:1, mps …; auto takes an accelerator if there is one.
        precision: of the computation; auto is the fastest that is safe.
        tile_px: side of the tiles that large images are cut into; as large as memory allows unless given.
        exact: divide large images so that they give what the whole image would, up to rounding, rather than in tiles
            that fade into each other. Unless given, this is so on a CPU, and for networks whose norms look at the
            whole image.
        batch_size: how many tiles or pages of an image go through the network together.
        compile: let torch.compile make the network faster, which pays in long jobs with images of one size.
        normalisation: BatchNorm's stored statistics, or those of each image; what the weights say unless given.
        dropout: whether dropout stays on; what the weights say unless given.
        input_range: what is black and white in the units of the images: 0 4095.
        output_range: the same of the results; as for the images unless given.
        style: a photo whose style to paint label maps in, or a folder of photos that are called as the label maps are.
        seed: of a random style for all label maps, in place of a photo.
        instances: a folder of instance maps that are called as the label maps are, or for one label map a file.
        style_encoder: a file with the style encoder of a generator whose weights come without, latest_net_E.pth.
        dont_care: whether 255 in label maps stands for "don't care"; what the weights say unless given.
        instance_edges: whether the last channel of the network's label maps is for edges between instances; what the
            weights say unless given.
        first_id: of the first class in label maps; what the weights say unless given.
        set: name=value for what a weight file cannot tell; `i2i inspect FILE` lists such names.
    """

    input: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="INPUT")]]
    output: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OUTPUT")]]
    weights: str
    format: Literal["png", "jpg", "tif", "webp", "bmp", "npy"] | None = None
    suffix: str = ""
    skip_existing: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    tile_px: int | None = None
    exact: tyro.conf.DisallowNone[bool | None] = None
    batch_size: int | None = None
    compile: bool = False
    normalisation: Normalisation | None = None
    dropout: tyro.conf.DisallowNone[bool | None] = None
    input_range: tuple[float, float] | None = None
    output_range: tuple[float, float] | None = None
    style: str | None = None
    seed: int | None = None
    instances: Path | None = None
    style_encoder: str | None = None
    dont_care: tyro.conf.DisallowNone[bool | None] = None
    instance_edges: tyro.conf.DisallowNone[bool | None] = None
    first_id: int | None = None
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()


class Reading(NamedTuple):
    """What was read for a job: the image, and its instance map if there are any."""

    image: ImageFile
    instances: ImageFile | None


@dataclass(kw_only=True)
class Tally:
    """What became of the files."""

    translated: int = 0
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
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
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

    def record(self, job: Job, notes: Sequence[str], work: Work) -> None:
        """Remember what was said about a file, and what its translation took."""
        self.notes.update(notes)
        self.redone += work.redone_bf16 + work.redone_fp32
        if self.slowest is None or work.seconds > self.slowest[1].seconds:
            self.slowest = (job.source, work)


def main(settings: Settings) -> int:
    """Translate as the settings say.

    Returns:
        The exit code: 0; 1 where a file failed; 130 when interrupted.

    Raises:
        InputError: nothing could start.
        RunStopped: the disk is full or may not be written to.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold bytes that are no text
    if settings.batch_size is not None and settings.batch_size < 1:
        raise InputError(f"--batch-size: expected at least 1, got {settings.batch_size}")
    share = find_share()
    jobs = plan_jobs(settings.input, settings.output, suffix=settings.suffix, image_format=settings.format)
    mine = share.of(jobs)
    remove_leftovers(mine)
    waiting = [job for job in mine if not (settings.skip_existing and job.target.exists())]
    tally = Tally(skipped=len(mine) - len(waiting))
    begun = time.perf_counter()
    with share.beside_others() as wait_for_others:
        translator = _load(settings, share)
        _check_formats(jobs, translator.spec)
        styles, instances = _choose_styles(settings, translator, jobs), _find_instances(settings, jobs)
        try:
            with FileProgress(total=len(waiting), show=share.rank == 0 and bool(waiting)) as progress:
                _translate(
                    translator,
                    waiting,
                    styles=styles,
                    instances=instances,
                    batch_size=settings.batch_size,
                    tally=tally,
                    progress=progress,
                )
        except KeyboardInterrupt:
            print("Interrupted. The same command with --skip-existing goes on.", file=sys.stderr)
            return 130
        finally:
            _summarise(tally, share, seconds=time.perf_counter() - begun)
        if tally.failures:
            wait_for_others()
            return 1
    return 0


def _load(settings: Settings, share: Share) -> Translator:
    overrides = parse_overrides(settings.set)
    for name in overrides.keys() & {own.name for own in fields(Settings)}:
        raise InputError(f"--set {name}: give it as --{name.replace('_', '-')}")
    return i2i.load(
        settings.weights,
        device=share.device(settings.device),
        precision=settings.precision,
        compile=settings.compile,
        tile_px=settings.tile_px,
        exact=settings.exact,
        normalisation=settings.normalisation,
        dropout=settings.dropout,
        input_range=settings.input_range,
        output_range=settings.output_range,
        style_encoder=settings.style_encoder,
        dont_care=settings.dont_care,
        instance_edges=settings.instance_edges,
        first_id=settings.first_id,
        **overrides,
    )


def _choose_styles(settings: Settings, translator: Translator, jobs: Sequence[Job]) -> Mapping[Path, AnyStyle]:
    """The style of each source; none for the mean style."""
    sources = [job.source for job in jobs]
    if settings.seed is not None:
        if settings.style is not None:
            raise InputError("--style and --seed are two ways to say the same; give one of them")
        return dict.fromkeys(sources, translator.draw_style(settings.seed))
    if settings.style is None:
        return {}
    path = Path(settings.style).expanduser()
    if not path.is_dir():
        return dict.fromkeys(sources, translator.encode_style(path))
    photos = match_by_stem(jobs, path, what="photos for the style")
    translator.encode_style(photos[sources[0]])  # a network that reads no styles shall not fail for each file anew
    return photos


def _find_instances(settings: Settings, jobs: Sequence[Job]) -> Mapping[Path, Path]:
    """The instance map of each source; none for edges between classes."""
    if settings.instances is None:
        return {}
    path = settings.instances.expanduser()
    if path.is_dir():
        return match_by_stem(jobs, path, what="instance maps")
    if len(jobs) > 1:
        raise InputError(f"--instances {path}: expected a folder with an instance map for each of {len(jobs)} files")
    return {jobs[0].source: path}


def _check_formats(jobs: Sequence[Job], spec: GeneratorSpec) -> None:
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


def _translate(
    translator: Translator,
    jobs: Sequence[Job],
    *,
    styles: Mapping[Path, AnyStyle],
    instances: Mapping[Path, Path],
    batch_size: int | None,
    tally: Tally,
    progress: FileProgress,
) -> None:
    """Translate one by one, while the next image is read and the last result is written."""
    writing: tuple[Job, Future[tuple[str, ...]]] | None = None
    labels = translator.spec.input is not None and translator.spec.input.stored_as_ids
    with ThreadPoolExecutor(1) as writer:
        try:
            for job, reading in _read_ahead(jobs, instances, labels=labels):
                progress.begin(str(job.source))
                result = None
                with tally.attempt(job):
                    read = reading.result()
                    _check_large_result(translator, read.image, job)
                    result = translator.translate_file(
                        read.image,
                        name=str(job.source),
                        style=styles.get(job.source),
                        instances=read.instances,
                        batch_size=batch_size,
                        progress=progress.within,
                    )
                    tally.record(job, result.notes, translator.work)
                written, writing = writing, None
                _finish(written, tally)
                if result is not None:
                    writing = (job, writer.submit(write_image_file, job.target, result))
                progress.advance()
        finally:  # when interrupted, too, so that what is there is counted
            _finish(writing, tally)


def _check_large_result(translator: Translator, image: ImageFile, job: Job) -> None:
    """Translate the corner of a large image first, lest hours pass before its format turns out to be the wrong one."""
    if max(page.size for page in image.pages) > LARGE:
        corner = replace(image, pages=tuple(page[:CORNER_PX, :CORNER_PX] for page in image.pages))
        check_format_holds(job.target, translator.translate_file(corner, name=str(job.source)))


def _read_ahead(
    jobs: Sequence[Job], instances: Mapping[Path, Path], *, labels: bool
) -> Iterator[tuple[Job, Future[Reading]]]:
    """Each job with what it needs; while one is in use, the next is read."""

    def read(job: Job) -> Reading:
        image = read_image_file(job.source, labels=labels)
        beside = instances.get(job.source)
        return Reading(image, None if beside is None else read_image_file(beside, labels=True))

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
            tally.translated += 1


def _summarise(tally: Tally, share: Share, *, seconds: float) -> None:
    who = f"process {share.rank} of {share.world_size}: " if share.world_size > 1 else ""
    skipped = f", {tally.skipped} skipped, for their results are there" if tally.skipped else ""
    failed = f", {len(tally.failures)} failed" if tally.failures else ""
    lines = [f"{who}{tally.translated} translated{skipped}{failed}, in {duration(seconds)}"]
    lines += [f"  {note} ({count} image{'s' * (count > 1)})" for note, count in tally.notes.most_common()]
    if tally.redone:
        lines.append(
            f"  {tally.redone} tiles or images came out as NaN or infinity and were computed again, more widely"
        )
    if tally.slowest is not None:
        source, work = tally.slowest
        lines.append(f"  the slowest, {source}: {work}" if tally.translated > 1 else f"  {work}")
    lines += [f"  failed: {reason}" for reason in tally.failures.values()]
    # In one piece, so that the summaries of several processes do not mix.
    print("\n".join(lines), flush=True)
