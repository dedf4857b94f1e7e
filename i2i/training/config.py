"""The settings of the training loop, the same for every method."""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from i2i.errors import InputError
from i2i.metrics.features import feature_slug
from i2i.metrics.meanings import GoodEnd, good_end

Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["constant", "linear", "cosine"]
Tracker = Literal["tensorboard", "wandb"]
Metric = Literal[
    "fid",
    "kid",
    "inception_score",
    "precision",
    "recall",
    "density",
    "coverage",
    "swd",
    "variety",
    "psnr",
    "ssim",
    "ms_ssim",
    "l1",
    "lpips",
    "sharpness",
]
FROM_FEATURES: tuple[Metric, ...] = ("fid", "kid", "inception_score", "precision", "recall", "density", "coverage")
# Of other networks' features than Inception's, these are not FID and KID.
OTHER_NAMES: dict[Metric, str] = {"fid": "frechet", "kid": "kernel"}


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long, how fast and how precisely to train, and what to keep.

    Attributes:
        steps: generator updates in all.
        batch_size: images per process and micro-batch.
        accumulation: micro-batches per update; gradients are averaged over them.
        critic_steps: discriminator updates per generator update.
        generator_learning_rate: Adam's, before the schedule.
        discriminator_learning_rate: Adam's; a ratio to the generator's other than 1 is TTUR
            (Heusel et al. 2017).
        adam_betas: Adam's decay rates.
        schedule: "linear" holds the rate until `decay_from`, then falls to 0 at the last step;
            "cosine" falls along half a cosine from the start; "constant" stays.
        decay_from: share of `steps` after which "linear" decays.
        warmup_steps: steps over which the rate rises linearly from 0.
        clip_norm: largest norm of each side's gradient; None: not clipped.
        precision: arithmetic of the networks; weights and optimisers stay fp32. Prefer bf16 to fp16.
        ema_decay: decay of the exponential moving average of the generators' weights, which is what is
            shown, measured and exported; 0: no average.
        channels_last: memory layout of images and weights.
        compile: compile the networks (torch.compile).
        checkpointing: compute the generators' activations again in the backward pass instead of keeping them:
            much less memory, about a third more time, the same results.
        seed: of weights, data order, augmentation and noise.
        validate_every_steps: held-out metrics and a sample grid each so many steps.
        preview_images: held-out images in a sample grid.
        save_every_steps: resumable state each so many steps.
        log_every_steps: losses each so many steps.
        keep_states: how many of the newest states stay on disk.
        metrics: what else to measure held-out images by than what the method measures of itself: as sets, from
            features (fid, kid, inception_score, precision, recall, density, coverage) or without (swd, variety); and
            where there is a truth, in pairs (psnr, ssim, ms_ssim, l1, lpips, sharpness).
        features: the network that looks at images for those from features: inception, dinov2, any timm model, a file
            with a segmenter or classifier that i2i saved; or pixels, which needs no weights.
        feature_weights: file with that network's weights; None: fetched once.
        lpips_weights: two files for lpips, AlexNet's as torchvision has it and the authors' alex.pth; None: fetched
            once.
        measure_every_steps: `metrics` each so many steps, a multiple of validate_every_steps, and at the end; None:
            whenever held-out images are looked at.
        best_metric: held-out metric by which <out>/best is chosen, measured by the method or one of `metrics`; None: no
            best is kept. Networks as they were before the first step are never chosen; the report says if they were
            better.
        best_is: which end of that metric is good; None: the one that is known to be, or else the lowest.
        early_stop_after: so many measurements of best_metric in a row that are not better than the best one end the
            run, however many steps lie between them; None: it takes all its steps.
        max_skipped_steps: so many skipped steps in a row end the run.
        workers: processes that load data, per training process.
        device: "auto" takes an accelerator where there is one.
        threads: of PyTorch on the CPU; None: as many as there are cores. Small networks gain little from many, and lose
            much where other programs compute as well. Sums are rounded otherwise with another number.
        trackers: where else to send curves.
    """

    steps: int
    batch_size: int = 1
    accumulation: int = 1
    critic_steps: int = 1
    generator_learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    adam_betas: tuple[float, float] = (0.5, 0.999)
    schedule: Schedule = "linear"
    decay_from: float = 0.5
    warmup_steps: int = 0
    clip_norm: float | None = None
    precision: Precision = "fp32"
    ema_decay: float = 0.0
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False
    seed: int = 0
    validate_every_steps: int = 1000
    preview_images: int = 8
    save_every_steps: int = 1000
    log_every_steps: int = 1
    keep_states: int = 2
    metrics: tuple[Metric, ...] = ()
    features: str = "inception"
    feature_weights: Path | None = None
    lpips_weights: tuple[Path, Path] | None = None
    measure_every_steps: int | None = None
    best_metric: str | None = None
    best_is: GoodEnd | None = None
    early_stop_after: int | None = None
    max_skipped_steps: int = 10
    workers: int = 2
    device: Literal["auto", "cpu"] = "auto"
    threads: int | None = None
    trackers: tuple[Tracker, ...] = ()

    def __post_init__(self) -> None:
        at_least_one = (
            "steps batch_size accumulation critic_steps validate_every_steps preview_images save_every_steps "
            "log_every_steps keep_states max_skipped_steps"
        )
        wrong = [name for name in at_least_one.split() if getattr(self, name) < 1]
        for name in ("threads", "measure_every_steps", "early_stop_after"):
            value = getattr(self, name)
            wrong += [] if value is None or value >= 1 else [name]
        wrong += [name for name in ("seed", "workers", "warmup_steps") if getattr(self, name) < 0]
        positive = ["generator_learning_rate", "discriminator_learning_rate"]
        positive += [] if self.clip_norm is None else ["clip_norm"]
        wrong += [name for name in positive if not 0 < getattr(self, name) < math.inf]
        wrong += [] if 0 <= self.ema_decay < 1 else ["ema_decay"]
        wrong += [] if 0 <= self.decay_from <= 1 else ["decay_from"]
        wrong += [] if all(0 <= beta < 1 for beta in self.adam_betas) else ["adam_betas"]
        if wrong:
            name = wrong[0]
            raise InputError(
                f"--{name.replace('_', '-')} {getattr(self, name)} cannot be used: counts are at least 1 (seed, "
                "workers and warm-up at least 0), learning rates and the clipping norm above 0, --decay-from "
                "in [0, 1], --ema-decay and both --adam-betas in [0, 1)."
            )
        if self.measure_every_steps is not None and self.measure_every_steps % self.validate_every_steps:
            raise InputError(
                f"--measure-every-steps {self.measure_every_steps} must be a multiple of --validate-every-steps, which "
                f"is {self.validate_every_steps}."
            )
        if self.feature_weights is not None and not set(self.metrics) & set(FROM_FEATURES):
            raise InputError(
                f"--feature-weights {self.feature_weights} is for --metrics from features: give one of "
                f"{', '.join(FROM_FEATURES)}, too."
            )
        if self.lpips_weights is not None and "lpips" not in self.metrics:
            raise InputError("--lpips-weights is for --metrics lpips. Give that, too.")
        if self.early_stop_after is not None and self.best_metric is None:
            raise InputError("--early-stop-after needs to know what is to become better: give --best-metric, too.")
        if {good_end(self.best_metric or ""), self.best_is} == {"lowest", "highest"}:
            raise InputError(
                f"--best-is {self.best_is} would keep the worst by --best-metric {self.best_metric}, of which the "
                f"{good_end(self.best_metric or '')} is best. Leave --best-is out."
            )
        if (metric := self._lacking()) is not None:
            raise InputError(f"--best-metric {self.best_metric} is not measured: give --metrics {metric}, too.")
        for tracker in self.trackers:
            if importlib.util.find_spec(tracker) is None:
                raise InputError(f"--trackers {tracker} needs a package that is not installed: pip install {tracker}")

    def check_best_metric(self, *own: str) -> None:
        """See that the best can be chosen by what is measured, as far as that is known before training.

        own: figures of the method.

        Raises:
            InputError: it is chosen by something else.
        """
        # Figures from features are named after the network that they come from.
        measured = tuple(f"{name}_" for name in (*self.metrics, "frechet", "kernel")) if self.metrics else ()
        name = self.best_metric
        if name is not None and name not in (*own, *self.metrics) and not name.startswith(measured):
            addition = f"; or --metrics {name}, too" if name in get_args(Metric) else ""
            raise InputError(
                f"--best-metric {name} is not one to choose by: give {' or '.join([*own, *self.metrics])}{addition}."
            )

    def _lacking(self) -> Metric | None:
        """The metric from features that `best_metric` is a figure of, where it is not measured.

        Only of names that end in the network's, or begin as no others do: others may be figures of the method.
        """
        best, slug = self.best_metric or "", feature_slug(self.features)
        for metric in FROM_FEATURES:
            names = (OTHER_NAMES.get(metric, f"{metric}_{slug}"), f"{metric}_{slug}")
            if metric not in self.metrics and any(best == name or best.startswith(f"{name}_") for name in names):
                return metric
        return None

    @property
    def best_end(self) -> GoodEnd:
        """Which end of `best_metric` is good."""
        return self.best_is or good_end(self.best_metric or "") or "lowest"


# A run may go on with other values of these: they change where and how long it runs and what its report shows, not what
# it computes. Which images and weights it began with, their fingerprints say, wherever they lie now.
FREE_ON_RESUME = frozenset(
    {
        "steps",
        "workers",
        "device",
        "checkpointing",
        "trackers",
        "log_every_steps",
        "save_every_steps",
        "validate_every_steps",
        "keep_states",
        "max_skipped_steps",
        "preview_images",
        "metrics",
        "features",
        "feature_weights",
        "lpips_weights",
        "measure_every_steps",
        "best_is",
        "early_stop_after",
        "compare",
        "data",
        "a_dir",
        "b_dir",
        "input_dir",
        "target_dir",
        "label_dir",
        "image_dir",
        "instance_dir",
        "init_generator",
        "init_discriminator",
        "perceptual_weights",
        "judge",
        "low_dir",
        "meta_info",
        "held_out",
        "keep_decoded",
        "lpips_backbone",
        "lpips_heads",
    }
)


def learning_rate_factor(settings: TrainingSettings, step: int) -> float:
    """What the learning rates are multiplied by at a step counted from 0."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    match settings.schedule:
        case "constant":
            return warmup
        case "linear":
            start = settings.decay_from * settings.steps
            return warmup * min(1.0, (settings.steps - step) / max(settings.steps - start, 1.0))
        case "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
