"""Blind studies: a page on which people say which of two images they prefer, and do not know whose they are.

The page is static. It works from the disk and from any server, and never learns which system made which image: images
have random names, and only key.json, which the page does not read, says whose they are.
"""

import base64
import hashlib
import json
import re
import secrets
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.evaluation.image_sets import ImageSet

KEY = "key.json"
IMAGES = "images"
_FORMAT = "i2i study key 1"
# Shapes may differ by rounding: 481 x 321 halved and doubled is 480 x 320.
_SHAPE_TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One pair: the images' name, and the tokens that stand for A's and B's image."""

    name: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """What key.json holds.

    Attributes:
        id: random; results name it.
        a, b: what the two systems are called.
        question: that people were asked.
        pairs: the images.
        repeats: pairs that each person sees a second time, with sides swapped.
    """

    id: str
    a: str
    b: str
    question: str
    pairs: tuple[Pair, ...]
    repeats: int

    @classmethod
    def read(cls, folder: Path) -> "Study":
        """Read the key of a study's folder.

        Raises:
            InputError: there is none, or it is damaged.
        """
        file = folder / KEY
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise InputError(f"{file} is of format {content['format']!r}; this version of i2i reads {_FORMAT!r}")
            return cls(
                id=content["study"],
                a=content["a"],
                b=content["b"],
                question=content["question"],
                pairs=tuple(Pair(**pair) for pair in content["pairs"]),
                repeats=content["repeats"],
            )
        except OSError as error:
            raise InputError(
                f"{folder} holds no {KEY}; expected a folder that `i2i compare A B --out` wrote"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file} is damaged ({error!r}); take the copy that was written with the study") from error


def write_study(
    folder: Path,
    a: ImageSet,
    b: ImageSet,
    *,
    question: str,
    references: dict[str, ImageSet] | None = None,
    count: int | None = None,
    repeats: int | None = None,
    ties: bool = True,
    pixelated: bool = False,
    seed: int = 0,
) -> tuple[Study, tuple[str, ...]]:
    """Write index.html, images/ and key.json.

    Both images of a pair become 8-bit RGB PNG files of their own size, with no metadata and no colour profile.

    Args:
        folder: not there yet, or empty.
        a, b: what to compare; images of equal names are pairs.
        question: shown above every pair.
        references: shown beside every pair, by what they are called, such as "Input"; pairs without one are left out.
        count: pairs at most, chosen at random; None: all.
        repeats: pairs shown twice, at most half of all; None: a tenth of them, at most ten.
        ties: whether "no difference" may be answered.
        pixelated: enlarge small images without smoothing.
        seed: decides which pairs are chosen. Names of images, the order and the sides are random anew every time.

    Returns:
        The key, and what to know about the study, a sentence each.

    Raises:
        InputError: no images of equal names; the two of a pair differ in shape; the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already; name a folder that does not exist yet, or remove it")
    a, b, references, notes = _matched(a, b, references or {})
    if count is not None:
        if count < 1:
            raise InputError(f"count: expected at least 1 pair, got {count}")
        chosen = torch.randperm(len(a), generator=torch.Generator().manual_seed(seed))[:count].sort().values
        a, b = a.subset(chosen), b.subset(chosen)
        references = {name: images.subset(chosen) for name, images in references.items()}
    repeats = min(10, len(a) // 10) if repeats is None else repeats
    if not 0 <= repeats <= len(a) // 2:
        raise InputError(f"repeats: expected 0 to {len(a) // 2}, half of the {len(a)} pairs, got {repeats}")

    study = Study(
        id=secrets.token_hex(8),
        a=_called(a, b)[0],
        b=_called(a, b)[1],
        question=question,
        pairs=tuple(Pair(name=name, a=_token(), b=_token()) for name in a.names),
        repeats=repeats,
    )
    shown = [{name: _token() for name in references} for _ in study.pairs]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: what is shown to people must not be half a study.
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        notes += _write_images(temporary / IMAGES, a, b, references, study.pairs, shown)
        page = _page(study, shown, ties=ties, pixelated=pixelated)
        (temporary / "index.html").write_text(page, encoding="utf-8", newline="\n")
        (temporary / KEY).write_text(json.dumps(_as_json(study), indent=1, ensure_ascii=False), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return study, notes


def _matched(
    a: ImageSet, b: ImageSet, references: dict[str, ImageSet]
) -> tuple[ImageSet, ImageSet, dict[str, ImageSet], tuple[str, ...]]:
    """The images that all sets have, in one order, and what was left out."""
    counts = {"A": len(a), "B": len(b)} | {name: len(images) for name, images in references.items()}
    for what, other in {"B": b, **references}.items():
        matched, _ = a.matched(other)
        if not len(matched):
            raise InputError(
                f"{a.root} and {other.root} ({what}) hold no images of equal names, such as {a.names[0]} and "
                f"{other.names[0]}; expected the two of a pair to be called the same"
            )
        a = matched
    notes: tuple[str, ...] = ()
    if any(count != len(a) for count in counts.values()):
        held = ", ".join(f"{what} {count}" for what, count in counts.items())
        notes = (f"Only images that all have are used, {len(a)}; there are {held}.",)
    return a, a.matched(b)[1], {name: a.matched(images)[1] for name, images in references.items()}, notes


def _called(a: ImageSet, b: ImageSet) -> tuple[str, str]:
    """Names of the systems: those of their folders, as much of the path as tells them apart."""
    first, second = (images.root.resolve().relative_to(images.root.resolve().anchor).parts for images in (a, b))
    for length in range(1, max(len(first), len(second)) + 1):
        names = "/".join(first[-length:]), "/".join(second[-length:])
        if names[0] != names[1]:
            return names
    name = a.root.resolve().name
    which = (a.half, b.half) if a.half != b.half else ("A", "B")
    return f"{name}, {which[0]}", f"{name}, {which[1]}"


def _token() -> str:
    """From the system's randomness: who knows the seed and the names of the files must not find out whose it is."""
    return secrets.token_hex(8)


def _write_images(
    folder: Path,
    a: ImageSet,
    b: ImageSet,
    references: dict[str, ImageSet],
    pairs: tuple[Pair, ...],
    shown: list[dict[str, str]],
) -> tuple[str, ...]:
    """Write the images under their tokens; returns what to know about them."""
    folder.mkdir()
    work = [
        (token, images, number)
        for number, (pair, tokens) in enumerate(zip(pairs, shown, strict=True))
        for token, images in [(pair.a, a), (pair.b, b), *((tokens[name], references[name]) for name in references)]
    ]
    # In the order of the tokens, so that neither times nor places on the disk tell A's from B's.
    work.sort(key=lambda item: item[0])

    def write(item: tuple[str, ImageSet, int]) -> tuple[str, tuple[int, int], str]:
        token, images, number = item
        pixels = _as_rgb8(images, number)
        write_image(folder / f"{token}.png", pixels)
        return token, pixels.shape[:2], hashlib.sha256(pixels.tobytes()).hexdigest()

    with ThreadPoolExecutor() as pool:
        written = list(pool.map(write, work))
    sizes = {token: size for token, size, _ in written}
    contents = {token: content for token, _, content in written}
    for pair in pairs:
        (height_a, width_a), (height_b, width_b) = sizes[pair.a], sizes[pair.b]
        if abs(width_a * height_b / (width_b * height_a) - 1) > _SHAPE_TOLERANCE:
            raise InputError(
                f"{pair.name} is {width_a} x {height_a} px in {a.root} and {width_b} x {height_b} px in {b.root}; "
                "expected both of one shape, or people see which is which"
            )
    notes = []
    different = sum(sizes[pair.a] != sizes[pair.b] for pair in pairs)
    if different:
        notes.append(
            f"Pairs with images of two sizes: {different} of {len(pairs)}. They are shown equally large, but sharpness "
            "may give them away, and who looks into the page sees the sizes."
        )
    equal = sum(contents[pair.a] == contents[pair.b] for pair in pairs)
    if equal:
        notes.append(
            f"Pairs of two times the same image, in which nobody can see a difference: {equal} of {len(pairs)}."
        )
    return tuple(notes)


def _as_rgb8(images: ImageSet, number: int) -> np.ndarray:
    """(H, W, 3) uint8; of more than three channels the first three."""
    image = images.read(number)[:3].clamp(-1, 1)
    return ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _page(study: Study, shown: list[dict[str, str]], *, ties: bool, pixelated: bool) -> str:
    pairs: list[dict[str, Any]] = [
        # Sorted, so that the place says nothing about whose it is; which side it takes is drawn in the browser.
        {"images": sorted([pair.a, pair.b]), "references": tokens}
        for pair, tokens in zip(study.pairs, shown, strict=True)
    ]
    pairs.sort(key=lambda pair: pair["images"])
    data = {
        "id": study.id,
        "question": study.question,
        "ties": ties,
        "pixelated": pixelated,
        "repeats": study.repeats,
        "pairs": pairs,
    }
    page = Path(__file__).with_name("study_page.html").read_text(encoding="utf-8")
    for kind, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        content = re.search(pattern, page, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        page = page.replace(f"@{kind}-hash@", f"sha256-{digest}")
    # "<" would let a question end the script's element.
    return page.replace("@study@", json.dumps(data).replace("<", "\\u003c"))


def _as_json(study: Study) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "study": study.id,
        "a": study.a,
        "b": study.b,
        "question": study.question,
        "repeats": study.repeats,
        "pairs": [{"name": pair.name, "a": pair.a, "b": pair.b} for pair in study.pairs],
    }
