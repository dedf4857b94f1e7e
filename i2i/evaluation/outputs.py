"""Images that a generator makes to be evaluated: from inputs, or out of noise."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from i2i.data.image_io import Provenance, read_image_file, write_image, write_image_file
from i2i.errors import InputError
from i2i.evaluation.describing import Progress
from i2i.evaluation.image_sets import ImageSet, half_of
from i2i.inference.sampler import Sampler
from i2i.inference.translator import Translator

AT_ONCE = 16  # images drawn before they are written


def translate_inputs(
    translator: Translator,
    inputs: ImageSet,
    folder: Path,
    *,
    provenance: Provenance | None,
    rank: int = 0,
    world_size: int = 1,
    progress: Progress | None = None,
) -> None:
    """Translate images into files of the same names, as PNG at their depth, or TIFF where PNG cannot hold them.

    Args:
        translator: does it, in its usual way: what is random is not, styles are the mean one.
        inputs: images, label maps too.
        folder: where to.
        provenance: what to note in the files, if anything.
        rank, world_size: this process, and how many share the work.
        progress: is told how far this process is.

    Raises:
        InputError: two inputs have one name, or one cannot be read or translated.
    """
    (name, times), *_ = Counter(inputs.names).most_common(1)
    if times > 1:
        raise InputError(f"{times} inputs are called {name}, and their results would be one file; rename them")
    labels = translator.spec.input is not None and translator.spec.input.stored_as_ids
    mine = range(rank, len(inputs), world_size)
    for done, index in enumerate(mine, start=1):
        source = inputs.files[index]
        file = read_image_file(source, labels=labels)
        if inputs.half is not None:
            file = replace(file, pages=tuple(half_of(page, inputs.half, source) for page in file.pages))
        result = translator.translate_file(file, name=str(source))
        target = folder / f"{inputs.names[index]}{_suffix(result.pages[0])}"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image_file(target, result, provenance=provenance)
        if progress is not None:
            progress("translating", done, len(mine))


def draw_images(
    sampler: Sampler,
    folder: Path,
    *,
    count: int,
    seed: int = 0,
    provenance: Provenance | None,
    rank: int = 0,
    world_size: int = 1,
    progress: Progress | None = None,
) -> None:
    """Draw images of seeds from `seed` on, of all classes in turn, into files that are called by both.

    Args:
        sampler: does it.
        folder: where to; it exists.
        count: how many.
        seed: of the first.
        provenance: what to note in the files, if anything.
        rank, world_size: this process, and how many share the work.
        progress: is told how far this process is.

    Raises:
        InputError: what is drawn are points, no images.
    """
    names = [re.sub(r"\W+", "-", name) for name in sampler.spec.classes or map(str, range(sampler.classes))]
    mine = range(rank, count, world_size)
    for start in range(0, len(mine), AT_ONCE):
        places = mine[start : start + AT_ONCE]
        labels = [place % sampler.classes for place in places] if sampler.classes else None
        drawn = sampler(seed=[seed + place for place in places], label=labels)
        for place, image in zip(places, drawn, strict=True):
            if image.ndim != 3:
                raise InputError("these weights draw points, not images; only images can be evaluated")
            label = f"_{names[place % sampler.classes]}" if sampler.classes else ""
            target = folder / f"{seed + place:06d}{label}{_suffix(image)}"
            write_image(target, image, provenance=provenance)
        if progress is not None:
            progress("drawing", start + len(places), len(mine))


def _suffix(image: np.ndarray) -> str:
    return ".png" if image.dtype != np.float32 and image.shape[2] in (1, 2, 3, 4) else ".tif"
