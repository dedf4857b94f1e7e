"""StyleGAN's generators: Karras et al. 2019 (arXiv:1812.04948) and 2020 (arXiv:1912.04958).

A mapping turns the latent vector z into a style w, and every layer of the synthesis is told a style, from the coarsest,
which decides about poses and layouts, to the finest, which decide about colours. Noise at each layer leaves the styles
free of what is chance anyway.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.checks import check_latents, constructor_arguments
from i2i.layers.classes import check_classes
from i2i.layers.equalised import EqualisedConv2d, EqualisedLinear, ScaledLeakyReLU
from i2i.layers.init import draw_normal, make_embedding
from i2i.layers.norm import PixelNorm
from i2i.layers.resample import BlurUpsample, blur
from i2i.layers.sides import sides_up_to, width_at

StyleLayers = Literal["adain", "modulated"]

# Of the running mean of styles at each forward pass in training mode (2019, Appendix B).
MEAN_STYLE_DECAY = 0.995


class StyleGANGenerator(nn.Module):
    """Latent vectors (N, latent_channels) from N(0, 1) → (N, out_channels, size, size), about [-1, 1] and not clipped.

    With classes it also takes the class id of each image, (N,) int64, an embedding of which is joined to z.

    `forward` is `synthesise(styles(latents))`, and may mix the styles of two latent vectors. Training mode draws fresh
    noise and lets `mean_style` follow the styles; evaluation mode has noise that is fixed, so that an image depends on
    its styles alone.

    Args:
        width: channels of the maps up to `widest_px`; larger ones have half as many whenever the size doubles.
        size: side of the image in pixels, a power of two from 8 on.
        classes: number of classes to choose from; 0: none.
        style_channels: length of w.
        mapping_layers: of the mapping from z to w.
        mapping_rate: how fast the mapping learns next to the synthesis; the papers' is 0.01.
        layers: "adain" convolves, adds noise, and gives each map the mean and deviation that the style says (2019);
            "modulated" scales the weights of each convolution by the style, and adds up images of all sizes (2020).
        widest_px: side of the largest map with `width` channels, a power of two from 4 on. The papers' are 32 (2019)
            and 64 (2020, configuration F).

    Attributes:
        style_layers: how many layers take a style, the coarsest first: two for each size from 4 px on.
        mean_style: running mean of w over training, (style_channels,), which truncation draws styles to. Nothing is
            learnt by it. It moves as batch norm's statistics do, with every forward pass in training mode (that of each
            micro-batch, and those before steps of a critic alone), by the `latents`, not the `other_latents`.
    """

    output_range = (-1.0, 1.0)
    mean_style: Tensor

    def __init__(
        self,
        *,
        latent_channels: int = 512,
        out_channels: int = 3,
        width: int = 512,
        size: int = 256,
        classes: int = 0,
        style_channels: int = 512,
        mapping_layers: int = 8,
        mapping_rate: float = 0.01,
        layers: StyleLayers = "modulated",
        widest_px: int = 64,
    ) -> None:
        super().__init__()
        self.arguments = constructor_arguments(locals())
        sides = sides_up_to(size, least=8)
        widths = [width_at(side, width=width, widest_px=widest_px) for side in sides]
        if mapping_layers < 1:
            raise InputError(f"expected a mapping of at least 1 layer, got {mapping_layers}")
        if not 0 < mapping_rate < math.inf:
            raise InputError(f"expected mapping_rate to be above 0 and finite, got {mapping_rate}")
        self.latent_channels = latent_channels
        self.classes = classes
        self.out_channels = out_channels
        self.style_channels = style_channels

        self.style_layers = 2 * len(sides)
        self.embedding = make_embedding(classes, latent_channels) if classes else None
        self.normalise = PixelNorm()
        inputs = latent_channels * (2 if classes else 1)
        self.mapping = nn.Sequential()
        for _ in range(mapping_layers):
            self.mapping.append(EqualisedLinear(inputs, style_channels, learning_rate_multiplier=mapping_rate))
            self.mapping.append(ScaledLeakyReLU())
            inputs = style_channels
        self.register_buffer("mean_style", torch.zeros(style_channels))

        self.synthesis: _AdaINSynthesis | _ModulatedSynthesis
        match layers:
            case "adain":
                self.synthesis = _AdaINSynthesis(widths, style_channels=style_channels, out_channels=out_channels)
            case "modulated":
                self.synthesis = _ModulatedSynthesis(widths, style_channels=style_channels, out_channels=out_channels)
            case _:
                raise InputError(f'expected layers to be "adain" or "modulated", got {layers!r}')

    def stages(self) -> list[nn.Module]:
        """The parts whose activations `i2i.layers.recompute` can compute again in the backward pass."""
        return self.synthesis.stages()

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        other_latents: Tensor | None = None,
        crossover: Tensor | None = None,
    ) -> Tensor:
        """Images of `latents`; with `other_latents`, like them, layers from `crossover` on take the styles of those.

        crossover: (N,) int64, for each image the first such layer, counted from 0; `style_layers` mixes nothing.
        """
        styles = self.styles(latents, labels)
        if self.training:
            self._follow(styles[:, 0])
        if other_latents is not None:
            if crossover is None or crossover.shape != latents.shape[:1]:
                raise InputError(f"expected other_latents with a crossover of shape ({len(latents)},)")
            layer = torch.arange(self.style_layers, device=latents.device)
            from_other = layer >= crossover.unsqueeze(1)
            styles = torch.where(from_other.unsqueeze(2), self.styles(other_latents, labels), styles)
        return self.synthesise(styles)

    def styles(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """The styles of latent vectors, w, repeated for every layer: (N, style_layers, style_channels)."""
        check_latents(latents, channels=self.latent_channels)
        if self.embedding is not None:
            labels = check_classes(labels, classes=self.classes, count=len(latents))
            latents = torch.cat([latents, self.embedding(labels)], dim=1)
        style = self.mapping(self.normalise(latents))
        return style.unsqueeze(1).expand(-1, self.style_layers, -1)

    def synthesise(self, styles: Tensor) -> Tensor:
        """Images for styles (N, style_layers, style_channels), which may differ from layer to layer."""
        expected = (self.style_layers, self.style_channels)
        if styles.ndim != 3 or styles.shape[1:] != expected:
            raise InputError(f"expected styles of shape (N, {expected[0]}, {expected[1]}), got {tuple(styles.shape)}")
        return self.synthesis(styles)

    @torch.no_grad()
    def _follow(self, styles: Tensor) -> None:
        self.mean_style.lerp_(styles.mean(0).to(self.mean_style), 1 - MEAN_STYLE_DECAY)


class _AdaINSynthesis(nn.Module):
    """Figure 1b of 2019: (N, layers, style_channels) → (N, out_channels, size, size)."""

    def __init__(self, widths: list[int], *, style_channels: int, out_channels: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(draw_normal(1, widths[0], 4, 4))
        pairs = [(widths[0], widths[0]), *pairwise(widths)]
        self.layers = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(pairs):
            side = 4 * 2**level
            first = _UpConv2d(inputs, outputs) if level else nn.Identity()
            convs = first, EqualisedConv2d(outputs, outputs, 3, bias=False)
            self.layers.extend(_AdaINLayer(c, outputs, side=side, style_channels=style_channels) for c in convs)
        self.to_rgb = EqualisedConv2d(widths[-1], out_channels, 1)

    def stages(self) -> list[nn.Module]:
        return [*self.layers]

    def forward(self, styles: Tensor) -> Tensor:
        features = self.constant.expand(len(styles), -1, -1, -1)
        for layer, style in zip(self.layers, styles.unbind(1), strict=True):
            features = layer(features, style)
        return self.to_rgb(features)


class _ModulatedSynthesis(nn.Module):
    """Figures 2d and 7b of 2020: (N, layers, style_channels) → (N, out_channels, size, size).

    The image of a size is told the same style as the first layer of the next, and the last one a style of its own.
    """

    def __init__(self, widths: list[int], *, style_channels: int, out_channels: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(draw_normal(1, widths[0], 4, 4))
        self.layers = nn.ModuleList([_ModulatedLayer(widths[0], widths[0], side=4, style_channels=style_channels)])
        for level, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            shared = {"side": 4 * 2**level, "style_channels": style_channels}
            self.layers.append(_ModulatedLayer(inputs, outputs, up=True, **shared))
            self.layers.append(_ModulatedLayer(outputs, outputs, **shared))
        self.to_rgb = nn.ModuleList(
            _ToRGB(channels, out_channels=out_channels, style_channels=style_channels) for channels in widths
        )
        self.upsample = BlurUpsample()

    def stages(self) -> list[nn.Module]:
        return [*self.layers, *self.to_rgb]

    def forward(self, styles: Tensor) -> Tensor:
        first, *others = styles.unbind(1)
        features = self.layers[0](self.constant.expand(len(styles), -1, -1, -1), first)
        image = self.to_rgb[0](features, others[0])
        for level in range(1, len(self.to_rgb)):
            up, conv = self.layers[2 * level - 1 : 2 * level + 1]
            told_up, told_conv, told_rgb = others[2 * level - 2 : 2 * level + 1]
            features = conv(up(features, told_up), told_conv)
            image = self.upsample(image) + self.to_rgb[level](features, told_rgb)
        return image


class _AdaINLayer(nn.Module):
    """Convolve, add noise, leaky ReLU, AdaIN: (N, in, H, W) and styles (N, style_channels) → (N, out, side, side)."""

    def __init__(self, conv: nn.Module, channels: int, *, side: int, style_channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.noise = _Noise(channels, side=side)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.activation = ScaledLeakyReLU()
        self.scale_and_shift = EqualisedLinear(style_channels, 2 * channels)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        features = self.activation(self.noise(self.conv(features)) + self.bias.to(features.dtype))
        # Eq. 1: y_s (x − μ(x)) / σ(x) + y_b with y_s around 1, as one factor and one summand for each map.
        variance, mean = torch.var_mean(features, (2, 3), correction=0, keepdim=True)
        scale, shift = self.scale_and_shift(style)[:, :, None, None].chunk(2, dim=1)
        factor = (1 + scale) * torch.rsqrt(variance + 1e-5)
        return torch.addcmul(shift - mean * factor, features, factor)


class _ModulatedLayer(nn.Module):
    """Modulated convolution, noise, leaky ReLU: (N, in, H, W) and styles (N, style_channels) → (N, out, side, side).

    up: the convolution is transposed, of stride 2, and what it gives is blurred.
    """

    def __init__(self, in_channels: int, channels: int, *, side: int, style_channels: int, up: bool = False) -> None:
        super().__init__()
        self.affine = EqualisedLinear(style_channels, in_channels, initial_bias=1.0)
        self.conv = _UpConv2d(in_channels, channels) if up else EqualisedConv2d(in_channels, channels, 3, bias=False)
        self.noise = _Noise(1, side=side)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.activation = ScaledLeakyReLU()

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        scale = self.affine(style)
        # Weights w'_ijk = s_i · w_ijk (eq. 1), each image's own, divided by their length over i and k (eq. 3), are one
        # shared convolution between factors for its inputs and for its outputs, which is far faster.
        features = self.conv(features * scale[:, :, None, None])
        features = features * self._demodulation(scale).to(features.dtype)[:, :, None, None]
        return self.activation(self.noise(features) + self.bias.to(features.dtype))

    def _demodulation(self, scale: Tensor) -> Tensor:
        """1 / √(Σ_ik s_i² w_ijk² + ε) for scales (N, in), of at least float32: (N, out)."""
        with torch.autocast(scale.device.type, enabled=False):
            weight = self.conv.weight * self.conv.scale
            energy = weight.square().sum((2, 3))
            return torch.rsqrt(scale.to(weight.dtype).square() @ energy.T + 1e-8)


class _ToRGB(nn.Module):
    """Modulated 1×1 convolution without demodulation: (N, C, H, W) and styles → (N, out_channels, H, W)."""

    def __init__(self, channels: int, *, out_channels: int, style_channels: int) -> None:
        super().__init__()
        self.affine = EqualisedLinear(style_channels, channels, initial_bias=1.0)
        self.conv = EqualisedConv2d(channels, out_channels, 1)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        return self.conv(features * self.affine(style)[:, :, None, None])


class _UpConv2d(EqualisedConv2d):
    """A transposed convolution of stride 2, then a blur: (N, in, H, W) → (N, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        # Pixels spread out hold a quarter of what blurring them should leave.
        weight = self.weight.transpose(0, 1) * (4 * self.scale)
        return blur(F.conv_transpose2d(features, weight, stride=2), padding=1)


class _Noise(nn.Module):
    """Adds one image of N(0, 1) noise to all channels, with strengths that are learnt: (N, C, side, side) → the same.

    channels: how many strengths there are, one for all or one for each.
    """

    fixed: Tensor

    def __init__(self, channels: int, *, side: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("fixed", draw_normal(1, 1, side, side))

    def forward(self, features: Tensor) -> Tensor:
        noise = torch.randn_like(features[:, :1]) if self.training else self.fixed
        return features + (noise * self.strength).to(features.dtype)
