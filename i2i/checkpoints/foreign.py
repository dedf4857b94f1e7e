"""Read a network out of a weight file of any project, recognised from its tensors alone.

How each project names its tensors lies in `i2i.checkpoints.layouts`, a file a project.
"""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from i2i.checkpoints.layouts import FAMILIES
from i2i.checkpoints.layouts.layout import Family, Finding, Layout, MissingTensor, WeightFile
from i2i.checkpoints.store import (
    CONFIG,
    WEIGHTS,
    GeneratorSpec,
    ImageSide,
    find_generator,
    is_discriminator,
    load_discriminator,
    load_generator,
)
from i2i.discriminators import DISCRIMINATORS
from i2i.errors import InputError
from i2i.generators import GENERATORS, SPADEGenerator, StyleEncoder
from i2i.state_dicts import WRAPPERS, read_state_dict

GIVEN = "given by you"

# What the label maps of SPADE's published generators hold, by their channels.
PUBLISHED_LABELS: dict[int, dict[str, Any]] = {
    184: {"dont_care": True, "instances": True},  # COCO-Stuff, 182 classes
    151: {"dont_care": True, "first_id": 1},  # ADE20K, 150 classes; 0 is "other"
    36: {"instances": True},  # Cityscapes, 35 classes
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A weight file, understood.

    Args:
        family: what people call such files: "CycleGAN ResNet generator".
        network: on the CPU, in eval mode, float32.
        spec: what the network expects and returns, as `i2i.load` uses it; None for a discriminator.
        findings: every argument of the network's constructor, and how it is known.
    """

    path: Path
    family: str
    network: nn.Module
    spec: GeneratorSpec | None
    findings: tuple[Finding, ...]


def load_network(path: str | Path, **overrides: Any) -> nn.Module:
    """The network that a file or folder holds; `open_checkpoint` says more."""
    return open_checkpoint(path, **overrides).network


def open_checkpoint(path: str | Path, *, style_encoder: str | Path | None = None, **overrides: Any) -> Checkpoint:
    """Build the network that a file or folder holds, and load its weights.

    Args:
        path: a weight file (.pth, .pt, .ckpt, .safetensors), or a generator's folder of ours (or the weights in
            it), or a discriminator's file of ours. Only tensors are ever unpickled. Weights of any floating-point type
            become float32.
        style_encoder: a file with the style encoder that was trained with the generator at `path`, which becomes its
            part; SPADE keeps the two apart.
        overrides: arguments of the network's constructor that replace what was read from the tensors,
            where these cannot tell: `dropout=False` for a U-Net, whose files never say; `norm="none"` for
            convolutions with biases and no norm, which read as instance norm.

    Returns:
        The network and what is known about it. torch's random numbers are untouched.

    Raises:
        InputError: the file cannot be read, holds no network that is known, lacks a tensor, has one too
            many, of the wrong shape or with NaN in it, an override is unknown or contradicts the tensors, or the style
            encoder does not fit. The message names the file.
    """
    path = Path(path)
    if path.name == WEIGHTS and (path.parent / CONFIG).exists():
        path = path.parent
    if path.is_dir():
        checkpoint = _open_ours(path, overrides)
    elif is_discriminator(path):
        checkpoint = _open_our_discriminator(path, overrides)
    else:
        checkpoint = _open_foreign(path, overrides)
    if style_encoder is not None:
        _attach_style_encoder(checkpoint, Path(style_encoder))
    return checkpoint


def _attach_style_encoder(checkpoint: Checkpoint, path: Path) -> None:
    found = open_checkpoint(path)
    generator, encoder = checkpoint.network, found.network
    if not isinstance(encoder, StyleEncoder):
        raise InputError(f"{path} is a {found.family}; expected a style encoder, such as SPADE's latest_net_E.pth")
    if not isinstance(generator, SPADEGenerator) or generator.latent_channels is None:
        raise InputError(
            f"{checkpoint.path} is a {checkpoint.family} without a latent vector, which {path} would make of a photo; "
            "leave the style encoder out"
        )
    latents, channels = encoder.mean.out_features, encoder.in_channels
    if (latents, channels) != (generator.latent_channels, generator.out_channels):
        raise InputError(
            f"{path} makes latent vectors of {latents} values out of photos of {channels} channels, and the generator "
            f"{checkpoint.path} takes {generator.latent_channels} and paints {generator.out_channels}; give the two "
            "files of one training"
        )
    generator.style_encoder = encoder
    # So that the two can be stored as one.
    generator.arguments |= {"style_encoder_width": encoder.arguments["width"], "style_px": encoder.image_px}


def _open_ours(path: Path, overrides: dict[str, Any]) -> Checkpoint:
    folder = find_generator(path)
    network, spec = load_generator(folder)
    name = next(name for name, kind in GENERATORS.items() if type(network) is kind)
    file = WeightFile(path=folder / WEIGHTS, tensors=network.state_dict())
    layout = _our_layout(file, network, family=f"i2i {name}", source=f"{CONFIG} says so")
    findings = _complete(file, layout, overrides)
    return Checkpoint(
        path=folder, family=layout.family, network=_build(file, layout, findings), spec=spec, findings=findings
    )


def _open_our_discriminator(path: Path, overrides: dict[str, Any]) -> Checkpoint:
    network = load_discriminator(path)
    name = next(name for name, kind in DISCRIMINATORS.items() if type(network) is kind)
    file = WeightFile(path=path, tensors=network.state_dict())
    layout = _our_layout(file, network, family=f"i2i {name} discriminator", source="the file's header says so")
    findings = _complete(file, layout, overrides)
    network = _build(file, layout, findings)
    return Checkpoint(path=path, family=layout.family, network=network, spec=None, findings=findings)


def _our_layout(file: WeightFile, network: nn.Module, *, family: str, source: str) -> Layout:
    """The layout of a file whose tensors are called as the network's are."""
    arguments: dict[str, Any] = vars(network)["arguments"]
    return Layout(
        family=family,
        network=type(network),
        findings=tuple(Finding(name=name, value=value, source=source) for name, value in arguments.items()),
        keys={key: key for key in file.tensors},
    )


def _open_foreign(path: Path, overrides: dict[str, Any]) -> Checkpoint:
    file, layout = _recognise(WeightFile(path=path, tensors=read_state_dict(path)))
    findings = _complete(file, layout, overrides)
    network = _build(file, layout, findings)
    spec = _make_spec(network) if layout.network in GENERATORS.values() else None
    return Checkpoint(path=path, family=layout.family, network=network, spec=spec, findings=findings)


def _recognise(file: WeightFile) -> tuple[WeightFile, Layout]:
    """The layout, and the file without a prefix that stood before all names."""
    inner: WeightFile | None = file
    while inner is not None:
        for family in FAMILIES:
            try:
                layout = family.recognise(inner)
            except MissingTensor as error:
                raise InputError(
                    f"{file.path} reads as the {family.name}, but lacks {error.args[0]}; copy the file again, whole"
                ) from error
            if layout is not None:
                return inner, layout
        inner = _drop_common_prefix(inner)
    raise InputError(_describe_unknown(file))


def _drop_common_prefix(file: WeightFile) -> WeightFile | None:
    # PyTorch Lightning, among others, names the attribute that holds the network before each tensor.
    prefixes = {key.partition(".")[0] for key in file.tensors}
    tensors = {key.partition(".")[2]: tensor for key, tensor in file.tensors.items()}
    return WeightFile(path=file.path, tensors=tensors) if len(prefixes) == 1 and "" not in tensors else None


def _describe_unknown(file: WeightFile) -> str:
    if not file.tensors:
        return (
            f"{file.path} holds no weights where they are looked for; expected `network.state_dict()`, alone or under "
            f"one of the names {', '.join(WRAPPERS)}"
        )
    shapes = [f"{key} {tuple(tensor.shape)}" for key, tensor in file.tensors.items()]
    unknown = f"{file.path} holds no network that i2i knows. It has {len(shapes)} tensors: {_listing(shapes)}"

    def unlike(family: Family) -> list[str]:
        return [key for key in file.tensors if not re.fullmatch(family.pattern, key)]

    closest = min(FAMILIES, key=lambda family: len(unlike(family)))
    others = unlike(closest)
    alike = len(shapes) - len(others)
    if 2 * alike < len(shapes):
        known = ", ".join(family.name for family in FAMILIES)
        return f"{unknown}. Hardly a name is as in a file that it knows; these are: {known}"
    difference = f"not {_listing(others, shown=4)}" if others else "but they do not make up one"
    return f"{unknown}. It came closest to the {closest.name}: {alike} tensors are named as there, {difference}"


def _complete(file: WeightFile, layout: Layout, overrides: dict[str, Any]) -> tuple[Finding, ...]:
    """A finding for every argument of the network's constructor, in its order."""
    parameters = inspect.signature(layout.network).parameters
    unknown = sorted(overrides.keys() - parameters.keys())
    if unknown:
        raise InputError(
            f"{file.path} holds a {layout.family} ({layout.network.__name__}), which has no argument "
            f"{', '.join(unknown)}; possible are {', '.join(parameters)}"
        )
    found = {finding.name: finding for finding in layout.findings}
    findings = []
    for name, parameter in parameters.items():
        if name in overrides:
            findings.append(Finding(name=name, value=overrides[name], source=GIVEN))
        else:
            findings.append(found.get(name, _usual(name, parameter.default)))
    return tuple(findings)


def _usual(name: str, default: Any) -> Finding:
    if name == "output_activation":
        return Finding(
            name=name, value=default, source="a guess, for it leaves no tensors: as published", certain=False
        )
    return Finding(name=name, value=default, source="as in all files of this kind")


def _build(file: WeightFile, layout: Layout, findings: tuple[Finding, ...]) -> nn.Module:
    arguments = {finding.name: finding.value for finding in findings}
    given = {finding.name: finding.value for finding in findings if finding.source == GIVEN}
    remedy = f"is {given} right?" if given else "copy the file again, whole, or say by keyword what it is"
    reading = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    try:
        # On "meta" nothing is allocated or drawn before the shapes have been compared.
        with torch.device("meta"):
            network = layout.network(**arguments)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise InputError(f"{file.path}: there is no {layout.family} with {reading}: {error}; {remedy}") from error

    expected = network.state_dict()
    if faults := _find_faults(file, layout, expected):
        raise InputError(
            f"{file.path} reads as the {layout.family}, but {_listing(faults, shown=3)}; {remedy} (read with {reading})"
        )
    weights = {}
    for name, like in expected.items():
        tensor = file.tensors.get(layout.keys.get(name, ""))
        if tensor is None:
            tensor = layout.defaults[name](like.shape)
        weights[name] = tensor.to(like.dtype, copy=True, memory_format=torch.contiguous_format)
        if name in layout.subtracted:
            weights[name] -= file.tensors[layout.subtracted[name]]
        bad = int((~torch.isfinite(weights[name])).sum())
        if bad:
            raise InputError(
                f"{file.path}: {bad} of {like.numel()} values of {layout.keys.get(name, name)} are NaN or infinite "
                "in float32; the training that wrote it went wrong, take an earlier checkpoint"
            )
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _find_faults(file: WeightFile, layout: Layout, expected: dict[str, Tensor]) -> list[str]:
    faults = [
        f"{key} is missing"
        for name, key in layout.keys.items()
        if key not in file.tensors and name not in layout.defaults
    ]
    faults += [f"{key} is missing" for key in layout.subtracted.values() if key not in file.tensors]
    faults += [
        f"{name}, which it needs, is in no such file"
        for name in expected
        if name not in layout.keys and name not in layout.defaults
    ]
    used = {layout.keys[name]: tensor for name, tensor in expected.items() if name in layout.keys}
    used |= {key: expected[name] for name, key in layout.subtracted.items() if name in expected}
    for key, tensor in file.tensors.items():
        if key in used:
            shape = tuple(used[key].shape)
            if tuple(tensor.shape) != shape:
                faults.append(f"{key} has shape {tuple(tensor.shape)}, expected {shape}")
            elif tensor.is_floating_point() != used[key].is_floating_point():
                faults.append(f"{key} holds {tensor.dtype}, expected {used[key].dtype}")
            elif tensor.layout != torch.strided or tensor.is_meta:
                faults.append(f"{key} is a sparse or empty tensor, expected all values")
        elif key not in layout.ignored:
            faults.append(f"{key} {tuple(tensor.shape)} is left over")
    return faults


def _make_spec(network: nn.Module) -> GeneratorSpec:
    """Other projects translate 8-bit images, or one-hot label maps; their files do not say so."""
    generator: Any = network
    labels = getattr(generator, "takes_labels", False)
    return GeneratorSpec(
        input=ImageSide(
            channels=generator.in_channels,
            dtype="uint8",
            data_range=(0, 1) if labels else (0, 255),
            network_range=generator.input_range,
            labels=labels,
            **(PUBLISHED_LABELS.get(generator.in_channels, {}) if labels else {}),
        ),
        output=ImageSide(
            channels=generator.out_channels,
            dtype="uint8",
            data_range=(0, 255),
            network_range=generator.output_range,
        ),
    )


def _listing(names: list[str], *, shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
