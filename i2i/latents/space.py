"""The space that a generator draws from, as the tools here see it: points that can be moved, and images of them."""

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from i2i.errors import InputError
from i2i.inference.engine import PIXELS_PER_BATCH, PIXELS_PER_BATCH_ON_CPU
from i2i.inference.sampler import Sampler

Space = Literal["z", "w"]


def several(name: str, values: Iterable[Any], *, example: str) -> list[Any]:
    """What was given as seeds, layers or the like, as a list.

    Raises:
        InputError: it is not several values, but one.
    """
    if isinstance(values, np.ndarray | Tensor):
        values = values.tolist()
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise InputError(f"{name}: expected a list or a range, such as {example}, got {values!r}")
    return list(values)


class LatentSpace:
    """Points of z, from N(0, 1), or of w, the styles that a mapping makes of z, and the images that they stand for.

    Args:
        sampler: the generator.
        space: "z" or "w"; None: w where there are styles, and z elsewhere.

    Attributes:
        channels: length of a point.
        size: of an image, (height, width) in pixels.

    Raises:
        InputError: w of a generator without styles, or a generator of points instead of images.
    """

    def __init__(self, sampler: Sampler, space: Space | None = None) -> None:
        if space not in ("z", "w", None):
            raise InputError(f'space: expected "z" or "w", got {space!r}')
        if space == "w" and not sampler.style_layers:
            raise InputError(
                f'space: {type(sampler.generator).__name__} has no styles, and so no w; expected "z", or a StyleGAN'
            )
        self.sampler = sampler
        self.name: Space = space or ("w" if sampler.style_layers else "z")
        self.channels = sampler.style_channels if self.name == "w" else sampler.latent_channels
        with torch.no_grad():
            shape = self._images(self.draw(1), torch.zeros(1, dtype=torch.int64)).shape
        if len(shape) != 4:
            raise InputError(f"{type(sampler.generator).__name__} draws points; expected a generator of images")
        self.size = (int(shape[2]), int(shape[3]))

    @property
    def batch_size(self) -> int:
        """How many images go through the network together."""
        most = PIXELS_PER_BATCH_ON_CPU if self.sampler.device.type == "cpu" else PIXELS_PER_BATCH
        return max(1, most // math.prod(self.size))

    def labels(self, label: int | str | None, count: int) -> Tensor:
        """Class ids (count,) int64: all the one given; where none is, classes take turns; 0 without classes.

        Raises:
            InputError: there is no such class, or there are none.
        """
        if label is not None:
            return torch.full((count,), self.sampler.class_id(label))
        return torch.arange(count) % max(1, self.sampler.classes)

    @torch.no_grad()
    def draw(self, count: int, *, seed: int = 0, labels: Tensor | None = None) -> Tensor:
        """Points at random: float32 (count, channels), on the CPU; of one seed the first ones are the same.

        labels: class ids (count,), on which w depends where there are classes; None: classes take turns.
        """
        latents = torch.randn(count, self.sampler.latent_channels, generator=torch.Generator().manual_seed(seed))
        return self.of_latents(latents, labels)

    def of_seeds(self, seeds: list[int], *, labels: Tensor | None = None) -> Tensor:
        """The points that images of these seeds are drawn from: (N, channels)."""
        latents = [self.sampler.draw_latent(seed) for seed in seeds]
        return self.of_latents(torch.stack(latents), labels) if latents else torch.empty(0, self.channels)

    def of_latents(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Points for latent vectors (N, latent_channels): these themselves, or their styles."""
        if self.name == "z":
            return latents
        ids = self.labels(None, len(latents)) if labels is None else labels
        return self.sampler.styles(latents=latents, label=ids if self.sampler.classes else None)[:, 0]

    def synthesise(self, points: Tensor, labels: Tensor) -> Tensor:
        """Images of points, for gradients as well.

        Args:
            points: (N, channels); of w also (N, style_layers, channels), one for each layer.
            labels: (N,) class ids, not looked at in w or without classes.

        Returns:
            (N, C, H, W) float32 in the network's own range; beyond it values are clipped, and gradients pass as if not.
        """
        images = self._images(points, labels)
        low, high = self.sampler.spec.output.network_range
        return images + (images.clamp(low, high) - images).detach()

    @torch.no_grad()
    def draw_images(self, points: Tensor, labels: Tensor) -> Tensor:
        """What `synthesise` gives, of any number of points, in batches, on the CPU."""
        size = self.batch_size
        batches = zip(points.split(size), labels.split(size), strict=True)
        return torch.cat([self.synthesise(*batch).cpu() for batch in batches])

    def images(self, points: Tensor, labels: Tensor) -> list[np.ndarray]:
        """Images (H, W, C) as the sampler gives them."""
        if self.name == "w":
            return self.sampler(styles=self.by_layer(points))
        return self.sampler(latents=points, label=labels if self.sampler.classes else None)

    def by_layer(self, points: Tensor) -> Tensor:
        """Points of w, (N, channels) or by layer already, as styles (N, style_layers, channels)."""
        return points if points.ndim == 3 else points[:, None].expand(-1, self.sampler.style_layers, -1)

    def _images(self, points: Tensor, labels: Tensor) -> Tensor:
        network: Any = self.sampler.generator
        points = points.to(next(network.parameters()))
        if self.name == "w":
            return network.synthesise(self.by_layer(points)).float()
        told = (labels.to(points.device),) if self.sampler.classes else ()
        return network(points, *told).float()
