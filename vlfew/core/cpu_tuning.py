"""Process settings that make a CPU fast enough, applied before torch is imported.

A training step on a CPU allocates and frees gigabytes. By default glibc returns large blocks to the system, which has
to clear every 4 KiB page that is touched again: up to a third of a step was spent there.

A network whose weights or activations vanish is full of denormal numbers (below 1.2e-38), which a processor handles
many times more slowly: Koch's network with sigmoids, with one weight in thirty denormal, took 4.5 s instead of 0.1 s
for 16 images.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch's own switch: large tensors ask for 2 MiB pages (`madvise`). Read at its first allocation."""
GLIBC = {"MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1), "MALLOC_MMAP_THRESHOLD_": (-3, 32 * 2**20)}
"""Environment variables of glibc: the setting's number in `mallopt`, and its largest value."""
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
"""Bits of MXCSR, the floating-point control register of x86-64 processors."""


@contextmanager
def tuned_process() -> Iterator[None]:
    """Apply both settings below. They affect the entire process, so commands use this and the library does not.

    Enter before torch is imported.
    """
    keep_freed_memory()
    with denormals_flushed():
        yield


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Treat denormal numbers as zero in this thread and in all threads started in the block (Linux, x86-64).

    `torch.set_flush_denormal` affects one thread only, and the threads that compute may exist already.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        yield
        return
    libm = _libm()
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


def _libm() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libm.so.6")
    except OSError:  # not glibc
        from ctypes.util import find_library

        return ctypes.CDLL(find_library("m"))


def keep_freed_memory() -> None:
    """Let glibc's allocator keep freed memory in this process; the user's own settings take precedence."""
    os.environ.setdefault(HUGE_PAGES, "1")
    if any(name in os.environ for name in GLIBC) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for setting in GLIBC.values():
            mallopt(*setting)
