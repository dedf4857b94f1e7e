"""Colours of classes: read from a file, chosen so that they can be told apart, and used to show label maps."""

import re
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from i2i.errors import InputError

_HEXADECIMAL = re.compile(r"#([0-9a-fA-F]{6})(?:\s+(.*))?")
_DECIMAL = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)(?:[\s,]+(\D.*))?")


def read_palette(path: Path | str) -> np.ndarray:
    """Read which colour stands for which class.

    A line is a colour, `128 64 128` or `#804080`, and perhaps a name after a blank. The first colour is class 0, the
    second class 1 …; blank lines do not count, nor do comments, which begin with `#` and a blank.

    Args:
        path: the file.

    Returns:
        (classes, 3) uint8 RGB.

    Raises:
        InputError: the file cannot be read or holds no colours, a line is none, or a colour stands for two classes.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a palette ({error}); expected text with a colour a line") from error
    number_of: dict[tuple[int, ...], int] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line == "#" or re.match(r"#\s", line):
            continue
        colour = _colour(line)
        if colour is None:
            raise InputError(
                f"{path}, line {number}: {line!r} is no colour; expected three numbers from 0 to 255 or #rrggbb, then "
                "perhaps a name (a comment begins with # and a blank)"
            )
        if colour in number_of:
            raise InputError(
                f"{path}, line {number}: the colour {colour} stands in line {number_of[colour]} already; each class "
                "needs a colour of its own"
            )
        number_of[colour] = number
    if not number_of:
        raise InputError(f"{path} holds no colours; expected one a line, such as 128 64 128 or #804080")
    return np.array(list(number_of), dtype=np.uint8)


def default_palette(classes: int) -> np.ndarray:
    """Colours that can be told apart, and from black and white: each lies as far from those before as it can (in
    CIELAB, where distances are those that people see).

    Args:
        classes: how many, at least 1. The first colours are the same for any number up to 400.

    Returns:
        (classes, 3) uint8 RGB.
    """
    steps = max(10, int(np.ceil((2.5 * classes) ** (1 / 3))))
    levels = np.linspace(0, 1, steps, dtype=np.float32)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    places = cv2.cvtColor(colours, cv2.COLOR_RGB2Lab)[:, 0]
    black, white = 0, len(colours) - 1
    distance = np.full(len(colours), np.inf, dtype=np.float32)
    chosen = [black, white]
    for _ in range(classes):
        for taken in chosen[-2:]:
            distance = np.minimum(distance, np.linalg.norm(places - places[taken], axis=1))
        chosen.append(int(distance.argmax()))
    return (colours[chosen[2:], 0] * 255).round().astype(np.uint8)


def paint_labels(labels: Tensor, palette: np.ndarray) -> Tensor:
    """Show label maps.

    Args:
        labels: (N, 1 or 2, H, W) integers: class ids, `classes` itself for "don't care"; then 1 at the edges of
            instances, else 0.
        palette: (classes, 3) uint8 RGB.

    Returns:
        (N, 3, H, W) float32 in [-1, 1]: each class in its colour, "don't care" black, edges half-way to white.
    """
    colours = torch.cat([torch.from_numpy(palette), torch.zeros(1, 3, dtype=torch.uint8)]).to(labels.device)
    painted = colours[labels[:, 0]].permute(0, 3, 1, 2) / 127.5 - 1
    return torch.where(labels[:, 1:] == 1, (painted + 1) / 2, painted) if labels.shape[1] == 2 else painted


def _colour(line: str) -> tuple[int, ...] | None:
    if match := _HEXADECIMAL.fullmatch(line):
        return tuple(bytes.fromhex(match[1]))
    if match := _DECIMAL.fullmatch(line):
        colour = tuple(int(match[channel]) for channel in (1, 2, 3))
        return colour if max(colour) < 256 else None
    return None
