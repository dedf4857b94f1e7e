"""What generated images are good for: a network is trained on them and tested on real ones."""

from dataclasses import dataclass
from typing import Literal

from i2i.evaluation.describing import Describing
from i2i.evaluation.findings import Findings
from i2i.evaluation.image_sets import ImageSet

Usefulness = Literal["classes", "labels"]


@dataclass(frozen=True, kw_only=True)
class UsefulnessSettings:
    """How small networks are trained on generated images, and on real ones for comparison.

    Attributes:
        size_px: side that images are resized to, all to one.
        steps: of training; None: 400 of a classifier, 1500 of a segmenter.
        flip: mirror half of the images, where left and right mean nothing.
        seed: decides initial weights, draws, and which images of a larger set are left out.
    """

    size_px: int = 64
    steps: int | None = None
    flip: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """Images and their label maps, of equal names."""

    images: ImageSet
    labels: ImageSet


def class_usefulness_findings(
    generated: ImageSet,
    training: ImageSet,
    test: ImageSet,
    *,
    settings: UsefulnessSettings,
    describing: Describing,
) -> Findings:
    """Accuracy on real images of a classifier trained on generated ones, beside one trained on real ones.

    An image's class is the first folder of its name (disc/00012.png) or, in a flat folder, what follows the number in
    names such as `i2i draw` gives: 000012_disc.png.
    """
    raise NotImplementedError


def label_usefulness_findings(
    generated: LabelledSet,
    training: LabelledSet,
    test: LabelledSet,
    *,
    settings: UsefulnessSettings,
    describing: Describing,
) -> Findings:
    """Mean IoU on real images of a segmenter trained on generated ones, beside one trained on real ones."""
    raise NotImplementedError
