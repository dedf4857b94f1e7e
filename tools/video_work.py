"""What `benchmark.py` does with videos: a clip, a network, and the ways in which one goes through the other."""

import multiprocessing
import resource
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import av
import cv2
import numpy as np
import psutil
import torch
from torch import Tensor

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.errors import InputError
from i2i.generators import CompactGenerator
from i2i.inference.loading import expect_translator
from i2i.inference.translator import Translator
from i2i.training.config import TrainingSettings
from i2i.training.loop import make_accelerator
from i2i.video import Options, Summary, upscale
from i2i.video.job import Job
from i2i.video.pipeline import Task, run_in_order

RATE = 24  # frames a second of the clips
SHOWN = 3  # frames that each picture of a clip with repeats is shown in
LONGER = 20  # times, of the clips that memory is compared for


@dataclass(frozen=True, kw_only=True)
class VideoWork:
    """A clip that is enlarged by a super-resolution network.

    Attributes:
        weights: a file or name that `i2i.load` takes; a compact network with random weights unless given.
        device: "auto" takes an accelerator where there is one.
        frames: of the clip.
        height, width: of its frames.
        channels: of the compact network.
        convs: of the compact network, between the first and the last.
        readings: of each way through the network, at least 2.
        skip_readings: of the clip with repeats, with and without skipping these.
        memory_frames: of the shorter of two clips whose memory is compared; the other has 20 times as many.
        threads: of PyTorch on the CPU; None: PyTorch decides.
    """

    weights: str | None = None
    device: Literal["auto", "cpu"] = "auto"
    frames: int = 96
    height: int = 240
    width: int = 320
    channels: int = 64
    convs: int = 16
    readings: int = 3
    skip_readings: int = 1
    memory_frames: int = 48
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.readings < 2 or self.skip_readings < 1:
            raise InputError(
                f"expected at least 2 --readings and 1 of --skip-readings, got {self.readings} and {self.skip_readings}"
            )

    def translator(self) -> Translator:
        device = make_accelerator(TrainingSettings(steps=1, device=self.device), Path()).device
        if self.weights is not None:
            return expect_translator(i2i.load(self.weights, device=device))
        return compact(channels=self.channels, convs=self.convs).to(device)

    @property
    def frames_alone(self) -> int:
        """How many the network sees where nothing else is done: a quarter of the clip, as many for each thread."""
        threads = torch.get_num_threads()
        return threads * -(-self.frames // (4 * threads))


def compact(*, channels: int, convs: int) -> Translator:
    """Real-ESRGAN's compact network for scale 4, with random weights that add but little to the enlarged image."""
    torch.manual_seed(0)
    network = CompactGenerator(in_channels=3, out_channels=3, width=channels, convs=convs)
    with torch.no_grad():
        network.body[-1].weight.mul_(0.1)
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
    return Translator(generator=network, spec=GeneratorSpec(input=side, output=side))


def pictures(*, height: int, width: int) -> Iterator[np.ndarray]:
    """A texture that moves, and another in its middle that moves the other way: (H, W, 3) uint8, without an end."""
    far, near = (_texture(seed, height=height, width=width) for seed in (0, 1))
    middle = np.s_[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4]
    for number in count():
        picture = np.roll(far, (number, 2 * number), axis=(0, 1))
        picture[middle] = np.roll(near, (0, -3 * number), axis=(0, 1))[middle]
        yield picture


def _texture(seed: int, *, height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    octaves = [cv2.GaussianBlur(noise, None, deviation) * deviation for deviation in (1, 4, 16)]
    return cv2.normalize(sum(octaves), None, 16, 240, cv2.NORM_MINMAX, cv2.CV_8U)


def make_clip(path: Path, *, frames: int, height: int, width: int, shown: int = 1) -> Path:
    """Write a clip of H.264 at the encoder's default quality, or without loss where pictures repeat.

    Args:
        path: where to.
        frames: how many.
        height, width: of them, even.
        shown: how many frames each picture is shown in.
    """
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, width=width, height=height, pix_fmt="yuv420p")
        stream.codec_context.options = {"qp": "0"} if shown > 1 else {}
        repeated = (picture for picture in pictures(height=height, width=width) for _ in range(shown))
        for number, picture in enumerate(islice(repeated, frames)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@torch.no_grad()
def call_in_a_loop(translator: Translator, images: list[Tensor]) -> None:
    """What a person writes without a library: frame after frame, float32 (1, 3, H, W)."""
    for image in images:
        translator.generator(image.to(translator.device)).cpu()


def call_by_workers(job: Job, images: list[np.ndarray]) -> None:
    """As i2i calls it: the workers that the job would hire, on frames that lie in memory, (H, W, 3) uint8."""
    with job.hire() as workers:
        for _ in run_in_order((Task(item=None, images=[image]) for image in images), workers):
            pass


def end_to_end(translator: Translator, clip: Path, target: Path, *, skip_duplicates: bool = False) -> Summary:
    """From the clip to the finished file, with default settings."""
    target.unlink(missing_ok=True)
    return upscale(clip, target, weights=translator, options=Options(skip_duplicates=skip_duplicates))


def count_different_frames(first: Path, second: Path) -> int:
    """Frames that differ between two videos in any pixel or in their time, or that only one has."""
    with av.open(str(first)) as one, av.open(str(second)) as other:
        pairs = zip_longest(one.decode(video=0), other.decode(video=0))
        return sum(
            a is None or b is None or a.time != b.time or not np.array_equal(a.to_ndarray(), b.to_ndarray())
            for a, b in pairs
        )


class Memory(NamedTuple):
    """What a process held while it enlarged a clip, in bytes.

    Attributes:
        peak: at most.
        growth: over the second half of the clip.
    """

    peak: int
    growth: float


def resident_memory(work: VideoWork, *, frames: int) -> Memory:
    """What a process of its own holds while it enlarges a clip of so many frames.

    The network is tiny, so that this takes seconds; what it holds itself does not depend on the length.
    """
    with TemporaryDirectory() as folder:
        clip = make_clip(Path(folder, "clip.mp4"), frames=frames, height=work.height, width=work.width)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_resident_memory_of_this_process, clip, work.threads).result()


def _resident_memory_of_this_process(clip: Path, threads: int | None) -> Memory:
    if threads is not None:
        torch.set_num_threads(threads)
    process = psutil.Process()
    samples: list[int] = []
    upscale(
        clip,
        clip.with_name("enlarged.mp4"),
        weights=compact(channels=4, convs=1),
        progress=lambda done, total: samples.append(process.memory_info().rss),
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return Memory(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, growth(samples))


def growth(samples: Sequence[float]) -> float:
    """By how much the second half of evenly spaced samples grows: as a straight line through them does."""
    half = samples[len(samples) // 2 :]
    slope = np.polyfit(np.arange(len(half)), half, 1)[0] if len(half) > 1 else 0.0
    return float(slope * (len(half) - 1))
