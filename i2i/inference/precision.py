"""Run a network in the fastest number type that is safe, and check what it returns."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.inference.memory import is_out_of_memory

Precision = Literal["auto", "fp32", "bf16", "fp16"]

# What a result with NaN or infinity is computed in again. fp16 ends at 65,504; bf16 reaches as far as fp32.
WIDER: dict[str, Precision] = {"fp16": "bf16", "bf16": "fp32"}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NotEnoughMemory(Exception):
    """Not even a single image or tile of this size fits; the caller may try a smaller one."""


class NotFinite(Exception):
    """NaN or infinity, in fp32 too; the argument is the place in the batch of the first such result."""


class SafeRunner:
    """Calls a network on batches; what comes back is finite.

    Args:
        network: images (N, C, H, W), and what else it takes, a tensor (N, …) → (N, C', H', W').
        precision: "fp32", or "bf16" and "fp16" through autocast; "auto" takes fp16 on CUDA where results are stored
            in 8 bits (fp16 holds 11), and fp32 everywhere else.
        compile: let torch.compile make the network faster, at the price of a slow first call for each size.

    Attributes:
        plain: whether nothing is asked for but full precision, uncompiled, where no accelerator offers more.
        redone: how many images or tiles were computed again, by the type that they were computed in.
    """

    def __init__(self, network: nn.Module, *, precision: Precision, compile: bool) -> None:
        if precision not in get_args(Precision):
            raise InputError(f"precision: expected one of {get_args(Precision)}, got {precision!r}")
        self.network = network
        self.precision = precision
        self.plain = precision in ("auto", "fp32") and not compile
        self.redone = {"bf16": 0, "fp32": 0}
        self._call: Callable[..., Tensor] = torch.compile(network) if compile else network

    def __call__(self, *inputs: Tensor, eight_bits: bool) -> Tensor:
        """Run a batch.

        Args:
            inputs: of N images each, on the network's device.
            eight_bits: whether the result will be stored as uint8.

        Raises:
            NotFinite: NaN or infinity in fp32, too.
            NotEnoughMemory: a batch of one does not fit.
        """
        precision = self.precision
        if precision == "auto":
            precision = "fp16" if eight_bits and inputs[0].device.type == "cuda" else "fp32"
        outputs = self._run(inputs, precision)
        while len(bad := _not_finite(outputs)):
            if precision not in WIDER:
                raise NotFinite(int(bad[0]))
            precision = WIDER[precision]
            self.redone[precision] += len(bad)
            outputs = outputs.to(torch.float32)
            outputs[bad] = self._run([tensor[bad] for tensor in inputs], precision).to(torch.float32)
        return outputs

    def _run(self, inputs: Sequence[Tensor], precision: Precision) -> Tensor:
        device, count = inputs[0].device.type, len(inputs[0])
        try:
            with torch.autocast(device, DTYPES.get(precision), enabled=precision in DTYPES):
                return self._call(*inputs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Out of the handler, for the error holds on to what the network had allocated.
        if device == "cuda":
            torch.cuda.empty_cache()
        if count == 1:
            raise NotEnoughMemory
        halves = [slice(0, count // 2), slice(count // 2, count)]
        return torch.cat([self._run([tensor[half] for tensor in inputs], precision) for half in halves])


def _not_finite(outputs: Tensor) -> Tensor:
    """Places in the batch of results that hold NaN or infinity."""
    # The sum is not finite where a value is not, and costs less than a mask; a sum may overflow by itself, though.
    if outputs.sum(dtype=torch.float32).isfinite():
        return torch.empty(0, dtype=torch.int64)
    return (~outputs.isfinite()).flatten(1).any(dim=1).nonzero()[:, 0]
