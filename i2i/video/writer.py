"""Write the frames of a part of a video: as a video file of its own, or as numbered images."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, Self

import av
import cv2
import numpy as np

from i2i.data.image_io import Provenance, write_image
from i2i.video.encoding import Settled, configure
from i2i.video.pixels import from_rgb

# NUT keeps timestamps of any time base as they are, if they are not negative; so all begin here.
ORIGIN = 1 << 40
# Frames that are converted, or images that are compressed, at the same time: faster networks would wait for one.
SIDE_BY_SIDE = 3


class SegmentWriter:
    """Encodes frames into a file that `i2i.video.joining.join` takes, by an encoder that has seen nothing before.

    The same frames give the same bytes (not always by x265 where a side is 64 px or less).

    Args:
        path: where to, a NUT file.
        settled: how; from `i2i.video.encoding.settle`.

    Attributes:
        frames: written.

    Raises:
        OSError: in any call: the disk is full, for instance.
    """

    def __init__(self, path: Path, *, settled: Settled) -> None:
        self.frames = 0
        self._path = path
        self._settled = settled
        self._container = av.open(str(path.absolute()), "w", format="nut")
        self._stream = self._container.add_stream(settled.encoder)
        self._stream.time_base = settled.format.time_base
        configure(self._stream.codec_context, settled)
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, "convert")
        self._waiting: deque[_Moment] = deque()
        self._image: np.ndarray | None = None

    def write(self, image: np.ndarray, *, pts: int, duration: int) -> None:
        """Write a frame.

        Args:
            image: (H, W, 3) RGB of full range, uint8 or uint16; up to a row and a column smaller than what is written.
                Given the very array of the last call, nothing is converted again.
            pts: when it is shown, in units of the time base; later than the last.
            duration: for how long, in the same units; for the encoder, which may spend more on what is seen longer.
        """
        if image is not self._image:
            self._image, self._converted = image, self._pool.submit(self._convert, image)
        self._waiting.append(_Moment(pts, duration, self._converted))
        self.frames += 1
        if len(self._waiting) > SIDE_BY_SIDE:
            self._encode_next()

    def close(self) -> None:
        """Finish the file; without frames, it is there and empty."""
        try:
            while self._waiting:
                self._encode_next()
            if self.frames:
                self._container.mux(self._stream.encode(None))
            else:
                self._path.touch()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Leave the file as it is."""
        self._pool.shutdown(cancel_futures=True)
        self._container.close()

    def _encode_next(self) -> None:
        moment = self._waiting.popleft()
        frame = moment.frame.result()
        frame.pts, frame.duration, frame.time_base = (
            ORIGIN + moment.pts,
            moment.duration,
            self._settled.format.time_base,
        )
        self._container.mux(self._stream.encode(frame))

    def _convert(self, image: np.ndarray) -> av.VideoFrame:
        written = self._settled.format
        bottom, right = written.height - image.shape[0], written.width - image.shape[1]
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return from_rgb(image, pix_fmt=self._settled.pix_fmt, colour=written.colour, lines=written.lines)


class _Moment(NamedTuple):
    pts: int
    duration: int
    frame: Future[av.VideoFrame]


class SequenceWriter:
    """Writes frames as numbered images, "00000001.png" and so on; each appears whole.

    Args:
        folder: where to; made where it is missing.
        suffix: the images' format.
        bits: 8 or 16, of each value.
        first_number: of the first image.
        provenance: what to note in each file, if anything.

    Attributes:
        frames: written.

    Raises:
        OSError: in any call: the disk is full, for instance.
    """

    def __init__(
        self,
        folder: Path,
        *,
        suffix: Literal[".png", ".tif"],
        bits: Literal[8, 16],
        first_number: int = 1,
        provenance: Provenance | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.frames = 0
        self._folder = folder
        self._suffix = suffix
        self._bits = bits
        self._first_number = first_number
        self._provenance = provenance
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, "compress")
        self._waiting: deque[Future[None]] = deque()

    def write(self, image: np.ndarray, *, pts: int, duration: int) -> None:
        """Write a frame, whatever its time.

        Args:
            image: (H, W, 3) RGB of full range, uint8 or uint16.
            pts, duration: as of `SegmentWriter`; images have none.
        """
        if image.dtype == np.uint8 and self._bits == 16:
            image = image.astype(np.uint16) * 257
        elif image.dtype == np.uint16 and self._bits == 8:
            image = cv2.convertScaleAbs(image, alpha=1 / 257)
        place = self._folder / image_name(self._first_number + self.frames, self._suffix)
        self._waiting.append(self._pool.submit(write_image, place, image, provenance=self._provenance))
        self.frames += 1
        if len(self._waiting) > SIDE_BY_SIDE:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Finish the last images."""
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self.abort()

    def abort(self) -> None:
        """Leave the folder as it is."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def image_name(number: int, suffix: str) -> str:
    """Of an image in a sequence."""
    return f"{number:08d}{suffix}"
