"""What to call a model where nobody sees its file: by its name, and by what tells its weights from all others."""

from pathlib import Path

from i2i.checkpoints.catalogue import find_weights
from i2i.checkpoints.store import CONFIG, WEIGHTS, find_generator
from i2i.download import sha256_of

RUN = "run.json"  # of the folder that training writes
SHOWN_DIGITS = 12


def name_model(weights: str | Path) -> str:
    """Name and fingerprint of weights: "facades/generator (sha256 3f1c8e0b5a92)", a line of text.

    The name is that of the file, of the generator's folder (below its run's), or the one that the weights are known
    by. Where they lie on this machine is not told. The digits are the first ones that `sha256sum` prints for the file
    of the weights.

    Args:
        weights: as `i2i.load` takes them, but for a checkpoint.

    Raises:
        InputError: there are no such weights.
    """
    path = find_weights(weights)
    file = find_generator(path) / WEIGHTS if path.is_dir() else path
    name = _name(file) if Path(weights).exists() else str(weights)
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return f"{plain} (sha256 {sha256_of(file)[:SHOWN_DIGITS]})"


def _name(file: Path) -> str:
    if file.name != WEIGHTS or not (file.parent / CONFIG).exists():
        return file.name
    folder = file.parent.resolve()
    run = next((above for above in folder.parents[:2] if (above / RUN).exists()), folder)
    return str(folder.relative_to(run.parent))
