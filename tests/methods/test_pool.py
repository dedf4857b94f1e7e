"""The image pool against the rule of the paper's published code, written out."""

import random

import pytest
import torch
from torch import Tensor

from i2i.errors import InputError
from i2i.methods.pool import Pool


def numbered(*numbers: float) -> Tensor:
    """Images (N, 1, 2, 2) of one value each, by which they can be told apart."""
    return torch.tensor(numbers).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def values(images: Tensor) -> list[float]:
    return images[:, 0, 0, 0].tolist()


def follow_the_rule(capacity: int, batches: list[list[float]], draws: "random.Random") -> list[list[float]]:
    """What is handed out: coin first, then the place, one image after the other."""
    pool: list[float] = []
    handed_out = []
    for batch in batches:
        handed_out.append([])
        for image in batch:
            if len(pool) < capacity:
                pool.append(image)
            elif draws.random() < 0.5:
                place = draws.randrange(capacity)
                pool[place], image = image, pool[place]
            handed_out[-1].append(image)
    return handed_out


class TorchDraws(random.Random):
    """Draws in the form of Python's, from torch's generator."""

    def random(self) -> float:
        return float(torch.rand(()))

    def randrange(self, stop: int) -> int:  # type: ignore[override]
        return int(torch.randint(stop, ()))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_published_rule(batch_size: int) -> None:
    batches = [[float(step * batch_size + i) for i in range(batch_size)] for step in range(60)]
    torch.manual_seed(0)
    expected = follow_the_rule(7, batches, TorchDraws())
    torch.manual_seed(0)
    pool = Pool(capacity=7)
    handed_out = [values(pool.query(numbered(*batch))) for batch in batches]
    assert handed_out == expected
    assert handed_out[:2] == batches[:2] and handed_out != batches


def test_half_of_the_images_are_old() -> None:
    torch.manual_seed(0)
    pool = Pool(capacity=50)
    pool.query(numbered(*range(50)))
    handed_out = values(pool.query(numbered(*range(50, 2050))))
    new = sum(value == number for number, value in enumerate(handed_out, start=50))
    assert new == pytest.approx(1000, abs=100)
    assert len(set(handed_out)) == 2000  # each once: what was handed out from the pool has left it


def test_no_pool_hands_out_what_comes() -> None:
    images = numbered(1, 2)
    assert Pool(capacity=0).query(images) is images
    with pytest.raises(InputError, match="0 items or more, got -1"):
        Pool(capacity=-1)


def test_a_state_goes_on_exactly_and_stays_as_it_was() -> None:
    torch.manual_seed(0)
    pool, again = Pool(capacity=4), Pool(capacity=4)
    pool.query(numbered(*range(6)))
    state = pool.state_dict()
    kept = [image.clone() for (image,) in state["items"]]
    torch.manual_seed(1)
    expected = [values(pool.query(numbered(10 + step))) for step in range(20)]
    assert all(torch.equal(a, b) for (a,), b in zip(state["items"], kept, strict=True))
    again.load_state_dict(state)
    torch.manual_seed(1)
    assert [values(again.query(numbered(10 + step))) for step in range(20)] == expected


def test_later_changes_to_an_image_do_not_reach_the_pool() -> None:
    images, pool = numbered(1), Pool(capacity=1)
    pool.query(images)
    images.zero_()
    assert pool.items[0][0].unique().tolist() == [1.0]


def test_whole_items_are_exchanged() -> None:
    """What belongs together stays together, whatever its shape and type; gradients go into this batch alone."""
    torch.manual_seed(0)
    pool, old, in_turn = Pool(capacity=3), 0, 0
    for first in range(0, 60, 2):
        numbers = torch.arange(first, first + 2)
        images = numbered(*numbers.float().tolist()).requires_grad_()
        shown = pool.query({"batch": {"label": numbers}, "out": {"image": images}})
        labels = shown["batch"]["label"]
        assert labels.dtype == torch.int64 and values(shown["out"]["image"]) == labels.tolist()
        (shown["out"]["image"].sum() + 0 * images.sum()).backward()
        # As often as each is handed out, in its own place or, out of the pool, in that of a later one.
        handed_out = (labels == numbers[:, None]).sum(1).float()
        assert images.grad is not None and images.grad[:, 0, 0, 0].tolist() == handed_out.tolist()
        in_turn += int((labels[1:] == numbers[:-1]).sum())
        old += int((labels != numbers).sum())
    assert 15 < old < 45 and in_turn and not any(part.requires_grad for item in pool.items for part in item)
