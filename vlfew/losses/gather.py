"""Gathering features over processes with their gradient.

Every process then computes the same loss over the whole batch. With the backward pass summing what
each process sends back, and DistributedDataParallel averaging parameter gradients, the result is
exactly the single-process gradient. (`Accelerator.gather` has no gradient; without it each process
would learn from its own share scaled by 1/processes, and the loss printed would look the same.)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _AllGather(torch.autograd.Function):
    """Concatenation over processes; backward sums the processes' gradients and returns the own part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def all_gather(x: Tensor) -> Tensor:
    """`[B, ...]` of this process to `[P * B, ...]` of all P, in order of rank, with gradient."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    gathered: Tensor = _AllGather.apply(x)
    return gathered
