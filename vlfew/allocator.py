"""Memory that a CPU's steps can use again: asking the system for new pages is dear.

A step on a CPU takes and gives back gigabytes. By default glibc hands large pieces back to the system, which
must clear a page of 4 KiB for each that is touched anew: up to a third of a step went there.
"""

from __future__ import annotations

import ctypes
import os

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch's own switch: its large tensors ask for pages of 2 MiB (`madvise`). Read at its first allocation."""
GLIBC = {"MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1), "MALLOC_MMAP_THRESHOLD_": (-3, 32 * 2**20)}
"""What glibc calls a setting in the environment: its number in `mallopt`, and the largest value it takes."""


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, where the allocator is glibc's; what the user set stays as it is.

    To be called before torch is imported. It holds for the whole process, which is why the command line calls
    it and the library does not.
    """
    os.environ.setdefault(HUGE_PAGES, "1")
    if any(name in os.environ for name in GLIBC) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for setting in GLIBC.values():
            mallopt(*setting)
