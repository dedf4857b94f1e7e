"""Starts the two processes that several files here ask about."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy_jobs import TwoProcesses


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The networks here are so small that threads only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> TwoProcesses:
    """One run is killed in one launch, and resumed beside all else in a second one."""
    folder = tmp_path_factory.mktemp("two_processes")
    killed = launch("killed", folder)
    assert killed.returncode != 0 and "Signal 9" in killed.stderr, killed.stderr
    done = launch("all", folder)
    assert done.returncode == 0, done.stderr
    return TwoProcesses([torch.load(folder / f"rank{rank}.pt") for rank in range(2)], folder)


def launch(job: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
            *(str(Path(__file__).with_name("toy_jobs.py")), job, str(folder)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
