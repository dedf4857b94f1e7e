"""Read, compute and write at the same time, in bounded memory: the network is to be the only thing waited for."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from queue import Full, Queue
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

Item = TypeVar("Item")

# Images (N, C, H, W) of uint8 or uint16 to results of the same dtype on the same device, (N, C', H', W').
Network = Callable[[Tensor], Tensor]

STOP_CHECK_S = 0.1


@dataclass(kw_only=True)
class Load:
    """How busy the network was kept.

    Attributes:
        workers: threads that call the network.
        busy_s: seconds that these spent with it, together.
        wall_s: seconds from the first image's arrival at the network to the last result.
    """

    workers: int = 1
    busy_s: float = 0.0
    wall_s: float = 0.0

    @property
    def waiting(self) -> float:
        """The share of the time for which the network waited for something to do."""
        return max(0.0, 1 - self.busy_s / (self.workers * self.wall_s)) if self.wall_s else 0.0


@dataclass(frozen=True, kw_only=True)
class Task(Generic[Item]):
    """Something with images that the network is to see, possibly none.

    Attributes:
        item: whatever goes along.
        images: each (H, W, C), uint8 or uint16.
    """

    item: Item
    images: Sequence[np.ndarray]


class Workers:
    """Threads that call a network.

    On a CPU, each computes one image at a time, if memory allows on a single core. Threads that share an image wait
    for each other after every layer, and longest where decoder and encoder want a core as well; these never wait, and
    what they return does not depend on how many there are. On an accelerator there are two, whose transfers and
    computations overlap.

    Args:
        network: called by all of them at once.
        device: where it lies.
        count: how many, on a CPU.
        threads_each: cores of a CPU that each uses.
        batch_size: images of one size that an accelerator takes together.
    """

    def __init__(
        self, network: Network, *, device: torch.device, count: int, threads_each: int, batch_size: int
    ) -> None:
        self.device = device
        self.batch_size = 1 if device.type == "cpu" else batch_size
        self.load = Load(workers=count if device.type == "cpu" else 2)
        self._network = network
        self._threads_each = threads_each
        self._counting = threading.Lock()
        self._begun: float | None = None
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(self.load.workers, "network", initializer=self._prepare_thread)

    def __enter__(self) -> "Workers":
        self._threads_before = torch.get_num_threads()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads_before)

    def submit(self, images: Sequence[np.ndarray]) -> Future[list[np.ndarray]]:
        """Have the network see images (H, W, C) of one size and dtype; results are alike."""
        return self._pool.submit(self._compute, images)

    def _prepare_thread(self) -> None:
        if self.device.type == "cpu":
            torch.set_num_threads(self._threads_each)
        elif self.device.type == "cuda":
            self._own.stream = torch.cuda.Stream(self.device)
            self._own.stream.wait_stream(torch.cuda.default_stream(self.device))  # which has brought the weights

    def _compute(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        begun = time.perf_counter()
        with self._own_queue():
            batch = torch.stack([torch.from_numpy(np.ascontiguousarray(image)) for image in images])
            if self.device.type == "cuda":
                batch = batch.pin_memory()
            # Integers cross to the device; what the network sees is made of them there.
            results = self._network(batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2))
            arrays = list(results.permute(0, 2, 3, 1).contiguous().cpu().numpy())
        self._count(begun)
        return arrays

    def _own_queue(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._own.stream) if self.device.type == "cuda" else nullcontext()

    def _count(self, begun: float) -> None:
        ended = time.perf_counter()
        with self._counting:
            self._begun = begun if self._begun is None else min(begun, self._begun)
            self.load.busy_s += ended - begun
            self.load.wall_s = ended - self._begun


def run_in_order(tasks: Iterable[Task[Item]], workers: Workers) -> Iterator[tuple[Item, list[np.ndarray]]]:
    """Compute tasks side by side, and hand each item out with its results in the order in which it came.

    Tasks are drawn in a thread of their own, a few ahead.
    """
    under_way: deque[_Batch[Item]] = deque()
    # While the oldest is waited for, and what came of it written, the workers have something to do. Where frames
    # repeat, most tasks are none for them.
    most, most_of_all = 2 * workers.load.workers, 8 * workers.load.workers
    batch = _Batch[Item](workers.batch_size)
    with ReadAhead(tasks, count=most * workers.batch_size) as reading:
        for task in reading:
            batch.add(task)
            if batch.full:
                batch.submit(workers)
                under_way.append(batch)
                batch = _Batch(workers.batch_size)
                while sum(one.computes for one in under_way) > most or len(under_way) > most_of_all:
                    yield from under_way.popleft().results()
        batch.submit(workers)
        for last in (*under_way, batch):
            yield from last.results()


class _Batch(Generic[Item]):
    """Tasks whose images go to the network together."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tasks: list[Task[Item]] = []
        self._computed: list[tuple[Future[list[np.ndarray]], int]] = []  # where the result of each image will be

    def add(self, task: Task[Item]) -> None:
        self._tasks.append(task)

    @property
    def full(self) -> bool:
        # Tasks without images count too, lest a still picture keep its results back for long.
        return sum(max(1, len(task.images)) for task in self._tasks) >= self._size

    @property
    def computes(self) -> bool:
        """Whether the network has something to do with it."""
        return bool(self._computed)

    def submit(self, workers: Workers) -> None:
        images = [image for task in self._tasks for image in task.images]
        alike = defaultdict(list)
        for place, image in enumerate(images):
            alike[image.shape, image.dtype].append(place)
        found: dict[int, tuple[Future[list[np.ndarray]], int]] = {}
        for places in alike.values():
            for start in range(0, len(places), self._size):
                together = places[start : start + self._size]
                future = workers.submit([images[place] for place in together])
                found.update((place, (future, number)) for number, place in enumerate(together))
        self._computed = [found[place] for place in range(len(images))]

    def results(self) -> Iterator[tuple[Item, list[np.ndarray]]]:
        computed = iter(self._computed)
        for task in self._tasks:
            futures = [next(computed) for _ in task.images]
            yield task.item, [future.result()[number] for future, number in futures]


class ReadAhead(Generic[Item]):
    """Draws from an iterable in a thread of its own, up to `count` things ahead; a context manager to iterate over.

    What the iterable raises is raised where it would have come. On leaving, the thread ends and the iterable, where
    it is a generator, is closed.
    """

    def __init__(self, things: Iterable[Item], *, count: int) -> None:
        self._things = things
        self._queue: Queue[tuple[Item, ...] | BaseException] = Queue(count)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="read ahead", daemon=True)

    def __enter__(self) -> "ReadAhead[Item]":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        while True:
            match self._queue.get():
                case BaseException() as error:
                    raise error
                case ():
                    return
                case (thing,):
                    yield thing

    def _draw(self) -> None:
        things = iter(self._things)
        try:
            for thing in things:
                if not self._put((thing,)):
                    break
            self._put(())
        except BaseException as error:  # whatever it is, it belongs to whoever iterates
            self._put(error)
        finally:
            if isinstance(things, Generator):
                things.close()

    def _put(self, message: tuple[Item, ...] | BaseException) -> bool:
        """Whether it could be handed over before the other side left."""
        while not self._stopped.is_set():
            with suppress(Full):
                self._queue.put(message, timeout=STOP_CHECK_S)
                return True
        return False
