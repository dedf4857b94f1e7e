"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture
def data_dir() -> Path:
    """The folder with real photographs and reference weights; such tests skip where it is not at hand."""
    folder = os.environ.get("I2I_DATA")
    if not folder:
        pytest.skip("I2I_DATA is not set: it points to the folder with real data and golden outputs")
    return Path(folder)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
