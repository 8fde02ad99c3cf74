"""Where training runs: cores, precision and the Accelerator."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import distributed

from vlfew.core.errors import ConfigError
from vlfew.training.trackers import check_trackers


def available_cores() -> int:
    """CPU cores for this process: its share of those that the processes of this machine may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def use_all_cores() -> None:
    """Lets torch use all cores of this process, unless there is a GPU.

    `accelerate launch` sets OMP_NUM_THREADS=1, which makes training on a CPU slow.
    """
    if not torch.cuda.is_available():
        torch.set_num_threads(available_cores())


def resolve_precision(precision: str) -> str:
    """The mixed precision to train in; `auto` is bf16 where the hardware supports it, else no.

    Raises:
        ConfigError: fp16 without a GPU.
    """
    cuda = torch.cuda.is_available()
    if precision == "fp16" and not cuda:
        raise ConfigError("training.mixed_precision: fp16 needs a GPU; use bf16, auto or no")
    if precision != "auto":
        return precision
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


@contextmanager
def closing_process_group() -> Iterator[None]:
    """Ends the process group on leaving, if there is one, and with it the threads that serve it.

    A thread of gloo frees the tensors of a collective after the collective has returned. If it waits for the
    interpreter's lock while the interpreter shuts down, the process aborts (`terminate called without an active
    exception`). `destroy_process_group` alone does not end these threads: the group lives as long as anything refers
    to it, as models under DistributedDataParallel do. All references must therefore be gone before the process ends:
    no model or trainer may outlive the block.
    """
    if distributed.is_available():
        # Imported later (DistributedDataParallel does so), its default arguments would hold the group forever.
        from torch.distributed.nn import functional  # noqa: F401
    try:
        yield
    except BaseException as error:
        if _has_process_group():
            # Frames that have ended hold the trainer for as long as the exception lives.
            chain: BaseException | None = error
            while chain is not None:
                traceback.clear_frames(chain.__traceback__)
                chain = chain.__context__
        raise
    finally:
        if _has_process_group():
            gc.collect()
            distributed.destroy_process_group()


def _has_process_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
