import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import (
    CompactGenerator,
    MSRResNetGenerator,
    ResNetGenerator,
    RRDBGenerator,
    SPADEGenerator,
    UNetGenerator,
)
from i2i.inference.graph import has_global_statistics, map_shapes, peak_bytes_per_pixel, receptive_radius, trace
from i2i.layers.norm import set_inference_mode


class Network(nn.Module):
    """What `build` makes of modules, with the attributes of a network."""

    def __init__(self, forward: Callable[..., Tensor], *, size_multiple: int = 1, **modules: nn.Module) -> None:
        super().__init__()
        self.in_channels = 2
        self.size_multiple = size_multiple
        self.run = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self, images)


def conv(inputs: int, outputs: int, size: int, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, **settings)


def dilated_and_strided() -> nn.Module:
    layers = nn.Sequential(conv(2, 3, 3, padding=2, dilation=2), conv(3, 3, 5, stride=3, padding=2))
    return Network(lambda self, x: F.interpolate(self.layers(x), scale_factor=3), size_multiple=3, layers=layers)


def oblong() -> nn.Module:
    return Network(lambda self, x: self.layer(x), layer=conv(2, 1, (1, 9), padding=(0, 4)))


def transposed() -> nn.Module:
    down = conv(2, 3, 4, stride=2, padding=1, padding_mode="reflect")
    up = nn.ConvTranspose2d(3, 2, 5, stride=2, padding=2, output_padding=1)
    return Network(lambda self, x: torch.tanh(self.up(self.down(x)) + x), size_multiple=2, down=down, up=up)


def shuffled() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.layer(F.pixel_unshuffle(x, 2)), 4)

    return Network(forward, size_multiple=2, layer=conv(8, 16, 3, padding=1))


def bilinear() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        large = F.interpolate(self.first(x), scale_factor=4, mode="bilinear", align_corners=False)
        return torch.cat([self.second(large), F.interpolate(x, scale_factor=4, mode="nearest")], dim=1)

    return Network(forward, first=conv(2, 2, 3, padding=1), second=conv(2, 2, 3, padding=1))


SMALL = {"in_channels": 2, "out_channels": 2, "width": 4}
NETWORKS: list[Callable[[], nn.Module]] = [
    dilated_and_strided,
    oblong,
    transposed,
    shuffled,
    bilinear,
    lambda: ResNetGenerator(**SMALL, blocks=1, norm="batch"),
    lambda: ResNetGenerator(**SMALL, blocks=1, norm="none", upsampling="resize", downsamplings=1),
    lambda: ResNetGenerator(**SMALL, blocks=1, norm="batch", antialias=True, upsampling="bilinear"),
    lambda: UNetGenerator(**SMALL, depth=3, full_size_skip=True),
    lambda: SPADEGenerator(in_channels=2, width=1, hidden_width=4, spectral=True),
    lambda: CompactGenerator(**SMALL, convs=2, scale=2),
    lambda: MSRResNetGenerator(**SMALL, blocks=1),
    lambda: RRDBGenerator(**SMALL, blocks=1, scale=2),
]


def measured_radius(network: nn.Module, *, side: int, narrow: int) -> int:
    """How far along either axis a pixel that is not a number makes others so, over all phases of its place."""
    radius = 0
    for axis in (2, 3):
        for place in range(side // 2, side // 2 + narrow):
            images = torch.rand(1, 2, narrow, narrow, dtype=torch.float64)
            images = images.repeat(1, 1, side // narrow, 1) if axis == 2 else images.repeat(1, 1, 1, side // narrow)
            images.select(axis, place)[..., 0] = torch.nan
            outputs = network(images).isnan().any(1)[0].any(3 - axis)
            scale = len(outputs) / side
            reached = (outputs.nonzero().flatten() / scale).floor().int() - place
            radius = max(radius, -int(reached[0]), int(reached[-1]))
    return radius


@pytest.mark.parametrize("build", NETWORKS)
@torch.no_grad()
def test_radius_is_how_far_a_pixel_is_felt(build: Callable[[], nn.Module]) -> None:
    network = build().double().eval()  # in float64 no algorithm mixes neighbours that the kernel does not
    radius = receptive_radius(network)
    assert radius is not None
    multiple = getattr(network, "size_multiple", 1)
    narrow = multiple * -(-8 // multiple)  # a whole period of phases
    side = narrow * (2 * radius // narrow + 4)
    assert measured_radius(network, side=side, narrow=narrow) == radius


def test_published_radii() -> None:
    # RRDB: the first convolution, 23 × 3 × 5 in dense blocks and one after them, and of the four at the larger
    # sizes those that together reach two input pixels.
    assert receptive_radius(RRDBGenerator(in_channels=3, out_channels=3, scale=4)) == 1 + 345 + 1 + 2
    # Isola et al. 2017, §6.1.2: patches of 70 × 70 px. Convolutions of 4 px with a padding of 1 see farther down.
    assert receptive_radius(PatchDiscriminator(in_channels=3).eval()) == 70 - 1 - 23
    assert receptive_radius(ResNetGenerator(in_channels=3, out_channels=3)) is None


@pytest.mark.parametrize(
    "build", [*NETWORKS, lambda: ResNetGenerator(**SMALL, blocks=1), lambda: UNetGenerator(**SMALL)]
)
@torch.no_grad()
def test_steps_remake_the_network(build: Callable[[], nn.Module]) -> None:
    network = build().eval()
    steps = trace(network)
    height, width = (2 * max(16, getattr(network, "size_multiple", 1)) for _ in range(2))
    shapes = map_shapes(steps, height=height, width=width)
    images = torch.rand(1, 2, height, width)
    maps = {steps[0]: images.clone()}
    for step in steps[1:]:
        maps[step] = step.operation(*(maps[source] for source in step.inputs))
        assert maps[step].shape == shapes[step], step
    assert torch.equal(maps[steps[-1]], network(images))


def test_an_input_that_is_overwritten_is_read_as_its_result() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        first = self.dropout(self.layer(x))
        return torch.cat([F.relu(first, inplace=True), first], 1)

    network = Network(forward, layer=conv(2, 2, 1), dropout=nn.Dropout()).eval()
    cat = trace(network)[-1]
    assert [step.inplace for step in cat.inputs] == [True, True]


def test_a_constant_per_channel() -> None:
    network = Network(lambda self, x: x - self.layer.bias[:, None, None], layer=conv(2, 2, 1))
    network.register_buffer("mean", torch.rand(1, 2, 1, 1))
    network.run = lambda self, x: self.layer(x - self.mean)
    assert receptive_radius(network) == 0
    network.register_buffer("mean", torch.rand(1, 2, 4, 4))
    with pytest.raises(InputError, match="sub"):
        trace(network)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda self, x: x if x.mean() > 0 else -x, "cannot be taken apart"),
        (lambda self, x: self.layer(x).flip(2), "no rule for.*flip"),
        (lambda self, x: F.interpolate(x, size=(8, 8)), "no rule for.*interpolate"),
        (lambda self, x: F.interpolate(x, scale_factor=1.5), "no rule for interpolation by 1.5"),
        (lambda self, x: torch.cat([x, x], 2), "no rule for.*cat"),
        (lambda self, x: (x, x), "one tensor"),
    ],
)
def test_what_cannot_be_taken_apart(forward: Callable[..., Any], said: str) -> None:
    network = Network(forward, layer=conv(2, 2, 3, padding=1))
    with pytest.raises(InputError, match=said):
        receptive_radius(network)
    assert peak_bytes_per_pixel(network) is None


def test_a_module_without_a_rule_is_named() -> None:
    for module in (nn.LayerNorm(4), conv(2, 2, 3, padding="same"), conv(2, 2, 3, padding=1, padding_mode="circular")):
        network = Network(lambda self, x: self.odd_one(x), odd_one=module)
        with pytest.raises(InputError, match=type(module).__name__):
            trace(network)


def test_global_statistics() -> None:
    unet = UNetGenerator(**SMALL, depth=3)
    set_inference_mode(unet, normalisation="eval", dropout=False)
    assert not has_global_statistics(unet)
    assert receptive_radius(unet) is not None
    set_inference_mode(unet, normalisation="per_image", dropout=False)
    assert has_global_statistics(unet)
    assert receptive_radius(unet) is None
    assert has_global_statistics(SPADEGenerator(in_channels=2, width=1, norm="instance").eval())

    def branching(self: Any, x: Tensor) -> Tensor:
        return self.norm(x) if x.sum() > 0 else x

    assert has_global_statistics(Network(branching, norm=nn.InstanceNorm2d(2)))
    assert not has_global_statistics(Network(branching, norm=nn.BatchNorm2d(2)).eval())
    assert has_global_statistics(Network(branching, norm=nn.BatchNorm2d(2)))


class PeakMemory(TorchDispatchMode):
    """The most bytes of all tensors that operations have made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.alive and storage.nbytes():
                self.alive[storage.data_ptr()] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage.data_ptr(), None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize(
    "network",
    [
        ResNetGenerator(in_channels=3, out_channels=3, blocks=2),
        ResNetGenerator(in_channels=3, out_channels=3, blocks=2, norm="batch", upsampling="bilinear", antialias=True),
        UNetGenerator(in_channels=3, out_channels=3, width=16, depth=6),
        UNetGenerator(in_channels=3, out_channels=3, width=16, depth=3, norm="instance", full_size_skip=True),
        SPADEGenerator(in_channels=3, width=4),
        CompactGenerator(in_channels=3, out_channels=3, convs=3),
        RRDBGenerator(in_channels=3, out_channels=3, blocks=1),
    ],
    ids=lambda network: type(network).__name__,
)
@torch.no_grad()
def test_peak_memory_is_near_what_tensors_take(network: nn.Module) -> None:
    network.eval()
    predicted = peak_bytes_per_pixel(network)
    assert predicted is not None
    with PeakMemory() as measured:
        images = torch.zeros(1, 3, 256, 256)
        network(images)
    # A module holds on to its input until it returns, a Sequential too; the prediction does not know that.
    assert 0.9 * predicted < measured.peak / 256**2 < 1.5 * predicted
