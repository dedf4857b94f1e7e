"""Measure what a generator costs on this machine: latency, best batch, peak memory, parameters and operations.

    i2i profile --weights runs/facades
    i2i profile --weights RealESRGAN_x4plus --sizes 256 720x1280 --precisions fp16 --device cuda --out profile.json
    i2i profile --weights runs/dcgan --batch-sizes 1 8 64

Each line is of the network alone, on inputs that lie on its device, or of a whole call, from arrays in memory to arrays
in memory. All passes take turns, so that what else the machine does meets all alike; nothing else should run meanwhile.
Ctrl-C ends what is going on, and what is known by then is printed and written; before any figure there is nothing.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import DisallowNone, UseAppendAction

from i2i.cli.overrides import parse_overrides
from i2i.errors import InputError
from i2i.files import replacing
from i2i.inference.profile import (
    INTERRUPTED,
    FixedPrecision,
    Profile,
    facts_in_words,
    notes_in_words,
    rows_in_words,
)
from i2i.inference.profiling import Size, Subject, profile


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and how.

    Args:
        weights: a generator's folder, a weight file of i2i or of another project, a name that `i2i weights` lists, or
            the id of a generator on the Hugging Face Hub.
        sizes: of the images that go in: a side in pixels, or height x width, 720x1280. 256 and 512 unless given, or the
            only size that the network takes; generators that draw from noise have their own.
        precisions: of the computation.
        batch_sizes: those to measure; unless given, 1 and the fastest of 2, 4, 8 … until more gain nothing, or memory
            is short. The best one is named.
        device: cpu, cuda, cuda:1, mps …; auto takes an accelerator if there is one.
        threads: cores that a CPU may use; all unless given.
        seconds: for the readings, once the best batch is found; the percentiles of slow networks need more. Each is
            read three times, however long that takes.
        out: a file for all figures as JSON, which `i2i card --profile` takes.
        json: print JSON in place of a table.
        set: name=value for what a weight file cannot tell; `i2i inspect FILE` lists such names.
    """

    weights: str
    sizes: tuple[str, ...] = ()
    precisions: tuple[FixedPrecision, ...] = ("fp32", "bf16")
    batch_sizes: tuple[int, ...] = ()
    device: str = "auto"
    threads: DisallowNone[int | None] = None
    seconds: float = 60.0
    out: DisallowNone[Path | None] = None
    json: bool = False
    set: UseAppendAction[tuple[str, ...]] = ()


def main(settings: Settings) -> int:
    """Measure as the settings say, and print a table.

    Returns:
        The exit code: 0; 130 when interrupted.

    Raises:
        InputError: the settings cannot be, or nothing could be measured.
        OSError: the file cannot be written.
    """
    if settings.out is not None:
        _check_replaceable(settings.out)
    if not settings.precisions:
        raise InputError("--precisions: expected at least one of fp32, bf16, fp16")
    if settings.threads is not None:
        import torch

        if settings.threads < 1:
            raise InputError(f"--threads: expected at least 1, got {settings.threads}")
        torch.set_num_threads(settings.threads)
    found = profile(
        Subject(weights=settings.weights, device=settings.device, overrides=parse_overrides(settings.set)),
        sizes=[_size(text) for text in settings.sizes] or None,
        precisions=settings.precisions,
        batch_sizes=settings.batch_sizes or None,
        seconds=settings.seconds,
        say=lambda line: print(f"{line} …", file=sys.stderr, flush=True),
    )
    content = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    if settings.out is not None:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(settings.out) as temporary:
            temporary.write_text(content + "\n", encoding="utf-8")
    if settings.json:
        print(content)
    else:
        _print_tables(found)
    return 130 if INTERRUPTED in found.missing else 0


def _check_replaceable(out: Path) -> None:
    """Raise InputError where something else than a profile would be lost."""
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; expected a name for a file, such as profile.json")
    if out.exists():
        try:
            Profile.from_json(json.loads(out.read_bytes()))
        except (InputError, ValueError) as error:
            raise InputError(f"--out {out} is there, and is no profile; give another name, or remove it") from error


def _size(text: str) -> Size:
    """Of 256 or 720x1280."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if found is None:
        raise InputError(
            f"--sizes: expected a side in pixels such as 256, or height x width as in 720x1280, got {text!r}"
        )
    return int(found[1]), int(found[2] or found[1])


def _print_tables(found: Profile) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    for name, text in facts_in_words(found):
        facts.add_row(name, Text(text))
    heading, *rows = rows_in_words(found)
    table = Table(box=None, pad_edge=False)
    for title in heading:
        table.add_column(title, justify="left" if title in ("precision", "pass") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(facts, "", table, highlight=False)
    for line in notes_in_words(found):
        print(line)
