"""Public data sets: fetched, verified, unpacked safely and laid out as the recipes read them.

A script in datasets/ says what a set is (`PublicSet`); `lay_out` does the rest.
"""

import gzip
import io
import shlex
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, BinaryIO

from i2i.data.image_io import READABLE_SUFFIXES
from i2i.download import alone, byte_progress, download, expected_sha256, record_sha256, sha256_of, size_at
from i2i.errors import InputError
from i2i.files import naming

# Pictures are compressed, so that an honest archive of them unpacks to little more than its own size.
MAX_EXPANSION = 10
ALWAYS_ALLOWED_BYTES = 1 << 24  # a small archive may consist of headers
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file that a set, or a part of it, comes in: zip, tar or tar.gz.

    Attributes:
        name: of the file.
        members: which of its pictures are kept, and in which folder of the set: {"train/*": "train"} keeps those whose
            path ends so, wherever in the archive the folder lies. A name without * may be that of another file.
        url: where it lies; None: it is given only to people who ask, so that it has to be fetched by hand.
        sha256: of the file, in hexadecimal; None: nobody says.
        size_bytes: of the file; None: nobody says.
    """

    name: str
    members: Mapping[str, str]
    url: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A data set that somebody has published.

    Attributes:
        name: what it is called; its folder is datasets/NAME unless the person wants another.
        about: what is to be seen.
        source: who made it, and where that is told.
        terms: what its makers say about its use, or that they say nothing.
        archives: what it comes in.
        counts: pictures in each folder of the set, as published or made.
        recipe: what trains on it: file name and settings, without --data and --out; "" for sets to test on.
        by_hand: how to come by archives that cannot be downloaded.
        finish: makes what no archive holds, in the folder of all that was unpacked, before it appears in its place.
    """

    name: str
    about: str
    source: str
    terms: str
    archives: tuple[Archive, ...]
    counts: Mapping[str, int]
    recipe: str = ""
    by_hand: str = ""
    finish: Callable[[Path], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the set comes from, and where it goes.

    Attributes:
        out: folder of the set; datasets/NAME unless given.
        archive: archives that you have already, in place of the download; they stay where they are.
        url: another address of the archive.
        sha256: of archives that you trust, where they are not the ones that were published or first downloaded.
        keep_archive: keep the downloaded archive, beside the set's folder.
        dry_run: say what would be done, and how large it is, and touch nothing.
    """

    out: Path | None = None
    archive: tuple[Path, ...] = ()
    url: str | None = None
    sha256: tuple[str, ...] = ()
    keep_archive: bool = False
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one archive of a set comes from this time.

    Attributes:
        archive: what it should be.
        path: where the file is, or will be once it is downloaded.
        url: where it is downloaded from, unless it was before; None: it is the person's own.
        sha256: what the file must have; None: nobody knows yet.
        trusted: of other files that will do.
        size_bytes: what the server's file must have; None: nobody knows.
    """

    archive: Archive
    path: Path
    url: str | None
    sha256: str | None
    trusted: tuple[str, ...]
    size_bytes: int | None


def lay_out(public: PublicSet, settings: Settings) -> None:
    """Get a set into its folder, and say what it is, what is there and how to train on it.

    The folder appears whole or not at all. Where it is there already, it is only counted.

    Raises:
        InputError: an archive cannot be had, is not the one that was published or first downloaded, is damaged or
            unsafe; the disk is too full; something else is in the way.
        OSError: the disk cannot be written.
    """
    out = settings.out or Path("datasets") / public.name
    print(describe(public))
    if _is_there(out):
        return _report(public, out)
    sources = find_sources(public, settings, folder=out.parent)
    if settings.dry_run:
        return _announce(public, out, sources, keep_archive=settings.keep_archive)
    with alone(out):
        if not _is_there(out):
            _check_space(sources, out.parent)
            for source in sources:
                _obtain(source)
            _unpack_all(public, sources, out)
            for source in sources:
                _finish(source, keep_archive=settings.keep_archive)
    _report(public, out)


def lay_out_one_of(sets: Mapping[str, PublicSet], name: str | None, settings: Settings) -> None:
    """`lay_out` the set of that name; without a name, list all."""
    if name is not None:
        return lay_out(sets[name], settings)
    for public in sets.values():
        print(f"{public.name}: {public.about}")


def describe(public: PublicSet) -> str:
    """What a set is, from where, on what terms and how large, in lines."""
    return (
        f"{public.name}: {public.about}\n"
        f"Source: {public.source}\n"
        f"Terms: {public.terms}\n"
        f"Pictures as published: {_listed(public.counts)}"
    )


def find_sources(public: PublicSet, settings: Settings, *, folder: Path) -> list[Source]:
    """Where each archive of a set comes from: the person's files, the address they give, or the published one.

    Args:
        public: the set.
        settings: what the person wants.
        folder: where downloaded archives go.

    Raises:
        InputError: an archive can only be had by hand, or settings that do not fit the set.
    """
    names = [archive.name for archive in public.archives]
    if settings.url and len(names) > 1:
        raise InputError(
            f"--url is for sets of one archive, and {public.name} has {len(names)}: fetch "
            f"{', '.join(names)} and give them with --archive"
        )
    if len(names) == len(settings.archive) == 1:
        own = {names[0]: settings.archive[0]}  # whatever it is called
    else:
        own = {file.name: file for file in settings.archive}
    if strangers := own.keys() - set(names):
        raise InputError(
            f"--archive {own[min(strangers)]}: {public.name} comes as {', '.join(names)}; give files of these names"
        )
    return [_source(public, archive, own.get(archive.name), settings, folder) for archive in public.archives]


def unpack(file: Path, into: Path, *, members: Mapping[str, str]) -> None:
    """Write the pictures of an archive into folders, showing progress on stderr.

    Only regular files are written, only below `into`, and only those that `members` names; any other name that points
    elsewhere, or a link, makes the whole archive suspect.

    Args:
        file: a zip, tar or tar.gz, told by its first bytes.
        into: a folder; nothing in it is overwritten.
        members: as in `Archive`.

    Raises:
        InputError: the file is no such archive, is damaged, holds unsafe names, unpacks to more than `MAX_EXPANSION`
            times its size, or has no pictures for one of the folders.
    """
    size = file.stat().st_size
    limit_bytes = max(MAX_EXPANSION * size, ALWAYS_ALLOWED_BYTES)
    taken: set[str] = set()
    awaited = set(members.values())
    with byte_progress(f"Unpacking {file.name}", total=size) as advance, file.open("rb") as raw:
        read = 0
        try:
            for name, content in _files_in(raw, limit_bytes=limit_bytes):
                target = _target(PurePosixPath(name), members)
                if target is None:
                    continue
                if str(target).casefold() in taken:
                    raise _Unfit(f"two of its files would be {target}, at least where case does not count")
                taken.add(str(target).casefold())
                awaited.discard(str(target.parent))
                (into / target).parent.mkdir(parents=True, exist_ok=True)
                with naming(into), (into / target).open("xb") as picture:
                    shutil.copyfileobj(content, picture, CHUNK_BYTES)
                advance(raw.tell() - read)
                read = raw.tell()
            if awaited:
                raise _Unfit(f"it is another archive, without pictures for {', '.join(sorted(awaited))}/")
        except _Unfit as error:
            raise InputError(f"{file} was not unpacked: {error}") from error
        except NotImplementedError as error:
            raise InputError(f"{file} was not unpacked: it is of a kind that Python does not know ({error})") from error
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{file} was not unpacked: it is damaged, or a part of it is missing ({error})") from error


def count_pictures(folder: Path) -> int:
    """Image files directly in a folder; 0 where there is none."""
    return sum(_is_picture(file.name) for file in folder.iterdir()) if folder.is_dir() else 0


class _Unfit(Exception):
    """What is wrong with an archive, without a full stop."""


class _Limited(io.RawIOBase):
    """The bytes of a stream, up to a limit: what is unpacked cannot grow beyond it, whatever its headers claim."""

    def __init__(self, stream: gzip.GzipFile, limit_bytes: int) -> None:
        self.stream = stream
        self.left = self.limit_bytes = limit_bytes

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise _too_large(self.limit_bytes)
        return content


def _too_large(limit_bytes: int) -> _Unfit:
    return _Unfit(f"it unpacks to more than {limit_bytes:,} bytes, far more than its own size, which pictures do not")


def _files_in(raw: BinaryIO, *, limit_bytes: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Path and content of each regular file of an archive, every path safe."""
    start = raw.read(512)
    raw.seek(0)
    if start.startswith(b"PK"):
        return _files_in_zip(raw, limit_bytes)
    if start.startswith(b"\x1f\x8b"):
        return _files_in_gzipped_tar(raw, limit_bytes)
    if start[257:262] == b"ustar":
        return _files_in_tar(raw)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise _Unfit("it is a web page, perhaps one that asks to log in or says that the archive has moved")
    raise _Unfit(f"it is neither zip, tar nor tar.gz; it begins with {start[:8]!r}")


def _files_in_zip(raw: BinaryIO, limit_bytes: int) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(raw) as archive:
        # No more than the size that is declared is read of a file, so that a false one is no way round the limit.
        if sum(info.file_size for info in archive.infolist()) > limit_bytes:
            raise _too_large(limit_bytes)
        for info in archive.infolist():
            _check_name(info.filename)
            if info.is_dir():
                continue
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                raise _Unfit(f"{info.filename!r} is a link or a device")
            if info.flag_bits & 1:
                raise _Unfit(f"{info.filename!r} is encrypted")
            if info.header_offset < 0:
                raise zipfile.BadZipFile("its list of files points before its beginning")
            with archive.open(info) as content:
                yield info.filename, content


def _files_in_gzipped_tar(raw: BinaryIO, limit_bytes: int) -> Iterator[tuple[str, IO[bytes]]]:
    # Unlike tarfile's own, this reader notices where the end is missing.
    with gzip.GzipFile(fileobj=raw) as unzipped:
        stream = _Limited(unzipped, limit_bytes)
        yield from _files_in_tar(stream)
        while stream.read(CHUNK_BYTES):  # the checksum comes last
            pass


def _files_in_tar(stream: BinaryIO | _Limited) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            _check_name(info.name)
            if info.isdir():
                continue
            content = archive.extractfile(info) if info.isreg() else None
            if content is None:
                raise _Unfit(f"{info.name!r} is a link or a device")
            if info.issparse():  # its holes take no place in the archive, and could fill the disk
                raise _Unfit(f"{info.name!r} has holes, which pictures have not")
            yield info.name, content


def _check_name(name: str) -> None:
    windows = PureWindowsPath(name)
    if windows.anchor or PurePosixPath(name).is_absolute() or ".." in windows.parts or not name.isprintable():
        raise _Unfit(f"it holds the unsafe name {name!r}")


def _target(path: PurePosixPath, members: Mapping[str, str]) -> PurePosixPath | None:
    """Where a file of an archive goes, below the set's folder; None: nowhere."""
    for pattern, folder in members.items():
        if path.match(pattern) and (_is_picture(path.name) or "*" not in pattern):
            return PurePosixPath(folder, path.name)
    return None


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in READABLE_SUFFIXES and not name.startswith(".")


def _is_there(out: Path) -> bool:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, and the folder of the set should be there: give another --out")
    return out.is_dir() and any(out.iterdir())


def _report(public: PublicSet, out: Path) -> None:
    """Say what is in the folder of a set, and what to do with it."""
    counts = {folder: count_pictures(out / folder) for folder in public.counts}
    if not any(counts.values()):
        raise InputError(
            f"{out} is in use, and not by {public.name}, which has {', '.join(public.counts)}/: give another --out"
        )
    print(f"{out} holds: {_listed(counts)}")
    if counts != public.counts:
        print(
            f"Warning: that is not what was published ({_listed(public.counts)}). {out} holds something else, or was "
            "changed; to have the published set, give another --out.",
            file=sys.stderr,
        )
    if public.recipe:
        print(f"Next: python recipes/{public.recipe} --data {shlex.quote(str(out))} --out runs/{public.name}")


def _announce(public: PublicSet, out: Path, sources: list[Source], *, keep_archive: bool) -> None:
    """Say what would be done."""
    for source in sources:
        if source.url and not source.path.exists():
            size = _in_words(source.size_bytes) if source.size_bytes else _size_told_by(source.url)
            print(f"Would download {source.url} to {source.path}. Size: {size}")
        then = ", then remove the archive" if source.url and not keep_archive else ""
        print(f"Would unpack {source.path} into {out}{then}")
    print(f"Free on that disk: {_in_words(_free_bytes(out.parent))}. Nothing was touched.")


def _source(public: PublicSet, archive: Archive, own: Path | None, settings: Settings, folder: Path) -> Source:
    url = None if own else settings.url or archive.url
    if own and not own.is_file():
        raise InputError(f"--archive {own}: there is no such file")
    if not own and not url:
        raise InputError(f"{archive.name} of {public.name} cannot be downloaded. {public.by_hand}")
    home = folder / archive.name
    expected = expected_sha256(home, published=archive.sha256)
    if settings.sha256 and len(public.archives) == 1:
        expected = settings.sha256[0]
    return Source(
        archive=archive,
        path=own or home,
        url=url,
        sha256=expected,
        trusted=settings.sha256,
        size_bytes=None if settings.sha256 else archive.size_bytes,
    )


def _check_space(sources: list[Source], folder: Path) -> None:
    needed = 0
    for source in sources:
        size = _size_bytes(source)
        needed += size if source.path.exists() else 2 * size  # the archive, and as much in pictures
    if needed > (free := _free_bytes(folder)):
        raise InputError(
            f"{folder} has {_in_words(free)} free, and the set takes about {_in_words(needed)} until its archive is "
            "removed: free some space, or name another place with --out"
        )


def _size_bytes(source: Source) -> int:
    """Of the archive; 0 where nobody says."""
    if source.path.exists():
        return source.path.stat().st_size
    if source.size_bytes is None and source.url:
        with suppress(InputError):  # some servers tell no sizes; whether they give the file is yet to be seen
            return size_at(source.url) or 0
    return source.size_bytes or 0


def _size_told_by(url: str) -> str:
    try:
        size = size_at(url)
    except InputError as error:
        return f"unknown, for now it {str(error).removeprefix(f'{url} ')}"
    return _in_words(size) if size else "unknown, for the server does not say"


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def _in_words(size_bytes: int) -> str:
    from rich.filesize import decimal

    return decimal(size_bytes)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{folder} {count:,}" for folder, count in counts.items())


def _obtain(source: Source) -> None:
    """Have the file in its place, and be sure that it is the right one."""
    if source.url and not source.path.exists():
        try:
            download(source.url, source.path, sha256=source.sha256, size_bytes=source.size_bytes)
        except InputError as error:
            raise InputError(f"{error}, or give it with --archive FILE") from error
    elif source.sha256 and (found := sha256_of(source.path)) not in (source.sha256, *source.trusted):
        remedy = "Move it away to have the right one downloaded" if source.url else "Give another with --archive"
        raise InputError(
            f"{source.path} has sha256 {found}, expected {source.sha256}: it is another file, or damaged. {remedy}, or "
            f"give --sha256 {found} too if you trust it"
        )


def _unpack_all(public: PublicSet, sources: list[Source], out: Path) -> None:
    with _appearing(out) as temporary:
        for source in sources:
            try:
                unpack(source.path, temporary, members=source.archive.members)
            except InputError as error:
                if source.url is None:
                    raise
                source.path.unlink()
                raise InputError(f"{error}. It was removed; the same command fetches it anew") from error
        if public.finish is not None:
            public.finish(temporary)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside `out` to write to; it takes `out`'s place when the block ends well."""
    temporary = out.with_name(f".{out.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if out.exists():
            out.rmdir()  # an empty one; Windows does not replace it
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _finish(source: Source, *, keep_archive: bool) -> None:
    """Once an archive has proved good: remember what it was, and remove it unless it is the person's own."""
    unknown = f"No sha256 of {source.archive.name} is published"
    if source.url is None:
        if source.sha256 is None:
            print(f"{unknown}, so yours was compared with nothing.")
        return
    if source.sha256 is None:
        digest = sha256_of(source.path)
        record = record_sha256(source.path, digest)
        print(f"{unknown}. This one's is {digest}: recorded in {record}, and expected next time.")
    if not keep_archive:
        source.path.unlink()
