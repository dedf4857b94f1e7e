"""A trained generator as a function of images: any kind, depth and size goes in, the same comes out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from i2i.checkpoints.store import GeneratorSpec
from i2i.data.image_io import ImageFile
from i2i.errors import InputError
from i2i.inference.codec import Codec
from i2i.inference.engine import Engine, NamedImage, Options, Progress, Work
from i2i.inference.labels import prepare_labels
from i2i.inference.pictures import (
    AnyImage,
    Picture,
    fit_channels,
    open_pages,
    open_picture,
    rebuild_file,
    resize,
)
from i2i.inference.precision import Precision, SafeRunner
from i2i.inference.styles import AnyStyle, Styles, only_size
from i2i.layers.norm import set_inference_mode

# Networks mirror at the border of maps that they have halved; smaller images would leave nothing to mirror. Those that
# need more say so.
SMALLEST_PX = 8


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
    - one channel of integers, for training on labels: class ids, mostly from 0 on, and 255 for "don't care" where the
      network was trained with it. Files and PIL images with a palette give its indices. Or three channels of uint8:
      the colours of the classes, where the network was trained with a palette of them. Where the network was trained
      with the edges between instances, these come from an instance map, or else lie between classes.

    It comes back in the dtype in which it came, clipped to the data range where the network was trained on integers;
    but where one side was trained on float, integers come back as float32. Files and PIL images also tell what their
    channels are: transparency is set aside and comes back (resized, where the network enlarges), and grey, also that
    of an array (H, W), goes into a network for colour as three equal channels and comes back grey from networks that
    restore (super-resolution). Those do not see colours that transparency hides, but what is visible around them.

    Any height and width: images are padded inside to what the network needs, and the result is cropped to
    (H · scale, W · scale). Large images stay where they are (in host memory) and go through the network in pieces.
    Nothing is recorded for gradients. After each call, `work` says what it took.

    A generator with a latent vector paints in many styles: `t(labels, style=photo)`, `t(labels, seed=7)`, or without
    either the mean style. It paints images of one size only. Label maps of another are resized to it by nearest
    neighbours, and the results back to theirs, which is as sharp as that size is; `work.resized` counts them.

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
                f"{type(generator).__name__} draws from noise and translates nothing; `i2i draw` and i2i.Sampler draw "
                "with it"
            )
        self.generator = generator
        self.spec = spec
        self.options = Options(tile_px=tile_px, exact=exact)
        self.work = Work()
        self.restores: bool = getattr(generator, "restores", False)
        size = only_size(generator)
        self._styles = Styles(generator, photos=spec.output, size=size)
        self.codec = Codec(
            input=spec.input,
            output=spec.output,
            size_multiple=size_multiple,
            smallest_px=getattr(generator, "smallest_px", SMALLEST_PX),
            scale=scale,
            only_size=size,
        )
        self.engine = Engine(
            network=generator, codec=self.codec, run=SafeRunner(generator, precision=precision, compile=compile)
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
        style: AnyStyle | list[AnyStyle] | tuple[AnyStyle, ...] | None = None,
        seed: int | list[int] | tuple[int, ...] | None = None,
        instances: AnyImage | Sequence[AnyImage] | None = None,
        batch_size: int | None = None,
        tile_px: int | None = None,
        exact: bool | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Translate an image or a list of images; the class says which kinds, dtypes and ranges.

        Args:
            images: one image, a batched tensor, or a list or tuple of these.
            style: a photo whose style to paint in, of any kind, size and depth, or what `encode_style` or
                `draw_style` gave; a list with one for each image.
            seed: an integer from 0 on, in place of a photo: the same style for all images, and on every device; or a
                list with one for each image.
            instances: instance maps, of the label maps' sizes and of any kind, a number or colour for each object; a
                list where `images` is one. For networks that were trained with edges between instances.
            batch_size: how many images of equal padded size go through the network together; as many as
                make a million pixels unless given.
            tile_px, exact: in place of the translator's own.
            progress: told the share of the work that is done, between 0 and 1.

        Returns:
            The translation of each image: the same kind, dtype and device.

        Raises:
            InputError: not an image, the wrong number of channels, an unusable dtype, NaN or infinite values,
                floats far outside [0, 1] for a network trained on integers, no pixels at all, or not enough memory;
                label maps with unknown ids, or whose numbers are colours or went through a JPEG; a style, a seed or
                instances for a network that has no use for them, style and seed at once, or not as many styles or
                instance maps as images.
        """
        options = Options(
            batch_size=batch_size,
            tile_px=self.options.tile_px if tile_px is None else tile_px,
            exact=self.options.exact if exact is None else exact,
            progress=progress,
        )
        pictures = _open_all(images, "images", "the image", labels=self.codec.input.stored_as_ids)
        maps = None if instances is None else _open_all(instances, "instances", "instances", labels=True)
        if maps is not None and (
            len(maps) != len(pictures) or isinstance(images, (list, tuple)) != isinstance(instances, (list, tuple))
        ):
            raise InputError(f"instances: expected one instance map for each image, {len(pictures)}; got {len(maps)}")
        latents = self._styles.choose(pictures, style=style, seed=seed)
        results = self._translate(pictures, maps, latents, options)
        return results if isinstance(images, (list, tuple)) else results[0]

    @torch.no_grad()
    def encode_style(self, photo: AnyImage) -> Tensor:
        """The style of a photo, to be handed in as `style` again and again, or mixed with others.

        Args:
            photo: of any kind, size and depth. It is resized to the size that the network paints, as the photos
                were that it was trained on.

        Returns:
            float32 (latent_channels,) on the CPU: the mean of the distribution that the style encoder sees.

        Raises:
            InputError: no photo, several, or a generator without a style encoder.
        """
        found = self._styles.encode(photo, "style")
        if len(found) > 1:
            raise InputError(f"style: expected one photo, got {len(found)}")
        return found[0]

    def draw_style(self, seed: int) -> Tensor:
        """The style that `seed` stands for.

        Args:
            seed: an integer from 0 on.

        Returns:
            float32 (latent_channels,) from N(0, 1), on the CPU.

        Raises:
            InputError: no such integer, or a generator without a latent vector.
        """
        return self._styles.draw(seed)[0]

    @torch.no_grad()
    def translate_file(
        self,
        file: ImageFile,
        *,
        name: str = "the image",
        style: AnyStyle | None = None,
        instances: ImageFile | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> ImageFile:
        """Translate all pages of an image file, for `i2i.data.image_io.write_image_file` to write.

        Transparency is kept, and the ICC profile where the result's channels are of the same kind; what could not be
        kept is noted in words.

        Args:
            file: from `read_image_file`, with `labels=True` where the network takes label maps of class ids.
            name: what to call it in messages.
            style: as in a call, for all pages.
            instances: likewise read, as many pages of instance maps.
            batch_size: how many pages, or tiles of one, go through the network together.
            progress: told the share of the work that is done, between 0 and 1.

        Raises:
            InputError: as in a call.
        """
        pictures = open_pages(file, name)
        maps = None if instances is None else open_pages(instances, f"the instances of {name}")
        if maps is not None and len(maps) != len(pictures):
            raise InputError(f"{name}: expected instances for {len(pictures)} pages, got {len(maps)}")
        latents = self._styles.choose(pictures, style=style, seed=None)
        options = replace(self.options, batch_size=batch_size, progress=progress)
        pages = self._translate(pictures, maps, latents, options)
        return rebuild_file(file, tuple(pages))

    def _translate(
        self,
        pictures: list[Picture],
        instances: list[Picture] | None,
        latents: Sequence[Tensor | None],
        options: Options,
    ) -> list[Any]:
        sizes = [picture.images.shape[2:] for picture in pictures]
        pictures = [
            self._prepare(picture, instances[place] if instances else None) for place, picture in enumerate(pictures)
        ]
        named = [
            NamedImage(
                picture.name,
                image,
                self.codec.result_dtype(image.dtype),
                latents=None if styles is None else styles[place],
            )
            for picture, styles in zip(pictures, latents, strict=True)
            for place, image in enumerate(picture.images)
        ]
        results, self.work = self.engine.translate(named, options)
        rebuilt = []
        for picture, size in zip(pictures, sizes, strict=True):
            count = len(picture.images)
            images = torch.stack(results[:count])
            if self.codec.only_size not in (None, tuple(size)):
                images = resize(images, size)
                self.work.resized += count
            rebuilt.append(picture.rebuild(images))
            del results[:count]
        return rebuilt

    def _prepare(self, picture: Picture, instances: Picture | None) -> Picture:
        """The picture as the engine takes it, checked."""
        side = self.codec.input
        if side.labels:
            return prepare_labels(picture, side, instances=instances, size=self.codec.only_size)
        if instances is not None:
            raise InputError("instances: the network takes images, not label maps; leave the instances out")
        picture = fit_channels(picture, channels=side.channels, restores=self.restores)
        self.codec.check(picture)
        return picture


def _open_all(images: Any, names: str, name: str, *, labels: bool) -> list[Picture]:
    if isinstance(images, (list, tuple)):
        return [open_picture(image, f"{names}[{i}]", labels=labels) for i, image in enumerate(images)]
    return [open_picture(images, name, labels=labels)]
