"""The training loop: the one place that accumulates, runs backward, clips, steps, freezes, averages and saves.

`train` runs any method from `i2i.methods`; stages are chained calls of it. Start it alone, or on several GPUs
or machines through `accelerate launch` or `torchrun`; the run's folder must then be visible to all of them.
"""

import atexit
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import torch

# Its functions keep the group that is there when they are imported, by default arguments: were that after processes
# have joined, as when torchmetrics imports them, a group's threads would outlive `destroy_process_group`.
import torch.distributed.nn.functional
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from i2i.checkpoints import GeneratorSpec
from i2i.data.sampler import DrawSampler, derived_seed, worker_init
from i2i.errors import InputError, RunStopped
from i2i.layers.norm import set_inference_mode
from i2i.layers.recompute import check_stages, keep_activations, recompute_activations
from i2i.methods.base import Batch, Comparison, Losses, Method, Outputs
from i2i.training.config import Metric, TrainingSettings, learning_rate_factor
from i2i.training.ema import ExponentialMovingAverage
from i2i.training.measures import BaselineImages, Measures, load_measures
from i2i.training.monitor import Alarm, Monitor
from i2i.training.progress import Progress, duration
from i2i.training.record import Record
from i2i.training.report import RunFacts, held_against, recorded, write_report
from i2i.training.state import State, check_run, load_state, open_run, save_state

# How long processes wait for the first one, which checks data, measures baselines and examines generators.
PATIENCE = timedelta(hours=6)

# Of a batch of held-out items, which may be whole photos.
LARGEST_HELD_OUT_BATCH = 2**22

STOPPING = b"\nStopping after this step; Ctrl-C again ends at once, unsaved.\n"

Examine = Callable[[Callable[[str], None]], Mapping[str, float]]

# What a round comes to, averaged over micro-batches: ("loss" or "figure", name).
Tallies = dict[tuple[str, str], Tensor]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended.

    metrics: the last held-out metrics.
    baselines: what they are held against, by name: that of the facts, and other runs after as long.
    alarms: what the monitor said, over the whole run.
    average: that of the generators' weights, on the device, for a next stage to go on with; None: there was none.
    """

    metrics: dict[str, float]
    baselines: dict[str, dict[str, float]]
    alarms: list[Alarm]
    average: ExponentialMovingAverage | None


def train(
    *,
    method: Method,
    training_data: Dataset,
    validation_data: Dataset,
    specs: dict[str, GeneratorSpec],
    settings: TrainingSettings,
    out: Path,
    facts: RunFacts,
    preview_data: Dataset | None = None,
    baseline_images: BaselineImages | None = None,
    examine: Examine | None = None,
    stage: int = 0,
    average: ExponentialMovingAverage | None = None,
) -> RunResult:
    """Train a method, or go on with a run that was started with the same arguments.

    Args:
        method: losses and networks; trained in place.
        training_data: items for a `Draw` (index and augmentation seed), dictionaries of tensors.
        validation_data: held-out items for an index; those of one size make batches.
        specs: for each generator, what its images are; written beside its weights.
        settings: of the loop.
        out: the run's folder. An interrupted run in it goes on exactly where its last state was saved.
        facts: what the report and model cards tell about the run. Its settings and data fingerprint decide
            whether the run in `out` is this one.
        preview_data: items of one size to look at; None: of `validation_data`.
        baseline_images: what baselines of the facts show, to be measured by the settings' metrics, too: at the start,
            in the first process.
        examine: held-out figures that take too long to be had at every validation, of the method as it then is, with
            its generators as they are exported. Asked for once, at the end, in the first process, without gradients;
            its argument says lines to whoever watches. It may draw random numbers, and leave pictures in `out` (see
            `report.PICTURES`).
        stage: which one this is in a chain of calls, from 0 on. With the seed it decides the order of the data and the
            steps' random numbers; previews and held-out figures have the same ones in all stages.
        average: what the average of the generators' weights starts from, if not from the generators.

    Raises:
        InputError: `out` holds something else, or settings that cannot be used on this machine.
        RunStopped: too many steps in a row were not finite; the last good weights are saved.
        SystemExit: asked to end (Ctrl-C, SIGTERM), after saving.
        OSError: a file could not be written; what was saved before is intact.
    """
    limit_threads(settings)
    if settings.checkpointing:
        for generator in method.generators.values():
            check_stages(generator)
    facts = replace(facts, settings={**facts.settings, "training": recorded(settings)})
    accelerator = make_accelerator(settings, out)
    is_main, processes = accelerator.is_main_process, accelerator.num_processes
    measures = load_measures(settings, accelerator)
    remarks = measures.remarks(len(validation_data))  # type: ignore[arg-type]
    facts = replace(facts, about="\n".join(filter(None, [facts.about, *remarks])))

    # Whose folder is it, and how far did the run get?
    if is_main:
        open_run(out, _identity(facts, settings, accelerator))
    accelerator.wait_for_everyone()
    state = load_state(out)
    start = state.step if state is not None else 0
    if start > settings.steps:
        raise InputError(f"{out} has done {start} steps already, and --steps {settings.steps} asks for fewer.")

    # Data: the sampler shards itself and starts at the first micro-batch not yet trained on.
    sampler = DrawSampler(
        length=len(training_data),  # type: ignore[arg-type]
        batch_size=settings.batch_size,
        seed=_seed(settings, stage),
        rank=accelerator.process_index,
        world_size=processes,
        start_batch=start * settings.critic_steps * settings.accumulation,
    )
    loader = DataLoader(
        training_data,
        batch_sampler=sampler,
        num_workers=settings.workers,
        worker_init_fn=worker_init,
        pin_memory=accelerator.device.type == "cuda",
    )
    preview_batch = _preview_batch(preview_data or validation_data, settings)
    method.check(preview_batch)
    preview_batch = to_device(preview_batch, accelerator.device, settings)

    if is_main and measures and baseline_images:
        found = measures.baselines(baseline_images, count=len(validation_data))  # type: ignore[arg-type]
        known = {name: {**found.get(name, {}), **figures} for name, figures in facts.baselines.items()}
        facts = replace(facts, baselines=known)

    # All that a step changes, and all that is remembered about the steps.
    batches = _plain_errors(loader)
    trainer = Trainer(
        method=method, settings=settings, accelerator=accelerator, batches=batches, stage=stage, average=average
    )
    monitor = Monitor(max_skipped_steps=settings.max_skipped_steps, best_is=settings.best_end)
    record = Record(out, facts=facts, accelerator=accelerator)
    if state is not None:
        trainer.load_state_dict(state.shared["trainer"], state.processes[accelerator.process_index])
        monitor.load_state_dict(state.shared["monitor"])
        record.load_state_dict(state.shared["record"])
    best_figure = measures.names.get(settings.best_metric, settings.best_metric)  # type: ignore[call-overload]
    if best_figure is not None:
        if start and not measures.gives(best_figure):
            _check_known(best_figure, record.own_figures, settings)
        if record.choose_by(best_figure):
            monitor.first_metric = monitor.last_metric = None
    # A run that has stopped early goes on only if it may take longer to become better.
    if settings.early_stop_after is None or record.no_better < settings.early_stop_after:
        record.stopped = None
    end = start if record.stopped else settings.steps
    record.open(start if state is not None else -1)

    def validate(step: int) -> bool:
        """Take held-out figures and pictures; whether the run ends here."""
        due = settings.measure_every_steps is None or step % settings.measure_every_steps == 0
        with trainer.evaluating(specs):

            def measured(by: Measures | None) -> dict[str, float]:
                own, chosen = _validate(method, validation_data, settings, accelerator, measures=by)
                record.own_figures = list(own)
                return {**own, **{name: value for name, value in chosen.items() if name not in own}}

            metrics = measured(measures if due or step == settings.steps else None)
            if step == 0 and best_figure is not None:
                _check_known(best_figure, metrics, settings)
            better = False
            if best_figure in metrics:
                monitor.validated(metrics[best_figure])
                better = step > 0 and record.is_best(step, metrics[best_figure], settings.best_end)
            # The first process decides, lest they round differently.
            patient = settings.early_stop_after is None or record.no_better < settings.early_stop_after
            stops = step < settings.steps and not _gather(patient, accelerator)[0]
            if stops and measures and not due:
                metrics = measured(measures)  # once more, at most once in a run: the last figures are complete
            if examine is not None and (stops or step == settings.steps) and is_main:
                metrics = {**metrics, **examine(progress.say)}
            seconds = measures.taken()
            record.metrics(step, metrics, best=better, measuring_s=seconds)
            if stops:
                record.stop(step, _why_stopped(record, step, settings))
            torch.manual_seed(settings.seed)
            pictures = method.preview(preview_batch)
            if better:
                record.export("best", method.generators, method.discriminators, specs, step)
        record.pictures(step, pictures)
        if metrics:
            share = record.clock.measuring_share
            cost = f"  (measured in {duration(seconds)}; measuring took {share:.0%} of the time so far)"
            figures = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            progress.say(f"step {step}: {figures}{cost if seconds else ''}")
        if record.stopped:
            progress.say(record.stopped)
        return stops

    def save(step: int) -> None:
        # The generators come first: a run that is killed before the state is there does this step again.
        with trainer.evaluating(specs):
            record.export("", method.generators, method.discriminators, specs, step)
        own = _gather(tree_map_only(Tensor, Tensor.cpu, trainer.own_state_dict()), accelerator)
        record.flush()
        if is_main:
            shared = {
                "trainer": trainer.state_dict(),
                "monitor": monitor.state_dict(),
                "record": record.state_dict(),
            }
            save_state(out, State(step=step, shared=shared, processes=own), keep=settings.keep_states)
        record.time(step)
        accelerator.wait_for_everyone()

    with ExitStack() as stack:
        stack.callback(record.close)
        stack.callback(trainer.release)
        interruptions = stack.enter_context(_interruptions(tell=is_main))
        progress = stack.enter_context(Progress(start=start, total=settings.steps, show=is_main))
        where = f"{processes} processes on {accelerator.device.type}" if processes > 1 else str(accelerator.device)
        if record.stopped:
            progress.say(f"{out}: {record.stopped} With a larger --early-stop-after, or without it, the run goes on.")
        else:
            progress.say(f"{out}: {'goes on' if start else 'starts'} at step {start} of {settings.steps} ({where})")
        for remark in remarks:
            progress.say(remark)
        if start == 0:
            validate(0)
        for step in range(start, end):
            result = trainer.step(step, stop=bool(interruptions))
            done = step + 1
            due = result.skipped or done % settings.log_every_steps == 0
            record.step(done, result.scalars(), due=due)
            try:
                alarms = monitor.observe(
                    step=done,
                    accuracy=result.accuracy,
                    skipped=result.skipped,
                    data=result.data,
                    outputs=result.outputs,
                )
            except RunStopped:
                save(done)
                raise
            for alarm in alarms:
                record.alarm(alarm)
                progress.say(f"[bold red]step {done}: {alarm.text}[/bold red]")
            progress.advance(losses=result.losses, images=trainer.images_per_step, waited_s=result.waited_s)

            at_end = done == settings.steps
            if at_end or done % settings.validate_every_steps == 0:
                at_end = validate(done) or at_end
            if at_end or result.stop or done % settings.save_every_steps == 0:
                save(done)
            if result.stop and not at_end:
                progress.say(f"Interrupted, and saved {out} at step {done}. The same command goes on from there.")
                raise SystemExit(130)
            if at_end:
                break

        if start < end:
            progress.summarise()
        if monitor.skipped_steps >= progress.done:
            raise RunStopped("Losses or gradients were not finite at any step, so nothing was learned.")

    asked_to_end = any(_gather(bool(interruptions), accelerator))
    if is_main:
        write_report(out, facts)
    accelerator.wait_for_everyone()
    if asked_to_end:  # after the last step; no later stage shall begin
        raise SystemExit(130)
    return RunResult(
        metrics=record.last_metrics,
        baselines=held_against(out, facts),
        alarms=record.alarms,
        average=trainer.ema,
    )


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step did.

    losses: weighted terms, averaged over micro-batches and processes.
    figures: what the method gives beside them, likewise.
    accuracy: share of score pairs that the discriminator ranks rightly; None without scores.
    skipped: something was not finite, so its round changed nothing; without critic steps that is the whole step.
    stop: some process was asked to stop.
    waited_s: time spent waiting for data.
    data, outputs: the last micro-batch and what the generators made of it.
    """

    losses: dict[str, float]
    figures: dict[str, float]
    accuracy: float | None
    learning_rate: float
    skipped: bool
    stop: bool
    waited_s: float
    data: Batch
    outputs: Outputs

    def scalars(self) -> dict[str, Any]:
        """What is logged: nothing that depends on the clock, so that logs of equal runs are equal."""
        return {
            "losses": _finite(self.losses),
            **({"figures": _finite(self.figures)} if self.figures else {}),
            "accuracy": self.accuracy,
            "learning_rate": self.learning_rate,
            "skipped": self.skipped,
        }


class Trainer:
    """The networks, optimisers and averages of one run, and the step that changes them."""

    def __init__(
        self,
        *,
        method: Method,
        settings: TrainingSettings,
        accelerator: Accelerator,
        batches: Iterator[Batch],
        stage: int = 0,
        average: ExponentialMovingAverage | None = None,
    ) -> None:
        self.method = method
        self.settings = settings
        self.accelerator = accelerator
        self.batches = batches
        self.seed = _seed(settings, stage)
        self.generators = {name: self._place(network) for name, network in method.generators.items()}
        self.discriminators = {name: self._place(network) for name, network in method.discriminators.items()}
        self.auxiliary = {name: self._place(network) for name, network in method.auxiliary.items()}
        method.frozen = {n: f.to(accelerator.device).eval().requires_grad_(False) for n, f in method.frozen.items()}
        self.ema = ExponentialMovingAverage(self.generators, decay=settings.ema_decay) if settings.ema_decay else None
        if settings.checkpointing:
            for network in self.generators.values():
                recompute_activations(network)
        method.generators = {n: self._prepare(g) for n, g in self.generators.items()}
        method.discriminators = {n: self._prepare(d) for n, d in self.discriminators.items()}
        method.auxiliary = {n: self._prepare(a) for n, a in self.auxiliary.items()}
        if self.ema:
            self.ema.restart(self.generators)  # preparing gave all processes the first one's weights
            if average is not None:
                self.ema.load_state_dict(average.state_dict())
        generator_side = [*self.generators.values(), *self.auxiliary.values()]
        self.optimisers = [self._optimiser(generator_side, settings.generator_learning_rate)]
        if self.discriminators:
            discriminator_side = list(self.discriminators.values())
            self.optimisers.append(self._optimiser(discriminator_side, settings.discriminator_learning_rate))
        self.base_learning_rates = (settings.generator_learning_rate, settings.discriminator_learning_rate)

    @property
    def images_per_step(self) -> int:
        """Training items that all processes together draw for one step."""
        settings = self.settings
        per_process = settings.batch_size * settings.accumulation * settings.critic_steps
        return per_process * self.accelerator.num_processes

    def _place(self, network: nn.Module) -> nn.Module:
        layout = torch.channels_last if self.settings.channels_last else torch.preserve_format
        return network.to(self.accelerator.device).to(memory_format=layout)

    def _prepare(self, network: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            # accelerate passes on an argument of DistributedDataParallel under its old name.
            warnings.simplefilter("ignore", FutureWarning)
            prepared = self.accelerator.prepare_model(network.train())
        if self.settings.compile:
            prepared.compile()
        return prepared

    def _optimiser(self, networks: list[nn.Module], learning_rate: float) -> torch.optim.Optimizer:
        # Not prepared by accelerate: its optimiser updates the grad scaler at each side's step, and both sides
        # must step or skip together.
        parameters = [p for network in networks for p in network.parameters()]
        return torch.optim.Adam(parameters, lr=learning_rate, betas=self.settings.adam_betas, fused=True)

    def step(self, step: int, *, stop: bool = False) -> StepResult:
        """One update of the generators, after `critic_steps` updates of the discriminators.

        step: counted from 0; with the seed it decides every random number.
        stop: this process was asked to stop; the result says whether any was.
        """
        settings = self.settings
        factor = learning_rate_factor(settings, step)
        for optimiser, base in zip(self.optimisers, self.base_learning_rates, strict=False):
            optimiser.param_groups[0]["lr"] = base * factor
        waited_s, skipped = 0.0, False

        for round_ in range(settings.critic_steps):
            critic_only = round_ < settings.critic_steps - 1
            before = self._snapshot()
            # Gradients are freed here, not after the step: with them gone as well, a CPU's allocator would hand the
            # step's memory back to the system, to fault it in again page by page.
            for optimiser in self.optimisers:
                optimiser.zero_grad()
            tallies: Tallies = {}
            for micro in range(settings.accumulation):
                batch, waited = self._next_batch()
                waited_s += waited
                self._draw_for(step, round_, micro)
                batch = self.method.prepare(batch, step)
                with self._gradients_shared(micro == settings.accumulation - 1):
                    if critic_only:
                        with torch.no_grad():
                            out = self.method.translate(batch, step)
                    else:
                        out = self.method.translate(batch, step)
                        with self._discriminators_frozen():
                            self._backward(self.method.generator_losses(batch, out, step), tallies)
                    out = {name: value.detach() for name, value in out.items()}
                    if self.discriminators:
                        self._backward(self.method.discriminator_losses(batch, out, step), tallies)

            # Both sides step, or neither: stepping one between the two would make accumulation of k micro-batches
            # differ from one batch of k, and leave a discriminator ahead of a generator whose step failed.
            sides = self.optimisers[1:] if critic_only else self.optimisers
            finite, means, stop = self._apply(sides, tallies, stop)
            if not finite:
                self._restore(before)
                skipped = True
            else:
                with torch.no_grad():
                    self.method.stepped(step, critic_only=critic_only)
                if self.ema and not critic_only:
                    self.ema.update(self.generators)

        accuracy = means.pop(("figure", "accuracy"), None)
        return StepResult(
            losses={name: value for (kind, name), value in means.items() if kind == "loss"},
            figures={name: value for (kind, name), value in means.items() if kind == "figure"},
            accuracy=accuracy,
            learning_rate=self.optimisers[0].param_groups[0]["lr"],
            skipped=skipped,
            stop=stop,
            waited_s=waited_s,
            data=batch,
            outputs=out,
        )

    def _backward(self, losses: Losses, tallies: Tallies) -> None:
        total = losses.total / self.settings.accumulation
        self.accelerator.backward(total)
        values = {("loss", name): value for name, value in losses.terms.items()}
        values |= {("figure", name): value for name, value in losses.figures.items()}
        accuracy = losses.accuracy()
        if accuracy is not None:
            values["figure", "accuracy"] = accuracy
        for name, value in values.items():
            share = value.detach().float() / self.settings.accumulation
            tallies[name] = tallies[name] + share if name in tallies else share

    def _apply(
        self, sides: list[torch.optim.Optimizer], tallies: Tallies, stop: bool
    ) -> tuple[bool, dict[tuple[str, str], float], bool]:
        """Step the given optimisers if all is finite; whether it was, losses and figures, and whether to stop."""
        scaler = self.accelerator.scaler
        norms = []
        for optimiser in sides:
            if scaler is not None:
                scaler.unscale_(optimiser)
            gradients = [p.grad for p in optimiser.param_groups[0]["params"] if p.grad is not None]
            norms.append(torch.nn.utils.get_total_norm(gradients))
        # One transfer to the host a round. The gradients' norms are alike in all processes by now; losses are not.
        values = torch.stack(
            [norm.float() for norm in norms]
            + list(tallies.values())
            + [torch.tensor(float(stop), device=self.accelerator.device)]
        )
        numbers = self.accelerator.reduce(values, "mean").tolist()
        finite = all(math.isfinite(number) for number in numbers)
        for optimiser, norm in zip(sides, norms, strict=True):
            if finite:
                if self.settings.clip_norm is not None:
                    torch.nn.utils.clip_grads_with_norm_(
                        optimiser.param_groups[0]["params"], self.settings.clip_norm, norm
                    )
                optimiser.step()
        if scaler is not None:
            scaler.update()
        return finite, dict(zip(tallies, numbers[len(norms) : -1], strict=True)), numbers[-1] > 0

    def _next_batch(self) -> tuple[Batch, float]:
        begun = time.perf_counter()
        batch = next(self.batches)
        self.method.check(batch)
        batch = to_device(batch, self.accelerator.device, self.settings)
        return batch, time.perf_counter() - begun

    def _draw_for(self, step: int, round_: int, micro: int) -> None:
        torch.manual_seed(derived_seed(self.seed, self.accelerator.process_index, step, round_, micro))

    @contextmanager
    def _gradients_shared(self, shared: bool) -> Iterator[None]:
        """Whether backward averages gradients over processes; the last micro-batch of a round does."""
        with ExitStack() as stack:
            if not shared:
                method = self.method
                for networks in (method.generators, method.discriminators, method.auxiliary):
                    for network in networks.values():
                        stack.enter_context(self.accelerator.no_sync(network))
            yield

    @contextmanager
    def _discriminators_frozen(self) -> Iterator[None]:
        """The generators' gradient passes through the discriminators; theirs is not computed."""
        parameters = [p for d in self.discriminators.values() for p in d.parameters() if p.requires_grad]
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)

    def _networks(self) -> list[nn.Module]:
        return [*self.generators.values(), *self.discriminators.values(), *self.auxiliary.values()]

    def _snapshot(self) -> tuple[list[Tensor], dict[str, Any]]:
        """What forward passes change: buffers (running statistics), and what the method remembers."""
        buffers = [b.clone() for network in self._networks() for b in network.buffers()]
        return buffers, self.method.state_dict()

    @torch.no_grad()
    def _restore(self, snapshot: tuple[list[Tensor], dict[str, Any]]) -> None:
        buffers, remembered = snapshot
        current = [b for network in self._networks() for b in network.buffers()]
        for buffer, before in zip(current, buffers, strict=True):
            buffer.copy_(before)
        self.method.load_state_dict(remembered)

    @contextmanager
    def evaluating(self, specs: dict[str, GeneratorSpec]) -> Iterator[None]:
        """Put into the method the generators as they are exported: averaged, and in inference mode.

        BatchNorm's buffers differ between processes; meanwhile all have their mean. Training's are put back.
        """
        prepared, buffers = self.method.generators, self._snapshot()[0]
        if self.accelerator.num_processes > 1:
            for network in self.generators.values():
                for buffer in network.buffers():
                    if buffer.is_floating_point():
                        buffer.copy_(self.accelerator.reduce(buffer, "mean"))
        shown = self.generators
        if self.ema:
            self.ema.copy_buffers(self.generators)
            shown = self.ema.networks
        for name, network in shown.items():
            set_inference_mode(network, normalisation=specs[name].normalisation, dropout=specs[name].dropout)
        self.method.generators = shown
        torch.manual_seed(self.settings.seed)
        try:
            with torch.no_grad():
                yield
        finally:
            self.method.generators = prepared
            for network in self.generators.values():
                network.train()
            self._restore((buffers, self.method.state_dict()))

    def release(self) -> None:
        """Give the method its networks back as they were handed in, for another stage."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        for networks in (self.method.generators, self.method.discriminators, self.method.auxiliary):
            for name, network in networks.items():
                networks[name] = self.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        if self.settings.checkpointing:
            for network in self.generators.values():
                keep_activations(network)

    def state_dict(self) -> dict[str, Any]:
        """What is alike in all processes."""
        scaler = self.accelerator.scaler
        return {
            "networks": [network.state_dict() for network in self._networks()],
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "ema": self.ema.state_dict() if self.ema else None,
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def own_state_dict(self) -> dict[str, Any]:
        """What each process keeps of its own."""
        buffers, remembered = self._snapshot()
        return {"buffers": buffers, "method": remembered}

    @torch.no_grad()
    def load_state_dict(self, shared: dict[str, Any], own: dict[str, Any]) -> None:
        for network, saved in zip(self._networks(), shared["networks"], strict=True):
            network.load_state_dict(saved)
        for optimiser, saved in zip(self.optimisers, shared["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        if self.ema:
            self.ema.load_state_dict(shared["ema"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(shared["scaler"])
        self._restore((own["buffers"], own["method"]))


def _seed(settings: TrainingSettings, stage: int) -> int:
    return derived_seed(settings.seed, stage) if stage else settings.seed


def _finite(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def to_device(batch: Batch, device: torch.device, settings: TrainingSettings) -> Batch:
    moved = {}
    for name, value in batch.items():
        layout = torch.channels_last if settings.channels_last and value.ndim == 4 else torch.preserve_format
        moved[name] = value.to(device, non_blocking=True, memory_format=layout)
    return moved


def limit_threads(settings: TrainingSettings) -> None:
    """Let PyTorch use as many threads as the settings say; `train` does, and recipes that compute before it."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)


def on_cpu(settings: TrainingSettings) -> bool:
    """Whether training runs on the CPU. accelerate has to be told, or its processes there would not find each other."""
    return settings.device == "cpu" or not torch.accelerator.is_available()


def make_accelerator(settings: TrainingSettings, out: Path) -> Accelerator:
    """An accelerator as this loop needs it; stages of one program may differ in precision.

    Raises:
        InputError: the precision cannot be had here, or the launcher started more processes than take part.
    """
    AcceleratorState._reset_state()
    try:
        accelerator = Accelerator(
            cpu=on_cpu(settings),
            mixed_precision="no" if settings.precision == "fp32" else settings.precision,
            log_with=list(settings.trackers) or None,
            project_dir=out,
            # Buffers stay each process's own; `Trainer.evaluating` averages them where they matter.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
    except ValueError as error:
        raise InputError(f"--precision {settings.precision} cannot be used here: {error}") from error
    if settings.precision == "fp16" and accelerator.device.type == "cpu":
        # accelerate would train in fp32 without a word.
        raise InputError("--precision fp16 cannot be used here: it needs a GPU; take bf16 or fp32.")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        # Each would train on its own, all into one folder.
        raise InputError(f"{launched} processes were launched, but {accelerator.num_processes} take part in training.")
    atexit.register(_leave_group)
    return accelerator


def _leave_group() -> None:
    """Part from the other processes; without it, threads that exchange tensors now and then abort a program that has
    ended well, and launchers report a failure."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_start(*, settings: TrainingSettings, out: Path, facts: RunFacts) -> None:
    """Refuse now what `train` would refuse with the same arguments, for recipes that prepare at length before it.

    Raises:
        InputError: `out` holds something else or another run, or settings that cannot be used on this machine, such as
            metrics whose weights cannot be had.
    """
    accelerator = make_accelerator(settings, out)
    if accelerator.is_main_process:
        check_run(out, _identity(facts, settings, accelerator))
    load_measures(settings, accelerator)


def _identity(facts: RunFacts, settings: TrainingSettings, accelerator: Accelerator) -> dict[str, Any]:
    """What a run that goes on must have in common with the one that began."""
    return {
        "settings": {**facts.settings, "training": recorded(settings)},
        "data fingerprint": facts.fingerprint,
        "processes": accelerator.num_processes,
    }


def _validate(
    method: Method, data: Dataset, settings: TrainingSettings, accelerator: Accelerator, *, measures: Measures | None
) -> tuple[dict[str, float], dict[str, float]]:
    """Held-out figures over all items, the method's own and those of `measures`; the processes share the work.

    A batch without a figure (NaN, as flat images have no sharpness, or infinite) does not count, unless none has one.
    """
    torch.manual_seed(settings.seed + accelerator.process_index)  # what is drawn differs from process to process
    share = range(accelerator.process_index, len(data), accelerator.num_processes)  # type: ignore[arg-type]
    loader = DataLoader(
        Subset(_Numbered(data), share),
        batch_size=settings.batch_size,
        num_workers=settings.workers,
        worker_init_fn=worker_init,
        collate_fn=_collate_alike,
    )
    numbers: dict[str, list[tuple[float, int]]] = {}  # of each batch, with its size
    descriptors: dict[str, list[Tensor]] = {}
    for indices, cpu_batch in chain.from_iterable(_plain_errors(loader)):
        method.check(cpu_batch)
        found = method.validate(to_device(cpu_batch, accelerator.device, settings))
        for name, value in found.items():
            if isinstance(value, Tensor):
                descriptors.setdefault(name, []).append(value.cpu())
            elif not isinstance(value, Comparison):
                numbers.setdefault(name, []).append((value, len(indices)))
        if measures:
            measures.add(found, indices, count=len(data))  # type: ignore[arg-type]
    gathered = _gather((numbers, descriptors), accelerator)
    numbers_of_all, tensors_of_all = zip(*gathered, strict=True)
    means = {name: _mean([one for own in numbers_of_all for one in own.get(name, [])]) for name in numbers_of_all[0]}
    names = dict.fromkeys(name for own in tensors_of_all for name in own)
    joined = {name: torch.cat([t for own in tensors_of_all for t in own.get(name, [])]) for name in names}
    chosen = measures.figures(lambda value: _gather(value, accelerator)) if measures else {}
    return {**means, **method.distances(joined)}, chosen


def _mean(numbers: Sequence[tuple[float, int]]) -> float:
    """Of numbers with their weights, those that are finite if any is."""
    counted = [one for one in numbers if math.isfinite(one[0])] or numbers
    return sum(value * weight for value, weight in counted) / sum(weight for _, weight in counted)


def _check_known(figure: str, measured: Iterable[str], settings: TrainingSettings) -> None:
    """See that the best can be chosen by a figure.

    Raises:
        InputError: it is not measured.
    """
    if figure not in measured:
        name = settings.best_metric
        addition = f" Give --metrics {name}, too." if name in get_args(Metric) and name not in settings.metrics else ""
        raise InputError(
            f"best_metric is {name!r}, but this method measures {', '.join(measured) or 'nothing'}.{addition}"
        )


def _why_stopped(record: Record, step: int, settings: TrainingSettings) -> str:
    last = "the last measurement" if record.no_better == 1 else f"none of the last {record.no_better} measurements"
    verb = "was not" if record.no_better == 1 else "was"
    result = f"{verb} better than that of step {record.best_step}, whose networks are in best/"
    if record.best is None:
        result = f"{verb} a number"
    return f"Stopped early, at step {step} of {settings.steps}: {last} of {settings.best_metric} {result}."


def _gather(value: Any, accelerator: Accelerator) -> list[Any]:
    """One value from each process, in order of rank."""
    return gather_object([value]) if accelerator.num_processes > 1 else [value]


class _Numbered(Dataset[tuple[int, Batch]]):
    """Items with their indices."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __getitem__(self, index: int) -> tuple[int, Batch]:
        return index, self.data[index]


def _collate_alike(items: list[tuple[int, Batch]]) -> list[tuple[list[int], Batch]]:
    """Batches of the items that are of one size, the larger they are the smaller, each with its items' indices."""
    groups: dict[tuple[torch.Size, ...], list[tuple[int, Batch]]] = {}
    for index, item in items:
        groups.setdefault(tuple(value.shape for value in item.values()), []).append((index, item))
    batches = []
    for group in groups.values():
        count = max(1, LARGEST_HELD_OUT_BATCH // max(1, sum(value.numel() for value in group[0][1].values())))
        for first in range(0, len(group), count):
            alike = group[first : first + count]
            batches.append(([index for index, _ in alike], default_collate([item for _, item in alike])))
    return batches


def _plain_errors(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches; an error about a file reads alike whether a worker process met it or not."""
    try:
        yield from loader
    except InputError as error:
        # PyTorch puts the worker's traceback before the message.
        raise InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip()) from error


def _preview_batch(data: Dataset, settings: TrainingSettings) -> Batch:
    """Held-out items spread evenly over the data, always the same."""
    length = len(data)  # type: ignore[arg-type]
    count = min(settings.preview_images, length)
    return default_collate([data[index * length // count] for index in range(count)])


@contextmanager
def _interruptions(*, tell: bool) -> Iterator[list[int]]:
    """A list that fills when this process is asked to end (Ctrl-C, or a scheduler's SIGTERM).

    The step under way is then finished and saved. Ctrl-C a second time ends at once.

    tell: say so at once on standard error, for a step may take minutes.
    """
    received: list[int] = []
    owner = os.getpid()

    def note(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        # Loaders' workers inherit this handler. Not by print, which the signal may have come amidst.
        if tell and not received and os.getpid() == owner:
            with suppress(OSError):
                os.write(2, STOPPING)
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may handle signals
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
