"""tools/benchmark.py says all that it promises, about equal work. How long anything took is not asserted."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import torch
from torch import nn

TOOL = Path(__file__).parents[2] / "tools" / "benchmark.py"
TINY = {"size_px": 32, "width": 2, "depth": 5, "steps": 2, "warmup_steps": 1}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_prints_every_figure(benchmark: ModuleType) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    done = subprocess.run(
        [sys.executable, TOOL, "train", "--device=cpu", "--threads=1", *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    number = r"[\d.]+"
    for variant in get_args(benchmark.Variant):
        cells = [number, rf"{number} - {number}", number, number, rf"{number} MiB"]
        row = r"\s+│\s+".join([re.escape(variant), *cells])
        assert re.search(row, done.stdout), f"{variant}\n{done.stdout}"
    for figure in (
        rf"Waiting for data: {number}% of i2i's step",
        rf"Matrix product in fp32: {number} GFLOP/s",
        rf"plain PyTorch: {number} GFLOP a step, {number} GFLOP/s, {number}% of the matrix product's",
        rf"i2i: {number} GFLOP a step, {number} GFLOP/s, {number}% of the matrix product's",
        rf"\d+ cores, 1 threads, torch {re.escape(torch.__version__)}, on cpu",
    ):
        assert re.search(figure, done.stdout), f"{figure}\n{done.stdout}"


def test_all_variants_do_the_same_work(benchmark: ModuleType) -> None:
    work = benchmark.TrainingWork(**TINY, device="cpu")
    accelerator = work.accelerator()
    flop = {
        variant: benchmark.count_flop(benchmark.make_step(work, variant, accelerator))
        for variant in get_args(benchmark.Variant)
    }
    assert len(set(flop.values())) == 1, flop


def test_all_variants_train_alike(benchmark: ModuleType) -> None:
    """Without dropout, i2i's networks and those of the plain step are the same after three steps."""
    made: list[tuple[nn.Module, nn.Module]] = []

    class Recorded(benchmark.TrainingWork):  # type: ignore[name-defined]
        def networks(self) -> tuple[nn.Module, nn.Module]:
            made.append(super().networks())
            for dropout in (module for module in made[-1][0].modules() if isinstance(module, nn.Dropout)):
                dropout.p = 0.0
            return made[-1]

    # Adam divides gradients that cancel to rounding noise by themselves, so that in float32 noise decides their sign.
    torch.set_default_dtype(torch.float64)
    try:
        work = Recorded(**TINY, device="cpu")
        accelerator = work.accelerator()
        for variant in get_args(benchmark.Variant):
            step = benchmark.make_step(work, variant, accelerator)
            for _ in range(3):
                step()
        work.networks()
    finally:
        torch.set_default_dtype(torch.float32)
    *trained, untrained = [[p for network in networks for p in network.parameters()] for networks in made]
    first, *others = trained
    assert len(others) == 3
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-7)
    assert max((a - b).abs().max().item() for a, b in zip(first, untrained, strict=True)) > 1e-4


def test_inference_prints_every_figure(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.inference(
        benchmark.InferenceWork(
            device="cpu", width=4, blocks=1, images=3, size_px=16, large_px=(80, 96), tile_px=64, readings=2
        )
    )
    printed = capsys.readouterr().out
    number = r"[\d.]+"
    for variant in (r"network alone, batches of \d+", r"t\(list\)", "network alone, whole", "in tiles.*", "exact"):
        assert re.search(rf"{variant}\s+│\s+{number}\s+│\s+{number}\s+│\s+{number}", printed), f"{variant}\n{printed}"
    assert re.search(r"Exact: 1 image in .*; at most [\d.]+e-0[67] of the range", printed), printed
