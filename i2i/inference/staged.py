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

import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
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
from i2i.layers.checks import check_images
from i2i.layers.resample import ResizeConv2d

# What a band of one map takes at most. More is no faster: it leaves a CPU's caches, and other devices are busy enough.
_MAP_BAND_BYTES_ON_CPU = 8 * 2**20
_MAP_BAND_BYTES_ELSEWHERE = 256 * 2**20
# Unless bands would be so low that windows hold more old rows than new ones.
_FEWEST_ROWS = 16
_BYTES_PER_VALUE = 4


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
    steps: list[Step] | None = None,
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
        steps: of the network, from `i2i.inference.graph.trace`, where it was taken apart before.

    Raises:
        InputError: the network cannot be taken apart, trains, or is not in float32; it does not take images of this
            size; the budget does not suffice for the smallest bands; the disk has too little room.
    """
    started = time.perf_counter()
    steps = trace(network) if steps is None else steps
    _check(network, steps, height=height, width=width)
    shapes = map_shapes(steps, height=height, width=width)
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

    done, total = 0.0, sum(stage.cost for stage in plan.stages)
    try:
        for stage, bands in zip(plan.stages, plan.bands, strict=True):
            for step in stage.keeps:
                kept[step] = _FileMap(shapes[step], folder) if step in plan.in_files else _MemoryMap(shapes[step])
            statistics.update({step: _Statistics() for step in stage.measures})
            for _ in _walk(stage, bands, read, hand_out, statistics):
                done += stage.cost / bands
                if progress is not None:
                    progress(min(1.0, done / total))
            for step in plan.last_reads[stage]:
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


def count_stages(
    network: nn.Module, *, height: int, width: int, device: torch.device, budget_bytes: int, steps: list[Step]
) -> int:
    """How often `run_staged` would walk over such an image; the arguments are its own."""
    _check(network, steps, height=height, width=width)
    shapes = map_shapes(steps, height=height, width=width)
    return len(_make_plan(steps, shapes, budget_bytes=budget_bytes, device=device).stages)


def _check(network: nn.Module, steps: list[Step], *, height: int, width: int) -> None:
    check_images(
        torch.empty(1, steps[0].channels, height, width, device="meta"),
        channels=steps[0].channels,
        multiple=getattr(network, "size_multiple", 1),
        minimum=getattr(network, "smallest_px", 1),
    )
    dtype = next(network.parameters()).dtype
    if dtype != torch.float32:
        raise InputError(f"expected a network in float32 for an exact result, got {dtype}")
    for step in steps:
        module = step.operation
        if isinstance(module, (_DropoutNd, _BatchNorm, _InstanceNorm)) and module.training:
            raise InputError(
                f"{step.name} ({type(module).__name__}) is in training mode, which has no exact result in bands; "
                "expected evaluation mode and no dropout"
            )
        if step.reach is None and not isinstance(module, (_BatchNorm, _InstanceNorm)):
            raise InputError(
                f"{step.name} ({type(module).__name__}) looks at the whole image, and there is no way to do so in "
                "bands; only instance norm and batch norm have one"
            )


class _Move(NamedTuple):
    """Rows [start, stop) of a step's map are due. Afterwards windows can forget all rows before `oldest`."""

    step: Step
    start: int
    stop: int
    oldest: dict[Step, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stage:
    """One walk over the image: which rows of which map come when.

    Attributes:
        shapes: (1, C, H, W) of every map.
        reads: the image or kept maps.
        steps: what it computes, each after those it depends on.
        users: for each of both, the steps of this stage that read its map.
        keeps, measures: whose map is kept for later stages; of whose map a later norm needs mean and variance.
        results: these and the network's result.
    """

    shapes: dict[Step, torch.Size]
    reads: list[Step]
    steps: list[Step]
    users: dict[Step, list[Step]]
    keeps: list[Step]
    measures: list[Step]
    results: list[Step]

    @cached_property
    def cost(self) -> float:
        """How long it takes, compared with other stages: multiplications, and one for each value it makes."""
        cost = float(sum(self.shapes[step].numel() for step in self.users))
        for step in self.steps:
            if isinstance(step.operation, (nn.Conv2d, nn.ConvTranspose2d)):
                pixels = min(self.shapes[step][2:].numel(), self.shapes[step.inputs[0]][2:].numel())
                cost += pixels * step.operation.weight.numel()
        return cost

    def moves(self, band: int, bands: int, done: dict[Step, int]) -> Iterator[_Move]:
        """What to do for a band, in order; bands count from 1.

        Args:
            done: how many rows of each map are known, from the top; brought up to date.
        """
        for step, stop in self.rows_due(band, bands).items():
            if stop > done[step]:
                start, done[step] = done[step], stop
                touched = [other for other in (step, *step.inputs) if other in done]
                yield _Move(step, start, stop, {other: self.oldest_needed(other, done) for other in touched})

    def rows_due(self, band: int, bands: int) -> dict[Step, int]:
        """How many rows of each map must be known once a band is done."""
        due = dict.fromkeys(self.users, 0)
        for step in self.results:
            due[step] = self.shapes[step][2] * band // bands
        for step in reversed(self.steps):
            if due[step] > 0:
                _, last = _rows(step).inputs(due[step] - 1)
                for source in step.inputs:
                    due[source] = max(due[source], min(last + 1, self.shapes[source][2]))
        return due

    def oldest_needed(self, step: Step, done: dict[Step, int]) -> int:
        """The first row of a step's map that is still needed, or else the first that is not known yet."""
        unfinished = [user for user in self.users[step] if done[user] < self.shapes[user][2]]
        return min([done[step], *(_first_input(user, done[user]) for user in unfinished)])

    def choose_bands(self, *, map_band_bytes: int, room_bytes: int) -> int:
        """Into how many bands to divide the image; 0 if even the smallest take more than `room_bytes`."""
        _, channels, height, width = max((self.shapes[step] for step in self.users), key=torch.Size.numel)
        rows = max(_FEWEST_ROWS, map_band_bytes // (_BYTES_PER_VALUE * channels * width))
        tallest = max(self.shapes[step][2] for step in self.results)
        bands = min(tallest, math.ceil(height / rows))
        while self.band_bytes(bands) > room_bytes:
            if bands == tallest:
                return 0
            bands = min(tallest, 2 * bands)
        return bands

    def band_bytes(self, bands: int) -> int:
        """The most memory that it takes at one time, from the number of rows that its windows hold.

        Looked at from the middle of the image on, until every map, even the lowest, has moved.
        """
        row_bytes = {step: _BYTES_PER_VALUE * self.shapes[step].numel() // self.shapes[step][2] for step in self.users}
        first = bands // 2
        last = min(bands, first + math.ceil(bands / min(self.shapes[step][2] for step in self.users)) + 1)
        done = self.rows_due(first, bands)
        held = {step: range(self.oldest_needed(step, done), done[step]) for step in self.users}
        alive = peak = sum(len(rows) * row_bytes[step] for step, rows in held.items())
        for band in range(first + 1, last + 1):
            for move in self.moves(band, bands, done):
                before = held[move.step]
                held[move.step] = range(before.start, move.stop)
                alive += (move.stop - move.start) * row_bytes[move.step]
                # Padding copies the inputs; appending to a window copies both parts, measuring and writing the new one.
                padding = sum(len(held[source]) * row_bytes[source] for source in move.step.inputs if source in held)
                appending = len(held[move.step]) * row_bytes[move.step] if before else 0
                handing_out = (move.stop - move.start) * row_bytes[move.step] if move.step in self.results else 0
                peak = max(peak, alive + max(padding, appending, handing_out))
                for step, oldest in move.oldest.items():
                    alive -= (oldest - held[step].start) * row_bytes[step]
                    held[step] = range(oldest, held[step].stop)
        return peak


def _rows(step: Step) -> Reach:
    # A norm whose statistics are known goes pixel by pixel.
    return Reach() if step.reach is None else step.reach[0]


def _first_input(step: Step, row: int) -> int:
    """The first row that a step must be given to make rows from `row` on, one at which its grid begins anew."""
    first = max(0, _rows(step).inputs(row)[0])
    return first - first % _rows(step).down


def _divide(steps: list[Step], shapes: dict[Step, torch.Size], *, most_steps: int) -> list[_Stage]:
    """Divide a network into as few stages as its norms allow, of at most `most_steps` steps.

    Each step is computed as late as possible, so that what is cheap to compute from the image itself, as SPADE's
    label maps are, is not kept from the beginning on.
    """
    image, result = steps[0], steps[-1]
    users: dict[Step, list[Step]] = {step: [] for step in steps}
    for step in steps:
        for source in step.inputs:
            users[source].append(step)

    number = {result: 0}  # of the stage, counted backwards from the last one
    sizes = Counter([0])
    for step in reversed(steps[:-1]):
        number[step] = max(number[user] + (user.reach is None) for user in users[step])
        while sizes[number[step]] >= most_steps:
            number[step] += 1
        sizes[number[step]] += 1

    measured = [step for step in steps if any(user.reach is None for user in users[step])]
    stages = []
    for n in sorted({number[step] for step in steps[1:] + measured}, reverse=True):
        members = {step: None for step in steps[1:] if number[step] == n}
        measures = [step for step in measured if number[step] == n]
        reads = [step for step in steps if step not in members and any(user in members for user in users[step])]
        if image in measures and image not in reads:
            reads.append(image)
        keeps = [step for step in members if any(user not in members for user in users[step])]
        stages.append(
            _Stage(
                shapes=shapes,
                reads=reads,
                steps=list(members),
                users={step: [user for user in users[step] if user in members] for step in (*reads, *members)},
                keeps=keeps,
                measures=measures,
                results=list(dict.fromkeys([*keeps, *measures, *(step for step in members if step is result)])),
            )
        )
    return stages


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How to go about it.

    Attributes:
        bands: into how many each stage divides the image.
        last_reads: for each stage, the kept maps that no later one reads.
        in_files: the maps that are kept in files.
        memory_bytes, scratch_bytes: the most that kept maps take at one time, in memory and in files.
    """

    stages: list[_Stage]
    bands: list[int]
    last_reads: dict[_Stage, list[Step]]
    in_files: set[Step]
    memory_bytes: int
    scratch_bytes: int


def _make_plan(steps: list[Step], shapes: dict[Step, torch.Size], *, budget_bytes: int, device: torch.device) -> _Plan:
    stages, bands = _divide_to_fit(steps, shapes, room_bytes=budget_bytes // 2, device=device)
    room_bytes = budget_bytes - max(stage.band_bytes(count) for stage, count in zip(stages, bands, strict=True))
    last_reader = {step: stage for stage in stages for step in stage.reads if step.inputs}
    last_reads = {stage: [step for step in last_reader if last_reader[step] is stage] for stage in stages}

    in_files: set[Step] = set()
    held: set[Step] = set()
    memory_bytes = scratch_bytes = 0
    for stage in stages:
        for step in stage.keeps:
            if _map_bytes(held - in_files, shapes) + _map_bytes({step}, shapes) > room_bytes:
                in_files.add(step)
            held.add(step)
        memory_bytes = max(memory_bytes, _map_bytes(held - in_files, shapes))
        scratch_bytes = max(scratch_bytes, _map_bytes(held & in_files, shapes))
        held.difference_update(last_reads[stage])
    return _Plan(
        stages=stages,
        bands=bands,
        last_reads=last_reads,
        in_files=in_files,
        memory_bytes=memory_bytes,
        scratch_bytes=scratch_bytes,
    )


def _map_bytes(steps: set[Step], shapes: dict[Step, torch.Size]) -> int:
    return sum(_BYTES_PER_VALUE * shapes[step].numel() for step in steps)


def _divide_to_fit(
    steps: list[Step], shapes: dict[Step, torch.Size], *, room_bytes: int, device: torch.device
) -> tuple[list[_Stage], list[int]]:
    """Stages, and into how many bands each divides the image."""
    map_band_bytes = _MAP_BAND_BYTES_ON_CPU if device.type == "cpu" else _MAP_BAND_BYTES_ELSEWHERE
    most_steps = len(steps)
    while most_steps > 0:
        stages = _divide(steps, shapes, most_steps=most_steps)
        bands = [stage.choose_bands(map_band_bytes=map_band_bytes, room_bytes=room_bytes) for stage in stages]
        if all(bands):
            return stages, bands
        # Fewer steps at a time have fewer windows, at the price of more maps that are kept.
        most_steps //= 2
    raise InputError(
        f"an image {shapes[steps[0]][3]} px wide does not go through the network in bands within "
        f"{room_bytes / 1e6:.0f} MB of memory: free some, or cut the image into parts"
    )


def _walk(
    stage: _Stage,
    bands: int,
    read: Callable[[Step, int, int], Tensor],
    hand_out: Callable[[Step, int, Tensor], None],
    statistics: dict[Step, "_Statistics"],
) -> Iterator[None]:
    """Compute a stage's results; returns after each band."""
    windows = {step: _Window() for step in stage.users}
    done = dict.fromkeys(stage.users, 0)
    for band in range(1, bands + 1):
        for step, start, stop, oldest in stage.moves(band, bands, done):
            if step in stage.reads:
                rows = read(step, start, stop)
            elif step.reach is None:
                (source,) = step.inputs
                rows = statistics[source].normalise(windows[source].take(start, stop), step.operation)
            else:
                rows = _compute(step, start, stop, stage.shapes[step.inputs[0]][2], windows)
            if step in stage.results:
                hand_out(step, start, rows)
            windows[step].append(rows)
            del rows  # where the window made a copy, nobody else needs this one
            for other, row in oldest.items():
                windows[other].forget(row)
        yield


def _compute(step: Step, start: int, stop: int, height: int, windows: dict[Step, "_Window"]) -> Tensor:
    """Rows [start, stop) of a step's map, from the windows of its inputs, maps of `height` rows."""
    reach = _rows(step)
    first, end = reach.inputs(start)[0], reach.inputs(stop - 1)[1] + 1
    begin = _first_input(step, start)
    inputs = [windows[source].take(begin, min(end, height)) for source in step.inputs]
    if isinstance(step.operation, nn.Conv2d) and not isinstance(step.operation, ResizeConv2d):
        rows = inputs[0][:, :, max(0, first) - begin :]
        return _convolve(step.operation, rows, above=max(0, -first), below=max(0, end - height))
    if step.inplace:
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
        """Give the memory back."""
        del self._values


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
