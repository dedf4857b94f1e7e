"""Video files, read frame by frame from any time on, and what becomes of them where they are damaged."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, dropwhile, islice, pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.container import InputContainer

from i2i.errors import InputError
from i2i.video.fields import FieldDetector, deinterlaced
from i2i.video.frames import Colour, Damage, Format, Frame
from i2i.video.opening import opened, packets_of, read_index
from i2i.video.pixels import BT601, FULL, LUMA_WEIGHTS, UNSPECIFIED, bits_of, chroma_of, resolved, to_rgb

LOOKED_AT = 40  # frames, when a file is opened
_MOST_LINES_OF_FIELDS = 1088
# Not each of their packets is shown: such a one serves others to be predicted from, or says "as before".
_MAY_HIDE = frozenset({"vp8", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "h263", "flv", "flv1"})
# FFmpeg's names of formats for broadcasts, and recordings of these, in which frames before the first keyframe may fail.
_BEGIN_ANYWHERE = frozenset({"mpegts", "mpeg", "mpegvideo", "h264", "hevc"})
_HOLE = 1.5  # times the usual distance between frames


class _Shot(NamedTuple):
    """A frame that was decoded well, or the end of the video."""

    pts: int
    frame: av.VideoFrame | None  # None at the end
    lost: tuple[int, ...]  # timestamps of frames between the shot before and this one that were not


class _Moment(NamedTuple):
    """What is shown from `pts` on."""

    pts: int
    duration: int
    frame: av.VideoFrame
    repeated: bool


class VideoFile:
    """The video of a file; see `Source`.

    Opening reads all packets once, without decoding them, and decodes the first few frames. Decoding runs in one
    thread: it is cheap beside networks, and an error belongs to the very packet that was handed in.

    Frames that cannot be decoded, or in part only, or never come, are replaced by the one before, at the time that
    their packet announced.

    Args:
        path: the file, in any container and codec that FFmpeg reads.
        deinterlace: make a whole frame of each that is woven of two fields; others stay as they are.

    Raises:
        InputError: there is no such file, it is no video, or none of its frames can be decoded.
    """

    def __init__(self, path: Path | str, *, deinterlace: bool = False) -> None:
        self._path = Path(path)
        self.file: Path | None = self._path
        self.files: Sequence[Path] = (self._path,)
        self.name = str(path)
        self._index = read_index(self._path)
        self.timeline = self._index.timeline
        self.end = self._index.end
        self.notes = self._index.notes
        self._spacing = 0.0  # between frames, as a rule
        self._replaced: set[int] = set()
        self._reasons: list[str] = []
        self._deinterlace = False
        self._counted = self._index.counted
        self._falls = 0  # times that are before the last one, among the first
        head = self._look()
        if self._falls > LOOKED_AT / 8:
            # AVI holds no times of display, and what decoders give instead jumps to and fro.
            self._counted, self._reasons = True, []
            head = self._look()
        self.interlaced = self._fields != "progressive" and not deinterlace
        self._deinterlace = self._fields != "progressive" and deinterlace
        self._orientation = _orientation(head)
        self.format = self._format_like(head)
        self._flow: Iterator[_Moment] = iter(())
        self._held: _Moment | None = None  # taken from the flow and not given
        self._resume: int | None = None  # where the flow stands
        self._ended = False

    @property
    def damage(self) -> Damage:
        """Found by `read` so far; what is missing at the end, once it got there."""
        missing = self._index.missing if self._ended else 0
        return Damage(repeated=len(self._replaced), missing=missing, reasons=tuple(self._reasons))

    @property
    def fingerprint(self) -> str:
        """Of the file and how it is read."""
        status = self._path.stat()
        how = "deinterlaced" if self._deinterlace else "as it is"
        return f"{self._path.name}, {status.st_size} bytes, changed at {status.st_mtime_ns} ns, {how}"

    def read(self, first: int, end: int | None = None) -> Iterator[Frame]:
        """See `Source`. Where a frame is repeated, its image is the same array."""
        if self._resume != first:
            self.close()
            self._flow = _with_durations(self._shots_around(first), self.end)
        self._resume = None
        shown: av.VideoFrame | None = None
        image = np.empty(0)
        while moment := self._held or next(self._flow, None):
            self._held = None
            if end is not None and moment.pts >= end:
                self._held = moment
                break
            if moment.pts < first:
                continue
            if moment.frame is not shown:
                shown, image = moment.frame, self._image(moment.frame)
            if moment.repeated:
                self._replaced.add(moment.pts)
                self._tell("frames that could not be decoded were replaced by the ones before")
            yield Frame(moment.pts, moment.duration, image, moment.repeated)
        else:
            self._ended = True
            self._tell(self._index.cut_off)
        self._resume = end

    def close(self) -> None:
        """Let go of the file; reading on opens it anew."""
        self._flow, self._held, self._resume = iter(()), None, None

    def _tell(self, reason: str) -> None:
        if reason and reason not in self._reasons:
            self._reasons.append(reason)

    def _look(self) -> av.VideoFrame:
        """Learn from the first frames what all are like; give the first."""
        detector = FieldDetector()
        times = []
        head: av.VideoFrame | None = None
        for pts, frame, _ in islice(self._decode(None), LOOKED_AT):
            if frame is None:
                break
            head = head or frame
            times.append(pts)
            same = (frame.width, frame.height, frame.format.name) == (head.width, head.height, head.format.name)
            if same and head.height <= _MOST_LINES_OF_FIELDS:
                detector.look(frame)
        if head is None:
            raise InputError(f"{self.name}: none of its {len(self.timeline)} frames can be decoded; it is damaged")
        if len(times) > 1:
            self._spacing = median(later - earlier for earlier, later in pairwise(times))
        self._fields = detector.fields
        return head

    def _format_like(self, frame: av.VideoFrame) -> Format:
        aspect = self._index.sample_aspect_ratio
        colour = Colour(frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)
        if frame.format.name.startswith("yuvj"):
            colour = colour._replace(range=FULL)
        chroma = chroma_of(frame.format)
        if chroma != "rgb" and colour.matrix not in (*LUMA_WEIGHTS, UNSPECIFIED):
            taken = "BT.601" if resolved(colour, lines=frame.height).matrix == BT601 else "BT.709"
            self.notes += (f"Its colour matrix (number {colour.matrix}) is not known here and was taken for {taken}.",)
        if any(component.is_alpha for component in frame.format.components):
            self.notes += ("Its transparency is left out.",)
        turned = self._orientation.turned
        return Format(
            width=frame.height if turned else frame.width,
            height=frame.width if turned else frame.height,
            time_base=self._index.time_base,
            rate=self._index.rate,
            colour=colour,
            sample_aspect_ratio=1 / aspect if turned else aspect,
            bits=bits_of(frame.format),
            chroma=chroma,
            lines=frame.height,
        )

    def _image(self, frame: av.VideoFrame) -> np.ndarray:
        image = self._orientation.upright(to_rgb(frame, colour=self.format.colour, dtype=self.format.dtype))
        size = (self.format.width, self.format.height)
        if image.shape[1::-1] != size:
            note = (
                f"Its size changes on the way; all frames are brought to {size[0]} x {size[1]} px, that of the first."
            )
            if note not in self.notes:
                self.notes += (note,)
            image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray(image)

    def _shots_around(self, first: int) -> Iterator[_Shot]:
        """Shots of which the first is not after `first`, the same ones wherever decoding begins.

        It begins at a keyframe that decodes well, for otherwise what follows depends on what was before; where it is
        not sure of one, further back, and lastly at the start.
        """
        keys = self._index.keys
        # bwdif looks at the frame before, too.
        nearest = (bisect_left if self._deinterlace else bisect_right)(keys, first) - 1
        step = 1
        while nearest > 0 and not self._counted:
            shots = self._shots(keys[nearest])
            head = next(shots, None)
            if head is not None and head.pts == keys[nearest]:
                return chain([head], shots)
            nearest, step = nearest - step, 2 * step
        return self._shots(None)

    def _shots(self, key: int | None) -> Iterator[_Shot]:
        """From the keyframe at this time on, or from the start; none where the keyframe cannot be found."""
        shots = self._decode(key)
        if not self._deinterlace:
            return shots
        pairs = deinterlaced(((shot, shot.frame) for shot in shots), self._fields)
        return (shot._replace(frame=frame) for shot, frame in pairs)

    def _decode(self, key: int | None) -> Iterator[_Shot]:
        failed: set[int] = set()
        last: int | None = None
        last_good: int | None = None
        with opened(self._path) as (container, stream):
            for pts, frame in self._frames(container, stream, key=key, failed=failed):
                if key is not None and pts < key:
                    continue  # it needs frames before the keyframe
                if last is not None and pts <= last:
                    self._falls += pts < last
                    self._tell("frames that came after their time were left out")
                    continue
                last = pts
                if frame.is_corrupt:
                    failed.add(pts)
                    continue
                failed.discard(pts)  # of packets that are marked as corrupt, many are not, or hold good frames besides
                yield _Shot(pts, frame, self._lost(last_good, pts, failed))
                last_good = pts
        yield _Shot(self.end, None, self._lost(last_good, self.end, failed))

    def _frames(
        self, container: InputContainer, stream: av.VideoStream, *, key: int | None, failed: set[int]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Times and frames, as they are displayed; times of packets that do not decode go into `failed`."""
        pts = self.timeline[0] - 1
        begun = container.format.name not in _BEGIN_ANYWHERE
        for packet in chain(_packets_from(container, stream, key=key), [None]):
            if packet is not None and self._index.partial is not None and packet.pts == self._index.partial:
                continue
            begun = begun or (packet is not None and packet.is_keyframe)
            try:
                frames = _decoded(stream.codec_context, packet)
                broken = packet is not None and packet.is_corrupt and not self._counted
            except av.error.FFmpegError:
                frames, broken = [], True
            if broken and begun and packet is not None:
                time = self._time(packet.pts, before=pts)
                failed.add(time)
                pts = time if self._counted else pts
            for frame in frames:
                pts = self._time(frame.pts, before=pts)
                yield pts, frame

    def _time(self, pts: int | None, *, before: int) -> int:
        """When a frame is shown that comes after one shown at `before`; the next time announced where frames count."""
        if pts is not None and not self._counted:
            return pts
        following = bisect_right(self.timeline, before)
        return self.timeline[following] if following < len(self.timeline) else before + 1

    def _lost(self, last: int | None, pts: int, failed: set[int]) -> tuple[int, ...]:
        """Times between two good frames at which others should have come.

        In healthy files, too, not all comes that is announced: two fields may be in two packets, and not each packet
        is shown. So a frame that does not come is lost where there was an error instead, or where it leaves a hole.
        """
        lost = {time for time in failed if time < pts and (last is None or time > last)}
        failed -= lost
        hole = last is None or pts - last > _HOLE * self._spacing
        shows_all = last is not None and self._spacing > 0 and self._index.codec not in _MAY_HIDE
        if hole and (lost or shows_all):
            begin = bisect_left(self.timeline, min(lost)) if last is None else bisect_right(self.timeline, last)
            lost.update(self.timeline[begin : bisect_left(self.timeline, pts)])
        return tuple(sorted(lost))


class _Orientation(NamedTuple):
    """How a picture is turned, as its container asks: sides swapped first, then mirrored."""

    turned: bool = False
    left_right: bool = False
    upside_down: bool = False

    def upright(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) → the same, or (W, H, 3)."""
        if self.turned:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.upside_down else 1, :: -1 if self.left_right else 1]


def _orientation(frame: av.VideoFrame) -> _Orientation:
    """From the display matrix (ISO/IEC 14496-12, 8.2.2), to the nearest quarter of a turn."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return _Orientation()
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (int(value) for value in np.frombuffer(data, np.int32)[:5])
    if abs(b) > abs(a):
        return _Orientation(turned=True, left_right=c < 0, upside_down=b < 0)
    return _Orientation(left_right=a < 0, upside_down=d < 0)


def _packets_from(container: InputContainer, stream: av.VideoStream, *, key: int | None) -> Iterator[av.Packet]:
    """All, or those from the keyframe at this time on; none where it cannot be found."""
    if key is None:
        yield from packets_of(container, stream)
        return
    try:
        container.seek(key, stream=stream)
    except av.error.FFmpegError:
        return
    packets = dropwhile(lambda packet: not packet.is_keyframe, packets_of(container, stream))
    begin = next(packets, None)
    if begin is not None and begin.pts is not None and begin.pts <= key:
        yield begin
        yield from packets


def _decoded(decoder: av.VideoCodecContext, packet: av.Packet | None) -> list[av.VideoFrame]:
    try:
        return decoder.decode(packet)
    except av.error.BlockingIOError:  # stuck in an error before, which PyAV does not fetch
        decoder.flush_buffers()
        return decoder.decode(packet)


def _with_durations(shots: Iterator[_Shot], end: int) -> Iterator[_Moment]:
    """Each until the next begins, the last until `end`."""
    pending: _Moment | None = None
    for pts, frame, repeated in _moments(shots):
        if pending is not None:
            yield pending._replace(duration=pts - pending.pts)
        pending = _Moment(pts, max(end - pts, 1), frame, repeated)
    if pending is not None:
        yield pending


def _moments(shots: Iterator[_Shot]) -> Iterator[tuple[int, av.VideoFrame, bool]]:
    """Time, frame, and whether it stands for one that was lost: the one before does, at the start the next."""
    before: av.VideoFrame | None = None
    for shot in shots:
        stand_in = before or shot.frame
        if stand_in is not None:
            yield from ((pts, stand_in, True) for pts in shot.lost)
        if shot.frame is not None:
            yield shot.pts, shot.frame, False
            before = shot.frame
