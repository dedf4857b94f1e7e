"""`i2i export`: from a weight file of another project to an ONNX file, in the words of the command line."""

from pathlib import Path

import onnxruntime
import pytest
import torch

from i2i.checkpoints import GeneratorSpec, ImageSide, save_generator
from i2i.cli.export import Settings, main
from i2i.errors import InputError
from i2i.generators import DCGANGenerator


@pytest.mark.data
def test_a_published_file_becomes_an_onnx_file(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = data_dir / "golden" / "realesrgan-compact-x4"
    main(Settings(weights=str(golden / "weights.pth"), out=tmp_path / "new" / "x4.onnx"))
    out = capsys.readouterr().out
    assert out.count("differs from PyTorch by at most") == 4
    assert "opset 18" in out
    session = onnxruntime.InferenceSession(tmp_path / "new" / "x4.onnx", providers=["CPUExecutionProvider"])
    pair = torch.load(golden / "io.pt")
    (found,) = session.run(None, {"images": pair["inputs"][0].numpy()})
    torch.testing.assert_close(torch.from_numpy(found), pair["output"], atol=1e-5, rtol=0)


@pytest.mark.data
def test_a_discriminator_is_refused(data_dir: Path, tmp_path: Path) -> None:
    weights = data_dir / "golden" / "junyanz-patchgan70-batch" / "weights.pth"
    with pytest.raises(InputError, match="is a pix2pix PatchGAN discriminator, which translates no images"):
        main(Settings(weights=str(weights), out=tmp_path / "net.onnx"))


def test_a_generator_that_draws_is_refused(tmp_path: Path) -> None:
    spec = GeneratorSpec(input=None, output=ImageSide(channels=3, dtype="uint8", data_range=(0, 255)))
    save_generator(tmp_path / "dcgan", network=DCGANGenerator(width=4, size=8), spec=spec, card="")
    with pytest.raises(InputError, match="is a i2i dcgan, which translates no images"):
        main(Settings(weights=str(tmp_path / "dcgan"), out=tmp_path / "net.onnx"))
