"""How much memory there is, and whether an error says that there was not enough."""

from pathlib import Path

import psutil
import torch

# Of the memory that is free, other programs and the work around the network need some as well.
SHARE = 0.6
# On a CPU larger pieces are no faster; whoever runs a job beside others is glad of the rest.
CPU_LIMIT_BYTES = 1536 * 2**20


def working_budget(device: torch.device) -> int:
    """Bytes that one pass of a network may take on `device`."""
    match device.type:
        case "cpu":
            return min(int(SHARE * available_bytes()), CPU_LIMIT_BYTES)
        case "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return int(SHARE * (free + unused))
        case "mps":
            free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
            return int(SHARE * max(free, 0))
        case _:
            return CPU_LIMIT_BYTES


def available_bytes() -> int:
    """Bytes of host memory that a program can still have, within the limit of its container."""
    available = psutil.virtual_memory().available
    try:  # a container's limit, where there is one, on Linux
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text()
    except OSError:
        return available
    return available if limit == "max" else min(available, max(int(limit) - int(used), 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU and Apple's GPUs say it in words alone.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
