"""The loop over files that commands share; what it does to files is tested with the commands."""

import threading
from pathlib import Path

import numpy as np
import pytest

from i2i.cli import jobs as module
from i2i.cli.jobs import Result, Steps, Tally, work_through
from i2i.cli.plan import Job
from i2i.cli.progress import FileProgress
from i2i.data.image_io import ImageFile
from i2i.inference.engine import Progress, Work


def test_reading_and_writing_overlap_with_the_network_and_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network waits for what should go on beside it; whatever ran too far ahead would have been seen."""
    count = 6
    jobs = [Job(source=Path(f"{number}.png"), target=Path(f"out/{number}.png")) for number in range(count)]
    begun = {
        name: threading.Event()
        for name in [f"{kind} {number}" for kind in ("read", "write") for number in range(count)]
    }
    written = []

    def read(job: Job) -> int:
        begun[f"read {job.source.stem}"].set()
        return int(job.source.stem)

    def compute(job: Job, number: int, progress: Progress) -> Result:
        if number + 1 < count:
            assert begun[f"read {number + 1}"].wait(10)
        if number > 0:
            assert begun[f"write {number - 1}"].wait(10)
        assert not any(begun[f"read {later}"].is_set() for later in range(number + 2, count))
        return Result(ImageFile(pages=(np.zeros((1, 1, 3), np.uint8),), notes=(str(number),)), Work())

    def write(path: Path, image: ImageFile, *, provenance: None) -> tuple[str, ...]:
        begun[f"write {path.stem}"].set()
        written.append((path.stem, *image.notes))
        return ()

    monkeypatch.setattr(module, "write_image_file", write)
    tally = Tally()
    with FileProgress(total=count, show=False) as progress:
        work_through(jobs, Steps(read=read, compute=compute), tally=tally, progress=progress)
    assert not tally.failures
    assert written == [(str(number), str(number)) for number in range(count)]
