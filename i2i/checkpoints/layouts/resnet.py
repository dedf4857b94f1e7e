"""Files of the residual generator as CycleGAN, CUT and pix2pixHD (its global one) have it.

All three put a stem, halvings, residual blocks ("conv_block"), doublings and a last convolution into one Sequential,
so that a layer's number says how many went before. CUT's blurs are layers too, and keep their filter in the file.
"""

import re
from dataclasses import replace

from i2i.checkpoints.layouts.junyanz import make_layout
from i2i.checkpoints.layouts.layout import Family, Finding, Layout, WeightFile
from i2i.errors import InputError
from i2i.generators import ResNetGenerator

CYCLEGAN = "CycleGAN ResNet generator"
CUT = "CUT ResNet generator"
PIX2PIXHD = "pix2pixHD global generator"
ENHANCER = "pix2pixHD local enhancer"


def _recognise(file: WeightFile) -> Layout | None:
    found = (re.match(r"model\.(\d+)\.conv_block\.", key) for key in file.tensors)
    numbers = {int(match[1]) for match in found if match}
    if not numbers or not file.is_conv("model.1"):
        return None
    first_block, blocks = min(numbers), len(numbers)
    antialias, bilinear = file.has("model.7.filt"), file.has(f"model.{first_block + blocks}.filt")
    downsamplings = (first_block - 4) // (4 if antialias else 3)
    dropout = file.is_conv(f"model.{first_block}.conv_block.6")
    second = 6 if dropout else 5

    convs, norms, blurs = {"stem.0": "model.1"}, {"stem.1": "model.2"}, {}
    layer = 4
    for level in range(downsamplings):
        convs[f"down.{level}.0"], norms[f"down.{level}.1"] = f"model.{layer}", f"model.{layer + 1}"
        layer += 3
        if antialias:
            blurs[f"model.{layer}.filt"] = 3
            layer += 1
    for block in range(blocks):
        theirs = f"model.{layer}.conv_block"
        convs |= {f"blocks.{block}.first.0": f"{theirs}.1", f"blocks.{block}.second.0": f"{theirs}.{second}"}
        norms |= {f"blocks.{block}.first.1": f"{theirs}.2", f"blocks.{block}.second.1": f"{theirs}.{second + 1}"}
        layer += 1
    for level in range(downsamplings):
        if bilinear:
            blurs[f"model.{layer}.filt"] = 4
            layer += 1
        convs[f"up.{level}.0{'.1' if bilinear else ''}"] = f"model.{layer}"
        norms[f"up.{level}.1"] = f"model.{layer + 1}"
        layer += 3
    convs["head"] = f"model.{layer + 1}"

    in_channels = file.finding("in_channels", "model.1.weight", 1)
    layout = make_layout(
        file,
        family=CUT if antialias or bilinear else CYCLEGAN,
        network=ResNetGenerator,
        findings=(
            in_channels,
            file.finding("out_channels", f"{convs['head']}.weight", 0),
            file.finding("width", "model.1.weight", 0),
            Finding(name="blocks", value=blocks, source=f"{blocks} conv_blocks from model.{first_block} on"),
            Finding(
                name="dropout",
                value=dropout,
                source=f"a block's second convolution is conv_block.{second}; dropout before it would make it 6",
            ),
            Finding(
                name="upsampling",
                value="bilinear" if bilinear else "transposed",
                source=f"a blur's filter {'follows' if bilinear else 'would follow'} the blocks",
            ),
            Finding(name="downsamplings", value=downsamplings, source=f"the first conv_block is model.{first_block}"),
            Finding(
                name="antialias",
                value=antialias,
                source=f"a blur's filter {'is' if antialias else 'would be'} model.7.filt",
            ),
        ),
        convs=convs,
        norms=norms,
        biased=("head",),
    )
    if layout.family == CYCLEGAN and (downsamplings != 2 or layout.subtracted):
        layout = replace(layout, family=PIX2PIXHD, findings=(*layout.findings, _guess_labels(in_channels.value)))
    # The filters are always the same; only of the right size they are left out unread.
    filters = {key for key, size in blurs.items() if file.shape(key)[1:] == (1, size, size)}
    return replace(layout, ignored=layout.ignored | filters)


def _guess_labels(channels: int) -> Finding:
    takes_labels = channels not in (1, 3)
    return Finding(
        name="takes_labels",
        value=takes_labels,
        source=f"a guess: {channels} channels are {'one-hot labels' if takes_labels else 'an image'}",
        certain=False,
    )


def _refuse_enhancer(file: WeightFile) -> None:
    if file.has("model1_1.") and file.has("model1_2."):
        raise InputError(
            f"{file.path} holds pix2pixHD's local enhancer, which i2i does not have; give the global generator that "
            "was trained before it (`--netG global`)"
        )


_LAYER = r"model\.\d+\.(conv_block\.\d\.)?(weight|bias|running_mean|running_var|num_batches_tracked)"

FAMILIES = (
    Family(name=ENHANCER, pattern=r"model(\d_[12])?\.\d+\..+", recognise=_refuse_enhancer),
    Family(name=CYCLEGAN, pattern=_LAYER, recognise=_recognise),
    Family(name=CUT, pattern=rf"{_LAYER}|model\.\d+\.filt", recognise=_recognise),
    Family(name=PIX2PIXHD, pattern=_LAYER, recognise=_recognise),
)
