"""How near generated images come to the very images that they should be: figures of pairs with equal names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from i2i.errors import InputError, MissingWeights
from i2i.evaluation.describing import Describing
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.pages import alike
from i2i.metrics.image import MS_SSIM_SMALLEST_PX, WINDOW_PX, PairMetric, pair_figures
from i2i.metrics.intervals import REPLICATES, bootstrap_mean
from i2i.metrics.perceptual import Lpips, load_lpips

NAMES: tuple[PairMetric, ...] = ("psnr", "ssim", "ms_ssim", "l1", "lpips", "sharpness")
# Why a figure of a pair is NaN.
UNMEASURED = {
    "ssim": f"it needs images of at least {WINDOW_PX} px within the border",
    "ms_ssim": f"it needs images of at least {MS_SSIM_SMALLEST_PX} px within the border for its five scales",
    "lpips": "it needs images of three channels and at least 31 px (16 px by --lpips vgg)",
    "sharpness": "there is no detail in the real images to compare with",
}
OF_BRIGHTNESS = ("psnr", "ssim", "ms_ssim", "l1")  # by --y-channel
SHOWN = 4  # pairs in each picture
SMALLEST_SHARP_PX = 3


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

    def how(self, name: str) -> str:
        """How the figure of this name is measured, where that is not the usual way; else ""."""
        ways = [
            *(["of brightness"] if self.y_channel and name in OF_BRIGHTNESS else []),
            *(["by VGG"] if self.lpips == "vgg" and name == "lpips" else []),
            *([f"{self.crop_border} px at each border left out"] if self.crop_border else []),
        ]
        return "; ".join(ways)


class PairMeter:
    """Measures pairs of images; may be called from several threads.

    Args:
        settings: how.
        device: where the images are.

    Attributes:
        missing: figures that cannot be had of any pair, by name: why, and how to get them.
        hints: what kept this machine from fetching weights.

    Raises:
        InputError: a border below 0, or a file with weights that cannot be used.
    """

    def __init__(self, settings: PairSettings, *, device: torch.device | str = "cpu") -> None:
        if settings.crop_border < 0:
            raise InputError(f"--crop-border: expected at least 0 px, got {settings.crop_border}")
        self.settings = settings
        self.missing: dict[str, str] = {}
        self.hints: tuple[str, ...] = ()
        self._lpips: Lpips | None = None
        if settings.lpips == "off":
            self.missing["lpips"] = "switched off (--lpips off)"
            return
        try:
            lpips = load_lpips(settings.lpips, backbone_path=settings.lpips_backbone, heads_path=settings.lpips_heads)
            self._lpips = lpips.to(device)
        except MissingWeights as error:
            self.missing["lpips"] = f"{error.reason}; files are given with --lpips-backbone and --lpips-heads"
            self.hints = (error.here,)

    def __call__(self, output: Tensor, truth: Tensor) -> Tensor:
        """The figures of each pair.

        Args:
            output, truth: (N, C, H, W) in [-1, 1].

        Returns:
            (N, 6) float64 on the CPU, in the order of `NAMES`: psnr in dB, infinite for equal images; l1 as a share of
            the whole range; sharpness as the ratio of Laplacian energies. NaN for what `UNMEASURED` explains.

        Raises:
            InputError: the border leaves nothing, or brightness is asked of other than RGB images.
        """
        self.check(truth)
        border = self.settings.crop_border
        inner = slice(border, -border or None)
        pair = [images[..., inner, inner] for images in (output, truth)]
        size_px = min(pair[1].shape[2:])
        measurable = {
            "ssim": size_px >= WINDOW_PX,
            "ms_ssim": size_px >= MS_SSIM_SMALLEST_PX,
            "lpips": self._lpips is not None and truth.shape[1] == 3 and size_px >= self._lpips.smallest_px,
            "sharpness": size_px >= SMALLEST_SHARP_PX,
        }
        names = [name for name in NAMES if measurable.get(name, True)]
        found = pair_figures(*pair, names=names, y_channel=self.settings.y_channel, lpips=self._lpips)
        unmeasured = torch.full((len(truth),), torch.nan)
        return torch.stack([found.get(name, unmeasured).cpu().double() for name in NAMES], dim=1)

    def check(self, images: Tensor) -> None:
        """Raises InputError where images such as these (N, C, H, W) cannot be compared."""
        border, (height, width) = self.settings.crop_border, images.shape[2:]
        if min(height, width) <= 2 * border:
            raise InputError(f"--crop-border {border} leaves nothing of images of {width} x {height} px; crop less")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of images, and the figures of each.

    Attributes:
        generated, real: the images, in one order.
        values: by name (N,) float64; NaN for what `UNMEASURED` explains.
        others: a sentence about pairs that differ in size, which do not count; "" if there are none.
    """

    generated: ImageSet
    real: ImageSet
    values: Mapping[str, Tensor]
    others: str


def compare_pairs(generated: ImageSet, real: ImageSet, *, meter: PairMeter, describing: Describing) -> Pairs:
    """Measure all pairs of images with equal names and sizes.

    Args:
        generated, real: the images, of which each has a partner in the other set or does not count.
        meter: measures each pair, on the device of `describing`.
        describing: reads them.

    Raises:
        InputError: there are none.
    """
    outputs, truths, others = pairs_of_one_size(generated, real)
    if not len(outputs):
        raise InputError(f"there are no pairs of generated and real images: {others or generated.unmatched(real)}")
    rows = describing.of(outputs, _PairDescriber(meter, truths), what="pairs", kept=None).rows["figures"]
    values: dict[str, Tensor] = {name: rows[:, place] for place, name in enumerate(NAMES)}
    return Pairs(generated=outputs, real=truths, values=values, others=others)


def pairs_of_one_size(generated: ImageSet, real: ImageSet) -> tuple[ImageSet, ImageSet, str]:
    """The generated and the real images with equal names and sizes, and what `Pairs.others` says."""
    outputs, truths = generated.matched(real)
    sizes = [*zip(outputs.sizes(), truths.sizes(), strict=True)]
    fitting = [place for place, (one, other) in enumerate(sizes) if one == other]
    if len(fitting) == len(sizes):
        return outputs, truths, ""
    first = next(place for place, (one, other) in enumerate(sizes) if one != other)
    mine, theirs = (f"{width} x {height} px" for height, width in sizes[first])
    others = (
        f"{len(sizes) - len(fitting)} of {len(sizes)} pairs differ in size ({outputs.files[first]} has {mine}, "
        f"{truths.files[first]} {theirs}); resize one side, cut it, or give --fit if generated images show the middle "
        "of real ones"
    )
    return outputs.subset(fitting), truths.subset(fitting), others


def pair_findings(
    generated: ImageSet,
    real: ImageSet,
    *,
    meter: PairMeter,
    describing: Describing,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Findings:
    """Means over all pairs of images with equal names and sizes, and pictures of the worst, median and best ones.

    Args:
        generated, real, meter, describing: as for `compare_pairs`.
        replicates, seed: of the samples that intervals come from.

    Raises:
        InputError: there are no pairs.
    """
    pairs = compare_pairs(generated, real, meter=meter, describing=describing)
    means = mean_findings(pairs.values, meter=meter, what="pairs", replicates=replicates, seed=seed)
    warnings = []
    if left_out := generated.unmatched(real):
        warnings.append(f"figures of pairs leave generated images out: {left_out}")
    if pairs.others:
        warnings.append(f"figures of pairs leave some out: {pairs.others}")
    images = {
        image: {name: value for name, values in pairs.values.items() if (value := values[place].item()) == value}
        for place, image in enumerate(pairs.generated.names)
    }
    equal = int(pairs.values["psnr"].isinf().sum())
    return means | Findings(
        warnings=tuple(warnings),
        pictures=_pictures(pairs),
        details={"pairs": {"count": len(pairs.generated), "equal": equal, "images": images}},
    )


def mean_findings(
    values: Mapping[str, Tensor], *, meter: PairMeter, what: str, replicates: int | None, seed: int = 0
) -> Findings:
    """The means of what a `PairMeter` has measured, and what is to be said of pairs that do not count.

    Args:
        values: by name (N,); NaN for what `UNMEASURED` explains.
        meter: that measured them.
        what: what was measured, "pairs" or "frames".
        replicates, seed: of the samples that intervals come from; None: no intervals.
    """
    figures, missing, warnings = {}, dict(meter.missing), []
    for name, column in values.items():
        count, measured = len(column), int((~column.isnan()).sum())
        if measured:
            mean = mean_figure(column, replicates=replicates, seed=seed)
            figures[name] = replace(mean, how=meter.settings.how(name))
        elif name not in missing:
            missing[name] = UNMEASURED[name]
        if 0 < measured < count:
            warnings.append(f"{name} is over {measured} of {count} {what}: {UNMEASURED[name]}")
    equal, count = int(values["psnr"].isinf().sum()), len(values["psnr"])
    if equal:
        rest = "" if equal == count else "; psnr, infinite for these, is the mean over the others"
        warnings.append(f"{equal} of {count} {what} are equal to the last bit{rest}")
    return Findings(figures=figures, missing=missing, hints=meter.hints, warnings=tuple(warnings))


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


class _PairDescriber:
    """Compares each generated image with the real one of the same index."""

    def __init__(self, meter: PairMeter, real: ImageSet) -> None:
        self.rows: Mapping[str, torch.dtype] = {"figures": torch.float64}
        self.moments: Mapping[str, int] = {}
        self.key = repr((meter.settings, real))
        self._meter = meter
        self._real = real

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        truths = [self._real.read(index) for index in indices]
        for index, truth in zip(indices, truths, strict=True):
            if truth.shape != images.shape[1:]:
                raise InputError(
                    f"{self._real.files[index]} has {len(truth)} channels, and the generated image of its name "
                    f"{images.shape[1]}; expected pairs of one kind"
                )
        # A large one without a copy.
        truth = truths[0][None] if len(truths) == 1 else torch.stack(truths)
        truths.clear()
        return {"figures": self._meter(images, truth.to(images.device))}


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
    generated, real = pairs.generated, pairs.real
    differences = [alike([(generated.read(place) - real.read(place)).abs() - 1])[0] for place in places]
    strongest = torch.quantile(torch.cat([image.flatten() + 1 for image in differences]), 0.999).item() / 2
    # Small ones would be black.
    times = next(times for times in (64, 32, 16, 8, 4, 2, 1) if times * strongest <= 1 or times == 1)
    return {
        "generated": alike(generated.read(place) for place in places),
        "real": alike(real.read(place) for place in places),
        "difference" + (f" x{times}" if times > 1 else ""): alike((image + 1) * times - 1 for image in differences),
    }
