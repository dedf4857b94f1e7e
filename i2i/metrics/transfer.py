"""Baselines that a translator from A to B without pairs has to beat: none of them is trained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from i2i.errors import InputError
from i2i.metrics.image import mean_of_pairs, paired_metrics
from i2i.metrics.wasserstein import join_descriptors, patch_descriptors, sliced_wasserstein


class ColourTransfer:
    """Gives an image the mean and the deviation that B's images have on average, channel by channel.

    After Reinhard et al. 2001, who take both from one image of B and work in the colour space lαβ. Here the channels
    are the images' own, of any number and meaning.
    """

    def __init__(self) -> None:
        self.means: list[Tensor] = []
        self.deviations: list[Tensor] = []

    @property
    def channels(self) -> int | None:
        """Of B's images; None before the first."""
        return len(self.means[0]) if self.means else None

    def add(self, image: Tensor) -> None:
        """Learn from an image of B, (C, H, W) in [-1, 1]; sizes may differ.

        Raises:
            InputError: not (C, H, W), or not as many channels as those before.
        """
        self._check(image)
        deviation, mean = torch.std_mean(image.float(), dim=(1, 2), keepdim=True, correction=0)
        self.means.append(mean)
        self.deviations.append(deviation)

    def __call__(self, image: Tensor) -> Tensor:
        """An image of A, (C, H, W) in [-1, 1], to one of the same shape, float32, clipped to [-1, 1].

        A channel of one value becomes B's mean.

        Raises:
            InputError: not (C, H, W), or not as many channels as B's images.
        """
        assert self.means, "add() comes first"
        self._check(image)
        deviation, mean = torch.std_mean(image.float(), dim=(1, 2), keepdim=True, correction=0)
        # Of a channel of one value only rounding errors are left, which must stay small.
        normalised = (image - mean) / deviation.clamp(min=1e-4)
        return (normalised * torch.stack(self.deviations).mean(0) + torch.stack(self.means).mean(0)).clamp(-1, 1)

    def _check(self, image: Tensor) -> None:
        if image.ndim != 3 or self.channels not in (None, len(image)):
            raise InputError(f"expected an image ({self.channels or 'C'}, H, W), got {tuple(image.shape)}")


class MeanImage:
    """The mean of B's images: of all constant answers the one with the smallest squared error."""

    def __init__(self) -> None:
        self.sum: Tensor | None = None
        self.count = 0
        self.one_size = True

    def add(self, image: Tensor) -> None:
        """Learn from an image of B, (C, H, W) in [-1, 1]."""
        if self.sum is None:
            self.sum = torch.zeros_like(image, dtype=torch.float64)
        if image.shape != self.sum.shape:
            self.one_size = False
            return
        self.sum += image
        self.count += 1

    @property
    def image(self) -> Tensor | None:
        """(C, H, W) float32; None where B's images differ in size, and have no mean."""
        return (self.sum / self.count).float() if self.sum is not None and self.one_size else None


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What is known of a baseline's outputs so far, image by image."""

    figures: list[dict[str, float]] = field(default_factory=list)
    descriptors: list[dict[str, Tensor]] = field(default_factory=list)


def unpaired_baselines(
    *,
    training_b: Iterable[Tensor],
    held_out_a: Iterable[tuple[Tensor, Tensor | None]],
    held_out_b: Iterable[Tensor],
    figures: Callable[[Tensor, Tensor], dict[str, float]] = paired_metrics,
) -> dict[str, dict[str, float]]:
    """What can be had without training, for the translation from A to B.

    Each iterable is gone through once, one image at a time. What is kept are the patches for the sliced Wasserstein
    distance: 75 kB for an image of three channels, level of the pyramid, and row.

    Args:
        training_b: images of B to take colours from, (C, H, W) in [-1, 1]; sizes may differ, here and below.
        held_out_a: images of A, each with the B it should become, where that is known, else None.
        held_out_b: real images of B, to hold the outputs against as a set.
        figures: (output, truth), both (1, C, H, W) in [-1, 1], to named numbers.

    Returns:
        For each of "do nothing", "colour transfer" and "mean image" the means of `figures` over the images with a
        truth (none without truths), and what `sliced_wasserstein` says.
        The first two are left out where A and B have different numbers of channels; the last where B's training images
        and A's are not all of one size.

    Raises:
        InputError: there are no images, or some that `patch_descriptors` or `figures` cannot use.
    """
    transfer, mean = ColourTransfer(), MeanImage()
    for image in training_b:
        transfer.add(image)
        mean.add(image)
    if transfer.channels is None:
        raise InputError("expected images of B to take colours from, got none")
    mean_image = mean.image
    real = join_descriptors([patch_descriptors(image[None]) for image in held_out_b])
    rows = {name: _Row() for name in ("do nothing", "colour transfer", "mean image")}
    for image, truth in held_out_a:
        outputs: dict[str, Tensor] = {}
        if len(image) == transfer.channels:
            outputs |= {"do nothing": image, "colour transfer": transfer(image)}
        if mean_image is not None and mean_image.shape[1:] == image.shape[1:]:
            outputs |= {"mean image": mean_image}
        rows = {name: row for name, row in rows.items() if name in outputs}
        for name, row in rows.items():
            row.descriptors.append(patch_descriptors(outputs[name][None]))
            if truth is not None:
                row.figures.append(figures(outputs[name][None], truth[None]))
    return {
        name: _means(row.figures) | sliced_wasserstein(real, join_descriptors(row.descriptors))
        for name, row in rows.items()
    }


def _means(figures: list[dict[str, float]]) -> dict[str, float]:
    names = figures[0] if figures else ()
    return {name: mean_of_pairs([figure[name] for figure in figures]) for name in names}
