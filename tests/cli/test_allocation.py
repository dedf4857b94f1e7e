"""Whether memory is really kept: the system counts the pages that it had to hand out."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, threading
from i2i.cli.allocation import keep_freed_memory

if {kept}:
    keep_freed_memory()

import torch

def work():
    for _ in range(100):
        torch.ones(20 * 2**20, dtype=torch.uint8)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work_in_a_thread():
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

# The heap grows at first, in the second thread sometimes, too.
for _ in range(3):
    work_in_a_thread()
before = faults()
work_in_a_thread()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told anything")
def test_the_same_pages_are_used_again() -> None:
    def faults(kept: bool) -> int:
        done = subprocess.run(
            [sys.executable, "-c", COUNT.format(kept=kept)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert 2 * faults(True) < faults(False)
