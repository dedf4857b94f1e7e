"""Normalisation against its definition in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.norm import (
    SPADE,
    AdaIN,
    BatchNorm2d,
    ClassConditionalBatchNorm2d,
    InstanceNorm2d,
    PixelNorm,
    SyncBatchNorm2d,
    VectorConditionalBatchNorm2d,
    adaptive_instance_norm,
    make_norm,
    set_inference_mode,
)


def normalised(features: torch.Tensor, axes: tuple[int, ...], eps: float = 1e-5) -> np.ndarray:
    x = features.double().numpy()
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def batch_norm(channels: int) -> BatchNorm2d:
    layer = make_norm("batch", channels)
    assert isinstance(layer, BatchNorm2d)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def affine(layer: BatchNorm2d, x: np.ndarray) -> np.ndarray:
    weight, bias = (p.detach().double().numpy()[:, None, None] for p in (layer.weight, layer.bias))
    return x * weight + bias


def test_batch_norm_in_training_uses_the_whole_batch() -> None:
    layer, x = batch_norm(4), 3 + torch.randn(3, 4, 5, 6)
    expected = affine(layer, normalised(x, (0, 2, 3)))
    np.testing.assert_allclose(layer(x).detach(), expected, atol=1e-5)
    np.testing.assert_allclose(layer.running_mean, 0.1 * x.mean((0, 2, 3)), rtol=1e-5)


def test_eval_mode_uses_running_statistics() -> None:
    layer, x = batch_norm(4), torch.randn(3, 4, 5, 6)
    layer.running_mean.fill_(2)
    layer.running_var.fill_(9)
    set_inference_mode(layer, normalisation="eval", dropout=False)
    expected = affine(layer, (x.double().numpy() - 2) / np.sqrt(9 + 1e-5))
    np.testing.assert_allclose(layer(x).detach(), expected, atol=1e-5)


def test_per_image_mode_sees_one_image_only() -> None:
    layer = batch_norm(4)
    x = torch.randn(3, 4, 5, 6) * torch.tensor([1.0, 10, 100])[:, None, None, None]
    before = layer.state_dict()["running_mean"].clone()
    set_inference_mode(layer, normalisation="per_image", dropout=False)
    np.testing.assert_allclose(layer(x).detach(), affine(layer, normalised(x, (2, 3))), atol=1e-4)
    assert torch.equal(layer.running_mean, before)

    set_inference_mode(layer, normalisation="eval", dropout=False)
    assert not layer.per_image


def test_per_image_mode_is_training_mode_for_a_batch_of_one() -> None:
    layer, x = batch_norm(4), torch.randn(1, 4, 5, 6)
    in_training = layer(x)
    set_inference_mode(layer, normalisation="per_image", dropout=False)
    torch.testing.assert_close(layer(x), in_training)


def test_per_image_leaves_training_alone() -> None:
    layer, x = batch_norm(4), torch.randn(3, 4, 5, 6)
    layer.per_image = True
    np.testing.assert_allclose(layer(x).detach(), affine(layer, normalised(x, (0, 2, 3))), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_sees_one_image_only(training: bool) -> None:
    layer, x = make_norm("instance", 4).train(training), 3 + 2 * torch.randn(3, 4, 5, 6)
    np.testing.assert_allclose(layer(x), normalised(x, (2, 3)), atol=1e-5)
    assert not layer.state_dict()


def test_a_single_pixel_has_no_spread() -> None:
    x = torch.randn(2, 4, 1, 1, requires_grad=True)
    instance = InstanceNorm2d(4)
    torch.testing.assert_close(instance(x), torch.zeros(2, 4, 1, 1), rtol=0, atol=1e-4)
    instance(x).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()

    batch = batch_norm(4)
    set_inference_mode(batch, normalisation="per_image", dropout=False)
    torch.testing.assert_close(batch(x), batch.bias[None, :, None, None].expand(2, 4, 1, 1), rtol=0, atol=1e-4)


def test_no_norm_is_the_identity() -> None:
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(make_norm("none", 4)(x), x)


@pytest.mark.parametrize("norm", ["batch", "sync_batch", "instance"])
def test_spade_scales_and_shifts_by_the_labels(norm: str) -> None:
    """Equation 1 of the paper; maps of one label everywhere leave the centre of the map without a border's effect."""
    layer = SPADE(4, label_channels=3, norm=norm, hidden_width=5)  # type: ignore[arg-type]
    x, labels = 3 + 2 * torch.randn(2, 4, 9, 9), torch.zeros(2, 3, 9, 9)
    labels[:, 1] = 1

    def per_label(layer: nn.Conv2d, values: np.ndarray) -> np.ndarray:
        """A constant map through a convolution, away from the border."""
        weight, bias = (p.detach().double().numpy() for p in layer.parameters())
        return weight.sum((2, 3)) @ values + bias

    hidden = np.maximum(per_label(layer.shared[0], np.array([0, 1, 0])), 0)
    gamma, beta = (per_label(part, hidden)[:, None, None] for part in (layer.gamma, layer.beta))
    normal = normalised(x, (2, 3) if norm == "instance" else (0, 2, 3))
    expected = normal * (1 + gamma) + beta
    np.testing.assert_allclose(layer(x, labels).detach()[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-5)


def test_spade_at_inference() -> None:
    layer, x, labels = SPADE(4, label_channels=3, hidden_width=5), 3 + torch.randn(2, 4, 6, 6), torch.zeros(2, 3, 6, 6)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    set_inference_mode(layer, normalisation="eval", dropout=False)
    np.testing.assert_allclose(layer(x, labels).detach(), x / np.sqrt(1 + 1e-5), rtol=1e-5)
    set_inference_mode(layer, normalisation="per_image", dropout=False)
    np.testing.assert_allclose(layer(x, labels).detach(), normalised(x, (2, 3)), atol=1e-5)


BATCH = 3 + 2 * torch.randn(5, 4, 6, 3, generator=torch.Generator().manual_seed(0))
FIRST, REST = BATCH[:2], BATCH[2:]  # two processes need not have as much each


def train_step(layer: BatchNorm2d, x: Tensor) -> dict[str, Tensor]:
    """Output, gradients and statistics after a step whose loss tells values apart."""
    x = x.clone().requires_grad_()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.arange(1.0, 5.0))
    output = layer(x)
    (output**3).sum().backward()
    gradients = {f"{name}.grad": parameter.grad for name, parameter in layer.named_parameters()}
    return {"output": output.detach(), "x.grad": x.grad} | gradients | dict(layer.named_buffers())  # type: ignore[dict-item]


def run_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    x = (FIRST, REST)[rank]
    found = {str(affine): train_step(SyncBatchNorm2d(4, affine=affine), x) for affine in (False, True)}
    evaluated = SyncBatchNorm2d(4).eval()
    found["eval"] = {"output": evaluated(x).detach()}
    half = SyncBatchNorm2d(4, affine=False)(x.bfloat16())
    found["bfloat16"] = {"output": half}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def synchronised(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("synchronised")
    mp.spawn(run_process, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("affine", [False, True])
def test_two_processes_normalise_as_one(affine: bool, synchronised: list[dict[str, Any]]) -> None:
    expected = train_step(nn.BatchNorm2d(4, affine=affine), BATCH)  # type: ignore[arg-type]
    first, second = (found[str(affine)] for found in synchronised)
    assert first.keys() == expected.keys()
    for name, value in expected.items():
        if name in ("output", "x.grad"):
            joined = torch.cat([first[name], second[name]])
        elif name.endswith(".grad"):
            joined = first[name] + second[name]
        else:
            joined = first[name]
            torch.testing.assert_close(second[name], joined, rtol=0, atol=0)
        torch.testing.assert_close(joined, value, rtol=1e-4, atol=1e-4)


def test_two_processes_evaluate_each_for_itself(synchronised: list[dict[str, Any]]) -> None:
    for found, x in zip(synchronised, (FIRST, REST), strict=True):
        torch.testing.assert_close(found["eval"]["output"], nn.BatchNorm2d(4).eval()(x).detach())


def test_two_processes_in_16_bits(synchronised: list[dict[str, Any]]) -> None:
    joined = torch.cat([found["bfloat16"]["output"] for found in synchronised])
    assert joined.dtype == torch.bfloat16
    np.testing.assert_allclose(joined.float(), normalised(BATCH.bfloat16(), (0, 2, 3)), atol=0.02)


def test_one_process_alone_has_batch_norm() -> None:
    layer, plain = SyncBatchNorm2d(4), nn.BatchNorm2d(4)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(train_step(layer, BATCH), train_step(plain, BATCH))  # type: ignore[arg-type]


def test_adaptive_instance_norm_hands_over_mean_and_deviation() -> None:
    content, style = 3 + torch.randn(2, 4, 9, 8), 2 - 5 * torch.randn(2, 4, 6, 7)
    styled = adaptive_instance_norm(content, style)
    torch.testing.assert_close(styled.mean((2, 3)), style.mean((2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(styled.std((2, 3), correction=0), style.std((2, 3), correction=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(adaptive_instance_norm(style, style), style, rtol=1e-4, atol=1e-4)


def test_adain_scales_and_shifts_by_the_style() -> None:
    layer, x, style = AdaIN(4, style_channels=3), 3 + 2 * torch.randn(2, 4, 5, 6), torch.randn(2, 3)
    weight, bias = layer.scale_and_shift.weight, layer.scale_and_shift.bias
    np.testing.assert_allclose(layer(x, 0 * style).detach(), normalised(x, (2, 3)), atol=1e-5)
    nn.init.normal_(bias)
    for n in range(2):
        y = weight @ style[n] + bias
        expected = F.instance_norm(x[n : n + 1], weight=1 + y[:4], bias=y[4:])
        torch.testing.assert_close(layer(x, style)[n : n + 1], expected)


def test_class_conditional_batch_norm() -> None:
    layer, x, classes = ClassConditionalBatchNorm2d(4, classes=3), 3 + torch.randn(3, 4, 5, 6), torch.tensor([2, 0, 2])
    expected = normalised(x, (0, 2, 3))
    np.testing.assert_allclose(layer(x, classes).detach(), expected, atol=1e-5)
    for table in (layer.gain, layer.bias):
        nn.init.normal_(table)
    gain, bias = (table.detach().numpy()[classes][:, :, None, None] for table in (layer.gain, layer.bias))
    np.testing.assert_allclose(layer(x, classes).detach(), expected * gain + bias, atol=1e-5)
    layer(x, classes).square().sum().backward()
    assert layer.gain.grad is not None
    assert layer.gain.grad.any(1).tolist() == [True, False, True]


def test_batch_norm_told_by_a_vector() -> None:
    layer = VectorConditionalBatchNorm2d(4, condition_channels=3)
    x, told = 3 + torch.randn(5, 4, 2, 6), torch.randn(5, 3)
    weights = [parameter.detach().numpy() for linear in (layer.gain, layer.bias) for parameter in linear.parameters()]
    gain, bias = (told.numpy() @ weights[i].T + weights[i + 1] for i in (0, 2))
    expected = normalised(x, (0, 2, 3)) * (1 + gain[:, :, None, None]) + bias[:, :, None, None]
    np.testing.assert_allclose(layer(x, told).detach(), expected, atol=1e-5)
    nn.init.zeros_(layer.gain.bias)
    nn.init.zeros_(layer.bias.bias)
    np.testing.assert_allclose(layer(x, 0 * told).detach(), normalised(x, (0, 2, 3)), atol=1e-5)


def test_dropout_stays_on_only_where_asked() -> None:
    network = nn.Sequential(nn.Dropout(0.5), batch_norm(4))
    network.train()
    set_inference_mode(network, normalisation="eval", dropout=True)
    x = torch.ones(1, 4, 16, 16)
    assert not torch.equal(network(x), network(x))
    assert not network[1].training
    set_inference_mode(network, normalisation="eval", dropout=False)
    assert torch.equal(network(x), network(x))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match='"batch", "instance" or "none", got \'layer\''):
        make_norm("layer", 4)  # type: ignore[arg-type]
    with pytest.raises(InputError, match='"eval" or "per_image", got \'train\''):
        set_inference_mode(nn.Identity(), normalisation="train", dropout=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 4, 3)])
def test_pixel_norm_gives_every_pixel_a_mean_square_of_one(shape: tuple[int, ...]) -> None:
    x = 7 * torch.randn(shape)
    values = x.double().numpy()
    expected = values / np.sqrt((values**2).mean(1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(PixelNorm()(x), expected, atol=1e-6)


def test_pixel_norm_in_sixteen_bits_does_not_overflow() -> None:
    assert PixelNorm()(torch.full((1, 4), 1000.0, dtype=torch.float16)).tolist() == [[1, 1, 1, 1]]
