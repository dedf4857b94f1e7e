"""List well-known public weights, or download some by name.

    i2i weights
    i2i weights realesr-animevideov3
    i2i weights --verify

Downloaded once, they are used by name: i2i translate photo.png large.png --weights RealESRGAN_x4plus
"""

import json
import sys
from dataclasses import dataclass

from tyro.conf import Positional

from i2i.checkpoints.catalogue import CATALOGUE, KnownWeights, find_weights, known_weights, verify


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to list or to download.

    Attributes:
        names: weights to download, by name or as a repository "owner/name" of the Hugging Face Hub; their paths are
            printed. Without any, all that are known by name are listed.
        verify: compare downloaded files with their sha256.
        json: list as JSON.
    """

    names: Positional[tuple[str, ...]] = ()
    verify: bool = False
    json: bool = False


def main(settings: Settings) -> int:
    """Exit code 1 where a file is not what it should be."""
    for name in settings.names:
        print(find_weights(name))
    if settings.verify:
        return _verify([known for name in settings.names if (known := known_weights(name))] or list(CATALOGUE))
    if settings.json:
        print(json.dumps([_entry(known) for known in CATALOGUE], indent=2, ensure_ascii=False))
    elif not settings.names:
        _print_table()
    return 0


def _verify(wanted: list[KnownWeights]) -> int:
    there = [known for known in wanted if known.path.exists()]
    faults = [fault for known in there if (fault := verify(known))]
    print("\n".join([*faults, f"{len(there) - len(faults)} of {len(there)} downloaded files are as they should be."]))
    return 1 if faults else 0


def _entry(known: KnownWeights) -> dict[str, object]:
    return {
        "name": known.name,
        "scale": known.scale,
        "licence": known.licence,
        "about": known.about,
        "url": known.url,
        "sha256": known.sha256,
        "size_bytes": known.size_bytes,
        "path": str(known.path),
        "downloaded": known.path.exists(),
    }


def _print_table() -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column("name", no_wrap=True), "scale", "size", "licence", "here", "for", box=None)
    for known in CATALOGUE:
        size = f"{known.size_bytes / 1e6:.0f} MB" if known.size_bytes else ""
        downloaded = "yes" if known.path.exists() else ""
        table.add_row(known.name, f"x{known.scale}", size, known.licence, downloaded, known.about)
    # Whole lines for `grep` and the like.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
    console.print(f"They are kept in {CATALOGUE[0].path.parent}", soft_wrap=True, highlight=False)
