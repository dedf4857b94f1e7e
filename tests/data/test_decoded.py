"""Decoded images on disk: whole or not at all, made anew where damaged, left out where there is no room."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from i2i.data.decoded import ROOM_TO_LEAVE_BYTES, DecodedImages
from i2i.data.image_io import write_image
from i2i.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.png", np.arange(30, dtype=np.uint8).reshape(5, 2, 3))
    return tmp_path / "a.png"


@pytest.fixture
def decoded(tmp_path: Path) -> DecodedImages:
    return DecodedImages(folder=tmp_path / "decoded")


def entries(decoded: DecodedImages) -> list[Path]:
    return sorted(decoded.folder.iterdir()) if decoded.folder.exists() else []


def test_an_image_is_decoded_once(file: Path, decoded: DecodedImages, monkeypatch: pytest.MonkeyPatch):
    first = decoded.image(file)
    assert first.dtype == np.uint8 and first.shape == (5, 2, 3)
    monkeypatch.setattr("i2i.data.decoded.read_finite", lambda file: pytest.fail("decoded again"))
    again = decoded.image(file)
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(again, np.arange(30).reshape(5, 2, 3))
    other_process = DecodedImages(folder=decoded.folder)
    np.testing.assert_array_equal(other_process.image(file), first)


def test_a_changed_file_is_decoded_anew(tmp_path: Path, decoded: DecodedImages):
    file = tmp_path / "a.npy"  # whose size does not change with what is in it
    for value in (3, 200):
        write_image(file, np.full((5, 2, 3), value, np.uint8))
        os.utime(file, ns=(0, value))
        assert (decoded.image(file) == value).all()


def test_kinds_of_one_file_are_kept_apart(file: Path, decoded: DecodedImages):
    decoded.image(file)
    doubled = decoded.made_from(file, kind="doubled", make=lambda: decoded.image(file) * 2)
    assert (doubled[-1, -1, -1], decoded.image(file)[-1, -1, -1]) == (58, 29)
    assert len(entries(decoded)) == 2


@pytest.mark.parametrize("keep_bytes", [0, 4, 100, 140])
def test_a_damaged_entry_is_made_anew(file: Path, decoded: DecodedImages, keep_bytes: int):
    expected = np.array(decoded.image(file))
    (entry,) = entries(decoded)
    whole = entry.read_bytes()
    entry.write_bytes(whole[:keep_bytes])
    np.testing.assert_array_equal(decoded.image(file), expected)
    assert entry.read_bytes() == whole
    entry.unlink()
    np.testing.assert_array_equal(decoded.image(file), expected)
    assert entry.read_bytes() == whole


def test_nothing_is_kept_where_that_is_not_wanted(file: Path, tmp_path: Path):
    decoded = DecodedImages(keep=False, folder=tmp_path / "decoded")
    assert decoded.image(file).shape == (5, 2, 3)
    assert not entries(decoded)


def test_a_disk_that_is_nearly_full_is_spared(file: Path, decoded: DecodedImages, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, ROOM_TO_LEAVE_BYTES + 29))
    with pytest.warns(
        UserWarning, match="can no longer be kept in .*decoded .*5 GB would stay free.*I2I_CACHE"
    ) as said:
        for _ in range(3):
            assert decoded.image(file).shape == (5, 2, 3)
    assert len(said) == 1 and not entries(decoded)


def test_what_is_kept_already_is_still_read_when_the_disk_is_full(
    file: Path, tmp_path: Path, decoded: DecodedImages, monkeypatch: pytest.MonkeyPatch
):
    decoded.image(file)
    other = tmp_path / "b.png"
    shutil.copy(file, other)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("i2i.data.decoded.np.save", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        decoded.image(other)
    assert isinstance(decoded.image(file), np.memmap)
    assert len(entries(decoded)) == 1


def test_a_folder_that_cannot_be_made_costs_only_the_time(file: Path):
    decoded = DecodedImages(folder=file / "decoded")  # below a file
    with pytest.warns(UserWarning, match="Not a directory"):
        assert decoded.image(file).shape == (5, 2, 3)


def test_a_missing_file_is_named(tmp_path: Path, decoded: DecodedImages):
    with pytest.raises(InputError, match=r"gone\.png cannot be read: No such file"):
        decoded.image(tmp_path / "gone.png")


WRITER = """
import sys
from pathlib import Path

import numpy as np

from i2i.data.decoded import DecodedImages

decoded = DecodedImages(folder=Path(sys.argv[2]))
print("ready", flush=True)
for number in range(1_000_000):
    decoded.made_from(Path(sys.argv[1]), kind=str(number), make=lambda: np.full((500, 2000, 3), number % 251, np.uint8))
"""


def test_a_killed_writer_leaves_no_half_entry(file: Path, decoded: DecodedImages):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file), str(decoded.folder)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout and writer.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 60
        while len(list(decoded.folder.glob("[0-9a-f]*.npy"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    kept = list(decoded.folder.glob("[0-9a-f]*.npy"))
    assert len(kept) >= 5
    for entry in kept:
        array = np.load(entry)
        assert array.shape == (500, 2000, 3) and (array == array[0, 0, 0]).all()
