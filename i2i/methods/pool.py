"""A pool of generated samples, so that a discriminator does not forget what it has learnt (Shrivastava et al. 2017)."""

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from i2i.errors import InputError

Batch = TypeVar("Batch")


class Pool:
    """Hands generated items to a discriminator, half of them from earlier steps (Zhu et al. 2017, section 4).

    Until the pool is full, each item is kept and handed out. After that an item is handed out as it is with
    probability ½; else it takes the place of a random one in the pool, which is handed out instead.

    Random numbers come from torch's global generator on the CPU.

    Args:
        capacity: items in the pool; 0 hands out every item as it is.
    """

    def __init__(self, *, capacity: int = 50) -> None:
        if capacity < 0:
            raise InputError(f"expected a pool for 0 items or more, got {capacity}")
        self.capacity = capacity
        self.items: list[tuple[Tensor, ...]] = []

    def query(self, batch: Batch) -> Batch:
        """As many items of the same kind; `batch` is a tensor (N, …), or dictionaries of them, each item a part of all.

        Gradients go into items of this batch, none into those of earlier ones.
        """
        if self.capacity == 0:
            return batch
        columns, form = tree_flatten(batch)
        pool, handed_out, new_places = self.items.copy(), [], set()
        for item in zip(*columns, strict=True):
            if len(pool) < self.capacity:
                new_places.add(len(pool))
                pool.append(item)
                handed_out.append(item)
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(self.capacity, ()))
                handed_out.append(tuple(old.to(new.device) for old, new in zip(pool[place], item, strict=True)))
                new_places.add(place)
                pool[place] = item
            else:
                handed_out.append(item)
        for place in new_places:
            pool[place] = tuple(part.detach().clone() for part in pool[place])
        self.items = pool
        return tree_unflatten([torch.stack(parts) for parts in zip(*handed_out, strict=True)], form)

    def state_dict(self) -> dict[str, Any]:
        """The items themselves, of which none is ever written into."""
        return {"items": self.items}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.items = list(state["items"])
