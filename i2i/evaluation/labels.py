"""Whether images show what their label maps ask for: classes read off them by a segmentation network, the judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from i2i.data.labels import class_ids, read_labels
from i2i.data.palettes import read_palette
from i2i.errors import InputError
from i2i.evaluation.describing import Describing
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.metrics.intervals import LEVEL, REPLICATES, resamples
from i2i.metrics.judges import load_judge
from i2i.metrics.semantic import SegmentationJudge


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """What images should show, and who says what they show.

    Attributes:
        labels: a folder of label maps that are called as the generated images are.
        judge: the segmentation network that reads classes off images: torchvision's FCN, DeepLabV3 or
            LR-ASPP fine-tuned to these classes, an ONNX file, or one that i2i.metrics.segmenter.save_segmenter wrote.
        judge_ids: for each class of the label maps the judge's that means the same, -1 for none; unless given, its
            classes are theirs.
        palette: a file with the colour of each class, where label maps are colour-coded.
        first_id: of the first class in label maps; what is below it is of no class.
    """

    labels: Path | None = None
    judge: Path | None = None
    judge_ids: tuple[int, ...] = ()
    palette: Path | None = None
    first_id: int = 0


class LabelJudge:
    """Label maps, and the network that says whether images show what they ask for.

    Args:
        settings: with `labels` and `judge`.
        device: where the network computes.

    Attributes:
        maps: the label maps.
        network: reads classes off images.
        key: identifies settings and weights.

    Raises:
        InputError: one of the two is not given or cannot be used.
    """

    def __init__(self, settings: LabelSettings, *, device: torch.device | str = "cpu") -> None:
        if settings.labels is None or settings.judge is None:
            raise InputError(
                "--labels and --judge go together: label maps, and a segmentation network to read images with"
            )
        file = settings.judge.expanduser()
        network = load_judge(file, classes=None).to(device)
        classes = len(settings.judge_ids) or network.classes
        if not isinstance(classes, int):
            raise InputError(
                f"{file} does not say how many classes it tells apart; give --judge-ids, for each class of the label "
                "maps the judge's"
            )
        self.settings = settings
        self.maps = ImageSet.find(settings.labels)
        self.network = SegmentationJudge(segmenter=network, classes=classes, ids=settings.judge_ids or None)
        self.palette = None if settings.palette is None else read_palette(settings.palette)
        self.key = repr((settings, sha256(file.read_bytes()).hexdigest()))


def label_findings(
    generated: ImageSet,
    real: ImageSet,
    *,
    judge: LabelJudge,
    describing: Describing,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Findings:
    """Mean IoU and pixel accuracy of the classes that the judge reads off generated images.

    Beside them those of real images: the judge errs too, and no generator can be expected to do better than these.

    Args:
        generated, real: the images; those without a label map of their name do not count.
        judge: knows the label maps and reads classes off images; on the device of `describing`.
        describing: reads them.
        replicates, seed: of the samples that intervals come from.

    Returns:
        The figures miou and accuracy; miou_real and accuracy_real where real images have label maps, too.

    Raises:
        InputError: no image has a label map, or a map has unknown ids.
    """
    figures: dict[str, Figure] = {}
    details: dict[str, Any] = {}
    warnings: list[str] = []
    for images, what, ending in ((generated, "generated", ""), (real, "real", "_real")):
        judged, of_them = images.matched(judge.maps)
        if not len(judged):
            if images is generated:
                raise InputError(f"no generated image has a label map: {images.unmatched(judge.maps)}")
            warnings.append(
                f"no real image has a label map in {judge.maps.root}, so how well the judge reads them is unknown"
            )
            continue
        if left_out := images.unmatched(judge.maps):
            warnings.append(f"figures of label maps leave {what} images out: {left_out}")
        describer = _ReadClasses(judge, of_them)
        described = describing.of(judged, describer, what=f"classes of {what} images", kept=None)
        counts = described.rows["counts"].unflatten(1, (3, -1))
        miou, accuracy = _figures(counts, replicates=replicates, seed=seed)
        figures |= {f"miou{ending}": miou, f"accuracy{ending}": accuracy}
        details[what] = {"class_iou": dict(zip(describer.shared, _iou(counts.sum(0)[None])[0].tolist(), strict=True))}
    return Findings(figures=figures, warnings=tuple(warnings), details={"classes": details})


class _ReadClasses:
    """Counts, for each image and each class that judge and label maps share, pixels: found, true, and read."""

    def __init__(self, judge: LabelJudge, maps: ImageSet) -> None:
        self.rows: Mapping[str, torch.dtype] = {"counts": torch.int64}
        self.moments: Mapping[str, int] = {}
        self.key = repr((judge.key, maps))
        self._judge = judge.network
        self._maps = maps
        self._first_id = judge.settings.first_id
        self._palette = judge.palette
        ids = judge.settings.judge_ids or range(self._judge.classes)
        # The judge's classes, by the lowest of the label maps' classes that means the same.
        names: dict[int, str] = {}
        for number, id in enumerate(ids):
            if id >= 0:
                names.setdefault(id, str(number + self._first_id))
        self.shared = [names[id] for id in sorted(names)]

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        counts = []
        for image, index in zip(images, indices, strict=True):
            confusion = self._judge.describe(image[None], self._labels(index).to(image.device))["confusion"][0]
            found = confusion.diagonal()
            counts.append(torch.cat([found, confusion.sum(1), confusion.sum(0)[: len(found)]]))
        return {"counts": torch.stack(counts)}

    def _labels(self, index: int) -> Tensor:
        """(1, 1, H, W) int64."""
        file = self._maps.files[index]
        labels = read_labels(file, palette=self._palette)
        try:
            ids: Any = class_ids(labels, classes=self._judge.classes, dont_care=True, first_id=self._first_id)
        except InputError as error:
            raise InputError(f"{file}: {error}; with --judge-ids label maps may have more classes") from error
        return torch.from_numpy(ids)[None, None]


def _figures(counts: Tensor, *, replicates: int, seed: int) -> tuple[Figure, Figure]:
    """Mean IoU and accuracy from pixels (N, 3, classes); whole images are resampled, whose pixels go together."""
    images = len(counts)
    times = torch.stack(
        [drawn.bincount(minlength=images) for drawn in resamples(images, replicates=replicates, seed=seed)]
    )
    samples = (times.double() @ counts.double().flatten(1)).unflatten(1, (3, -1))
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)

    def figure(value: Tensor, sampled: Tensor) -> Figure:
        low, high = torch.nanquantile(sampled, ends).tolist() if images > 1 else (None, None)
        return Figure(value=value.item(), low=low, high=high, images=images)

    whole = counts.sum(0).double()[None]
    return (
        figure(_iou(whole).nanmean(1)[0], _iou(samples).nanmean(1)),
        figure(_accuracy(whole)[0], _accuracy(samples)),
    )


def _iou(counts: Tensor) -> Tensor:
    """Of each class, from pixels (N, 3, classes): found / (true + read - found); NaN for one that does not occur."""
    found, true, read = counts.double().unbind(1)
    return found / (true + read - found)


def _accuracy(counts: Tensor) -> Tensor:
    """Share of pixels whose class was found, from pixels (N, 3, classes)."""
    found, true, _ = counts.unbind(1)
    return found.sum(1) / true.sum(1)
