"""What figures mean, in a few words, for tables and reports."""

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
    "frechet": "Fréchet distance of the judge's features from those of real photos; lower is better",
    "style_colour": "share of the difference in colour between two style photos that their outputs show; 1 is all",
    "style_miou_change": "largest difference in read_miou between style photos",
    "swd": "sliced Wasserstein distance of patches from those of real images, in thousandths; lower is better",
    "variety": "how much samples differ from one another, next to real images; 1 is as much",
    "class_agreement": "share of samples in which a classifier of real images sees the class that was asked for",
}
"""By name, for training's held-out metrics and for `i2i evaluate`."""
