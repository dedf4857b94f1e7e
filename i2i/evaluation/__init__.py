"""Whether a generator is good, better than another one, and safe to ship: figures of sets of images in files."""

from i2i.evaluation.describing import Described, Describer, Describing, Moments
from i2i.evaluation.evaluator import EvaluationSettings, Evaluator
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import Half, ImageSet
from i2i.evaluation.sets import FeatureDescriber, SetSettings, set_findings

__all__ = [
    "Described",
    "Describer",
    "Describing",
    "EvaluationSettings",
    "Evaluator",
    "FeatureDescriber",
    "Figure",
    "Findings",
    "Half",
    "ImageSet",
    "Moments",
    "SetSettings",
    "set_findings",
]
