"""What a network does to frames of video."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from i2i.data.image_io import Provenance
from i2i.errors import InputError
from i2i.inference.codec import PHYSICAL
from i2i.inference.pictures import LUMA, round_to
from i2i.inference.translator import Translator
from i2i.inference.upscale import Upscaler
from i2i.video.journal import Identity
from i2i.video.pipeline import Network

DROPOUT = (
    "The network's dropout is on, as its weights ask for: frames differ from each other, and from another run's, by "
    "chance. --no-dropout switches it off."
)


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What is done to each frame.

    Attributes:
        translator: whose network does it.
        network: does it, to (N, 3, H, W) of uint8 or uint16; several threads may call it at once.
        size: height and width of the result, for those of a frame.
        reach_px: how far at most a pixel of the result looks beyond the pixel that it lies in, so that parts of a
            frame can be computed by themselves; None where they cannot.
        identity: all that results depend on.
        notes: what a person should know, in sentences.
        provenance: what to note in the files of results that are images, if anything.
    """

    translator: Translator
    network: Network
    size: Callable[[int, int], tuple[int, int]]
    reach_px: int | None
    identity: Identity
    notes: tuple[str, ...] = ()
    provenance: Provenance | None = None


def upscaling(upscaler: Upscaler) -> Treatment:
    """Enlarge, as `upscaler` does."""
    translator, scale = upscaler.translator, upscaler.scale
    plain = scale == translator.codec.scale and not (upscaler.colour_fix or upscaler.ensemble)
    return Treatment(
        translator=translator,
        network=_for_colour(upscaler, translator),
        size=lambda height, width: (max(1, round(scale * height)), max(1, round(scale * width))),
        reach_px=_reach(translator) if plain else None,
        identity={
            **_identity(translator),
            "scale": scale,
            "colour_fix": upscaler.colour_fix,
            "ensemble": upscaler.ensemble,
        },
    )


def translation(translator: Translator) -> Treatment:
    """Translate, as `translator` does."""
    scale = translator.codec.scale
    return Treatment(
        translator=translator,
        network=_for_colour(translator, translator),
        size=lambda height, width: (scale * height, scale * width),
        reach_px=_reach(translator),
        identity=_identity(translator),
        notes=(DROPOUT,) if translator.spec.dropout else (),
    )


def _for_colour(network: Network, translator: Translator) -> Network:
    """The network on RGB; one for grey images sees the luma, and its results are shown as RGB."""
    takes, returns = translator.codec.input, translator.codec.output
    name = type(translator.generator).__name__
    if takes.labels:
        raise InputError(f"{name} paints label maps, of which there are no videos; translate them as images")
    if takes.dtype in PHYSICAL or returns.dtype in PHYSICAL:
        raise InputError(f"{name} takes or returns values in units of their own, which no video holds")
    if takes.channels not in (1, 3) or returns.channels not in (1, 3):
        raise InputError(
            f"{name} makes {returns.channels} channels of {takes.channels}; video frames have 3, or 1 that is grey"
        )

    def run(images: Tensor) -> Tensor:
        if takes.channels == 1:
            weights = torch.tensor(LUMA, device=images.device)[:, None, None]
            images = round_to((weights * images.float()).sum(dim=1, keepdim=True), images.dtype)
        return network(images).expand(-1, 3, -1, -1)

    return run


def _reach(translator: Translator) -> int | None:
    # On accelerators a result depends a little on what else is in the batch.
    return translator.engine.radius if translator.device.type == "cpu" else None


def _identity(translator: Translator) -> Identity:
    weights = hashlib.sha256()
    for name, tensor in translator.generator.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return {
        "network": type(translator.generator).__name__,
        "weights": weights.hexdigest(),
        "expects": repr(translator.spec),
        "precision": translator.engine.precision,
        "tile_px": translator.options.tile_px,
        "exact": translator.options.exact,
        "device": translator.device.type,
    }
