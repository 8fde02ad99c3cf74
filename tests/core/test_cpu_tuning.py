"""Process settings of commands: freed memory is reused, denormal numbers are treated as zero."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Allocates and frees 64 MiB forty times; prints the number of page faults.
TOUCH = """
import resource, sys
from vlfew.core.cpu_tuning import keep_freed_memory
if sys.argv[1] == "tuned":
    keep_freed_memory()
import numpy as np
np.ones(2**21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    held = [np.ones(2**21) for _ in range(4)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(setting: str, **settings: str) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", TOUCH, setting],
        env={**environment, "MALLOC_ARENA_MAX": "1", **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_reused():
    assert pages("tuned") * 5 < pages("default")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_the_users_own_settings_take_precedence():
    assert pages("tuned", MALLOC_MMAP_THRESHOLD_="65536") * 2 > pages(
        "default", MALLOC_MMAP_THRESHOLD_="65536"
    )


DENORMALS = """
import contextlib, sys
from vlfew.core.cpu_tuning import denormals_flushed
with denormals_flushed() if sys.argv[1] == "flushed" else contextlib.nullcontext():
    import torch
    torch.set_num_threads(2)
    print(int((torch.full((2**20,), 1e-30) * 1e-9).count_nonzero()))
print(float("1e-200") * float("1e-110") > 0)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="a register of x86-64, set through libm"
)
@pytest.mark.parametrize(("setting", "nonzero"), [("default", 2**20), ("flushed", 0)])
def test_denormals_are_zero_in_all_threads_within_the_block(setting, nonzero):
    done = subprocess.run(
        [sys.executable, "-c", DENORMALS, setting], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(nonzero), "True"]
