"""One pass over a set of images: each is read once and described, and what metrics need of all of them is kept.

Threads read and describe images side by side, each by one core, so that nothing depends on how many there are. Several
processes share the images; torchmetrics brings together what they found.
"""

import hashlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed.nn.functional
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from i2i.data.image_io import read_header
from i2i.download import cache_folder
from i2i.errors import InputError
from i2i.evaluation.image_sets import ImageSet
from i2i.files import replacing

AT_ONCE = 16
"""Small images that are described together where they are of one size; always the same ones, whoever describes them."""
VALUES_AT_ONCE = 1 << 22
"""Numbers that images described together have at most: 16 MB. A larger image is described by itself."""
VALUES_IN_MEMORY = 1 << 26
"""Numbers that all threads' images have at most at one time: of photos of 12 megapixels one is in memory, with what is
computed of it, and the next one waits."""
KEPT = 10_000
"""Rows of descriptors that are kept unless more are asked for, of images evenly spread over the set."""
LARGEST_CACHE_BYTES = 8_000_000_000
"""That what is remembered on disk may take; what was not used for longest makes room."""

Item = TypeVar("Item")
Found = TypeVar("Found")

# Says (what is being done, images done, images in all).
Progress = Callable[[str, int, int], None]


class Describer(Protocol):
    """What is to be known of images. Called from several threads, so it must not change.

    Attributes:
        key: identifies what it computes, weights included.
        rows: the descriptors that it gives, by name, and their dtypes.
        moments: those of them whose mean and covariance over all images are wanted, and their lengths.
    """

    key: str
    rows: Mapping[str, torch.dtype]
    moments: Mapping[str, int]

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        """Describe images.

        Args:
            images: (N, C, H, W) float32 in [-1, 1], on the device.
            indices: their places in the set, of which randomness may depend and on nothing else.

        Returns:
            By name (N, D), of the dtypes above. A name that these images have nothing for is left out.
        """


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean (D,) and unbiased covariance (D, D) of descriptors of all `count` images, float64."""

    count: int
    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True, kw_only=True)
class Described:
    """What is known of a set of images.

    Attributes:
        count: images in the set.
        rows: by name (n, D), in the order of the images.
        indices: by name (n,), which images the rows are of.
        moments: by name, of all images.
    """

    count: int
    rows: Mapping[str, Tensor]
    indices: Mapping[str, Tensor]
    moments: Mapping[str, Moments]


class Describing:
    """Describes sets of images, each once.

    Args:
        device: where describers compute.
        threads: that read and describe; None: one for each core.
        progress: is told how far a pass is.
    """

    def __init__(
        self,
        *,
        device: torch.device | str = "cpu",
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.threads = threads or cores()
        self.progress = progress
        self._known: dict[tuple[ImageSet, str, int], Described] = {}

    def of(
        self,
        images: ImageSet,
        describer: Describer,
        *,
        what: str,
        cached: bool = False,
        kept: int | None = KEPT,
    ) -> Described:
        """What a describer says of images.

        Args:
            images: the set; it is described once, however often it is asked for.
            describer: says what.
            what: the set's name, for the progress.
            cached: keep it in `i2i.download.cache_folder()` for other evaluations, as suits real images.
            kept: rows that are kept at most, of images evenly spread over the set; None: of all. Moments are those of
                all images anyway.

        Raises:
            InputError: an image cannot be read, or the describer cannot take it.
        """
        kept = min(kept or len(images), len(images))
        key = (images, describer.key, kept)
        if key not in self._known:
            file = _cache_file(images, describer, kept=kept) if cached else None
            found = None if file is None else _read(file)
            # Each process sees its own disk; either all of them take what is there, or all describe the images.
            if not _in_all_processes(found is not None) or found is None:
                found = self._describe(images, describer, what=what, kept=kept)
                if file is not None and _rank() == 0:
                    _write(file, found)
            self._known[key] = found
        return self._known[key]

    @torch.no_grad()
    def _describe(self, images: ImageSet, describer: Describer, *, what: str, kept: int) -> Described:
        chosen = {number * len(images) // kept for number in range(kept)}
        wanted = list(range(len(images))) if describer.moments else sorted(chosen)
        groups = [wanted[start : start + AT_ONCE] for start in range(0, len(wanted), AT_ONCE)]
        mine = groups[_rank() :: _world_size()]
        store = _store(describer, most=sum(index in chosen for group in mine for index in group), what=what)
        one_at_a_time = Lock() if self.device.type != "cpu" else nullcontext()
        memory = _Memory(VALUES_IN_MEMORY)

        def describe(group: list[int]) -> list[tuple[Sequence[int], Mapping[str, Tensor]]]:
            found: list[tuple[Sequence[int], Mapping[str, Tensor]]] = []
            for some, values in _handfuls(images, group):
                with memory.of(values):
                    for indices, batch in _by_size(images, some):
                        with one_at_a_time:
                            descriptors = describer(batch.to(self.device), indices)
                            found.append((indices, {name: value.cpu() for name, value in descriptors.items()}))
                        del batch  # before the next one is read
            return found

        done = 0
        found_in_order = in_threads(describe, mine, threads=self.threads, waiting=2 * self.threads)
        for group, found in zip(mine, found_in_order, strict=True):
            for indices, descriptors in found:
                store.update(indices, descriptors, chosen)
            done += len(group) * _world_size()
            if self.progress is not None:
                self.progress(what, min(done, len(wanted)), len(wanted))
        rows, indices, moments = store.collected()
        return Described(count=len(images), rows=rows, indices=indices, moments=moments)


def in_threads(work: Callable[[Item], Found], items: Iterable[Item], *, threads: int, waiting: int) -> Iterator[Found]:
    """What is found of each item, in order. Each thread computes on one core, so that nothing depends on their number.

    Args:
        work: is called from the threads.
        items: are taken as they are needed, so that memory stays bounded.
        threads: how many there are.
        waiting: how many items are under way or done at one time, besides the one that is waited for.
    """
    before = torch.get_num_threads()
    # This thread, too, which joins what they find: several for it would wait for cores that these have.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, "describe", initializer=torch.set_num_threads, initargs=(1,))
    try:
        under_way: deque[Future[Found]] = deque()
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) > waiting:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


class _Memory:
    """Lets threads hold images of so many numbers in all, or one of them an image of more."""

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._changed = Condition()

    @contextmanager
    def of(self, values: int) -> Iterator[None]:
        values = min(values, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= values)
            self._free -= values
        try:
            yield
        finally:
            with self._changed:
                self._free += values
                self._changed.notify_all()


def _handfuls(images: ImageSet, group: list[int]) -> Iterator[tuple[list[int], int]]:
    """The indices in parts, none of more than VALUES_AT_ONCE numbers unless it is one image; and their numbers."""
    some: list[int] = []
    values = 0
    for index in group:
        header = read_header(images.files[index])
        its = header.width * header.height * max(3, header.channels)
        if some and values + its > VALUES_AT_ONCE:
            yield some, values
            some, values = [], 0
        some, values = [*some, index], values + its
    yield some, values


def _by_size(images: ImageSet, indices: list[int]) -> Iterator[tuple[list[int], Tensor]]:
    """The images, those of one size together."""
    if len(indices) == 1:
        yield indices, images.read(indices[0])[None]  # without a copy, for it may be large
        return
    by_size: dict[torch.Size, list[tuple[int, Tensor]]] = {}
    for index in indices:
        image = images.read(index)
        by_size.setdefault(image.shape, []).append((index, image))
    for alike in by_size.values():
        indices, batch = [index for index, _ in alike], torch.stack([image for _, image in alike])
        alike.clear()  # or they would be in memory twice
        yield indices, batch


class _Rows:
    """Descriptors of one name, in one piece of memory: many small pieces among the images' large ones would keep that
    memory from being used again."""

    def __init__(self, *, most: int, dtype: torch.dtype, what: str) -> None:
        self.what = what
        self.count = 0
        self._rows = torch.empty(0, 0, dtype=dtype)
        self._indices = torch.empty(most, dtype=torch.int64)

    def add(self, indices: Tensor, values: Tensor) -> None:
        values = values.flatten(1)
        if not self.count:
            self._rows = torch.empty(len(self._indices), values.shape[1], dtype=self._rows.dtype)
        if values.shape[1] != self._rows.shape[1]:
            raise InputError(
                f"the {self.what} differ in their numbers of channels, or in what describes them; expected images of "
                "one kind in a set"
            )
        end = self.count + len(indices)
        self._rows[self.count : end] = values
        self._indices[self.count : end] = indices
        self.count = end

    @property
    def rows(self) -> Tensor:
        return self._rows[: self.count]

    @property
    def indices(self) -> Tensor:
        return self._indices[: self.count]


def _store(describer: Describer, *, most: int, what: str) -> Any:
    """Collects descriptors of at most so many images: a `torchmetrics.Metric`, which joins what processes found."""
    from torchmetrics import Metric

    class Store(Metric):
        full_state_update = False

        def __init__(self) -> None:
            super().__init__()
            self.found = {name: _Rows(most=most, dtype=dtype, what=what) for name, dtype in describer.rows.items()}
            for name in describer.rows:
                self.add_state(f"rows_{name}", default=[], dist_reduce_fx=None)
                self.add_state(f"indices_{name}", default=[], dist_reduce_fx=None)
            self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            for name, length in describer.moments.items():
                self.add_state(f"sum_{name}", default=torch.zeros(length, dtype=torch.float64), dist_reduce_fx="sum")
                squares = torch.zeros(length, length, dtype=torch.float64)
                self.add_state(f"squares_{name}", default=squares, dist_reduce_fx="sum")

        def update(self, indices: Sequence[int], descriptors: Mapping[str, Tensor], chosen: set[int]) -> None:
            self.count += len(indices)
            places = torch.tensor(indices)
            kept = torch.tensor([index in chosen for index in indices])
            for name, values in descriptors.items():
                if kept.any():
                    self.found[name].add(places[kept], values[kept])
                if name in describer.moments:
                    wide = values.double()
                    getattr(self, f"sum_{name}").add_(wide.sum(0))
                    getattr(self, f"squares_{name}").addmm_(wide.T, wide)

        def compute(self) -> Tensor:
            return self.count

        def collected(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Moments]]:
            """Rows, indices and moments of what all processes have found."""
            for name, found in self.found.items():
                # One tensor for each list, so that all processes have as many to exchange.
                setattr(self, f"rows_{name}", [found.rows])
                setattr(self, f"indices_{name}", [found.indices])
            rows, indices = {}, {}
            with self.sync_context():
                for name in describer.rows:
                    places = [part for part in getattr(self, f"indices_{name}") if len(part)]
                    parts = [part for part in getattr(self, f"rows_{name}") if len(part)]
                    if parts:
                        indices[name], rows[name] = _in_order(places, parts)
                moments = {name: self._moments(name, rows.get(name)) for name in describer.moments}
            return rows, indices, moments

        def _moments(self, name: str, rows: Tensor | None) -> Moments:
            count = int(self.count)
            if rows is not None and len(rows) == count and rows.dtype == torch.float32:
                return _moments_of(rows)
            mean = getattr(self, f"sum_{name}") / count
            outer = getattr(self, f"squares_{name}") - count * torch.outer(mean, mean)
            return Moments(count=count, mean=mean, covariance=outer / max(count - 1, 1))

    return Store()


def _moments_of(rows: Tensor) -> Moments:
    """Of rows in the order of the images: the same to the last bit, however many processes have found them."""
    mean = rows.mean(0, dtype=torch.float64)
    outer = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for some in rows.split(1024):
        distances = some.double() - mean
        outer.addmm_(distances.T, distances)
    return Moments(count=len(rows), mean=mean, covariance=outer / max(len(rows) - 1, 1))


def _in_order(places: list[Tensor], parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Indices and rows of several processes, sorted by index."""
    indices, order = torch.cat(places).sort()
    if len(parts) == 1 and bool((order == torch.arange(len(order))).all()):
        return indices, parts[0]  # without a copy
    return indices, torch.cat(parts)[order]


def _cache_file(images: ImageSet, describer: Describer, *, kept: int) -> Path:
    code = Path(__file__).read_text(encoding="utf-8")
    key = repr((images.fingerprint, describer.key, kept, AT_ONCE, VALUES_AT_ONCE, code))
    return cache_folder() / "statistics" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def _write(file: Path, described: Described) -> None:
    """Keep what was found; where that is impossible, the next evaluation describes the images again."""
    tensors = {"count": torch.tensor(described.count)}
    for name, rows in described.rows.items():
        tensors |= {f"rows/{name}": rows.contiguous(), f"indices/{name}": described.indices[name].contiguous()}
    for name, moments in described.moments.items():
        tensors |= {f"mean/{name}": moments.mean, f"covariance/{name}": moments.covariance}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            save_file(tensors, temporary)
        _make_room(file.parent)
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"What was found out about real images cannot be kept for the next time ({error}); I2I_CACHE names another "
            "folder for it.",
            stacklevel=2,
        )


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest, until the rest takes no more than LARGEST_CACHE_BYTES."""
    total = 0
    used = {file: file.stat() for file in folder.glob("*.safetensors")}
    for file, status in sorted(used.items(), key=lambda item: item[1].st_mtime, reverse=True):
        total += status.st_size
        if total > LARGEST_CACHE_BYTES:
            file.unlink(missing_ok=True)


def _read(file: Path) -> Described | None:
    """What `_write` wrote; None where there is nothing, or nothing whole."""
    try:
        tensors = load_file(file)
        count = int(tensors["count"])
    except (OSError, SafetensorError, KeyError):
        return None
    with suppress(OSError):
        file.touch()  # see `_make_room`

    def under(kind: str) -> dict[str, Tensor]:
        return {key.removeprefix(kind): value for key, value in tensors.items() if key.startswith(kind)}

    covariances = under("covariance/")
    return Described(
        count=count,
        rows=under("rows/"),
        indices=under("indices/"),
        moments={
            name: Moments(count=count, mean=mean, covariance=covariances[name]) for name, mean in under("mean/").items()
        },
    )


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _rank() -> int:
    return torch.distributed.get_rank() if _distributed() else 0


def _world_size() -> int:
    return torch.distributed.get_world_size() if _distributed() else 1


def _in_all_processes(condition: bool) -> bool:
    """Whether it holds in each of them; all of them have to ask."""
    if not _distributed():
        return condition
    answer = torch.tensor(int(condition))
    torch.distributed.all_reduce(answer, op=torch.distributed.ReduceOp.MIN)
    return bool(answer)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
