"""Images that are decoded once and kept as raw arrays, so that a crop reads hardly more than its own pixels."""

import hashlib
import os
import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from i2i.data.folders import read_finite
from i2i.download import cache_folder
from i2i.errors import InputError
from i2i.files import MARK, replacing

VERSION = 1  # of what is kept: another one is not read
ROOM_TO_LEAVE_BYTES = 5_000_000_000


class DecodedImages:
    """Decoded images by file, kept on disk and mapped into memory, for all processes that read the same files.

    Whoever asks first for an image decodes it and stores it, whole or not at all. What is stored belongs to the file's
    path, size and time of change, may be deleted at any time, and is made anew where it is damaged. Where the disk is
    nearly full or cannot be written to, a warning says so and further images are decoded at each request.
    """

    def __init__(self, *, keep: bool = True, folder: Path | None = None) -> None:
        """
        Args:
            keep: False: nothing is stored or looked up.
            folder: where the arrays are kept; None: "decoded" in `i2i.download.cache_folder()`.
        """
        self.keep = keep
        self.folder = folder or cache_folder() / "decoded"
        self._has_room = True
        for leftover in self.folder.glob(f".*.{MARK}*"):  # of writers that were killed
            with suppress(OSError):  # others tidy up, too
                if time.time() - leftover.stat().st_mtime > 24 * 3600:
                    leftover.unlink()

    def image(self, file: Path) -> np.ndarray:
        """The file's pixels, (H, W, C) uint8, uint16 or float32; they may be read-only.

        Raises:
            InputError: the file cannot be read, or holds NaN or infinity.
        """
        return self.made_from(file, kind="image", make=lambda: read_finite(file))

    def made_from(self, file: Path, *, kind: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """An array that follows from a file alone; it may be read-only.

        Args:
            file: what it is made from.
            kind: tells apart what is made from one file.
            make: makes it, where it is not there yet.

        Raises:
            InputError: the file is missing.
        """
        if not self.keep:
            return make()
        entry = self.folder / f"{file_key(file, f'{kind} {VERSION}')}.npy"
        try:
            return np.load(entry, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # not there yet, or damaged
            array = make()
        if self._has_room:
            self._store(entry, array)
        return array

    def _store(self, entry: Path, array: np.ndarray) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < array.nbytes + ROOM_TO_LEAVE_BYTES:
                self._stop_storing(f"less than {ROOM_TO_LEAVE_BYTES / 1e9:g} GB would stay free")
                return
            with replacing(entry) as temporary, temporary.open("wb") as stream:
                np.save(stream, array)
                # Or a power cut could leave a file of the right size without the pixels.
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            self._stop_storing(error.strerror or str(error))

    def _stop_storing(self, reason: str) -> None:
        self._has_room = False
        warnings.warn(
            f"decoded images can no longer be kept in {self.folder} ({reason}): further ones are decoded for every "
            "crop, which may slow down training. Make room there, or let I2I_CACHE name a folder on another disk",
            stacklevel=4,
        )


def file_key(file: Path, kind: str) -> str:
    """64 hexadecimal digits that change with the file's path, size or time of change, and with `kind`.

    Raises:
        InputError: the file is missing.
    """
    try:
        stat = file.stat()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; check the path") from error
    return hashlib.sha256(f"{file.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{kind}".encode()).hexdigest()
