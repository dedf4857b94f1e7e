"""What a generator costs: percentiles and operations against what is known, and measurements that are taken fairly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from i2i.checkpoints.identity import name_model
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.errors import InputError
from i2i.generators import CompactGenerator, DCGANGenerator, SPADEGenerator
from i2i.inference import profiling
from i2i.inference.profile import INTERRUPTED, Latency, Profile, facts_in_words, notes_in_words, rows_in_words
from i2i.inference.profiling import Subject, profile, take_turns

UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
WIDTH = 4


def save(folder: Path, *, width: int = WIDTH) -> Path:
    network = CompactGenerator(in_channels=3, out_channels=3, width=width, convs=1, scale=2)
    save_generator(folder, network=network, spec=GeneratorSpec(input=UINT8, output=UINT8), card="")
    return folder


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes of their own, which take seconds to start."""
    monkeypatch.setattr(profiling, "_peak_memory", lambda *given: 10**6)


def test_percentiles_of_known_readings() -> None:
    milliseconds = np.random.default_rng(0).permutation(np.arange(1, 102)) / 1000
    assert Latency.of(milliseconds) == Latency(
        p50_ms=pytest.approx(51), p90_ms=pytest.approx(91), p99_ms=pytest.approx(100), readings=101
    )
    # Between two readings: 0.9 and 0.99 of the way from the first to the second.
    assert Latency.of([0.001, 0.002]) == Latency(
        p50_ms=pytest.approx(1.5), p90_ms=pytest.approx(1.9), p99_ms=pytest.approx(1.99), readings=2
    )


def test_operations_and_parameters_against_a_count_by_hand(tmp_path: Path, no_memory: None) -> None:
    """Three convolutions of 3 x 3 at the size of the image, and a slope for each channel of two activations."""
    found = profile(
        Subject(weights=save(tmp_path / "net")), sizes=[(32, 48)], precisions=["fp32"], batch_sizes=[1], seconds=0.1
    )
    weights = 9 * (3 * WIDTH + WIDTH * WIDTH + WIDTH * 12)
    assert found.parameters == weights + (WIDTH + WIDTH + 12) + 2 * WIDTH
    (cost,) = found.costs
    assert (cost.height, cost.width, cost.output) == (32, 48, (3, 64, 96))
    assert cost.multiply_adds == weights * 32 * 48
    assert cost.flop == 2 * cost.multiply_adds


def test_what_follows_from_the_readings(tmp_path: Path, no_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates, next to a matrix product that takes 0.1 s, of passes that take 0.02 s."""

    def turns(steps: dict[Any, Any], **others: Any) -> tuple[dict[Any, list[float]], bool]:
        return {name: [0.1 if name == "fp32" else 0.02] * 7 for name in steps}, False

    monkeypatch.setattr(profiling, "take_turns", turns)
    monkeypatch.setattr(profiling, "_probe", lambda loaded, setting, batch: 1.0 if batch < 5 else 10.0)
    found = profile(Subject(weights=save(tmp_path / "net")), sizes=[(16, 16)], precisions=["fp32"])
    product = 2 * profiling.PRODUCT_SIDE["cpu"] ** 3 / 0.1
    assert found.product_flop_per_s == {"fp32": pytest.approx(product)}
    assert [(entry.batch, entry.of) for entry in found.measurements] == [
        (batch, of) for batch in (1, 4) for of in ("network", "call")
    ]
    network, call, networks, _ = found.measurements
    assert network.images_per_s == pytest.approx(50)
    assert networks.images_per_s == pytest.approx(200)
    assert networks.flop_per_s == pytest.approx(200 * found.costs[0].flop)
    assert networks.share_of_product == pytest.approx(200 * found.costs[0].flop / product)
    assert call.flop_per_s is None
    assert network.latency == Latency(p50_ms=20.0, p90_ms=20.0, p99_ms=20.0, readings=7)
    assert found.model == name_model(tmp_path / "net")
    assert Profile.from_json(found.to_json()) == found


@pytest.mark.parametrize(("share", "shown", "explained"), [(0.5, "50%", False), (1.375, "138%", True)])
def test_the_rate_of_a_product_is_no_limit(
    share: float, shown: str, explained: bool, tmp_path: Path, no_memory: None
) -> None:
    found = profile(
        Subject(weights=save(tmp_path / "net")), sizes=[(16, 16)], precisions=["fp32"], batch_sizes=[1], seconds=0.1
    )
    network, call = found.measurements
    found = replace(found, measurements=(replace(network, share_of_product=share), call))
    heading, row, _ = rows_in_words(found)
    assert dict(zip(heading, row, strict=True))["of a matrix product"] == shown
    assert dict(facts_in_words(found))["matrix product"].endswith("GFLOP/s in fp32, of two large square matrices")
    assert any("the machine was busy" in note for note in notes_in_words(found)) is explained


@pytest.mark.parametrize(
    ("seconds_of_batch", "best", "why"),
    [
        ({1: 1.0, 2: 1.0, 4: 1.0, 8: 2.0}, 4, "8 gains less than 5%"),
        ({1: 1.0, 2: 1.96}, 1, "2 gains less than 5%"),
        ({1: 1.0, 2: 1.0}, 2, "4 cannot be run: memory does not suffice"),
        ({2**n: 1.0 for n in range(6)}, 16, "32 cannot be run: it takes about 0.0 GB, and 0.0 GB are free"),
    ],
)
def test_the_best_batch(
    seconds_of_batch: dict[int, float], best: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(loaded: object, setting: object, batch: int) -> float:
        if batch not in seconds_of_batch:
            raise profiling._CannotRun("memory does not suffice")
        return seconds_of_batch[batch]

    monkeypatch.setattr(profiling, "_probe", probe)
    monkeypatch.setattr(profiling, "available_bytes", lambda: 100 * 20 / profiling.SHARE)
    loaded: Any = None
    found = profiling._find_batch(loaded, profiling._Setting((64, 64), "fp32"), lambda batch: 100 * batch)
    assert found == (best, why)


@pytest.mark.parametrize(
    ("asked", "seconds", "told"),
    [
        (None, {1: 0.02, 4: 0.02}, "4, 200 images/s by the network alone (8 gains less than 5%)"),
        (None, {1: 0.02, 4: 0.08}, "1, 50 images/s by the network alone (4 gains less than 5%)"),  # once it is read
        ([1, 3, 6], {1: 0.02, 3: 0.03, 6: 0.059}, "3, 100 images/s by the network alone (of 1, 3, 6)"),
        ([5], {5: 0.1}, None),  # nothing to compare it with
    ],
)
def test_the_best_batch_is_told(
    asked: list[int] | None,
    seconds: dict[int, float],
    told: str | None,
    tmp_path: Path,
    no_memory: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def turns(steps: dict[Any, Any], **others: Any) -> tuple[dict[Any, list[float]], bool]:
        return {name: [1.0 if name == "fp32" else seconds[name.batch]] * 3 for name in steps}, False

    monkeypatch.setattr(profiling, "take_turns", turns)
    monkeypatch.setattr(profiling, "_probe", lambda loaded, setting, batch: 1.0 if batch < 5 else 10.0)
    subject = Subject(weights=save(tmp_path / "net"))
    found = profile(subject, sizes=[(16, 24)], precisions=["fp32"], batch_sizes=asked)
    assert dict(facts_in_words(found)).get("best batch") == (told and f"16 x 24 px, fp32: {told}")
    assert [entry["batch"] for entry in found.to_json()["best_batch"]] == ([int(told[0])] if told else [])
    assert Profile.from_json(found.to_json()) == found
    older = {name: value for name, value in found.to_json().items() if name != "best_batch"}
    assert Profile.from_json(older).best_batch == ()


def test_batches_that_are_asked_for_are_measured_or_missing(
    tmp_path: Path, no_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_image = profiling._bytes_needed
    subject, needed = Subject(weights=save(tmp_path / "net")), []

    def bytes_needed(*given: Any) -> Any:
        needed.append(per_image(*given)(1))
        return per_image(*given)

    monkeypatch.setattr(profiling, "_bytes_needed", bytes_needed)
    monkeypatch.setattr(profiling, "available_bytes", lambda: 10 * needed[0] / profiling.SHARE)
    found = profile(subject, sizes=[(32, 32), (300, 300)], precisions=["fp32"], batch_sizes=[512, 3, 2], seconds=0.1)
    sized = {((entry.height, entry.width), entry.batch, entry.of) for entry in found.measurements}
    small = {((32, 32), batch, of) for batch in (2, 3) for of in ("network", "call")}
    assert sized == small | {((300, 300), 1, "call")}
    told = "\n".join(found.missing)
    assert "the network alone, 32 x 32 px, fp32, batch 512: it takes about" in told
    assert "the whole call, 32 x 32 px, fp32, batch 512: it takes about" in told
    for batch in (2, 3, 512):
        assert f"\n300 x 300 px, fp32, batch {batch}: the same" in told


def test_memory_of_larger_batches_is_predicted_for_drawn_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = {1: 100.0, 4: 160.0}
    monkeypatch.setattr(profiling, "_peak_memory", lambda subject, loaded, case: peaks[case.batch])
    drawer = DCGANGenerator(latent_channels=4, out_channels=3, width=4, size=16)
    save_generator(tmp_path / "noise", network=drawer, spec=GeneratorSpec(input=None, output=UINT8), card="")
    subject = Subject(weights=tmp_path / "noise", device="cpu")
    needed = profiling._bytes_needed(subject, subject.load(), None)
    assert [needed(batch) for batch in (1, 4, 8, 64)] == [100, 160, 240, 1360]


def test_passes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of our own: a fast pass is read several times in a turn, and each begins a round in its turn."""
    now, order = 0.0, []

    def step(name: str, seconds: float) -> Any:
        def run() -> None:
            nonlocal now
            now += seconds
            order.append(name)

        return run

    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now)
    steps = {"slow": step("slow", 0.1), "fast": step("fast", 0.02)}
    said: list[str] = []
    readings, interrupted = take_turns(steps, seconds=0.6, say=said.append)
    # After one call each, rounds of 0.1 s and 3 times 0.02 s, until 0.6 s are over.
    assert "".join(name[0] for name in order) == "sf" + "sfff" + "fffs" + "sfff" + "fffs"
    assert readings == {"slow": [pytest.approx(0.1)] * 4, "fast": [pytest.approx(0.02)] * 12}
    assert not interrupted
    assert said == ["2 passes are taken once", "they take turns for 0.6 s"]
    said.clear()
    steps["slow"] = step("slow", 20.0)
    assert len(take_turns(steps, seconds=1e-9, say=said.append)[0]["slow"]) == 3
    assert "they take turns for about 60 s, for 3 readings of each; Ctrl-C ends" in said[1]


def test_what_was_read_before_an_interrupt_is_the_profile(tmp_path: Path, no_memory: None) -> None:
    subject = Subject(weights=save(tmp_path / "net"))
    allowed, calls = 1, []  # once with two images, to warm up
    original = profiling._run_network

    with pytest.MonkeyPatch.context() as patch:

        def run(*given: Any) -> Any:
            calls.append(len(given[1][0]))
            if calls.count(2) > allowed:
                raise KeyboardInterrupt
            return original(*given)

        patch.setattr(profiling, "_run_network", run)
        found = profile(subject, sizes=[(32, 32)], precisions=["fp32"], batch_sizes=[1, 2], seconds=60)
        assert [(entry.batch, entry.of) for entry in found.measurements] == [(1, "network"), (1, "call")]
        assert found.missing == (INTERRUPTED,)
        assert "Not measured: further readings: interrupted." in list(notes_in_words(found))

        calls.clear()

        def count(loaded: Any, size: Any) -> Any:  # while the second size is looked at
            if size == (48, 48):
                raise KeyboardInterrupt
            return count_operations(loaded, size)

        count_operations = profiling._count_operations
        patch.setattr(profiling, "_count_operations", count)
        found = profile(subject, sizes=[(32, 32), (48, 48)], precisions=["fp32"], batch_sizes=[1], seconds=0.1)
        assert [(entry.height, entry.of) for entry in found.measurements] == [(32, "network"), (32, "call")]
        assert found.missing == (INTERRUPTED,)
        with pytest.raises(KeyboardInterrupt):
            profile(subject, sizes=[(48, 48)], precisions=["fp32"], batch_sizes=[1], seconds=0.1)
        calls.clear()
        allowed = 0
        with pytest.raises(KeyboardInterrupt):
            profile(subject, sizes=[(32, 32)], precisions=["fp32"], batch_sizes=[2], seconds=60)


def test_peak_memory_is_of_the_pass_alone(tmp_path: Path) -> None:
    """A map of 32 channels takes 134 MB at 1024 px; what this process holds does not count."""
    weights = save(tmp_path / "net", width=32)
    ours = np.ones(10**8)  # 800 MB
    subject = Subject(weights=weights, device="cpu")
    loaded = subject.load()
    peaks = [
        profiling._peak_memory(subject, loaded, profiling._Case(profiling._Setting((side, side), "fp32"), 1, "network"))
        for side in (16, 1024)
    ]
    small, large = (peak or 0 for peak in peaks)
    assert ours.sum() == 10**8
    assert small < 200e6
    assert 134e6 < large - small < 6 * 134e6


def test_images_that_memory_does_not_hold_go_as_a_call_takes_them(
    tmp_path: Path, no_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "available_bytes", lambda: 10**6)
    found = profile(Subject(weights=save(tmp_path / "net")), sizes=[(64, 64)], precisions=["fp32"], seconds=0.1)
    assert [(entry.batch, entry.of) for entry in found.measurements] == [(1, "call")]
    (reason,) = found.missing
    assert reason.startswith("the network alone, 64 x 64 px, fp32: it takes about 0.0 GB")
    assert not found.costs
    assert f"Not measured: {reason}." in list(notes_in_words(found))
    assert len(rows_in_words(found)) == 2


def test_calls_that_divide_their_images_say_so(
    tmp_path: Path, no_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, how = Subject(weights=save(tmp_path / "net")), {"precisions": ["fp32"], "batch_sizes": [1], "seconds": 0.1}
    found = profile(subject, sizes=[(256, 256)], **how)  # type: ignore[arg-type]
    assert not any(entry.in_pieces for entry in found.measurements)
    monkeypatch.setattr("i2i.inference.engine.working_budget", lambda device: 5 * 10**6)
    found = profile(subject, sizes=[(256, 256)], **how)  # type: ignore[arg-type]
    assert [entry.in_pieces for entry in found.measurements] == [False, True]
    assert [row[3] for row in rows_in_words(found)[1:]] == ["network alone", "whole call, in pieces"]
    assert any(line.startswith("In pieces: the call takes") for line in notes_in_words(found))
    assert Profile.from_json(found.to_json()) == found


def test_generators_of_every_kind(tmp_path: Path, no_memory: None) -> None:
    labels = ImageSide(channels=7, dtype="uint8", data_range=(0, 1), labels=True, dont_care=True, first_id=1)
    painter = SPADEGenerator(
        in_channels=7, out_channels=3, width=4, hidden_width=4, latent_channels=8, latent_height=2, latent_width=2
    )
    save_generator(tmp_path / "spade", network=painter, spec=GeneratorSpec(input=labels, output=UINT8), card="")
    drawer = DCGANGenerator(latent_channels=4, out_channels=3, width=4, size=16, classes=3)
    save_generator(tmp_path / "noise", network=drawer, spec=GeneratorSpec(input=None, output=UINT8), card="")
    for name, size in (("spade", 2 * painter.size_multiple), ("noise", None)):
        subject = Subject(weights=tmp_path / name)
        found = profile(subject, precisions=["fp32", "bf16"], batch_sizes=[1, 2], seconds=0.1)
        (cost,) = found.costs
        assert (cost.height, cost.width) == (size, size)
        assert cost.output == (3, size or 16, size or 16)
        assert cost.flop > 0
        assert {(entry.precision, entry.of) for entry in found.measurements} == {
            (precision, of) for precision in ("fp32", "bf16") for of in ("network", "call")
        }
        assert not found.missing
        assert dict(facts_in_words(found))["network"].endswith(f"{found.parameters:,} parameters")
        with pytest.raises(InputError, match="sizes: the network"):
            profile(subject, sizes=[(72, 72)])


def test_what_is_measured_computes_as_was_said(tmp_path: Path) -> None:
    seen = []
    loaded = Subject(weights=save(tmp_path / "net")).load()
    convolution = next(module for module in loaded.generator.modules() if isinstance(module, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: seen.append((output.dtype, len(output))))
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for of in ("network", "call"):
            case: Any = profiling._Case(profiling._Setting((64, 64), precision), 2, of)  # type: ignore[arg-type]
            seen.clear()
            profiling._step(loaded, case)()
            assert seen == [(expected, 2)]


def test_refused(tmp_path: Path) -> None:
    subject = Subject(weights=save(tmp_path / "net"))
    for given, words in (
        ({"sizes": [(0, 5)]}, "sides from 1 px on"),
        ({"batch_sizes": [0]}, "numbers from 1 on, got 0"),
        ({"seconds": 0.0}, "above 0"),
    ):
        with pytest.raises(InputError, match=words):
            profile(subject, **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a profile as `i2i profile --out` writes it"):
        Profile.from_json({"measurements": []})
