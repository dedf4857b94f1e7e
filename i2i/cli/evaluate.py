"""Say how good generated images or videos are, next to real ones.

i2i evaluate outputs/ --real photos/ --out evaluation/

i2i evaluate --weights runs/facades --inputs facades/test --inputs-half right --real facades/test --real-half left
--out evaluation/

i2i evaluate --weights runs/dcgan --real held-out/ --training photos/ --features inception dinov2 --out evaluation/

i2i evaluate enlarged.mp4 --real original.mp4 --out evaluation/

i2i evaluate enlarged-videos/ --real original-videos/ --out evaluation/

Images are compared as two sets, whatever they are called, and pair by pair where generated and real ones have equal
names. evaluation.html shows what was found, evaluation.md has it as a table, and evaluation.json is for programs; two
runs write the same bytes. A figure whose weights cannot be had is listed as missing, with how to get them; the exit
code is 0 then, too. Several processes started by a launcher (torchrun) share the images, or the frames of videos.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch.distributed.rendezvous import rendezvous

import i2i
from i2i.checkpoints.identity import name_model
from i2i.checkpoints.store import ImageSide
from i2i.cli.entry import refuse, refuse_without
from i2i.cli.plan import check_outside, check_writable, find_clips
from i2i.cli.share import Share, find_share
from i2i.data.image_io import Provenance
from i2i.errors import InputError
from i2i.evaluation.clips import check_clip, clip_findings, findings_of_clips
from i2i.evaluation.describing import Describing
from i2i.evaluation.evaluator import EvaluationSettings, Evaluator
from i2i.evaluation.findings import Findings
from i2i.evaluation.image_sets import Half, ImageSet, check_files
from i2i.evaluation.labels import LabelSettings
from i2i.evaluation.outputs import draw_images, translate_inputs
from i2i.evaluation.pairs import PairMeter
from i2i.evaluation.report import (
    JSON,
    MARKDOWN,
    PAGE_FILE,
    PICTURES,
    Evaluation,
    about_set,
    print_evaluation,
    write_evaluation,
)
from i2i.inference.sampler import Sampler
from i2i.inference.translator import Translator

GENERATED = "generated"  # folder of the images that --weights made
MARK = ".i2i-evaluation"  # lies in a folder that an evaluation has written to, and another may write to again
LEAVING_S = 3.0
EVERY_S = 10.0  # between two lines of progress, where the output is no terminal

Videos = dict[str, Path]  # by name, as `find_clips` has them


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared.

    Args:
        generated: a folder of generated images, a video, or a folder of videos; or nothing, where --weights make them.
        real: a folder of real images, a video, or a folder of videos, to hold the generated ones against.
        out: the folder for what is found; what lay in its folders pictures and, with --weights, generated is removed.
        weights: a generator that makes the images, as `i2i translate` and `i2i draw` take it; they lie in
            OUT/generated then.
        inputs: the images that it translates.
        count: how many images it draws, where it draws from noise; as many as there are real ones unless given.
        seed: of the first image that it draws; each of the others has the next one.
        provenance: note in the images that it makes that they are synthetic, by which model and version of i2i.
        training: a folder of the images that the generator was trained on, to look for copies of them.
        generated_half: which half of each generated file counts, where two images lie side by side.
        real_half: the same of real files.
        inputs_half: the same of inputs.
        training_half: the same of training files.
        data_range: what is black and white in the images' own units: 0 1 of most floats, 0 4095 of a 12-bit camera.
            Integers have the whole range of their type unless it is given, and also if it ends at 1 or goes beyond
            that; with --weights, what the generator was trained with.
        frames: folders hold the frames of videos, in the order of the numbers in their names; or each a folder for each
            video.
        figures: which figures, and how they are measured.
        device: where networks compute: cpu, cuda, cuda:1, mps …; auto takes an accelerator if there is one.
        threads: that read and compare images; one for each core unless given.
    """

    generated: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="GENERATED")]] = None
    real: Path
    out: Path
    weights: str | None = None
    inputs: Path | None = None
    count: int | None = None
    seed: int = 0
    provenance: bool = True
    training: Path | None = None
    generated_half: Half | None = None
    real_half: Half | None = None
    inputs_half: Half | None = None
    training_half: Half | None = None
    data_range: tuple[float, float] | None = None
    frames: bool = False
    figures: EvaluationSettings = EvaluationSettings()  # noqa: RUF009 - frozen
    device: str = "auto"
    threads: int | None = None


FOR_WEIGHTS = ("inputs", "inputs_half", "count", "seed", "provenance")
HALVES = ("generated_half", "real_half", "training_half")
FOR_IMAGES = ("weights", "training", *FOR_WEIGHTS, *HALVES)
WHERE_AND_HOW_FAST = ("out", "device", "threads")


def main(settings: Settings) -> int:
    """Evaluate as the settings say.

    Returns:
        The exit code: 0.

    Raises:
        InputError: something given cannot be used.
        OSError: the disk is full, for instance.
    """
    share = find_share()
    with _group_of_processes(share), _Passes(show=share.rank == 0) as passes:
        videos = _check(settings)
        if videos is None:
            evaluation = _evaluate_images(settings, share, passes)
        else:
            evaluation = _evaluate_videos(settings, share, passes, *videos)
    if share.rank == 0:
        print_evaluation(evaluation)
        out = settings.out.expanduser()
        write_evaluation(out, evaluation)
        print(f"Look at {out / PAGE_FILE}")
    return 0


def _check(settings: Settings) -> tuple[Videos, Videos] | None:
    """The generated and the real videos; None where images are compared.

    Raises:
        InputError: options that do not go together, or a place that is not there or not to be written to.
    """
    figures = settings.figures
    if (settings.generated is None) == (settings.weights is None):
        raise InputError("expected either a folder of generated images (or a video), or --weights that make them")
    if settings.threads is not None and settings.threads < 1:
        raise InputError(f"--threads: expected at least 1, got {settings.threads}")
    if settings.count is not None and settings.count < 1:
        raise InputError(f"--count: expected at least 1, got {settings.count}")
    if settings.weights is None:
        refuse_without("--weights", settings, FOR_WEIGHTS)
    if settings.training is None:
        refuse_without("--training", settings, ("training_half",))
        refuse_without("--training", figures, ("usefulness",))
    if figures.groups is None:
        refuse_without("--groups", figures, ("group_column",))
    if figures.usefulness is None:
        refuse_without("--usefulness", figures, ("usefulness_size", "usefulness_steps"))
    if figures.usefulness != "labels":
        refuse_without("--usefulness labels", figures, ("training_labels", "generated_labels"))
    _check_out(settings)
    real = find_clips(settings.real.expanduser(), frames=settings.frames)
    if settings.generated is None:
        if real:
            raise InputError(f"--weights make images, and {settings.real} is a video or holds some; give real images")
        return None
    generated = find_clips(settings.generated.expanduser(), frames=settings.frames)
    if not real and not generated:
        return None
    if not real or not generated:
        videos, images = (settings.real, settings.generated) if real else (settings.generated, settings.real)
        ImageSet.find(images)  # says so where there are none
        raise InputError(
            f"{videos} is a video or holds some, and {images} holds images; if these are frames, give --frames"
        )
    of_images = [field.name for field in fields(figures) if field.name not in ("pairing", "label_maps", "replicates")]
    of_label_maps = [field.name for field in fields(LabelSettings)]
    for given, names in ((settings, FOR_IMAGES), (figures, of_images), (figures.label_maps, of_label_maps)):
        refuse(given, names, why="for images, not for videos")
    if {*real, *generated} == {""}:
        refuse(figures, ("replicates",), why="for several videos, or images")
    elif figures.replicates < 2:
        raise InputError(f"--replicates: expected at least 2, got {figures.replicates}")
    return generated, real


def _check_out(settings: Settings) -> None:
    """Raises InputError where results would come among images that are read, or take the place of something else."""
    out = settings.out.expanduser()
    check_writable(out)
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise InputError(f"{out} holds files that are no evaluation; give a new folder with --out")
    figures = settings.figures
    for place in (
        *(settings.generated, settings.real, settings.inputs, settings.training),
        *(figures.label_maps.labels, figures.training_labels, figures.generated_labels),
    ):
        if place is None:
            continue
        check_outside(out, place)
        read = place.expanduser().resolve()
        if any(read.is_relative_to((out / folder).resolve()) for folder in _made_anew(settings)):
            raise InputError(f"{place} lies in what this evaluation makes anew; give another folder with --out")


def _made_anew(settings: Settings) -> tuple[str, ...]:
    """Folders in OUT."""
    return (PICTURES, GENERATED) if settings.weights else (PICTURES,)


def _prepare(settings: Settings, share: Share) -> None:
    """Make the folder for the results, and empty it of those of an evaluation before."""
    out = settings.out.expanduser()
    if share.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
        for file in (JSON, MARKDOWN, PAGE_FILE):
            (out / file).unlink(missing_ok=True)
        for folder in _made_anew(settings):
            shutil.rmtree(out / folder, ignore_errors=True)
    _wait(share)


def _evaluate_videos(
    settings: Settings, share: Share, passes: "_Passes", generated: Videos, real: Videos
) -> Evaluation:
    clips, warnings = _matched_clips(generated, real)
    device = _device(settings, share)
    meter = PairMeter(settings.figures.pairing, device=device)
    # Before any is measured, which may take long, and before older results go.
    for pair in clips.values():
        check_clip(*pair, meter=meter)
    _prepare(settings, share)

    def measure(name: str, generated: Path, real: Path) -> Findings:
        return clip_findings(
            generated,
            real,
            meter=meter,
            device=device,
            data_range=settings.data_range,
            threads=settings.threads,
            rank=share.rank,
            world_size=share.world_size,
            progress=partial(passes, f"frames of {name}" if name else "frames"),
        )

    if "" in clips:
        findings, count = measure("", *clips[""]), {}
    else:
        findings = findings_of_clips(clips, measure=measure, replicates=settings.figures.replicates)
        count = {"videos": len(clips)}
    sets = {part: {"place": str(getattr(settings, part))} | count for part in ("generated", "real")}
    findings |= Findings(warnings=warnings)
    return Evaluation(
        title=f"{settings.generated} beside {settings.real}",
        sets=sets,
        findings=findings,
        settings=_recorded(settings, drawn=False),
    )


def _matched_clips(generated: Videos, real: Videos) -> tuple[dict[str, tuple[Path, Path]], tuple[str, ...]]:
    """Generated and real videos of equal names, and a warning of others."""
    clips = {name: (generated[name], real[name]) for name in generated if name in real}
    if not clips:
        one, other = next(iter(generated.values())), next(iter(real.values()))
        raise InputError(
            f"no generated video is called like a real one (such as {one} and {other}); expected two videos, or two "
            "folders of videos with equal names"
        )
    others = sorted(generated.keys() ^ real.keys())
    if not others:
        return clips, ()
    every = len(generated.keys() | real.keys())
    return clips, (f"{len(others)} of {every} videos have no partner of their name, such as {others[0]}: left out",)


def _evaluate_images(settings: Settings, share: Share, passes: "_Passes") -> Evaluation:
    describing = Describing(device=_device(settings, share), threads=settings.threads, progress=passes)

    # Whatever can be wrong comes up before images are made, which may take long, and before older results go.
    generator = None if settings.weights is None else _load(settings, share)

    def find(place: Path, half: Half | None, side: ImageSide | None) -> ImageSet:
        if settings.data_range is not None or side is None:
            return ImageSet.find(place, half=half, data_range=settings.data_range)
        return ImageSet.find(place, half=half, data_range=side.data_range, depth=side.dtype)

    given, made = (None, None) if generator is None else (generator.spec.input, generator.spec.output)
    real = find(settings.real, settings.real_half, made)
    inputs = None if settings.inputs is None else find(settings.inputs, settings.inputs_half, given)
    training = None if settings.training is None else find(settings.training, settings.training_half, made)
    figures = settings.figures
    if isinstance(generator, Sampler) and figures.pairs == "auto":
        figures = replace(figures, pairs="off")  # drawn images may be called like real ones by chance
    evaluate = Evaluator(real, training=training, settings=figures, describing=describing)
    if inputs is not None:
        check_files(inputs)
    if generator is not None:
        assert settings.weights is not None
        place = name_model(settings.weights)
        _prepare(settings, share)
        _make(settings, share, passes, generator=generator, inputs=inputs, count=len(real))
        generated = find(settings.out.expanduser() / GENERATED, None, made)
    else:
        assert settings.generated is not None
        place = str(settings.generated)
        generated = find(settings.generated, settings.generated_half, None)
        _prepare(settings, share)
    try:
        findings = evaluate(generated, inputs=inputs)
    except InputError as error:
        if generator is None:
            raise
        raise InputError(
            f"{error}. The images have been made: once that is put right, give {generated.root} in place of --weights, "
            "and they need not be made again"
        ) from error
    if figures.fit:
        (size, *_) = generated.sizes()
        real, training = real.fitted(size), None if training is None else training.fitted(size)

    about = {
        "generated": about_set(generated, place=place if generator is None else f"made by {place}"),
        "real": about_set(real, place=str(settings.real)),
    }
    for part, images, where in (("inputs", inputs, settings.inputs), ("training", training, settings.training)):
        if images is not None:
            about[part] = about_set(images, place=str(where))
    return Evaluation(
        title=f"{place} beside {settings.real}",
        sets=about,
        findings=findings,
        settings=_recorded(settings, drawn=isinstance(generator, Sampler)),
    )


def _load(settings: Settings, share: Share) -> Translator | Sampler:
    """The generator, with options that go with it."""
    assert settings.weights is not None
    loaded = i2i.load(settings.weights, device=share.device(settings.device))
    if isinstance(loaded, Sampler):
        if settings.inputs is not None:
            raise InputError(f"{settings.weights} draws from noise and translates nothing; leave --inputs out")
        return loaded
    if settings.inputs is None:
        raise InputError(f"{settings.weights} translates images; say which with --inputs")
    refuse(settings, ("count", "seed"), why="for weights that draw from noise, and these translate")
    return loaded


def _make(
    settings: Settings,
    share: Share,
    passes: "_Passes",
    *,
    generator: Translator | Sampler,
    inputs: ImageSet | None,
    count: int,
) -> None:
    """Write the images that the generator makes of the inputs, or draws, `count` of them unless settings say so."""
    assert settings.weights is not None
    model = name_model(settings.weights)
    folder = settings.out.expanduser() / GENERATED
    folder.mkdir(exist_ok=True)
    if isinstance(generator, Sampler):
        draw_images(
            generator,
            folder,
            count=settings.count or count,
            seed=settings.seed,
            provenance=Provenance(kind="drawn", model=model) if settings.provenance else None,
            rank=share.rank,
            world_size=share.world_size,
            progress=passes,
        )
    else:
        assert inputs is not None
        translate_inputs(
            generator,
            inputs,
            folder,
            provenance=Provenance(kind="translated", model=model) if settings.provenance else None,
            rank=share.rank,
            world_size=share.world_size,
            progress=passes,
        )
    _wait(share)


def _recorded(settings: Settings, *, drawn: bool) -> dict[str, object]:
    without = (*WHERE_AND_HOW_FAST, *(() if drawn else ("seed",)))
    return {name: value for name, value in asdict(settings).items() if name not in without}


def _device(settings: Settings, share: Share) -> torch.device:
    device = share.device(settings.device)
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA fails an assertion
        raise InputError(f"--device {device} cannot be used ({error}); try auto or cpu") from error


@contextmanager
def _group_of_processes(share: Share) -> Iterator[None]:
    """Let several processes exchange what they have found.

    An error ends all of them, for those that wait for one that has ended fail, too. Only the first says why: the others
    leave without a word (SystemExit).
    """
    if share.world_size == 1:
        yield
        return
    store, rank, world_size = next(rendezvous("env://"))
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.PrefixStore("evaluate", store), rank=rank, world_size=world_size
    )
    try:
        yield
    except Exception as error:
        try:
            first = store.add("i2i/failed", 1) == 1
        except RuntimeError:  # process 0, which holds the store, has ended
            first = False
        if first:
            raise
        # Launchers end all processes as soon as one has ended: let that be the one that says why.
        time.sleep(LEAVING_S)
        raise SystemExit(2) from error
    finally:
        torch.distributed.destroy_process_group()


def _wait(share: Share) -> None:
    """Until all processes are here."""
    if share.world_size > 1:
        torch.distributed.barrier()


class _Passes:
    """Shows how far each pass over images is: bars on a terminal, a line now and then elsewhere."""

    def __init__(self, *, show: bool) -> None:
        console = Console()
        self._prints = show and not console.is_terminal
        self._printed = time.perf_counter()
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not (show and console.is_terminal),
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)
        now = time.perf_counter()
        if self._prints and now - self._printed >= EVERY_S:
            self._printed = now
            print(f"{what}: {done}/{total}", flush=True)
