"""Take a whole video through a network: in parts, each of which is done once, whatever ends the program between."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import torch
from av import library_versions

from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.inference.engine import PIXELS_PER_BATCH
from i2i.inference.memory import available_bytes
from i2i.video.containers import check_container
from i2i.video.duplicates import Assembler, Planner
from i2i.video.encoding import Encoding, Settled, settle
from i2i.video.frames import Colour, Damage, Format, Source
from i2i.video.joining import join, join_images
from i2i.video.journal import Identity, Journal, Record
from i2i.video.networks import Treatment
from i2i.video.parts import Part, Picture, Shown, result_alone, side_by_side
from i2i.video.pipeline import Load, Task, Workers, run_in_order
from i2i.video.pixels import resolved
from i2i.video.segments import Segment, SegmentReader, cut, share
from i2i.video.stabilise import Stabiliser
from i2i.video.writer import SegmentWriter, SequenceWriter

# A part is what a killed job loses at most. It begins with a whole picture, which takes more space than the difference
# to the one before: so it is as long as this many operations of the network allow, some twenty seconds on four cores.
OPERATIONS_PER_SEGMENT = 5e12
FEWEST_FRAMES, MOST_FRAMES = 24, 240
# Of the memory that is free, for networks that work side by side on a CPU.
SHARE_OF_MEMORY = 0.5
# Whole frames' work that parts of frames must have been able to save before it is found out whether they may be used.
CHECK_AFTER = 16
# Results that are on their way at the same time, for each worker: computed, steadied, converted, encoded.
RESULTS_HELD = 6
PREVIEWS = (".png", ".jpg", ".webp")
IMAGES_ALONE = "Images hold neither sound nor subtitles nor the times of frames."
CHROMA_FOR_PLAYERS = (
    "Colour is stored at half the size, as players want it; --pix-fmt yuv444p keeps it whole, and ffv1 all of it."
)
BT709 = Colour(range=1, matrix=1, primaries=1, transfer=1)
UNSAID_MATRIX = (
    "The source does not say its colour matrix, nor does the result. Players that go by the size take small pictures "
    "for BT.601 and large ones for BT.709; --tag-matrix lets the result say what the source was taken for."
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a video is taken through a network, and what comes of it besides.

    Args:
        encoding: of the result.
        frames: write a folder of numbered images of this format in place of a video.
        drop_streams: leave out streams that the result's container cannot hold, in place of an error.
        tag_matrix: where the source does not say its colour matrix, let the result say the one that was assumed.
        skip_duplicates: use results again where nothing has changed since the frame before.
        threshold: with it, the largest difference that counts as no change, in levels of 8 bits; 0: results are bit
            for bit those of computing every frame.
        stabilise: let neighbouring frames steady each other where the source stands still.
        compare: also write a video of the source, enlarged by bicubic interpolation, and the result side by side.
        preview: an image file for the latest frame, likewise side by side, written anew every `preview_every_s`
            seconds.
        overwrite: the result may be there, and is replaced once the new one is whole; parts of it that were made with
            other settings are thrown away.
        threads: cores of a CPU that the network may use; all unless given.
        segment_frames: how many frames a part has; some twenty seconds of work on four cores unless given.

    Raises:
        InputError: a number that is no use.
    """

    encoding: Encoding = Encoding()  # noqa: RUF009 - frozen
    frames: Literal["png", "tif"] | None = None
    drop_streams: bool = False
    tag_matrix: bool = False
    skip_duplicates: bool = False
    threshold: float = 0.0
    stabilise: bool = False
    compare: str | Path | None = None
    preview: str | Path | None = None
    preview_every_s: float = 10.0
    overwrite: bool = False
    threads: int | None = None
    segment_frames: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("segment_frames", self.segment_frames)):
            if value is not None and value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}")
        if not self.preview_every_s > 0:
            raise InputError(f"preview_every_s: expected seconds above 0, got {self.preview_every_s}")
        if not 0 <= self.threshold < 255:
            raise InputError(f"threshold: expected levels of 8 bits, from 0 (exact) to below 255, got {self.threshold}")
        if self.threshold and not self.skip_duplicates:
            raise InputError("threshold: says what skip_duplicates takes for unchanged; ask for that, too")
        if self.preview is not None and Path(self.preview).suffix.lower() not in PREVIEWS:
            raise InputError(f"preview: expected a name that ends in {', '.join(PREVIEWS)}, got {self.preview}")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What became of a video.

    Attributes:
        target: the result.
        record: of all of it; of several processes that share the work, only the first knows, the others their share.
        found: frames that an earlier run had done.
        load: how busy the network was.
        seconds: that this run took.
        notes: what a person should know, in sentences.
    """

    target: Path
    record: Record
    found: int
    load: Load
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _End:
    """A segment has no more frames.

    Attributes:
        damage: found in it.
        pixels: of its frames.
        computed: pixels that went through the network for it.
    """

    damage: Damage
    pixels: int
    computed: int


_Step = tuple[Segment, Shown | _End]


class Job:
    """One video to make.

    Args:
        source: where frames come from.
        target: the result: a video or, with `options.frames`, a folder.
        treatment: what is done to each frame.
        options: how.
        rank, world_size: this process, of those that share the work; each calls `run`, and the first joins what all
            of them made. They need one file system.

    Raises:
        InputError: what can be known before any work to stand in its way: the container cannot hold a stream, the
            encoder refuses the size, and so on.
    """

    def __init__(
        self,
        *,
        source: Source,
        target: Path,
        treatment: Treatment,
        options: Options,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._source = source
        self._target = target = target.expanduser().resolve()  # links are followed
        self._treatment = treatment
        self._options = options
        self._rank, self._world_size = rank, world_size
        self._notes = [*treatment.notes]
        self._size = size = treatment.size(source.format.height, source.format.width)
        self._results = [self._settle(target, size, result_alone, suffix=".nut" if options.frames is None else "")]
        if options.compare is not None:
            wide = size[0], 2 * size[1]
            compare = Path(options.compare).expanduser().resolve()
            self._results.append(self._settle(compare, wide, side_by_side, suffix="-beside.nut"))
        self._segment_frames = options.segment_frames or self._frames_per_segment()
        self._segments = cut(source.timeline, frames=self._segment_frames)
        self._preview = None if options.preview is None else Path(options.preview).expanduser().resolve()
        _refuse_overwriting(source, [result.target for result in self._results], preview=self._preview)
        self._journal = Journal([result.target for result in self._results], self._identity(), rank=rank)
        self._looked = -math.inf  # when the last preview was written
        self._redone = treatment.translator.engine.redone
        treatment.translator.engine.study()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know, in sentences; after `run` there may be more."""
        return tuple(dict.fromkeys((*self._source.notes, *self._notes)))

    def _settle(self, target: Path, size: tuple[int, int], picture: Picture, *, suffix: str) -> "_Result":
        settled = None
        if suffix:
            settled = settle(self._options.encoding, format=self._format(size))
            left_out = check_container(target, settled, source=self._source.file, drop=self._options.drop_streams)
            self._notes += [*settled.notes, *left_out]
        elif self._source.file is not None:
            self._notes.append(IMAGES_ALONE)
        return _Result(target=target, picture=picture, suffix=suffix, settled=settled)

    def _format(self, size: tuple[int, int]) -> Format:
        """What the encoder is asked for."""
        format, encoding = _resized(self._source.format, *size), self._options.encoding
        if self._source.file is None and encoding.pix_fmt is None and encoding.codec != "ffv1":
            self._notes.append(CHROMA_FOR_PLAYERS)
            return replace(format, chroma="420", colour=BT709)
        if self._options.tag_matrix:
            return replace(format, colour=_assumed(format))
        if format.chroma != "rgb" and _assumed(format) != _assumed(replace(format, lines=format.height)):
            self._notes.append(UNSAID_MATRIX)
        return format

    def run(self, progress: Progress | None = None) -> Summary:
        """Do this process's share and, in the first one, join the result.

        Args:
            progress: told how many frames of what this process has to do are done, and how many these are.

        Raises:
            InputError: the result exists, its parts were made otherwise, or not one frame could be decoded.
            OSError: the disk is full, for instance; what is done stays.
        """
        begun = time.perf_counter()
        needed = self._journal.open(overwrite=self._options.overwrite)
        mine = share(self._segments, rank=self._rank, world_size=self._world_size) if needed else []
        records = {segment: record for segment in mine if (record := self._journal.record(segment)) is not None}
        found = sum(record.frames for record in records.values())
        missing = [segment for segment in mine if segment not in records]
        load = Load()
        if missing and self._journal.finished is None and self._journal.folder.exists():
            try:
                load = self._compute(missing, records, progress)
            except BaseException:
                self._journal.leave()
                raise
        record = self._join() if self._rank == 0 else sum(records.values(), Record())
        return Summary(
            target=self._target,
            record=record,
            found=found,
            load=load,
            seconds=time.perf_counter() - begun,
            notes=self.notes,
        )

    def _compute(self, segments: list[Segment], records: dict[Segment, Record], progress: Progress | None) -> Load:
        """Compute and write parts, and note what became of each."""
        done, total = 0, sum(end - first for first, end in (s.places(self._source.timeline) for s in segments))
        part: Part | None = None
        closing: Future[None] | None = None
        assembler = Assembler()

        def close(part: Part, segment: Segment, end: _End) -> None:
            part.close()
            records[segment] = self._commit(segment, part.frames, end)

        with self.hire() as workers, ThreadPoolExecutor(1, "close") as closer:
            try:
                for (segment, step), results in run_in_order(self._steps(segments, workers), workers):
                    if closing is not None and (closing.done() or isinstance(step, _End)):
                        closing.result()
                    part = part or self._open_part(segment, assembler)
                    if isinstance(step, Shown):
                        part.add(step, results)
                        done += not step.context
                        if progress is not None:
                            progress(done, total)
                    else:
                        # Encoders hold many frames back. An accelerator shall not wait until they are encoded; on a CPU
                        # tasks enough are under way, and one encoder at a time takes less memory.
                        closing = closer.submit(close, part, segment, step)
                        part = None
                        if workers.device.type == "cpu":
                            closing.result()
                if closing is not None:
                    closing.result()
            finally:
                if part is not None:
                    part.give_up()
        return workers.load

    def hire(self) -> Workers:
        """The threads that call the network, as many as cores and memory allow."""
        translator, given = self._treatment.translator, self._source.format
        threads = self._options.threads or torch.get_num_threads()
        needed = translator.engine.bytes_needed(given.height, given.width)
        needed += RESULTS_HELD * 3 * math.prod(self._size) * np.dtype(given.dtype).itemsize
        count = max(1, min(threads, int(SHARE_OF_MEMORY * available_bytes() / needed)))
        if translator.device.type == "cuda":  # the order in which its convolutions are fastest, as frames come in
            translator.generator.to(memory_format=torch.channels_last)
        return Workers(
            self._treatment.network,
            device=translator.device,
            count=count,
            threads_each=threads // count,
            batch_size=max(1, PIXELS_PER_BATCH // (given.height * given.width)),
        )

    def _steps(self, segments: list[Segment], workers: Workers) -> Iterator[Task[_Step]]:
        """All that happens to the segments, in order."""
        planner = self._make_planner(workers)
        reader = SegmentReader(self._source, reach=Stabiliser.REACH if self._options.stabilise else 0)
        for segment in segments:
            if planner is not None and self._options.threshold > 0:
                planner.forget()  # or results would depend on where this run began
            reasons = 0 if segment.first is None else len(self._source.damage.reasons)
            before_px = planner.reuse.computed_px if planner is not None else 0
            pixels = repeated = 0
            for frame in reader.read(segment):
                pixels += math.prod(frame.image.shape[:2])
                plan = None if planner is None else planner.plan(frame.image)
                shown = Shown(frame=frame, plan=plan, context=frame.pts not in segment)
                repeated += frame.repeated and not shown.context
                yield Task(item=(segment, shown), images=[frame.image] if plan is None else plan.crops)
            damage = self._source.damage
            end = _End(
                damage=Damage(
                    repeated=repeated,
                    missing=damage.missing if segment.end is None else 0,
                    reasons=damage.reasons[reasons:],
                ),
                pixels=pixels,
                computed=pixels if planner is None else planner.reuse.computed_px - before_px,
            )
            yield Task(item=(segment, end), images=())

    def _make_planner(self, workers: Workers) -> Planner | None:
        if not self._options.skip_duplicates:
            return None
        return Planner(
            enlarge=lambda image: workers.submit([image]).result()[0],
            reach_px=self._treatment.reach_px,
            size_multiple=self._treatment.translator.codec.size_multiple,
            threshold=self._options.threshold,
            # Where parts may give something else, it must not depend on what came before whether they are used.
            check_after=CHECK_AFTER if self._options.threshold == 0 else 0,
        )

    def _open_part(self, segment: Segment, assembler: Assembler) -> Part:
        return Part(
            writers=[(result.picture, self._open_writer(segment, result)) for result in self._results],
            assembler=assembler,
            stabiliser=Stabiliser() if self._options.stabilise else None,
            look=self._look,
        )

    def _open_writer(self, segment: Segment, result: "_Result") -> SegmentWriter | SequenceWriter:
        path = self._journal.under_way(segment, suffix=result.suffix)
        if result.settled is not None:
            return SegmentWriter(path, settled=result.settled)
        deep = self._source.format.dtype != np.uint8
        return SequenceWriter(
            path,
            suffix=".tif" if self._options.frames == "tif" else ".png",
            bits=16 if deep else 8,
            provenance=self._treatment.provenance,
        )

    def _look(self, image: np.ndarray, result: np.ndarray) -> None:
        """Write the preview, if it is time."""
        now = time.perf_counter()
        if self._preview is not None and now - self._looked >= self._options.preview_every_s:
            self._looked = now
            picture = side_by_side(image, result)
            shown = picture if picture.dtype == np.uint8 else (picture // 257).astype(np.uint8)
            write_image(self._preview, shown, provenance=self._treatment.provenance)

    def _commit(self, segment: Segment, frames: int, end: _End) -> Record:
        redone = self._treatment.translator.engine.redone
        record = Record(
            frames=frames,
            repeated=end.damage.repeated,
            missing=end.damage.missing,
            reasons=end.damage.reasons,
            pixels=end.pixels,
            computed=end.computed,
            redone=redone - self._redone,
        )
        self._redone = redone
        self._journal.commit(segment, record, suffixes=[result.suffix for result in self._results])
        return record

    def _join(self) -> Record:
        """Put the parts of all processes together, and the results in their places."""
        if self._journal.finished is not None:
            record = self._journal.finished
        else:
            record = Record()
            for rank in range(self._world_size):
                for segment in share(self._segments, rank=rank, world_size=self._world_size):
                    record += self._journal.wait_for(segment, rank=rank)
            if record.frames == 0:
                self._journal.throw_away()
                raise InputError(f"{self._source.name}: not one frame could be decoded; {'; '.join(record.reasons)}")
            for result in self._results:
                self._notes += self._join_one(result, record)
        self._journal.finish(record)
        return record

    def _join_one(self, result: "_Result", record: Record) -> Sequence[str]:
        joined = self._journal.joined(result.target)
        joined.parent.mkdir(parents=True, exist_ok=True)
        parts = [self._journal.part(segment, suffix=result.suffix) for segment in self._segments]
        if result.settled is None:
            return join_images(parts, joined)
        end = None if record.missing else self._source.end
        return join(parts, joined, settled=result.settled, end=end, source=self._source.file)

    def _frames_per_segment(self) -> int:
        given = self._source.format
        weights = sum(weight.numel() for weight in self._treatment.translator.generator.parameters())
        operations = max(1, 2 * weights * given.width * given.height)
        return int(min(max(OPERATIONS_PER_SEGMENT / operations, FEWEST_FRAMES), MOST_FRAMES))

    def _identity(self) -> Identity:
        options = self._options
        identity: dict[str, str | int | float | bool | None] = {
            "source": self._source.fingerprint,
            **self._treatment.identity,
            "frames": options.frames,
            "compare": len(self._results) > 1,
            "skip_duplicates": options.skip_duplicates,
            "threshold": options.threshold,
            "stabilise": options.stabilise,
            "segment_frames": self._segment_frames,
            "versions": f"torch {torch.__version__}, PyAV {av.__version__}, {library_versions}",
        }
        settled = self._results[0].settled
        if settled is not None:
            identity |= {
                "encoder": settled.encoder,
                **settled.options,
                "pix_fmt": settled.pix_fmt,
                "size": f"{settled.format.width} x {settled.format.height}",
                "colour": repr(tuple(settled.format.colour)),
            }
        else:
            note = self._treatment.provenance
            # Without the version: what an older i2i began may be ended by a newer one.
            identity["provenance"] = f"{note.kind} by {note.model}" if note else None
        return identity


@dataclass(frozen=True, kw_only=True)
class _Result:
    """Something to write.

    Attributes:
        target: where to, in the end.
        picture: what is written of a frame and its result.
        suffix: of its parts.
        settled: how video is encoded; None for images.
    """

    target: Path
    picture: Picture
    suffix: str
    settled: Settled | None


def _refuse_overwriting(source: Source, targets: Sequence[Path], *, preview: Path | None) -> None:
    """Raise InputError where something would be written over the source, or over something else that is written."""
    written = [*targets, *([] if preview is None else [preview])]
    if len(set(written)) < len(written):
        raise InputError(f"{written[-1]} is the name of two results; give one of them another")
    for path in written:
        for read in source.files:
            if path == read.resolve() or (path.exists() and read.exists() and path.samefile(read)):
                raise InputError(f"{read} would be written over; give what is written to {path} another name")
    if preview is not None and targets[0] in preview.parents:
        raise InputError(
            f"{preview} lies in the folder of the result, which is to hold frames alone; give another place"
        )


def _resized(format: Format, height: int, width: int) -> Format:
    """The format of a result, which is shown in the shape of the source even where its size was rounded."""
    aspect = format.sample_aspect_ratio * Fraction(format.width * height, format.height * width)
    return replace(format, width=width, height=height, sample_aspect_ratio=aspect.limit_denominator(10_000))


def _assumed(format: Format) -> Colour:
    """The colour with the matrix that frames of this format are taken to have."""
    matrix = resolved(format.colour, lines=format.lines or format.height).matrix
    return format.colour if format.chroma == "rgb" else format.colour._replace(matrix=matrix)
