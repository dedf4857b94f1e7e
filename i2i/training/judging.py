"""What recipes for semantic synthesis measure beside their losses: what photos are good for, and what styles do."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from i2i.data.palettes import paint_labels
from i2i.errors import InputError
from i2i.evaluation.pages import write_grid
from i2i.methods.base import COMPARED, Comparison
from i2i.methods.shared import describe_sides, side_distance
from i2i.methods.spade import SemanticSynthesis
from i2i.metrics import MeanPainter, join_descriptors
from i2i.metrics.judges import load_judge
from i2i.metrics.segmenter import Segmenter, SegmenterTraining, cached_segmenter, train_segmenter
from i2i.metrics.semantic import SegmentationJudge, judged
from i2i.training.loop import Examine
from i2i.training.measures import BaselineImages
from i2i.training.progress import StepsBar
from i2i.training.report import PICTURES
from i2i.training.semantic import SemanticTask

BATCH_SIZE = 16
# How many real photos the mean colours are taken of.
BASELINE_PHOTOS = 1000
# How many held-out photos lend their styles to be measured, and how many styles and layouts are shown.
STYLES_MEASURED = 8
STYLES_SHOWN = 5
STYLES_DRAWN = 3
LAYOUTS_SHOWN = 6

Items = Dataset[dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Who reads the classes of generated photos.

    Attributes:
        judge: file with a segmentation network that reads the classes off images: one of torchvision's, an ONNX file of
            any project, or what i2i.metrics.segmenter saved. None: a small one is trained on the real photos, if
            `segmenter_steps` says so.
        judge_ids: for each class of the label maps the judge's class that means the same, -1 for none; none given:
            they are the same.
        segmenter_steps: of training of small segmenters, one on the real photos and one, at the end, on generated
            ones, to be tested on real ones; 0: there are none.
    """

    judge: Path | None = None
    judge_ids: tuple[int, ...] = ()
    segmenter_steps: int = 0

    def __post_init__(self) -> None:
        if self.segmenter_steps < 0:
            raise InputError(f"--segmenter-steps must be at least 0, and is {self.segmenter_steps}.")
        if self.judge_ids and self.judge is None:
            raise InputError("--judge-ids say what the classes of --judge mean: give both.")


class Painted(Dataset[dict[str, Tensor]]):
    """Label maps with generated images in place of their photographs.

    Items are those of the label maps' own data set but for "image", which is rounded to 8 bits as in a file.
    """

    def __init__(self, data: Items, paint: Callable[[Tensor], Tensor]) -> None:
        """
        Args:
            data: items {"labels", "image"} for an index.
            paint: label maps (N, 1 or 2, H, W) to images (N, 3, H, W) in [-1, 1]; called batch by batch, for all when
                the first item is asked for.
        """
        self.data = data
        self.paint = paint

    @cached_property
    def images(self) -> Tensor:
        """(N, 3, H, W) uint8."""
        batches = DataLoader(self.data, batch_size=BATCH_SIZE)
        return torch.cat([_to_uint8(self.paint(batch["labels"])) for batch in batches])

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {**self.data[index], "image": self.images[index] / 127.5 - 1}


class Examiner:
    """Takes the figures that the training loop's validation does not: of baselines, and of a generator at the end."""

    def __init__(self, judging: Judging, task: SemanticTask) -> None:
        """Load the judge, or train it or find it in the cache, which the first process should do first.

        Raises:
            InputError: the judge's file cannot be used.
        """
        self.task = task
        self.steps = judging.segmenter_steps
        # A segmenter sees no more than that; of large sets the rest need not be painted.
        self.shown = _spread(task.training, max(BASELINE_PHOTOS, self.steps * SegmenterTraining.batch_size))
        self.device = PartialState().device
        self.judge: SegmentationJudge | None = None
        if judging.judge is not None:
            network = load_judge(judging.judge, classes=None if judging.judge_ids else task.classes).to(self.device)
            self.judge = SegmentationJudge(segmenter=network, classes=task.classes, ids=judging.judge_ids or None)
        elif self.steps:
            network = self._cached(self.shown, "real photos")
            self.judge = SegmentationJudge(segmenter=network, classes=task.classes)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Figures of real photos, the ceiling, and of label maps painted with each class's mean colour, the floor.

        Real photos are other ones than those held out, as many of them: two real sets are not at distance 0.
        """
        training, held_out = self.shown, self.task.held_out
        rows = {
            "real photos": self._set_figures(self._others, read=held_out),
            "class mean": self._set_figures(self._class_means),
        }
        if self.steps:
            painted = Painted(training, self._paint_means)
            rows["real photos"]["trained_miou"] = self._tested(self._cached(training, "real photos"))
            rows["class mean"]["trained_miou"] = self._tested(self._cached(painted, "class mean"))
        return rows

    def baseline_images(self) -> BaselineImages:
        """The photos of `baselines`, for `i2i.training.loop.train`."""

        def batches(images: Items, *, are_painted: bool) -> Iterator[dict[str, Comparison]]:
            sides = (DataLoader(data, batch_size=BATCH_SIZE) for data in (images, self.task.held_out))
            for some, held_out in zip(*sides, strict=False):
                real = held_out["image"][: len(some["image"])]
                compared = Comparison(generated=some["image"], real=real, truth=real if are_painted else None)
                yield {COMPARED: compared}

        return {
            "real photos": lambda: batches(self._others, are_painted=False),
            "class mean": lambda: batches(self._class_means, are_painted=True),
        }

    @property
    def _others(self) -> Items:
        """Other photos than those held out, as many of them where there are."""
        return Subset(self.shown, range(min(len(self.shown), len(self.task.held_out))))  # type: ignore[arg-type]

    @cached_property
    def _class_means(self) -> Items:
        """Held-out label maps, painted."""
        return Painted(self.task.held_out, self._paint_means)

    def _paint_means(self, labels: Tensor) -> Tensor:
        return self._mean_painter.paint(labels[:, 0])

    @cached_property
    def _mean_painter(self) -> MeanPainter:
        painter = MeanPainter(classes=self.task.classes + 1)
        for batch in DataLoader(_spread(self.shown, BASELINE_PHOTOS), batch_size=BATCH_SIZE):
            painter.add(batch["labels"][:, 0], batch["image"])
        return painter

    def of(self, method: SemanticSynthesis, *, out: Path) -> Examine:
        """For `i2i.training.loop.train`: figures of a method's generator, and a picture of its styles in `out`."""

        def examine(say: Callable[[str], None]) -> dict[str, float]:
            figures: dict[str, float] = {}
            if self.steps:
                say(f"a segmenter learns from generated photos ({self.steps} steps)")
                painted = Painted(self.shown, partial(self._paint, method))
                figures["trained_miou"] = self._tested(self._trained(painted))
            if method.has_style_encoder:
                self._show_styles(method, out / PICTURES / "styles.png")
                if len(self.task.held_out) > 1:  # type: ignore[arg-type]
                    figures |= self._style_figures(method)
            return figures

        return examine

    def _paint(self, method: SemanticSynthesis, labels: Tensor, style: Tensor | None = None) -> Tensor:
        """Photos of label maps, on the CPU: all in one style (1, latent_channels), or each in a drawn one."""
        styles = method.draw_styles(len(labels)) if style is None else style.expand(len(labels), -1)
        return method.paint(labels.to(self.device), styles=styles).cpu()

    def _set_figures(self, images: Items, *, read: Items | None = None) -> dict[str, float]:
        """What `SemanticSynthesis.validate` measures, of images as a set; classes are read off `read`, or the same."""
        held_out = self.task.held_out
        sides = zip(*(DataLoader(data, batch_size=BATCH_SIZE) for data in (images, held_out)), strict=False)
        parts = [describe_sides("image", fake=fake["image"], real=real["image"]) for fake, real in sides]
        figures = {"swd": side_distance("image", join_descriptors(parts))}
        if self.judge is not None:
            described = self._judged(self.judge, images)
            described["confusion"] = (described if read is None else self._judged(self.judge, read))["confusion"]
            figures |= self.judge.figures(described, self._judged(self.judge, held_out))
        return figures

    def _style_figures(self, method: SemanticSynthesis) -> dict[str, float]:
        """Whether all held-out label maps take on the colours of photos, and are read as well in each style."""
        classes, lent, taken, read = self.task.classes, [], [], []
        for photo in _items(_spread(self.task.held_out, STYLES_MEASURED)):
            style = self._style_of(method, photo)
            painted = Painted(self.task.held_out, partial(self._paint, method, style=style))
            lent.append(class_colours([default_collate([photo])], classes=classes))
            taken.append(class_colours(DataLoader(painted, batch_size=BATCH_SIZE), classes=classes))
            if self.judge is not None:
                read.append(self.judge.figures(self._judged(self.judge, painted), {})["read_miou"])
        figures = {"style_colour": colour_taken(torch.stack(lent), torch.stack(taken))}
        return figures | ({"style_miou_change": max(read) - min(read)} if read else {})

    def _show_styles(self, method: SemanticSynthesis, path: Path) -> None:
        """Save a grid: label maps down the left, photos that lend their styles along the top, and styles drawn."""
        held_out = self.task.held_out
        labels = default_collate(_items(_spread(held_out, LAYOUTS_SHOWN)))["labels"]
        maps = paint_labels(labels, self.task.palette)
        nothing = torch.ones_like(maps[:1])
        columns = {"label map": torch.cat([nothing, maps])}
        for number, photo in enumerate(_items(_spread(held_out, STYLES_SHOWN)), start=1):
            painted = self._paint(method, labels, self._style_of(method, photo))
            columns[f"style of photo {number}"] = torch.cat([photo["image"][None], painted])
        for number in range(1, STYLES_DRAWN + 1):
            drawn = method.draw_styles(1)
            columns[f"style drawn {number}"] = torch.cat([nothing, self._paint(method, labels, drawn)])
        path.parent.mkdir(exist_ok=True)
        write_grid(path, columns, across=1)

    def _style_of(self, method: SemanticSynthesis, item: dict[str, Tensor]) -> Tensor:
        return method.styles_of(item["image"][None].to(self.device))

    def _trained(self, data: Items) -> Segmenter:
        return train_segmenter(data, classes=self.task.classes, training=self._training, device=self.device)

    def _cached(self, data: Items, name: str) -> Segmenter:
        return cached_segmenter(
            data,
            fingerprint=f"{self.task.fingerprint} {name}",
            classes=self.task.classes,
            training=self._training,
            device=self.device,
            progress=StepsBar(f"a segmenter learns from {name}"),
        )

    def _tested(self, segmenter: Segmenter) -> float:
        judge = SegmentationJudge(segmenter=segmenter, classes=self.task.classes)
        return judge.figures(self._judged(judge, self.task.held_out), {})["read_miou"]

    def _judged(self, judge: SegmentationJudge, data: Items) -> dict[str, Tensor]:
        return judged(judge, data, batch_size=BATCH_SIZE, device=self.device)

    @property
    def _training(self) -> SegmenterTraining:
        return SegmenterTraining(steps=self.steps)


def _spread(data: Items, count: int) -> Items:
    """At most so many items, evenly spread over all."""
    length = len(data)  # type: ignore[arg-type]
    return data if length <= count else Subset(data, [index * length // count for index in range(count)])


def _items(data: Items) -> list[dict[str, Tensor]]:
    return [data[index] for index in range(len(data))]  # type: ignore[arg-type]


def class_colours(batches: Iterable[Mapping[str, Tensor]], *, classes: int) -> Tensor:
    """The mean colour of each class over all images: (classes, 3) in [-1, 1], NaN for a class that does not occur.

    batches: "labels" (N, 1 or 2, H, W), of which other ids than 0 … classes − 1 do not count, and "image" (N, 3, H, W).
    """
    sums, counts = torch.zeros(classes, 3, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for batch in batches:
        labels, colours = batch["labels"][:, 0].flatten(), batch["image"].movedim(1, -1).flatten(0, 2).double()
        counted = labels < classes
        sums.index_add_(0, labels[counted], colours[counted])
        counts += torch.bincount(labels[counted], minlength=classes)
    return sums / counts[:, None]


def colour_taken(lent: Tensor, taken: Tensor) -> float:
    """How much of the colours that tell style photos apart is found in what was painted in their styles.

    The slope of least squares between the two sides' differences from their means over the styles: 1 where class by
    class all is taken over, 0 where the style changes nothing.

    Args:
        lent: (styles, classes, 3), colours of classes in the photos; NaN where a photo lacks a class.
        taken: likewise, in the painted images.
    """
    both = ~(lent.isnan() | taken.isnan())
    shares = both / both.sum(dim=0).clamp(min=1)
    lent, taken = (torch.where(both, side, 0.0) for side in (lent, taken))
    lent, taken = (torch.where(both, side - (side * shares).sum(dim=0), 0.0) for side in (lent, taken))
    return float((lent * taken).sum() / lent.square().sum())


def _to_uint8(images: Tensor) -> Tensor:
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
