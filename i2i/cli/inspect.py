"""Say what a weight file holds, and how that is known; or whether an image is synthetic, as far as its file says.

    i2i inspect latest_net_G.pth
    i2i inspect RealESRGAN_x4plus --json
    i2i inspect spade.pth --set num_upsampling_layers=more
    i2i inspect picture.png

What the tensors cannot tell is guessed, and marked; `--set name=value` says better, here and for the other commands.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn
from tyro.conf import Positional, UseAppendAction

from i2i.checkpoints.catalogue import find_weights
from i2i.checkpoints.foreign import Checkpoint, open_checkpoint
from i2i.checkpoints.layouts.layout import Finding
from i2i.cli.overrides import parse_overrides
from i2i.data.image_io import READABLE_SUFFIXES, read_provenance
from i2i.errors import InputError
from i2i.files import VIDEO_SUFFIXES
from i2i.inference.graph import receptive_radius
from i2i.inference.styles import only_size


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to look into.

    Attributes:
        file: a weight file of any project, a generator's folder, a name that `i2i weights` lists, or a repository
            "owner/name" of the Hugging Face Hub; or an image.
        json: print as JSON.
        set: name=value, an argument of the network that its file cannot tell.
    """

    file: Positional[str]
    json: bool = False
    set: UseAppendAction[tuple[str, ...]] = ()


def main(settings: Settings) -> None:
    """Print the description of the checkpoint, or what an image says of itself."""
    path = Path(settings.file)
    if path.suffix.lower() in READABLE_SUFFIXES and path.is_file():
        _print_provenance(path, as_json=settings.json)
        return
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        raise InputError(
            f"{path} is a video, which inspect does not look into: expected a weight file, a generator's folder, or an "
            "image, which a frame saved as PNG is, too"
        )
    checkpoint = open_checkpoint(find_weights(settings.file), **parse_overrides(settings.set))
    if settings.json:
        print(json.dumps(describe(checkpoint), indent=2, ensure_ascii=False))
    else:
        _print_tables(describe(checkpoint))


def _print_provenance(path: Path, *, as_json: bool) -> None:
    found = read_provenance(path)
    if as_json:
        print(json.dumps({"path": str(path), "provenance": found and asdict(found)}, indent=2, ensure_ascii=False))
    elif found:
        print(f"{path}: {found.sentence}")
    else:
        print(
            f"{path} carries no note of i2i's. That does not prove that it is a photo: programs that save an image "
            "anew may leave the note out, and other programs write other ones."
        )


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """All that is known about a checkpoint, as JSON holds it; what a network has not is left out.

    "findings" lists the arguments of the network's constructor, then what `i2i.load` takes for the images, each with
    its source; those that are not "certain" are guesses.
    """
    network: Any = checkpoint.network
    spec = checkpoint.spec
    parameters = sum(parameter.numel() for parameter in network.parameters())
    description: dict[str, Any] = {
        "path": str(checkpoint.path),
        "family": checkpoint.family,
        "network": type(network).__name__,
        "parameters": parameters,
        "megabytes": round(parameters * 4 / 1e6, 1),
    }
    if spec is None or spec.input is not None:
        description["in_channels"] = network.in_channels
    else:
        description |= {"latent_channels": network.latent_channels, "class_count": network.classes}
    if spec is not None:
        description |= {"out_channels": network.out_channels} | asdict(spec)
    if spec is not None and spec.input is not None:
        description |= {"scale": network.scale, "size_multiple": network.size_multiple}
        if (size := only_size(network)) is not None:
            encoder = network.style_encoder
            description |= {
                "only_size": size,
                "latent_channels": network.latent_channels,
                "style_encoder_px": None if encoder is None else encoder.image_px,
            }
        with contextlib.suppress(InputError):  # a network that cannot be taken apart
            description["receptive_radius_px"] = receptive_radius(network)
    findings = [*checkpoint.findings, *_about_images(checkpoint)]
    return description | {"findings": [asdict(finding) for finding in findings]}


def _about_images(checkpoint: Checkpoint) -> list[Finding]:
    spec = checkpoint.spec
    if spec is None or spec.input is None:
        return []
    values: dict[str, Any] = {"output_range": spec.output.data_range}
    if not spec.input.labels:
        values = {"input_range": spec.input.data_range} | values
    else:
        side = spec.input
        values |= {"dont_care": side.dont_care, "instance_edges": side.instances, "first_id": side.first_id}
        values |= {} if side.palette is None else {"palette": side.palette}
    modules = list(checkpoint.network.modules())
    if any(isinstance(module, nn.BatchNorm2d) for module in modules):
        values["normalisation"] = spec.normalisation
    if any(isinstance(module, nn.Dropout) for module in modules):
        values["dropout at inference"] = spec.dropout
    ours = checkpoint.path.is_dir()
    return [
        Finding(
            name=name,
            value=value,
            source="config.json says so" if ours else f"a guess, the most usual; another with --{option(name)}",
            certain=ours,
        )
        for name, value in values.items()
    ]


def option(name: str) -> str:
    """The option of `i2i translate`, and with underscores the argument of `i2i.load`, that says better."""
    return name.partition(" ")[0].replace("_", "-")


def _print_tables(description: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    for name, text in _facts(description):
        facts.add_row(name, Text(text))
    findings = Table(Column("argument", no_wrap=True), "value", "how it is known", box=None, pad_edge=False)
    for finding in description["findings"]:
        value = json.dumps(finding["value"], ensure_ascii=False)
        findings.add_row(finding["name"], value if finding["certain"] else f"{value} ?", Text(finding["source"]))
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(facts, "", findings, highlight=False)
    if not all(finding["certain"] for finding in description["findings"]):
        print(
            "\n? marks guesses. If you know better, say --set name=value, or the option named; to i2i.load, "
            "name=value for either."
        )


def _facts(description: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "file", description["path"]
    yield "family", f"{description['family']} ({description['network']})"
    yield "parameters", f"{description['parameters']:,}, {description['megabytes']} MB in float32"
    if description.get("input"):
        yield "input", _side(description["input"])
    elif "in_channels" in description:
        yield "input", f"{description['in_channels']} channels"
    else:
        yield "input", f"{description['latent_channels']} latent values, drawn from a seed"
        if description["class_count"]:
            yield "classes", _classes(description)
    if "output" in description:
        yield "output", _side(description["output"])
    if "scale" in description:
        yield "scale", f"x{description['scale']}"
    if "only_size" in description:
        height, width = description["only_size"]
        yield "sizes", f"{width} x {height} px only; label maps are resized"
        yield "style", _style(description)
    elif "scale" in description:
        yield "sizes", f"multiples of {description['size_multiple']} px; others are padded"
    if "receptive_radius_px" in description:
        radius = description["receptive_radius_px"]
        yield "receptive field", "whole image (global statistics)" if radius is None else f"{radius} px to each side"


def _side(side: dict[str, Any]) -> str:
    low, high = side["data_range"]
    values = _labels(side) if side["labels"] else f"{side['dtype']} from {low:g} to {high:g}"
    network_low, network_high = side["network_range"]
    return f"{side['channels']} channels, {values}; {network_low:g} to {network_high:g} inside the network"


def _labels(side: dict[str, Any]) -> str:
    classes = side["channels"] - side["dont_care"] - side["instances"]
    parts = [f"{classes} classes from id {side['first_id']} on"]
    parts += ["don't care"] * side["dont_care"] + ["edges between instances"] * side["instances"]
    return f"label maps: {', '.join(parts)}"


def _classes(description: dict[str, Any]) -> str:
    names = description["classes"]
    if names is None:
        return f"{description['class_count']}, called by their ids"
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


def _style(description: dict[str, Any]) -> str:
    vector = f"a latent vector of {description['latent_channels']} values, drawn from a seed"
    if description["style_encoder_px"] is None:
        return f"{vector}; no style encoder to read photos (--style-encoder FILE)"
    return f"{vector} or read off a photo by the style encoder"
