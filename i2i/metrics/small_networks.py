"""Small networks that judge images: what they are made of, how they are trained on the spot, kept, and read again.

Each has the arguments that it was made with as `arguments`.
"""

import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from i2i.download import alone, cache_folder
from i2i.errors import InputError
from i2i.files import replacing

Network = TypeVar("Network", bound=nn.Module)


def convolutions(*channels: int) -> nn.Sequential:
    """3×3 convolutions from each number of channels to the next, with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def fit(
    make: Callable[[], Network],
    *,
    loss: Callable[[Network], Tensor],
    steps: int,
    learning_rate: float,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> Network:
    """Make a network and train it with AdamW. Torch's global random state is left as it was.

    Args:
        make: gives the network, by torch's global random numbers.
        loss: of the network on the next batch, whose parts are on `device`.
        steps: how many batches.
        learning_rate: the highest; it rises for a tenth of the steps and falls to 0 along a cosine.
        seed: decides initial weights and whatever is random in `loss`.
        device: where.
        progress: called after each step with the steps done and all steps.

    Returns:
        The network in evaluation mode, without gradients.
    """
    with torch.enable_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = make().to(device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
        rising = max(0.1, 2 / steps)  # or a handful of steps would leave none to rise in
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=learning_rate, total_steps=steps, pct_start=min(rising, 0.9), cycle_momentum=False
        )
        for step in range(steps):
            value = loss(network)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            if progress is not None:
                progress(step + 1, steps)
    # Laid out as one that comes from a file, whose results are the same to the last bit then.
    return network.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)


def kept(
    train: Callable[[], Network], *, load: Callable[[Path], Network], save: Callable[[Network, Path], None], path: Path
) -> Network:
    """What `train` gives, or gave before: kept in a file, which is made anew where it is damaged.

    Args:
        train: makes the network.
        load, save: read and write the file.
        path: where it is or will be; its name has to tell whatever decides what `train` gives.
    """
    with alone(path):
        if path.exists():
            try:
                return load(path)
            except InputError:  # damaged
                pass
        network = train()
        save(network, path)
    return network


def cache_path(folder: str, *key: object, code: str) -> Path:
    """The file in a folder of `i2i.download.cache_folder()` of a network that follows from a key.

    Args:
        folder: a name.
        key: everything that decides about the network, with a `repr` that tells it.
        code: `__file__` of the code that trains it, which is part of the key, as this file is.
    """
    sources = [Path(file).read_text(encoding="utf-8") for file in (__file__, code)]
    digest = hashlib.sha256(repr((sources, key)).encode()).hexdigest()[:16]
    return cache_folder() / folder / f"{digest}.safetensors"


def save_network(network: nn.Module, path: Path, *, metadata_key: str) -> None:
    """Write weights and arguments to a .safetensors file."""
    from safetensors.torch import save_file

    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={metadata_key: json.dumps(network.arguments)})


def holds_network(path: Path, *, metadata_key: str) -> bool:
    """Whether `save_network` wrote the file with that key, as far as its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return metadata_key in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_network(path: Path, kind: type[Network], *, metadata_key: str) -> Network:
    """Read what `save_network` wrote, in evaluation mode, without gradients.

    Raises:
        InputError: the file holds no network of that kind, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            arguments: dict[str, Any] = json.loads((file.metadata() or {})[metadata_key])
            network = kind(**arguments)
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError, RuntimeError) as error:
        raise InputError(f"{path}: expected a {kind.__name__.lower()} that i2i has saved: {error}") from error
    return network.eval().requires_grad_(False)
