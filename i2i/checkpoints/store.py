"""The folder that a trained generator is shared as: weights, what they expect, and a model card.

- `generator.safetensors`: the weights
- `config.json`: the network's name and arguments, and the images it speaks
- `README.md`: the model card that the Hugging Face Hub shows

A run keeps its discriminators as well, each in one file, `discriminators/<name>.safetensors`, whose header says which
network it is.
"""

import itertools
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from i2i import __version__
from i2i.checkpoints.card import (
    INTENDED_USE,
    LIMITS,
    NOTICE,
    USE,
    Card,
    bullets,
    data_section,
    parse_card,
    render_card,
    section,
    updated,
    written_anew,
)
from i2i.discriminators import DISCRIMINATORS
from i2i.errors import InputError
from i2i.files import replacing
from i2i.generators import GENERATORS
from i2i.layers.norm import Normalisation

FORMAT = 1
WEIGHTS = "generator.safetensors"
CONFIG = "config.json"
CARD = "README.md"

JUDGES = "discriminators"
"""Folder of a run that its discriminators lie in."""
HEADER = "i2i"  # entry of a discriminator's safetensors header

ImageDtype = Literal["uint8", "uint16", "float32", "any"]


@dataclass(frozen=True, kw_only=True)
class ImageSide:
    """What one side of a generator, its input or its output, speaks.

    Args:
        channels: number of channels.
        dtype: depth of the training images. Integer images may later be handed in at another depth;
            "float32" means that values are physical and are always taken as they are; "any" too, but results keep
            the images' own type, which a person may ask for who knows the units better.
        data_range: (low, high) in the data's own units: (0, 255), (0, 4095), Hounsfield, reflectance …
        network_range: what the network calls low and high; `data_range` is mapped to it linearly.
        labels: whether the side is a label map: one channel of class ids, handed in as integers and one-hot encoded
            inside; arrays of `channels` channels are taken as already encoded.
        dont_care: whether there may be pixels of no class, which have a channel behind the classes': `dont_care_id`
            in label maps, or an id below the first.
        instances: whether the last channel holds the edges between instances (`i2i.layers.edges`).
        first_id: of the first class in label maps.
        palette: red, green and blue of each class, from 0 to 255, where label maps may be colour-coded.

    Raises:
        InputError: channels below 1, an unknown dtype, a range that is not finite and increasing, labels that are no
            integers or have no class, a first id below 0, or what only label maps have without labels.
    """

    channels: int
    dtype: ImageDtype
    data_range: tuple[float, float]
    network_range: tuple[float, float] = (-1.0, 1.0)
    labels: bool = False
    dont_care: bool = False
    instances: bool = False
    first_id: int = 0
    palette: tuple[tuple[int, int, int], ...] | None = None

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise InputError(f"channels: expected at least 1, got {self.channels}")
        if self.dtype not in get_args(ImageDtype):
            raise InputError(f"dtype: expected one of {get_args(ImageDtype)}, got {self.dtype!r}")
        for name in ("data_range", "network_range"):
            low, high = getattr(self, name)
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InputError(f"{name}: expected two finite numbers, low < high, got ({low}, {high})")
        for name in ("labels", "dont_care", "instances"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        if isinstance(self.first_id, bool) or not isinstance(self.first_id, int) or self.first_id < 0:
            raise InputError(f"first_id: expected an integer from 0 on, got {self.first_id!r}")
        for name in ("dont_care", "instances", "first_id", "palette"):
            if getattr(self, name) and not self.labels:
                raise InputError(f"{name}: only label maps have it; expected labels=True beside it")
        if self.labels and self.dtype == "float32":
            raise InputError('labels: class ids are integers; expected dtype "uint8" or "uint16", got "float32"')
        if self.labels and self.classes < 1:
            raise InputError(
                f"channels: expected a class beside the channels for don't care and for edges, got {self.channels}"
            )
        if self.palette is not None and len(self.palette) != self.classes:
            raise InputError(f"palette: expected a colour for each of {self.classes} classes, got {len(self.palette)}")

    @property
    def classes(self) -> int:
        """How many classes a label map has, not counting "don't care"."""
        return self.channels - self.dont_care - self.instances

    @property
    def stored_as_ids(self) -> bool:
        """Whether the numbers in a file are class ids, which must come out as they went in, and not colours."""
        return self.labels and self.palette is None

    @property
    def dont_care_id(self) -> int:
        """What stands for "don't care" in label maps: 255, or 65535 where 255 is a class."""
        return 255 if self.first_id + self.classes <= 255 else 65535


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec:
    """What a generator needs to be used as it was trained; fixed at training, stored beside the weights.

    Args:
        input: the images that go in; None for a generator that draws from latent vectors.
        output: the images that come out.
        normalisation: "eval" uses BatchNorm's running statistics, "per_image" those of each image alone.
        dropout: whether dropout stays on, as in pix2pix, where it is the only source of variety.
        classes: names of the classes that a generator with classes draws, in the order of their ids; None where they
            have none.

    Raises:
        InputError: an unknown normalisation, or names that are not all different or no text.
    """

    input: ImageSide | None
    output: ImageSide
    normalisation: Normalisation = "eval"
    dropout: bool = False
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.normalisation not in get_args(Normalisation):
            raise InputError(f"normalisation: expected one of {get_args(Normalisation)}, got {self.normalisation!r}")
        if self.classes is not None:
            if not all(isinstance(name, str) and name for name in self.classes):
                raise InputError(f"classes: expected a name for each, got {self.classes!r}")
            if len(set(self.classes)) < len(self.classes):
                raise InputError(f"classes: expected names that all differ, got {', '.join(self.classes)}")


def check_class_names(network: nn.Module, spec: GeneratorSpec) -> None:
    """Raise InputError where a specification names other than as many classes as the network has."""
    count = getattr(network, "classes", 0)
    if spec.classes is not None and len(spec.classes) != count:
        raise InputError(f"classes: expected names for the network's {count} classes, got {len(spec.classes)}")


def save_generator(folder: str | Path, *, network: nn.Module, spec: GeneratorSpec, card: str) -> None:
    """Write a generator as a folder that `i2i.load` reads and that can be uploaded to the Hub as it is.

    Every file is complete or absent, also when the disk runs full: what lay there before stays.

    Args:
        folder: made where it does not exist; an older generator in it is replaced.
        network: a generator whose class is in `i2i.generators.GENERATORS`, on any device, not wrapped.
        spec: what the network expects and returns.
        card: text of the model card in Markdown: data, training, figures. The header, an example of use and what
            every card should say are added. What a person wrote into the card that lies there is kept; one that
            is no text is put aside as README.md.old, and a warning says so.

    Raises:
        InputError: the network's class is in no list, it has another number of classes than `spec` names, or a file
            cannot be written (full disk, no permission).
    """
    folder = Path(folder)
    name = next((name for name, kind in GENERATORS.items() if type(network) is kind), None)
    if name is None:
        raise InputError(
            f"{type(network).__name__} is none of the generators that can be stored "
            f"({', '.join(GENERATORS)}); unwrap the network, or add its class to GENERATORS"
        )
    check_class_names(network, spec)
    config = {
        "format": FORMAT,
        "i2i_version": __version__,
        "network": name,
        "arguments": network.arguments,
        "scale": getattr(network, "scale", None),  # None where no image goes in
        "size_multiple": getattr(network, "size_multiple", None),
        **asdict(spec),
    }
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}

    new = new_card(network, spec=spec, text=card)
    _write(folder / CARD, render_card(written_anew(_card_to_keep(folder), new)).encode())
    _write(folder / CONFIG, (json.dumps(config, indent=2, allow_nan=False) + "\n").encode())
    _write(folder / WEIGHTS, safetensors.torch.save(tensors, metadata={"format": "pt"}))


def load_generator(folder: str | Path) -> tuple[nn.Module, GeneratorSpec]:
    """Build the generator that a folder holds.

    Args:
        folder: written by `save_generator`.

    Returns:
        The network, on the CPU and in eval mode, and what it expects. torch's random numbers are untouched.

    Raises:
        InputError: a file is missing or garbled, the network is unknown, or a tensor is missing, left over
            or of the wrong shape; the message names the file.
    """
    folder = Path(folder)
    tensors = _read_weights(folder / WEIGHTS)
    network, spec = _build(folder / CONFIG, most=sum(tensor.numel() for tensor in tensors.values()))
    _assign(
        network,
        tensors,
        misfit=f"{folder / WEIGHTS} does not fit the network in {CONFIG}",
        remedy="The two files must come from the same run: copy the folder again, whole",
    )
    return network.eval(), spec


def save_discriminator(file: str | Path, *, network: nn.Module) -> None:
    """Write a discriminator as one file that says which network it holds; complete or absent, as a generator's.

    Args:
        file: <name>.safetensors; folders are made, an older file is replaced.
        network: a discriminator whose class is in `i2i.discriminators.DISCRIMINATORS`, on any device, not wrapped.

    Raises:
        InputError: the network's class is in no list, or the file cannot be written.
    """
    name = next((name for name, kind in DISCRIMINATORS.items() if type(network) is kind), None)
    if name is None:
        raise InputError(
            f"{type(network).__name__} is none of the discriminators that can be stored "
            f"({', '.join(DISCRIMINATORS)}); unwrap the network, or add its class to DISCRIMINATORS"
        )
    header = {"format": FORMAT, "i2i_version": __version__, "network": name, "arguments": network.arguments}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    # One entry alone: safetensors writes several in any order, and equal runs would write unequal files.
    _write(Path(file), safetensors.torch.save(tensors, metadata={HEADER: json.dumps(header, allow_nan=False)}))


def load_discriminator(path: str | Path) -> nn.Module:
    """Build the discriminator that a file holds.

    Args:
        path: written by `save_discriminator`, or the folder of a run with one discriminator.

    Returns:
        The network, on the CPU and in eval mode. torch's random numbers are untouched.

    Raises:
        InputError: no such file, several, or none of a discriminator of ours; it is garbled, or a tensor is missing,
            left over or of the wrong shape. The message names the file.
    """
    file = _find_discriminator(Path(path))
    if not is_discriminator(file):
        raise InputError(
            f"{file} is no discriminator that a run of i2i wrote, or is damaged: expected "
            f"<run>/{JUDGES}/<name>.safetensors, whole; `i2i inspect` says what other files hold"
        )
    tensors = _read_weights(file)
    header = _parse_json(file, _header(file)[HEADER])
    try:
        name, arguments = header["network"], header["arguments"]
    except KeyError as error:
        raise InputError(f"{file} lacks {error} in its header; copy it again, whole") from error
    most = sum(tensor.numel() for tensor in tensors.values())
    network = _construct(file, DISCRIMINATORS, name=name, arguments=arguments, most=most)
    _assign(network, tensors, misfit=f"{file} does not fit the network in its own header")
    return network.eval()


def is_discriminator(path: Path) -> bool:
    """Whether a file is one that `save_discriminator` wrote, as far as its header can be read."""
    return HEADER in _header(path)


def _header(file: Path) -> dict[str, str]:
    """What stands in the header of a safetensors file; nothing where it is no such file."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            return opened.metadata() or {}
    except (OSError, safetensors.SafetensorError):
        return {}


def _find_discriminator(path: Path) -> Path:
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"{path} does not exist; expected a discriminator's file, or a run's folder")
        return path
    folder = path / JUDGES if (path / JUDGES).is_dir() else path
    found = sorted(folder.glob("[!.]*.safetensors"))
    found = [file for file in found if file.name != WEIGHTS]
    if not found:
        raise InputError(
            f"{path} holds no discriminator: expected {JUDGES}/<name>.safetensors in it, as training writes it; give "
            "such a run's folder, or go on with this run: its training command again, with more steps if it is done"
        )
    if len(found) > 1:
        raise InputError(f"{path} holds several discriminators; give one of: {', '.join(map(str, found))}")
    return found[0]


def find_generator(path: str | Path) -> Path:
    """The generator folder that a path means: the folder itself, or the only one inside a run folder.

    Raises:
        InputError: there is no such folder, no generator in it, or several, which are listed.
    """
    path = Path(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; expected a generator's folder, or the run folder that training wrote")
    if _is_generator(path):
        return path
    found = sorted(child for child in path.iterdir() if child.is_dir() and _is_generator(child))
    if not found:
        raise InputError(
            f"{path} holds no generator: neither it nor a folder in it has {CONFIG} and {WEIGHTS}; "
            "give the folder that training wrote"
        )
    if len(found) > 1:
        raise InputError(f"{path} holds several generators; give one of: {', '.join(map(str, found))}")
    return found[0]


def _is_generator(folder: Path) -> bool:
    # Either file is enough, so that a half-copied folder is reported by what it lacks.
    return (folder / CONFIG).exists() or (folder / WEIGHTS).exists()


def _build(file: Path, *, most: int) -> tuple[nn.Module, GeneratorSpec]:
    """The network that a configuration describes, on "meta": without weights.

    Args:
        most: numbers that there are in the weights. A garbled argument beyond that would keep a constructor busy
            for ever.
    """
    config = _read_config(file)
    try:
        name, arguments = config["network"], config["arguments"]
        spec = GeneratorSpec(
            input=None if config["input"] is None else _parse_side(config["input"]),
            output=_parse_side(config["output"]),
            normalisation=config["normalisation"],
            dropout=config["dropout"],
            classes=tuple(config["classes"]) if config.get("classes") is not None else None,  # older folders lack it
        )
    except KeyError as error:
        raise InputError(f"{file} lacks {error}; copy the generator's folder again, whole") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{file} is garbled: {error}; copy the generator's folder again, whole") from error
    network = _construct(file, GENERATORS, name=name, arguments=arguments, most=most)
    try:
        check_class_names(network, spec)
    except InputError as error:
        raise InputError(f"{file} is garbled: {error}; copy the generator's folder again, whole") from error
    return network, spec


def _construct(file: Path, kinds: dict[str, type[nn.Module]], *, name: Any, arguments: Any, most: int) -> nn.Module:
    """The network of that name among `kinds`, on "meta"; see `_build`."""
    if name not in list(kinds):  # a list, for a garbled name may be unhashable
        raise InputError(f"{file} names the network {name!r}; i2i {__version__} knows {', '.join(kinds)}: update i2i")
    try:
        if any(number > most for number in _whole_numbers(dict(arguments))):
            raise ValueError(f"its weights are only {most} numbers")
        with torch.device("meta"):
            return kinds[name](**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{file}: {name} cannot be built with {arguments}: {error}; update i2i") from error


def _whole_numbers(value: Any) -> Iterator[int]:
    """Those in what JSON can hold, however deep."""
    match value:
        case int():
            yield value
        case list():
            for part in value:
                yield from _whole_numbers(part)
        case dict():
            yield from _whole_numbers(list(value.values()))


def _assign(
    network: nn.Module, tensors: dict[str, Tensor], *, misfit: str, remedy: str = "Copy the file again, whole"
) -> None:
    """Give a network on "meta" its weights; InputError where they are not its own."""
    expected = network.state_dict()
    if faults := _differences(expected=expected, found=tensors):
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(f"{misfit}: {'; '.join(faults[:3])}{more}. {remedy}")
    network.load_state_dict({key: tensors[key].to(like.dtype) for key, like in expected.items()}, assign=True)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}); a generator's folder holds {CONFIG} and {WEIGHTS}"
        ) from error
    return _parse_json(file, text)


def _parse_json(file: Path, text: str | bytes) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise InputError(f"{file} is no JSON: {error}; copy the generator's folder again, whole") from error
    if not isinstance(config, dict):
        raise InputError(f"{file}: expected a JSON object, got {type(config).__name__}")
    if config.get("format") != FORMAT:
        raise InputError(f"{file} has format {config.get('format')!r}; i2i {__version__} reads {FORMAT}: update i2i")
    return config


def _parse_side(entry: dict[str, Any]) -> ImageSide:
    return ImageSide(
        channels=entry["channels"],
        dtype=entry["dtype"],
        data_range=tuple(entry["data_range"]),
        network_range=tuple(entry["network_range"]),
        # Older folders lack these.
        labels=entry.get("labels", False),
        dont_care=entry.get("dont_care", False),
        instances=entry.get("instances", False),
        first_id=entry.get("first_id", 0),
        palette=tuple(map(tuple, entry["palette"])) if entry.get("palette") else None,
    )


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error}); a generator's folder holds {CONFIG} and {WEIGHTS}"
        ) from error
    except safetensors.SafetensorError as error:
        raise InputError(f"{file} is no safetensors file, or cut short: {error}; copy it again") from error


def _differences(*, expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    missing = [f"{key} is missing" for key in expected if key not in found]
    left_over = [f"{key} is left over" for key in found if key not in expected]
    misshapen = [
        f"{key} has shape {tuple(found[key].shape)}, expected {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    return missing + misshapen + left_over


def read_card(folder: Path) -> Card:
    """The model card of a generator's folder; an empty one where there is none."""
    try:
        return parse_card((folder / CARD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Card(header="", sections=())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / CARD} cannot be read ({error}); put it right, or remove it") from error


def _card_to_keep(folder: Path) -> Card:
    """The card that lies there, or an empty one; what cannot be read is put aside, for weights are worth more."""
    try:
        return read_card(folder)
    except InputError as error:
        names = (f"{CARD}.old{number or ''}" for number in itertools.count())
        aside = next(folder / name for name in names if not (folder / name).exists())
        try:
            (folder / CARD).rename(aside)
        except OSError:
            raise error from None
        warnings.warn(f"{error}. It lies in {aside} now, and a new card has taken its place", stacklevel=3)
        return Card(header="", sections=())


def write_card(folder: Path, card: Card) -> None:
    """Write the model card of a generator's folder.

    Raises:
        InputError: it cannot be written.
    """
    _write(folder / CARD, render_card(card).encode())


def new_card(network: nn.Module, *, spec: GeneratorSpec, text: str) -> Card:
    """The card of a generator.

    Args:
        network: the generator.
        spec: what it expects and returns.
        text: sections in Markdown, to which those are added that every card should have.
    """
    name = next(name for name, kind in GENERATORS.items() if type(network) is kind)
    task, usage = "image-to-image", _TRANSLATE
    if spec.input is None:
        task, usage = "unconditional-image-generation", _DRAW
        if getattr(network, "classes", 0):
            task, usage = "class-conditional-image-generation", _DRAW_CLASSES
            if spec.classes is not None:
                usage += "\n# The classes, by id from 0 on or by name: " + ", ".join(spec.classes)
    elif spec.input.labels:
        usage = _PAINT if getattr(network, "style_encoder", None) is None else _PAINT_IN_STYLES
    # For images of classes the Hub has no pipeline.
    pipeline = "" if task.startswith("class") else f"pipeline_tag: {task}\n"
    header = f"""\
library_name: i2i
{pipeline}tags:
- {task}
- {name}
# license: name the licence of your weights here before sharing them, or let `i2i card --licence` do it"""
    given = tuple(replace(part, ours=True) for part in parse_card(text).sections)
    card = Card(header=header, sections=given)
    missing = (
        section(INTENDED_USE, NO_INTENDED_USE),
        section(LIMITS, bullets(usual_limits(network, spec))),
        data_section(),
        section(NOTICE, _NOTICE),
        section(USE, f"```python\n{usage}\n```"),
    )
    names = {part.name for part in given}
    return updated(card, [part for part in missing if part.name not in names])[0]


def usual_limits(network: nn.Module, spec: GeneratorSpec) -> list[str]:
    """What holds for every generator of this kind, a sentence or two each."""
    if getattr(network, "restores", False):
        made_up = (
            "Detail that an image does not hold is made up, after the training data. Results are no evidence of what "
            "was there: not of faces, writing, number plates or medical findings."
        )
    elif spec.input is None:
        made_up = "What it draws is made up, after the training data, and may come close to some of them."
    else:
        made_up = (
            "What an input does not show is made up, after the training data. Results are no measurement and no "
            "evidence of what was there."
        )
    return [
        made_up,
        "It has the gaps and leanings of its training data: what is rare or missing there it makes worse, or not at "
        "all.",
        "Nothing is known about it beyond the figures in this card, and these hold for data such as they were "
        "measured on.",
    ]


NO_INTENDED_USE = "Not stated by those who trained it."

_NOTICE = """\
Say so wherever you show it. Images that `i2i translate`, `i2i upscale`, `i2i draw` and `i2i evaluate` write carry a
note that they are synthetic and by which model, as text in the file and as IPTC's DigitalSourceType, unless
`--no-provenance` is given. Arrays and tensors that `i2i.load(...)` returns carry none."""


_TRANSLATE = """\
import i2i

t = i2i.load("path/to/this/folder")
out = t("image.png")  # also arrays, tensors, PIL images, and lists of them; any size"""

_PAINT = """\
import i2i

t = i2i.load("path/to/this/folder")
label_map = "labels.png"  # class ids, one channel; also arrays, tensors, PIL images, and lists of them
out = t(label_map)"""

_PAINT_IN_STYLES = f"""\
{_PAINT}  # in the mean style
photo = "photo.jpg"
out = t(label_map, style=photo)  # in its colours and light
out = t(label_map, seed=7)  # in a style drawn at random"""

_DRAW = """\
import i2i

t = i2i.load("path/to/this/folder")
out = t(seed=1)  # one for each seed; a list of them gives a list"""

_DRAW_CLASSES = """\
import i2i

t = i2i.load("path/to/this/folder")
out = t(seed=1, label=0)  # one for each seed and class; a list of either gives a list"""


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{file} cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
