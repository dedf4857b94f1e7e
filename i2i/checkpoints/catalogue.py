"""Well-known public weights by name, and everything else that `weights` may mean: a path, or a Hub repository."""

import difflib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from i2i.checkpoints.store import CARD, CONFIG, WEIGHTS
from i2i.download import cache_folder, download, expected_sha256, record_sha256, sha256_of
from i2i.errors import InputError


@dataclass(frozen=True, kw_only=True)
class KnownWeights:
    """Weights that somebody has published.

    Attributes:
        name: what they are called here.
        url: where the file lies.
        sha256: of the file, in hexadecimal; None: nobody says.
        size_bytes: of the file; None: nobody says.
        scale: output pixels per input pixel and side.
        licence: SPDX identifier; that of the project that publishes them.
        about: what they are good for.
    """

    name: str
    url: str
    sha256: str | None = None
    size_bytes: int | None = None
    scale: int
    licence: str
    about: str

    @property
    def path(self) -> Path:
        """Where the file is kept once it has been downloaded, or may be put by hand."""
        return cache_folder() / "weights" / f"{self.name}.pth"


def find_weights(weights: str | Path) -> Path:
    """The weight file, or the generator's folder, that a person means.

    Args:
        weights: a path that exists; or the name of weights in `CATALOGUE`, in any case and with or without .pth, which
            are downloaded unless they are in the cache; or a repository "owner/name" of the Hugging Face Hub with a
            generator in our format, which is downloaded too.

    Raises:
        InputError: it is none of these, or cannot be downloaded; the message says what was looked for and what to do.
    """
    path = Path(weights)
    if path.exists():
        return path
    name = str(weights)
    if known := known_weights(name):
        return fetch(known)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and path.suffix not in (".pth", ".pt", ".ckpt", ".safetensors"):
        return _fetch_from_hub(name)
    raise InputError(
        f"{name}: there is no such file or folder, and no weights are known by that name{_near_misses(path.name)}. "
        "`i2i weights` lists the names; a repository of the Hugging Face Hub is given as owner/name"
    )


def known_weights(name: str) -> KnownWeights | None:
    """The entry of `CATALOGUE` with that name, in any case and with or without .pth."""
    wanted = name.lower().removesuffix(".pth")
    return next((known for known in CATALOGUE if known.name.lower() == wanted), None)


def fetch(known: KnownWeights) -> Path:
    """Path of the file in the cache, downloaded if it is not there.

    Raises:
        InputError: it cannot be downloaded, or is another file than was published, or than was first downloaded.
    """
    if not known.path.exists():
        expected = expected_sha256(known.path, published=known.sha256)
        download(known.url, known.path, sha256=expected, size_bytes=known.size_bytes)
        if expected is None:
            record_sha256(known.path, sha256_of(known.path))
    elif known.size_bytes not in (None, known.path.stat().st_size):
        # Not refused, for somebody may have put the same weights there, saved anew.
        print(
            f"{known.path} has {known.path.stat().st_size:,} bytes, the published file {known.size_bytes:,}: it is "
            f"another file, or damaged. Delete it, and `i2i weights {known.name}` downloads it anew.",
            file=sys.stderr,
        )
    return known.path


def verify(known: KnownWeights) -> str | None:
    """What is wrong with the file in the cache, in a sentence; None where all is well.

    It is compared with what was published or, where nobody says, with what was first downloaded.
    """
    found, expected = sha256_of(known.path), expected_sha256(known.path, published=known.sha256)
    if expected is None:  # put there by hand
        record_sha256(known.path, found)
    elif found != expected:
        return (
            f"{known.path} has sha256 {found}, expected {expected}: it is another file, or damaged. "
            f"Delete it, and `i2i weights {known.name}` downloads it anew."
        )
    return None


def _near_misses(name: str) -> str:
    wanted = name.lower().removesuffix(".pth")
    names = {known.name.lower(): known.name for known in CATALOGUE}
    near = [key for key in names if len(wanted) > 2 and wanted in key]
    near += difflib.get_close_matches(wanted, names, n=3)
    listed = list(dict.fromkeys(names[key] for key in near))[:3]
    return f" (did you mean {' or '.join(listed)}?)" if listed else ""


def _fetch_from_hub(repository: str) -> Path:
    """Folder of the generator in a repository of the Hub, in that library's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    start = f"{repository}: there is no such file or folder, and"
    try:
        folder = Path(snapshot_download(repository, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except GatedRepoError as error:
        raise InputError(
            f"{start} the Hugging Face Hub gives that repository only to people it has admitted: ask for access on its "
            "page, then log in with `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"{start} no such repository on the Hugging Face Hub; correct the name, or log in with `hf auth login` if "
            "it is private"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{start} the Hugging Face Hub cannot be reached. Without a connection, fetch {WEIGHTS} and {CONFIG} of "
            "that repository elsewhere, and give the folder that you put them in"
        ) from error
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).exists()]
    if missing:
        raise InputError(
            f"{start} the repository of that name on the Hugging Face Hub holds no generator of i2i: it lacks "
            f"{' and '.join(missing)}"
        )
    return folder


_REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_CYCLEGAN = "https://efrosgans.eecs.berkeley.edu/cyclegan/pretrained_models"
_PIX2PIX = "https://efrosgans.eecs.berkeley.edu/pix2pix/models-pytorch"


def _cyclegan(name: str, about: str) -> KnownWeights:
    return KnownWeights(
        name=f"cyclegan_{name}", url=f"{_CYCLEGAN}/{name}.pth", scale=1, licence="BSD-2-Clause", about=about
    )


def _pix2pix(name: str, about: str) -> KnownWeights:
    return KnownWeights(
        name=f"pix2pix_{name}", url=f"{_PIX2PIX}/{name}.pth", scale=1, licence="BSD-2-Clause", about=about
    )


CATALOGUE: tuple[KnownWeights, ...] = (
    KnownWeights(
        name="RealESRGAN_x4plus",
        url=f"{_REAL_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",
        sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        size_bytes=67_040_989,
        scale=4,
        licence="BSD-3-Clause",
        about="photographs with noise and compression, crisp",
    ),
    KnownWeights(
        name="RealESRNet_x4plus",
        url=f"{_REAL_ESRGAN}/v0.1.1/RealESRNet_x4plus.pth",
        sha256="a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
        size_bytes=67_040_989,
        scale=4,
        licence="BSD-3-Clause",
        about="photographs with noise and compression, smooth: nothing invented",
    ),
    KnownWeights(
        name="RealESRGAN_x2plus",
        url=f"{_REAL_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        size_bytes=67_061_725,
        scale=2,
        licence="BSD-3-Clause",
        about="photographs with noise and compression, at twice the size",
    ),
    KnownWeights(
        name="RealESRGAN_x4plus_anime_6B",
        url=f"{_REAL_ESRGAN}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
        sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        size_bytes=17_938_799,
        scale=4,
        licence="BSD-3-Clause",
        about="drawings and anime stills",
    ),
    KnownWeights(
        name="realesr-animevideov3",
        url=f"{_REAL_ESRGAN}/v0.2.5.0/realesr-animevideov3.pth",
        sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        size_bytes=2_504_012,
        scale=4,
        licence="BSD-3-Clause",
        about="anime video: small and fast",
    ),
    KnownWeights(
        name="realesr-general-x4v3",
        url=f"{_REAL_ESRGAN}/v0.2.5.0/realesr-general-x4v3.pth",
        sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        size_bytes=4_885_111,
        scale=4,
        licence="BSD-3-Clause",
        about="photographs and video: small and fast, removes noise",
    ),
    KnownWeights(
        name="realesr-general-wdn-x4v3",
        url=f"{_REAL_ESRGAN}/v0.2.5.0/realesr-general-wdn-x4v3.pth",
        sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        size_bytes=4_885_111,
        scale=4,
        licence="BSD-3-Clause",
        about="the twin of realesr-general-x4v3 that leaves noise in",
    ),
    KnownWeights(
        name="RRDB_ESRGAN_x4",
        url="https://github.com/cszn/KAIR/releases/download/v1.0/ESRGAN.pth",
        sha256="65fece06e1ccb48853242aa972bdf00ad07a7dd8938d2dcbdf4221b59f6372ce",
        size_bytes=66_929_193,
        scale=4,
        licence="Apache-2.0",
        about="clean images reduced by bicubic resampling, crisp (ESRGAN)",
    ),
    KnownWeights(
        name="RRDB_PSNR_x4",
        url="https://drive.usercontent.google.com/download?id=1pJ_T-V1dpb1ewoEra1TGSWl5e6H7M4NN&export=download&confirm=t",
        sha256="f372b59f22929e1bc83fa58d78215c96f976de3b2eaeee736da1b348913da6cc",
        scale=4,
        licence="Apache-2.0",
        about="clean images reduced by bicubic resampling, smooth: best PSNR",
    ),
    _cyclegan("horse2zebra", "horses → zebras"),
    _cyclegan("zebra2horse", "zebras → horses"),
    _cyclegan("apple2orange", "apples → oranges"),
    _cyclegan("orange2apple", "oranges → apples"),
    _cyclegan("summer2winter_yosemite", "landscapes in summer → in winter"),
    _cyclegan("winter2summer_yosemite", "landscapes in winter → in summer"),
    _cyclegan("monet2photo", "paintings by Monet → photographs"),
    _cyclegan("style_monet", "photographs → paintings by Monet"),
    _cyclegan("style_cezanne", "photographs → paintings by Cézanne"),
    _cyclegan("style_ukiyoe", "photographs → ukiyo-e prints"),
    _cyclegan("style_vangogh", "photographs → paintings by Van Gogh"),
    _cyclegan("sat2map", "aerial photographs → maps"),
    _cyclegan("map2sat", "maps → aerial photographs"),
    _cyclegan("cityscapes_photo2label", "street photographs → class colours"),
    _cyclegan("cityscapes_label2photo", "class colours → street photographs"),
    _cyclegan("facades_photo2label", "photographs of facades → class colours"),
    _cyclegan("facades_label2photo", "class colours → photographs of facades"),
    _cyclegan("iphone2dslr_flower", "flowers by a telephone → with a shallow depth of field"),
    _pix2pix("edges2shoes", "drawn edges → shoes"),
    _pix2pix("sat2map", "aerial photographs → maps"),
    _pix2pix("map2sat", "maps → aerial photographs"),
    _pix2pix("facades_label2photo", "class colours → photographs of facades"),
    _pix2pix("day2night", "photographs by day → by night"),
)
