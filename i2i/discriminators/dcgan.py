"""The DCGAN discriminator (Radford et al. 2016, arXiv:1511.06434, §3): the generator's mirror image."""

from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_images, constructor_arguments
from i2i.layers.classes import append_classes
from i2i.layers.conv import add_spectral_norm, conv_block
from i2i.layers.init import init_weights
from i2i.layers.minibatch import Minibatch, make_minibatch
from i2i.layers.norm import Norm
from i2i.layers.sides import sides_up_to


class DCGANDiscriminator(nn.Module):
    """(N, in_channels, size, size), usually in [-1, 1], → (N,) raw scores. Other sizes raise InputError.

    By the paper's guidelines: convolutions of stride 2 instead of pooling, batch norm everywhere but at the input,
    leaky ReLU of slope 0.2, and no hidden layer that is fully connected. With classes it also takes the class id of
    each image, (N,) int64, whose one-hot form is joined to every pixel.

    Args:
        width: channels after the first convolution; they double with each halving of the size, down to 4×4.
        size: side of the image in pixels, a power of two from 8 on.
        norm: used everywhere but in the first and last convolution; take "none" or "instance" with a
            gradient penalty, which batch norm breaks by mixing the images of a batch.
        spectral: normalise every weight by its largest singular value.
        classes: number of classes; 0: none.
        minibatch: statistics of the batch that are joined to the last map, 4×4.
    """

    out_channels = 1

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 64,
        size: int = 64,
        norm: Norm = "batch",
        spectral: bool = False,
        classes: int = 0,
        minibatch: Minibatch = "none",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        sides = sides_up_to(size, least=8)
        self.in_channels = in_channels
        self.size = size
        self.classes = classes

        def block(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
            return conv_block(inputs, outputs, kernel_size=4, stride=2, padding=1, norm=norm, activation="leaky_relu")

        self.blocks = nn.Sequential(block(in_channels + classes, width, "none"))
        channels = width
        for _ in sides[1:-1]:
            self.blocks.append(block(channels, 2 * channels, norm))
            channels *= 2
        self.minibatch, channels = make_minibatch(minibatch, channels, places=4 * 4)
        self.head = nn.Conv2d(channels, 1, 4)
        init_weights(self.blocks)
        init_weights(self.head)
        if spectral:
            add_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        check_images(images, channels=self.in_channels)
        if tuple(images.shape[2:]) != (self.size, self.size):
            raise InputError(
                f"expected images of {self.size} x {self.size} px, got {images.shape[2]} x {images.shape[3]}"
            )
        features = self.blocks(append_classes(images, labels, classes=self.classes))
        return self.head(self.minibatch(features)).flatten()
