"""What held-out images are measured by beside a method's own figures: FID and other metrics that suit any method.

The images are those that `Method.validate` hands out as `Comparison`s; what they are compared by is computed by the
functions of `i2i.metrics`, from as much as each metric needs of every image. Of real images, that is found out once.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_args

import torch
from accelerate import Accelerator
from torch import Tensor

from i2i.errors import InputError, MissingWeights
from i2i.methods.base import COMPARED, Comparison, HeldOut
from i2i.metrics import load_lpips
from i2i.metrics.distribution import (
    ALIKE,
    frechet_distance,
    inception_score,
    kernel_distance,
    mean_distances,
    neighbour_scores,
)
from i2i.metrics.features import FeatureExtractor, load_features, small_images
from i2i.metrics.image import PairMetric, mean_of_pairs, pair_figures
from i2i.metrics.perceptual import Lpips
from i2i.metrics.wasserstein import enough_patches, is_flat, patch_descriptors, sliced_wasserstein
from i2i.training.config import FROM_FEATURES, OTHER_NAMES, Metric, TrainingSettings

FROM_PAIRS: tuple[PairMetric, ...] = get_args(PairMetric)
FEW_IMAGES = 10_000
SPLITS = 10

# What is known of each image by name, of all images: (N, …) each, on the CPU.
Rows = dict[str, Tensor]
Gather = Callable[[Any], list[Any]]

BaselineImages = Mapping[str, Callable[[], Iterable[Mapping[str, Comparison]]]]
"""By a baseline's name, batches as `Method.validate` gives them, with its images in place of generated ones."""


class Measures:
    """The metrics of a run's settings, and what was found out for them about the images of one validation.

    Args:
        settings: which metrics, and what they need.
        device: where the images are.

    Attributes:
        names: for each of the metrics, the name of its figure: "frechet_dinov2" for "fid" with that network.
        seconds: that measuring has taken since they were last asked for.

    Raises:
        InputError: weights cannot be had, or a network has no classes for an Inception Score.
    """

    def __init__(self, settings: TrainingSettings, *, device: torch.device) -> None:
        self.metrics = settings.metrics
        self.extractor = _load_extractor(settings, device)
        self.lpips = _load_lpips(settings, device)
        self.names = {metric: _figure_name(metric, self.extractor) for metric in self.metrics}
        self._device = device
        self._forget()

    def _forget(self) -> None:
        """Begin anew, with what there is to measure by."""
        self.seconds = 0.0
        self._generated: dict[str, list[tuple[Tensor, Rows]]] = {}
        self._pairs: dict[str, list[tuple[Tensor, Rows]]] = {}
        self._real: dict[str, list[tuple[Tensor, Rows]]] = {}
        self._all_real: dict[str, Rows] = {}  # of all processes, from the first measurement on

    def __bool__(self) -> bool:
        return bool(self.metrics)

    def gives(self, figure: str) -> bool:
        """Whether a figure is one of these metrics, of whatever images."""
        return any(figure == name or figure.startswith(f"{name}_") for name in self.names.values())

    def remarks(self, count: int) -> list[str]:
        """What to know before believing figures over so many held-out images, a sentence each."""
        of_sets = [name for metric, name in self.names.items() if metric not in FROM_PAIRS]
        if not of_sets or count >= FEW_IMAGES:
            return []
        images = f"{count} held-out {'image' if count == 1 else 'images'}"
        return [
            f"{', '.join(of_sets)} {'is' if len(of_sets) == 1 else 'are'} over {images} and as many generated ones, "
            "few for figures of sets: they compare with others over the same images only, such as those of this run."
        ]

    def add(self, held_out: HeldOut, indices: Sequence[int], *, count: int) -> None:
        """Find out what the metrics need to know of a batch.

        Args:
            held_out: what `Method.validate` gave.
            indices: places in the held-out set, of the batch's items.
            count: items in that set.

        Raises:
            InputError: there are no images, they have no truth that a metric needs, or one that it cannot take.
        """
        begun = self._now()
        found = {name.removeprefix(COMPARED): part for name, part in held_out.items() if isinstance(part, Comparison)}
        if not found:
            raise InputError(
                f"--metrics {' '.join(self.metrics)}: this method hands out no held-out images to measure (a "
                "Comparison in what its `validate` gives). Leave it out."
            )
        places = torch.tensor(indices)
        for ending, compared in found.items():
            generated, real = compared.generated.float().clamp(-1, 1), compared.real.float().clamp(-1, 1)
            self._generated.setdefault(ending, []).append((places, self._of_set(generated, count)))
            if ending not in self._all_real:
                self._real.setdefault(ending, []).append((places, self._of_set(real, count)))
            if compared.truth is not None:
                pairs = self._of_pairs(generated, compared.truth.float().clamp(-1, 1))
                self._pairs.setdefault(ending, []).append((places, pairs))
        self.seconds += self._now() - begun

    def figures(self, gather: Gather) -> dict[str, float]:
        """The metrics of all images that were added in all processes since the last time; the same in each.

        gather: one value of each process to those of all.

        Raises:
            InputError: too few images for a metric, or none that has a truth where one is needed.
        """
        begun = self._now()
        if not self._all_real:
            self._all_real, self._real = _joined(gather(self._real)), {}
        generated, pairs = _joined(gather(self._generated)), _joined(gather(self._pairs))
        self._generated, self._pairs = {}, {}
        figures: dict[str, float] = {}
        for metric in self.metrics:
            if metric in FROM_PAIRS and not pairs:
                raise InputError(
                    f"--metrics {metric} compares with the truth, which is not known of these held-out images. Leave "
                    "it out."
                )
        for ending, rows in generated.items():
            found = self._set_figures(rows, self._all_real[ending])
            found |= {metric: mean_of_pairs(values.tolist()) for metric, values in pairs.get(ending, {}).items()}
            # In the order that they were asked for.
            figures |= {self.names[metric] + ending: found[metric] for metric in self.metrics if metric in found}
        self.seconds += self._now() - begun
        return figures

    def baselines(self, shown: BaselineImages, *, count: int) -> dict[str, dict[str, float]]:
        """The metrics of baselines' images by their names, in this process alone; what was added stays as it is.

        Of a baseline of too few images for the metrics, or of none, there are no figures.

        count: items in the held-out set.
        """
        rows: dict[str, dict[str, float]] = {}
        for name, batches in shown.items():
            alone = copy.copy(self)
            alone._forget()
            with suppress(InputError):
                rows[name] = alone._alone(batches(), count=count)
        return rows

    def _alone(self, batches: Iterable[Mapping[str, Comparison]], *, count: int) -> dict[str, float]:
        first = 0
        for batch in batches:
            moved = {name: _moved(compared, self._device) for name, compared in batch.items()}
            after = first + len(next(iter(moved.values())).generated)
            self.add(moved, range(first, after), count=count)
            first = after
        if not self._pairs:  # real images, say, which are not made of any held-out item
            self.metrics = tuple(metric for metric in self.metrics if metric not in FROM_PAIRS)
        return self.figures(lambda value: [value])

    def taken(self) -> float:
        """`seconds`, which begin anew."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def _of_set(self, images: Tensor, count: int) -> Rows:
        """What metrics of sets need to know of images (N, C, H, W) in [-1, 1], some of so many."""
        rows: Rows = {}
        if self.extractor is not None:
            grey = images.shape[1] == 1 and self.extractor.channels == 3
            rows |= self.extractor(images.expand(-1, 3, -1, -1) if grey else images)
        if "variety" in self.metrics:
            rows["small"] = small_images(images)
        if "swd" in self.metrics:
            described = patch_descriptors(images, patches_per_image=enough_patches(count))
            rows |= {f"patches/{level}": patches.half() for level, patches in described.items()}
        return {name: values.cpu() for name, values in rows.items()}

    def _of_pairs(self, output: Tensor, truth: Tensor) -> Rows:
        """By metric, the figures (N,) of images (N, C, H, W) in [-1, 1]."""
        names = [name for name in FROM_PAIRS if name in self.metrics]
        found = pair_figures(output, truth, names=names, lpips=self.lpips)
        return {name: values.cpu() for name, values in found.items()}

    def _set_figures(self, generated: Rows, real: Rows) -> dict[str, float]:
        if not all(rows.isfinite().all() for rows in generated.values()):
            # Of networks that have gone astray; decompositions would raise.
            return {metric: math.nan for metric in self.metrics if metric not in FROM_PAIRS}
        figures: dict[str, float] = {}
        for metric in self.metrics:
            match metric:
                case "fid":
                    figures[metric] = frechet_distance(generated["features"], real["features"])
                case "kid":
                    figures[metric], _ = kernel_distance(generated["features"], real["features"])
                case "inception_score":
                    logits = generated["logits"]
                    figures[metric], _ = inception_score(logits, splits=SPLITS if len(logits) >= 2 * SPLITS else 1)
                case "precision" | "recall" | "density" | "coverage":
                    if metric not in figures:
                        scores = neighbour_scores(generated["features"], real["features"])
                        figures |= {name: values.mean().item() for name, values in scores.items()}
                case "swd":
                    patches = _patches(real)
                    flat = any(is_flat(level) for level in patches.values())
                    figures[metric] = math.nan if flat else sliced_wasserstein(patches, _patches(generated))["swd"]
                case "variety":
                    of_generated, of_real = (mean_distances(rows["small"]).mean() for rows in (generated, real))
                    figures[metric] = (of_generated / of_real).item() if of_real > ALIKE else math.nan
        return figures

    def _now(self) -> float:
        if self._device.type != "cpu":
            torch.accelerator.synchronize()  # what was begun before is not to count as measuring
        return time.perf_counter()


def load_measures(settings: TrainingSettings, accelerator: Accelerator) -> Measures:
    """The metrics that the settings name; the first process fetches weights, and the others find them.

    Raises:
        InputError: weights cannot be had, and no training should start.
    """
    with accelerator.main_process_first():
        return Measures(settings, device=accelerator.device)


def _load_extractor(settings: TrainingSettings, device: torch.device) -> FeatureExtractor | None:
    wanted = [metric for metric in settings.metrics if metric in FROM_FEATURES]
    if not wanted:
        return None
    try:
        extractor = load_features(settings.features, weights=settings.feature_weights, device=device)
    except MissingWeights as error:
        raise InputError(
            f"--metrics {' '.join(wanted)} cannot be had: {error}. Without any weights there are --features pixels, "
            "and --metrics swd and variety."
        ) from error
    if "inception_score" in wanted and not extractor.classes:
        raise InputError(
            f"--metrics inception_score needs a network that tells classes apart, which --features {settings.features} "
            "does not: leave it out, or take inception or a classifier."
        )
    return extractor


def _load_lpips(settings: TrainingSettings, device: torch.device) -> Lpips | None:
    if "lpips" not in settings.metrics:
        return None
    backbone, heads = settings.lpips_weights or (None, None)
    try:
        return load_lpips("alex", backbone_path=backbone, heads_path=heads).to(device).eval()
    except InputError as error:
        raise InputError(
            f"--metrics lpips cannot be had: {error}. Its two files can be given with --lpips-weights."
        ) from error


def _figure_name(metric: Metric, extractor: FeatureExtractor | None) -> str:
    if metric not in FROM_FEATURES or extractor is None or extractor.slug == "inception":
        return metric
    return f"{OTHER_NAMES.get(metric, metric)}_{extractor.slug}"


def _moved(compared: Comparison, device: torch.device) -> Comparison:
    truth = None if compared.truth is None else compared.truth.to(device)
    return Comparison(generated=compared.generated.to(device), real=compared.real.to(device), truth=truth)


def _joined(gathered: Sequence[Mapping[str, list[tuple[Tensor, Rows]]]]) -> dict[str, Rows]:
    """By ending, what all processes found out, in the order of the images."""
    joined: dict[str, Rows] = {}
    for ending in dict.fromkeys(ending for own in gathered for ending in own):
        parts = [part for own in gathered for part in own.get(ending, [])]
        joined[ending] = {}
        # Images of different sizes have different levels of patches.
        for name in dict.fromkeys(name for _, rows in parts for name in rows):
            order = torch.cat([places for places, rows in parts if name in rows]).argsort()
            joined[ending][name] = torch.cat([rows[name] for _, rows in parts if name in rows])[order]
    return joined


def _patches(rows: Rows) -> Rows:
    return {name.removeprefix("patches/"): value for name, value in rows.items() if name.startswith("patches/")}
