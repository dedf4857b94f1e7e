"""Files of SPADE's and pix2pixHD's multi-scale discriminators against golden outputs and the published networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

import i2i
from i2i.checkpoints import load_network
from i2i.checkpoints.foreign import open_checkpoint
from i2i.cli.inspect import describe
from i2i.errors import InputError


@pytest.mark.data
@torch.no_grad()
def test_golden_outputs(data_dir: Path) -> None:
    folder = data_dir / "golden" / "spade-multiscale-discriminator"
    golden = torch.load(folder / "io.pt")
    features = load_network(folder / "weights.pth")(*golden["inputs"])
    assert [len(scale) for scale in features] == [5, 5]
    torch.testing.assert_close(features, golden["output"], rtol=0, atol=1e-5)


def make_norm(kind: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels)


class SPADEReference(nn.Module):
    """The published network of SPADE, its parts under their published names."""

    def __init__(self, *, inputs: int, width: int, layers: int, scales: int, norm: str, spectral: bool) -> None:
        super().__init__()
        wrap = spectral_norm if spectral else nn.Identity()
        for scale in range(scales):
            judge = nn.Module()
            judge.model0 = nn.Sequential(nn.Conv2d(inputs, width, 4, stride=2, padding=2), nn.LeakyReLU(0.2))
            last = width
            for n in range(1, layers):
                channels = min(2 * last, 512)
                stride = 1 if n == layers - 1 else 2
                normed = wrap(nn.Conv2d(last, channels, 4, stride, padding=2, bias=norm == "none"))
                if norm != "none":
                    normed = nn.Sequential(normed, make_norm(norm, channels))
                setattr(judge, f"model{n}", nn.Sequential(normed, nn.LeakyReLU(0.2)))
                last = channels
            setattr(judge, f"model{layers}", nn.Sequential(nn.Conv2d(last, 1, 4, padding=2)))
            setattr(self, f"discriminator_{scale}", judge)

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        results = []
        for judge in self.children():
            features = [images]
            for part in judge.children():
                features.append(part(features[-1]))
            results.append(features[1:])
            images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
        return results


class PixHDReference(nn.Module):
    """The published network of pix2pixHD, whose last scale sees the full size; n_layers is our layers less 1."""

    def __init__(self, *, inputs: int, width: int, n_layers: int, scales: int, norm: str, features: bool) -> None:
        super().__init__()
        self.scales, self.features = scales, features
        for scale in range(scales):
            parts = [nn.Sequential(nn.Conv2d(inputs, width, 4, stride=2, padding=2), nn.LeakyReLU(0.2))]
            last = width
            for n in range(1, n_layers + 1):
                channels = min(2 * last, 512)
                conv = nn.Conv2d(last, channels, 4, stride=2 if n < n_layers else 1, padding=2)
                parts.append(nn.Sequential(conv, make_norm(norm, channels), nn.LeakyReLU(0.2)))
                last = channels
            parts.append(nn.Sequential(nn.Conv2d(last, 1, 4, padding=2)))
            if features:
                for n, part in enumerate(parts):
                    setattr(self, f"scale{scale}_layer{n}", part)
            else:
                setattr(self, f"layer{scale}", nn.Sequential(*(module for part in parts for module in part)))

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        results = []
        for scale in reversed(range(self.scales)):
            parts = [
                part for name, part in self.named_children() if name.startswith((f"scale{scale}_", f"layer{scale}"))
            ]
            features = [images]
            for part in parts:
                features.append(part(features[-1]))
            results.append(features[1:])
            images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
        return results


def trained(network: nn.Module) -> nn.Module:
    """As after training: statistics that are not the initial ones, and spectral norms that have been stepped."""
    inputs = next(parameter for parameter in network.parameters() if parameter.ndim == 4).shape[1]
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            nn.init.normal_(norm.weight, mean=1)
            nn.init.normal_(norm.bias)
        for _ in range(3):
            network(2 + torch.randn(2, inputs, 30, 40))
    return network.eval()


@torch.no_grad()
def assert_same(reference: nn.Module, file: Path, *, inputs: int) -> dict[str, Any]:
    """The scores and, where the reference hands them out, the features; returns what `i2i inspect` says."""
    torch.save(reference.state_dict(), file)
    images = torch.randn(2, inputs, 37, 52)
    expected, found = reference(images), load_network(file)(images)
    assert expected[0][-1].std() > 1e-3
    assert len(found) == len(expected)
    torch.testing.assert_close(
        [f[-len(e) :] for e, f in zip(expected, found, strict=True)], expected, rtol=0, atol=1e-5
    )
    with pytest.raises(InputError, match=r"is a .* multi-scale discriminator, which translates no images$"):
        i2i.load(file)
    return describe(open_checkpoint(file))


@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_any_discriminator_of_spade(norm: str, spectral: bool, scales: int, tmp_path: Path) -> None:
    layers = 5 - scales
    reference = SPADEReference(inputs=5, width=3, layers=layers, scales=scales, norm=norm, spectral=spectral)
    said = assert_same(trained(reference), tmp_path / "latest_net_D.pth", inputs=5)
    assert "SPADE" in said["family"]
    values = {finding["name"]: finding["value"] for finding in said["findings"] if finding["certain"]}
    assert values == {
        "in_channels": 5,
        "width": 3,
        "layers": layers,
        "scales": scales,
        "norm": norm,
        "spectral": spectral,
    }


@pytest.mark.parametrize(("width", "layers"), [(4, 1), (100, 5), (300, 3)])
def test_depths_and_widths_of_spade(width: int, layers: int, tmp_path: Path) -> None:
    reference = SPADEReference(inputs=4, width=width, layers=layers, scales=1, norm="instance", spectral=True)
    assert_same(trained(reference), tmp_path / "latest_net_D.pth", inputs=4)


@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_any_discriminator_of_pix2pixhd(norm: str, features: bool, scales: int, tmp_path: Path) -> None:
    reference = PixHDReference(inputs=6, width=4, n_layers=4 - scales, scales=scales, norm=norm, features=features)
    said = assert_same(trained(reference), tmp_path / "latest_net_D.pth", inputs=6)
    assert "pix2pixHD" in said["family"]
    guesses = {finding["name"] for finding in said["findings"] if not finding["certain"]}
    assert guesses == ({"norm"} if norm == "instance" else set())


@pytest.mark.parametrize(
    "reference",
    [
        SPADEReference(inputs=3, width=1, layers=3, scales=1, norm="batch", spectral=True),
        SPADEReference(inputs=3, width=1, layers=2, scales=1, norm="none", spectral=True),
        PixHDReference(inputs=3, width=1, n_layers=2, scales=2, norm="batch", features=True),
        PixHDReference(inputs=3, width=1, n_layers=1, scales=2, norm="instance", features=False),
    ],
    ids=lambda network: type(network).__name__,
)
def test_a_missing_or_misshapen_tensor_is_refused(
    reference: nn.Module, refuses_damage: Callable[[dict[str, Tensor]], None]
) -> None:
    refuses_damage(reference.state_dict())
