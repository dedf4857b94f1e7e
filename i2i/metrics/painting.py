"""The baseline that a translator of labels has to beat: every class painted with its mean colour."""

from collections.abc import Iterable

import torch
from torch import Tensor

from i2i.metrics.image import mean_of_pairs, paired_metrics


class MeanPainter:
    """Learns the mean colour of each class, per image row if asked, and paints label maps with it.

    Rows stand for the perspective: the sky is paler and the road lighter towards the horizon.

    Args:
        classes: number of classes.
        rows: horizontal bands that have colours of their own; 1: one colour a class.
    """

    def __init__(self, *, classes: int, rows: int = 1) -> None:
        self.classes, self.rows = classes, rows
        self.sums: Tensor | None = None
        self.counts = torch.zeros(classes * rows, dtype=torch.float64)

    def add(self, labels: Tensor, images: Tensor) -> None:
        """Learn from labels (N, H, W), integers below `classes`, and images (N, C, H, W)."""
        cells = self._cells(labels).flatten()
        colours = images.movedim(1, -1).flatten(0, 2).double()
        if self.sums is None:
            self.sums = colours.new_zeros(len(self.counts), colours.shape[1])
        self.sums.index_add_(0, cells, colours)
        self.counts += torch.bincount(cells, minlength=len(self.counts))

    def paint(self, labels: Tensor) -> Tensor:
        """Labels (N, H, W) to images (N, C, H, W), float32.

        A class never seen at that row gets its colour over all rows; one never seen at all the mean colour.
        """
        assert self.sums is not None, "add() comes first"
        by_class = self.sums.view(self.classes, self.rows, -1).sum(1), self.counts.view(self.classes, -1).sum(1)
        overall = self.sums.sum(0) / self.counts.sum()
        of_class = _mean(*by_class, otherwise=overall.expand_as(by_class[0]))
        colours = _mean(self.sums, self.counts, otherwise=of_class.repeat_interleave(self.rows, dim=0))
        return colours[self._cells(labels)].movedim(-1, 1).float()

    def _cells(self, labels: Tensor) -> Tensor:
        height = labels.shape[-2]
        row = torch.arange(height).mul(self.rows).div(height, rounding_mode="floor")
        return labels.long() * self.rows + row[:, None]


def _mean(sums: Tensor, counts: Tensor, *, otherwise: Tensor) -> Tensor:
    return torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), otherwise)


COLOUR_LEVELS = 6


def colours_as_classes(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] to label maps (N, H, W): each colour, coarsely, a class of its own.

    There are COLOUR_LEVELS ** C classes. For colour-coded label maps these are the classes.
    """
    steps = ((images + 1) / 2 * COLOUR_LEVELS).long().clamp(0, COLOUR_LEVELS - 1)
    labels = torch.zeros_like(steps[:, 0])
    for channel in steps.unbind(dim=1):
        labels = labels * COLOUR_LEVELS + channel
    return labels


def painting_baseline(
    painter: MeanPainter,
    *,
    training: Iterable[tuple[Tensor, Tensor]],
    held_out: Iterable[tuple[Tensor, Tensor]],
) -> dict[str, float]:
    """`paired_metrics` of held-out images painted by class, each figure as `mean_of_pairs`.

    training, held_out: pairs of labels (H, W) and image (C, H, W) in [-1, 1].
    """
    for labels, image in training:
        painter.add(labels[None], image[None])
    figures = [paired_metrics(painter.paint(labels[None]), image[None]) for labels, image in held_out]
    return {name: mean_of_pairs([figure[name] for figure in figures]) for name in figures[0]}
