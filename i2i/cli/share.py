"""One process's share of the work, where a launcher started several (torchrun, accelerate launch, srun …)."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from i2i.errors import InputError

Item = TypeVar("Item")

_THROUGH = "i2i/processes-that-are-through"


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which process this is.

    Args:
        rank: its number among all, from 0.
        world_size: how many there are.
        local_rank: its number on its machine, from 0.
    """

    rank: int
    world_size: int
    local_rank: int

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `world_size`-th item: together the processes have all of them, and none twice."""
        return items[self.rank :: self.world_size]

    def device(self, device: str) -> str:
        """The device of this process, where `device` ("auto", "cuda") leaves open which one of its kind."""
        import torch

        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if self.world_size == 1 or accelerator is None or device not in ("auto", accelerator.type):
            return device
        return f"{accelerator.type}:{self.local_rank % torch.accelerator.device_count()}"

    @contextmanager
    def beside_others(self, work: str) -> Iterator[Callable[[], None]]:
        """Give a function that waits until all other processes have left this block.

        torchrun, which `accelerate launch` uses too, stops every process as soon as one exits with an error, so one
        with bad news waits before it leaves. Under other launchers, which let the others go on, nothing waits.

        Args:
            work: what is done in the block, by which it is told apart from others.
        """
        if self.world_size == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
            yield lambda: None
            return
        from torch.distributed import TCPStore

        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        key = f"{_THROUGH}/{work}"
        through = False

        def wait() -> None:
            nonlocal through
            through = True
            store.add(key, 1)
            while store.add(key, 0) < self.world_size:
                time.sleep(0.2)

        try:
            yield wait
        finally:
            if not through:
                store.add(key, 1)


def find_share(environment: Mapping[str, str] = os.environ) -> Share:
    """Read RANK, WORLD_SIZE and LOCAL_RANK, as launchers set them; without them there is one process.

    Raises:
        InputError: a value that is no number, or out of range.
    """
    world_size = _number(environment, "WORLD_SIZE", default=1)
    if world_size < 1:
        raise InputError(f"WORLD_SIZE is {world_size}: expected the number of processes, at least 1")
    if world_size > 1 and "RANK" not in environment:
        raise InputError(f"WORLD_SIZE is {world_size} but RANK is not set; set both, or neither for a single process")
    rank = _number(environment, "RANK", default=0)
    local_rank = _number(environment, "LOCAL_RANK", default=rank)
    if not 0 <= rank < world_size or local_rank < 0:
        raise InputError(
            f"RANK is {rank} and LOCAL_RANK {local_rank} with WORLD_SIZE {world_size}: expected numbers from 0 to "
            f"{world_size - 1}"
        )
    return Share(rank=rank, world_size=world_size, local_rank=local_rank)


def _number(environment: Mapping[str, str], name: str, *, default: int) -> int:
    text = environment.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{name} is {text!r}: expected a whole number, as launchers set it") from error
