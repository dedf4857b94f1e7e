"""The order of training: which image is drawn when, and with which random numbers it is augmented."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from i2i.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One item to load.

    Attributes:
        index: of the item in the data set.
        seed: of its augmentation.
        number: of this draw, counted from 0 over the whole run and all processes.
    """

    index: int
    seed: int
    number: int


class Shuffle:
    """An endless order of items: one permutation of them all after another.

    `shuffle[number]` is item `number % length` of the permutation made from (seed, stream, number // length). Only
    the last permutation asked for is kept.
    """

    def __init__(self, *, length: int, seed: int, stream: int) -> None:
        """
        Args:
            length: number of items, at least 1.
            seed: of the run, from 0 up.
            stream: tells apart what is drawn from one seed: 0 is the order of `DrawSampler`, 1 are its augmentations.
        """
        self.length = length
        self.seed = seed
        self.stream = stream
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def __getitem__(self, number: int) -> int:
        epoch, place = divmod(number, self.length)
        if epoch != self._epoch:
            self._permutation = np.random.default_rng([self.seed, self.stream, epoch]).permutation(self.length)
            self._epoch = epoch
        return int(self._permutation[place])


def derived_seed(*numbers: int) -> int:
    """A seed below 2**64 that follows from `numbers`, all from 0 up."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class DrawSampler(Sampler[list[Draw]]):
    """An endless batch sampler whose every draw follows from its number alone.

    Draws are numbered 0, 1, 2, … over the whole run and all processes. Draw d is item `d % length` of a
    permutation made from (seed, d // length), and its augmentation seed is made from (seed, d). Micro-batch
    b of process r takes `batch_size` draws from number `(b * world_size + r) * batch_size` on. So no item is
    drawn twice within an epoch, by whichever process, and a run resumes anywhere from `start_batch`.

    Hand it to `DataLoader(batch_sampler=…)`; a batch is a list of `Draw`.
    """

    def __init__(
        self,
        *,
        length: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_batch: int = 0,
    ) -> None:
        """
        Args:
            length: number of items in the data set, at least 1.
            batch_size: draws in one micro-batch of one process.
            seed: any integer from 0 up.
            rank: this process, from 0 to world_size - 1.
            world_size: number of processes.
            start_batch: the first micro-batch that this process has not yet trained on.

        Raises:
            InputError: a number lies outside of its range.
        """
        if min(length, batch_size, world_size) < 1 or min(seed, start_batch) < 0 or not 0 <= rank < world_size:
            raise InputError(
                "expected length, batch_size and world_size of at least 1, seed and start_batch of at least "
                f"0, and 0 <= rank < world_size; got {length=}, {batch_size=}, {world_size=}, {seed=}, "
                f"{start_batch=}, {rank=}"
            )
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start_batch = start_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        batch = self.start_batch
        order = Shuffle(length=self.length, seed=self.seed, stream=0)
        while True:
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield [
                Draw(index=order[number], seed=derived_seed(self.seed, 1, number), number=number)
                for number in range(first, first + self.batch_size)
            ]
            batch += 1


def worker_init(worker_id: int) -> None:
    """Set up a DataLoader worker; hand it over as `worker_init_fn`.

    OpenCV keeps to one thread: the workers share the cores already, and PyTorch keeps its own threads there to one.
    Ctrl-C reaches every process of a terminal; it is left to the training process, which needs its workers to end well.
    """
    import cv2

    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
