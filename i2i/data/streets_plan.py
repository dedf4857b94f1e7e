"""Decides what stands in a street: houses, trees, lamps, people, cars and the camera, all from one seed.

What a thing looks like shows in its outline, so that a label map says enough to paint by: an architecture has its
own layout of windows, a car's colour goes with its shape, a person's clothes with the silhouette.

Lengths are in metres, colours RGB in [0, 1]; the axes are those of `streets_render`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from i2i.data.streets_render import (
    BUILDING,
    CAR,
    LAMP,
    PERSON,
    SKYLINE_START_M,
    SKYLINE_STEP_M,
    SKYLINE_STEPS,
    TREE,
    Camera,
    Colour,
    Corners,
    Face,
    Light,
    Material,
    Street,
    Style,
    Wall,
)

Outline = Sequence[tuple[float, float]]

BRICK = Style(
    wall=(0.64, 0.29, 0.21),
    trim=(0.88, 0.82, 0.72),
    frame=(0.93, 0.92, 0.88),
    sign=(0.12, 0.30, 0.22),
    roof=(0.42, 0.25, 0.20),
    bay_m=3.4,
    storey_m=3.1,
    window_half_m=0.45,
    pair_m=0.66,
    sill_m=0.95,
    head_m=2.45,
    block_m=(0.66, 0.29),
    joint=0.30,
    mottle=0.22,
)
OCHRE = Style(
    wall=(0.90, 0.71, 0.38),
    trim=(0.96, 0.90, 0.76),
    frame=(0.20, 0.40, 0.31),
    sign=(0.55, 0.14, 0.12),
    roof=(0.68, 0.34, 0.22),
    bay_m=2.7,
    storey_m=3.2,
    window_half_m=0.48,
    sill_m=0.45,
    head_m=2.65,
    shutter_m=0.42,
)
CREAM = Style(
    wall=(0.90, 0.88, 0.82),
    trim=(0.58, 0.64, 0.68),
    frame=(0.36, 0.42, 0.48),
    sign=(0.13, 0.24, 0.45),
    roof=(0.32, 0.34, 0.38),
    bay_m=3.2,
    storey_m=2.9,
    window_half_m=0.72,
    sill_m=0.85,
    head_m=2.25,
)
SANDSTONE = Style(
    wall=(0.76, 0.62, 0.47),
    trim=(0.88, 0.78, 0.63),
    frame=(0.34, 0.22, 0.15),
    sign=(0.36, 0.20, 0.11),
    bay_m=2.9,
    storey_m=3.6,
    window_half_m=0.66,
    sill_m=0.75,
    head_m=2.95,
    arch_m=0.75,
    block_m=(1.3, 0.60),
    joint=0.22,
    mottle=0.10,
)
CONCRETE = Style(
    wall=(0.62, 0.63, 0.62),
    trim=(0.72, 0.73, 0.72),
    frame=(0.24, 0.26, 0.28),
    sign=(0.72, 0.46, 0.10),
    bay_m=5.2,
    storey_m=3.0,
    window_half_m=2.42,
    sill_m=1.0,
    head_m=2.45,
    block_m=(2.6, 3.0),
    joint=0.22,
    mottle=0.05,
)
GLASS = Style(
    wall=(0.26, 0.32, 0.37),
    trim=(0.36, 0.43, 0.48),
    frame=(0.44, 0.53, 0.59),
    sign=(0.10, 0.36, 0.46),
    bay_m=1.7,
    storey_m=3.3,
    window_half_m=0.72,
    sill_m=0.22,
    head_m=3.12,
)
STYLES = (BRICK, OCHRE, CREAM, SANDSTONE, CONCRETE, GLASS)
TOWERS = (CONCRETE, GLASS)
SHOP_STOREY_M = 4.0
ROOF_M = 0.55  # from the last storey to the top of the cornice

ROW_START_M, ROW_END_M = -36.0, 150.0
HOUSE_DEPTH_M = 12.0


@dataclass(frozen=True, kw_only=True)
class CarShape:
    """A car seen from its right side: x as a share of its length from the rear to the nose, y in metres."""

    paint: Colour
    length_m: float
    half_width_m: float
    outline: Outline
    panes: tuple[int, ...]  # the stretches of the outline that are rear window and windscreen
    side_windows: tuple[Outline, ...]
    rear_windows: tuple[tuple[float, float, float, float], ...] = ()  # left, right, bottom, top
    roof_sign: bool = False


HATCHBACK = CarShape(
    paint=(0.74, 0.13, 0.12),
    length_m=3.7,
    half_width_m=0.86,
    outline=((0, 0.30), (0, 0.85), (0.06, 1.48), (0.50, 1.48), (0.70, 0.92), (1, 0.78), (1, 0.30)),
    panes=(1, 3),
    side_windows=(
        ((0.06, 0.96), (0.30, 0.96), (0.30, 1.38), (0.09, 1.38)),
        ((0.33, 0.96), (0.64, 0.96), (0.50, 1.38), (0.33, 1.38)),
    ),
)
_SALOON_OUTLINE = (
    *((0, 0.30), (0, 0.88), (0.17, 0.92), (0.30, 1.40)),
    *((0.58, 1.40), (0.74, 0.92), (1, 0.76), (1, 0.30)),
)
_SALOON_WINDOWS = (
    ((0.22, 0.97), (0.42, 0.97), (0.42, 1.31), (0.31, 1.31)),
    ((0.45, 0.97), (0.69, 0.97), (0.58, 1.31), (0.45, 1.31)),
)
SALOON = CarShape(
    paint=(0.17, 0.29, 0.56),
    length_m=4.5,
    half_width_m=0.90,
    outline=_SALOON_OUTLINE,
    panes=(2, 4),
    side_windows=_SALOON_WINDOWS,
)
TAXI = CarShape(
    paint=(0.92, 0.74, 0.12),
    length_m=4.5,
    half_width_m=0.90,
    outline=_SALOON_OUTLINE,
    panes=(2, 4),
    side_windows=_SALOON_WINDOWS,
    roof_sign=True,
)
VAN = CarShape(
    paint=(0.90, 0.90, 0.89),
    length_m=5.0,
    half_width_m=0.98,
    outline=((0, 0.35), (0, 2.05), (0.68, 2.10), (0.84, 1.15), (1, 1.00), (1, 0.35)),
    panes=(2,),
    side_windows=(((0.64, 1.20), (0.80, 1.20), (0.69, 1.95), (0.64, 1.95)),),
    rear_windows=((-0.82, -0.07, 1.25, 1.85), (0.07, 0.82, 1.25, 1.85)),
)
CARS = (HATCHBACK, SALOON, TAXI, VAN)
TYRE, HUB, CAR_GLASS, PLATE = (0.09, 0.09, 0.10), (0.55, 0.55, 0.57), (0.19, 0.25, 0.31), (0.88, 0.88, 0.80)


@dataclass(frozen=True, kw_only=True)
class PersonKind:
    coat: Colour
    legs: Colour
    height_m: tuple[float, float]
    skirt: bool = False


PEOPLE = (
    PersonKind(coat=(0.16, 0.24, 0.42), legs=(0.20, 0.19, 0.20), height_m=(1.74, 1.90)),
    PersonKind(coat=(0.74, 0.16, 0.17), legs=(0.30, 0.13, 0.22), height_m=(1.62, 1.76), skirt=True),
    PersonKind(coat=(0.92, 0.74, 0.16), legs=(0.22, 0.34, 0.58), height_m=(1.15, 1.35)),
)
SKIN, HAIR = (0.86, 0.66, 0.53), (0.26, 0.17, 0.11)


def plan_street(seed: int) -> tuple[Street, Camera]:
    """The street of a seed (any integer from 0 up) and where it is seen from."""
    return _Planner(seed).plan()


def _circle(x: float, y: float, radius_x: float, radius_y: float, corners: int) -> list[tuple[float, float]]:
    angles = [2 * math.pi * i / corners for i in range(corners)]
    return [(x + radius_x * math.cos(a), y + radius_y * math.sin(a)) for a in angles]


def _upright(outline: Outline, x: float, z: float, scale: float = 1.0) -> Corners:
    """A flat cut-out that stands at (x, z) and faces the viewer."""
    return [(x + scale * u, scale * v, z) for u, v in outline]


class _Planner:
    """Collects what stands in one street; every decision takes its turn at one random generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.road_half_m = self._between(4.4, 5.2)
        self.facade_m = self.road_half_m + self._between(2.6, 3.6)  # ± x of the two rows of houses
        self.instances = 0
        self.walls: list[Wall] = []
        self.houses: list[tuple[float, list[Face]]] = []
        self.things: list[tuple[float, list[Face]]] = []
        self.shadows: list[Corners] = []
        self.lights: list[Light] = []
        self.crossings: list[float] = []
        self.skyline = np.zeros(SKYLINE_STEPS, np.float32)

    # Only `random()` is drawn: its stream is the one that NumPy promises not to change.

    def _between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def _chance(self, probability: float) -> bool:
        return float(self.rng.random()) < probability

    def _choose(self, count: int) -> int:
        return int(self.rng.random() * count)

    def _next_instance(self) -> int:
        self.instances += 1
        return self.instances

    def plan(self) -> tuple[Street, Camera]:
        if self._chance(0.6):
            self._close_the_street()
        for side in (-1, 1):
            self._build_row(side)
            self._line_the_kerb(side)
            self._walk(side)
            self._drive(side)
        street = Street(
            road_half_m=self.road_half_m,
            facade_m=self.facade_m,
            walls=self.walls,
            houses=self.houses,
            things=self.things,
            shadows=self.shadows,
            skyline=self.skyline,
            lights=self.lights,
            crossings=self.crossings,
            clouds=(self._between(0, 16), self._between(0, 16)),
        )
        camera = Camera(
            position=(self._between(-0.7, 0.7), self._between(2.3, 2.8), 0.0),
            centre=(self._between(0.40, 0.60), self._between(0.54, 0.60)),
            focal=self._between(0.78, 0.90),
        )
        return street, camera

    # Houses

    def _add_wall(
        self,
        style: Style,
        *,
        start_m: float,
        length_m: float,
        height_m: float,
        ground_m: float,
        door_bay: int = -1,
        windows: bool = True,
    ) -> int:
        self.walls.append(
            Wall(
                style=style,
                start_m=start_m,
                length_m=length_m,
                height_m=height_m,
                ground_m=ground_m,
                shop=ground_m == SHOP_STOREY_M,
                door_bay=door_bay,
                windows=windows,
                seed=self._choose(1 << 16),
            )
        )
        return len(self.walls) - 1

    def _close_the_street(self) -> None:
        """A house across the far end."""
        style = STYLES[self._choose(len(STYLES))]
        z = self._between(75, 120)
        height = SHOP_STOREY_M + style.storey_m * (2 + self._choose(4)) + ROOF_M
        wall = self._add_wall(style, start_m=-40, length_m=80, height_m=height, ground_m=SHOP_STOREY_M, door_bay=11)
        corners = [(-40, 0, z), (40, 0, z), (40, height, z), (-40, height, z)]
        face = Face(corners, BUILDING, self._next_instance(), material=Material.WALL, wall=wall)
        self.houses.append((z, [face]))

    def _build_row(self, side: int) -> None:
        """One side's houses, from behind the viewer to the far end; now and then a side street."""
        z = ROW_START_M - self._between(0, 8)
        previous: Style | None = None
        while z < ROW_END_M:
            others = [style for style in STYLES if style is not previous]
            style = others[self._choose(len(others))]
            previous = style
            bays = max(2, round(self._between(8, 16) / style.bay_m))
            storeys = 1 + self._choose(4) + 2 * (style in TOWERS)
            ground = SHOP_STOREY_M if self._chance(0.55) else style.storey_m
            height = ground + storeys * style.storey_m + ROOF_M
            length = bays * style.bay_m + 0.8
            self._build_house(side, style, z=z, length=length, height=height, ground=ground, bays=bays)
            z += length
            if self._chance(0.15):
                gap = self._between(5, 8)
                if z > 8:
                    self.crossings.append(z + gap / 2)
                z += gap

    def _build_house(
        self, side: int, style: Style, *, z: float, length: float, height: float, ground: float, bays: int
    ) -> None:
        instance = self._next_instance()
        front, back, far = side * self.facade_m, side * (self.facade_m + HOUSE_DEPTH_M), z + length
        faces = []
        if style.roof is not None:
            eave, eave_y, ridge, ridge_y = front - side * 0.25, height - 0.1, front + side * 4, height + 2.6
            slope = [(eave, eave_y, z), (eave, eave_y, far), (ridge, ridge_y, far), (ridge, ridge_y, z)]
            gable = [(front, height, z), (ridge, ridge_y, z), (front + side * 8, height, z)]
            faces.append(Face(slope, BUILDING, instance, colour=style.roof))
            faces.append(Face(gable, BUILDING, instance, colour=style.wall))
        end = self._add_wall(
            style,
            start_m=min(front, back),
            length_m=HOUSE_DEPTH_M,
            height_m=height,
            ground_m=ground,
            windows=False,
        )
        facade = self._add_wall(
            style,
            start_m=z,
            length_m=length,
            height_m=height,
            ground_m=ground,
            door_bay=self._choose(bays),
        )
        end_corners = [(front, 0, z), (back, 0, z), (back, height, z), (front, height, z)]
        facade_corners = [(front, 0, z), (front, 0, far), (front, height, far), (front, height, z)]
        faces.append(Face(end_corners, BUILDING, instance, material=Material.WALL, wall=end))
        faces.append(Face(facade_corners, BUILDING, instance, material=Material.WALL, wall=facade))
        self.houses.append((z, faces))
        if side < 0:
            first, last = (round((at - SKYLINE_START_M) / SKYLINE_STEP_M) for at in (z, far))
            self.skyline[max(first, 0) : max(last, 0)] = height

    # Things on the pavement

    def _line_the_kerb(self, side: int) -> None:
        """Trees and lamps take turns."""
        x = side * (self.road_half_m + 0.75)
        z = self._between(6, 9)
        lamp = self._chance(0.5)
        while z < 90:
            if lamp:
                self._put_lamp(x, z, side)
            elif z < 14 or self._chance(0.8):
                self._plant_tree(x, z)
            lamp = not lamp
            z += self._between(5.5, 9.5)

    def _plant_tree(self, x: float, z: float) -> None:
        instance = self._next_instance()
        poplar = self._chance(0.35)
        radius, middle = (self._between(0.85, 1.1), 3.7) if poplar else (self._between(1.4, 1.9), 3.8)
        stretch = 2.1 if poplar else 0.95
        colour = (0.22, 0.40, 0.22) if poplar else (0.38, 0.55, 0.18)
        phase = self._between(0, 2 * math.pi)
        bumps = [1 + 0.09 * math.cos(2 * math.pi * i * 7 / 36 + phase) for i in range(36)]
        crown = [
            (u * bump, middle + (v - middle) * bump)
            for (u, v), bump in zip(_circle(0, middle, radius, stretch * radius, 36), bumps, strict=True)
        ]
        trunk = _upright([(-0.17, 0), (0.17, 0), (0.11, 2.8), (-0.11, 2.8)], x, z)
        leaves = Face(
            _upright(crown, x, z),
            TREE,
            instance,
            colour=colour,
            material=Material.LEAVES,
            middle=(x, middle),
            radius_m=(radius, radius * stretch),
        )
        self.things.append((z, [Face(trunk, TREE, instance, colour=(0.40, 0.29, 0.20)), leaves]))
        self.shadows.append(trunk)
        ring = _circle(x, z, radius, radius, 16)
        self.shadows.append([(u, middle + h, w) for u, w in ring for h in (-1, 1)])

    def _put_lamp(self, x: float, z: float, side: int) -> None:
        instance = self._next_instance()
        pole = [(-0.10, 0), (0.10, 0), (0.08, 5.4), (-0.08, 5.4)]
        foot = [(-0.19, 0), (0.19, 0), (0.15, 0.8), (-0.15, 0.8)]
        arm = [(0.08 * side, 5.2), (0.08 * side, 5.4), (-1.3 * side, 5.6), (-1.3 * side, 5.42)]
        head = [(-0.9 * side, 5.33), (-1.75 * side, 5.33), (-1.65 * side, 5.66), (-0.95 * side, 5.66)]
        metal: Colour = (0.25, 0.28, 0.29)
        faces = [Face(_upright(part, x, z), LAMP, instance, colour=metal) for part in (pole, foot, arm)]
        faces.append(Face(_upright(head, x, z), LAMP, instance, colour=(0.82, 0.82, 0.76), glow=(1.6, 1.35, 0.85)))
        self.things.append((z, faces))
        self.shadows.append(_upright(pole, x, z))
        self.lights.append(Light((x - 1.3 * side, 4.9, z), (1.35, 1.00, 0.56), 5.0))

    def _walk(self, side: int) -> None:
        z = self._between(6.5, 10)
        for _ in range(3 + self._choose(3)):
            self._put_person(side * self._between(self.road_half_m + 1.2, self.facade_m - 0.5), z)
            z += self._between(2.5, 8)

    def _put_person(self, x: float, z: float) -> None:
        instance = self._next_instance()
        kind = PEOPLE[self._choose(len(PEOPLE))]
        tall = self._between(*kind.height_m)
        step = self._between(0.05, 0.14)
        head = _circle(0, 0.925, 0.068, 0.078, 10)
        parts: list[tuple[Outline, Colour]] = [  # in shares of the height
            ([(-0.10, 0.48), (0.0, 0.48), (0.02 - step, 0.0), (-step - 0.07, 0.0)], kind.legs),
            ([(0.0, 0.48), (0.10, 0.48), (step + 0.07, 0.0), (step - 0.02, 0.0)], kind.legs),
        ]
        if kind.skirt:
            parts.append(([(-0.10, 0.55), (0.10, 0.55), (0.19, 0.22), (-0.19, 0.22)], kind.legs))
        parts += [
            ([(-0.145, 0.83), (0.145, 0.83), (0.105, 0.45), (-0.105, 0.45)], kind.coat),
            ([(-0.135, 0.82), (-0.085, 0.80), (-0.145, 0.46), (-0.205, 0.47)], kind.coat),
            ([(0.135, 0.82), (0.085, 0.80), (0.145, 0.46), (0.205, 0.47)], kind.coat),
            (head, SKIN),
            ([*head[:6], (-0.05, 0.94), (0.05, 0.94)], HAIR),
        ]
        faces = [Face(_upright(outline, x, z, tall), PERSON, instance, colour=colour) for outline, colour in parts]
        self.things.append((z, faces))
        body = [(-0.15, 0), (0.15, 0), (0.15, 0.8), (0, 1), (-0.15, 0.8)]
        self.shadows.append([p for d in (-0.12, 0.12) for p in _upright(body, x, z + d, tall)])

    # Cars

    def _drive(self, side: int) -> None:
        """Oncoming cars on the left, cars that drive away on the right, some parked at the kerb."""
        z = self._between(8, 16)
        while z < 75:
            parked = self._chance(0.35)
            x = side * (self.road_half_m - 1.15 if parked else self.road_half_m * 0.47)
            shape = CARS[self._choose(len(CARS))]
            self._put_car(shape, x, z, oncoming=side < 0, parked=parked)
            z += shape.length_m + self._between(4, 16)

    def _put_car(self, shape: CarShape, x: float, z: float, *, oncoming: bool, parked: bool) -> None:
        """A box with the shape's outline; only the sides that the middle of the road can see are drawn."""
        instance = self._next_instance()
        length, half = shape.length_m, shape.half_width_m
        inner, outer = (x - half, x + half) if x > 0 else (x + half, x - half)

        def turned(outline: Outline) -> Outline:
            return [(1 - u, v) for u, v in reversed(outline)] if oncoming else outline

        def face(corners: Corners, colour: Colour, glow: Colour = (0.0, 0.0, 0.0)) -> Face:
            return Face(corners, CAR, instance, colour=colour, glow=glow)

        def side_face(outline: Outline, colour: Colour) -> Face:
            return face([(inner, v, z + u * length) for u, v in turned(outline)], colour)

        def near_face(
            u0: float, u1: float, v0: float, v1: float, colour: Colour, glow: Colour = (0.0, 0.0, 0.0)
        ) -> Face:
            return face([(x + u0, v0, z), (x + u1, v0, z), (x + u1, v1, z), (x + u0, v1, z)], colour, glow)

        outline = turned(shape.outline)
        stretches = list(pairwise(outline))
        panes = {len(stretches) - 1 - i for i in shape.panes} if oncoming else set(shape.panes)
        faces = []
        for i, ((u0, v0), (u1, v1)) in reversed(list(enumerate(stretches))):  # far to near
            z0, z1 = z + u0 * length, z + u1 * length
            strip = [(inner, v0, z0), (inner, v1, z1), (outer, v1, z1), (outer, v0, z0)]
            faces.append(face(strip, shape.paint))
            if i in panes:
                a, b, c, d = np.array(strip)
                # Drawn in by a tenth from every border.
                pane = [
                    tuple((a * (1 - s) + b * s) * (1 - t) + (d * (1 - s) + c * s) * t)
                    for s, t in ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
                ]
                faces.append(face(pane, CAR_GLASS))
        faces.append(side_face(shape.outline, shape.paint))
        faces.append(side_face([(0.01, 0.30), (0.99, 0.30), (0.99, 0.42), (0.01, 0.42)], TYRE))
        faces.extend(side_face(window, CAR_GLASS) for window in shape.side_windows)
        for u in (0.19, 0.81):
            faces.append(side_face(_circle(u, 0.34, 0.34 / length, 0.34, 12), TYRE))
            faces.append(side_face(_circle(u, 0.34, 0.17 / length, 0.17, 8), HUB))

        lamp: Colour = (0.96, 0.94, 0.84) if oncoming else (0.80, 0.10, 0.08)
        shining: Colour = (1.5, 1.4, 1.1) if oncoming else (1.15, 0.10, 0.07)
        glow = (0.0, 0.0, 0.0) if parked else shining
        faces.append(near_face(-half, half, 0.30, 0.45, TYRE))
        faces.append(near_face(-0.26, 0.26, 0.46, 0.59, PLATE))
        faces.append(near_face(0.04 - half, 0.38 - half, 0.58, 0.76, lamp, glow))
        faces.append(near_face(half - 0.38, half - 0.04, 0.58, 0.76, lamp, glow))
        if not oncoming:
            faces.extend(near_face(*window, CAR_GLASS) for window in shape.rear_windows)
        top = max(v for _, v in outline)
        if shape.roof_sign:
            w = z + 0.45 * length
            sign = [(x - 0.3, top, w), (x + 0.3, top, w), (x + 0.3, top + 0.24, w), (x - 0.3, top + 0.24, w)]
            faces.append(face(sign, (0.95, 0.95, 0.90), (0.9, 0.7, 0.2)))
        self.things.append((z, faces))

        self.shadows.append([(u, v, z + w * length) for u in (inner, outer) for w, v in outline])
        underneath = [(u, 0, w) for u in (inner, outer) for w in (z - 0.15, z + length + 0.15)]
        self.shadows.append(underneath)
        if not parked:
            beam, tail = (1.2, 1.1, 0.86), (0.35, 0.02, 0.02)
            self.lights.append(Light((x, 0.4, z - 2.4), beam if oncoming else tail, 2.2))
            if not oncoming:
                self.lights.append(Light((x, 0.4, z + length + 2.4), beam, 2.2))
