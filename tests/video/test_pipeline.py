"""Overlapping stages: order, bounded memory, errors, and how long the network waits."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from i2i.video.pipeline import ReadAhead, Task, Workers, run_in_order

CPU = torch.device("cpu")


def image(value: int, *, side: int = 4) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def hire(network=lambda images: images + 1, *, count: int = 3, batch_size: int = 1) -> Workers:
    return Workers(network, device=CPU, count=count, threads_each=1, batch_size=batch_size)


def test_results_come_in_the_order_of_the_tasks() -> None:
    def slow_at_first(images: Tensor) -> Tensor:
        time.sleep(0.05 if images.max() < 3 else 0)
        return images + 1

    tasks = (Task(item=number, images=[image(number)]) for number in range(20))
    with hire(slow_at_first) as workers:
        results = [(item, int(found[0].max())) for item, found in run_in_order(tasks, workers)]
    assert results == [(number, number + 1) for number in range(20)]


def test_tasks_have_any_number_of_images_of_any_size() -> None:
    tasks = [
        Task(item="none", images=[]),
        Task(item="two", images=[image(1), image(2, side=7)]),
        Task(item="deep", images=[image(5).astype(np.uint16) * 257]),
    ]
    with hire(lambda images: images) as workers:
        found = dict(run_in_order(tasks, workers))
    assert [part.shape for part in found["two"]] == [(4, 4, 3), (7, 7, 3)]
    assert found["none"] == []
    assert found["deep"][0].dtype == np.uint16
    assert found["deep"][0].max() == 1285


def test_batches_hold_images_of_one_size() -> None:
    seen: list[tuple[int, ...]] = []

    def network(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return images

    sides = [4, 4, 4, 6, 6, 4, 4]
    workers = hire(network, count=1)
    workers.batch_size = 3  # as on an accelerator
    with workers:
        results = list(run_in_order([Task(item=side, images=[image(side, side=side)]) for side in sides], workers))
    assert [item for item, _ in results] == sides
    assert all(found[0].shape == (side, side, 3) and found[0].max() == side for side, found in results)
    assert sorted(shape[0] for shape in seen) == [1, 1, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_only_a_few_tasks_are_under_way(batch_size: int) -> None:
    drawn = written = most = 0

    def tasks() -> Iterator[Task[int]]:
        nonlocal drawn, most
        for number in range(300):
            drawn += 1
            most = max(most, drawn - written)
            yield Task(item=number, images=[image(0)] if number % 3 else [])

    workers = hire(count=2)
    workers.batch_size = batch_size
    with workers:
        for _ in run_in_order(tasks(), workers):
            written += 1
    assert written == 300
    assert most <= 24 * batch_size + 8


def test_workers_are_kept_busy_where_most_tasks_are_none() -> None:
    """As with frames of which two of three repeat."""
    at_once = most = 0
    counting = threading.Lock()

    def network(images: Tensor) -> Tensor:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with counting:
            at_once -= 1
        return images

    tasks = [Task(item=number, images=[image(0)] if number % 3 == 0 else []) for number in range(120)]
    with hire(network, count=4) as workers:
        list(run_in_order(tasks, workers))
    assert most == 4
    assert workers.load.waiting < 0.4


def test_an_error_of_the_reader_comes_after_what_was_read() -> None:
    def tasks() -> Iterator[Task[int]]:
        yield Task(item=0, images=[image(0)])
        raise OSError("no more")

    with hire() as workers, pytest.raises(OSError, match="no more"):
        list(run_in_order(tasks(), workers))


def test_an_error_of_the_network_ends_the_reader() -> None:
    closed = threading.Event()

    def tasks() -> Iterator[Task[int]]:
        try:
            for number in range(10_000):
                yield Task(item=number, images=[image(0)])
        finally:
            closed.set()

    def network(images: Tensor) -> Tensor:
        raise ValueError("weights are damaged")

    with hire(network) as workers, pytest.raises(ValueError, match="damaged"):
        list(run_in_order(tasks(), workers))
    assert closed.wait(5)


def test_reading_ahead_ends_when_nobody_listens() -> None:
    drawn = 0

    def things() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    with ReadAhead(things(), count=3) as ahead:
        first = next(iter(ahead))
    assert first == 1
    before = drawn
    time.sleep(0.05)
    assert drawn == before <= 6


def test_waiting_is_the_time_without_work() -> None:
    def tasks() -> Iterator[Task[int]]:
        for number in range(10):
            time.sleep(0.03)
            yield Task(item=number, images=[image(0)])

    def network(images: Tensor) -> Tensor:
        time.sleep(0.01)
        return images

    with hire(network, count=1) as workers:
        list(run_in_order(tasks(), workers))
    assert 0.4 < workers.load.waiting < 0.8  # about two of three parts

    with hire(network, count=1) as busy:
        list(run_in_order([Task(item=0, images=[image(0)])] * 20, busy))
    assert busy.load.waiting < 0.3


def test_each_worker_has_threads_of_its_own_and_the_caller_keeps_his() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def network(images: Tensor) -> Tensor:
        seen.append(torch.get_num_threads())
        return images

    with hire(network, count=2) as workers:
        list(run_in_order([Task(item=0, images=[image(0)])] * 6, workers))
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
