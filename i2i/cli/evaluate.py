"""Say how good generated images or videos are, next to real ones.

i2i evaluate outputs/ --real photos/ --out evaluation/

i2i evaluate --weights runs/facades --inputs facades/test --inputs-half right --real facades/test --real-half left
--out evaluation/

i2i evaluate --weights runs/dcgan --real held-out/ --training photos/ --features inception dinov2 --out evaluation/

i2i evaluate enlarged.mp4 --real original.mp4 --out evaluation/

Images are compared as two sets, whatever they are called, and pair by pair where generated and real ones have equal
names. evaluation.html shows what was found, evaluation.md has it as a table, and evaluation.json is for programs; two
runs write the same bytes. A figure whose weights cannot be had is listed as missing, with how to get them; the exit
code is 0 then, too. Several processes started by a launcher (torchrun) share the images.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

import i2i
from i2i.checkpoints.identity import name_model
from i2i.cli.plan import VIDEO_SUFFIXES, check_writable
from i2i.cli.share import Share, find_share
from i2i.cli.video import refuse
from i2i.data.image_io import Provenance
from i2i.errors import InputError
from i2i.evaluation.clips import clip_findings
from i2i.evaluation.describing import Describing
from i2i.evaluation.findings import Findings
from i2i.evaluation.groups import group_findings, read_groups
from i2i.evaluation.image_sets import Half, ImageSet
from i2i.evaluation.labels import LabelSettings, label_findings
from i2i.evaluation.memorisation import MemorisationSettings, memorisation_findings
from i2i.evaluation.outputs import draw_images, translate_inputs
from i2i.evaluation.pairs import PairSettings, pair_findings, size_difference
from i2i.evaluation.report import (
    PAGE_FILE,
    PICTURES,
    Evaluation,
    about_set,
    print_evaluation,
    sample_findings,
    write_evaluation,
)
from i2i.evaluation.sets import FeatureDescriber, SetSettings, set_findings
from i2i.evaluation.usefulness import (
    LabelledSet,
    Usefulness,
    UsefulnessSettings,
    class_usefulness_findings,
    label_usefulness_findings,
)
from i2i.inference.sampler import Sampler
from i2i.metrics.features import MissingWeights, load_features
from i2i.metrics.intervals import REPLICATES

GENERATED = "generated"  # folder of the images that --weights made
MARK = ".i2i-evaluation"  # lies in a folder that an evaluation has written to, and another may write to again
EVERY_S = 10.0  # between two lines of progress, where the output is no terminal


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared, and how.

    Args:
        generated: a folder of generated images, or a video; or nothing, where --weights make them.
        real: a folder of real images, or a video, to hold the generated ones against.
        out: the folder for what is found.
        weights: a generator that makes the images, as `i2i translate` and `i2i draw` take it; they lie in
            OUT/generated then.
        inputs: the images that it translates.
        count: how many images it draws, where it draws from noise; as many as there are real ones unless given.
        seed: of the first image that it draws; each of the others has the next one.
        provenance: note in the images that it makes that they are synthetic, by which model and version of i2i.
        generated_half: which half of each generated file counts, where two images lie side by side.
        real_half: the same of real files.
        inputs_half: the same of inputs.
        data_range: what is black and white in images of floats: 0 1.
        pairs: whether images are compared with those of the same name; auto: where there are any.
        pairing: how such pairs, or the frames of videos, are compared.
        features: networks in whose features the two sets are compared: inception, dinov2, any name of timm, a
            segmenter or classifier of i2i's as a file, or pixels; none: only what needs no weights.
        feature_weights: a file with the weights of each, in the same order; fetched once unless given.
        neighbours: k of precision, recall, density and coverage.
        training: a folder of the images that the generator was trained on, to look for copies of them.
        training_half: which half of each training file counts.
        semantic: what label maps the images were made from.
        usefulness: train a small network on generated images, and another on those of --training, and test both on
            real ones: a classifier (classes: folders, or the end of names) or a segmenter (labels: with --labels,
            where real images' label maps lie, too).
        usefulness_size: side in px of the squares that images are resized to for it.
        usefulness_steps: of training; 400 of a classifier and 1500 of a segmenter unless given.
        training_labels: the label maps of training images, for --usefulness labels.
        groups: a CSV file with the columns image and group; figures of pairs are then shown for each group, too.
        group_column: which of its columns has the groups.
        frames: folders hold the frames of videos, in the order of the numbers in their names.
        replicates: samples of the images that confidence intervals come from.
        device: for networks: cpu, cuda, cuda:1, mps …; auto takes an accelerator if there is one.
        threads: that read and describe images; one for each core unless given.
    """

    generated: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="GENERATED")]] = None
    real: Path
    out: Path
    weights: str | None = None
    inputs: Path | None = None
    count: int | None = None
    seed: int = 0
    provenance: bool = True
    generated_half: Half | None = None
    real_half: Half | None = None
    inputs_half: Half | None = None
    data_range: tuple[float, float] | None = None
    pairs: Literal["auto", "on", "off"] = "auto"
    pairing: PairSettings = PairSettings()  # noqa: RUF009 - frozen
    features: tuple[str, ...] = ("inception",)
    feature_weights: tuple[Path, ...] = ()
    neighbours: int = 5
    training: Path | None = None
    training_half: Half | None = None
    semantic: LabelSettings = LabelSettings()  # noqa: RUF009 - frozen
    usefulness: Usefulness | None = None
    usefulness_size: int = 64
    usefulness_steps: int | None = None
    training_labels: Path | None = None
    groups: Path | None = None
    group_column: str | None = None
    frames: bool = False
    replicates: int = REPLICATES
    device: str = "auto"
    threads: int | None = None


NOT_FOR_VIDEOS = (
    *(
        "weights",
        "inputs",
        "count",
        "seed",
        "provenance",
        "generated_half",
        "real_half",
        "inputs_half",
        "data_range",
        "pairs",
    ),
    *("features", "feature_weights", "neighbours", "training", "training_half", "semantic", "usefulness"),
    *("usefulness_size", "usefulness_steps", "training_labels", "groups", "group_column", "replicates", "threads"),
)
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
    video = _check(settings)
    with _group_of_processes(share), _Passes(show=share.rank == 0) as passes:
        _prepare(settings, share)
        evaluate = _evaluate_videos if video else _evaluate_images
        evaluation = evaluate(settings, share, passes)
    if share.rank == 0:
        print_evaluation(evaluation)
        out = settings.out.expanduser()
        write_evaluation(out, evaluation)
        print(f"Look at {out / PAGE_FILE}")
    return 0


def _check(settings: Settings) -> bool:
    """Whether videos are compared.

    Raises:
        InputError: options that do not go together, or a place that is not there.
    """
    if (settings.generated is None) == (settings.weights is None):
        raise InputError("expected either a folder of generated images (or a video), or --weights that make them")
    if settings.replicates < 2:
        raise InputError(f"--replicates: expected at least 2, got {settings.replicates}")
    if settings.threads is not None and settings.threads < 1:
        raise InputError(f"--threads: expected at least 1, got {settings.threads}")
    if settings.count is not None and settings.count < 1:
        raise InputError(f"--count: expected at least 1, got {settings.count}")
    if settings.weights is None:
        refuse(
            settings, ("inputs", "inputs_half", "count", "seed", "provenance"), why="for --weights, which are not given"
        )
    if settings.training is None:
        refuse(settings, ("training_half", "usefulness"), why="for --training, which is not given")
    if settings.groups is None:
        refuse(settings, ("group_column",), why="for --groups, which is not given")
    if settings.usefulness is None:
        refuse(settings, ("usefulness_size", "usefulness_steps"), why="for --usefulness, which is not given")
    if settings.usefulness != "labels":
        refuse(settings, ("training_labels",), why="for --usefulness labels")
    if (settings.semantic.labels is None) != (settings.semantic.judge is None) and settings.usefulness != "labels":
        raise InputError("--labels and --judge go together: label maps, and a segmentation network to read images with")
    places = [place for place in (settings.generated, settings.real) if place is not None]
    videos = [_is_video(place.expanduser()) or settings.frames for place in places]
    if not any(videos):
        return False
    if not all(videos) or len(places) < 2:
        named = places[videos.index(True)]
        other = settings.weights if len(places) < 2 else places[videos.index(False)]
        raise InputError(
            f"{named} is a video, {other} is not; compare it with another video, or with --frames if that is a folder "
            "of its frames"
        )
    refuse(settings, NOT_FOR_VIDEOS, why="for images, not for videos")
    return True


def _is_video(place: Path) -> bool:
    if not place.exists():
        raise InputError(f"{place} does not exist; expected a folder of images, or a video")
    return place.is_file() and place.suffix.lower() in VIDEO_SUFFIXES


def _prepare(settings: Settings, share: Share) -> None:
    """Make the folder for the results, and empty it of those of an evaluation before."""
    out = settings.out.expanduser()
    check_writable(out)
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise InputError(f"{out} holds files that are no evaluation; give a new folder with --out")
    if share.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
        for folder in (PICTURES, *([GENERATED] if settings.weights else [])):
            shutil.rmtree(out / folder, ignore_errors=True)
    _wait(share)


def _evaluate_videos(settings: Settings, share: Share, passes: "_Passes") -> Evaluation:
    assert settings.generated is not None
    generated, real = settings.generated.expanduser(), settings.real.expanduser()
    findings = clip_findings(
        generated,
        real,
        settings=settings.pairing,
        device=_device(settings, share),
        progress=lambda done, total: passes("frames", done, total),
    )
    sets = {part: {"place": str(place)} for part, place in (("generated", generated), ("real", real))}
    return Evaluation(
        title=f"{settings.generated} beside {settings.real}", sets=sets, findings=findings, settings=_recorded(settings)
    )


def _evaluate_images(settings: Settings, share: Share, passes: "_Passes") -> Evaluation:
    describing = Describing(device=_device(settings, share), threads=settings.threads, progress=passes)
    real = _find(settings, settings.real, half=settings.real_half)
    inputs = None if settings.inputs is None else _find(settings, settings.inputs, half=settings.inputs_half)
    training = None if settings.training is None else _find(settings, settings.training, half=settings.training_half)
    groups = None if settings.groups is None else read_groups(settings.groups, column=settings.group_column)
    if settings.weights is not None:
        place = f"made by {name_model(settings.weights)}"
        generated = _make(settings, share, passes, inputs=inputs, count=settings.count or len(real))
    else:
        assert settings.generated is not None
        place = str(settings.generated)
        generated = _find(settings, settings.generated, half=settings.generated_half)

    sets = SetSettings(
        features=settings.features,
        feature_weights=settings.feature_weights,
        neighbours=settings.neighbours,
        replicates=settings.replicates,
    )
    drawn = settings.weights is not None and inputs is None
    paired, why_not = _are_pairs(settings, generated, real, drawn=drawn)
    findings = sample_findings(generated, real, inputs=inputs, paired=paired)
    findings |= set_findings(generated, real, settings=sets, describing=describing)
    if paired:
        findings |= pair_findings(
            generated, real, settings=settings.pairing, describing=describing, replicates=settings.replicates
        )
    elif why_not:
        findings |= Findings(missing={"pairs": why_not})
    if settings.semantic.judge is not None:
        findings |= label_findings(
            generated, real, settings=settings.semantic, describing=describing, replicates=settings.replicates
        )
    if training is not None:
        findings |= _training_findings(settings, generated, training, real, describing=describing)
    if groups is not None:
        findings |= group_findings(
            generated,
            real,
            groups=groups,
            pairs=settings.pairing if paired else None,
            sets=sets,
            describing=describing,
            replicates=settings.replicates,
        )
    about = {"generated": about_set(generated, place=place), "real": about_set(real, place=str(settings.real))}
    for part, images, where in (("inputs", inputs, settings.inputs), ("training", training, settings.training)):
        if images is not None:
            about[part] = about_set(images, place=str(where))
    return Evaluation(
        title=f"{settings.generated or place.removeprefix('made by ')} beside {settings.real}",
        sets=about,
        findings=findings,
        settings=_recorded(settings),
    )


def _find(settings: Settings, place: Path, *, half: Half | None) -> ImageSet:
    return ImageSet.find(place, half=half, data_range=settings.data_range)


def _make(settings: Settings, share: Share, passes: "_Passes", *, inputs: ImageSet | None, count: int) -> ImageSet:
    """The images that the weights make of the inputs, or draw."""
    assert settings.weights is not None
    loaded = i2i.load(settings.weights, device=share.device(settings.device))
    model = name_model(settings.weights)
    folder = settings.out.expanduser() / GENERATED
    folder.mkdir(exist_ok=True)
    if isinstance(loaded, Sampler):
        if inputs is not None:
            raise InputError(f"{settings.weights} draws from noise and translates nothing; leave --inputs out")
        draw_images(
            loaded,
            folder,
            count=count,
            seed=settings.seed,
            provenance=Provenance(kind="drawn", model=model) if settings.provenance else None,
            rank=share.rank,
            world_size=share.world_size,
            progress=passes,
        )
    else:
        if inputs is None:
            raise InputError(f"{settings.weights} translates images; say which with --inputs")
        refuse(settings, ("count", "seed"), why="for weights that draw from noise, and these translate")
        translate_inputs(
            loaded,
            inputs,
            folder,
            provenance=Provenance(kind="translated", model=model) if settings.provenance else None,
            rank=share.rank,
            world_size=share.world_size,
            progress=passes,
        )
    _wait(share)
    return ImageSet.find(folder, data_range=settings.data_range or loaded.spec.output.data_range)


def _are_pairs(settings: Settings, generated: ImageSet, real: ImageSet, *, drawn: bool) -> tuple[bool, str]:
    """Whether images of equal names are compared, and if that was to be expected and is not so, why."""
    match settings.pairs:
        case "on":
            return True, ""
        case "off":
            return False, ""
        case "auto":
            outputs, truths = generated.matched(real)
            if drawn or not len(outputs):
                return False, ""
            difference = size_difference(outputs, truths)
            return difference is None, difference or ""


def _training_findings(
    settings: Settings, generated: ImageSet, training: ImageSet, real: ImageSet, *, describing: Describing
) -> Findings:
    """What needs the images that the generator was trained on."""
    describers = []
    channels = len(generated.read(0))
    for name, weights in zip_longest(settings.features, settings.feature_weights):
        try:
            extractor = load_features(name, weights=weights, device=describing.device, channels=channels)
        except MissingWeights:
            continue  # set_findings has said so
        if extractor.channels in (None, channels):  # and this
            describers.append(FeatureDescriber(extractor))
    findings = memorisation_findings(
        generated,
        training,
        None if training.files == real.files else real,
        settings=MemorisationSettings(replicates=settings.replicates),
        describing=describing,
        features=describers,
    )
    useful = UsefulnessSettings(
        size_px=settings.usefulness_size, steps=settings.usefulness_steps, replicates=settings.replicates
    )
    match settings.usefulness:
        case "classes":
            findings |= class_usefulness_findings(generated, training, real, settings=useful, describing=describing)
        case "labels":
            semantic = settings.semantic
            if semantic.labels is None or settings.training_labels is None:
                raise InputError("--usefulness labels needs label maps: --labels and --training-labels")
            labels, training_labels = map(ImageSet.find, (semantic.labels, settings.training_labels))
            sets = [
                LabelledSet(images=images, labels=maps, palette=semantic.palette, first_id=semantic.first_id)
                for images, maps in ((generated, labels), (training, training_labels), (real, labels))
            ]
            findings |= label_usefulness_findings(*sets, settings=useful, describing=describing)
    return findings


def _recorded(settings: Settings) -> dict[str, object]:
    return {name: value for name, value in asdict(settings).items() if name not in WHERE_AND_HOW_FAST}


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
    """Let several processes exchange what they have found."""
    if share.world_size == 1:
        yield
        return
    torch.distributed.init_process_group("gloo")
    try:
        yield
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
