"""Where training runs: cores, precision and the Accelerator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from vlfew.core.errors import ConfigError
from vlfew.training.trackers import check_trackers

Precision = Literal["no", "bf16", "fp16"]


def available_cores() -> int:
    """CPU cores for this process: its share of those that the processes of this machine may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def use_all_cores() -> None:
    """Lets torch use all cores of this process, unless it computes on a GPU.

    `accelerate launch` sets OMP_NUM_THREADS=1, which makes training on a CPU slow.
    """
    if not torch.cuda.is_available():
        torch.set_num_threads(available_cores())


def resolve_precision(wanted: str) -> Precision:
    """The mixed precision to train in; `auto` is bf16 where the hardware supports it, else no.

    Raises:
        ConfigError: fp16 without a GPU.
    """
    cuda = torch.cuda.is_available()
    if wanted == "fp16" and not cuda:
        raise ConfigError("training.mixed_precision: fp16 needs a GPU; use bf16, auto or no")
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    supported = torch.cuda.is_bf16_supported() if cuda else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if supported else "no"


def make_accelerator(precision: str, trackers: Sequence[str] = (), folder: Path | None = None) -> Accelerator:
    """An Accelerator for this process.

    Args:
        precision: `auto`, `no`, `bf16` or `fp16`.
        trackers: names of experiment trackers, as Accelerate knows them.
        folder: where trackers that write files write them.

    Raises:
        ConfigError: a tracker that is unknown or not installed; fp16 without a GPU.
    """
    check_trackers(trackers)
    # Accelerate keeps the first precision of a process; a second run may want another.
    AcceleratorState._reset_state()
    return Accelerator(
        # Without this, processes that a launcher starts on CPUs do not find each other.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=resolve_precision(precision),
        # The other processes wait while one validates, evaluates and reports.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=4))],
        log_with=list(trackers) or None,
        project_dir=None if folder is None else str(folder),
    )
