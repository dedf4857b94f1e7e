"""PatchGAN at several scales (pix2pixHD: Wang et al. 2018, §3.2; as SPADE uses it: Park et al. 2019, appendix A)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import add_spectral_norm, conv_block
from i2i.layers.init import init_weights
from i2i.layers.labels import LabelledConv2d, halve_one_hot
from i2i.layers.norm import Norm


class MultiscaleDiscriminator(nn.Module):
    """Score patches of an image, of the image at half its size, and so on.

    Images (N, in_channels, H, W) → for each scale, full size first, the features after each of its `layers`
    activations, and last the raw scores (N, 1, h, w), one for each overlapping patch. `in_channels` counts all that
    the discriminator sees: one-hot label map and image joined along channels.

    Args:
        width: channels after the first convolution; they double with each further one, up to 512.
        layers: convolutions before the one that scores; they have stride 2, but for the last of several.
        scales: how many.
        norm: after every convolution but the first and the last.
        spectral: divide the weights of the convolutions but the first and the last by their largest singular values.
    """

    out_channels = 1

    def __init__(
        self,
        *,
        in_channels: int,
        width: int = 64,
        layers: int = 4,
        scales: int = 2,
        norm: Norm = "instance",
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.scales = nn.ModuleList(
            _PatchFeatures(in_channels=in_channels, width=width, layers=layers, norm=norm, spectral=spectral)
            for _ in range(scales)
        )

    def forward(self, image: Tensor, labels: Tensor | None = None) -> list[list[Tensor]]:
        """Features and scores of images.

        Args:
            image: (N, C, H, W) in [-1, 1]; without `labels` it is all that the discriminator sees, C = in_channels.
            labels: label maps (N, 1 or 2, H, W), int64, of in_channels - C channels as one-hot maps.
        """
        if labels is None:
            check_images(image, channels=self.in_channels)
        elif labels.is_floating_point() or labels.shape[2:] != image.shape[2:]:
            height, width = image.shape[2:]
            raise InputError(
                f"expected integer label maps of {height} x {width} px, as the images, got {labels.dtype} of shape "
                f"{tuple(labels.shape)}; one-hot maps are to be joined to the images beforehand"
            )
        first, *coarser = self.scales
        results = [first(image, labels)]
        for number, scale in enumerate(coarser):
            image = F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
            if number == 0 and labels is not None:
                image = torch.cat([halve_one_hot(labels, channels=self.in_channels - image.shape[1]), image], dim=1)
            results.append(scale(image))
        return results


class _PatchFeatures(nn.Module):
    """The discriminator of one scale: images, beside label maps or with all channels → features, last the scores."""

    def __init__(self, *, in_channels: int, width: int, layers: int, norm: Norm, spectral: bool) -> None:
        super().__init__()
        widths = [width]
        while len(widths) < layers:
            widths.append(min(2 * widths[-1], 512))
        self.first = LabelledConv2d(in_channels, width, 4, stride=2, padding=2)
        self.blocks = nn.ModuleList(
            conv_block(
                inputs,
                outputs,
                kernel_size=4,
                stride=1 if number == layers - 1 else 2,
                padding=2,
                norm=norm,
                activation="leaky_relu",
            )
            for number, (inputs, outputs) in enumerate(pairwise(widths), start=1)
        )
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=2)
        init_weights(self)
        if spectral:
            add_spectral_norm(self.blocks)

    def forward(self, image: Tensor, labels: Tensor | None = None) -> list[Tensor]:
        features = [F.leaky_relu(self.first(image, labels), 0.2, inplace=True)]
        for block in (*self.blocks, self.head):
            features.append(block(features[-1]))
        return features
