"""The built-in data set: procedural streets as label map, instance map, photo by day and photo by night.

A seed decides everything: what stands in the street, the camera, the weather. The label map gives away what the
photo shows (a house's style by the layout of its windows, a car's colour by its shape, light and shade by the
heights of the houses), but colouring each class by itself is not enough.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data import streets_render
from i2i.data.image_io import rescale
from i2i.data.sampler import Draw
from i2i.data.streets_render import (
    BUILDING,
    CAR,
    CLASSES,
    LAMP,
    PAVEMENT,
    PERSON,
    SKY,
    SKYLINE_START_M,
    SKYLINE_STEP_M,
    SKYLINE_STEPS,
    TREE,
    Camera,
    Colour,
    Face,
    Light,
    Material,
    Street,
    Style,
    Wall,
    render,
)
from i2i.errors import InputError

__all__ = ["CLASSES", "PALETTE", "Scene", "StreetPairs", "make_scene", "make_video"]

PALETTE = np.array(
    [
        (70, 130, 180), (90, 90, 90), (0, 200, 255), (150, 60, 20), (128, 64, 128),
        (244, 35, 232), (35, 142, 35), (20, 20, 190), (220, 20, 60), (250, 220, 0),
    ],
    np.uint8,
)  # fmt: skip
"""(10, 3) uint8 RGB: the colour of each of `CLASSES` in a label image."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One street in four aligned pictures of H × W pixels.

    labels: (H, W) uint8, an index of `CLASSES` a pixel.
    instances: (H, W) uint16; each building (with its windows and doors), tree, car, person and lamp has a number of
        its own, everything else is 0.
    day, night: (H, W, 3) uint8 RGB photos.
    """

    labels: np.ndarray
    instances: np.ndarray
    day: np.ndarray
    night: np.ndarray

    @property
    def label_image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: classes in `PALETTE`'s colours, brighter where two instances touch."""
        return _label_image(self.labels, _boundaries(self.instances))


def make_scene(seed: int, *, size: int | tuple[int, int] = 128) -> Scene:
    """Make the street of a seed.

    Args:
        seed: any integer from 0 up.
        size: pixels; the side of a square or (height, width), at least 16 each. The same seed at another size is
            the same street, drawn with more or less detail.

    Raises:
        InputError: seed or size is out of range.
    """
    height, width = _checked(seed, size)
    return _render(_plan(seed), seed=seed, size=(height, width), frame=0, progress_m=0.0)


def make_video(seed: int, *, size: int | tuple[int, int] = 128, frames: int) -> Iterator[Scene]:
    """Walk down the street of a seed, looking from side to side; the first frame is `make_scene(seed)`.

    Args:
        seed: any integer from 0 up.
        size: as for `make_scene`.
        frames: how many. A step is 0.2 m, or shorter where the whole walk would exceed 40 m.

    Raises:
        InputError: seed, size or frames is out of range.
    """
    height, width = _checked(seed, size)
    if frames < 1:
        raise InputError(f"a video needs at least one frame, got frames={frames}")
    street = _plan(seed)
    step_m = min(0.2, 40 / frames)
    for frame in range(frames):
        yield _render(street, seed=seed, size=(height, width), frame=frame, progress_m=frame * step_m)


def _checked(seed: int, size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 16:
        raise InputError(f"a street needs at least 16 × 16 pixels, got size={size}")
    if seed < 0:
        raise InputError(f"seeds are integers from 0 up, got {seed}")
    return height, width


def _render(
    plan: tuple[Street, Camera], *, seed: int, size: tuple[int, int], frame: int, progress_m: float
) -> Scene:
    street, camera = plan
    x, y, z = camera.position
    sway = 0.25 * math.sin(progress_m * 0.45)
    pan = 0.10 * math.sin(progress_m * 0.16)
    walking = Camera(
        position=(x + sway, y + 0.02 * math.sin(progress_m * 4.5), z + progress_m),
        centre=(camera.centre[0] + pan, camera.centre[1]),
        focal=camera.focal,
    )
    drawn = render(street, camera=walking, size=size, noise_seed=(seed, frame))
    return Scene(labels=drawn.labels, instances=drawn.instances, day=drawn.day, night=drawn.night)


def _boundaries(instances: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixel to the right or below belongs to another instance."""
    edge = np.zeros(instances.shape, bool)
    edge[:, :-1] |= instances[:, :-1] != instances[:, 1:]
    edge[:-1] |= instances[:-1] != instances[1:]
    return edge


def _label_image(labels: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    bright = np.concatenate([PALETTE, PALETTE // 2 + 127])
    return bright[labels + np.uint8(len(PALETTE)) * boundaries]


# What stands in a street. Distances in metres, colours RGB in [0, 1].

BRICK = Style(
    wall=(0.64, 0.29, 0.21), trim=(0.88, 0.82, 0.72), frame=(0.93, 0.92, 0.88), sign=(0.12, 0.30, 0.22),
    bay_m=3.4, storey_m=3.1, window_half_m=0.45, pair_m=0.66, sill_m=0.95, head_m=2.45,
    block_m=(0.80, 0.34), joint=0.30, mottle=0.22,
)  # fmt: skip
OCHRE = Style(
    wall=(0.90, 0.71, 0.38), trim=(0.96, 0.90, 0.76), frame=(0.20, 0.40, 0.31), sign=(0.55, 0.14, 0.12),
    bay_m=2.7, storey_m=3.2, window_half_m=0.48, sill_m=0.45, head_m=2.65,
    block_m=(3.0, 3.0), joint=0.0, mottle=0.03, shutter_m=0.42,
)  # fmt: skip
CREAM = Style(
    wall=(0.90, 0.88, 0.82), trim=(0.58, 0.64, 0.68), frame=(0.36, 0.42, 0.48), sign=(0.13, 0.24, 0.45),
    bay_m=3.2, storey_m=2.9, window_half_m=0.72, sill_m=0.85, head_m=2.25,
    block_m=(3.0, 3.0), joint=0.0, mottle=0.03,
)  # fmt: skip
SANDSTONE = Style(
    wall=(0.76, 0.62, 0.47), trim=(0.88, 0.78, 0.63), frame=(0.34, 0.22, 0.15), sign=(0.36, 0.20, 0.11),
    bay_m=2.9, storey_m=3.6, window_half_m=0.66, sill_m=0.75, head_m=2.95, arch_m=0.75,
    block_m=(1.3, 0.60), joint=0.22, mottle=0.10,
)  # fmt: skip
CONCRETE = Style(
    wall=(0.62, 0.63, 0.62), trim=(0.70, 0.71, 0.70), frame=(0.24, 0.26, 0.28), sign=(0.72, 0.46, 0.10),
    bay_m=5.2, storey_m=3.0, window_half_m=2.42, sill_m=1.0, head_m=2.45,
    block_m=(2.6, 3.0), joint=0.22, mottle=0.05,
)  # fmt: skip
GLASS = Style(
    wall=(0.26, 0.32, 0.37), trim=(0.34, 0.41, 0.46), frame=(0.42, 0.50, 0.56), sign=(0.10, 0.36, 0.46),
    bay_m=1.7, storey_m=3.3, window_half_m=0.72, sill_m=0.22, head_m=3.12,
    block_m=(1.7, 3.3), joint=0.1, mottle=0.0,
)  # fmt: skip
STYLES = (BRICK, OCHRE, CREAM, SANDSTONE, CONCRETE, GLASS)
ROOFED = {BRICK: (0.46, 0.24, 0.18), OCHRE: (0.68, 0.34, 0.22), CREAM: (0.32, 0.34, 0.38)}

ROW_START_M, ROW_END_M = -36.0, 150.0


class _Planner:
    """Collects what stands in one street."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.road_half_m = self._between(4.4, 5.2)
        pavement_m = self._between(2.6, 3.6)
        self.facade_m = (-self.road_half_m - pavement_m, self.road_half_m + pavement_m)
        self.instances = 0
        self.walls: list[Wall] = []
        self.buildings: list[list[Face]] = []
        self.things: list[tuple[float, list[Face]]] = []
        self.shadows: list[Any] = []
        self.lights: list[Light] = []
        self.crossings: list[float] = []
        self.skyline = np.zeros(SKYLINE_STEPS, np.float32)

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
        backdrop = [
            Face([(-1e5, -1e5, 2e4), (1e5, -1e5, 2e4), (1e5, 1e5, 2e4), (-1e5, 1e5, 2e4)], SKY, 0, material=Material.SKY),
            Face([(-3e3, 0, -60), (3e3, 0, -60), (3e3, 0, 4e3), (-3e3, 0, 4e3)], PAVEMENT, 0, material=Material.GROUND),
        ]  # fmt: skip
        if self._chance(0.6):
            self._close_the_street()
        rows = [house for side in (-1, 1) for house in self._row(side)]
        self.buildings.extend(faces for _, faces in sorted(rows, key=lambda house: -house[0]))
        self._plant_pavement(-1)
        self._plant_pavement(1)
        self._drive_cars()
        self._walk_people()
        camera = Camera(
            position=(self._between(-0.7, 0.7), self._between(2.3, 2.8), 0.0),
            centre=(self._between(0.40, 0.60), self._between(0.54, 0.60)),
            focal=self._between(0.78, 0.90),
        )
        street = Street(
            road_half_m=self.road_half_m, facade_m=self.facade_m, walls=self.walls,
            buildings=[backdrop, *self.buildings], things=self.things, shadows=self.shadows, skyline=self.skyline,
            lights=self.lights, crossings=self.crossings, clouds=(self._between(0, 16), self._between(0, 16)),
        )  # fmt: skip
        return street, camera

    # Buildings

    def _wall(self, style: Style, **where: Any) -> int:
        self.walls.append(Wall(style=style, seed=self._choose(1 << 16), **where))
        return len(self.walls) - 1

    def _close_the_street(self) -> None:
        """A house across the far end."""
        style = STYLES[self._choose(len(STYLES))]
        z, height = self._between(75, 120), 4.0 + style.storey_m * (2 + self._choose(4)) + 0.5
        wall = self._wall(
            style,
            start_m=-40.0,
            length_m=80.0,
            height_m=height,
            ground_m=4.0,
            shop=True,
            door_bay=11,
            windows=True,
        )
        corners = [(-40, 0, z), (40, 0, z), (40, height, z), (-40, height, z)]
        self.buildings.append(
            [Face(corners, BUILDING, self._next_instance(), material=Material.WALL, wall=wall)]
        )

    def _row(self, side: int) -> list[tuple[float, list[Face]]]:
        """One side's houses, from behind the viewer to the far end."""
        houses = []
        z = ROW_START_M - self._between(0, 8)
        previous = -1
        while z < ROW_END_M:
            kind = self._choose(len(STYLES) - 1)
            kind += kind >= previous >= 0  # neighbours differ
            previous = kind
            style = STYLES[kind]
            bays = max(2, round(self._between(8, 16) / style.bay_m))
            length = bays * style.bay_m + 0.8
            storeys = 1 + self._choose(4) + (style in (CONCRETE, GLASS)) * 2
            ground = 4.0 if self._chance(0.55) else style.storey_m
            height = ground + storeys * style.storey_m + 0.55
            houses.append(
                (z, self._house(side, style, z=z, length=length, height=height, ground=ground, bays=bays))
            )
            if side < 0:
                cells = (np.array([z, z + length]) - SKYLINE_START_M) / SKYLINE_STEP_M
                self.skyline[max(int(cells[0]), 0) : max(int(cells[1]), 0)] = height
            z += length
            if self._chance(0.15):
                gap = self._between(5, 8)
                if z > 8:
                    self.crossings.append(z + gap / 2)
                z += gap
        return houses

    def _house(
        self, side: int, style: Style, *, z: float, length: float, height: float, ground: float, bays: int
    ) -> list[Face]:
        instance = self._next_instance()
        front = self.facade_m[0] if side < 0 else self.facade_m[1]
        back = front + side * 12.0
        faces = []
        if style in ROOFED:
            ridge, x = height + 2.6, front + side * 4.0
            roof = ROOFED[style]
            faces.append(
                Face([(front - side * 0.25, height - 0.1, z), (front - side * 0.25, height - 0.1, z + length),
                      (x, ridge, z + length), (x, ridge, z)], BUILDING, instance, colour=roof)
            )  # fmt: skip
            gable = [(front, height, z), (x, ridge, z), (x + side * 4, height, z)]
            faces.append(Face(gable, BUILDING, instance, colour=style.wall))
        end = self._wall(
            style, start_m=min(front, back), length_m=12.0, height_m=height, ground_m=ground, shop=False,
            door_bay=-1, windows=False,
        )  # fmt: skip
        faces.append(
            Face([(front, 0, z), (back, 0, z), (back, height, z), (front, height, z)], BUILDING, instance,
                 material=Material.WALL, wall=end)
        )  # fmt: skip
        facade = self._wall(
            style, start_m=z, length_m=length, height_m=height, ground_m=ground, shop=ground == 4.0,
            door_bay=self._choose(bays), windows=True,
        )  # fmt: skip
        faces.append(
            Face([(front, 0, z), (front, 0, z + length), (front, height, z + length), (front, height, z)],
                 BUILDING, instance, material=Material.WALL, wall=facade)
        )  # fmt: skip
        return faces

    # Things on the pavement

    def _plant_pavement(self, side: int) -> None:
        """Trees and lamps take turns along the kerb."""
        z = self._between(6, 9)
        lamp = self._chance(0.5)
        while z < 90:
            x = side * (self.road_half_m + 0.75)
            if lamp:
                self._lamp(x, z, side)
            elif self._chance(0.8) or z < 12:
                self._tree(x, z)
            lamp = not lamp
            z += self._between(5.5, 9.5)

    def _upright(self, points: np.ndarray, x: float, z: float) -> list[tuple[float, float, float]]:
        return [(x + float(u), float(v), z) for u, v in points]

    def _tree(self, x: float, z: float) -> None:
        instance = self._next_instance()
        poplar = self._chance(0.35)
        radius, middle = (self._between(0.85, 1.1), 3.5) if poplar else (self._between(1.4, 1.9), 3.7)
        stretch = 2.1 if poplar else 0.95
        colour = (0.20, 0.38, 0.20) if poplar else (0.36, 0.54, 0.18)
        angles = np.arange(22) * (2 * np.pi / 22)
        reach = radius * (
            1 + 0.10 * np.cos(angles * 5 + self._between(0, 6)) + 0.06 * (self.rng.random(22) - 0.5)
        )
        outline = np.stack([reach * np.cos(angles), middle + stretch * reach * np.sin(angles)], axis=1)
        trunk = np.array([(-0.17, 0), (0.17, 0), (0.11, 2.8), (-0.11, 2.8)])
        self.things.append(
            (z, [
                Face(self._upright(trunk, x, z), TREE, instance, colour=(0.40, 0.29, 0.20)),
                Face(self._upright(outline, x, z), TREE, instance, colour=colour, material=Material.LEAVES,
                     middle=(x, middle), radius_m=radius * max(stretch, 1)),
            ])
        )  # fmt: skip
        self.shadows.append(self._upright(trunk, x, z))
        ring = [
            (x + radius * math.cos(a), middle + h, z + radius * math.sin(a))
            for a in angles
            for h in (-1.0, 1.0)
        ]
        self.shadows.append(ring)

    def _lamp(self, x: float, z: float, side: int) -> None:
        instance = self._next_instance()
        metal = (0.25, 0.28, 0.29)
        pole = np.array([(-0.10, 0), (0.10, 0), (0.08, 5.4), (-0.08, 5.4)])
        arm = np.array([(0.08 * side, 5.2), (0.08 * side, 5.4), (-1.3 * side, 5.6), (-1.3 * side, 5.42)])
        head = np.array(
            [(-0.9 * side, 5.33), (-1.75 * side, 5.33), (-1.65 * side, 5.66), (-0.95 * side, 5.66)]
        )
        foot = np.array([(-0.19, 0), (0.19, 0), (0.15, 0.8), (-0.15, 0.8)])
        faces = [Face(self._upright(part, x, z), LAMP, instance, colour=metal) for part in (pole, foot, arm)]
        faces.append(
            Face(self._upright(head, x, z), LAMP, instance, colour=(0.80, 0.80, 0.74), glow=(1.6, 1.35, 0.85))
        )
        self.things.append((z, faces))
        self.shadows.append(self._upright(pole, x, z))
        self.lights.append(Light((x - 1.3 * side, 4.9, z), (1.15, 0.86, 0.48), 4.6))

    def _walk_people(self) -> None:
        for side in (-1, 1):
            z = self._between(6.5, 10)
            for _ in range(3 + self._choose(3)):
                x = side * self._between(self.road_half_m + 1.2, abs(self.facade_m[0]) - 0.5)
                self._person(x, z)
                z += self._between(2.5, 8)

    def _person(self, x: float, z: float) -> None:
        """A coat with trousers is blue, a skirt comes with red, and a child wears yellow."""
        instance = self._next_instance()
        kind = self._choose(3)
        tall = (self._between(1.72, 1.90), self._between(1.62, 1.76), self._between(1.15, 1.35))[kind]
        coat, lower = (
            ((0.16, 0.24, 0.42), (0.20, 0.19, 0.20)),
            ((0.74, 0.16, 0.17), (0.30, 0.13, 0.22)),
            ((0.92, 0.74, 0.16), (0.22, 0.34, 0.58)),
        )[kind]
        skin, hair = (0.86, 0.66, 0.53), (0.26, 0.17, 0.11)
        stride = self._between(0.05, 0.14)
        angles = np.arange(10) * (2 * np.pi / 10)
        head = np.stack([0.068 * np.cos(angles), 0.925 + 0.078 * np.sin(angles)], axis=1)
        parts: list[tuple[Any, Colour]] = [
            ([(-0.10, 0.48), (0.0, 0.48), (-stride + 0.02, 0.0), (-stride - 0.07, 0.0)], lower),
            ([(0.0, 0.48), (0.10, 0.48), (stride + 0.07, 0.0), (stride - 0.02, 0.0)], lower),
            ([(-0.145, 0.83), (0.145, 0.83), (0.105, 0.45), (-0.105, 0.45)], coat),
            ([(-0.135, 0.82), (-0.085, 0.80), (-0.145, 0.46), (-0.205, 0.47)], coat),
            ([(0.135, 0.82), (0.085, 0.80), (0.145, 0.46), (0.205, 0.47)], coat),
            (head, skin),
            ([*head[:6], (-0.05, 0.94), (0.05, 0.94)], hair),
        ]
        if kind == 1:
            parts.insert(2, ([(-0.10, 0.55), (0.10, 0.55), (0.19, 0.22), (-0.19, 0.22)], lower))
        faces = [
            Face(self._upright(np.array(points) * tall, x, z), PERSON, instance, colour=colour)
            for points, colour in parts
        ]
        self.things.append((z, faces))
        body = np.array([(-0.15, 0), (0.15, 0), (0.15, 0.8), (0.0, 1.0), (-0.15, 0.8)]) * tall
        self.shadows.append([(a, b, c + d) for a, b, c in self._upright(body, x, z) for d in (-0.12, 0.12)])

    # Cars

    def _drive_cars(self) -> None:
        """Oncoming cars on the left, cars driving away on the right, some parked at the kerb."""
        for side in (-1, 1):
            z = self._between(8, 16)
            while z < 75:
                parked = self._chance(0.35)
                x = side * (self.road_half_m - 1.15 if parked else self.road_half_m * 0.47)
                z += self._car(x, z, oncoming=side < 0, parked=parked) + self._between(4, 16)

    def _car(self, x: float, z: float, *, oncoming: bool, parked: bool) -> float:
        """A box with a profile; returns its length. The shape goes with the colour."""
        kind = self._choose(4)
        instance = self._next_instance()
        paint: Colour = ((0.74, 0.13, 0.12), (0.17, 0.29, 0.56), (0.92, 0.74, 0.12), (0.90, 0.90, 0.89))[kind]
        length = (3.7, 4.5, 4.5, 5.0)[kind]
        # (share of the length, height) from the rear bumper over the roof to the nose, then whether it is glass.
        profile: list[tuple[float, float, bool]] = [
            [(0, 0.30, False), (0, 0.85, True), (0.06, 1.48, False), (0.50, 1.48, True), (0.70, 0.92, False), (1, 0.78, False), (1, 0.30, False)],
            [(0, 0.30, False), (0, 0.88, False), (0.17, 0.92, True), (0.30, 1.40, False), (0.58, 1.40, True), (0.74, 0.92, False), (1, 0.76, False), (1, 0.30, False)],
            [(0, 0.30, False), (0, 0.88, False), (0.17, 0.92, True), (0.30, 1.42, False), (0.58, 1.42, True), (0.74, 0.92, False), (1, 0.76, False), (1, 0.30, False)],
            [(0, 0.35, False), (0, 2.05, False), (0.68, 2.10, True), (0.84, 1.15, False), (1, 1.00, False), (1, 0.35, False)],
        ][kind]  # fmt: skip
        half = 0.98 if kind == 3 else 0.88
        if oncoming:
            profile = [(1 - share, y, glass) for (share, y, _), (_, _, glass) in
                       zip(profile[::-1], [*profile[::-1][1:], profile[0]], strict=True)]  # fmt: skip
        inner = x - math.copysign(half, x)
        outer = x + math.copysign(half, x)
        dark, window = (0.09, 0.09, 0.10), (0.20, 0.26, 0.32)

        def panel(shares_and_heights: Any, colour: Colour, glow: Colour = (0.0, 0.0, 0.0)) -> Face:
            """On the side that faces the middle of the road."""
            corners = [(inner, y, z + share * length) for share, y in shares_and_heights]
            return Face(corners, CAR, instance, colour=colour, glow=glow)

        faces = []
        points = [(share, y) for share, y, _ in profile]
        for (s0, y0, glass), (s1, y1, _) in list(zip(profile, profile[1:], strict=False))[::-1]:
            corners = [(inner, y0, z + s0 * length), (inner, y1, z + s1 * length),
                       (outer, y1, z + s1 * length), (outer, y0, z + s0 * length)]  # fmt: skip
            faces.append(Face(corners, CAR, instance, colour=paint))
            if glass:
                inset = np.array([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)])
                pane = [(inner + (outer - inner) * float(b), y0 + (y1 - y0) * float(a), z + length * (s0 + (s1 - s0) * float(a))) for a, b in inset]  # fmt: skip
                faces.append(Face(pane, CAR, instance, colour=window))
        faces.append(panel(points, paint))
        faces.append(panel([(0.02, 0.42), (0.98, 0.42), (0.98, 0.30), (0.02, 0.30)], dark))
        roof_y = max(y for _, y in points)
        roof = [share for share, y in points if y > roof_y - 0.06]
        low, high = min(roof), max(roof)
        middle = (low + high) / 2
        base = 0.98 if kind != 3 else 1.25
        front, rear = (low - 0.08, high + 0.04) if oncoming else (low - 0.04, high + 0.08)
        if kind == 3:
            front, rear = (low - 0.06, low + 0.14) if oncoming else (high - 0.14, high + 0.06)
            faces.append(panel([(front, base), (rear, base), (min(rear, high) - 0.01, roof_y - 0.15), (max(front, low) + 0.01, roof_y - 0.15)], window))  # fmt: skip
        else:
            for a, b, c, d in ((front, middle - 0.02, middle - 0.02, low + 0.02), (middle + 0.02, rear, high - 0.02, middle + 0.02)):  # fmt: skip
                faces.append(panel([(a, base), (b, base), (c, roof_y - 0.10), (d, roof_y - 0.10)], window))
        for share in (0.19, 0.81):
            for radius, colour in ((0.34, dark), (0.17, (0.55, 0.55, 0.57))):
                circle = [(share + radius / length * math.cos(a), 0.34 + radius * math.sin(a)) for a in np.arange(12) * math.pi / 6]  # fmt: skip
                faces.append(panel(circle, colour))

        def near_panel(
            u0: float, u1: float, y0: float, y1: float, colour: Colour, glow: Colour = (0, 0, 0)
        ) -> Face:
            corners = [(x + u0, y0, z), (x + u1, y0, z), (x + u1, y1, z), (x + u0, y1, z)]
            return Face(corners, CAR, instance, colour=colour, glow=glow)

        lamp: Colour = (0.96, 0.94, 0.84) if oncoming else (0.80, 0.10, 0.08)
        glow: Colour = (0.0, 0.0, 0.0) if parked else ((1.5, 1.4, 1.1) if oncoming else (1.15, 0.10, 0.07))
        faces.append(near_panel(-half, half, 0.30, 0.45, dark))
        faces.append(near_panel(-0.26, 0.26, 0.46, 0.59, (0.88, 0.88, 0.80)))
        for u in (-half + 0.04, half - 0.38):
            faces.append(near_panel(u, u + 0.34, 0.58, 0.76, lamp, glow))
        if kind == 2:
            sign = [(x - 0.3, roof_y, z + length * 0.4), (x + 0.3, roof_y, z + length * 0.4), (x + 0.3, roof_y + 0.24, z + length * 0.4), (x - 0.3, roof_y + 0.24, z + length * 0.4)]  # fmt: skip
            faces.append(Face(sign, CAR, instance, colour=(0.95, 0.95, 0.90), glow=(0.9, 0.7, 0.2)))
        self.things.append((z, faces))
        self.shadows.append([(u, y, z + d) for u in (inner, outer) for y, d in ((0, 0), (0, length), (roof_y, low * length), (roof_y, high * length), (0.9, 0), (0.8, length))])  # fmt: skip
        self.shadows.append([(u, 0, z + d) for u in (inner, outer) for d in (-0.15, length + 0.15)])
        if not parked:
            beam, tail = ((1.0, 0.92, 0.72), (0.30, 0.02, 0.02))
            self.lights.append(Light((x, 0.4, z - 2.4), beam if oncoming else tail, 2.2))
            if not oncoming:
                self.lights.append(Light((x, 0.4, z + length + 2.4), beam, 2.2))
        return length


def _plan(seed: int) -> tuple[Street, Camera]:
    return _Planner(seed).plan()


# The data set


class StreetPairs(Dataset[dict[str, Tensor]]):
    """Streets as aligned (input, target) pairs for paired translation.

    An item is {"input", "target"}, both float32 (3, H, W) in [-1, 1]. Take it with an index or a `Draw`; its seed is
    not used, for nothing is augmented: a mirrored street would have the sun on the wrong side.
    """

    def __init__(
        self,
        *,
        count: int,
        size: int | tuple[int, int] = 128,
        first_seed: int = 0,
        source: Literal["label_image", "day"] = "label_image",
        target: Literal["day", "night"] = "day",
        cache: bool = True,
    ) -> None:
        """Make the streets, in all cores, or find them in the cache.

        Args:
            count: number of streets.
            size: pixels, as for `make_scene`.
            first_seed: the streets are those of the seeds first_seed … first_seed + count - 1; hold out others.
            source: what "input" shows.
            target: what "target" shows.
            cache: keep the streets in `$XDG_CACHE_HOME/i2i` (or ~/.cache/i2i) and find them there again; about
                115 KB each at 128 pixels. Where that folder cannot be written, they live in memory.

        Raises:
            InputError: count, size or first_seed is out of range.
        """
        if count < 1:
            raise InputError(f"a data set of streets needs a count of at least 1, got {count}")
        self.count = count
        self.size = _checked(first_seed, size)
        self.first_seed = first_seed
        self.source = source
        self.target = target
        height, width = self.size
        streets = f"{_code_hash()}-{height}x{width}-{first_seed}-{count}"
        self.fingerprint = hashlib.sha256(f"{streets}-{source}-{target}".encode()).hexdigest()
        """Identifies what the items show, the code that draws them included."""
        self._file = _cache_folder() / f"streets-{streets}.npy" if cache else None
        self._packed = self._open_or_make()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        index = item.index if isinstance(item, Draw) else item
        if not 0 <= index < self.count:
            raise IndexError(f"street {index} of {self.count}")
        packed = self._packed[index]
        images = {
            "label_image": lambda: _label_image(packed[..., 0] & 127, packed[..., 0] >> 7),
            "day": lambda: packed[..., 1:4],
            "night": lambda: packed[..., 4:7],
        }
        return {"input": _to_tensor(images[self.source]()), "target": _to_tensor(images[self.target]())}

    def labels(self, index: int) -> np.ndarray:
        """(H, W) uint8: the classes of a street, as indices of `CLASSES`."""
        return self._packed[index, ..., 0] & 127

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the cached file itself rather than receive hundreds of megabytes.
        state = self.__dict__.copy()
        if isinstance(self._packed, np.memmap):
            state["_packed"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._packed is None:
            self._packed = self._open_or_make()

    def _open_or_make(self) -> np.ndarray:
        """(count, H, W, 7) uint8: class + 128 · boundary, day, night."""
        if self._file is not None and self._file.exists():
            try:
                return np.load(self._file, mmap_mode="r")
            except (OSError, ValueError):  # damaged: made anew
                pass
        packed = _make_packed(range(self.first_seed, self.first_seed + self.count), self.size)
        if self._file is None:
            return packed
        try:
            _save(self._file, packed)
            return np.load(self._file, mmap_mode="r")
        except OSError:
            return packed


def _to_tensor(image: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return rescale(tensor, source=(0, 255), target=(-1, 1))


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "i2i"


def _code_hash() -> str:
    """Changes with the code that draws, so that a cache never shows yesterday's streets."""
    sources = Path(__file__).read_bytes() + Path(streets_render.__file__).read_bytes()
    return hashlib.sha256(sources).hexdigest()[:12]


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _pack(seed: int, size: tuple[int, int]) -> np.ndarray:
    scene = make_scene(seed, size=size)
    marked = scene.labels + np.uint8(128) * _boundaries(scene.instances)
    return np.concatenate([marked[..., None], scene.day, scene.night], axis=2)


def _pack_chunk(seeds: range, size: tuple[int, int]) -> np.ndarray:
    cv2.setNumThreads(1)
    return np.stack([_pack(seed, size) for seed in seeds])


def _make_packed(seeds: range, size: tuple[int, int]) -> np.ndarray:
    """Every seed's street, with a progress bar; in processes where there are many."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    chunks = [seeds[i : i + 16] for i in range(0, len(seeds), 16)]
    made: list[np.ndarray] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("making streets", total=len(seeds))

        def keep(chunk: np.ndarray) -> None:
            made.append(chunk)
            progress.advance(bar, len(chunk))

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if len(chunks) >= 8 and cores > 1:
            try:
                # Forking a process that runs threads (torch's, OpenCV's) can hang, so they are spawned.
                with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
                    for chunk in pool.map(_pack_chunk, chunks, [size] * len(chunks)):
                        keep(chunk)
            except (BrokenProcessPool, OSError, pickle.PicklingError):
                pass  # a script without `if __name__ == "__main__"` cannot spawn: the rest is made here
        for rest in chunks[len(made) :]:
            keep(_pack_chunk(rest, size))
    return np.concatenate(made)
