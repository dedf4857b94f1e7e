"""The DCGAN generator (Radford et al. 2016, arXiv:1511.06434, §3 and figure 1)."""

from torch import Tensor, nn

from i2i.layers.checks import check_latents, constructor_arguments
from i2i.layers.classes import append_classes
from i2i.layers.init import init_weights
from i2i.layers.norm import make_norm
from i2i.layers.resample import Upsampling, upsample_conv
from i2i.layers.sides import sides_up_to


class DCGANGenerator(nn.Module):
    """Latent vectors (N, latent_channels), usually from N(0, 1), → (N, out_channels, size, size) in [-1, 1].

    By the paper's guidelines: no pooling, no hidden layer that is fully connected, batch norm everywhere but at the
    output, ReLU and last tanh. With classes it also takes the class id of each image, (N,) int64, whose one-hot form is
    joined to the vector.

    Args:
        width: channels of the last hidden map; they double with each halving of the size, down to 4×4.
        size: side of the image in pixels, a power of two from 8 on.
        classes: number of classes to choose from; 0: none.
        upsampling: "transposed" is the paper's; "resize" avoids its checkerboard patterns (Odena et al. 2016).
    """

    output_range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        latent_channels: int = 100,
        out_channels: int = 3,
        width: int = 64,
        size: int = 64,
        classes: int = 0,
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        sides = sides_up_to(size, least=8)
        self.latent_channels = latent_channels
        self.classes = classes
        self.out_channels = out_channels

        def double(inputs: int, outputs: int, *, bias: bool) -> nn.Module:
            return upsample_conv(inputs, outputs, kernel_size=4, upsampling=upsampling, bias=bias)

        channels = width * sides[-2] // sides[0]
        project = nn.ConvTranspose2d(latent_channels + classes, channels, 4, bias=False)  # of one pixel: to 4×4
        self.blocks = nn.Sequential(_normalised(project, channels))
        while channels > width:
            self.blocks.append(_normalised(double(channels, channels // 2, bias=False), channels // 2))
            channels //= 2
        self.head = nn.Sequential(double(width, out_channels, bias=True), nn.Tanh())
        init_weights(self)

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        return [*self.blocks, self.head]

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_latents(latents, channels=self.latent_channels)
        inputs = append_classes(latents, labels, classes=self.classes)
        return self.head(self.blocks(inputs[:, :, None, None]))


def _normalised(conv: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(conv, make_norm("batch", channels), nn.ReLU(inplace=True))
