"""Files of super-resolution networks against golden outputs, spandrel, and SRGAN's generators written out."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from torch import Tensor, nn

from i2i.checkpoints import Checkpoint, load_network, open_checkpoint
from i2i.errors import InputError

GOLDEN = [
    "esrgan-2018-new-layout-x4",
    "esrgan-basicsr-x1-unshuffle",
    "esrgan-basicsr-x2-unshuffle",
    "esrgan-basicsr-x4",
    "esrgan-old-layout-x4",
    "msrresnet-x4",
    "realesrgan-compact-x2",
    "realesrgan-compact-x4",
]


@pytest.mark.data
@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_golden_outputs(name: str, data_dir: Path) -> None:
    folder = data_dir / "golden" / name
    golden = torch.load(folder / "io.pt")
    network = load_network(folder / "weights.pth")
    torch.testing.assert_close(network(*golden["inputs"]), golden["output"], rtol=0, atol=1e-5)


@pytest.mark.data
@torch.no_grad()
def test_real_weights_on_a_real_photograph(data_dir: Path) -> None:
    file = data_dir / "weights" / "realesr-animevideov3.pth"
    photograph = cv2.imread(str(data_dir / "sr" / "Set5" / "HR" / "img_001.png"), cv2.IMREAD_COLOR_RGB)
    images = torch.from_numpy(photograph[:97, :120]).permute(2, 0, 1)[None] / 255
    expected = ModelLoader().load_from_file(file).model(images)
    checkpoint = open_checkpoint(file)
    torch.testing.assert_close(checkpoint.network(images), expected, rtol=0, atol=1e-4)
    assert values(checkpoint) == {
        "in_channels": 3,
        "out_channels": 3,
        "width": 64,
        "convs": 16,
        "scale": 4,
        "activation": "prelu",
    }


def values(checkpoint: Checkpoint) -> dict[str, Any]:
    return {finding.name: finding.value for finding in checkpoint.findings}


@torch.no_grad()
def assert_same(path: Path, reference: Callable[[Tensor], Tensor], images: Tensor, **overrides: Any) -> Checkpoint:
    checkpoint = open_checkpoint(path, **overrides)
    assert not checkpoint.network.training
    expected = reference(images)
    assert expected.std() > 1e-3  # a constant output would tell nothing
    torch.testing.assert_close(checkpoint.network(images), expected, rtol=0, atol=1e-5)
    assert values(checkpoint) == checkpoint.network.arguments
    assert checkpoint.spec is not None and checkpoint.spec.input is not None
    assert checkpoint.spec.input.channels == images.shape[1]
    assert checkpoint.spec.output.channels == expected.shape[1]
    assert checkpoint.spec.output.network_range == (0, 1)
    assert expected.shape[-1] == images.shape[-1] * checkpoint.network.scale
    return checkpoint


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state


def names_2018(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return renamed(state, block="RRDB_trunk.{}.RDB{}.conv{}", trunk="trunk_conv", up="upconv{}", refine="HRconv")


def basicsr_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return renamed(state, block="body.{}.rdb{}.conv{}", trunk="conv_body", up="conv_up{}", refine="conv_hr")


def renamed(state: dict[str, Tensor], *, block: str, trunk: str, up: str, refine: str) -> dict[str, Tensor]:
    """Weights of the first layout under another layout's names."""
    last = max(int(key.split(".")[1]) for key in state)

    def rename(key: str) -> str:
        module, leaf = key.rsplit(".", 1)
        if match := re.fullmatch(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(1x1|\d)(\.0)?", module):
            module = block.format(*match.groups()[:3])
        elif module.startswith("model.1.sub."):
            module = trunk
        else:
            number = int(module.split(".")[1])
            outside = {0: "conv_first", last - 2: refine, last: "conv_last"}
            module = outside.get(number, up.format(number // 3))
        return f"{module}.{leaf}"

    return {rename(key): tensor for key, tensor in state.items()}


def esrgan(
    scale: int = 4, *, inputs: int = 3, outputs: int = 3, blocks: int = 2, plus: bool = False, shuffle: int = 1
) -> nn.Module:
    network = ESRGAN(
        in_nc=inputs * shuffle**2,
        out_nc=outputs,
        num_filters=8,
        num_blocks=blocks,
        scale=scale * shuffle,
        plus=plus,
        shuffle_factor=shuffle if shuffle > 1 else None,
    )
    return network.eval()


@pytest.mark.parametrize("names", [old_names, names_2018, basicsr_names])
@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 1},
        {"scale": 2, "inputs": 1, "outputs": 3},
        {"scale": 4, "blocks": 11, "outputs": 1},
        {"scale": 8, "inputs": 5, "outputs": 5},
        {"scale": 4, "plus": True},
        {"scale": 2, "shuffle": 2, "inputs": 1, "outputs": 1},
        {"scale": 1, "shuffle": 4},
        {"scale": 1, "shuffle": 2, "inputs": 4, "outputs": 4},
    ],
    ids=str,
)
def test_any_rrdb(names: Callable[..., dict[str, Tensor]], arguments: dict[str, Any], tmp_path: Path) -> None:
    reference = esrgan(**arguments)
    torch.save({"params_ema": names(reference.state_dict())}, tmp_path / "net_g.pth")
    checkpoint = assert_same(tmp_path / "net_g.pth", reference, torch.rand(1, arguments.get("inputs", 3), 8, 12))
    assert values(checkpoint)["blocks"] == arguments.get("blocks", 2)
    assert checkpoint.network.size_multiple == arguments.get("shuffle", 1)
    guesses = {finding.name for finding in checkpoint.findings if not finding.certain}
    if "shuffle" in arguments:
        assert guesses == {"in_channels", "unshuffle", "scale"}
    else:
        assert guesses == ({"scale"} if arguments["scale"] == 2 else set())


def test_scale_three_must_be_said(tmp_path: Path) -> None:
    reference = esrgan(scale=3)
    torch.save(reference.state_dict(), tmp_path / "x3.pth")
    checkpoint = assert_same(tmp_path / "x3.pth", reference, torch.rand(1, 3, 5, 6), scale=3)
    scale = next(finding for finding in checkpoint.findings if finding.name == "scale")
    assert scale.certain and scale.source == "given by you"


def test_many_channels_in_without_folding_must_be_said(tmp_path: Path) -> None:
    reference = esrgan(scale=4, inputs=12)
    torch.save(basicsr_names(reference.state_dict()), tmp_path / "x4.pth")
    checkpoint = open_checkpoint(tmp_path / "x4.pth")
    sources = {finding.name: finding.source for finding in checkpoint.findings}
    assert "otherwise in_channels=12, unshuffle=1, scale=4" in sources["unshuffle"]
    assert_same(tmp_path / "x4.pth", reference, torch.rand(1, 12, 5, 6), in_channels=12, unshuffle=1, scale=4)


@pytest.mark.parametrize("activation", ["prelu", "relu", "leakyrelu"])
@pytest.mark.parametrize(("channels", "convs", "scale"), [(3, 2, 1), (1, 1, 2), (4, 7, 3), (3, 12, 4)])
def test_any_compact(channels: int, convs: int, scale: int, activation: str, tmp_path: Path) -> None:
    reference = Compact(
        num_in_ch=channels, num_out_ch=channels, num_feat=6, num_conv=convs, upscale=scale, act_type=activation
    )
    torch.save({"params": reference.state_dict()}, tmp_path / "compact.pth")
    overrides = {"activation": "leaky_relu"} if activation == "leakyrelu" else {}
    images = torch.rand(1, channels, 6, 9)
    checkpoint = assert_same(tmp_path / "compact.pth", reference, images, **overrides)
    assert next(f for f in checkpoint.findings if f.name == "activation").certain == (activation != "relu")


@pytest.mark.parametrize("names", ["basicsr", "mmsr"])
@pytest.mark.parametrize(("channels", "blocks", "scale"), [(3, 2, 4), (1, 1, 3), (4, 11, 2)])
def test_any_msrresnet(names: str, channels: int, blocks: int, scale: int, tmp_path: Path) -> None:
    body, refine = ("body", "conv_hr") if names == "basicsr" else ("recon_trunk", "HRconv")
    factors = {2: [2], 3: [3], 4: [2, 2]}[scale]
    sizes = {"conv_first": (channels, 6), refine: (6, 6), "conv_last": (6, channels)}
    sizes |= {f"{body}.{block}.conv{number}": (6, 6) for block in range(blocks) for number in (1, 2)}
    sizes |= {f"upconv{number}": (6, 6 * factor**2) for number, factor in enumerate(factors, start=1)}
    convs = {name: nn.Conv2d(*size, 3, padding=1) for name, size in sizes.items()}
    torch.save(
        {f"{name}.{leaf}": tensor for name, conv in convs.items() for leaf, tensor in conv.state_dict().items()},
        tmp_path / "net_g.pth",
    )

    def reference(images: Tensor) -> Tensor:
        features = F.leaky_relu(convs["conv_first"](images), 0.1)
        for block in range(blocks):
            features = features + convs[f"{body}.{block}.conv2"](F.relu(convs[f"{body}.{block}.conv1"](features)))
        for number, factor in enumerate(factors, start=1):
            features = F.leaky_relu(F.pixel_shuffle(convs[f"upconv{number}"](features), factor), 0.1)
        details = convs["conv_last"](F.leaky_relu(convs[refine](features), 0.1))
        return details + F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)

    assert_same(tmp_path / "net_g.pth", reference, torch.rand(1, channels, 5, 8))


class NumberedSRGAN(nn.Module):
    """SRGAN's generator with the names of https://github.com/leftthomas/SRGAN."""

    def __init__(self, *, channels: int, blocks: int, ups: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.block1 = nn.Sequential(nn.Conv2d(channels, 6, 9, padding=4), nn.PReLU())
        for number in range(2, blocks + 2):
            layers = {
                "conv1": nn.Conv2d(6, 6, 3, padding=1),
                "bn1": nn.BatchNorm2d(6),
                "prelu": nn.PReLU(),
                "conv2": nn.Conv2d(6, 6, 3, padding=1),
                "bn2": nn.BatchNorm2d(6),
            }
            self.add_module(f"block{number}", nn.ModuleDict(layers))
        end = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.add_module(f"block{blocks + 2}", end)
        up = [nn.ModuleDict({"conv": nn.Conv2d(6, 24, 3, padding=1), "prelu": nn.PReLU()}) for _ in range(ups)]
        self.add_module(f"block{blocks + 3}", nn.Sequential(*up, nn.Conv2d(6, channels, 9, padding=4)))

    def forward(self, images: Tensor) -> Tensor:
        features = start = self.block1(images)
        for number in range(2, self.blocks + 2):
            layers: Any = self.get_submodule(f"block{number}")
            inner = layers["prelu"](layers["bn1"](layers["conv1"](features)))
            features = features + layers["bn2"](layers["conv2"](inner))
        features = start + self.get_submodule(f"block{self.blocks + 2}")(features)
        *ups, head = self.get_submodule(f"block{self.blocks + 3}").children()
        for up in ups:
            features = up["prelu"](F.pixel_shuffle(up["conv"](features), 2))  # type: ignore[index]
        return (torch.tanh(head(features)) + 1) / 2


class Inside(nn.Module):
    """Layers under a name, beside an identity or not."""

    def __init__(self, name: str, *layers: nn.Module, residual: bool) -> None:
        super().__init__()
        self.name, self.residual = name, residual
        self.add_module(name, nn.Sequential(*layers))

    def forward(self, features: Tensor) -> Tensor:
        inner = self.get_submodule(self.name)(features)
        return features + inner if self.residual else inner


class TrunkSRGAN(nn.Module):
    """SRGAN's generator with the names of https://github.com/Lornatang/SRGAN-PyTorch."""

    def __init__(self, *, channels: int, blocks: int, ups: int, conv: str, slopes: int = 1) -> None:
        super().__init__()
        self.conv = conv

        def plain() -> nn.Module:
            return nn.Conv2d(6, 6, 3, padding=1, bias=False)

        def block() -> nn.Module:
            layers = (plain(), nn.BatchNorm2d(6), nn.PReLU(slopes), plain(), nn.BatchNorm2d(6))
            return Inside("rcb", *layers, residual=True)

        def up() -> nn.Module:
            layers = (nn.Conv2d(6, 24, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(slopes))
            return Inside("upsample_block", *layers, residual=False)

        self.add_module(f"{conv}1", nn.Sequential(nn.Conv2d(channels, 6, 9, padding=4), nn.PReLU(slopes)))
        self.trunk = nn.Sequential(*(block() for _ in range(blocks)))
        self.add_module(f"{conv}2", nn.Sequential(plain(), nn.BatchNorm2d(6)))
        self.upsampling = nn.Sequential(*(up() for _ in range(ups)))
        self.add_module(f"{conv}3", nn.Conv2d(6, channels, 9, padding=4))

    def forward(self, images: Tensor) -> Tensor:
        start = self.get_submodule(f"{self.conv}1")(images)
        features = start + self.get_submodule(f"{self.conv}2")(self.trunk(start))
        return self.get_submodule(f"{self.conv}3")(self.upsampling(features))


def trained(network: nn.Module) -> nn.Module:
    """As after training: statistics, affine parameters and slopes that are not the initial ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 0.5)
    return network.eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: NumberedSRGAN(channels=3, blocks=5, ups=2),
        lambda: NumberedSRGAN(channels=1, blocks=11, ups=1),
        lambda: TrunkSRGAN(channels=3, blocks=2, ups=2, conv="conv"),
        lambda: TrunkSRGAN(channels=4, blocks=12, ups=3, conv="conv_block", slopes=6),
        lambda: TrunkSRGAN(channels=3, blocks=1, ups=0, conv="conv"),
    ],
    ids=["numbered", "numbered-grey", "trunk", "trunk-deep", "trunk-x1"],
)
def test_any_srgan(make: Callable[[], nn.Module], suffix: str, tmp_path: Path) -> None:
    reference = trained(make())
    file = tmp_path / f"srgan{suffix}"
    # A .safetensors file keeps its tensors in another order than the network has them.
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(dict(reference.state_dict()), file)
    channels = next(reference.parameters()).shape[1]
    checkpoint = assert_same(file, reference, torch.rand(1, channels, 7, 6))
    activation = next(finding for finding in checkpoint.findings if finding.name == "output_activation")
    assert not activation.certain


def test_srgan_with_names_of_its_own(tmp_path: Path) -> None:
    reference = trained(TrunkSRGAN(channels=3, blocks=2, ups=1, conv="conv"))
    names = {"conv1": "entry", "trunk": "residuals", "conv2": "bridge", "upsampling": "enlarge", "conv3": "exit"}
    state = {names[key.split(".")[0]] + key[key.index(".") :]: value for key, value in reference.state_dict().items()}
    torch.save(state, tmp_path / "own.pth")
    assert_same(tmp_path / "own.pth", reference, torch.rand(1, 3, 7, 6))


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "net_g.", "generator.", "model.", "generator.model."])
@pytest.mark.parametrize("names", [old_names, basicsr_names])
def test_prefixes_in_each_format(
    names: Callable[..., dict[str, Tensor]], prefix: str, suffix: str, tmp_path: Path
) -> None:
    reference = esrgan(blocks=1)
    file = tmp_path / f"net{suffix}"
    tensors = {prefix + key: tensor for key, tensor in names(reference.state_dict()).items()}
    if suffix == ".safetensors":
        safetensors.torch.save_file(tensors, file)
    elif suffix == ".ckpt":
        torch.save({"epoch": 3, "state_dict": tensors}, file)
    else:
        torch.save(tensors, file, _use_new_zipfile_serialization=False)
    assert_same(file, reference, torch.rand(1, 3, 6, 5))


NETWORKS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "old": lambda: old_names(esrgan(blocks=1).state_dict()),
    "2018": lambda: names_2018(esrgan(blocks=1, plus=True).state_dict()),
    "basicsr": lambda: basicsr_names(esrgan(blocks=1, scale=2, shuffle=2).state_dict()),
    "compact": lambda: Compact(num_feat=6, num_conv=1, upscale=2).state_dict(),
    "srgan": lambda: NumberedSRGAN(channels=3, blocks=1, ups=1).state_dict(),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_missing_surplus_or_misshapen_tensor_is_refused(
    kind: str, tmp_path: Path, refuses_damage: Callable[[dict[str, Tensor]], None]
) -> None:
    whole = NETWORKS[kind]()
    file = tmp_path / "net.pth"
    refuses_damage(whole)
    torch.save(whole | {"model.99.weight": torch.ones(3)}, file)
    with pytest.raises(InputError, match=r"net\.pth"):
        load_network(file)


def test_the_missing_tensor_is_named(tmp_path: Path) -> None:
    whole = basicsr_names(esrgan().state_dict())
    for key in ("body.1.rdb2.conv3.weight", "conv_body.bias", "conv_up2.weight", "conv_last.weight"):
        torch.save({k: v for k, v in whole.items() if k != key}, tmp_path / "net.pth")
        with pytest.raises(InputError, match=rf"net\.pth reads as the .*BasicSR.* {re.escape(key)}"):
            load_network(tmp_path / "net.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_floating_point_types(suffix: str, dtype: torch.dtype, tmp_path: Path) -> None:
    reference = esrgan(blocks=1).to(dtype)
    file = tmp_path / f"net{suffix}"
    state = {f"module.{key}": tensor for key, tensor in names_2018(reference.state_dict()).items()}
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save({"params": state}, file)
    checkpoint = assert_same(file, reference.float(), torch.rand(1, 3, 6, 5))
    assert {parameter.dtype for parameter in checkpoint.network.parameters()} == {torch.float32}


def test_reading_does_not_import_the_compiler(tmp_path: Path) -> None:
    torch.save(esrgan(blocks=1).state_dict(), tmp_path / "net.pth")
    code = "import sys, i2i.checkpoints as c; c.load_network(sys.argv[1]); sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "net.pth"], check=True)
