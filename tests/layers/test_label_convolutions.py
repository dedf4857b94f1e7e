"""Convolutions that look labels up against those of one-hot maps."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.layers.labels import LabelConv2d, LabelledConv2d, check_labels, halve_one_hot, one_hot


def label_maps(classes: int, *, edges: bool, height: int = 11, width: int = 14) -> Tensor:
    ids = torch.randint(classes, (2, 1, height, width))
    return torch.cat([ids, torch.randint(2, ids.shape)], dim=1) if edges else ids


def expand(labels: Tensor, channels: int) -> Tensor:
    """The one-hot form by PyTorch's own."""
    hot = F.one_hot(labels[:, 0], channels - labels.shape[1] + 1).movedim(-1, 1)
    return torch.cat([hot, labels[:, 1:]], dim=1).float()


def gradients(network: nn.Module, output: Tensor) -> list[Tensor]:
    loss = (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum()
    return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True))


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_one_hot(edges: bool, dtype: torch.dtype) -> None:
    labels = label_maps(5, edges=edges)
    channels = 5 + edges
    result = one_hot(labels.to(dtype), channels=channels)
    assert result.dtype == torch.float32
    assert torch.equal(result, expand(labels, channels))


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 2)])
def test_halving_the_one_hot_form(size: tuple[int, int], edges: bool) -> None:
    labels = label_maps(5, edges=edges, height=size[0], width=size[1])
    expected = F.avg_pool2d(expand(labels, 5 + edges), 3, stride=2, padding=1, count_include_pad=False)
    torch.testing.assert_close(halve_one_hot(labels, channels=5 + edges), expected)


# Few channels are multiplied, many looked up.
@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 5, "padding": 2, "bias": False},
        {"kernel_size": (1, 4), "padding": (0, 3), "stride": (1, 2)},
        {"kernel_size": 4, "padding": 2, "stride": 2},
    ],
    ids=str,
)
def test_label_maps_and_their_one_hot_form_give_the_same(shape: dict, edges: bool, classes: int) -> None:
    labels, channels = label_maps(classes, edges=edges), classes + edges
    conv = LabelConv2d(channels, 6, **shape).double()
    assert conv.state_dict().keys() == nn.Conv2d(channels, 6, **shape).state_dict().keys()
    plain = F.conv2d(expand(labels, channels).double(), conv.weight, conv.bias, conv.stride, conv.padding)
    for given in (labels, labels.to(torch.uint8), expand(labels, channels).double()):
        found = conv(given)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)
        torch.testing.assert_close(gradients(conv, found), gradients(conv, plain), rtol=0, atol=1e-12)


@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("edges", [False, True])
def test_label_maps_beside_images(edges: bool, classes: int) -> None:
    labels, images = label_maps(classes, edges=edges), torch.randn(2, 3, 11, 14, requires_grad=True)
    conv = LabelledConv2d(classes + edges + 3, 6, 4, stride=2, padding=2)
    joined = torch.cat([expand(labels, classes + edges), images], dim=1)
    plain = F.conv2d(joined, conv.weight, conv.bias, stride=2, padding=2)
    for found in (conv(images, labels), conv(joined)):
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)
        torch.testing.assert_close(gradients(conv, found), gradients(conv, plain), rtol=1e-4, atol=1e-4)
        ours, theirs = (
            torch.autograd.grad(output.square().sum(), images, retain_graph=True)[0] for output in (found, conv(joined))
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_an_id_past_the_last_is_no_class() -> None:
    """As in a one-hot form of zeros, so that both ways stay the same whatever the data hold."""
    labels = torch.full((1, 1, 5, 5), 40)
    conv = LabelConv2d(40, 2, 3, padding=1)
    assert conv.bias is not None
    torch.testing.assert_close(conv(labels), conv.bias[None, :, None, None].expand(1, 2, 5, 5))


@pytest.mark.parametrize("classes", [3, 40])
def test_16_bits(classes: int) -> None:
    labels, conv = label_maps(classes, edges=True, height=64, width=64), LabelConv2d(classes + 1, 6, 3, padding=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = conv(labels)
        assert half.dtype == conv(expand(labels, classes + 1)).dtype == torch.bfloat16
    full = conv(labels)
    torch.testing.assert_close(half.float(), full, rtol=0, atol=0.02)
    for mine, theirs in zip(gradients(conv, half), gradients(conv, full), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.5)


def test_the_same_to_the_bit_each_time() -> None:
    labels, conv = label_maps(40, edges=True, height=64, width=64), LabelConv2d(41, 32, 3, padding=1)
    twin = copy.deepcopy(conv)
    for mine, theirs in zip(gradients(conv, conv(labels)), gradients(twin, twin(labels)), strict=True):
        assert torch.equal(mine, theirs)


def test_it_compiles() -> None:
    labels, conv = label_maps(40, edges=True), LabelConv2d(41, 6, 3, padding=1)
    compiled = torch.compile(conv, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(labels), conv(labels))
    torch.testing.assert_close(gradients(conv, compiled(labels)), gradients(conv, conv(labels)))


@pytest.mark.parametrize("shape", [(2, 1, 4, 6), (2, 2, 4, 6)])
def test_what_label_maps_are(shape: tuple[int, ...]) -> None:
    check_labels(torch.zeros(shape, dtype=torch.int64), channels=7, multiple=2)
    check_labels(torch.zeros(2, 7, 4, 6), channels=7, multiple=2)
    with pytest.raises(InputError, match=r"multiples of 4 px, got 4 x 6"):
        check_labels(torch.zeros(shape, dtype=torch.int64), channels=7, multiple=4)
    for wrong in (torch.zeros(shape), torch.zeros(2, 3, 4, 6, dtype=torch.int64), torch.zeros(4, 6, dtype=torch.int64)):
        with pytest.raises(InputError, match=r"expected .*\(N, 7, H, W\)"):
            check_labels(wrong, channels=7)
