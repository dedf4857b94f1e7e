"""What a network consists of, and what follows from it: how far it looks, and how much memory it takes."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from i2i.errors import InputError
from i2i.layers.checks import check_images
from i2i.layers.labels import LabelConv2d, check_labels
from i2i.layers.resample import BlurDownsample, BlurUpsample, PickEvery, ResizeConv2d

# The side of an image that is large enough for its border to hardly count in figures per pixel.
_PROBE_PX = 256
# Of the names in a network that is the only part of another.
_PREFIX = "0."


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Along one axis, output `i` is made of the inputs ⌊(i · down + first) / up⌋ to ⌊(i · down + last) / up⌋.

    Inputs before the map's first or after its last stand for padding. Of n inputs come ⌊(n · up + extra) / down⌋
    outputs.
    """

    down: int = 1
    up: int = 1
    first: int = 0
    last: int = 0
    extra: int = 0

    def inputs(self, output: int) -> tuple[int, int]:
        """The first and the last input that one output is made of."""
        return (output * self.down + self.first) // self.up, (output * self.down + self.last) // self.up

    def count(self, inputs: int) -> int:
        """The number of outputs."""
        return (inputs * self.up + self.extra) // self.down


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One operation of a network, and the map (N, C, H, W) that it makes of other steps' maps.

    Attributes:
        name: as in the network, for messages.
        inputs: the steps whose maps it takes; none for the image that goes into the network.
        operation: takes these maps; the network's own module where there is one.
        channels: of its map.
        reach: along rows and along columns; None where each value depends on the whole map.
        inplace: whether the operation overwrites its first input.
    """

    name: str
    inputs: tuple["Step", ...] = field(repr=False)
    operation: Callable[..., Tensor]
    channels: int
    reach: tuple[Reach, Reach] | None
    inplace: bool


def trace(network: nn.Module) -> list[Step]:
    """Take a network apart: the image first, then every step after those it depends on, the result last.

    Dropout that is off and steps on which the result does not depend are left out.

    Args:
        network: with the attribute `in_channels`.

    Raises:
        InputError: the network's path depends on its input, or it takes a step of unknown reach.
    """
    name = type(network).__name__
    # As part of another, the network is called with the image alone: what else `forward` takes has its default.
    root = nn.Sequential(network)
    try:
        nodes = _Tracer(autowrap_functions=(check_images, check_labels)).trace(root).nodes
        channels: Any = network.in_channels
    except Exception as error:  # code that was written for tensors may fail in any way on what stands in for them
        raise InputError(f"{name} cannot be taken apart into its steps: {error}") from error

    values: dict[fx.Node, Step | Tensor] = {}
    steps: list[Step] = []
    for node in nodes:
        if node.op == "placeholder":
            step = Step(
                name="image", inputs=(), operation=nn.Identity(), channels=channels, reach=_both(Reach()), inplace=False
            )
        elif node.target in (check_images, check_labels):
            continue
        elif node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target).removeprefix(_PREFIX))(network)
            continue
        elif node.op == "output":
            break
        else:
            try:
                step = _make_step(node, network, values)
            except _NoRuleError as error:
                raise InputError(
                    f"{name} cannot be taken apart into its steps: there is no rule for {error}; "
                    "i2i.inference.graph has the rules"
                ) from None
            if _does_nothing(step.operation):
                values[node] = step.inputs[0]
                continue
            if step.inplace:  # whoever reads the overwritten map from here on reads the result
                values.update({other: step for other, value in values.items() if value is step.inputs[0]})
        values[node] = step
        steps.append(step)

    result = values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
    if not isinstance(result, Step):
        raise InputError(f"{name} cannot be taken apart into its steps: expected it to return one tensor")
    needed = {steps[0], result}
    for step in reversed(steps):
        if step in needed:
            needed.update(step.inputs)
    return [step for step in steps if step in needed]


def receptive_radius(network: nn.Module) -> int | None:
    """How far at most an output pixel looks beyond the input pixel that it lies in, in input pixels.

    None where it looks at the whole image: at its mean or variance, for a norm.

    Raises:
        InputError: the network cannot be taken apart.
    """
    steps = trace(network)
    if any(step.reach is None for step in steps):
        return None
    return max(_radius(steps, axis) for axis in (0, 1))


def has_global_statistics(network: nn.Module) -> bool:
    """Whether a module of the network looks at whole maps, as instance norm does for their mean and variance.

    Finds what are modules of torch.nn or of i2i, in networks that cannot be taken apart too.
    """
    return any(_looks_at_whole_maps(module) for module in network.modules())


def peak_bytes_per_pixel(network: nn.Module) -> float | None:
    """Memory that the network's float32 maps take at the worst moment of a pass without gradients.

    In bytes per pixel of the input, with the input itself, without parameters and without what libraries reserve
    inside a convolution. None where the network cannot be taken apart.
    """
    try:
        steps = trace(network)
    except InputError:
        return None
    multiple = getattr(network, "size_multiple", 1)
    side = multiple * math.ceil(_PROBE_PX / multiple)
    shapes = map_shapes(steps, height=side, width=side)

    users = dict.fromkeys(steps, 0)
    for step in steps:
        for source in step.inputs:
            users[source] += 1
    users[steps[0]] += 1  # the caller keeps the image
    users[steps[-1]] += 1
    alive = peak = shapes[steps[0]].numel()
    for step in steps[1:]:
        alive += shapes[step].numel()
        if step.inplace:
            alive -= shapes[step.inputs[0]].numel()
        peak = max(peak, alive + _passing_values(step, shapes))
        for source in step.inputs:
            users[source] -= 1
            if users[source] == 0 and not (step.inplace and source is step.inputs[0]):
                alive -= shapes[source].numel()
    return 4 * peak / side**2


def map_shapes(steps: list[Step], *, height: int, width: int) -> dict[Step, torch.Size]:
    """The shape (1, C, H, W) of each step's map, for an image of `height` × `width` pixels."""
    sizes = {steps[0]: (height, width)}
    for step in steps[1:]:
        size = sizes[step.inputs[0]]
        sizes[step] = size if step.reach is None else (step.reach[0].count(size[0]), step.reach[1].count(size[1]))
    return {step: torch.Size((1, step.channels, *size)) for step, size in sizes.items()}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        ours = (nn.Conv2d, _BatchNorm, _InstanceNorm, BlurDownsample, BlurUpsample, PickEvery)
        return isinstance(module, ours) or super().is_leaf_module(module, name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        # The network's hooks are there to see images, not what stands in for one.
        is_network = m is self.root.get_submodule("0")
        return super().call_module(m, m.forward if is_network else forward, args, kwargs)


class _NoRuleError(Exception):
    """Names an operation that has no rule."""


def _make_step(node: fx.Node, network: nn.Module, values: dict[fx.Node, Step | Tensor]) -> Step:
    inputs = {source: value for source in node.all_input_nodes if isinstance(value := values.get(source), Step)}
    constants = {source: value for source in node.all_input_nodes if isinstance(value := values.get(source), Tensor)}
    # A constant with a height of its own could not be applied to some rows of a map.
    usable = len(inputs) + len(constants) == len(node.all_input_nodes)
    if not inputs or not usable or any(constant.shape[-2:].numel() > 1 for constant in constants.values()):
        raise _NoRuleError(node.name)
    channels = [step.channels for step in inputs.values()]
    if node.op == "call_module":
        name = str(node.target).removeprefix(_PREFIX)
        module = network.get_submodule(name)
        return Step(
            name=name,
            inputs=tuple(inputs.values()),
            operation=module,
            channels=_channels_of_module(module, channels[0]),
            reach=_reach_of_module(module),
            inplace=getattr(module, "inplace", False),
        )
    return Step(
        name=node.name,
        inputs=tuple(inputs.values()),
        operation=_bind(node, list(inputs), constants),
        channels=_channels_of_function(node, channels),
        reach=_reach_of_function(node),
        inplace=bool(node.kwargs.get("inplace", False)),
    )


def _bind(node: fx.Node, inputs: list[fx.Node], constants: dict[fx.Node, Tensor]) -> Callable[..., Tensor]:
    """What a node calls, as a function of its maps alone."""
    function: Any = node.target

    def call(*maps: Tensor) -> Tensor:
        values = {source: constant.to(maps[0].device) for source, constant in constants.items()}
        values.update(zip(inputs, maps, strict=True))
        return function(*fx.map_arg(node.args, values.get), **fx.map_arg(node.kwargs, values.get))

    return call


def _does_nothing(operation: object) -> bool:
    return isinstance(operation, nn.Identity) or (isinstance(operation, _DropoutNd) and not operation.training)


def _reach_of_module(module: nn.Module) -> tuple[Reach, Reach] | None:
    match module:
        case ResizeConv2d():
            return _both(Reach(up=2, first=-1, last=1))
        case nn.Conv2d() if _convolves_maps(module) and not isinstance(module.padding, str):
            rows, columns = (_reach_of_conv(module, axis) for axis in (0, 1))
            # A mirrored row may lie farther away than what the kernel itself reaches.
            if module.padding_mode == "zeros" or (
                module.padding_mode == "reflect" and -rows.first <= rows.last and -columns.first <= columns.last
            ):
                return rows, columns
        case nn.ConvTranspose2d() if type(module).forward is nn.ConvTranspose2d.forward:
            return _reach_of_transposed_conv(module, 0), _reach_of_transposed_conv(module, 1)
        case BlurDownsample():
            return _both(Reach(down=2, first=-1, last=1, extra=1))
        case BlurUpsample():
            return _both(_reach_of_interpolation(2, "bilinear"))
        case PickEvery():
            return _both(Reach(down=module.factor, extra=module.factor - 1))
        case nn.Upsample() if module.size is None and not module.align_corners:
            return _both(_reach_of_interpolation(module.scale_factor, module.mode))
        case nn.PixelShuffle():
            return _both(Reach(up=module.upscale_factor))
        case nn.PixelUnshuffle():
            return _both(Reach(down=module.downscale_factor, last=module.downscale_factor - 1))
        case _BatchNorm() | _InstanceNorm() | nn.GroupNorm():
            return None if _looks_at_whole_maps(module) else _both(Reach())
        case nn.ReLU() | nn.LeakyReLU() | nn.PReLU() | nn.ELU() | nn.GELU() | nn.SiLU() | nn.Tanh() | nn.Sigmoid():
            return _both(Reach())
        case nn.Identity() | _DropoutNd():
            return _both(Reach())
    raise _NoRuleError(repr(module))


def _channels_of_module(module: nn.Module, channels: int) -> int:
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            return module.out_channels
        case nn.PixelShuffle():
            return channels // module.upscale_factor**2
        case nn.PixelUnshuffle():
            return channels * module.downscale_factor**2
    return channels


def _reach_of_function(node: fx.Node) -> tuple[Reach, Reach] | None:
    match node.target:
        case operator.add | operator.sub | operator.mul | operator.truediv | operator.neg | torch.add | torch.mul:
            return _both(Reach())
        case torch.tanh | torch.sigmoid | torch.relu | F.relu | F.leaky_relu:
            return _both(Reach())
        case torch.cat if _second_argument(node, "dim") in (1, -3):
            return _both(Reach())
        case F.interpolate if node.kwargs["size"] is None and not node.kwargs["align_corners"]:
            return _both(_reach_of_interpolation(node.kwargs["scale_factor"], node.kwargs["mode"]))
        case torch.pixel_shuffle:
            return _both(Reach(up=_second_argument(node, "upscale_factor")))
        case torch.pixel_unshuffle:
            factor = _second_argument(node, "downscale_factor")
            return _both(Reach(down=factor, last=factor - 1))
    raise _NoRuleError(node.format_node() or node.name)


def _channels_of_function(node: fx.Node, channels: list[int]) -> int:
    match node.target:
        case torch.cat:
            return sum(channels)
        case torch.pixel_shuffle:
            return channels[0] // _second_argument(node, "upscale_factor") ** 2
        case torch.pixel_unshuffle:
            return channels[0] * _second_argument(node, "downscale_factor") ** 2
    return max(channels)  # a single channel may be added to several


def _second_argument(node: fx.Node, name: str) -> Any:
    return node.args[1] if len(node.args) > 1 else node.kwargs.get(name)


def _convolves_maps(conv: nn.Conv2d) -> bool:
    """Whether it does to maps in floating point what its class says."""
    return type(conv).forward in (nn.Conv2d.forward, LabelConv2d.forward)


def _reach_of_conv(conv: nn.Conv2d, axis: int) -> Reach:
    stride, padding = conv.stride[axis], int(conv.padding[axis])
    span = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
    return Reach(down=stride, first=-padding, last=span - padding, extra=2 * padding - span + stride - 1)


def _reach_of_transposed_conv(conv: nn.ConvTranspose2d, axis: int) -> Reach:
    """Input j adds to the outputs from j · stride − padding to span more."""
    stride, padding = conv.stride[axis], int(conv.padding[axis])
    span = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
    # Output i is first reached by input ⌈(i + padding − span) / stride⌉, written as a floor.
    extra = span - 2 * padding + conv.output_padding[axis] + 1 - stride
    return Reach(up=stride, first=padding - span + stride - 1, last=padding, extra=extra)


def _reach_of_interpolation(factor: Any, mode: Any) -> Reach:
    if isinstance(factor, (int, float)) and factor >= 1 and factor == int(factor):
        factor = int(factor)
        if mode == "nearest":
            return Reach(up=factor)
        if mode == "bilinear":
            # Output i lies at (i + ½) / factor − ½, between the two inputs that it is made of.
            return Reach(down=2, up=2 * factor, first=1 - factor, last=factor)
    raise _NoRuleError(f"interpolation by {factor}, {mode}")


def _both(reach: Reach) -> tuple[Reach, Reach]:
    return reach, reach


def _looks_at_whole_maps(module: nn.Module) -> bool:
    match module:
        case _BatchNorm() | _InstanceNorm():
            return module.training or module.running_mean is None or getattr(module, "per_image", False)
        case nn.GroupNorm() | nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d():
            return True
    return False


def _radius(steps: list[Step], axis: int) -> int:
    """Along one axis, over all phases that an output pixel can have to the grids of the maps before it."""
    density = {steps[0]: Fraction(1)}  # pixels of each map to a pixel of the image
    for step in steps[1:]:
        assert step.reach is not None
        density[step] = density[step.inputs[0]] * step.reach[axis].up / step.reach[axis].down
    scale = density[steps[-1]]
    radius = 0
    for output in range(math.lcm(*((d / scale).denominator for d in density.values()))):
        seen = {steps[-1]: (output, output)}
        for step in reversed(steps[1:]):
            assert step.reach is not None
            first, last = step.reach[axis].inputs(seen[step][0])[0], step.reach[axis].inputs(seen[step][1])[1]
            for source in step.inputs:
                before = seen.get(source, (first, last))
                seen[source] = min(first, before[0]), max(last, before[1])
        first, last = seen[steps[0]]
        here = math.floor(output / scale)
        radius = max(radius, here - first, last - here)
    return radius


def _passing_values(step: Step, shapes: dict[Step, torch.Size]) -> int:
    """Values in the maps that a step makes and drops on its way."""
    match step.operation:
        case nn.Conv2d() if step.operation.padding_mode != "zeros":
            return shapes[step.inputs[0]].numel()  # the input, padded
        case BlurDownsample():
            return 2 * shapes[step.inputs[0]].numel()  # the same, and blurred
    return 0
