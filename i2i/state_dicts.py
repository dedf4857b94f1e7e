"""Named tensors out of weight files of any project, with nothing in them ever run."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from i2i.errors import InputError

# Where files keep their state dict, most wanted first, and what they put in front of its keys.
WRAPPERS = (
    "params_ema",
    "params-ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "netG",
    "net_g",
    "g_ema",
    "generator",
)
PREFIXES = (
    "module.",
    "_orig_mod.",
    "generator_ema.",
    "net_g_ema.",
    "netG_ema.",
    "netG.",
    "net_g.",
    "net_G.",
    "generator.",
)

# How files that torch.save writes begin: a zip archive, before PyTorch 1.6 a pickle.
ZIP = b"PK\x03\x04"
PICKLE = b"\x80"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth, .pt, .ckpt or .safetensors file, on the CPU, by name.

    They are taken out of wrappers such as "state_dict" or "params_ema", and what all names begin with, such as
    "module.", is taken off. Empty where the file holds something else.

    Raises:
        InputError: the file cannot be read, is damaged, or holds more than tensors. The message names it.
    """
    return _unwrap(_read(path))


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
        if head[8:9] == b"{":
            return safetensors.torch.load_file(path)
        if head.startswith(ZIP):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_can_be_mapped(path))
        if head.startswith(PICKLE):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the pickle's protocol, which says nothing to its user
                return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the readers fail in whatever way the damaged bytes lead them to
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(
                f"{path} holds more than tensors: reading it would run {code[1]}, which could do anything. Have "
                "`network.state_dict()` alone saved, best as .safetensors"
            ) from error
        if isinstance(error, pickle.UnpicklingError):
            raise InputError(
                f"{path} is damaged, or holds more than tensors, which could run code when read; copy it again, or "
                "have `network.state_dict()` alone saved, best as .safetensors"
            ) from error
        raise InputError(f"{path} is no weight file, or is damaged: {error}; copy it again, whole") from error
    beginning = f"begins with {head[:24]!r}" if head else "is empty"
    raise InputError(f"{path} is no weight file: it {beginning}; expected what torch.save wrote, or safetensors")


def _can_be_mapped(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise InputError(
            f"{path} is a TorchScript program, not weights alone. If you trust it, save the weights with "
            "torch.save(torch.jit.load(file).state_dict(), …) and give that file"
        )
    # torch.save does not compress, but some public files were packed anew by other programs.
    return all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def _unwrap(content: Any, *, levels: int = 3) -> dict[str, Tensor]:
    """The tensors of a state dict, out of at most `levels` wrappers, their names without prefixes."""
    if not isinstance(content, dict):
        return {}
    for name in WRAPPERS:
        if levels and (inner := _unwrap(content.get(name), levels=levels - 1)):
            return inner
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    while prefix := next((p for p in PREFIXES if any(key.startswith(p) for key in tensors)), None):
        # Names without the prefix belong to other networks of the same file.
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return tensors
