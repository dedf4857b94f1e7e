"""Adversarial objectives, as losses to be minimised on raw scores (before any sigmoid).

Scores have any shape and floating-point type; each loss is a scalar, the mean over all scores of a
tensor, computed in at least float32. Real and fake terms of the discriminator's loss are added.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError

Objective = Literal[
    "minimax", "non_saturating", "lsgan", "hinge", "wgan", "relativistic_paired", "relativistic_average"
]


class AdversarialLoss(Protocol):
    """What every objective offers.

    generator_needs_real: its generator's loss also looks at real scores.
    is_critic: real and generated samples are told apart perfectly when all is well, which is no defeat.
    decision: the score of samples that are as likely real as generated; None where a score by itself says nothing.
    """

    @property
    def generator_needs_real(self) -> bool: ...

    @property
    def is_critic(self) -> bool: ...

    @property
    def decision(self) -> float | None: ...

    def discriminator_loss(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor: ...

    def generator_loss(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor: ...


def make_objective(name: Objective, *, real_label: float = 1.0) -> AdversarialLoss:
    """The objective of that name.

    Args:
        name: which.
        real_label: what the discriminator is taught about real samples; below 1 that is one-sided label smoothing
            (Salimans et al. 2016, §3.4, has 0.9).

    Raises:
        InputError: there is no such objective, it has no labels to be smoothed, or cannot have this one.
    """
    match name:
        case "minimax":
            return Minimax(real_label=real_label)
        case "non_saturating":
            return NonSaturating(real_label=real_label)
        case "lsgan":
            return LeastSquares(real_label=real_label)
        case "hinge" | "wgan" if real_label != 1:
            raise InputError(
                f"{name} has no labels that could be smoothed, and got {real_label} for real samples: leave it at 1, "
                "or choose another objective"
            )
        case "hinge":
            return Hinge()
        case "wgan":
            return Wasserstein()
        case "relativistic_paired":
            return RelativisticPaired(real_label=real_label)
        case "relativistic_average":
            return RelativisticAverage(real_label=real_label)
        case _:
            raise InputError(
                'expected the objective to be "minimax", "non_saturating", "lsgan", "hinge", "wgan", '
                f'"relativistic_paired" or "relativistic_average", got {name!r}'
            )


def over_scales(loss: Callable[..., Tensor], *scores: Sequence[Tensor]) -> Tensor:
    """Mean of a loss over the scales of a multi-scale discriminator, whatever their numbers of scores.

    `over_scales(objective.discriminator_loss, real, fake)` with a tensor of scores for each scale in `real` and `fake`.
    """
    return torch.stack([loss(*of_one_scale) for of_one_scale in zip(*scores, strict=True)]).mean()


@dataclass(frozen=True, kw_only=True)
class _CrossEntropy:
    """The discriminator's loss of Goodfellow et al. 2014, eq. 1: it tells real from fake.

    `real_label` < 1 is one-sided label smoothing (Salimans et al. 2016, §3.4), `fake_label` > 0 smooths the
    other side too. Both are probabilities and concern the discriminator only.
    """

    generator_needs_real: ClassVar[bool] = False
    is_critic: ClassVar[bool] = False
    real_label: float = 1.0
    fake_label: float = 0.0

    def __post_init__(self) -> None:
        _check_probabilities(self.real_label, self.fake_label)

    @property
    def decision(self) -> float:
        probability = (self.real_label + self.fake_label) / 2
        return math.log(probability / (1 - probability))

    def discriminator_loss(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        return _cross_entropy(real_scores, self.real_label) + _cross_entropy(fake_scores, self.fake_label)


@dataclass(frozen=True, kw_only=True)
class Minimax(_CrossEntropy):
    """Goodfellow et al. 2014, eq. 1: the generator minimises E log(1 − D), which is flat where D is sure."""

    def generator_loss(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return -_cross_entropy(fake_scores, 0.0)


@dataclass(frozen=True, kw_only=True)
class NonSaturating(_CrossEntropy):
    """Goodfellow et al. 2014, §3: the generator maximises E log D, which is steep where D is sure."""

    def generator_loss(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return _cross_entropy(fake_scores, 1.0)


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """LSGAN (Mao et al. 2017, eq. 9), without the factors ½: scores are pulled to the labels.

    `fake_label` is the paper's a, `real_label` its b, and `generator_label` its c, what the generator wants: smoothing
    b does not move it.
    """

    generator_needs_real: ClassVar[bool] = False
    is_critic: ClassVar[bool] = False
    real_label: float = 1.0
    fake_label: float = 0.0
    generator_label: float = 1.0

    def __post_init__(self) -> None:
        labels = (self.real_label, self.generator_label)
        if not all(-math.inf < self.fake_label < label < math.inf for label in labels):
            raise InputError(
                "expected labels with fake_label < real_label and fake_label < generator_label, got "
                f"real_label={self.real_label}, fake_label={self.fake_label}, generator_label={self.generator_label}"
            )

    @property
    def decision(self) -> float:
        return (self.real_label + self.fake_label) / 2

    def discriminator_loss(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        return _squared_error(real_scores, self.real_label) + _squared_error(fake_scores, self.fake_label)

    def generator_loss(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return _squared_error(fake_scores, self.generator_label)


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17: scores beyond ±1 teach the discriminator nothing."""

    generator_needs_real: ClassVar[bool] = False
    is_critic: ClassVar[bool] = False
    decision: ClassVar[float] = 0.0

    def discriminator_loss(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        return F.relu(1 - _widen(real_scores)).mean() + F.relu(1 + _widen(fake_scores)).mean()

    def generator_loss(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return -_widen(fake_scores).mean()


@dataclass(frozen=True, kw_only=True)
class Wasserstein:
    """Arjovsky et al. 2017, eq. 2 and 3. Needs a critic held Lipschitz: by clipped weights, or `penalties`."""

    generator_needs_real: ClassVar[bool] = False
    is_critic: ClassVar[bool] = True
    decision: ClassVar[None] = None

    def discriminator_loss(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        return _widen(fake_scores).mean() - _widen(real_scores).mean()

    def generator_loss(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return -_widen(fake_scores).mean()


@dataclass(frozen=True, kw_only=True)
class RelativisticPaired:
    """RSGAN (Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4.1): which of two is the real one?

        L_D = −E log σ(C(x_r) − C(x_f)),    L_G = −E log σ(C(x_f) − C(x_r))

    A pair is what stands at the same place of the real and of the fake scores, which therefore must have one shape;
    InputError otherwise. The generator's loss needs the real scores as well; InputError without them. `real_label` < 1
    smooths the discriminator's labels, being its answer where the real one comes first.
    """

    generator_needs_real: ClassVar[bool] = True
    is_critic: ClassVar[bool] = False
    decision: ClassVar[None] = None
    real_label: float = 1.0

    def __post_init__(self) -> None:
        _check_probabilities(self.real_label, 1 - self.real_label)

    def discriminator_loss(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        return _cross_entropy(_differences(real_scores, fake_scores), self.real_label)

    def generator_loss(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return _cross_entropy(_differences(_given(real_scores), fake_scores), 0.0)


@dataclass(frozen=True, kw_only=True)
class RelativisticAverage:
    """RaGAN (Jolicoeur-Martineau 2018, eq. 9 to 11): is this more real than the others on average?

    The generator's loss needs the real scores as well; InputError without them. Labels as in Minimax.
    """

    generator_needs_real: ClassVar[bool] = True
    is_critic: ClassVar[bool] = False
    decision: ClassVar[None] = None
    real_label: float = 1.0
    fake_label: float = 0.0

    def __post_init__(self) -> None:
        _check_probabilities(self.real_label, self.fake_label)

    def discriminator_loss(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        real, fake = _relative(real_scores, fake_scores)
        return _cross_entropy(real, self.real_label) + _cross_entropy(fake, self.fake_label)

    def generator_loss(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        real, fake = _relative(_given(real_scores), fake_scores)
        return _cross_entropy(real, 0.0) + _cross_entropy(fake, 1.0)


def _widen(scores: Tensor) -> Tensor:
    """Float32 in place of half types, whose means are too coarse; float64 stays."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _cross_entropy(scores: Tensor, label: float) -> Tensor:
    # −label·log σ(s) − (1 − label)·log(1 − σ(s)), in a form that no score overflows.
    scores = _widen(scores)
    return (F.softplus(scores) - label * scores).mean()


def _squared_error(scores: Tensor, label: float) -> Tensor:
    return (_widen(scores) - label).square().mean()


def _given(real_scores: Tensor | None) -> Tensor:
    if real_scores is None:
        raise InputError("the relativistic generator loss compares with real scores: pass real_scores")
    return real_scores


def _differences(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    if real_scores.shape != fake_scores.shape:
        raise InputError(
            "relativistic_paired compares real and fake scores one by one, and got shapes "
            f"{tuple(real_scores.shape)} and {tuple(fake_scores.shape)}: make both of one shape, or take "
            "relativistic_average"
        )
    return _widen(real_scores) - _widen(fake_scores)


def _relative(real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
    real, fake = _widen(real_scores), _widen(fake_scores)
    return real - fake.mean(), fake - real.mean()


def _check_probabilities(real_label: float, fake_label: float) -> None:
    if not 0 <= fake_label < real_label <= 1:
        raise InputError(
            f"expected 0 ≤ fake_label < real_label ≤ 1, got real_label={real_label}, fake_label={fake_label}"
        )
