import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed import TCPStore

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
rank, folder, slow = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "slow"
while slow and not (folder / "go").exists():
    time.sleep(0.01)
with Share(rank=rank, world_size=2, local_rank=rank).beside_others("images") as wait:
    if not slow:
        (folder / f"waits{rank}").touch()
        wait()
(folder / f"left{rank}").touch()
"""


@pytest.mark.parametrize("paces", [("quick", "slow"), ("quick", "quick")])
def test_who_has_bad_news_waits_for_the_others_even_before_they_begin(tmp_path: Path, paces: tuple[str, str]) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun keeps one
    environment = {
        **os.environ,
        "TORCHELASTIC_RUN_ID": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
    }
    processes = [
        subprocess.Popen([sys.executable, "-c", WAITING, str(rank), str(tmp_path), pace], env=environment)
        for rank, pace in enumerate(paces)
    ]
    deadline = time.monotonic() + 100
    while not (tmp_path / "waits0").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if "slow" in paces:
        time.sleep(0.5)
        assert not (tmp_path / "left0").exists()
        (tmp_path / "go").touch()
    assert [process.wait(timeout=100) for process in processes] == [0, 0]


def test_a_process_alone_does_not_wait() -> None:
    with Share(rank=0, world_size=1, local_rank=0).beside_others("images") as wait:
        wait()
