"""Files that are there whole or not at all, and which of a person's are videos."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Files in a folder that are taken for videos; a file that is named may be called anything.
VIDEO_SUFFIXES = frozenset(
    [
        *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".vob", ".m2v", ".ts"),
        *(".m2ts", ".mts", ".wmv", ".flv", ".ogv", ".y4m", ".mxf", ".nut", ".ivf", ".h264", ".264", ".hevc", ".265"),
    ]
)
MARK = "part-"  # tells temporary files from a person's own


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes `path`'s place when the block ends well.

    If the block raises, the temporary file is removed and whatever was at `path` stays as it was.
    """
    with naming(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{MARK}", suffix=path.suffix)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError from writing `path` name it: one from an open file names none, one from a temporary file that."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left anywhere below `folder`."""
    for leftover in folder.rglob(f".*.{MARK}*"):
        leftover.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
