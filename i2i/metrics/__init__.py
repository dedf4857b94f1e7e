"""Measures of a generator's pictures, and baselines to hold them against."""

from i2i.metrics.classifier import (
    Classifier,
    ClassifierTraining,
    agreement_by_class,
    cached_classifier,
    class_agreement,
    class_confusion,
    train_classifier,
)
from i2i.metrics.flicker import Flicker, FlickerMeter, occlusions, optical_flow, scene_cut, warp_error
from i2i.metrics.image import gradient_energy, l1, laplacian_energy, luma, ms_ssim, paired_metrics, psnr, ssim
from i2i.metrics.judges import ImageNetInput, load_judge
from i2i.metrics.lit import LIT_LUMA, lit_figures, lit_pixels
from i2i.metrics.naturalness import niqe
from i2i.metrics.painting import COLOUR_LEVELS, MeanPainter, colours_as_classes, painting_baseline
from i2i.metrics.perceptual import Lpips, load_lpips
from i2i.metrics.segmenter import Segmenter, SegmenterTraining, cached_segmenter, train_segmenter
from i2i.metrics.semantic import (
    SegmentationJudge,
    class_iou,
    confusion_matrix,
    frechet_distance,
    judged,
    mean_iou,
    pixel_accuracy,
)
from i2i.metrics.transfer import ColourTransfer, MeanImage, unpaired_baselines
from i2i.metrics.wasserstein import join_descriptors, patch_descriptors, sliced_wasserstein

__all__ = [
    "COLOUR_LEVELS",
    "LIT_LUMA",
    "Classifier",
    "ClassifierTraining",
    "ColourTransfer",
    "Flicker",
    "FlickerMeter",
    "ImageNetInput",
    "Lpips",
    "MeanImage",
    "MeanPainter",
    "SegmentationJudge",
    "Segmenter",
    "SegmenterTraining",
    "agreement_by_class",
    "cached_classifier",
    "cached_segmenter",
    "class_agreement",
    "class_confusion",
    "class_iou",
    "colours_as_classes",
    "confusion_matrix",
    "frechet_distance",
    "gradient_energy",
    "join_descriptors",
    "judged",
    "l1",
    "laplacian_energy",
    "lit_figures",
    "lit_pixels",
    "load_judge",
    "load_lpips",
    "luma",
    "mean_iou",
    "ms_ssim",
    "niqe",
    "occlusions",
    "optical_flow",
    "painting_baseline",
    "paired_metrics",
    "patch_descriptors",
    "pixel_accuracy",
    "psnr",
    "scene_cut",
    "sliced_wasserstein",
    "ssim",
    "train_classifier",
    "train_segmenter",
    "unpaired_baselines",
    "warp_error",
]
