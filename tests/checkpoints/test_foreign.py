"""Foreign weight files against golden outputs, and against networks laid out as INTEROP's facts say."""

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from i2i.checkpoints import GeneratorSpec, ImageSide, load_network, open_checkpoint, save_generator
from i2i.errors import InputError
from i2i.generators import UNetGenerator

GOLDEN = [
    "patchgan-instance-n2",
    "patchgan70-batch",
    "pixel-discriminator-batch",
    "resnet6-batch-dropout",
    "resnet6-instance-old-running-stats",
    "resnet9-instance",
    "unet128-batch",
    "unet256-instance",
]


@pytest.mark.data
@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_golden_outputs(name: str, data_dir: Path) -> None:
    folder = data_dir / "golden" / f"junyanz-{name}"
    golden = torch.load(folder / "io.pt")
    network = load_network(folder / "weights.pth")
    torch.testing.assert_close(network(*golden["inputs"]), golden["output"], rtol=0, atol=1e-5)


# The reference's layouts with PyTorch's own layers, whose places in a Sequential give the key names.


def norm_layer(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


class Holder(nn.Module):
    """A module under a name, its outcome joined with the input."""

    def __init__(self, name: str, inner: nn.Module, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.name = name
        self.join = join
        setattr(self, name, inner)

    def forward(self, x: Tensor) -> Tensor:
        outcome = getattr(self, self.name)(x)
        return self.join(x, outcome)


def second(x: Tensor, y: Tensor) -> Tensor:
    return y


def beside(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], 1)


def resnet(inputs: int, outputs: int, width: int, blocks: int, norm: str, dropout: bool) -> nn.Module:
    bias = norm == "instance"
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7, bias=bias)]
    layers += [norm_layer(norm, width), nn.ReLU()]
    for w in (width, 2 * width):
        layers += [nn.Conv2d(w, 2 * w, 3, 2, 1, bias=bias), norm_layer(norm, 2 * w), nn.ReLU()]
    w = 4 * width
    for _ in range(blocks):
        body: list[nn.Module] = [nn.ReflectionPad2d(1), nn.Conv2d(w, w, 3, bias=bias), norm_layer(norm, w)]
        body += [nn.ReLU(), *([nn.Dropout(0.5)] if dropout else [])]
        body += [nn.ReflectionPad2d(1), nn.Conv2d(w, w, 3, bias=bias), norm_layer(norm, w)]
        layers.append(Holder("conv_block", nn.Sequential(*body), torch.add))
    for w in (4 * width, 2 * width):
        layers.append(nn.ConvTranspose2d(w, w // 2, 3, 2, 1, output_padding=1, bias=bias))
        layers += [norm_layer(norm, w // 2), nn.ReLU()]
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh()]
    return Holder("model", nn.Sequential(*layers), second)


def unet(inputs: int, outputs: int, width: int, depth: int, norm: str) -> nn.Module:
    bias = norm == "instance"

    def up(i: int, o: int, bias: bool) -> list[nn.Module]:
        return [nn.ReLU(), nn.ConvTranspose2d(i, o, 4, 2, 1, bias=bias)]

    def level(n: int) -> nn.Module:
        outer, inner = (width * min(2**k, 8) for k in (n - 1, n))
        # The in-place activation is what makes the skip carry the activated tensor.
        down = [nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)]
        if n == depth - 1:
            layers = [*down, *up(inner, outer, bias), norm_layer(norm, outer)]
        else:
            layers = [*down, norm_layer(norm, inner), level(n + 1)]
            layers += [*up(2 * inner, outer, bias), norm_layer(norm, outer), nn.Dropout(0.5)]
        return Holder("model", nn.Sequential(*layers), beside)

    outermost = [nn.Conv2d(inputs, width, 4, 2, 1, bias=bias), level(1), *up(2 * width, outputs, True)]
    return Holder("model", Holder("model", nn.Sequential(*outermost, nn.Tanh()), second), second)


def patch(inputs: int, width: int, layers: int, norm: str) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(inputs, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    before = width
    for n in range(1, layers + 1):
        after = width * min(2**n, 8)
        parts.append(nn.Conv2d(before, after, 4, 1 if n == layers else 2, 1, bias=norm == "instance"))
        parts += [norm_layer(norm, after), nn.LeakyReLU(0.2)]
        before = after
    return Holder("model", nn.Sequential(*parts, nn.Conv2d(before, 1, 4, 1, 1)), second)


def pixel(inputs: int, width: int, norm: str) -> nn.Module:
    bias = norm == "instance"
    parts = [nn.Conv2d(inputs, width, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 1, bias=bias)]
    parts += [norm_layer(norm, 2 * width), nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 1, bias=bias)]
    return Holder("net", nn.Sequential(*parts), second)


def trained(network: nn.Module) -> nn.Module:
    """As after training: statistics and affine parameters that are not the initial ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def state(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.state_dict())


@torch.no_grad()
def assert_same(path: Path, reference: nn.Module, images: Tensor, **overrides: Any) -> nn.Module:
    network = load_network(path, **overrides)
    assert not network.training
    expected = reference(images.clone())
    assert expected.std() > 1e-4  # a constant output would tell nothing
    torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-5)
    return network


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "width", "blocks", "dropout"),
    [(3, 3, 8, 1, False), (1, 4, 6, 3, True), (5, 1, 4, 12, False), (2, 2, 4, 12, True)],
)
def test_any_resnet(
    inputs: int, outputs: int, width: int, blocks: int, dropout: bool, norm: str, tmp_path: Path
) -> None:
    reference = trained(resnet(inputs, outputs, width, blocks, norm, dropout))
    torch.save(state(reference), tmp_path / "net_G.pth")
    network = assert_same(tmp_path / "net_G.pth", reference, torch.randn(2, inputs, 32, 24))
    expected = {"in_channels": inputs, "out_channels": outputs, "width": width, "blocks": blocks}
    assert network.arguments.items() >= (expected | {"norm": norm, "dropout": dropout}).items()


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "width", "depth"), [(3, 3, 8, 5), (1, 4, 4, 7), (5, 1, 4, 8), (3, 2, 2, 9)]
)
def test_any_unet(inputs: int, outputs: int, width: int, depth: int, norm: str, tmp_path: Path) -> None:
    reference = trained(unet(inputs, outputs, width, depth, norm))
    torch.save(state(reference), tmp_path / "net_G.pth")
    side = 2**depth
    network = assert_same(tmp_path / "net_G.pth", reference, torch.randn(1, inputs, side, side))
    assert (network.in_channels, network.out_channels) == (inputs, outputs)
    assert (network.arguments["depth"], network.arguments["norm"]) == (depth, norm)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_any_patchgan(layers: int, norm: str, tmp_path: Path) -> None:
    reference = trained(patch(4, 5, layers, norm))
    torch.save(state(reference), tmp_path / "net_D.pth")
    network = assert_same(tmp_path / "net_D.pth", reference, torch.randn(2, 4, 131, 140))
    assert (network.arguments["layers"], network.arguments["norm"]) == (layers, norm)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_any_pixelgan(norm: str, tmp_path: Path) -> None:
    reference = trained(pixel(7, 5, norm))
    torch.save(state(reference), tmp_path / "net_D.pth")
    network = assert_same(tmp_path / "net_D.pth", reference, torch.randn(2, 7, 9, 11))
    assert network.arguments == {"in_channels": 7, "width": 5, "norm": norm}


@pytest.mark.parametrize(
    "prefix", ["module.", "netG.", "_orig_mod.", "module._orig_mod.", "netG.module.", "generator.", "net_g.", "model."]
)
@pytest.mark.parametrize("wrapper", [None, "params_ema", "params-ema", "state_dict", "model", "net", "generator"])
def test_wrappers_and_prefixes(wrapper: str | None, prefix: str, tmp_path: Path) -> None:
    reference = resnet(3, 3, 4, 2, "instance", False)
    tensors: Any = {prefix + key: value for key, value in state(reference).items()}
    content = tensors if wrapper is None else {"epoch": 7, "optimizer": {"lr": 0.1}, wrapper: tensors}
    torch.save(content, tmp_path / "last.ckpt")
    assert_same(tmp_path / "last.ckpt", reference, torch.randn(1, 3, 16, 16))


def test_averaged_weights_go_before_raw_ones(tmp_path: Path) -> None:
    raw, averaged = (resnet(3, 3, 4, 1, "batch", False).eval() for _ in range(2))
    content = {"params": state(raw), "params_ema": state(averaged), "model": {"name": "resnet"}}
    torch.save(content, tmp_path / "net.pth")
    assert_same(tmp_path / "net.pth", averaged, torch.randn(1, 3, 16, 16))


def test_generator_among_other_networks_of_one_file(tmp_path: Path) -> None:
    generator, discriminator = resnet(3, 3, 4, 1, "instance", False), patch(6, 4, 3, "instance")
    tensors = {f"netD.{key}": value for key, value in state(discriminator).items()}
    tensors |= {f"netG.{key}": value for key, value in state(generator).items()}
    torch.save({"state_dict": tensors}, tmp_path / "lightning.ckpt")
    assert_same(tmp_path / "lightning.ckpt", generator, torch.randn(1, 3, 16, 16))


def test_averaged_generator_goes_before_the_raw_one(tmp_path: Path) -> None:
    raw, averaged = (resnet(3, 3, 4, 1, "batch", False).eval() for _ in range(2))
    tensors = {f"generator.{key}": value for key, value in state(raw).items()}
    tensors |= {f"generator_ema.{key}": value for key, value in state(averaged).items()}
    torch.save({"state_dict": tensors}, tmp_path / "net.pth")
    assert_same(tmp_path / "net.pth", averaged, torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    reference = trained(unet(3, 3, 4, 6, "batch")).to(dtype)
    torch.save(state(reference), tmp_path / "net_G.pth")
    network = assert_same(tmp_path / "net_G.pth", reference.float(), torch.randn(1, 3, 64, 64))
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_safetensors_and_legacy_files(tmp_path: Path) -> None:
    reference = trained(patch(3, 4, 3, "batch"))
    safetensors.torch.save_file(state(reference), tmp_path / "net.safetensors")
    torch.save(state(reference), tmp_path / "net.pt", _use_new_zipfile_serialization=False)
    for name in ("net.safetensors", "net.pt"):
        assert_same(tmp_path / name, reference, torch.randn(1, 3, 64, 64))


def test_statistics_that_instance_norm_does_not_use(tmp_path: Path) -> None:
    for number, reference in enumerate(
        [resnet(3, 3, 4, 2, "instance", True), unet(3, 3, 4, 5, "instance"), patch(3, 4, 2, "instance")]
    ):
        tensors = state(reference)
        for name, module in reference.named_modules():
            if isinstance(module, nn.InstanceNorm2d):
                tensors[f"{name}.running_mean"] = torch.randn(module.num_features)
                tensors[f"{name}.running_var"] = torch.rand(module.num_features)
        torch.save(tensors, tmp_path / f"{number}.pth")
        network = assert_same(tmp_path / f"{number}.pth", reference.eval(), torch.randn(1, 3, 32, 32))
        assert network.arguments["norm"] == "instance"


def test_batch_norm_that_did_not_count_batches(tmp_path: Path) -> None:
    reference = trained(resnet(3, 3, 4, 1, "batch", False))
    tensors = {key: value for key, value in state(reference).items() if "num_batches_tracked" not in key}
    torch.save(tensors, tmp_path / "old.pth")
    assert_same(tmp_path / "old.pth", reference, torch.randn(1, 3, 16, 16))


def test_loading_leaves_random_numbers_alone_and_weights_trainable(tmp_path: Path) -> None:
    torch.save(state(patch(3, 4, 3, "batch")), tmp_path / "net_D.pth")
    before = torch.get_rng_state()
    network = load_network(tmp_path / "net_D.pth").train()
    assert torch.equal(torch.get_rng_state(), before)
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_is_known_about_a_checkpoint(tmp_path: Path) -> None:
    torch.save(state(unet(4, 3, 4, 6, "instance")), tmp_path / "net_G.pth")
    checkpoint = open_checkpoint(tmp_path / "net_G.pth", dropout=False)
    assert checkpoint.path == tmp_path / "net_G.pth"
    assert checkpoint.family == "pix2pix U-Net generator"
    sources = {finding.name: finding.source for finding in checkpoint.findings}
    assert sources.keys() == checkpoint.network.arguments.keys()
    assert sources["in_channels"] == "model.model.0.weight has shape (4, 4, 4, 4)"
    assert sources["dropout"] == "given by you"
    guesses = {finding.name for finding in checkpoint.findings if not finding.certain}
    assert "norm" in guesses and "dropout" not in guesses

    def side(channels: int) -> ImageSide:
        return ImageSide(channels=channels, dtype="uint8", data_range=(0, 255), network_range=(-1, 1))

    assert checkpoint.spec == GeneratorSpec(input=side(4), output=side(3))

    torch.save(state(patch(3, 4, 3, "batch")), tmp_path / "net_D.pth")
    discriminator = open_checkpoint(tmp_path / "net_D.pth")
    assert discriminator.family == "pix2pix PatchGAN discriminator"
    assert discriminator.spec is None


def test_weights_do_not_depend_on_the_file_any_more(tmp_path: Path) -> None:
    torch.save(state(patch(3, 4, 3, "batch")), tmp_path / "net_D.pth")
    for parameter in load_network(tmp_path / "net_D.pth").parameters():
        assert parameter.untyped_storage().filename is None  # None but for memory-mapped tensors


def test_overrides(tmp_path: Path) -> None:
    file = tmp_path / "net_G.pth"
    torch.save(state(unet(3, 3, 4, 6, "batch")), file)
    assert load_network(file, dropout=False).arguments["dropout"] is False
    with pytest.raises(InputError, match=r"net_G\.pth.*no argument blocks; possible are in_channels"):
        load_network(file, blocks=9)
    with pytest.raises(
        InputError, match=r"net_G\.pth reads as the pix2pix U-Net generator, but .*is \{'width': 9\} right.*width=9"
    ):
        load_network(file, width=9)

    # Plain convolutions with biases can't be told from instance norm.
    biased = patch(3, 4, 2, "instance")
    torch.save(state(biased), file)
    for name, module in list(biased.named_modules()):
        if isinstance(module, nn.InstanceNorm2d):
            biased.set_submodule(name, nn.Identity())
    assert_same(file, biased, torch.randn(1, 3, 32, 32), norm="none")


def test_our_own_folder(tmp_path: Path) -> None:
    network = UNetGenerator(in_channels=3, out_channels=3, width=2, depth=6).eval()
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    spec = GeneratorSpec(input=side, output=side)
    save_generator(tmp_path / "generator", network=network, spec=spec, card="A test.")
    for overrides in ({}, {"dropout": False}):
        loaded = assert_same(tmp_path / "generator", network, torch.randn(1, 3, 64, 64), **overrides)
        assert loaded.arguments == network.arguments | overrides
    checkpoint = open_checkpoint(tmp_path / "generator", dropout=False)
    assert (checkpoint.family, checkpoint.spec) == ("i2i unet", spec)
    sources = {finding.name: finding.source for finding in checkpoint.findings}
    assert (sources["depth"], sources["dropout"]) == ("config.json says so", "given by you")
    with pytest.raises(InputError, match="no argument blocks"):
        load_network(tmp_path / "generator", blocks=9)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("family", ["resnet", "unet", "patch", "pixel"])
def test_each_missing_surplus_or_misshapen_tensor_is_refused(
    family: str, norm: str, tmp_path: Path, refuses_damage: Callable[[dict[str, Tensor]], None]
) -> None:
    networks = {
        "resnet": lambda: resnet(3, 3, 2, 1, norm, False),
        "unet": lambda: unet(3, 3, 2, 5, norm),
        "patch": lambda: patch(3, 2, 2, norm),
        "pixel": lambda: pixel(3, 2, norm),
    }
    whole = state(networks[family]())
    file = tmp_path / "net.pth"
    refuses_damage(whole)
    torch.save(whole | {"model.2.filt": torch.ones(3, 1, 3, 3)}, file)
    with pytest.raises(InputError, match=r"model\.2\.filt \(3, 1, 3, 3\) is left over"):
        load_network(file)


def test_unknown_network_is_told_by_its_tensors(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(InputError, match=r"linear\.pth holds no network.*weight \(2, 3\), bias \(2,\)"):
        load_network(tmp_path / "linear.pth")


def test_unknown_network_comes_closest_to_another(tmp_path: Path) -> None:
    tensors = state(unet(3, 3, 2, 5, "batch"))
    del tensors["model.model.0.weight"]
    torch.save(tensors | {"attention.weight": torch.ones(3, 3)}, tmp_path / "net.pth")
    alike = len(tensors)
    closest = rf"closest to the pix2pix U-Net generator: {alike} tensors are named as there, not attention\.weight"
    with pytest.raises(InputError, match=rf"net\.pth holds no network.* {alike + 1} tensors.*{closest}"):
        load_network(tmp_path / "net.pth")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weight: weight.index_fill(0, torch.tensor([1]), torch.nan), "64 of 256 values .* are NaN or infinite"),
        (lambda weight: weight.double() * 1e200, "256 of 256 values .* are NaN or infinite in float32"),
        (lambda weight: weight.to(torch.int8), "holds torch.int8, expected torch.float32"),
        (lambda weight: weight.to_sparse(), "sparse or empty"),
        (lambda weight: weight.to("meta"), "sparse or empty"),
    ],
    ids=["nan", "overflow", "integers", "sparse", "meta"],
)
def test_weights_without_proper_values_are_refused(
    spoil: Callable[[Tensor], Tensor], message: str, tmp_path: Path
) -> None:
    tensors = state(patch(4, 4, 1, "none"))
    tensors["model.0.weight"] = spoil(tensors["model.0.weight"])
    torch.save(tensors, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"net\.pth") as caught:
        load_network(tmp_path / "net.pth")
    assert "model.0.weight" in str(caught.value)
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize(
    "content",
    [b"", b"version https://git-lfs.github.com/spec/v1", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n" + bytes(99)],
)
def test_other_files_are_no_weight_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"net\.pth is no weight file: it (is empty|begins with)"):
        load_network(tmp_path / "net.pth")


def test_file_that_was_compressed(tmp_path: Path) -> None:
    reference = trained(patch(3, 4, 3, "batch"))
    torch.save(state(reference), tmp_path / "net.pth")
    with (
        zipfile.ZipFile(tmp_path / "net.pth") as plain,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    assert_same(tmp_path / "small.pth", reference, torch.randn(1, 3, 64, 64))


@pytest.mark.filterwarnings("ignore:.*torch.jit:")
def test_torchscript_is_told(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 3, 3), torch.ones(1, 3, 8, 8)), tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"net\.pt is a TorchScript program"):
        load_network(tmp_path / "net.pt")


class Payload:
    """Unpickling this would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_code_in_a_file_never_runs(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    torch.save({"state_dict": {}, "payload": Payload(trace)}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload(trace), protocol=2))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(InputError, match=f"{name} holds more than tensors: reading it would run .*safetensors"):
            load_network(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files(suffix: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    tensors = state(pixel(3, 4, "batch"))
    if suffix == ".pth":
        torch.save(tensors, whole)
    else:
        safetensors.torch.save_file(tensors, whole)
    for content in (b"", b"not a weight file", whole.read_bytes()[:-200]):
        cut.write_bytes(content)
        with pytest.raises(InputError, match=f"cut{suffix}"):
            load_network(cut)
    with pytest.raises(InputError, match=f"nowhere{suffix} cannot be read"):
        load_network(tmp_path / f"nowhere{suffix}")
