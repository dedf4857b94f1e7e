"""The style that a generator paints in: latent vectors, drawn from a seed or read off a photo."""

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.checkpoints.store import ImageSide
from i2i.errors import InputError
from i2i.inference.codec import Codec
from i2i.inference.pictures import AnyImage, Picture, fit_channels, open_picture

AnyStyle: TypeAlias = AnyImage  # or a latent vector, a tensor of one axis

ENCODER_RANGE = (-1.0, 1.0)  # what style encoders call black and white


def only_size(generator: Any) -> tuple[int, int] | None:
    """The height and width in pixels of what a generator with a latent vector paints; None for all others."""
    if getattr(generator, "latent_channels", None) is None:
        return None
    height, width = generator.latent_size
    return height * generator.size_multiple, width * generator.size_multiple


def draw_latent(seed: int, *, channels: int) -> Tensor:
    """A latent vector (channels,) from N(0, 1), on the CPU, and the same on every machine.

    Raises:
        InputError: the seed is no integer from 0 to 2**63 - 1.
    """
    number = natural_number(seed)
    if not 0 <= number < 2**63:
        raise InputError(f"seed: expected an integer from 0 to 2**63 - 1, got {seed!r}")
    return torch.randn(channels, generator=torch.Generator().manual_seed(number))


def draw_truncated_latent(seed: int, *, channels: int, truncation: float) -> Tensor:
    """A latent vector (channels,) from N(0, 1) of which values beyond the threshold are drawn again until none is.

    BigGAN's truncation trick (Brock et al. 2019, arXiv:1809.11096, section 3.1). What lies within is as
    `draw_latent` gives it. Drawing again until a value lies within is drawing once from the truncated distribution, by
    the inverse of its cumulative one, which takes no longer near 0 than elsewhere.

    Args:
        truncation: the threshold; at 0 all values are 0.

    Raises:
        InputError: no such seed, or as for `check_truncation`.
    """
    check_truncation(truncation)
    latent = draw_latent(seed, channels=channels)
    again = torch.Generator().manual_seed(-1 - natural_number(seed))  # independent of the values themselves
    uniform = torch.rand(channels, generator=again, dtype=torch.float64) * 2 - 1
    most = torch.erf(torch.tensor(truncation / 2**0.5, dtype=torch.float64))
    within = (torch.erfinv(uniform * most) * 2**0.5).to(latent.dtype).clamp(-truncation, truncation)
    return torch.where(latent.abs() <= truncation, latent, within)


def check_truncation(truncation: float) -> None:
    """Raise InputError unless truncation is a number from 0 on."""
    if isinstance(truncation, bool) or not isinstance(truncation, int | float) or not 0 <= truncation < math.inf:
        raise InputError(
            f"truncation: expected a finite number from 0 (no variety) on, such as 0.7, got {truncation!r}"
        )


def natural_number(value: object) -> int:
    """The integer from 0 on that `value`, of any type of integers, stands for; -1 where it is none."""
    try:
        return -1 if isinstance(value, bool) else max(-1, operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        return -1


class Styles:
    """Makes latent vectors for a generator.

    Args:
        network: with `latent_channels`, None where it has no latent vector, and `style_encoder`, None or a network
            (N, C, h, w) in [-1, 1] → (mean, log-variance), each (N, latent_channels).
        photos: photos that styles are read off, as the generator returns them.
        size: height and width of the generator's results.
    """

    def __init__(self, network: Any, *, photos: ImageSide, size: tuple[int, int] | None) -> None:
        self._network = network
        self._size = size
        side = replace(photos, network_range=ENCODER_RANGE)
        self._codec = Codec(input=side, output=side, size_multiple=1, smallest_px=1, scale=1)

    @property
    def latent_channels(self) -> int | None:
        """Length of the latent vectors; None where the generator has none."""
        return getattr(self._network, "latent_channels", None)

    def choose(
        self,
        pictures: Sequence[Picture],
        *,
        style: AnyStyle | list[AnyStyle] | tuple[AnyStyle, ...] | None,
        seed: int | list[int] | tuple[int, ...] | None,
    ) -> list[Tensor | None]:
        """Latent vectors (N, latent_channels) for each picture of N images; None for the mean style.

        Args:
            style: one for all, or a list with one for each picture.
            seed: of one style for all, or a list with one for each picture.

        Raises:
            InputError: both are given, there are not as many styles as pictures, or as for `encode` and `draw`.
        """
        if style is not None and seed is not None:
            raise InputError("style and seed are two ways to say the same; give one of them")
        if isinstance(seed, (list, tuple)):
            style = [self.draw(one)[0] for one in seed]
        elif seed is not None:
            style = self.draw(seed)[0]
        if style is None:
            return [None] * len(pictures)
        if isinstance(style, (list, tuple)):
            if len(style) != len(pictures):
                raise InputError(f"expected one style or seed, or as many as images, {len(pictures)}; got {len(style)}")
            found = [self.encode(one, f"style[{i}]") for i, one in enumerate(style)]
        else:
            found = [self.encode(style, "style")] * len(pictures)
        return [_spread(latents, picture) for latents, picture in zip(found, pictures, strict=True)]

    def draw(self, seed: int) -> Tensor:
        """A latent vector (1, latent_channels) from N(0, 1), the same on every device.

        Raises:
            InputError: the generator has no latent vector, or the seed is no integer from 0 on.
        """
        return draw_latent(seed, channels=self._needed_channels("seed"))[None]

    def encode(self, style: AnyStyle, name: str) -> Tensor:
        """Latent vectors (N, latent_channels): the mean that the style encoder sees for each photo.

        Args:
            style: a photo of any kind, size and depth; a tensor (N, C, h, w) of several; or a latent vector
                (latent_channels,) itself.
            name: what to call it in messages.

        Raises:
            InputError: the generator has no latent vector, or no style encoder to read photos; or not a photo.
        """
        channels = self._needed_channels("style")
        if isinstance(style, Tensor) and style.ndim == 1:
            if len(style) != channels or not style.isfinite().all():
                raise InputError(
                    f"{name}: expected a photo, or a latent vector of {channels} finite values, got {len(style)} values"
                )
            return style.detach().float()[None]
        if self._network.style_encoder is None:
            raise InputError(
                f"{name}: this generator has no style encoder, which would read a photo's style. Load one beside it "
                '(i2i.load(..., style_encoder="latest_net_E.pth"), --style-encoder FILE), train with one, or draw '
                "styles with a seed"
            )
        return self._read(open_picture(style, name))

    def _needed_channels(self, option: str) -> int:
        if self.latent_channels is None:
            raise InputError(
                f"{option}: this generator has no latent vector, so that it paints in one style only; leave it out"
            )
        return self.latent_channels

    def _read(self, photo: Picture) -> Tensor:
        count = photo.images.shape[1]
        # Of photos it is known what one, two or four channels are.
        photo = photo._replace(alpha=count in (2, 4), grey=count in (1, 2))
        photo = fit_channels(photo, channels=self._codec.input.channels, restores=False)
        self._codec.check(photo)
        parameter = next(self._network.style_encoder.parameters())
        height, width = photo.images.shape[2:]
        encoded = torch.stack(
            [self._codec.encode(image, range(height), range(width), parameter.device) for image in photo.images]
        )
        if self._size is not None:  # as the photos were that it was trained on
            encoded = F.interpolate(encoded, size=self._size, mode="bilinear", antialias=True)
        mean = self._network.style_encoder(encoded.to(parameter.dtype))[0]
        if not mean.isfinite().all():
            raise InputError(f"{photo.name}: the style encoder returns NaN or infinite values; its weights are damaged")
        return mean.float().cpu()


def _spread(latents: Tensor, picture: Picture) -> Tensor:
    count = len(picture.images)
    if len(latents) not in (1, count):
        raise InputError(f"style: expected one, or as many as {picture.name} has images, {count}; got {len(latents)}")
    return latents.expand(count, -1)
