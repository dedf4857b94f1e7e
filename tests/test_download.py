"""Files from a server on this machine: whole, resumed, refused, and asked for by several processes."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from i2i import download as module
from i2i.download import cache_folder, download, expected_sha256, record_sha256, size_at
from i2i.errors import InputError

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """A server with one file, and what becomes of the requests for it.

    Attributes:
        cuts: after how many bytes the connection breaks off, for the first requests; the later ones are answered whole.
        ranges: whether it can send a part of the file.
        requests: the Range header of each request so far; None: all of the file.
    """

    content: bytes = CONTENT
    etag: str = '"first"'
    status: int = 200
    content_type: str = "application/octet-stream"
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    stall: threading.Event | None = None
    requests: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.requests.append(asked)
            start = 0
            if asked and site.ranges and self.headers.get("If-Range", site.etag) == site.etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(site.content) > 0:
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if start else site.status)
            self.send_header("ETag", site.etag)
            self.send_header("Content-Type", site.content_type)
            self.send_header("Content-Length", str(len(site.content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            body = site.content[start:]
            if site.cuts:
                body = body[: site.cuts.pop(0)]
            half = len(body) // 2
            self.wfile.write(body[:half])
            if site.stall is not None:
                self.wfile.flush()
                site.stall.wait(30)
            self.wfile.write(body[half:])

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None: ...  # clients are killed on purpose

    server = Server(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}/net.pth"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_once(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "net.pth"
    download(site.url, file, sha256=SHA256, size_bytes=len(CONTENT))
    download(site.url, file)
    assert file.read_bytes() == CONTENT
    assert visible(file.parent) == ["net.pth"]
    assert site.requests == [None]


def test_a_broken_connection_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    site.cuts = [1_000_000, 2_000_000]
    download(site.url, tmp_path / "net.pth", sha256=SHA256)
    assert (tmp_path / "net.pth").read_bytes() == CONTENT
    assert site.requests == [None, "bytes=1000000-", "bytes=3000000-"]


def test_another_call_goes_on_where_one_gave_up(site: Site, tmp_path: Path) -> None:
    site.cuts = [100_000] * module.ATTEMPTS
    with pytest.raises(InputError, match=r"broke off after 500,000 of 5,120,000 bytes.*goes on from there"):
        download(site.url, tmp_path / "net.pth")
    assert not (tmp_path / "net.pth").exists()
    download(site.url, tmp_path / "net.pth", sha256=SHA256)
    assert site.requests[-1] == "bytes=500000-"
    assert visible(tmp_path) == ["net.pth"]


def test_a_killed_process_leaves_a_part_that_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    site.stall = threading.Event()
    process = subprocess.Popen([sys.executable, "-c", script(site.url, tmp_path / "net.pth")])
    part = tmp_path / "net.pth.part"
    # Whole chunks alone are written, for the server stalls in the middle of the third.
    wait_for(lambda: part.exists() and part.stat().st_size >= 2 * module.CHUNK_BYTES)
    process.kill()
    process.wait()
    site.stall.set()
    download(site.url, tmp_path / "net.pth", sha256=SHA256)
    assert site.requests == [None, f"bytes={2 * module.CHUNK_BYTES}-"]


def test_a_server_without_ranges_sends_all_again(site: Site, tmp_path: Path) -> None:
    site.cuts, site.ranges = [1_000_000], False
    download(site.url, tmp_path / "net.pth", sha256=SHA256)
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_starts_over(site: Site, tmp_path: Path) -> None:
    site.cuts = [1_000_000] * module.ATTEMPTS
    site.content = b"old" * 2_000_000
    with pytest.raises(InputError):
        download(site.url, tmp_path / "net.pth")
    site.content, site.etag, site.cuts = CONTENT, '"second"', []
    download(site.url, tmp_path / "net.pth")
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_starts_over(site: Site, tmp_path: Path) -> None:
    (tmp_path / "net.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / "net.pth.part.validator").write_text(site.etag)
    download(site.url, tmp_path / "net.pth", sha256=SHA256)
    assert len(site.requests) == 2
    assert visible(tmp_path) == ["net.pth"]


def test_another_file_than_expected_is_not_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"came with sha256 {SHA256}, expected {'0' * 64}") as caught:
        download(site.url, tmp_path / "net.pth", sha256="0" * 64)
    assert str(tmp_path / "net.pth") in str(caught.value)
    assert visible(tmp_path) == []


def test_another_size_than_expected_is_told_before_it_is_fetched(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 5,120,000 bytes, expected 7"):
        download(site.url, tmp_path / "net.pth", size_bytes=7)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "attempts", "message"), [(404, 1, "answers 404"), (403, 1, "answers 403"), (503, 5, "answers 503")]
)
def test_an_error_says_what_to_put_where(site: Site, tmp_path: Path, status: int, attempts: int, message: str) -> None:
    site.status = status
    with pytest.raises(InputError, match=message) as caught:
        download(site.url, tmp_path / "net.pth")
    assert site.url in str(caught.value)
    assert str(tmp_path / "net.pth") in str(caught.value)
    assert len(site.requests) == attempts
    assert visible(tmp_path) == []


def test_a_login_page_is_no_file(site: Site, tmp_path: Path) -> None:
    site.content_type = "text/html; charset=utf-8"
    with pytest.raises(InputError, match="a web page comes in place of the file"):
        download(site.url, tmp_path / "net.pth")
    assert visible(tmp_path) == []


def test_the_size_is_told_without_the_file(site: Site) -> None:
    assert size_at(site.url) == len(CONTENT)
    site.status = 404
    with pytest.raises(InputError, match=r"net\.pth cannot be downloaded: the server answers 404"):
        size_at(site.url)


def test_other_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"file:///etc/passwd cannot be downloaded: an address begins with https://"):
        download("file:///etc/passwd", tmp_path / "net.pth")


def test_what_a_file_first_was_is_expected_unless_somebody_says(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    assert expected_sha256(file, published=None) is None
    record_sha256(file, SHA256)
    assert expected_sha256(file, published=None) == SHA256
    assert expected_sha256(file, published="0" * 64) == "0" * 64


def test_no_server_is_told_at_once(site: Site, tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9/net.pth"  # the discard port, where nothing listens
    begun = time.perf_counter()
    with pytest.raises(InputError, match=r"no connection.*get the file in another way and put it at") as caught:
        download(nobody, tmp_path / "net.pth")
    assert nobody in str(caught.value)
    assert time.perf_counter() - begun < 5


def test_of_two_processes_one_fetches_and_the_other_waits(site: Site, tmp_path: Path) -> None:
    site.stall = threading.Event()
    start = [sys.executable, "-c", script(site.url, tmp_path / "net.pth")]
    first = subprocess.Popen(start, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: site.requests)
    second = subprocess.Popen(start, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    assert "Waiting for another process that downloads net.pth" in second.stderr.readline()
    site.stall.set()
    assert (first.wait(30), second.wait(30)) == (0, 0)
    assert (tmp_path / "net.pth").read_bytes() == CONTENT
    assert site.requests == [None]


def test_processes_are_alone_though_each_removes_the_lock(tmp_path: Path) -> None:
    """Each adds 1 to a number, which needs two steps; of two at once, one would be lost."""
    (tmp_path / "count").write_text("0")
    code = f"""
import time
from pathlib import Path
from i2i.download import alone
count = Path({str(tmp_path / "count")!r})
for _ in range(20):
    with alone(count):
        number = int(count.read_text())
        time.sleep(0.001)
        count.write_text(str(number + 1))
    time.sleep(0.005)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "80"
    assert visible(tmp_path) == ["count"]


def test_a_failure_leaves_no_lock(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), module.alone(tmp_path / "net.pth"):
        assert visible(tmp_path) == [".net.pth.lock"]
        raise RuntimeError
    assert visible(tmp_path) == []


def test_the_cache_is_where_the_person_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("I2I_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "i2i"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "i2i"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "i2i"
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def script(url: str, path: Path) -> str:
    return f"from pathlib import Path; from i2i.download import download; download({url!r}, Path({str(path)!r}))"


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)
