"""A pool of generated images, so that a discriminator does not forget what it has learnt (Shrivastava et al. 2017)."""

from typing import Any

import torch
from torch import Tensor

from i2i.errors import InputError


class ImagePool:
    """Hands generated images to a discriminator, half of them from earlier steps (Zhu et al. 2017, section 4).

    Until the pool is full, each image is kept and handed out. After that an image is handed out as it is with
    probability ½; else it takes the place of a random one in the pool, which is handed out instead.

    Random numbers come from torch's global generator on the CPU.

    Args:
        capacity: images in the pool; 0 hands out every image as it is.
    """

    def __init__(self, *, capacity: int = 50) -> None:
        if capacity < 0:
            raise InputError(f"expected a pool for 0 images or more, got {capacity}")
        self.capacity = capacity
        self.images: list[Tensor] = []

    def query(self, images: Tensor) -> Tensor:
        """Generated images (N, C, H, W), detached, for as many others of the same size."""
        if self.capacity == 0:
            return images
        pool, handed_out = self.images.copy(), []
        for image in images:
            if len(pool) < self.capacity:
                pool.append(image.clone())
                handed_out.append(image)
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(self.capacity, ()))
                handed_out.append(pool[place].to(image.device))
                pool[place] = image.clone()
            else:
                handed_out.append(image)
        self.images = pool
        return torch.stack(handed_out)

    def state_dict(self) -> dict[str, Any]:
        """The images themselves, of which none is ever written into."""
        return {"images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.images = list(state["images"])
