"""What truncation does to images, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from i2i.errors import InputError
from i2i.inference.sampler import Sampler
from i2i.latents.pictures import grid
from i2i.latents.space import several

STYLE_TRUNCATIONS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0)
NOISE_TRUNCATIONS = (0.02, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class TruncationSweep:
    """Images of some seeds at several truncations.

    Attributes:
        images: for each seed, one at each truncation, (H, W, C).
    """

    seeds: tuple[int, ...]
    truncations: tuple[float, ...]
    images: list[list[np.ndarray]]
    sampler: Sampler

    def picture(self) -> np.ndarray:
        """A row for each seed, a column for each truncation: (H', W', 3) uint8."""
        return grid(
            self.images,
            side=self.sampler.spec.output,
            headings=[f"{truncation:g}" for truncation in self.truncations],
            margin=[f"seed {seed}" for seed in self.seeds],
        )


def truncation_sweep(
    t: Sampler,
    *,
    seeds: Sequence[int],
    truncations: Sequence[float] | None = None,
    label: int | str | None = None,
) -> TruncationSweep:
    """Draw each seed at each truncation (see `Sampler` for what it is).

    Args:
        t: the generator.
        seeds: one at least.
        truncations: from 0 on; None: six that show the range, of styles 0 to 1, of noise 0.02 to 4, which is none.
        label: the class to draw.

    Raises:
        InputError: no seeds or truncations, or such as cannot be used.
    """
    usual = STYLE_TRUNCATIONS if t.style_layers else NOISE_TRUNCATIONS
    values = usual if truncations is None else tuple(several("truncations", truncations, example="[0.5, 1.0]"))
    seeds = several("seeds", seeds, example="[1, 2]")
    if not seeds or not values:
        raise InputError(f"expected a seed and a truncation at least, got {len(seeds)} and {len(values)}")
    columns = [t(seed=seeds, truncation=value, label=label) for value in values]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return TruncationSweep(seeds=tuple(seeds), truncations=values, images=rows, sampler=t)
