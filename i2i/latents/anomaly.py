"""How unlike the training images an image is: AnoGAN (Schlegl et al. 2017, arXiv:1703.05921).

A generator draws what it was trained on, and nothing else. So the image nearest to a given one that it can draw is near
where that is of the same kind, and far where it is not: to the eye (residual) and to the discriminator (features).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.inference.codec import stored_dtype
from i2i.inference.pictures import AnyImage
from i2i.inference.sampler import Sampler
from i2i.latents.pictures import grid
from i2i.latents.projection import Bank, Descent, as_list, bar, descend, encode_images
from i2i.latents.space import LatentSpace, Space
from i2i.layers.minibatch import MinibatchLayer

# Of the network's range: the contrast that an image is taken to have at least.
LEAST_CONTRAST = 0.02
FEWEST_TO_FIT = 8
FOLDS = 4
# How much of the covariance of features is replaced by an equal one in all directions: some hundred images cannot tell
# that of as many features.
SHRINKAGE = 0.5
QUICK = Descent(steps=100, starts=2, noise=0.0)


@dataclass(frozen=True, kw_only=True)
class Anomalies:
    """What was found about N images.

    Attributes:
        scores: (N,), in standard deviations of normal images above their mean; higher is less normal.
        residuals: (N,), how far off the reconstruction is, as a share of the image's own contrast.
        feature_distances: (N,), how far off it is in the discriminator's features, next to normal images.
        images, reconstructions: (N, C, H, W) in the network's range.
    """

    scores: Tensor
    residuals: Tensor
    feature_distances: Tensor
    images: Tensor
    reconstructions: Tensor
    sampler: Sampler

    def picture(self, count: int = 8, *, kind: str = "") -> np.ndarray:
        """The most and the least normal images, `count` of each, above their reconstructions: (H', W', 3) uint8.

        kind: a word for these images, which stands before the rows.
        """
        if count < 1:
            raise InputError(f"count: expected at least 1 image to show, got {count}")
        order = self.scores.argsort()
        count = min(count, len(order))
        rows, margin = [], []
        for name, places in (("most normal", order[:count]), ("least normal", order.flip(0)[:count])):
            rows += [self._stored(self.images[places]), self._stored(self.reconstructions[places])]
            margin += [f"{kind}:\n{name}" if kind else name, "redrawn"]
        return grid(rows, side=self.sampler.spec.output, margin=margin)

    def _stored(self, images: Tensor) -> list[np.ndarray]:
        dtype = stored_dtype(self.sampler.spec.output)
        return list(self.sampler.codec.decode(images, dtype, torch.device("cpu")).movedim(1, -1).numpy())


class AnomalyScorer:
    """Scores images by how badly a generator, and the discriminator that it was trained against, know them.

    >>> scorer = AnomalyScorer(t, load_discriminator("runs/dcgan")).fit(normal_images)
    >>> scorer.score(images).scores > scorer.threshold(95)

    AnoGAN's score is (1 − λ) · residual + λ · distance of features (eq. 8), both summed over all pixels, which has two
    drawbacks that this one avoids:

    - A plain image is easy to redraw, whatever it shows, and its residual is small; a busy one of the right kind is
      hard. The residual is therefore taken as a share of the image's own contrast, its deviation from its mean colour:
      what is not explained of what there is. Differences of features are held against those of normal images, in
      whichever direction they differ (Mahalanobis distance): large is what is large for an image of the right kind.
    - The two are in different units, so that λ would mean something else for every discriminator. Each is therefore
      measured in standard deviations from its mean over normal images.

    Args:
        t: the generator.
        discriminator: with a last layer `head`, what goes into which are the features (`i2i.checkpoints
            .load_discriminator`); put into inference mode, on the generator's device.
        space: see `project`.
        weight: λ of the distance of features, from 0 to 1. The paper's is 0.1, in its own units; here both parts count
            alike by themselves.
        descent: how reconstructions are searched for.

    Raises:
        InputError: a weight out of range, or a discriminator without `head`, of other classes, or of images of another
            size or other channels.
    """

    def __init__(
        self,
        t: Sampler,
        discriminator: nn.Module,
        *,
        space: Space | None = None,
        weight: float = 0.5,
        descent: Descent = QUICK,
    ) -> None:
        if not 0 <= weight <= 1:
            raise InputError(f"weight: expected a number from 0 to 1, got {weight}")
        self.space = LatentSpace(t, space)
        self.discriminator = discriminator.to(t.device).eval()
        judge: Any = discriminator
        if not isinstance(getattr(judge, "head", None), nn.Module):
            raise InputError(
                f"{type(judge).__name__} has no last layer `head` whose inputs could be features; give the "
                "discriminator of a run that draws"
            )
        if getattr(judge, "classes", 0) != t.classes:
            raise InputError(
                f"the generator draws {t.classes} classes, and the discriminator knows {getattr(judge, 'classes', 0)}: "
                "give the two of one run"
            )
        size = getattr(judge, "size", self.space.size[0])
        if (size, size) != self.space.size or judge.in_channels != t.spec.output.channels:
            raise InputError(
                f"the generator draws {t.spec.output.channels} channels of {self.space.size[1]} x "
                f"{self.space.size[0]} px, and the discriminator judges {judge.in_channels} channels of {size} x "
                f"{size} px: give the two of one run"
            )
        self.weight = weight
        self.descent = descent
        self.normal_scores: Tensor | None = None
        self._centres = self._spreads = torch.empty(0)
        self._normal: _Normal | None = None
        self._bank: Bank | None = None

    def fit(self, images: AnyImage | Sequence[AnyImage], *, progress: bool = False) -> Self:
        """Learn what normal images give; a hundred or more. Best are such that the networks were not trained on.

        Args:
            images: see `score`.
            progress: show a bar.

        Raises:
            InputError: fewer than 8 images, or as for `score`.
        """
        given = as_list(images)
        if len(given) < FEWEST_TO_FIT:
            raise InputError(f"images: expected at least {FEWEST_TO_FIT} normal ones to learn from, got {len(given)}")
        residuals, differences, *_ = self._measure(given, progress)
        self._normal = _Normal(differences)
        # Each image's distance is from what the others are like, as it will be for images that were not fitted to.
        fold = torch.arange(len(differences)) % FOLDS
        distances = torch.empty(len(differences))
        for number in range(FOLDS):
            distances[fold == number] = _Normal(differences[fold != number]).distances(differences[fold == number])
        parts = torch.stack([residuals, distances])
        self._centres, self._spreads = parts.mean(dim=1, keepdim=True), parts.std(dim=1, keepdim=True).clamp(min=1e-6)
        self.normal_scores = self._combine(parts)
        return self

    def score(self, images: AnyImage | Sequence[AnyImage], *, progress: bool = False) -> Anomalies:
        """Score images; what one gets does not depend on the others, up to rounding.

        Args:
            images: of the generator's own size, with values as it draws them: a list of paths, PIL images, arrays
                (H, W, C) or tensors (C, H, W), a tensor (N, C, H, W), or one image alone.
            progress: show a bar.

        Returns:
            Where there are classes, each image is redrawn as whichever comes nearest.

        Raises:
            InputError: there was no `fit`, or images of another size or with other channels.
        """
        if self.normal_scores is None:
            raise InputError("the scorer does not know normal images yet: call fit(normal_images) first")
        given = as_list(images)
        if not given:
            raise InputError("images: expected some to score, got none")
        residuals, differences, targets, redrawn = self._measure(given, progress)
        assert self._normal is not None
        distances = self._normal.distances(differences)
        return Anomalies(
            scores=self._combine(torch.stack([residuals, distances])),
            residuals=residuals,
            feature_distances=distances,
            images=targets,
            reconstructions=redrawn,
            sampler=self.space.sampler,
        )

    def threshold(self, percentile: float = 95.0) -> float:
        """The score that so many percent of the normal images of `fit` stay below.

        Raises:
            InputError: there was no `fit`, or no percentile.
        """
        if self.normal_scores is None:
            raise InputError("the scorer does not know normal images yet: call fit(normal_images) first")
        if not 0 <= percentile <= 100:
            raise InputError(f"percentile: expected a number from 0 to 100, got {percentile}")
        return float(torch.quantile(self.normal_scores, percentile / 100))

    def _combine(self, parts: Tensor) -> Tensor:
        """Residuals and distances (2, N) as scores (N,)."""
        residuals, distances = (parts - self._centres) / self._spreads
        return (1 - self.weight) * residuals + self.weight * distances

    def _measure(self, images: Sequence[AnyImage], progress: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Residuals (N,), differences of features (N, D), the images and their reconstructions."""
        targets = encode_images(self.space, images)
        if self._bank is None:
            self._bank = Bank(self.space, count=self.descent.candidates, seed=self.descent.seed)
        with bar(progress, "redrawing") as tell:
            found = descend(self.space, targets, descent=self.descent, bank=self._bank, progress=tell)
        contrast = (targets - targets.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(1, 2, 3)).sqrt()
        low, high = self.space.sampler.spec.output.network_range
        error = (targets - found.images).square().mean(dim=(1, 2, 3)).sqrt()
        residuals = error / contrast.clamp(min=LEAST_CONTRAST * (high - low))
        own, redrawn = (self._features(some, found.labels) for some in (targets, found.images))
        return residuals, own - redrawn, targets, found.images

    @torch.no_grad()
    def _features(self, images: Tensor, labels: Tensor) -> Tensor:
        """What goes into the discriminator's last layer, the mean over all places of a map: (N, D) on the CPU."""
        features: list[Tensor] = []

        def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            features.append((given[0].mean(dim=(2, 3)) if given[0].ndim == 4 else given[0]).float().cpu())

        like = next(self.discriminator.parameters())
        # Statistics of a batch would make an image's features depend on its neighbours: it has its own twin for one.
        twins = any(isinstance(module, MinibatchLayer) for module in self.discriminator.modules())
        size = 1 if twins else self.space.batch_size
        tap = self.discriminator.get_submodule("head").register_forward_pre_hook(note)
        try:
            for some, ids in zip(images.split(size), labels.split(size), strict=True):
                given = [some.to(like), *([ids.to(like.device)] if self.space.sampler.classes else [])]
                self.discriminator(*(torch.cat([one, one]) if twins else one for one in given))
        finally:
            tap.remove()
        return torch.cat([some[:size] for some in features])


class _Normal:
    """What differences of features (N, D) are like for normal images: their mean and covariance."""

    def __init__(self, differences: Tensor) -> None:
        self.mean = differences.mean(dim=0)
        covariance = torch.cov((differences - self.mean).double().T).reshape(len(self.mean), -1)
        equal = covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(covariance), dtype=covariance.dtype)
        self.factor = torch.linalg.cholesky(covariance.lerp(equal, SHRINKAGE))

    def distances(self, differences: Tensor) -> Tensor:
        """Mahalanobis distances (N,)."""
        whitened = torch.linalg.solve_triangular(self.factor, (differences - self.mean).double().T, upper=False)
        return whitened.norm(dim=0).float()


def histogram(groups: dict[str, Tensor], *, threshold: float | None = None) -> np.ndarray:
    """Scores of several sets of images by their names, as curves over one axis: (H', W', 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    low, high = (float(end) for end in torch.cat(list(groups.values())).aminmax())
    places = np.linspace(low, high + 1e-6, 41).tolist()
    for name, scores in groups.items():
        axes.hist(scores.numpy(), bins=places, alpha=0.6, label=name)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set(xlabel="score, in deviations of normal images", ylabel="images")
    axes.legend()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
