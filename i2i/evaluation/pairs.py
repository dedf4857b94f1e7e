"""How near generated images come to the very images that they should be: figures of pairs with equal names."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from i2i.data.image_io import ImageHeader, read_header
from i2i.errors import InputError
from i2i.evaluation.describing import Describing
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.pages import alike
from i2i.metrics.image import MS_SSIM_SMALLEST_PX, WINDOW_PX, l1, laplacian_energy, luma, ms_ssim, psnr, ssim
from i2i.metrics.intervals import REPLICATES, bootstrap_mean
from i2i.metrics.perceptual import Lpips, load_lpips

NAMES = ("psnr", "ssim", "ms_ssim", "l1", "lpips", "sharpness")
# Why a figure of a pair is NaN.
UNMEASURED = {
    "ssim": f"it needs images of at least {WINDOW_PX} px within the border",
    "ms_ssim": f"it needs images of at least {MS_SSIM_SMALLEST_PX} px within the border for its five scales",
    "lpips": "it needs images of three channels and at least 31 px (16 px by --lpips vgg)",
    "sharpness": "there is no detail in the real images to compare with",
}
SHOWN = 4  # pairs in each picture
SMALLEST_SHARP_PX = 3
FLAT = 1e-8  # mean squared Laplacian of an image without detail


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """How pairs are compared.

    Attributes:
        y_channel: psnr, ssim, ms_ssim and l1 compare brightness alone, as is usual in super-resolution.
        crop_border: so many pixels at each border are left out; in super-resolution mostly as many as the scale.
        lpips: the network that LPIPS looks with; off: no LPIPS.
        lpips_backbone: a file with that network's weights on ImageNet; fetched once unless given.
        lpips_heads: a file with LPIPS's own weights; fetched once unless given.
    """

    y_channel: bool = False
    crop_border: int = 0
    lpips: Literal["off", "alex", "vgg"] = "alex"
    lpips_backbone: Path | None = None
    lpips_heads: Path | None = None


class PairMeter:
    """Measures one pair of images after another; may be called from several threads.

    Args:
        settings: how.
        device: where the images are.

    Attributes:
        missing: figures that cannot be had of any pair, by name: why, and how to get them.

    Raises:
        InputError: a border below 0, or a file with weights that cannot be used.
    """

    def __init__(self, settings: PairSettings, *, device: torch.device | str = "cpu") -> None:
        if settings.crop_border < 0:
            raise InputError(f"--crop-border: expected at least 0 px, got {settings.crop_border}")
        self.settings = settings
        self.missing: dict[str, str] = {}
        self._lpips: Lpips | None = None
        if settings.lpips == "off":
            self.missing["lpips"] = "switched off (--lpips off)"
            return
        try:
            lpips = load_lpips(settings.lpips, backbone_path=settings.lpips_backbone, heads_path=settings.lpips_heads)
            self._lpips = lpips.to(device)
        except InputError as error:
            if settings.lpips_backbone and settings.lpips_heads:
                raise
            self.missing["lpips"] = f"{error}; or give both files with --lpips-backbone and --lpips-heads"

    def __call__(self, output: Tensor, truth: Tensor) -> Tensor:
        """The figures of one pair.

        Args:
            output, truth: (C, H, W) in [-1, 1], of one shape.

        Returns:
            (6,) float64 on the CPU, in the order of `NAMES`: psnr in dB, infinite for equal images; l1 as a share of
            the whole range; sharpness as the ratio of Laplacian energies. NaN for what `UNMEASURED` explains.

        Raises:
            InputError: the border leaves nothing, or brightness is asked of other than RGB images.
        """
        border = self.settings.crop_border
        if min(truth.shape[1:]) <= 2 * border:
            raise InputError(f"--crop-border {border} leaves nothing of images {tuple(truth.shape[1:])}; crop less")
        inner = slice(border, -border or None)
        pair = [image[None, :, inner, inner] for image in (output, truth)]
        shares = [(image + 1) / 2 for image in pair]
        if self.settings.y_channel:
            shares = [luma(share) for share in shares]
        smallest_px = min(pair[1].shape[2:])
        exact = [share.double() if share.device.type != "mps" else share for share in shares]
        measured = {"psnr": psnr(*exact), "l1": l1(*exact)}
        if smallest_px >= WINDOW_PX:
            measured["ssim"] = ssim(*shares)
        if smallest_px >= MS_SSIM_SMALLEST_PX:
            measured["ms_ssim"] = ms_ssim(*shares)
        if self._lpips is not None and len(truth) == 3 and smallest_px >= self._lpips.smallest_px:
            measured["lpips"] = self._lpips(*pair)
        if smallest_px >= SMALLEST_SHARP_PX:
            energy, real_energy = map(laplacian_energy, pair)
            measured["sharpness"] = torch.where(real_energy > FLAT, energy / real_energy, torch.nan)
        return torch.tensor([measured[name].item() if name in measured else torch.nan for name in NAMES]).double()


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of images, and the figures of each.

    Attributes:
        generated, real: those that were compared, in one order; at most as many as `Describing` keeps.
        found: how many pairs there are.
        values: by name (N,) float64; NaN for what `UNMEASURED` explains.
        missing: figures that cannot be had of any pair, by name: why, and how to get them.
    """

    generated: ImageSet
    real: ImageSet
    found: int
    values: Mapping[str, Tensor]
    missing: Mapping[str, str]


def compare_pairs(generated: ImageSet, real: ImageSet, *, settings: PairSettings, describing: Describing) -> Pairs:
    """Measure all pairs of images with equal names.

    Raises:
        InputError: there are none, or the sizes of a pair differ.
    """
    outputs, truths = generated.matched(real)
    if not len(outputs):
        raise InputError(
            f"no image in {generated.root} is called like one in {real.root} (such as {generated.names[0]} and "
            f"{real.names[0]}); pairs need equal names"
        )
    difference = size_difference(outputs, truths)
    if difference is not None:
        raise InputError(difference)
    meter = PairMeter(settings, device=describing.device)
    described = describing.of(outputs, _PairDescriber(meter, truths), what="pairs")
    compared = described.indices["figures"]
    rows = described.rows["figures"]
    return Pairs(
        generated=outputs.subset(compared),
        real=truths.subset(compared),
        found=len(outputs),
        values={name: rows[:, place] for place, name in enumerate(NAMES)},
        missing=meter.missing,
    )


def pair_findings(
    generated: ImageSet,
    real: ImageSet,
    *,
    settings: PairSettings,
    describing: Describing,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Findings:
    """Means over all pairs of images with equal names, and pictures of the worst, median and best ones.

    Args:
        generated, real: the images, of which each has a partner in the other set or does not count.
        settings: how they are compared.
        describing: reads them.
        replicates, seed: of the samples that intervals come from.

    Raises:
        InputError: there are no pairs, or the sizes of one differ.
    """
    pairs = compare_pairs(generated, real, settings=settings, describing=describing)
    means = mean_findings(pairs.values, missing=pairs.missing, what="pairs", replicates=replicates, seed=seed)
    warnings = []
    if pairs.found < len(generated):
        warnings.append(
            f"{len(generated) - pairs.found} of {len(generated)} generated images have no real image of the same name; "
            "figures of pairs leave them out"
        )
    if len(pairs.generated) < pairs.found:
        warnings.append(f"figures of pairs are over {len(pairs.generated)} of {pairs.found}, evenly spread")
    images = {
        image: {name: value for name, values in pairs.values.items() if (value := values[place].item()) == value}
        for place, image in enumerate(pairs.generated.names)
    }
    equal = int(pairs.values["psnr"].isinf().sum())
    return means | Findings(
        warnings=tuple(warnings),
        pictures=_pictures(pairs),
        details={"pairs": {"count": pairs.found, "equal": equal, "images": images}},
    )


def mean_findings(
    values: Mapping[str, Tensor], *, missing: Mapping[str, str], what: str, replicates: int | None, seed: int = 0
) -> Findings:
    """The means of what a `PairMeter` has measured, and what is to be said of pairs that do not count.

    Args:
        values: by name (N,); NaN for what `UNMEASURED` explains.
        missing: what is missing anyway, by name: why.
        what: what was measured, "pairs" or "frames".
        replicates, seed: of the samples that intervals come from; None: no intervals.
    """
    figures, missing, warnings = {}, dict(missing), []
    for name, column in values.items():
        count, measured = len(column), int((~column.isnan()).sum())
        if measured:
            figures[name] = mean_figure(column, replicates=replicates, seed=seed)
        elif name not in missing:
            missing[name] = UNMEASURED[name]
        if 0 < measured < count:
            warnings.append(f"{name} is over {measured} of {count} {what}: {UNMEASURED[name]}")
    equal, count = int(values["psnr"].isinf().sum()), len(values["psnr"])
    if equal:
        rest = "" if equal == count else "; psnr, infinite for these, is the mean over the others"
        warnings.append(f"{equal} of {count} {what} are equal to the last bit{rest}")
    return Findings(figures=figures, missing=missing, warnings=tuple(warnings))


def mean_figure(values: Tensor, *, replicates: int | None, seed: int = 0) -> Figure:
    """The mean of those values that are finite, with its interval if there are two; infinite where none is.

    Args:
        values: (N,), of which one at least is not NaN.
        replicates, seed: of the samples that the interval comes from; None: no interval.
    """
    finite = values[values.isfinite()]
    if not len(finite):
        return Figure(value=torch.inf, images=int(values.isinf().sum()))
    if replicates is None or len(finite) == 1:
        return Figure(value=finite.mean().item(), images=len(finite))
    low, high = bootstrap_mean(finite, replicates=replicates, seed=seed)
    return Figure(value=finite.mean().item(), low=low, high=high, images=len(finite))


def size_difference(outputs: ImageSet, truths: ImageSet) -> str | None:
    """A sentence about the first pair whose sizes or channels differ, as their files say; None where there is none."""

    def sizes(images: ImageSet) -> list[tuple[int, int, int]]:
        with ThreadPoolExecutor() as pool:
            headers: list[ImageHeader] = list(pool.map(read_header, images.files))
        # Grey is taken as RGB, and transparency left out.
        return [
            (
                header.width // (1 + (images.half is not None)),
                header.height,
                {1: 3, 2: 3, 4: 3}.get(header.channels, header.channels),
            )
            for header in headers
        ]

    for one, other, output, truth in zip(sizes(outputs), sizes(truths), outputs.files, truths.files, strict=True):
        if one != other:
            first, second = (
                f"{width} x {height} px of {channels} channels" for width, height, channels in (one, other)
            )
            return f"{output} has {first}, {truth} {second}; expected pairs of one size: resize one side, or cut it"
    return None


class _PairDescriber:
    """Compares each generated image with the real one of the same index."""

    def __init__(self, meter: PairMeter, real: ImageSet) -> None:
        self.rows: Mapping[str, torch.dtype] = {"figures": torch.float64}
        self.moments: Mapping[str, int] = {}
        self.key = repr((meter.settings, real))
        self._meter = meter
        self._real = real

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        # One by one, for what lies in the processor's cache is measured in half the time.
        figures = [
            self._meter(image, self._real.read(index).to(image.device))
            for image, index in zip(images, indices, strict=True)
        ]
        return {"figures": torch.stack(figures)}


def _pictures(pairs: Pairs) -> dict[str, dict[str, Tensor]]:
    """The worst, median and best pairs, by the figure that is nearest to what people see."""
    by = next(name for name in ("lpips", "ssim", "psnr") if not pairs.values[name].isnan().any())
    worst_first = pairs.values[by].argsort(stable=True, descending=by == "lpips").tolist()
    count = len(worst_first)
    middle = (count - SHOWN) // 2
    shown = {
        "Worst": worst_first[:SHOWN],
        "Median": worst_first[middle : middle + SHOWN],
        "Best": worst_first[: -SHOWN - 1 : -1],
    }
    if count < 3 * SHOWN:
        shown = {"All": worst_first}
    names = pairs.generated.names
    return {
        f"{which} pairs by {by}: {', '.join(names[place] for place in places)}": _columns(pairs, places)
        for which, places in shown.items()
    }


def _columns(pairs: Pairs, places: Sequence[int]) -> dict[str, Tensor]:
    generated, real = ([images.read(place) for place in places] for images in (pairs.generated, pairs.real))
    differences = [(one - other).abs() - 1 for one, other in zip(generated, real, strict=True)]
    return {"generated": alike(generated), "real": alike(real), "difference": alike(differences)}
