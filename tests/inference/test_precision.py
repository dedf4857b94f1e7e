import pytest
import torch
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.inference.memory import available_bytes, is_out_of_memory, working_budget
from i2i.inference.precision import NotEnoughMemory, NotFinite, Precision, SafeRunner


def conv(weight: float) -> nn.Conv2d:
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(network.weight, weight)
    return network


@torch.no_grad()
def run(runner: SafeRunner, inputs: Tensor, *, eight_bits: bool = True) -> Tensor:
    return runner(inputs, eight_bits=eight_bits)


def test_auto_is_full_precision_on_a_cpu() -> None:
    inputs = torch.rand(2, 1, 8, 8)
    runner = SafeRunner(conv(0.3), precision="auto", compile=False)
    assert torch.equal(run(runner, inputs), inputs * 0.3)


@pytest.mark.parametrize(("precision", "spacing"), [("bf16", 2**-7), ("fp16", 2**-10)])
def test_half_precision_is_used_where_asked_for(precision: Precision, spacing: float) -> None:
    inputs = torch.rand(1, 1, 64, 64)
    outputs = run(SafeRunner(conv(1.0), precision=precision, compile=False), inputs).float()
    assert not torch.equal(outputs, inputs)
    torch.testing.assert_close(outputs, inputs, atol=0, rtol=spacing)


def test_what_overflows_in_fp16_is_computed_again_in_bf16_and_counted() -> None:
    runner = SafeRunner(conv(1000.0), precision="fp16", compile=False)
    inputs = torch.ones(3, 1, 8, 8)
    inputs[1] = 100.0  # 100,000 is beyond fp16's 65,504
    outputs = run(runner, inputs)
    assert runner.redone == {"bf16": 1, "fp32": 0}
    assert torch.equal(outputs[0], torch.full((1, 8, 8), 1000.0))
    torch.testing.assert_close(outputs[1], torch.full((1, 8, 8), 1e5), atol=0, rtol=2**-8)


class HalfFails(nn.Module):
    """Returns NaN in any type but float32, as networks with sums over many values may."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full_like(images, float("nan")) if torch.is_autocast_enabled("cpu") else images


def test_what_fails_in_bf16_too_is_computed_again_in_fp32() -> None:
    runner = SafeRunner(HalfFails(), precision="fp16", compile=False)
    inputs = torch.rand(2, 1, 4, 4)
    assert torch.equal(run(runner, inputs), inputs)
    assert runner.redone == {"bf16": 2, "fp32": 2}


def test_what_fails_in_fp32_is_no_result() -> None:
    inputs = torch.ones(3, 1, 4, 4)
    inputs[2, 0, 1, 1] = float("inf")
    with pytest.raises(NotFinite) as error:
        run(SafeRunner(conv(1.0), precision="auto", compile=False), inputs)
    assert error.value.args == (2,)


def test_large_but_finite_values_are_a_result() -> None:
    """Their sum overflows, they don't."""
    inputs = torch.full((1, 1, 8, 8), 3e38)
    assert torch.equal(run(SafeRunner(conv(1.0), precision="auto", compile=False), inputs), inputs)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"precision: expected one of .*'bf16'.*got 'int8'"):
        SafeRunner(conv(1.0), precision="int8", compile=False)  # type: ignore[arg-type]


class SmallMemory(nn.Module):
    """Runs out of memory beyond so many pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        if images.numel() > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.batches.append(len(images))
        return images


def test_a_batch_that_does_not_fit_is_halved() -> None:
    network = SmallMemory(3 * 16)
    inputs = torch.rand(8, 1, 4, 4)
    assert torch.equal(run(SafeRunner(network, precision="auto", compile=False), inputs), inputs)
    assert network.batches == [2, 2, 2, 2]


def test_one_that_does_not_fit_is_told_to_the_caller() -> None:
    with pytest.raises(NotEnoughMemory):
        run(SafeRunner(SmallMemory(15), precision="auto", compile=False), torch.rand(2, 1, 4, 4))


class Broken(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("expected scalar type Half but found Float")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="expected scalar type"):
        run(SafeRunner(Broken(), precision="auto", compile=False), torch.rand(2, 1, 4, 4))


def test_torchs_own_words_for_too_little_memory_are_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_budget_lies_within_what_is_free() -> None:
    assert 0 < working_budget(torch.device("cpu")) < available_bytes()
