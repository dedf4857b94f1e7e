"""tools/benchmark.py says all that it promises, about equal work. How long anything took is not asserted."""

import importlib
import re
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import av
import numpy as np
import pytest
import torch
from torch import nn

from i2i.inference.upscale import Upscaler
from i2i.video import Options, VideoFile, upscaling
from i2i.video.job import Job

TOOLS = Path(__file__).parents[2] / "tools"
TINY: dict[str, dict[str, Any]] = {
    "pix2pix": {"method": "pix2pix", "size_px": 32, "width": 2, "depth": 5, "steps": 2, "warmup_steps": 1},
    "cyclegan": {"method": "cyclegan", "size_px": 32, "width": 2, "blocks": 1, "steps": 2, "warmup_steps": 1},
}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("benchmark")


@pytest.mark.slow
@pytest.mark.parametrize("method", TINY)
def test_prints_every_figure(benchmark: ModuleType, method: str) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY[method].items()]
    done = subprocess.run(
        [sys.executable, TOOLS / "benchmark.py", "train", "--device=cpu", "--threads=1", *options],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    number = r"[\d.]+"
    for variant in get_args(benchmark.Variant):
        cells = [number, rf"{number} - {number}", number, number, rf"{number} GiB"]
        row = r"\s+│\s+".join([re.escape(variant), *cells])
        assert re.search(row, done.stdout), f"{variant}\n{done.stdout}"
    share = rf"{number}% of the matrix product's, {number}% of the 3 x 3 convolution's"
    for figure in (
        rf"{method} step: ",
        rf"Waiting for data: {number}% of i2i's step",
        rf"Matrix product in fp32: {number} GFLOP/s",
        rf"3 x 3 convolution in fp32: {number} GFLOP/s",
        rf"plain PyTorch: {number} GFLOP a step, {number} GFLOP/s; {share}",
        rf"i2i: {number} GFLOP a step, {number} GFLOP/s; {share}",
        rf"\d+ cores, 1 threads, torch {re.escape(torch.__version__)}, on cpu",
    ):
        assert re.search(figure, done.stdout), f"{figure}\n{done.stdout}"


@pytest.mark.parametrize("method", TINY)
def test_all_variants_do_the_same_work(benchmark: ModuleType, method: str) -> None:
    work = benchmark.TimedTraining(**TINY[method], device="cpu")
    accelerator = work.accelerator()
    flop = {
        variant: benchmark.count_flop(benchmark.make_step(work, variant, accelerator))
        for variant in get_args(benchmark.Variant)
    }
    assert len(set(flop.values())) == 1, flop


@pytest.mark.parametrize("method", TINY)
def test_all_variants_train_alike(benchmark: ModuleType, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same random numbers (dropout's, and the pool's, which is full after two steps) come the same weights."""
    made: list[dict[str, nn.Module]] = []

    class Recorded(benchmark.TimedTraining):  # type: ignore[name-defined]
        def networks(self) -> dict[str, nn.Module]:
            made.append(super().networks())
            return made[-1]

    # i2i seeds anew for every step, the plain one never.
    monkeypatch.setattr("i2i.training.loop.Trainer._draw_for", lambda *_: None)
    # Adam divides gradients that cancel to rounding noise by themselves, so that in float32 noise decides their sign.
    torch.set_default_dtype(torch.float64)
    try:
        work = Recorded(**TINY[method], pool_size=2, device="cpu")
        accelerator = work.accelerator()
        for variant in get_args(benchmark.Variant):
            step = benchmark.make_step(work, variant, accelerator)
            torch.manual_seed(1)
            for _ in range(6):
                step()
        work.networks()
    finally:
        torch.set_default_dtype(torch.float32)
    *trained, untrained = [dict(nn.ModuleDict(networks).named_parameters()) for networks in made]
    first, *others = trained
    assert len(others) == 3
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-7)
    for name in made[0]:
        moved = [(first[p] - untrained[p]).abs().max().item() for p in first if p.startswith(f"{name}.")]
        assert max(moved) > 1e-4, name


def test_too_few_readings(benchmark: ModuleType) -> None:
    with pytest.raises(benchmark.InputError, match="at least 2 --steps and 1 of --warmup-steps, got 1 and 5"):
        benchmark.TimedTraining(steps=1)


@pytest.mark.parametrize("method", ["cyclegan", "cut", "spade"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_planned_memory_is_what_a_step_keeps(benchmark: ModuleType, method: str, checkpointing: bool) -> None:
    """The same count as of real tensors in a real trainer's passes, told apart by where their data lies."""
    work = benchmark.TrainingWork(
        method=method, checkpointing=checkpointing, size_px=64, width=4, blocks=2, device="cpu"
    )
    planned, lasting = benchmark.planned_memory(work, torch.device("cpu"))

    trainer = work.trainer(work.accelerator(), batches=iter(()))
    parameters = [p for optimiser in trainer.optimisers for p in optimiser.param_groups[0]["params"]]
    assert lasting == 4 * 4 * sum(p.numel() for p in parameters)
    kept: dict[int, torch.Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.untyped_storage().data_ptr(), tensor), lambda tensor: tensor
    ):
        batch = work.batches()[0]
        with trainer._discriminators_frozen():
            trainer.method.generator_losses(batch, trainer.method.translate(batch, 0), 0)
    weights = {p.untyped_storage().data_ptr() for p in parameters}
    measured = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)
    assert planned == pytest.approx(measured, rel=0.01)


def test_spade_trains_alike_on_either_kind_of_label_maps(benchmark: ModuleType) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        tiny = {"method": "spade", "size_px": 64, "width": 2, "classes": 40, "device": "cpu"}
        works = [benchmark.TrainingWork(**tiny, one_hot=one_hot) for one_hot in (False, True)]
        trainers = [work.trainer(work.accelerator(), batches=iter(work.batches())) for work in works]
        for step in range(3):
            for trainer in trainers:
                trainer.step(step)
    finally:
        torch.set_default_dtype(torch.float32)
    looked_up, one_hot = (
        [p for optimiser in trainer.optimisers for p in optimiser.param_groups[0]["params"]] for trainer in trainers
    )
    torch.testing.assert_close(looked_up, one_hot, rtol=0, atol=1e-7)


def test_one_hot_maps_take_more_memory(benchmark: ModuleType) -> None:
    """At least the map of the full size, which each of a last block's three SPADE layers resizes for itself."""
    works = [
        benchmark.TrainingWork(method="spade", size_px=64, width=4, device="cpu", one_hot=one_hot)
        for one_hot in (False, True)
    ]
    looked_up, one_hot = (benchmark.planned_memory(work, torch.device("cpu"))[0] for work in works)
    assert one_hot - looked_up > 3 * 184 * 4 * 64**2


@pytest.mark.slow
def test_memory_prints_every_figure(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = {"device": "cpu", "width": 4, "blocks": 1, "threads": 1}
    benchmark.memory(benchmark.MemoryWork(**tiny, size_px=256, limit_gib=0.05))
    printed = capsys.readouterr().out
    kept = {}
    for variant in ("bf16, checkpointing", "fp32, checkpointing", "bf16", "fp32"):
        row = re.search(rf"│ {variant}\s+│\s+([\d.]+) GiB │\s+([\d.]+ GiB|not run: above 0.05 GiB) │", printed)
        assert row, f"{variant}\n{printed}"
        kept[variant] = float(row[1])
        assert row[2].startswith("not run") == (kept[variant] > 0.05), printed
    assert kept["bf16, checkpointing"] < kept["fp32, checkpointing"] < kept["bf16"] < kept["fp32"]


@pytest.mark.slow
def test_memory_sets_one_hot_maps_beside_those_looked_up(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.memory(
        benchmark.MemoryWork(method="spade", device="cpu", width=2, size_px=64, readings=2, limit_gib=0, threads=1)
    )
    printed = capsys.readouterr().out
    assert "182 classes, don't care and edges" in printed
    for variant in ("bf16", "fp32", "bf16, checkpointing", "fp32, checkpointing"):
        for way in ("", ", one-hot maps"):
            assert re.search(rf"│ {variant}{way}\s+│\s+[\d.]+ GiB │\s+not run: above 0 GiB │", printed), printed
    assert re.search(r"takes [\d.]+ s with label maps looked up, [\d.]+ s with one-hot maps: medians of 2", printed)


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


def test_degrade_prints_every_figure(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.degradation(
        benchmark.DegradationWork(device="cpu", batch_size=1, crop_px=32, width=4, blocks=1, readings=2)
    )
    printed = capsys.readouterr().out
    row = re.search(r"degradations\s+│\s+([\d.]+)\s+│\s+([\d.]+)%", printed)
    step = re.search(r"training step\s+│\s+([\d.]+)", printed)
    assert row and step, printed
    assert float(row[2]) == pytest.approx(100 * float(row[1]) / float(step[1]), rel=0.1)


@pytest.fixture
def video_work(benchmark: ModuleType) -> ModuleType:
    return importlib.import_module("video_work")


TINY_VIDEO: dict[str, Any] = {"device": "cpu", "frames": 9, "height": 48, "width": 64, "channels": 4, "convs": 1}


def test_speed_of_video_prints_every_figure(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    work = benchmark.VideoWork(**TINY_VIDEO, readings=2)
    benchmark.print_speed_of_video(work, work.translator(), tmp_path)
    printed = capsys.readouterr().out
    number = r"[\d.]+"
    spread = rf"{number} \({number}-{number}\)"
    for way in ("network in a loop", "network by workers", "end to end"):
        assert re.search(rf"{way}\s+│\s+{spread} │\s+{spread} │\s+{spread} │\s+{number} │", printed), printed
    assert "9 frames of 64 x 48 px" in printed
    assert re.search(rf"the network waits for {number}% of the time, .* take -?{number}% of the processor's", printed)


def test_repeats_are_skipped_with_the_same_result(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    work = benchmark.VideoWork(**TINY_VIDEO)
    benchmark.print_speed_of_repeats(work, work.translator(), tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"Where 2 of 3 frames repeat .* [\d.]+ \([\d.]+-[\d.]+\) times as fast; 1 readings", printed)
    assert "0 of 9 decoded frames differ" in printed


@pytest.mark.slow
def test_video_prints_memory(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.video(benchmark.VideoWork(**TINY_VIDEO, readings=2, memory_frames=2))
    printed = capsys.readouterr().out
    found = re.search(
        r"At most (\d+) MiB are resident with 2 frames .*, (\d+) MiB with 20 times as many.* by -?\d+ MiB", printed
    )
    assert found, printed
    assert all(100 < int(mib) < 10_000 for mib in found.groups()), printed


def test_every_way_sees_every_frame(video_work: ModuleType, tmp_path: Path) -> None:
    """Those of the clip with repeats once each, where these are skipped."""
    clip = video_work.make_clip(tmp_path / "clip.mp4", frames=9, height=48, width=64, shown=3)
    translator = video_work.compact(channels=4, convs=1)
    seen: list[torch.Tensor] = []
    translator.generator.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    with closing(VideoFile(clip)) as source:
        images = [frame.image for frame in source.read(0)]
        job = Job(
            source=source,
            target=tmp_path / "never.mp4",
            treatment=upscaling(Upscaler(translator)),
            options=Options(threads=1),
        )
    tensors = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in images]

    def frames_seen() -> torch.Tensor:
        frames = torch.stack(seen)
        seen.clear()
        return frames

    seen.clear()
    video_work.call_in_a_loop(translator, tensors)
    in_a_loop = frames_seen()
    video_work.call_by_workers(job, images)
    by_workers = frames_seen()
    assert len(in_a_loop) == 9
    torch.testing.assert_close(by_workers, in_a_loop)
    video_work.end_to_end(translator, clip, tmp_path / "all.mp4")
    assert len(frames_seen()) == 9
    video_work.end_to_end(translator, clip, tmp_path / "skipped.mp4", skip_duplicates=True)
    assert len(frames_seen()) == 3


def test_clip_repeats_exactly_what_it_repeats(video_work: ModuleType, tmp_path: Path) -> None:
    clip = video_work.make_clip(tmp_path / "clip.mp4", frames=8, height=48, width=64, shown=3)
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [np.array_equal(one, other) for one, other in pairwise(frames)] == [True, True, False] * 2 + [True]


def test_different_frames_are_counted(video_work: ModuleType, tmp_path: Path) -> None:
    size = {"height": 48, "width": 64}
    clip = video_work.make_clip(tmp_path / "clip.mp4", frames=4, **size, shown=4)
    longer = video_work.make_clip(tmp_path / "longer.mp4", frames=6, **size, shown=2)
    assert video_work.count_different_frames(clip, clip) == 0
    # Two that show another picture, and two that the first has not.
    assert video_work.count_different_frames(clip, longer) == 4


def test_growth_is_that_of_the_second_half(video_work: ModuleType) -> None:
    rising = [3.0 * n for n in range(101)]
    assert video_work.growth(rising) == pytest.approx(150)
    assert video_work.growth([*range(50), *[50] * 51]) == pytest.approx(0)
    assert video_work.growth([5, 5]) == 0


def test_too_few_readings_of_video(benchmark: ModuleType) -> None:
    with pytest.raises(benchmark.InputError, match="at least 2 --readings and 1 of --skip-readings, got 1 and 1"):
        benchmark.VideoWork(readings=1)
