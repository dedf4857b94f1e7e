"""Measures of a generator's pictures, and baselines to hold them against."""

from i2i.metrics.image import l1, laplacian_energy, paired_metrics, psnr, ssim
from i2i.metrics.painting import COLOUR_LEVELS, MeanPainter, colours_as_classes, painting_baseline

__all__ = [
    "COLOUR_LEVELS",
    "MeanPainter",
    "colours_as_classes",
    "l1",
    "laplacian_energy",
    "painting_baseline",
    "paired_metrics",
    "psnr",
    "ssim",
]
