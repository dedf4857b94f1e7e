"""How fast i2i is on this machine, next to plain PyTorch that does the same work in the same run.

    python tools/benchmark.py train
    python tools/benchmark.py train --precision bf16 --channels-last --compile
    python tools/benchmark.py inference

Readings of all variants alternate, in an order that rotates, so that whatever else the machine does meets all alike.
"""

import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.data.folders import PairedImages, find_pairs, probe_pairs
from i2i.data.image_io import write_image
from i2i.data.sampler import DrawSampler, worker_init
from i2i.data.streets import make_scene
from i2i.data.transforms import ImageTransform
from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import ResNetGenerator, UNetGenerator
from i2i.inference.translator import Translator
from i2i.layers.resample import Upsampling
from i2i.methods.base import Batch
from i2i.methods.pix2pix import Pix2Pix
from i2i.training.config import Precision, TrainingSettings
from i2i.training.loop import Trainer, make_accelerator, to_device
from i2i.training.monitor import Monitor

Step = Callable[[], None]
Variant = Literal["plain PyTorch", "plain PyTorch, fused Adam", "i2i", "i2i with EMA"]
PLAIN: Variant = "plain PyTorch"

LEARNING_RATE = 2e-4
BETAS = (0.5, 0.999)
L1_WEIGHT = 100.0
IMAGES_ON_DISK = 16


@dataclass(frozen=True, kw_only=True)
class TrainingWork:
    """One pix2pix step: U-Net and 70 x 70 PatchGAN, one generator forward, three discriminator forwards.

    Attributes:
        device: "auto" takes an accelerator where there is one.
        precision: of the networks, in all variants.
        channels_last: memory layout, in all variants.
        compile: compile i2i's networks; plain PyTorch stays eager.
        batch_size: images in a step.
        size_px: side of the images; a multiple of 2 ** depth.
        width: channels after the first convolution, in both networks.
        depth: of the U-Net.
        upsampling: of the U-Net.
        steps: readings of each variant.
        warmup_steps: steps before the first reading.
        threads: of PyTorch on the CPU; None: PyTorch decides.
    """

    device: Literal["auto", "cpu"] = "auto"
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    batch_size: int = 1
    size_px: int = 256
    width: int = 64
    depth: int = 8
    upsampling: Upsampling = "transposed"
    steps: int = 30
    warmup_steps: int = 5
    threads: int | None = None

    def settings(self, *, ema_decay: float = 0.0) -> TrainingSettings:
        return TrainingSettings(
            steps=self.warmup_steps + self.steps,
            batch_size=self.batch_size,
            generator_learning_rate=LEARNING_RATE,
            discriminator_learning_rate=LEARNING_RATE,
            adam_betas=BETAS,
            schedule="constant",
            precision=self.precision,
            ema_decay=ema_decay,
            channels_last=self.channels_last,
            compile=self.compile,
            device=self.device,
        )

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """The same weights at every call."""
        torch.manual_seed(0)
        generator = UNetGenerator(
            in_channels=3, out_channels=3, width=self.width, depth=self.depth, upsampling=self.upsampling
        )
        return generator, PatchDiscriminator(in_channels=6, width=self.width)

    def batches(self) -> list[Batch]:
        shape = (self.batch_size, 3, self.size_px, self.size_px)
        random = torch.Generator().manual_seed(0)
        sides = ("input", "target")
        return [{side: torch.rand(shape, generator=random) * 2 - 1 for side in sides} for _ in range(4)]

    def accelerator(self) -> Accelerator:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return make_accelerator(self.settings(), Path())


def train(work: TrainingWork) -> None:
    """Time i2i's training step next to the plain eager one, and say where the time goes."""
    # First of all, because a child's resident peak starts at what its parent holds.
    peaks = {variant: peak_memory(work, variant) for variant in get_args(Variant)}
    accelerator = work.accelerator()
    device = accelerator.device
    steps = {variant: make_step(work, variant, accelerator) for variant in get_args(Variant)}
    product, product_flop = matrix_product(work.precision, device)
    for step in (*steps.values(), product):
        for _ in range(work.warmup_steps):
            step()
    step_flop = count_flop(steps[PLAIN])
    seconds = time_in_turns({**steps, "matrix product": product}, readings=work.steps, device=device)
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
            "not measured" if peaks[variant] is None else f"{peaks[variant]:.0f} MiB",
        )
    console().print(table)

    memory = "resident in the whole process" if device.type == "cpu" else "allocated on the device"
    product_rate = product_flop / statistics.median(seconds["matrix product"])
    console().print(f"Peak memory: {memory}, each variant in a process of its own.")
    console().print(
        f"Waiting for data: {waiting:.1%} of i2i's step, with {work.settings().workers} workers that read, resize, "
        f"crop and flip {IMAGES_ON_DISK} PNG pairs on disk."
    )
    console().print(f"Matrix product in {work.precision}: {product_rate / 1e9:.0f} GFLOP/s.")
    for variant in (PLAIN, "i2i"):
        rate = step_flop / statistics.median(seconds[variant])
        console().print(
            f"{variant}: {step_flop / 1e9:.1f} GFLOP a step, {rate / 1e9:.0f} GFLOP/s, "
            f"{rate / product_rate:.0%} of the matrix product's."
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


def i2i_step(work: TrainingWork, accelerator: Accelerator, *, ema_decay: float) -> Step:
    """`Trainer.step` and, as in training, the monitor's look at it."""
    settings = work.settings(ema_decay=ema_decay)
    trainer = make_trainer(work, accelerator, settings=settings, batches=cycle(work.batches()))
    monitor = Monitor(max_skipped_steps=settings.max_skipped_steps, best_is=settings.best_is)

    def step() -> None:
        result = trainer.step(0)
        monitor.observe(
            step=1, accuracy=result.accuracy, skipped=result.skipped, data=result.data, outputs=result.outputs
        )

    return step


def make_trainer(
    work: TrainingWork, accelerator: Accelerator, *, settings: TrainingSettings, batches: Iterator[Batch]
) -> Trainer:
    generator, discriminator = work.networks()
    method = Pix2Pix(generator=generator, discriminator=discriminator, l1_weight=L1_WEIGHT)
    return Trainer(method=method, settings=settings, accelerator=accelerator, batches=batches)


def plain_step(work: TrainingWork, device: torch.device, *, fused_adam: bool) -> Step:
    """The same passes as a person writes them without a library: eager, no checks, nothing recorded."""
    layout = torch.channels_last if work.channels_last else torch.preserve_format
    generator, discriminator = (network.to(device).to(memory_format=layout) for network in work.networks())
    # None leaves the choice of implementation to PyTorch.
    fused = True if fused_adam else None
    generator_adam = torch.optim.Adam(generator.parameters(), lr=LEARNING_RATE, betas=BETAS, fused=fused)
    discriminator_adam = torch.optim.Adam(discriminator.parameters(), lr=LEARNING_RATE, betas=BETAS, fused=fused)
    autocast = torch.autocast(device.type, dtype=arithmetic(work.precision), enabled=work.precision != "fp32")
    scaler = torch.amp.GradScaler(device.type, enabled=work.precision == "fp16")
    batches = cycle(work.batches())
    settings = work.settings()

    def judge(condition: Tensor, image: Tensor, *, real: bool) -> Tensor:
        scores = discriminator(torch.cat([condition, image], dim=1)).float()
        return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))

    def step() -> None:
        batch = to_device(next(batches), device, settings)
        with autocast:
            fake = generator(batch["input"])
            discriminator.requires_grad_(False)
            loss = judge(batch["input"], fake, real=True) + L1_WEIGHT * F.l1_loss(fake, batch["target"])
        generator_adam.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()

        discriminator.requires_grad_(True)
        with autocast:
            loss = judge(batch["input"], fake.detach(), real=False) + judge(batch["input"], batch["target"], real=True)
        discriminator_adam.zero_grad(set_to_none=True)
        scaler.scale(0.5 * loss).backward()

        scaler.step(generator_adam)
        scaler.step(discriminator_adam)
        scaler.update()

    return step


def arithmetic(precision: Precision) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def matrix_product(precision: Precision, device: torch.device) -> tuple[Step, int]:
    """A product of large square matrices, and its floating-point operations."""
    # Convolutions may round to TF32 by default, products may not: both get the same leave.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    side = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device, dtype=arithmetic(precision)) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    return multiply, 2 * side**3


def count_flop(step: Step) -> int:
    """Floating-point operations of the convolutions and matrix products in a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def time_in_turns(steps: dict[str, Step], *, readings: int, device: torch.device) -> dict[str, list[float]]:
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


def waiting_share(work: TrainingWork, accelerator: Accelerator) -> float:
    """The share of i2i's step spent waiting for a real DataLoader over image files."""
    settings = work.settings()
    with TemporaryDirectory() as folder:
        data = pairs_on_disk(Path(folder), work)
        loader = DataLoader(
            data,
            batch_sampler=DrawSampler(length=len(data), batch_size=work.batch_size, seed=0),
            num_workers=settings.workers,
            worker_init_fn=worker_init,
            pin_memory=accelerator.device.type == "cuda",
        )
        trainer = make_trainer(work, accelerator, settings=settings, batches=iter(loader))
        for step in range(work.warmup_steps):
            trainer.step(step)
        wait_for(accelerator.device)
        begun = time.perf_counter()
        waited = sum(trainer.step(step).waited_s for step in range(work.steps))
        wait_for(accelerator.device)
        return waited / (time.perf_counter() - begun)


def pairs_on_disk(folder: Path, work: TrainingWork) -> PairedImages:
    """Streets as A|B files under `folder`, augmented as the pix2pix paper does: enlarge, crop, flip."""
    (folder / "train").mkdir()
    for seed in range(IMAGES_ON_DISK):
        scene = make_scene(seed, size=work.size_px)
        write_image(folder / "train" / f"{seed}.png", np.concatenate([scene.label_image, scene.day], axis=1))
    pairs = find_pairs(folder, phase="train", direction="AtoB")
    info = probe_pairs(pairs)
    transform = ImageTransform(load_size=round(work.size_px * 286 / 256), crop_size=work.size_px, flip=True)
    return PairedImages(pairs=pairs, transform=transform, input=info.input, target=info.target)


def peak_memory(work: TrainingWork, variant: Variant) -> float | None:
    """MiB that a few steps of a variant need at most, in a process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_memory_of_this_process, work, variant).result()


def _peak_memory_of_this_process(work: TrainingWork, variant: Variant) -> float | None:
    accelerator = work.accelerator()
    step = make_step(work, variant, accelerator)
    for _ in range(3):
        step()
    match accelerator.device.type:
        case "cpu":
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        case "mps":
            return None  # PyTorch keeps no peak there
        case _:
            return torch.accelerator.max_memory_allocated() / 2**20


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
    autocast = torch.autocast(t.device.type, dtype=arithmetic(work.precision), enabled=work.precision != "fp32")

    def network_alone(inputs: Tensor, batch_size: int) -> Tensor:
        with autocast:
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


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120, soft_wrap=True, highlight=False)


def title(work: TrainingWork) -> str:
    layout = ", channels_last" if work.channels_last else ""
    compiled = ", i2i compiled" if work.compile else ""
    return (
        f"pix2pix step: U-Net width {work.width} depth {work.depth} ({work.upsampling}) + 70 x 70 PatchGAN, "
        f"batch {work.batch_size}, {work.size_px} px, {work.precision}{layout}{compiled}"
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
        commands = {"train": train, "inference": inference}
        tyro.extras.subcommand_cli_from_dict(commands, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    except InputError as error:
        sys.exit(str(error))
