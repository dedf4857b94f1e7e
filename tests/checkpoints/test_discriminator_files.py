"""Files of ESRGAN's and Real-ESRGAN's discriminators against golden outputs and the published networks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from i2i.checkpoints import load_network, open_checkpoint
from i2i.errors import InputError


@pytest.mark.data
@pytest.mark.parametrize("name", ["esrgan-vgg-discriminator-128", "realesrgan-unet-discriminator-sn"])
@torch.no_grad()
def test_golden_outputs(name: str, data_dir: Path) -> None:
    folder = data_dir / "golden" / name
    golden = torch.load(folder / "io.pt")
    scores = load_network(folder / "weights.pth")(*golden["inputs"])
    torch.testing.assert_close(scores, golden["output"], rtol=0, atol=1e-5)


def vgg_widths(channels: int, width: int, halvings: int) -> list[tuple[int, int]]:
    """Channels in and out of each convolution."""
    outs = [width * min(2 ** (number // 2), 8) for number in range(2 * halvings)]
    return list(zip([channels, *outs], outs, strict=False))


class BasicSRVGG(nn.Module):
    """With the names of https://github.com/XPixelGroup/BasicSR."""

    def __init__(self, *, channels: int, width: int, halvings: int, side: int) -> None:
        super().__init__()
        self.halvings = halvings
        for number, (inputs, outputs) in enumerate(vgg_widths(channels, width, halvings)):
            place = f"{number // 2}_{number % 2}"
            size = (4, 2, 1) if number % 2 else (3, 1, 1)
            self.add_module(f"conv{place}", nn.Conv2d(inputs, outputs, *size, bias=number == 0))
            if number:
                self.add_module(f"bn{place}", nn.BatchNorm2d(outputs))
        self.linear1 = nn.Linear(outputs * side**2, 100)
        self.linear2 = nn.Linear(100, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = F.leaky_relu(self.get_submodule("conv0_0")(images), 0.2)
        for number in range(1, 2 * self.halvings):
            place = f"{number // 2}_{number % 2}"
            features = self.get_submodule(f"bn{place}")(self.get_submodule(f"conv{place}")(features))
            features = F.leaky_relu(features, 0.2)
        return self.linear2(F.leaky_relu(self.linear1(features.flatten(1)), 0.2))


class OldVGG(nn.Module):
    """With the names of ESRGAN's first training code, whose convolutions all have a bias."""

    def __init__(self, *, channels: int, width: int, halvings: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(vgg_widths(channels, width, halvings)):
            layers.append(nn.Conv2d(inputs, outputs, *((4, 2, 1) if number % 2 else (3, 1, 1))))
            layers += [nn.BatchNorm2d(outputs)] if number else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(outputs * side**2, 100), nn.LeakyReLU(0.2), nn.Linear(100, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


class PublishedUNet(nn.Module):
    """With the names of BasicSR, for sizes that are multiples of 8."""

    def __init__(self, *, channels: int, width: int, skips: bool = True) -> None:
        super().__init__()
        self.skips = skips
        self.conv0 = nn.Conv2d(channels, width, 3, padding=1)
        for number, (inputs, outputs) in enumerate([(1, 2), (2, 4), (4, 8), (8, 4), (4, 2), (2, 1), (1, 1), (1, 1)], 1):
            size = (4, 2, 1) if number < 4 else (3, 1, 1)
            conv = nn.Conv2d(inputs * width, outputs * width, *size, bias=False)
            self.add_module(f"conv{number}", spectral_norm(conv))
        self.conv9 = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        def step(number: int, features: Tensor) -> Tensor:
            return F.leaky_relu(self.get_submodule(f"conv{number}")(features), 0.2)

        def double(features: Tensor) -> Tensor:
            return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)

        x0 = step(0, images)
        x1 = step(1, x0)
        x2 = step(2, x1)
        x3 = step(3, x2)
        x4 = step(4, double(x3)) + self.skips * x2
        x5 = step(5, double(x4)) + self.skips * x1
        x6 = step(6, double(x5)) + self.skips * x0
        return self.conv9(step(8, step(7, x6)))


def trained(network: nn.Module, images: Tensor) -> nn.Module:
    """As after training: statistics and affine parameters that are not the initial ones, iterated spectral norms."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.8
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    with torch.no_grad():
        for _ in range(3):
            network.train()(images)
    return network.eval()


@torch.no_grad()
def assert_same(path: Path, reference: nn.Module, images: Tensor, arguments: dict[str, object]) -> None:
    checkpoint = open_checkpoint(path)
    assert checkpoint.spec is None and not checkpoint.network.training
    assert {finding.name: finding.value for finding in checkpoint.findings} == arguments
    assert checkpoint.network.arguments == arguments
    expected = reference(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(checkpoint.network(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrapper", ["params", None])
@pytest.mark.parametrize("kind", [BasicSRVGG, OldVGG])
@pytest.mark.parametrize(
    ("channels", "width", "halvings", "side"), [(3, 6, 5, 4), (1, 4, 6, 4), (4, 5, 5, 3), (3, 4, 4, 4)]
)
def test_any_vgg(
    kind: Callable[..., nn.Module],
    channels: int,
    width: int,
    halvings: int,
    side: int,
    wrapper: str | None,
    tmp_path: Path,
) -> None:
    size = side * 2**halvings
    images = torch.rand(2, channels, size, size)
    reference = trained(kind(channels=channels, width=width, halvings=halvings, side=side), images)
    state = reference.state_dict()
    torch.save({wrapper: state} if wrapper else state, tmp_path / "net_d.pth")
    arguments = {"in_channels": channels, "width": width, "size_px": size}
    assert_same(tmp_path / "net_d.pth", reference, images, arguments)


@pytest.mark.parametrize(("channels", "width"), [(3, 8), (1, 5)])
def test_any_unet(channels: int, width: int, tmp_path: Path) -> None:
    images = torch.rand(2, channels, 24, 16)
    reference = trained(PublishedUNet(channels=channels, width=width), images)
    torch.save({"params": reference.state_dict()}, tmp_path / "net_d.pth")
    arguments = {"in_channels": channels, "width": width, "skips": True}
    assert_same(tmp_path / "net_d.pth", reference, images, arguments)


@torch.no_grad()
def test_a_unet_without_skips_must_be_said(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 16, 16)
    reference = trained(PublishedUNet(channels=3, width=4, skips=False), images)
    torch.save(reference.state_dict(), tmp_path / "net_d.pth")
    guesses = [f.name for f in open_checkpoint(tmp_path / "net_d.pth").findings if not f.certain]
    assert guesses == ["skips"]
    network = load_network(tmp_path / "net_d.pth", skips=False)
    torch.testing.assert_close(network(images), reference(images), rtol=0, atol=1e-5)


def test_a_vgg_of_another_rule_is_told(tmp_path: Path) -> None:
    torch.save(BasicSRVGG(channels=3, width=2, halvings=5, side=2).state_dict(), tmp_path / "net_d.pth")
    with pytest.raises(InputError, match=r"net_d\.pth reads as the ESRGAN VGG-style .* left over.*size_px=64"):
        load_network(tmp_path / "net_d.pth")


@pytest.mark.parametrize(
    "reference",
    [
        BasicSRVGG(channels=3, width=1, halvings=2, side=3),
        OldVGG(channels=3, width=1, halvings=2, side=4),
        pytest.param(PublishedUNet(channels=3, width=1), marks=pytest.mark.slow),
    ],
    ids=lambda network: type(network).__name__,
)
def test_each_missing_or_misshapen_tensor_is_refused(
    reference: nn.Module, refuses_damage: Callable[[dict[str, Tensor]], None]
) -> None:
    refuses_damage(reference.state_dict())
