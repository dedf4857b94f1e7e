"""What of a long job is done, so that the same command goes on after whatever has ended it.

out.mp4.unfinished/
    job.json        what the job is: all that its result depends on
    000007.nut      what became of a part of the video: a file, or a folder of images
    000007.json     says that this part is done; written last
    process-0.json  who is at work
    finished.json   says that the result is whole, and only has to be put in its place
"""

import json
import os
import platform
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from i2i.errors import InputError, RunStopped
from i2i.files import naming, replacing
from i2i.video.segments import Segment

Identity: TypeAlias = Mapping[str, str | int | float | bool | None]

WAIT_S = 0.5
# All that the folder ever holds, temporary files of `i2i.files.replacing` included.
OURS = re.compile(r"(under-way-)?\d{6}[\w-]*(\.nut|\.json)?|joined-.+|(job|finished|process-\d+)\.json|\..+\.part-.+")
# For the first process to begin, which may have to fetch or compile its network.
PATIENCE_S = 600.0
# Process start times are known no better.
CLOCK_S = 1.0
LONGEST_TOLD = 120  # characters


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
            InputError: results or such parts are there without it, a folder of that name holds something else, or
                another program is at work on them.
            RunStopped: the first process did not begin.
        """
        self._check_alone()
        if self._rank == 0:
            self._prepare(overwrite=overwrite)
        elif not self._wait_for_first(overwrite=overwrite):
            return False
        try:
            self._write(self._process(self._rank), _this_process())
        except FileNotFoundError:  # the first process has found all parts done, and has just removed the folder
            return False
        return True

    def _prepare(self, *, overwrite: bool) -> None:
        if self.finished and not self._differences():
            return
        self._check_free(overwrite=overwrite)
        if self.folder.exists() and (self._differences() or self._read("job") is None):
            self.throw_away()
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("process-*.json"):  # of runs that were killed
            other = self._read(path.stem)
            if other is None or not _runs(other, elsewhere=False):
                path.unlink(missing_ok=True)
        self._write("job", dict(self._identity))

    def _wait_for_first(self, *, overwrite: bool) -> bool:
        begun = psutil.Process().create_time() + CLOCK_S
        waiting_since = time.monotonic()
        while self._differences() or self._read("job") is None:
            if all(target.exists() and target.stat().st_mtime >= begun for target in self._targets):
                return False
            self._check_free(overwrite=overwrite)  # as the first one does, which then does not begin
            if time.monotonic() - waiting_since > PATIENCE_S:
                raise RunStopped(f"{self.folder}: the first process has not begun for {PATIENCE_S / 60:.0f} minutes")
            time.sleep(WAIT_S)
        return True

    def _check_free(self, *, overwrite: bool) -> None:
        for target in self._targets:
            if target.is_dir() and any(target.iterdir()):
                raise InputError(f"{target} is a folder and not empty; give another name for the results")
            if target.is_file() and not overwrite:
                raise InputError(f"{target} exists; give another name, or --overwrite to replace it once all is done")
        if not self.folder.exists():
            return
        names = [path.name for path in self.folder.iterdir()]
        strange = [name for name in names if not OURS.fullmatch(name)]
        if strange:
            raise InputError(
                f"{self.folder} is where parts of the result will lie, and holds something else: {strange[0]}; move "
                "it, or give the result another name"
            )
        differences = self._differences()
        if differences and not overwrite and any(re.fullmatch(r"\d{6}\.json", name) for name in names):
            raise InputError(
                f"{self.folder} holds the beginning of this result, made otherwise:\n"
                + "\n".join(f"  {line}" for line in differences)
                + "\nGive the same settings to go on with it, another name for the result, or --overwrite to begin "
                "anew."
            )

    def _check_alone(self) -> None:
        """Two programs that write the same parts would spoil them."""
        other = self._read(self._process(self._rank))
        if other is not None and other["pid"] != os.getpid() and _runs(other, elsewhere=False):
            raise InputError(
                f"{self._targets[0]} is being made already, by the process {other['pid']}; wait for it, or end it"
            )

    def leave(self) -> None:
        """Tell the other processes that this one gives up."""
        with suppress(OSError):
            self._write(self._process(self._rank), {**_this_process(), "gone": True})

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
        found = self._read(_name(segment))
        if found is None:
            return None
        sizes = found.pop("sizes")
        # A power cut may take what was written last, and leave its name.
        whole = all(_size(self.part(segment, suffix=suffix)) == size for suffix, size in sizes.items())
        return _as_record(found) if whole else None

    def commit(self, segment: Segment, record: Record, *, suffixes: Sequence[str]) -> None:
        """Note that a segment is done, and with it the parts of these suffixes that were under way."""
        for suffix in suffixes:
            place = self.part(segment, suffix=suffix)
            if place.is_dir():  # from a run that was killed before it could note so
                shutil.rmtree(place)
            self.folder.joinpath(f"under-way-{place.name}").replace(place)
        sizes = {suffix: _size(self.part(segment, suffix=suffix)) for suffix in suffixes}
        self._write(_name(segment), {**asdict(record), "sizes": sizes})

    def wait_for(self, segment: Segment, *, rank: int) -> Record:
        """What became of a segment, once the process whose it is has done it.

        Raises:
            RunStopped: that process has ended, or has not begun for long.
        """
        waiting_since = time.monotonic()
        while (record := self.record(segment)) is None:
            process = self._read(self._process(rank))
            patient = time.monotonic() - waiting_since < PATIENCE_S
            if not (patient if process is None else _runs(process, elsewhere=True)):
                raise RunStopped(f"process {rank}, of those that share the work, is not there; start all of them again")
            time.sleep(WAIT_S)
        return record

    @property
    def finished(self) -> Record | None:
        """What became of the whole, where only the last step may be missing: a run was killed just before its end."""
        found = self._read("finished")
        return None if found is None else _as_record(found)

    def joined(self, target: Path) -> Path:
        """Where a result lies until all are whole, on the disk that it is to lie on."""
        return target.with_name(f"{target.name}.unfinished") / f"joined-{target.name}"

    def finish(self, record: Record) -> None:
        """Put what was joined in its place, and remove the folder.

        A run that is killed in it leaves what another one needs to do so again.

        Args:
            record: of the whole.
        """
        self._write("finished", asdict(record))
        for target in self._targets:
            joined = self.joined(target)
            if joined.exists():
                with naming(target):
                    if target.is_dir():  # an empty one; `open` has seen to that
                        target.rmdir()
                    joined.replace(target)
                target.touch()  # other processes tell by its time that they are not needed
        self.throw_away()

    def throw_away(self) -> None:
        """Remove what is left; what says whose it is, and that it is finished, goes last."""
        last = [self._file("job"), self._file("finished")]
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path not in last:
                path.unlink()
        for target in self._targets[1:]:
            shutil.rmtree(self.joined(target), ignore_errors=True)
            self.joined(target).unlink(missing_ok=True)
            with suppress(OSError):  # it is not there, or holds something of somebody else
                self.joined(target).parent.rmdir()
        for path in last:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # another process has just come, and sees for itself that it is not needed
            self.folder.rmdir()

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _process(self, rank: int) -> str:
        return f"process-{rank}"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self._file(name).read_text()))
        except (FileNotFoundError, ValueError):  # not there, or cut off with the power
            return None

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        with replacing(self._file(name)) as temporary:
            temporary.write_text(json.dumps(values, indent=1))

    def _differences(self) -> list[str]:
        """In which points the folder's parts were made otherwise."""
        before = self._read("job")
        if before is None:
            return []
        names = [name for name in {**self._identity, **before} if before.get(name) != self._identity.get(name)]
        return [_told(name, before.get(name), self._identity.get(name)) for name in names]


def _name(segment: Segment) -> str:
    return f"{segment.number:06}"


def _as_record(found: dict[str, Any]) -> Record:
    return Record(**{**found, "reasons": tuple(found["reasons"])})


def _told(name: str, before: object, now: object) -> str:
    if max(len(str(before)), len(str(now))) > LONGEST_TOLD:
        return f"{name} is another"
    return f"{name}: {before} before, {now} now"


def _size(part: Path) -> int:
    """Bytes of a file, or files in a folder; -1 where there is nothing."""
    if part.is_dir():
        return sum(1 for _ in part.iterdir())
    return part.stat().st_size if part.exists() else -1


def _this_process() -> dict[str, str | int | float]:
    return {"host": platform.node(), "pid": os.getpid(), "begun": psutil.Process().create_time()}


def _runs(noted: Mapping[str, Any], *, elsewhere: bool) -> bool:
    """Whether this very process, and not a later one with its number, still runs; `elsewhere` on another machine."""
    if noted.get("gone"):
        return False
    if noted["host"] != platform.node():
        return elsewhere
    try:
        process = psutil.Process(noted["pid"])
        return abs(process.create_time() - noted["begun"]) < CLOCK_S and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
