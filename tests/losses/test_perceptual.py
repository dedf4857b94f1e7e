"""The perceptual loss against torchvision's VGG19, with random weights where only the arithmetic matters."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from i2i import download
from i2i.errors import InputError
from i2i.losses.perceptual import (
    ESRGAN_LAYERS,
    PIX2PIXHD_LAYERS,
    REAL_ESRGAN_LAYERS,
    PerceptualLoss,
    load_vgg19,
)

# Of each layer: torchvision's count of layers up to and with it (its `features[:count]`), and its published weight.
PUBLISHED = {
    "relu1_1": (2, 1 / 32),
    "relu2_1": (7, 1 / 16),
    "relu3_1": (12, 1 / 8),
    "relu4_1": (21, 1 / 4),
    "relu5_1": (30, 1.0),
    "conv1_2": (3, 0.1),
    "conv2_2": (8, 0.1),
    "conv3_4": (17, 1.0),
    "conv4_4": (26, 1.0),
    "conv5_4": (35, 1.0),
}


@pytest.fixture(scope="module")
def theirs() -> nn.Sequential:
    torch.manual_seed(1)
    # Without its fully connected layers, which take most of the time and memory.
    return (
        torchvision.models.vgg._vgg("E", False, None, progress=False, num_classes=2)
        .features.eval()
        .requires_grad_(False)
    )


@pytest.fixture(scope="module")
def file(theirs: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As torchvision names the tensors, with some of the head beside them."""
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(named(theirs) | {"classifier.0.bias": torch.zeros(8)}, path)
    return path


def named(theirs: nn.Sequential) -> dict[str, Tensor]:
    return {f"features.{name}": tensor for name, tensor in theirs.state_dict().items()}


def images(*shape: int) -> Tensor:
    return torch.rand(*shape) * 2 - 1


def normalised(pictures: Tensor) -> Tensor:
    """As torchvision's own preprocessing does it."""
    return torchvision.transforms.functional.normalize((pictures + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("layers", [PIX2PIXHD_LAYERS, ESRGAN_LAYERS, REAL_ESRGAN_LAYERS], ids=["hd", "esr", "resr"])
def test_features_and_loss_are_torchvisions(file: Path, theirs: nn.Sequential, layers: dict[str, float]) -> None:
    loss = PerceptualLoss(vgg=load_vgg19(file), layers=layers)
    fake, real = images(2, 3, 32, 48), images(2, 3, 32, 48)
    found = loss.features(fake)
    assert list(found) == list(layers)
    expected = 0.0
    for name in layers:
        count, weight = PUBLISHED[name]
        of_fake, of_real = (theirs[:count](normalised(pictures)) for pictures in (fake, real))
        torch.testing.assert_close(found[name], of_fake, rtol=1e-5, atol=1e-6)
        expected += weight * (of_fake - of_real).abs().mean().item()
    assert loss(fake, real).item() == pytest.approx(expected, rel=1e-5)


def test_published_layers() -> None:
    assert sorted(PIX2PIXHD_LAYERS) == sorted(name for name in PUBLISHED if name.startswith("relu"))
    assert sorted(REAL_ESRGAN_LAYERS) == sorted(name for name in PUBLISHED if name.startswith("conv"))
    assert ESRGAN_LAYERS == {"conv5_4": 1.0}


def test_timms_file_reads_the_same(file: Path, theirs: nn.Sequential, tmp_path: Path) -> None:
    """timm names the convolutions as torchvision does, and its head otherwise."""
    save_file(named(theirs) | {"pre_logits.fc1.bias": torch.zeros(8)}, tmp_path / "model.safetensors")
    ours, again = load_vgg19(file), load_vgg19(tmp_path / "model.safetensors")
    assert ours.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(first, again.state_dict()[name]) for name, first in ours.state_dict().items())


def test_only_the_fake_images_get_a_gradient(file: Path) -> None:
    loss = PerceptualLoss(vgg=load_vgg19(file))
    fake, real = images(1, 3, 16, 16).requires_grad_(), images(1, 3, 16, 16).requires_grad_()
    loss(fake, real).backward()
    assert real.grad is None
    assert fake.grad is not None and fake.grad.abs().min() > 0
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in loss.parameters())
    assert loss(real.detach(), real.detach()).item() == 0


def test_16_bit_images_and_autocast_come_near_and_are_summed_in_float32(file: Path) -> None:
    loss = PerceptualLoss(vgg=load_vgg19(file))
    fake, real = images(1, 3, 32, 32), images(1, 3, 32, 32)
    exact = loss(fake, real)
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(fake, real)
    for found in (cast, loss(fake.bfloat16(), real.bfloat16())):
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(exact.item(), rel=0.03)


def test_unusable_images_and_layers_are_refused(file: Path) -> None:
    vgg = load_vgg19(file)
    with pytest.raises(InputError, match=r"relu1_1.*got relu9_9"):
        PerceptualLoss(vgg=vgg, layers={"relu9_9": 1.0})
    loss = PerceptualLoss(vgg=vgg)
    with pytest.raises(InputError, match="at least 16 px"):
        loss(images(1, 3, 15, 40), images(1, 3, 15, 40))
    with pytest.raises(InputError, match=r"\(1, 5, 16, 16\)"):
        loss(images(1, 5, 16, 16), images(1, 5, 16, 16))
    with pytest.raises(InputError, match="of one shape"):
        loss(images(1, 3, 16, 16), images(2, 3, 16, 16))


def test_files_without_vgg19_are_refused(theirs: nn.Sequential, tmp_path: Path) -> None:
    """VGG16 has the same first layers: it is told by the shapes, and nothing is left random."""
    tensors = named(theirs)
    path = tmp_path / "weights.pth"
    torch.save(named(torchvision.models.vgg16(weights=None, init_weights=False).features), path)
    with pytest.raises(InputError, match=r"weights\.pth .*features\.\d+\.weight .*--perceptual off"):
        load_vgg19(path)
    torch.save({name: tensor for name, tensor in tensors.items() if name != "features.34.bias"}, path)
    with pytest.raises(InputError, match=r"expected features\.34\.bias \(512,\), found nothing"):
        load_vgg19(path)
    with pytest.raises(InputError, match=r"missing\.pth cannot be read"):
        load_vgg19(tmp_path / "missing.pth")


def test_without_a_connection_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "ATTEMPTS", 1)

    def no_network(*_: object, **__: object) -> None:
        raise download.urllib.error.URLError("no network")

    monkeypatch.setattr(download.urllib.request, "urlopen", no_network)
    with pytest.raises(InputError, match=r"put it at .*vgg19-dcbb9e9d\.pth, or .*--perceptual off"):
        load_vgg19()


def test_what_is_in_the_cache_is_taken(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vgg19-dcbb9e9d.pth").symlink_to(file)
    assert torch.equal(load_vgg19().conv1_1.weight, load_vgg19(file).conv1_1.weight)
