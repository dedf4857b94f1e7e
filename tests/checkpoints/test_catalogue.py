"""What `weights` may mean: a path, a name, or a repository of a hub that stands on this machine."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from i2i.checkpoints import catalogue
from i2i.checkpoints.catalogue import CATALOGUE, KnownWeights, fetch, find_weights, known_weights, verify
from i2i.errors import InputError

COMMIT = "a" * 40


class Hub:
    """Serves any path of `files`, and the parts of the Hugging Face Hub's interface that downloads use."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None: ...

            def do_GET(self) -> None:
                self.answer()

            def do_HEAD(self) -> None:
                self.answer()

            def answer(self) -> None:
                status, body = hub.find(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                if status != 200:
                    self.send_header("X-Error-Code", "GatedRepo" if status == 403 else "RepoNotFound")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def find(self, path: str) -> tuple[int, bytes]:
        if path.startswith("/api/models/own/closed/"):
            return 403, b"{}"
        if path.startswith("/api/models/own/"):
            repository = "/".join(path.split("/")[3:5])
            prefix = f"/{repository}/resolve/{COMMIT}/"
            names = {key.removeprefix(prefix): value for key, value in self.files.items() if key.startswith(prefix)}
            if not names:
                return 404, b"{}"
            if "/tree/" in path:
                entries = [
                    {"type": "file", "path": n, "size": len(v), "oid": hashlib.sha1(v).hexdigest()}
                    for n, v in names.items()
                ]
                return 200, json.dumps(entries).encode()
            siblings = [{"rfilename": name} for name in names]
            return 200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        return (200, self.files[path]) if path in self.files else (404, b"")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    hub = Hub()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def toy(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> KnownWeights:
    """Weights that the catalogue knows without a sha256."""
    hub.files["/some/file.pth"] = b"weights"
    known = KnownWeights(name="Toy_x2", url=f"{hub.url}/some/file.pth", scale=2, licence="MIT", about="tests")
    monkeypatch.setattr(catalogue, "CATALOGUE", (known,))
    return known


def test_a_path_that_exists_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "RealESRGAN_x4plus").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_weights("RealESRGAN_x4plus") == Path("RealESRGAN_x4plus")
    assert find_weights(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["Toy_x2", "toy_X2", "Toy_x2.pth"])
def test_a_name_is_downloaded_once(name: str, hub: Hub, toy: KnownWeights, tmp_path: Path) -> None:
    path = find_weights(name)
    assert path == tmp_path / "cache" / "weights" / "Toy_x2.pth"
    assert path.read_bytes() == b"weights"
    hub.files.clear()
    assert find_weights(name) == path


def test_what_was_first_downloaded_is_expected_ever_after(hub: Hub, toy: KnownWeights) -> None:
    path = fetch(toy)
    record = path.with_name("Toy_x2.pth.sha256").read_text()
    assert record == f"{hashlib.sha256(b'weights').hexdigest()}  Toy_x2.pth\n"
    assert verify(toy) is None
    path.write_bytes(b"tampered")
    assert re.search(r"Toy_x2\.pth has sha256 .* expected .* Delete it", verify(toy) or "")
    path.unlink()
    hub.files["/some/file.pth"] = b"replaced"
    with pytest.raises(InputError, match="came with sha256"):
        fetch(toy)
    assert not path.exists()


def test_a_file_put_there_by_hand_is_used_and_its_size_told(
    toy: KnownWeights, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = replace(toy, size_bytes=7)
    toy.path.parent.mkdir(parents=True)
    toy.path.write_bytes(b"saved anew")
    assert fetch(toy) == toy.path
    assert "has 10 bytes, the published file 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("RealESRGAN_x4plu", "RealESRGAN_x4plus"),
        ("horse2zebra", "cyclegan_horse2zebra"),
        ("realesr-animevideo", "realesr-animevideov3"),
        ("facades_label2photo.pth", "cyclegan_facades_label2photo or pix2pix_facades_label2photo"),
    ],
)
def test_near_misses_are_named(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"did you mean {near}"):
        find_weights(name)


@pytest.mark.parametrize("name", ["nothing", "runs/net.pth", "/no/such/folder", "a/b/c"])
def test_what_is_nothing_is_told(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: there is no such file or folder, and no weights are known"):
        find_weights(name)


def test_every_entry_is_whole_and_found_by_its_name() -> None:
    for known in CATALOGUE:
        assert known_weights(known.name) is known  # so that names are unique, in any case
        assert known.url.startswith("https://")
        assert known.sha256 is None or re.fullmatch("[0-9a-f]{64}", known.sha256)
    assert known_weights("realesrgan_x4plus.PTH") is CATALOGUE[0]


def find_on_hub(name: str, hub_url: str, home: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, for huggingface_hub reads its settings when it is imported."""
    code = f"from i2i.checkpoints.catalogue import find_weights; print(find_weights({name!r}))"
    environment = {**os.environ, "HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=home)


def test_a_repository_of_the_hub_becomes_a_folder(hub: Hub, tmp_path: Path) -> None:
    names = {"generator.safetensors": b"tensors", "config.json": b"{}", "README.md": b"card", "large.bin": b"other"}
    hub.files = {f"/own/net/resolve/{COMMIT}/{name}": content for name, content in names.items()}
    done = find_on_hub("own/net", hub.url, tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: content for name, content in names.items() if name != "large.bin"
    }
    # Once downloaded, it is there without a connection.
    assert find_on_hub("own/net", "http://127.0.0.1:9", tmp_path).stdout == done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own/nothing", "no such repository on the Hugging Face Hub"),
        ("own/closed", "only to people it has admitted"),
        ("own/other", "holds no generator of i2i: it lacks generator.safetensors and config.json"),
    ],
)
def test_what_the_hub_has_not_is_told(hub: Hub, tmp_path: Path, name: str, message: str) -> None:
    hub.files = {f"/own/other/resolve/{COMMIT}/README.md": b"another library's"}
    assert message in find_on_hub(name, hub.url, tmp_path).stderr


def test_no_hub_in_reach_is_told(tmp_path: Path) -> None:
    error = find_on_hub("own/net", "http://127.0.0.1:9", tmp_path).stderr
    assert "own/net: there is no such file or folder, and the Hugging Face Hub cannot be reached" in error
