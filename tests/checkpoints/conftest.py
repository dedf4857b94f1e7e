"""What every kind of weight file is tried with."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from i2i.checkpoints import load_network
from i2i.errors import InputError


@pytest.fixture
def refuses_damage(tmp_path: Path) -> Callable[[dict[str, Tensor]], None]:
    """Checks that no tensor of a file can be missing or misshapen."""
    file = tmp_path / "net.pth"

    def check(whole: dict[str, Tensor]) -> None:
        for key in whole:
            if key.endswith("num_batches_tracked"):
                continue
            torch.save({k: v for k, v in whole.items() if k != key}, file)
            with pytest.raises(InputError, match=r"net\.pth"):
                load_network(file)
            torch.save(whole | {key: torch.ones(3, 1, 7)}, file)
            with pytest.raises(InputError, match=r"net\.pth"):
                load_network(file)

    return check
