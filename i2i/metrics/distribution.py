"""How near two sets of images are, from features that a network gives of them, and how sure that is.

Fréchet distance (FID), kernel distance (KID), Inception Score, precision, recall, density and coverage: pure functions
of features (N, D), one row for each image, computed in float64 whatever they come in. `i2i.metrics.features` has
networks that give them. Figures of different networks, or of different numbers of images, do not compare.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from i2i.errors import InputError

# A block of 256 × 10,000 numbers takes 20 MB; the whole matrix would take 800.
ROWS_AT_ONCE = 256
# Squared distances below this share of the squared lengths are rounding errors of equal features.
SMALLEST_SQUARE = 1e-12
# Copies of an image are as far from its neighbours as it is itself, but for rounding errors, and so in no ball that it
# bounds. Squared distances count as equal up to this share.
TIE = 1e-9
# Mean distance of images in [-1, 1] that are all one image, but for rounding errors.
ALIKE = 1e-4


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Fréchet distance between two sets of features, taken as normal distributions (Heusel et al. 2017, eq. 6).

        ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½)

    It depends on the network that the features come from, and shrinks with the number of images: compare only figures
    of one network and equally many images.

    Args:
        first, second: (N, D) and (M, D), at least two rows each; computed in float64. Fewer rows than columns are fine.

    Returns:
        At least 0, in squared units of the features.

    Raises:
        InputError: the numbers of features differ, or a set has fewer than two rows.
    """
    _check(first, second)
    (first_mean, first_centred), (second_mean, second_centred) = _centred(first), _centred(second)
    first_root, second_root = (torch.linalg.qr(rows, mode="r")[1] for rows in (first_centred, second_centred))
    return _frechet(first_mean - second_mean, first_root, second_root)


def frechet_of_moments(
    first_mean: Tensor, first_covariance: Tensor, second_mean: Tensor, second_covariance: Tensor
) -> float:
    """`frechet_distance` from means (D,) and unbiased covariances (D, D), which may be singular.

    Raises:
        InputError: shapes that do not belong together.
    """
    length = first_mean.numel()
    shapes = [tuple(part.shape) for part in (first_mean, first_covariance, second_mean, second_covariance)]
    if shapes != [(length,), (length, length)] * 2:
        raise InputError(f"expected means (D,) and covariances (D, D) of one length, got {shapes}")
    return _frechet(first_mean.double() - second_mean.double(), _root(first_covariance), _root(second_covariance))


def frechet_influences(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """How much each image moves the Fréchet distance: its derivative by the image's share of its set.

    Its variance over the images, divided by their number and summed over both sets, is that of the distance (the
    infinitesimal jackknife; Efron 1982, chapter 6). Sets of one distribution, at distance 0 but for chance, vary up to
    √2 times less than that: intervals err towards the wide side. Resampling the images, which costs fifty times as
    much, would err there by 2 and more.

    Args:
        first, second: as for `frechet_distance`.

    Returns:
        (N,) and (M,) float64, with means of 0.
    """
    _check(first, second)
    (first_mean, first_rows), (second_mean, second_rows) = _centred(first), _centred(second)
    first_basis, first_root = torch.linalg.qr(first_rows)
    second_basis, second_root = torch.linalg.qr(second_rows)
    left, values, right = torch.linalg.svd(first_root @ second_root.T, full_matrices=False)
    # With A and B the centred rows, tr (C₁ C₂)^½ is the sum of the singular values of A Bᵀ = U S Vᵀ. Weighting row i by
    # 1 + w adds w/2 (U S Uᵀ)ᵢᵢ to it.
    shift = first_mean - second_mean

    def influence(rows: Tensor, vectors: Tensor, shift: Tensor) -> Tensor:
        count = len(rows)
        spread = rows.square().sum(1) - vectors.square() @ values
        linear = 2 * rows @ shift * (count - 1) ** 0.5
        return linear + count * (spread - spread.mean())

    return (
        influence(first_rows, first_basis @ left, shift),
        influence(second_rows, second_basis @ right.T, -shift),
    )


def kernel_distance(
    first: Tensor, second: Tensor, *, subsets: int = 100, subset_size: int | None = 1000, seed: int = 2020
) -> tuple[float, float]:
    """Kernel distance between two sets of features, known as KID (Bińkowski et al. 2018, arXiv:1801.01401, section 4).

    The unbiased estimate of the squared maximum mean discrepancy under the kernel k(x, y) = (xᵀy / D + 1)³:

        mean of k(x, x′) over x ≠ x′ + mean of k(y, y′) over y ≠ y′ − 2 · mean of k(x, y)

    Unlike the Fréchet distance, it does not depend on the number of images on average, and can come out below 0.

    Args:
        first, second: (N, D) and (M, D), at least two rows each.
        subsets: how many random subsets of both sets it is the mean over.
        subset_size: images in each. They are drawn as torch-fidelity draws them, so that its figures are these. None,
            or where a set has fewer images: all images of both sets at once, and no subsets.
        seed: decides the subsets.

    Returns:
        Mean, and deviation over the subsets (0 where there are none); `kernel_error` says how sure the mean is.

    Raises:
        InputError: the numbers of features differ, a set has fewer than two rows, or the settings are below 1 and 2.
    """
    _check(first, second)
    if subsets < 1 or (subset_size is not None and subset_size < 2):
        raise InputError(f"expected at least 1 subset of at least 2 images, got {subsets} of {subset_size}")
    if subset_size is None or min(len(first), len(second)) < subset_size:
        chosen = [torch.ones(len(features), 1, dtype=torch.float64) for features in (first, second)]
    else:
        random = np.random.RandomState(seed)
        chosen = [torch.zeros(len(features), subsets, dtype=torch.float64) for features in (first, second)]
        for number in range(subsets):
            for members in chosen:
                members[random.choice(len(members), subset_size, replace=False), number] = 1
    in_first, in_second = (members.to(first.device) for members in chosen)
    distances = (
        _mean_within(first, in_first)
        + _mean_within(second, in_second)
        - 2 * _sums(first, second, in_first, in_second) / (in_first.sum(0) * in_second.sum(0))
    )
    return distances.mean().item(), distances.std(correction=0).item()


def kernel_error(first: Tensor, second: Tensor) -> float:
    """Standard error of the `kernel_distance` of all images of both sets.

    In closed form, from the kernel's row sums (Sutherland et al. 2017, arXiv:1611.04488, appendix A, here for sets of
    different sizes), with the terms of second order that are all there is where both sets are of one distribution.

    Args:
        first, second: as for `kernel_distance`.
    """
    _check(first, second)
    n, m = len(first), len(second)
    within_first, within_second = _KernelMeans(first, first, same=True), _KernelMeans(second, second, same=True)
    between = _KernelMeans(first, second, same=False)
    of_first = (within_first.rows - between.rows).var() / n
    of_second = (within_second.rows - between.columns).var() / m
    # Means of rows are uncertain themselves, which adds this much to their variance, and takes this much of it off.
    chance = within_first.rest / n**2 + within_second.rest / m**2 + 2 * between.rest / (n * m)
    return math.sqrt(max(4 * (of_first + of_second).item() - 2 * chance, 2 * chance))


def inception_score(logits: Tensor, *, splits: int = 10, seed: int | None = 2020) -> tuple[float, float]:
    """Inception Score (Salimans et al. 2016, arXiv:1606.03498, section 4): classes told clearly, and many of them.

        exp(mean of KL(p(y | x) ‖ p(y)))

    Args:
        logits: (N, K) of generated images.
        splits: equal parts of the set; each has a score of its own.
        seed: of the order in which images are dealt to the parts, as torch-fidelity deals them; None: as they come.

    Returns:
        Mean and deviation over the parts; from 1 to K.

    Raises:
        InputError: fewer images than parts.
    """
    if logits.ndim != 2 or not 1 <= splits <= len(logits):
        raise InputError(
            f"expected logits (N, K) of at least as many images as parts ({splits}), got {tuple(logits.shape)}"
        )
    count = len(logits)
    if seed is not None:
        logits = logits[torch.from_numpy(np.random.RandomState(seed).permutation(count)).to(logits.device)]
    log_shares = logits.double().log_softmax(1)
    bounds = [part * count // splits for part in range(splits + 1)]
    scores = []
    for start, end in pairwise(bounds):
        part = log_shares[start:end]
        marginal = part.exp().mean(0)
        # A class whose share is 0 in float64 for all images adds 0, not 0 · ∞.
        scores.append((part.exp() * (part - marginal.log().clamp(min=-1e3))).sum(1).mean().exp())
    found = torch.stack(scores)
    return found.mean().item(), found.std(correction=0).item()


def neighbour_scores(generated: Tensor, real: Tensor, *, neighbours: int = 5) -> dict[str, Tensor]:
    """What each image adds to precision, recall, density and coverage; the figures are the means.

    A ball around each image reaches to its k-th nearest neighbour in its own set; all balls are the set's manifold.

    - precision: whether a generated image lies in any real image's ball (Kynkäänniemi et al. 2019, arXiv:1904.06991,
      eq. 2); recall: whether a real image lies in any generated image's.
    - density: in how many real images' balls a generated image lies, by k (Naeem et al. 2020, arXiv:2002.09797, eq. 3),
      which one outlier with a large ball does not raise; coverage: whether a real image's ball holds any generated
      image (eq. 4).

    Intervals come from resampling these numbers; resampled images would be their own nearest neighbours. They take the
    other set's manifold as given.

    Args:
        generated, real: (N, D) and (M, D), more than `neighbours` rows each.
        neighbours: k; 5 as Naeem et al. have it (Kynkäänniemi et al. have 3).

    Returns:
        "precision" and "density" (N,), "recall" and "coverage" (M,), float64.

    Raises:
        InputError: the numbers of features differ, or a set has too few images.
    """
    _check(generated, real)
    if not 1 <= neighbours < min(len(generated), len(real)):
        raise InputError(
            f"expected more than {neighbours} images in both sets to find each one's {neighbours} nearest neighbours "
            f"among, got {len(generated)} and {len(real)}"
        )
    centre = real.double().mean(0)  # lengths as short as can be lose the least in rounding
    generated, real = generated.double() - centre, real.double() - centre
    generated_reach, real_reach = (_squared_reach(features, neighbours) * (1 - TIE) for features in (generated, real))
    inside = torch.zeros(len(generated), dtype=torch.float64, device=generated.device)
    recall, coverage = (torch.empty(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for rows, squares in _squared_distances(real, generated):
        reach = real_reach[rows]
        inside += (squares < reach[:, None]).sum(0)
        recall[rows] = (squares < generated_reach).any(1)
        coverage[rows] = squares.amin(1) < reach
    return {
        "precision": (inside > 0).double(),
        "recall": recall.double(),
        "density": inside / neighbours,
        "coverage": coverage.double(),
    }


def mean_distances(features: Tensor) -> Tensor:
    """The mean distance of each image from all others.

    Their mean, next to that of real images, is the variety of a set: 0 where all images are alike, 1 where they differ
    as much as real ones do.

    Args:
        features: (N, D), such as small images. Of one image alone the distance is 0.

    Returns:
        (N,) float64.
    """
    features = features.double()
    features = features - features.mean(0)  # lengths as short as can be lose the least in rounding
    sums = [squares.sqrt().sum(1) for _, squares in _squared_distances(features, features)]
    return torch.cat(sums) / max(len(features) - 1, 1)


def _check(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise InputError(
            "expected two sets of features (N, D) of at least two images each, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )


def _centred(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,), and rows A (N, D) with AᵀA the unbiased covariance."""
    features = features.double()
    mean = features.mean(0)
    return mean, (features - mean) / (len(features) - 1) ** 0.5


def _root(covariance: Tensor) -> Tensor:
    """R with RᵀR the covariance, as many rows as it has directions in which anything varies."""
    values, vectors = torch.linalg.eigh(covariance.double())
    # What is smaller is rounding errors, whose roots would not be small.
    varies = values > values[-1] * len(values) * torch.finfo(torch.float64).eps
    return values[varies].sqrt()[:, None] * vectors[:, varies].T


def _frechet(shift: Tensor, first_root: Tensor, second_root: Tensor) -> float:
    # With C = RᵀR, (C₁ C₂)^½ has the trace of (R₁ C₂ R₁ᵀ)^½, which is the sum of the singular values of R₁ R₂ᵀ.
    cross = torch.linalg.svdvals(first_root @ second_root.T).sum()
    squares = shift.square().sum() + first_root.square().sum() + second_root.square().sum()
    return (squares - 2 * cross).clamp(min=0).item()


def _kernel(first: Tensor, second: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the matrix (xᵀy / D + 1)³, some at a time."""
    second = second.double()
    for start in range(0, len(first), ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, len(first)))
        products = first[rows].double() @ second.T
        yield rows, products.div_(first.shape[1]).add_(1).pow_(3)


def _sums(first: Tensor, second: Tensor, in_first: Tensor, in_second: Tensor) -> Tensor:
    """Of each subset, a column of (N, S) and (M, S) zeros and ones, the sum of the kernel over all pairs: (S,)."""
    total = torch.zeros(in_first.shape[1], dtype=torch.float64, device=first.device)
    for rows, kernel in _kernel(first, second):
        total += (kernel.T @ in_first[rows] * in_second).sum(0)
    return total


def _mean_within(features: Tensor, members: Tensor) -> Tensor:
    """Of each subset the mean of the kernel over pairs of different images: (S,)."""
    diagonal = (features.double().square().sum(1) / features.shape[1] + 1) ** 3
    counts = members.sum(0)
    return (_sums(features, features, members, members) - diagonal @ members) / (counts * (counts - 1))


class _KernelMeans:
    """Means of the kernel over pairs of different images: of each row, of each column, and what these do not explain.

    rest: variance of the kernel less means of its rows and columns.
    """

    def __init__(self, first: Tensor, second: Tensor, *, same: bool) -> None:
        n, m = len(first), len(second)
        rows, columns = first.new_zeros(n, dtype=torch.float64), first.new_zeros(m, dtype=torch.float64)
        squares = 0.0
        # Numbers near their mean, or the squares' differences would be lost in rounding.
        centre = next(kernel for _, kernel in _kernel(first[:1], second)).mean()
        for place, kernel in _kernel(first, second):
            kernel -= centre
            if same:
                kernel[torch.arange(len(kernel)), torch.arange(place.start, place.stop)] = 0
            rows[place] = kernel.sum(1)
            columns += kernel.sum(0)
            squares += kernel.square().sum().item()
        pairs = n * (m - 1) if same else n * m
        self.rows, self.columns = rows * (n / pairs), columns * (m / pairs)
        mean = self.rows.mean()
        explained = self.rows.square().mean() + self.columns.square().mean() - mean.square()
        self.rest = max(squares / pairs - explained.item(), 0.0)
        self.rows, self.columns = self.rows + centre, self.columns + centre


def _squared_distances(first: Tensor, second: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the matrix ‖x − y‖², some at a time; exactly 0 for equal features."""
    lengths = second.square().sum(1)
    for start in range(0, len(first), ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, len(first)))
        some = first[rows]
        both = some.square().sum(1)[:, None] + lengths
        squares = torch.addmm(both, some, second.T, alpha=-2)
        yield rows, squares.masked_fill_(squares < SMALLEST_SQUARE * both, 0)


def _squared_reach(features: Tensor, neighbours: int) -> Tensor:
    """Of each image the squared distance of its k-th nearest neighbour: (N,)."""
    # Each is its own nearest at a distance of 0.
    found = features.new_empty(len(features))  # in one piece: small ones among the matrices would keep their memory
    for rows, squares in _squared_distances(features, features):
        found[rows] = squares.kthvalue(neighbours + 1).values
    return found
