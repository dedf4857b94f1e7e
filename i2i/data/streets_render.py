"""Draws a procedural street: flat faces in space → labels, instances, a photo by day and one by night.

Faces are painted far to near into a picture of face numbers. The plane of its face gives each pixel its
point in space, and everything else (windows, bricks, shadows, haze, lamp light) is a function of that point.
Nothing depends on the resolution, so a street looks the same at every size.

Lengths are in metres: x to the right, y up, z away from the viewer. Colours are RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

CLASSES = ("sky", "building", "window", "door", "road", "pavement", "tree", "car", "person", "lamp")
SKY, BUILDING, WINDOW, DOOR, ROAD, PAVEMENT, TREE, CAR, PERSON, LAMP = range(len(CLASSES))

Colour = tuple[float, float, float]
Corners = Sequence[tuple[float, float, float]]

# The sun stands behind the viewer's left shoulder in every street: left rows lie in shade, right rows in light.
SUN = np.array([-0.56, 0.74, -0.37]) / np.linalg.norm([-0.56, 0.74, -0.37])
SUNLIGHT = np.array([0.86, 0.78, 0.64], np.float32)[:, None]
SKYLIGHT = np.array([0.50, 0.55, 0.64], np.float32)[:, None]
HORIZON = np.array([0.80, 0.86, 0.91], np.float32)[:, None]
ZENITH = np.array([0.27, 0.49, 0.80], np.float32)[:, None]
MOONLIGHT = np.array([0.100, 0.115, 0.175], np.float32)[:, None]
NIGHT_HORIZON = np.array([0.100, 0.088, 0.120], np.float32)[:, None]
NIGHT_ZENITH = np.array([0.018, 0.024, 0.062], np.float32)[:, None]
CURTAIN_GLOW = np.array([1.00, 0.74, 0.36], np.float32)[:, None]
SHOP_GLOW = np.array([1.00, 0.86, 0.58], np.float32)[:, None]
NEAR_M = 0.4
SUPERSAMPLING = 2
SKYLINE_START_M, SKYLINE_STEP_M, SKYLINE_STEPS = -60.0, 0.25, 1000


class Material(IntEnum):
    """How the colour inside a face comes about."""

    SKY = 0
    GROUND = 1
    WALL = 2
    LEAVES = 3
    FLAT = 4


@dataclass(frozen=True, kw_only=True)
class Style:
    """An architecture: everything that a label map shows by the layout of the windows."""

    wall: Colour
    trim: Colour
    frame: Colour
    sign: Colour
    bay_m: float
    storey_m: float
    window_half_m: float  # half a window's width
    pair_m: float = 0.0  # two windows a bay, this far from its middle
    sill_m: float
    head_m: float  # the window's top above the floor
    arch_m: float = 0.0  # how far the window's corners lie below its top
    shutter_m: float = 0.0  # a shutter's width
    block_m: tuple[float, float] = (3.0, 3.0)  # a brick's or panel's length and height
    joint: float = 0.0  # contrast of the joints between the blocks
    mottle: float = 0.03  # contrast from one block to the next
    roof: Colour | None = None  # of a pitched roof; without, the roof is flat


@dataclass(frozen=True, kw_only=True)
class Wall:
    """One wall of a building, as its texture sees it; u runs along the wall, y up."""

    style: Style
    start_m: float  # u where the wall begins
    length_m: float
    height_m: float
    ground_m: float  # height of the ground floor
    shop: bool
    door_bay: int
    windows: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Face:
    """A flat polygon. `wall` is a row of `Street.walls`; `middle` and `radius_m` (both x, y) shape the leaves."""

    corners: Corners
    label: int
    instance: int
    colour: Colour = (0.5, 0.5, 0.5)
    glow: Colour = (0.0, 0.0, 0.0)  # light given off by night
    material: Material = Material.FLAT
    wall: int = 0
    middle: tuple[float, float] = (0.0, 0.0)
    radius_m: tuple[float, float] = (1.0, 1.0)


BACKDROP = (
    Face([(-1e5, -1e5, 2e4), (1e5, -1e5, 2e4), (1e5, 1e5, 2e4), (-1e5, 1e5, 2e4)], SKY, 0, material=Material.SKY),
    Face([(-3e3, 0, -60), (3e3, 0, -60), (3e3, 0, 4e3), (-3e3, 0, 4e3)], PAVEMENT, 0, material=Material.GROUND),
)


@dataclass(frozen=True, slots=True)
class Light:
    """A light by night; its strength is 1 at the source and a quarter at `radius_m`."""

    position: tuple[float, float, float]
    colour: Colour
    radius_m: float


@dataclass(frozen=True, kw_only=True)
class Street:
    """What stands in a street; the middle of its road is the plane x = 0.

    Houses and things come as (nearest z, faces), in any order; their faces in the order of painting.
    """

    road_half_m: float
    facade_m: float  # the two rows of houses stand at ± x
    walls: list[Wall]
    houses: list[tuple[float, list[Face]]]
    things: list[tuple[float, list[Face]]]
    shadows: list[Corners]  # of each, the hull of its points' shadows falls on the ground
    skyline: np.ndarray  # (SKYLINE_STEPS,) float32: height of the left row at SKYLINE_START_M + SKYLINE_STEP_M · i
    lights: list[Light]
    crossings: list[float]  # z of the zebra crossings
    clouds: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Looks along z. `centre` (x, y) is the vanishing point as a share of the picture's width and height."""

    position: tuple[float, float, float]
    centre: tuple[float, float]
    focal: float  # in shorter sides of the picture


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """(H, W) uint8 classes, (H, W) uint16 instances, and two (H, W, 3) uint8 RGB photos."""

    labels: np.ndarray
    instances: np.ndarray
    day: np.ndarray
    night: np.ndarray


def render(street: Street, *, camera: Camera, size: tuple[int, int], noise_seed: Sequence[int]) -> Rendering:
    """Draw `street` at `size` (height, width)."""
    s = SUPERSAMPLING
    height, width = size[0] * s, size[1] * s
    focal = camera.focal * min(height, width)
    centre = np.array([camera.centre[0] * width, camera.centre[1] * height])
    eye = np.array(camera.position)

    faces = list(BACKDROP)
    for standing in (street.houses, street.things):
        for _, group in sorted(standing, key=lambda one: -one[0]):
            faces.extend(group)
    face_of = _paint(faces, eye=eye, focal=focal, centre=centre, shape=(height, width))
    pixels = _Pixels(faces, face_of, eye=eye, focal=focal, centre=centre)
    shadow = _cast_shadows(street, eye=eye, focal=focal, centre=centre, shape=(height, width)).ravel()

    _lay_ground(pixels, street)
    _build_walls(pixels, street)
    _grow_leaves(pixels)
    photos = _day(pixels, street, shadow), _night(pixels, street)

    rng = np.random.default_rng(noise_seed)
    finished = []
    for photo in photos:
        image = cv2.resize(cv2.merge(list(photo.reshape(3, height, width))), size[::-1], interpolation=cv2.INTER_AREA)
        # One sample a pixel has edges harder than any camera's: this stands for a pixel's area, and brings the
        # Laplacian energy down to that of a picture drawn four times as large and averaged.
        image = cv2.GaussianBlur(image, (3, 3), 0.4)
        noise = rng.integers(-3, 4, image.shape, dtype=np.int8)  # a standard deviation of 2 grey levels
        finished.append(np.clip(image * 255 + noise + 0.5, 0, 255).astype(np.uint8))
    every = np.s_[s // 2 :: s, s // 2 :: s]
    return Rendering(
        labels=np.ascontiguousarray(pixels.label.reshape(height, width)[every]),
        instances=np.ascontiguousarray(pixels.instance.reshape(height, width)[every]),
        day=finished[0],
        night=finished[1],
    )


# Geometry


def _project(points: np.ndarray, *, eye: np.ndarray, focal: float, centre: np.ndarray) -> np.ndarray:
    """(n, 3) points in front of the viewer → (n, 2) pixels."""
    away = points - eye
    return centre + focal * np.stack([away[:, 0], -away[:, 1]], axis=1) / away[:, 2:]


def _clip_near(corners: np.ndarray, near_z: float) -> np.ndarray:
    """The part of a polygon beyond the plane z = near_z (Sutherland and Hodgman's algorithm)."""
    kept = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if a[2] >= near_z:
            kept.append(a)
        if (a[2] >= near_z) != (b[2] >= near_z):
            kept.append(a + (b - a) * (near_z - a[2]) / (b[2] - a[2]))
    return np.array(kept).reshape(-1, 3)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    """Pixel corners in sixteenths, as OpenCV's `shift=4` reads them."""
    return np.rint(np.clip(points, -8e6, 8e6) * 16 - 8).astype(np.int32)


def _paint(
    faces: list[Face], *, eye: np.ndarray, focal: float, centre: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """(H, W) uint16: which face each pixel shows."""
    near_z = eye[2] + NEAR_M
    polygons = [np.array(face.corners, dtype=np.float64) for face in faces]
    for i, polygon in enumerate(polygons):
        if polygon[:, 2].min() < near_z:
            polygons[i] = _clip_near(polygon, near_z)
    ends = np.cumsum([len(polygon) for polygon in polygons])
    flat = _fixed_point(_project(np.concatenate(polygons), eye=eye, focal=focal, centre=centre))
    canvas = np.zeros(shape, np.uint16)
    start = 0
    for i, end in enumerate(ends):
        if end - start >= 3:
            cv2.fillPoly(canvas, [flat[start:end]], i, lineType=cv2.LINE_8, shift=4)
        start = end
    return canvas


def _cast_shadows(
    street: Street, *, eye: np.ndarray, focal: float, centre: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the shadows of things on the ground."""
    canvas = np.zeros(shape, np.uint8)
    for corners in street.shadows:
        points = np.array(corners)
        ground = points - points[:, 1:2] * (SUN / SUN[1])
        ground = ground[ground[:, 2] > eye[2] + NEAR_M]
        if len(ground) >= 3:
            flat = _fixed_point(_project(ground, eye=eye, focal=focal, centre=centre))
            cv2.fillConvexPoly(canvas, cv2.convexHull(flat), 255, lineType=cv2.LINE_8, shift=4)
    blur = max(3, shape[0] // 128 * 2 + 1)
    return cv2.blur(canvas, (blur, blur)).astype(np.float32) / 255


class _Pixels:
    """Every pixel's face, its point (x, y, z) and what its surface is like; all arrays are flat, (n,) or (3, n)."""

    def __init__(
        self, faces: list[Face], face_of: np.ndarray, *, eye: np.ndarray, focal: float, centre: np.ndarray
    ) -> None:
        corners = np.array([face.corners[:3] for face in faces])
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        distance = ((corners[:, 0] - eye) * normal).sum(axis=1)
        normal[distance > 0] *= -1  # towards the viewer
        distance = -np.abs(distance)

        height, width = face_of.shape
        face = face_of.ravel().astype(np.intp)
        across = np.tile(((np.arange(width) + 0.5 - centre[0]) / focal).astype(np.float32), height)
        up = np.repeat((-(np.arange(height) + 0.5 - centre[1]) / focal).astype(np.float32), width)
        plane = np.concatenate([normal, distance[:, None]], axis=1).T.astype(np.float32)
        nx, ny, nz, d = plane[:, face]
        depth = d / np.minimum(nx * across + ny * up + nz, -1e-5)

        self.shape = face_of.shape
        self.eye = eye
        self.focal = focal
        self.face = face
        self.across, self.up, self.depth = across, up, depth
        self.x = eye[0].astype(np.float32) + across * depth
        self.y = eye[1].astype(np.float32) + up * depth
        self.z = eye[2].astype(np.float32) + depth
        self.sideways = np.abs(nx) > 0.7  # walls along the street, whose u is z
        self.lambert = np.clip(normal @ SUN, 0, None).astype(np.float32)[face]
        self.material = np.array([f.material for f in faces], np.uint8)[face]
        self.label = np.array([f.label for f in faces], np.uint8)[face]
        self.instance = np.array([f.instance for f in faces], np.uint16)[face]
        self.wall = np.array([f.wall for f in faces], np.intp)
        self.middle = np.array([(*f.middle, *f.radius_m) for f in faces], np.float32).T
        self.colour = np.array([f.colour for f in faces], np.float32).T[:, face]
        self.glow = np.array([f.glow for f in faces], np.float32).T[:, face]

    def of(self, material: Material) -> np.ndarray:
        """The numbers of the pixels of a material."""
        return np.flatnonzero(self.material == material)


# Surfaces


@cache
def _noise_field() -> np.ndarray:
    """(256, 256) float32 in [-1, 1]: fractal noise that repeats at its borders; the same for every street."""
    rng = np.random.default_rng(0)
    total = np.zeros((256, 256), np.float32)
    for octave in range(4):
        cells = 16 << octave
        lattice = rng.random((cells, cells)).astype(np.float32)
        padded = np.pad(lattice, 2, mode="wrap")
        step = 256 // cells
        smooth = cv2.resize(padded, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += smooth[2 * step : 2 * step + 256, 2 * step : 2 * step + 256] * 0.5**octave
    return np.clip((total - total.mean()) / (2 * total.std()), -1, 1)


def _noise_at(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth noise in [-1, 1] at (n,) coordinates, with features of about 1."""
    place = np.zeros((2, -(-len(u) // 256) * 256), np.float32)  # OpenCV wants a picture of coordinates
    place[0, : len(u)], place[1, : len(u)] = u * 16, v * 16
    columns, rows = place.reshape(2, -1, 256)
    noise = cv2.remap(_noise_field(), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return noise.ravel()[: len(u)]


def _hash(a: np.ndarray, b: np.ndarray, c: np.ndarray | int) -> np.ndarray:
    """A number in [0, 1) that looks random, from three integers."""
    first, second, third = (np.asarray(value).astype(np.int32).astype(np.uint32) for value in (a, b, c))
    mixed = (first * np.uint32(73856093)) ^ (second * np.uint32(19349663)) ^ (third * np.uint32(83492791))
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(1274126177)
    return ((mixed >> 8) & 0xFFFF).astype(np.float32) / 65536


def _lay_ground(pixels: _Pixels, street: Street) -> None:
    at = pixels.of(Material.GROUND)
    x, z = pixels.x[at], pixels.z[at]
    side = np.abs(x)
    half = street.road_half_m
    road = side < half
    pixels.label[at] = np.where(road, ROAD, PAVEMENT)
    detail = np.clip(1.6 - pixels.depth[at] / (0.035 * pixels.focal), 0, 1)  # joints blur out with distance

    grain = 0.4 * _noise_at(x * 0.3, z * 0.15) + 0.6 * detail * _noise_at(x * 2.5, z * 1.5)
    value = np.where(road, np.float32(0.36), np.float32(0.60)) + 0.02 * grain
    value -= np.float32(0.035) * road * np.clip(1 - np.abs(np.abs(side - 0.47 * half) - 0.8) * 2, 0, 1)  # tyres
    slab = (np.abs(x * 1.25 - np.rint(x * 1.25)) < 0.07) | (np.abs(z * 0.8 - np.rint(z * 0.8)) < 0.06)
    value -= np.where(slab & ~road, 0.13, 0) * detail
    value += np.where((np.floor(x * 1.25) + np.floor(z * 0.8)).astype(np.int32) & 1 == 0, 0.025, 0) * ~road * detail
    kerb = np.abs(side - half - 0.16) < 0.16
    value = np.where(kerb, np.float32(0.74), value)
    value = np.where(np.abs(side - half + 0.17) < 0.17, np.float32(0.22), value)  # gutter
    value *= 1 - 0.25 * np.clip(1 - (street.facade_m - side) * 1.2, 0, 1)  # the corner below the houses is dim
    colour = np.stack([value, value * 0.985, value * 0.96])

    dash = (side < 0.11) & (z * 0.16 - np.floor(z * 0.16) < 0.5)
    edge = np.abs(side - half + 0.62) < 0.09
    zebra = np.zeros_like(road)
    for crossing in street.crossings:
        zebra |= (np.abs(z - crossing) < 1.6) & (x * 1.0 - np.floor(x * 1.0) < 0.5) & (side < half - 0.4)
    paint = (dash | edge | zebra) & road
    colour[:, paint] = np.array([[0.86], [0.86], [0.83]], np.float32)
    pixels.colour[:, at] = colour


class _Bays(NamedTuple):
    """Where each pixel of a wall lies within its bay and storey, and the opening there; (n,) arrays, metres."""

    column: np.ndarray  # number of the bay
    level: np.ndarray  # number of the storey, 0 at the ground
    from_middle: np.ndarray  # along the wall, from the middle of the bay
    above: np.ndarray  # above the floor
    shop: np.ndarray
    door: np.ndarray
    half: np.ndarray
    sill: np.ndarray
    head: np.ndarray
    pair: np.ndarray
    offset: np.ndarray  # from the middle of the opening
    sunk: np.ndarray  # below the opening's top
    inside: np.ndarray  # to the opening's border; negative outside


def _measure(u: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> _Bays:
    """Divide the wall at (u, y) into bays and storeys by the `_wall_numbers` of every pixel."""
    _, bays, height, ground, shop, door_bay, windows, _ = numbers[:8]
    bay, storey, half, pair, sill, head, arch = numbers[8:15]
    column = np.floor(u / bay)
    from_middle = u - (column + 0.5) * bay
    upper = y >= ground
    level = np.where(upper, np.floor((y - ground) / storey) + 1, 0)
    above = np.where(upper, y - ground - (level - 1) * storey, y)
    is_shop = ~upper & (shop > 0)
    is_door = ~upper & (column == door_bay)

    half = np.where(is_door, 0.62, np.where(is_shop, bay * 0.5 - 0.22, half))
    sill = np.where(is_door, 0.0, np.where(is_shop, 0.55, sill))
    head = np.where(is_door, 2.45, np.where(is_shop, ground - 0.95, head))
    pair = np.where(is_door | is_shop, 0, pair)
    arch = np.where(is_shop, 0, arch)
    offset = np.abs(np.abs(from_middle) - pair)
    sunk = head - arch * np.square(offset / half) - above
    inside = np.minimum(np.minimum(half - offset, above - sill), sunk)
    exists = (windows > 0) & (column >= 0) & (column < bays) & (ground + level * storey <= height + 0.01)
    inside = np.where(exists, inside, -9)
    return _Bays(column, level, from_middle, above, is_shop, is_door, half, sill, head, pair, offset, sunk, inside)


def _wall_numbers(wall: Wall) -> tuple[float, ...]:
    style = wall.style
    bays, rest = divmod(wall.length_m, style.bay_m)
    return (
        *(wall.start_m + rest / 2, bays, wall.height_m, wall.ground_m),
        *(wall.shop, wall.door_bay, wall.windows, wall.seed),
        *(style.bay_m, style.storey_m, style.window_half_m, style.pair_m, style.sill_m, style.head_m, style.arch_m),
        *(*style.block_m, style.joint, style.mottle, style.shutter_m),
    )


def _build_walls(pixels: _Pixels, street: Street) -> None:
    """Bricks, panels, cornices, shop fronts, and in the openings doors and windows."""
    at = pixels.of(Material.WALL)
    wall = pixels.wall[pixels.face[at]]
    numbers = np.array([_wall_numbers(w) for w in street.walls], np.float32).T[:, wall]
    styles = [w.style for w in street.walls]
    colours = np.array([(s.wall, s.trim, s.frame, s.sign) for s in styles], np.float32).transpose(1, 2, 0)

    y = pixels.y[at]
    u = np.where(pixels.sideways[at], pixels.z[at], pixels.x[at]) - numbers[0]
    detail = np.clip(1.7 - pixels.depth[at] / (0.075 * pixels.focal), 0, 1)  # bricks blur out with distance
    bays = _measure(u, y, numbers)
    pixels.colour[:, at], board = _wall_colour(u, y, detail, bays, numbers, colours, wall)
    pixels.glow[:, at[board]] = 0.35 * colours[3][:, wall[board]]

    here = np.flatnonzero(bays.inside > 0)
    openings = _Bays(*(values[here] for values in bays))
    at, wall, seed = at[here], wall[here], numbers[7, here]
    colour, glow = _fill_openings(openings, seed=seed, frame=colours[2][:, wall], paint=colours[3][:, wall])
    pixels.colour[:, at] = colour
    pixels.glow[:, at] = glow
    pixels.label[at] = np.where(openings.door, DOOR, WINDOW)


def _wall_colour(
    u: np.ndarray,
    y: np.ndarray,
    detail: np.ndarray,
    bays: _Bays,
    numbers: np.ndarray,
    colours: np.ndarray,
    wall: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(3, n) colours around the openings, and (n,) whether a pixel belongs to a shop's sign board."""
    height, ground, windows, storey = numbers[2], numbers[3], numbers[6], numbers[9]
    block_u, block_y, joint, mottle, shutter = numbers[15:]
    upper = bays.level > 0

    course = np.floor(y / block_y)
    along = u / block_u + 0.5 * (course.astype(np.int32) & 1)
    block = np.floor(along)
    mortar = (y - course * block_y < 0.2 * block_y) | (along - block < 0.2 * block_y / block_u)
    shade = 1 + detail * (mottle * (_hash(block, course, 7) - 0.5) - joint * mortar)
    shade += 0.03 * _noise_at(u * 0.2, y * 0.12)
    shade *= 0.90 + 0.10 * np.minimum(y / 3, 1)
    below_top = height - y
    cornice = below_top < 0.45
    under_ledge = (np.abs(below_top - 0.62) < 0.17) | ((bays.above > storey - 0.12) & upper & ~cornice)
    shade *= np.where(under_ledge, np.float32(0.72), np.float32(1))
    colour = colours[0][:, wall] * shade

    def paint(mask: np.ndarray, values: np.ndarray, factor: np.ndarray | float = 1.0) -> None:
        colour[:, mask] = values[:, wall[mask]] * factor

    surround = (bays.inside > -0.17) & (bays.inside <= 0) & ~bays.shop
    ledge = (bays.above < 0.16) & upper & (bays.sill > 0.2)
    paint((y < 0.5) & ~bays.shop, colours[0], 0.68)
    paint(surround | cornice | ledge, colours[1])
    beside = bays.offset - bays.half
    shutters = (beside > 0) & (beside < shutter) & upper & (bays.above > bays.sill) & (bays.sunk > 0)
    shutters &= bays.inside > -9
    slats = 0.82 + 0.18 * (np.floor(bays.above[shutters] * 5).astype(np.int32) & 1)
    paint(shutters, colours[2], slats)
    board = bays.shop & (bays.above > ground - 0.85) & (bays.above < ground - 0.15) & (windows > 0)
    paint(board, colours[3])
    awning = board & (bays.above < ground - 0.50) & (np.floor(bays.from_middle * 2.5).astype(np.int32) & 1 == 0)
    paint(awning, 0.35 * colours[3] + 0.55)
    return colour, board


def _fill_openings(
    bays: _Bays, *, seed: np.ndarray, frame: np.ndarray, paint: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(3, n) colours and (3, n) light by night of windows and doors.

    Glass mirrors the sky above and the street below. Some windows are curtained: those are lit by night.
    """
    share = np.clip((bays.above - bays.sill) / np.maximum(bays.head - bays.sill, 0.1), 0, 1)
    second = (bays.from_middle > 0) & (bays.pair > 0)
    curtained = (_hash(bays.column * 2 + second, bays.level, seed) < 0.42) & ~bays.shop
    glass = np.stack([0.16 + 0.30 * share, 0.22 + 0.34 * share, 0.30 + 0.38 * share])
    folds = 0.90 + 0.10 * np.cos(bays.from_middle * 14)
    cloth = np.array([[0.80], [0.74], [0.62]], np.float32) * folds
    glass = np.where(curtained, 0.42 * glass + 0.58 * cloth, glass)
    shelf = bays.shop & (np.abs(bays.above - 1.15) < 0.09)
    glass = np.where(bays.shop, glass * 0.75 + np.array([[0.12], [0.09], [0.05]], np.float32), glass)
    glass = np.where(shelf, np.array([[0.55], [0.46], [0.34]], np.float32), glass)
    glass *= np.where(bays.sunk < 0.28, np.float32(0.66), np.float32(1))  # the lintel's shadow
    transom = np.abs(share - 0.68) * (bays.head - bays.sill) < 0.045
    bars = ((bays.inside < 0.10) | (bays.offset < 0.05) | transom) & ~shelf
    colour = np.where(bars, frame, glass)

    side = np.abs(np.abs(bays.from_middle) - 0.28) < 0.05
    panels = side | (np.abs(bays.above - 1.1) < 0.06) | (bays.inside < 0.09)
    leaf = paint * np.where(panels, np.float32(0.6), np.float32(0.95))
    leaf = np.where(bays.above > 1.95, glass * 0.8, leaf)
    colour = np.where(bays.door, leaf, colour)

    strength = np.where(bays.shop, 0.95 - 0.25 * share, 0.95 - 0.45 * np.abs(share - 0.55))
    strength *= np.where(shelf, np.float32(0.45), np.float32(1)) * ((curtained | bays.shop) & ~bars & ~bays.door)
    return colour, np.where(bays.shop, SHOP_GLOW, CURTAIN_GLOW) * strength


def _grow_leaves(pixels: _Pixels) -> None:
    """Crowns look round: bright towards the sun, dark below, with clumps of leaves."""
    at = pixels.of(Material.LEAVES)
    x0, y0, radius_x, radius_y = pixels.middle[:, pixels.face[at]]
    u, v = (pixels.x[at] - x0) / radius_x, (pixels.y[at] - y0) / radius_y
    toward = np.sqrt(np.clip(1.2 - u * u - v * v, 0, 1))
    round_light = (SUN[0] * u + SUN[1] * v - SUN[2] * toward).astype(np.float32)
    clumps = _noise_at(u * 2.3 + 3, v * 2.3 * radius_y / radius_x + 5)
    shade = np.clip(0.80 + 0.42 * round_light + 0.55 * clumps, 0.25, 1.8)
    pixels.colour[:, at] *= shade
    pixels.lambert[at] = 0.62


# Light


def _day(pixels: _Pixels, street: Street, shadow: np.ndarray) -> np.ndarray:
    """(3, n) float32 in [0, 1]."""
    # Where the ray towards the sun meets the plane of the left row, the row's height there decides.
    reach = (pixels.x + np.float32(street.facade_m)) / np.float32(-SUN[0])
    height = pixels.y + reach * np.float32(SUN[1])
    place = ((pixels.z + reach * np.float32(SUN[2])) - SKYLINE_START_M) / SKYLINE_STEP_M
    row = street.skyline[np.clip(place, 0, SKYLINE_STEPS - 1).astype(np.intp)]
    sunny = np.where(reach > 0, np.clip((height - row) * 2.5 + 0.5, 0, 1), 1)
    sunny *= 1 - shadow * (pixels.material == Material.GROUND)

    sky_share = 1 - 0.18 * shadow * (pixels.material == Material.GROUND)
    light = SUNLIGHT * (pixels.lambert * sunny) + SKYLIGHT * sky_share
    photo = pixels.colour * light
    haze = 1 - np.exp(pixels.depth * np.float32(-1 / 130))
    photo += (HORIZON - photo) * haze

    sky = pixels.of(Material.SKY)
    across, up = pixels.across[sky], np.maximum(pixels.up[sky], 0)
    rise = 1 - np.exp(-2.6 * up)
    blue = HORIZON + (ZENITH - HORIZON) * rise
    far = 1 / (up + 0.30)
    cover = _noise_at(across * far * 0.9 + street.clouds[0], far * 1.9 + street.clouds[1])
    cover = np.clip(cover * 1.2 - 0.15, 0, 1) * np.minimum(up * 5, 1) * 0.6
    photo[:, sky] = blue + (np.float32(0.97) - blue) * cover
    return np.clip(photo, 0, 1)


def _night(pixels: _Pixels, street: Street) -> np.ndarray:
    """(3, n) float32 in [0, 1]."""
    light = np.repeat(MOONLIGHT, len(pixels.x), axis=1)
    near = [lamp for lamp in street.lights if -6 < lamp.position[2] - pixels.eye[2] < 70]
    for colour in sorted({lamp.colour for lamp in near}):
        strength = np.zeros_like(pixels.x)
        for lamp in near:
            if lamp.colour == colour:
                x, y, z = lamp.position
                squared = np.square(pixels.x - x) + np.square(pixels.y - y) + np.square(pixels.z - z)
                strength += np.square(1 / (1 + squared * np.float32(1 / lamp.radius_m**2)))
        light += np.array(colour, np.float32)[:, None] * strength
    photo = pixels.colour * light
    haze = 1 - np.exp(pixels.depth * np.float32(-1 / 150))
    photo += (NIGHT_HORIZON - photo) * haze
    photo += pixels.glow * (1 - 0.5 * haze)

    sky = pixels.of(Material.SKY)
    up = np.maximum(pixels.up[sky], 0)
    dark = NIGHT_HORIZON + (NIGHT_ZENITH - NIGHT_HORIZON) * (1 - np.exp(-4 * up))
    # A star shines in the middle of some cells of a grid that is fixed to the sky.
    u, v = (pixels.across[sky] + 4) * 70, (up + 4) * 70
    column, row = np.floor(u), np.floor(v)
    bright = np.maximum(_hash(column, row, int(street.clouds[0] * 1000)) - 0.985, 0) * 90
    photo[:, sky] = dark + bright * (np.square(u - column - 0.5) + np.square(v - row - 0.5) < 0.06)
    return np.clip(_bloom(photo, pixels.shape), 0, 1)


def _bloom(photo: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bright lights spill over their surroundings, as in a real lens."""
    height, width = shape
    image = cv2.merge(list(photo.reshape(3, height, width)))
    small = cv2.resize(image, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_AREA)
    spill = cv2.GaussianBlur(np.maximum(small - 0.35, 0), (0, 0), sigmaX=max(min(shape) / 4 / 28, 0.5))
    image += 0.9 * cv2.resize(spill, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.stack(cv2.split(image)).reshape(3, -1)
