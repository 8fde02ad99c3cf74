"""Started by test_distributed.py under a launcher: runs scripts/train.py, and fails if threads are left at its end."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

TRAIN = Path(__file__).parents[2] / "scripts" / "train.py"


def gloo_threads() -> list[str]:
    """Names of the threads that serve a process group; on Linux alone."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


if __name__ == "__main__":
    try:
        runpy.run_path(str(TRAIN), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    if left := gloo_threads():
        sys.exit(f"threads are left: {left}")
