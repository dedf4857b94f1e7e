"""Translate images and videos with a trained network: a file, a folder with all below it, or a quoted pattern.

i2i translate photo.jpg photo_x4.png --weights realesr-animevideov3

i2i translate scans/ results/ --weights runs/demo --format tif

i2i translate "photos/**/*.jpg" results/ --weights latest_net_G.pth --skip-existing

i2i translate labels/ photos/ --weights runs/gaugan --style sunset.jpg --instances instances/

i2i translate street.mp4 night.mp4 --weights runs/day2night

Every result is written whole or not at all, and nothing is overwritten in place. Images carry a note that they are
synthetic, and by which model, unless --no-provenance is given; what their sources noted is not passed on. Videos keep
every frame's time, audio, subtitles, chapters and all else, and go on where they were interrupted. A file that fails
does not stop the others; the exit code is then 1. Several processes started by a launcher (torchrun, accelerate launch,
or anything that sets RANK and WORLD_SIZE) share the images, and the parts of each video.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro

import i2i
from i2i.checkpoints.identity import name_model
from i2i.cli.entry import refuse
from i2i.cli.jobs import Result, Steps, check_formats, check_large_result
from i2i.cli.overrides import parse_overrides
from i2i.cli.plan import Job, match_by_stem, plan
from i2i.cli.share import Share
from i2i.cli.video import VideoSettings, check_videos, run_all
from i2i.data.image_io import ImageFile, Provenance, read_image_file
from i2i.errors import InputError
from i2i.inference.engine import Progress
from i2i.inference.loading import expect_translator
from i2i.inference.precision import Precision
from i2i.inference.styles import AnyStyle
from i2i.inference.translator import Translator
from i2i.layers.norm import Normalisation
from i2i.video.networks import translation


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to translate, with what, and how.

    Args:
        input: an image or a video; a folder, searched with its subfolders; or a pattern in quotes, "photos/*.png".
        output: for one file a name, whose suffix decides the format, or a folder; for several a folder. A folder or
            pattern of images becomes a video where this is the name of one (with --fps), and a video becomes a folder
            of images where this is a folder (with --format).
        weights: a generator's folder, a weight file of i2i or of another project, a name that `i2i weights` lists, or
            the id of a generator on the Hugging Face Hub.
        format: of the results; that of each image unless given.
        suffix: put at the end of the results' names, such as _x4.
        skip_existing: leave out images and videos whose result is there, to go on after a break.
        device: cpu, cuda, cuda:1, mps …; auto takes an accelerator if there is one.
        precision: of the computation; auto is the fastest that is safe.
        tile_px: side of the tiles that large images are cut into; as large as memory allows unless given.
        exact: divide large images so that they give what the whole image would, up to rounding, rather than in tiles
            that fade into each other. Unless given, this is so on a CPU, and for networks whose norms look at the
            whole image.
        batch_size: how many tiles or pages of an image go through the network together.
        compile: let torch.compile make the network faster, which pays in long jobs with images of one size.
        normalisation: BatchNorm's stored statistics, or those of each image; what the weights say unless given.
        dropout: whether dropout stays on; what the weights say unless given.
        input_range: what is black and white in the units of the images: 0 4095.
        output_range: the same of the results; as for the images unless given.
        style: a photo whose style to paint label maps in, or a folder of photos that are called as the label maps are.
        seed: of a random style for all label maps, in place of a photo.
        instances: a folder of instance maps that are called as the label maps are, or for one label map a file.
        style_encoder: a file with the style encoder of a generator whose weights come without, latest_net_E.pth.
        dont_care: whether 255 in label maps stands for "don't care"; what the weights say unless given.
        instance_edges: whether the last channel of the network's label maps is for edges between instances; what the
            weights say unless given.
        first_id: of the first class in label maps; what the weights say unless given.
        provenance: note in images, where their format can, that they are synthetic, by which model and version of i2i.
        set: name=value for what a weight file cannot tell; `i2i inspect FILE` lists such names.
        video: for videos.
    """

    input: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="INPUT")]]
    output: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OUTPUT")]]
    weights: str
    format: Literal["png", "jpg", "tif", "webp", "bmp", "npy"] | None = None
    suffix: str = ""
    skip_existing: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    tile_px: int | None = None
    exact: tyro.conf.DisallowNone[bool | None] = None
    batch_size: int | None = None
    compile: bool = False
    normalisation: Normalisation | None = None
    dropout: tyro.conf.DisallowNone[bool | None] = None
    input_range: tuple[float, float] | None = None
    output_range: tuple[float, float] | None = None
    style: str | None = None
    seed: int | None = None
    instances: Path | None = None
    style_encoder: str | None = None
    dont_care: tyro.conf.DisallowNone[bool | None] = None
    instance_edges: tyro.conf.DisallowNone[bool | None] = None
    first_id: int | None = None
    provenance: bool = True
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    video: VideoSettings = VideoSettings()  # noqa: RUF009 - frozen


class Reading(NamedTuple):
    """What was read for a job: the image, and its instance map if there are any."""

    image: ImageFile
    instances: ImageFile | None


def main(settings: Settings) -> int:
    """Translate as the settings say.

    Returns:
        The exit code: 0; 1 where a file failed; 130 when interrupted.

    Raises:
        InputError: nothing could start.
        RunStopped: the disk is full or may not be written to.
    """
    if settings.batch_size is not None and settings.batch_size < 1:
        raise InputError(f"--batch-size: expected at least 1, got {settings.batch_size}")
    images, videos = plan(settings.input, settings.output, suffix=settings.suffix, image_format=settings.format)
    check_videos(videos, settings.video)
    if not images:
        refuse(
            settings,
            ("style", "seed", "instances", "style_encoder", "batch_size"),
            why="for images, of which there are none here",
        )
    return run_all(
        images,
        videos,
        prepare=lambda share: _prepare(settings, share, images),
        treat=lambda share: replace(translation(_load(settings, share)), provenance=_provenance(settings)),
        settings=settings.video,
        skip_existing=settings.skip_existing,
        done="translated",
    )


def _prepare(settings: Settings, share: Share, jobs: Sequence[Job]) -> Steps[Reading]:
    translator = _load(settings, share)
    check_formats(jobs, translator.spec)
    styles, instances = _choose_styles(settings, translator, jobs), _find_instances(settings, jobs)
    labels = translator.spec.input is not None and translator.spec.input.stored_as_ids

    def read(job: Job) -> Reading:
        image = read_image_file(job.source, labels=labels)
        beside = instances.get(job.source)
        return Reading(image, None if beside is None else read_image_file(beside, labels=True))

    def compute(job: Job, reading: Reading, progress: Progress) -> Result:
        name = str(job.source)
        check_large_result(job, reading.image, lambda corner: translator.translate_file(corner, name=name))
        file = translator.translate_file(
            reading.image,
            name=name,
            style=styles.get(job.source),
            instances=reading.instances,
            batch_size=settings.batch_size,
            progress=progress,
        )
        return Result(file, translator.work)

    return Steps(read=read, compute=compute, provenance=_provenance(settings))


def _provenance(settings: Settings) -> Provenance | None:
    return Provenance(kind="translated", model=name_model(settings.weights)) if settings.provenance else None


def _load(settings: Settings, share: Share) -> Translator:
    overrides = parse_overrides(settings.set)
    for name in overrides.keys() & {own.name for own in fields(Settings)}:
        raise InputError(f"--set {name}: give it as --{name.replace('_', '-')}")
    loaded = i2i.load(
        settings.weights,
        device=share.device(settings.device),
        precision=settings.precision,
        compile=settings.compile,
        tile_px=settings.tile_px,
        exact=settings.exact,
        normalisation=settings.normalisation,
        dropout=settings.dropout,
        input_range=settings.input_range,
        output_range=settings.output_range,
        style_encoder=settings.style_encoder,
        dont_care=settings.dont_care,
        instance_edges=settings.instance_edges,
        first_id=settings.first_id,
        **overrides,
    )
    return expect_translator(loaded)


def _choose_styles(settings: Settings, translator: Translator, jobs: Sequence[Job]) -> Mapping[Path, AnyStyle]:
    """The style of each source; none for the mean style."""
    sources = [job.source for job in jobs]
    if settings.seed is not None:
        if settings.style is not None:
            raise InputError("--style and --seed are two ways to say the same; give one of them")
        return dict.fromkeys(sources, translator.draw_style(settings.seed))
    if settings.style is None:
        return {}
    path = Path(settings.style).expanduser()
    if not path.is_dir():
        return dict.fromkeys(sources, translator.encode_style(path))
    photos = match_by_stem(jobs, path, what="photos for the style")
    translator.encode_style(photos[sources[0]])  # a network that reads no styles shall not fail for each file anew
    return photos


def _find_instances(settings: Settings, jobs: Sequence[Job]) -> Mapping[Path, Path]:
    """The instance map of each source; none for edges between classes."""
    if settings.instances is None:
        return {}
    path = settings.instances.expanduser()
    if path.is_dir():
        return match_by_stem(jobs, path, what="instance maps")
    if len(jobs) > 1:
        raise InputError(f"--instances {path}: expected a folder with an instance map for each of {len(jobs)} files")
    return {jobs[0].source: path}
