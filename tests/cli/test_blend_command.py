"""`i2i blend`: the folder that it writes, used as weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

import i2i
from i2i.checkpoints import GeneratorSpec, ImageSide, save_generator
from i2i.cli.blend import Settings, main
from i2i.errors import InputError
from i2i.generators import CompactGenerator


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Two generators that differ in their last convolution alone."""
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
    side = ImageSide(channels=3, dtype="float32", data_range=(0, 1), network_range=(0, 1))
    for name in ("first", "second"):
        torch.nn.init.normal_(network.body[-1].weight)
        save_generator(tmp_path / name, network=network, spec=GeneratorSpec(input=side, output=side), card="A test.")
    return str(tmp_path / "first"), str(tmp_path / "second")


def test_a_folder_between_two(folders: tuple[str, str], tmp_path: Path) -> None:
    first, second = folders
    main(Settings(a=first, b=second, alpha=0.25, out=tmp_path / "mixed"))
    image = np.random.default_rng(0).random((6, 5, 3), dtype=np.float32)
    a, b, mixed = (i2i.load(folder, device="cpu")(image) for folder in (first, second, tmp_path / "mixed"))
    assert np.abs(a - b).max() > 0.1
    np.testing.assert_allclose(mixed, 0.75 * a + 0.25 * b, atol=1e-5)
    card = (tmp_path / "mixed" / "README.md").read_text()
    assert f"0.75 · `{first}` + 0.25 · `{second}`" in card


def test_nothing_is_overwritten(folders: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="first is there already"):
        main(Settings(a=folders[0], b=folders[1], alpha=0.5, out=Path(folders[0])))


@pytest.mark.data
def test_weights_of_another_project(data_dir: Path, tmp_path: Path) -> None:
    file = str(data_dir / "golden" / "realesrgan-compact-x4" / "weights.pth")
    main(Settings(a=file, b=file, alpha=0.5, out=tmp_path / "same"))
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(i2i.load(tmp_path / "same")(image), i2i.load(file)(image))
    with pytest.raises(InputError, match="no argument blocks"):
        main(Settings(a=file, b=file, alpha=0.5, out=tmp_path / "other", set=("blocks=2",)))
