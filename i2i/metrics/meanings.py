"""What figures mean, in a few words, for tables and reports."""

from typing import Literal

GoodEnd = Literal["lowest", "highest", "nearest_one"]

MEANINGS = {
    "psnr": "nearness to the truth in dB; higher is better",
    "ssim": "likeness to the truth in structure; 1 is equal",
    "ms_ssim": "the same over five scales",
    "l1": "mean difference from the truth, as a share of the whole range; lower is better",
    "gradient": "gradient energy next to the truth's; 1 is as sharp",
    "lpips": "how different from the truth people would find outputs, as learned from them; lower is better",
    "sharpness": "Laplacian energy next to the truth's; 1 is as sharp",
    "lit_recall": "share of the truth's lit pixels that are lit, too",
    "lit_precision": "share of the lit pixels that are lit in truth, too",
    "trained_miou": "mean IoU, on real photos, of a segmenter trained on the generated ones; higher is better",
    "read_miou": "mean IoU that the judge, a segmentation network, reads off the generated photos; higher is better",
    "read_accuracy": "share of pixels whose class the judge reads right",
    "frechet": "Fréchet distance of a network's features from those of real images; lower is better",
    "style_colour": "share of the difference in colour between two style photos that their outputs show; 1 is all",
    "style_miou_change": "largest difference in read_miou between style photos",
    "swd": "sliced Wasserstein distance of patches from those of real images, in thousandths; lower is better",
    "fid": "Fréchet distance of Inception's features from those of real images (FID); lower is better",
    "kid": "kernel distance of Inception's features from those of real images (KID); 0 is equal, lower is better",
    "kernel": "kernel distance of a network's features from those of real images; 0 is equal, lower is better",
    "inception_score": "classes told clearly and many of them, by a classifier; from 1, higher is better",
    "precision": "share of generated images that are near real ones; higher is better",
    "recall": "share of real images that are near generated ones; higher is better",
    "density": "how many real images generated ones are near to, next to real ones; around 1, higher is better",
    "coverage": "share of real images that have a generated one near; higher is better",
    "swd_0": "its part of the finest details",
    **{f"swd_{level}": f"its part of details of {2**level} times that size" for level in range(1, 12)},
    "swd_low": "its part of the small image that is left",
    "variety": "how much samples differ from one another, next to real images; 1 is as much",
    "class_agreement": "share of samples in which a classifier of real images sees the class that was asked for",
    "miou": "mean IoU of the classes that the judge, a segmentation network, reads off images; higher is better",
    "accuracy": "share of pixels whose class the judge reads right",
    "miou_real": "the same of real images, which is as much as to expect",
    "accuracy_real": "the same of real images",
    "copies": "share of generated images that copy a training image; 0 is none",
    "nearest_ratio": "how near training images are, next to real ones not trained on; 1 is by chance, 0 copies",
    "membership_auroc": "how well generated images tell what was trained on; 0.5 is not at all",
    "trained_accuracy": "accuracy on real images of a classifier trained on the generated ones; higher is better",
    "real_accuracy": "the same, trained on as many real images, which is as much as to expect",
    "real_miou": "mean IoU on real photos of a segmenter trained on as many real ones, which is as much as to expect",
    "flicker": "difference of neighbouring frames once motion is undone, in levels of 255; lower is steadier",
    "flicker_real": "the same of the real video",
}
"""By name, for training's held-out metrics and for `i2i evaluate`."""

GOOD_ENDS: dict[GoodEnd, tuple[str, ...]] = {
    "lowest": ("l1", "lpips", "frechet", "fid", "kernel", "kid", "swd", "flicker"),
    "highest": (
        *("miou", "accuracy", "trained_accuracy"),
        *("psnr", "ssim", "ms_ssim", "inception_score", "precision", "recall", "density", "coverage"),
        *("lit_recall", "lit_precision", "trained_miou", "read_miou", "read_accuracy", "class_agreement"),
    ),
    "nearest_one": ("gradient", "sharpness", "variety"),
}
"""Which values are good: those of figures of these names, and of names that go on with _."""


def good_end(figure: str) -> GoodEnd | None:
    """Which values of a figure are good, that of "precision_dinov2", say; None: it is not known."""
    for end, names in GOOD_ENDS.items():
        if any(figure == name or figure.startswith(f"{name}_") for name in names):
            return end
    return None


def badness(value: float, end: GoodEnd) -> float:
    """A figure as a number of which lower is better."""
    match end:
        case "lowest":
            return value
        case "highest":
            return -value
        case "nearest_one":
            return abs(value - 1)
