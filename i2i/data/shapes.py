"""The built-in data set with a class an image: procedural shapes, one a picture.

A seed decides everything. The class is the form alone: place, size, tilt, colours, background, rim, shadow and shading
vary alike for all classes, so that colour says nothing about the class and a generator has variety to lose.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.image_io import rescale
from i2i.data.sampler import Draw
from i2i.errors import InputError

CLASSES = ("disc", "ring", "square", "triangle", "star", "cross", "crescent", "heart", "arrow", "bolt")
"""The classes' names; a label is a place in this tuple."""

OVERSAMPLING = 4  # shapes are filled at so many times the size and averaged down
SUBPIXEL_BITS = 6  # OpenCV takes corners as integers of 1/64 pixel
LARGEST_TILT = math.radians(35)
MARGIN = 0.06  # of the side, kept free around a shape
SMALLEST_GAP = 0.35  # in lightness, between shape and background

Contours = tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One shape.

    image: (S, S, 3) uint8 RGB.
    coverage: (S, S) float32 in [0, 1], the share of each pixel that the shape with its rim covers.
    label: an index of `CLASSES`.
    """

    image: np.ndarray
    coverage: np.ndarray
    label: int


def draw_shape(seed: int, *, size: int) -> Drawing:
    """Draw the shape of a seed, which is of class `seed % 10`.

    Args:
        seed: any integer from 0 up.
        size: side of the picture in pixels, at least 16. The same seed at another size is the same picture, drawn with
            more or less detail.

    Raises:
        InputError: seed or size is out of range.
    """
    if size < 16:
        raise InputError(f"a shape needs at least 16 x 16 pixels, got size={size}")
    if seed < 0:
        raise InputError(f"seeds are integers from 0 up, got {seed}")
    random = np.random.default_rng(seed)
    label = seed % len(CLASSES)

    radius = random.uniform(0.26, 0.4)
    rounding = radius * random.uniform(0.02, 0.12)
    rim = radius * random.uniform(0.06, 0.13) if random.random() < 0.5 else 0.0
    contours = _placed(_contours(CLASSES[label]), radius, reach=rounding + rim, random=random)
    inside = _coverage(contours, size, grown=rounding)
    coverage = _coverage(contours, size, grown=rounding + rim) if rim else inside

    shape_ends, rim_colour, ground_ends = _colours(random)
    image = _between(*ground_ends, _ground(random, size))
    if random.random() < 0.5:
        down = radius * np.array([random.uniform(-0.2, 0.2), random.uniform(0.1, 0.25)])
        shadow = _coverage(tuple(contour + down for contour in contours), size, grown=rounding + rim)
        shadow = cv2.GaussianBlur(shadow, (0, 0), sigmaX=0.03 * size)
        image *= 1 - random.uniform(0.2, 0.4) * shadow[..., None]
    image = _between(image, rim_colour, coverage)
    # Light falls from above: the upper end of a shape is the brighter one.
    light = _ramp(size, angle=random.uniform(0.25, 0.75) * math.pi)
    image = _between(image, _between(*shape_ends, light), inside)
    return Drawing(image=(image * 255).round().astype(np.uint8), coverage=coverage, label=label)


class Shapes(Dataset[dict[str, Tensor]]):
    """Shapes for a generator that knows classes.

    An item is {"real": float32 (3, S, S) in [-1, 1], "label": int64 scalar, an index of `CLASSES`}. Take it with an
    index or a `Draw`, of whose seed no use is made: nothing needs augmenting that can be drawn without end.
    """

    CLASSES = CLASSES

    def __init__(self, *, count: int, size: int = 32, first_seed: int = 0) -> None:
        """
        Args:
            count: number of shapes; the classes take turns. Each is drawn when it is asked for.
            size: side in pixels, at least 16.
            first_seed: the shapes are those of the seeds first_seed … first_seed + count - 1; hold out others.

        Raises:
            InputError: count, size or first_seed is out of range.
        """
        if count < 1:
            raise InputError(f"a data set of shapes needs a count of at least 1, got {count}")
        draw_shape(first_seed, size=size)  # says now, rather than in a worker, what is wrong with them
        self.count = count
        self.size = size
        self.first_seed = first_seed
        code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        self.fingerprint = hashlib.sha256(f"{code}-{size}-{first_seed}-{count}".encode()).hexdigest()
        """Identifies what the items show, the code that draws them included."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        index = item.index if isinstance(item, Draw) else item
        if not 0 <= index < self.count:
            raise IndexError(f"shape {index} of {self.count}")
        drawn = draw_shape(self.first_seed + index, size=self.size)
        image = torch.from_numpy(np.ascontiguousarray(drawn.image.transpose(2, 0, 1)))
        return {"real": rescale(image, source=(0, 255), target=(-1, 1)), "label": torch.tensor(drawn.label)}


# Form


@cache
def _contours(name: str) -> Contours:
    """Closed polygons (K, 2) of x to the right and y down, about the origin, of a radius of about 1.

    What lies in two of them lies outside of the shape, so that a ring is two circles.
    """
    corners: list[tuple[float, float]]
    match name:
        case "disc":
            return (_arc(0, 2 * math.pi),)
        case "ring":
            return _arc(0, 2 * math.pi), 0.62 * _arc(0, 2 * math.pi)
        case "square":
            corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
            return (0.82 * np.array(corners),)
        case "triangle":
            return (1.1 * _arc(-math.pi / 2, 1.5 * math.pi, points=4)[:3],)
        case "star":
            spokes = _arc(-math.pi / 2, 1.5 * math.pi, points=11)[:10]
            spokes[1::2] *= 0.42
            return (1.1 * spokes,)
        case "cross":
            a = 0.28
            corners = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a)]
            return (np.array([*corners, *((-x, -y) for x, y in corners)]),)
        case "crescent":
            # A disc less a smaller one to its right; the two circles cross at these angles about their centres.
            distance, smaller = 0.5, 0.78
            x = (1 - smaller**2 + distance**2) / (2 * distance)
            outer, inner = math.acos(x), math.acos((x - distance) / smaller)
            bite = smaller * _arc(2 * math.pi - inner, inner) + [distance, 0]
            return (np.concatenate([_arc(outer, 2 * math.pi - outer), bite]),)
        case "heart":
            t = np.linspace(0, 2 * math.pi, 49)[:-1]
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return (np.stack([16 * np.sin(t) ** 3, -2.5 - y], axis=1) / 15.5,)
        case "arrow":
            corners = [(-1, -0.26), (0.05, -0.26), (0.05, -0.78), (1, 0)]
            return (np.array([*corners, *((x, -y) for x, y in corners[-2::-1])]),)
        case "bolt":
            corners = [(-0.15, -1), (0.5, -1), (0.18, -0.28), (0.65, -0.28), (-0.45, 1), (-0.12, 0.06), (-0.62, 0.06)]
            return (0.97 * np.array(corners),)
    raise AssertionError(name)


def _arc(start: float, end: float, *, points: int = 40) -> np.ndarray:
    """(points, 2) on the unit circle, from one angle to another, both included; clockwise as seen where end > start."""
    angles = np.linspace(start, end, points)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _placed(contours: Contours, radius: float, *, reach: float, random: np.random.Generator) -> Contours:
    """The contours mirrored or not, stretched, tilted, and put anywhere in the unit square where they fit.

    reach: what will be drawn beyond them.
    """
    tilt = random.uniform(-LARGEST_TILT, LARGEST_TILT)
    stretch = random.uniform(0.9, 1.1)
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    scale = (radius - reach) * np.array([stretch * random.choice([-1, 1]), 1 / stretch])
    contours = tuple(contour * scale @ turn.T for contour in contours)
    low, high = contours[0].min(axis=0) - reach - MARGIN, contours[0].max(axis=0) + reach + MARGIN
    shift = random.random(2) * (1 - (high - low)) - low
    return tuple(contour + shift for contour in contours)


def _coverage(contours: Contours, size: int, *, grown: float) -> np.ndarray:
    """(S, S) float32 in [0, 1]: the share of each pixel that lies inside, or within `grown` of the outline.

    Growing rounds the corners.
    """
    fine = size * OVERSAMPLING
    # Pixel centres lie at whole numbers in OpenCV, at halves here.
    corners = [np.rint((contour * fine - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32) for contour in contours]
    mask = np.zeros((fine, fine), np.uint8)
    cv2.fillPoly(mask, corners, 255, shift=SUBPIXEL_BITS)
    cv2.polylines(mask, corners, True, 255, thickness=max(1, round(2 * grown * fine)), shift=SUBPIXEL_BITS)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


# Colour


def _colours(
    random: np.random.Generator,
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The two ends of a shape's shading (dark, bright), its rim, and the two ends of the background.

    One of shape and background is darker than the other, whatever their hues; ends lie away from each other.
    """
    dark = random.uniform(0.34, 0.58)
    bright = random.uniform(dark + SMALLEST_GAP, 0.95)
    darker, brighter = dark - random.uniform(0.02, 0.14), bright + random.uniform(0.02, 0.1)
    hue, ground_hue, turn = random.uniform(0, 2 * math.pi, 3)
    turn = 0.8 * math.cos(turn)
    chroma, ground_chroma = random.uniform(0.06, 0.18), random.uniform(0.01, 0.13)
    if random.random() < 0.5:
        low, high, ground_low, ground_high = bright, brighter, darker, dark
    else:
        low, high, ground_low, ground_high = darker, dark, bright, brighter
    shape = _rgb(low, chroma, hue), _rgb(high, chroma, hue)
    ground = _rgb(ground_low, ground_chroma, ground_hue), _rgb(ground_high, ground_chroma, ground_hue + turn)
    return shape, _rgb(low - 0.22, chroma, hue), ground


def _rgb(lightness: float, chroma: float, hue: float) -> np.ndarray:
    """(3,) float32 sRGB in [0, 1] of a colour in OKLCh (Ottosson 2020), in which lightness is what is seen as such."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.array(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ]
    ).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def _between(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`start` where the share (S, S) is 0, `end` where it is 1; each (3,) or (S, S, 3)."""
    return start + (end - start) * share[..., None]


def _ground(random: np.random.Generator, size: int) -> np.ndarray:
    """(S, S) float32 in [0, 1]: where the background has which of its colours, a slope or soft clouds."""
    if random.random() < 0.5:
        return _ramp(size, angle=random.uniform(0, 2 * math.pi))
    clouds = random.random((4, 4), dtype=np.float32)
    return cv2.resize(clouds, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _ramp(size: int, *, angle: float) -> np.ndarray:
    """(S, S) float32 from 0 to 1 along a direction; at an angle of π/2 the top is 1."""
    middles = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = math.cos(angle), -math.sin(angle)
    slope = (x * middles + y * middles[:, None]) / (abs(x) + abs(y))
    return (slope + 0.5).astype(np.float32)
