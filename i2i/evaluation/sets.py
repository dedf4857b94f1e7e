"""Figures of a set of generated images beside a set of real ones, without pairs: how alike the two are as a whole."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from i2i.download import sha256_of
from i2i.errors import InputError
from i2i.evaluation.describing import KEPT, Described, Describing
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.metrics import features, wasserstein
from i2i.metrics.distribution import (
    frechet_influences,
    frechet_of_moments,
    inception_score,
    kernel_distance,
    kernel_error,
    neighbour_scores,
    pair_distances,
)
from i2i.metrics.features import FeatureExtractor, MissingWeights, feature_slug, load_features, small_images
from i2i.metrics.intervals import REPLICATES, bootstrap_mean, from_error, wilson

FEW_IMAGES = 10_000
"""Below so many, FID and its kind are higher than they would be of more images."""
PATCHES = 1 << 16
"""At most so many are kept of each level of a set's pyramids: 128 an image up to 512 images, 6 of 10,000. Of images of
256 px and three channels they take 95 MB."""
PATCHES_PER_IMAGE = 128
LEVELS = (*(str(halvings) for halvings in range(12)), "low")  # larger images than of 131,071 px would have more
SPLITS = 10
STUDENTS_T = 2.262  # of SPLITS − 1 degrees of freedom: 95 % lie within ± so many standard errors


@dataclass(frozen=True, kw_only=True)
class SetSettings:
    """How sets of images are compared.

    features: networks that describe images, as `i2i.metrics.load_features` names them; (): only what needs no weights.
    feature_weights: files with their weights, in the same order; those without one fetch theirs.
    neighbours: k of precision, recall, density and coverage.
    kid_subsets, kid_subset_size: that the kernel distance is the mean over.
    replicates: samples for the intervals that come by resampling.
    seed: of the subsets and samples.
    """

    features: tuple[str, ...] = ("inception",)
    feature_weights: tuple[Path, ...] = ()
    neighbours: int = 5
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    replicates: int = REPLICATES
    seed: int = 2020


class FeatureDescriber:
    """A `Describer` that gives what a network says of images: "features" with their moments and, if any, "logits"."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.extractor = extractor
        self.key = f"features {extractor.key} {_source(features)}"
        self.rows: Mapping[str, torch.dtype] = dict.fromkeys(
            ["features", *(["logits"] if extractor.classes else [])], torch.float32
        )
        self.moments: Mapping[str, int] = {"features": extractor.length}

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        found = self.extractor(images)
        if found["features"].shape[1] != self.extractor.length:
            raise InputError(
                f"{self.extractor.slug} gives {found['features'].shape[1]} features for images of {images.shape[1]} "
                f"channels, expected {self.extractor.length}: images of a set must have as many channels as "
                "load_features was told"
            )
        return found


class PatchDescriber:
    """A `Describer` of what needs no weights: patches of each level of the pyramid, small images ("small"), sizes.

    Args:
        patches: in each level of an image. They lie where the image's index says.
    """

    def __init__(self, *, patches: int) -> None:
        self.patches = patches
        self.key = f"patches {patches} {_source(wasserstein)} {_source(features)}"
        # Half as many bytes, and a hundredth of the step between two 8-bit values is lost of what varies by ten.
        self.rows: Mapping[str, torch.dtype] = {
            **dict.fromkeys(LEVELS, torch.float16),
            "small": torch.float32,
            "size": torch.int32,
        }
        self.moments: Mapping[str, int] = {}

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        size = torch.tensor(images.shape[2:], dtype=torch.int32).expand(len(images), 2)
        found = {"small": small_images(images), "size": size}
        if min(images.shape[2:]) < wasserstein.SMALLEST_IMAGE_PX:
            return found
        levels = wasserstein.patch_descriptors(images, patches_per_image=self.patches, seed=indices)
        return found | {level: rows.half() for level, rows in levels.items()}


def set_findings(generated: ImageSet, real: ImageSet, *, settings: SetSettings, describing: Describing) -> Findings:
    """Compare a set of generated images with a set of real ones.

    Sliced Wasserstein distance and variety need no weights and always come. Each network of the settings adds Fréchet
    and kernel distance, precision, recall, density and coverage, and its Inception Score if it tells classes apart;
    where its weights cannot be had, these are named as missing, with how to get them.

    Intervals say how much figures would vary with other images of the same origin. Both sets count in those of
    distances and of variety; those of precision and its kind take the other set as given.

    Args:
        generated, real: of one number of channels. What is known of the real ones is kept for other evaluations.
        settings: what to compare by.
        describing: reads them.

    Raises:
        InputError: an image cannot be read, images differ in their numbers of channels, or settings do not fit.
    """
    if len(settings.feature_weights) > len(settings.features):
        raise InputError(
            f"expected at most one --feature-weights for each of --features {' '.join(settings.features)}, "
            f"got {len(settings.feature_weights)}"
        )
    if repeated := [slug for slug, count in Counter(map(feature_slug, settings.features)).items() if count > 1]:
        raise InputError(f"--features names {repeated[0]} twice; give each network once, and files different names")
    findings = Findings(warnings=_warnings(generated, real)) | _patch_findings(generated, real, describing=describing)
    channels = len(generated.read(0))
    for name, weights in zip_longest(settings.features, settings.feature_weights):
        try:
            extractor = load_features(name, weights=weights, device=describing.device, channels=channels)
        except MissingWeights as error:
            missing = _names(feature_slug(name), classes=name == "inception").values()
            findings |= Findings(missing=dict.fromkeys(missing, str(error)))
        else:
            findings |= feature_findings(generated, real, extractor=extractor, settings=settings, describing=describing)
    return findings


def feature_findings(
    generated: ImageSet, real: ImageSet, *, extractor: FeatureExtractor, settings: SetSettings, describing: Describing
) -> Findings:
    """The part of `set_findings` that one network says."""
    names = _names(extractor.slug, classes=extractor.classes > 0)
    channels = len(generated.read(0))
    if extractor.channels not in (None, channels):
        reason = (
            f"{extractor.slug} needs images of {extractor.channels} channels, and these have {channels}: use "
            "--features pixels, or a classifier trained on such images"
        )
        return Findings(missing=dict.fromkeys(names.values(), reason))
    describer = FeatureDescriber(extractor)
    fake = describing.of(generated, describer, what="generated images")
    true = describing.of(real, describer, what="real images", cached=True)
    figures: dict[str, Figure] = {}
    missing: dict[str, str] = {}
    if min(fake.count, true.count) < 2:
        reason = f"needs at least two images in both sets, got {fake.count} and {true.count}"
        return Findings(missing=dict.fromkeys(names.values(), reason))
    fake_rows, true_rows = fake.rows["features"], true.rows["features"]
    kept = len(fake_rows)

    distance = frechet_of_moments(
        fake.moments["features"].mean,
        fake.moments["features"].covariance,
        true.moments["features"].mean,
        true.moments["features"].covariance,
    )
    of_fake, of_true = frechet_influences(fake_rows, true_rows)
    error = (of_fake.var() / fake.count + of_true.var() / true.count).sqrt().item()
    figures[names["frechet"]] = _figure(distance, error, images=fake.count, lowest=0)

    subsets = settings.kid_subsets
    distance, deviation = kernel_distance(
        fake_rows, true_rows, subsets=subsets, subset_size=settings.kid_subset_size, seed=settings.seed
    )
    error = (kernel_error(fake_rows, true_rows) ** 2 + deviation**2 / subsets) ** 0.5
    figures[names["kernel"]] = _figure(distance, error, images=kept)

    if extractor.classes and kept >= 2 * SPLITS:
        score, deviation = inception_score(fake.rows["logits"], splits=SPLITS)
        reach = STUDENTS_T * deviation / (SPLITS - 1) ** 0.5
        low, high = max(1.0, score - reach), score + reach
        figures[names["inception_score"]] = Figure(value=score, low=low, high=high, images=kept)
    elif extractor.classes:
        missing[names["inception_score"]] = f"needs at least {2 * SPLITS} generated images, got {kept}"

    kinds = ("precision", "recall", "density", "coverage")
    if min(kept, len(true_rows)) > settings.neighbours:
        scores = neighbour_scores(fake_rows, true_rows, neighbours=settings.neighbours)
        for kind in kinds:
            values = scores[kind]
            if kind == "density":
                low, high = bootstrap_mean(values, replicates=settings.replicates, seed=settings.seed)
            else:
                low, high = wilson(values.sum().item(), len(values))
            value = values.mean().item()
            # Rounding must not leave a share of 0 or 1 outside.
            figures[names[kind]] = Figure(value=value, low=min(low, value), high=max(high, value), images=kept)
    else:
        reason = f"needs more than {settings.neighbours} images in both sets, got {kept} and {len(true_rows)}"
        missing |= dict.fromkeys([names[kind] for kind in kinds], reason)
    return Findings(figures=figures, missing=missing)


def _patch_findings(generated: ImageSet, real: ImageSet, *, describing: Describing) -> Findings:
    most = min(max(len(generated), len(real)), KEPT)
    describer = PatchDescriber(patches=max(1, min(PATCHES_PER_IMAGE, PATCHES // most)))
    fake = describing.of(generated, describer, what="generated images")
    true = describing.of(real, describer, what="real images", cached=True)
    figures: dict[str, Figure] = {}
    missing: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    if min(fake.count, true.count) > 1:
        figures["variety"] = _variety(fake.rows["small"], true.rows["small"])
    else:
        missing["variety"] = f"needs at least two images in both sets, got {fake.count} and {true.count}"
    shared = [level for level in LEVELS if level in fake.rows and level in true.rows]
    if shared:
        figures |= _wasserstein(fake, true, levels=shared, patches=describer.patches)
    else:
        missing["swd"] = f"needs images of at least {wasserstein.SMALLEST_IMAGE_PX} px in both sets"
    sizes = [Counter(map(tuple, described.rows["size"].tolist())).most_common(1)[0][0] for described in (fake, true)]
    if sizes[0] != sizes[1]:
        of_fake, of_real = (f"{width} x {height}" for height, width in sizes)
        warnings = (
            f"Most generated images are {of_fake} px and most real ones {of_real} px: details are compared pixel by "
            "pixel, so that figures such as swd_0 say how the sizes differ; resize one set.",
        )
    return Findings(figures=figures, missing=missing, warnings=warnings)


def _wasserstein(fake: Described, true: Described, *, levels: Sequence[str], patches: int) -> dict[str, Figure]:
    """The sliced Wasserstein distance, and that of each level."""

    def patches_of(described: Described, level: str) -> dict[str, Tensor]:
        return {level: described.rows[level].unflatten(1, (patches, -1))}

    values, errors = [], []
    # What each image adds to the mean over levels; those of one image vary together.
    shares = [torch.zeros(described.count) for described in (true, fake)]
    figures = {}
    for level in levels:
        pair = patches_of(true, level), patches_of(fake, level)
        values.append(wasserstein.sliced_wasserstein(*pair)["swd"])
        found = wasserstein.sliced_wasserstein_influences(*pair)[f"swd_{level}"]
        parts = [influences / len(influences) for influences in found]
        errors.append(_error_of_sum(parts))
        for share, part, described in zip(shares, parts, (true, fake), strict=True):
            share[described.indices[level]] += part / len(levels)
        images = len(fake.indices[level])
        figures[f"swd_{level}"] = _figure(values[-1], errors[-1], images=images, lowest=0)
    kept = [share[share != 0] for share in shares]
    swd = _figure(sum(values) / len(values), _error_of_sum(kept), images=min(fake.count, KEPT), lowest=0)
    return {"swd": swd} | figures


def _variety(fake: Tensor, true: Tensor) -> Figure:
    """Mean distance of two generated images at random, next to that of two real ones."""
    of_fake, of_true = pair_distances(fake).double(), pair_distances(true).double()
    value = (of_fake.mean() / of_true.mean().clamp(min=1e-12)).item()
    relative = [_ring_error(distances) / distances.mean().clamp(min=1e-12).item() for distances in (of_fake, of_true)]
    return _figure(value, value * sum(part**2 for part in relative) ** 0.5, images=len(fake), lowest=0)


def _ring_error(distances: Tensor) -> float:
    """Standard error of the mean of `pair_distances`, of which two side by side share an image."""
    apart = distances - distances.mean()
    variance = (apart.square().mean() + 2 * (apart * apart.roll(1)).mean()).clamp(min=0)
    return (variance / len(distances)).sqrt().item()


def _error_of_sum(parts: Sequence[Tensor]) -> float | None:
    """Standard error of a sum of independent contributions, of two sets of images; None where a set has but one."""
    if min(map(len, parts)) < 2:
        return None
    return sum(len(part) * part.double().var().item() for part in parts) ** 0.5


def _figure(value: float, error: float | None, *, images: int, lowest: float | None = None) -> Figure:
    if error is None:
        return Figure(value=value, images=images)
    low, high = from_error(value, error)
    return Figure(value=value, low=low if lowest is None else max(lowest, low), high=high, images=images)


def _names(slug: str, *, classes: bool) -> dict[str, str]:
    """What the figures of a network are called, by their kind."""
    kinds = [
        "frechet",
        "kernel",
        *(["inception_score"] if classes else []),
        "precision",
        "recall",
        "density",
        "coverage",
    ]
    if slug == "inception":
        return {kind: {"frechet": "fid", "kernel": "kid"}.get(kind, kind) for kind in kinds}
    return {kind: f"{kind}_{slug}" for kind in kinds}


def _warnings(generated: ImageSet, real: ImageSet) -> tuple[str, ...]:
    found = []
    few = [
        f"{len(images):,} {kind}"
        for images, kind in ((generated, "generated"), (real, "real"))
        if len(images) < FEW_IMAGES
    ]
    if few:
        found.append(
            f"There are only {' and '.join(few)} images: with fewer than {FEW_IMAGES:,}, FID and other distances come "
            "out too high, and compare only with those of equally many images."
        )
    if len(generated) != len(real):
        found.append(
            f"The sets differ in number ({len(generated):,} generated and {len(real):,} real images): compare figures "
            "only with those of the same two numbers."
        )
    if same := _in_both(generated, real):
        found.append(
            f"{same:,} of the generated images are in the real set too, as the same file: distances come out too low."
        )
    return tuple(found)


def _in_both(generated: ImageSet, real: ImageSet) -> int:
    """How many of the generated images' files the real set has too, byte for byte and the same half."""
    if generated.half != real.half:
        return 0
    sizes = {file.stat().st_size for file in real.files}
    alike = [file for file in generated.files if file.stat().st_size in sizes]
    wanted = {file.stat().st_size for file in alike}
    known = {sha256_of(file) for file in real.files if file.stat().st_size in wanted}
    return sum(sha256_of(file) in known for file in alike)


def _source(module: ModuleType) -> str:
    """Identifies the code that describes images, so that nothing is remembered that other code found."""
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:16]
