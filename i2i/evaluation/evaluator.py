"""All that can be said of generated images next to real ones: every figure that their names and the weights allow."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from i2i.errors import InputError
from i2i.evaluation.describing import Describing
from i2i.evaluation.findings import Findings
from i2i.evaluation.groups import group_findings, read_groups
from i2i.evaluation.image_sets import ImageSet, check_channels, check_files, depth_warnings
from i2i.evaluation.labels import LabelJudge, LabelSettings, label_findings
from i2i.evaluation.memorisation import MemorisationSettings, memorisation_findings
from i2i.evaluation.pairs import PairMeter, PairSettings, pair_findings, pairs_of_one_size
from i2i.evaluation.report import sample_findings
from i2i.evaluation.sets import FeatureDescriber, SetSettings, load_networks, set_findings
from i2i.evaluation.usefulness import (
    LabelledSet,
    Usefulness,
    UsefulnessSettings,
    check_classes,
    class_usefulness_findings,
    label_usefulness_findings,
    match_labels,
)
from i2i.metrics.intervals import REPLICATES


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Which figures are measured, and how.

    Args:
        fit: cut real and training images around the middle to the shape of the generated ones, and resize them to
            their size, as for a generator of small squares that learned from larger photos.
        pairs: whether images are compared with those of the same name; auto: those of their size, where at least half
            of the generated ones have one; on: all have to be of one size.
        pairing: how pairs of images, or the frames of videos, are compared.
        features: networks in whose features the two sets are compared: inception, dinov2, any name of timm, a
            segmenter or classifier of i2i's as a file, or pixels; none: only what needs no weights.
        feature_weights: a file with the weights of each, in the same order; fetched once unless given.
        neighbours: k of precision, recall, density and coverage.
        label_maps: whether images show what label maps ask for.
        usefulness: train a small network on generated images, and another on those of --training, and test both on
            real ones: a classifier (classes: folders, or the end of names) or a segmenter (labels: with --labels,
            where real images' label maps lie, too).
        usefulness_size: side in px of the squares that images are resized to for it.
        usefulness_steps: of training; 400 of a classifier and 1500 of a segmenter unless given.
        training_labels: the label maps of training images, for --usefulness labels.
        generated_labels: those that generated images were made from, for --usefulness labels; those of --labels unless
            given. Best are training's, for what is tested on should be new to what was trained.
        groups: a CSV file with the columns image and group; figures of pairs, and swd, are then shown for each group,
            too.
        group_column: which of its columns has the groups.
        replicates: samples of the images, or of several videos, that confidence intervals come from.
    """

    fit: bool = False
    pairs: Literal["auto", "on", "off"] = "auto"
    pairing: PairSettings = PairSettings()  # noqa: RUF009 - frozen
    features: tuple[str, ...] = ("inception",)
    feature_weights: tuple[Path, ...] = ()
    neighbours: int = 5
    label_maps: LabelSettings = LabelSettings()  # noqa: RUF009 - frozen
    usefulness: Usefulness | None = None
    usefulness_size: int = 64
    usefulness_steps: int | None = None
    training_labels: Path | None = None
    generated_labels: Path | None = None
    groups: Path | None = None
    group_column: str | None = None
    replicates: int = REPLICATES


class Evaluator:
    """Holds sets of generated images against real ones.

    Settings are checked, and networks and tables loaded, when it is made: what is wrong with them shows before images
    are generated.

    Args:
        real: the real images.
        training: those that the generator was trained on, to look for copies of them.
        settings: what to measure.
        describing: reads the images.

    Raises:
        InputError: something given cannot be used, or sets differ in channels.
    """

    def __init__(
        self,
        real: ImageSet,
        *,
        training: ImageSet | None = None,
        settings: EvaluationSettings | None = None,
        describing: Describing | None = None,
    ) -> None:
        self.real = real
        self.training = training
        self.settings = settings = settings or EvaluationSettings()
        self.describing = describing = describing or Describing()
        check_files(real, *([] if training is None else [training]))
        check_channels(real, *([] if training is None else [training]))
        for name, value, least in (("neighbours", settings.neighbours, 1), ("replicates", settings.replicates, 2)):
            if value < least:
                raise InputError(f"--{name}: expected at least {least}, got {value}")
        self._sets = SetSettings(
            features=() if settings.features == ("none",) else settings.features,
            feature_weights=settings.feature_weights,
            neighbours=settings.neighbours,
            replicates=settings.replicates,
        )
        self._networks = load_networks(self._sets, device=describing.device, channels=len(real.read(0)))
        self._groups = None
        if settings.groups is not None:
            self._groups = read_groups(settings.groups, column=settings.group_column)
        if settings.pairs == "on" or settings.pairing != PairSettings():
            self._meter.check(real.read(0)[None])
        self._judge = None
        maps = settings.label_maps
        if maps.judge is not None or (maps.labels is not None and settings.usefulness != "labels"):
            self._judge = LabelJudge(maps, device=describing.device)
            check_files(self._judge.maps, labels=True)
        self._usefulness = UsefulnessSettings(
            size_px=settings.usefulness_size, steps=settings.usefulness_steps, replicates=settings.replicates
        )
        if settings.usefulness is not None and training is None:
            raise InputError("--usefulness needs --training: the images that the generator was trained on")
        if settings.fit and (maps.labels is not None or settings.usefulness == "labels"):
            raise InputError("--fit cuts photos, and not their label maps; leave it out, and cut both before")
        self._label_maps: list[ImageSet] = []  # of generated, training and real images
        if settings.usefulness == "labels":
            if maps.labels is None or settings.training_labels is None:
                raise InputError("--usefulness labels needs label maps: --labels and --training-labels")
            labels = ImageSet.find(maps.labels)
            made_from = labels if settings.generated_labels is None else ImageSet.find(settings.generated_labels)
            self._label_maps = [made_from, ImageSet.find(settings.training_labels), labels]
            check_files(*self._label_maps, labels=True)
        if settings.usefulness is not None and training is not None:
            self._check_usefulness(None, training)

    def __call__(self, generated: ImageSet, *, inputs: ImageSet | None = None) -> Findings:
        """Everything that the settings ask for.

        Args:
            generated: the images to be judged.
            inputs: what they were made from, to be shown beside them.

        Raises:
            InputError: an image cannot be read, or sets do not go together.
        """
        check_files(generated)
        check_channels(generated, self.real)
        settings, describing, real, training = self.settings, self.describing, self.real, self.training
        if settings.usefulness is not None and training is not None:
            self._check_usefulness(generated, training)
        if settings.fit:
            size = _one_size(generated)
            real, training = real.fitted(size), None if training is None else training.fitted(size)
        paired, why_not = self._are_pairs(generated, real)
        findings = sample_findings(generated, real, inputs=inputs, paired=paired)
        findings |= Findings(
            warnings=(
                *_left_out(generated, real),
                *_depths(generated=generated, real=real),
                *_transparency(generated=generated, real=real),
                *_grey(generated, real),
            )
        )
        findings |= set_findings(generated, real, settings=self._sets, describing=describing, networks=self._networks)
        if paired:
            findings |= pair_findings(
                generated, real, meter=self._meter, describing=describing, replicates=settings.replicates
            )
        elif why_not:
            findings |= Findings(missing={"pairs": why_not})
        if self._judge is not None:
            findings |= label_findings(
                generated, real, judge=self._judge, describing=describing, replicates=settings.replicates
            )
        if training is not None:
            findings |= self._training_findings(generated, real, training)
        if self._groups is not None:
            findings |= group_findings(
                generated,
                real,
                groups=self._groups,
                meter=self._meter if paired else None,
                describing=describing,
                replicates=settings.replicates,
            )
        return replace(findings, warnings=tuple(sorted(findings.warnings, key=_weight)))

    @cached_property
    def _meter(self) -> PairMeter:
        """Made where there are pairs, for its network may have to be fetched."""
        return PairMeter(self.settings.pairing, device=self.describing.device)

    def _are_pairs(self, generated: ImageSet, real: ImageSet) -> tuple[bool, str]:
        """Whether images of equal names are compared; where that was to be expected and is not so, why."""
        match self.settings.pairs:
            case "on":
                *_, others = pairs_of_one_size(generated, real)
                if others:
                    raise InputError(f"--pairs on: {others}")
                return True, ""
            case "off":
                return False, ""
            case "auto":
                named, _ = generated.matched(real)
                if not len(named):
                    return False, generated.unmatched(real) if generated.repeated(real) else ""
                if 2 * len(named) < len(generated):
                    return False, (
                        f"only {len(named)} of {len(generated)} generated images have the name of a real one, which "
                        "may be by chance; --pairs on compares them"
                    )
                pairs, _, others = pairs_of_one_size(generated, real)
                return 2 * len(pairs) >= len(generated), others

    def _training_findings(self, generated: ImageSet, real: ImageSet, training: ImageSet) -> Findings:
        """What needs the images that the generator was trained on."""
        settings, describing = self.settings, self.describing
        findings = memorisation_findings(
            generated,
            training,
            None if training.files == real.files else real,
            settings=MemorisationSettings(replicates=settings.replicates),
            describing=describing,
            features=[FeatureDescriber(extractor) for extractor in self._networks.extractors],
        )
        match settings.usefulness:
            case "classes":
                findings |= class_usefulness_findings(
                    generated, training, real, settings=self._usefulness, describing=describing
                )
            case "labels":
                sets = self._labelled(generated, training, real)
                findings |= label_usefulness_findings(*sets, settings=self._usefulness, describing=describing)
        return findings

    def _check_usefulness(self, generated: ImageSet | None, training: ImageSet) -> None:
        """Raises InputError where names leave open what images show; generated ones may still have to be made."""
        if self.settings.usefulness == "classes":
            check_classes(training, self.real, generated=generated)
        else:
            sets = self._labelled(generated or training, training, self.real)
            for some, kind in zip(sets, ("generated", "training", "real"), strict=True):
                if kind != "generated" or generated is not None:
                    match_labels(some, kind=kind)

    def _labelled(self, *sets: ImageSet) -> list[LabelledSet]:
        """Generated, training and real images with their label maps."""
        maps = self.settings.label_maps
        return [
            LabelledSet(images=images, labels=labels, palette=maps.palette, first_id=maps.first_id)
            for images, labels in zip(sets, self._label_maps, strict=True)
        ]


def _one_size(generated: ImageSet) -> tuple[int, int]:
    sizes = generated.sizes()
    for file, size in zip(generated.files, sizes, strict=True):
        if size != sizes[0]:
            (height, width), (tall, wide) = sizes[0], size
            raise InputError(
                f"--fit needs generated images of one size; {generated.files[0]} has {width} x {height} px, {file} "
                f"{wide} x {tall} px"
            )
    return sizes[0]


def _weight(warning: str) -> int:
    """By which warnings are sorted: copies of training images come first, and few images, as most have, last."""
    if warning.startswith("memorised"):
        return 0
    return 2 if "few images" in warning.lower() else 1


def _grey(generated: ImageSet, real: ImageSet) -> tuple[str, ...]:
    """A warning where grey and colour images are compared."""
    grey, greys = generated.grey(), real.grey()
    if grey + greys in (0, len(generated) + len(real)):
        return ()
    return (
        f"{grey} of {len(generated)} generated and {greys} of {len(real)} real images are grey and the others are not: "
        "grey counts as three equal channels; convert one kind unless this is meant",
    )


def _left_out(*sets: ImageSet) -> Iterator[str]:
    """A warning for each set with pictures or videos beside it that are not read."""
    for images in sets:
        if files := images.left_out():
            yield (
                f"{images.root} has pictures or videos that are left out ({len(files)}, such as {files[0].name}): "
                "save pictures as PNG, give videos a folder of their own, or remove them"
            )


def _depths(**sets: ImageSet) -> Iterator[str]:
    """A warning where images of 16 bits use fewer, or go beyond the range that they are said to have."""
    highest = {what: value for what, images in sets.items() if (value := images.highest()) is not None}
    said = sets["real"].data_range
    data_range = sets["real"].range_of(np.dtype("uint16"))
    if data_range is not None:
        yield from depth_warnings(highest, white=data_range[1], said=said == data_range, what="images")


def _transparency(**sets: ImageSet) -> tuple[str, ...]:
    """A warning for each set with images that can be seen through."""
    counts = {what: images.transparent() for what, images in sets.items()}
    return tuple(
        f"{count} of {len(sets[what])} {what} images are transparent in parts, which no figure sees: colours are "
        "compared as if all were opaque; lay them on a background first"
        for what, count in counts.items()
        if count
    )
