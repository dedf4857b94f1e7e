"""One step of the loop: what it skips, clips, freezes, counts and puts back."""

import copy
import itertools
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from toy_methods import POINTS, Regression, Ring, ToyGAN, go_through, logged_losses, settings_for, train_toy, weights
from toy_numbers import (
    BATCHES,
    SETTINGS,
    Noisy,
    as_batch,
    double_pix2pix,
    trained,
    trained_by_hand,
    trainer_for,
    weights_of,
)

from i2i.checkpoints import GeneratorSpec, ImageSide, load_generator
from i2i.data.sampler import Draw, DrawSampler
from i2i.discriminators import MLPDiscriminator, PatchDiscriminator
from i2i.errors import InputError, RunStopped
from i2i.generators import MLPGenerator, ResNetGenerator
from i2i.losses.penalties import Penalties
from i2i.methods.base import Batch, Losses, Outputs
from i2i.methods.gan import GAN
from i2i.methods.pix2pix import Pix2Pix
from i2i.training.config import TrainingSettings, learning_rate_factor
from i2i.training.loop import RunResult, Trainer, train
from i2i.training.report import RunFacts
from i2i.training.state import load_state

Fault = Literal["batch", "generator gradient", "discriminator loss"]
IMAGE = ImageSide(channels=1, dtype="float32", data_range=(-1, 1))


class Faulty(Pix2Pix):
    """A pix2pix with BatchNorm and a pool of outputs, which goes wrong when told to."""

    def __init__(self) -> None:
        super().__init__(
            generator=ResNetGenerator(in_channels=1, out_channels=1, width=2, blocks=1, norm="batch"),
            discriminator=PatchDiscriminator(in_channels=2, width=2, layers=1),
        )
        self.fault: Fault | None = None
        self.pool = torch.zeros(0)

    def translate(self, batch: Batch, step: int) -> Outputs:
        out = super().translate(batch, step)
        self.pool = torch.cat([self.pool, out["output"].detach().mean()[None]])
        return out

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().generator_losses(batch, out, step)
        if self.fault == "generator gradient":  # the loss is 0, its gradient 0 · ∞
            losses.terms["root"] = (0 * out["output"].mean()).sqrt()
        return losses

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().discriminator_losses(batch, out, step)
        if self.fault == "discriminator loss":
            losses.terms["discriminator"] = losses.terms["discriminator"] * math.nan
        return losses

    def state_dict(self) -> dict[str, Any]:
        return {"pool": self.pool}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pool = state["pool"]


def pictures() -> Batch:
    return {"input": torch.rand(2, 1, 16, 16), "target": torch.rand(2, 1, 16, 16)}


def all_that_steps_change(trainer: Trainer) -> Any:
    method, ema = trainer.method, trainer.ema
    assert isinstance(method, Faulty) and ema is not None
    return copy.deepcopy(
        [
            method.generators["generator"].state_dict(),
            method.discriminators["discriminator"].state_dict(),
            [optimiser.state_dict()["state"] for optimiser in trainer.optimisers],
            ema.networks["generator"].state_dict(),
            ema.updates,
            method.pool,
        ]
    )


def assert_same(now: Any, before: Any) -> None:
    torch.testing.assert_close(now, before, rtol=0, atol=0)


@pytest.mark.parametrize("fault", ["batch", "generator gradient", "discriminator loss"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_what_is_not_finite_is_skipped_whole(fault: Fault, accumulation: int) -> None:
    """Both sides' weights, moments and running statistics, the average and the pool stay as they were."""
    method = Faulty()
    good, bad = [pictures() for _ in range(accumulation)], [pictures() for _ in range(accumulation)]
    if fault == "batch":
        bad[0]["input"][1, 0, 3, 3] = math.nan
    settings = TrainingSettings(steps=10, accumulation=accumulation, ema_decay=0.9, device="cpu", schedule="constant")
    trainer = trainer_for(method, settings, [*good, *bad, *good])

    assert not trainer.step(0).skipped
    before = all_that_steps_change(trainer)
    method.fault = fault
    assert trainer.step(1).skipped
    assert_same(all_that_steps_change(trainer), before)

    method.fault = None
    assert not trainer.step(2).skipped
    for now, then in zip(all_that_steps_change(trainer), before, strict=True):
        with pytest.raises(AssertionError):
            assert_same(now, then)


class Breaking(ToyGAN):
    """Not finite at some steps, counted from 1."""

    def __init__(self, broken: Callable[[int], bool]) -> None:
        super().__init__()
        self.broken = broken

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().generator_losses(batch, out, step)
        factor = math.inf if self.broken(step + 1) else 1.0
        return replace(losses, terms={name: term * factor for name, term in losses.terms.items()})


def breaking(broken: Callable[[int], bool]) -> Breaking:
    torch.manual_seed(1)
    return Breaking(broken)


def test_a_skipped_step_is_counted_and_logged(tmp_path: Path) -> None:
    result, _ = train_toy("plain", tmp_path, method=breaking(lambda step: step in (2, 3)), log_every_steps=4)
    assert [(line["step"], line["skipped"]) for line in logged_losses(tmp_path)] == [(2, True), (3, True), (4, False)]
    assert [alarm.step for alarm in result.alarms] == [2]
    assert "not finite" in result.alarms[0].text
    state = load_state(tmp_path)
    assert state is not None and state.shared["monitor"]["skipped_steps"] == 2


def test_ten_skipped_steps_in_a_row_stop_the_run_with_good_weights(tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match=r"step 13: .* not finite 10 steps in a row.*learning rate"):
        train_toy("plain", tmp_path / "stopped", method=breaking(lambda step: step > 3), steps=100)
    state = load_state(tmp_path / "stopped")
    assert state is not None and state.step == 13
    assert [line["skipped"] for line in logged_losses(tmp_path / "stopped")] == [False] * 3 + [True] * 10
    # What is saved and exported is what three steps give.
    train_toy("plain", tmp_path / "short", method=breaking(lambda step: False), steps=3)
    short = load_state(tmp_path / "short")
    assert short is not None
    assert_same(state.shared["trainer"]["networks"], short.shared["trainer"]["networks"])
    exported, expected = (load_generator(tmp_path / run / "generator")[0] for run in ("stopped", "short"))
    assert_same(exported.state_dict(), expected.state_dict())


def test_nine_in_a_row_do_not_stop_it(tmp_path: Path) -> None:
    result, _ = train_toy("plain", tmp_path, method=breaking(lambda step: step % 10 != 1), steps=22)
    assert [alarm.step for alarm in result.alarms] == [2, 12, 22]


@pytest.mark.parametrize("clip_norm", [0.1, 1e9])
def test_each_side_is_clipped_by_its_own_norm(clip_norm: float) -> None:
    clipped = trained_by_hand(clip_norm=clip_norm)
    torch.testing.assert_close(trained(double_pix2pix(), BATCHES, clip_norm=clip_norm), clipped, rtol=0, atol=1e-6)
    differs = any((a - b).abs().max() > 1e-4 for a, b in zip(clipped, trained_by_hand(), strict=True))
    assert differs == (clip_norm < 1)


def scheduled(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


def factors(**changes: Any) -> list[float]:
    settings = TrainingSettings(steps=10, **changes)
    return [learning_rate_factor(settings, step) for step in range(settings.steps)]


def test_learning_rate_schedules() -> None:
    assert factors(schedule="constant") == [1.0] * 10
    assert factors() == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert factors(decay_from=1.0) == [1.0] * 10
    assert factors(decay_from=0.0) == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert factors(schedule="constant", warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 7)
    assert factors(schedule="cosine") == pytest.approx(
        scheduled(lambda optimiser: lr_scheduler.CosineAnnealingLR(optimiser, T_max=10), 10)
    )
    assert factors(decay_from=0.3) == pytest.approx(
        scheduled(lambda optimiser: lr_scheduler.LambdaLR(optimiser, lambda step: min(1, (10 - step) / 7)), 10)
    )


def test_schedule_and_two_time_scales_reach_the_optimisers() -> None:
    settings = replace(SETTINGS, schedule="linear", decay_from=0.0)
    trainer = trainer_for(double_pix2pix(), settings, [as_batch(numbers) for numbers in BATCHES])
    for step in range(6):
        result = trainer.step(step)
        rates = [optimiser.param_groups[0]["lr"] for optimiser in trainer.optimisers]
        assert rates == pytest.approx([1e-2 * (6 - step) / 6, 2e-2 * (6 - step) / 6])
        assert result.learning_rate == rates[0]


class Watched(Pix2Pix):
    """Notes what it is called with, and in what state."""

    def __init__(self) -> None:
        method = double_pix2pix()
        super().__init__(**method.generators, **method.discriminators)
        self.calls: list[str] = []
        self.seen: list[Tensor] = []

    def judges(self) -> list[nn.Parameter]:
        return list(self.discriminators["discriminator"].parameters())

    def translate(self, batch: Batch, step: int) -> Outputs:
        self.calls.append("translate" if torch.is_grad_enabled() else "translate without gradients")
        self.seen.append(batch["input"])
        return super().translate(batch, step)

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        self.calls.append("generator")
        assert out["output"].requires_grad
        assert not any(parameter.requires_grad for parameter in self.judges())
        return super().generator_losses(batch, out, step)

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        self.calls.append("discriminator")
        assert not out["output"].requires_grad
        assert all(parameter.requires_grad for parameter in self.judges())
        # The generator's pass went through the discriminator and left no gradient in it.
        assert all(parameter.grad is None for parameter in self.judges())
        return super().discriminator_losses(batch, out, step)


def test_the_discriminator_is_frozen_in_the_generators_pass() -> None:
    method = Watched()
    trainer = trainer_for(method, SETTINGS, [as_batch(numbers) for numbers in BATCHES])
    trainer.step(0)
    trainer.step(1)
    assert method.calls == ["translate", "generator", "discriminator"] * 2


def test_what_was_frozen_in_a_discriminator_stays_frozen() -> None:
    method = double_pix2pix()
    first = method.discriminators["discriminator"].hidden[0].requires_grad_(False)
    before = first.weight.clone()
    trained(method, BATCHES)
    assert not first.weight.requires_grad and torch.equal(first.weight, before)


def test_critic_steps_have_batches_and_updates_of_their_own() -> None:
    method = Watched()
    batches = [as_batch(numbers) for numbers in torch.randn(10, 8, 5, dtype=torch.float64)]
    trainer = trainer_for(method, replace(SETTINGS, critic_steps=5), batches)
    weight = method.generators["generator"].head.weight
    values = [weight.detach().clone()]
    for step in range(2):
        trainer.step(step)
        values.append(weight.detach().clone())
    critic_only = ["translate without gradients", "discriminator"]
    assert method.calls == [*critic_only * 4, "translate", "generator", "discriminator"] * 2
    assert all(torch.equal(seen, batch["input"]) for seen, batch in zip(method.seen, batches, strict=True))
    updates = [next(iter(optimiser.state.values()))["step"].item() for optimiser in trainer.optimisers]
    assert updates == [2, 10]
    assert not torch.equal(values[1], values[2])


def test_a_critic_round_that_is_not_finite_is_undone_alone() -> None:
    batches = [as_batch(numbers) for numbers in torch.randn(3, 8, 5, dtype=torch.float64)]
    bad = {name: value * math.nan for name, value in batches[1].items()}
    results = []
    for given, critic_steps in (([batches[0], bad, batches[2]], 3), ([batches[0], batches[2]], 2)):
        method = double_pix2pix()
        trainer = trainer_for(method, replace(SETTINGS, critic_steps=critic_steps), given)
        assert trainer.step(0).skipped == (critic_steps == 3)
        results.append(copy.deepcopy(weights_of(method)))
    assert_same(*results)


def test_random_numbers_differ_from_call_to_call() -> None:
    """From step to step, from round to round, from micro-batch to micro-batch."""
    method = Noisy()
    trained(method, BATCHES * 4, accumulation=2, critic_steps=2)
    assert len(set(method.noise)) == SETTINGS.steps * 4


def test_random_numbers_follow_from_seed_and_step_alone(tmp_path: Path) -> None:
    outcomes = []
    for number, seed in enumerate((0, 0, 1)):
        outcomes.append(go_through("pool", tmp_path / str(number), resume=False, seed=seed)["digest"])
        torch.rand(number + 1)
    assert outcomes[0] == outcomes[1] != outcomes[2]


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_evaluation_leaves_no_trace(ema_decay: float) -> None:
    method = Faulty()
    settings = TrainingSettings(steps=4, ema_decay=ema_decay, device="cpu")
    trainer = trainer_for(method, settings, [pictures() for _ in range(4)])
    trainer.step(0)
    trained_network = method.generators["generator"]
    before = copy.deepcopy(trained_network.state_dict())
    with trainer.evaluating({"generator": GeneratorSpec(input=IMAGE, output=IMAGE, normalisation="per_image")}):
        shown = method.generators["generator"]
        assert not shown.training
        assert (shown is trained_network) == (ema_decay == 0)
        assert not shown(torch.rand(1, 1, 16, 16)).requires_grad
        # Running statistics are the trained network's.
        for name, buffer in shown.named_buffers():
            torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)
    assert method.generators["generator"] is trained_network
    assert all(module.training for module in trained_network.modules())
    assert_same(trained_network.state_dict(), before)


def test_a_generator_and_a_discriminator_of_one_name_resume() -> None:
    def one_name() -> Trainer:
        method = double_pix2pix()
        method.generators = {"a": method.generators["generator"]}
        method.discriminators = {"a": method.discriminators["discriminator"]}
        return trainer_for(method, SETTINGS, [])

    trainer, other = one_name(), one_name()
    with torch.no_grad():
        for weight in weights_of(trainer.method):
            weight.normal_()
    other.load_state_dict(trainer.state_dict(), trainer.own_state_dict())
    assert_same(weights_of(other.method), weights_of(trainer.method))


def test_fewer_steps_than_done_are_refused(tmp_path: Path) -> None:
    train_toy("pool", tmp_path / "run", steps=4)
    with pytest.raises(InputError, match="4 steps already, and --steps 2"):
        train_toy("pool", tmp_path / "run", steps=2)


def test_an_unknown_best_metric_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="best_metric is 'fid', but this method measures x"):
        train_toy("pool", tmp_path / "run", best_metric="fid")


def test_a_metric_that_is_no_number_is_never_best(tmp_path: Path) -> None:
    class Measured(ToyGAN):
        def validate(self, batch: Batch) -> dict[str, float | Tensor]:
            return super().validate(batch) | {"score": next(scores)}

    torch.manual_seed(1)
    scores = iter([9.0, math.nan, 5.0, 7.0, 3.0])
    train_toy(
        "plain",
        tmp_path,
        method=Measured(),
        validation_data=Ring(1),
        best_metric="score",
        steps=4,
        validate_every_steps=1,
    )
    state = load_state(tmp_path)
    assert state is not None and state.shared["record"]["best"] == 3.0
    assert "for 4 steps" in (tmp_path / "best" / "generator" / "README.md").read_text()


def test_half_precision_needs_an_accelerator(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--precision fp16 cannot be used here"):
        train_toy("pool", tmp_path / "run", precision="fp16")


def test_after_training_the_networks_are_as_they_were_handed_in(tmp_path: Path) -> None:
    _, method = train_toy("pool", tmp_path / "run", precision="bf16")
    for network in (*method.generators.values(), *method.discriminators.values()):
        assert type(network) in (MLPGenerator, MLPDiscriminator)
        points = torch.randn(5, 2)
        # Mixed precision, which accelerate puts into the instance, would round this.
        assert torch.equal(network(points), type(network).forward(network, points))
    assert all(weight.dtype == torch.float32 and weight.grad is None for weight in weights(method).values())


def test_threads_are_those_of_the_settings(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        train_toy("plain", tmp_path, steps=1, threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


class Measured(Regression):
    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().generator_losses(batch, out, step)
        return replace(losses, figures={"size": 100 * out["output"].square().mean()})


def test_figures_are_logged_and_not_minimised(tmp_path: Path) -> None:
    """They are averaged over micro-batches as losses are."""
    torch.manual_seed(1)
    method = Measured()
    shown: list[float] = []
    with torch.no_grad():
        for draw in itertools.islice(DrawSampler(length=50, batch_size=4, seed=0, rank=0, world_size=1), 2):
            batch = torch.stack([Ring()[one]["real"] for one in draw])
            shown.append(100 * method.generators["generator"](batch).square().mean().item())
    _, plain = train_toy("regression", tmp_path / "plain", accumulation=2, steps=2)
    torch.manual_seed(1)
    train_toy("regression", tmp_path / "measured", method=method, accumulation=2, steps=2)
    assert_same(weights(method), weights(plain))
    first = logged_losses(tmp_path / "measured")[0]
    assert list(first["losses"]) == ["l2"] and first["figures"] == {"size": pytest.approx(statistics.fmean(shown))}
    assert "figures" not in logged_losses(tmp_path / "plain")[0]


class Stepping(Faulty):
    """Notes when it is told of steps, and moves the generator, which the average must have seen."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, bool]] = []

    def stepped(self, step: int, *, critic_only: bool) -> None:
        assert not torch.is_grad_enabled()
        self.told.append((step, critic_only))
        for weight in self.generators["generator"].parameters():
            weight.fill_(step)


def test_a_method_is_told_of_steps_and_of_none_that_is_skipped() -> None:
    """Before weights are averaged, so that what it changes is in the average."""
    method = Stepping()
    settings = TrainingSettings(steps=3, critic_steps=2, ema_decay=0.9, device="cpu", schedule="constant")
    trainer = trainer_for(method, settings, [pictures() for _ in range(6)])
    assert trainer.ema is not None
    averages = list(trainer.ema.networks["generator"].parameters())
    initial = [average.clone() for average in averages]
    trainer.step(0)
    method.fault = "discriminator loss"
    assert trainer.step(1).skipped
    method.fault = None
    trainer.step(2)
    assert method.told == [(0, True), (0, False), (2, True), (2, False)]
    # Two averages, of weights 0 with decay 1/10 and of weights 2 with 2/11.
    expected = [2 / 11 * weight / 10 + 9 / 11 * 2 for weight in initial]
    torch.testing.assert_close(averages, expected, check_stride=False)


def test_lazy_penalties_are_logged_though_their_steps_are_not(tmp_path: Path) -> None:
    """As they last were since the line before; also where the run was interrupted between the two."""

    def log(run: str, steps: int, *, log_every: int) -> dict[int, dict[str, float]]:
        torch.manual_seed(1)
        method = ToyGAN(penalties=Penalties(r1=1.0, every_steps=4))
        train_toy("plain", tmp_path / run, method=method, steps=steps, log_every_steps=log_every)
        return {line["step"]: line["losses"] for line in logged_losses(tmp_path / run)}

    every, whole = log("every", 18, log_every=1), log("whole", 18, log_every=3)
    assert [step for step, losses in every.items() if "r1" in losses] == [1, 5, 9, 13, 17]
    for line, computed in {3: 1, 6: 5, 9: 9, 12: None, 15: 13, 18: 17}.items():
        assert whole[line] == every[line] | ({"r1": every[computed]["r1"]} if computed else {})
    log("parts", 14, log_every=3)
    assert log("parts", 18, log_every=3) == whole


class Rarely(Regression):
    """Has a figure at every fourth step alone."""

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().generator_losses(batch, out, step)
        figures = {} if step % 4 else {"size": out["output"].square().mean()}
        return replace(losses, figures={**figures, "always": out["output"].mean()})


def test_figures_that_few_steps_have_are_logged_though_those_steps_are_not(tmp_path: Path) -> None:
    """As losses are: they were lost, and those of a step between two lines would be lost by an interruption."""

    def log(run: str, steps: int, *, log_every: int) -> dict[int, dict[str, float]]:
        torch.manual_seed(1)
        train_toy("plain", tmp_path / run, method=Rarely(), steps=steps, log_every_steps=log_every)
        return {line["step"]: line["figures"] for line in logged_losses(tmp_path / run)}

    every, whole = log("every", 18, log_every=1), log("whole", 18, log_every=3)
    assert [step for step, figures in every.items() if "size" in figures] == [1, 5, 9, 13, 17]
    for line, computed in {3: 1, 6: 5, 9: 9, 12: None, 15: 13, 18: 17}.items():
        assert whole[line] == every[line] | ({"size": every[computed]["size"]} if computed else {})
    log("parts", 14, log_every=3)
    assert log("parts", 18, log_every=3) == whole


class Seeing(Regression):
    """Notes what each step is shown, and a random number of its."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def translate(self, batch: Batch, step: int) -> Outputs:
        if torch.is_grad_enabled():
            self.seen.append(torch.cat([batch["real"].flatten(), torch.rand(1)]))
        return super().translate(batch, step)

    def validate(self, batch: Batch) -> dict[str, float]:
        return {"drawn": torch.rand(()).item()}


def test_stages_of_one_seed_differ_but_for_what_is_measured(tmp_path: Path) -> None:
    seen, drawn = [], []
    for stage in (0, 1, 2, 1):
        torch.manual_seed(1)
        method = Seeing()
        result, _ = train_toy("regression", tmp_path / str(len(seen)), method=method, stage=stage, seed=3)
        seen.append(torch.stack(method.seen))
        drawn.append(result.metrics["drawn"])
    assert torch.equal(seen[1], seen[3]) and drawn == drawn[:1] * 4
    for one, other in itertools.combinations(seen[:3], 2):
        assert (one[:, :-1] != other[:, :-1]).all() and (one[:, -1] != other[:, -1]).all()
    records = [json.loads((tmp_path / str(run) / "run.json").read_text())["settings"]["training"] for run in range(3)]
    assert [record["seed"] for record in records] == [3, 3, 3]


def test_an_average_goes_on_in_the_next_stage(tmp_path: Path) -> None:
    """Also where the earlier one was found finished; what a run itself has saved comes before it."""

    def weights_of_average(result: RunResult) -> list[Tensor]:
        assert result.average is not None
        return list(result.average.networks["generator"].parameters())

    first, _ = train_toy("regression", tmp_path / "first", steps=4)
    found, _ = train_toy("regression", tmp_path / "first", steps=4)
    assert found.average is not None and found.average.updates == 4
    assert_same(weights_of_average(found), weights_of_average(first))
    second, method = train_toy("regression", tmp_path / "second", steps=1, average=found.average, stage=1)
    assert second.average is not None and second.average.updates == 5
    # The fifth update has a decay of 5/14.
    trained = method.generators["generator"].parameters()
    expected = [5 / 14 * old + 9 / 14 * new for old, new in zip(weights_of_average(first), trained, strict=True)]
    torch.testing.assert_close(weights_of_average(second), expected)
    again, _ = train_toy("regression", tmp_path / "second", steps=1, average=found.average, stage=1)
    assert_same(weights_of_average(again), weights_of_average(second))
    assert train_toy("regression", tmp_path / "none", steps=1, ema_decay=0.0)[0].average is None


class OnDevice(GAN):
    """On an accelerator nobody looks at class ids any more: it would end with an assertion of the device."""

    def prepare(self, batch: Batch, step: int) -> Batch:
        return {**batch, "label": batch["label"].clamp(0, 2)}

    def validate(self, batch: Batch) -> dict[str, float]:
        return {}

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {"nothing": torch.zeros(1, 1, 4, 4)}


class Classified(Ring):
    def __init__(self, *labels: int) -> None:
        super().__init__(len(labels))
        self.labels = labels

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        label = self.labels[draw.index if isinstance(draw, Draw) else draw]
        return {**super().__getitem__(draw), "label": torch.tensor(label)}


@pytest.mark.parametrize("where", ["training", "validation", "preview"])
def test_classes_that_do_not_exist_are_told_before_batches_are_moved(where: str, tmp_path: Path) -> None:
    right, wrong = Classified(0, 1, 2, 1, 0, 2), Classified(0, 1, 2, 1, 0, 3)
    method = OnDevice(
        generator=MLPGenerator(latent_channels=2, out_channels=2, width=8, classes=3),
        discriminator=MLPDiscriminator(in_channels=2, width=8, classes=3),
    )
    data = {name: wrong if name == where else right for name in ("training", "validation", "preview")}
    with pytest.raises(InputError, match="expected class ids from 0 to 2, got 3"):
        train(
            method=method,
            training_data=data["training"],
            validation_data=data["validation"],
            preview_data=data["preview"],
            specs={"generator": POINTS},
            settings=settings_for("plain", preview_images=6),
            out=tmp_path,
            facts=RunFacts(title="", about="", settings={}, fingerprint=""),
        )


def test_batches_without_a_figure_do_not_count(tmp_path: Path) -> None:
    """Such as sharpness of a flat image; what no batch has is no number, and to be seen."""

    class Partly(ToyGAN):
        def validate(self, batch: Batch) -> dict[str, float | Tensor]:
            x = batch["real"][:, 0]
            signs = {"some": math.nan if x[0] < 0 else x.mean().item(), "none": math.nan, "endless": math.inf}
            return signs | {"all": x.mean().item()}

        def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
            return {}

    data = Ring(11)
    result, _ = train_toy("plain", tmp_path, method=Partly(), validation_data=data, steps=1, batch_size=2)
    x = [data[index]["real"][0].item() for index in range(11)]
    batches = [x[first : first + 2] for first in range(0, 11, 2)]
    counted = [value for batch in batches if batch[0] >= 0 for value in batch]
    assert 0 < len(counted) < 11
    assert result.metrics["some"] == pytest.approx(statistics.fmean(counted), rel=1e-5)
    assert result.metrics["all"] == pytest.approx(statistics.fmean(x), rel=1e-5)
    assert math.isnan(result.metrics["none"]) and result.metrics["endless"] == math.inf
