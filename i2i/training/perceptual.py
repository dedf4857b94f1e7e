"""The settings of the perceptual loss and of LPIPS, for all recipes that have them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i2i.errors import InputError
from i2i.losses.perceptual import PIX2PIXHD_LAYERS, PerceptualLoss, load_vgg19
from i2i.metrics import Lpips, load_lpips


@dataclass(frozen=True, kw_only=True)
class Perceptual:
    """Whether outputs are compared with the truth by a network that knows photographs.

    Attributes:
        perceptual: compare features of VGG19, trained on ImageNet, or leave that out.
        perceptual_weights: file with VGG19's weights as torchvision or timm have them; None: fetched once.
        perceptual_weight: weight of that comparison.
        perceptual_layers: the layers compared, with their weights: conv3_4 is the fourth convolution after two
            poolings, before activation, relu3_4 after it. For two of them: conv3_4 1 conv4_4 0.5.
    """

    perceptual: Literal["vgg19", "off"] = "vgg19"
    perceptual_weights: Path | None = None
    perceptual_weight: float = 10.0
    perceptual_layers: tuple[tuple[str, float], ...] = tuple(PIX2PIXHD_LAYERS.items())

    def __post_init__(self) -> None:
        if not 0 <= self.perceptual_weight < math.inf:
            raise InputError(f"--perceptual-weight must be at least 0, and is {self.perceptual_weight}.")
        if self.perceptual == "off" and self.perceptual_weights is not None:
            raise InputError("--perceptual off and --perceptual-weights exclude each other. Give one of the two.")

    def make_perceptual(self) -> PerceptualLoss | None:
        """The perceptual loss, if there is to be one.

        Raises:
            InputError: VGG19's weights cannot be had, or there is no such layer.
        """
        if self.perceptual == "off":
            return None
        return PerceptualLoss(vgg=load_vgg19(self.perceptual_weights), layers=dict(self.perceptual_layers))

    @property
    def remarks(self) -> list[str]:
        """What the report should say about it."""
        without = self.perceptual == "off"
        return ["There is no perceptual loss, which the paper has (--perceptual off)."] if without else []


@dataclass(frozen=True, kw_only=True)
class LpipsFigure:
    """Whether held-out figures tell how different from the truth people would find outputs.

    Attributes:
        lpips: the network that looks at them: AlexNet, as in most papers, or VGG16; or leave LPIPS out.
        lpips_backbone: file with its weights as torchvision has them; None: fetched once.
        lpips_heads: file with LPIPS's own weights, the authors' alex.pth or vgg.pth; None: fetched once.
    """

    lpips: Literal["alex", "vgg", "off"] = "off"
    lpips_backbone: Path | None = None
    lpips_heads: Path | None = None

    def __post_init__(self) -> None:
        if self.lpips == "off" and (self.lpips_backbone is not None or self.lpips_heads is not None):
            raise InputError("--lpips-backbone and --lpips-heads are for --lpips alex or vgg. Give that, too.")

    def make_lpips(self) -> Lpips | None:
        """LPIPS, if it is to be had.

        Raises:
            InputError: its weights cannot be had.
        """
        if self.lpips == "off":
            return None
        return load_lpips(self.lpips, backbone_path=self.lpips_backbone, heads_path=self.lpips_heads)
