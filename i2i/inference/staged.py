"""Run a network over an image of any size in bounded memory, with the result of one pass over the whole image.

The image goes through in bands: a few rows at a time, at their full width. One thing is in the way: a norm with
statistics of the whole map cannot touch the first band before it has seen the last one. So the network is divided
into *stages*. A stage walks over the image once, from top to bottom, and takes each band through many steps, up to
the maps that such norms normalise. These are *kept* for later stages, in memory or in a file, together with the mean
and variance of their channels; so is what else a later stage reads.

Within a stage nothing is computed twice. For each band it is worked out backwards up to which row every map is needed
(`Reach` says which rows a row is made of), then forwards the rows that are new are computed. A *window* holds those
rows of a map that are still needed, such as the last two before a 3×3 kernel. Steps pad above and below only where
the image ends, as they do with the whole image.

Maps are kept as (H, W, C): a band is one piece of memory, in the order that convolutions on a CPU are fastest with
("channels last").
"""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from i2i.errors import InputError
from i2i.inference.graph import Reach, Step, map_shapes, trace
from i2i.layers.resample import ResizeConv2d

# Larger bands are no faster: they leave a CPU's caches, and other devices are busy with as much.
_BAND_BYTES_ON_CPU = 64 * 2**20
_BAND_BYTES_ELSEWHERE = 2**30
_BYTES_PER_VALUE = 4

_Shapes = dict[Step, torch.Size]


@dataclass(frozen=True, kw_only=True)
class StagedWork:
    """What a run took.

    Attributes:
        stages: how often it walked over the image.
        bands: of all stages.
        memory_bytes: the most that kept maps took in memory at one time.
        scratch_bytes: the most that they took on disk.
    """

    seconds: float
    stages: int
    bands: int
    memory_bytes: int
    scratch_bytes: int


@torch.no_grad()
def run_staged(
    network: nn.Module,
    *,
    height: int,
    width: int,
    read_rows: Callable[[int, int], Tensor],
    write_rows: Callable[[int, Tensor], None],
    device: torch.device,
    budget_bytes: int,
    scratch_folder: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> StagedWork:
    """Run `network` over one image, band by band.

    Args:
        network: on `device`, in float32 and evaluation mode, with `in_channels`.
        height, width: of the image in pixels, as the network takes them.
        read_rows: given start and stop, returns these rows of the image: float32 (1, C, stop - start, width) on
            `device`. Rows may be asked for again.
        write_rows: takes rows (1, C', n, W') of the result and the number of the first one; in order.
        budget_bytes: what bands and kept maps may take in memory; maps that do not fit go to files.
        scratch_folder: where these files lie, nameless; the system's folder for temporary files unless given.
        progress: told the share that is done, from 0 to 1.

    Raises:
        InputError: the network cannot be taken apart, trains, or is not in float32; the budget does not suffice for
            the smallest bands; the disk has too little room.
    """
    started = time.perf_counter()
    steps = trace(network)
    _check_mode(network, steps)
    shapes = map_shapes(network, steps, height=height, width=width)
    plan = _make_plan(steps, shapes, budget_bytes=budget_bytes, device=device)
    folder = Path(tempfile.gettempdir()) if scratch_folder is None else scratch_folder
    _check_room(folder, plan.scratch_bytes)

    kept: dict[Step, _MemoryMap | _FileMap] = {}
    statistics: dict[Step, _Statistics] = {}

    def read(step: Step, start: int, stop: int) -> Tensor:
        rows = kept[step].read(start, stop).to(device) if step.inputs else read_rows(start, stop)
        return rows.contiguous(memory_format=torch.channels_last)

    def hand_out(step: Step, start: int, rows: Tensor) -> None:
        if step in statistics:
            statistics[step].add(rows)
        if step in kept:
            kept[step].write(start, rows)
        if step is steps[-1]:
            write_rows(start, rows)

    done, total = 0.0, sum(stage.cost(shapes) for stage in plan.stages)
    try:
        for stage, bands in zip(plan.stages, plan.bands, strict=True):
            for step in stage.keeps:
                kept[step] = _FileMap(shapes[step], folder) if step in plan.in_files else _MemoryMap(shapes[step])
            statistics.update({step: _Statistics() for step in stage.measures})
            for _ in _walk(stage, bands, shapes, read, hand_out, statistics):
                done += stage.cost(shapes) / bands
                if progress is not None:
                    progress(min(1.0, done / total))
            for step in stage.last_reads:
                kept.pop(step).close()
    finally:
        for whole in kept.values():
            whole.close()
    return StagedWork(
        seconds=time.perf_counter() - started,
        stages=len(plan.stages),
        bands=sum(plan.bands),
        memory_bytes=plan.memory_bytes,
        scratch_bytes=plan.scratch_bytes,
    )


def _check_mode(network: nn.Module, steps: list[Step]) -> None:
    parameter = next(network.parameters())
    if parameter.dtype != torch.float32:
        raise InputError(f"expected a network in float32 for an exact result, got {parameter.dtype}")
    for step in steps:
        module = step.operation
        if isinstance(module, (_DropoutNd, _BatchNorm, _InstanceNorm)) and module.training:
            raise InputError(
                f"{step.name} ({type(module).__name__}) is in training mode, which has no exact result in bands; "
                "expected evaluation mode and no dropout"
            )
        if step.reach is None and not isinstance(module, (_BatchNorm, _InstanceNorm)):
            raise InputError(
                f"{step.name} ({type(module).__name__}) looks at the whole image; only instance norm and batch norm "
                "can do so with an exact result in bands"
            )


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One walk over the image.

    Attributes:
        reads: the image or kept maps.
        steps: what it computes, each step after those it depends on.
        users: for each of both, the steps of this stage that read it.
        results: those of both that it hands out: to be kept, measured, or written as the network's result.
        keeps, measures: which of these are kept; whose mean and variance a norm needs.
        last_reads: kept maps that no later stage reads.
    """

    reads: list[Step]
    steps: list[Step]
    users: dict[Step, list[Step]]
    results: list[Step]
    keeps: list[Step]
    measures: list[Step]
    last_reads: list[Step] = field(default_factory=list)

    def cost(self, shapes: _Shapes) -> float:
        """How long it takes, compared with other stages: multiplications, and one for each value it makes."""
        cost = float(sum(shapes[step].numel() for step in self.reads + self.steps))
        for step in self.steps:
            if isinstance(step.operation, (nn.Conv2d, nn.ConvTranspose2d)):
                pixels = min(shapes[step][2:].numel(), shapes[step.inputs[0]][2:].numel())
                cost += pixels * step.operation.weight.numel()
        return cost


def _divide(steps: list[Step], *, most_steps: int) -> list[_Stage]:
    """Divide a network into as few stages as its norms allow, of at most `most_steps` steps.

    Each step is computed as late as possible, so that what is cheap to compute from the image itself, as SPADE's
    label maps are, is not kept from the beginning on.
    """
    image, result = steps[0], steps[-1]
    users: dict[Step, list[Step]] = {step: [] for step in steps}
    for step in steps:
        for source in step.inputs:
            users[source].append(step)

    number = {result: 0}
    sizes = Counter([0])
    for step in reversed(steps[:-1]):
        number[step] = min(number[user] - (user.reach is None) for user in users[step])
        while sizes[number[step]] >= most_steps:
            number[step] -= 1
        sizes[number[step]] += 1

    measured = [step for step in steps if any(user.reach is None for user in users[step])]
    stages = []
    for n in sorted({number[step] for step in steps[1:] + measured}):
        members = [step for step in steps[1:] if number[step] == n]
        reads = [step for step in steps if step not in members and not set(users[step]).isdisjoint(members)]
        measures = [step for step in measured if number[step] == n]
        if image in measures and image not in reads:
            reads.append(image)
        keeps = [step for step in members if any(number[user] != n for user in users[step])]
        stages.append(
            _Stage(
                reads=reads,
                steps=members,
                users={step: [user for user in users[step] if user in members] for step in reads + members},
                results=list(dict.fromkeys(keeps + measures + [step for step in members if step is result])),
                keeps=keeps,
                measures=measures,
            )
        )
    for place, stage in enumerate(stages):
        read_later = {step for later in stages[place + 1 :] for step in later.reads}
        stage.last_reads.extend(step for step in stage.reads if step is not image and step not in read_later)
    return stages


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The stages, into how many bands each divides the image, and which maps are kept in files."""

    stages: list[_Stage]
    bands: list[int]
    in_files: set[Step]
    memory_bytes: int
    scratch_bytes: int


def _make_plan(steps: list[Step], shapes: _Shapes, *, budget_bytes: int, device: torch.device) -> _Plan:
    largest = _BAND_BYTES_ON_CPU if device.type == "cpu" else _BAND_BYTES_ELSEWHERE
    room = min(budget_bytes // 2, largest)
    most_steps = len(steps)
    while True:
        stages = _divide(steps, most_steps=most_steps)
        bands = [_choose_bands(stage, shapes, room) for stage in stages]
        if all(bands):
            break
        # Fewer steps at a time have fewer windows, at the price of more maps that are kept.
        most_steps //= 2
        if most_steps == 0:
            raise InputError(
                f"an image {shapes[steps[0]][3]} px wide does not go through the network in bands within "
                f"{budget_bytes / 1e6:.0f} MB of memory: allow more, or cut the image into parts"
            )

    in_memory: dict[Step, int] = {}
    in_files: dict[Step, int] = {}
    all_files: set[Step] = set()
    memory_bytes = scratch_bytes = 0
    for stage in stages:
        for step in stage.keeps:
            size = _BYTES_PER_VALUE * shapes[step].numel()
            fits = sum(in_memory.values()) + size <= budget_bytes - room
            (in_memory if fits else in_files)[step] = size
        all_files.update(in_files)
        memory_bytes = max(memory_bytes, sum(in_memory.values()))
        scratch_bytes = max(scratch_bytes, sum(in_files.values()))
        for step in stage.last_reads:
            in_memory.pop(step, None)
            in_files.pop(step, None)
    return _Plan(stages=stages, bands=bands, in_files=all_files, memory_bytes=memory_bytes, scratch_bytes=scratch_bytes)


def _choose_bands(stage: _Stage, shapes: _Shapes, room_bytes: int) -> int:
    """The smallest power of two of bands that take no more than `room_bytes` each; 0 if single rows take more."""
    tallest = max(shapes[step][2] for step in stage.results)
    bands = 1
    while bands <= tallest:
        if _band_bytes(stage, bands, shapes) <= room_bytes:
            return bands
        bands *= 2
    return 0


def _band_bytes(stage: _Stage, bands: int, shapes: _Shapes) -> int:
    """The most memory that a band takes at one time, found by counting rows."""
    row_bytes = {step: _BYTES_PER_VALUE * shapes[step].numel() // shapes[step][2] for step in stage.users}
    held = dict.fromkeys(stage.users, range(0))
    alive = peak = 0
    for moves in _schedule(stage, bands, shapes):
        for move in moves:
            rows = held[move.step]
            held[move.step] = range(rows.start, move.stop)
            alive += (move.stop - move.start) * row_bytes[move.step]
            # Padding copies the inputs; appending to a window copies both parts.
            padding = sum(len(held[source]) * row_bytes[source] for source in move.step.inputs if source in held)
            appending = len(held[move.step]) * row_bytes[move.step] if rows else 0
            peak = max(peak, alive + max(padding, appending))
            for step, oldest in move.oldest.items():
                alive -= (oldest - held[step].start) * row_bytes[step]
                held[step] = range(oldest, held[step].stop)
    return peak


class _Move(NamedTuple):
    """Rows [start, stop) of a step's map are due. Afterwards windows can forget all rows before `oldest`."""

    step: Step
    start: int
    stop: int
    oldest: dict[Step, int]


def _schedule(stage: _Stage, bands: int, shapes: _Shapes) -> Iterator[list[_Move]]:
    """What to compute in which order, for each band."""
    done = dict.fromkeys(stage.users, 0)

    def oldest_needed(step: Step) -> int:
        unfinished = [user for user in stage.users[step] if done[user] < shapes[user][2]]
        return min([done[step], *(_first_input(user, done[user]) for user in unfinished)])

    for band in range(1, bands + 1):
        stops = dict.fromkeys(stage.users, 0)
        for step in stage.results:
            stops[step] = shapes[step][2] * band // bands
        for step in reversed(stage.steps):
            if stops[step] > 0:
                _, last = _rows(step).inputs(stops[step] - 1)
                for source in step.inputs:
                    stops[source] = max(stops[source], min(last + 1, shapes[source][2]))

        moves = []
        for step, stop in stops.items():
            if stop > done[step]:
                start, done[step] = done[step], stop
                oldest = {other: oldest_needed(other) for other in (step, *step.inputs) if other in done}
                moves.append(_Move(step, start, stop, oldest))
        yield moves


def _rows(step: Step) -> Reach:
    # A norm whose statistics are known goes pixel by pixel.
    return Reach() if step.reach is None else step.reach[0]


def _first_input(step: Step, row: int) -> int:
    """The first row that a step must be given to make rows from `row` on, one at which its grid begins anew."""
    first = max(0, _rows(step).inputs(row)[0])
    return first - first % _rows(step).down


def _walk(
    stage: _Stage,
    bands: int,
    shapes: _Shapes,
    read: Callable[[Step, int, int], Tensor],
    hand_out: Callable[[Step, int, Tensor], None],
    statistics: dict[Step, "_Statistics"],
) -> Iterator[None]:
    """Compute a stage's results, and say so after each band."""
    windows = {step: _Window() for step in stage.users}
    for moves in _schedule(stage, bands, shapes):
        for step, start, stop, oldest in moves:
            if step in stage.reads:
                rows = read(step, start, stop)
            elif step.reach is None:
                (source,) = step.inputs
                rows = statistics[source].normalise(windows[source].take(start, stop), step.operation)
            else:
                rows = _compute(step, start, stop, stage, windows, shapes)
            if step in stage.results:
                hand_out(step, start, rows)
            windows[step].append(rows)
            for other, row in oldest.items():
                windows[other].forget(row)
        yield


def _compute(
    step: Step, start: int, stop: int, stage: _Stage, windows: dict[Step, "_Window"], shapes: _Shapes
) -> Tensor:
    """Rows [start, stop) of a step's map, from the windows of its inputs."""
    reach = _rows(step)
    height = shapes[step.inputs[0]][2]
    above, end = reach.inputs(start)[0], reach.inputs(stop - 1)[1] + 1
    begin = _first_input(step, start)
    inputs = [windows[source].take(begin, min(end, height)) for source in step.inputs]
    if isinstance(step.operation, nn.Conv2d) and not isinstance(step.operation, ResizeConv2d):
        rows = inputs[0][:, :, max(0, above) - begin :]
        return _convolve(step.operation, rows, above=max(0, -above), below=max(0, end - height))
    source = step.inputs[0]
    if step.inplace and not (stage.users[source] == [step] and source in stage.steps and source not in stage.results):
        inputs[0] = inputs[0].clone()
    # At a cut the step pads as it does at the image's border. The rows that this spoils are not among those wanted.
    skipped = start - begin * reach.up // reach.down
    return step.operation(*inputs)[:, :, skipped : skipped + stop - start]


def _convolve(conv: nn.Conv2d, rows: Tensor, *, above: int, below: int) -> Tensor:
    """A convolution that pads by its own amount to the left and right, and as told above and below."""
    sides = int(conv.padding[1])
    if conv.padding_mode == "zeros" and not above and not below:
        return F.conv2d(rows, conv.weight, conv.bias, conv.stride, (0, sides), conv.dilation, conv.groups)
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    rows = F.pad(rows, (sides, sides, above, below), mode=mode)
    return F.conv2d(rows, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


class _Window:
    """The rows of a map that are still needed: (1, C, n, W), from row `start` of the map on."""

    def __init__(self) -> None:
        self._start = 0
        self._rows: Tensor | None = None

    def append(self, rows: Tensor) -> None:
        self._rows = rows if self._rows is None else torch.cat([self._rows, rows], dim=2)

    def take(self, start: int, stop: int) -> Tensor:
        assert self._rows is not None
        return self._rows[:, :, start - self._start : stop - self._start]

    def forget(self, before: int) -> None:
        """Rows before `before` are no longer needed."""
        if self._rows is None or before == self._start:
            return
        rest = self._rows[:, :, before - self._start :]
        # A copy, so that the memory of the others can be used again.
        self._rows = rest.clone() if rest.shape[2] else None
        self._start = before


class _Statistics:
    """Mean and variance of each channel of a map, of which rows are added one band after the other."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)  # sum of squared differences from the mean

    def add(self, rows: Tensor) -> None:
        """Chan, Golub & LeVeque 1983, eq. 2.1, after two passes over the band itself."""
        count = rows.shape[2] * rows.shape[3]
        mean = rows.mean((0, 2, 3), keepdim=True)
        squares = (rows - mean).square_().sum((0, 2, 3)).cpu().double()
        total = self._count + count
        difference = mean.flatten().cpu().double() - self._mean
        self._mean = self._mean + difference * (count / total)
        self._squares = self._squares + squares + difference.square() * (self._count * count / total)
        self._count = total

    def normalise(self, rows: Tensor, norm: Any) -> Tensor:
        """What `norm` makes of these rows, given the statistics of the whole map."""
        mean, variance = self._mean.to(rows), (self._squares / self._count).to(rows)
        return F.batch_norm(rows, mean, variance, norm.weight, norm.bias, eps=norm.eps)


class _MemoryMap:
    """A whole map that is kept in memory."""

    def __init__(self, shape: torch.Size) -> None:
        _, channels, height, width = shape
        self._values = torch.empty(height, width, channels)

    def write(self, start: int, rows: Tensor) -> None:
        self._values[start : start + rows.shape[2]] = rows[0].permute(1, 2, 0)

    def read(self, start: int, stop: int) -> Tensor:
        return self._values[start:stop].permute(2, 0, 1)[None]

    def close(self) -> None:
        pass


class _FileMap:
    """A whole map that is kept in a file without a name, which is gone once it is closed."""

    def __init__(self, shape: torch.Size, folder: Path) -> None:
        _, self._channels, _, self._width = shape
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed by close()

    def write(self, start: int, rows: Tensor) -> None:
        values = rows[0].permute(1, 2, 0).cpu().contiguous()
        try:
            self._seek(start)
            self._file.write(values.numpy().data)
        except OSError as error:
            raise InputError(
                f"cannot write to a scratch file in {self._folder}: {error}; name another folder"
            ) from error

    def read(self, start: int, stop: int) -> Tensor:
        values = torch.empty(stop - start, self._width, self._channels)
        self._seek(start)
        self._file.readinto(values.numpy().data)
        return values.permute(2, 0, 1)[None]

    def close(self) -> None:
        self._file.close()

    def _seek(self, row: int) -> None:
        self._file.seek(row * self._width * self._channels * _BYTES_PER_VALUE)


def _check_room(folder: Path, needed_bytes: int) -> None:
    if needed_bytes == 0:
        return
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"scratch folder {folder} cannot be used: {error}") from error
    if free_bytes < needed_bytes:
        raise InputError(
            f"an exact result takes {needed_bytes / 1e9:.1f} GB of scratch files in {folder}, where "
            f"{free_bytes / 1e9:.1f} GB are free: make room, name another folder, or go without exactness"
        )
