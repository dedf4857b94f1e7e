"""The SPADE generator (Park et al. 2019, §3 and figure 4; layers in its appendix A)."""

from itertools import pairwise
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.generators.style_encoder import StyleEncoder
from i2i.layers.checks import constructor_arguments
from i2i.layers.conv import OutputActivation, activate_output, add_spectral_norm
from i2i.layers.init import init_weights
from i2i.layers.labels import LabelConv2d, check_labels
from i2i.layers.norm import SPADE, ParameterFreeNorm
from i2i.layers.resample import PickEvery

UpsamplingLayers = Literal["normal", "more", "most"]


class Styled(NamedTuple):
    """An image (N, out_channels, H, W) in the style of a photo, and what the style encoder made of the photo.

    `mean` and `log_variance`, (N, latent_channels), are those of the normal distribution that the image's latent
    vector was drawn from.
    """

    image: Tensor
    mean: Tensor
    log_variance: Tensor


class SPADEGenerator(nn.Module):
    """Paint an image from a label map: double a coarse map to full size, told at each size which label lies where.

    Label maps as `i2i.layers.labels` has them: (N, 1 or 2, H, W), integer, which saves memory and time where classes
    are many, or one-hot (N, in_channels, H, W), floating point. `in_channels` counts the classes, "don't care" among
    them, and the edges between instances if the maps have them. The result is (N, out_channels, H, W) in [-1, 1] unless
    `output_activation` says otherwise. H and W must be multiples of `size_multiple`: 32, 64 or 128 for the three
    `num_upsampling_layers`; else InputError.

    Without `latent_channels` the coarse map is the label map's. With them it comes from a latent vector that sets the
    style, and the network paints images of one size only: `latent_height` × `latent_width` times `size_multiple`.

    Args:
        width: channels before the last convolution; the coarse map has 16 × width.
        num_upsampling_layers: "more" doubles once more, between the two middle blocks; "most" also adds a block at the
            end, of half the width.
        norm: what the label map scales and shifts: features normalised over the batch, over the batches of all
            processes ("sync_batch"), or over each image alone.
        spectral: divide the weights of the blocks' convolutions, but not of those that read the label map, by their
            largest singular values.
        hidden_width, label_kernel_size: of the convolutions that read the label map.
        latent_channels: length of the latent vector, drawn from N(0, 1) in training; None for no such vector.
        latent_height, latent_width: size of the coarse map made from it, in pixels of that map.
        style_encoder_width: channels after the first convolution of a style encoder that makes latent vectors of
            photos; None for no encoder. It needs `latent_channels`.
        style_px: side of the square that it sees photos at, a power of two.
        output_activation: bounds the output: "tanh" to [-1, 1], "sigmoid" to [0, 1], "none" leaves it unbounded.
    """

    scale = 1
    input_range = (0.0, 1.0)
    takes_labels = True
    takes_label_ids = True

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int = 3,
        width: int = 64,
        num_upsampling_layers: UpsamplingLayers = "normal",
        norm: ParameterFreeNorm = "batch",
        spectral: bool = True,
        hidden_width: int = 128,
        label_kernel_size: int = 3,
        latent_channels: int | None = None,
        latent_height: int = 8,
        latent_width: int = 8,
        style_encoder_width: int | None = None,
        style_px: int = 256,
        output_activation: OutputActivation = "tanh",
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.latent_channels = latent_channels
        self.latent_size = (latent_height, latent_width)
        self.output_activation = output_activation
        self.output_range = (0.0, 1.0) if output_activation == "sigmoid" else (-1.0, 1.0)

        halvings = _halvings(num_upsampling_layers)
        self.size_multiple = size_multiple_of(num_upsampling_layers)
        widths = [16 * width] * 4 + [8 * width, 4 * width, 2 * width, width]
        if num_upsampling_layers == "most":
            if width < 2:
                raise InputError(f'expected a width of at least 2 for num_upsampling_layers="most", got {width}')
            widths.append(width // 2)

        self.coarse_labels = PickEvery(self.size_multiple)
        self.coarse: LabelConv2d | nn.Linear
        if latent_channels is None:
            self.coarse = LabelConv2d(in_channels, widths[0], 3, padding=1)
        else:
            self.coarse = nn.Linear(latent_channels, widths[0] * latent_height * latent_width)
        self.blocks = nn.ModuleList(
            SPADEBlock(
                inputs,
                outputs,
                label_channels=in_channels,
                halvings=here,
                doubles=here < before,
                norm=norm,
                hidden_width=hidden_width,
                label_kernel_size=label_kernel_size,
            )
            for (inputs, outputs), (before, here) in zip(
                pairwise(widths), pairwise([halvings[0], *halvings]), strict=True
            )
        )
        self.head = nn.Conv2d(widths[-1], out_channels, 3, padding=1)
        init_weights(self)
        if spectral:
            for block in self.blocks:
                for child in block.children():
                    if isinstance(child, nn.Conv2d):
                        add_spectral_norm(child)
        self.style_encoder: StyleEncoder | None = None
        if style_encoder_width is not None:
            if latent_channels is None:
                raise InputError("a style encoder makes latent vectors: give latent_channels with style_encoder_width")
            self.style_encoder = StyleEncoder(
                in_channels=out_channels, width=style_encoder_width, latent_channels=latent_channels, image_px=style_px
            )

    # Named as in the published network, so that a call by keyword works with either.
    def forward(self, input: Tensor, z: Tensor | None = None, style: Tensor | None = None) -> Tensor | Styled:
        """Paint label maps.

        Args:
            input: label maps, (N, 1 or 2, H, W) integer or (N, in_channels, H, W) floating point.
            z: latent vectors (N, latent_channels). The same zeros for all unless given: the mean of their
                distribution, so that equal label maps make equal images.
            style: photos (N, out_channels, h, w) in [-1, 1] whose style to paint in, in place of `z`.

        Returns:
            The images; with `style`, `Styled`, the latent vectors being drawn by torch's global generator from what
            the style encoder made of the photos.
        """
        check_labels(input, channels=self.in_channels, multiple=self.size_multiple)
        if style is None:
            return self._paint(input, z)
        if self.style_encoder is None:
            raise InputError("expected no photo for the style: this network was made without style_encoder_width")
        if z is not None:
            raise InputError("expected latent vectors or photos for the style, got both")
        encoded = self.style_encoder(style)
        return Styled(self._paint(input, encoded.sample()), *encoded)

    def _paint(self, labels: Tensor, z: Tensor | None) -> Tensor:
        features = self._coarse_map(labels, z)
        for block in self.blocks:
            features = block(features, labels)
        return activate_output(self.head(F.leaky_relu(features, 0.2)), self.output_activation)

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        return list(self.blocks)

    def _coarse_map(self, labels: Tensor, z: Tensor | None) -> Tensor:
        if self.latent_channels is None:
            if isinstance(z, Tensor):
                raise InputError("expected no latent vectors: this network was made without latent_channels")
            return self.coarse(self.coarse_labels(labels))
        height, width = (length * self.size_multiple for length in self.latent_size)
        if labels.shape[2:] != (height, width):
            raise InputError(
                f"expected label maps of {height} x {width} px, the only size that this network paints, for it starts "
                f"from a latent vector; got {labels.shape[2]} x {labels.shape[3]}: resize them, by nearest neighbours"
            )
        if z is None:
            z = self.coarse.weight.new_zeros(labels.shape[0], self.latent_channels)
        elif z.shape != (labels.shape[0], self.latent_channels):
            expected = (labels.shape[0], self.latent_channels)
            raise InputError(f"expected latent vectors of shape {expected}, got {tuple(z.shape)}")
        return self.coarse(z).unflatten(1, (-1, *self.latent_size))


class SPADEBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, each after SPADE and a leaky ReLU (figure 4, left).

    Features (N, in_channels, h, w) and label maps of the full size, as SPADE takes them, →
    (N, out_channels, H / 2**halvings, W / 2**halvings), twice the features' size if the block `doubles`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        label_channels: int,
        halvings: int,
        doubles: bool,
        norm: ParameterFreeNorm,
        hidden_width: int,
        label_kernel_size: int,
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)

        def spade(channels: int) -> SPADE:
            return SPADE(
                channels,
                label_channels=label_channels,
                norm=norm,
                hidden_width=hidden_width,
                kernel_size=label_kernel_size,
            )

        self.upsample = nn.Upsample(scale_factor=2) if doubles else nn.Identity()
        self.pick_labels = PickEvery(2**halvings)
        self.first_norm = spade(in_channels)
        self.first = nn.Conv2d(in_channels, middle, 3, padding=1)
        self.second_norm = spade(middle)
        self.second = nn.Conv2d(middle, out_channels, 3, padding=1)
        self.learnt_shortcut = in_channels != out_channels
        if self.learnt_shortcut:
            self.shortcut_norm = spade(in_channels)
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        features, labels = self.upsample(features), self.pick_labels(labels)
        residual = self.first(F.leaky_relu(self.first_norm(features, labels), 0.2, inplace=True))
        residual = self.second(F.leaky_relu(self.second_norm(residual, labels), 0.2, inplace=True))
        if self.learnt_shortcut:
            features = self.shortcut(self.shortcut_norm(features, labels))
        return features + residual


def size_multiple_of(layers: UpsamplingLayers) -> int:
    """What the sides of label maps must be multiples of, in pixels."""
    return 2 ** _halvings(layers)[0]


def _halvings(layers: UpsamplingLayers) -> list[int]:
    """How often each block's map is halved from the full size."""
    match layers:
        case "normal":
            return [5, 4, 4, 3, 2, 1, 0]
        case "more":
            return [6, 5, 4, 3, 2, 1, 0]
        case "most":
            return [7, 6, 5, 4, 3, 2, 1, 0]
        case _:
            raise InputError(f'expected num_upsampling_layers to be "normal", "more" or "most", got {layers!r}')
