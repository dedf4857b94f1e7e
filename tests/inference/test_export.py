"""ONNX files against PyTorch, by onnxruntime, at sizes that the export never saw."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.errors import InputError, RunStopped
from i2i.generators import GENERATORS
from i2i.inference import export as module
from i2i.inference.export import export_onnx
from i2i.layers.norm import Normalisation, set_inference_mode

SMALL: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: GENERATORS["resnet"](in_channels=2, out_channels=3, width=4, blocks=1),
    "resnet-skips-residual": lambda: GENERATORS["resnet"](
        in_channels=3, out_channels=3, width=4, blocks=1, skips=True, residual=1.5
    ),
    "resnet-batch-resize": lambda: GENERATORS["resnet"](
        in_channels=3, out_channels=3, width=4, blocks=1, norm="batch", upsampling="resize"
    ),
    "resnet-antialiased": lambda: GENERATORS["resnet"](
        in_channels=3, out_channels=3, width=4, blocks=1, antialias=True, upsampling="bilinear"
    ),
    "unet": lambda: GENERATORS["unet"](in_channels=3, out_channels=1, width=4, depth=3),
    "unet-instance": lambda: GENERATORS["unet"](in_channels=3, out_channels=3, width=4, depth=3, norm="instance"),
    "unet-resize-full": lambda: GENERATORS["unet"](
        in_channels=3, out_channels=3, width=4, depth=3, upsampling="resize", full_size_skip=True
    ),
    "rrdb-x1": lambda: GENERATORS["rrdb"](
        in_channels=3, out_channels=3, width=4, growth=4, blocks=1, scale=1, unshuffle=4
    ),
    "rrdb-x2": lambda: GENERATORS["rrdb"](
        in_channels=3, out_channels=3, width=4, growth=4, blocks=1, scale=2, unshuffle=2
    ),
    "rrdb-x4": lambda: GENERATORS["rrdb"](in_channels=3, out_channels=3, width=4, growth=4, blocks=1),
    "compact-x4": lambda: GENERATORS["compact"](in_channels=3, out_channels=3, width=4, convs=2),
    "srresnet": lambda: GENERATORS["srresnet"](in_channels=3, out_channels=3, width=4, blocks=1),
    "msrresnet": lambda: GENERATORS["msrresnet"](in_channels=3, out_channels=3, width=4, blocks=1),
    "spade": lambda: GENERATORS["spade"](in_channels=4, width=2, hidden_width=4),
}


def spec_of(network: nn.Module, *, normalisation: Normalisation = "eval", dropout: bool = False) -> GeneratorSpec:
    return GeneratorSpec(
        input=ImageSide(
            channels=network.in_channels, dtype="uint16", data_range=(0, 4095), network_range=network.input_range
        ),
        output=ImageSide(
            channels=network.out_channels, dtype="uint8", data_range=(0, 255), network_range=network.output_range
        ),
        normalisation=normalisation,
        dropout=dropout,
    )


def randomise(network: nn.Module) -> nn.Module:
    """Outputs far from constant, and running statistics that matter."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                buffer.normal_()
    return network


def compute(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["translations"], {"images": images.numpy()})[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_file_computes_the_same_at_any_size(name: str, tmp_path: Path) -> None:
    network = randomise(SMALL[name]())
    report = export_onnx(network, tmp_path / "net.onnx", spec=spec_of(network))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]  # the weights lie inside
    assert report.size_bytes == (tmp_path / "net.onnx").stat().st_size
    multiple = network.size_multiple
    for batch, rows, columns in [(1, 2, 7), (5, 4, 3)]:
        images = torch.rand(batch, network.in_channels, rows * multiple, columns * multiple)
        with torch.no_grad():
            expected = network.eval()(images)
        assert expected.std() > 1e-2
        torch.testing.assert_close(compute(report.path, images), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_generator_of_many_styles_is_exported_with_the_mean_one(tmp_path: Path) -> None:
    size = {"latent_channels": 3, "latent_height": 1, "latent_width": 2, "style_encoder_width": 4, "style_px": 16}
    network = randomise(GENERATORS["spade"](in_channels=4, width=2, hidden_width=4, **size))
    report = export_onnx(network, tmp_path / "net.onnx", spec=spec_of(network))
    images = torch.rand(5, 4, 32, 64)
    with torch.no_grad():
        expected = network.eval()(images, torch.zeros(5, 3))
    assert expected.std() > 1e-2
    torch.testing.assert_close(compute(report.path, images), expected, atol=1e-4, rtol=0)


def test_normalisation_of_each_image_is_exported_without_dropout(tmp_path: Path) -> None:
    network = randomise(GENERATORS["unet"](in_channels=3, out_channels=3, width=2, depth=6, dropout=True))
    spec = spec_of(network, normalisation="per_image", dropout=True)
    report = export_onnx(network, tmp_path / "net.onnx", spec=spec)
    assert network.training  # left as it was
    images = torch.rand(2, 3, 64, 128)
    set_inference_mode(network, normalisation="per_image", dropout=False)
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(compute(report.path, images), expected, atol=1e-4, rtol=0)
    set_inference_mode(network, normalisation="eval", dropout=False)
    with torch.no_grad():
        assert (network(images) - expected).abs().max() > 1e-2


@pytest.fixture
def compact() -> nn.Module:
    return randomise(SMALL["compact-x4"]())


def test_metadata_says_what_the_values_are(compact: nn.Module, tmp_path: Path) -> None:
    export_onnx(compact, tmp_path / "net.onnx", spec=spec_of(compact))
    model = onnx.load(tmp_path / "net.onnx")
    entries = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert entries["scale"] == 4
    assert entries["size_multiple"] == 1
    assert entries["input"]["data_range"] == [0, 4095]
    assert entries["input"]["network_range"] == [0, 1]
    assert entries["output"]["dtype"] == "uint8"
    assert [opset.version for opset in model.opset_import] == [18]


def test_another_opset(compact: nn.Module, tmp_path: Path) -> None:
    export_onnx(compact, tmp_path / "net.onnx", spec=spec_of(compact), opset=20)
    assert [opset.version for opset in onnx.load(tmp_path / "net.onnx").opset_import] == [20]


def test_a_file_that_computes_something_else_is_not_written(
    compact: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that gets one weight a little wrong."""
    file = tmp_path / "net.onnx"
    file.write_text("an older file")
    write = module._write

    def write_wrongly(network: nn.Module, path: Path, *, opset: int) -> None:
        with torch.no_grad():
            next(network.parameters())[0, 0, 0, 0] += 0.01
        write(network, path, opset=opset)

    monkeypatch.setattr(module, "_write", write_wrongly)
    with pytest.raises(RunStopped, match="computes something else than PyTorch"):
        export_onnx(compact, file, spec=spec_of(compact))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert file.read_text() == "an older file"


def test_a_network_that_cannot_be_exported_is_told(compact: nn.Module, tmp_path: Path) -> None:
    class Depends(type(compact)):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images if images.mean() > 0.5 else -images)

    compact.__class__ = Depends
    with pytest.raises(RunStopped, match="PyTorch cannot export Depends as ONNX with opset 18"):
        export_onnx(compact, tmp_path / "net.onnx", spec=spec_of(compact))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "opset", "message"), [("net.pt", 18, "ends in .onnx"), ("net.onnx", 17, "expected 18 to")]
)
def test_bad_arguments(compact: nn.Module, tmp_path: Path, name: str, opset: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_onnx(compact, tmp_path / name, spec=spec_of(compact), opset=opset)


def test_networks_that_are_not_exported(tmp_path: Path) -> None:
    dcgan = GENERATORS["dcgan"](latent_channels=4, width=4, size=16)
    spec = GeneratorSpec(input=None, output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)))
    with pytest.raises(InputError, match="draws from latent vectors"):
        export_onnx(dcgan, tmp_path / "net.onnx", spec=spec)


def test_missing_packages_are_named(compact: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(InputError, match=r"exporting needs onnxscript: pip install 'i2i\[export\]'"):
        export_onnx(compact, tmp_path / "net.onnx", spec=spec_of(compact))


def test_the_module_brings_no_onnx_along() -> None:
    code = "import i2i.inference.export, sys; print({'onnx', 'onnxscript', 'onnxruntime'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
