"""LPIPS against torchmetrics' (and so the authors') arithmetic, with random networks and the published heads."""

from pathlib import Path

import pytest
import torch
import torchmetrics.functional.image as functional_image
import torchvision
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import _LPIPS

from i2i import download
from i2i.errors import InputError, MissingWeights
from i2i.metrics import Lpips, load_lpips
from i2i.metrics.perceptual import ALEXNET_HEADS, VGG16_HEADS

NETWORKS = pytest.mark.parametrize(("network", "smallest_px"), [("alex", 31), ("vgg", 16)])
HEADS = Path(functional_image.__file__).with_name("lpips_models")


@pytest.fixture
def backbone(network: str, tmp_path: Path) -> Path:
    """A file as torchvision's, with some of the head beside the features."""
    build = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}[network]
    with torch.device("meta"):
        features = build(weights=None).features
    features = features.to_empty(device="cpu")
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.1)
    tensors = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    torch.save(tensors | {"classifier.1.bias": torch.zeros(8)}, tmp_path / "backbone.pth")
    return tmp_path / "backbone.pth"


def theirs(network: str, backbone: Path) -> nn.Module:
    module = _LPIPS(net=network, pnet_rand=True)
    tensors = {name.removeprefix("features."): tensor for name, tensor in torch.load(backbone).items()}
    for piece in (module.net.slice1, module.net.slice2, module.net.slice3, module.net.slice4, module.net.slice5):
        piece.load_state_dict({name: tensors[name] for name in piece.state_dict()})
    return module.eval()


def ours(network: str, backbone: Path) -> Lpips:
    return load_lpips(network, backbone_path=backbone, heads_path=HEADS / f"{network}.pth")


def images(*shape: int) -> Tensor:
    return torch.rand(*shape) * 2 - 1


@NETWORKS
def test_distances_are_torchmetrics(network: str, smallest_px: int, backbone: Path) -> None:
    metric, reference = ours(network, backbone), theirs(network, backbone)
    for size in ((64, 64), (smallest_px, 50), (71, 33)):
        target = images(3, 3, *size)
        output = (target + torch.tensor([0.05, 0.3, 1.0]).view(3, 1, 1, 1) * images(3, 3, *size)).clamp(-1, 1)
        found = metric(output, target)
        assert found.shape == (3,) and found[0] < found[1] < found[2]
        torch.testing.assert_close(found, reference(output, target).flatten(), rtol=1e-4, atol=1e-6)


@NETWORKS
def test_properties(network: str, smallest_px: int, backbone: Path) -> None:
    metric = ours(network, backbone)
    one, other = images(2, 3, 40, 40), images(2, 3, 40, 40).requires_grad_()
    assert metric(one, one).tolist() == [0, 0]
    torch.testing.assert_close(metric(one, other), metric(other, one))
    metric(one, other).sum().backward()
    assert other.grad is not None and other.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in metric.parameters())
    assert metric.bfloat16()(one.bfloat16(), one).dtype == torch.bfloat16
    with pytest.raises(InputError, match=f"at least {smallest_px} px"):
        metric(images(1, 3, smallest_px - 1, 64), images(1, 3, smallest_px - 1, 64))
    with pytest.raises(InputError, match=r"RGB.*\(1, 1, 64, 64\)"):
        metric(images(1, 1, 64, 64), images(1, 1, 64, 64))
    with pytest.raises(InputError, match="one shape"):
        metric(images(1, 3, 64, 64), images(2, 3, 64, 64))


@pytest.mark.parametrize("heads", [ALEXNET_HEADS, VGG16_HEADS], ids=["alex", "vgg"])
def test_published_heads_are_those_of_torchmetrics(heads: object) -> None:
    file = HEADS / f"{heads.name.removeprefix('lpips-0.1-')}"
    assert download.sha256_of(file) == heads.sha256 and file.stat().st_size == heads.size_bytes


@pytest.mark.parametrize("network", ["alex"])
def test_files_that_hold_something_else_are_refused(network: str, backbone: Path, tmp_path: Path) -> None:
    heads = HEADS / "alex.pth"
    with pytest.raises(InputError, match=r"backbone\.pth does not hold .* features\.0\.weight \(64, 3, 3, 3\), found"):
        load_lpips("vgg", backbone_path=backbone, heads_path=heads)
    with pytest.raises(InputError, match=r"vgg\.pth does not hold .*lin1\.model\.1\.weight \(1, 192, 1, 1\), found"):
        load_lpips("alex", backbone_path=backbone, heads_path=HEADS / "vgg.pth")
    with pytest.raises(InputError, match=r"lin0\.model\.1\.weight .* found nothing"):
        load_lpips("alex", backbone_path=backbone, heads_path=backbone)
    with pytest.raises(InputError, match=r"cannot be used: .*none\.pth cannot be read"):
        load_lpips("alex", backbone_path=tmp_path / "none.pth", heads_path=heads)
    with pytest.raises(InputError, match='"alex" or "vgg", got \'squeeze\''):
        load_lpips("squeeze", backbone_path=backbone, heads_path=heads)


@pytest.mark.parametrize("network", ["alex"])
def test_without_a_connection_the_message_says_what_to_do(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "ATTEMPTS", 1)

    def no_network(*_: object, **__: object) -> None:
        raise download.urllib.error.URLError("no network")

    monkeypatch.setattr(download.urllib.request, "urlopen", no_network)
    with pytest.raises(InputError, match=r"missing: .*put it at .*weights/alexnet-owt-7be5be79\.pth"):
        load_lpips()
    both = r"get https://\S+/alexnet-owt-7be5be79\.pth and https://\S+/alex\.pth"
    with pytest.raises(MissingWeights, match=both):
        load_lpips()
    with pytest.raises(MissingWeights, match=r"get https://\S+/alex\.pth\. "):
        load_lpips(backbone_path=backbone)
    for name in ("alexnet-owt-7be5be79.pth", "lpips-0.1-alex.pth"):  # of which nothing is right
        (tmp_path / "weights").mkdir(exist_ok=True)
        (tmp_path / "weights" / name).write_bytes(b"no weights")
    with pytest.raises(MissingWeights, match=r"get https://\S+/alexnet-owt-7be5be79\.pth\. "):
        load_lpips()


@pytest.mark.parametrize("network", ["alex"])
def test_what_is_in_the_cache_is_taken(
    network: str, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "alexnet-owt-7be5be79.pth").symlink_to(backbone)
    (tmp_path / "weights" / "lpips-0.1-alex.pth").symlink_to(HEADS / "alex.pth")
    one, other = images(1, 3, 40, 40), images(1, 3, 40, 40)
    assert load_lpips()(one, other) == ours("alex", backbone)(one, other)
