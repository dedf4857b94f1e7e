"""Files of SPADE against golden outputs, and against its generator and style encoder laid out as published."""

import math
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
@pytest.mark.parametrize("name", ["normal", "most-vae"])
@torch.no_grad()
def test_golden_outputs(name: str, data_dir: Path) -> None:
    folder = data_dir / "golden" / f"spade-generator-{name}"
    golden = torch.load(folder / "io.pt")
    network = load_network(folder / "weights.pth")
    torch.testing.assert_close(network(**golden["inputs"]), golden["output"], rtol=0, atol=1e-5)
    torch.testing.assert_close(network(*golden["inputs"].values()), golden["output"], rtol=0, atol=1e-5)


class Norm(nn.Module):
    def __init__(self, channels: int, labels: int, kind: str, kernel: int, hidden: int) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if kind == "batch" else nn.InstanceNorm2d
        self.param_free_norm = norm(channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, hidden, kernel, padding="same"), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, kernel, padding="same")
        self.mlp_beta = nn.Conv2d(hidden, channels, kernel, padding="same")

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        hidden = self.mlp_shared(F.interpolate(labels, size=x.shape[2:], mode="nearest"))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, spectral: bool, *norm: Any) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        wrap = spectral_norm if spectral else nn.Identity()
        self.conv_0 = wrap(nn.Conv2d(inputs, middle, 3, padding=1))
        self.conv_1 = wrap(nn.Conv2d(middle, outputs, 3, padding=1))
        self.norm_0, self.norm_1 = Norm(inputs, *norm), Norm(middle, *norm)
        if inputs != outputs:
            self.conv_s = wrap(nn.Conv2d(inputs, outputs, 1, bias=False))
            self.norm_s = Norm(inputs, *norm)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.conv_0(F.leaky_relu(self.norm_0(x, labels), 0.2))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, labels), 0.2))
        return y + (self.conv_s(self.norm_s(x, labels)) if hasattr(self, "conv_s") else x)


class Reference(nn.Module):
    """The published generator, its parts under their published names."""

    def __init__(
        self,
        *,
        labels: int = 4,
        width: int = 2,
        layers: str = "normal",
        kind: str = "batch",
        kernel: int = 3,
        hidden: int = 128,
        spectral: bool = True,
        latents: int | None = None,
        grid: tuple[int, int] = (2, 2),
    ) -> None:
        super().__init__()
        self.layers, self.grid = layers, grid
        w = width
        norm = (labels, kind, kernel, hidden)
        if latents is None:
            self.fc: nn.Module = nn.Conv2d(labels, 16 * w, 3, padding=1)
        else:
            self.fc = nn.Linear(latents, 16 * w * math.prod(grid))
        for name in ("head_0", "G_middle_0", "G_middle_1"):
            setattr(self, name, Block(16 * w, 16 * w, spectral, *norm))
        widths = [16 * w, 8 * w, 4 * w, 2 * w, w] + ([w // 2] if layers == "most" else [])
        self.ups = len(widths) - 1
        for n in range(self.ups):
            setattr(self, f"up_{n}", Block(widths[n], widths[n + 1], spectral, *norm))
        self.conv_img = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, labels: Tensor, z: Tensor | None = None) -> Tensor:
        x = self.fc(F.interpolate(labels, size=self.grid) if z is None else z)
        x = self.head_0(x.view(len(x), -1, *self.grid), labels)
        x = self.G_middle_0(F.interpolate(x, scale_factor=2), labels)
        if self.layers != "normal":
            x = F.interpolate(x, scale_factor=2)
        x = self.G_middle_1(x, labels)
        for n in range(self.ups):
            x = getattr(self, f"up_{n}")(F.interpolate(x, scale_factor=2), labels)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


def trained(**arguments: Any) -> Reference:
    """As after training: statistics that are not the initial ones, and spectral norms that have been stepped."""
    network = Reference(**arguments)
    with torch.no_grad():
        for _ in range(3):
            network(*example(network, count=2))
    return network.eval()


def example(network: Reference, *, count: int = 1) -> tuple[Tensor, ...]:
    factor = 2 ** {"normal": 5, "more": 6, "most": 7}[network.layers]
    classes = network.head_0.norm_0.mlp_shared[0].in_channels
    labels = torch.randint(classes, (count, *(side * factor for side in network.grid)))
    one_hot = F.one_hot(labels, classes).permute(0, 3, 1, 2).float()
    if isinstance(network.fc, nn.Linear):
        return one_hot, torch.randn(count, network.fc.in_features)
    return (one_hot,)


@torch.no_grad()
def assert_same(reference: Reference, file: Path, **overrides: Any) -> None:
    torch.save(reference.state_dict(), file)
    images = example(reference)
    expected = reference(*images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(load_network(file, **overrides)(*images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"labels": 2, "width": 3, "kind": "instance", "spectral": False},
        {"labels": 7, "kernel": 5, "hidden": 6, "grid": (1, 3)},
        {"layers": "most", "kernel": 1, "hidden": 9, "latents": 6, "grid": (1, 2)},
        {"kind": "instance", "hidden": 9, "latents": 3, "grid": (3, 3)},
        {"layers": "most", "hidden": 9, "grid": (2, 1), "spectral": False},
    ],
)
def test_any_generator_without_a_word(arguments: dict[str, Any], tmp_path: Path) -> None:
    assert_same(trained(**arguments), tmp_path / "latest_net_G.pth")


def test_what_the_tensors_cannot_tell(tmp_path: Path) -> None:
    file = tmp_path / "latest_net_G.pth"
    assert_same(trained(layers="more", hidden=5), file, num_upsampling_layers="more")
    assert guesses(file) == {"num_upsampling_layers": "normal", "output_activation": "tanh"}
    arguments = {"layers": "more", "latents": 7, "hidden": 5, "kind": "instance", "grid": (1, 2)}
    assert_same(trained(**arguments), file, num_upsampling_layers="more")
    assert_same(trained(latents=3, hidden=5, grid=(4, 1)), file, latent_height=4, latent_width=1)
    expected = {"num_upsampling_layers": "normal", "latent_height": 2, "latent_width": 2, "output_activation": "tanh"}
    assert guesses(file) == expected
    with pytest.raises(InputError, match=r"latest_net_G\.pth reads as the SPADE generator, but fc\.weight has shape"):
        load_network(file, latent_height=3)


def guesses(file: Path) -> dict[str, Any]:
    return {finding.name: finding.value for finding in open_checkpoint(file).findings if not finding.certain}


def test_it_takes_class_ids(tmp_path: Path) -> None:
    torch.save(Reference(labels=7, hidden=3).state_dict(), tmp_path / "net_G.pth")
    checkpoint = open_checkpoint(tmp_path / "net_G.pth")
    assert checkpoint.spec is not None and checkpoint.spec.input is not None
    assert (checkpoint.spec.input.labels, checkpoint.spec.input.channels) == (True, 7)
    assert checkpoint.spec.input.network_range == (0, 1)
    assert checkpoint.spec.output.network_range == (-1, 1)


@pytest.mark.parametrize(
    ("channels", "dont_care", "edges", "first_id"),
    [(184, True, True, 0), (151, True, False, 1), (36, False, True, 0), (35, False, False, 0)],
)
def test_published_generators_are_known_by_their_channels(
    channels: int, dont_care: bool, edges: bool, first_id: int, tmp_path: Path
) -> None:
    """COCO-Stuff: 182 classes; ADE20K: 150; Cityscapes: 35; with the options that they were trained with."""
    torch.save(Reference(labels=channels, width=1, hidden=1).state_dict(), tmp_path / "net_G.pth")
    spec = open_checkpoint(tmp_path / "net_G.pth").spec
    assert spec is not None and spec.input is not None
    assert (spec.input.dont_care, spec.input.instances, spec.input.first_id) == (dont_care, edges, first_id)


@pytest.mark.parametrize(
    "key",
    [
        "fc.weight",
        "head_0.conv_0.weight_orig",
        "head_0.conv_1.weight_u",
        "G_middle_1.norm_1.param_free_norm.running_var",
        "up_2.norm_s.mlp_beta.bias",
        "up_3.conv_0.bias",
        "conv_img.weight",
    ],
)
def test_a_missing_or_misshapen_tensor_is_refused(key: str, tmp_path: Path) -> None:
    whole = Reference(labels=2, width=1, hidden=2, latents=3).state_dict()
    file = tmp_path / "net_G.pth"
    for tensors in ({k: v for k, v in whole.items() if k != key}, whole | {key: torch.ones(3, 1, 7)}):
        torch.save(tensors, file)
        with pytest.raises(InputError, match=r"net_G\.pth"):
            load_network(file)


class EncoderReference(nn.Module):
    """The published style encoder, its parts under their published names; images below 256 px leave out a layer."""

    def __init__(self, *, width: int, latents: int, layers: int, norm: str, spectral: bool) -> None:
        super().__init__()
        wrap = spectral_norm if spectral else nn.Identity()
        last = 3
        for n in range(1, layers + 1):
            channels = width * min(2 ** (n - 1), 8)
            layer: nn.Module = wrap(nn.Conv2d(last, channels, 3, stride=2, padding=1, bias=norm == "none"))
            if norm != "none":
                layer = nn.Sequential(
                    layer, nn.BatchNorm2d(channels) if norm == "batch" else nn.InstanceNorm2d(channels)
                )
            setattr(self, f"layer{n}", layer)
            last = channels
        self.fc_mu, self.fc_var = nn.Linear(16 * last, latents), nn.Linear(16 * last, latents)
        self.side = 4 * 2**layers

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        if photos.shape[2:] != (self.side, self.side):
            photos = F.interpolate(photos, size=(self.side, self.side), mode="bilinear")
        for name, layer in self.named_children():
            if name.startswith("layer"):
                photos = F.leaky_relu(layer(photos), 0.2)
        return self.fc_mu(photos.flatten(1)), self.fc_var(photos.flatten(1))


@pytest.mark.data
@torch.no_grad()
def test_golden_style(data_dir: Path) -> None:
    folder = data_dir / "golden" / "spade-style-encoder"
    golden = torch.load(folder / "io.pt")
    mean, log_variance = load_network(folder / "weights.pth")(*golden["inputs"])
    torch.testing.assert_close([mean, log_variance], list(golden["output"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layers", [5, 6])
@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@torch.no_grad()
def test_any_style_encoder(norm: str, spectral: bool, layers: int, tmp_path: Path) -> None:
    reference = EncoderReference(width=3, latents=5, layers=layers, norm=norm, spectral=spectral)
    for _ in range(3):
        reference(2 + torch.randn(2, 3, 60, 70))
    reference.eval()
    file = tmp_path / "latest_net_E.pth"
    torch.save(reference.state_dict(), file)
    for photos in (torch.randn(2, 3, 200, 300), torch.randn(1, 3, reference.side, reference.side)):
        mean, log_variance = reference(photos)
        assert mean.std() > 1e-3
        found = load_network(file)(photos)
        torch.testing.assert_close([found.mean, found.log_variance], [mean, log_variance], rtol=0, atol=1e-5)

    said = {finding["name"]: finding["value"] for finding in describe(open_checkpoint(file))["findings"]}
    sizes = {"in_channels": 3, "width": 3, "latent_channels": 5, "image_px": reference.side}
    assert said == sizes | {"norm": norm, "spectral": spectral}
    with pytest.raises(InputError, match=r"is a SPADE style encoder, which translates no images$"):
        i2i.load(file)


@pytest.mark.parametrize(("norm", "spectral"), [("instance", True), ("none", False)])
def test_a_damaged_style_encoder_is_refused(
    norm: str, spectral: bool, refuses_damage: Callable[[dict[str, Tensor]], None]
) -> None:
    reference = EncoderReference(width=1, latents=2, layers=5, norm=norm, spectral=spectral)
    refuses_damage(reference.state_dict())
