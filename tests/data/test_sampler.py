"""The promises of the draw counter: every epoch complete, no draw twice, resume anywhere."""

from itertools import islice

import cv2
import numpy as np
import pytest

from i2i.data.sampler import Draw, DrawSampler, Shuffle, worker_init
from i2i.errors import InputError


def batches(count: int, **settings: int) -> list[list[Draw]]:
    return list(islice(DrawSampler(**settings), count))


def test_every_epoch_holds_every_item_once_across_processes():
    # 12 items in micro-batches of 2 by 3 processes: two micro-batches of each make an epoch.
    ranks = [batches(4, length=12, batch_size=2, seed=5, rank=r, world_size=3) for r in range(3)]
    for epoch in range(2):
        drawn = [draw.index for rank in ranks for batch in rank[2 * epoch : 2 * epoch + 2] for draw in batch]
        assert sorted(drawn) == list(range(12))


def test_processes_together_draw_what_one_process_draws_alone():
    alone = [draw for batch in batches(12, length=7, batch_size=1, seed=3) for draw in batch]
    first = [draw for batch in batches(3, length=7, batch_size=2, seed=3, rank=0, world_size=2) for draw in batch]
    second = [draw for batch in batches(3, length=7, batch_size=2, seed=3, rank=1, world_size=2) for draw in batch]
    together = [draw for i in (0, 2, 4) for draw in first[i : i + 2] + second[i : i + 2]]
    assert together == alone


def test_a_batch_larger_than_the_data_set_runs_on_into_the_next_epochs():
    (batch,) = batches(1, length=3, batch_size=7, seed=0)
    assert sorted(draw.index for draw in batch[:3]) == [0, 1, 2]
    assert sorted(draw.index for draw in batch[3:6]) == [0, 1, 2]


@pytest.mark.parametrize("start", [1, 2, 5, 9])
def test_resume_goes_on_where_the_run_was_left(start: int):
    settings = {"length": 5, "batch_size": 2, "seed": 1, "rank": 1, "world_size": 2}
    assert batches(4, start_batch=start, **settings) == batches(start + 4, **settings)[start:]


def test_draws_follow_the_written_rule():
    """Runs that were begun with an earlier version go on as they were."""
    (first, second) = batches(2, length=3, batch_size=2, seed=6, start_batch=4)
    third_epoch = np.random.default_rng([6, 0, 2]).permutation(3)
    fourth_epoch = np.random.default_rng([6, 0, 3]).permutation(3)
    order = [third_epoch[2], fourth_epoch[0], fourth_epoch[1], fourth_epoch[2]]
    for number, index, draw in zip(range(8, 12), order, first + second, strict=True):
        seed = np.random.SeedSequence([6, 1, number]).generate_state(1, np.uint64)[0]
        assert draw == Draw(index=index, seed=seed, number=number)


def test_a_shuffle_gives_the_same_item_for_a_number_in_any_order():
    shuffle = Shuffle(length=4, seed=2, stream=3)
    order = [shuffle[number] for number in range(20)]
    assert all(sorted(order[start : start + 4]) == [0, 1, 2, 3] for start in range(0, 20, 4))
    assert [shuffle[number] for number in reversed(range(20))] == order[::-1]
    assert [Shuffle(length=4, seed=2, stream=4)[number] for number in range(20)] != order


def test_order_and_augmentation_differ_between_epochs_and_seeds():
    epochs = [draw for batch in batches(2, length=50, batch_size=50, seed=0) for draw in batch]
    assert [d.index for d in epochs[:50]] != [d.index for d in epochs[50:]]
    assert len({draw.seed for draw in epochs}) == 100
    assert batches(1, length=50, batch_size=50, seed=0) != batches(1, length=50, batch_size=50, seed=1)


@pytest.mark.parametrize("wrong", [{"length": 0}, {"batch_size": 0}, {"rank": 2}, {"seed": -1}, {"start_batch": -1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]):
    with pytest.raises(InputError, match=next(iter(wrong))):
        DrawSampler(**{"length": 5, "batch_size": 1, "seed": 0, "rank": 0, "world_size": 2} | wrong)


def test_worker_init_leaves_opencv_one_thread():
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        worker_init(0)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
