"""Read a network out of a weight file, recognised from its tensors alone.

Knows the networks of pytorch-CycleGAN-and-pix2pix: ResNet and U-Net generators, PatchGAN and PixelGAN
discriminators. Our networks name their tensors in their own way; the translation lives here.
"""

import inspect
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from i2i.checkpoints.store import CONFIG, WEIGHTS, find_generator, load_generator
from i2i.discriminators import PatchDiscriminator, PixelDiscriminator
from i2i.errors import InputError
from i2i.generators import ResNetGenerator, UNetGenerator
from i2i.layers.norm import Norm

# Where files keep their state dict, most wanted first, and what they put in front of its keys.
WRAPPERS = (
    "params_ema",
    "params-ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "netG",
    "generator",
)
PREFIXES = ("module.", "netG.", "_orig_mod.")


def load_network(path: str | Path, **overrides: Any) -> nn.Module:
    """Build the network that a file or folder holds, and load its weights.

    Args:
        path: a weight file (.pth, .pt, .ckpt, .safetensors), or a generator's folder of ours
            (or the weights in it). Only tensors
            are ever unpickled. Weights of any floating-point type become float32.
        overrides: arguments of the network's constructor that replace what was read from the tensors,
            where these cannot tell: `dropout=False` for a U-Net, whose files never say; `norm="none"` for
            convolutions with biases and no norm, which read as instance norm.

    Returns:
        The network, on the CPU and in eval mode. torch's random numbers are untouched.

    Raises:
        InputError: the file cannot be read, holds no network that is known, lacks a tensor, has one too
            many or of the wrong shape, or an override is unknown or contradicts the tensors. The message
            names the file.
    """
    path = Path(path)
    if path.name == WEIGHTS and (path.parent / CONFIG).exists():
        path = path.parent
    if path.is_dir():
        network, _ = load_generator(find_generator(path))
        if overrides:
            arguments: dict[str, Any] = vars(network)["arguments"]
            network = _build(path, type(network), arguments, network.state_dict(), overrides)
        return network

    file = _WeightFile(path=path, tensors=_unwrap(_read(path)))
    for recognise in (_recognise_unet, _recognise_resnet, _recognise_patch, _recognise_pixel):
        layout = recognise(file)
        if layout is not None:
            return _load_foreign(file, layout, overrides)
    shapes = [f"{key} {tuple(tensor.shape)}" for key, tensor in file.tensors.items()]
    raise InputError(
        f"{path} holds no network that i2i knows: neither a U-Net or ResNet generator nor a PatchGAN or "
        f"PixelGAN discriminator. It has {_listing(shapes) or 'no tensors at all'}"
    )


@dataclass(frozen=True, kw_only=True)
class _WeightFile:
    path: Path
    tensors: dict[str, Tensor]

    def has(self, prefix: str) -> bool:
        return any(key.startswith(prefix) for key in self.tensors)

    def is_conv(self, module: str) -> bool:
        weight = self.tensors.get(f"{module}.weight")
        return weight is not None and weight.ndim == 4

    def size(self, conv: str, dimension: int) -> int:
        if not self.is_conv(conv):
            raise InputError(f"{self.path} lacks the convolution {conv}.weight; copy the file again, whole")
        return self.tensors[f"{conv}.weight"].shape[dimension]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which of our networks a file holds, and where it keeps each module.

    Args:
        arguments: of the network's constructor, less the norm.
        convs, norms: our module's name → the file's.
        biased: our names of the convolutions that have a bias in the file whatever the norm; the others
            have one under instance norm only.
    """

    network: type[nn.Module]
    arguments: dict[str, Any]
    convs: dict[str, str]
    norms: dict[str, str]
    biased: tuple[str, ...]


def _recognise_unet(file: _WeightFile) -> _Layout | None:
    if not file.is_conv("model.model.0"):
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
    return _Layout(
        network=UNetGenerator,
        arguments={
            "in_channels": file.size("model.model.0", 1),
            "out_channels": file.size("model.model.3", 1),
            "width": file.size("model.model.0", 0),
            "depth": 1 + len(levels),
        },
        convs=convs,
        norms=norms,
        biased=("head",),
    )


def _recognise_resnet(file: _WeightFile) -> _Layout | None:
    if not all(file.is_conv(module) for module in ("model.1", "model.4", "model.7")):
        return None
    blocks = 0
    while file.has(f"model.{10 + blocks}.conv_block."):
        blocks += 1
    dropout = file.is_conv("model.10.conv_block.6")
    second = 6 if dropout else 5
    up = 10 + blocks

    convs = {"stem.0": "model.1", "down.0.0": "model.4", "down.1.0": "model.7"}
    norms = {"stem.1": "model.2", "down.0.1": "model.5", "down.1.1": "model.8"}
    for block in range(blocks):
        theirs = f"model.{10 + block}.conv_block"
        convs |= {f"blocks.{block}.first.0": f"{theirs}.1", f"blocks.{block}.second.0": f"{theirs}.{second}"}
        norms |= {
            f"blocks.{block}.first.1": f"{theirs}.2",
            f"blocks.{block}.second.1": f"{theirs}.{second + 1}",
        }
    convs |= {"up.0.0": f"model.{up}", "up.1.0": f"model.{up + 3}", "head": f"model.{up + 7}"}
    norms |= {"up.0.1": f"model.{up + 1}", "up.1.1": f"model.{up + 4}"}
    return _Layout(
        network=ResNetGenerator,
        arguments={
            "in_channels": file.size("model.1", 1),
            "out_channels": file.size(convs["head"], 0),
            "width": file.size("model.1", 0),
            "blocks": blocks,
            "dropout": dropout,
        },
        convs=convs,
        norms=norms,
        biased=("head",),
    )


def _recognise_patch(file: _WeightFile) -> _Layout | None:
    if not all(file.is_conv(module) for module in ("model.0", "model.2", "model.5")):
        return None
    layers = 1
    while file.has(f"model.{3 * layers + 5}."):
        layers += 1
    levels = range(1, layers + 1)
    return _Layout(
        network=PatchDiscriminator,
        arguments={
            "in_channels": file.size("model.0", 1),
            "width": file.size("model.0", 0),
            "layers": layers,
        },
        convs={
            "blocks.0.0": "model.0",
            **{f"blocks.{level}.0": f"model.{3 * level - 1}" for level in levels},
            "head": f"model.{3 * layers + 2}",
        },
        norms={f"blocks.{level}.1": f"model.{3 * level}" for level in levels},
        biased=("blocks.0.0", "head"),
    )


def _recognise_pixel(file: _WeightFile) -> _Layout | None:
    if not all(file.is_conv(module) for module in ("net.0", "net.2", "net.5")):
        return None
    return _Layout(
        network=PixelDiscriminator,
        arguments={"in_channels": file.size("net.0", 1), "width": file.size("net.0", 0)},
        convs={"blocks.0.0": "net.0", "blocks.1.0": "net.2", "head": "net.5"},
        norms={"blocks.1.1": "net.3"},
        biased=("blocks.0.0",),
    )


def _load_foreign(file: _WeightFile, layout: _Layout, overrides: dict[str, Any]) -> nn.Module:
    norm = _recognise_norm(file, layout)
    _check_complete(file, layout, norm)
    # Biases beside instance norm find no place in our network: the norm subtracts them again.
    ours = {}
    for name, theirs in (layout.convs | layout.norms).items():
        for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            tensor = file.tensors.get(f"{theirs}.{leaf}")
            if tensor is not None:
                ours[f"{name}.{leaf}"] = tensor
    return _build(file.path, layout.network, {**layout.arguments, "norm": norm}, ours, overrides)


def _recognise_norm(file: _WeightFile, layout: _Layout) -> Norm:
    if any(f"{theirs}.weight" in file.tensors for theirs in layout.norms.values()):
        return "batch"
    # Instance norm leaves no tensors of its own, but only beside it have the convolutions biases.
    beside_norm = (theirs for ours, theirs in layout.convs.items() if ours not in layout.biased)
    return "instance" if any(f"{theirs}.bias" in file.tensors for theirs in beside_norm) else "none"


def _check_complete(file: _WeightFile, layout: _Layout, norm: Norm) -> None:
    required = {f"{theirs}.weight" for theirs in layout.convs.values()}
    required |= {
        f"{theirs}.bias" for ours, theirs in layout.convs.items() if norm == "instance" or ours in layout.biased
    }
    # Instance norms of PyTorch before 0.4 saved running statistics that they did not use.
    optional = set()
    for theirs in layout.norms.values():
        optional.add(f"{theirs}.num_batches_tracked")
        statistics = {f"{theirs}.running_mean", f"{theirs}.running_var"}
        if norm == "batch":
            required |= statistics | {f"{theirs}.weight", f"{theirs}.bias"}
        else:
            optional |= statistics

    reading = f"{file.path} reads as a {layout.network.__name__} with norm {norm!r}"
    missing = sorted(required - file.tensors.keys())
    if missing:
        raise InputError(f"{reading}, but lacks {_listing(missing)}; copy the file again, whole")
    left_over = sorted(file.tensors.keys() - required - optional)
    if left_over:
        raise InputError(f"{reading}, but has tensors that such a network has not: {_listing(left_over)}")


def _build(
    path: Path,
    network_class: type[nn.Module],
    arguments: dict[str, Any],
    tensors: dict[str, Tensor],
    overrides: dict[str, Any],
) -> nn.Module:
    possible = inspect.signature(network_class).parameters.keys()
    unknown = sorted(overrides.keys() - possible)
    if unknown:
        raise InputError(
            f"{path} holds a {network_class.__name__}, which has no argument {', '.join(unknown)}; "
            f"possible are {', '.join(possible)}"
        )
    arguments = arguments | overrides
    # On "meta" nothing is allocated or drawn before the shapes have been compared.
    with torch.device("meta"):
        network = network_class(**arguments)

    weights = {}
    for key, expected in network.state_dict().items():
        tensor = tensors.get(key)
        if tensor is None and key.endswith((".bias", ".num_batches_tracked")):
            # Convolutions of other projects lack a bias in places where ours have one; PyTorch before 0.4
            # did not count batches.
            tensor = torch.zeros(expected.shape)
        if tensor is None or tensor.shape != expected.shape:
            found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
            raise InputError(
                f"{path} does not fit {network_class.__name__} with {arguments}: {key} {found}, expected "
                f"shape {tuple(expected.shape)}"
            )
        weights[key] = tensor.to(expected.dtype, copy=True, memory_format=torch.contiguous_format)
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is damaged, or holds more than tensors, which could run code when read. Save "
            "`network.state_dict()` alone, with torch.save or as .safetensors"
        ) from error
    except Exception as error:  # the readers fail in whatever way the damaged bytes lead them to
        raise InputError(f"{path} is no weight file, or is damaged: {error}; copy it again, whole") from error


def _unwrap(content: Any, *, levels: int = 3) -> dict[str, Tensor]:
    """The tensors of a state dict, out of at most `levels` wrappers, their names without prefixes."""
    if not isinstance(content, dict):
        return {}
    for name in WRAPPERS:
        if levels and (inner := _unwrap(content.get(name), levels=levels - 1)):
            return inner
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    while prefix := next((p for p in PREFIXES if any(key.startswith(p) for key in tensors)), None):
        # Names without the prefix belong to other networks of the same file.
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return tensors


def _listing(names: list[str], *, shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
