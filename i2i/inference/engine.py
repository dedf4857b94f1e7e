"""Decide how images go through a network: whole, in tiles, or in bands of rows; and take them there."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from i2i.errors import InputError
from i2i.inference.codec import Codec
from i2i.inference.graph import Step, has_global_statistics, peak_bytes_per_pixel, receptive_radius, trace
from i2i.inference.memory import available_bytes, is_out_of_memory, working_budget
from i2i.inference.precision import NotEnoughMemory, NotFinite, Precision, SafeRunner
from i2i.inference.staged import StagedWork, count_stages, run_staged
from i2i.inference.tiling import Span, Tiling, Window, blend_tiles
from i2i.layers.labels import LabelConv2d

Progress = Callable[[float], None]
Way = Literal["whole", "tiles", "bands"]

# What goes through the network together: sixteen images of 256 px keep an accelerator busy, while one of them is as
# much as a CPU's caches like.
PIXELS_PER_BATCH = 2**20
PIXELS_PER_BATCH_ON_CPU = 2**16
# From here on, on a CPU, bands of rows are faster than maps of the whole image: caches hold them, and no memory is
# asked of the system anew.
WHOLE_BYTES_ON_CPU = 2**28
# Pixels to compute for each one of the image, up to which the exact way is taken by itself.
CHEAP = 1.5
# Narrower strips, in receptive radii, would be mostly overlap; maps on disk are the better way then.
NARROWEST_STRIP = 3
LARGEST_TILE_PX = 1024  # larger ones are no faster
SMALLEST_TILE_PX = 64
# What a tile sees beyond the pixels that it is used for. Where the network sees farther, what lies there weighs
# little, and neighbours fade into each other; statistics over each tile alone need a longer way to do so.
CONTEXT_PX = 24
RAMP_PX = 16
RAMP_WITH_STATISTICS_PX = 64
# For networks that cannot be taken apart: ten maps of 64 channels at the larger of both sizes.
ASSUMED_BYTES_PER_PIXEL = 2560


class NamedImage(NamedTuple):
    """One image to translate.

    Attributes:
        name: for messages.
        image: (C, H, W).
        result_dtype: in which its translation is wanted: `Codec.result_dtype`, or float32 for further work.
        latents: the latent vector to paint it with, if any.
    """

    name: str
    image: Tensor
    result_dtype: torch.dtype
    latents: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one call wants its images translated; see `Translator`.

    Raises:
        InputError: no images in a batch, or tiles that no network has use for.
    """

    batch_size: int | None = None
    tile_px: int | None = None
    exact: bool | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, got {self.batch_size}")
        if self.tile_px is not None and self.tile_px < SMALLEST_TILE_PX:
            raise InputError(f"tile_px: expected at least {SMALLEST_TILE_PX}, got {self.tile_px}")


@dataclass(kw_only=True)
class Work:
    """What one call of a `Translator` took.

    Attributes:
        seconds: for all of it but reading files.
        images: how many.
        tiles: how many went through the network; 0 where images went whole.
        tile_px: side of the tiles.
        context_px: what each tile, or strip of bands, saw beyond what it was used for.
        extra_work: pixels that went through the network for each pixel of the image.
        stages: how often bands of rows went over the image; 0 where none did.
        scratch_bytes: room that maps between these took on disk.
        statistics_per_tile: whether norms took the statistics of each tile for those of the image.
        resized: images of another size than the only one that the network paints, which were resized there and back.
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
    statistics_per_tile: bool = False
    resized: int = 0
    redone_bf16: int = 0
    redone_fp32: int = 0

    def followed_by(self, later: "Work") -> "Work":
        """Both together, where the later one took the same images once more."""
        return replace(
            later,
            images=self.images,
            seconds=self.seconds + later.seconds,
            tiles=self.tiles + later.tiles,
            redone_bf16=self.redone_bf16 + later.redone_bf16,
            redone_fp32=self.redone_fp32 + later.redone_fp32,
        )

    def __str__(self) -> str:
        parts = [f"{self.images} image{'s' * (self.images != 1)} in {self.seconds:.1f} s"]
        if self.tiles:
            parts.append(
                f"{self.tiles} tiles of {self.tile_px} px, each with {self.context_px} px of context, "
                f"{self.extra_work:.2f} times the image's pixels"
            )
        if self.statistics_per_tile:
            parts.append("norms saw each tile alone, so that its colours may be off (exact bands avoid it)")
        if self.stages:
            scratch = f"on disk ({self.scratch_bytes / 1e9:.2f} GB)" if self.scratch_bytes else "in memory"
            passes = f"{self.stages} passes over the image with maps kept {scratch}" if self.stages > 1 else "one pass"
            overlap = f" with {self.context_px} px of overlap" if self.context_px else ""
            parts.append(f"exact, in bands of rows{overlap}, {self.extra_work:.2f} times the pixels, {passes}")
        if self.resized:
            parts.append(f"{self.resized} resized to the one size that the network paints, and back")
        redone = [(self.redone_bf16, "bf16"), (self.redone_fp32, "fp32")]
        parts += [f"{count} computed again in {name}, for NaN or infinity" for count, name in redone if count]
        return "; ".join(parts)


class _Job:
    """One call: what it took so far, and how many of its pixels are done."""

    def __init__(self, progress: Progress | None, images: list[NamedImage]) -> None:
        self.work = Work(images=len(images))
        self.done = 0.0
        self._progress = progress
        self._total = sum(map(_pixels, images))

    def add(self, pixels: float) -> None:
        self.done += pixels
        if self._progress is not None:
            self._progress(self.done / self._total)

    def part(self, pixels: float) -> Progress:
        """Takes the share of so many pixels that is done."""
        before = self.done

        def update(share: float) -> None:
            self.done = before
            self.add(share * pixels)

        return update


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

    def study(self) -> None:
        """Take the network apart now rather than when it is first needed.

        To be called before several threads translate at once: while torch.fx traces a network, no other thread can
        call one.
        """
        _ = self._bytes_per_pixel, self.radius

    def bytes_needed(self, height: int, width: int) -> int:
        """An upper bound of the memory that one image of this size takes on its way through the network."""
        size = self._codec.padded_size(height, width)
        return int(min(math.prod(size) * self._bytes_per_pixel, working_budget(self._device)))

    @property
    def precision(self) -> Precision:
        """Of the computation, as it was asked for."""
        return self._run.precision

    @property
    def redone(self) -> int:
        """How many images or tiles came out as NaN or infinity so far, and were computed again, more widely."""
        return sum(self._run.redone.values())

    def translate(self, images: list[NamedImage], options: Options) -> tuple[list[Tensor], Work]:
        """Translate images of any sizes; the results are on the images' devices.

        Raises:
            InputError: values that are not finite come out, or memory does not suffice.
        """
        started, redone = time.perf_counter(), dict(self._run.redone)
        job = _Job(options.progress, images)
        results: dict[int, Tensor] = {}
        groups = defaultdict(list)  # a label map may be ids or one-hot, which do not stack
        for place, member in enumerate(images):
            channels, height, width = member.image.shape
            groups[self._codec.padded_size(height, width), channels].append(place)

        for (size, _), places in groups.items():
            way = self._choose_way(size, options)
            count = self._batch_size(size, options) if way == "whole" else 1
            for start in range(0, len(places), count):
                batch = places[start : start + count]
                members = [images[place] for place in batch]
                results.update(zip(batch, self._translate_batch(members, size, way, options, job), strict=True))

        job.work.seconds = time.perf_counter() - started
        job.work.redone_bf16 = self._run.redone["bf16"] - redone["bf16"]
        job.work.redone_fp32 = self._run.redone["fp32"] - redone["fp32"]
        return [results[place] for place in range(len(images))], job.work

    def _translate_batch(
        self, members: list[NamedImage], size: tuple[int, int], way: Way, options: Options, job: _Job
    ) -> list[Tensor]:
        match way:
            case "whole":
                try:
                    outputs = self._translate_whole(members, size)
                except NotEnoughMemory:  # despite the estimate
                    if self._codec.only_size is not None:
                        raise self._too_little_memory(members[0], "and the network takes whole images only") from None
                    return self._translate_batch(members, size, self._choose_divided(size, options), options, job)
                job.add(sum(map(_pixels, members)))
                return outputs
            case "bands":
                return [self._translate_in_bands(member, size, job) for member in members]
            case "tiles":
                return [self._translate_in_tiles(member, size, options, job) for member in members]

    @cached_property
    def _bytes_per_pixel(self) -> float:
        return peak_bytes_per_pixel(self._network) or ASSUMED_BYTES_PER_PIXEL * self._codec.scale**2

    @cached_property
    def radius(self) -> int | None:
        """How far the network sees, in px; None where it sees the whole image, or cannot be taken apart to tell."""
        return None if self._steps is None else receptive_radius(self._network)

    @cached_property
    def _looks_labels_up(self) -> bool:
        """Whether the network takes label maps without their one-hot form, with the same result and less work."""
        return any(isinstance(module, LabelConv2d) for module in self._network.modules())

    @cached_property
    def _steps(self) -> list[Step] | None:
        """The network taken apart; None where that cannot be done."""
        try:
            return trace(self._network)
        except InputError:
            return None

    @property
    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _choose_way(self, size: tuple[int, int], options: Options) -> Way:
        """How an image of this padded size goes through the network."""
        if self._codec.only_size is not None:
            return "whole"
        if options.tile_px is not None:
            return "whole" if max(size) <= options.tile_px else self._choose_divided(size, options)
        needed, budget = math.prod(size) * self._bytes_per_pixel, working_budget(self._device)
        if needed <= min(budget, WHOLE_BYTES_ON_CPU):
            return "whole"
        divided = self._choose_divided(size, options)
        bands_are_faster = divided == "bands" and self._device.type == "cpu"
        return "whole" if needed <= budget and not bands_are_faster else divided

    def _choose_divided(self, size: tuple[int, int], options: Options) -> Literal["bands", "tiles"]:
        if options.exact is not None:
            return "bands" if options.exact else "tiles"
        if not self._can_go_in_bands():
            return "tiles"
        if has_global_statistics(self._network):
            return "bands"
        # On a CPU bands are faster than tiles, unless they need many strips.
        if options.tile_px is not None or self._device.type != "cpu" or not self._run.plain:
            return "tiles"
        strips = self._find_strips(size)
        cheap = strips is not None and strips.extra_work(*size, multiple=self._codec.size_multiple) <= CHEAP
        return "bands" if cheap else "tiles"

    def _find_strips(self, size: tuple[int, int]) -> Tiling | None:
        """Strips from top to bottom whose bands need no maps between passes; None where there are none.

        They overlap by what the network sees, so that the result stays exact.
        """
        height, width = size
        multiple = self._codec.size_multiple
        if self.radius is None:
            return None
        strip = width
        while strip == width or strip > NARROWEST_STRIP * self.radius:
            with suppress(InputError):  # not even with many passes
                if self._count_stages(height, strip) == 1:
                    return Tiling(tile_px=strip, context_px=self.radius if strip < width else 0, ramp_px=0)
            strip = strip // 2 + -(strip // 2) % multiple
        return None

    def _count_stages(self, height: int, width: int) -> int:
        assert self._steps is not None
        return count_stages(
            self._network,
            height=height,
            width=width,
            device=self._device,
            budget_bytes=self._budget_for_bands,
            steps=self._steps,
        )

    @property
    def _budget_for_bands(self) -> int:
        return working_budget(torch.device("cpu"))

    def _can_go_in_bands(self) -> bool:
        dropout = any(isinstance(m, _DropoutNd) and m.training for m in self._network.modules())
        return self._steps is not None and not dropout and next(self._network.parameters()).dtype == torch.float32

    def _batch_size(self, size: tuple[int, int], options: Options) -> int:
        if options.batch_size is not None:
            return options.batch_size
        fitting = working_budget(self._device) / self._bytes_per_pixel
        usual = PIXELS_PER_BATCH_ON_CPU if self._device.type == "cpu" else PIXELS_PER_BATCH
        return max(1, int(min(usual, fitting)) // math.prod(size))

    def _translate_whole(self, members: list[NamedImage], size: tuple[int, int]) -> list[Tensor]:
        """Images of equal padded size in one batch."""
        height, width = size
        pieces = [self._encode(member.image, range(height), range(width)) for member in members]
        outputs = self._call(torch.stack(pieces), members)
        return [self._finish(output, member) for output, member in zip(outputs, members, strict=True)]

    def _finish(self, output: Tensor, member: NamedImage) -> Tensor:
        height, width = (length * self._codec.scale for length in member.image.shape[1:])
        return self._codec.decode(output[:, :height, :width], member.result_dtype, member.image.device)

    def _translate_in_tiles(self, member: NamedImage, size: tuple[int, int], options: Options, job: _Job) -> Tensor:
        """Tiles that fade into each other; where they do not fit into memory, smaller ones."""
        result = self._room_for_result(member)
        tiling = self._choose_tiling(options.tile_px)
        before = job.done
        while True:
            try:
                self._blend(member, size, tiling, result, options, job)
            except NotEnoughMemory:
                job.done = before
            else:
                return result
            smaller = self._choose_tiling(tiling.tile_px // 2)
            if smaller.tile_px >= tiling.tile_px:
                raise self._too_little_memory(member, f"not even for tiles of {tiling.tile_px} px")
            tiling = smaller

    def _choose_tiling(self, tile_px: int | None) -> Tiling:
        """Tiles of the side that is told, or that memory allows, but no smaller than the network can use."""
        multiple = self._codec.size_multiple
        if tile_px is None:
            fitting = math.isqrt(int(working_budget(self._device) / self._bytes_per_pixel))
            tile_px = min(fitting, LARGEST_TILE_PX)
        tile_px = max(tile_px, SMALLEST_TILE_PX)
        if self.radius is not None and self.radius <= CONTEXT_PX:
            context, ramp = self.radius, 0
        else:  # small tiles cannot spare as much
            ramp = RAMP_WITH_STATISTICS_PX if has_global_statistics(self._network) else RAMP_PX
            context, ramp = min(CONTEXT_PX, tile_px // 8), min(ramp, tile_px // 8 * 2)
        smallest = Tiling.smallest_px(context_px=context, ramp_px=ramp, multiple=multiple)
        return Tiling(tile_px=max(tile_px - tile_px % multiple, smallest), context_px=context, ramp_px=ramp)

    def _blend(
        self,
        member: NamedImage,
        size: tuple[int, int],
        tiling: Tiling,
        result: Tensor,
        options: Options,
        job: _Job,
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
            lambda start, band: self._write(result, start, band, Span(0, size[1], 0, size[1])),
            rows=rows,
            columns=columns,
            scale=codec.scale,
            batch_size=self._batch_size((tiling.tile_px, tiling.tile_px), options),
            progress=job.part(_pixels(member)),
        )
        job.work.tiles += len(rows) * len(columns)
        job.work.tile_px = tiling.tile_px
        job.work.statistics_per_tile = has_global_statistics(self._network)
        job.work.context_px = tiling.context_px
        job.work.extra_work = tiling.extra_work(*size, multiple=codec.size_multiple)

    def _translate_in_bands(self, member: NamedImage, size: tuple[int, int], job: _Job) -> Tensor:
        """Exactly, a few rows at a time."""
        result = self._room_for_result(member)
        multiple = self._codec.size_multiple
        try:
            everything = Tiling(tile_px=size[1], context_px=0, ramp_px=0)
            strips = self._find_strips(size) or everything
            spans = strips.spans(size[1], multiple=multiple)
            for columns in spans:
                progress = job.part(_pixels(member) * (columns.last - columns.first) / size[1])
                staged = self._run_strip(member, size[0], columns, result, progress)
                job.work.stages = staged.stages
                job.work.scratch_bytes = max(job.work.scratch_bytes, staged.scratch_bytes)
        except NotFinite:
            raise self._not_finite(member) from None
        except InputError as error:
            raise InputError(f"{member.name}: {error}") from error
        except Exception as error:
            if is_out_of_memory(error):
                raise self._too_little_memory(member, "not even for bands of a few rows") from None
            raise
        job.work.context_px = strips.context_px
        job.work.extra_work = sum(span.stop - span.start for span in spans) / size[1]
        return result

    def _run_strip(
        self, member: NamedImage, height: int, columns: Span, result: Tensor, progress: Progress
    ) -> StagedWork:
        image = member.image

        def read(start: int, stop: int) -> Tensor:
            # Bands are of maps with the network's number of channels.
            return self._encode(image, range(start, stop), range(columns.start, columns.stop), label_ids=False)[None]

        def write(start: int, rows: Tensor) -> None:
            if not rows.isfinite().all():
                raise NotFinite(0)
            self._write(result, start, rows[0], columns)

        return run_staged(
            self._network,
            height=height,
            width=columns.stop - columns.start,
            read_rows=read,
            write_rows=write,
            device=self._device,
            budget_bytes=self._budget_for_bands,
            progress=progress,
            steps=self._steps,
        )

    def _encode(self, image: Tensor, rows: range, columns: range, *, label_ids: bool | None = None) -> Tensor:
        parameter = next(self._network.parameters())
        label_ids = self._looks_labels_up if label_ids is None else label_ids
        encoded = self._codec.encode(image, rows, columns, parameter.device, label_ids=label_ids)
        return encoded.to(parameter.dtype) if encoded.is_floating_point() else encoded

    def _call(self, inputs: Tensor, members: list[NamedImage]) -> Tensor:
        eight_bits = self._codec.result_dtype(members[0].image.dtype) == torch.uint8
        latents = [member.latents for member in members if member.latents is not None]
        parameter = next(self._network.parameters())
        styles = [torch.stack(latents).to(parameter.device, parameter.dtype)] if latents else []
        try:
            return self._run(inputs, *styles, eight_bits=eight_bits)
        except NotFinite as error:
            raise self._not_finite(members[error.args[0]]) from None

    def _not_finite(self, member: NamedImage) -> InputError:
        return InputError(
            f"{member.name}: the network returns NaN or infinite values, in fp32 too; its weights are damaged, or the "
            "image's values lie far from those it was trained on"
        )

    def _too_little_memory(self, member: NamedImage, what: str) -> InputError:
        return InputError(
            f"{member.name}: memory on {self._device} does not suffice, {what}; close other programs, or use another "
            "device"
        )

    def _write(self, result: Tensor, start: int, rows: Tensor, columns: Span) -> None:
        """Decode rows (C, n, …) of a part of the padded image's translation into their place in the result."""
        scale = self._codec.scale
        first, last = columns.first * scale, min(columns.last * scale, result.shape[2])
        left = columns.start * scale
        rows = rows[:, : max(0, result.shape[1] - start), first - left : last - left]
        decoded = self._codec.decode(rows, result.dtype, result.device)
        result[:, start : start + rows.shape[1], first:last] = decoded

    def _room_for_result(self, member: NamedImage) -> Tensor:
        image, dtype = member.image, member.result_dtype
        height, width = (length * self._codec.scale for length in image.shape[1:])
        channels = self._codec.output.channels
        if image.device.type == "cpu":
            check_room(member.name, height=height, width=width, bytes_per_pixel=channels * dtype.itemsize)
        # Channels last, so that the array that is made of it needs no copy.
        return torch.empty(height, width, channels, dtype=dtype, device=image.device).permute(2, 0, 1)


def check_room(name: str, *, height: int, width: int, bytes_per_pixel: int) -> None:
    """Raise InputError where a result of this size does not fit into the host's memory."""
    needed, free = height * width * bytes_per_pixel, available_bytes()
    if needed > free:
        raise InputError(
            f"{name}: the result has {width} x {height} px and takes {needed / 1e9:.1f} GB; only {free / 1e9:.1f} GB "
            "of memory are free. Cut the image into parts"
        )


def _pixels(member: NamedImage) -> int:
    return member.image.shape[1] * member.image.shape[2]
