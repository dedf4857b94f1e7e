"""Images side by side, as the picture that each tool gives."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from i2i.checkpoints.store import ImageSide
from i2i.data.image_io import rescale

GAP_PX = 4
HEADING_PX = 14
SMALLEST_CELL_PX = 64  # smaller images are shown larger, pixel by pixel
MARGIN_PX = 72  # for what stands before a row, at least


def grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    side: ImageSide,
    headings: Sequence[str] = (),
    margin: Sequence[str] = (),
) -> np.ndarray:
    """Rows of images as one picture.

    Args:
        rows: images (H, W, C) of one size in the data's units, None for an empty place; rows may differ in length.
        side: what the images are.
        headings: a few letters above each column.
        margin: a few letters before each row, in one line or several.

    Returns:
        (H', W', 3) uint8. One channel is shown as grey; of two, the third is black; of many, three are shown.
    """
    shown = [[None if image is None else _as_rgb(image, side) for image in row] for row in rows]
    height, width = next(image.shape[:2] for row in shown for image in row if image is not None)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    widest = max((math.ceil(ruler.multiline_textbbox((0, 0), text)[2]) for text in margin), default=0)
    left, top = max(MARGIN_PX, widest + 2 * GAP_PX) * bool(margin), HEADING_PX * bool(headings)
    across = max(len(row) for row in shown)
    canvas = Image.new(
        "RGB", (left + across * (width + GAP_PX) + GAP_PX, top + len(shown) * (height + GAP_PX) + GAP_PX), "white"
    )
    for down, row in enumerate(shown):
        for place, image in enumerate(row):
            if image is not None:
                corner = left + GAP_PX + place * (width + GAP_PX), top + GAP_PX + down * (height + GAP_PX)
                canvas.paste(Image.fromarray(image), corner)
    draw = ImageDraw.Draw(canvas)
    for place, text in enumerate(headings):
        draw.text((left + GAP_PX + place * (width + GAP_PX), 2), text, fill="black")
    for down, text in enumerate(margin):
        middle = top + GAP_PX + down * (height + GAP_PX) + height // 2
        draw.text((GAP_PX, middle), text, fill="black", anchor="lm")
    return np.asarray(canvas)


def _as_rgb(image: np.ndarray, side: ImageSide) -> np.ndarray:
    """(H, W, C) to (H', W', 3) uint8, enlarged where it is small."""
    pixels = rescale(image[..., :3], source=side.data_range, target=(0, 255)).round().clip(0, 255).astype(np.uint8)
    channels = pixels.shape[2]
    if channels < 3:
        other = pixels if channels == 1 else np.zeros_like(pixels[..., :1])
        pixels = np.concatenate([pixels, *[other] * (3 - channels)], axis=2)
    factor = max(1, SMALLEST_CELL_PX // min(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
