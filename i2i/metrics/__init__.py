"""Measures of a generator's pictures, and baselines to hold them against."""

from i2i.errors import MissingWeights
from i2i.metrics.appearance import composition, measure_appearance
from i2i.metrics.classifier import (
    Classifier,
    ClassifierTraining,
    agreement_by_class,
    cached_classifier,
    class_agreement,
    class_confusion,
    train_classifier,
)
from i2i.metrics.distribution import (
    frechet_distance,
    frechet_influences,
    frechet_of_moments,
    inception_score,
    kernel_distance,
    kernel_error,
    mean_distances,
    neighbour_scores,
)
from i2i.metrics.features import (
    FeatureExtractor,
    clean_resize,
    feature_slug,
    load_features,
    small_images,
)
from i2i.metrics.flicker import Flicker, FlickerMeter, occlusions, optical_flow, scene_cut, warp_error
from i2i.metrics.image import gradient_energy, l1, laplacian_energy, luma, ms_ssim, paired_metrics, psnr, ssim
from i2i.metrics.judges import ImageNetInput, load_judge
from i2i.metrics.lit import LIT_LUMA, lit_figures, lit_pixels
from i2i.metrics.naturalness import niqe
from i2i.metrics.painting import COLOUR_LEVELS, MeanPainter, colours_as_classes, painting_baseline
from i2i.metrics.perceptual import Lpips, load_lpips
from i2i.metrics.preference import Preference, measure_preference, sign_test
from i2i.metrics.segmenter import Segmenter, SegmenterTraining, cached_segmenter, train_segmenter
from i2i.metrics.semantic import (
    SegmentationJudge,
    class_iou,
    confusion_matrix,
    judged,
    mean_iou,
    pixel_accuracy,
)
from i2i.metrics.transfer import ColourTransfer, MeanImage, unpaired_baselines
from i2i.metrics.two_samples import categories, holm, kolmogorov_smirnov, told_apart
from i2i.metrics.wasserstein import (
    join_descriptors,
    patch_descriptors,
    sliced_wasserstein,
    sliced_wasserstein_influences,
)

__all__ = [
    "COLOUR_LEVELS",
    "LIT_LUMA",
    "Classifier",
    "ClassifierTraining",
    "ColourTransfer",
    "FeatureExtractor",
    "Flicker",
    "FlickerMeter",
    "ImageNetInput",
    "Lpips",
    "MeanImage",
    "MeanPainter",
    "MissingWeights",
    "Preference",
    "SegmentationJudge",
    "Segmenter",
    "SegmenterTraining",
    "agreement_by_class",
    "cached_classifier",
    "cached_segmenter",
    "categories",
    "class_agreement",
    "class_confusion",
    "class_iou",
    "clean_resize",
    "colours_as_classes",
    "composition",
    "confusion_matrix",
    "feature_slug",
    "frechet_distance",
    "frechet_influences",
    "frechet_of_moments",
    "gradient_energy",
    "holm",
    "inception_score",
    "join_descriptors",
    "judged",
    "kernel_distance",
    "kernel_error",
    "kolmogorov_smirnov",
    "l1",
    "laplacian_energy",
    "lit_figures",
    "lit_pixels",
    "load_features",
    "load_judge",
    "load_lpips",
    "luma",
    "mean_distances",
    "mean_iou",
    "measure_appearance",
    "measure_preference",
    "ms_ssim",
    "neighbour_scores",
    "niqe",
    "occlusions",
    "optical_flow",
    "painting_baseline",
    "paired_metrics",
    "patch_descriptors",
    "pixel_accuracy",
    "psnr",
    "scene_cut",
    "sign_test",
    "sliced_wasserstein",
    "sliced_wasserstein_influences",
    "small_images",
    "ssim",
    "told_apart",
    "train_classifier",
    "train_segmenter",
    "unpaired_baselines",
    "warp_error",
]
