"""Video through a network, whole: every frame at its own time, and all that a file has besides.

>>> i2i.video.upscale("in.mp4", "out.mp4", weights="realesr-animevideov3", scale=2)

Whatever ends the program, the same call goes on where it stopped.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

from i2i.errors import InputError
from i2i.inference.loading import expect_translator, load
from i2i.inference.sampler import Sampler
from i2i.inference.translator import Translator
from i2i.inference.upscale import Upscaler
from i2i.video.encoding import Encoding
from i2i.video.frames import Source
from i2i.video.job import Job, Options, Progress, Summary
from i2i.video.live import Camera, LiveFrame, upscale_live
from i2i.video.networks import Treatment, translation, upscaling
from i2i.video.sequence import ImageSequence, find_sequence
from i2i.video.source import VideoFile

__all__ = [
    "Camera",
    "Encoding",
    "ImageSequence",
    "Job",
    "LiveFrame",
    "Options",
    "Summary",
    "VideoFile",
    "find_sequence",
    "translate",
    "translation",
    "upscale",
    "upscale_live",
    "upscaling",
]

AnySource: TypeAlias = str | Path | Source

DEFAULT_OPTIONS = Options()


def upscale(
    source: AnySource,
    target: str | Path,
    *,
    weights: str | Path | Translator | Sampler | Upscaler,
    scale: float | None = None,
    options: Options = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> Summary:
    """Enlarge a video with a super-resolution network.

    Every frame keeps its own timestamp; audio, subtitles, attachments, chapters and metadata are copied as they are;
    colour tags and display aspect are kept. The result appears under its name when it is whole. What is done so far
    lies in target.unfinished: the same call goes on with it, whatever has ended the one before.

    Args:
        source: a video file, or an opened `VideoFile` or `ImageSequence`.
        target: .mp4, .m4v, .mov, .mkv or .webm; with `options.frames` a folder.
        weights: what `i2i.load` takes, or what it returned; or an `Upscaler` with settings of its own.
        scale: how many times larger; the network's own scale unless given.
        options: how.
        progress: told how many frames are done and how many there are to do.

    Returns:
        What became of it, damage to the source included.

    Raises:
        InputError: the source is no video, the result exists, the container cannot hold a stream of the source, the
            encoder refuses the size, and so on: what to do instead is said.
        OSError: the disk is full, for instance; what is done stays.
    """
    if isinstance(weights, Upscaler):
        if scale is not None:
            raise InputError("scale: the Upscaler has one; leave it out")
        upscaler = weights
    else:
        upscaler = Upscaler(_load(weights), scale=scale)
    return _run(source, target, upscaling(upscaler), options, progress)


def translate(
    source: AnySource,
    target: str | Path,
    *,
    weights: str | Path | Translator | Sampler,
    options: Options = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> Summary:
    """Translate a video, frame by frame, with any network that makes images of images; otherwise as `upscale`."""
    return _run(source, target, translation(_load(weights)), options, progress)


def _run(
    source: AnySource, target: str | Path, treatment: Treatment, options: Options, progress: Progress | None
) -> Summary:
    with _opened(source) as opened:
        job = Job(source=opened, target=Path(target).expanduser(), treatment=treatment, options=options)
        return job.run(progress)


@contextmanager
def _opened(source: AnySource) -> Iterator[Source]:
    if isinstance(source, (str, Path)):
        with closing(VideoFile(source)) as file:
            yield file
    else:
        yield source


def _load(weights: str | Path | Translator | Sampler) -> Translator:
    loaded = load(weights, device="auto") if isinstance(weights, (str, Path)) else weights
    return expect_translator(loaded)
