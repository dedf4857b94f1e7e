"""The U-Net discriminator with spectral normalisation of Real-ESRGAN (Wang et al. 2021, §3.4)."""

import torch.nn.functional as F
from torch import Tensor, nn

from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import add_spectral_norm


class UNetDiscriminator(nn.Module):
    """(N, in_channels, H, W), usually in [0, 1], → (N, 1, H, W), a raw score for each pixel.

    Images of any size from 8 px a side on, else InputError. All convolutions but the first and the last are spectrally
    normalised.

    Args:
        width: channels at the images' size; they double with each of three halvings.
        skips: whether features from before the halvings are added to those of their size after them.

    Weights keep PyTorch's own initialisation, as Real-ESRGAN's do.
    """

    out_channels = 1
    smallest_px = 8

    def __init__(self, *, in_channels: int, width: int = 64, skips: bool = True) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.skips = skips

        def same_size(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False)
            for channels in (width, 2 * width, 4 * width)
        )
        self.up = nn.ModuleList(same_size(2 * channels, channels) for channels in (4 * width, 2 * width, width))
        self.refine = nn.ModuleList(same_size(width, width) for _ in range(2))
        self.head = nn.Conv2d(width, 1, 3, padding=1)
        for normalised in (self.down, self.up, self.refine):
            add_spectral_norm(normalised)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels, minimum=self.smallest_px)
        levels = [_leaky(self.stem(images))]
        for conv in self.down:
            levels.append(_leaky(conv(levels[-1])))
        features = levels.pop()
        for conv in self.up:
            level = levels.pop()
            # To the level's size rather than by 2, for halving rounds odd sizes down.
            features = F.interpolate(features, size=level.shape[2:], mode="bilinear", align_corners=False)
            features = _leaky(conv(features))
            if self.skips:
                features = features + level
        for conv in self.refine:
            features = _leaky(conv(features))
        return self.head(features)


def _leaky(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.2, inplace=True)
