"""A trained generator as a function of images: any kind, depth and size goes in, the same comes out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from i2i.checkpoints.catalogue import find_weights
from i2i.checkpoints.foreign import open_checkpoint
from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.data.image_io import ImageFile
from i2i.errors import InputError
from i2i.inference.codec import Codec
from i2i.inference.engine import Engine, NamedImage, Options, Progress, Work
from i2i.inference.pictures import AnyImage, Picture, fit_channels, open_page, open_picture
from i2i.inference.precision import Precision, SafeRunner
from i2i.layers.norm import Normalisation, set_inference_mode

# Networks mirror at the border of maps that they have halved; smaller images would leave nothing to mirror. Those that
# need more say so.
SMALLEST_PX = 8


def load(
    weights: str | Path,
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
    **overrides: Any,
) -> "Translator":
    """Load a trained generator, ready to translate images.

    Args:
        weights: a generator's folder of ours, or the folder of a run with exactly one in it; a weight file of ours
            or of another project (`i2i inspect FILE` says what it is read as); a name that `i2i weights` lists; or
            the id "owner/name" of a generator on the Hugging Face Hub.
        device: where it runs; the CPU unless given. "auto" takes an accelerator (CUDA, MPS, …) if any.
        precision, compile, tile_px, exact: see `Translator`.
        normalisation: "eval" (BatchNorm's running statistics) or "per_image" (statistics of each image alone,
            never of its neighbours in a batch); what is stored with the weights unless given.
        dropout: True leaves dropout on, so that results vary; what is stored with the weights unless given.
        input_range, output_range: what the network calls black and white, in the images' own units: (0, 4095),
            (-1000, 3000). Results are then in these units too, in the images' own type; `output_range` is
            `input_range` unless given. What is stored with the weights unless given; weights of other projects are
            taken to be trained on 8 bits.
        overrides: arguments of the network's constructor that the tensors of a foreign file cannot tell, such as
            `num_upsampling_layers="more"`; `i2i inspect` lists them.

    Raises:
        InputError: no generator or several at `weights`, a damaged file, or a device that is not there.
    """
    checkpoint = open_checkpoint(find_weights(weights), **overrides)
    if checkpoint.spec is None:
        raise InputError(f"{weights} is a {checkpoint.family}, which translates no images")
    if output_range is None and checkpoint.spec.output.dtype != "float32":
        output_range = input_range  # one picture, one unit
    spec = replace(
        checkpoint.spec,
        input=checkpoint.spec.input and _with_range(checkpoint.spec.input, input_range),
        output=_with_range(checkpoint.spec.output, output_range),
        normalisation=checkpoint.spec.normalisation if normalisation is None else normalisation,
        dropout=checkpoint.spec.dropout if dropout is None else dropout,
    )
    translator = Translator(
        generator=checkpoint.network, spec=spec, precision=precision, compile=compile, tile_px=tile_px, exact=exact
    )
    try:
        return translator.to(_find_device(device))
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA fails an assertion
        raise InputError(f'device {str(device)!r} cannot be used: {error}; try "auto" or "cpu"') from error


class Translator(nn.Module):
    """Translates images with a trained generator; call it with an image or with a list of images.

    An image is one of these, and comes back as the same kind:

    - a path of a file that `i2i.data.image_io.read_image` reads; an array (H, W, C) comes back;
    - a PIL image of 8 bits, or of one channel of 16 bits or float;
    - a NumPy array (H, W, C), or (H, W), which comes back as (H, W) where one channel comes out;
    - a tensor (C, H, W) or (N, C, H, W) on any device, which comes back there.

    What its values mean follows from its dtype and that of the training images (`spec.input`, `spec.output`):

    - the training dtype: the data's own units;
    - float, for training on integers: [0, 1] stands for the data range, as in torchvision and kornia;
    - uint8 or uint16, for training on the other: its full range stands for the data range;
    - anything, for training on float: the data's own units;
    - one channel of integers, for training on labels: class ids.

    It comes back in the dtype in which it came, clipped to the data range where the network was trained on integers;
    but where one side was trained on float, integers come back as float32. Files and PIL images also tell what their
    channels are: transparency is set aside and comes back (resized, where the network enlarges), and grey, also that
    of an array (H, W), goes into a network for colour as three equal channels and comes back grey from networks that
    restore (super-resolution).

    Any height and width: images are padded inside to what the network needs, and the result is cropped to
    (H · scale, W · scale). Large images stay where they are (in host memory) and go through the network in pieces.
    Nothing is recorded for gradients. After each call, `work` says what it took.

    As an nn.Module it stands in `nn.Sequential`, torchvision's v2 `Compose` and kornia's containers. It stays
    in inference mode whatever `.train()` or `.eval()` is called on it or around it.

    Args:
        generator: the network, with `in_channels`, `size_multiple` and `scale`; it is put in inference mode.
        spec: what it expects and returns.
        precision: the number type of the computation, "fp32", "bf16" or "fp16". "auto" is the fastest that is safe:
            fp16 on CUDA for 8-bit results, fp32 everywhere else. Results with NaN or infinity are computed again in
            bf16, then fp32, and counted.
        compile: use torch.compile, for long jobs with images of few sizes.
        tile_px: cut every image that is larger into tiles of this side. Unless given, images go whole where memory
            allows, else in pieces as large as it allows.
        exact: how larger images are divided. True: into bands of rows, with the result of one pass over the whole
            image up to rounding, in float32; where norms take statistics over the whole image, with several passes
            and maps in memory or on disk between them. False: into tiles that overlap and fade into each other.
            None: bands for networks with such statistics, whose tiles would differ in colour, and on a CPU, where
            they are no slower; else tiles.

    Raises:
        InputError: the generator takes latent vectors, no images, or a setting is unknown.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        spec: GeneratorSpec,
        precision: Precision = "auto",
        compile: bool = False,
        tile_px: int | None = None,
        exact: bool | None = None,
    ) -> None:
        super().__init__()
        size_multiple, scale = (getattr(generator, name, None) for name in ("size_multiple", "scale"))
        if spec.input is None or not isinstance(size_multiple, int) or not isinstance(scale, int):
            raise InputError(
                f"{type(generator).__name__} draws from latent vectors and translates no images; "
                "build it with i2i.checkpoints.store.load_generator and call it yourself"
            )
        self.generator = generator
        self.spec = spec
        self._options = Options(tile_px=tile_px, exact=exact)
        self.work = Work()
        self._restores: bool = getattr(generator, "restores", False)
        self._codec = Codec(
            input=spec.input,
            output=spec.output,
            size_multiple=size_multiple,
            smallest_px=getattr(generator, "smallest_px", SMALLEST_PX),
            scale=scale,
        )
        self._engine = Engine(
            network=generator, codec=self._codec, run=SafeRunner(generator, precision=precision, compile=compile)
        )
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Keep inference mode, whatever is asked for: normalisation and dropout are the spec's business."""
        super().train(False)
        set_inference_mode(self.generator, normalisation=self.spec.normalisation, dropout=self.spec.dropout)
        return self

    @property
    def device(self) -> torch.device:
        """Where the generator's parameters lie."""
        return next(self.generator.parameters()).device

    # no_grad, for a tensor made under inference_mode could not feed a network that trains.
    @torch.no_grad()
    def forward(
        self,
        images: AnyImage | Sequence[AnyImage],
        *,
        batch_size: int | None = None,
        tile_px: int | None = None,
        exact: bool | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Translate an image or a list of images; the class says which kinds, dtypes and ranges.

        Args:
            images: one image, a batched tensor, or a list or tuple of these.
            batch_size: how many images of equal padded size go through the network together; as many as
                make a million pixels unless given.
            tile_px, exact: in place of the translator's own.
            progress: told the share of the work that is done, between 0 and 1.

        Returns:
            The translation of each image: the same kind, dtype and device.

        Raises:
            InputError: not an image, the wrong number of channels, an unusable dtype, NaN or infinite values,
                floats far outside [0, 1] for a network trained on integers, no pixels at all, or not enough memory.
        """
        options = Options(
            batch_size=batch_size,
            tile_px=self._options.tile_px if tile_px is None else tile_px,
            exact=self._options.exact if exact is None else exact,
            progress=progress,
        )
        if isinstance(images, (list, tuple)):
            pictures = [open_picture(image, f"images[{i}]") for i, image in enumerate(images)]
        else:
            pictures = [open_picture(images, "the image")]
        results = self._translate(pictures, options)
        return results if isinstance(images, (list, tuple)) else results[0]

    @torch.no_grad()
    def translate_file(
        self,
        file: ImageFile,
        *,
        name: str = "the image",
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> ImageFile:
        """Translate all pages of an image file, for `i2i.data.image_io.write_image_file` to write.

        Transparency is kept, and the ICC profile where the result's channels are of the same kind; what could not be
        kept is noted in words.

        Args:
            file: from `read_image_file`.
            name: what to call it in messages.
            batch_size: how many pages, or tiles of one, go through the network together.
            progress: told the share of the work that is done, between 0 and 1.

        Raises:
            InputError: as in a call.
        """
        names = [name] if len(file.pages) == 1 else [f"{name}, page {n}" for n in range(1, len(file.pages) + 1)]
        pictures = [open_page(page, alpha=file.alpha, name=n) for page, n in zip(file.pages, names, strict=True)]
        options = replace(self._options, batch_size=batch_size, progress=progress)
        pages = self._translate(pictures, options)
        return _like(file, tuple(pages))

    def _translate(self, pictures: list[Picture], options: Options) -> list[Any]:
        side = self._codec.input
        pictures = [fit_channels(p, channels=side.channels, restores=self._restores) for p in pictures]
        for picture in pictures:
            self._codec.check(picture)
        named = [NamedImage(picture.name, image) for picture in pictures for image in picture.images]
        results, self.work = self._engine.translate(named, options)
        rebuilt = []
        for picture in pictures:
            count = len(picture.images)
            rebuilt.append(picture.rebuild(torch.stack(results[:count])))
            del results[:count]
        return rebuilt


def _like(file: ImageFile, pages: tuple[np.ndarray, ...]) -> ImageFile:
    """The translated pages with what can be kept of the file's transparency and colour profile."""
    before, after = file.pages[0].shape[2], pages[0].shape[2]
    notes = list(file.notes)
    alpha = file.alpha and after in (2, 4)
    if file.alpha and not alpha:
        notes.append("transparency was left out: the network returns values in units of its own")
    profile = file.icc_profile if after - alpha == before - file.alpha else None
    if file.icc_profile is not None and profile is None:
        notes.append("the colour profile was left out: it is for another kind of image than the result")
    return ImageFile(pages=pages, alpha=alpha, icc_profile=profile, notes=tuple(notes))


def _with_range(side: ImageSide, data_range: tuple[float, float] | None) -> ImageSide:
    """The side with black and white at the ends of `data_range`."""
    return side if data_range is None else replace(side, dtype="any", data_range=data_range)


def _find_device(device: str | torch.device | None) -> torch.device:
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    return torch.device(device or "cpu")
