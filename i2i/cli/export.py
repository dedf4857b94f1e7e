"""Write a network as ONNX, for runtimes other than PyTorch, and check that it computes the same.

    i2i export --weights RealESRGAN_x2plus --out x2.onnx
    i2i export --weights runs/facades --out facades.onnx --normalisation per_image

The file takes batches and images of any size; its metadata says which values and size multiples. Label maps go in
one-hot. A network with a latent vector is exported with the one size and in the mean style. onnxruntime computes random
images from the file before it is put in place.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tyro.conf import UseAppendAction

from i2i.checkpoints.catalogue import find_weights
from i2i.checkpoints.foreign import open_checkpoint
from i2i.cli.overrides import parse_overrides
from i2i.errors import InputError
from i2i.inference.export import OPSET, export_onnx
from i2i.inference.styles import only_size
from i2i.layers.norm import Normalisation


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to export.

    Attributes:
        weights: a generator's folder, a weight file of any project, a name that `i2i weights` lists, or a repository
            "owner/name" of the Hugging Face Hub.
        out: the file to write; one that is there is replaced once the new one has passed its check.
        format: of the file.
        opset: version of the ONNX operators; the default is the oldest that can be written.
        normalisation: BatchNorm by running statistics ("eval") or by those of each image ("per_image"). Unless given,
            what is stored with the weights.
        set: name=value, an argument of the network that its file cannot tell; `i2i inspect` lists them.
    """

    weights: str
    out: Path
    format: Literal["onnx"] = "onnx"
    opset: int = OPSET
    normalisation: Normalisation | None = None
    set: UseAppendAction[tuple[str, ...]] = ()


def main(settings: Settings) -> None:
    """Export, and say how close the two outputs are."""
    checkpoint = open_checkpoint(find_weights(settings.weights), **parse_overrides(settings.set))
    spec = checkpoint.spec
    if spec is None or spec.input is None:
        raise InputError(f"{settings.weights} is a {checkpoint.family}, which translates no images")
    if settings.normalisation is not None:
        spec = replace(spec, normalisation=settings.normalisation)
    if spec.dropout:
        print("Dropout, which is on in this network, is off in the exported one.", file=sys.stderr)
    if (size := only_size(checkpoint.network)) is not None:
        height, width = size
        print(f"The exported network paints {width} x {height} px in the mean style alone.", file=sys.stderr)
    print(f"Exporting {checkpoint.family}: large networks take a minute …", file=sys.stderr)
    report = export_onnx(checkpoint.network, settings.out, spec=spec, opset=settings.opset)
    for shape, difference in report.differences.items():
        print(f"images {' x '.join(map(str, shape))}: differs from PyTorch by at most {difference:.1e}")
    print(f"{report.path}: {report.size_bytes / 1e6:.1f} MB, opset {report.opset}")
