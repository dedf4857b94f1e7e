"""Decide how images go through a network, whole, in tiles or layer by layer, and take them there."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.inference.codec import Codec
from i2i.inference.graph import has_global_statistics, peak_bytes_per_pixel, receptive_radius
from i2i.inference.memory import available_bytes, working_budget
from i2i.inference.precision import NotEnoughMemory, NotFinite, SafeRunner
from i2i.inference.staged import run_staged
from i2i.inference.tiling import Tiling, Window, blend_tiles

Progress = Callable[[float], None]

# Sixteen images of 256 px: enough to keep a device busy, little enough for a laptop.
PIXELS_PER_BATCH = 2**20
LARGEST_TILE_PX = 1024  # larger ones are no faster
SMALLEST_TILE_PX = 64
# What a tile sees beyond the pixels that it is used for. Where the network sees farther, what lies there weighs
# little, and neighbours fade into each other; statistics over each tile alone need a longer way to do so.
CONTEXT_PX = 24
RAMP_PX = 16
RAMP_WITH_STATISTICS_PX = 64
# From here on, an exact result is cheaper layer by layer than through tiles that overlap.
DEAR_EXTRA_WORK = 1.5
# For networks that cannot be taken apart: ten maps of 64 channels at the larger of both sizes.
ASSUMED_BYTES_PER_PIXEL = 2560


class NamedImage(NamedTuple):
    """An image (C, H, W), and what to call it in messages."""

    name: str
    image: Tensor


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one call wants its images translated; see `Translator`."""

    batch_size: int | None = None
    tile_px: int | None = None
    exact: bool | None = None
    progress: Progress | None = None


@dataclass(kw_only=True)
class Work:
    """What one call of a `Translator` took.

    Attributes:
        seconds: for all of it but reading files.
        images: how many.
        tiles: how many went through the network; 0 where images went whole.
        tile_px: side of the tiles.
        context_px: what each tile saw beyond what it was used for.
        extra_work: pixels that went through the network for each pixel of the image.
        stages: how many maps were computed one after the other, for an exact result layer by layer.
        scratch_bytes: room that these took on disk.
        redone_bf16, redone_fp32: images or tiles that came out as NaN or infinity and were computed again so.
    """

    seconds: float = 0.0
    images: int = 0
    tiles: int = 0
    tile_px: int = 0
    context_px: int = 0
    extra_work: float = 1.0
    stages: int = 0
    scratch_bytes: int = 0
    redone_bf16: int = 0
    redone_fp32: int = 0

    def __str__(self) -> str:
        parts = [f"{self.images} image{'s' * (self.images != 1)} in {self.seconds:.1f} s"]
        if self.tiles:
            parts.append(
                f"{self.tiles} tiles of {self.tile_px} px, each with {self.context_px} px of context, "
                f"{self.extra_work:.2f} times the image's pixels"
            )
        if self.stages:
            scratch = f"{self.scratch_bytes / 1e9:.2f} GB on disk" if self.scratch_bytes else "in memory"
            parts.append(f"layer by layer in {self.stages} stages, {scratch}")
        redone = [(self.redone_bf16, "bf16"), (self.redone_fp32, "fp32")]
        parts += [f"{count} computed again in {name}, for NaN or infinity" for count, name in redone if count]
        return "; ".join(parts)


class Engine:
    """Takes images through a network in bounded memory.

    Args:
        network: in inference mode.
        codec: what goes in and comes out.
        run: calls the network.
    """

    def __init__(self, *, network: nn.Module, codec: Codec, run: SafeRunner) -> None:
        self._network = network
        self._codec = codec
        self._run = run

    def translate(self, images: list[NamedImage], options: Options) -> tuple[list[Tensor], Work]:
        """Translate images of any sizes; the results are on the images' devices, in the codec's dtype.

        Raises:
            InputError: values that are not finite come out, or memory does not suffice.
        """
        work = Work(images=len(images))
        started, redone = time.perf_counter(), dict(self._run.redone)
        report = _Report(options.progress, total=sum(image.shape[1] * image.shape[2] for _, image in images))
        results: list[Tensor | None] = [None] * len(images)
        groups = defaultdict(list)
        for place, (_, image) in enumerate(images):
            groups[self._codec.padded_size(*image.shape[1:])].append(place)

        for size, places in groups.items():
            whole = self._goes_whole(size, options)
            count = self._batch_size(size, options)
            for start in range(0, len(places), count):
                batch = places[start : start + count]
                members = [images[place] for place in batch]
                outputs = self._translate_whole(members, size) if whole else None
                if outputs is None:  # too large, or memory turned out to be too small
                    whole = False
                    outputs = [self._translate_divided(member, size, options, work, report) for member in members]
                else:
                    report.add(sum(image.shape[1] * image.shape[2] for _, image in members))
                for place, output in zip(batch, outputs, strict=True):
                    results[place] = output

        work.seconds = time.perf_counter() - started
        work.redone_bf16 = self._run.redone["bf16"] - redone["bf16"]
        work.redone_fp32 = self._run.redone["fp32"] - redone["fp32"]
        return [result for result in results if result is not None], work

    @cached_property
    def _bytes_per_pixel(self) -> float:
        return peak_bytes_per_pixel(self._network) or ASSUMED_BYTES_PER_PIXEL * self._codec.scale**2

    @cached_property
    def _radius(self) -> int | None:
        """None where the network sees the whole image, or cannot be taken apart to tell."""
        try:
            return receptive_radius(self._network)
        except InputError:
            return None

    @property
    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _goes_whole(self, size: tuple[int, int], options: Options) -> bool:
        if options.tile_px is not None:
            return max(size) <= options.tile_px
        return math.prod(size) * self._bytes_per_pixel <= working_budget(self._device)

    def _batch_size(self, size: tuple[int, int], options: Options) -> int:
        if options.batch_size is not None:
            return options.batch_size
        fitting = working_budget(self._device) / self._bytes_per_pixel
        return max(1, int(min(PIXELS_PER_BATCH, fitting)) // math.prod(size))

    def _translate_whole(self, members: list[NamedImage], size: tuple[int, int]) -> list[Tensor] | None:
        """Images of equal padded size in one batch; None where memory does not suffice for one."""
        height, width = size
        pieces = [self._encode(image, range(height), range(width)) for _, image in members]
        try:
            outputs = self._call(torch.stack(pieces), members)
        except NotEnoughMemory:
            return None
        return [self._finish(output, image) for output, (_, image) in zip(outputs, members, strict=True)]

    def _finish(self, output: Tensor, image: Tensor) -> Tensor:
        height, width = (length * self._codec.scale for length in image.shape[1:])
        return self._codec.decode(output[:, :height, :width], image.dtype, image.device)

    def _translate_divided(
        self, member: NamedImage, size: tuple[int, int], options: Options, work: Work, report: "_Report"
    ) -> Tensor:
        """An image that is too large for one pass."""
        statistics = has_global_statistics(self._network)
        exact = statistics if options.exact is None else options.exact
        result = self._room_for_result(member)
        tile_px = self._choose_tile(options.tile_px)
        before = report.done
        while True:
            tiling = self._choose_tiling(tile_px, size, exact=exact, statistics=statistics)
            try:
                if tiling is None:
                    self._translate_staged(member, size, result, work, report)
                else:
                    self._translate_tiled(member, size, tiling, result, work, report, options)
            except NotEnoughMemory:
                report.done = before
            else:
                return result
            tile_px //= 2
            tile_px -= tile_px % self._codec.size_multiple
            if tiling is None or tile_px < SMALLEST_TILE_PX:
                raise InputError(
                    f"{member.name}: memory on {self._device} does not suffice, not even for tiles of "
                    f"{2 * tile_px} px; close other programs, or use another device"
                )

    def _choose_tile(self, tile_px: int | None) -> int:
        """Side of a tile as told, or as memory allows, in pixels that the network takes."""
        multiple = self._codec.size_multiple
        if tile_px is None:
            fitting = math.isqrt(int(working_budget(self._device) / self._bytes_per_pixel))
            tile_px = max(SMALLEST_TILE_PX, min(fitting, LARGEST_TILE_PX))
        return max(tile_px - tile_px % multiple, multiple)

    def _choose_tiling(self, tile_px: int, size: tuple[int, int], *, exact: bool, statistics: bool) -> Tiling | None:
        """How to cut; None for layer by layer."""
        radius = self._radius
        multiple = self._codec.size_multiple
        if exact:
            if statistics or radius is None:
                return None
            tiling = Tiling(tile_px=tile_px, context_px=radius, ramp_px=0)
            fits = tile_px >= 2 * radius + 2 * multiple
            dear = not fits or tiling.extra_work(*size, multiple=multiple) > DEAR_EXTRA_WORK
            return None if dear else tiling
        if radius is not None and radius <= CONTEXT_PX:
            return Tiling(tile_px=tile_px, context_px=radius, ramp_px=0)
        # Small tiles cannot spare as much.
        ramp = RAMP_WITH_STATISTICS_PX if radius is None else RAMP_PX
        ramp = min(ramp, tile_px // 8 * 2)
        return Tiling(tile_px=tile_px, context_px=min(CONTEXT_PX, tile_px // 8), ramp_px=ramp)

    def _translate_tiled(
        self,
        member: NamedImage,
        size: tuple[int, int],
        tiling: Tiling,
        result: Tensor,
        work: Work,
        report: "_Report",
        options: Options,
    ) -> None:
        image, codec = member.image, self._codec
        rows = tiling.spans(size[0], multiple=codec.size_multiple)
        columns = tiling.spans(size[1], multiple=codec.size_multiple)

        def run(windows: list[Window]) -> Tensor:
            pieces = [
                self._encode(image, range(w.rows.start, w.rows.stop), range(w.columns.start, w.columns.stop))
                for w in windows
            ]
            return self._call(torch.stack(pieces), [member] * len(windows))

        blend_tiles(
            run,
            lambda start, band: self._write(result, start, band, image.dtype),
            rows=rows,
            columns=columns,
            scale=codec.scale,
            batch_size=self._batch_size((tiling.tile_px, tiling.tile_px), options),
            progress=report.part(image),
        )
        work.tiles += len(rows) * len(columns)
        work.tile_px = tiling.tile_px
        work.context_px = tiling.context_px
        work.extra_work = tiling.extra_work(*size, multiple=codec.size_multiple)

    def _translate_staged(
        self, member: NamedImage, size: tuple[int, int], result: Tensor, work: Work, report: "_Report"
    ) -> None:
        image = member.image

        def write(start: int, rows: Tensor) -> None:
            if not rows.isfinite().all():
                raise self._not_finite(member)
            self._write(result, start, rows[0], image.dtype)

        staged = run_staged(
            self._network,
            height=size[0],
            width=size[1],
            read_rows=lambda start, stop: self._encode(image, range(start, stop), range(size[1]))[None],
            write_rows=write,
            device=self._device,
            budget_bytes=working_budget(torch.device("cpu")),
            progress=report.part(image),
        )
        work.stages = staged.stages
        work.scratch_bytes = max(work.scratch_bytes, staged.scratch_bytes)

    def _encode(self, image: Tensor, rows: range, columns: range) -> Tensor:
        parameter = next(self._network.parameters())
        return self._codec.encode(image, rows, columns, parameter.device).to(parameter.dtype)

    def _call(self, inputs: Tensor, members: list[NamedImage]) -> Tensor:
        eight_bits = self._codec.result_dtype(members[0].image.dtype) == torch.uint8
        try:
            return self._run(inputs, eight_bits=eight_bits)
        except NotFinite as error:
            raise self._not_finite(members[error.args[0]]) from None

    def _not_finite(self, member: NamedImage) -> InputError:
        return InputError(
            f"{member.name}: the network returns NaN or infinite values, in fp32 too; its weights are damaged, or the "
            "image's values lie far from those it was trained on"
        )

    def _write(self, result: Tensor, start: int, band: Tensor, dtype: torch.dtype) -> None:
        """Decode rows (C, n, …) of the padded image's translation into their place in the result."""
        rows = band[:, : max(0, result.shape[1] - start), : result.shape[2]]
        result[:, start : start + rows.shape[1]] = self._codec.decode(rows, dtype, result.device)

    def _room_for_result(self, member: NamedImage) -> Tensor:
        image, codec = member.image, self._codec
        height, width = (length * codec.scale for length in image.shape[1:])
        dtype = codec.result_dtype(image.dtype)
        needed = codec.output.channels * height * width * dtype.itemsize
        if image.device.type == "cpu" and needed > available_bytes():
            raise InputError(
                f"{member.name}: the translation has {width} x {height} px and takes {needed / 1e9:.1f} GB; only "
                f"{available_bytes() / 1e9:.1f} GB of memory are free. Cut the image into parts"
            )
        # Channels last, so that the array that is made of it needs no copy.
        return torch.empty(height, width, codec.output.channels, dtype=dtype, device=image.device).permute(2, 0, 1)


class _Report:
    """Adds up the pixels that are done, over all images of a call."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress = progress
        self._total = total
        self.done = 0.0

    def add(self, pixels: float) -> None:
        self.done += pixels
        if self._progress is not None:
            self._progress(self.done / self._total)

    def part(self, image: Tensor) -> Progress:
        """Takes the share of one image that is done."""
        before, pixels = self.done, image.shape[1] * image.shape[2]

        def update(share: float) -> None:
            self.done = before
            self.add(share * pixels)

        return update
