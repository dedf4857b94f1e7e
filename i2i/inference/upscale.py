"""Super-resolution to any size: a network's enlargement with what people ask of it besides."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.data.image_io import ImageFile
from i2i.errors import InputError
from i2i.inference.engine import NamedImage, Progress, Work, check_room
from i2i.inference.loading import expect_translator
from i2i.inference.pictures import (
    AnyImage,
    Picture,
    fit_channels,
    open_pages,
    open_picture,
    rebuild_file,
    resize,
)
from i2i.inference.sampler import Sampler
from i2i.inference.translator import Translator
from i2i.inference.transparency import AlphaUpsampler, check_alpha_upsampler
from i2i.layers.resample import gaussian_blur

# Colours that differ over farther than this are shifted; over less, the network has drawn something.
COLOUR_FIX_PX = 8.0
TURNS = 4


class Upscaler:
    """Enlarges images with a super-resolution network; call it with an image.

    >>> upscaler = Upscaler(i2i.load("RealESRGAN_x4plus"), scale=2)
    >>> large = upscaler("photo.png")

    What comes after the network works on float32; the result is rounded once, to the depth of the image.

    Args:
        translator: from `i2i.load`, of a network that restores.
        scale: the result has round(scale · H) × round(scale · W) px; where that is not the network's own scale, its
            result is resized by antialiased bicubic interpolation. The network's unless given.
        alpha_upsampler: what enlarges transparency: "network", as a grey image, for edges as crisp as those of the
            colours; "bicubic", for soft transparency such as smoke or leaves, which a network would harden; "auto", one
            of them for each image by the share of pixels that are partly visible. Images in units of their own
            (`input_range`), whose transparency the network would not understand, are always "bicubic". Opaque and empty
            areas stay so.
        colour_fix: give the result the image's colours wherever these are even over some 8 px of the image, for
            networks that shift them; what is finer stays the network's.
        ensemble: mean over the image turned four ways and mirrored (self-ensemble, Timofte et al. 2016, "Seven ways
            to improve example-based single image super resolution", section 3.6): a little closer to the truth and a
            little smoother, in eight times the time.

    Attributes:
        work: what the last call took.

    Raises:
        InputError: the network draws from noise or does not restore, the scale is no positive number, or a name is
            unknown.
    """

    def __init__(
        self,
        translator: Translator | Sampler,
        *,
        scale: float | None = None,
        alpha_upsampler: AlphaUpsampler = "auto",
        colour_fix: bool = False,
        ensemble: bool = False,
    ) -> None:
        translator = expect_translator(translator)
        if not translator.restores:
            raise InputError(
                f"{type(translator.generator).__name__} makes another picture of an image, and does not enlarge it; "
                "expected a super-resolution network (`i2i weights` lists some), or use `i2i translate`"
            )
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise InputError(f"scale: expected a number above 0, such as 2 or 3.5, got {scale}")
        check_alpha_upsampler(alpha_upsampler)
        channels = translator.codec.input.channels, translator.codec.output.channels
        if colour_fix and channels[0] != channels[1]:
            raise InputError(
                f"colour_fix: the network takes {channels[0]} channels and returns {channels[1]}; leave it out"
            )
        self.translator = translator
        self.scale = translator.codec.scale if scale is None else scale
        self.alpha_upsampler: AlphaUpsampler = alpha_upsampler
        self.colour_fix = colour_fix
        self.ensemble = ensemble
        self.work = Work()

    def __call__(self, image: AnyImage, *, progress: Progress | None = None) -> Any:
        """Enlarge one image, or a batched tensor of them.

        Args:
            image: a path, a PIL image, an array (H, W, C) or (H, W), a tensor (C, H, W) or (N, C, H, W), with values
                as `Translator` takes them.
            progress: told the share of the work that is done, between 0 and 1.

        Returns:
            The same kind, dtype and device; a path gives an array (H, W, C).

        Raises:
            InputError: as `Translator`.
        """
        return self._upscale([open_picture(image, "the image")], progress)[0]

    def upscale_file(self, file: ImageFile, *, name: str = "the image", progress: Progress | None = None) -> ImageFile:
        """Enlarge all pages of an image file, which keeps what `Translator.translate_file` keeps.

        Args:
            file: from `i2i.data.image_io.read_image_file`.
            name: what to call it in messages.
            progress: told the share of the work that is done, between 0 and 1.

        Raises:
            InputError: as in a call.
        """
        return rebuild_file(file, tuple(self._upscale(open_pages(file, name), progress)))

    @torch.no_grad()
    def _upscale(self, pictures: list[Picture], progress: Progress | None) -> list[Any]:
        begun, share = time.perf_counter(), 1 / len(pictures)
        self.work = Work(images=sum(len(picture.images) for picture in pictures))
        results = [
            self._upscale_picture(picture, _part(progress, begin=place * share, share=share))
            for place, picture in enumerate(pictures)
        ]
        self.work.seconds = time.perf_counter() - begun
        return results

    def _upscale_picture(self, picture: Picture, progress: Progress) -> Any:
        codec = self.translator.codec
        height, width = (max(1, round(self.scale * length)) for length in picture.images.shape[2:])
        check_room(picture.name, height=height, width=width, bytes_per_pixel=self._bytes_per_pixel(picture.images))
        picture = fit_channels(
            picture,
            channels=codec.input.channels,
            restores=True,
            alpha_upsampler=self.alpha_upsampler if codec.takes_alpha(picture.images.dtype) else "bicubic",
        )
        codec.check(picture)
        dtype = codec.result_dtype(picture.images.dtype)
        if self.scale == codec.scale and not (self.colour_fix or self.ensemble):
            return picture.rebuild(self._enlarge(picture, dtype, progress))
        if self.ensemble:
            results = self._enlarge_turned(picture, progress)
        else:
            results = self._enlarge(picture, torch.float32, progress)
        if self.colour_fix:
            results = fix_colours(results, codec.as_results(picture.images))
        return picture.rebuild(codec.store(resize(results, (height, width)), dtype))

    def _bytes_per_pixel(self, images: Tensor) -> int:
        """Of the host's memory, of the result while it is made."""
        floats = 1 + (self.scale != self.translator.codec.scale) + 2 * self.colour_fix + 3 * self.ensemble
        return images.shape[1] * (4 * floats if floats > 1 else images.dtype.itemsize)

    def _enlarge(self, picture: Picture, dtype: torch.dtype, progress: Progress) -> Tensor:
        """What the network makes of the picture: (N, C, H, W) → (N, C, scale · H, scale · W) of `dtype`."""
        images = [NamedImage(picture.name, image, dtype) for image in picture.images]
        options = replace(self.translator.options, progress=progress)
        results, work = self.translator.engine.translate(images, options)
        self.work = self.work.followed_by(work)
        return torch.stack(results)

    def _enlarge_turned(self, picture: Picture, progress: Progress) -> Tensor:
        """The mean over all turns and mirrorings, float32."""
        mean = torch.zeros(())
        for number in range(2 * TURNS):
            turns, mirrored = number % TURNS, number >= TURNS
            turned = picture._replace(images=_turned(picture.images, turns=turns, mirrored=mirrored))
            part = _part(progress, begin=number / (2 * TURNS), share=1 / (2 * TURNS))
            result = self._enlarge(turned, torch.float32, part).rot90(-turns, (2, 3))
            mean = mean + (result.flip(3) if mirrored else result) / (2 * TURNS)
        return mean


def _turned(images: Tensor, *, turns: int, mirrored: bool) -> Tensor:
    """Images (N, C, H, W), mirrored or not, then turned by so many quarters, in their own dtype."""
    # Before 2.12 torch turns no uint16; bytes move alike whatever they mean.
    movable = images.view(torch.int16) if images.dtype == torch.uint16 else images
    return (movable.flip(3) if mirrored else movable).rot90(turns, (2, 3)).view(images.dtype)


def fix_colours(results: Tensor, images: Tensor) -> Tensor:
    """Replace the low frequencies of enlarged images by those of the images.

    Args:
        results: (N, C, H', W') float32.
        images: (N, C, H, W) float32, in the same units.

    Returns:
        (N, C, H', W').
    """
    shift = images - resize(results, images.shape[2:])
    shift = gaussian_blur(shift, deviation_px=COLOUR_FIX_PX)
    return results + F.interpolate(shift, size=results.shape[2:], mode="bilinear")


def _part(progress: Progress | None, *, begin: float, share: float) -> Callable[[float], None]:
    """Tells of a part of the work, which begins at `begin`, as a share of the whole."""

    def update(done: float) -> None:
        if progress is not None:
            progress(begin + done * share)

    return update
