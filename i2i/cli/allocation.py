"""How memory that is free again is kept."""

import ctypes
import platform

# glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MEBIBYTE = 2**20


def keep_freed_memory() -> None:
    """Let each frame have the memory of the one before, on Linux with glibc; elsewhere nothing changes.

    By itself glibc gives maps as large as a network's back to the system, which then has to empty tens of thousands of
    pages for every frame; and it keeps a store for each thread, so that memory grows until all of them have held the
    largest maps. To be called before torch is imported, whose threads have stores already.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 32 * _MEBIBYTE)  # the most that it takes
    libc.mallopt(_M_TRIM_THRESHOLD, 1024 * _MEBIBYTE)
    libc.mallopt(_M_ARENA_MAX, 1)
