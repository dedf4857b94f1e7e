"""Files from the internet: fetched once, resumed, verified, and there whole or not at all."""

import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from i2i import __version__
from i2i.errors import InputError
from i2i.files import replacing

TIMEOUT_S = 30
ATTEMPTS = 5
FIRST_WAIT_S = 1.0  # doubles from one attempt to the next
CHUNK_BYTES = 1 << 20
TRANSIENT = {408, 429, 500, 502, 503, 504}  # HTTP statuses that another attempt may mend


def cache_folder() -> Path:
    """Where downloads are kept: `$I2I_CACHE`, or i2i's folder in the user's cache; it may not exist yet."""
    if own := os.environ.get("I2I_CACHE"):
        return Path(own)
    match sys.platform:
        case "darwin":
            base = Path.home() / "Library" / "Caches"
        case "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        case _:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "i2i"


def download(url: str, path: Path, *, sha256: str | None = None, size_bytes: int | None = None) -> None:
    """Fetch a file, showing progress on stderr; nothing happens where it is there already.

    What a broken connection left in `path`.part is gone on with, if the server still has the same file. Of several
    processes that ask for one file, one fetches it and the others wait. Proxies are taken from the environment.

    Args:
        url: http(s) address; redirects are followed.
        path: where the file is put, once it is whole and verified; its folder is made.
        sha256: of the file, in hexadecimal; None: not compared.
        size_bytes: of the file; None: what the server says.

    Raises:
        InputError: the server cannot be reached, has no such file or another one. The message says which file to put
            where by hand.
        OSError: the file cannot be written.
    """
    with alone(path):
        if path.exists():
            return
        part = Path(f"{path}.part")
        try:
            _fetch_patiently(url, part, title=path.name, size_bytes=size_bytes)
        except _Unreachable as error:
            kept = " What came is kept, and the same command goes on from there." if part.exists() else ""
            raise InputError(
                f"{url} cannot be downloaded: {error}.{kept} If that lasts, get the file in another way and put it at "
                f"{path.absolute()}"
            ) from error
        found = sha256_of(part)
        if sha256 is not None and found != sha256:
            _discard(part)
            raise InputError(
                f"{url} came with sha256 {found}, expected {sha256}: it was damaged on the way, or is another file by "
                f"now. It was not kept: try again, or get the right file elsewhere and put it at {path.absolute()}"
            )
        part.replace(path)
        _validator_file(part).unlink(missing_ok=True)


def size_at(url: str) -> int | None:
    """Bytes of the file at an http(s) address, without fetching it; None: the server does not say.

    Raises:
        InputError: the server cannot be reached, or has no such file.
    """
    try:
        with _request(url, method="HEAD") as response:
            _check_answer(response, start=0, size_bytes=None)
            length = response.headers.get("Content-Length")
    except _Unreachable as error:
        raise InputError(f"{url} cannot be downloaded: {error}") from error
    return int(length) if length else None


def sha256_of(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expected_sha256(path: Path, *, published: str | None) -> str | None:
    """The sha256 that the file at `path` should have: as published or, where nobody says, as first recorded."""
    record = _record_file(path)
    if published is None and record.exists():
        return record.read_text().partition(" ")[0]
    return published


def record_sha256(path: Path, sha256: str) -> Path:
    """Remember what the file at `path` was when it first came, so that it is expected ever after.

    Returns:
        The file that says so.
    """
    record = _record_file(path)
    with replacing(record) as temporary:
        temporary.write_text(f"{sha256}  {path.name}\n")
    return record


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time make `path`. The system frees the lock of a process that dies.

    The lock is a hidden file beside `path`, so that machines which share the disk share it too; none is left behind,
    unless its process dies.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock_file = path.with_name(f".{path.name}.lock")
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Waiting for another process that downloads {path.name} …", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        # Removed while it is held: filelock (from 3.21) sees that what it then gets has no name any more, and asks
        # again. Windows removes no open file; there filelock does it on release.
        with suppress(OSError):
            lock_file.unlink()
        lock.release()


@contextmanager
def byte_progress(title: str, *, start: int = 0, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show on stderr how many bytes of a job are done.

    Args:
        title: what is done to what.
        start, total: bytes done before, and in all; None: nobody knows.

    Yields:
        A function to tell of so many more bytes.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, completed=start)
        yield lambda count: progress.advance(task, count)


class _Unreachable(Exception):
    """The server did not give the file; the message says why, without a full stop."""

    def __init__(self, reason: str, *, status: int | None = None, transient: bool = True) -> None:
        super().__init__(reason)
        self.status = status
        self.transient = transient


def _fetch_patiently(url: str, part: Path, *, title: str, size_bytes: int | None) -> None:
    wait_s = FIRST_WAIT_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _fetch(url, part, title=title, size_bytes=size_bytes)
        except _Unreachable as error:
            if not error.transient or attempt == ATTEMPTS:
                raise
            print(f"{url}: {error}; trying again in {wait_s:g} s", file=sys.stderr)
        time.sleep(wait_s)
        wait_s *= 2


def _fetch(url: str, part: Path, *, title: str, size_bytes: int | None) -> None:
    """One attempt to complete `part`."""
    with _open(url, part) as response:
        start = part.stat().st_size if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        _check_answer(response, start=start, size_bytes=size_bytes)
        remaining = response.headers.get("Content-Length")
        total = start + int(remaining) if remaining else size_bytes
        if start == 0:
            # Gone before the first byte is written, so that no validator ever stands beside another file's bytes.
            _discard(part)
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            _validator_file(part).write_text(validator)
        with part.open("ab") as file, byte_progress(f"Downloading {title}", start=start, total=total) as advance:
            while chunk := _read(response):
                file.write(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    size = part.stat().st_size
    if total is not None and size != total:
        raise _Unreachable(f"the connection broke off after {size:,} of {total:,} bytes")


def _open(url: str, part: Path) -> http.client.HTTPResponse:
    """Ask for the file, or for what `part` lacks of it."""
    validator = _validator_file(part).read_text() if part.exists() and _validator_file(part).exists() else ""
    if not validator:
        return _request(url)
    try:
        # With If-Range, a server whose file has changed sends all of the new one (RFC 9110, section 13.1.5).
        return _request(url, headers={"Range": f"bytes={part.stat().st_size}-", "If-Range": validator})
    except _Unreachable as error:
        if error.status != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        _discard(part)
        raise _Unreachable("what came before does not belong to that file") from error


def _request(
    url: str, *, method: Literal["GET", "HEAD"] = "GET", headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    if not url.startswith(("https://", "http://")):
        raise _Unreachable("an address begins with https:// or http://", transient=False)
    own = {"User-Agent": f"i2i/{__version__}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, method=method, headers={**own, **(headers or {})})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        reason = f"the server answers {error.code} ({error.reason})"
        raise _Unreachable(reason, status=error.code, transient=error.code in TRANSIENT) from error
    except urllib.error.URLError as error:
        # No such host, or nothing listening: waiting a few seconds would not help.
        raise _Unreachable(
            f"no connection ({error.reason})", transient=isinstance(error.reason, TimeoutError)
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Unreachable(f"the connection broke off ({error!r})") from error


def _check_answer(response: http.client.HTTPResponse, *, start: int, size_bytes: int | None) -> None:
    if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _Unreachable("the server sends another part of the file than it was asked for", transient=False)
    if response.headers.get_content_type() == "text/html":
        raise _Unreachable("a web page comes in place of the file", transient=False)
    remaining = response.headers.get("Content-Length")
    if remaining and size_bytes is not None and start + int(remaining) != size_bytes:
        raise _Unreachable(
            f"the server's file has {start + int(remaining):,} bytes, expected {size_bytes:,}", transient=False
        )


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Unreachable(f"the connection broke off ({error!r})") from error


def _record_file(path: Path) -> Path:
    """Beside the file, in the format of the sha256sum command."""
    return Path(f"{path}.sha256")


def _validator_file(part: Path) -> Path:
    """Holds the ETag or date of the file that `part` is the beginning of."""
    return Path(f"{part}.validator")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)
