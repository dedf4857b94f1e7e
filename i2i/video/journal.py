"""What of a long job is done, so that the same command goes on after whatever has ended it.

out.mp4.unfinished/
    job.json        what the job is: all that its result depends on
    000007.nut      what became of a part of the video: a file, or a folder of images
    000007.json     says that this part is done; written last
    finished.json   says that the result is whole, and only has to be put in its place
"""

import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import psutil

from i2i.errors import InputError, RunStopped
from i2i.files import replacing

Identity: TypeAlias = Mapping[str, str | int | float | bool | None]

WAIT_S = 0.5
# For the first process to begin, which may have to fetch or compile its network.
PATIENCE_S = 600.0
# Process start times are known no better.
CLOCK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a video: what is shown from `first` on and before `end`, in units of its time base.

    `first` is None in the first one, which so has whatever lies before the announced frames, and `end` in the last.
    """

    number: int
    first: int | None
    end: int | None

    def __contains__(self, pts: int) -> bool:
        return (self.first is None or self.first <= pts) and (self.end is None or pts < self.end)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of a part of a video, or of all of it.

    Attributes:
        frames: written.
        repeated, missing, reasons: as in `i2i.video.frames.Damage`.
        pixels: of the source's frames.
        computed: pixels that went through the network; fewer where unchanged ones were skipped.
        redone: images that came out as NaN or infinity and were computed again, more widely.
    """

    frames: int = 0
    repeated: int = 0
    missing: int = 0
    reasons: tuple[str, ...] = ()
    pixels: int = 0
    computed: int = 0
    redone: int = 0

    def __add__(self, other: "Record") -> "Record":
        return Record(
            frames=self.frames + other.frames,
            repeated=self.repeated + other.repeated,
            missing=self.missing + other.missing,
            reasons=tuple(dict.fromkeys((*self.reasons, *other.reasons))),
            pixels=self.pixels + other.pixels,
            computed=self.computed + other.computed,
            redone=self.redone + other.redone,
        )


def cut(timeline: Sequence[int], *, frames: int) -> list[Segment]:
    """Segments of so many announced frames each; the last one may have fewer."""
    bounds = [None, *timeline[frames::frames], None]
    return [Segment(number=number, first=first, end=end) for number, (first, end) in enumerate(pairwise(bounds))]


class Journal:
    """The folder beside a result that holds its parts until it is whole.

    Args:
        targets: the results; the folder is called as the first one, with .unfinished behind.
        identity: all that the parts depend on.
        rank: of this process, of those that share the work.
    """

    def __init__(self, targets: Sequence[Path], identity: Identity, *, rank: int = 0) -> None:
        self.folder = targets[0].with_name(f"{targets[0].name}.unfinished")
        self._targets = targets
        self._identity = identity
        self._rank = rank

    def open(self, *, overwrite: bool) -> bool:
        """Make the folder, or go on with it; of several processes the first one does, and the others wait for it.

        Args:
            overwrite: whether results may be there, and parts that were made otherwise may be thrown away.

        Returns:
            Whether this process may have something to do; not if the first one is through by now.

        Raises:
            InputError: results or such parts are there without it, a result's name is that of a folder with something
                in it, or another program is at work on them.
            RunStopped: the first process did not begin.
        """
        self._check_alone()
        if self._rank == 0:
            self._prepare(overwrite=overwrite)
        elif not self._wait_for_first(overwrite=overwrite):
            return False
        with replacing(self._file(f"process-{self._rank}")) as temporary:
            temporary.write_text(json.dumps(_this_process()))
        return True

    def _prepare(self, *, overwrite: bool) -> None:
        differences = self._differences()
        if self.finished and not differences:
            return
        self._check_free(differences, overwrite=overwrite)
        if self.folder.exists() and (differences or not self._file("job").exists()):
            self.throw_away()
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._file("job")) as temporary:
            temporary.write_text(json.dumps(dict(self._identity), indent=1))

    def _wait_for_first(self, *, overwrite: bool) -> bool:
        begun = psutil.Process().create_time() + CLOCK_S
        waiting_since = time.monotonic()
        while (differences := self._differences()) or not self._file("job").exists():
            if all(target.exists() and target.stat().st_mtime >= begun for target in self._targets):
                return False
            self._check_free(differences, overwrite=overwrite)  # as the first one does, which then does not begin
            if time.monotonic() - waiting_since > PATIENCE_S:
                raise RunStopped(f"{self.folder}: the first process has not begun for {PATIENCE_S / 60:.0f} minutes")
            time.sleep(WAIT_S)
        return True

    def _check_free(self, differences: Sequence[str], *, overwrite: bool) -> None:
        for target in self._targets:
            if target.is_dir() and any(target.iterdir()):
                raise InputError(f"{target} is a folder and not empty; give another name for the results")
            if target.is_file() and not overwrite:
                raise InputError(f"{target} exists; give another name, or --overwrite to replace it once all is done")
        if differences and not overwrite:
            raise InputError(
                f"{self.folder} holds the beginning of this result, made otherwise:\n"
                + "\n".join(f"  {line}" for line in differences)
                + "\nGive the same settings to go on with it, another name for the result, or --overwrite to begin "
                "anew."
            )

    def _check_alone(self) -> None:
        """Two programs that write the same parts would spoil them."""
        try:
            other = json.loads(self._file(f"process-{self._rank}").read_text())
        except FileNotFoundError:
            return
        if other["host"] == platform.node() and other["pid"] != os.getpid() and _runs(other["pid"], other["begun"]):
            raise InputError(
                f"{self._targets[0]} is being made already, by the process {other['pid']}; wait for it, or end it"
            )

    def under_way(self, segment: Segment, *, suffix: str) -> Path:
        """Where a part is written to: a file, or a folder. What a killed run left there is gone."""
        path = self.folder / f"under-way-{segment.number:06}{suffix}"
        if path.is_dir():
            shutil.rmtree(path)
        return path

    def part(self, segment: Segment, *, suffix: str) -> Path:
        """Where it lies once the segment is done."""
        return self.folder / f"{segment.number:06}{suffix}"

    def record(self, segment: Segment) -> Record | None:
        """What became of a segment; None while it is not done."""
        try:
            found = json.loads(self._file(f"{segment.number:06}").read_text())
        except FileNotFoundError:
            return None
        return Record(**{**found, "reasons": tuple(found["reasons"])})

    def commit(self, segment: Segment, record: Record, *, suffixes: Sequence[str]) -> None:
        """Note that a segment is done, and with it the parts of these suffixes that were under way."""
        for suffix in suffixes:
            place = self.part(segment, suffix=suffix)
            if place.is_dir():  # from a run that was killed before it could note so
                shutil.rmtree(place)
            self.folder.joinpath(f"under-way-{place.name}").replace(place)
        with replacing(self._file(f"{segment.number:06}")) as temporary:
            temporary.write_text(json.dumps(asdict(record)))

    def wait_for(self, segments: Sequence[Segment]) -> Record:
        """What became of all segments, once the other processes have done theirs."""
        whole = Record()
        for segment in segments:
            while (record := self.record(segment)) is None:
                time.sleep(WAIT_S)
            whole += record
        return whole

    @property
    def finished(self) -> Record | None:
        """What became of the whole, where only the last step may be missing: a run was killed just before its end."""
        try:
            found = json.loads(self._file("finished").read_text())
        except FileNotFoundError:
            return None
        return Record(**{**found, "reasons": tuple(found["reasons"])})

    def joined(self, target: Path) -> Path:
        """Where a result lies until all are whole: on the disk that it is to lie on."""
        if target.parent == self.folder.parent:
            return self.folder / f"joined-{target.name}"
        return target.with_name(f"unfinished-{target.name}")

    def finish(self, record: Record) -> None:
        """Put what was joined in its place, and remove the folder.

        A run that is killed in it leaves what another one needs to do so again.

        Args:
            record: of the whole.
        """
        with replacing(self._file("finished")) as temporary:
            temporary.write_text(json.dumps(asdict(record)))
        for target in self._targets:
            joined = self.joined(target)
            if joined.exists():
                if target.is_dir():  # an empty one; `open` has seen to that
                    target.rmdir()
                joined.replace(target)
                target.touch()  # other processes tell by its time that they are not needed
        self.throw_away()

    def throw_away(self) -> None:
        """Remove the folder; what says whose it is and that it is finished goes last, lest it be taken for another."""
        last = [self._file("job"), self._file("finished")]
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path not in last:
                path.unlink()
        for path in last:
            path.unlink(missing_ok=True)
        self.folder.rmdir()

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _differences(self) -> list[str]:
        """In which points the folder's parts were made otherwise."""
        if not self._file("job").exists():
            return []
        before = json.loads(self._file("job").read_text())
        return [
            f"{name}: {before.get(name)} before, {now} now"
            for name, now in self._identity.items()
            if before.get(name) != now
        ]


def _this_process() -> dict[str, str | int | float]:
    return {"host": platform.node(), "pid": os.getpid(), "begun": psutil.Process().create_time()}


def _runs(pid: int, begun: float) -> bool:
    """Whether this very process, and not a later one with its number, still runs."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - begun) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
