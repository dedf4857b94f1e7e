"""The journal of a long job: what is done stays done, and nothing else passes for it."""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from i2i.errors import InputError, RunStopped
from i2i.video.journal import Journal, Record
from i2i.video.segments import Segment, cut

IDENTITY = {"source": "a", "crf": 17}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


def opened(target: Path, *, overwrite: bool = False, **changes: object) -> Journal:
    journal = Journal([target], {**IDENTITY, **changes})
    journal.open(overwrite=overwrite)
    return journal


def commit(journal: Journal, segment: Segment, text: str, *, frames: int = 10) -> None:
    journal.under_way(segment, suffix=".nut").write_text(text)
    journal.commit(segment, Record(frames=frames), suffixes=[".nut"])


def test_what_is_done_is_found_again(target: Path) -> None:
    segments = cut(range(25), frames=10)
    commit(opened(target), segments[1], "second")
    again = opened(target)
    assert [again.record(segment) for segment in segments] == [None, Record(frames=10), None]
    assert again.part(segments[1], suffix=".nut").read_text() == "second"


def test_what_was_under_way_is_not_done(target: Path) -> None:
    segment = cut(range(5), frames=10)[0]
    first = opened(target)
    first.under_way(segment, suffix=".nut").write_text("half")
    # Killed between the renaming and the record:
    first.under_way(segment, suffix=".nut").replace(first.part(segment, suffix=".nut"))
    again = opened(target)
    assert again.record(segment) is None
    commit(again, segment, "whole")
    assert again.part(segment, suffix=".nut").read_text() == "whole"


def test_folders_under_way_begin_empty_and_take_the_place_of_older_ones(target: Path) -> None:
    segment = cut(range(5), frames=10)[0]
    journal = opened(target)
    for text in ("killed", "again"):
        folder = journal.under_way(segment, suffix="")
        assert not folder.exists()
        folder.mkdir()
        folder.joinpath(text).touch()
        if text == "killed":
            folder.rename(journal.part(segment, suffix=""))
    journal.commit(segment, Record(frames=1), suffixes=[""])
    assert [file.name for file in journal.part(segment, suffix="").iterdir()] == ["again"]


@pytest.mark.parametrize("name", ["000000.nut", "000000.json", "process-0.json"])
def test_what_a_power_cut_has_emptied_is_not_done(target: Path, name: str) -> None:
    segment = cut(range(5), frames=10)[0]
    journal = opened(target)
    commit(journal, segment, "whole")
    (journal.folder / name).write_text("")
    again = opened(target)
    assert (again.record(segment) is None) == (name != "process-0.json")


def test_a_folder_of_somebody_else_is_left_alone(target: Path) -> None:
    folder = target.with_name("out.mp4.unfinished")
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"something else: thesis\.txt"):
        opened(target, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_settings_with_which_nothing_was_done_do_not_count(target: Path) -> None:
    opened(target, crf=51)
    opened(target, crf=17)


def test_a_process_that_has_ended_is_not_waited_for(target: Path) -> None:
    first, second = cut(range(20), frames=10)
    journal = opened(target)
    commit(journal, first, "first")
    assert journal.wait_for(first, rank=1) == Record(frames=10)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (journal.folder / "process-1.json").write_text(
        json.dumps({"host": platform.node(), "pid": gone.pid, "begun": time.time()})
    )
    with pytest.raises(RunStopped, match="process 1"):
        journal.wait_for(second, rank=1)
    other = Journal([target], IDENTITY, rank=1)
    assert other.open(overwrite=False)
    other.leave()
    with pytest.raises(RunStopped, match="process 1"):
        journal.wait_for(second, rank=1)


def test_parts_made_otherwise_are_listed_and_kept(target: Path) -> None:
    segment = cut(range(5), frames=10)[0]
    commit(opened(target), segment, "old")
    with pytest.raises(InputError, match=r"crf: 17 before, 20 now\n.*--overwrite"):
        opened(target, crf=20)
    assert opened(target).record(segment) is not None
    assert opened(target, crf=20, overwrite=True).record(segment) is None


def test_overwriting_goes_on_with_parts_of_the_same_settings(target: Path) -> None:
    target.write_text("an older result")
    segment = cut(range(5), frames=10)[0]
    with pytest.raises(InputError, match=r"out\.mp4 exists.*--overwrite"):
        opened(target)
    commit(opened(target, overwrite=True), segment, "new")
    assert opened(target, overwrite=True).record(segment) is not None
    assert target.read_text() == "an older result"


def test_a_folder_with_something_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    opened(tmp_path / "frames")  # empty
    (tmp_path / "frames" / "holiday.png").touch()
    with pytest.raises(InputError, match="not empty"):
        opened(tmp_path / "frames", overwrite=True)


@pytest.mark.parametrize("placed", [False, True])
def test_a_run_killed_at_its_very_end_is_finished_by_the_next(
    target: Path, placed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the whole was joined, before or after it was put in its place."""
    journal = opened(target)
    journal.joined(target).write_text("whole")
    monkeypatch.setattr(journal, "throw_away", lambda: None)
    journal.finish(Record(frames=7))
    if not placed:
        target.replace(journal.joined(target))
    again = opened(target)  # though the target may exist
    assert again.finished == Record(frames=7)
    again.finish(again.finished)
    assert target.read_text() == "whole"
    assert not again.folder.exists()


def test_other_processes_wait_for_the_first(target: Path) -> None:
    other = Journal([target], IDENTITY, rank=1)
    answer: list[bool] = []
    waiting = threading.Thread(target=lambda: answer.append(other.open(overwrite=False)))
    waiting.start()
    time.sleep(0.1)
    assert waiting.is_alive()
    opened(target)
    waiting.join(5)
    assert answer == [True]


def test_other_processes_are_not_needed_once_the_result_is_there(target: Path) -> None:
    target.write_text("just now")
    assert not Journal([target], IDENTITY, rank=1).open(overwrite=True)
    os.utime(target, (1, 1))  # an older result says nothing
    opened(target, overwrite=True)
    assert Journal([target], IDENTITY, rank=1).open(overwrite=True)


def test_two_programs_do_not_make_the_same_result(target: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from i2i.video.journal import Journal
Journal([Path({str(target)!r})], {IDENTITY!r}).open(overwrite=False)
print("open", flush=True)
time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InputError, match=f"made already, by the process {other.pid}"):
            opened(target)
        assert Journal([target], IDENTITY, rank=1).open(overwrite=False)  # they share the work
    finally:
        other.kill()
        other.wait()
    opened(target)


def test_records_add_up() -> None:
    whole = Record(frames=1, reasons=("a",)) + Record(frames=2, repeated=1, reasons=("a", "b"))
    assert whole == Record(frames=3, repeated=1, reasons=("a", "b"))
