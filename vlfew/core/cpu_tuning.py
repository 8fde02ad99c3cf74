"""What a command sets for its process before torch is there, so that a CPU does its work in the time it needs.

A step on a CPU takes and gives back gigabytes. By default glibc hands large pieces back to the system, which
must clear a page of 4 KiB for each that is touched anew: up to a third of a step went there.

A network whose weights or activations vanish is full of denormal numbers (below 1.2e-38), with which a
processor counts many times more slowly: Koch's network with sigmoids, in which they stood
for one weight in thirty, took 4.5 s for 16 images where it takes 0.1.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch's own switch: its large tensors ask for pages of 2 MiB (`madvise`). Read at its first allocation."""
GLIBC = {"MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1), "MALLOC_MMAP_THRESHOLD_": (-3, 32 * 2**20)}
"""What glibc calls a setting in the environment: its number in `mallopt`, and the largest value it takes."""
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
"""Bits of MXCSR, the register of an x86-64 processor that says how it counts."""


@contextmanager
def prepared_process() -> Iterator[None]:
    """Both of the below. They are for a whole process, which is why commands ask for this and the library does not.

    To be entered before torch is imported.
    """
    keep_freed_memory()
    with denormals_flushed():
        yield


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Denormal numbers count as nought in this thread and all that it starts within, on Linux and x86-64.

    `torch.set_flush_denormal` does so for one thread alone, and those that compute may be there already.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        yield
        return
    libm = ctypes.CDLL(find_library("m"))
    # C's fenv_t: 28 bytes for the x87 unit, then MXCSR.
    before, within = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
    libm.fegetenv(before)
    libm.fegetenv(within)
    within[7] |= FLUSH_TO_ZERO | DENORMALS_ARE_ZERO
    libm.fesetenv(within)
    try:
        yield
    finally:
        libm.fesetenv(before)


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, where the allocator is glibc's; what the user set stays as it is."""
    os.environ.setdefault(HUGE_PAGES, "1")
    if any(name in os.environ for name in GLIBC) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for setting in GLIBC.values():
            mallopt(*setting)
