"""The settings of the training loop, the same for every method."""

import importlib.util
import math
from dataclasses import dataclass
from typing import Literal

from i2i.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["constant", "linear", "cosine"]
Tracker = Literal["tensorboard", "wandb"]


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
        best_metric: held-out metric by which <out>/best is chosen; None: no best is kept.
        best_is: which end of that metric is good.
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
    best_metric: str | None = None
    best_is: Literal["lowest", "highest"] = "lowest"
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
        wrong += [] if self.threads is None or self.threads >= 1 else ["threads"]
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
        for tracker in self.trackers:
            if importlib.util.find_spec(tracker) is None:
                raise InputError(f"--trackers {tracker} needs a package that is not installed: pip install {tracker}")


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
