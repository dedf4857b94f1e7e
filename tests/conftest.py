"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

# Shells let jobs in their background ignore Ctrl-C, and all processes that a job starts would do so, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the data is said to be at hand, a test that needs it and skips has failed."""
    report = yield
    if report.skipped and os.environ.get("I2I_DATA") and item.get_closest_marker("data"):
        report.outcome = "failed"
        report.longrepr = f"skipped although I2I_DATA is set: {report.longrepr}"
    return report
