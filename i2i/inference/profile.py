"""What a generator costs where it runs: the figures that `i2i.inference.profiling` measures, and how they are told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from i2i import __version__
from i2i.errors import InputError

FixedPrecision = Literal["fp32", "bf16", "fp16"]
Pass = Literal["network", "call"]

PASSES: dict[Pass, str] = {"network": "network alone", "call": "whole call"}
IN_PIECES = ", in pieces"
PRODUCT = "of a matrix product"
ENOUGH_READINGS = 100  # for the slowest of a hundred
INTERRUPTED = "further readings: interrupted"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long a pass takes, in milliseconds: what half, nine tenths and 99 of 100 readings do not exceed."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    readings: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Percentiles of readings, interpolated linearly between the two nearest (Hyndman and Fan 1996, type 7)."""
        p50, p90, p99 = (float(value) for value in np.percentile(np.array(seconds) * 1e3, (50, 90, 99)))
        return cls(p50_ms=p50, p90_ms=p90, p99_ms=p99, readings=len(seconds))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One pass at one size, precision and batch.

    Attributes:
        height, width: of the images that go in, in pixels; None for a generator that draws from noise.
        images_per_s: at the median latency.
        peak_memory_bytes: see `Profile.memory`; None where it cannot be measured.
        flop_per_s: of the network's convolutions and matrix products, at the median latency; None for a whole call,
            which does other work besides.
        share_of_product: flop_per_s next to that of a matrix product in the same precision, in the same minutes; may be
            above 1, for it is no limit.
        in_pieces: whether a whole call divided its images into tiles or bands; the network alone takes them whole.
    """

    height: int | None
    width: int | None
    precision: FixedPrecision
    batch: int
    of: Pass
    latency: Latency
    images_per_s: float
    peak_memory_bytes: int | None
    flop_per_s: float | None
    share_of_product: float | None
    in_pieces: bool = False


@dataclass(frozen=True, kw_only=True)
class BestBatch:
    """The batch with which the network alone makes the most images a second, at one size and precision.

    Attributes:
        height, width: of the images that go in, in pixels; None for a generator that draws from noise.
        batch: images; a larger one counts as better only where it is worth its latency.
        images_per_s: at the median latency.
        why: it is this one, in words: what became of the next larger batch, or which ones were compared.
    """

    height: int | None
    width: int | None
    precision: FixedPrecision
    batch: int
    images_per_s: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The operations for one image: those of convolutions, matrix products and attention, which are nearly all.

    Attributes:
        height, width: of the image that goes in, in pixels; None for a generator that draws from noise.
        output: shape of the network's result, (C, H, W), or (C,) of points; of the padded image where it is padded.
        multiply_adds: one multiplication and one addition each.
        flop: floating-point operations, two for each multiply-add.
    """

    height: int | None
    width: int | None
    output: tuple[int, ...]
    multiply_adds: int
    flop: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """All that was measured.

    Attributes:
        model: see `i2i.checkpoints.identity.name_model`.
        network: its class.
        parameters: how many numbers were trained.
        machine: processor, cores, threads, accelerator, system, torch; in words.
        memory: what the peaks are peaks of.
        costs: by size.
        product_flop_per_s: of a product of two large square matrices, by precision.
        measurements: by size, precision and batch.
        best_batch: by size and precision; left out where but one batch was asked for, or could be read.
        missing: what could not be measured, and why; `INTERRUPTED` where a person ended it early.
        version: of i2i.
    """

    model: str
    network: str
    parameters: int
    machine: dict[str, str]
    memory: str
    costs: tuple[Cost, ...]
    product_flop_per_s: dict[str, float]
    measurements: tuple[Measurement, ...]
    missing: tuple[str, ...]
    best_batch: tuple[BestBatch, ...] = ()
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Profile":
        """A profile that was stored.

        Raises:
            InputError: it is none.
        """
        try:
            measurements = tuple(
                Measurement(**{**entry, "latency": Latency(**entry["latency"])}) for entry in content["measurements"]
            )
            costs = tuple(Cost(**{**entry, "output": tuple(entry["output"])}) for entry in content["costs"])
            best = tuple(BestBatch(**entry) for entry in content.get("best_batch", ()))
            lists = {"measurements": measurements, "costs": costs, "missing": tuple(content["missing"])}
            return cls(**{**content, **lists, "best_batch": best})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"expected a profile as `i2i profile --out` writes it, but {error}; make it anew"
            ) from error


def facts_in_words(found: Profile) -> Iterator[tuple[str, str]]:
    """What is said once, as name and text."""
    yield "model", found.model
    yield "network", f"{found.network}, {found.parameters:,} parameters"
    for cost in found.costs:
        size = "" if cost.height is None else f"{cost.height} x {cost.width} px: "
        text = f"{cost.flop / 1e9:,.4g} GFLOP an image, which is {cost.multiply_adds / 1e9:,.4g} G multiply-adds"
        yield "operations", size + text
    for best in found.best_batch:
        size = "" if best.height is None else f"{best.height} x {best.width} px, "
        speed = f"{_digits(best.images_per_s)} images/s by the network alone"
        yield "best batch", f"{size}{best.precision}: {best.batch}, {speed} ({best.why})"
    machine = found.machine
    accelerator = "" if machine["accelerator"] == "none" else f"{machine['accelerator']}; "
    processor = f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores"
    yield "machine", f"{accelerator}{processor}; torch {machine['torch']}, {machine['system']}"
    for precision, rate in found.product_flop_per_s.items():
        yield "matrix product", f"{rate / 1e9:,.4g} GFLOP/s in {precision}, of two large square matrices"


def rows_in_words(found: Profile) -> list[list[str]]:
    """The measurements as a table; the first row is its heading."""
    sized = any(entry.height is not None for entry in found.measurements)
    heading = ["height x width"] * sized
    heading += ["precision", "batch", "pass", "p50 ms", "p90 ms", "p99 ms", "readings", "images/s", "memory MB"]
    rows = [[*heading, "GFLOP/s", PRODUCT]]
    for entry in found.measurements:
        latency = entry.latency
        row = [f"{entry.height} x {entry.width}"] * sized
        row += [entry.precision, str(entry.batch), PASSES[entry.of] + IN_PIECES * entry.in_pieces]
        row += [_digits(value) for value in (latency.p50_ms, latency.p90_ms, latency.p99_ms)]
        row += [str(latency.readings), _digits(entry.images_per_s)]
        row.append("" if entry.peak_memory_bytes is None else f"{entry.peak_memory_bytes / 1e6:,.0f}")
        row.append("" if entry.flop_per_s is None else _digits(entry.flop_per_s / 1e9))
        row.append("" if entry.share_of_product is None else f"{entry.share_of_product:.0%}")
        rows.append(row)
    return rows


def notes_in_words(found: Profile) -> Iterator[str]:
    """What to know before believing the table, a sentence each."""
    yield "A whole call goes from arrays in memory to arrays in memory; the network alone has its inputs on its device."
    if any(entry.in_pieces for entry in found.measurements):
        yield (
            "In pieces: the call takes its images through the network in tiles or bands, which bounds its memory, and "
            "may be faster so than the network alone, which takes them whole."
        )
    yield f"Memory: {found.memory}."
    yield "Operations are those of convolutions, matrix products and attention; a multiply-add counts as two."
    if any(entry.latency.readings < ENOUGH_READINGS for entry in found.measurements):
        yield (
            f"Where there are fewer than {ENOUGH_READINGS} readings, p99 lies next to the slowest one; --seconds gives "
            "more of them."
        )
    if any(entry.share_of_product is not None for entry in found.measurements):
        yield (
            f'"{PRODUCT[0].upper()}{PRODUCT[1:]}" sets the network\'s GFLOP/s beside those of the product of two large '
            "matrices, in the same precision and the same minutes: a yardstick, and no limit."
        )
    if any((entry.share_of_product or 0) > 1 for entry in found.measurements):
        yield (
            "Where it is above 100%, the machine was busy with something else while the product was read, or the "
            "product's shape suits the machine less than the network's."
        )
    for reason in found.missing:
        yield f"Not measured: {reason}."


def _digits(value: float) -> str:
    """Three digits or more, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
