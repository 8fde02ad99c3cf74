"""Gathers features from all processes, with gradients.

Every process then computes the same loss over the whole batch. The backward pass sums the gradients of all processes,
and DistributedDataParallel averages those of the parameters: the result is exactly the gradient of a single process.
(`Accelerator.gather` has no gradient: each process would learn from its own share alone, scaled by 1 / processes, while
the printed loss would be the same.)
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def all_gather(x: Tensor) -> Tensor:
    """`[B, ...]` of this process to `[P * B, ...]` of all P, in order of rank, with gradient."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return x
    from torch.distributed.nn import functional  # not in every build of torch

    return torch.cat(functional.all_gather(x))
