"""The discriminator of SRGAN (Ledig et al. 2017, §2.1.1) as ESRGAN has it: one score for a whole image."""

from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.conv import conv_block
from i2i.layers.norm import Norm


class VGGDiscriminator(nn.Module):
    """(N, in_channels, size_px, size_px), usually in [0, 1], → (N, 1) raw scores. Other sizes raise InputError.

    As in VGG, features double in channels, up to 8 × width, where they halve in size; they do so until 3 or 4 px a side
    are left. Halving by 4×4 instead of 3×3 and 100 units before the score are ESRGAN's
    (`VGGStyleDiscriminator` in https://github.com/XPixelGroup/BasicSR).

    Args:
        width: channels after the first convolution.
        size_px: side of the images, 3 or 4 times a power of two: 96, 128, 192, 256 …

    Weights keep PyTorch's own initialisation, as ESRGAN's do.
    """

    out_channels = 1

    def __init__(self, *, in_channels: int, width: int = 64, size_px: int = 128) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.size_px = size_px

        halvings = (size_px - 1).bit_length() - 2  # as many as leave more than 2 and at most 4 px
        if halvings < 1 or size_px % 2**halvings:
            raise InputError(f"expected size_px to be 3 or 4 times a power of two, such as 96 or 128, got {size_px}")
        side_px = size_px // 2**halvings

        def block(inputs: int, outputs: int, *, kernel_size: int, stride: int, norm: Norm) -> nn.Sequential:
            return conv_block(
                inputs,
                outputs,
                kernel_size=kernel_size,
                stride=stride,
                padding=1,
                norm=norm,
                activation="leaky_relu",
            )

        self.blocks = nn.Sequential()
        channels = in_channels
        for halving in range(halvings):
            outputs = width * min(2**halving, 8)
            self.blocks.append(block(channels, outputs, kernel_size=3, stride=1, norm="batch" if halving else "none"))
            self.blocks.append(block(outputs, outputs, kernel_size=4, stride=2, norm="batch"))
            channels = outputs
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * side_px**2, 100), nn.LeakyReLU(0.2, inplace=True), nn.Linear(100, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, channels=self.in_channels)
        if tuple(images.shape[2:]) != (self.size_px, self.size_px):
            raise InputError(
                f"expected images of {self.size_px} x {self.size_px} px, got {images.shape[2]} x {images.shape[3]}: "
                "crop them so, or make the discriminator for their size"
            )
        return self.head(self.blocks(images))
