"""Files of CUT and pix2pixHD against their residual generators laid out as published."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.checkpoints import load_network
from i2i.checkpoints.foreign import open_checkpoint
from i2i.errors import InputError


class Blur(nn.Module):
    """A fixed separable filter, kept in the file as `filt`, of stride 2: down, or transposed for up."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        line = torch.tensor([1.0, 3.0, 3.0, 1.0] if up else [1.0, 2.0, 1.0])
        filt = line.outer(line) / line.sum() ** 2 * (4 if up else 1)
        self.register_buffer("filt", filt.repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate" if self.up else "reflect")
        if not self.up:
            return F.conv2d(padded, self.filt, stride=2, groups=x.shape[1])
        return F.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])[..., 1:-1, 1:-1]


class Block(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class Reference(nn.Module):
    """The published generator, where the place in the Sequential gives each layer its number.

    Args:
        bias: of the convolutions beside norms; instance norm's only, but in pix2pixHD.
        blur_down, blur_up: CUT's, in place of strides.
    """

    def __init__(
        self,
        *,
        inputs: int = 3,
        outputs: int = 3,
        width: int = 4,
        downsamplings: int = 2,
        blocks: int = 2,
        norm: str = "instance",
        bias: bool = True,
        dropout: bool = False,
        blur_down: bool = False,
        blur_up: bool = False,
    ) -> None:
        super().__init__()
        norms = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d, "none": lambda channels: nn.Identity()}
        make_norm = norms[norm]
        w = width
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, w, 7, bias=bias), make_norm(w), nn.ReLU()]
        for _ in range(downsamplings):
            layers += [nn.Conv2d(w, 2 * w, 3, 1 if blur_down else 2, 1, bias=bias), make_norm(2 * w), nn.ReLU()]
            w *= 2
            if blur_down:
                layers.append(Blur(w, up=False))
        for _ in range(blocks):
            body = [nn.ReflectionPad2d(1), nn.Conv2d(w, w, 3, bias=bias), make_norm(w), nn.ReLU()]
            body += [nn.Dropout(0.5)] if dropout else []
            layers.append(Block(*body, nn.ReflectionPad2d(1), nn.Conv2d(w, w, 3, bias=bias), make_norm(w)))
        for _ in range(downsamplings):
            if blur_up:
                layers += [Blur(w, up=True), nn.Conv2d(w, w // 2, 3, 1, 1, bias=bias)]
            else:
                layers.append(nn.ConvTranspose2d(w, w // 2, 3, 2, 1, output_padding=1, bias=bias))
            w //= 2
            layers += [make_norm(w), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(w, outputs, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def trained(**arguments: Any) -> Reference:
    """As after training: statistics that are not the initial ones."""
    network = Reference(**arguments)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


@torch.no_grad()
def assert_same(reference: Reference, file: Path, *, size: tuple[int, int]) -> dict[str, Any]:
    torch.save(reference.state_dict(), file)
    network = load_network(file)
    images = torch.randn(2, reference.model[1].in_channels, *size)
    expected = reference(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-5)
    return network.arguments


@pytest.mark.parametrize(("norm", "bias"), [("instance", True), ("batch", False), ("none", False)])
@pytest.mark.parametrize(("blur_down", "blur_up"), [(True, True), (True, False), (False, True)])
def test_cut(blur_down: bool, blur_up: bool, norm: str, bias: bool, tmp_path: Path) -> None:
    reference = trained(
        inputs=2, outputs=5, blocks=3, norm=norm, bias=bias, blur_down=blur_down, blur_up=blur_up, dropout=blur_down
    )
    file = tmp_path / "latest_net_G.pth"
    arguments = assert_same(reference, file, size=(24, 36))
    assert (arguments["antialias"], arguments["upsampling"]) == (blur_down, "bilinear" if blur_up else "transposed")
    assert (arguments["dropout"], arguments["norm"]) == (blur_down, norm)
    assert open_checkpoint(file).family == "CUT ResNet generator"


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(("downsamplings", "blocks"), [(1, 4), (3, 1), (4, 9)])
def test_pix2pixhd(downsamplings: int, blocks: int, norm: str, tmp_path: Path) -> None:
    """Its convolutions keep their biases before batch norm too."""
    reference = trained(width=2, downsamplings=downsamplings, blocks=blocks, norm=norm)
    file = tmp_path / "latest_net_G.pth"
    arguments = assert_same(reference, file, size=(64, 32))
    assert (arguments["downsamplings"], arguments["blocks"], arguments["norm"]) == (downsamplings, blocks, norm)
    assert open_checkpoint(file).family == "pix2pixHD global generator"


def test_biases_before_batch_norm_count_in_half_precision_too(tmp_path: Path) -> None:
    reference = trained(norm="batch").half()
    torch.save(reference.state_dict(), tmp_path / "half.pth")
    reference.float()
    images = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(load_network(tmp_path / "half.pth")(images), reference(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("channels", "labels"), [(1, False), (3, False), (36, True)])
def test_pix2pixhd_takes_images_or_labels(channels: int, labels: bool, tmp_path: Path) -> None:
    file = tmp_path / "net_G.pth"
    torch.save(Reference(inputs=channels, width=1, downsamplings=4).state_dict(), file)
    checkpoint = open_checkpoint(file)
    guess = next(finding for finding in checkpoint.findings if finding.name == "takes_labels")
    assert (guess.value, guess.certain) == (labels, False)
    assert checkpoint.spec is not None and checkpoint.spec.input is not None
    assert (checkpoint.spec.input.labels, checkpoint.spec.input.network_range) == (labels, (0 if labels else -1, 1))
    overridden = open_checkpoint(file, takes_labels=not labels).spec
    assert overridden is not None and overridden.input is not None
    assert overridden.input.labels is not labels


def test_local_enhancer_is_refused_by_name(tmp_path: Path) -> None:
    whole = Reference(width=1, downsamplings=3).state_dict()
    for part in ("model1_1", "model1_2"):
        whole |= {f"{part}.1.weight": torch.zeros(1, 3, 7, 7), f"{part}.1.bias": torch.zeros(1)}
    torch.save(whole, tmp_path / "net_G.pth")
    with pytest.raises(InputError, match=r"net_G\.pth holds pix2pixHD's local enhancer"):
        load_network(tmp_path / "net_G.pth")


@pytest.mark.parametrize(
    "arguments",
    [{"blur_down": True, "blur_up": True}, {"downsamplings": 3, "norm": "batch"}],
    ids=["cut", "pix2pixhd"],
)
def test_each_missing_or_misshapen_tensor_is_refused(
    arguments: dict[str, Any], refuses_damage: Callable[[dict[str, Tensor]], None]
) -> None:
    refuses_damage(Reference(width=1, blocks=1, **arguments).state_dict())
