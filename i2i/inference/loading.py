"""From weights to what a person calls: a translator of images, or a sampler that draws them from noise."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from i2i.checkpoints.catalogue import find_weights
from i2i.checkpoints.foreign import Checkpoint, open_checkpoint
from i2i.checkpoints.store import ImageSide
from i2i.errors import InputError
from i2i.inference.precision import Precision
from i2i.inference.sampler import Sampler
from i2i.inference.translator import Translator
from i2i.layers.norm import Normalisation


def load(
    weights: str | Path | Checkpoint,
    *,
    device: str | torch.device | None = None,
    precision: Precision = "auto",
    compile: bool = False,
    tile_px: int | None = None,
    exact: bool | None = None,
    normalisation: Normalisation | None = None,
    dropout: bool | None = None,
    input_range: tuple[float, float] | None = None,
    output_range: tuple[float, float] | None = None,
    style_encoder: str | Path | None = None,
    dont_care: bool | None = None,
    instance_edges: bool | None = None,
    first_id: int | None = None,
    **overrides: Any,
) -> Translator | Sampler:
    """Load a trained generator: one of images, ready to translate them, or one that draws from noise, ready to draw.

    Args:
        weights: a generator's folder of ours, or the folder of a run with exactly one in it; a weight file of ours
            or of another project (`i2i inspect FILE` says what it is read as); a name that `i2i weights` lists; or
            the id "owner/name" of a generator on the Hugging Face Hub. Or a checkpoint that is open, as
            `i2i.checkpoints.blend` gives one.
        device: where it runs; the CPU unless given. "auto" takes an accelerator (CUDA, MPS, …) if any.
        precision, compile: see `Translator`.
        tile_px, exact: see `Translator`; like what is said of images that go in, they are not for a `Sampler`.
        normalisation: "eval" (BatchNorm's running statistics) or "per_image" (statistics of each image alone,
            never of its neighbours in a batch); what is stored with the weights unless given.
        dropout: True leaves dropout on, so that results vary; what is stored with the weights unless given.
        input_range, output_range: what the network calls black and white, in the images' own units: (0, 4095),
            (-1000, 3000). Results are then in these units too, in the images' own type (float32 where they are drawn);
            `output_range` is `input_range` unless given. What is stored with the weights unless given; weights of
            other projects are taken to be trained on 8 bits.
        style_encoder: a file with the style encoder of a generator with a latent vector (SPADE's latest_net_E.pth);
            generators that were trained here hold theirs.
        dont_care, instance_edges, first_id: whether label maps may have pixels of no class; whether the last channel
            of the network's is for edges between instances; and the id of the first class in label maps. What is
            stored with the weights unless given; weights of other projects with as many channels as SPADE's published
            ones (COCO-Stuff, ADE20K, Cityscapes) are taken for these, all others to have classes from 0 on and
            nothing else.
        overrides: arguments of the network's constructor that the tensors of a foreign file cannot tell, such as
            `num_upsampling_layers="more"`; `i2i inspect` lists them.

    Raises:
        InputError: no generator or several at `weights`, a damaged file, a style encoder that does not fit, what only
            a translator has use for, or a device that is not there.
    """
    if isinstance(weights, Checkpoint):
        if style_encoder is not None or overrides:
            raise InputError("a checkpoint was opened before; give style encoder and overrides to open_checkpoint")
        checkpoint = weights
    else:
        encoder = None if style_encoder is None else find_weights(style_encoder)
        checkpoint = open_checkpoint(find_weights(weights), style_encoder=encoder, **overrides)
    if checkpoint.spec is None:
        raise InputError(f"{checkpoint.path} is a {checkpoint.family}, which translates no images")
    if checkpoint.spec.input is None:
        for_images = {"tile_px": tile_px, "exact": exact, "input_range": input_range, "dont_care": dont_care}
        for_images |= {"instance_edges": instance_edges, "first_id": first_id}
        if given := [name for name, value in for_images.items() if value is not None]:
            raise InputError(
                f"{', '.join(given)}: {checkpoint.path} draws from noise and has no use for it; leave it out"
            )
    if output_range is None and checkpoint.spec.output.dtype != "float32":
        output_range = input_range  # one picture, one unit
    side = checkpoint.spec.input and _with_range(checkpoint.spec.input, input_range)
    spec = replace(
        checkpoint.spec,
        input=side and _with_labels(side, dont_care=dont_care, instance_edges=instance_edges, first_id=first_id),
        output=_with_range(checkpoint.spec.output, output_range),
        normalisation=checkpoint.spec.normalisation if normalisation is None else normalisation,
        dropout=checkpoint.spec.dropout if dropout is None else dropout,
    )
    loaded: Translator | Sampler
    if spec.input is None:
        loaded = Sampler(generator=checkpoint.network, spec=spec, precision=precision, compile=compile)
    else:
        loaded = Translator(
            generator=checkpoint.network, spec=spec, precision=precision, compile=compile, tile_px=tile_px, exact=exact
        )
    try:
        return loaded.to(_find_device(device))
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA fails an assertion
        raise InputError(f'device {str(device)!r} cannot be used: {error}; try "auto" or "cpu"') from error


def expect_translator(loaded: Translator | Sampler) -> Translator:
    """What `load` returned, where only a translator will do; InputError for a sampler."""
    if isinstance(loaded, Translator):
        return loaded
    raise InputError(f"{type(loaded.generator).__name__} draws from noise and translates nothing; use `i2i draw`")


def _with_range(side: ImageSide, data_range: tuple[float, float] | None) -> ImageSide:
    """The side with black and white at the ends of `data_range`."""
    return side if data_range is None else replace(side, dtype="any", data_range=data_range)


def _with_labels(
    side: ImageSide, *, dont_care: bool | None, instance_edges: bool | None, first_id: int | None
) -> ImageSide:
    """The side with what a person knows better about its label maps."""
    return replace(
        side,
        dont_care=side.dont_care if dont_care is None else dont_care,
        instances=side.instances if instance_edges is None else instance_edges,
        first_id=side.first_id if first_id is None else first_id,
    )


def _find_device(device: str | torch.device | None) -> torch.device:
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    return torch.device(device or "cpu")
