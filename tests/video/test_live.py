"""`Camera`: every frame or the newest ones, how late they are, and that nothing hangs."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import make_clip

from i2i.errors import InputError, RunStopped
from i2i.video.live import Camera, upscale_live


class Fake:
    """Gives so many frames of 6 x 8 px, with their number in blue."""

    def __init__(self, count: int, *, interval_s: float = 0.0, opened: bool = True) -> None:
        self.count = count
        self.interval_s = interval_s
        self.opened = opened
        self.reads = 0
        self.at_end = threading.Event()
        self.released = threading.Event()

    def isOpened(self) -> bool:
        return self.opened

    def read(self) -> tuple[bool, Any]:
        time.sleep(self.interval_s)
        if self.reads == self.count:
            self.at_end.set()
            return False, None
        image = np.full((6, 8, 3), (self.reads, 100, 200), np.uint8)
        self.reads += 1
        return True, image

    def release(self) -> None:
        self.released.set()


class Hanging(Fake):
    """After its last frame, a read that does not return before `go_on`."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.go_on = threading.Event()

    def read(self) -> tuple[bool, Any]:
        if self.reads == self.count:
            self.go_on.wait(10)
        return super().read()


def camera(fake: Fake, source: int | str = "rtsp://fake", **settings: Any) -> Camera:
    return Camera(source, open_capture=lambda _: fake, **settings)


def test_a_file_comes_whole_and_in_its_colours(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=20)
    with Camera(str(path), when_full="block", queue_frames=2) as frames:
        seen = list(frames)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.number for frame in seen] == list(range(20))
    for frame, image in zip(seen, expected, strict=True):
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - image).mean() < 3
        assert np.abs(frame.image[..., ::-1].astype(int) - image).mean() > 20
        assert frame.late_s >= 0
        assert frame.dropped == 0
    assert [frame.captured_s for frame in seen] == sorted(frame.captured_s for frame in seen)


def test_a_turned_file_is_upright(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3, width=64, height=48, rotation=90)
    with Camera(str(path)) as frames:
        assert next(frames).image.shape == (64, 48, 3)


def test_the_newest_frames_stay() -> None:
    fake = Fake(50)
    with camera(fake) as frames:
        assert fake.at_end.wait(5)
        seen = list(frames)
    assert [(frame.number, frame.dropped) for frame in seen] == [(number, 46) for number in range(46, 50)]
    assert seen[0].image[0, 0].tolist() == [200, 100, 46]
    assert frames.dropped == 46


def test_no_frame_is_lost_where_the_source_waits() -> None:
    fake = Fake(50)
    numbers = []
    with camera(fake, when_full="block", queue_frames=3) as frames:
        for frame in frames:
            numbers.append(frame.number)
            assert fake.reads <= len(numbers) + 3 + 1  # those that wait, and one in the reader's hands
            assert frame.dropped == 0
            time.sleep(0.002)
    assert numbers == list(range(50))


def test_lateness_is_the_frames_age() -> None:
    fake = Fake(1)
    with camera(fake) as frames:
        assert fake.at_end.wait(5)
        time.sleep(0.1)
        frame = next(frames)
    assert 0.1 <= frame.late_s <= time.monotonic() - frame.captured_s < 5


def test_a_stream_ends() -> None:
    with camera(Fake(3)) as frames:
        assert [frame.number for frame in frames] == [0, 1, 2]
        assert list(frames) == []


def test_a_camera_that_ends_has_gone() -> None:
    fake = Fake(2)
    with camera(fake, 0) as frames:
        assert [next(frames).number, next(frames).number] == [0, 1]
        for _ in range(2):
            with pytest.raises(RunStopped, match="camera 0 gives no frames any more"):
                next(frames)


def test_what_goes_wrong_in_the_reader_is_told() -> None:
    class Broken(Fake):
        def read(self) -> tuple[bool, Any]:
            if self.reads == 1:
                raise OSError("the cable is cut")
            return super().read()

    fake = Broken(5)
    with camera(fake) as frames:
        assert next(frames).number == 0
        with pytest.raises(OSError, match="the cable is cut"):
            next(frames)
        assert fake.released.wait(5)


def test_a_silent_source_is_told_and_closing_does_not_wait() -> None:
    fake = Hanging(1)
    frames = camera(fake, read_timeout_s=0.1)
    assert next(frames).number == 0
    with pytest.raises(RunStopped, match=r"rtsp://fake gave no frame for 0\.1 s"):
        next(frames)
    begun = time.monotonic()
    frames.close()
    assert time.monotonic() - begun < 3
    assert list(frames) == []
    assert not fake.released.is_set()
    fake.go_on.set()
    assert fake.released.wait(5)


def test_a_read_that_gives_up_late_is_silence_and_no_end() -> None:
    """As FFmpeg's reads do after their timeout."""
    with camera(Fake(1, interval_s=0.05), read_timeout_s=0.05) as frames, pytest.raises(RunStopped, match="gave no"):
        for _ in frames:
            pass


@pytest.mark.parametrize("when_full", ["drop_oldest", "block"])
def test_closing_ends_reader_and_iteration(when_full: Any) -> None:
    fake = Fake(10**9)
    with camera(fake, when_full=when_full) as frames:
        next(frames)
    assert fake.released.is_set()
    assert list(frames) == []
    frames.close()


def test_closing_from_another_thread_ends_the_wait() -> None:
    fake = Hanging(0)
    frames = camera(fake)
    threading.Timer(0.1, frames.close).start()
    assert list(frames) == []
    fake.go_on.set()


@pytest.mark.parametrize(
    ("source", "message"),
    [(3, "camera 3 cannot .* the first camera is 0"), ("a.mp4", "a.mp4 cannot .* the name or address")],
)
def test_what_does_not_open(source: int | str, message: str) -> None:
    fake = Fake(1, opened=False)
    with pytest.raises(InputError, match=message):
        camera(fake, source)
    assert fake.released.is_set()


def test_an_opening_that_takes_too_long() -> None:
    fake, go_on = Fake(5), threading.Event()

    def opens_late(_: int | str) -> Fake:
        go_on.wait(10)
        return fake

    with pytest.raises(InputError, match=r"cannot be opened by OpenCV within 0\.1 s;"):
        Camera("rtsp://nowhere", open_capture=opens_late, open_timeout_s=0.1)
    go_on.set()
    assert fake.released.wait(5)  # nobody else would


def test_an_opening_that_fails_says_why() -> None:
    def fails(_: int | str) -> Fake:
        raise RuntimeError("no such driver")

    with pytest.raises(InputError, match="no such driver"):
        Camera(0, open_capture=fails)


def test_opencv_does_not_open_what_is_not_there(tmp_path: Path) -> None:
    for source in (97, str(tmp_path / "none.mp4")):
        with pytest.raises(InputError, match="cannot be opened"):
            Camera(source)


def test_passwords_are_not_told() -> None:
    with pytest.raises(InputError) as caught:
        Camera("http://user:secret@127.0.0.1:9/stream", open_timeout_s=2)
    assert "http://127.0.0.1:9/stream" in str(caught.value)
    assert "secret" not in str(caught.value)


@contextmanager
def serving_mjpeg(count: int) -> Iterator[str]:
    """The address of a stream such as network cameras serve: so many red pictures, then the end."""
    _, jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), (0, 0, 220), np.uint8))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            for _ in range(count):
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg.tobytes() + b"\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_a_stream_from_the_network() -> None:
    if not any("FFMPEG" in line and "YES" in line for line in cv2.getBuildInformation().splitlines()):
        pytest.skip("this OpenCV is built without FFmpeg")
    with serving_mjpeg(30) as address, Camera(address, when_full="block") as frames:
        seen = list(frames)
    assert len(seen) >= 29  # FFmpeg's last one needs the begin of another
    assert np.abs(seen[-1].image.astype(int) - (220, 0, 0)).max() <= 4


def double_slowly(image: np.ndarray) -> np.ndarray:
    time.sleep(0.05)
    return image.repeat(2, axis=0).repeat(2, axis=1)


def test_upscaling_live_keeps_up() -> None:
    """Frames come five times as fast as the network is, and those that it sees are new."""
    fake = Fake(50, interval_s=0.01)
    with camera(fake, queue_frames=1) as frames:
        seen = list(upscale_live(frames, double_slowly))
    numbers = [frame.number for frame in seen]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 49
    assert len(numbers) + seen[-1].dropped == 50
    assert len(numbers) < 25
    for frame in seen:
        assert frame.image.shape == (12, 16, 3)
        assert frame.image[0, 0].tolist() == [200, 100, frame.number]
        assert frame.late_s >= 0.05


def test_upscaling_live_opens_and_closes_by_itself(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=5)
    frames = upscale_live(str(path), double_slowly)
    assert next(frames).image.shape == (96, 128, 3)
    assert isinstance(frames, Generator)
    frames.close()
    assert str(path) not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queue_frames": 0}, "queue_frames: expected at least 1"),
        ({"when_full": "burst"}, "when_full: expected one of"),
        ({"read_timeout_s": 0}, "read_timeout_s: expected seconds above 0"),
        ({"open_timeout_s": float("nan")}, "open_timeout_s: expected seconds above 0"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        camera(Fake(1), **settings)
