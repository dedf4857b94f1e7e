"""What an evaluation has to say: figures with their uncertainty, what is missing, warnings and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number.

    Attributes:
        value: the figure.
        low, high: ends of its 95 % confidence interval; None where there is none.
        images: how many images it is over (generated ones, or pairs).
        how: it was measured, in words, where that is not the usual way.
    """

    value: float
    low: float | None = None
    high: float | None = None
    images: int | None = None
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What one part of an evaluation found; parts are joined by |.

    Attributes:
        figures: by the names that `i2i.metrics.meanings.MEANINGS` explains.
        missing: figures that could not be had, by name: why, and how to get them.
        hints: what the person at this machine can do about it, a sentence each: printed, and in no report, for they
            name the machine's paths.
        warnings: what to know before believing figures, a sentence each.
        pictures: by title, columns of images (N, C, H, W) in [-1, 1] as `i2i.training.report.write_grid` takes them.
        details: whatever else belongs into the JSON file, by section; figures in it are written as those above.
    """

    figures: Mapping[str, Figure] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    hints: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pictures: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def __or__(self, other: "Findings") -> "Findings":
        return Findings(
            figures={**self.figures, **other.figures},
            missing={**self.missing, **other.missing},
            hints=tuple(dict.fromkeys([*self.hints, *other.hints])),
            warnings=tuple(dict.fromkeys([*self.warnings, *other.warnings])),
            pictures={**self.pictures, **other.pictures},
            details={**self.details, **other.details},
        )
