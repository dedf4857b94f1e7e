"""What the tests need two processes for; torchrun starts this file twice. See conftest.py.

torchrun --standalone --nproc_per_node 2 toy_jobs.py {all,killed} FOLDER
"""

import atexit
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import Dataset
from toy_methods import TOYS, Ring, digest, go_through, train_toy
from toy_numbers import BATCHES, Noisy, Styled, double_pix2pix, trained

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.data.sampler import Draw
from i2i.discriminators import PatchDiscriminator
from i2i.generators import ResNetGenerator
from i2i.methods.pix2pix import Pix2Pix
from i2i.training.config import TrainingSettings
from i2i.training.loop import RunResult, train
from i2i.training.report import RunFacts

ACCUMULATIONS, PRECISIONS = (1, 2), ("fp32", "bf16")


class TwoProcesses(NamedTuple):
    """What each process found, by rank, and the folder of its runs."""

    found: list[dict[str, Any]]
    folder: Path


class Pictures(Dataset[dict[str, Tensor]]):
    """Ten pictures, and the order in which this process drew them."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.kill_after = kill_after
        self.draws: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        index = draw if isinstance(draw, int) else draw.index
        if isinstance(draw, Draw):
            self.draws.append((draw.index, draw.seed))
            if len(self.draws) == self.kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
        picture = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(index)) * 2 - 1
        return {"input": picture, "target": -picture}


def train_pictures(out: Path, data: Pictures, *, steps: int = 15) -> tuple[RunResult, Pix2Pix]:
    """A pix2pix with BatchNorm, dropout and an average of weights, measured by all that needs no weights."""
    torch.manual_seed(0)
    method = Pix2Pix(
        generator=ResNetGenerator(in_channels=1, out_channels=1, width=2, blocks=1, norm="batch", dropout=True),
        discriminator=PatchDiscriminator(in_channels=2, width=2, layers=1),
    )
    image = ImageSide(channels=1, dtype="float32", data_range=(-1, 1))
    with patch("i2i.training.loop.write_report"), patch("i2i.training.record.write_report"):
        result = train(
            method=method,
            training_data=data,
            validation_data=Pictures(),
            specs={"generator": GeneratorSpec(input=image, output=image)},
            settings=TrainingSettings(
                steps=steps,
                ema_decay=0.9,
                save_every_steps=4,
                validate_every_steps=10,
                metrics=("fid", "kid", "precision", "coverage", "swd", "variety"),
                features="pixels",
                best_metric="l1",
                workers=0,
                device="cpu",
            ),
            out=out,
            facts=RunFacts(title="pictures", about="", settings={}, fingerprint=""),
        )
    return result, method


def written_below(folder: Path) -> list[str]:
    """A list that gains every path below `folder` that this process writes to from now on."""
    paths: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
        if event == "open":
            writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and str(arguments[0]).startswith(str(folder)):
            paths.append(str(arguments[0]))

    sys.addaudithook(note)
    return paths


def all_jobs(folder: Path) -> dict[str, Any]:
    state = PartialState(cpu=True)
    written = written_below(folder)
    data = Pictures()
    result, method = train_pictures(folder / "whole", data)
    whole = digest(method)
    _, resumed = train_pictures(folder / "killed", Pictures())
    noisy = Noisy()
    trained(noisy, BATCHES)
    found: dict[str, Any] = {
        "world size": torch.distributed.get_world_size(),
        "draws": data.draws,
        "digest": whole,
        "resumed digest": digest(resumed),
        "metrics": result.metrics,
        "noise": noisy.noise,
        "contract": {
            (toy, accumulation, precision): go_through(
                toy,
                folder / f"{toy}-{accumulation}-{precision}",
                resume=precision == "fp32" and accumulation == 2,
                accumulation=accumulation,
                precision=precision,
            )
            for toy, accumulation, precision in itertools.product(TOYS, ACCUMULATIONS, PRECISIONS)
        },
        "held out": {
            count: train_toy(
                "pool", folder / f"held-out-{count}", validation_data=Ring(count), batch_size=2, trackers=trackers
            )[0].metrics
            for count, trackers in ((7, ()), (1, ("tensorboard",)))
        },
        # Each process sees its own half of every batch.
        "halves": {
            accumulation: trained(
                double_pix2pix(),
                [half for x in BATCHES for half in x.chunk(2)[state.process_index].chunk(accumulation)],
                accumulation=accumulation,
            )
            for accumulation in ACCUMULATIONS
        },
        "styled halves": {
            accumulation: trained(
                Styled(),
                [half for x in BATCHES for half in x.chunk(2)[state.process_index].chunk(accumulation)],
                accumulation=accumulation,
            )
            for accumulation in ACCUMULATIONS
        },
        "written": written,
    }
    return found


def threads() -> list[str]:
    """The names of this process's threads, as Linux knows them."""
    return [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    torch.set_num_threads(1)
    job, folder = sys.argv[1], Path(sys.argv[2])
    rank = int(os.environ["RANK"])
    if job == "killed":
        train_pictures(folder / "killed", Pictures(kill_after=10 if rank == 1 else None))
    else:
        # What is registered first is called last, after all that training leaves to the exit.
        atexit.register(lambda: (folder / f"exit{rank}.txt").write_text("\n".join(threads())))
        found = all_jobs(folder)
        torch.save(found, folder / f"rank{rank}.pt")
