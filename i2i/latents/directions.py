"""Directions in which images change in one way, found from labels or without any, and applied."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.inference.sampler import Sampler
from i2i.inference.styles import natural_number
from i2i.latents.pictures import grid
from i2i.latents.space import LatentSpace, Space, several

Attribute = Callable[[np.ndarray], float]

# Of images sorted by an attribute, from either end, as InterFaceGAN takes the surest ones only.
EXTREME_SHARE = 0.25
FEWEST_TO_JUDGE = 10
FEWEST_SAMPLES = 4  # two of each kind
RIDGE = 1e-2  # weight of the squared normal in the logistic loss
STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class Direction:
    """A direction of z or w.

    Attributes:
        space: that it lies in.
        vector: (channels,), of length 1.
        deviation: how far points lie apart along it: their standard deviation, the unit of strengths.
        share: of all variance, that along this direction; of principal directions only.
        accuracy: share of points of two classes that such a direction, found without them, sorts rightly; of directions
            found from ten labelled points of each class or more.
    """

    space: Space
    vector: Tensor
    deviation: float
    share: float | None = None
    accuracy: float | None = None

    def apply(self, points: Tensor, strength: float | Tensor, *, layers: Sequence[int] | None = None) -> Tensor:
        """Points moved by so many standard deviations.

        Args:
            points: (..., channels): latent vectors, or styles of all layers (..., style_layers, channels).
            strength: a number, or a tensor that broadcasts against the leading dimensions of points.
            layers: of styles by layer, those that are moved (Härkönen et al. 2020, section 3.1); None: all.

        Raises:
            InputError: points of other channels.
        """
        if points.shape[-1] != len(self.vector):
            raise InputError(f"points: expected {len(self.vector)} channels, got shape {tuple(points.shape)}")
        strengths = torch.as_tensor(strength, dtype=points.dtype, device=points.device)[..., None]
        move = (strengths * self.deviation * self.vector.to(points)).expand_as(points)
        if layers is None:
            return points + move
        moved = several("layers", layers, example="range(4)")
        if points.ndim < 2 or not all(0 <= natural_number(layer) < points.shape[-2] for layer in moved):
            raise InputError(f"layers: expected layers of points by layer, got {moved} for {tuple(points.shape)}")
        chosen = torch.zeros(points.shape[-2], 1, dtype=points.dtype, device=points.device)
        chosen[moved] = 1
        return points + chosen * move


def direction_between(
    low: Tensor, high: Tensor, *, space: Space, method: Literal["means", "logistic"] = "logistic"
) -> Direction:
    """The direction from points of one class to those of another.

    Args:
        low, high: (N, channels) and (M, channels), at least 2 of each.
        space: that they lie in.
        method: "means": the difference of the class means; "logistic": the normal of the plane that a logistic
            regression with a small ridge tells the classes apart by, as InterFaceGAN takes that of a support vector
            machine (Shen et al. 2020, arXiv:1907.10786): free of what merely goes along with the class.

    Raises:
        InputError: fewer points, other shapes, or means that are equal.
    """
    if low.ndim != 2 or high.ndim != 2 or low.shape[1] != high.shape[1] or min(len(low), len(high)) < 2:
        raise InputError(
            f"expected at least two points (N, channels) of each class, got {tuple(low.shape)} and {tuple(high.shape)}"
        )
    points = torch.cat([low, high]).double()
    truth = torch.cat([torch.zeros(len(low)), torch.ones(len(high))]).bool()
    vector = _normal(points, truth, method)
    accuracy = None
    if min(len(low), len(high)) >= FEWEST_TO_JUDGE:
        # Of each class every fifth: in so many dimensions, what was fitted to is hardly ever sorted wrongly.
        held_out = torch.cat([torch.arange(len(low)), torch.arange(len(high))]) % 5 == 4
        other = _normal(points[~held_out], truth[~held_out], method)
        threshold = _best_threshold(points[~held_out] @ other, truth[~held_out])
        accuracy = float(((points[held_out] @ other > threshold) == truth[held_out]).double().mean())
    return Direction(space=space, vector=vector.float(), deviation=float((points @ vector).std()), accuracy=accuracy)


def attribute_direction(
    t: Sampler,
    attribute: Attribute,
    *,
    samples: int = 2000,
    seed: int = 0,
    label: int | str | None = None,
    space: Space | None = None,
    method: Literal["means", "logistic"] = "logistic",
) -> Direction:
    """The direction in which an attribute of images grows.

    Args:
        t: the generator.
        attribute: what a number is read off an image (H, W, C) by, as `t` draws it: `lambda image: image.mean()`, a
            classifier's score. The quarter of the samples in which it is largest is told from the quarter in which it
            is smallest; where it takes two values, the one from the other.
        samples: images drawn for it.
        seed: of these.
        label: the class to draw; None: classes take turns.
        space: "z" or "w"; None: w where there are styles, and z elsewhere.
        method: see `direction_between`.

    Raises:
        InputError: an attribute that is the same for all samples, or not a finite number, or fewer than 4 samples.
    """
    if not callable(attribute):
        raise InputError(f"attribute: expected a function of an image that gives one number, got {attribute!r}")
    if samples < FEWEST_SAMPLES:
        raise InputError(f"samples: expected at least {FEWEST_SAMPLES}, got {samples}")
    place = LatentSpace(t, space)
    labels = place.labels(label, samples)
    points = place.draw(samples, seed=seed, labels=labels)
    values = torch.tensor([_number(attribute(image)) for image in place.images(points, labels)], dtype=torch.float64)
    if not values.isfinite().all():
        raise InputError("attribute: expected finite numbers, got NaN or infinite ones")
    kinds = values.unique()
    if len(kinds) < 2:
        raise InputError(f"attribute: it is {float(kinds[0]):g} for all of {samples} samples; expected one that varies")
    if len(kinds) == 2:
        low, high = points[values == kinds[0]], points[values == kinds[1]]
    else:
        count = max(2, round(EXTREME_SHARE * samples))
        order = values.argsort()
        low, high = points[order[:count]], points[order[-count:]]
    found = direction_between(low, high, space=place.name, method=method)
    # The unit of strengths is that of the whole population, not of its ends.
    return Direction(
        space=place.name,
        vector=found.vector,
        deviation=float((points @ found.vector).std()),
        accuracy=found.accuracy,
    )


def class_direction(
    t: Sampler,
    *,
    source: int | str,
    target: int | str,
    samples: int = 1000,
    seed: int = 0,
    method: Literal["means", "logistic"] = "means",
) -> Direction:
    """The direction of w from one class to another, of a generator with classes and styles; see `attribute_direction`.

    Raises:
        InputError: no such classes, or none at all, or no styles: z is the same for all classes.
    """
    if not t.classes:
        raise InputError(
            f"{type(t.generator).__name__} has no classes to go between; attribute_direction finds a direction by "
            "whatever an image shows"
        )
    space = LatentSpace(t, "w")
    low, high = (
        space.draw(samples, seed=seed, labels=torch.full((samples,), t.class_id(label))) for label in (source, target)
    )
    return direction_between(low, high, space="w", method=method)


def principal_directions(
    t: Sampler,
    *,
    count: int = 10,
    samples: int = 4000,
    seed: int = 0,
    label: int | str | None = None,
    space: Space | None = None,
) -> list[Direction]:
    """Directions along which images vary most, by principal component analysis (GANSpace, Härkönen et al. 2020).

    In w (arXiv:2004.02546, section 2.1) these are the principal axes of many styles. z has none, for it is alike in all
    directions. There the first layer's responses to many latent vectors are analysed, and each axis is carried back to
    z by least squares (section 2.2): the direction of z that moves responses along that axis.

    Args:
        t: the generator.
        count: how many directions, those of the largest variance first.
        samples: points drawn for it.
        seed: of these.
        label: the class to draw; None: classes take turns.
        space: "z" or "w"; None: w where there are styles, and z elsewhere.

    Returns:
        Directions that are orthogonal in w; in z those of the responses are. The sign of each is arbitrary: its largest
        value is positive.

    Raises:
        InputError: more directions than there are channels or samples.
    """
    place = LatentSpace(t, space)
    if not 1 <= count <= min(place.channels, samples - 1):
        raise InputError(
            f"count: expected from 1 to {min(place.channels, samples - 1)} directions, for there are {place.channels} "
            f"channels and {samples} samples; got {count}"
        )
    labels = place.labels(label, samples)
    points = place.draw(samples, seed=seed, labels=labels).double()
    seen = points if place.name == "w" else _first_responses(place, points, labels)
    centred = seen - seen.mean(dim=0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    if place.name == "w":
        vectors = axes[:count]
    else:
        # Least squares of z on the coordinates along the axes, which are uncorrelated: one division each.
        coordinates = centred @ axes[:count].T
        vectors = (coordinates.T @ (points - points.mean(dim=0))) / sizes[:count, None].square()
    vectors = F.normalize(vectors, dim=1)
    vectors = vectors * vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True)).sign()
    shares = sizes.square() / sizes.square().sum()
    return [
        Direction(
            space=place.name,
            vector=vector.float(),
            deviation=float((points @ vector).std()),
            share=float(share),
        )
        for vector, share in zip(vectors, shares, strict=False)
    ]


@dataclass(frozen=True, kw_only=True)
class DirectionSweep:
    """Images of some seeds, moved along a direction.

    Attributes:
        images: for each seed, one at each strength, (H, W, C).
    """

    seeds: tuple[int, ...]
    strengths: tuple[float, ...]
    images: list[list[np.ndarray]]
    sampler: Sampler

    def picture(self) -> np.ndarray:
        """A row for each seed, a column for each strength: (H', W', 3) uint8."""
        return grid(
            self.images,
            side=self.sampler.spec.output,
            headings=[f"{strength:+g}" for strength in self.strengths],
            margin=[f"seed {seed}" for seed in self.seeds],
        )


def direction_sweep(
    t: Sampler,
    direction: Direction,
    *,
    seeds: Sequence[int],
    strengths: Sequence[float] = STRENGTHS,
    layers: Sequence[int] | None = None,
    label: int | str | None = None,
    truncation: float | None = None,
) -> DirectionSweep:
    """Move the points of some seeds along a direction.

    Args:
        t: the generator.
        seeds: one at least.
        strengths: in standard deviations.
        layers: of w, those whose styles are moved; None: all.
        label, truncation: of what is moved, see `Sampler`; label None in z: classes take turns.

    Raises:
        InputError: no seeds or strengths, layers in z, or what cannot be drawn.
    """
    if not isinstance(direction, Direction):
        raise InputError(f"direction: expected one Direction, such as axes[0], got {type(direction).__name__}")
    place = LatentSpace(t, direction.space)
    seeds = several("seeds", seeds, example="[1, 2]")
    strengths = several("strengths", strengths, example="[-1, 0, 1]")
    if not seeds or not strengths:
        raise InputError(f"expected a seed and a strength at least, got {len(seeds)} and {len(strengths)}")
    if layers is not None and place.name == "z":
        raise InputError("layers: only styles differ from layer to layer; leave it out in z")
    if place.name == "w":
        points = t.styles(seed=seeds, label=label, truncation=truncation)
    else:
        points = torch.stack([t.draw_latent(seed, truncation=truncation) for seed in seeds])
    labels = place.labels(label, len(seeds))
    columns = [place.images(direction.apply(points, strength, layers=layers), labels) for strength in strengths]
    return DirectionSweep(
        seeds=tuple(seeds),
        strengths=tuple(strengths),
        images=[list(row) for row in zip(*columns, strict=True)],
        sampler=t,
    )


def _number(value: object) -> float:
    """What an attribute gives, as a number."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # the last one of tensors with several values
        came = (
            f"{type(value).__name__} of shape {tuple(shape)}" if (shape := getattr(value, "shape", ())) else repr(value)
        )
        raise InputError(f"attribute: expected a function of an image that gives one number, got {came}") from None


def _first_responses(space: LatentSpace, points: Tensor, labels: Tensor) -> Tensor:
    """What the first layer with weights makes of latent vectors: (N, D) float64 on the CPU."""
    found: list[Tensor] = []
    answered = False

    def note(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        nonlocal answered
        if not answered:  # the layers behind the first answer after it
            found.append(result.flatten(1).double().cpu())
        answered = True

    # Whatever has a weight, but for what looks up classes.
    modules = space.sampler.generator.modules()
    layers = [m for m in modules if isinstance(getattr(m, "weight", None), Tensor) and not isinstance(m, nn.Embedding)]
    taps = [module.register_forward_hook(note) for module in layers]
    try:
        for some, ids in zip(points.float().split(space.batch_size), labels.split(space.batch_size), strict=True):
            answered = False
            space.draw_images(some, ids)
    finally:
        for tap in taps:
            tap.remove()
    return torch.cat(found)


def _normal(points: Tensor, truth: Tensor, method: Literal["means", "logistic"]) -> Tensor:
    """The direction (channels,), of length 1, from points (N, channels) that are not `truth` to those that are."""
    match method:
        case "means":
            vector = points[truth].mean(dim=0) - points[~truth].mean(dim=0)
        case "logistic":
            vector = _logistic_normal(points, truth.double())
        case _:
            raise InputError(f'method: expected "means" or "logistic", got {method!r}')
    length = float(vector.norm())
    if not length > 1e-12:
        raise InputError("the two classes do not differ: expected points that do")
    return vector / length


def _logistic_normal(points: Tensor, truth: Tensor) -> Tensor:
    """Normal (channels,) of a logistic regression with a ridge, by Newton's method, on standardised points."""
    mean, deviation = points.mean(dim=0), points.std(dim=0).clamp(min=1e-9)
    rows = torch.cat([(points - mean) / deviation, torch.ones(len(points), 1, dtype=points.dtype)], dim=1)
    ridge = RIDGE * torch.eye(rows.shape[1], dtype=points.dtype)
    ridge[-1, -1] = 1e-9  # the offset is free
    weights = torch.zeros(rows.shape[1], dtype=points.dtype)
    for _ in range(50):
        chance = torch.sigmoid(rows @ weights)
        gradient = rows.T @ (chance - truth) / len(rows) + ridge @ weights
        hessian = (rows.T * (chance * (1 - chance))) @ rows / len(rows) + ridge
        step = torch.linalg.solve(hessian, gradient)
        # Newton's step may overshoot where the classes are far apart.
        weights = weights - step * min(1.0, 10 / float(step.norm().clamp(min=1e-12)))
        if float(step.norm()) < 1e-9:
            break
    return weights[:-1] / deviation


def _best_threshold(along: Tensor, truth: Tensor) -> float:
    """What sorts most points rightly: those above it are `truth`."""
    values, order = along.sort()
    high = truth[order].double()
    # Right at a threshold before each point, and after the last: the low ones before it, and the high ones from it on.
    right = F.pad((1 - high).cumsum(0), (1, 0)) + high.sum() - F.pad(high.cumsum(0), (1, 0))
    place = int(right.argmax())
    ends = F.pad(values, (1, 1), value=0.0)
    ends[0], ends[-1] = values[0] - 1, values[-1] + 1
    return float((ends[place] + ends[place + 1]) / 2)
