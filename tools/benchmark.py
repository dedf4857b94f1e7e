"""How fast i2i is on this machine, next to plain PyTorch that does the same work in the same run.

    python tools/benchmark.py train
    python tools/benchmark.py train --method cyclegan --precision bf16 --channels-last --compile
    python tools/benchmark.py memory --method cyclegan --size-px 512
    python tools/benchmark.py memory --method spade --size-px 256
    python tools/benchmark.py inference
    python tools/benchmark.py degrade --batch-size 4 --crop-px 256 --threads 2
    python tools/benchmark.py video

Readings of all variants alternate, in an order that rotates, so that whatever else the machine does meets all alike.
"""

import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from plain_steps import Step, cyclegan_step, pix2pix_step
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from training_work import IMAGES_ON_DISK, MethodName, TrainingWork, arithmetic, autocast
from video_work import (
    LONGER,
    SHOWN,
    VideoWork,
    call_by_workers,
    call_in_a_loop,
    count_different_frames,
    end_to_end,
    make_clip,
    resident_memory,
)

from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.data.degrade import Degradation, degrade, sharpen
from i2i.data.sampler import DrawSampler, worker_init
from i2i.errors import InputError
from i2i.generators import ResNetGenerator, RRDBGenerator
from i2i.inference.translator import Translator
from i2i.inference.upscale import Upscaler
from i2i.layers.recompute import recompute_activations
from i2i.layers.resample import Upsampling
from i2i.training.config import Precision, TrainingSettings
from i2i.training.loop import make_accelerator
from i2i.training.monitor import Monitor
from i2i.video import Options, Summary, VideoFile, upscaling
from i2i.video.job import Job

Variant = Literal["plain PyTorch", "plain PyTorch, fused Adam", "i2i", "i2i with EMA"]
PLAIN: Variant = "plain PyTorch"
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")
GIB, MIB = 2**30, 2**20


@dataclass(frozen=True, kw_only=True)
class TimedTraining(TrainingWork):
    """A training step, and how often it is timed.

    Attributes:
        method: which step.
        steps: readings of each variant, at least 2.
        warmup_steps: steps before the first reading.
    """

    method: Literal["pix2pix", "cyclegan"] = "pix2pix"
    steps: int = 30
    warmup_steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 2 or self.warmup_steps < 1:
            raise InputError(
                f"expected at least 2 --steps and 1 of --warmup-steps, got {self.steps} and {self.warmup_steps}"
            )


def train(work: TimedTraining) -> None:
    """Time i2i's training step next to the plain eager one, and say where the time goes."""
    # First of all, because a child's resident peak starts at what its parent holds.
    peaks = {variant: peak_memory(work, variant) for variant in get_args(Variant)}
    accelerator = work.accelerator()
    device = accelerator.device
    steps = {variant: make_step(work, variant, accelerator) for variant in get_args(Variant)}
    ceilings = fastest_operations(work, device)
    for step in (*steps.values(), *ceilings.values()):
        for _ in range(work.warmup_steps):
            step()
    step_flop = count_flop(steps[PLAIN])
    seconds = time_in_turns({**steps, **ceilings}, readings=work.steps, device=device)
    waiting = waiting_share(work, accelerator)

    table = Table(title=title(work), caption=f"median of {work.steps} readings in turns; {machine(device)}")
    for column in ("", "ms/step", "quartiles", "images/s", "ratio to plain", "peak memory"):
        table.add_column(column, justify="right" if column else "left")
    for variant in steps:
        low, median, high = statistics.quantiles(seconds[variant], n=4)
        ratios = [mine / plain for mine, plain in zip(seconds[variant], seconds[PLAIN], strict=True)]
        table.add_row(
            variant,
            f"{1e3 * median:.1f}",
            f"{1e3 * low:.1f} - {1e3 * high:.1f}",
            f"{work.batch_size / median:.2f}",
            f"{statistics.median(ratios):.3f}",
            peak_in_words(peaks[variant]),
        )
    console().print(table)

    best = {name: count_flop(step) / statistics.median(seconds[name]) for name, step in ceilings.items()}
    console().print(peak_meaning(device))
    console().print(
        f"Waiting for data: {waiting:.1%} of i2i's step, with {work.settings().workers} workers that read, resize, "
        f"crop and flip PNG files of {IMAGES_ON_DISK} scenes."
    )
    for name, rate in best.items():
        console().print(f"{name} in {work.precision}: {rate / 1e9:.0f} GFLOP/s.")
    for variant in (PLAIN, "i2i"):
        rate = step_flop / statistics.median(seconds[variant])
        console().print(
            f"{variant}: {step_flop / 1e9:.1f} GFLOP a step, {rate / 1e9:.0f} GFLOP/s; "
            + ", ".join(f"{rate / ceiling:.0%} of the {name.lower()}'s" for name, ceiling in best.items())
        )


def make_step(work: TrainingWork, variant: Variant, accelerator: Accelerator) -> Step:
    """A function that takes one training step at each call, on the same batches in every variant."""
    match variant:
        case "plain PyTorch":
            return plain_step(work, accelerator.device, fused_adam=False)
        case "plain PyTorch, fused Adam":
            return plain_step(work, accelerator.device, fused_adam=True)
        case "i2i":
            return i2i_step(work, accelerator, ema_decay=0.0)
        case "i2i with EMA":
            return i2i_step(work, accelerator, ema_decay=0.999)


def plain_step(work: TrainingWork, device: torch.device, *, fused_adam: bool) -> Step:
    match work.method:
        case "pix2pix":
            return pix2pix_step(work, device, fused_adam=fused_adam)
        case "cyclegan":
            return cyclegan_step(work, device, fused_adam=fused_adam)
        case "cut" | "spade":
            raise InputError(f"{work.method} has no plain step to be compared with: take --method pix2pix or cyclegan")


def i2i_step(work: TrainingWork, accelerator: Accelerator, *, ema_decay: float) -> Step:
    """`Trainer.step` and, as in training, the monitor's look at it."""
    trainer = work.trainer(accelerator, batches=cycle(work.batches()), ema_decay=ema_decay)
    settings = trainer.settings
    monitor = Monitor(max_skipped_steps=settings.max_skipped_steps, best_is=settings.best_end)
    numbers = count()

    def step() -> None:
        number = next(numbers)
        result = trainer.step(number)
        monitor.observe(
            step=number + 1, accuracy=result.accuracy, skipped=result.skipped, data=result.data, outputs=result.outputs
        )

    return step


def fastest_operations(work: TrainingWork, device: torch.device) -> dict[str, Step]:
    """What networks consist of, where a machine is at its best: large matrices, and a ResNet block's convolution."""
    # Convolutions may round to TF32 by default, products may not: both get the same leave.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    side, images = (2048, 1) if device.type == "cpu" else (8192, 64)
    layout = torch.channels_last if work.channels_last else torch.contiguous_format

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=arithmetic(work.precision))

    a, b, product = random(side, side), random(side, side), random(side, side)
    features, weight = (random(n, 256, px, px).to(memory_format=layout) for n, px in ((images, 64), (256, 3)))
    return {
        "Matrix product": partial(torch.mm, a, b, out=product),
        "3 x 3 convolution": partial(F.conv2d, features, weight, padding=1),
    }


def count_flop(step: Step) -> int:
    """Floating-point operations of the convolutions and matrix products in a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def time_in_turns(steps: Mapping[str, Step], *, readings: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds per call, `readings` of them for each.

    On an accelerator a reading spans ten calls and waits for the device only after the last, so that a step that makes
    the host wait pays for it here as it does in training.
    """
    calls = 1 if device.type == "cpu" else 10
    names = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for reading in range(readings):
        first = reading % len(names)
        for name in names[first:] + names[:first]:
            begun = time.perf_counter()
            for _ in range(calls):
                steps[name]()
            wait_for(device)
            seconds[name].append((time.perf_counter() - begun) / calls)
    return seconds


def wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def waiting_share(work: TimedTraining, accelerator: Accelerator) -> float:
    """The share of i2i's step spent waiting for a real DataLoader over image files."""
    with TemporaryDirectory() as folder:
        data = work.images_on_disk(Path(folder))
        loader = DataLoader(
            data,
            batch_sampler=DrawSampler(length=len(data), batch_size=work.batch_size, seed=0),  # type: ignore[arg-type]
            num_workers=work.settings().workers,
            worker_init_fn=worker_init,
            pin_memory=accelerator.device.type == "cuda",
        )
        trainer = work.trainer(accelerator, batches=iter(loader))
        for step in range(work.warmup_steps):
            trainer.step(step)
        wait_for(accelerator.device)
        begun = time.perf_counter()
        waited = sum(trainer.step(step).waited_s for step in range(work.steps))
        wait_for(accelerator.device)
        return waited / (time.perf_counter() - begun)


def peak_memory(work: TrainingWork, variant: Variant) -> float | None:
    """Bytes that the steps of a variant need at most, in a process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_memory_of_this_process, work, variant).result()


def _peak_memory_of_this_process(work: TrainingWork, variant: Variant) -> float | None:
    accelerator = work.accelerator()
    step = make_step(work, variant, accelerator)
    for _ in range(2):  # the optimisers' state is there from the second step on
        step()
    match accelerator.device.type:
        case "cpu":
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        case "mps":
            return None  # PyTorch keeps no peak there
        case _:
            return torch.accelerator.max_memory_allocated()


def peak_meaning(device: torch.device) -> str:
    where = "resident in the whole process" if device.type == "cpu" else "allocated on the device"
    return f"Peak memory: {where}, each variant in a process of its own."


def peak_in_words(peak: float | None) -> str:
    return "not measured" if peak is None else f"{peak / GIB:.2f} GiB"


@dataclass(frozen=True, kw_only=True)
class MemoryWork:
    """i2i's training step in fp32 and bf16, with and without computing activations again.

    SPADE's, which looks label maps up, is set beside one that makes them one-hot, resizes them in every SPADE layer
    and joins them to the images for the discriminator.

    Attributes:
        method: which step.
        device: "auto" takes an accelerator where there is one.
        batch_size: images in a step, on each side.
        size_px: side of the images; a multiple of 4, for pix2pix of 256, for SPADE of 32.
        width: channels after the first convolution, in all networks; of SPADE's generator, before the last one.
        blocks: of CycleGAN's and CUT's generators.
        classes: of SPADE's label maps, beside "don't care" and the edges of instances.
        upsampling: of all generators; for CUT as published, "bilinear".
        antialias: ResNets blur before they halve; for CUT as published, they do.
        readings: of the time of SPADE's step either way, in fp32.
        limit_gib: what would need more is not run.
        threads: of PyTorch on the CPU; None: PyTorch decides.
    """

    method: MethodName = "cyclegan"
    device: Literal["auto", "cpu"] = "auto"
    batch_size: int = 1
    size_px: int = 512
    width: int = 64
    blocks: int = 9
    upsampling: Upsampling = "transposed"
    antialias: bool = False
    classes: int = 182
    readings: int = 3
    limit_gib: float = 16.0
    threads: int | None = None

    def training(self, *, precision: Precision, checkpointing: bool, one_hot: bool = False) -> TrainingWork:
        return TrainingWork(
            method=self.method,
            device=self.device,
            precision=precision,
            checkpointing=checkpointing,
            batch_size=self.batch_size,
            size_px=self.size_px,
            width=self.width,
            blocks=self.blocks,
            upsampling=self.upsampling,
            antialias=self.antialias,
            classes=self.classes,
            one_hot=one_hot,
            threads=self.threads,
        )

    def heading(self) -> str:
        blurred = ", antialiased" if self.antialias else ""
        details = f"{self.upsampling}{blurred}"
        if self.method == "spade":
            details = f"{self.classes} classes, don't care and edges"
        return f"{self.method} step of i2i: width {self.width}, {details}, batch {self.batch_size}, {self.size_px} px"


def memory(work: MemoryWork) -> None:
    """Say what i2i's training step needs in memory, and what of that autograd keeps for the backward pass."""
    accelerator = work.training(precision="fp32", checkpointing=False).accelerator()
    device = accelerator.device
    table = Table(title=work.heading(), caption=machine(device))
    for column in ("", "kept for backward", "peak memory"):
        table.add_column(column, justify="right" if column else "left")
    for one_hot in (False, True) if work.method == "spade" else (False,):
        for checkpointing in (True, False):
            for precision in PRECISIONS:
                training = work.training(precision=precision, checkpointing=checkpointing, one_hot=one_hot)
                kept, lasting = planned_memory(training, device)
                fits = kept + lasting <= work.limit_gib * GIB
                table.add_row(
                    precision + (", checkpointing" if checkpointing else "") + (", one-hot maps" if one_hot else ""),
                    f"{kept / GIB:.2f} GiB",
                    peak_in_words(peak_memory(training, "i2i")) if fits else f"not run: above {work.limit_gib:g} GiB",
                )
    console().print(table)
    console().print("Kept for backward: of the generators' side, by autograd, beside weights.")
    console().print(peak_meaning(device))
    if work.method == "spade":
        print_times_of_labels(work, accelerator)


def print_times_of_labels(work: MemoryWork, accelerator: Accelerator) -> None:
    """How long SPADE's step takes with label maps looked up, and with one-hot ones."""
    ways = {"looked up": False, "one-hot": True}
    steps = {
        name: make_step(work.training(precision="fp32", checkpointing=False, one_hot=way), "i2i", accelerator)
        for name, way in ways.items()
    }
    for step in steps.values():
        step()
    seconds = time_in_turns(steps, readings=work.readings, device=accelerator.device)
    medians = {name: statistics.median(readings) for name, readings in seconds.items()}
    console().print(
        f"In fp32 a step takes {medians['looked up']:.2f} s with label maps looked up, {medians['one-hot']:.2f} s with "
        f"one-hot maps: medians of {work.readings} readings in turns."
    )


def planned_memory(work: TrainingWork, device: torch.device) -> tuple[int, int]:
    """Bytes that a step keeps of its generators' side for the backward pass, and those of weights and optimisers.

    Nothing is computed: the tensors have shapes and types only.
    """
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FakeTensorMode():
        batch = {side: images.to(device) for side, images in work.batches()[0].items()}
        with device:
            method = work.i2i_method()
        if work.checkpointing:
            for generator in method.generators.values():
                recompute_activations(generator)
        networks = [*method.generators.values(), *method.auxiliary.values(), *method.discriminators.values()]
        parameters = [parameter for network in networks for parameter in network.parameters()]
        for discriminator in method.discriminators.values():
            discriminator.requires_grad_(False)
        with saved_tensors_hooks(keep, lambda tensor: tensor), autocast(work.precision, device):
            outputs = method.translate(batch, 0)
            method.generator_losses(batch, outputs, 0)
        for parameter in parameters:
            kept.pop(parameter.untyped_storage()._cdata, None)
    # Weights, their gradients, and Adam's two moments.
    lasting = 4 * sum(parameter.nbytes for parameter in parameters)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), lasting


@dataclass(frozen=True, kw_only=True)
class InferenceWork:
    """CycleGAN's ResNet over many small images and over one large one.

    Attributes:
        device: "auto" takes an accelerator where there is one.
        precision: of the network, in all variants.
        compile: compile the network, in all variants.
        width: channels after the first convolution.
        blocks: residual blocks.
        images: how many small ones, 8-bit RGB arrays.
        size_px: their side; a multiple of 4.
        large_px: height and width of the large image; multiples of 4.
        tile_px: what the large image is cut into.
        readings: of each variant.
        threads: of PyTorch on the CPU; None: PyTorch decides.
    """

    device: Literal["auto", "cpu"] = "auto"
    precision: Precision = "fp32"
    compile: bool = False
    width: int = 64
    blocks: int = 9
    images: int = 100
    size_px: int = 256
    large_px: tuple[int, int] = (768, 704)
    tile_px: int = 256
    readings: int = 5
    threads: int | None = None

    def translator(self) -> Translator:
        side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
        torch.manual_seed(0)
        return Translator(
            generator=ResNetGenerator(in_channels=3, out_channels=3, width=self.width, blocks=self.blocks),
            spec=GeneratorSpec(input=side, output=side),
            precision=self.precision,
            compile=self.compile,
        ).to(make_accelerator(TrainingSettings(steps=1, device=self.device), Path()).device)


@torch.no_grad()
def inference(work: InferenceWork) -> None:
    """Time i2i's translator next to its network alone: many images in one call, and a large one in pieces."""
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    t = work.translator()
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (work.images, work.size_px, work.size_px, 3), np.uint8))
    encoded = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(t.device).float() / 127.5 - 1
    network = torch.compile(t.generator) if work.compile else t.generator
    mixed = autocast(work.precision, t.device)

    def network_alone(inputs: Tensor, batch_size: int) -> Tensor:
        with mixed:
            return [network(batch) for batch in inputs.split(batch_size)][-1]

    few = encoded[:16]
    probes = {str(2**n): partial(network_alone, few, 2**n) for n in range(5) if 2**n <= len(few)}
    seconds = time_in_turns(probes, readings=2, device=t.device)
    best = min(probes, key=lambda size: min(seconds[size]))
    alone = f"network alone, batches of {best}"
    print_readings(
        f"{work.images} images of {work.size_px} px",
        time_in_turns(
            {alone: partial(network_alone, encoded, int(best)), "t(list)": partial(t, images)},
            readings=work.readings,
            device=t.device,
        ),
        pixels=work.images * work.size_px**2,
        device=t.device,
    )

    large = rng.integers(0, 256, (*work.large_px, 3), np.uint8)
    inputs = torch.from_numpy(large).permute(2, 0, 1)[None].to(t.device).float() / 127.5 - 1
    whole = "network alone, whole"
    variants = {whole: partial(network_alone, inputs, 1)}
    for name, exact in (("in tiles that fade into each other", False), ("exact", True)):
        variants[name] = partial(t, large, tile_px=work.tile_px, exact=exact)
    height, width = work.large_px
    print_readings(
        f"one image of {height} x {width} px",
        time_in_turns(variants, readings=work.readings, device=t.device),
        pixels=height * width,
        device=t.device,
    )
    values = large.astype(np.float32) / 255
    expected = (network_alone(torch.from_numpy(values).permute(2, 0, 1)[None].to(t.device) * 2 - 1, 1)[0] + 1) / 2
    difference = np.abs(t(values, tile_px=work.tile_px, exact=True) - expected.permute(1, 2, 0).cpu().numpy()).max()
    console().print(f"Exact: {t.work}; at most {difference:.1e} of the range from the whole image's result.")


def print_readings(title: str, seconds: dict[str, list[float]], *, pixels: int, device: torch.device) -> None:
    """A table of variants; the first one is what the others are compared with."""
    first, *_ = seconds
    readings = len(seconds[first])
    table = Table(title=f"ResNet: {title}", caption=f"median of {readings} readings in turns; {machine(device)}")
    for column in ("", "s", "megapixels/s", "time against the network's"):
        table.add_column(column, justify="right" if column else "left")
    for variant, mine in seconds.items():
        ratios = [a / b for a, b in zip(mine, seconds[first], strict=True)]
        median = statistics.median(mine)
        table.add_row(variant, f"{median:.2f}", f"{pixels / median / 1e6:.2f}", f"{statistics.median(ratios):.3f}")
    console().print(table)


@dataclass(frozen=True, kw_only=True)
class DegradationWork:
    """Real-ESRGAN's degradations, and a training step of the network that undoes them: L1 loss and Adam.

    Attributes:
        device: "auto" takes an accelerator where there is one.
        precision: of the training step; images are degraded in fp32.
        batch_size: images in a step.
        crop_px: side of the targets; a multiple of the scale.
        scale: how much smaller the degraded images are.
        width: channels of the RRDB network.
        blocks: of the RRDB network.
        readings: of either; each of the degradations, whose cost varies, is a mean of ten.
        threads: of PyTorch on the CPU; None: PyTorch decides.
    """

    device: Literal["auto", "cpu"] = "auto"
    precision: Precision = "fp32"
    batch_size: int = 4
    crop_px: int = 256
    scale: int = 4
    width: int = 64
    blocks: int = 23
    readings: int = 3
    threads: int | None = None


def degradation(work: DegradationWork) -> None:
    """Time what Real-ESRGAN does to images, sharpening of the targets included, next to a training step on them."""
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    device = make_accelerator(TrainingSettings(steps=1, device=work.device), Path()).device
    torch.manual_seed(0)
    targets = torch.rand(work.batch_size, 3, work.crop_px, work.crop_px, device=device)
    generator = RRDBGenerator(in_channels=3, out_channels=3, scale=work.scale, width=work.width, blocks=work.blocks).to(
        device
    )
    optimiser = torch.optim.Adam(generator.parameters())
    settings = Degradation()
    inputs = degrade(targets, scale=work.scale, settings=settings)

    def degrade_ten_times() -> None:
        for _ in range(10):
            degrade(sharpen(targets), scale=work.scale, settings=settings)

    def train_once() -> None:
        optimiser.zero_grad()
        with autocast(work.precision, device):
            loss = F.l1_loss(generator(inputs), targets)
        loss.backward()
        optimiser.step()

    steps = {"degradations": degrade_ten_times, "training step": train_once}
    for step in steps.values():
        step()
    seconds = time_in_turns(steps, readings=work.readings, device=device)
    chain, training = statistics.median(seconds["degradations"]) / 10, statistics.median(seconds["training step"])
    network = f"RRDB with {work.blocks} blocks, width {work.width}, scale {work.scale}, {work.precision}"
    table = Table(
        title=f"{network}: batch {work.batch_size}, targets of {work.crop_px} px",
        caption=f"median of {work.readings} readings in turns; {machine(device)}",
    )
    for column in ("", "ms", "share of the training step"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("degradations", f"{1e3 * chain:.1f}", f"{chain / training:.1%}")
    table.add_row("training step", f"{1e3 * training:.1f}", "")
    console().print(table)


def video(work: VideoWork) -> None:
    """Time a video from file to file next to its network alone; weigh it; and skip what repeats."""
    # First of all, because a child's resident peak starts at what its parent holds.
    short, long = (resident_memory(work, frames=n * work.memory_frames) for n in (1, LONGER))
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    translator = work.translator()
    with TemporaryDirectory() as folder:
        print_speed_of_video(work, translator, Path(folder))
        console().print(
            f"At most {short.peak / MIB:.0f} MiB are resident with {work.memory_frames} frames and a tiny network, "
            f"{long.peak / MIB:.0f} MiB with {LONGER} times as many, which grow by {long.growth / MIB:.0f} MiB over "
            "the second half of these. Each in a process of its own."
        )
        print_speed_of_repeats(work, translator, Path(folder))


def print_speed_of_video(work: VideoWork, translator: Translator, folder: Path) -> None:
    """A table of the network alone, called in two ways, and of all that becomes of a clip."""
    clip = make_clip(folder / "clip.mp4", frames=work.frames, height=work.height, width=work.width)
    with closing(VideoFile(clip)) as source:
        images = [frame.image for frame in islice(source.read(source.timeline[0]), work.frames_alone)]
        job = Job(
            source=source,
            target=folder / "never.mp4",
            treatment=upscaling(Upscaler(translator)),
            options=Options(),
        )
    tensors = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in images]
    summaries: list[Summary] = []
    loop, workers, whole = "network in a loop", "network by workers", "end to end"
    frames = {loop: len(images), workers: len(images), whole: work.frames}
    steps: dict[str, Step] = {
        loop: partial(call_in_a_loop, translator, tensors),
        workers: partial(call_by_workers, job, images),
        whole: lambda: summaries.append(end_to_end(translator, clip, folder / "enlarged.mp4")),
    }
    call_in_a_loop(translator, tensors[:1])
    call_by_workers(job, images[: torch.get_num_threads()])
    spent: dict[str, list[float]] = {name: [] for name in steps}
    seconds = time_in_turns(
        {name: partial(count_processor_time, step, spent[name]) for name, step in steps.items()},
        readings=work.readings,
        device=torch.device("cpu"),  # all of them wait for their results
    )

    network = "compact network" if work.weights is None else str(work.weights)
    table = Table(
        title=f"{network} on {translator.device.type}: {work.frames} frames of {work.width} x {work.height} px",
        caption=f"median (least - most) of {work.readings} readings in turns; {machine(translator.device)}",
    )
    for column in ("", "frames/s", "against the loop", "against the workers", "processor s/frame"):
        table.add_column(column, justify="right" if column else "left")
    rates = {name: [frames[name] / reading for reading in seconds[name]] for name in steps}
    processor = {name: statistics.median(spent[name]) / frames[name] for name in steps}
    for name, mine in rates.items():
        ratios = [[a / b for a, b in zip(mine, rates[other], strict=True)] for other in (loop, workers)]
        table.add_row(name, spread(mine, digits=2), *(spread(r, digits=3) for r in ratios), f"{processor[name]:.3f}")
    console().print(table)
    waiting = statistics.median(summary.load.waiting for summary in summaries)
    beside = 1 - processor[workers] / processor[whole]
    console().print(
        f"End to end the network waits for {waiting:.1%} of the time, and decoding, colours and encoding take "
        f"{beside:.1%} of the processor's."
    )


def print_speed_of_repeats(work: VideoWork, translator: Translator, folder: Path) -> None:
    """How much faster a clip is in which most frames repeat the one before, and whether the results are equal."""
    clip = make_clip(folder / "repeats.mp4", frames=work.frames, height=work.height, width=work.width, shown=SHOWN)
    results = {skip: folder / f"repeats-{skip}.mp4" for skip in (False, True)}
    seconds = time_in_turns(
        {
            str(skip): partial(end_to_end, translator, clip, target, skip_duplicates=skip)
            for skip, target in results.items()
        },
        readings=work.skip_readings,
        device=torch.device("cpu"),
    )
    ratios = [a / b for a, b in zip(seconds["False"], seconds["True"], strict=True)]
    plain, skipping = (statistics.median(seconds[str(skip)]) for skip in results)
    console().print(
        f"Where {SHOWN - 1} of {SHOWN} frames repeat the one before, --skip-duplicates takes {skipping:.1f} s in place "
        f"of {plain:.1f} s: {spread(ratios, digits=2)} times as fast; {work.skip_readings} readings in turns. "
        f"{count_different_frames(*results.values())} of {work.frames} decoded frames differ."
    )


def count_processor_time(step: Step, spent: list[float]) -> None:
    """Take a step, and note the seconds that all threads of this process computed for it."""
    begun = time.process_time()
    step()
    spent.append(time.process_time() - begun)


def spread(readings: list[float], *, digits: int) -> str:
    """The median, the least and the most of some readings."""
    middle, least, most = (f"{f(readings):.{digits}f}" for f in (statistics.median, min, max))
    return f"{middle} ({least}-{most})"


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120, soft_wrap=True, highlight=False)


def title(work: TrainingWork) -> str:
    layout = ", channels_last" if work.channels_last else ""
    compiled = ", i2i compiled" if work.compile else ""
    recomputed = ", i2i with checkpointing" if work.checkpointing else ""
    networks = f"U-Net depth {work.depth}" if work.method == "pix2pix" else f"two ResNets of {work.blocks} blocks"
    return (
        f"{work.method} step: {networks} ({work.upsampling}) and PatchGAN, width {work.width}, "
        f"batch {work.batch_size}, {work.size_px} px, {work.precision}{layout}{compiled}{recomputed}"
    )


def machine(device: torch.device) -> str:
    """The machine in one line."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    accelerator = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    return (
        f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, on {accelerator}"
    )


if __name__ == "__main__":
    try:
        commands = {"train": train, "memory": memory, "inference": inference, "degrade": degradation, "video": video}
        tyro.extras.subcommand_cli_from_dict(commands, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    except InputError as error:
        sys.exit(str(error))
