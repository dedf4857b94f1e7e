"""Networks as ONNX files, which other runtimes compute without PyTorch; each file is run and compared when written."""

import json
import warnings
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from i2i import __version__
from i2i.checkpoints.store import GeneratorSpec
from i2i.errors import InputError, RunStopped
from i2i.files import naming, replacing
from i2i.inference.styles import only_size
from i2i.layers.norm import set_inference_mode

OPSET = 18
# Sums taken in another order differ by some 1e-6 of the largest value; 8 bits step by 4e-3.
TOLERANCE = 1e-4
CHECKED_PX = 32  # the checks' images have about this side, for speed


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written, and how it was checked.

    Attributes:
        path: the file.
        opset: version of the ONNX operators in it.
        size_bytes: of the file.
        differences: for each shape (N, C, H, W) of random images, the largest absolute difference between the outputs
            of onnxruntime and PyTorch.
    """

    path: Path
    opset: int
    size_bytes: int
    differences: dict[tuple[int, ...], float]


@torch.no_grad()
def export_onnx(network: nn.Module, path: Path, *, spec: GeneratorSpec, opset: int = OPSET) -> ExportReport:
    """Write a network as one ONNX file, once onnxruntime has computed the same from it.

    The file's input `images` is float32 (N, in_channels, H, W), its output `translations` (N, out_channels, H · scale,
    W · scale), for any N and any H and W that are multiples of the network's `size_multiple`. Their values are the
    network's own; label maps are one-hot. A generator with a latent vector paints images of one size, and what is
    exported is its mean style. `metadata_props` says which data the values stand for, each entry in JSON: `input` and
    `output` as in config.json, `normalisation`, `scale`, `size_multiple`, `network` and `i2i_version`.

    Args:
        network: a generator that translates images; it is left as it is.
        path: where to write; what lay there stays until the new file has passed.
        spec: what the network expects and returns. BatchNorm is exported as `spec.normalisation` says; dropout is
            always off.
        opset: version of the ONNX operators, at least `OPSET`.

    Raises:
        InputError: the packages of the extra `export` are missing, the path does not end in .onnx, the opset is too
            old or unknown, or the network takes no images.
        RunStopped: PyTorch cannot export the network, or the file computes something else: an output is further than
            `TOLERANCE` from PyTorch's, in units of the largest value if that is above 1.
        OSError: the file cannot be written.
    """
    _check_packages()
    if spec.input is None:
        raise InputError(f"{type(network).__name__} draws from latent vectors; only what translates images is exported")
    if path.suffix.lower() != ".onnx":
        raise InputError(f"{path}: expected a name that ends in .onnx")
    _check_opset(opset)
    value_range = spec.input.network_range
    spec = replace(spec, dropout=False)
    network = _copy_with_fixed_weights(network)
    set_inference_mode(network, normalisation=spec.normalisation, dropout=False)
    checks = _run_on_random_images(network, value_range)

    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        _write(network, temporary, opset=opset)
        _add_metadata(network, temporary, spec)
        differences = _compare(temporary, checks)
        return ExportReport(path=path, opset=opset, size_bytes=temporary.stat().st_size, differences=differences)


def _check_packages() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(f"exporting needs {', '.join(missing)}: pip install 'i2i[export]'")


def _check_opset(opset: int) -> None:
    from onnx.defs import onnx_opset_version

    if not OPSET <= opset <= onnx_opset_version():
        raise InputError(f"opset: expected {OPSET} to {onnx_opset_version()}, got {opset}")


def _copy_with_fixed_weights(network: Any) -> nn.Module:
    """The network on the CPU in float32; weights that each forward computes, as by spectral norm, are plain ones.

    Built anew, for a deep copy shares with the original the classes that parametrizations change.
    """
    with torch.random.fork_rng(devices=[]):  # a constructor draws initial weights
        replica = type(network)(**network.arguments)
    replica.load_state_dict(network.state_dict())
    replica.eval()  # in training mode spectral norm would go on estimating
    for module in replica.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
    return replica.requires_grad_(False)


def _run_on_random_images(network: Any, value_range: tuple[float, float]) -> list[tuple[Tensor, Tensor]]:
    """Images of several sizes, the smallest included, and what the network makes of them."""
    multiple = network.size_multiple
    smallest = max(multiple, getattr(network, "smallest_px", 1))
    side = multiple * max(2, CHECKED_PX // multiple)
    sizes = [(1, smallest, smallest), (1, side, side + multiple), (2, side + multiple, side), (3, side, side)]
    if (size := only_size(network)) is not None:
        sizes = [(count, *size) for count in (1, 2, 3)]
    low, high = value_range
    # A generator of its own leaves the caller's random numbers as they were.
    random = torch.Generator().manual_seed(0)
    images = [
        low + (high - low) * torch.rand(count, network.in_channels, height, width, generator=random)
        for count, height, width in sizes
    ]
    return [(image, network(image)) for image in images]


def _write(network: Any, path: Path, *, opset: int) -> None:
    multiple, size = network.size_multiple, only_size(network)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    if multiple > 1:
        height, width = multiple * height, multiple * width
    dynamic = {0: batch} if size is not None else {0: batch, 2: height, 3: width}
    # All sizes differ, and none is one, or the exporter would take them for bound to each other or fixed.
    example = torch.zeros(3, network.in_channels, *(size or (4 * multiple, 5 * multiple)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the exporter's own insides
            torch.onnx.export(
                network,
                (example,),
                path,
                input_names=["images"],
                output_names=["translations"],
                opset_version=opset,
                dynamo=True,
                dynamic_shapes=(dynamic,),
                external_data=False,
                verbose=False,
            )
    except OSError:
        raise
    except Exception as error:  # of many kinds, by what the exporter stumbles over
        name = type(network).__name__
        raise RunStopped(f"PyTorch cannot export {name} as ONNX with opset {opset}: {error}") from error


def _add_metadata(network: Any, path: Path, spec: GeneratorSpec) -> None:
    import onnx

    entries = {
        "i2i_version": __version__,
        "network": type(network).__name__,
        "scale": network.scale,
        "size_multiple": network.size_multiple,
        **asdict(spec),
    }
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in entries.items()})
    onnx.save(model, path)


def _compare(path: Path, checks: list[tuple[Tensor, Tensor]]) -> dict[tuple[int, ...], float]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        outputs = [session.run(["translations"], {"images": images.numpy()})[0] for images, _ in checks]
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise RunStopped(f"onnxruntime cannot run the exported network, and no file was written: {error}") from error
    differences = {}
    for (images, expected), output in zip(checks, outputs, strict=True):
        found, shape = torch.from_numpy(output), tuple(images.shape)
        difference = (found - expected).abs().max().item() if found.shape == expected.shape else float("nan")
        if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
            raise RunStopped(
                f"onnxruntime computes something else than PyTorch from the exported network: for images {shape} the "
                f"outputs are {tuple(found.shape)} and {tuple(expected.shape)}, up to {difference:.1e} apart. No file "
                "was written: try another --opset, or other versions of torch, onnxscript and onnxruntime"
            )
        differences[shape] = difference
    return differences
