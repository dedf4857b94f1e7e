"""Files of SRGAN's generator (Ledig et al. 2017), which has no official weights but many implementations.

They name its layers as they like, but make them in the order in which images pass through, and so they stand in a
.pth file. A .safetensors file is sorted in another way; there the names of two projects bring the order back:

- https://github.com/leftthomas/SRGAN: block1, block2 …, inside them conv1, bn1, prelu, conv2, bn2, or conv, prelu;
- https://github.com/Lornatang/SRGAN-PyTorch: conv1, trunk, conv2, upsampling, conv3, or conv_block1 ….
"""

import re

import torch

from i2i.checkpoints.layouts.esrgan import shuffled_scale
from i2i.checkpoints.layouts.layout import Family, Finding, Layout, WeightFile
from i2i.generators import SRResNetGenerator

SRGAN = "SRGAN generator"

_ORDER = ["conv", "conv1", "conv_block1", "bn1", "prelu", "trunk", "conv2", "conv_block2", "bn2", "upsampling"]


def _recognise(file: WeightFile) -> Layout | None:
    as_stored = list(dict.fromkeys(key.rpartition(".")[0] for key in file.tensors))
    for modules in (as_stored, sorted(as_stored, key=_place)):
        kinds = "".join(_kind(file, module) for module in modules)
        if match := re.fullmatch("cp((?:cnpcn)+)cn((?:cp)*)c", kinds):
            return _layout(file, modules, kinds, blocks=len(match[1]) // 5, ups=len(match[2]) // 2)
    return None


def _place(module: str) -> list[tuple[int, int]]:
    parts = module.split(".")
    places = [_ORDER.index(part) if part in _ORDER else len(_ORDER) for part in parts]
    numbers = [int(re.sub(r"\D", "", part) or 0) for part in parts]
    return list(zip(places, numbers, strict=True))


def _kind(file: WeightFile, module: str) -> str:
    """Convolution, norm, PReLU or something else, as a letter."""
    if file.is_conv(module):
        return "c"
    if f"{module}.running_mean" in file.tensors:
        return "n"
    slope = file.tensors.get(f"{module}.weight")
    return "p" if slope is not None and slope.ndim == 1 else "?"


def _layout(file: WeightFile, modules: list[str], kinds: str, *, blocks: int, ups: int) -> Layout:
    block = ("first.0", "first.1", "activation", "second.0", "second.1")
    names = ["stem.0", "stem.1"]
    names += [f"blocks.{number}.{layer}" for number in range(blocks) for layer in block]
    names += ["trunk.0", "trunk.1"]
    names += [f"up.{number}.{layer}" for number in range(ups) for layer in ("conv", "activation")]
    names += ["head"]

    # Some projects have biases before batch norms; ours has not, for all they do is to move the mean.
    bias_before_norm = f"{modules[2]}.bias" in file.tensors
    keys, defaults, subtracted = {}, {}, {}
    for place, (name, theirs) in enumerate(zip(names, modules, strict=True)):
        keys[f"{name}.weight"] = f"{theirs}.weight"
        if kinds[place] == "n":
            for leaf in ("bias", "running_mean", "running_var", "num_batches_tracked"):
                keys[f"{name}.{leaf}"] = f"{theirs}.{leaf}"
            defaults[f"{name}.num_batches_tracked"] = torch.zeros
            if bias_before_norm:
                subtracted[f"{name}.running_mean"] = f"{modules[place - 1]}.bias"
        elif kinds[place : place + 2] in ("cp", "c"):
            keys[f"{name}.bias"] = f"{theirs}.bias"

    slope = file.shape(f"{modules[1]}.weight")
    tanh = modules[0].startswith("block1.")
    return Layout(
        family=SRGAN,
        network=SRResNetGenerator,
        findings=(
            file.finding("in_channels", f"{modules[0]}.weight", 1),
            file.finding("out_channels", f"{modules[-1]}.weight", 0),
            file.finding("width", f"{modules[0]}.weight", 0),
            Finding(name="blocks", value=blocks, source=f"{blocks} times two convolutions and norms in a row"),
            shuffled_scale(file, [modules[names.index(f"up.{number}.conv")] for number in range(ups)]),
            Finding(name="shared_slope", value=slope == (1,), source=f"{modules[1]}.weight has shape {slope}"),
            Finding(
                name="output_activation",
                value="tanh" if tanh else "none",
                source="a guess: names such as block1 are those of a project that ends in (tanh(x) + 1) / 2"
                if tanh
                else "a guess, for it leaves no tensors: the paper has none",
                certain=False,
            ),
        ),
        keys=keys,
        defaults=defaults,
        subtracted=subtracted,
    )


FAMILIES = (
    Family(
        name=SRGAN,
        pattern=r"(block\d+|conv\d|conv_block\d|trunk\.\d+|upsampling\.\d+)\.([\w.]+\.)?"
        r"(weight|bias|running_mean|running_var|num_batches_tracked)",
        recognise=_recognise,
    ),
)
