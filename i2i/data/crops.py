"""Squares cut out of larger images at random places, for generators that draw from nothing but noise."""

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.sampler import Draw, derived_seed
from i2i.errors import InputError


class Reals(Dataset[dict[str, Tensor]]):
    """Images alone as a generator learns from them: {"real": the image}, for a `Draw` or an index."""

    def __init__(self, images: Dataset[Tensor]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        return {"real": self.images[item]}


class Crops(Dataset[dict[str, Tensor]]):
    """One square of each image: items are those of the images, with "real" cut to (C, size, size).

    With a `Draw` its seed says where the square lies. With an index it is always the same place, another one for each
    image, so that held-out squares come from all over the images as training's do.
    """

    def __init__(self, items: Dataset[dict[str, Tensor]], *, size: int) -> None:
        """
        Args:
            items: "real" is (C, H, W), H and W at least `size`.
            size: side of the squares in pixels.

        Raises:
            InputError: in the call, for an image that is too small.
        """
        self.items = items
        self.size = size

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        whole = self.items[item]
        height, width = whole["real"].shape[1:]
        if min(height, width) < self.size:
            raise InputError(
                f"an image of {width} x {height} px is smaller than the {self.size} px to be cut out of it"
            )
        seed = derived_seed(item.seed, 2) if isinstance(item, Draw) else item
        top, left = np.random.default_rng(seed).integers([height - self.size + 1, width - self.size + 1])
        return {**whole, "real": whole["real"][:, top : top + self.size, left : left + self.size]}
