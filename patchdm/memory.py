"""The memory of this process, where freed tensors stay for its next ones, and of the machine."""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
_KEPT, _FROM_HEAP = 2**31 - 1, 2**30
"""Free bytes at the end of the heap that are kept; the largest block that lies there."""


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors, up to the most that was ever in use.

    glibc returns it to the system, which clears every page again before the next tensor may use it:
    a fifth of a training step of the demo. Without glibc nothing happens, nor where the environment
    sets its allocator.
    """
    ours = platform.libc_ver()[0] == "glibc" and not any(
        name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "glibc.malloc" in value)
        for name, value in os.environ.items()
    )
    if ours:
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _FROM_HEAP)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)


def return_freed_memory() -> None:
    """Return the memory of freed tensors to the system after all; without glibc nothing happens."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def total_memory() -> float | None:
    """Return the bytes that the machine has in all; None: it does not say, as Windows."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError):
        return None
