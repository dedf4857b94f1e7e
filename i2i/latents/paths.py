"""Walks from image to image."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from i2i.errors import InputError
from i2i.inference.sampler import Sampler
from i2i.inference.styles import natural_number
from i2i.latents.pictures import grid
from i2i.latents.space import LatentSpace, Space, several

LEAST_ANGLE = 1e-4  # below, an arc is a straight line to float32's precision


def slerp(start: Tensor, end: Tensor, share: float | Tensor) -> Tensor:
    """Spherical linear interpolation (Shoemake 1985): at constant angular speed along the arc between two directions.

    A Gaussian latent vector of many values has almost the same length every time, and points on a straight line between
    two of them are shorter than any the generator was trained on (White 2016, arXiv:1609.04468). On the arc, the length
    goes from the one's to the other's: sin((1 − s) Ω) / sin Ω · start + sin(s Ω) / sin Ω · end, Ω being the angle
    between them.

    Args:
        start, end: (..., channels).
        share: s, 0 at the start and 1 at the end: a number, or a tensor (T,).

    Returns:
        (..., channels); for a tensor of shares (T, ..., channels).

    Raises:
        InputError: the shapes differ, a vector is 0, or two point in opposite directions, between which there is no one
            arc.
    """
    if start.shape != end.shape:
        raise InputError(f"expected two vectors of one length, got {tuple(start.shape)} and {tuple(end.shape)}")
    shares = torch.as_tensor(share, dtype=start.dtype, device=start.device)
    shares = shares.reshape(*shares.shape, *(1,) * start.ndim)
    lengths = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    if not all(bool((length > 0).all()) for length in lengths):
        raise InputError("slerp: a vector of zeros has no direction; interpolate linearly (torch.lerp)")
    # Of unit vectors, half the angle's sine and cosine are half the lengths of their difference and sum: exact for
    # small angles and large, where the arc cosine is not.
    one, other = start / lengths[0], end / lengths[1]
    angle = 2 * torch.atan2((one - other).norm(dim=-1, keepdim=True), (one + other).norm(dim=-1, keepdim=True))
    if bool((angle > torch.pi - LEAST_ANGLE).any()):
        raise InputError("slerp: the two vectors point in opposite directions, so that no arc is the shortest")
    straight = angle < LEAST_ANGLE
    safe = torch.where(straight, torch.ones_like(angle), angle)
    from_start = torch.where(straight, 1 - shares, ((1 - shares) * safe).sin() / safe.sin())
    from_end = torch.where(straight, shares.expand_as(from_start), (shares * safe).sin() / safe.sin())
    return from_start * start + from_end * end


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """A walk through several seeds.

    Attributes:
        seeds: that it leads through, the first one again at the end where it is closed.
        points: (N, channels), of z or w.
        images: (H, W, C) each, as the sampler gives them.
        frames: steps from one seed to the next, whose images are those at 0, frames, 2 · frames …
    """

    space: Space
    seeds: tuple[int, ...]
    points: Tensor
    images: list[np.ndarray]
    frames: int
    sampler: Sampler

    def picture(self) -> np.ndarray:
        """A row from each seed to the next, both included: (H', W', 3) uint8."""
        legs = range(0, len(self.images) - 1, self.frames)
        rows = [self.images[first : first + self.frames + 1] for first in legs]
        headings = [f"{step / self.frames:.3g}" for step in range(self.frames + 1)]
        margin = [f"seed {start} to {end}" for start, end in pairwise(self.seeds)]
        return grid(rows, side=self.sampler.spec.output, headings=headings, margin=margin)


def interpolation(
    t: Sampler,
    *,
    seeds: Sequence[int],
    frames: int = 8,
    label: int | str | Sequence[int | str] | None = None,
    space: Space | None = None,
    truncation: float | None = None,
    closed: bool = False,
) -> Interpolation:
    """Walk through the images of several seeds: in z along arcs (`slerp`), in w along straight lines.

    Args:
        t: the generator.
        seeds: at least two.
        frames: steps from one seed to the next.
        label: the class to draw; in w also one for each seed, from class to class; None: the first class.
        space: "z" or "w"; None: w where there are styles, and z elsewhere.
        truncation: of the seeds' images, see `Sampler`.
        closed: go on to the first seed again, so that the last image is the first one.

    Raises:
        InputError: too few seeds or frames, seeds that cannot be used, no such class, or several classes in z.
    """
    place = LatentSpace(t, space)
    seeds = several("seeds", seeds, example="[1, 2]")
    if len(seeds) < 2:
        raise InputError(f"seeds: expected at least two to walk between, got {len(seeds)}")
    if natural_number(frames) < 1:
        raise InputError(f"frames: expected at least 1 step from seed to seed, a whole number, got {frames}")
    if isinstance(label, Sequence) and not isinstance(label, str):
        if place.name == "z":
            raise InputError('label: in z there is no way from class to class; give one, or space="w"')
        if len(label) != len(seeds):
            raise InputError(f"label: expected one, or as many as seeds, {len(seeds)}; got {len(label)}")
        labels = torch.tensor([t.class_id(one) for one in label])
    else:
        labels = place.labels(label, 1).expand(len(seeds))
    if place.name == "w":
        ids = labels if t.classes else None
        stops = t.styles(seed=seeds, label=ids, truncation=truncation)[:, 0]
    elif t.style_layers and truncation is not None:
        raise InputError('truncation: this generator truncates w; leave it out in z, or give space="w"')
    else:
        stops = torch.stack([t.draw_latent(seed, truncation=truncation) for seed in seeds])
    if closed:
        stops, seeds = torch.cat([stops, stops[:1]]), [*seeds, seeds[0]]
    shares = torch.arange(frames) / frames
    legs = []
    for start, end in pairwise(stops):
        legs.append(torch.lerp(start, end, shares[:, None]) if place.name == "w" else slerp(start, end, shares))
    points = torch.cat([*legs, stops[-1:]])
    images = place.images(points, labels[:1].expand(len(points)))
    return Interpolation(space=place.name, seeds=tuple(seeds), points=points, images=images, frames=frames, sampler=t)
