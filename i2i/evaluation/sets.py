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
from i2i.errors import InputError, MissingWeights
from i2i.evaluation.describing import KEPT, Described, Describing
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.metrics import features, wasserstein
from i2i.metrics.distribution import (
    ALIKE,
    frechet_influences,
    frechet_of_moments,
    inception_score,
    kernel_distance,
    kernel_error,
    mean_distances,
    neighbour_scores,
)
from i2i.metrics.features import (
    PIXELS_PX,
    FeatureExtractor,
    feature_slug,
    load_features,
    small_images,
)
from i2i.metrics.intervals import REPLICATES, bootstrap_mean, from_error, wilson
from i2i.metrics.wasserstein import enough_patches

FEW_IMAGES = 10_000
"""Below so many, FID and its kind are higher than they would be of more images."""
LEVELS = (*(str(halvings) for halvings in range(12)), "low")  # larger images than of 131,071 px would have more
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".onnx")
FEWEST_FOR_VARIETY = 10  # images in both sets, for an interval that is not too narrow
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


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Networks that describe images, as settings name them.

    Attributes:
        extractors: those that could be had.
        missing: figures of the others, by name: why, and how to get their weights.
        hints: what kept this machine from fetching those.
    """

    extractors: tuple[FeatureExtractor, ...]
    missing: Mapping[str, str]
    hints: tuple[str, ...] = ()


def load_networks(settings: SetSettings, *, device: torch.device | str = "cpu", channels: int = 3) -> Networks:
    """The networks of `settings.features`, for images of so many channels.

    Raises:
        InputError: there is no such network, one is named twice, or a file that is named is not there or does not fit.
    """
    if len(settings.feature_weights) > len(settings.features):
        raise InputError(
            f"expected at most one --feature-weights for each of --features {' '.join(settings.features)}, "
            f"got {len(settings.feature_weights)}"
        )
    if "none" in settings.features:
        raise InputError("--features none stands alone; leave it out, or the others")
    if repeated := [slug for slug, count in Counter(map(feature_slug, settings.features)).items() if count > 1]:
        raise InputError(f"--features names {repeated[0]} twice; give each network once, and files different names")
    for name in settings.features:
        is_file = "/" in name or Path(name).suffix in WEIGHT_SUFFIXES
        if is_file and not Path(name).expanduser().exists():
            raise InputError(
                f"--features {name}: there is no such file; expected a segmenter or classifier that i2i has saved, or "
                "inception, dinov2, pixels, none or a model of timm"
            )
    # Before the first is fetched, which may take minutes.
    for name, weights in zip(settings.features, settings.feature_weights, strict=False):
        if not weights.expanduser().is_file():
            raise InputError(f"--feature-weights {weights}: there is no such file; expected the weights of {name}")
    extractors: list[FeatureExtractor] = []
    missing: dict[str, str] = {}
    hints: list[str] = []
    for name, weights in zip_longest(settings.features, settings.feature_weights):
        names = _names(feature_slug(name), classes=name == "inception").values()
        try:
            extractor = load_features(name, weights=weights, device=device, channels=channels)
        except MissingWeights as error:
            missing |= dict.fromkeys(names, error.reason)
            hints += [error.here] if error.here else []
            continue
        if extractor.channels in (None, channels):
            extractors.append(extractor)
        else:
            missing |= dict.fromkeys(
                _names(extractor.slug, classes=extractor.classes > 0).values(),
                f"{extractor.slug} needs images of {extractor.channels} channels, and these have {channels}: use "
                "--features pixels, or a classifier trained on such images",
            )
    return Networks(extractors=tuple(extractors), missing=missing, hints=tuple(hints))


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
        patches: in each level of an image.
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
        levels = wasserstein.patch_descriptors(images, patches_per_image=self.patches)
        return found | {level: rows.half() for level, rows in levels.items()}


def set_findings(
    generated: ImageSet,
    real: ImageSet,
    *,
    settings: SetSettings,
    describing: Describing,
    networks: Networks | None = None,
) -> Findings:
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
        networks: those of the settings, if they are loaded already.

    Raises:
        InputError: an image cannot be read, images differ in their numbers of channels, or settings do not fit.
    """
    if networks is None:
        networks = load_networks(settings, device=describing.device, channels=len(generated.read(0)))
    findings = Findings(warnings=_warnings(generated, real)) | _patch_findings(generated, real, describing=describing)
    for extractor in networks.extractors:
        findings |= feature_findings(generated, real, extractor=extractor, settings=settings, describing=describing)
    return findings | Findings(missing=networks.missing, hints=networks.hints)


def feature_findings(
    generated: ImageSet, real: ImageSet, *, extractor: FeatureExtractor, settings: SetSettings, describing: Describing
) -> Findings:
    """The part of `set_findings` that one network says."""
    names = _names(extractor.slug, classes=extractor.classes > 0)
    describer = FeatureDescriber(extractor)
    # Real ones first: they are remembered, should a generated one turn out to be damaged.
    true = describing.of(real, describer, what="real images", cached=True)
    fake = describing.of(generated, describer, what="generated images")
    figures: dict[str, Figure] = {}
    missing: dict[str, str] = {}
    if min(fake.count, true.count) < 2:
        reason = f"needs at least two images in both sets, got {fake.count} and {true.count}"
        return Findings(missing=dict.fromkeys(names.values(), reason))
    fake_rows, true_rows = fake.rows["features"], true.rows["features"]
    kept = len(fake_rows)
    tell = describing.progress or (lambda what, done, total: None)
    tell(f"figures of {extractor.slug}", 0, 1)  # which may take half a minute

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
    tell(f"figures of {extractor.slug}", 1, 1)
    return Findings(figures=figures, missing=missing)


def wasserstein_of_some(
    generated: ImageSet, real: ImageSet, *, indices: tuple[Sequence[int], Sequence[int]], describing: Describing
) -> Figure | None:
    """The sliced Wasserstein distance between some generated and some real images, such as those of a group.

    The whole sets are described, once for all that is asked of them.

    Args:
        generated, real: as for `set_findings`.
        indices: which of the generated and which of the real ones.
        describing: reads them.

    Returns:
        The figure; None where images are too small, or fewer than two of either kind are among those kept.
    """
    described = _described_patches(generated, real, describing=describing)
    fake, true = (_part(whole, some) for whole, some in zip(described, indices, strict=True))
    levels = [level for level in LEVELS if level in fake.rows and level in true.rows]
    if not levels or min(fake.count, true.count) < 2:
        return None
    return _wasserstein(fake, true, levels=levels).figures.get("swd")


def _described_patches(generated: ImageSet, real: ImageSet, *, describing: Describing) -> tuple[Described, Described]:
    """What is known of either set without any network."""
    # By its own number, so that what is remembered of real images serves generated sets of any size.
    fake, true = (PatchDescriber(patches=enough_patches(min(len(images), KEPT))) for images in (generated, real))
    # Real ones first: they are remembered, should a generated one turn out to be damaged.
    described = describing.of(real, true, what="real images", cached=True)
    return describing.of(generated, fake, what="generated images"), described


def _part(whole: Described, indices: Sequence[int]) -> Described:
    """What is known of some images, as if there were no others; of those whose rows are kept."""
    kept = torch.tensor(sorted(set(indices) & set(whole.indices["size"].tolist())), dtype=torch.int64)
    chosen = {name: torch.isin(of_rows, kept) for name, of_rows in whole.indices.items()}
    return Described(
        count=len(kept),
        rows={name: whole.rows[name][rows] for name, rows in chosen.items() if rows.any()},
        indices={name: torch.searchsorted(kept, whole.indices[name][rows]) for name, rows in chosen.items()},
        moments={},
    )


def _patch_findings(generated: ImageSet, real: ImageSet, *, describing: Describing) -> Findings:
    fake, true = _described_patches(generated, real, describing=describing)
    findings = Findings()
    if min(fake.count, true.count) > 1:
        findings |= _variety(fake.rows["small"], true.rows["small"])
    else:
        reason = f"needs at least two images in both sets, got {fake.count} and {true.count}"
        findings |= Findings(missing={"variety": reason})
    shared = [level for level in LEVELS if level in fake.rows and level in true.rows]
    if shared:
        findings |= _wasserstein(fake, true, levels=shared)
    else:
        reason = f"needs images of at least {wasserstein.SMALLEST_IMAGE_PX} px in both sets"
        findings |= Findings(missing={"swd": reason})
    sizes = [Counter(map(tuple, described.rows["size"].tolist())).most_common(1)[0][0] for described in (fake, true)]
    if sizes[0] != sizes[1]:
        of_fake, of_real = (f"{width} x {height}" for height, width in sizes)
        warning = (
            f"Most generated images are {of_fake} px and most real ones {of_real} px: details are compared pixel by "
            "pixel, so that figures such as swd_0 say how the sizes differ; give --fit, or resize one set."
        )
        findings |= Findings(warnings=(warning,))
    return findings


def _wasserstein(fake: Described, true: Described, *, levels: Sequence[str]) -> Findings:
    """The sliced Wasserstein distance, and that of each level."""

    def patches_of(described: Described, level: str) -> Tensor:
        channels = described.rows["small"].shape[1] // PIXELS_PX**2
        return described.rows[level].unflatten(1, (-1, channels * wasserstein.PATCH_PX**2))

    flat = [level for level in levels if wasserstein.is_flat(patches_of(true, level))]
    if flat:
        reason = f"nothing varies in a channel of the real images at level {', '.join(flat)}, to measure distances by"
        return Findings(missing=dict.fromkeys(["swd", *(f"swd_{level}" for level in levels)], reason))
    values: list[float] = []
    figures = {}
    # What each image adds to the mean over levels; those of one image vary together.
    shares = [torch.zeros(described.count) for described in (true, fake)]
    have_rows = [torch.zeros(described.count, dtype=torch.bool) for described in (true, fake)]
    for level in levels:
        pair = {level: patches_of(true, level)}, {level: patches_of(fake, level)}
        values.append(wasserstein.sliced_wasserstein(*pair)["swd"])
        found = wasserstein.sliced_wasserstein_influences(*pair)[f"swd_{level}"]
        parts = [influences / len(influences) for influences in found]
        for share, have, part, described in zip(shares, have_rows, parts, (true, fake), strict=True):
            share[described.indices[level]] += part / len(levels)
            have[described.indices[level]] = True
        images = len(fake.indices[level])
        figures[f"swd_{level}"] = _figure(values[-1], _error_of_sum(parts), images=images, lowest=0)
    error = _error_of_sum([share[have] for share, have in zip(shares, have_rows, strict=True)])
    swd = _figure(sum(values) / len(values), error, images=int(have_rows[1].sum()), lowest=0)
    return Findings(figures={"swd": swd} | figures)


def _variety(fake: Tensor, true: Tensor) -> Findings:
    """Mean distance of two generated images, next to that of two real ones."""
    of_fake, of_true = mean_distances(fake), mean_distances(true)
    if of_true.mean() < ALIKE:
        return Findings(missing={"variety": "the real images are all alike, so that nothing varies less or more"})
    value = (of_fake.mean() / of_true.mean()).item()
    error = None
    if min(len(of_fake), len(of_true)) >= FEWEST_FOR_VARIETY:
        # A mean over all pairs of n images varies by 4 / n of the images' own variance (Hoeffding 1948, section 5).
        relative = [2 * (part.var() / len(part)).sqrt() / part.mean().clamp(min=1e-12) for part in (of_fake, of_true)]
        error = value * torch.stack(relative).norm().item()
    return Findings(figures={"variety": _figure(value, error, images=len(fake), lowest=0)})


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
            f"Few images ({' and '.join(few)}): with fewer than {FEW_IMAGES:,}, FID and other distances come "
            "out too high, and compare only with those of equally many images."
        )
    if len(generated) != len(real):
        found.append(
            f"The sets differ in number ({len(generated):,} generated and {len(real):,} real images): compare figures "
            "only with those of the same two numbers."
        )
    many = [
        f"{KEPT:,} of {len(images):,} {kind}"
        for images, kind in ((generated, "generated"), (real, "real"))
        if len(images) > KEPT
    ]
    if many:
        found.append(f"All figures of sets but Fréchet distances are over {' and '.join(many)} images, evenly spread.")
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
