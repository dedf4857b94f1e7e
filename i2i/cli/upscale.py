"""Enlarge images and videos with a super-resolution network: a file, a folder with all below it, a quoted pattern.

i2i upscale photo.jpg photo_x4.png --weights RealESRGAN_x4plus

i2i upscale film.mp4 film_x4.mp4 --weights realesr-animevideov3

i2i upscale photos/ results/ --weights RealESRGAN_x4plus --scale 3.5 --colour-fix

i2i upscale -i inputs -o results -n realesr-general-x4v3 -s 2 -dn 0.5

Depth, grey, transparency and colour profile are kept, and images carry a note that a network enlarged them, and which
one, unless --no-provenance is given; in videos every frame's time, audio, subtitles, chapters and all
else. Every result is written whole or not at all, and no source is overwritten. A video that was interrupted goes on
where it stopped. A file that fails does not stop the others; the exit code is then 1. Several processes started by a
launcher share the images, and the parts of each video.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import DisallowNone, Positional, UseAppendAction, arg

import i2i
from i2i.checkpoints.blend import blend
from i2i.checkpoints.catalogue import find_weights
from i2i.checkpoints.foreign import Checkpoint, open_checkpoint
from i2i.checkpoints.identity import name_model
from i2i.cli.entry import refuse
from i2i.cli.jobs import Result, Steps, check_formats, check_large_result
from i2i.cli.overrides import parse_overrides
from i2i.cli.plan import Job, plan
from i2i.cli.share import Share
from i2i.cli.video import VideoSettings, check_videos, run_all
from i2i.data.image_io import ImageFile, Provenance, read_image_file
from i2i.errors import InputError
from i2i.inference.engine import SMALLEST_TILE_PX, Progress
from i2i.inference.precision import Precision
from i2i.inference.upscale import Upscaler
from i2i.video.networks import upscaling

DENOISER, NOISE_KEEPER = "realesr-general-x4v3", "realesr-general-wdn-x4v3"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to enlarge, with what, and how.

    Args:
        input: an image or a video; a folder, searched with its subfolders; or a pattern in quotes, "photos/*.png".
        output: for one file a name, whose suffix decides the format, or a folder; for several a folder. A folder or
            pattern of images becomes a video where this is the name of one (with --fps), and a video becomes a folder
            of images where this is a folder (with --format).
        input_option: INPUT, in another way.
        output_option: OUTPUT, in another way.
        weights: a name that `i2i weights` lists, a weight file of i2i or of another project, a generator's folder, or
            the id of a generator on the Hugging Face Hub.
        scale: how many times larger results are; the network's scale unless given. Another one is reached by resizing
            what the network returns.
        format: of the results; that of each image unless given.
        suffix: put at the end of the results' names, such as _x4.
        skip_existing: leave out images and videos whose result is there, to go on after a break.
        alpha_upsampler: what enlarges transparency: the network, for crisp edges, or bicubic interpolation, for smoke,
            leaves and the like; auto decides for each image. realesrgan means network.
        colour_fix: give large areas the colours of the image, where the network shifts them; what is finer than some
            8 px of the image stays the network's.
        denoise: from 0, noise is left in, to 1, the weights as they are: blends realesr-general-x4v3 with its twin
            realesr-general-wdn-x4v3, or any weights with those of --denoise-weights.
        denoise_weights: of a network that leaves noise in, of the same kind as that of the weights.
        ensemble: mean over the image turned four ways and mirrored, which is a little better and takes eight times as
            long.
        tile: side of the tiles that large images are cut into; auto (or 0) is as large as memory allows.
        exact: divide large images so that they give what the whole image would, up to rounding, rather than in tiles
            that fade into each other. Unless given, this is so on a CPU.
        device: cpu, cuda, cuda:1, mps …; auto takes an accelerator if there is one.
        precision: of the computation; auto is the fastest that is safe.
        fp32: the same as --precision fp32.
        compile: let torch.compile make the network faster, which pays in long jobs with images of one size.
        input_range: what is black and white in the units of the images: 0 4095.
        tile_pad: without effect: tiles overlap by what the network sees.
        pre_pad: without effect: images are mirrored at their borders.
        provenance: note in images, where their format can, that they are synthetic, by which model and version of i2i.
        set: name=value for what a weight file cannot tell; `i2i inspect FILE` lists such names.
        video: for videos.
    """

    input: Positional[Annotated[str | None, arg(metavar="INPUT")]] = None
    output: Positional[Annotated[str | None, arg(metavar="OUTPUT")]] = None
    input_option: Annotated[DisallowNone[str | None], arg(name="input", aliases=("-i",))] = None
    output_option: Annotated[DisallowNone[str | None], arg(name="output", aliases=("-o",))] = None
    weights: Annotated[str, arg(aliases=("-n", "--model-name", "--model-path"))]
    scale: Annotated[DisallowNone[float | None], arg(aliases=("-s", "--outscale"))] = None
    format: Annotated[Literal["auto", "png", "jpg", "tif", "webp", "bmp", "npy"], arg(aliases=("--ext",))] = "auto"
    suffix: str = ""
    skip_existing: bool = False
    alpha_upsampler: Literal["auto", "network", "bicubic", "realesrgan"] = "auto"
    colour_fix: bool = False
    denoise: Annotated[DisallowNone[float | None], arg(aliases=("-dn", "--denoise-strength"))] = None
    denoise_weights: DisallowNone[str | None] = None
    ensemble: bool = False
    tile: Annotated[Literal["auto"] | int, arg(aliases=("-t",))] = "auto"
    exact: DisallowNone[bool | None] = None
    device: str = "auto"
    precision: Precision = "auto"
    fp32: bool = False
    compile: bool = False
    input_range: DisallowNone[tuple[float, float] | None] = None
    tile_pad: DisallowNone[int | None] = None
    pre_pad: DisallowNone[int | None] = None
    provenance: bool = True
    set: UseAppendAction[tuple[str, ...]] = ()
    video: VideoSettings = VideoSettings()  # noqa: RUF009 - frozen


def main(settings: Settings) -> int:
    """Enlarge as the settings say.

    Returns:
        The exit code: 0; 1 where a file failed; 130 when interrupted.

    Raises:
        InputError: nothing could start.
        RunStopped: the disk is full or may not be written to.
    """
    source = _one_of(settings.input, settings.input_option, name="INPUT", flag="-i")
    target = _one_of(settings.output, settings.output_option, name="OUTPUT", flag="-o")
    image_format = None if settings.format == "auto" else settings.format
    images, videos = plan(source, target, suffix=settings.suffix, image_format=image_format)
    check_videos(videos, settings.video)
    if not images:
        refuse(settings, ("alpha_upsampler",), why="for images, of which there are none here")
    return run_all(
        images,
        videos,
        prepare=lambda share: _prepare(settings, share, images),
        treat=lambda share: replace(upscaling(_load(settings, share)), provenance=_provenance(settings)),
        settings=settings.video,
        skip_existing=settings.skip_existing,
        done="upscaled",
    )


def _one_of(positional: str | None, option: str | None, *, name: str, flag: str) -> str:
    if positional is not None and option is not None:
        raise InputError(f"{name} is given twice, as {positional} and as {flag} {option}; give it once")
    given = option if positional is None else positional
    if given is None:
        raise InputError(f"{name} is missing: expected i2i upscale INPUT OUTPUT, or -i INPUT -o OUTPUT")
    return given


def _prepare(settings: Settings, share: Share, jobs: Sequence[Job]) -> Steps[ImageFile]:
    upscaler = _load(settings, share)
    check_formats(jobs, upscaler.translator.spec)

    def compute(job: Job, image: ImageFile, progress: Progress) -> Result:
        name = str(job.source)
        check_large_result(job, image, lambda corner: upscaler.upscale_file(corner, name=name))
        file = upscaler.upscale_file(image, name=name, progress=progress)
        return Result(file, upscaler.work)

    return Steps(read=lambda job: read_image_file(job.source), compute=compute, provenance=_provenance(settings))


def _provenance(settings: Settings) -> Provenance | None:
    if not settings.provenance:
        return None
    model = name_model(settings.weights)
    if settings.denoise is not None:
        twin = settings.denoise_weights or _find_twin(settings.weights)
        model = f"{settings.denoise:g} · {model} + {1 - settings.denoise:g} · {name_model(twin)}"
    return Provenance(kind="enlarged", model=model)


def _load(settings: Settings, share: Share) -> Upscaler:
    for name, value in (("--tile-pad", settings.tile_pad), ("--pre-pad", settings.pre_pad)):
        if value is not None:
            print(f"{name} is not needed: what tiles and borders need is known from the network.", file=sys.stderr)
    if isinstance(settings.tile, int) and settings.tile != 0 and settings.tile < SMALLEST_TILE_PX:
        raise InputError(f"--tile: expected auto, or a side of at least {SMALLEST_TILE_PX} px, got {settings.tile}")
    translator = i2i.load(
        _open_weights(settings),
        device=share.device(settings.device),
        precision="fp32" if settings.fp32 else settings.precision,
        compile=settings.compile,
        tile_px=None if settings.tile == "auto" or settings.tile == 0 else settings.tile,
        exact=settings.exact,
        input_range=settings.input_range,
    )
    return Upscaler(
        translator,
        scale=settings.scale,
        alpha_upsampler="network" if settings.alpha_upsampler == "realesrgan" else settings.alpha_upsampler,
        colour_fix=settings.colour_fix,
        ensemble=settings.ensemble,
    )


def _open_weights(settings: Settings) -> Checkpoint:
    overrides = parse_overrides(settings.set)
    checkpoint = open_checkpoint(find_weights(settings.weights), **overrides)
    if settings.denoise is None:
        if settings.denoise_weights is not None:
            raise InputError("--denoise-weights: say with --denoise how much noise is to be removed, from 0 to 1")
        return checkpoint
    if not 0 <= settings.denoise <= 1:
        raise InputError(f"--denoise: expected a number from 0 (noise is left in) to 1, got {settings.denoise:g}")
    twin = settings.denoise_weights or _find_twin(settings.weights)
    return blend(open_checkpoint(find_weights(twin), **overrides), checkpoint, alpha=settings.denoise)


def _find_twin(weights: str) -> str | Path:
    """The network beside these weights, or known by name, that leaves noise in."""
    path = Path(weights)
    if path.name.removesuffix(".pth") != DENOISER:
        raise InputError(
            f"--denoise: no twin of {weights} that leaves noise in is known; give it with --denoise-weights, or use "
            f"--weights {DENOISER}"
        )
    beside = path.with_name(f"{NOISE_KEEPER}.pth")
    return beside if beside.exists() else NOISE_KEEPER
