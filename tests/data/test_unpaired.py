"""Unpaired items: each side complete in its own epochs, the same after resume, in processes and in workers."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from i2i.data.folders import ImageFolder, find_sides, probe_images
from i2i.data.image_io import write_image
from i2i.data.sampler import Draw, DrawSampler, worker_init
from i2i.data.streets import StreetPairs, make_scene
from i2i.data.transforms import ImageTransform
from i2i.data.unpaired import HeldOutPairs, Unpaired
from i2i.errors import InputError

SEED = 8


class Numbers(Dataset[Tensor]):
    """Items (3, 1, 1) that tell what they were asked for: index, augmentation seed and number of the draw."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: Draw | int) -> Tensor:
        asked = (item.index, item.seed >> 1, item.number) if isinstance(item, Draw) else (item, -1, -1)
        return torch.tensor(asked).view(3, 1, 1)


def sides(length_a: int, length_b: int) -> Unpaired:
    return Unpaired(a=Numbers(length_a), b=Numbers(length_b), seed=SEED)


def drawn(
    data: Unpaired, *, batches: int, rank: int = 0, world_size: int = 1, start_batch: int = 0, workers: int = 0
) -> list[dict[str, tuple[int, int, int]]]:
    """(index, seed, number) of every item and side of the next micro-batches of two."""
    sampler = DrawSampler(
        length=len(data), batch_size=2, seed=SEED, rank=rank, world_size=world_size, start_batch=start_batch
    )
    loader = DataLoader(data, batch_sampler=sampler, num_workers=workers)
    return [
        {side: tuple(batch[side][item].flatten().tolist()) for side in ("a", "b")}
        for batch in islice(loader, batches)
        for item in range(2)
    ]


LENGTHS = [(3, 7), (7, 3), (4, 4), (1, 5)]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_two_processes_with_workers_draw_each_side_whole_before_it_comes_again(lengths: tuple[int, int]):
    data = sides(*lengths)
    items = [item for rank in range(2) for item in drawn(data, batches=11, rank=rank, world_size=2, workers=2)]
    assert sorted(item["a"][2] for item in items) == list(range(44))
    for side, length in zip(("a", "b"), lengths, strict=True):
        order = [item[side][0] for item in sorted(items, key=lambda item: item["a"][2])]
        for start in range(0, 44 - length, length):
            assert sorted(order[start : start + length]) == list(range(length))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("start", [1, 4])
def test_a_resumed_process_goes_on_as_if_it_had_never_stopped(lengths: tuple[int, int], start: int):
    for rank in range(2):
        whole = drawn(sides(*lengths), batches=start + 5, rank=rank, world_size=2)
        resumed = drawn(sides(*lengths), batches=5, rank=rank, world_size=2, start_batch=start, workers=2)
        assert resumed == whole[2 * start :]


@pytest.mark.parametrize("lengths", [(30, 30), (30, 31), (20, 10)])
def test_pairings_change_and_the_sides_are_augmented_apart(lengths: tuple[int, int]):
    items = drawn(sides(*lengths), batches=60)
    pairings = [(item["a"][0], item["b"][0]) for item in items]
    assert len(set(pairings)) > 0.7 * len(items)
    assert sum(a == b for a, b in pairings) < 0.2 * len(items)
    assert len({item[side][1] for item in items for side in ("a", "b")}) == 2 * len(items)


def test_a_plain_index_goes_through_both_sides_in_order():
    data = sides(3, 7)
    pairs = [(data[i]["a"][0].item(), data[i]["b"][0].item()) for i in range(len(data))]
    assert pairs == [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4), (2, 5), (0, 6)]
    with pytest.raises(IndexError):
        data[7]


def test_an_empty_side_is_refused():
    with pytest.raises(InputError, match="got 0 of A and 2 of B"):
        sides(0, 2)


def test_sides_of_other_channels_sizes_and_counts_come_in_batches(tmp_path: Path):
    rng = np.random.default_rng(0)
    for side, channels, count in (("A", 1, 5), ("B", 4, 1)):
        for number in range(count):
            picture = rng.integers(0, 255, (20 + number, 24, channels), dtype=np.uint8)
            write_image(tmp_path / f"train{side}" / f"{number}.tif", picture)
    a, b = find_sides(tmp_path, phase="train")
    transform = ImageTransform(crop_size=16)
    data = Unpaired(
        a=ImageFolder(files=a, transform=transform, side=probe_images(a, side="A").side),
        b=ImageFolder(files=b, transform=transform, side=probe_images(b, side="B").side),
        seed=SEED,
    )
    sampler = DrawSampler(length=len(data), batch_size=3, seed=SEED)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=2, worker_init_fn=worker_init)
    for _, draws, batch in zip(range(3), sampler, loader, strict=False):
        assert batch["a"].shape == (3, 1, 16, 16) and batch["b"].shape == (3, 4, 16, 16)
        for side in ("a", "b"):
            expected = torch.stack([data[draw][side] for draw in draws])
            torch.testing.assert_close(batch[side], expected, rtol=0, atol=0)


def test_held_out_pairs_bring_their_truth():
    streets = StreetPairs(count=2, size=16, source="day", target="night", cache=False)
    items = HeldOutPairs(pairs=streets)
    scene = make_scene(1, size=16)
    item = items[1]
    assert len(items) == 2 and set(item) == {"a", "b", "truth_a", "truth_b"}
    for name, picture in (("a", scene.day), ("truth_a", scene.day), ("b", scene.night), ("truth_b", scene.night)):
        np.testing.assert_allclose(item[name].numpy(), picture.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
