"""Pages and pictures that people look at: grids of images as PNG files, and HTML pages that need no other file."""

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional as F

from i2i.data.provenance import Provenance
from i2i.files import replacing

GAP_PX = 4

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse }}
h1 {{ overflow-wrap: anywhere }}
th, td {{ padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child {{ text-align: left }} img {{ max-width: 100%; height: auto }}
.over-time {{ display: flex; flex-wrap: wrap; gap: 1rem }} figure {{ margin: 0; flex: 1 1 28rem; max-width: 36rem }}
.alarm {{ background: #fde8e8; border-left: 4px solid #c00; padding: .5rem 1rem }}
pre {{ background: #f6f6f6; padding: 1rem; overflow: auto }}
@media print {{ html, body {{ font-size: 12px; margin: 0 }} pre {{ white-space: pre-wrap }} }}
</style>
{body}
</html>
"""


def write_grid(
    path: Path, pictures: dict[str, Tensor], *, across: int | None = None, provenance: Provenance | None = None
) -> None:
    """Save pictures as one PNG: those of one image side by side, in the order of the names.

    pictures: (N, C, H, W) in [-1, 1]; names may differ in size and channels.
    across: how many images share a row; None: as many as keep the whole no wider than about twice its height.
    provenance: how the pictures came about, to be noted in the file.
    """
    columns = [[_as_rgb(image) for image in batch] for batch in pictures.values()]
    count = max(len(column) for column in columns)
    height = max(image.shape[0] for column in columns for image in column) + GAP_PX
    width = sum(column[0].shape[1] + GAP_PX for column in columns) + GAP_PX
    if across is None:
        across = max(1, min(count, round((2 * count * height / width) ** 0.5)))
    down = -(-count // across)
    canvas = np.full((down * height + GAP_PX, across * width + GAP_PX, 3), 255, np.uint8)
    for number in range(count):
        top = GAP_PX + number // across * height
        left = GAP_PX + number % across * width
        for column in columns:
            if number < len(column):
                image = column[number]
                canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
            left += column[0].shape[1] + GAP_PX
    names = PngInfo()
    names.add_text("columns", ", ".join(pictures) + (f"; {across} images in a row" if across > 1 else ""))
    for keyword, text in (provenance.texts if provenance else {}).items():
        names.add_itxt(keyword, text)
    with replacing(path) as temporary:
        Image.fromarray(canvas).save(temporary, pnginfo=names)


def alike(images: Iterable[Tensor], *, largest_px: int = 256) -> Tensor:
    """Images of any sizes and channels as `write_grid` takes them: scaled down where large, white where they end.

    Args:
        images: (C, H, W) in [-1, 1] each, at least one; taken one after another, so that large ones can be read so.
        largest_px: the longest side of the result.

    Returns:
        (N, 3, H, W) on the CPU.
    """
    shown = []
    for original in images:
        image = torch.from_numpy(_as_rgb(original)).permute(2, 0, 1) / 127.5 - 1
        scale = largest_px / max(image.shape[1:])
        if scale < 1:
            size = [max(1, round(side * scale)) for side in image.shape[1:]]
            image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        shown.append(image)
    height, width = (max(image.shape[axis] for image in shown) for axis in (1, 2))
    return torch.stack(
        [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]), value=1.0) for image in shown]
    )


def _as_rgb(image: Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1] to (H, W, 3) uint8. Two channels gain an empty third; of many, three are shown."""
    image = image.detach().float().cpu()
    if len(image) == 1:
        image = image.expand(3, -1, -1)
    elif len(image) == 2:
        image = F.pad(image, (0, 0, 0, 0, 0, 1), value=-1.0)
    pixels = ((image[:3].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).numpy()


def picture(path: Path, *, largest_px: int) -> str:
    """A picture as an <img> that needs no other file, scaled down to a largest side."""
    image = Image.open(path)
    image.thumbnail((largest_px, largest_px))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90)
    return inline(buffer.getvalue(), "image/webp", path.stem)


def columns_of(path: Path) -> str:
    names = Image.open(path).info["columns"]
    return f"From left to right: {html.escape(names)}." if ", " in names else ""


def inline(content: bytes, kind: str, text: str) -> str:
    return f'<img alt="{text}" src="data:{kind};base64,{base64.b64encode(content).decode()}">'
