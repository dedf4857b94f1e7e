"""The augmentations of ADA, whose strength may be adapted while training goes on."""

from math import pi, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.data.augment import check_images
from i2i.errors import InputError


class AdaptiveAugment(nn.Module):
    """Augmentation for small data sets, as much of it as is needed (ADA; Karras et al. 2020, arXiv:2006.06676).

    (N, C, H, W) in [-1, 1] → the same shape and dtype; values may leave [-1, 1]. Each transformation is applied to each
    image with `probability`, independently of the others and with draws of its own, all from torch's global generator.
    Applied to all that a discriminator sees, real and fake, it keeps the discriminator from learning the few real
    images by heart. What the generator makes shows no trace of it while the probability stays below about 0.8, so
    that upright images in their own colours stay the likeliest (section 2.2).

    The transformations are those that the paper recommends ("bgc"), in the order and with the distributions of its
    appendix B. Pixels between pixels are bicubic, where the paper puts wavelet filters around a bilinear look-up.

    Penalise a discriminator's gradient at the augmented images: gradients pass through once with every torch, twice
    only where its grid_sample has a second derivative.

    Attributes:
        probability: from 0 to 1, set at any time; at 0 images pass as they are, at no cost. It is in no state dict:
            what adapts it remembers it.

    Args:
        blit: mirror, turn by multiples of 90° (of 180° where height and width differ, as others would not fit), and
            move by up to 1/8 of each side in whole pixels.
        geometry: scale, turn by any angle, stretch, and move by fractions of pixels.
        colour: change brightness, contrast, luma's sign, hue and saturation; `recolour` says what that means for other
            than RGB images.
        probability: at the start.

    Raises:
        InputError: in the call, for anything but (N, C, H, W), or a probability outside of [0, 1].
    """

    def __init__(
        self, *, blit: bool = True, geometry: bool = True, colour: bool = True, probability: float = 0.0
    ) -> None:
        super().__init__()
        self.blit = blit
        self.geometry = geometry
        self.colour = colour
        self.probability = probability

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, by="AdaptiveAugment")
        if not 0 <= self.probability <= 1:
            raise InputError(f"expected a probability of augmentation between 0 and 1, got {self.probability}")
        if self.probability == 0:
            return images
        augmented = images.to(torch.promote_types(images.dtype, torch.float32))
        with torch.autocast(images.device.type, enabled=False):
            if self.blit or self.geometry:
                source = torch.eye(3, device=images.device)
                if self.blit:
                    source = source @ draw_blit(images, self.probability)
                if self.geometry:
                    source = source @ draw_geometry(images, self.probability)
                augmented = resample(augmented, source)
            if self.colour:
                augmented = recolour(augmented, **draw_colour(images, self.probability))
        return augmented.to(images.dtype)


def sometimes(draws: Tensor, probability: float) -> Tensor:
    """Of draws (…, N) each image's with the probability, else 0, with which no transformation changes anything."""
    return draws * (torch.rand(draws.shape[-1], device=draws.device) < probability)


# Both maps are drawn as what leads from a pixel of the outcome back to its source. That takes the inverse of each
# transformation; but each is as likely as its inverse, so only the order tells: the paper's first one stands first.


def draw_blit(images: Tensor, probability: float) -> Tensor:
    """Pixel blitting: maps (N, 3, 3) that take pixels to pixels."""
    (count, _, height, width), device = images.shape, images.device
    mirror = sometimes(torch.randint(2, (count,), device=device), probability)  # U{0, 1}
    quarters = torch.randint(4, (count,), device=device)  # U{0, 3}
    turn = sometimes(quarters if height == width else quarters // 2 * 2, probability)
    right, down = sometimes(torch.rand(2, count, device=device) / 4 - 1 / 8, probability)  # U(-1/8, 1/8)
    return (
        scaling(1 - 2 * mirror, torch.ones_like(mirror))
        @ rotation(turn * pi / 2)
        @ translation((right * width).round(), (down * height).round())
    )


def draw_geometry(images: Tensor, probability: float) -> Tensor:
    """General geometric transformations: maps (N, 3, 3). N(a, b) stands for mean a and deviation b."""
    (count, _, height, width), device = images.shape, images.device
    of_rotation = 1 - sqrt(1 - probability)  # so that either of the two takes place with `probability`
    scale = sometimes(0.2 * torch.randn(count, device=device), probability).exp2()  # log2: N(0, 0.2)
    before = sometimes(pi * (2 * torch.rand(count, device=device) - 1), of_rotation)  # U(-π, π)
    stretch = sometimes(0.2 * torch.randn(count, device=device), probability).exp2()  # log2: N(0, 0.2)
    after = sometimes(pi * (2 * torch.rand(count, device=device) - 1), of_rotation)  # U(-π, π)
    right, down = sometimes(torch.randn(2, count, device=device) / 8, probability)  # N(0, 1/8)
    return (
        scaling(scale, scale)
        @ rotation(before)
        @ scaling(stretch, 1 / stretch)
        @ rotation(after)
        @ translation(right * width, down * height)
    )


def draw_colour(images: Tensor, probability: float) -> dict[str, Tensor]:
    """Colour transformations: arguments (N,) of `recolour`."""
    count, device = len(images), images.device
    return {
        "brightness": sometimes(0.2 * torch.randn(count, device=device), probability),  # N(0, 0.2)
        "contrast": sometimes(0.5 * torch.randn(count, device=device), probability).exp2(),  # log2: N(0, 0.5)
        "luma": 1 - 2 * sometimes(torch.randint(2, (count,), device=device), probability),  # flips: U{0, 1}
        "hue": sometimes(pi * (2 * torch.rand(count, device=device) - 1), probability),  # U(-π, π)
        "saturation": sometimes(torch.randn(count, device=device), probability).exp2(),  # log2: N(0, 1)
    }


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Matrices (N, 3, 3) in homogeneous coordinates, like those below."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=-1)).float()


def rotation(angle: Tensor) -> Tensor:
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=-1).unflatten(-1, (3, 3))


def translation(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([one, zero, x, zero, one, y, zero, zero, one], dim=-1).unflatten(-1, (3, 3))


def resample(images: Tensor, source: Tensor) -> Tensor:
    """Images (N, C, H, W) of which each pixel is taken from elsewhere; beyond the borders they are reflected.

    source: (N, 3, 3) affine maps from the place of a pixel to that where it comes from, both (x, y, 1) in pixels from
        the image's middle.
    """
    middle_x, middle_y = ((side - 1) / 2 for side in (images.shape[3], images.shape[2]))
    x = torch.arange(images.shape[3], device=images.device, dtype=images.dtype) - middle_x
    y = torch.arange(images.shape[2], device=images.device, dtype=images.dtype)[:, None] - middle_y
    (a, b, right), (c, d, down) = source.to(images.dtype)[:, :2, :, None, None].permute(1, 2, 0, 3, 4)
    # grid_sample counts from -1 to 1, the centres of the outermost pixels; it then reflects about these centres.
    places = torch.stack([(a * x + b * y + right) / (middle_x or 1), (c * x + d * y + down) / (middle_y or 1)], dim=-1)
    return F.grid_sample(images, places, mode="bicubic", padding_mode="reflection", align_corners=True)


def recolour(
    images: Tensor, *, brightness: Tensor, contrast: Tensor, luma: Tensor, hue: Tensor, saturation: Tensor
) -> Tensor:
    """Add `brightness` to each pixel, then apply one linear map to its colour.

    The map is what the paper's matrices multiply to: the part of a colour along the grey axis, where all channels are
    equal, is scaled by contrast · luma; the rest is turned by `hue` and scaled by contrast · saturation.

    images: (N, C, H, W). If C is a multiple of 3, every three channels are an RGB image and all change alike, as those
        do that conditional methods join. Otherwise, all channels are one colour: its grey part is their mean, and it
        has no hue.
    brightness, contrast, luma, hue, saturation: (N,); 0, 1, 1, 0 radians and 1 change nothing.
    """
    channels = 3 if images.shape[1] % 3 == 0 else images.shape[1]
    brightness, contrast, luma, hue, saturation = (
        value.to(images.dtype)[:, None, None] for value in (brightness, contrast, luma, hue, saturation)
    )
    grey = images.new_full((channels, channels), 1 / channels)
    rest = torch.eye(channels, device=images.device, dtype=images.dtype) - grey
    turned = rest
    if channels == 3:
        # Rodrigues' formula: a quarter of a turn is the cross product with the axis.
        quarter = images.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / sqrt(3)
        turned = hue.cos() * rest + hue.sin() * quarter
    linear = contrast * (luma * grey + saturation * turned)
    colours = (images + brightness[..., None]).unflatten(1, (-1, channels))
    return torch.einsum("nij,ngjhw->ngihw", linear, colours).flatten(1, 2)
