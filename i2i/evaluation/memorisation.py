"""Whether generated images are copies of training images, and whether a generator tells what it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

from i2i.evaluation.describing import Describing
from i2i.evaluation.findings import Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.sets import FeatureDescriber


@dataclass(frozen=True, kw_only=True)
class MemorisationSettings:
    """How generated images are held against training images.

    Attributes:
        shown: pairs in the picture of the closest ones.
        seed: decides which images of a larger set are compared where sets have to be equally large.
    """

    shown: int = 24
    seed: int = 0


def memorisation_findings(
    generated: ImageSet,
    training: ImageSet,
    held_out: ImageSet | None,
    *,
    settings: MemorisationSettings,
    describing: Describing,
    features: Sequence[FeatureDescriber] = (),
) -> Findings:
    """Look for each generated image's nearest training image.

    Args:
        generated: the images that are judged.
        training: what their generator was trained on.
        held_out: real images that it was not trained on; None: there are none.
        settings: how.
        describing: reads the images.
        features: networks in whose features, besides pixels, images are compared.
    """
    raise NotImplementedError
