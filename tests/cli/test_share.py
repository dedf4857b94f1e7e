import subprocess
import sys
import time
from pathlib import Path

import pytest

from i2i.cli.share import Share, find_share
from i2i.errors import InputError


def test_without_a_launcher_there_is_one_process() -> None:
    share = find_share({"PATH": "/bin"})
    assert share == Share(rank=0, world_size=1, local_rank=0)
    assert share.of([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 21])
def test_the_shares_are_all_of_it_and_do_not_overlap(world_size: int, count: int) -> None:
    items = list(range(count))
    environments = [{"RANK": str(rank), "WORLD_SIZE": str(world_size)} for rank in range(world_size)]
    shares = [find_share(environment).of(items) for environment in environments]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK is -1"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE is 0"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "2", "RANK": ""}, "RANK is ''"),
        ({"RANK": "1"}, "RANK is 1"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "-1"}, "LOCAL_RANK -1"),
    ],
)
def test_odd_values_are_told(environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_share(environment)


def test_devices_go_round(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    shares = [Share(rank=rank, world_size=4, local_rank=rank) for rank in range(4)]
    for device in ("auto", "cuda"):
        assert [share.device(device) for share in shares] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [share.device("cuda:1") for share in shares] == ["cuda:1"] * 4
    assert [share.device("cpu") for share in shares] == ["cpu"] * 4
    assert Share(rank=0, world_size=1, local_rank=0).device("auto") == "auto"


WAITING = """
import sys, time
from pathlib import Path
from i2i.cli.share import Share
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
with Share(rank=rank, world_size=2, local_rank=rank).beside_others(folder / "images") as wait:
    (folder / f"begun{rank}").touch()
    if rank == 0:
        while not (folder / "go").exists():
            time.sleep(0.01)
    else:
        wait()
(folder / f"left{rank}").touch()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
@pytest.mark.parametrize("end", ["finishes", "is killed"])
def test_one_waits_for_the_other(tmp_path: Path, end: str) -> None:
    (tmp_path / "images").mkdir()

    def wait_for(name: str) -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / name).exists():
            assert time.monotonic() < deadline, f"no {name}"
            time.sleep(0.01)

    processes = []
    for rank in range(2):
        processes.append(subprocess.Popen([sys.executable, "-c", WAITING, str(rank), str(tmp_path)]))
        wait_for(f"begun{rank}")
    time.sleep(0.3)
    assert not (tmp_path / "left1").exists()
    if end == "finishes":
        (tmp_path / "go").touch()
    else:
        processes[0].kill()
    wait_for("left1")
    assert processes[1].wait(timeout=60) == 0
    processes[0].wait(timeout=60)


def test_a_process_alone_does_not_wait(tmp_path: Path) -> None:
    with Share(rank=0, world_size=1, local_rank=0).beside_others(tmp_path / "missing") as wait:
        wait()
