"""Public sets from a server on this machine: laid out whole, and whatever is wrong leaves nothing behind."""

import errno
import hashlib
import io
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

from i2i import download
from i2i.data import public_sets
from i2i.data.public_sets import Archive, PublicSet, Settings, lay_out, unpack
from i2i.errors import InputError

Pack = Callable[[dict[str, bytes]], bytes]


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes], *, mode: Literal["w", "w:gz"] = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


SUFFIXES: dict[str, Pack] = {".zip": zipped, ".tar": partial(tarred, mode="w"), ".tar.gz": tarred}
KINDS = pytest.mark.parametrize(("suffix", "pack"), SUFFIXES.items(), ids=SUFFIXES)
PACKS = pytest.mark.parametrize("pack", SUFFIXES.values(), ids=SUFFIXES)
# Noise, as compressed pictures are to an archiver.
NOISE = np.random.default_rng(0).bytes(100_000)
PICTURES = {f"toy/trainA/{n}.jpg": NOISE[n:] for n in range(3)} | {
    f"toy/trainB/{n}.jpg": NOISE[: -1 - n] for n in range(2)
}
MEMBERS = {"trainA/*": "trainA", "trainB/*": "trainB"}


@dataclass
class Site:
    """A server with one archive, and what becomes of the requests for it.

    Attributes:
        cuts: after how many bytes the connection breaks off, for the first requests.
        requests: method and Range header of each request so far.
    """

    content: bytes = b""
    status: int = 200
    content_type: str = "application/octet-stream"
    cuts: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

        def do_HEAD(self) -> None:
            self.answer(0)

        def do_GET(self) -> None:
            start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
            self.answer(start)
            body = site.content[start:]
            self.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)

        def answer(self, start: int) -> None:
            site.requests.append(f"{self.command} {self.headers.get('Range', '')}".strip())
            self.send_response(206 if start else site.status)
            self.send_header("ETag", '"one"')
            self.send_header("Content-Type", site.content_type)
            self.send_header("Content-Length", str(len(site.content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


def toy_set(url: str | None, name: str = "toy.zip") -> PublicSet:
    return PublicSet(
        name="toy",
        about="noise (A) and noise (B)",
        source="a generator",
        terms="none",
        archives=(Archive(name=name, url=url, members=MEMBERS),),
        counts={"trainA": 3, "trainB": 2},
        recipe="cyclegan.py --steps 9",
        by_hand="Ask nicely.",
    )


@pytest.fixture
def toy(site: Site) -> PublicSet:
    site.content = zipped(PICTURES)
    return toy_set(f"{site.address}/toy.zip")


def below(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, with their content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@KINDS
def test_a_set_is_laid_out_and_told(
    pack: Pack, suffix: str, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.content = pack({"toy/": b"", **PICTURES} if suffix == ".zip" else PICTURES)
    toy = toy_set(f"{site.address}/toy{suffix}", f"toy{suffix}")
    lay_out(toy, Settings(out=tmp_path / "toy"))
    digest = hashlib.sha256(site.content).hexdigest()
    assert below(tmp_path) == {**PICTURES, f"toy{suffix}.sha256": f"{digest}  toy{suffix}\n".encode()}
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "toy: noise (A) and noise (B)",
        "Source: a generator",
        "Terms: none",
        "Pictures as published: trainA 3, trainB 2",
        f"No sha256 of toy{suffix} is published. This one's is {digest}: recorded in {tmp_path}/toy{suffix}.sha256, "
        "and expected next time.",
        f"{tmp_path / 'toy'} holds: trainA 3, trainB 2",
        f"Next: python recipes/cyclegan.py --steps 9 --data {tmp_path / 'toy'} --out runs/toy",
    ]
    assert "Warning" not in told.err


def test_what_is_there_is_counted_and_left(
    toy: PublicSet, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(toy, Settings(out=tmp_path / "toy"))
    before, requests = below(tmp_path), len(site.requests)
    (tmp_path / "toy" / "trainA" / "own.png").write_bytes(b"own")
    capsys.readouterr()
    lay_out(toy, Settings(out=tmp_path / "toy"))
    told = capsys.readouterr()
    assert "holds: trainA 4, trainB 2" in told.out
    assert "Warning: that is not what was published (trainA 3, trainB 2)" in told.err
    assert "give another --out" in told.err and "remove" not in told.err
    assert below(tmp_path) == {**before, "toy/trainA/own.png": b"own"}
    assert len(site.requests) == requests


def test_an_interrupted_download_is_gone_on_with(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.cuts = [100_000] * download.ATTEMPTS
    whole, site.content = site.content, zipped(PICTURES) + NOISE * 10
    with pytest.raises(InputError, match="goes on from there"):
        lay_out(toy, Settings(out=tmp_path / "toy"))
    assert names(tmp_path) == ["toy.zip.part", "toy.zip.part.validator"]
    site.content, site.cuts = whole, [30_000]
    (tmp_path / "toy.zip.part").write_bytes(whole[:50_000])
    site.requests.clear()
    lay_out(toy, Settings(out=tmp_path / "toy"))
    assert site.requests == ["HEAD", "GET bytes=50000-", "GET bytes=80000-"]
    assert names(tmp_path) == ["toy", "toy.zip.sha256"]


def test_another_archive_than_the_first_is_refused(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    lay_out(toy, Settings(out=tmp_path / "toy"))
    shutil.rmtree(tmp_path / "toy")
    site.content = zipped({**PICTURES, "toy/trainA/new.jpg": NOISE})
    digest = hashlib.sha256(site.content).hexdigest()
    with pytest.raises(InputError, match=f"came with sha256 {digest}, expected"):
        lay_out(toy, Settings(out=tmp_path / "toy"))
    assert names(tmp_path) == ["toy.zip.sha256"]
    lay_out(toy, Settings(out=tmp_path / "toy", sha256=(digest,)))
    assert (tmp_path / "toy" / "trainA" / "new.jpg").read_bytes() == NOISE


def test_a_sha256_is_recorded_once_and_said_to_be(
    toy: PublicSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for first in (True, False):
        lay_out(toy, Settings(out=tmp_path / "toy"))
        assert ("No sha256 of toy.zip is published" in capsys.readouterr().out) == first
        shutil.rmtree(tmp_path / "toy")


def test_what_was_published_counts_more_than_a_record(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    (tmp_path / "toy.zip.sha256").write_text(f"{hashlib.sha256(site.content).hexdigest()}  toy.zip\n")
    published = replace(toy, archives=(replace(toy.archives[0], sha256="0" * 64),))
    with pytest.raises(InputError, match=f"expected {'0' * 64}"):
        lay_out(published, Settings(out=tmp_path / "toy"))


def test_a_dry_run_tells_sizes_and_touches_nothing(
    toy: PublicSet, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "toy"
    lay_out(toy, Settings(out=out, dry_run=True))
    told = capsys.readouterr().out
    assert f"Would download {site.address}/toy.zip to {tmp_path / 'new' / 'toy.zip'}. Size: 500.6 kB" in told
    assert f"Would unpack {tmp_path / 'new' / 'toy.zip'} into {out}, then remove the archive" in told
    assert site.requests == ["HEAD"]
    site.content_type = "text/html"
    lay_out(toy, Settings(out=out, dry_run=True))
    told = capsys.readouterr().out
    assert "Size: unknown, for now it cannot be downloaded: a web page comes in place of the file" in told
    assert told.count(site.address) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_without_a_connection_tells_the_published_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = toy_set("http://127.0.0.1:9/toy.zip")
    published = replace(nowhere, archives=(replace(nowhere.archives[0], size_bytes=116_867_962),))
    lay_out(published, Settings(out=tmp_path / "toy", dry_run=True))
    assert f"to {tmp_path / 'toy.zip'}. Size: 116.9 MB\n" in capsys.readouterr().out
    lay_out(nowhere, Settings(out=tmp_path / "toy", dry_run=True))
    told = capsys.readouterr().out
    assert "Size: unknown, for now it cannot be downloaded: no connection" in told
    assert told.count("http://127.0.0.1:9") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size_bytes", "reason"), [(None, "the server answers 404"), (7, "bytes, expected 7")])
def test_another_address_that_fails_names_the_ways_out(
    size_bytes: int | None, reason: str, toy: PublicSet, site: Site, tmp_path: Path
) -> None:
    if size_bytes is None:
        site.status = 404
    asked = replace(toy, archives=(replace(toy.archives[0], size_bytes=size_bytes),))
    with pytest.raises(InputError, match=reason) as caught:
        lay_out(asked, Settings(out=tmp_path / "toy", url=f"{site.address}/other.zip"))
    assert str(caught.value).endswith(f"put it at {tmp_path / 'toy.zip'}, or give it with --archive FILE")
    assert "connection" not in str(caught.value)
    assert names(tmp_path) == []


def test_an_archive_is_kept_on_request_and_then_used(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    lay_out(toy, Settings(out=tmp_path / "toy", keep_archive=True))
    assert (tmp_path / "toy.zip").read_bytes() == site.content
    shutil.rmtree(tmp_path / "toy")
    site.requests.clear()
    lay_out(toy, Settings(out=tmp_path / "toy"))
    assert site.requests == []
    assert names(tmp_path) == ["toy", "toy.zip.sha256"]


@PACKS
def test_an_archive_of_ones_own_is_used_and_stays(
    pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "renamed by my browser"
    own.write_bytes(pack(PICTURES))
    lay_out(toy_set(None), Settings(out=tmp_path / "sets" / "toy", archive=(own,)))
    assert below(tmp_path / "sets") == PICTURES
    assert own.exists()
    assert "No sha256 of toy.zip is published, so yours was compared with nothing." in capsys.readouterr().out


def test_an_archive_of_ones_own_is_verified(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    own = tmp_path / "own.zip"
    own.write_bytes(zipped({**PICTURES, "toy/trainA/new.jpg": NOISE}))
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    lay_out(toy, Settings(out=tmp_path / "toy"))
    shutil.rmtree(tmp_path / "toy")
    settings = Settings(out=tmp_path / "toy", archive=(own,))
    with pytest.raises(
        InputError, match=rf"own\.zip has sha256 {digest}, expected .*Give another with --arch"
    ) as caught:
        lay_out(toy, settings)
    assert str(caught.value).endswith(f"--sha256 {digest} too if you trust it")
    assert "remove" not in str(caught.value).lower()
    assert names(tmp_path) == ["own.zip", "toy.zip.sha256"]
    lay_out(toy, replace(settings, sha256=(digest,)))
    assert own.exists() and (tmp_path / "toy" / "trainA" / "new.jpg").exists()


def test_what_cannot_be_downloaded_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"toy\.zip of toy cannot be downloaded\. Ask nicely\."):
        lay_out(toy_set(None), Settings(out=tmp_path / "toy"))
    with pytest.raises(InputError, match=r"nowhere\.zip: there is no such file"):
        lay_out(toy_set(None), Settings(out=tmp_path / "toy", archive=(tmp_path / "nowhere.zip",)))
    assert list(tmp_path.iterdir()) == []


def test_a_set_of_two_archives(tmp_path: Path) -> None:
    halves = tuple(Archive(name=f"{side}.zip", members={f"train{side}/*": f"train{side}"}) for side in "AB")
    toy = replace(toy_set(None), archives=halves)
    for side in "AB":
        (tmp_path / f"{side}.zip").write_bytes(zipped(PICTURES))
    settings = Settings(out=tmp_path / "toy", archive=(tmp_path / "B.zip", tmp_path / "A.zip"))
    lay_out(toy, settings)
    assert below(tmp_path / "toy") == {name.removeprefix("toy/"): content for name, content in PICTURES.items()}
    shutil.rmtree(tmp_path / "toy")
    with pytest.raises(InputError, match=r"A\.zip of toy cannot be downloaded"):
        lay_out(toy, replace(settings, archive=(tmp_path / "B.zip",)))
    with pytest.raises(InputError, match=r"C\.zip: toy comes as A\.zip, B\.zip"):
        lay_out(toy, replace(settings, archive=(tmp_path / "B.zip", tmp_path / "C.zip")))
    with pytest.raises(InputError, match="--url is for sets of one archive"):
        lay_out(toy, replace(settings, url="https://somewhere"))
    known = replace(toy, archives=tuple(replace(half, sha256="0" * 64) for half in halves))
    digests = tuple(hashlib.sha256((tmp_path / f"{side}.zip").read_bytes()).hexdigest() for side in "AB")
    with pytest.raises(InputError, match=rf"A\.zip has sha256 .*give --sha256 {digests[0]} too"):
        lay_out(known, settings)
    lay_out(known, replace(settings, sha256=digests))
    assert (tmp_path / "toy").exists()


@PACKS
def test_only_expected_pictures_are_written(pack: Pack, tmp_path: Path) -> None:
    others = ["README.md", "toy/trainA/list.txt", "toy/trainA/.DS_Store", "__MACOSX/toy/trainA/._0.jpg"]
    others += ["toy/trainA/deeper/0.jpg", "toy/testA/0.jpg", "0.jpg", "toy/trainA.jpg"]
    (tmp_path / "a").write_bytes(pack({**PICTURES, **dict.fromkeys(others, b"other")}))
    unpack(tmp_path / "a", tmp_path / "out", members=MEMBERS)
    assert below(tmp_path / "out") == {name.removeprefix("toy/"): content for name, content in PICTURES.items()}


@PACKS
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/toy/trainA/9.jpg", "unsafe name '/toy/trainA/9.jpg'"),
        ("toy/../../trainA/9.jpg", "unsafe name"),
        ("..\\trainA\\9.jpg", "unsafe name"),
        ("C:\\trainA\\9.jpg", "unsafe name"),
        ("C:trainA/9.jpg", "unsafe name"),
        ("toy/trainA/9\n.jpg", "unsafe name"),
        ("toy/trainA/2.JPG", r"two of its files would be trainA/2\.JPG"),
        ("again/trainA/2.jpg", r"two of its files would be trainA/2\.jpg"),
        ("../elsewhere.txt", "unsafe name"),
    ],
)
def test_unsafe_names_leave_nothing(
    pack: Pack, name: str, message: str, toy: PublicSet, site: Site, tmp_path: Path
) -> None:
    site.content = pack({**PICTURES, name: b"evil"})
    with pytest.raises(InputError, match=message) as caught:
        lay_out(toy, Settings(out=tmp_path / "sets" / "toy"))
    assert str(tmp_path / "sets" / "toy.zip") in str(caught.value)
    assert "It was removed; the same command fetches it anew" in str(caught.value)
    assert below(tmp_path) == {} and names(tmp_path / "sets") == []


def tar_with(kind: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        info = tarfile.TarInfo("toy/trainA/9.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return stream.getvalue()


def tar_with_hole() -> bytes:
    """A tar of 1.5 kB with a picture that is said to be of 8 GB, all but its end left out."""
    info = tarfile.TarInfo("toy/trainA/9.jpg")
    info.size = 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"77777777000\0" + b"00000001000\0"  # where the only data begin, and how long they are
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(512) + bytes(1024)


def zip_with_link() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("toy/trainA/9.jpg")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


def zip_flagged(offset: int, value: bytes) -> bytes:
    """A zip whose entries say something else than is so, in the list at its end."""
    content = zipped({"toy/trainA/9.jpg": b"9"})
    entry = content.index(b"PK\x01\x02") + offset
    return content[:entry] + value + content[entry + len(value) :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_with(tarfile.SYMTYPE), "is a link or a device"),
        (tar_with(tarfile.LNKTYPE), "is a link or a device"),
        (tar_with(tarfile.CHRTYPE), "is a link or a device"),
        (tar_with(tarfile.FIFOTYPE), "is a link or a device"),
        (tar_with_hole(), "has holes"),
        (zip_with_link(), "is a link or a device"),
        (zip_flagged(8, b"\x01"), "is encrypted"),
        (zip_flagged(10, b"\x63"), "of a kind that Python does not know"),
        (b"<!DOCTYPE html><title>Moved</title>", "it is a web page"),
        (b"\n<html>log in</html>", "it is a web page"),
        (b"\x89PNG\r\n", "neither zip, tar nor tar.gz; it begins with"),
        (b"", "neither zip, tar nor tar.gz"),
        (zipped(PICTURES)[:-200], "damaged, or a part of it is missing"),
        (zipped(PICTURES).replace(NOISE[500:600], NOISE[600:700], 1), "damaged, or a part of it is missing"),
        (tarred(PICTURES, mode="w")[:-50_000], "damaged, or a part of it is missing"),
        (zipped({"other/0.jpg": NOISE}), "another archive, without pictures for trainA, trainB/"),
        (zipped({"trainA/0.jpg": NOISE}), "without pictures for trainB/"),
    ],
)
def test_bad_archives_leave_nothing(content: bytes, message: str, toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.content = content
    with pytest.raises(InputError, match=message):
        lay_out(toy, Settings(out=tmp_path / "toy"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95, 0.99999])
def test_a_tar_that_was_cut_is_noticed(share: float, tmp_path: Path) -> None:
    whole = tarred(PICTURES)
    (tmp_path / "a").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="a part of it is missing"):
        unpack(tmp_path / "a", tmp_path / "out", members=MEMBERS)


def test_a_tar_with_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    whole = bytearray(tarred(PICTURES))
    whole[len(whole) // 2] ^= 1
    (tmp_path / "a").write_bytes(whole)
    with pytest.raises(InputError, match="damaged"):
        unpack(tmp_path / "a", tmp_path / "out", members=MEMBERS)


@PACKS
def test_what_unpacks_beyond_all_measure_is_refused(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_sets, "ALWAYS_ALLOWED_BYTES", 1_000_000)
    zeros = {"toy/trainA/0.jpg": bytes(900_000), "toy/trainA/1.jpg": bytes(200_000)}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in zeros.items():
            archive.writestr(name, content)
    (tmp_path / "a").write_bytes(stream.getvalue() if pack is zipped else tarred(zeros))
    with pytest.raises(InputError, match="unpacks to more than 1,000,000 bytes"):
        unpack(tmp_path / "a", tmp_path / "out", members=MEMBERS)
    assert sum(map(len, below(tmp_path / "out").values())) <= 1_000_000


def test_an_interrupted_unpacking_leaves_no_set(
    toy: PublicSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, calls = shutil.copyfileobj, []

    def interrupted(*args: object) -> None:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        copy(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(public_sets.shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lay_out(toy, Settings(out=tmp_path / "toy"))
    assert names(tmp_path) == ["toy.zip"]


def test_what_no_archive_holds_is_made_before_the_set_appears(tmp_path: Path) -> None:
    """From a file that is no picture, which has to be named in full."""
    (tmp_path / "own.zip").write_bytes(zipped({**PICTURES, "toy/told.json": b"{}", "toy/other.json": b"{}"}))
    members = {**MEMBERS, "told.json": "told", "*.json": "others"}

    def finish(folder: Path) -> None:
        assert folder.name == ".toy.unpacking" and not (tmp_path / "toy").exists()
        (folder / "told" / "told.json").rename(folder / "trainB" / "made.jpg")

    toy = replace(toy_set(None), archives=(Archive(name="toy.zip", members=members),), finish=finish)
    settings = Settings(out=tmp_path / "toy", archive=(tmp_path / "own.zip",))
    with pytest.raises(InputError, match="without pictures for others/"):
        lay_out(toy, settings)
    del members["*.json"]
    toy = replace(toy, archives=(Archive(name="toy.zip", members=members),))

    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        lay_out(replace(toy, finish=fail), settings)
    assert names(tmp_path) == ["own.zip"]
    lay_out(toy, settings)
    pictures = {name.removeprefix("toy/"): content for name, content in PICTURES.items()}
    assert below(tmp_path / "toy") == pictures | {"trainB/made.jpg": b"{}"}


def test_what_a_killed_process_left_is_removed(toy: PublicSet, tmp_path: Path) -> None:
    (tmp_path / ".toy.unpacking" / "trainA").mkdir(parents=True)
    (tmp_path / ".toy.unpacking" / "trainA" / "half.jpg").write_bytes(b"half")
    (tmp_path / "toy").mkdir()  # empty folders are nobody's
    lay_out(toy, Settings(out=tmp_path / "toy"))
    assert below(tmp_path).keys() == {*PICTURES, "toy.zip.sha256"}


def test_a_full_disk_is_told_before_the_download(
    toy: PublicSet, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_sets.shutil, "disk_usage", lambda path: SimpleNamespace(free=900_000))
    with pytest.raises(InputError, match=r"has 900\.0 kB free, and the set takes about 1\.0 MB"):
        lay_out(toy, Settings(out=tmp_path / "toy"))
    assert site.requests == ["HEAD"] and names(tmp_path) == []


def test_a_disk_that_fills_up_leaves_nothing(toy: PublicSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(public_sets.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        lay_out(toy, Settings(out=tmp_path / "toy"))
    assert caught.value.filename == str(tmp_path / ".toy.unpacking")
    assert names(tmp_path) == ["toy.zip"]


def test_what_is_in_the_way_is_told(toy: PublicSet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file"):
        lay_out(toy, Settings(out=tmp_path / "file"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(InputError, match="mine is in use, and not by toy, which has trainA, trainB/"):
        lay_out(toy, Settings(out=tmp_path / "mine"))


def test_an_address_is_an_address(toy: PublicSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"my\.zip cannot be downloaded: an address begins with https://"):
        lay_out(toy, Settings(out=tmp_path / "toy", url="my.zip"))
