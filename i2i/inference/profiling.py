"""What a generator costs where it runs: time, memory, parameters and operations, by size, precision and batch.

Each figure is taken of two passes: of the network alone, on inputs that lie on its device, and of a whole call, from
images in memory to images in memory, which is what a program that uses i2i waits for.
"""

import gc
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from i2i.checkpoints.identity import name_model
from i2i.checkpoints.store import ImageSide
from i2i.errors import InputError
from i2i.inference.codec import PHYSICAL
from i2i.inference.engine import ASSUMED_BYTES_PER_PIXEL
from i2i.inference.graph import peak_bytes_per_pixel
from i2i.inference.loading import load
from i2i.inference.memory import SHARE, available_bytes, is_out_of_memory
from i2i.inference.precision import DTYPES
from i2i.inference.profile import (
    INTERRUPTED,
    PASSES,
    BestBatch,
    Cost,
    FixedPrecision,
    Latency,
    Measurement,
    Pass,
    Profile,
)
from i2i.inference.sampler import Sampler
from i2i.inference.translator import Translator

Size = tuple[int, int]  # height and width, px

USUAL_SIZES: tuple[Size, ...] = ((256, 256), (512, 512))
LARGEST_BATCH = 1024
GAIN = 1.05  # of images a second, below which a larger batch is not worth its latency
MEASURED_BATCH = 4  # whose memory, beside that of 1, tells how much larger batches of drawn images take
PROBES, PROBING_S = 3, 0.5  # readings of each batch that is tried, and seconds for them, at least
FEWEST_READINGS = 3
TURN_S = 0.05  # a pass that is faster is read several times in a turn
PRODUCT_SIDE = {"cpu": 2048}  # of the square matrices whose product shows what the machine can do
PRODUCT_SIDE_ON_ACCELERATORS = 8192


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured, as `i2i.load` is told of it: enough for another process to load it, too.

    Attributes:
        weights: as for `i2i.load`.
        device: where it runs; "auto" takes an accelerator if there is one.
        overrides: arguments of the network's constructor.
    """

    weights: str | Path
    device: str = "auto"
    overrides: Mapping[str, Any] | None = None

    def load(self) -> Translator | Sampler:
        """The generator."""
        return load(self.weights, device=self.device, **(self.overrides or {}))


class _Setting(NamedTuple):
    size: Size | None
    precision: FixedPrecision


class _Found(NamedTuple):
    """The batch that a search ended with, and why it went no further."""

    batch: int
    why: str


class _Case(NamedTuple):
    setting: _Setting
    batch: int
    of: Pass


def profile(
    subject: Subject,
    *,
    sizes: Sequence[Size] | None = None,
    precisions: Sequence[FixedPrecision] = ("fp32", "bf16"),
    batch_sizes: Sequence[int] | None = None,
    seconds: float = 60.0,
    say: Callable[[str], None] = lambda line: None,
) -> Profile:
    """Measure a generator.

    Unless batches are given, the one with the most images a second is looked for first, among 1, 2, 4 … until more
    gain less than 5 %, or memory gets short; it is measured beside 1. Then all passes take turns, so that whatever else
    the machine does meets all alike, and these readings have the last word on which batch is best. Ctrl-C ends what is
    going on, and what is known by then makes the profile.

    Args:
        subject: the generator.
        sizes: height and width of the images that go in; 256 and 512 px unless given, or the only size that the
            network takes. For generators that draw from noise, leave it out.
        precisions: of the computation: "bf16" and "fp16" through autocast.
        batch_sizes: those to measure, in place of 1 and the best.
        seconds: for the readings, once the best batch is known; every pass is read three times at least, however long
            that takes, and `say` is told how long.
        say: told what is being done.

    Raises:
        InputError: a size, batch or precision that cannot be, or nothing at all could be measured.
    """
    loaded = subject.load()
    sizes = _checked_sizes(loaded, sizes)
    if any(batch < 1 for batch in batch_sizes or ()):
        raise InputError(f"batch sizes: expected numbers from 1 on, got {', '.join(map(str, batch_sizes or ()))}")
    if not seconds > 0:
        raise InputError(f"seconds: expected a number above 0, got {seconds:g}")
    device = loaded.device
    settings = [_Setting(size, precision) for size in sizes or (None,) for precision in dict.fromkeys(precisions)]
    survey = _Survey(subject, loaded)
    cut_short = False
    try:
        for setting in settings:
            say(f"{'measuring memory' if batch_sizes else 'looking for the best batch'}: {_in_words(setting)}")
            survey.take(setting, batch_sizes)
    except KeyboardInterrupt:
        if not survey.memory:
            raise
        cut_short = True
        say("interrupted: only what is known by now is read; Ctrl-C once more ends that, too")
    if not survey.memory:
        raise InputError(f"nothing could be measured: {'; '.join(survey.missing)}")

    steps = {case: _step(loaded, case) for case in survey.memory}
    # Products first, that an interrupted profile has what to hold the network against.
    products = {case.setting.precision: _matrix_product(case.setting.precision, device) for case in steps}
    readings, ended = take_turns({**products, **steps}, seconds=seconds, wait=partial(_wait_for, device), say=say)
    cases = [case for case in steps if readings[case]]
    if not cases:
        raise KeyboardInterrupt
    rates: dict[str, float] = {
        precision: 2 * _product_side(device) ** 3 / float(np.median(readings[precision])) for precision in products
    }
    measurements = tuple(
        _measurement(
            case,
            Latency.of(readings[case]),
            survey.memory[case],
            survey.costs,
            rates,
            in_pieces=_in_pieces(steps[case]),
        )
        for case in cases
    )
    best = [_best_batch(setting, measurements, survey.found.get(setting)) for setting in settings]
    return Profile(
        model=name_model(subject.weights),
        network=type(loaded.generator).__name__,
        parameters=sum(parameter.numel() for parameter in loaded.generator.parameters()),
        machine=_machine(device),
        memory=_MEMORY.get(device.type, _MEMORY["cuda"]),
        costs=tuple(survey.costs.values()),
        product_flop_per_s=rates,
        measurements=measurements,
        best_batch=tuple(entry for entry in best if entry is not None),
        missing=(*survey.missing, *[INTERRUPTED] * (cut_short or ended)),
    )


def take_turns(
    steps: Mapping[Any, Callable[[], object]],
    *,
    seconds: float,
    wait: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict[Any, list[float]], bool]:
    """Seconds of each reading of each step, which take turns until the time is over, in an order that rotates.

    Args:
        steps: by name.
        seconds: for all; every step is read three times at least.
        wait: for the device, after each step.
        say: told how long it will take.

    Returns:
        They, and whether an interrupt ended it early: some steps may have no readings then.
    """
    say(f"{len(steps)} passes are taken once")
    least = 0.0
    for step in steps.values():  # what is done once, such as choosing an algorithm, is done here
        begun = time.perf_counter()
        step()
        wait()
        least += FEWEST_READINGS * max(TURN_S, time.perf_counter() - begun)
    if least > seconds:
        say(
            f"they take turns for about {least:.0f} s, for {FEWEST_READINGS} readings of each; Ctrl-C ends it with "
            "what was read by then"
        )
    else:
        say(f"they take turns for {seconds:g} s")

    readings: dict[Any, list[float]] = {name: [] for name in steps}
    names = list(steps)
    begun, turn = time.perf_counter(), 0
    try:
        while turn < FEWEST_READINGS or time.perf_counter() - begun < seconds:
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                turn_begun = time.perf_counter()
                while True:
                    reading_begun = time.perf_counter()
                    steps[name]()
                    wait()
                    now = time.perf_counter()
                    readings[name].append(now - reading_begun)
                    if now - turn_begun >= TURN_S:
                        break
            turn += 1
    except KeyboardInterrupt:
        return readings, True
    return readings, False


_MEMORY = {
    "cpu": "resident memory of a process of its own, beyond what it holds once torch is imported; weights included",
    "cuda": "memory allocated on the device, weights included",
    "mps": "not measured, for PyTorch keeps no peak there",
}


class _CannotRun(Exception):
    """Why a pass cannot be taken, in words."""


class _Taken(Exception):
    """The network's inputs are known."""


class _Survey:
    """What can be measured, and what is known before the readings.

    Attributes:
        costs: by size.
        memory: peaks of all passes that can be taken.
        found: best batches, where they were looked for.
        missing: why others cannot.
    """

    def __init__(self, subject: Subject, loaded: Translator | Sampler) -> None:
        self.costs: dict[Size | None, Cost] = {}
        self.memory: dict[_Case, int | None] = {}
        self.found: dict[_Setting, _Found] = {}
        self.missing: list[str] = []
        self._subject = subject
        self._loaded = loaded
        self._bytes_needed: dict[Size | None, Callable[[int], float]] = {}

    def take(self, setting: _Setting, batch_sizes: Sequence[int] | None) -> None:
        """Look at the batches of one setting: those that are given, or 1 and the best."""
        size = setting.size
        passes: tuple[Pass, ...] = ("network", "call")
        try:
            if size not in self.costs:
                self._bytes_needed[size] = _bytes_needed(self._subject, self._loaded, size)
                _check_memory(self._bytes_needed[size](1))
                self.costs[size] = _count_operations(self._loaded, size)
            batches = sorted(set(batch_sizes or ()))
            if not batches:
                self.found[setting] = _find_batch(self._loaded, setting, self._bytes_needed[size])
                batches = sorted({1, self.found[setting].batch})
        except _CannotRun as error:
            self.missing.append(f"the network alone, {_in_words(setting)}: {error}")
            self.missing += [
                f"{_in_words(setting)}, batch {batch}: the same" for batch in batch_sizes or () if batch > 1
            ]
            batches, passes = [1], ("call",)
        for case in [_Case(setting, batch, of) for batch in batches for of in passes]:
            try:
                if case.batch > 1:  # one image goes through a call in pieces where memory is short
                    _check_memory(self._bytes_needed[size](case.batch))
                self.memory[case] = _peak_memory(self._subject, self._loaded, case)
            except _CannotRun as error:
                self.missing.append(f"the {PASSES[case.of]}, {_in_words(setting)}, batch {case.batch}: {error}")


def _checked_sizes(loaded: Translator | Sampler, sizes: Sequence[Size] | None) -> Sequence[Size] | None:
    if isinstance(loaded, Sampler):
        if sizes:
            raise InputError("sizes: the network draws images of its own size from noise; leave them out")
        return None
    if any(side < 1 for size in sizes or () for side in size):
        raise InputError("sizes: expected sides from 1 px on")
    only = loaded.codec.only_size
    if only is None:
        return list(dict.fromkeys(sizes)) if sizes else USUAL_SIZES
    if sizes and set(sizes) != {only}:
        raise InputError(f"sizes: the network takes {only[0]}x{only[1]} (height x width) only; leave them out")
    return (only,)


def _in_words(setting: _Setting) -> str:
    size = "" if setting.size is None else f"{setting.size[0]} x {setting.size[1]} px, "
    return f"{size}{setting.precision}"


def _random_image(side: ImageSide, size: Size) -> np.ndarray:
    """(H, W, C) as the network was trained on, or a label map (H, W, 1) of ids; noise."""
    rng = np.random.default_rng(0)
    if side.labels:
        ids = rng.integers(side.first_id, side.first_id + side.classes, (*size, 1))
        return ids.astype(np.uint8 if ids.max() <= 255 else np.uint16)
    low, high = side.data_range
    values = rng.uniform(low, high, (*size, side.channels))
    return values.astype(np.float32 if side.dtype in PHYSICAL else side.dtype)


def _inputs(loaded: Translator | Sampler, setting: _Setting, batch: int) -> tuple[Tensor, ...]:
    """What the network is handed for a batch."""
    if isinstance(loaded, Sampler):
        like = next(loaded.generator.parameters())
        latents = torch.stack([loaded.draw_latent(seed) for seed in range(batch)]).to(like)
        return (latents, torch.zeros(batch, dtype=torch.int64, device=loaded.device)) if loaded.classes else (latents,)
    assert setting.size is not None
    image = _random_image(loaded.codec.input, setting.size)
    taken: list[tuple[Tensor, ...]] = []

    def take(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        taken.append(inputs)
        raise _Taken

    # The translator makes them, of label maps and with styles too; it is stopped before the network works.
    hook = loaded.generator.register_forward_pre_hook(take)
    try:
        with suppress(_Taken):
            loaded(image, tile_px=max(64, *loaded.codec.padded_size(*setting.size)), exact=False)
    finally:
        hook.remove()
    return tuple(tensor.expand(batch, *tensor.shape[1:]).contiguous() for tensor in taken[0])


def _step(loaded: Translator | Sampler, case: _Case) -> partial[Any]:
    """A pass, ready to be called."""
    (size, precision), batch = case.setting, case.batch
    if case.of == "network":
        return partial(_run_network, loaded, _inputs(loaded, case.setting, batch), precision)
    if isinstance(loaded, Sampler):
        sampler = Sampler(generator=loaded.generator, spec=loaded.spec, precision=precision)
        label = 0 if sampler.classes else None
        return partial(sampler, seed=list(range(batch)), label=label, batch_size=batch)
    assert size is not None
    translator = Translator(generator=loaded.generator, spec=loaded.spec, precision=precision)
    return partial(translator, [_random_image(loaded.codec.input, size)] * batch, batch_size=batch)


def _in_pieces(step: partial[Any]) -> bool:
    """Whether a pass that was taken divided its images."""
    return isinstance(step.func, Translator) and bool(step.func.work.tiles or step.func.work.stages)


@torch.no_grad()
def _run_network(loaded: Translator | Sampler, inputs: tuple[Tensor, ...], precision: FixedPrecision) -> Tensor:
    with torch.autocast(loaded.device.type, DTYPES.get(precision), enabled=precision in DTYPES):
        return loaded.generator(*inputs)


@contextmanager
def _told_why() -> Iterator[None]:
    """Turn what a pass may fail by into `_CannotRun`."""
    try:
        yield
    except InputError as error:
        raise _CannotRun(str(error)) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise _CannotRun("memory does not suffice") from None
        if isinstance(error, RuntimeError):  # no such operation in this precision on this device
            raise _CannotRun(str(error).splitlines()[0]) from error
        raise


def _bytes_needed(subject: Subject, loaded: Translator | Sampler, size: Size | None) -> Callable[[int], float]:
    """About how much of the host's memory the network takes, by batch; nothing on other devices, which say no."""
    if loaded.device.type != "cpu":
        return lambda batch: 0.0
    if isinstance(loaded, Sampler):  # whose size is not known from its inputs: it is measured
        one, several = (
            _peak_memory(subject, loaded, _Case(_Setting(None, "fp32"), batch, "network")) or 0
            for batch in (1, MEASURED_BATCH)
        )
        each = max(0, several - one) / (MEASURED_BATCH - 1)
        return lambda batch: one + each * (batch - 1)
    assert size is not None
    height, width = loaded.codec.padded_size(*size)
    per_pixel = peak_bytes_per_pixel(loaded.generator) or ASSUMED_BYTES_PER_PIXEL * loaded.codec.scale**2
    return lambda batch: per_pixel * height * width * batch


def _check_memory(needed: float) -> None:
    """Raise `_CannotRun` where the host would kill a process that took so many bytes."""
    free = available_bytes()
    if needed > SHARE * free:
        raise _CannotRun(f"it takes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")


def _count_operations(loaded: Translator | Sampler, size: Size | None) -> Cost:
    with _told_why():
        inputs = _inputs(loaded, _Setting(size, "fp32"), 1)
        with FlopCounterMode(display=False) as counter:
            output = _run_network(loaded, inputs, "fp32")
    flop = counter.get_total_flops()
    height, width = size or (None, None)
    return Cost(height=height, width=width, output=tuple(output.shape[1:]), multiply_adds=flop // 2, flop=flop)


def _find_batch(loaded: Translator | Sampler, setting: _Setting, bytes_needed: Callable[[int], float]) -> _Found:
    """The batch with the most images a second."""
    best, most = 1, 0.0
    for batch in [2**n for n in range(LARGEST_BATCH.bit_length())]:
        try:
            _check_memory(bytes_needed(batch))
            rate = batch / _probe(loaded, setting, batch)
        except _CannotRun as error:
            if batch == 1:
                raise
            return _Found(best, f"{batch} cannot be run: {error}")
        if rate < GAIN * most:
            return _Found(best, _gains_little(batch))
        best, most = batch, rate
    return _Found(best, "larger ones were not tried")


def _gains_little(batch: int) -> str:
    return f"{batch} gains less than {GAIN - 1:.0%}"


def _best_batch(setting: _Setting, measurements: Sequence[Measurement], found: _Found | None) -> BestBatch | None:
    """Of the network alone, by the readings; None where there is nothing to compare."""
    height, width = setting.size or (None, None)
    rates = {
        entry.batch: entry.images_per_s
        for entry in measurements
        if entry.of == "network" and (entry.height, entry.width, entry.precision) == (height, width, setting.precision)
    }
    if found is not None and found.batch in rates:
        worth_it = rates[found.batch] >= GAIN * rates.get(1, 0.0)
        best, why = found if found.batch == 1 or worth_it else _Found(1, _gains_little(found.batch))
    elif len(rates) > 1:
        best = min(rates)
        for batch in sorted(rates):
            best = batch if rates[batch] >= GAIN * rates[best] else best
        why = f"of {', '.join(map(str, sorted(rates)))}"
    else:
        return None
    return BestBatch(
        height=height, width=width, precision=setting.precision, batch=best, images_per_s=rates[best], why=why
    )


def _probe(loaded: Translator | Sampler, setting: _Setting, batch: int) -> float:
    """Seconds of a pass, from few readings: of the fastest, for what else the machine does only adds to it."""
    with _told_why():
        step = _step(loaded, _Case(setting, batch, "network"))
        step()
        _wait_for(loaded.device)
        readings: list[float] = []
        while len(readings) < PROBES or sum(readings) < PROBING_S:
            begun = time.perf_counter()
            step()
            _wait_for(loaded.device)
            readings.append(time.perf_counter() - begun)
    return min(readings)


def _peak_memory(subject: Subject, loaded: Translator | Sampler, case: _Case) -> int | None:
    """Bytes that a pass takes at most, see `_MEMORY`."""
    match loaded.device.type:
        case "cpu":
            with (
                _told_why(),
                ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
            ):
                return pool.submit(_peak_of_this_process, subject, case, torch.get_num_threads()).result()
        case "mps":
            return None
        case _:
            gc.collect()
            torch.accelerator.empty_cache()
            torch.accelerator.reset_peak_memory_stats()
            with _told_why():
                _step(loaded, case)()
                _wait_for(loaded.device)
            return torch.accelerator.max_memory_allocated()


def _peak_of_this_process(subject: Subject, case: _Case, threads: int) -> int:
    """Bytes that a process has at most in which nothing was done before."""
    torch.set_num_threads(threads)
    before = psutil.Process().memory_info().rss
    loaded = replace(subject, device="cpu").load()
    _step(loaded, case)()
    return max(0, _most_resident() - before)


def _most_resident() -> int:
    """Bytes that this process had at most.

    Linux counts into ru_maxrss what the process that started this one had, so that its own count goes first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    import resource  # which Windows has not

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _matrix_product(precision: FixedPrecision, device: torch.device) -> Callable[[], object]:
    side = _product_side(device)
    a, b = (torch.randn(side, side, device=device).to(DTYPES.get(precision, torch.float32)) for _ in range(2))
    result = torch.empty_like(a)

    def multiply() -> None:
        # Convolutions may round to TF32 by default, products may not: both get the same leave.
        matmul = torch.backends.cuda.matmul
        before, matmul.allow_tf32 = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.mm(a, b, out=result)
        matmul.allow_tf32 = before

    return multiply


def _product_side(device: torch.device) -> int:
    return PRODUCT_SIDE.get(device.type, PRODUCT_SIDE_ON_ACCELERATORS)


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _measurement(
    case: _Case,
    latency: Latency,
    memory: int | None,
    costs: Mapping[Size | None, Cost],
    products: Mapping[str, float],
    *,
    in_pieces: bool,
) -> Measurement:
    size, precision = case.setting
    height, width = size or (None, None)
    images_per_s = case.batch / latency.p50_ms * 1e3
    rate = images_per_s * costs[size].flop if case.of == "network" else None
    return Measurement(
        height=height,
        width=width,
        precision=precision,
        batch=case.batch,
        of=case.of,
        latency=latency,
        images_per_s=images_per_s,
        peak_memory_bytes=memory,
        flop_per_s=rate,
        share_of_product=None if rate is None else rate / products[precision],
        in_pieces=in_pieces,
    )


def _machine(device: torch.device) -> dict[str, str]:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "accelerator": "none" if device.type == "cpu" else accelerator,
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
    }
