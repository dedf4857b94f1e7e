"""Files of pytorch-CycleGAN-and-pix2pix: U-Net generators, PatchGAN and PixelGAN discriminators.

Its ResNet generator is in `resnet`, with those of its descendants.

A convolution beside a norm has a bias in such files only when the norm is instance norm, which leaves no tensors of
its own. Ours has none there, since the norm subtracts it again.
"""

import torch
from torch import nn

from i2i.checkpoints.layouts.layout import Family, Finding, Layout, WeightFile
from i2i.discriminators import PatchDiscriminator, PixelDiscriminator
from i2i.generators import UNetGenerator


def _recognise_unet(file: WeightFile) -> Layout | None:
    if not (file.is_conv("model.model.0") and file.has("model.model.1.model.")):
        return None
    # Each level lies within the one above it.
    levels = ["model.model.1"]
    while file.has(f"{levels[-1]}.model.3.model."):
        levels.append(f"{levels[-1]}.model.3")

    convs = {"down.0.0": "model.model.0", "head": "model.model.3"}
    norms = {}
    for down, level in enumerate(levels, start=1):
        up = len(levels) - down
        innermost = up == 0
        convs[f"down.{down}.0"] = f"{level}.model.1"
        convs[f"up.{up}.0"] = f"{level}.model.{3 if innermost else 5}"
        norms[f"up.{up}.1"] = f"{level}.model.{4 if innermost else 6}"
        if not innermost:
            norms[f"down.{down}.1"] = f"{level}.model.2"
    return make_layout(
        file,
        family=UNET,
        network=UNetGenerator,
        findings=(
            file.finding("in_channels", "model.model.0.weight", 1),
            file.finding("out_channels", "model.model.3.weight", 1),
            file.finding("width", "model.model.0.weight", 0),
            Finding(name="depth", value=1 + len(levels), source=f"{len(levels)} levels lie within the outermost"),
            Finding(
                name="dropout",
                value=True,
                source="a guess, for dropout leaves no tensors: pix2pix trains with it",
                certain=False,
            ),
        ),
        convs=convs,
        norms=norms,
        biased=("head",),
    )


def _recognise_patch(file: WeightFile) -> Layout | None:
    if not all(file.is_conv(module) for module in ("model.0", "model.2", "model.5")):
        return None
    layers = 1
    while file.has(f"model.{3 * layers + 5}."):
        layers += 1
    levels = range(1, layers + 1)
    return make_layout(
        file,
        family=PATCH,
        network=PatchDiscriminator,
        findings=(
            file.finding("in_channels", "model.0.weight", 1),
            file.finding("width", "model.0.weight", 0),
            Finding(name="layers", value=layers, source=f"the last convolution is model.{3 * layers + 2}"),
        ),
        convs={
            "blocks.0.0": "model.0",
            **{f"blocks.{level}.0": f"model.{3 * level - 1}" for level in levels},
            "head": f"model.{3 * layers + 2}",
        },
        norms={f"blocks.{level}.1": f"model.{3 * level}" for level in levels},
        biased=("blocks.0.0", "head"),
    )


def _recognise_pixel(file: WeightFile) -> Layout | None:
    if not all(file.is_conv(module) for module in ("net.0", "net.2", "net.5")):
        return None
    return make_layout(
        file,
        family=PIXEL,
        network=PixelDiscriminator,
        findings=(file.finding("in_channels", "net.0.weight", 1), file.finding("width", "net.0.weight", 0)),
        convs={"blocks.0.0": "net.0", "blocks.1.0": "net.2", "head": "net.5"},
        norms={"blocks.1.1": "net.3"},
        biased=("blocks.0.0",),
    )


def make_layout(
    file: WeightFile,
    *,
    family: str,
    network: type[nn.Module],
    findings: tuple[Finding, ...],
    convs: dict[str, str],
    norms: dict[str, str],
    biased: tuple[str, ...],
) -> Layout:
    """The layout of a network whose convolutions have biases as this project, or pix2pixHD, gives them.

    pix2pixHD keeps them before batch norm too, where all they do is to move the mean.

    Args:
        convs, norms: our module's name → the file's.
        biased: our names of the convolutions that have a bias in the file whatever the norm.
    """
    beside_norm = (f"{theirs}.bias" for ours, theirs in convs.items() if ours not in biased)
    bias = next((key for key in beside_norm if key in file.tensors), None)
    norm = _find_norm(file, norms, bias)
    has_bias = [ours for ours in convs if norm.value == "instance" or ours in biased]
    keys = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in convs.items()}
    keys |= {f"{ours}.bias": f"{convs[ours]}.bias" for ours in has_bias}
    defaults = {f"{ours}.bias": torch.zeros for ours in convs if ours not in has_bias}
    subtracted = {}
    ignored = {f"{convs[ours]}.bias" for ours in has_bias if _bias_fits(file, convs[ours])}
    for ours, theirs in norms.items():
        # PyTorch before 0.4 did not count batches, and saved statistics of instance norms that it did not use.
        defaults[f"{ours}.num_batches_tracked"] = torch.zeros
        statistics = {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in ("running_mean", "running_var")}
        counter = {f"{ours}.num_batches_tracked": f"{theirs}.num_batches_tracked"}
        if norm.value == "batch":
            affine = {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in ("weight", "bias")}
            keys |= affine | statistics | counter
            if bias:
                before, _, number = theirs.rpartition(".")
                subtracted[f"{ours}.running_mean"] = f"{before}.{int(number) - 1}.bias"
        else:
            ignored.update(statistics.values(), counter.values())
    return Layout(
        family=family,
        network=network,
        findings=(*findings, norm),
        keys=keys,
        defaults=defaults,
        subtracted=subtracted,
        ignored=frozenset(ignored),
    )


def _bias_fits(file: WeightFile, conv: str) -> bool:
    """Whether a bias is as long as the convolution's output: the weight's first dimension or, transposed, second."""
    bias, weight = (file.tensors.get(f"{conv}.{leaf}") for leaf in ("bias", "weight"))
    return bias is not None and weight is not None and bias.ndim == 1 and len(bias) in weight.shape[:2]


def _find_norm(file: WeightFile, norms: dict[str, str], bias: str | None) -> Finding:
    affine = next((f"{theirs}.weight" for theirs in norms.values() if f"{theirs}.weight" in file.tensors), None)
    if affine:
        return Finding(name="norm", value="batch", source=f"norms have weights, such as {affine}")
    if bias:
        return Finding(
            name="norm",
            value="instance",
            source=f"a guess, for instance norm leaves no tensors: there are biases beside norms, such as {bias}",
            certain=False,
        )
    return Finding(name="norm", value="none", source="norms have no weights, and convolutions beside them no biases")


UNET = "pix2pix U-Net generator"
PATCH = "pix2pix PatchGAN discriminator"
PIXEL = "pix2pix PixelGAN discriminator"

_LEAF = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

FAMILIES = (
    Family(
        name=UNET,
        pattern=rf"model\.model\.([03]|1(\.model\.3)*\.model\.[1-6])\.{_LEAF}",
        recognise=_recognise_unet,
    ),
    Family(name=PATCH, pattern=rf"model\.\d+\.{_LEAF}", recognise=_recognise_patch),
    Family(name=PIXEL, pattern=rf"net\.[0235]\.{_LEAF}", recognise=_recognise_pixel),
)
