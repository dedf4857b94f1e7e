"""Cameras and network streams: frames as they come, each with how late it is."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol, Self, get_args

import cv2
import numpy as np

from i2i.errors import InputError, RunStopped

WhenFull = Literal["drop_oldest", "block"]

# How long `close` waits for a read that is under way; the thread lets go of the camera when that returns.
CLOSE_S = 1.0


class LiveFrame(NamedTuple):
    """One picture of a camera or stream.

    Attributes:
        image: (H, W, 3) uint8, RGB, upright where the stream says how it was taken.
        number: of the frame, from 0 on; those that were dropped are counted.
        captured_s: when it arrived on this machine, by `time.monotonic`; what camera, network and driver took before is
            not in it.
        late_s: how old it was when it was handed out.
        dropped: how many frames were dropped so far.
    """

    image: np.ndarray
    number: int
    captured_s: float
    late_s: float
    dropped: int


class Capture(Protocol):
    """What `Camera` needs of OpenCV's VideoCapture."""

    def isOpened(self) -> bool:
        """Whether there is something to read from."""
        ...

    def read(self) -> tuple[bool, Any]:
        """Wait for the next frame: whether there is one, and the frame, (H, W, 3) uint8, BGR."""
        ...

    def release(self) -> None:
        """Let go of the camera."""
        ...


class Camera:
    """Frames of a camera or stream, read in a thread of their own, so that none waits inside a driver and grows old.

    >>> with Camera(0) as camera:
    ...     for frame in camera:
    ...         show(upscaler(frame.image))
    ...         print(f"{1000 * frame.late_s:.0f} ms late, {frame.dropped} dropped")

    Iteration ends where a stream ends; one that was cut off by its server looks the same to OpenCV. Some lines that
    OpenCV's libraries print about streams go to stderr past Python.

    Args:
        source: number of a camera (0 is the first); address of a stream (rtsp://, http://, udp://); name of a device
            or of a video file. Files come as fast as they can be read: take "block" for them.
        queue_frames: how many frames wait at most until they are asked for; the fewer, the less late they are.
        when_full: "drop_oldest" makes room for the newest; "block" lets the source wait, and loses nothing as long as
            the source does not.
        open_timeout_s: how long opening may take.
        read_timeout_s: how long to wait for a frame.
        open_capture: opens the source, where OpenCV is to do it in another way than by itself:
            `lambda source: cv2.VideoCapture(source, cv2.CAP_GSTREAMER)`.

    Attributes:
        name: for messages, without user name and password.
        dropped: frames that were dropped so far.

    Raises:
        InputError: the source cannot be opened, or a setting is impossible.
        RunStopped: while iterating: the source has become silent, or a camera has gone.
    """

    def __init__(
        self,
        source: int | str,
        *,
        queue_frames: int = 4,
        when_full: WhenFull = "drop_oldest",
        open_timeout_s: float = 10.0,
        read_timeout_s: float = 10.0,
        open_capture: Callable[[int | str], Capture] | None = None,
    ) -> None:
        if queue_frames < 1:
            raise InputError(f"queue_frames: expected at least 1, got {queue_frames}")
        if when_full not in get_args(WhenFull):
            raise InputError(f"when_full: expected one of {get_args(WhenFull)}, got {when_full!r}")
        for name, seconds in (("open_timeout_s", open_timeout_s), ("read_timeout_s", read_timeout_s)):
            if not 0 < seconds <= threading.TIMEOUT_MAX:
                raise InputError(f"{name}: expected seconds above 0, got {seconds}")
        self.source = source
        self.name = f"camera {source}" if isinstance(source, int) else re.sub("//[^/]*@", "//", source)
        self.dropped = 0
        self._queue_frames = queue_frames
        self._when_full = when_full
        self._open_timeout_s = open_timeout_s
        self._read_timeout_s = read_timeout_s
        self._open_capture = open_capture or self._open_with_opencv
        # All that follows changes under this lock, and tells whoever waits for it.
        self._changed = threading.Condition()
        self._waiting: deque[tuple[np.ndarray, int, float]] = deque()
        self._opened = self._ended = self._closed = False
        self._error: Exception | None = None
        # A daemon, for what happens inside a driver cannot be interrupted, and Python must be able to end.
        self._thread = threading.Thread(target=self._read_all, name=self.name, daemon=True)
        self._thread.start()
        self._await_opening()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[LiveFrame]:
        return self

    def __next__(self) -> LiveFrame:
        """The oldest frame that waits, or the next that comes.

        Raises:
            RunStopped: the source has become silent, or a camera has gone.
        """
        with self._changed:
            came = self._changed.wait_for(
                lambda: self._waiting or self._ended or self._closed, timeout=self._read_timeout_s
            )
            if not came:
                raise self._silent()
            if self._closed or not self._waiting:
                if self._error is not None and not self._closed:
                    raise self._error
                raise StopIteration
            image, number, captured_s = self._waiting.popleft()
            dropped = self.dropped
            self._changed.notify_all()
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return LiveFrame(image, number, captured_s, time.monotonic() - captured_s, dropped)

    def close(self) -> None:
        """Let go of the source, at the latest when the read that is under way returns; nothing waits for that."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def _await_opening(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._ended, timeout=self._open_timeout_s)
            if self._opened:
                return
            cause, within = self._error, "" if self._ended else f" within {self._open_timeout_s:g} s"
            self._closed = True
        if isinstance(self.source, int):
            check = "that it is plugged in, that no other program uses it, and that you may; the first camera is 0"
        else:
            check = "the name or address with a video player"
        raise InputError(
            f"{self.name} cannot be opened by OpenCV{within}{f' ({cause})' if cause else ''}; expected the number of a "
            f"camera, the address of a stream or the name of a video file. Check {check}"
        ) from cause

    def _open_with_opencv(self, source: int | str) -> Capture:
        # Only FFmpeg knows of timeouts, and other backends refuse to open with them.
        if isinstance(source, int) or "://" not in source:
            return cv2.VideoCapture(source)
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1000 * self._open_timeout_s)]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * self._read_timeout_s)]
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG, timeouts)

    def _read_all(self) -> None:
        """What the thread does."""
        capture: Capture | None = None
        try:
            capture = self._open_capture(self.source)
            if capture.isOpened():
                self._tell_opened()
                number = 0
                while self._put(self._read(capture), number):
                    number += 1
        except Exception as error:  # whatever it is, it belongs to whoever iterates
            self._error = error
        finally:
            if capture is not None:
                capture.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _tell_opened(self) -> None:
        with self._changed:
            self._opened = True
            self._changed.notify_all()

    def _read(self, capture: Capture) -> np.ndarray | None:
        begun = time.monotonic()
        there, image = capture.read()
        if there:
            return image
        if time.monotonic() - begun >= self._read_timeout_s:
            raise self._silent()
        if isinstance(self.source, int) and not self._closed:
            raise RunStopped(f"{self.name} gives no frames any more; check its plug, and that nothing else uses it")
        return None

    def _put(self, image: np.ndarray | None, number: int) -> bool:
        """Let a frame wait until it is asked for; whether to go on."""
        if image is None:
            return False
        captured_s = time.monotonic()
        with self._changed:
            if self._when_full == "block":
                self._changed.wait_for(lambda: len(self._waiting) < self._queue_frames or self._closed)
            elif len(self._waiting) == self._queue_frames:
                self._waiting.popleft()
                self.dropped += 1
            if self._closed:
                return False
            self._waiting.append((image, number, captured_s))
            self._changed.notify_all()
            return True

    def _silent(self) -> RunStopped:
        return RunStopped(
            f"{self.name} gave no frame for {self._read_timeout_s:g} s; check the connection, or allow for more with "
            "read_timeout_s"
        )


def upscale_live(source: int | str | Camera, upscaler: Callable[[np.ndarray], np.ndarray]) -> Iterator[LiveFrame]:
    """Take the newest frame of a camera or stream through a network, again and again.

    >>> for frame in upscale_live(0, Upscaler(i2i.load("realesr-animevideov3"))):
    ...     show(frame.image)

    Args:
        source: as `Camera` takes it; what comes while the network is busy is dropped, up to the newest frame. Or a
            camera, whose own queue is then kept, and which stays open.
        upscaler: an `Upscaler` or `Translator`, or anything else that makes an array (H', W', 3) of one (H, W, 3).

    Yields:
        Frames as the network returns them; their lateness has the network's time in it.

    Raises:
        InputError: the source cannot be opened.
        RunStopped: the source has become silent, or a camera has gone.
    """
    if not isinstance(source, Camera):
        with Camera(source, queue_frames=1) as camera:
            yield from upscale_live(camera, upscaler)
        return
    for frame in source:
        image = upscaler(frame.image)
        yield frame._replace(image=image, late_s=time.monotonic() - frame.captured_s, dropped=source.dropped)
