"""Files of ESRGAN, Real-ESRGAN and BasicSR.

Generators: RRDB networks in three namings, MSRResNet, the compact network. Discriminators: VGG-style in two namings,
U-Net.
"""

import math
import re
from itertools import count

import torch

from i2i.checkpoints.layouts.layout import Family, Finding, Layout, MissingTensor, WeightFile, spectral_keys
from i2i.discriminators import UNetDiscriminator, VGGDiscriminator
from i2i.generators import CompactGenerator, MSRResNetGenerator, RRDBGenerator


def _recognise_old_rrdb(file: WeightFile) -> Layout | None:
    if not file.has("model.1.sub.0.RDB1."):
        return None
    # In the sequence an enlarging step takes three places, and two lie between the last convolutions.
    numbers = [int(key.split(".")[1]) for key in file.tensors if re.fullmatch(r"model\.\d+\.\w+", key)]
    ups = (max(numbers, default=4) - 4) // 3
    blocks = file.count("model.1.sub.") - 1
    return _rrdb(
        file,
        family=OLD_RRDB,
        dense="model.1.sub.{block}.RDB{dense}",
        suffix=".0",
        blocks=blocks,
        modules={
            "stem": "model.0",
            "trunk": f"model.1.sub.{blocks}",
            **{f"up.{number}": f"model.{3 * number + 3}" for number in range(ups)},
            "refine": f"model.{3 * ups + 2}",
            "head": f"model.{3 * ups + 4}",
        },
    )


def _recognise_2018_rrdb(file: WeightFile) -> Layout | None:
    if not file.has("RRDB_trunk.0.RDB1."):
        return None
    return _rrdb(
        file,
        family=RRDB_2018,
        dense="RRDB_trunk.{block}.RDB{dense}",
        suffix="",
        blocks=file.count("RRDB_trunk."),
        modules={
            "stem": "conv_first",
            "trunk": "trunk_conv",
            **{f"up.{number}": f"upconv{number + 1}" for number in range(file.count("upconv", start=1))},
            "refine": "HRconv",
            "head": "conv_last",
        },
    )


def _recognise_basicsr_rrdb(file: WeightFile) -> Layout | None:
    if not file.has("body.0.rdb1."):
        return None
    return _rrdb(
        file,
        family=BASICSR_RRDB,
        dense="body.{block}.rdb{dense}",
        suffix="",
        blocks=file.count("body."),
        modules={
            "stem": "conv_first",
            "trunk": "conv_body",
            **{f"up.{number}": f"conv_up{number + 1}" for number in range(file.count("conv_up", start=1))},
            "refine": "conv_hr",
            "head": "conv_last",
        },
    )


def _rrdb(file: WeightFile, *, family: str, dense: str, suffix: str, blocks: int, modules: dict[str, str]) -> Layout:
    """The layout of an RRDB network.

    Args:
        dense: the file's name of dense block {dense}, from 1 on, in block {block}.
        suffix: what follows the name of a convolution in it.
        modules: our convolution outside the blocks → the file's.
    """
    first = dense.format(block=0, dense=1)
    plus = file.has(f"{first}.conv1x1.")
    keys = _conv_keys(modules)
    for block in range(blocks):
        for number in range(3):
            ours, theirs = f"blocks.{block}.dense.{number}", dense.format(block=block, dense=number + 1)
            keys |= _conv_keys({f"{ours}.convs.{conv}": f"{theirs}.conv{conv + 1}{suffix}" for conv in range(5)})
            if plus:
                keys[f"{ours}.skip.weight"] = f"{theirs}.conv1x1.weight"
    ups = sum(name.startswith("up.") for name in modules)
    return Layout(
        family=family,
        network=RRDBGenerator,
        findings=(
            *_rrdb_sizes(file, stem=f"{modules['stem']}.weight", head=f"{modules['head']}.weight", ups=ups),
            file.finding("width", f"{modules['stem']}.weight", 0),
            file.finding("growth", f"{first}.conv1{suffix}.weight", 0),
            Finding(name="blocks", value=blocks, source=f"{blocks} dense blocks such as {first} follow each other"),
            Finding(name="plus", value=plus, source=f"{first} has {'a' if plus else 'no'} conv1x1, which ESRGAN+ adds"),
        ),
        keys=keys,
    )


def _rrdb_sizes(file: WeightFile, *, stem: str, head: str, ups: int) -> tuple[Finding, ...]:
    outputs = file.finding("out_channels", head, 0)
    inputs = file.finding("in_channels", stem, 1)
    unshuffle = next((f for f in (2, 4) if inputs.value == outputs.value * f**2 and 2**ups % f == 0), 1)
    enlarged = f"{ups} convolutions follow an enlargement"
    if unshuffle > 1:
        folded = (
            f"a guess: {stem} takes {inputs.value} channels, which is {unshuffle}² times the {outputs.value} that come "
            f"out, as where Real-ESRGAN folds pixels into channels; otherwise in_channels={inputs.value}, "
            f"unshuffle=1, scale={2**ups}"
        )
        return (
            Finding(name="in_channels", value=outputs.value, source=folded, certain=False),
            outputs,
            Finding(name="unshuffle", value=unshuffle, source=folded, certain=False),
            Finding(name="scale", value=2**ups // unshuffle, source=f"{enlarged}; the rest is a guess", certain=False),
        )
    source = f"{enlarged}, by 2 each"
    if ups == 1:
        source = f"a guess: {enlarged}, by 2 rather than by 3"
    return (
        inputs,
        outputs,
        Finding(name="unshuffle", value=1, source=f"{stem} takes {inputs.value} channels, {outputs.value} come out"),
        Finding(name="scale", value=2**ups, source=source, certain=ups != 1),
    )


def _recognise_compact(file: WeightFile) -> Layout | None:
    if not (file.is_conv("body.0") and file.is_conv("body.2")) or file.has("conv_first."):
        return None
    last = 2 * file.count("body.", step=2) - 2
    slopes = range(1, last, 2)
    learnt = any(file.has(f"body.{number}.") for number in slopes)
    inputs = file.finding("in_channels", "body.0.weight", 1)
    made = file.finding("out_channels", f"body.{last}.weight", 0).value
    # The input is added to the output, so that as many channels come out as go in, unless one goes in.
    outputs = inputs.value
    if outputs == 1 and math.isqrt(made) ** 2 != made:
        outputs = 3
    scale = math.isqrt(made // outputs) if outputs else 0
    source = f"body.{last} makes {made} channels, {scale}² times {outputs}"
    return Layout(
        family=COMPACT,
        network=CompactGenerator,
        findings=(
            inputs,
            Finding(name="out_channels", value=outputs, source=source, certain=outputs == inputs.value),
            file.finding("width", "body.0.weight", 0),
            Finding(name="convs", value=last // 2 - 1, source=f"the last convolution is body.{last}"),
            Finding(name="scale", value=scale, source=source),
            Finding(
                name="activation",
                value="prelu" if learnt else "relu",
                source="activations have weights, as only PReLU has"
                if learnt
                else 'a guess: activations have no weights, nor would "leaky_relu"',
                certain=learnt,
            ),
        ),
        keys=_conv_keys({f"body.{number}": f"body.{number}" for number in range(0, last + 1, 2)})
        | {f"body.{number}.weight": f"body.{number}.weight" for number in slopes if learnt},
    )


def _recognise_msrresnet(file: WeightFile) -> Layout | None:
    namings = (("body", "conv_hr"), ("recon_trunk", "HRconv"))
    body, refine = next((n for n in namings if file.is_conv(f"{n[0]}.0.conv1") and file.has(f"{n[1]}.")), ("", ""))
    if not body:
        return None
    blocks, ups = file.count(f"{body}."), file.count("upconv", start=1)
    modules = {"stem.0": "conv_first", "refine.0": refine, "head": "conv_last"}
    for block in range(blocks):
        modules[f"blocks.{block}.first"] = f"{body}.{block}.conv1"
        modules[f"blocks.{block}.second"] = f"{body}.{block}.conv2"
    modules |= {f"up.{number}.conv": f"upconv{number + 1}" for number in range(ups)}
    return Layout(
        family=MSRRESNET,
        network=MSRResNetGenerator,
        findings=(
            file.finding("in_channels", "conv_first.weight", 1),
            file.finding("out_channels", "conv_last.weight", 0),
            file.finding("width", "conv_first.weight", 0),
            Finding(name="blocks", value=blocks, source=f"{blocks} blocks such as {body}.0 follow each other"),
            shuffled_scale(file, [f"upconv{number + 1}" for number in range(ups)]),
        ),
        keys=_conv_keys(modules),
    )


def shuffled_scale(file: WeightFile, convs: list[str]) -> Finding:
    """The scale, by how many times more channels come out of the convolutions before pixel shuffles than go in."""
    factors = []
    for conv in convs:
        shape = file.shape(f"{conv}.weight")
        if len(shape) < 2 or not shape[1]:
            raise MissingTensor(f"{conv}.weight")
        factors.append(math.isqrt(shape[0] // shape[1]))
    shapes = ", ".join(f"{conv} by {factor}" for conv, factor in zip(convs, factors, strict=True))
    return Finding(name="scale", value=math.prod(factors), source=f"enlarged after {shapes}" if convs else "no upconv")


def _recognise_old_vgg(file: WeightFile) -> Layout | None:
    if not (file.is_conv("features.0") and file.has("features.3.running_mean")):
        return None
    normed = file.count("features.", start=2, step=3)
    return _vgg(
        file,
        family=OLD_VGG,
        convs=["features.0", *(f"features.{3 * number + 2}" for number in range(normed))],
        norms=[f"features.{3 * number + 3}" for number in range(normed)],
        hidden="classifier.0",
        score="classifier.2",
    )


def _recognise_basicsr_vgg(file: WeightFile) -> Layout | None:
    if not (file.is_conv("conv0_0") and file.has("bn0_1.running_mean")):
        return None
    halvings = next(number for number in count() if not file.has(f"conv{number}_0."))
    places = [f"{number}_{place}" for number in range(halvings) for place in (0, 1)]
    return _vgg(
        file,
        family=BASICSR_VGG,
        convs=[f"conv{place}" for place in places],
        norms=[f"bn{place}" for place in places[1:]],
        hidden="linear1",
        score="linear2",
    )


def _vgg(file: WeightFile, *, family: str, convs: list[str], norms: list[str], hidden: str, score: str) -> Layout:
    """The layout of a VGG-style discriminator.

    Args:
        convs: the file's convolutions, in order.
        norms: of each convolution but the first.
        hidden: the first linear layer.
        score: the second.
    """
    keys = _conv_keys({"blocks.0.0": convs[0], "head.1": hidden, "head.3": score})
    defaults, subtracted = {}, {}
    for number, (conv, norm) in enumerate(zip(convs[1:], norms, strict=True), start=1):
        keys[f"blocks.{number}.0.weight"] = f"{conv}.weight"
        for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            keys[f"blocks.{number}.1.{leaf}"] = f"{norm}.{leaf}"
        defaults[f"blocks.{number}.1.num_batches_tracked"] = torch.zeros
        if f"{convs[1]}.bias" in file.tensors:
            subtracted[f"blocks.{number}.1.running_mean"] = f"{conv}.bias"

    channels = file.finding("channels", f"{convs[-1]}.weight", 0).value
    values = file.finding("values", f"{hidden}.weight", 1).value
    side_px, halvings = math.isqrt(values // max(1, channels)), len(convs) // 2
    source = f"after {halvings} halvings, {hidden} takes {values} values: {channels} channels of {side_px}² px"
    return Layout(
        family=family,
        network=VGGDiscriminator,
        findings=(
            file.finding("in_channels", f"{convs[0]}.weight", 1),
            file.finding("width", f"{convs[0]}.weight", 0),
            Finding(name="size_px", value=side_px * 2**halvings, source=source),
        ),
        keys=keys,
        defaults=defaults,
        subtracted=subtracted,
    )


def _recognise_unet_discriminator(file: WeightFile) -> Layout | None:
    if not (file.is_conv("conv0") and file.has("conv1.weight_orig") and file.has("conv8.weight_orig")):
        return None
    normalised = [
        f"{part}.{number}" for part, parts in (("down", 3), ("up", 3), ("refine", 2)) for number in range(parts)
    ]
    keys = _conv_keys({"stem": "conv0", "head": "conv9"})
    for number, ours in enumerate(normalised, start=1):
        keys |= spectral_keys(ours, f"conv{number}")
    return Layout(
        family=UNET_DISCRIMINATOR,
        network=UNetDiscriminator,
        findings=(
            file.finding("in_channels", "conv0.weight", 1),
            file.finding("width", "conv0.weight", 0),
            Finding(name="skips", value=True, source="a guess, for they leave no tensors: as published", certain=False),
        ),
        keys=keys,
    )


def _conv_keys(modules: dict[str, str]) -> dict[str, str]:
    return {f"{ours}.{leaf}": f"{theirs}.{leaf}" for ours, theirs in modules.items() for leaf in ("weight", "bias")}


OLD_RRDB = "ESRGAN generator of the first layout"
RRDB_2018 = "ESRGAN generator of the 2018 layout"
BASICSR_RRDB = "ESRGAN generator of BasicSR and Real-ESRGAN"
COMPACT = "Real-ESRGAN compact generator"
MSRRESNET = "BasicSR MSRResNet generator"
OLD_VGG = "ESRGAN VGG-style discriminator of the first layout"
BASICSR_VGG = "ESRGAN VGG-style discriminator of BasicSR"
UNET_DISCRIMINATOR = "Real-ESRGAN U-Net discriminator"

_LEAF = r"\.(weight|bias)"
_NORM_LEAF = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"

FAMILIES = (
    Family(
        name=OLD_RRDB,
        pattern=rf"model\.(\d+|1\.sub\.\d+(\.RDB[123]\.conv([1-5]\.0|1x1))?){_LEAF}",
        recognise=_recognise_old_rrdb,
    ),
    Family(
        name=RRDB_2018,
        pattern=rf"(conv_first|RRDB_trunk\.\d+\.RDB[123]\.conv([1-5]|1x1)|trunk_conv|upconv\d|HRconv|conv_last){_LEAF}",
        recognise=_recognise_2018_rrdb,
    ),
    Family(
        name=BASICSR_RRDB,
        pattern=rf"(conv_first|body\.\d+\.rdb[123]\.conv([1-5]|1x1)|conv_body|conv_up\d|conv_hr|conv_last){_LEAF}",
        recognise=_recognise_basicsr_rrdb,
    ),
    Family(
        name=MSRRESNET,
        pattern=rf"(conv_first|(body|recon_trunk)\.\d+\.conv[12]|upconv\d|conv_hr|HRconv|conv_last){_LEAF}",
        recognise=_recognise_msrresnet,
    ),
    Family(name=COMPACT, pattern=rf"body\.\d+{_LEAF}", recognise=_recognise_compact),
    Family(
        name=OLD_VGG,
        pattern=rf"features\.\d+{_NORM_LEAF}|classifier\.[02]{_LEAF}",
        recognise=_recognise_old_vgg,
    ),
    Family(
        name=BASICSR_VGG,
        pattern=rf"conv\d_[01]{_LEAF}|bn\d_[01]{_NORM_LEAF}|linear[12]{_LEAF}",
        recognise=_recognise_basicsr_vgg,
    ),
    Family(
        name=UNET_DISCRIMINATOR,
        pattern=r"conv[09]\.(weight|bias)|conv[1-8]\.weight_(orig|u|v)",
        recognise=_recognise_unet_discriminator,
    ),
)
