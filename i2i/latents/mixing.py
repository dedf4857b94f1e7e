"""Images with the styles of one in some layers and of another in the rest (Karras et al. 2019, arXiv:1812.04948)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError
from i2i.inference.sampler import Sampler
from i2i.inference.styles import natural_number
from i2i.latents.pictures import grid
from i2i.latents.space import LatentSpace, several
from i2i.metrics import luma

LAYOUT_PX = 8  # structure is compared at this size
QUANTILES = 16  # of the values of a colour channel


@dataclass(frozen=True, kw_only=True)
class StyleMixing:
    """Destinations that take some layers' styles from sources.

    Attributes:
        source_seeds, destination_seeds: what they were drawn from.
        sources, destinations: images (H, W, C) of these.
        images: for each destination, one with the styles of each source in `layers`.
    """

    layers: tuple[int, ...]
    source_seeds: tuple[int, ...]
    destination_seeds: tuple[int, ...]
    sources: list[np.ndarray]
    destinations: list[np.ndarray]
    images: list[list[np.ndarray]]
    sampler: Sampler

    def picture(self) -> np.ndarray:
        """Sources across, destinations down, as in the paper's figure 3: (H', W', 3) uint8."""
        rows: list[list[np.ndarray | None]] = [[None, *self.sources]]
        rows += [[own, *mixed] for own, mixed in zip(self.destinations, self.images, strict=True)]
        return grid(
            rows,
            side=self.sampler.spec.output,
            headings=["", *(f"source {seed}" for seed in self.source_seeds)],
            margin=["", *(f"destination\n{seed}" for seed in self.destination_seeds)],
        )


def style_mixing(
    t: Sampler,
    *,
    sources: Sequence[int],
    destinations: Sequence[int],
    layers: Sequence[int],
    label: int | str | None = None,
    truncation: float | None = None,
) -> StyleMixing:
    """Give destinations the styles of sources in some layers.

    Args:
        t: a generator with styles.
        sources, destinations: seeds.
        layers: which the sources give, from 0, the coarsest, to t.style_layers − 1: `range(4)`, `[6, 7]`.
        label, truncation: as in a call of `t`.

    Raises:
        InputError: a generator without styles, no seeds, or no such layers.
    """
    sources = several("sources", sources, example="[1, 2]")
    destinations = several("destinations", destinations, example="[3, 4]")
    chosen = tuple(sorted({natural_number(layer) for layer in several("layers", layers, example="range(4)")}))
    if not sources or not destinations:
        raise InputError(f"expected sources and destinations, got {len(sources)} and {len(destinations)} seeds")
    given = t.styles(seed=sources, label=label, truncation=truncation)
    taken = t.styles(seed=destinations, label=label, truncation=truncation)
    if not chosen or not 0 <= chosen[0] <= chosen[-1] < t.style_layers:
        raise InputError(f"layers: expected some from 0 to {t.style_layers - 1}, got {list(layers)}")
    mixed = taken[:, None].repeat(1, len(given), 1, 1)
    mixed[:, :, list(chosen)] = given[None, :, list(chosen)]
    return StyleMixing(
        layers=chosen,
        source_seeds=tuple(sources),
        destination_seeds=tuple(destinations),
        sources=t(styles=given),
        destinations=t(styles=taken),
        images=[t(styles=row) for row in mixed],
        sampler=t,
    )


@dataclass(frozen=True, kw_only=True)
class MixingCorrelations:
    """How much of either source is seen in mixtures: 1 is all, 0 is nothing.

    Attributes:
        crossover: the first layer of the fine ones.
        pairs: how many mixtures.
        layout_from_coarse, layout_from_fine: correlation of a mixture's layout with that of the image that gave the
            coarse layers, or the fine ones.
        colour_from_coarse, colour_from_fine: likewise of its colours.
        layout_from_unrelated, colour_from_unrelated: with an image that gave nothing; what is found by chance.
    """

    crossover: int
    pairs: int
    layout_from_coarse: float
    layout_from_fine: float
    layout_from_unrelated: float
    colour_from_coarse: float
    colour_from_fine: float
    colour_from_unrelated: float

    def figures(self) -> dict[str, float]:
        """All of it by name."""
        return asdict(self)


def mixing_correlations(
    t: Sampler,
    *,
    pairs: int = 300,
    crossover: int | None = None,
    seed: int = 0,
    label: int | str | None = None,
) -> MixingCorrelations:
    """Measure what coarse and fine layers decide.

    Mixtures have the coarse layers of one image, A, and the fine ones of another, B. Of each image two things are
    described, neither of which has the other's part:

    - layout: lightness at 8 px, each image's mean taken off and its deviation made 1, so that neither colour nor
      brightness nor contrast counts;
    - colours: the distribution of each channel's values (its quantiles) over the whole image, wherever they are.

    Their correlation over the population is that of all numbers of all images, each number's own mean over the
    population taken off first: what all images share, such as a sky above, counts for nothing. So an image has a
    correlation of 1 with itself and of about 0 with any other one.

    Args:
        t: a generator with styles.
        pairs: how many mixtures; the correlation by chance is about 1 / √(pairs) times the square root of how many
            numbers go together.
        crossover: the first layer of the fine ones, from 1 to t.style_layers − 1; None: half of the layers.
        seed: of A and B.
        label: the class to draw; None: classes take turns.

    Raises:
        InputError: a generator without styles, fewer than 3 pairs, or no such layer.
    """
    space = LatentSpace(t, "w")
    first_fine = t.style_layers // 2 if crossover is None else crossover
    if not 0 < first_fine < t.style_layers:
        raise InputError(f"crossover: expected a layer from 1 to {t.style_layers - 1}, got {first_fine}")
    if pairs < 3:
        raise InputError(f"pairs: expected at least 3 for a correlation, got {pairs}")
    labels = space.labels(label, pairs)
    points = space.draw(2 * pairs, seed=seed, labels=labels.repeat(2))
    coarse, fine = (space.by_layer(part) for part in points.split(pairs))
    mixed = torch.cat([coarse[:, :first_fine], fine[:, first_fine:]], dim=1)
    a, b, mixture = (space.draw_images(styles, labels) for styles in (coarse, fine, mixed))
    figures = {}
    for name, describe in (("layout", layout), ("colour", colours)):
        described = describe(mixture)
        figures[f"{name}_from_coarse"] = correlation(described, describe(a))
        figures[f"{name}_from_fine"] = correlation(described, describe(b))
        # The image that gave another mixture its coarse layers gave this one nothing.
        figures[f"{name}_from_unrelated"] = correlation(described, describe(a).roll(max(1, t.classes), dims=0))
    return MixingCorrelations(crossover=first_fine, pairs=pairs, **figures)


def layout(images: Tensor) -> Tensor:
    """Where it is light and where dark: images (N, C, H, W) → (N, places), of mean 0 and deviation 1 each."""
    grey = luma((images + 1) / 2) if images.shape[1] == 3 else images.mean(dim=1, keepdim=True)
    side = min(LAYOUT_PX, *images.shape[2:])
    places = F.adaptive_avg_pool2d(grey, side).flatten(1)
    places = places - places.mean(dim=1, keepdim=True)
    return places / places.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)


def colours(images: Tensor) -> Tensor:
    """Which values there are, wherever: images (N, C, H, W) → (N, C · quantiles), for each channel its quantiles.

    Euclidean distances between these are 2-Wasserstein distances between the channels' distributions.
    """
    values = images.flatten(2).sort(dim=2).values
    return F.adaptive_avg_pool1d(values, min(QUANTILES, values.shape[2])).flatten(1)


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, of all the numbers of two descriptions (N, D) of N images, each of the D about its own mean."""
    one, other = (values.double() - values.double().mean(dim=0) for values in (one, other))
    scale = math.sqrt(float(one.square().sum()) * float(other.square().sum()))
    return float((one * other).sum()) / scale if scale else 0.0
