"""Tools for the spaces that generators draw from: walks, sweeps, mixtures, projection, directions, anomalies."""

from i2i.latents.anomaly import Anomalies, AnomalyScorer, histogram
from i2i.latents.directions import (
    Direction,
    DirectionSweep,
    attribute_direction,
    class_direction,
    direction_between,
    direction_sweep,
    principal_directions,
)
from i2i.latents.mixing import MixingCorrelations, StyleMixing, mixing_correlations, style_mixing
from i2i.latents.paths import Interpolation, interpolation, slerp
from i2i.latents.projection import Descent, Projection, project
from i2i.latents.space import LatentSpace
from i2i.latents.truncation import TruncationSweep, truncation_sweep
from i2i.metrics.ranking import auroc

__all__ = [
    "Anomalies",
    "AnomalyScorer",
    "Descent",
    "Direction",
    "DirectionSweep",
    "Interpolation",
    "LatentSpace",
    "MixingCorrelations",
    "Projection",
    "StyleMixing",
    "TruncationSweep",
    "attribute_direction",
    "auroc",
    "class_direction",
    "direction_between",
    "direction_sweep",
    "histogram",
    "interpolation",
    "mixing_correlations",
    "principal_directions",
    "project",
    "slerp",
    "style_mixing",
    "truncation_sweep",
]
