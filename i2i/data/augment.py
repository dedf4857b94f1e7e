"""Augmentation that gradients pass through, for what discriminators see."""

import torch
from torch import Tensor, nn

from i2i.errors import InputError


class DiffAugment(nn.Module):
    """Differentiable augmentation for small data sets (Zhao et al. 2020, arXiv:2006.10738).

    (N, C, H, W) in [-1, 1] → the same shape and dtype, with any number of channels. Every image has draws of its own,
    all from torch's global generator. Applied to all that a discriminator sees, real and fake, it keeps the
    discriminator from learning the few real images by heart, and leaves no trace in what the generator makes.
    Penalise a discriminator's gradient at the augmented images: gradients pass through once with every torch, twice
    only where its grid_sample has a second derivative.

    Args:
        colour: shift the brightness by up to 0.5, multiply the saturation by 0 to 2 and the contrast by 0.5 to 1.5.
        translation: move by up to 1/8 of each side, in whole pixels; what moves in is 0, mid-grey.
        cutout: set a rectangle of half of each side to 0; its centre lies anywhere in the image.

    Raises:
        InputError: in the call, for anything but (N, C, H, W).
    """

    def __init__(self, *, colour: bool = True, translation: bool = True, cutout: bool = True) -> None:
        super().__init__()
        self.colour = colour
        self.translation = translation
        self.cutout = cutout

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, by="DiffAugment")
        count, _, height, width = images.shape
        # In 16 bits, pixels' coordinates would be off by whole pixels.
        augmented = images.to(torch.promote_types(images.dtype, torch.float32))
        with torch.autocast(images.device.type, enabled=False):
            if self.colour:
                shift, saturation, contrast = torch.rand(3, count, device=images.device)
                augmented = adjust_colour(
                    augmented, brightness=shift - 0.5, saturation=2 * saturation, contrast=contrast + 0.5
                )
            if self.translation:
                right, down = (
                    torch.randint(-eighth, eighth + 1, (count,), device=images.device)
                    for eighth in (width // 8, height // 8)
                )
                augmented = translate(augmented, right=right, down=down)
            if self.cutout:
                x, y = (torch.randint(side + 1, (count,), device=images.device) for side in (width, height))
                augmented = cut_out(augmented, x=x, y=y)
        return augmented.to(images.dtype)


def check_images(images: Tensor, *, by: str) -> None:
    """Refuse all but batches of images, on behalf of an augmentation `by` that name."""
    if images.ndim != 4:
        raise InputError(f"{by} takes images of shape (N, C, H, W), got {tuple(images.shape)}: leave it out")


def adjust_colour(images: Tensor, *, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Add `brightness`; then scale each pixel around its mean over channels, then each image around its mean.

    images: (N, C, H, W) in [-1, 1] with any C; kornia's own functions want RGB in [0, 1] and clip.
    brightness, saturation, contrast: (N,); 0, 1 and 1 change nothing.
    """
    brightness, saturation, contrast = (
        factor.to(images.dtype)[:, None, None, None] for factor in (brightness, saturation, contrast)
    )
    images = images + brightness
    grey = images.mean(dim=1, keepdim=True)
    images = grey + saturation * (images - grey)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + contrast * (images - mean)


def translate(images: Tensor, *, right: Tensor, down: Tensor) -> Tensor:
    """Move images (N, C, H, W) by whole numbers (N,) of pixels; what moves in is 0."""
    from kornia.geometry import transform

    return transform.translate(images, torch.stack([right, down], dim=1).to(images.dtype), mode="nearest")


def cut_out(images: Tensor, *, x: Tensor, y: Tensor) -> Tensor:
    """Set to 0 a rectangle of half the width and half the height, rounded up, of images (N, C, H, W).

    x, y: (N,) whole numbers, the rectangle's centre: its first column is x − ⌊its width / 2⌋, its first row likewise.
        What lies beyond the image's border is ignored.
    """
    from kornia.geometry.bbox import bbox_generator, bbox_to_mask

    height, width = images.shape[2:]
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    boxes = bbox_generator(
        x - half_width // 2, y - half_height // 2, torch.full_like(x, half_width), torch.full_like(y, half_height)
    )
    return images.masked_fill(bbox_to_mask(boxes, width, height)[:, None] > 0, 0)
