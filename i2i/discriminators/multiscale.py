"""PatchGAN at several scales (pix2pixHD: Wang et al. 2018, §3.2; as SPADE uses it: Park et al. 2019, appendix A)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import add_spectral_norm, conv_block
from i2i.layers.init import init_weights
from i2i.layers.labels import one_hot
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
        if labels is not None:
            image = torch.cat([one_hot(labels, channels=self.in_channels - image.shape[1]).to(image), image], dim=1)
        check_images(image, channels=self.in_channels)
        results = [self.scales[0](image)]
        for scale in list(self.scales)[1:]:
            image = F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
            results.append(scale(image))
        return results


class _PatchFeatures(nn.Module):
    """The discriminator of one scale: (N, in_channels, H, W) → features of every layer, last the scores."""

    def __init__(self, *, in_channels: int, width: int, layers: int, norm: Norm, spectral: bool) -> None:
        super().__init__()
        widths = [in_channels, width]
        while len(widths) <= layers:
            widths.append(min(2 * widths[-1], 512))
        self.blocks = nn.ModuleList(
            conv_block(
                inputs,
                outputs,
                kernel_size=4,
                stride=1 if 0 < level == layers - 1 else 2,
                padding=2,
                norm=norm if level else "none",
                activation="leaky_relu",
            )
            for level, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=2)
        init_weights(self)
        if spectral:
            add_spectral_norm(self.blocks[1:])

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [image]
        for block in (*self.blocks, self.head):
            features.append(block(features[-1]))
        return features[1:]
